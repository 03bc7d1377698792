//! `harness eval`: whole runs, batches and threads, runs that were killed, the cache, a task of one's own, wrong input.
mod small;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};
use small::Work;
use std::{fs, process::Stdio, time::Duration};

/// Passkey, losses in both protocols, a choice, and a task of one's own.
const SUITE: &str = r#"
[[task]]
kind = "passkey"
name = "passkey"
lengths = [192, 256]
depths = 2
items = 3

[[task]]
kind = "long_loss"
name = "prose"
sources = [{ name = "held_out", paths = ["small/held_out.jsonl"] }]
context = 64
stride = 32
documents = 3
max_tokens = 256

[[task]]
kind = "long_loss"
name = "rolling"
sources = [{ name = "held_out", paths = ["small/held_out.jsonl"] }]
protocol = "rolling"
context = 64
documents = 3
max_tokens = 256
by_position = false

[[task]]
kind = "choice"
name = "cloze"
sources = [{ name = "cloze", paths = ["cloze.jsonl"] }]
context = "Question: {{question}}\nAnswer:"
choices = "choices.text"
labels = "choices.label"
answer = "answerKey"
cluster = "of"

[[task]]
kind = "generate"
name = "own"
sources = [{ name = "own", paths = ["own.jsonl"] }]
prompt = "{{text}} The number is"
expected = "number"
metrics = ["exact_match", "contains", "edit_similarity"]
capture = "[0-9]+"
stop = ["\n"]
max_tokens = 8
"#;

/// A base with weights, the suite and its items.
fn work() -> Work {
    let work = Work::new();
    work.save_base("small/base");
    fs::write(work.path("suite.toml"), SUITE).unwrap();
    let cloze = (0..21).map(|i| {
        json!({"question": format!("What follows number {i}, and what is before it?"), "of": i / 3, "answerKey": "B",
            "choices": {"label": ["A", "B", "C"], "text": [format!("number {}", i + 2), format!("{}", i + 1), "none of them"]}})
    });
    let own = (0..11).map(|i| json!({"text": "a b c. ".repeat(1 + i % 4), "number": i}));
    let lines = |all: &mut dyn Iterator<Item = Value>| {
        all.map(|line| format!("{line}\n")).collect::<String>()
    };
    fs::write(work.path("cloze.jsonl"), lines(&mut { cloze })).unwrap();
    fs::write(work.path("own.jsonl"), lines(&mut { own })).unwrap();
    work
}

/// The command, with results and cache of its own.
fn eval(work: &Work, out: &str, more: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("harness"));
    command
        .current_dir(work.path(""))
        .args(["eval", "small/base", "--suite", "suite.toml", "--out", out])
        .args(more)
        .env_remove("RUST_LOG")
        .env("HARNESS_CACHE", work.path(out).join("cache"));
    command
}

fn run(mut command: std::process::Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn read(work: &Work, out: &str, file: &str) -> String {
    fs::read_to_string(work.path(out).join(file)).unwrap()
}

fn records(work: &Work, out: &str) -> Vec<Value> {
    let text = read(work, out, "records.jsonl");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn scores_do_not_depend_on_batches_threads_or_the_cache() {
    let work = work();
    let (code, table, error) = run(eval(&work, "whole", &[]));
    assert_eq!(code, 0, "{error}");
    assert!(
        error.contains("to be scored: ") && error.contains("; about "),
        "{error}"
    );
    let all = records(&work, "whole");
    assert_eq!(all.len(), 12 + 3 * 3 + 3 + 21 + 11);
    for (metric, task) in [
        ("acc_norm", "cloze"),
        ("contains", "own"),
        ("nats_per_token", "rolling"),
    ] {
        let line = |line: &&str| line.starts_with(task) && line.contains(metric);
        assert!(table.lines().any(|l| line(&l)), "{table}");
    }
    let scores = read(&work, "whole", "scores.csv");
    assert!(
        scores
            .lines()
            .any(|line| line.contains(",cloze,choice,") && line.contains(",bits_per_byte,"))
    );
    // Every item has its time, beside the records.
    let times = read(&work, "whole", "times.jsonl");
    assert_eq!(times.lines().count(), all.len());

    for (out, more, threads) in [
        ("one", ["--batch", "1"], "2"),
        ("three", ["--batch", "3"], "1"),
        ("eight", ["--batch", "8"], "2"),
    ] {
        let mut command = eval(&work, out, &more);
        command.env("RAYON_NUM_THREADS", threads);
        let (code, again, error) = run(command);
        assert_eq!((code, &again), (0, &table), "{error}");
        for file in ["records.jsonl", "scores.csv"] {
            assert_eq!(
                read(&work, out, file),
                read(&work, "whole", file),
                "{out}: {file}"
            );
        }
    }

    // Another folder with the first one's cache: nothing is scored, and the same comes out.
    let mut command = eval(&work, "cached", &[]);
    command.env("HARNESS_CACHE", work.path("whole/cache"));
    let (code, again, error) = run(command);
    assert_eq!((code, &again), (0, &table));
    assert!(
        error.contains(&format!("{} from the cache, 0 to be scored", all.len())),
        "{error}"
    );
    assert_eq!(
        read(&work, "cached", "records.jsonl"),
        read(&work, "whole", "records.jsonl")
    );
    assert_eq!(read(&work, "cached", "times.jsonl"), "");
}

#[test]
fn an_evaluation_that_was_killed_ten_times_gives_the_same_bytes() {
    let work = work();
    work.replace("suite.toml", "items = 3", "items = 40");
    assert_eq!(run(eval(&work, "whole", &["--quiet"])).0, 0);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut sizes = Vec::new();
    for _ in 0..10 {
        let mut command = eval(&work, "killed", &["--quiet"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // From the start on, while it works, while it writes: wherever the time falls.
        let most = Duration::from_millis(u64::from(random.next_u32() % 700));
        std::thread::sleep(most);
        child.kill().unwrap();
        child.wait().unwrap();
        // A write that was cut leaves half a line, which the next run takes away.
        let records = fs::read(work.path("killed/records.jsonl")).unwrap_or_default();
        let whole = records.iter().rposition(|&b| b == b'\n');
        sizes.push(whole.map_or(0, |end| end + 1));
    }
    assert!(sizes.is_sorted(), "records were lost: {sizes:?}");
    let (code, _, error) = run(eval(&work, "killed", &[]));
    assert_eq!(code, 0, "{error}");
    for file in ["records.jsonl", "scores.csv"] {
        assert_eq!(read(&work, "killed", file), read(&work, "whole", file));
    }
}

#[test]
fn a_sweep_takes_the_scores_of_an_evaluation_for_its_base() {
    let work = Work::new();
    work.save_base("small/base");
    work.replace("study.toml", "init = { seed = 0 }\n", "");
    let mut command = work.harness(&[
        "eval",
        "small/base",
        "--suite",
        "small/suite.toml",
        "--out",
        "evaluated",
    ]);
    command.env("HARNESS_CACHE", work.path("cache"));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let evaluated = read(&work, "evaluated", "records.jsonl");

    // A score that nobody would make, so that it is seen where it comes from.
    for entry in fs::read_dir(work.path("cache/scores")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (_, lines) = text.split_once('\n').unwrap();
        let lines = lines.replace("\"exact_match\":0.0", "\"exact_match\":0.625");
        let header = json!({"records": blake3::hash(lines.as_bytes()).to_hex().to_string()});
        fs::write(&path, format!("{header}\n{lines}")).unwrap();
    }
    let mut command = work.harness(&["sweep", "study.toml", "--only", "base"]);
    let output = command
        .env("HARNESS_CACHE", work.path("cache"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let swept = &work.records("results/small")[0].1;
    assert!(swept.ends_with(&evaluated.replace("\"exact_match\":0.0", "\"exact_match\":0.625")));
    assert!(swept.contains("0.625"));
}

#[test]
fn a_folder_belongs_to_one_evaluation() {
    let work = work();
    assert_eq!(run(eval(&work, "out", &["--quiet"])).0, 0);
    let (code, _, error) = run(eval(&work, "out", &["--rope-override", "{ base = 5e5 }"]));
    assert_eq!(code, 2);
    assert!(
        error.contains("out: holds another evaluation (the RoPE, the suite differs)"),
        "{error}"
    );
    work.replace("suite.toml", "max_tokens = 8", "max_tokens = 9");
    let (code, _, error) = run(eval(&work, "out", &[]));
    assert_eq!(code, 2);
    assert!(
        error.contains("(the suite differs); give another --out"),
        "{error}"
    );
    // Without --out every evaluation has a folder of its own.
    let arguments = ["eval", "small/base", "--suite", "suite.toml", "--quiet"];
    assert_eq!(work.run(&arguments).0, 0);
    let folders = fs::read_dir(work.path("results")).unwrap().flatten();
    let names = folders.map(|f| f.file_name().into_string().unwrap());
    assert_eq!(
        names.filter(|name| name.starts_with("eval-suite-")).count(),
        1
    );
}

#[test]
fn wrong_input_is_one_line_before_anything_is_scored() {
    let work = work();
    for (from, to, words) in [
        (
            "{{question}}",
            "{{questions}}",
            "task \"cloze\": cloze.jsonl:1: `context`",
        ),
        (
            "capture = \"[0-9]+\"",
            "capture = \"[0-9\"",
            "`capture` is no regular expression",
        ),
        (
            "answer = \"answerKey\"",
            "answer = \"question\"",
            "none of its labels (A, B, C)",
        ),
        (
            "\"cloze.jsonl\"",
            "\"nothing.jsonl\"",
            "\"nothing.jsonl\" matches no file",
        ),
        (
            "\"cloze.jsonl\"",
            "\"${HARNESS_NO_SUCH}/a.jsonl\"",
            "HARNESS_NO_SUCH is not set",
        ),
        (
            "\"cloze.jsonl\"",
            "\"small/suite.toml\"",
            "rows are read of .jsonl and .parquet",
        ),
        ("protocol = \"rolling\"", "", "has no `stride`"),
        (
            "protocol = \"rolling\"",
            "protocol = \"falling\"",
            "suite.toml:",
        ),
        (
            "max_tokens = 8",
            "max_token = 8",
            "did you mean `max_tokens`?",
        ),
        (
            "metrics = [\"exact_match\"",
            "metrics = [\"exact\"",
            "exact_match",
        ),
    ] {
        let before = fs::read_to_string(work.path("suite.toml")).unwrap();
        work.replace("suite.toml", from, to);
        let (code, _, error) = run(eval(&work, "out", &[]));
        assert_eq!(code, 2, "{to}: {error}");
        assert!(
            error.starts_with("error: ") && error.contains(words),
            "{to}: {error}"
        );
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(!work.path("out").exists());
        fs::write(work.path("suite.toml"), before).unwrap();
    }
    for (more, words) in [
        (["--judge", "small/base"], "no task of the suite takes one"),
        (["--rope-override", "{ scaling = \"yern\" }"], "yern"),
        (["--batch", "0"], "0 is not in 1.."),
    ] {
        let (code, _, error) = run(eval(&work, "out", &more));
        assert!(code == 2 && error.contains(words), "{more:?}: {error}");
    }
}

#[test]
fn a_judge_says_which_tokens_need_the_context_and_without_one_the_task_is_left_out() {
    let work = work();
    let task = "\n[[task]]\nkind = \"long_ppl\"\nname = \"keys\"\ncontext = 48\nshort_context = 8\nstep = 8\n\
                alpha = 0.0\nbeta = -20.0\ndocuments = 2\n\
                sources = [{ name = \"held_out\", paths = [\"small/held_out.jsonl\"] }]\n";
    work.append("suite.toml", task);
    let (code, table, error) = run(eval(&work, "without", &[]));
    assert_eq!(code, 0, "{error}");
    assert!(
        error.contains("task \"keys\": left out, for it has no judge"),
        "{error}"
    );
    assert!(!table.contains("long_ppl"));
    let (code, table, error) = run(eval(&work, "with", &["--judge", "small/base"]));
    assert_eq!(code, 0, "{error}");
    let line = table.lines().find(|line| line.starts_with("keys"));
    assert!(
        line.unwrap()
            .contains("long_ppl short=8 step=8 alpha=0 beta=-20 judge="),
        "{table}"
    );
    let (code, _, error) = run(eval(&work, "other", &["--judge", "nowhere"]));
    assert!(
        code == 2 && error.contains("task \"keys\": judge: "),
        "{error}"
    );
}
