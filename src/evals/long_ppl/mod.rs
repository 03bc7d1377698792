//! LongPPL (Fang et al., arXiv:2410.23771, and its code, PKU-ML/LongPPL): the loss on those tokens alone that need the
//! long context, as another model, the judge, has it.
//!
//! With the judge's log-probabilities of a token given the whole document before it, `long`, and given a short context,
//! `short`, a token is a key token when
//!
//! ```text
//! long − short > α   and   long > β
//! ```
//!
//! The short context has `short_context` tokens and up to `step − 1` more: windows move by `step`, as the code has them.
//! Key tokens are stretches of text, so that the judge may have another tokenizer: a token of the model counts when it
//! lies in such a stretch whole.
mod judge;
mod stretches;
mod task;

use super::task::{NO_SOURCES, a_tenth, at_least_one, held_out};
use super::{Error, Kind, Task, Tokens};
use crate::data::SourceSpec;
use judge::Judge;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::rc::Rc;
pub use task::LongPpl;

/// `kind = "long_ppl"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPplSpec {
    pub name: String,
    /// Held-out texts.
    pub sources: Vec<SourceSpec>,
    /// Tokens of each document: longer ones are cut, shorter ones (for the judge, up to `short_context`) left out.
    pub context: usize,
    /// How many documents, at most.
    pub documents: usize,
    /// The checkpoint that judges, as a path. Without one the task is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// The judge's tokens of short context, at least.
    #[serde(default = "short_context")]
    pub short_context: usize,
    /// Tokens by which the judge's short windows move.
    #[serde(default = "step")]
    pub step: usize,
    /// By how many nats a key token gains from the long context.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Nats that the log-probability of a key token is above.
    #[serde(default = "beta")]
    pub beta: f64,
}

fn short_context() -> usize {
    4096
}

fn step() -> usize {
    1024
}

fn alpha() -> f64 {
    2.0
}

fn beta() -> f64 {
    -2.0
}

/// By which rule tokens are key tokens: a part of the protocol, since scores under different rules are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    pub short_context: usize,
    pub step: usize,
    pub alpha: f64,
    pub beta: f64,
    /// The first 32 bits of the hash of the judge's content.
    pub judge: u32,
}

impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let KeyRule {
            short_context: short,
            step,
            alpha,
            beta,
            judge,
        } = self;
        write!(
            f,
            "short={short} step={step} alpha={alpha} beta={beta} judge={judge:08x}"
        )
    }
}

impl Kind for LongPplSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn judge(&self) -> Option<&str> {
        self.judge.as_deref()
    }

    fn set_judge(&mut self, path: &str) -> bool {
        self.judge.get_or_insert_with(|| path.to_string());
        true
    }

    fn problem(&self) -> Option<String> {
        if self.sources.is_empty() {
            return Some(NO_SOURCES.into());
        }
        if self.short_context >= self.context {
            return Some(format!(
                "`short_context` is {}; it must be less than `context` ({}), or no token has more than that before it",
                self.short_context, self.context
            ));
        }
        if !self.alpha.is_finite() || !self.beta.is_finite() {
            return Some("`alpha` and `beta` must be numbers".into());
        }
        at_least_one(&[
            ("documents", self.documents),
            ("short_context", self.short_context),
            ("step", self.step),
        ])
    }

    fn scores(&self) -> Vec<String> {
        match self.judge {
            Some(_) => vec!["nats_per_token".into(), "bits_per_byte".into()],
            None => Vec::new(),
        }
    }

    fn longest(&self) -> usize {
        self.context
    }

    fn reduce(&mut self) {
        self.documents = a_tenth(self.documents).max(self.documents.min(2));
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let Some(judge) = &self.judge else {
            log::warn!(
                "task \"{}\": left out, for it has no judge; name a checkpoint by `judge`, or by --judge of eval",
                self.name
            );
            return Ok(Box::new(LongPpl::without_judge(self, tokens)));
        };
        let judge = Judge::open(&self.name, judge)?;
        let documents = held_out(&self.name, &self.sources)?;
        Ok(Box::new(LongPpl::new(self, tokens, judge, documents)?))
    }
}
