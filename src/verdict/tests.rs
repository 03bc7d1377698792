//! The statistics against numbers made elsewhere (`tests/golden/statistics.py`), and decisions on tables
//! made by hand.
use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/statistics.json")).unwrap()
}

fn close(got: f64, want: &Value, what: &str) {
    let want = want.as_f64().unwrap();
    assert!(
        (got - want).abs() <= 1e-8 * want.abs().max(1.0),
        "{what}: {got} {want}"
    );
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn differences<'a>(cells: &[Vec<f64>], names: &'a [String]) -> Vec<Difference<'a>> {
    let row = |(seed, row): (usize, &Vec<f64>)| {
        let cell = |(item, &value): (usize, &f64)| Difference {
            seed: seed as u64,
            item: &names[item],
            cluster: &names[item],
            value,
            weight: 1.0,
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>()
    };
    cells.iter().enumerate().flat_map(row).collect()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("item {i}")).collect()
}

#[test]
fn intervals_and_p_values_are_scipys() {
    let golden = golden();
    let case = &golden["seeds"];
    let estimate = mean_interval(&numbers(&case["values"])).unwrap();
    close(estimate.mean, &case["mean"], "mean");
    close(estimate.interval().unwrap().0, &case["low"], "low");
    close(estimate.interval().unwrap().1, &case["high"], "high");
    close(estimate.p(), &case["p"], "p");
    assert_eq!(mean_interval(&[1.0]), None);
    let case = &golden["holm"];
    for (got, want) in holm(&numbers(&case["p"]))
        .iter()
        .zip(case["corrected"].as_array().unwrap())
    {
        close(*got, want, "holm");
    }
}

#[test]
fn a_crossed_difference_is_the_two_way_layouts() {
    let case = &golden()["crossed"];
    let cells: Vec<Vec<f64>> = case["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    let names = names(cells[0].len());
    let estimate = paired_difference(&differences(&cells, &names)).unwrap();
    close(estimate.mean, &case["mean"], "mean");
    close(
        estimate.standard_error,
        &case["standard_error"],
        "standard error",
    );
    close(estimate.df, &case["df"], "df");
    close(estimate.interval().unwrap().0, &case["low"], "low");
    close(
        estimate.detectable().unwrap(),
        &case["detectable"],
        "detectable",
    );
    // One seed alone is a paired t test over the items.
    let one = paired_difference(&differences(&cells[..1], &names)).unwrap();
    close(one.p(), &case["one_seed_p"], "one seed");
    // An item that is missing under a seed cannot be paired.
    let mut torn = differences(&cells, &names);
    torn.pop();
    assert_eq!(paired_difference(&torn), None);
}

#[test]
fn weights_and_clusters_count() {
    let names = names(3);
    let of = |item: usize, cluster: usize, value: f64, weight: f64| Difference {
        seed: 0,
        item: &names[item],
        cluster: &names[cluster],
        value,
        weight,
    };
    let estimate =
        paired_difference(&[of(0, 0, 1.0, 1.0), of(1, 0, 2.0, 2.0), of(2, 1, 5.0, 1.0)]).unwrap();
    assert_eq!(estimate.mean, 2.5);
    // Linearised: 2.5 ± 2 · 2.5 / 4 for the two clusters.
    assert_eq!((estimate.clusters, estimate.standard_error), (2, 1.25));
    // The same difference everywhere has no error, whatever the weights; p is the sign test's.
    let same = paired_difference(&[of(0, 0, 1.0, 1.0), of(1, 1, 1.0, 9.0), of(2, 2, 1.0, 1.0)]);
    let same = same.unwrap();
    assert_eq!((same.mean, same.interval(), same.p()), (1.0, None, 0.25));
}

#[test]
fn the_interval_covers_the_truth() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let names = names(40);
    let mut covered = 0;
    for _ in 0..1000 {
        let seeds: Vec<f64> = (0..3).map(|_| 0.05 * normal()).collect();
        let items: Vec<f64> = (0..40).map(|_| 0.3 * normal()).collect();
        let cells: Vec<Vec<f64>> = seeds
            .iter()
            .map(|s| items.iter().map(|i| 0.2 + s + i + 0.4 * normal()).collect())
            .collect();
        let (low, high) = paired_difference(&differences(&cells, &names))
            .unwrap()
            .interval()
            .unwrap();
        covered += usize::from(low <= 0.2 && 0.2 <= high);
    }
    assert!((920..=990).contains(&covered), "{covered} of 1000");
}

/// Arms with passkey scores by seed (and the same for every item), and a loss.
fn tables(arms: &[(&str, &[f64], f64)]) -> Tables {
    let mut tables = Tables::default();
    for (arm, scores, loss) in arms {
        for (seed, &score) in scores.iter().enumerate() {
            let seed = (*arm != "base").then_some(seed as u64);
            tables.trials.push(TrialRow {
                trial: format!("{arm}{seed:?}"),
                arm: arm.to_string(),
                axes: format!("rope={arm}"),
                seed,
                tokens: 1,
                final_loss: None,
                tokens_per_second: None,
                status: "done".into(),
                reason: String::new(),
                rope: String::new(),
                reduced: false,
            });
            let mut add = |task: &str, protocol: &str, length, metric: &str, value: f64| {
                tables.scores.push(ScoreRow {
                    trial: format!("{arm}{seed:?}"),
                    arm: arm.to_string(),
                    seed,
                    task: task.into(),
                    protocol: protocol.into(),
                    length,
                    position: String::new(),
                    metric: metric.into(),
                    value,
                    standard_error: None,
                    n: 40,
                    rope: String::new(),
                    reduced: false,
                });
                for item in 0..40 {
                    let ripple = ((item * 7 + seed.unwrap_or(0) * 3) % 11) as f64 / 100.0 - 0.05;
                    tables.items.push(ItemRow {
                        arm: arm.to_string(),
                        seed,
                        task: task.into(),
                        protocol: protocol.into(),
                        length,
                        item: format!("{task} {item}"),
                        cluster: format!("{item}"),
                        metric: metric.into(),
                        value: value + if *arm == "base" { 0.0 } else { ripple },
                        weight: 1.0,
                    });
                }
            };
            add("passkey", "passkey", Some(2048), "exact_match", score);
            add("short", "sliding", Some(256), "nats_per_token", *loss);
        }
    }
    tables
}

fn spec() -> DecisionSpec {
    toml::from_str(
        "best = 'passkey.2048.exact_match'\nbaseline = 'plain'\n\
         gates = [{ score = 'short.nats_per_token', may_worsen = 0.1 }]",
    )
    .unwrap()
}

#[test]
fn the_best_arm_that_passes_the_gates_is_the_recipe() {
    let tables = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 2.9),
        ("yarn", &[0.8, 0.7, 0.75], 3.05),
        ("wild", &[0.9, 0.9, 0.95], 3.5),
    ]);
    let decision = decide("study", &spec(), &tables).unwrap();
    assert_eq!(decision.status, Status::Decided);
    assert_eq!(decision.recipe.as_deref(), Some("yarn"));
    assert_eq!(decision.axes, "rope=yarn");
    let shut: Vec<&str> = decision
        .gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| g.arm.as_str())
        .collect();
    assert_eq!(shut, ["wild"]);
    let against = &decision.comparisons[0];
    assert_eq!(against.arm, "plain");
    assert!(
        (against.better_by - 0.6).abs() < 1e-9 && against.low.unwrap() > 0.3 && against.p < 0.05
    );
    assert!(decision.why.contains("shut out wild") && decision.why.contains("better by 0.600"));
}

#[test]
fn what_cannot_be_told_apart_is_a_tie_and_nothing_is_no_decision() {
    let same: [f64; 3] = [0.8, 0.5, 0.75];
    let close: [f64; 3] = [0.5, 0.8, 0.74];
    let tied = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &same, 3.0),
        ("yarn", &close, 3.0),
    ]);
    let decision = decide("study", &spec(), &tied).unwrap();
    assert_eq!((decision.status, decision.ties.len()), (Status::Tied, 1));
    assert!(
        decision.why.contains("cannot be told from yarn"),
        "{}",
        decision.why
    );
    let worse = tables(&[("base", &[0.0], 3.0), ("plain", &same, 3.4)]);
    let decision = decide("study", &spec(), &worse).unwrap();
    assert_eq!(
        (decision.status, decision.recipe),
        (Status::NoDecision, None)
    );
    let mut half = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2], 3.0),
        ("yarn", &[0.9, 0.8], 3.0),
    ]);
    half.trials[4].status = "waiting".into();
    let decision = decide("study", &spec(), &half).unwrap();
    assert_eq!(
        (decision.status, decision.recipe),
        (Status::NoDecision, None)
    );
    assert!(
        decision.why.contains("1 of 5 trials have not run"),
        "{}",
        decision.why
    );
    let baseless = tables(&[("plain", &[0.1, 0.2], 3.0), ("yarn", &[0.9, 0.8], 3.0)]);
    let decision = decide("study", &spec(), &baseless).unwrap();
    assert!(decision.recipe.is_none() && decision.why.contains("no gate can be held"));
    let below = tables(&[
        ("plain", &[0.8, 0.85, 0.9], 3.0),
        ("yarn", &[0.1, 0.15, 0.1], 3.0),
        ("base", &[0.0], 2.9),
    ]);
    let only_yarn = DecisionSpec {
        gates: vec![GateSpec {
            score: "passkey.2048.exact_match".into(),
            may_worsen: 0.0,
        }],
        ..spec()
    };
    assert_eq!(
        decide("study", &only_yarn, &below).unwrap().status,
        Status::Decided
    );
    let empty = decide("study", &spec(), &Tables::default()).unwrap();
    assert_eq!(empty.status, Status::NoDecision);
}

#[test]
fn a_decision_on_nothing_is_named() {
    let tables = tables(&[("base", &[0.0], 3.0), ("plain", &[0.5], 3.0)]);
    for (best, word) in [
        ("passkey.4096.exact_match", "passkey.2048.exact_match"),
        ("passkey", "task.metric"),
        ("passkey.x.y", "task.metric"),
    ] {
        let spec = DecisionSpec {
            best: best.into(),
            ..spec()
        };
        let error = decide("study", &spec, &tables).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let known = ["passkey.2048.exact_match", "short.nats_per_token"].map(String::from);
    assert!(spec().check(&["plain"], &known).is_ok());
    let error = spec().check(&["yarn"], &known).unwrap_err().to_string();
    assert!(
        error.contains("\"plain\" is no arm; there are yarn"),
        "{error}"
    );
    let error = spec()
        .check(&["plain"], &known[..1])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no score is named short.nats_per_token"),
        "{error}"
    );
}
