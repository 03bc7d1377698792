//! What every task has in common.
use super::{Error, Record};
use crate::model::Decoder;
use crate::ops::Env;

/// A model under evaluation.
pub struct Subject<'a> {
    pub env: &'a Env,
    pub model: &'a Decoder,
}

/// Tokens that a task runs through the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of prompts and of texts to be scored.
    pub prefill: usize,
    /// Tokens generated one after the other, at most.
    pub generated: usize,
}

impl std::ops::AddAssign for Estimate {
    fn add_assign(&mut self, other: Estimate) {
        self.prefill += other.prefill;
        self.generated += other.generated;
    }
}

/// A kind of evaluation with its items prepared: one file a kind.
pub trait Task {
    /// The name in the suite, unique there.
    fn name(&self) -> &str;

    /// The items' names in their order: known without running anything, the same for every model.
    fn items(&self) -> &[String];

    /// Items that run together: chunk by chunk how many, adding up to all items.
    fn chunks(&self) -> Vec<usize>;

    /// Tokens that the task processes when it runs whole.
    fn estimate(&self) -> Estimate;

    /// Scores items of one chunk, given by their indices in ascending order: a record for each, in the
    /// same order. What an item scores does not depend on the others.
    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error>;
}
