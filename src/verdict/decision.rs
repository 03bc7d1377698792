//! Gates first, then one score, then the cost.
use super::{
    Better, Comparison, Error, Gate, GateSpec, Pairing, Result, Selector, Tables,
    comparison::compare_all,
    gate::{BASE, by_seed, difference, mean, stand},
    why::why,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Arms whose tokens differ by less than this share cost the same: stages end on whole steps.
const SAME_COST: f64 = 0.01;
/// Seeds without which no arm is shown to be better: what training itself adds cannot be told from one.
pub(super) const FEWEST_SEEDS: usize = 2;

/// The `[decision]` table of a study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionSpec {
    /// What an arm must not worsen, or must reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateSpec>,
    /// The score that decides, such as "passkey.2048.exact_match".
    pub best: String,
    /// Which way it is better, where the program does not know its metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
    /// The arm that a recipe must be shown to beat; the base where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

impl DecisionSpec {
    /// Checks what can be checked before there are scores: `arms` are the study's, `scores` the names of the
    /// scores that every trial will have.
    ///
    /// # Errors
    /// When a score is none of them or its direction is not known, a gate asks nothing or what cannot be, or the
    /// baseline is no arm.
    pub fn check(&self, arms: &[&str], scores: &[String]) -> Result<()> {
        let gates = self.gates.iter().map(|gate| (&gate.score, gate.better));
        for (name, better) in gates.chain([(&self.best, self.better)]) {
            let selector = Selector::parse(name)?;
            let name = selector.to_string();
            if !scores.contains(&name) {
                return Err(Error::Decision(format!(
                    "no score is named {name}; there are {}",
                    scores.join(", ")
                )));
            }
            selector.better(better)?;
        }
        for gate in &self.gates {
            gate.limit()?;
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
    /// The recipe passes the gates, is shown to be better than the baseline, and is shown to be better than every other
    /// arm of which that is true, or is the cheapest of those that it cannot be told from.
    Decided,
    /// Of the arms that pass, are better than the baseline and cannot be told from the one with the best mean, several
    /// are the cheapest. The recipe is the one of these with the best mean, which is no evidence for it.
    Tied,
    /// Trials have not run, no arm is shown to pass the gates, or none is shown to be better than the baseline, as none
    /// can be under one seed.
    NoDecision,
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
    /// The arm with the best mean of those that pass and are better than the baseline, on the seeds that all of them have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Arms that are better than the baseline, too, and cannot be told from the leader.
    pub ties: Vec<String>,
    /// Pairs of arms that were to be compared and cannot be, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
    /// In plain words.
    pub why: String,
    pub gates: Vec<Gate>,
    /// First of every passing arm with the baseline, then of the leader with the others that beat it.
    pub comparisons: Vec<Comparison>,
}

/// Decides by the tables.
///
/// # Errors
/// When a score that the decision names is in no row.
pub fn decide(study: &str, spec: &DecisionSpec, tables: &Tables) -> Result<Decision> {
    let best = Selector::parse(&spec.best)?;
    best.check(&tables.scores)?;
    let sign = best.better(spec.better)?.sign();
    let baseline = spec.baseline.clone().unwrap_or_else(|| BASE.into());
    let mut decision = Decision {
        study: study.into(),
        reduced: tables.trials.iter().any(|t| t.reduced),
        status: Status::NoDecision,
        recipe: None,
        axes: String::new(),
        score: best.to_string(),
        baseline: baseline.clone(),
        leader: None,
        ties: Vec::new(),
        not_compared: Vec::new(),
        why: String::new(),
        gates: Vec::new(),
        comparisons: Vec::new(),
    };
    if let Some(why) = too_early(spec, tables) {
        decision.why = why;
        return Ok(decision);
    }
    let arms: Vec<&str> = tables
        .arms()
        .into_iter()
        .filter(|arm| *arm != BASE && mean(tables, &best, arm).is_some())
        .collect();
    for gate in &spec.gates {
        let selector = Selector::parse(&gate.score)?;
        selector.check(&tables.scores)?;
        for arm in &arms {
            decision.gates.push(stand(tables, gate, &selector, arm)?);
        }
    }
    let passing: Vec<&str> = arms
        .iter()
        .copied()
        .filter(|arm| decision.gates.iter().all(|g| g.arm != *arm || g.passed))
        .collect();
    let compare = |pairs: Vec<(&str, &str)>, family, not_compared: &mut Vec<String>| {
        let mut found: Vec<(&str, &str, Pairing)> = Vec::new();
        for (arm, than) in pairs {
            match difference(tables, &best, arm, than) {
                Ok(pairing) => found.push((arm, than, pairing)),
                Err(e) => not_compared.push(format!("{arm} with {than}: {e}")),
            }
        }
        compare_all(&found, sign, family)
    };
    let rivals = passing.iter().copied().filter(|arm| *arm != baseline);
    decision.comparisons = compare(
        rivals.map(|arm| (arm, baseline.as_str())).collect(),
        0,
        &mut decision.not_compared,
    );
    let shown = |c: &Comparison| c.is_better() && c.seeds >= FEWEST_SEEDS;
    let is_proven = |arm: &&str| {
        let mut all = decision.comparisons.iter();
        all.any(|c| c.arm == **arm && shown(c))
    };
    let mut proven: Vec<&str> = passing.iter().copied().filter(is_proven).collect();
    let goodness = on_common_seeds(tables, &best, sign, &proven);
    // A stable sort: of equal arms the study's first is taken.
    proven.sort_by(|a, b| goodness(b).total_cmp(&goodness(a)));
    if let Some((&first, others)) = proven.split_first() {
        decision.leader = Some(first.to_string());
        // The leader is chosen by these scores, so that its comparisons stand for those of all pairs.
        let pairs = proven.len() * others.len() / 2;
        let found = compare(
            others.iter().map(|other| (first, *other)).collect(),
            pairs,
            &mut decision.not_compared,
        );
        let beaten = |arm: &str| found.iter().any(|c| c.than == arm && shown(c));
        decision.ties = others
            .iter()
            .filter(|arm| !beaten(arm))
            .map(|arm| (*arm).to_string())
            .collect();
        decision.comparisons.extend(found);
        let cheap = decision.cheapest(tables);
        let recipe = cheap.first().map_or(first, |arm| *arm).to_string();
        decision.status = match cheap.len() {
            1 => Status::Decided,
            _ => Status::Tied,
        };
        let trial = tables.trials.iter().find(|t| t.arm == recipe);
        decision.axes = trial.map_or(String::new(), |t| t.axes.clone());
        decision.recipe = Some(recipe);
    }
    decision.why = why(&decision, tables, arms.len(), passing.len());
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
    let margins = spec.gates.iter().any(|gate| gate.may_worsen.is_some());
    (margins && !base && all > 0)
        .then(|| "No decision: the base has no score, so that no gate can be held.".to_string())
}

/// How good an arm is: its mean over the seeds that all of `arms` have, or over its own where they share none.
fn on_common_seeds<'a>(
    tables: &'a Tables,
    score: &'a Selector,
    sign: f64,
    arms: &[&str],
) -> impl Fn(&str) -> f64 + 'a {
    let of = |arm: &&str| -> BTreeSet<Option<u64>> {
        let rows = by_seed(tables, score, arm).into_iter();
        rows.map(|(seed, _)| seed).collect()
    };
    let common = arms
        .iter()
        .map(of)
        .reduce(|a, b| a.intersection(&b).copied().collect())
        .unwrap_or_default();
    move |arm| {
        let rows = by_seed(tables, score, arm).into_iter();
        let values: Vec<f64> = rows
            .filter(|(seed, _)| common.is_empty() || common.contains(seed))
            .map(|(_, value)| value)
            .collect();
        sign * values.iter().sum::<f64>() / values.len() as f64
    }
}

/// Tokens that a trial of the arm trains on: the tables have no other cost.
pub(super) fn tokens(tables: &Tables, arm: &str) -> u64 {
    let of_arm = tables.trials.iter().filter(|t| t.arm == arm);
    of_arm.map(|t| t.tokens).max().unwrap_or_default()
}

impl Decision {
    /// Those of the leader and its ties that cost least, in the order of their means.
    pub(super) fn cheapest<'a>(&'a self, tables: &Tables) -> Vec<&'a str> {
        let equals = || self.leader.iter().chain(&self.ties).map(String::as_str);
        let least = equals().map(|arm| tokens(tables, arm)).min();
        let least = least.unwrap_or_default() as f64;
        equals()
            .filter(|arm| tokens(tables, arm) as f64 <= least * (1.0 + SAME_COST))
            .collect()
    }
}
