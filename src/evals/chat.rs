//! Conversations as a model reads them: by its chat template, or in lines of `User:` and `Assistant:`.
use super::{Error, Protocol};
use crate::checkpoint::ChatTemplate;
use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig};
use minijinja_contrib::pycompat::unknown_method_callback;

/// The day that it is in every conversation, where a template asks: scores don't depend on the date. Llama 3's
/// templates say it where they cannot ask.
const TODAY: jiff::civil::Date = jiff::civil::date(2024, 7, 26);

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
}

/// What one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub role: Role,
    pub text: String,
}

impl Turn {
    pub fn user(text: impl Into<String>) -> Self {
        let (role, text) = (Role::User, text.into());
        Turn { role, text }
    }

    pub fn assistant(text: impl Into<String>) -> Self {
        let (role, text) = (Role::Assistant, text.into());
        Turn { role, text }
    }
}

/// How conversations are written.
pub(super) enum Chat {
    /// By the model's template, which also writes the special tokens.
    Template {
        environment: Box<Environment<'static>>,
        bos_token: Option<String>,
        eos_token: Option<String>,
    },
    Plain,
}

const NAME: &str = "chat template";

impl Chat {
    /// Reads a template as `apply_chat_template` of transformers does: blocks trimmed, Python's methods on strings and
    /// lists, `raise_exception` and `strftime_now` there, `generation` blocks without effect.
    ///
    /// # Errors
    /// When it is no template.
    pub fn new(template: Option<ChatTemplate>) -> Result<Self, Error> {
        let Some(template) = template else {
            return Ok(Chat::Plain);
        };
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(wrong)?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", |what: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, what))
        });
        environment.add_function("strftime_now", |format: String| {
            let date = jiff::fmt::strtime::format(&format, TODAY);
            date.map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
        });
        let source = without_generation(&template.source);
        environment
            .add_template_owned(NAME, source)
            .map_err(wrong)?;
        Ok(Chat::Template {
            environment: Box::new(environment),
            bos_token: template.bos_token,
            eos_token: template.eos_token,
        })
    }

    /// How items are scored that are asked this way.
    pub fn protocol(&self) -> Protocol {
        match self {
            Chat::Template { .. } => Protocol::ChatTemplate,
            Chat::Plain => Protocol::ChatPlain,
        }
    }

    /// The text of a conversation up to the assistant's next turn, which has begun with `begun`.
    ///
    /// # Errors
    /// When the template refuses the conversation, or asks for something that is not there.
    pub fn text(&self, turns: &[Turn], begun: &str) -> Result<String, Error> {
        let Chat::Template {
            environment,
            bos_token,
            eos_token,
        } = self
        else {
            let line = |turn: &Turn| match turn.role {
                Role::User => format!("User: {}\n", turn.text),
                Role::Assistant => format!("Assistant: {}\n", turn.text),
            };
            let lines: String = turns.iter().map(line).collect();
            return Ok(format!("{lines}Assistant: {begun}"));
        };
        let template = environment.get_template(NAME).map_err(wrong)?;
        let message = |turn: &Turn| {
            let role = match turn.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            Value::from_pairs([("role", role), ("content", turn.text.as_str())])
        };
        let messages: Vec<Value> = turns.iter().map(message).collect();
        let mut values = vec![
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(true)),
            // There, but nothing, as in transformers.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        // A token that a model has not is undefined, and so false, as in transformers.
        values.extend(
            bos_token
                .as_deref()
                .map(|token| ("bos_token", token.into())),
        );
        values.extend(
            eos_token
                .as_deref()
                .map(|token| ("eos_token", token.into())),
        );
        let text = template.render(Value::from_pairs(values)).map_err(wrong)?;
        Ok(text + begun)
    }
}

fn wrong(error: minijinja::Error) -> Error {
    // Its first line; the rest quotes the template.
    let text = error.to_string();
    Error::Chat(text.lines().next().unwrap_or_default().to_string())
}

/// A template without the tags that mark what an assistant generated, for training: `{% generation %}`.
fn without_generation(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else {
            break;
        };
        out.push_str(before);
        let (name, left, right) = (
            inside.trim_matches(['-', ' ', '\n', '\t']),
            inside.starts_with('-'),
            inside.ends_with('-'),
        );
        if matches!(name, "generation" | "endgeneration") {
            // What trims the space around it still does.
            let (left, right) = (if left { "-" } else { "" }, if right { "-" } else { "" });
            out.push_str(&format!(
                "{{%{left} if true {right}%}}{{%{left} endif {right}%}}"
            ));
        } else {
            out.push_str(&format!("{{%{inside}%}}"));
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn turns() -> Vec<Turn> {
        vec![
            Turn::user("Hello there.\nIt is late."),
            Turn::assistant("It is."),
            Turn::user("  What now?"),
        ]
    }

    fn chat(source: &str) -> Result<Chat, Error> {
        Chat::new(Some(ChatTemplate {
            source: source.into(),
            bos_token: Some("<s>".into()),
            eos_token: Some("</s>".into()),
        }))
    }

    /// What transformers' `apply_chat_template` makes of the same conversation.
    #[test]
    fn templates_of_well_known_models_are_written_as_transformers_does() {
        #[derive(Deserialize)]
        struct Case {
            name: String,
            template: String,
            text: String,
        }
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/golden/chat_templates.json")).unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let text = chat(&case.template).unwrap().text(&turns(), "").unwrap();
            assert_eq!(text, case.text, "{}", case.name);
        }
    }

    #[test]
    fn without_a_template_a_conversation_is_lines() {
        let chat = Chat::new(None).unwrap();
        assert_eq!(
            chat.text(&turns(), "The time is").unwrap(),
            "User: Hello there.\nIt is late.\nAssistant: It is.\nUser:   What now?\nAssistant: The time is"
        );
        assert_eq!(chat.protocol(), Protocol::ChatPlain);
    }

    #[test]
    fn a_template_that_refuses_or_is_broken_is_one_line() {
        let refuses = chat("{{ raise_exception('roles must alternate') }}").unwrap();
        let error = refuses.text(&turns(), "").unwrap_err().to_string();
        assert!(
            error.contains("roles must alternate") && !error.contains('\n'),
            "{error}"
        );
        let error = chat("{% for %}").err().unwrap().to_string();
        assert!(
            error.starts_with("the checkpoint's chat template: "),
            "{error}"
        );
    }
}
