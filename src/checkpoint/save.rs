//! Writing a folder in Hugging Face's layout.
use super::{
    Result,
    folder::{CONFIG, ROPE_IDENTITY, TOKENIZER},
    of_model,
    weights::SINGLE,
    wrong,
};
use crate::{model::Decoder, whole_file};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    path::Path,
};
use tokenizers::Tokenizer;

/// Writes `model` and `tokenizer` as a folder in Hugging Face's layout, in f32.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(folder: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| wrong(folder, e))?;
    let tensors: HashMap<String, candle_core::Tensor> = model
        .params()
        .into_iter()
        .map(|p| (p.name.clone(), p.value.clone()))
        .collect();
    let weights = folder.join(SINGLE);
    whole_file::replace(&weights, |file| {
        candle_core::safetensors::save(&tensors, file.path()).map_err(std::io::Error::other)
    })
    .map_err(|e| wrong(&weights, e))?;
    let config = folder.join(CONFIG);
    let mut sorted: BTreeMap<String, serde_json::Value> =
        serde_json::from_value(model.config.to_json()).map_err(|e| wrong(&config, e))?;
    let (head_dim, context) = (model.config.head_dim, model.config.max_position_embeddings);
    let rope = model.config.rope.identity(head_dim, context);
    let rope = rope.map_err(of_model(&config))?;
    sorted.insert(ROPE_IDENTITY.into(), rope.into());
    let text = serde_json::to_string_pretty(&sorted).map_err(|e| wrong(&config, e))?;
    whole_file::replace(&config, |file| writeln!(file, "{text}")).map_err(|e| wrong(&config, e))?;
    let file = folder.join(TOKENIZER);
    whole_file::replace(&file, |temporary| {
        tokenizer
            .save(temporary.path(), false)
            .map_err(std::io::Error::other)
    })
    .map_err(|e| wrong(&file, e))
}
