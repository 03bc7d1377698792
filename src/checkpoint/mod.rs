//! Weights, configuration and tokenizer in and out: folders in Hugging Face's layout, GGUF files, and repositories of
//! the Hugging Face Hub.
mod base;
mod chat;
mod companions;
mod export;
mod folder;
mod gguf;
pub mod hub;
mod weights;

pub use base::BaseSpec;
pub use chat::ChatTemplate;
pub use export::{Storage, check_free, dtype_name, export, save, save_trained};

use crate::model::Decoder;
use std::path::Path;
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

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Checkpoint {
    pub model: Decoder,
    pub tokenizer: Tokenizer,
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: what.to_string(),
    }
}

fn of_model(path: &Path) -> impl FnOnce(crate::model::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Model { path, source }
}
