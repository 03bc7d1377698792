//! Loss on long documents: each token once in a sliding or rolling window, and by its position in disjoint windows.
mod task;

use super::task::{NO_SOURCES, a_tenth, at_least_one, held_out};
use super::{Error, Kind, Task, Tokens};
use crate::data::SourceSpec;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
pub use task::LongLoss;

/// `kind = "long_loss"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongLossSpec {
    pub name: String,
    /// Held-out texts.
    pub sources: Vec<SourceSpec>,
    /// How each token is scored once.
    #[serde(default, skip_serializing_if = "is_sliding")]
    pub protocol: Windows,
    /// Tokens of a window.
    pub context: usize,
    /// Tokens by which the sliding window moves; less than `context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// How many documents, at most.
    pub documents: usize,
    /// Tokens that a document must have; `context` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<usize>,
    /// Tokens of each document that are scored, at most.
    pub max_tokens: usize,
    /// Whether the loss is measured by position, too.
    #[serde(default = "yes")]
    pub by_position: bool,
}

/// The windows in which each token is scored once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Windows {
    /// They overlap and move by `stride` (Hugging Face's and YaRN's).
    #[default]
    Sliding,
    /// Only the last overlaps, and the document begins after BOS (lm-eval's `loglikelihood_rolling`).
    Rolling,
}

fn is_sliding(windows: &Windows) -> bool {
    *windows == Windows::Sliding
}

fn yes() -> bool {
    true
}

impl LongLossSpec {
    /// Tokens that a document must have.
    pub fn min_tokens(&self) -> usize {
        self.min_tokens.unwrap_or(self.context)
    }
}

impl Kind for LongLossSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn problem(&self) -> Option<String> {
        let context = self.context;
        if self.sources.is_empty() {
            return Some(NO_SOURCES.into());
        }
        if context < 2 {
            return Some(format!(
                "`context` is {context}; a window needs at least 2 tokens"
            ));
        }
        match (self.protocol, self.stride) {
            (Windows::Sliding, None) => {
                return Some(
                    "has no `stride`, by which the window moves; say one, or protocol = \"rolling\""
                        .into(),
                );
            }
            (Windows::Sliding, Some(stride)) if stride == 0 || stride >= context => {
                return Some(format!(
                    "`stride` is {stride}; it must be from 1 to less than `context` ({context}), or a \
                     window's first token would have nothing before it"
                ));
            }
            (Windows::Rolling, Some(_)) => {
                return Some(
                    "says `stride` with protocol = \"rolling\", whose windows do not overlap; leave it out"
                        .into(),
                );
            }
            _ => {}
        }
        if self.min_tokens() < 2 || self.by_position && self.min_tokens() < context {
            return Some(format!(
                "`min_tokens` is {}; a document needs 2 tokens, and {context} (`context`) for a loss \
                 by position",
                self.min_tokens()
            ));
        }
        if self.max_tokens < self.min_tokens() {
            return Some(format!(
                "`max_tokens` is {}, less than the {} that a document must have",
                self.max_tokens,
                self.min_tokens()
            ));
        }
        at_least_one(&[("documents", self.documents)])
    }

    fn scores(&self) -> Vec<String> {
        vec!["nats_per_token".into(), "bits_per_byte".into()]
    }

    fn longest(&self) -> usize {
        self.context
    }

    fn reduce(&mut self) {
        let tokens = a_tenth(self.documents * self.max_tokens);
        // Two, so that there still is a standard error.
        self.documents = a_tenth(self.documents).max(self.documents.min(2));
        let least = self.context.max(self.min_tokens()).min(self.max_tokens);
        self.max_tokens = (tokens / self.documents).clamp(least, self.max_tokens);
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let documents = held_out(&self.name, &self.sources)?;
        Ok(Box::new(LongLoss::new(self, tokens, documents)?))
    }
}
