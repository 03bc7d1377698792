//! Reading a folder in Hugging Face's layout.
use super::{Result, of_model, wrong};
use crate::model::LlamaConfig;
use candle_core::{Device, Tensor};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// A folder with `config.json`, `tokenizer.json` and weights.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.0.join(CONFIG)
    }

    pub(super) fn tokenizer_path(&self) -> PathBuf {
        self.0.join(TOKENIZER)
    }

    /// Hash of the files' contents, with the weights or without.
    pub(super) fn content_hash(&self, weights: bool) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        for name in [CONFIG, TOKENIZER]
            .into_iter()
            .chain(weights.then_some(WEIGHTS))
        {
            let path = self.0.join(name);
            let bytes = fs::read(&path).map_err(|e| wrong(&path, e))?;
            hash.update(name.as_bytes())
                .update(blake3::hash(&bytes).as_bytes());
        }
        Ok(hash.finalize().to_hex()[..16].to_string())
    }

    pub(super) fn config(&self) -> Result<LlamaConfig> {
        let path = self.config_path();
        let text = fs::read_to_string(&path).map_err(|e| wrong(&path, e))?;
        LlamaConfig::parse(&text).map_err(of_model(&path))
    }

    pub(super) fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.tokenizer_path();
        if !path.exists() {
            return Err(wrong(&path, "no such file"));
        }
        Tokenizer::from_file(&path).map_err(|e| wrong(&path, e))
    }

    /// All weights.
    pub(super) fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let path = self.0.join(WEIGHTS);
        candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|e| wrong(&path, format!("damaged or no safetensors: {e}")))
    }

    /// Checks by the header the weights' names, shapes and the file's length.
    pub(super) fn check(&self, config: &LlamaConfig) -> Result<()> {
        let path = self.0.join(WEIGHTS);
        let file = fs::File::open(&path).map_err(|e| wrong(&path, e))?;
        // SAFETY: the file is only read, and its header is checked against its length.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| wrong(&path, e))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| {
            wrong(
                &path,
                format!("damaged or cut off ({e}); fetch the checkpoint again"),
            )
        })?;
        for (name, shape) in config.tensors() {
            let Ok(tensor) = tensors.tensor(&name) else {
                let what = format!("tensor {name} is missing; config.json asks for {shape:?}");
                return Err(wrong(&path, what));
            };
            check_shape(&path, &name, tensor.shape(), &shape, CONFIG)?;
        }
        Ok(())
    }
}

/// An error unless a tensor has the shape that `asks` (the configuration's name) asks for.
pub(super) fn check_shape(
    path: &Path,
    name: &str,
    has: &[usize],
    wanted: &[usize],
    asks: &str,
) -> Result<()> {
    if has == wanted {
        return Ok(());
    }
    let what = format!("tensor {name} has shape {has:?}, {asks} asks for {wanted:?}");
    Err(wrong(path, what))
}
