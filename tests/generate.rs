//! `harness generate`: texts that follow from their prompt and seed alone.
mod small;

use serde_json::Value;
use small::Work;
use std::fs;

fn work() -> Work {
    let work = Work::new();
    work.save_base("small/base");
    let prompts = [
        r#"{"id": "a", "prompt": "the cat sat on"}"#,
        r#"{"id": "b", "token_ids": [5, 6, 7]}"#,
        r#"{"id": "c", "prompt": "the cat sat on"}"#,
    ];
    fs::write(work.path("prompts.jsonl"), prompts.join("\n")).unwrap();
    work
}

fn generate(work: &Work, more: &[&str]) -> (i32, Vec<Value>, String) {
    let arguments = "generate --checkpoint small/base --input prompts.jsonl --output texts.jsonl --max-new-tokens 12";
    let arguments: Vec<&str> = arguments.split(' ').chain(more.iter().copied()).collect();
    let (code, _, error) = work.run(&arguments);
    let text = fs::read_to_string(work.path("texts.jsonl")).unwrap_or_default();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (code, rows.collect(), error)
}

const WARM: [&str; 8] = [
    "--temperature",
    "1.5",
    "--n",
    "3",
    "--top-k",
    "300",
    "--top-p",
    "0.99",
];

#[test]
fn a_prompts_texts_depend_on_its_id_and_the_seed_alone() {
    let work = work();
    let (code, rows, error) = generate(&work, &WARM);
    assert_eq!(code, 0, "{error}");
    assert_eq!(rows.len(), 3);
    let texts = |row: &Value| row["texts"].as_array().unwrap().clone();
    assert_eq!(texts(&rows[0]).len(), 3);
    assert_ne!(texts(&rows[0])[0], texts(&rows[0])[1]);
    assert_ne!(
        rows[0]["texts"], rows[2]["texts"],
        "another id draws other texts"
    );
    // Killed after the first row, and with another order of the input.
    let whole = fs::read_to_string(work.path("texts.jsonl")).unwrap();
    let first = whole.find('\n').unwrap() + 1;
    fs::write(work.path("texts.jsonl"), &whole[..first + 5]).unwrap();
    assert_eq!(generate(&work, &WARM).0, 0);
    assert_eq!(fs::read_to_string(work.path("texts.jsonl")).unwrap(), whole);
    fs::remove_file(work.path("texts.jsonl")).unwrap();
    let prompts = fs::read_to_string(work.path("prompts.jsonl")).unwrap();
    let turned: Vec<&str> = prompts.lines().rev().collect();
    fs::write(work.path("prompts.jsonl"), turned.join("\n")).unwrap();
    let (_, again, _) = generate(&work, &WARM);
    assert_eq!(again[2], rows[0]);
}

#[test]
fn a_stop_string_ends_a_text_before_it() {
    let work = work();
    let (_, rows, _) = generate(&work, &[]);
    let text = rows[0]["texts"][0]["text"].as_str().unwrap().to_string();
    assert_eq!(rows[0]["texts"][0]["finish"], "length");
    let stop: String = text.chars().skip(3).take(2).collect();
    let (code, _, error) = generate(&work, &["--stop", &stop]);
    assert_eq!(code, 2);
    assert!(
        error.contains("line 1: was made with other options"),
        "{error}"
    );
    fs::remove_file(work.path("texts.jsonl")).unwrap();
    let (code, rows, error) = generate(&work, &["--stop", &stop]);
    assert_eq!(code, 0, "{error}");
    let stopped = &rows[0]["texts"][0];
    assert_eq!(stopped["finish"], "stop");
    assert_eq!(
        stopped["text"].as_str().unwrap(),
        &text[..text.find(&stop).unwrap()]
    );
}

#[test]
fn impossible_options_and_lines_are_refused() {
    let work = work();
    for (more, words) in [
        (vec!["--n", "2"], "need a --temperature"),
        (vec!["--temperature=-1"], "0 or more"),
        (
            vec!["--temperature", "1", "--top-p", "1.5"],
            "above 0 and at most 1",
        ),
        (vec!["--temperature", "1", "--top-k", "0"], "1 or more"),
        (
            vec!["--rope-override", "{ scaling = 'yarn' }"],
            "needs `factor`",
        ),
    ] {
        let (code, rows, error) = generate(&work, &more);
        assert_eq!((code, rows.len()), (2, 0));
        assert!(error.contains(words), "{error}");
    }
    work.append("prompts.jsonl", "\n{\"id\": 1}");
    let (code, _, error) = generate(&work, &[]);
    assert_eq!(code, 2);
    assert!(
        error.contains("prompts.jsonl: line 4: an item has either"),
        "{error}"
    );
}
