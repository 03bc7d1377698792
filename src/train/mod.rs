//! Training: stages, schedule, step, optimizer, snapshot.
#[cfg(test)]
mod golden_tests;
mod optimizer;
mod run;
mod schedule;
mod snapshot;
mod spec;
mod step;
#[cfg(test)]
mod tests;

pub use optimizer::Optimizer;
pub use run::{Outcome, Progress, Run, run};
pub use schedule::learning_rate;
pub use snapshot::Snapshot;
pub use spec::{OptimizerSpec, Packing, Schedule, StageSpec, Tokens};
pub use step::{StepReport, Stepper};

/// What training can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    #[error("{0}")]
    Spec(String),
    #[error("diverged at step {step}: {what}")]
    Diverged { step: u64, what: String },
    #[error("{path}: cannot be written: {source}")]
    Unwritten {
        path: String,
        source: std::io::Error,
    },
    /// What training would go on from is damaged, or another model's.
    #[error("snapshot {path}: {what}")]
    Snapshot { path: String, what: String },
}

impl From<crate::ops::Error> for Error {
    fn from(error: crate::ops::Error) -> Self {
        Error::Model(error.into())
    }
}

impl From<crate::parallel::Error> for Error {
    fn from(error: crate::parallel::Error) -> Self {
        Error::Model(error.into())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Model(error.into())
    }
}

/// Result of training.
pub type Result<T> = std::result::Result<T, Error>;
