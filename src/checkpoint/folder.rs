//! Reading a folder in Hugging Face's layout.
use super::{Result, of_model, weights::Weights, wrong};
use crate::model::ModelConfig;
use candle_core::{DType, Tensor};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Key of `config.json`: identity of the RoPE that the weights were trained with.
pub(super) const ROPE_IDENTITY: &str = "harness_rope_identity";

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
        let mut files = vec![CONFIG.to_string(), TOKENIZER.to_string()];
        if weights {
            files.extend(self.weights()?.contents());
        }
        let mut hash = blake3::Hasher::new();
        for name in files {
            let content = file_hash(&self.0.join(&name))?;
            hash.update(name.as_bytes()).update(content.as_bytes());
        }
        Ok(hash.finalize().to_hex()[..16].to_string())
    }

    /// The types in which the weights are stored, by their names.
    pub(super) fn dtypes(&self) -> Result<BTreeMap<String, DType>> {
        self.weights()?.dtypes()
    }

    /// A file that others look for beside the weights; nothing where it is not there.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        let path = self.0.join(name);
        match fs::read(&path) {
            // A licence may be in Latin-1.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(wrong(&path, e)),
        }
    }

    fn weights(&self) -> Result<Weights> {
        Weights::find(&self.0)
    }

    /// The configuration; where `trained`, an error unless its RoPE is the one that training recorded.
    pub(super) fn config(&self, trained: bool) -> Result<ModelConfig> {
        let path = self.config_path();
        let text = fs::read_to_string(&path).map_err(|e| wrong(&path, e))?;
        let config = ModelConfig::parse(&text).map_err(of_model(&path))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| wrong(&path, e))?;
        if let Some(recorded) = json[ROPE_IDENTITY].as_str().filter(|_| trained) {
            let context = config.max_position_embeddings;
            let is = config.rope.identity(config.head_dim, context);
            let is = is.map_err(of_model(&path))?;
            if is != recorded {
                let what = format!(
                    "says a RoPE of identity {is}, but the weights were trained with {recorded}; put the file \
                     back, or ask for another RoPE by --rope-override"
                );
                return Err(wrong(&path, what));
            }
        }
        Ok(config)
    }

    pub(super) fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.tokenizer_path();
        if !path.exists() {
            return Err(wrong(&path, "no such file"));
        }
        Tokenizer::from_file(&path).map_err(|e| wrong(&path, e))
    }

    /// The weights that `config` asks for.
    pub(super) fn tensors(&self, config: &ModelConfig) -> Result<HashMap<String, Tensor>> {
        self.weights()?.tensors(config)
    }

    /// Checks by the headers the weights' names, shapes and the files' lengths.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<()> {
        self.weights()?.check(config)
    }
}

/// Hash of a file's content.
pub(super) fn file_hash(path: &Path) -> Result<blake3::Hash> {
    let file = fs::File::open(path).map_err(|e| wrong(path, e))?;
    let mut hash = blake3::Hasher::new();
    hash.update_reader(file).map_err(|e| wrong(path, e))?;
    Ok(hash.finalize())
}
