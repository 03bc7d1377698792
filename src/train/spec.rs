//! What a study says about training: its stages and its optimizer.
use super::{Error, Result};
use crate::{
    data::{LongSpec, MixSpec},
    model::RopeSpec,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;

pub use crate::data::Packing;

/// A number of tokens: an integer, or a text such as "400k", "1.5M" or "20B".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokens(pub u64);

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Number(u64),
            Text(String),
        }
        let said = Said::deserialize(deserializer).map_err(|_| {
            de::Error::custom("expected a number of tokens such as 400000 or \"400k\"")
        })?;
        match said {
            Said::Number(n) => Ok(Tokens(n)),
            Said::Text(text) => parse(&text).map(Tokens).ok_or_else(|| {
                de::Error::custom(format!(
                    "{text:?} is no number of tokens; write it as 400000, \"400k\", \"1.5M\" or \"20B\""
                ))
            }),
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim().replace('_', "");
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'M') => (&text[..at], 1e6),
        (at, 'B' | 'G') => (&text[..at], 1e9),
        _ => (text.as_str(), 1.0),
    };
    let number: f64 = number.trim().parse().ok()?;
    let tokens = number * unit;
    (tokens.is_finite() && tokens >= 0.0).then_some(tokens.round() as u64)
}

/// One stage of the curriculum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Tokens of one sequence.
    pub context: usize,
    /// Tokens of the whole stage; rounded up to whole steps.
    pub tokens: Tokens,
    /// Tokens of one step, a multiple of the context; one sequence where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<Tokens>,
    /// RoPE from here on; the previous stage's where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope: Option<RopeSpec>,
    /// The stage's own mix; the study's where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixSpec>,
    /// The mix at the stage's end: shares go in a straight line from `mix` to it. They stay where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix_to: Option<MixSpec>,
    /// By source, how much of it comes from long documents; as much as there is of them where it is not given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub long: BTreeMap<String, LongSpec>,
    /// The stage's own learning rate; the optimizer's where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// How sequences are cut from documents.
    #[serde(default)]
    pub packing: Packing,
    /// Whether tokens see their own document alone.
    #[serde(default = "yes")]
    pub document_mask: bool,
    /// Whether each document's positions begin at 0; they count from the sequence's begin otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restart_positions: bool,
    /// Sequences of one pass; a step with more accumulates gradients. All of them where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Keep each block's input alone and run its forward again in the backward.
    #[serde(default)]
    pub recompute: bool,
}

fn yes() -> bool {
    true
}

fn is_false(said: &bool) -> bool {
    !said
}

impl StageSpec {
    /// Sequences of one step.
    pub fn sequences(&self) -> usize {
        let tokens = self.batch_tokens.map_or(self.context as u64, |t| t.0);
        (tokens / self.context.max(1) as u64) as usize
    }

    /// Steps of the stage.
    pub fn steps(&self) -> u64 {
        self.tokens
            .0
            .div_ceil((self.sequences() * self.context).max(1) as u64)
    }

    /// Tokens that the stage really trains on: whole steps.
    pub fn trained_tokens(&self) -> u64 {
        self.steps() * (self.sequences() * self.context) as u64
    }

    /// Checks what a stage says.
    ///
    /// # Errors
    /// One line that names stage and key.
    pub fn check(&self, index: usize) -> Result<()> {
        let wrong =
            |key: &str, what: String| Err(Error::Spec(format!("stage.{index}.{key}: {what}")));
        if self.context < 2 {
            return wrong("context", format!("{} is too short", self.context));
        }
        if self.tokens.0 == 0 {
            return wrong("tokens", "must be above 0".into());
        }
        if let Some(batch) = self.batch_tokens
            && (batch.0 == 0 || !batch.0.is_multiple_of(self.context as u64))
        {
            let what = format!("{} is no multiple of the context {}", batch.0, self.context);
            return wrong("batch_tokens", what);
        }
        let steps = self.steps();
        let sequences = steps.checked_mul(self.sequences() as u64);
        if sequences.is_none_or(|n| n > u64::from(u32::MAX)) {
            let what = format!("{} are more than 4 billion sequences", self.tokens.0);
            return wrong("tokens", what);
        }
        if self.micro_batch == Some(0) {
            return wrong("micro_batch", "must be at least 1".into());
        }
        if self.lr.is_some_and(|lr| !(lr.is_finite() && lr > 0.0)) {
            return wrong("lr", "must be above 0".into());
        }
        Ok(())
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    #[default]
    Constant,
    /// Straight down to the floor.
    Linear,
    /// Half a cosine down to the floor.
    Cosine,
}

/// AdamW and the learning rate's schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// The highest learning rate.
    pub lr: f64,
    #[serde(default = "beta1")]
    pub beta1: f64,
    #[serde(default = "beta2")]
    pub beta2: f64,
    #[serde(default = "eps")]
    pub eps: f64,
    /// Decoupled decay of every weight that is a matrix.
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest global norm of a step's gradient.
    #[serde(default = "clip")]
    pub clip: f64,
    #[serde(default)]
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0.
    #[serde(default)]
    pub warmup: u64,
    /// Lowest learning rate as a share of the highest.
    #[serde(default)]
    pub floor: f64,
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.95
}

fn eps() -> f64 {
    1e-8
}

fn clip() -> f64 {
    1.0
}

impl OptimizerSpec {
    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn check(&self) -> Result<()> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let rules = [
            ("lr", self.lr, self.lr.is_finite() && self.lr > 0.0),
            ("beta1", self.beta1, share(self.beta1)),
            ("beta2", self.beta2, share(self.beta2)),
            ("eps", self.eps, self.eps.is_finite() && self.eps > 0.0),
            (
                "weight_decay",
                self.weight_decay,
                self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            ),
            ("clip", self.clip, self.clip > 0.0),
            ("floor", self.floor, (0.0..=1.0).contains(&self.floor)),
        ];
        match rules.iter().find(|(_, _, holds)| !holds) {
            Some((key, value, _)) => Err(Error::Spec(format!(
                "optimizer.{key} = {value} is out of range"
            ))),
            None => Ok(()),
        }
    }
}
