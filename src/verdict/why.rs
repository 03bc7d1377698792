//! A decision in plain words.
use super::{
    Comparison, Decision, Gate, Status, Tables,
    decision::{FEWEST_SEEDS, tokens},
};
use std::fmt::Write;

/// The paragraph: every comparison behind the decision, and what would settle what is open.
pub(super) fn why(decision: &Decision, tables: &Tables, arms: usize, passing: usize) -> String {
    let mut said = String::new();
    if decision.reduced {
        said.push_str("This is a reduced run, which decides nothing in earnest. ");
    }
    let failed = tables
        .trials
        .iter()
        .filter(|t| t.status == "failed")
        .count();
    if failed > 0 {
        say(
            &mut said,
            format_args!(
                "{} failed and {} not counted. ",
                count(failed, "trial"),
                if failed == 1 { "is" } else { "are" }
            ),
        );
    }
    if arms == 0 {
        return said + "No decision: no trained arm has a score.";
    }
    said.push_str(&verdict(decision, tables, passing));
    said.push_str(&gates(decision, arms));
    let (with_baseline, among): (Vec<_>, Vec<_>) = decision
        .comparisons
        .iter()
        .partition(|c| c.than == decision.baseline);
    for (kind, comparisons) in [
        ("With the baseline", with_baseline),
        ("Among those that beat it", among),
    ] {
        if comparisons.is_empty() {
            continue;
        }
        let all: Vec<String> = comparisons.iter().map(|c| sentence(c)).collect();
        say(
            &mut said,
            format_args!("{kind}, in {}: {}. ", decision.score, all.join("; ")),
        );
    }
    if !decision.comparisons.is_empty() {
        said.push_str("(Intervals are 95 % for one comparison, p is Holm's.) ");
    }
    if !decision.not_compared.is_empty() {
        say(
            &mut said,
            format_args!("Not compared: {}. ", decision.not_compared.join("; ")),
        );
    }
    said.push_str(&open(decision));
    said.trim_end().to_string()
}

/// What was decided, in a sentence or two.
fn verdict(decision: &Decision, tables: &Tables, passing: usize) -> String {
    let (baseline, score) = (&decision.baseline, &decision.score);
    let (Some(recipe), Some(leader)) = (&decision.recipe, &decision.leader) else {
        let better = decision.comparisons.iter().filter(|c| c.is_better());
        let (few, enough): (Vec<_>, Vec<_>) = better.partition(|c| c.seeds < FEWEST_SEEDS);
        let reason = match (passing, decision.comparisons.len()) {
            (0, _) => "no arm is shown to pass the gates".to_string(),
            (_, 0) => {
                format!("no arm that passes the gates can be compared with {baseline} in {score}")
            }
            _ if enough.is_empty() && !few.is_empty() => {
                let arms: Vec<&str> = few.iter().map(|c| c.arm.as_str()).collect();
                format!(
                    "{} better than {baseline} in {score} on the items, under one seed, which does not tell what \
                     training adds; run three seeds",
                    names(&arms)
                )
            }
            _ => format!("no arm is shown to be better than {baseline} in {score}"),
        };
        return format!("No decision: {reason}. ");
    };
    let ties = decision.ties.join(", ");
    let alone = decision.comparisons.iter().all(|c| &c.than == baseline);
    match (decision.status, decision.ties.is_empty()) {
        (Status::Decided, true) if !alone => {
            format!("{recipe} is the recipe: better than {baseline} and every other arm that is. ")
        }
        (Status::Decided, true) => {
            format!("{recipe} is the recipe: it alone is shown to be better than {baseline}. ")
        }
        (Status::Decided, false) => {
            let others = [leader].into_iter().chain(&decision.ties);
            let others: Vec<&str> = others
                .filter(|arm| *arm != recipe)
                .map(String::as_str)
                .collect();
            format!(
                "{recipe} is the recipe: better than {baseline}, and with {} tokens a trial the cheapest of the arms \
                 that cannot be told from the best ({}; cost is tokens here). ",
                tokens(tables, recipe),
                others.join(", "),
            )
        }
        _ if recipe == leader => format!(
            "Tied: {recipe} has the best mean of the arms that beat {baseline}, but cannot be told from {ties}, and \
             none is cheaper (in tokens). "
        ),
        _ => format!(
            "Tied: {leader} has the best mean of the arms that beat {baseline}, but cannot be told from {ties}. With {} \
             tokens a trial {} the cheapest of them, and {recipe} has the best mean of these. ",
            tokens(tables, recipe),
            names(&decision.cheapest(tables)),
        ),
    }
}

/// Names as the beginning of a sentence: "a is", "a, b are".
fn names(arms: &[&str]) -> String {
    let verb = if arms.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", arms.join(", "))
}

/// "1 seed", "3 seeds".
fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// One comparison.
fn sentence(c: &Comparison) -> String {
    let half = c
        .low
        .zip(c.high)
        .map_or(0.0, |(low, high)| 0.5 * (high - low));
    let number = |value: f64| number(value, half);
    let (arm, value, than, than_value) = (&c.arm, number(c.value), &c.than, number(c.than_value));
    let mut said = match c.better_by {
        0.0 => format!("{arm} ({value}) is as good as {than} ({than_value})"),
        by if by > 0.0 => format!(
            "{arm} ({value}) is better than {than} ({than_value}) by {}",
            number(by)
        ),
        by => format!(
            "{arm} ({value}) is worse than {than} ({than_value}) by {}",
            number(-by)
        ),
    };
    match c.low.zip(c.high) {
        Some((low, high)) => say(
            &mut said,
            format_args!(", {} to {}", number(low), number(high)),
        ),
        None if c.test.is_empty() => {
            said.push_str(", no interval since one cluster under one seed tells no error");
        }
        None => said.push_str(", no interval since all items agree"),
    }
    say(
        &mut said,
        format_args!(
            ", p {} ({}, {} in {}",
            p(c.p_corrected),
            count(c.seeds, "seed"),
            count(c.items, "item"),
            count(c.clusters, "cluster"),
        ),
    );
    if let Some(least) = c.detectable {
        say(&mut said, format_args!("; could see {}", number(least)));
    }
    said.push(')');
    said
}

/// How the arms stand at the gates.
fn gates(decision: &Decision, arms: usize) -> String {
    if decision.gates.is_empty() {
        return String::new();
    }
    let shut: Vec<&Gate> = decision.gates.iter().filter(|g| !g.passed).collect();
    if shut.is_empty() {
        let tightest: Vec<String> = decision.gates.iter().filter_map(bound).collect();
        return format!("All {arms} arms pass the gates ({}). ", tightest.join("; "));
    }
    let said: Vec<String> = shut
        .iter()
        .map(|g| match (bound(g), g.passed_by_mean) {
            (Some(bound), true) => format!("{bound}: its mean would pass, its bound does not"),
            (Some(bound), false) => bound,
            (None, _) => {
                let why_not = g.why_not.as_deref();
                let why_not = why_not.unwrap_or("has too few items or seeds to tell an error");
                format!("{} {why_not} ({})", g.arm, g.score)
            }
        })
        .collect();
    let held: Vec<String> = decision
        .gates
        .iter()
        .filter(|g| g.passed)
        .filter_map(bound)
        .collect();
    let held = match held.is_empty() {
        true => String::new(),
        false => format!(" Within the limits: {}.", held.join("; ")),
    };
    format!("The gates shut out: {}.{held} ", said.join("; "))
}

fn bound(gate: &Gate) -> Option<String> {
    let bound = gate.bound?;
    let value = gate.worse_by.or(gate.value)?;
    let number = |x: f64| number(x, (bound - value).abs());
    Some(match (gate.may_worsen, gate.at_least) {
        (Some(margin), _) if bound < 0.0 => format!(
            "{} is at least {} better in {} (mean {}, {margin} worse allowed)",
            gate.arm,
            number(-bound),
            gate.score,
            number(-value),
        ),
        (Some(margin), _) => format!(
            "{} is at most {} worse in {} (mean {}, {margin} allowed)",
            gate.arm,
            number(bound),
            gate.score,
            number(value),
        ),
        // A score without items, the same under every seed.
        (_, least) if bound == value => format!(
            "{} has {value} in {} ({} asked)",
            gate.arm,
            gate.score,
            least.unwrap_or_default(),
        ),
        (_, least) => format!(
            "{} has at least {} in {} (mean {}, {} asked)",
            gate.arm,
            number(bound),
            gate.score,
            number(value),
            least.unwrap_or_default(),
        ),
    })
}

/// What would settle what is open: of the closest comparison that is not significant.
fn open(decision: &Decision) -> String {
    if decision.status == Status::Decided {
        return String::new();
    }
    let of_baseline = decision.status == Status::NoDecision;
    let candidates = decision.comparisons.iter().filter(|c| {
        (c.than == decision.baseline) == of_baseline
            && c.p_corrected >= super::comparison::ALPHA
            && (c.settled_by.is_some() || c.better_by == 0.0)
    });
    // The most promising arm, or the closest tie.
    let rank = |c: &&Comparison| {
        if of_baseline {
            -c.better_by
        } else {
            c.better_by
        }
    };
    let Some(c) = candidates.min_by(|a, b| rank(a).total_cmp(&rank(b))) else {
        return String::new();
    };
    let pair = format!("between {} and {}", c.arm, c.than);
    let Some(settled) = c.settled_by else {
        return format!("No number of items or seeds would settle a difference of none {pair}.");
    };
    if settled.times_both > MOST {
        return format!(
            "The difference {pair} is so small that {MOST} times the items and seeds would not settle it."
        );
    }
    let mut ways = Vec::new();
    if let Some(clusters) = settled.clusters {
        ways.push(format!(
            "{clusters} clusters of items with {}",
            count(c.seeds, "seed")
        ));
    }
    if let Some(seeds) = settled.seeds {
        ways.push(format!(
            "{seeds} seeds with {}",
            count(c.clusters, "cluster")
        ));
    }
    ways.push(format!("{:.1} times as many of both", settled.times_both));
    format!(
        "A true difference as large as the one seen {pair} would be found with {}.",
        ways.join(", or with ")
    )
}

/// A study so many times as large is out of reach.
const MOST: f64 = 1000.0;

/// A value to two digits of its uncertainty.
pub fn number(value: f64, uncertainty: f64) -> String {
    let scale = if uncertainty > 0.0 {
        uncertainty
    } else {
        value.abs().max(1e-3)
    };
    let decimals = (1.0 - scale.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    // No negative zero.
    match text.trim_start_matches(['-', '0', '.']).is_empty() {
        true => text.trim_start_matches('-').to_string(),
        false => text,
    }
}

/// A p value.
pub fn p(p: f64) -> String {
    if p < 0.001 {
        "below 0.001".into()
    } else {
        format!("{p:.3}")
    }
}

fn say(to: &mut String, text: std::fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = to.write_fmt(text);
}
