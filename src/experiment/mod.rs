//! What a study says: its TOML file, the trials that its axes and seeds span, and their identity.
//!
//! A study file is composed of what the rooms below say about themselves: `[base]` (checkpoint),
//! `[[data]]`, `[dedup]`, `[decontaminate]` and `[mix]` (data), `[[stage]]` and `[optimizer]` (train), `[evals]` (evals), `[decision]`
//! (verdict). Paths in it are relative to the working folder.
mod axis;
mod check;
mod cost;
mod grid;
mod identity;
mod manifest;
mod place;
mod prepare;
mod repositories;
mod study;
#[cfg(test)]
mod testing;
#[cfg(test)]
pub(crate) use testing::Folder as Fixture;
mod trial;

pub use axis::AxisSpec;
pub use check::ropes;
pub use cost::{Cost, ReadingSpeed, Speed, training_bytes};
pub use identity::{ENGINE_FORMAT, score_keys, suite_key};
pub use manifest::{ArmsData, DataManifest, Taken, Trained};
pub use prepare::{PrepareError, plan, prepare};
pub use repositories::repositories;
pub use study::{EvalsSpec, Study, StudySpec};
pub use trial::{Trial, TrialSpec};

/// What a study can be wrong with: one line that says where and what.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Error {
    /// The file, and the line or the arm where that is known.
    pub place: String,
    /// What is wrong there, and what to do.
    pub what: String,
}

/// Result of reading a study.
pub type Result<T> = std::result::Result<T, Error>;
