//! Gates first, then one score, then the cost.
use super::{
    Better, Comparison, Error, Gate, GateSpec, Pairing, Result, Selector, Tables,
    comparison::compare_all,
    gate::{BASE, difference, mean, stand},
    why::why,
};
use serde::{Deserialize, Serialize};

/// Arms whose tokens differ by less than this share cost the same: stages end on whole steps.
const SAME_COST: f64 = 0.01;

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
    /// Several arms pass, are better than the baseline, cannot be told from each other and cost the same. The recipe is
    /// the one with the best mean, which is no evidence for it.
    Tied,
    /// Trials have not run, no arm is shown to pass the gates, or none is shown to be better than the baseline.
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
    /// Arms that are better than the baseline, too, and cannot be told from the one with the best mean.
    pub ties: Vec<String>,
    /// In plain words.
    pub why: String,
    pub gates: Vec<Gate>,
    /// First of every passing arm with the baseline, then of the best of them with the others.
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
        ties: Vec::new(),
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
            decision.gates.extend(stand(tables, gate, &selector, arm)?);
        }
    }
    let passing: Vec<&str> = arms
        .iter()
        .copied()
        .filter(|arm| decision.gates.iter().all(|g| g.arm != *arm || g.passed))
        .collect();
    let rivals = passing.iter().copied().filter(|arm| *arm != baseline);
    decision.comparisons = compare(
        tables,
        &best,
        sign,
        rivals.map(|arm| (arm, baseline.as_str())),
    );
    let goodness = |arm: &str| sign * mean(tables, &best, arm).unwrap_or(f64::NEG_INFINITY);
    let mut proven: Vec<&str> = passing
        .iter()
        .copied()
        .filter(|arm| {
            decision
                .comparisons
                .iter()
                .any(|c| c.arm == *arm && c.is_better())
        })
        .collect();
    // A stable sort: of equal arms the study's first is taken.
    proven.sort_by(|a, b| goodness(b).total_cmp(&goodness(a)));
    if let Some((&first, others)) = proven.split_first() {
        let found = compare(
            tables,
            &best,
            sign,
            others.iter().map(|other| (first, *other)),
        );
        let beaten = |arm: &str| found.iter().any(|c| c.than == arm && c.is_better());
        decision.ties = others
            .iter()
            .filter(|arm| !beaten(arm))
            .map(|arm| (*arm).to_string())
            .collect();
        decision.comparisons.extend(found);
        let equals: Vec<&str> = [first]
            .into_iter()
            .chain(decision.ties.iter().map(String::as_str))
            .collect();
        let cheap = cheapest(tables, &equals);
        decision.status = if cheap.len() == 1 {
            Status::Decided
        } else {
            Status::Tied
        };
        let recipe = cheap.first().copied().unwrap_or(first).to_string();
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

/// Comparisons of these pairs of arms, as far as they can be paired, corrected together.
fn compare<'a>(
    tables: &Tables,
    score: &Selector,
    sign: f64,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<Comparison> {
    let found: Vec<(&str, &str, Pairing)> = pairs
        .filter_map(|(a, b)| Some((a, b, difference(tables, score, a, b).ok()?)))
        .collect();
    compare_all(&found, sign)
}

/// Tokens that a trial of the arm trains on: the tables have no other cost.
pub(super) fn tokens(tables: &Tables, arm: &str) -> u64 {
    let of_arm = tables.trials.iter().filter(|t| t.arm == arm);
    of_arm.map(|t| t.tokens).max().unwrap_or_default()
}

/// Those of the arms that cost least, in their order.
fn cheapest<'a>(tables: &Tables, arms: &[&'a str]) -> Vec<&'a str> {
    let least = arms
        .iter()
        .map(|arm| tokens(tables, arm))
        .min()
        .unwrap_or_default() as f64;
    let cheap = |arm: &&&str| tokens(tables, arm) as f64 <= least * (1.0 + SAME_COST);
    arms.iter().filter(cheap).copied().collect()
}
