//! `harness score`: rows of items, runs that were killed, wrong lines.
mod small;

use serde_json::{Value, json};
use small::Work;
use std::fs;

/// A base with weights, and items of both kinds.
fn work() -> Work {
    let work = Work::new();
    work.save_base("small/base");
    let lines = [
        json!({"id": "a", "context": "the cat sat on", "continuation": " the mat"}),
        json!({"id": 2, "token_ids": [5, 6, 7, 8], "scored_from": 2, "label": "left alone"}),
        json!({"id": null, "context": "", "continuation": "the cat"}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(work.path("items.jsonl"), text).unwrap();
    work
}

const SCORE: [&str; 7] = [
    "score",
    "--checkpoint",
    "small/base",
    "--input",
    "items.jsonl",
    "--output",
    "scores.jsonl",
];

fn rows(work: &Work) -> Vec<Value> {
    let text = fs::read_to_string(work.path("scores.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_row_an_item_in_their_order() {
    let work = work();
    let (code, out, error) = work.run(&SCORE);
    assert_eq!(code, 0, "{error}");
    assert_eq!(out, "scores.jsonl: 3 items\n");
    let rows = rows(&work);
    assert_eq!(
        [&rows[0]["id"], &rows[1]["id"], &rows[2]["id"]],
        [&json!("a"), &json!(2), &Value::Null]
    );
    for row in &rows {
        let scored = row["token_ids"].as_array().unwrap().len()
            - row["scored_from"].as_u64().unwrap() as usize;
        let logprobs = row["logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), scored);
        assert_eq!(row["greedy"].as_array().unwrap().len(), scored);
        assert!(logprobs.iter().all(|x| x.as_f64().unwrap() < 0.0));
        assert!(row.get("rope_override").is_none());
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let work = work();
    work.run(&SCORE);
    let whole = fs::read(work.path("scores.jsonl")).unwrap();
    for keep in [
        0,
        10,
        whole.iter().position(|&b| b == b'\n').unwrap() + 1,
        whole.len() - 1,
    ] {
        fs::write(work.path("scores.jsonl"), &whole[..keep]).unwrap();
        assert_eq!(work.run(&SCORE).0, 0);
        assert_eq!(
            fs::read(work.path("scores.jsonl")).unwrap(),
            whole,
            "cut at {keep}"
        );
    }
}

#[test]
fn rows_of_another_run_are_not_mixed_with_these() {
    let work = work();
    work.run(&SCORE);
    work.replace("items.jsonl", "[5,6,7,8]", "[5,6,7,9]");
    let (code, _, error) = work.run(&SCORE);
    assert_eq!(code, 2);
    assert!(
        error.contains("scores.jsonl: line 2: is of another item"),
        "{error}"
    );
    let other = [&SCORE[..], &["--rope-override", "{ base = 5e5 }"]].concat();
    let (code, _, error) = work.run(&other);
    assert_eq!(code, 2);
    assert!(
        error.contains("line 1: was scored with another checkpoint or RoPE"),
        "{error}"
    );
    fs::remove_file(work.path("scores.jsonl")).unwrap();
    assert_eq!(work.run(&other).0, 0);
    assert_eq!(rows(&work)[0]["rope_override"], true);
}

#[test]
fn a_wrong_line_is_named_before_anything_is_scored() {
    let work = work();
    for (line, words) in [
        ("{\"id\": 1", "line 4: EOF"),
        (
            r#"{"id": 1, "context": "a"}"#,
            "line 4: an item has `context` and `continuation`",
        ),
        (
            r#"{"id": 1, "token_ids": [1, 2], "scored_from": 0}"#,
            "line 4: scored_from = 0",
        ),
        (
            r#"{"id": 1, "token_ids": [1, 99999], "scored_from": 1}"#,
            "line 4: token id 99999",
        ),
        (
            r#"{"id": 1, "context": "a", "continuation": ""}"#,
            "line 4: continuation",
        ),
    ] {
        let before = fs::read_to_string(work.path("items.jsonl")).unwrap();
        work.append("items.jsonl", line);
        let (code, _, error) = work.run(&SCORE);
        assert_eq!(code, 2);
        assert!(
            error.starts_with("error: items.jsonl: ") && error.contains(words),
            "{error}"
        );
        assert!(!work.path("scores.jsonl").exists());
        fs::write(work.path("items.jsonl"), before).unwrap();
    }
}

#[test]
fn a_configuration_with_another_rope_than_was_trained_is_refused_unless_asked_for() {
    let work = work();
    work.replace(
        "small/base/config.json",
        "\"rope_theta\": 10000.0",
        "\"rope_theta\": 20000.0",
    );
    let (code, _, error) = work.run(&SCORE);
    assert_eq!(code, 2);
    assert!(error.contains("--rope-override"), "{error}");
    let (code, _, error) = work.run(&[&SCORE[..], &["--rope-override", "{ base = 2e4 }"]].concat());
    assert_eq!(code, 0, "{error}");
}
