//! From scores to a recipe: statistics, gates, decision. It knows tables of scores alone, so that it runs
//! on anybody's CSV.
mod bootstrap;
mod comparison;
mod decision;
mod direction;
mod distribution;
mod estimate;
mod gate;
#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod golden_tests;
mod holm;
mod layout;
mod pairing;
#[cfg(test)]
mod pairing_tests;
mod selector;
mod share;
#[cfg(test)]
mod simulation_tests;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod why;

pub use comparison::{ALPHA, Comparison, SettledBy, compare_all};
pub use decision::{Decision, DecisionSpec, Status, decide};
pub use direction::Better;
pub use estimate::Estimate;
pub use gate::{BASE, Gate, GateSpec};
pub use holm::holm;
pub use layout::Item;
pub use pairing::{Pairing, Unpaired, pair};
pub use selector::Selector;
pub use summary::{SummaryRow, add_intervals, summarise};
pub use table::{ItemRow, ScoreRow, Tables, TrialRow};
pub use why::{number, p};

/// What a verdict can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("decision: {0}")]
    Decision(String),
}

/// Result of a verdict.
pub type Result<T> = std::result::Result<T, Error>;
