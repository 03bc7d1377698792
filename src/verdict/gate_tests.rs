//! What passes a gate, on tables made by hand.
use super::{
    tests::{spec, tables},
    *,
};

#[test]
fn a_gate_asks_for_proof() {
    // In its mean within the margin, in its bound not: seeds differ.
    let mut shaky = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 2.9),
        ("yarn", &[0.8, 0.7, 0.75], 3.05),
    ]);
    for row in shaky
        .items
        .iter_mut()
        .filter(|r| r.arm == "yarn" && r.task == "short")
    {
        row.value += 0.3 * (row.seed.unwrap() as f64 - 1.0);
    }
    let decision = decide("study", &spec(), &shaky).unwrap();
    let gate = decision.gates.iter().find(|g| g.arm == "yarn").unwrap();
    assert!(gate.passed_by_mean && !gate.passed && gate.bound.unwrap() > 0.1);
    assert_eq!(
        (decision.status, decision.recipe),
        (Status::NoDecision, None)
    );
    assert!(
        decision
            .why
            .contains("its mean would pass, its bound does not"),
        "{}",
        decision.why
    );
    // A score that must be reached.
    let reach = |least: f64| DecisionSpec {
        gates: vec![GateSpec {
            score: "passkey.2048.exact_match".into(),
            may_worsen: None,
            at_least: Some(least),
            better: None,
        }],
        ..spec()
    };
    let steady = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 2.9),
        ("yarn", &[0.8, 0.78, 0.79], 3.0),
    ]);
    assert_eq!(
        decide("study", &reach(0.6), &steady)
            .unwrap()
            .recipe
            .as_deref(),
        Some("yarn")
    );
    assert_eq!(decide("study", &reach(0.79), &steady).unwrap().recipe, None);
}

#[test]
fn a_score_without_items_must_be_reached_under_every_seed() {
    let mut tables = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 2.9),
        ("yarn", &[0.8, 0.7, 0.75], 2.9),
    ]);
    let mut rows: Vec<ScoreRow> = tables
        .scores
        .iter()
        .filter(|r| r.task == "passkey")
        .cloned()
        .collect();
    for row in &mut rows {
        (row.length, row.metric) = (None, "effective_context".into());
        row.value = if row.arm == "yarn" { 2048.0 } else { 512.0 };
    }
    tables.scores.extend(rows);
    let spec: DecisionSpec = toml::from_str(
        "best = 'passkey.2048.exact_match'\nbaseline = 'plain'\n\
         gates = [{ score = 'passkey.effective_context', at_least = 2048 }]",
    )
    .unwrap();
    let decision = decide("study", &spec, &tables).unwrap();
    assert_eq!(decision.recipe.as_deref(), Some("yarn"));
    let said = "plain has 512 in passkey.effective_context (2048 asked)";
    assert!(decision.why.contains(said), "{}", decision.why);
    let last = tables
        .scores
        .iter_mut()
        .rev()
        .find(|r| r.arm == "yarn")
        .unwrap();
    last.value = 1024.0;
    let decision = decide("study", &spec, &tables).unwrap();
    assert_eq!(decision.recipe, None, "{}", decision.why);
}

#[test]
fn an_arm_that_cannot_be_held_to_a_gate_does_not_pass() {
    let mut without = tables(&[
        ("base", &[0.0], 3.0),
        ("plain", &[0.1, 0.2, 0.15], 3.0),
        ("yarn", &[0.9, 0.8, 0.85], 3.0),
    ]);
    let short_of_yarn = |arm: &str, task: &str| arm == "yarn" && task == "short";
    without.scores.retain(|r| !short_of_yarn(&r.arm, &r.task));
    without.items.retain(|r| !short_of_yarn(&r.arm, &r.task));
    let decision = decide("study", &spec(), &without).unwrap();
    assert_eq!(decision.recipe, None, "{}", decision.why);
    let said = "yarn cannot be compared with the base: they have no items in common (short.nats_per_token)";
    assert!(decision.why.contains(said), "{}", decision.why);
}
