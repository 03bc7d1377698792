use super::*;
use crate::verdict::{ScoreRow, TrialRow, summarise};

fn tables() -> Tables {
    let mut tables = Tables::default();
    for (arm, seed, scores) in [
        ("base", None, [0.95, 0.0]),
        ("rope=plain", Some(0), [0.9, 0.1]),
        ("rope=plain", Some(1), [0.8, 0.3]),
        ("rope=yarn-4", Some(0), [0.9, 0.9]),
        ("rope=yarn-4", Some(1), [0.9, 0.7]),
    ] {
        let trial = format!("{arm},seed={seed:?}");
        tables.trials.push(TrialRow {
            trial: trial.clone(),
            arm: arm.into(),
            axes: arm.into(),
            seed,
            tokens: 1000,
            final_loss: Some(2.5),
            tokens_per_second: Some(10.0),
            status: "done".into(),
            reason: String::new(),
            rope: "abc".into(),
            reduced: false,
        });
        let mut add = |task: &str, protocol: &str, length: u64, metric: &str, value: f64| {
            tables.scores.push(ScoreRow {
                trial: trial.clone(),
                arm: arm.into(),
                seed,
                task: task.into(),
                protocol: protocol.into(),
                length: Some(length),
                position: String::new(),
                metric: metric.into(),
                value,
                standard_error: Some(0.01),
                low: None,
                high: None,
                n: 40,
                rope: "abc".into(),
                reduced: false,
            });
        };
        add("passkey", "passkey", 512, "exact_match", scores[0]);
        add("passkey", "passkey", 2048, "exact_match", scores[1]);
        add("short_loss", "sliding", 256, "nats_per_token", 2.5);
    }
    tables
}

#[test]
fn the_terminal_shows_arms_by_lengths() {
    insta::assert_snapshot!(table(&tables(), &summarise(&tables(), &[]), None), @r"
    arm          done  passkey  passkey  short_loss
                         512 ↑   2048 ↑      nats ↓
    base          1/1    0.950    0.000       2.500
    rope=plain    2/2    0.850    0.200       2.500
    rope=yarn-4   2/2    0.900    0.800       2.500
    ");
}

#[test]
fn files_are_whole_and_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let summary = summarise(&tables(), &[]);
    write(folder.path(), "a study", &tables(), &summary, None).unwrap();
    let (scores, figure) = (read("scores.csv"), read("figure.svg"));
    write(folder.path(), "a study", &tables(), &summary, None).unwrap();
    assert_eq!(
        (read("scores.csv"), read("figure.svg")),
        (scores.clone(), figure.clone())
    );
    assert_eq!(scores.lines().count(), 16);
    assert!(read("summary.csv").contains("rope=plain,passkey,passkey,2048,,exact_match,0.2,"));
    assert!(figure.contains("rope=yarn-4") && figure.contains("prompt length"));
    assert!(!folder.path().join("decision.toml").exists());
    assert!(write(&folder.path().join("none"), "", &tables(), &summary, None).is_err());
}
