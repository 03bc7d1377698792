//! From scores to a recipe: statistics, gates, decision. It knows tables of scores alone, so that it runs
//! on anybody's CSV.
mod decision;
mod selector;
mod statistics;
mod summary;
mod table;
#[cfg(test)]
mod tests;

pub use decision::{Comparison, Decision, DecisionSpec, Gate, GateSpec, Status, decide};
pub use selector::{Selector, higher_is_better};
pub use statistics::{Difference, Estimate, holm, mean_interval, paired_difference};
pub use summary::{SummaryRow, summarise};
pub use table::{ItemRow, ScoreRow, Tables, TrialRow};

/// What a verdict can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("decision: {0}")]
    Decision(String),
}

/// Result of a verdict.
pub type Result<T> = std::result::Result<T, Error>;
