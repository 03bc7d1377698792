//! Data: read, tokenize, mix, pack. The order of the data is a pure function of the plan and the step.
mod best_fit;
mod crates;
mod encode;
mod lengths;
mod lookup;
pub mod megatron;
mod mix;
mod pack;
mod parquet;
mod plan;
mod read;
mod shard;
mod source;
mod stream;
mod synthetic;
mod tokenize;
mod tokenizer;

pub use encode::{Encoder, encode_all};
pub use lengths::{Bucket, Lengths, Seen};
pub use mix::{LongSpec, MixSpec};
pub use pack::Packing;
pub use plan::{Plan, PlanStage, Usage};
pub use read::{Document, documents};
pub use shard::Shard;
pub use source::{Generator, Part, SourceSpec, check_sources, content_hash, file_hash};
pub use tokenize::prepare;
pub use tokenizer::train_tokenizer;

/// What data can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("data source {source_name:?}: {what}")]
    Source { source_name: String, what: String },
    #[error("mix: {0}")]
    Mix(String),
    #[error("{path}: {what}")]
    File { path: String, what: String },
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}

/// Result of data.
pub type Result<T> = std::result::Result<T, Error>;
