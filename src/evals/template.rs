//! Prompts and answers of a row's fields, in Jinja as lm-eval's `doc_to_text` has it: `Question: {{question}}`.
use super::Error;
use crate::data::Row;
use minijinja::{
    Environment, ErrorKind, UndefinedBehavior, Value, escape_formatter, syntax::SyntaxConfig,
    value::Serde,
};

/// What the keys of one task say, read and checked once.
pub(super) struct Templates {
    environment: Environment<'static>,
    task: String,
}

/// What a key says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    /// The key in the suite.
    pub key: &'a str,
    pub text: &'a str,
}

impl Templates {
    /// For the task of this name.
    pub fn new(task: &str) -> Self {
        let mut environment = Environment::new();
        // A field that is not there is a mistake, never an empty text.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("Jinja's own delimiters"));
        environment.set_formatter(|out, state, value| match value.is_none() {
            true => Err(minijinja::Error::new(
                ErrorKind::InvalidOperation,
                "a field is null",
            )),
            false => escape_formatter(out, state, value),
        });
        Templates {
            environment,
            task: task.to_string(),
        }
    }

    /// A template filled in with fields.
    ///
    /// # Errors
    /// With the row and the key when the template is wrong or names a field that is not there.
    pub fn text(&self, said: Said, row: &Row, fields: &Value) -> Result<String, Error> {
        let rendered = self.environment.render_str(said.text, fields);
        rendered.map_err(|e| self.wrong(said, row, &e))
    }

    /// The value of an expression such as `choices.text` over fields.
    ///
    /// # Errors
    /// As [`Templates::text`].
    pub fn value(&self, said: Said, row: &Row, fields: &Value) -> Result<Value, Error> {
        let compiled = self
            .environment
            .compile_expression_owned(said.text.to_string());
        let value = compiled.and_then(|expression| expression.eval(fields));
        let value = value.map_err(|e| self.wrong(said, row, &e))?;
        match value.is_undefined() || value.is_none() {
            true => Err(self.error(said, row, "is not there or null")),
            false => Ok(value),
        }
    }

    /// The values of an expression that gives a list.
    ///
    /// # Errors
    /// As [`Templates::text`], and when it is no list.
    pub fn list(&self, said: Said, row: &Row, fields: &Value) -> Result<Vec<Value>, Error> {
        let value = self.value(said, row, fields)?;
        match value.as_str().is_none().then(|| value.try_iter()) {
            Some(Ok(values)) => Ok(values.collect()),
            _ => Err(self.error(said, row, "is no list")),
        }
    }

    /// An error of a key in a row.
    pub fn error(&self, said: Said, row: &Row, what: &str) -> Error {
        let Said { key, text } = said;
        Error::task(&self.task, format!("{}: `{key}` = {text:?} {what}", row.id))
    }

    fn wrong(&self, said: Said, row: &Row, error: &minijinja::Error) -> Error {
        let kind = error.kind();
        let what = error.detail().map_or(String::new(), |d| format!(" ({d})"));
        self.error(said, row, &format!("cannot be filled in: {kind}{what}"))
    }
}

/// A row's fields, as templates name them.
pub(super) fn fields(row: &Row) -> Value {
    Value::from(Serde(&row.fields))
}

/// At most `most` rows, a sample by the hashes of their names, in their own order: of `n` rows the first drawn are
/// those of fewer.
pub(super) fn sample(rows: Vec<Row>, most: Option<usize>) -> Vec<Row> {
    let Some(most) = most.filter(|&most| most < rows.len()) else {
        return rows;
    };
    let hash = |row: &Row| *blake3::hash(row.id.as_bytes()).as_bytes();
    let mut drawn: Vec<(usize, Row)> = rows.into_iter().enumerate().collect();
    drawn.sort_by_cached_key(|(i, row)| (hash(row), *i));
    drawn.truncate(most);
    drawn.sort_by_key(|(i, _)| *i);
    drawn.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> Row {
        Row {
            id: "items.jsonl:7".into(),
            fields: json!({"question": "2 + 2?", "choices": {"text": ["3", "4"]}, "n": 1, "none": null}),
        }
    }

    fn said(text: &str) -> Said<'_> {
        Said {
            key: "prompt",
            text,
        }
    }

    #[test]
    fn fields_are_filled_in_as_jinja_does() {
        let (templates, row) = (Templates::new("own"), row());
        let fields = fields(&row);
        let text = |template| templates.text(said(template), &row, &fields).unwrap();
        assert_eq!(text("Q: {{question}}\nA:\n"), "Q: 2 + 2?\nA:\n");
        assert_eq!(
            text("{% for c in choices.text %}({{c}}){% endfor %} {{choices.text[0]}}"),
            "(3)(4) 3"
        );
        let list = templates.list(said("choices.text"), &row, &fields).unwrap();
        assert_eq!(list, [Value::from("3"), Value::from("4")]);
    }

    #[test]
    fn what_is_wrong_names_the_row_and_the_key() {
        let (templates, row) = (Templates::new("own"), row());
        let fields = fields(&row);
        for template in [
            "{{nothing}}",
            "{{question",
            "{{choices.nothing.x}}",
            "{{none}}",
        ] {
            let error = templates.text(said(template), &row, &fields).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with("task \"own\": items.jsonl:7: `prompt` = ")
                    && !error.contains('\n'),
                "{error}"
            );
        }
        for (expression, what) in [
            ("nothing", "is not there or null"),
            ("none", "is not there or null"),
            ("n", "is no list"),
            ("question", "is no list"),
        ] {
            let error = templates.list(said(expression), &row, &fields).unwrap_err();
            assert!(error.to_string().ends_with(what), "{error}");
        }
    }

    #[test]
    fn a_sample_keeps_the_order_and_grows_by_rows() {
        let row = |i: usize| Row {
            id: format!("{i}"),
            fields: json!({}),
        };
        let all: Vec<Row> = (0..40).map(row).collect();
        let (five, nine) = (sample(all.clone(), Some(5)), sample(all.clone(), Some(9)));
        assert!(five.iter().all(|row| nine.contains(row)) && nine.len() == 9);
        let places: Vec<usize> = nine.iter().map(|row| row.id.parse().unwrap()).collect();
        assert!(places.is_sorted() && places != (0..9).collect::<Vec<_>>());
        assert_eq!(sample(all.clone(), Some(99)), all);
    }
}
