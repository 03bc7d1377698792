//! Naming one score: `task.metric`, or `task.length.metric`.
use super::{Better, Error, ItemRow, Result, ScoreRow};
use std::{collections::BTreeSet, fmt};

/// One score of every trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    task: String,
    /// Nothing: over all lengths.
    length: Option<u64>,
    metric: String,
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

    /// Which way the score is better, where the study says it or the metric is known.
    ///
    /// # Errors
    /// When neither is so, or the study says the opposite of what is known.
    pub fn better(&self, said: Option<Better>) -> Result<Better> {
        // What an answer contains may be what it must not.
        let of_texts = matches!(self.metric.as_str(), "contains" | "prefix" | "regex");
        if let (Some(said), Some(known)) = (said, Better::of(&self.metric))
            && said != known
            && !of_texts
        {
            let more = match known {
                Better::Higher => "more",
                Better::Lower => "less",
            };
            return Err(Error::Decision(format!(
                "{self}: {more} {} is better, and `better` says the opposite; leave it out",
                self.metric
            )));
        }
        said.or_else(|| Better::of(&self.metric)).ok_or_else(|| {
            Error::Decision(format!(
                "{self}: whether more or less {} is better is not known; say better = \"higher\" or \
                 better = \"lower\" beside it",
                self.metric
            ))
        })
    }

    /// The rows of the score: means over all positions, of the length if one is named, else over all lengths.
    pub fn select<'a>(&self, scores: &'a [ScoreRow]) -> Vec<&'a ScoreRow> {
        let named = |row: &&ScoreRow| {
            let whole = row.protocol != "disjoint" && row.position.is_empty();
            whole && row.task == self.task && row.metric == self.metric
        };
        let rows: Vec<&ScoreRow> = scores.iter().filter(named).collect();
        let of = |length: Option<u64>| rows.iter().copied().filter(move |row| row.length == length);
        match self.length {
            Some(_) => of(self.length).collect(),
            // What is asked at several lengths has a row without one; a loss has a single length.
            None if of(None).next().is_some() => of(None).collect(),
            None if rows.iter().all(|row| row.length == rows[0].length) => rows,
            None => Vec::new(),
        }
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
        if scores.is_empty() || !self.select(scores).is_empty() {
            return Ok(());
        }
        let whole = scores
            .iter()
            .filter(|row| row.position.is_empty() && row.protocol != "disjoint");
        let names = whole.flat_map(|row| {
            let at = row
                .length
                .map(|length| format!("{}.{length}.{}", row.task, row.metric));
            [Some(format!("{}.{}", row.task, row.metric)), at]
        });
        let known: BTreeSet<String> = names
            .flatten()
            .filter(|name| selects(name, scores))
            .collect();
        let known: Vec<String> = known.into_iter().collect();
        Err(Error::Decision(format!(
            "no score is named {self}; there are {}",
            known.join(", ")
        )))
    }
}

fn selects(name: &str, scores: &[ScoreRow]) -> bool {
    Selector::parse(name).is_ok_and(|selector| !selector.select(scores).is_empty())
}
