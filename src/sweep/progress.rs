//! What a worker says of where it stands: a line of JSON on its standard output.
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading checkpoint and data.
    Load,
    /// `done` and `total` are steps.
    Train,
    /// `done` and `total` are items.
    Score,
}

/// Where a worker stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub phase: Phase,
    pub done: u64,
    pub total: u64,
    /// Tokens a second of training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Loss of the last step, in nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl Update {
    /// An update that has neither rate nor loss.
    pub fn new(phase: Phase, done: u64, total: u64) -> Self {
        Update {
            phase,
            done,
            total,
            rate: None,
            loss: None,
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (done, total) = (self.done, self.total);
        match self.phase {
            Phase::Load => write!(f, "loading"),
            Phase::Train => write!(f, "step {done}/{total}"),
            Phase::Score => write!(f, "scored {done}/{total}"),
        }?;
        if let Some(loss) = self.loss {
            write!(f, ", loss {loss:.3}")?;
        }
        if let Some(rate) = self.rate {
            write!(f, ", {rate:.0} tokens/s")?;
        }
        Ok(())
    }
}

/// Lets a call through at most once in a while.
#[derive(Debug)]
pub(super) struct Throttle {
    every: Duration,
    last: Option<Instant>,
}

impl Throttle {
    pub fn new(every: Duration) -> Self {
        Throttle { every, last: None }
    }

    /// Whether it is time again.
    pub fn ready(&mut self) -> bool {
        let ready = self.last.is_none_or(|last| last.elapsed() >= self.every);
        if ready {
            self.last = Some(Instant::now());
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_lines_of_json() {
        let mut update = Update::new(Phase::Train, 3, 10);
        update.loss = Some(2.5);
        let line = serde_json::to_string(&update).unwrap();
        assert_eq!(line, r#"{"phase":"train","done":3,"total":10,"loss":2.5}"#);
        assert_eq!(serde_json::from_str::<Update>(&line).unwrap(), update);
        assert_eq!(update.to_string(), "step 3/10, loss 2.500");
    }
}
