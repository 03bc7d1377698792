//! Two arms in one score, as a report says it.
use super::{Pairing, estimate::Estimate, holm};
use serde::Serialize;

/// Significance of a comparison, after Holm's correction.
pub const ALPHA: f64 = 0.05;

/// The difference of two arms in a score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub arm: String,
    pub than: String,
    /// Means on the items that both have.
    pub value: f64,
    pub than_value: f64,
    /// Positive where `arm` is better (in a comparison without a direction: higher).
    pub better_by: f64,
    /// The 95 % interval of this comparison alone; nothing where all items agree, and where no error can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Two-sided p of this comparison alone.
    pub p: f64,
    /// Corrected for all comparisons that were made with it (Holm).
    pub p_corrected: f64,
    /// The smallest true difference that this study would have found, corrected, with 80 % power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
    pub seeds: usize,
    pub items: usize,
    pub clusters: usize,
    /// How it was tested: bootstrap, t or mcnemar; empty where no error can be told, with one cluster and one seed.
    pub test: String,
    /// What would settle a difference of this size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<SettledBy>,
}

/// How much larger a study would find the difference that this one saw, were it the true one, with 80 % power.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SettledBy {
    /// Clusters of items, with the seeds that there are; nothing where no number would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u64>,
    /// Seeds, with the items that there are; nothing where no number would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<u64>,
    /// So many times both.
    pub times_both: f64,
}

impl Comparison {
    /// Shown to be better.
    pub fn is_better(&self) -> bool {
        self.p_corrected < ALPHA && self.better_by > 0.0
    }
}

/// Comparisons that are made together: of arms and pairings, with the sign that makes better positive. They are corrected
/// for as many as there are, or for `family`, where it is larger: where the scores themselves chose which are made.
pub fn compare_all(found: &[(&str, &str, Pairing)], sign: f64, family: usize) -> Vec<Comparison> {
    let p: Vec<f64> = found.iter().map(|(_, _, pairing)| pairing.p()).collect();
    let family = family.max(found.len());
    let others = std::iter::repeat_n(1.0, family - found.len());
    let corrected = holm(&p.iter().copied().chain(others).collect::<Vec<f64>>());
    let each = ALPHA / family.max(1) as f64;
    let comparison = |(i, (arm, than, pairing)): (usize, &(&str, &str, Pairing))| {
        let difference = match sign < 0.0 {
            true => pairing.difference.clone().negated(),
            false => pairing.difference.clone(),
        };
        let interval = difference.interval(ALPHA);
        let detectable = difference.detectable(each);
        let detectable = match pairing.mcnemar {
            None => detectable,
            Some(_) => detectable.and_then(|least| least_of_mcnemar(least, difference.items, each)),
        };
        Comparison {
            arm: (*arm).into(),
            than: (*than).into(),
            value: pairing.means.0,
            than_value: pairing.means.1,
            better_by: difference.mean,
            low: interval.map(|i| i.0),
            high: interval.map(|i| i.1),
            p: p[i],
            p_corrected: corrected[i],
            detectable,
            seeds: difference.seeds,
            items: difference.items,
            clusters: difference.clusters,
            test: match pairing.mcnemar {
                Some(_) => "mcnemar".into(),
                None if !difference.has_error() => String::new(),
                None => difference.method().into(),
            },
            settled_by: match corrected[i] < ALPHA {
                true => None,
                false => detectable.and_then(|least| settled_by(&difference, least)),
            },
        }
    };
    found.iter().enumerate().map(comparison).collect()
}

/// McNemar's test finds nothing among fewer items that differ than give 2^(1 − n) below `alpha`, whatever the error; no
/// difference at all where there are fewer items.
fn least_of_mcnemar(detectable: f64, items: usize, alpha: f64) -> Option<f64> {
    let differ = (1.0 - alpha.log2()).ceil() / items as f64;
    (differ <= 1.0).then(|| detectable.max(differ))
}

/// From the variance that the seeds and the clusters add: it falls with the number of either, and the difference is found
/// where the variance is (difference / detectable)² of what it is.
fn settled_by(difference: &Estimate, detectable: f64) -> Option<SettledBy> {
    let ratio = (difference.mean.abs() / detectable).powi(2);
    // A larger one than could be seen was not significant by bad luck alone: no number speaks of that.
    if ratio == 0.0 || ratio >= 1.0 {
        return None;
    }
    let seeds = difference.seed_share();
    let clusters = 1.0 - seeds;
    let count = |n: usize, part: f64, rest: f64| {
        let needed = n as f64 * part / (ratio - rest);
        (n > 0 && ratio > rest && needed < 1e9).then_some(needed.ceil() as u64)
    };
    Some(SettledBy {
        clusters: count(difference.clusters, clusters, seeds),
        seeds: count(difference.seeds, seeds, clusters)
            .filter(|_| difference.seeds > 1 && seeds > 0.0),
        times_both: 1.0 / ratio,
    })
}
