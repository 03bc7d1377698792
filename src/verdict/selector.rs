//! Naming one score: `task.metric`, or `task.length.metric`.
use super::{Error, ItemRow, Result, ScoreRow};
use std::{collections::BTreeSet, fmt};

/// One score of every trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    task: String,
    /// Nothing: over all lengths.
    length: Option<u64>,
    metric: String,
}

/// Whether more of this metric is better.
pub fn higher_is_better(metric: &str) -> bool {
    !matches!(metric, "nats_per_token" | "bits_per_byte")
}

/// Whether a protocol's tasks ask the same at several lengths, so that there are means over them.
fn has_lengths(protocol: &str) -> bool {
    matches!(protocol, "passkey" | "answer")
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.length {
            Some(length) => write!(f, "{}.{length}.{}", self.task, self.metric),
            None => write!(f, "{}.{}", self.task, self.metric),
        }
    }
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// When it has not two or three parts.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let (task, length, metric) = match parts[..] {
            [task, metric] => (task, None, metric),
            [task, length, metric] => (task, length.parse().ok(), metric),
            _ => ("", None, ""),
        };
        if task.is_empty() || metric.is_empty() || (parts.len() == 3 && length.is_none()) {
            return Err(Error::Decision(format!(
                "{text:?} names no score; write task.metric or task.length.metric, such as \
                 passkey.2048.exact_match"
            )));
        }
        Ok(Selector {
            task: task.into(),
            length,
            metric: metric.into(),
        })
    }

    /// Whether more is better.
    pub fn higher_is_better(&self) -> bool {
        higher_is_better(&self.metric)
    }

    /// Whether a score is the one that is named: a mean over all positions, of the length if one is named.
    pub fn selects(&self, row: &ScoreRow) -> bool {
        let whole = row.protocol != "disjoint" && row.position.is_empty();
        let length = match self.length {
            Some(length) => row.length == Some(length),
            // The mean over lengths of what is asked at several has no length; a loss has only one.
            None => row.length.is_none() || !has_lengths(&row.protocol),
        };
        row.task == self.task && row.metric == self.metric && whole && length
    }

    /// Whether an item belongs to the score.
    pub fn covers(&self, row: &ItemRow) -> bool {
        let length = self.length.is_none() || row.length == self.length;
        row.task == self.task && row.metric == self.metric && row.protocol != "disjoint" && length
    }

    /// Checks that the selector names something.
    ///
    /// # Errors
    /// With the names that there are.
    pub fn check(&self, scores: &[ScoreRow]) -> Result<()> {
        if scores.is_empty() || scores.iter().any(|row| self.selects(row)) {
            return Ok(());
        }
        let known: BTreeSet<String> = scores
            .iter()
            .filter(|row| row.position.is_empty())
            .map(|row| match row.length {
                Some(length) if has_lengths(&row.protocol) => {
                    format!("{}.{length}.{}", row.task, row.metric)
                }
                _ => format!("{}.{}", row.task, row.metric),
            })
            .collect();
        let known: Vec<String> = known.into_iter().collect();
        Err(Error::Decision(format!(
            "no score is named {self}; there are {}",
            known.join(", ")
        )))
    }
}
