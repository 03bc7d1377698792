//! A whole suite on a small decoder with random weights, from texts on disk.
use super::super::testing::{decoder, tokenizer};
use super::*;
use crate::evals::{Protocol, RecordLog, SuiteSpec, scores};
use crate::model::generate;
use crate::ops::Env;
use std::fmt::Write;

const SUITE: &str = r#"
[[task]]
kind = "passkey"
name = "passkey"
lengths = [150, 200]
depths = 2
items = 3

[[task]]
kind = "long_loss"
name = "loss"
sources = [{ name = "held out", paths = ["FOLDER/*.txt"] }]
context = 64
stride = 24
documents = 3
max_tokens = 200

[[task]]
kind = "completion"
name = "code"
sources = [{ name = "held out code", paths = ["FOLDER/*.rs"] }]
prefix = 40
items = 5
per_file = 2

[[task]]
kind = "ruler"
name = "needle"
tasks = ["niah_single_1", "niah_multikey_2"]
lengths = [900]
items = 3
answer_tokens = 6
threshold = 0.5

[[task]]
kind = "dialogue"
name = "talk"
tasks = ["fact", "topic", "line"]
sources = [{ name = "turns", paths = ["FOLDER/*.txt"] }]
lengths = [1400]
conversations = 2
"#;

fn suite(folder: &std::path::Path) -> Suite {
    for file in 0..4 {
        let mut prose = String::new();
        let mut code = String::new();
        for i in 0..40 * (file + 1) {
            writeln!(
                prose,
                "Here we go to number {i}, the sky of day {file} is blue."
            )
            .unwrap();
            writeln!(
                code,
                "fn next_{i}(x: u64) -> u64 {{\n    let y = x + {file};\n    y * {i}\n}}"
            )
            .unwrap();
        }
        std::fs::write(folder.join(format!("{file}.txt")), prose).unwrap();
        std::fs::write(folder.join(format!("{file}.rs")), code).unwrap();
    }
    let text = SUITE.replace("FOLDER", &folder.display().to_string());
    Suite::load(
        &SuiteSpec::parse(&text, "suite").unwrap(),
        &tokenizer(),
        None,
    )
    .unwrap()
}

#[test]
fn a_killed_evaluation_gives_the_records_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path());
    let env = Env::cpu();
    let model = decoder(&env);
    let subject = Subject {
        env: &env,
        model: &model,
    };
    let mut last = 0;
    let whole = suite
        .run(&subject, Vec::new(), &mut |_, progress| {
            last = progress.done;
            Ok(())
        })
        .unwrap();
    let items: Vec<&String> = suite.tasks().iter().flat_map(|t| t.items()).collect();
    assert_eq!(whole.iter().map(|r| &r.item).collect::<Vec<_>>(), items);
    assert_eq!(last, items.len());

    // A random model knows no key and spreads its probability.
    for row in scores(&whole)
        .iter()
        .filter(|row| row.depth_or_position.is_none())
    {
        match row.metric.as_str() {
            "exact_match" => assert_eq!(row.value, 0.0),
            "nats_per_token" => assert!(row.value > 4.0, "{row:?}"),
            _ => assert!(row.value >= 0.0),
        }
    }

    // Stopped after any number of records, through the file, what is left runs in other batches.
    let path = folder.path().join("records.jsonl");
    for kept in [
        1,
        5,
        11,
        13,
        14,
        17,
        whole.len() - 10,
        whole.len() - 2,
        whole.len(),
    ] {
        std::fs::remove_file(&path).ok();
        let (mut log, _) = RecordLog::open(&path).unwrap();
        log.append(&whole[..kept]).unwrap();
        drop(log);
        let (mut log, finished) = RecordLog::open(&path).unwrap();
        let again = suite
            .run(&subject, finished, &mut |new, _| log.append(new))
            .unwrap();
        drop(log);
        assert_eq!(again, whole, "after {kept} records");
        assert_eq!(RecordLog::<Record>::open(&path).unwrap().1, whole);
    }
}

#[test]
fn losses_and_answers_are_the_models_own() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path());
    let env = Env::cpu();
    let model = decoder(&env);
    let subject = Subject {
        env: &env,
        model: &model,
    };
    let records = suite.run(&subject, Vec::new(), &mut |_, _| Ok(())).unwrap();
    let log_probs = |ids: &[u32]| generate::log_probs(&env, &model, ids).unwrap();
    let nats = |log_probs: &[f32]| -log_probs.iter().map(|&x| f64::from(x)).sum::<f64>();
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * b, "{a} is not {b}");
    let of = |protocol| records.iter().filter(move |r| r.protocol == protocol);

    let passkey = of(Protocol::Passkey).next_back().unwrap();
    let score = |id: u32| {
        log_probs(&[&passkey.prompt[..], &[id]].concat())
            .pop()
            .unwrap()
    };
    let best = (0..350)
        .max_by(|&a, &b| score(a).total_cmp(&score(b)))
        .unwrap();
    assert_eq!(passkey.output[0], best);
    assert_eq!(passkey.output.len(), 6);

    let tokens = Tokens::new(&tokenizer()).unwrap();
    for record in of(Protocol::NextLine) {
        let file = tokens
            .document(&std::fs::read_to_string(folder.path().join(&record.cluster)).unwrap())
            .unwrap();
        let (prefix, line) = (record.prompt.len(), record.weight as usize);
        let seen = |window: &&[u32]| {
            window[..prefix] == record.prompt
                && tokens.decode(&window[prefix..]).unwrap().trim() == record.expected
        };
        let both = file.windows(prefix + line).find(seen).unwrap();
        let expected = nats(&log_probs(both)[prefix - 1..]) / line as f64;
        close(record.metrics["nats_per_token"], expected);
        assert!(record.output.len() <= 48);
    }

    for record in of(Protocol::Sliding) {
        let ids = &record.prompt;
        let mut sum = nats(&log_probs(&ids[..64]));
        for end in (64 + 24..ids.len() + 24).step_by(24) {
            let (from, to) = (end - 24, end.min(ids.len()));
            sum += nats(&log_probs(&ids[end - 64..to])[64 - 25..64 - 25 + to - from]);
        }
        close(record.metrics["nats_per_token"] * 199.0, sum);
        assert_eq!((ids.len(), record.weight), (200, 199.0));
        let parts: Vec<_> = of(Protocol::Disjoint)
            .filter(|r| r.cluster == record.cluster)
            .collect();
        let disjoint: f64 = ids
            .chunks_exact(64)
            .map(|window| nats(&log_probs(window)))
            .sum();
        close(
            parts
                .iter()
                .map(|r| r.metrics["nats_per_token"] * r.weight)
                .sum(),
            disjoint,
        );
        assert_eq!(parts.iter().map(|r| r.weight).sum::<f64>(), 3.0 * 63.0);
    }
}

#[test]
fn the_texts_of_items_are_what_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let suite = suite(folder.path());
    let texts = suite.texts().unwrap();
    // A document of a loss, a line with its prefix of a completion; needles and what is said are made up.
    for task in suite.tasks() {
        let of_task = texts.iter().filter(|t| t.id.starts_with(task.name()));
        match task.name() {
            "passkey" | "needle" | "talk" => assert_eq!(of_task.count(), 0),
            _ => assert!(of_task.count() > 0, "{}", task.name()),
        }
    }
    let files: String = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for text in texts {
        assert!(files.contains(&text.text), "{}", text.id);
    }
}
