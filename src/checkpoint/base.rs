//! The `[base]` table of a study: which checkpoint training begins from.
use super::{
    Checkpoint, Error, Result,
    folder::Folder,
    gguf::Gguf,
    hub::{Kind, Repo, Wanted},
    of_model, wrong,
};
use crate::model::{Decoder, Init, ModelConfig, RopeSpec};
use crate::ops::Env;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

/// The `[base]` table of a study: where training begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSpec {
    /// Relative to the working folder: a folder in Hugging Face's layout (`config.json`, `tokenizer.json`
    /// and, unless `init` is said, `model.safetensors` or the shards of its index), or a `.gguf` file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// A repository of the hub, `org/name`, in the place of a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Its branch, tag or commit; `main` unless said. In a trial, the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Begin from weights drawn for the configuration's shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

/// Where a checkpoint's parts are read from.
#[derive(Debug)]
pub(super) enum Source {
    Folder(Folder),
    Gguf(Gguf),
}

impl Source {
    /// The configuration; `trained` asks for the RoPE that it was trained with, where that is known.
    fn config(&self, trained: bool) -> Result<ModelConfig> {
        match self {
            Source::Folder(folder) => folder.config(trained),
            Source::Gguf(file) => file.config(),
        }
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        match self {
            Source::Folder(folder) => folder.tokenizer(),
            Source::Gguf(file) => file.tokenizer(),
        }
    }

    /// Checks without reading weights that they are those that `config` asks for.
    fn check(&self, config: &ModelConfig) -> Result<()> {
        match self {
            Source::Folder(folder) => folder.check(config),
            Source::Gguf(file) => file.check(config),
        }
    }

    /// The weights under Hugging Face's names.
    fn tensors(&self, config: &ModelConfig) -> Result<HashMap<String, Tensor>> {
        match self {
            Source::Folder(folder) => folder.tensors(config),
            Source::Gguf(file) => file.tensors(config),
        }
    }

    /// The file that an error about the configuration names.
    fn config_path(&self) -> PathBuf {
        match self {
            Source::Folder(folder) => folder.config_path(),
            Source::Gguf(file) => file.path().to_path_buf(),
        }
    }

    /// The file that an error about the tokenizer names.
    fn tokenizer_path(&self) -> PathBuf {
        match self {
            Source::Folder(folder) => folder.tokenizer_path(),
            Source::Gguf(file) => file.path().to_path_buf(),
        }
    }
}

impl BaseSpec {
    /// The checkpoint at a path.
    pub fn of_path(path: &str) -> Self {
        BaseSpec {
            path: path.to_string(),
            hub: None,
            revision: None,
            init: None,
        }
    }

    /// The checkpoint that an argument names: a path, or a repository of the hub as
    /// `hub:ORG/NAME` or `hub:ORG/NAME@REVISION`, which is read from the cache.
    pub fn named(argument: &str) -> Self {
        let Some(id) = argument.strip_prefix("hub:") else {
            return Self::of_path(argument);
        };
        let (id, revision) = match id.split_once('@') {
            Some((id, revision)) => (id, Some(revision.to_string())),
            None => (id, None),
        };
        BaseSpec {
            path: String::new(),
            hub: Some(id.to_string()),
            revision,
            init: None,
        }
    }

    /// The key that says where the checkpoint is.
    pub fn key(&self) -> &'static str {
        match self.hub {
            Some(_) => "base.hub",
            None => "base.path",
        }
    }

    /// What people call it: the repository or the path.
    pub fn name(&self) -> &str {
        self.hub.as_deref().unwrap_or(&self.path)
    }

    /// The repository of the hub, and what is needed of it; nothing where the checkpoint is at a path.
    ///
    /// # Errors
    /// Unless exactly one of `path` and `hub` is said, and `revision` with `hub` alone.
    pub fn repository(&self) -> Result<Option<(Repo, Wanted)>> {
        let Some(id) = &self.hub else {
            return match (self.path.is_empty(), &self.revision) {
                (true, _) => Err(Error::Base(
                    "says neither `path` nor `hub`; give one of them",
                )),
                (_, Some(_)) => Err(Error::Base(
                    "says `revision` without `hub`; a path has none",
                )),
                _ => Ok(None),
            };
        };
        if !self.path.is_empty() {
            return Err(Error::Base("says both `path` and `hub`; give one of them"));
        }
        let weights = self.init.is_none();
        let repo = Repo::new(Kind::Model, id, self.revision.as_deref())?;
        Ok(Some((repo, Wanted::Model { weights })))
    }

    fn path(&self) -> Result<PathBuf> {
        if let Some((repo, _)) = self.repository()? {
            return repo.folder();
        }
        let path = shellexpand::env(&self.path).map_err(|e| wrong(Path::new(&self.path), e))?;
        Ok(PathBuf::from(path.as_ref()))
    }

    pub(super) fn source(&self) -> Result<Source> {
        let path = self.path()?;
        Ok(if is_gguf(&path) {
            Source::Gguf(Gguf::open(&path)?)
        } else {
            Source::Folder(Folder::new(path))
        })
    }

    /// Hash of the files' contents: the checkpoint's part of a trial's identity.
    pub fn content_hash(&self) -> Result<String> {
        let path = self.path()?;
        if is_gguf(&path) {
            return Gguf::content_hash(&path);
        }
        let weights = Folder::new(path).content_hash(self.init.is_none())?;
        // What a model is asked in a conversation depends on its template. Most bases have none.
        Ok(match self.chat_template()? {
            None => weights,
            Some(template) => {
                let said = format!("{weights} {template:?}");
                blake3::hash(said.as_bytes()).to_hex()[..16].to_string()
            }
        })
    }

    /// The model's configuration.
    pub fn config(&self) -> Result<ModelConfig> {
        self.source()?.config(true)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        self.source()?.tokenizer()
    }

    /// The whole checkpoint.
    ///
    /// # Errors
    /// When a file is missing or damaged, a tensor is missing or misshapen, the tokenizer has ids that the
    /// model has not, or the configuration says another RoPE than it was trained with.
    pub fn load(&self, env: &Env) -> Result<Checkpoint> {
        let source = self.source()?;
        let (config, tokenizer) = self.checked(&source)?;
        self.build(env, &source, config, tokenizer)
    }

    /// The whole checkpoint under another RoPE than it was trained with.
    ///
    /// # Errors
    /// As [`Self::load`], and when the RoPE is impossible.
    pub fn load_with_rope(&self, env: &Env, rope: &RopeSpec) -> Result<Checkpoint> {
        let source = self.source()?;
        let mut config = source.config(false)?;
        let tokenizer = self.checked_with(&source, &config)?;
        let other = rope.resolve(config.rope.rope_theta);
        let other = other.map_err(of_model(&source.config_path()))?;
        config.set_rope(other, config.max_position_embeddings);
        self.build(env, &source, config, tokenizer)
    }

    fn build(
        &self,
        env: &Env,
        source: &Source,
        config: ModelConfig,
        tokenizer: Tokenizer,
    ) -> Result<Checkpoint> {
        let model = match self.init {
            Some(init) => Decoder::init(env, &config, init),
            None => Decoder::from_tensors(&config, source.tensors(&config)?),
        };
        let model = model.map_err(of_model(&source.config_path()))?;
        Ok(Checkpoint { model, tokenizer })
    }

    /// Checks all that can be checked without reading weights: configuration, tokenizer, and by the files'
    /// headers the weights' names, shapes and length.
    pub fn check(&self) -> Result<()> {
        self.checked(&self.source()?).map(|_| ())
    }

    /// The same of a checkpoint to train from, whose small files go with what is trained.
    ///
    /// # Errors
    /// As [`BaseSpec::check`], and when one of them is damaged.
    pub fn check_to_train(&self) -> Result<()> {
        let (config, tokenizer) = self.checked(&self.source()?)?;
        self.companions(&config, &tokenizer).map(|_| ())
    }

    /// The types in which the weights are stored, by their names: those of a GGUF and those that
    /// are drawn have none, they are f32.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn stored_dtypes(&self) -> Result<BTreeMap<String, DType>> {
        match self.source()? {
            Source::Folder(folder) if self.init.is_none() => folder.dtypes(),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// Configuration and tokenizer, after [`Self::check`].
    fn checked(&self, source: &Source) -> Result<(ModelConfig, Tokenizer)> {
        let config = source.config(true)?;
        let tokenizer = self.checked_with(source, &config)?;
        Ok((config, tokenizer))
    }

    /// The tokenizer, after everything was checked but the configuration.
    fn checked_with(&self, source: &Source, config: &ModelConfig) -> Result<Tokenizer> {
        let tokenizer = source.tokenizer()?;
        let ids = tokenizer.get_vocab(true);
        let highest = ids.into_values().max().unwrap_or_default();
        if highest as usize >= config.vocab_size {
            let what = format!(
                "has ids up to {highest}, the model's vocabulary {}; they belong to different checkpoints",
                config.vocab_size
            );
            return Err(wrong(&source.tokenizer_path(), what));
        }
        match self.init {
            Some(init) => init
                .check(config)
                .map_err(of_model(&source.config_path()))?,
            None => source.check(config)?,
        }
        Ok(tokenizer)
    }
}

fn is_gguf(path: &Path) -> bool {
    path.is_file() || path.extension().is_some_and(|e| e == "gguf")
}
