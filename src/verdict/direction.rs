//! Which way a metric is better.
use serde::{Deserialize, Serialize};

/// Whether more or less of a score is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
}

impl Better {
    /// 1 where more is better, −1 where less is.
    pub fn sign(self) -> f64 {
        match self {
            Better::Higher => 1.0,
            Better::Lower => -1.0,
        }
    }

    /// Whether values of a metric of this program are shares, from 0 to 1.
    pub fn is_of_shares(metric: &str) -> bool {
        Better::of(metric) == Some(Better::Higher) && metric != "effective_context"
    }

    /// The direction of a metric that this program makes; nothing for any other. A new metric is added here: whoever
    /// decides on one that is not has to say its direction.
    pub fn of(metric: &str) -> Option<Self> {
        match metric {
            "exact_match" | "edit_similarity" | "acc" | "acc_norm" | "string_match"
            | "contains" | "prefix" | "regex" | "effective_context" => Some(Better::Higher),
            "nats_per_token" | "bits_per_byte" | "long_ppl" | "perplexity" => Some(Better::Lower),
            _ if metric
                .strip_prefix("pass@")
                .is_some_and(|k| k.parse::<u32>().is_ok()) =>
            {
                Some(Better::Higher)
            }
            _ => None,
        }
    }
}
