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
    /// Trials have not run, no arm passes the gates, the best arm is worse than the baseline, or nothing
    /// can be compared.
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
    /// The 95 % interval; nothing where all items agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Corrected for the number of comparisons (Holm).
    pub p: f64,
    /// The smallest difference that this study finds with 80 % power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
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
    if let Some(why) = too_early(spec, tables) {
        decision.why = why;
        return Ok(decision);
    }
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
            let interval = estimate.interval();
            let interval = interval.map(|(low, high)| match sign > 0.0 {
                true => (low, high),
                false => (-high, -low),
            });
            decision.comparisons.push(Comparison {
                arm: (*arm).into(),
                better_by: sign * estimate.mean,
                low: interval.map(|i| i.0),
                high: interval.map(|i| i.1),
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
        let beaten_by_baseline = decision
            .comparisons
            .iter()
            .any(|c| c.arm == baseline && c.p < 0.05 && c.better_by < 0.0);
        decision.status = if decision.comparisons.is_empty() || beaten_by_baseline {
            Status::NoDecision
        } else if decision.ties.is_empty() {
            Status::Decided
        } else {
            Status::Tied
        };
        decision.recipe = Some(recipe.into());
        let trial = tables.trials.iter().find(|t| t.arm == recipe);
        decision.axes = trial.map_or(String::new(), |t| t.axes.clone());
    }
    decision.why = why(&decision, tables, &best, arms.len());
    Ok(decision)
}

/// Why nothing can be decided yet.
fn too_early(spec: &DecisionSpec, tables: &Tables) -> Option<String> {
    let all = tables.trials.len();
    let open = |t: &&super::TrialRow| t.status != "done" && t.status != "failed";
    let missing = tables.trials.iter().filter(open).count();
    if missing > 0 {
        return Some(format!(
            "No decision: {missing} of {all} trials have not run."
        ));
    }
    let base = tables.scores.iter().any(|row| row.arm == BASE);
    (!spec.gates.is_empty() && !base && all > 0)
        .then(|| "No decision: the base has no score, so that no gate can be held.".to_string())
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
    let interval = difference(tables, selector, arm, BASE).and_then(|e| e.interval());
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
            0 => "No decision: no trained arm has a score.",
            _ => "No decision: no arm passes the gates.",
        });
        return said;
    };
    said.push_str(&gates_said(decision, arms));
    said.push_str(&format!("{recipe} has the best {best}, {}", value(recipe)));
    for c in &decision.comparisons {
        let interval = match (c.low, c.high) {
            (Some(low), Some(high)) => format!("95 % {low:.3} to {high:.3}"),
            _ => "no interval, since all items agree".into(),
        };
        said.push_str(&format!(
            "; {} by {:.3} ({interval}, corrected p {:.3}, over {} seeds and {} clusters of items) than {} \
             with {}",
            if c.better_by >= 0.0 { "better" } else { "worse" },
            c.better_by.abs(),
            c.p,
            c.seeds,
            c.clusters,
            c.arm,
            value(&c.arm),
        ));
    }
    said.push_str(". ");
    let compared = |arm: &&String| decision.comparisons.iter().find(|c| c.arm == **arm);
    let (alike, unknown): (Vec<&String>, Vec<&String>) = decision
        .ties
        .iter()
        .partition(|arm| compared(arm).is_some());
    let names = |arms: &[&String]| {
        let names: Vec<&str> = arms.iter().map(|a| a.as_str()).collect();
        names.join(", ")
    };
    if !alike.is_empty() {
        said.push_str(&format!("It cannot be told from {}", names(&alike)));
        let least = alike
            .iter()
            .filter_map(compared)
            .filter_map(|c| c.detectable);
        match least.reduce(f64::max) {
            Some(least) => said.push_str(&format!(
                ": a difference below {least:.3} is more than this study can see. "
            )),
            None => said.push_str(". "),
        }
    }
    if !unknown.is_empty() {
        let names = names(&unknown);
        said.push_str(&format!(
            "It cannot be compared with {names}: no items in common. "
        ));
    }
    said.push_str(match decision.status {
        Status::Decided => "It is better than every other arm that passes.",
        Status::Tied => "",
        Status::NoDecision => {
            "No decision: the best arm is worse than the baseline, or stands alone."
        }
    });
    said.trim_end().to_string()
}

/// How the arms stand at the gates.
fn gates_said(decision: &Decision, arms: usize) -> String {
    if decision.gates.is_empty() {
        return String::new();
    }
    let mut shut: Vec<&str> = Vec::new();
    for gate in decision.gates.iter().filter(|g| !g.passed) {
        if !shut.contains(&gate.arm.as_str()) {
            shut.push(&gate.arm);
        }
    }
    let unsure = decision
        .gates
        .iter()
        .filter(|g| g.passed && !g.certain)
        .count();
    let start = match shut.is_empty() {
        true => format!("All {arms} arms pass the gates"),
        false => format!("Of {arms} arms the gates shut out {}", shut.join(", ")),
    };
    match unsure {
        0 => format!("{start}. "),
        n => {
            format!("{start} ({n} passes by the mean alone: no interval stays within the margin). ")
        }
    }
}
