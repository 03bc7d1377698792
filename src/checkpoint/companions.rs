//! The small files that others look for beside the weights.
use super::{BaseSpec, Result, base::Source, wrong};
use crate::model::ModelConfig;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::Path};
use tokenizers::Tokenizer;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
/// Taken over as they are.
const KEPT: [&str; 4] = [
    "special_tokens_map.json",
    "chat_template.jinja",
    "LICENSE",
    "LICENSE.txt",
];

impl BaseSpec {
    /// Files by their names for a model that was made from this checkpoint, which now has this configuration:
    /// tokenizer_config.json and generation_config.json, the checkpoint's own or else new ones, and its chat template,
    /// special tokens and licence where it has them.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn companions(
        &self,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
    ) -> Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        let (mut tokenizer_config, mut generation) = (None, None);
        match self.source()? {
            Source::Folder(folder) => {
                for name in KEPT {
                    files.extend(folder.text(name)?.map(|text| (name.to_string(), text)));
                }
                let parsed = |name: &str| -> Result<Option<Value>> {
                    let Some(text) = folder.text(name)? else {
                        return Ok(None);
                    };
                    let object = serde_json::from_str::<Map<String, Value>>(&text);
                    object
                        .map(|object| Some(Value::Object(object)))
                        .map_err(|e| wrong(Path::new(name), e))
                };
                tokenizer_config = parsed(TOKENIZER_CONFIG)?;
                generation = parsed(GENERATION_CONFIG)?;
            }
            Source::Gguf(file) => {
                let template = file.chat_template()?;
                files.extend(template.map(|text| ("chat_template.jinja".to_string(), text)));
            }
        }
        let mut tokenizer_config = tokenizer_config.unwrap_or_else(|| {
            let token = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
            json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": token(config.bos_token_id),
                "eos_token": token(config.eos_token_id.first().copied()),
                "clean_up_tokenization_spaces": false,
            })
        });
        // The context is the trained one now.
        tokenizer_config["model_max_length"] = config.max_position_embeddings.into();
        let generation = generation.unwrap_or_else(|| {
            json!({
                "bos_token_id": config.bos_token_id,
                "eos_token_id": config.eos_json(),
            })
        });
        for (name, value) in [
            (TOKENIZER_CONFIG, tokenizer_config),
            (GENERATION_CONFIG, generation),
        ] {
            files.insert(name.to_string(), format!("{value:#}\n"));
        }
        Ok(files)
    }
}
