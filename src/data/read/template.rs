//! The text of a record with several fields: `template = "Question: {question}\nAnswer: {answer}"`.
//!
//! `{name}` is a field's text, number or truth value; `{a.b}` one inside another. `{#name}…{/name}` repeats
//! what is inside for every element of a list, as Mustache's sections do: names inside are the element's first, then
//! those of what is around it, and `{.}` is the element itself. `{{` and `}}` are braces.
use serde_json::Value;

/// A template, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Field(String),
    Section(String, Vec<Part>),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Which brace or section is not closed, in words that follow "template: ".
    pub fn parse(text: &str) -> Result<Self, String> {
        // The sections that are open, the template itself first.
        let mut open: Vec<(String, Vec<Part>)> = vec![(String::new(), Vec::new())];
        let mut rest = text;
        let mut plain = String::new();
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let end = match (brace, rest.find(['{', '}'])) {
                ("{", Some(end)) if rest[end..].starts_with('}') => end,
                _ => {
                    return Err(format!(
                        "a {brace} without its pair; write {brace}{brace} for the brace itself"
                    ));
                }
            };
            let name = rest[..end].trim();
            rest = &rest[end + 1..];
            let (sign, name) = match name.chars().next() {
                Some(sign @ ('#' | '/')) => (sign, &name[1..]),
                _ => (' ', name),
            };
            if name.is_empty() {
                return Err("{} names no field".into());
            }
            let parts = match open.last_mut() {
                Some((_, parts)) => parts,
                None => return Err("no section is open".into()),
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            match sign {
                '#' => open.push((name.to_string(), Vec::new())),
                '/' => {
                    let (opened, inner) = open.pop().unwrap_or_default();
                    match open.last_mut() {
                        Some((_, outer)) if opened == name => {
                            outer.push(Part::Section(opened, inner));
                        }
                        _ => return Err(format!("{{/{name}}} closes what is not open")),
                    }
                }
                _ => parts.push(Part::Field(name.to_string())),
            }
        }
        plain.push_str(rest);
        match (open.pop(), open.is_empty()) {
            (Some((_, mut parts)), true) => {
                if !plain.is_empty() {
                    parts.push(Part::Text(plain));
                }
                Ok(Template(parts))
            }
            (opened, _) => {
                let name = opened.unwrap_or_default().0;
                Err(format!("{{#{name}}} is not closed by {{/{name}}}"))
            }
        }
    }

    /// The fields of a record that it reads, by their outermost names, in their order.
    pub fn fields(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for part in &self.0 {
            if let Part::Field(name) | Part::Section(name, _) = part {
                let outermost = name.split('.').next().unwrap_or(name);
                if !names.contains(&outermost) {
                    names.push(outermost);
                }
            }
        }
        names
    }

    /// The text of a record.
    ///
    /// # Errors
    /// Which field it does not have, or is neither text nor number.
    pub fn render(&self, record: &Value) -> Result<String, String> {
        let mut out = String::new();
        render(&self.0, &mut vec![record], &mut out)?;
        Ok(out)
    }
}

fn render(parts: &[Part], around: &mut Vec<&Value>, out: &mut String) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Field(name) => match find(name, around)? {
                Value::String(text) => out.push_str(text),
                number @ (Value::Number(_) | Value::Bool(_)) => out.push_str(&number.to_string()),
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => {
                    return Err(format!(
                        "field {name:?} is a list or has fields itself; go through it with {{#{name}}}…{{/{name}}}, \
                         or name what is inside as {{{name}.…}}"
                    ));
                }
            },
            Part::Section(name, inner) => {
                let found = find(name, around)?;
                let elements = match found {
                    Value::Array(elements) => elements.as_slice(),
                    Value::Null | Value::Bool(false) => &[],
                    other => std::slice::from_ref(other),
                };
                for element in elements {
                    around.push(element);
                    render(inner, around, out)?;
                    around.pop();
                }
            }
        }
    }
    Ok(())
}

/// The value of a name: inside the innermost element that has it.
fn find<'a>(name: &str, around: &[&'a Value]) -> Result<&'a Value, String> {
    let innermost = around.iter().rev();
    let found = match name {
        "." => around.last().copied(),
        _ => innermost.copied().find_map(|value| at(value, name)),
    };
    found.ok_or_else(|| format!("no field {name:?}, which `template` names"))
}

/// What is at a path of names with dots between; a name that has dots itself comes first.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    at(value.get(first)?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str, record: &Value) -> Result<String, String> {
        Template::parse(template)?.render(record)
    }

    #[test]
    fn fields_lists_and_braces() {
        let record = json!({
            "question": "2 + 2?", "answer": 4, "meta": {"by": "me"}, "a.b": true, "none": null,
            "turns": [[{"text": "Hi", "of": "A"}, {"text": "there", "of": "A"}], [{"text": "Yes", "of": "B"}]],
            "tags": ["x", "y"],
        });
        for (template, text) in [
            ("Q: {question}\nA: { answer }", "Q: 2 + 2?\nA: 4"),
            ("{meta.by} {a.b} {{x}}{none}", "me true {x}"),
            ("{#tags}<{.}>{/tags}", "<x><y>"),
            (
                "{#turns}- {#.}{text} {/.}\n{/turns}",
                "- Hi there \n- Yes \n",
            ),
            (
                "{#meta}{by} of {question}{/meta}{#none}!{/none}",
                "me of 2 + 2?",
            ),
        ] {
            assert_eq!(rendered(template, &record).unwrap(), text, "{template}");
        }
        let template = Template::parse("{a.b}{#turns}{text}{/turns}{a.c}").unwrap();
        assert_eq!(template.fields(), ["a", "turns"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let record = json!({"list": [1], "a": "b"});
        for (template, what) in [
            ("{a", "without its pair"),
            ("a}", "without its pair"),
            ("{a{b}}", "without its pair"),
            ("{}", "names no field"),
            ("{#a}x", "{#a} is not closed by {/a}"),
            ("{/a}", "closes what is not open"),
            ("{#a}{#b}{/a}{/b}", "{/a} closes what is not open"),
            ("{answer}", "no field \"answer\""),
            ("{#answers}{/answers}", "no field \"answers\""),
            ("{list}", "is a list"),
        ] {
            let error = rendered(template, &record).unwrap_err();
            assert!(error.contains(what), "{template}: {error}");
        }
    }
}
