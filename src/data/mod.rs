//! Data: read, tokenize, mix, pack. The order of the data is a pure function of the plan and the step.
mod best_fit;
pub mod clean;
mod crates;
pub mod decontaminate;
pub mod dedup;
mod encode;
mod inputs;
mod lengths;
mod lookup;
pub mod megatron;
mod mix;
mod pack;
mod plan;
pub mod prepare;
mod read;
mod rows;
mod shard;
mod source;
mod stream;
mod synthetic;
mod tokenizer;

pub use encode::{Encoder, encode_all, without_dropout};
pub use lengths::{Bucket, Lengths, Seen};
pub use mix::{LongSpec, MixSpec};
pub use pack::Packing;
pub use plan::{Plan, PlanStage, Usage};
pub use read::{Document, ReadReport, documents};
pub use rows::{Row, rows, rows_hash};
pub use shard::Shard;
pub use source::{
    Generator, InvalidUtf8, Part, SourceSpec, check_sources, content_hash, file_hash,
};
pub use tokenizer::train_tokenizer;

/// What data can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("data source {source_name:?}: {what}")]
    Source { source_name: String, what: String },
    #[error("clean: {0}")]
    Clean(String),
    #[error("decontaminate: {0}")]
    Decontaminate(String),
    #[error("mix: {0}")]
    Mix(String),
    #[error("{path}: {what}")]
    File { path: String, what: String },
    #[error("dedup: {0}")]
    Dedup(String),
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}

/// Result of data.
pub type Result<T> = std::result::Result<T, Error>;
