//! Decisions on tables made by hand.
use super::*;

/// Arms with passkey scores by seed (and the same for every item), and a loss.
pub(super) fn tables(arms: &[(&str, &[f64], f64)]) -> Tables {
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
                    low: None,
                    high: None,
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
                        position: String::new(),
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

pub(super) fn spec() -> DecisionSpec {
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
        ("yarn", &[0.8, 0.7, 0.75], 3.03),
        ("wild", &[0.9, 0.9, 0.95], 3.5),
    ]);
    let decision = decide("study", &spec(), &tables).unwrap();
    assert_eq!(decision.status, Status::Decided, "{}", decision.why);
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
    assert_eq!(
        (against.arm.as_str(), against.than.as_str()),
        ("yarn", "plain")
    );
    assert!(
        (against.better_by - 0.6).abs() < 1e-9 && against.low.unwrap() > 0.3 && against.is_better()
    );
    insta::assert_snapshot!(decision.why, @"yarn is the recipe: it alone is shown to be better than plain. The gates shut out: wild is at most 0.5033 worse in short.nats_per_token (mean 0.5002, 0.1 allowed). Within the limits: plain is at least 0.0967 better in short.nats_per_token (mean 0.0998, 0.1 worse allowed); yarn is at most 0.0333 worse in short.nats_per_token (mean 0.0302, 0.1 allowed). With the baseline, in passkey.2048.exact_match: yarn (0.75) is better than plain (0.15) by 0.60, 0.35 to 0.85, p 0.009 (3 seeds, 40 items in 40 clusters; could see 0.37). (Intervals are 95 % for one comparison, p is Holm's.)");
}

#[test]
fn who_does_not_beat_the_baseline_is_no_recipe() {
    let even = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.8, 0.5, 0.75], 3.0),
        ("yarn", &[0.5, 0.82, 0.76], 3.0),
    ]);
    let decision = decide("study", &spec(), &even).unwrap();
    assert_eq!(
        (decision.status, decision.recipe),
        (Status::NoDecision, None)
    );
    assert!(
        decision
            .why
            .contains("no arm is shown to be better than plain"),
        "{}",
        decision.why
    );
    assert!(decision.comparisons[0].settled_by.is_some());
    assert!(
        decision.why.contains("would be found with") || decision.why.contains("would not settle"),
        "{}",
        decision.why
    );
    // Worse than the baseline is none, either.
    let below = tables(&[
        ("base", &[0.0], 2.9),
        ("plain", &[0.8, 0.85, 0.9], 3.0),
        ("yarn", &[0.1, 0.15, 0.1], 3.0),
    ]);
    let decision = decide(
        "study",
        &DecisionSpec {
            gates: Vec::new(),
            ..spec()
        },
        &below,
    )
    .unwrap();
    assert_eq!(
        (decision.status, decision.recipe),
        (Status::NoDecision, None)
    );
}

#[test]
fn equals_are_tied_and_the_cheaper_one_is_taken() {
    let mut tied = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 3.0),
        ("ntk", &[0.8, 0.6, 0.75], 3.0),
        ("yarn", &[0.6, 0.8, 0.76], 3.0),
    ]);
    let decision = decide("study", &spec(), &tied).unwrap();
    assert_eq!(decision.status, Status::Tied, "{}", decision.why);
    assert_eq!(
        (decision.recipe.as_deref(), decision.ties.as_slice()),
        (Some("yarn"), &["ntk".to_string()][..])
    );
    for trial in tied.trials.iter_mut().filter(|t| t.arm == "ntk") {
        trial.tokens = 90;
    }
    for trial in tied.trials.iter_mut().filter(|t| t.arm == "yarn") {
        trial.tokens = 100;
    }
    let decision = decide("study", &spec(), &tied).unwrap();
    assert_eq!(
        (decision.status, decision.recipe.as_deref()),
        (Status::Decided, Some("ntk")),
        "{}",
        decision.why
    );
    assert!(
        decision.why.contains("the cheapest of the arms"),
        "{}",
        decision.why
    );
}

#[test]
fn one_seed_decides_nothing() {
    let tables = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1], 3.0),
        ("yarn", &[0.9], 3.0),
    ]);
    let decision = decide("study", &spec(), &tables).unwrap();
    assert!(decision.comparisons[0].is_better());
    assert_eq!(
        (decision.status, decision.recipe),
        (Status::NoDecision, None)
    );
    let said = "No decision: yarn is better than plain in passkey.2048.exact_match on the items, under one seed";
    assert!(decision.why.starts_with(said), "{}", decision.why);
}

#[test]
fn the_cheapest_of_the_ties_may_be_several() {
    let mut tied = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 3.0),
        ("ntk", &[0.8, 0.6, 0.75], 3.0),
        ("pi", &[0.6, 0.78, 0.74], 3.0),
        ("yarn", &[0.6, 0.8, 0.79], 3.0),
    ]);
    for trial in tied.trials.iter_mut().filter(|t| t.arm == "yarn") {
        trial.tokens = 100;
    }
    let decision = decide("study", &spec(), &tied).unwrap();
    assert_eq!(decision.status, Status::Tied, "{}", decision.why);
    assert_eq!(
        (decision.leader.as_deref(), decision.recipe.as_deref()),
        (Some("yarn"), Some("ntk"))
    );
    let said = "Tied: yarn has the best mean of the arms that beat plain, but cannot be told from ntk, pi. With 1 tokens \
                a trial ntk, pi are the cheapest of them, and ntk has the best mean of these.";
    assert!(decision.why.starts_with(said), "{}", decision.why);
}

#[test]
fn the_leader_is_found_on_the_seeds_that_all_have() {
    // Of ntk the third seed failed, under which yarn is at its best.
    let mut tables = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 3.0),
        ("yarn", &[0.6, 0.62, 0.95], 3.0),
        ("ntk", &[0.7, 0.71, 0.72], 3.0),
    ]);
    let gone = |arm: &str, seed: Option<u64>| arm == "ntk" && seed == Some(2);
    tables.scores.retain(|r| !gone(&r.arm, r.seed));
    tables.items.retain(|r| !gone(&r.arm, r.seed));
    let spec = DecisionSpec {
        gates: Vec::new(),
        baseline: None,
        ..spec()
    };
    let decision = decide("study", &spec, &tables).unwrap();
    assert_eq!(decision.leader.as_deref(), Some("ntk"), "{}", decision.why);
}

#[test]
fn nothing_is_decided_too_early() {
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
    let empty = decide("study", &spec(), &Tables::default()).unwrap();
    assert_eq!(empty.status, Status::NoDecision);
}

#[test]
fn lengths_weigh_the_same_whatever_their_items() {
    let row = |length: u64, item: usize, value: f64| ItemRow {
        arm: String::new(),
        seed: None,
        task: "passkey".into(),
        protocol: "passkey".into(),
        length: Some(length),
        position: String::new(),
        item: format!("{length}/{item}"),
        cluster: format!("{length}/{item}"),
        metric: "exact_match".into(),
        value,
        weight: 1.0,
    };
    // 2 items at one length, 8 at the other: all right against all wrong, half against all wrong.
    let of = |short: f64, long: &dyn Fn(usize) -> f64| -> Vec<ItemRow> {
        let short = (0..2).map(|i| row(256, i, short));
        short.chain((0..8).map(|i| row(512, i, long(i)))).collect()
    };
    let (a, b) = (of(1.0, &|i| (i % 2) as f64), of(0.0, &|_| 0.0));
    let found = pair(&a.iter().collect::<Vec<_>>(), &b.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((found.difference.mean, found.means), (0.75, (0.75, 0.0)));
}

#[test]
fn a_share_on_which_all_agree_has_an_interval() {
    let mut all = tables(&[("base", &[1.0], 3.0)]);
    all.scores.retain(|r| r.task == "passkey");
    all.items.retain(|r| r.task == "passkey");
    let summary = summarise(&all, &[]);
    let row = &summary[0];
    assert_eq!(
        (row.mean, row.high, row.interval.as_str(), row.clusters),
        (1.0, Some(1.0), "wilson", 40)
    );
    assert!((0.88..0.95).contains(&row.low.unwrap()), "{row:?}");
    assert_eq!(summarise(&all, &summary), summary);
}

#[test]
fn an_interval_of_shares_stays_within_them() {
    let mut all = tables(&[("base", &[0.0], 3.0)]);
    all.scores.retain(|r| r.task == "passkey");
    all.items.retain(|r| r.task == "passkey");
    all.items[3].value = 0.4;
    all.items[7].value = 0.1;
    let metric = |metric: &str, tables: &mut Tables| {
        tables.scores[0].metric = metric.into();
        tables
            .items
            .iter_mut()
            .for_each(|r| r.metric = metric.into());
        summarise(tables, &[])[0].low.unwrap()
    };
    assert_eq!(metric("pass@1", &mut all), 0.0);
    assert!(metric("nats_per_token", &mut all) < 0.0);
}

#[test]
fn a_metric_of_unknown_direction_asks() {
    let known = ["own.zeal".to_string()];
    let mut spec: DecisionSpec = toml::from_str("best = 'own.zeal'").unwrap();
    let error = spec.check(&[], &known).unwrap_err().to_string();
    assert!(
        error.contains("own.zeal: whether more or less zeal is better is not known"),
        "{error}"
    );
    spec.better = Some(Better::Lower);
    assert!(spec.check(&[], &known).is_ok());
    assert_eq!(Better::of("pass@10"), Some(Better::Higher));
    assert_eq!(Better::of("pass@k"), None);
    for (gate, word) in [
        (
            "{ score = 'own.zeal', better = 'higher' }",
            "either may_worsen or at_least",
        ),
        (
            "{ score = 'own.zeal', may_worsen = -1.0, better = 'higher' }",
            "must be 0 or more",
        ),
        (
            "{ score = 'own.zeal', may_worsen = 1.0, at_least = 1.0, better = 'higher' }",
            "either may_worsen or at_least",
        ),
        (
            "{ score = 'own.zeal', at_least = 1.0, better = 'lower' }",
            "use may_worsen",
        ),
    ] {
        let text = format!("best = 'own.zeal'\nbetter = 'lower'\ngates = [{gate}]");
        let spec: DecisionSpec = toml::from_str(&text).unwrap();
        let error = spec.check(&[], &known).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
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
