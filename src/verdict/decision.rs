//! Gates first, then one score.
use super::{
    Error, Estimate, Result, Selector, Tables, holm, paired_difference, statistics::Difference,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Arm name of the base's rows.
const BASE: &str = "base";

/// The `[decision]` table of a study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionSpec {
    /// What an arm must not worsen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateSpec>,
    /// The score that decides, such as "passkey.2048.exact_match"; better is known from its metric.
    pub best: String,
    /// The arm against which the best one is compared; the base where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// A gate: the score may be worse than the base's by this much and no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSpec {
    pub score: String,
    /// In the score's own unit.
    pub may_worsen: f64,
}

impl DecisionSpec {
    /// Checks what can be checked before there are scores: `arms` are the study's, `scores` the names of the
    /// scores that every trial will have.
    ///
    /// # Errors
    /// When a score is none of them, a margin is negative, or the baseline is no arm.
    pub fn check(&self, arms: &[&str], scores: &[String]) -> Result<()> {
        let gates = self.gates.iter().map(|gate| &gate.score);
        for name in gates.chain([&self.best]) {
            let name = Selector::parse(name)?.to_string();
            if !scores.contains(&name) {
                return Err(Error::Decision(format!(
                    "no score is named {name}; there are {}",
                    scores.join(", ")
                )));
            }
        }
        for gate in &self.gates {
            if !(gate.may_worsen.is_finite() && gate.may_worsen >= 0.0) {
                return Err(Error::Decision(format!(
                    "gate {}: may_worsen = {} must be 0 or more",
                    gate.score, gate.may_worsen
                )));
            }
        }
        match &self.baseline {
            Some(name) if name != BASE && !arms.contains(&name.as_str()) => Err(Error::Decision(
                format!("baseline {name:?} is no arm; there are {}", arms.join(", ")),
            )),
            _ => Ok(()),
        }
    }
}

/// How a study ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The recipe is better than every other arm that passes the gates.
    Decided,
    /// The recipe has the best mean; the study cannot tell it from the arms in `ties`.
    Tied,
    /// No arm passes the gates, or there are no scores.
    NoDecision,
}

/// How an arm stands at a gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    pub arm: String,
    pub score: String,
    /// By how much it is worse than the base.
    pub worse_by: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub may_worsen: f64,
    /// The mean is within the margin.
    pub passed: bool,
    /// The whole interval is on the same side of the margin.
    pub certain: bool,
}

/// The difference of the recipe and another arm in the deciding score: positive where the recipe is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub arm: String,
    pub better_by: f64,
    pub low: f64,
    pub high: f64,
    /// Corrected for the number of comparisons (Holm).
    pub p: f64,
    /// The smallest difference that this study finds with 80 % power.
    pub detectable: f64,
    pub seeds: usize,
    pub clusters: usize,
}

/// What the study says, and why: `decision.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    pub study: String,
    pub reduced: bool,
    pub status: Status,
    /// The arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The arm's axes.
    pub axes: String,
    pub score: String,
    pub baseline: String,
    pub ties: Vec<String>,
    /// In plain words.
    pub why: String,
    pub gates: Vec<Gate>,
    pub comparisons: Vec<Comparison>,
}

/// Decides by the tables.
///
/// # Errors
/// When a score that the decision names is in no row.
pub fn decide(study: &str, spec: &DecisionSpec, tables: &Tables) -> Result<Decision> {
    let best = Selector::parse(&spec.best)?;
    best.check(&tables.scores)?;
    let reduced = tables.trials.iter().any(|t| t.reduced);
    let arms: Vec<&str> = tables
        .arms()
        .into_iter()
        .filter(|arm| *arm != BASE && mean(tables, &best, arm).is_some())
        .collect();
    let mut gates = Vec::new();
    for gate in &spec.gates {
        let selector = Selector::parse(&gate.score)?;
        selector.check(&tables.scores)?;
        for arm in &arms {
            gates.extend(stand(tables, &selector, arm, gate.may_worsen));
        }
    }
    let baseline = spec.baseline.clone().unwrap_or_else(|| BASE.into());
    let mut decision = Decision {
        study: study.into(),
        reduced,
        status: Status::NoDecision,
        recipe: None,
        axes: String::new(),
        score: best.to_string(),
        baseline: baseline.clone(),
        ties: Vec::new(),
        why: String::new(),
        gates,
        comparisons: Vec::new(),
    };
    let sign = if best.higher_is_better() { 1.0 } else { -1.0 };
    let goodness = |arm: &str| sign * mean(tables, &best, arm).unwrap_or(f64::NEG_INFINITY);
    let mut passing: Vec<&str> = arms
        .iter()
        .copied()
        .filter(|arm| decision.gates.iter().all(|g| g.arm != *arm || g.passed))
        .collect();
    // A stable sort: of equal arms the study's first is taken.
    passing.sort_by(|a, b| goodness(b).total_cmp(&goodness(a)));
    if let Some(&recipe) = passing.first() {
        let mut others: Vec<&str> = passing[1..].to_vec();
        let known = |arm: &str| arm != recipe && mean(tables, &best, arm).is_some();
        if known(&baseline) && !others.contains(&baseline.as_str()) {
            others.push(&baseline);
        }
        let found: Vec<(&str, Estimate)> = others
            .iter()
            .filter_map(|arm| Some((*arm, difference(tables, &best, recipe, arm)?)))
            .collect();
        let p = holm(&found.iter().map(|(_, e)| e.p()).collect::<Vec<_>>());
        for ((arm, estimate), p) in found.iter().zip(p) {
            let (low, high) = estimate.interval();
            let (low, high) = if sign > 0.0 {
                (low, high)
            } else {
                (-high, -low)
            };
            decision.comparisons.push(Comparison {
                arm: (*arm).into(),
                better_by: sign * estimate.mean,
                low,
                high,
                p,
                detectable: estimate.detectable(),
                seeds: estimate.seeds,
                clusters: estimate.clusters,
            });
        }
        let beaten = |arm: &str| {
            decision
                .comparisons
                .iter()
                .any(|c| c.arm == arm && c.p < 0.05 && c.better_by > 0.0)
        };
        decision.ties = passing[1..]
            .iter()
            .filter(|a| !beaten(a))
            .map(|a| (*a).to_string())
            .collect();
        decision.status = match decision.ties.is_empty() {
            true => Status::Decided,
            false => Status::Tied,
        };
        decision.recipe = Some(recipe.into());
        let trial = tables.trials.iter().find(|t| t.arm == recipe);
        decision.axes = trial.map_or(String::new(), |t| t.axes.clone());
    }
    decision.why = why(&decision, tables, &best, arms.len());
    Ok(decision)
}

/// An arm's mean over its seeds.
fn mean(tables: &Tables, selector: &Selector, arm: &str) -> Option<f64> {
    let values: Vec<f64> = tables
        .scores
        .iter()
        .filter(|row| row.arm == arm && selector.selects(row))
        .map(|row| row.value)
        .collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The difference `a − b` on the items that both have; the base, which has no seed, stands beside every
/// seed of the other.
fn difference(tables: &Tables, selector: &Selector, a: &str, b: &str) -> Option<Estimate> {
    let of = |arm: &str| -> BTreeMap<(Option<u64>, &str), &super::ItemRow> {
        let rows = tables
            .items
            .iter()
            .filter(|row| row.arm == arm && selector.covers(row));
        rows.map(|row| ((row.seed, row.item.as_str()), row))
            .collect()
    };
    let (left, right) = (of(a), of(b));
    let differences: Vec<Difference> = left
        .iter()
        .filter_map(|((seed, item), row)| {
            let other = right
                .get(&(*seed, *item))
                .or_else(|| right.get(&(None, *item)))?;
            Some(Difference {
                seed: seed.unwrap_or(0),
                item,
                cluster: &row.cluster,
                value: row.value - other.value,
                weight: row.weight,
            })
        })
        .collect();
    paired_difference(&differences)
}

fn stand(tables: &Tables, selector: &Selector, arm: &str, may_worsen: f64) -> Option<Gate> {
    let sign = if selector.higher_is_better() {
        -1.0
    } else {
        1.0
    };
    let worse_by = sign * (mean(tables, selector, arm)? - mean(tables, selector, BASE)?);
    let interval = difference(tables, selector, arm, BASE).map(|e| e.interval());
    let interval = interval.map(|(low, high)| match sign > 0.0 {
        true => (low, high),
        false => (-high, -low),
    });
    let passed = worse_by <= may_worsen;
    Some(Gate {
        arm: arm.into(),
        score: selector.to_string(),
        worse_by,
        low: interval.map(|i| i.0),
        high: interval.map(|i| i.1),
        may_worsen,
        passed,
        certain: interval.is_some_and(|(low, high)| match passed {
            true => high <= may_worsen,
            false => low > may_worsen,
        }),
    })
}

fn why(decision: &Decision, tables: &Tables, best: &Selector, arms: usize) -> String {
    let value =
        |arm: &str| mean(tables, best, arm).map_or("no score".into(), |m| format!("{m:.3}"));
    let failed = tables
        .trials
        .iter()
        .filter(|t| t.status == "failed")
        .count();
    let mut said = String::new();
    if decision.reduced {
        said.push_str("This is a reduced run, which decides nothing in earnest. ");
    }
    if failed > 0 {
        said.push_str(&format!("{failed} trials failed and are not counted. "));
    }
    let Some(recipe) = &decision.recipe else {
        said.push_str(match arms {
            0 => "No decision: no trained arm has a score yet.",
            _ => "No decision: no arm passes the gates.",
        });
        return said;
    };
    let shut: Vec<&str> = decision
        .gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| g.arm.as_str())
        .collect();
    if !decision.gates.is_empty() {
        let unsure = decision
            .gates
            .iter()
            .filter(|g| g.passed && !g.certain)
            .count();
        said.push_str(&match shut.is_empty() {
            true => format!("All {arms} arms pass the gates"),
            false => format!("Of {arms} arms the gates shut out {}", shut.join(", ")),
        });
        said.push_str(&match unsure {
            0 => ". ".to_string(),
            n => {
                format!(" ({n} of them by the mean alone: the interval reaches over the margin). ")
            }
        });
    }
    said.push_str(&format!("{recipe} has the best {best}, {}", value(recipe)));
    for c in &decision.comparisons {
        said.push_str(&format!(
            "; {} by {:+.3} (95 % {:.3} to {:.3}, corrected p {:.3}, over {} seeds and {} clusters of items) to {} \
             with {}",
            if c.better_by >= 0.0 { "better" } else { "worse" },
            c.better_by,
            c.low,
            c.high,
            c.p,
            c.seeds,
            c.clusters,
            c.arm,
            value(&c.arm),
        ));
    }
    said.push_str(". ");
    if !decision.ties.is_empty() {
        let widest = decision
            .comparisons
            .iter()
            .filter(|c| decision.ties.contains(&c.arm))
            .map(|c| c.detectable)
            .fold(0.0, f64::max);
        said.push_str(&format!(
            "It cannot be told from {}: a difference below {widest:.3} is more than this study can see.",
            decision.ties.join(", ")
        ));
    } else {
        said.push_str("It is better than every other arm that passes.");
    }
    said
}
