//! Weights and tokenizer in and out: folders in Hugging Face's layout, and repositories of its hub.
pub mod hub;

use crate::model::{Decoder, Init, LlamaConfig};
use crate::{ops::Env, whole_file};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

/// What reading or writing a checkpoint can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("checkpoint {path}: {what}")]
    File { path: String, what: String },
    #[error("{0}")]
    Base(&'static str),
    #[error("{repo}: {what}")]
    Hub { repo: String, what: String },
    #[error("checkpoint {path}: {source}")]
    Model {
        path: String,
        source: crate::model::Error,
    },
}

/// Result of reading or writing a checkpoint.
pub type Result<T> = std::result::Result<T, Error>;

/// The `[base]` table of a study: where training begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSpec {
    /// A folder in Hugging Face's layout, relative to the working folder: `config.json`,
    /// `tokenizer.json` and, unless `init` is said, `model.safetensors`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// A repository of the hub, `org/name`, in the place of a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Its branch, tag or commit; `main` unless said. In a trial, the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Begin from weights drawn for `config.json`'s shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    pub model: Decoder,
    pub tokenizer: Tokenizer,
}

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";

fn wrong(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: what.to_string(),
    }
}

impl BaseSpec {
    /// The key that says where the checkpoint is.
    pub fn key(&self) -> &'static str {
        match self.hub {
            Some(_) => "base.hub",
            None => "base.path",
        }
    }

    /// What the base is called by people.
    pub fn name(&self) -> &str {
        self.hub.as_deref().unwrap_or(&self.path)
    }

    /// The repository of the hub, and what is needed of it.
    ///
    /// # Errors
    /// Unless exactly one of `path` and `hub` is said, and `revision` with `hub` alone.
    pub fn repository(&self) -> Result<Option<(hub::Repo, hub::Wanted)>> {
        let weights = self.init.is_none();
        let Some(id) = &self.hub else {
            return match (self.path.is_empty(), &self.revision) {
                (true, _) => Err(Error::Base(
                    "says neither `path` nor `hub`; give one of them",
                )),
                (_, Some(_)) => Err(Error::Base(
                    "says `revision` without `hub`; a folder has none",
                )),
                _ => Ok(None),
            };
        };
        if !self.path.is_empty() {
            return Err(Error::Base("says both `path` and `hub`; give one of them"));
        }
        let repo = hub::Repo::new(hub::Kind::Model, id, self.revision.as_deref())?;
        Ok(Some((repo, hub::Wanted::Model { weights })))
    }

    fn folder(&self) -> Result<PathBuf> {
        if let Some((repo, _)) = self.repository()? {
            return repo.folder();
        }
        let path = shellexpand::env(&self.path).map_err(|e| wrong(Path::new(&self.path), e))?;
        Ok(PathBuf::from(path.as_ref()))
    }

    fn files(&self) -> Vec<&'static str> {
        match self.init {
            Some(_) => vec![CONFIG, TOKENIZER],
            None => vec![CONFIG, TOKENIZER, WEIGHTS],
        }
    }

    /// Hash of the files' contents: the checkpoint's part of a trial's identity.
    pub fn content_hash(&self) -> Result<String> {
        let folder = self.folder()?;
        let mut hash = blake3::Hasher::new();
        for name in self.files() {
            let path = folder.join(name);
            let bytes = fs::read(&path).map_err(|e| wrong(&path, e))?;
            hash.update(name.as_bytes())
                .update(blake3::hash(&bytes).as_bytes());
        }
        Ok(hash.finalize().to_hex()[..16].to_string())
    }

    /// The model's configuration.
    pub fn config(&self) -> Result<LlamaConfig> {
        let path = self.folder()?.join(CONFIG);
        let text = fs::read_to_string(&path).map_err(|e| wrong(&path, e))?;
        LlamaConfig::parse(&text).map_err(|source| Error::Model {
            path: path.display().to_string(),
            source,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.folder()?.join(TOKENIZER);
        if !path.exists() {
            return Err(wrong(&path, "no such file"));
        }
        Tokenizer::from_file(&path).map_err(|e| wrong(&path, e))
    }

    /// The whole checkpoint.
    ///
    /// # Errors
    /// When a file is missing or damaged, a tensor is missing or misshapen, or the tokenizer has ids
    /// that the model has not.
    pub fn load(&self, env: &Env) -> Result<Checkpoint> {
        let (config, tokenizer) = self.checked()?;
        let path = self.folder()?.join(WEIGHTS);
        let model = match self.init {
            Some(init) => Decoder::init(env, &config, init),
            None => {
                let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
                    .map_err(|e| wrong(&path, format!("damaged or no safetensors: {e}")))?;
                Decoder::from_tensors(&config, tensors)
            }
        };
        let model = model.map_err(|source| Error::Model {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Checkpoint { model, tokenizer })
    }

    /// Checks all that can be checked without reading weights: configuration, tokenizer, and by its header the
    /// weights' names, shapes and the file's length.
    pub fn check(&self) -> Result<()> {
        self.checked().map(|_| ())
    }

    /// Configuration and tokenizer, after [`Self::check`].
    fn checked(&self) -> Result<(LlamaConfig, Tokenizer)> {
        let config = self.config()?;
        let tokenizer = self.tokenizer()?;
        let ids = tokenizer.get_vocab_size(true);
        let folder = self.folder()?;
        if ids > config.vocab_size {
            let what = format!(
                "has {ids} ids, the model's vocabulary {}; they belong to different checkpoints",
                config.vocab_size
            );
            return Err(wrong(&folder.join(TOKENIZER), what));
        }
        let path = folder.join(WEIGHTS);
        if let Some(init) = self.init {
            let path = folder.join(CONFIG).display().to_string();
            return match init.check(&config) {
                Ok(()) => Ok((config, tokenizer)),
                Err(source) => Err(Error::Model { path, source }),
            };
        }
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
            if tensor.shape() != shape {
                let what = format!(
                    "tensor {name} has shape {:?}, config.json asks for {shape:?}",
                    tensor.shape()
                );
                return Err(wrong(&path, what));
            }
        }
        Ok((config, tokenizer))
    }
}

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
    let weights = folder.join(WEIGHTS);
    whole_file::replace(&weights, |file| {
        candle_core::safetensors::save(&tensors, file.path()).map_err(std::io::Error::other)
    })
    .map_err(|e| wrong(&weights, e))?;
    let config = folder.join(CONFIG);
    let sorted: BTreeMap<String, serde_json::Value> =
        serde_json::from_value(model.config.to_json()).map_err(|e| wrong(&config, e))?;
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
