//! Running a study's trials: the results folder and its manifest, the launcher of worker processes, the
//! worker, and what is published.
//!
//! ```text
//! results/NAME/
//!   manifest.toml        the study that the folder belongs to, with its trials
//!   lock                 held by the sweep that works here
//!   cache/               tokenised data
//!   trials/KEY/
//!     trial.toml         the trial in full
//!     lock               held by the trial's worker
//!     snapshot.safetensors, records.jsonl, progress.json, log
//!     result.json        published once: success is final
//!     failure-N.json     published beside it, each with its reason
//!     interrupted-N.json workers that a signal ended
//!     checkpoint/        the trained weights
//! ```
mod display;
mod folder;
mod launcher;
mod manifest;
mod progress;
mod publish;
mod signal;
mod tables;
mod worker;

pub use folder::{Failure, Published, State, TrialFolder};
pub use launcher::{Ended, Launch, launch};
pub use manifest::{Manifest, ManifestTrial, ResultsFolder, commits, commits_of_trials};
pub use progress::{Phase, Update};
pub use tables::{Collected, add_scores, items};
pub use worker::{BUSY, Outcome, run};

use std::path::{Path, PathBuf};

/// What running trials can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {what}")]
    Folder { path: PathBuf, what: String },
    #[error("the worker of trial {name} found bad input: {what}")]
    Worker { name: String, what: String },
}

/// Result of running trials.
pub type Result<T> = std::result::Result<T, Error>;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}
