//! What an arm must keep to before its objective counts.
use super::{
    Better, Error, Estimate, Pairing, Result, Selector, Tables,
    distribution::student_quantile,
    pairing::{Unpaired, pair},
    share::wilson,
};
use serde::{Deserialize, Serialize};

/// Arm name of the base's rows.
pub const BASE: &str = "base";

/// A one-sided bound of 95 % is the end of a 90 % interval.
const ONE_SIDED: f64 = 0.1;

/// A gate: what a score must not worsen by, against the base, or what it must reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSpec {
    pub score: String,
    /// Margin in the score's own unit: the arm passes where it is shown to be worse by no more (the one-sided 95 % bound
    /// of its difference from the base is within the margin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_worsen: Option<f64>,
    /// The arm passes where it is shown to reach this (the one-sided 95 % bound of the score). A score without items,
    /// such as `passkey.effective_context`, must reach it under every seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Which way the score is better, where the program does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
}

/// What a gate asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    MayWorsen(f64),
    AtLeast(f64),
}

impl GateSpec {
    /// What it asks.
    ///
    /// # Errors
    /// When it asks nothing, two things, or for what cannot be.
    pub fn limit(&self) -> Result<Limit> {
        let wrong = |what: String| Err(Error::Decision(format!("gate {}: {what}", self.score)));
        match (self.may_worsen, self.at_least) {
            (Some(margin), None) if margin.is_finite() && margin >= 0.0 => {
                Ok(Limit::MayWorsen(margin))
            }
            (Some(margin), None) => wrong(format!("may_worsen = {margin} must be 0 or more")),
            (None, Some(least)) if least.is_finite() => {
                match Selector::parse(&self.score)?.better(self.better)? {
                    Better::Higher => Ok(Limit::AtLeast(least)),
                    Better::Lower => wrong(
                        "at_least is for scores of which more is better; use may_worsen".into(),
                    ),
                }
            }
            (None, Some(least)) => wrong(format!("at_least = {least} is no number")),
            _ => wrong("give it either may_worsen or at_least".into()),
        }
    }
}

/// How an arm stands at a gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    pub arm: String,
    pub score: String,
    /// By how much it is worse than the base, where the gate has a margin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worse_by: Option<f64>,
    /// The arm's score, where the gate asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The one-sided 95 % bound of it: the most that it may be worse by, or the least that it reaches. Nothing where no
    /// error can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_worsen: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The bound is within the limit.
    pub passed: bool,
    /// The value itself is; where it is and `passed` is not, the study is too small for this gate.
    pub passed_by_mean: bool,
    /// Why the arm could not be held to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// How `arm` stands. It does not pass where it has no such score, or cannot be paired with the base.
pub(super) fn stand(
    tables: &Tables,
    spec: &GateSpec,
    selector: &Selector,
    arm: &str,
) -> Result<Gate> {
    let limit = spec.limit()?;
    let gate = Gate {
        arm: arm.into(),
        score: selector.to_string(),
        worse_by: None,
        value: None,
        bound: None,
        may_worsen: spec.may_worsen,
        at_least: spec.at_least,
        passed: false,
        passed_by_mean: false,
        why_not: None,
    };
    Ok(match limit {
        Limit::MayWorsen(margin) => {
            let worse = -selector.better(spec.better)?.sign();
            match difference(tables, selector, arm, BASE) {
                Ok(pairing) => {
                    let bound = upper(&pairing, worse);
                    let worse_by = worse * pairing.difference.mean;
                    Gate {
                        worse_by: Some(worse_by),
                        bound,
                        passed: bound.is_some_and(|bound| bound <= margin),
                        passed_by_mean: worse_by <= margin,
                        ..gate
                    }
                }
                Err(e) => Gate {
                    why_not: Some(format!("cannot be compared with the base: {e}")),
                    ..gate
                },
            }
        }
        Limit::AtLeast(least) => {
            let values = by_seed(tables, selector, arm);
            let Some(mean) = mean(tables, selector, arm) else {
                return Ok(Gate {
                    why_not: Some("has no such score".into()),
                    ..gate
                });
            };
            let rows: Vec<_> = tables
                .items
                .iter()
                .filter(|r| r.arm == arm && selector.covers(r))
                .collect();
            let bound = match rows.is_empty() {
                true => values.iter().map(|v| v.1).reduce(f64::min),
                false => super::summary::one_sided_low(&rows),
            };
            Gate {
                value: Some(mean),
                bound,
                passed: bound.is_some_and(|bound| bound >= least),
                passed_by_mean: mean >= least,
                ..gate
            }
        }
    })
}

/// The one-sided 95 % upper bound of `sign` times the difference; nothing where no error can be told.
fn upper(pairing: &Pairing, sign: f64) -> Option<f64> {
    let difference = &pairing.difference;
    if !difference.has_error() {
        return None;
    }
    let mean = sign * difference.mean;
    if let Some((low, high)) = difference.interval(ONE_SIDED) {
        return Some(mean + 0.5 * (high - low));
    }
    match (pairing.binary, difference.clusters) {
        // No cluster differs: as far as a share of none in so many allows.
        (true, clusters) if clusters > 1 && mean == 0.0 => {
            let critical = student_quantile(ONE_SIDED, (clusters - 1) as f64);
            Some(wilson(0.0, clusters as f64, critical).1)
        }
        _ => Some(mean),
    }
}

/// The seeds under which the arm has the score, with its values.
pub(super) fn by_seed(tables: &Tables, selector: &Selector, arm: &str) -> Vec<(Option<u64>, f64)> {
    let rows = selector.select(&tables.scores).into_iter();
    rows.filter(|row| row.arm == arm)
        .map(|row| (row.seed, row.value))
        .collect()
}

/// An arm's mean over its seeds.
pub(super) fn mean(tables: &Tables, selector: &Selector, arm: &str) -> Option<f64> {
    let values = by_seed(tables, selector, arm);
    (!values.is_empty()).then(|| values.iter().map(|v| v.1).sum::<f64>() / values.len() as f64)
}

/// The difference `a − b`: on the items that both have, or by seeds where the score has no items.
pub(super) fn difference(
    tables: &Tables,
    selector: &Selector,
    a: &str,
    b: &str,
) -> std::result::Result<Pairing, Unpaired> {
    let of = |arm: &str| {
        let rows = tables
            .items
            .iter()
            .filter(|row| row.arm == arm && selector.covers(row));
        rows.collect::<Vec<_>>()
    };
    let (left, right) = (of(a), of(b));
    if !(left.is_empty() && right.is_empty()) {
        return pair(&left, &right);
    }
    let of = |arm: &str| by_seed(tables, selector, arm);
    let (left, right) = (of(a), of(b));
    let other = |seed: Option<u64>| {
        let same = right.iter().find(|(s, _)| *s == seed);
        same.or_else(|| right.iter().find(|(s, _)| s.is_none()))
            .map(|(_, value)| *value)
    };
    let pairs: Vec<(f64, f64)> = left
        .iter()
        .filter_map(|(seed, a)| Some((*a, other(*seed)?)))
        .collect();
    if pairs.is_empty() {
        return Err(if left.is_empty() || right.is_empty() {
            Unpaired::NoItems
        } else {
            Unpaired::NoSeeds
        });
    }
    let n = pairs.len() as f64;
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
    Ok(Pairing {
        difference: Estimate::of_seeds(&differences),
        means: (
            pairs.iter().map(|p| p.0).sum::<f64>() / n,
            pairs.iter().map(|p| p.1).sum::<f64>() / n,
        ),
        binary: false,
        mcnemar: None,
        left_out: 0,
    })
}
