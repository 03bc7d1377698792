//! What a model is scored on. A suite file names tasks; a [`Task`] has items, each of which gives one
//! [`Record`]; [`scores`] makes the rows of a table from records.
//!
//! Evaluations know a model and a tokenizer, not how the model was trained. The same suite gives the same
//! items for every model with the same tokenizer, so that scores can be compared item by item.
pub mod cache;
mod chat;
pub mod choice;
pub mod completion;
pub mod dialogue;
mod draw;
mod effective;
mod fit;
pub mod generate;
pub mod identity;
pub mod loglikelihood;
pub mod long_loss;
pub mod long_ppl;
pub mod pass_at_k;
pub mod passkey;
pub mod programs;
pub mod programs_problem;
pub mod record;
pub mod ruler;
pub mod sandbox;
pub mod scores;
pub mod spec;
pub mod suite;
pub mod task;
mod template;
#[cfg(test)]
mod testing;
pub mod tokens;
mod windows;
mod words;

pub use cache::ScoreCache;
pub use record::{Place, Protocol, Record, RecordLog, Sample};
pub use scores::{ScoreRow, scores, weight};
pub use spec::SuiteSpec;
pub use suite::{Progress, Suite};
pub use task::{Estimate, Kind, Subject, Task};
pub use tokens::Tokens;

use std::path::PathBuf;

/// What an evaluation can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The suite file says something that cannot be done.
    #[error("{place}: {what}")]
    Spec { place: String, what: String },
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error("task \"{task}\": judge: {source}")]
    Judge {
        task: String,
        source: Box<crate::checkpoint::Error>,
    },
    #[error("the checkpoint's chat template: {0}")]
    Chat(String),
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// Programs cannot be run here: why, and what to install.
    #[error("{what}")]
    NoSandbox { what: String },
    /// The sandbox itself failed, not a program in it.
    #[error("sandbox by {what}")]
    Sandbox { what: String },
    #[error("{path}: line {line} is no record ({what}); remove the file to score again")]
    Record {
        path: PathBuf,
        line: usize,
        what: String,
    },
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{item}: the loss is not a finite number; the model's weights are broken or have diverged"
    )]
    NotFinite { item: String },
    #[error(
        "record {item} belongs to no item of this suite: the suite or its texts changed since; \
         remove the records to score again"
    )]
    Foreign { item: String },
}

impl Error {
    /// An error of the checkpoint that judges for a task.
    fn judge(task: &str, source: crate::checkpoint::Error) -> Self {
        Error::Judge {
            task: task.to_string(),
            source: Box::new(source),
        }
    }

    /// An error of one task of a suite.
    fn task(name: &str, what: impl Into<String>) -> Self {
        Error::Spec {
            place: format!("task \"{name}\""),
            what: what.into(),
        }
    }
}
