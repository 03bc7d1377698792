//! The template by which a chat is written for a model.
use super::{BaseSpec, Result, base::Source, wrong};
use serde_json::Value;
use std::path::Path;

/// A Jinja template as Hugging Face's tokenizers have it, and the texts of the tokens that it may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate {
    pub source: String,
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
}

impl BaseSpec {
    /// The checkpoint's chat template, where it has one: of a folder `chat_template.jinja`, or `chat_template` of
    /// `tokenizer_config.json` (of several the one named `default`); of a GGUF file its metadata's.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        let source = self.source()?;
        let mut settings = Value::Null;
        let text = match &source {
            Source::Folder(folder) => {
                let name = "tokenizer_config.json";
                if let Some(text) = folder.text(name)? {
                    settings =
                        serde_json::from_str(&text).map_err(|e| wrong(Path::new(name), e))?;
                }
                let own = folder.text("chat_template.jinja")?;
                own.or_else(|| template_of(&settings["chat_template"]))
            }
            Source::Gguf(file) => file.chat_template()?,
        };
        let Some(text) = text else { return Ok(None) };
        let config = self.config()?;
        let tokenizer = self.tokenizer()?;
        let token = |key: &str, id: Option<u32>| {
            let said = &settings[key];
            let said = said.as_str().or_else(|| said["content"].as_str());
            let of_id = || id.and_then(|id| tokenizer.id_to_token(id));
            said.map(String::from).or_else(of_id)
        };
        Ok(Some(ChatTemplate {
            source: text,
            bos_token: token("bos_token", config.bos_token_id),
            eos_token: token("eos_token", config.eos_token_id.first().copied()),
        }))
    }
}

/// The template of `tokenizer_config.json`: a text, or a list of named ones.
fn template_of(said: &Value) -> Option<String> {
    let named = || {
        let all = said.as_array()?;
        let default = all.iter().find(|one| one["name"] == "default");
        default.and_then(|one| one["template"].as_str())
    };
    said.as_str().or_else(named).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_its_template_in_one_of_three_ways() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("base");
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(base.join(name), folder.path().join(name)).unwrap();
        }
        let spec = BaseSpec::of_path(&folder.path().display().to_string());
        let template = || spec.chat_template().unwrap();
        assert_eq!(template(), None);
        let without = spec.content_hash().unwrap();

        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "tokenizer_config.json",
            r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}"}"#,
        );
        let found = template().unwrap();
        assert_eq!(
            (found.source.as_str(), found.bos_token.as_deref()),
            ("{{ bos_token }}", Some("<s>"))
        );
        let config = spec.config().unwrap();
        let id = config.eos_token_id.first();
        let end = id.and_then(|&id| spec.tokenizer().unwrap().id_to_token(id));
        assert_eq!(found.eos_token, end);
        // What a model is asked depends on it.
        assert_ne!(spec.content_hash().unwrap(), without);

        write(
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
        );
        assert_eq!(template().unwrap().source, "d");
        write("chat_template.jinja", "own");
        assert_eq!(template().unwrap().source, "own");
        write("tokenizer_config.json", "{");
        let error = spec.chat_template().unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json"), "{error}");
    }
}
