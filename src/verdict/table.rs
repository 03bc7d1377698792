//! The tables that a verdict reads.
use serde::{Deserialize, Serialize};

/// One trial: a row of `trials.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    pub trial: String,
    pub arm: String,
    /// The axes' labels as `axis=label`, joined by a space.
    pub axes: String,
    /// Nothing for the base.
    pub seed: Option<u64>,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean loss of the last steps, in nats per token.
    pub final_loss: Option<f64>,
    /// Training throughput.
    pub tokens_per_second: Option<f64>,
    /// done, failed, waiting ...
    pub status: String,
    /// Why it failed.
    pub reason: String,
    /// Identity of the RoPE that it was trained and scored with.
    pub rope: String,
    /// One seed, a tenth of the tokens and items.
    pub reduced: bool,
}

/// One score of one trial: a row of `scores.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    pub trial: String,
    pub arm: String,
    pub seed: Option<u64>,
    pub task: String,
    pub protocol: String,
    /// Tokens of prompt or window; nothing for a mean over several.
    pub length: Option<u64>,
    /// A needle's depth, or positions such as `32-63`; empty for a mean over several.
    pub position: String,
    pub metric: String,
    pub value: f64,
    pub standard_error: Option<f64>,
    /// 95 % interval over the trial's items.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Items.
    pub n: usize,
    /// Identity of the RoPE that it was scored with.
    pub rope: String,
    pub reduced: bool,
}

/// One item of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemRow {
    pub arm: String,
    pub seed: Option<u64>,
    pub task: String,
    pub protocol: String,
    pub length: Option<u64>,
    /// As in [`ScoreRow::position`].
    pub position: String,
    /// The same item under every arm and seed.
    pub item: String,
    /// Items of one cluster are not independent.
    pub cluster: String,
    pub metric: String,
    pub value: f64,
    /// Its weight in a mean.
    pub weight: f64,
}

/// All tables of a study. The base's rows have the arm `base` and no seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    pub trials: Vec<TrialRow>,
    pub scores: Vec<ScoreRow>,
    pub items: Vec<ItemRow>,
}

impl Tables {
    /// Arms in the order of the trials, each once.
    pub fn arms(&self) -> Vec<&str> {
        let mut arms: Vec<&str> = Vec::new();
        for trial in &self.trials {
            if !arms.contains(&trial.arm.as_str()) {
                arms.push(&trial.arm);
            }
        }
        arms
    }
}
