//! `harness sweep`: dry runs, whole runs, runs that are cut short or go wrong.
mod small;

use small::Work;
use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const ALL: [&str; 5] = [
    "base",
    "rope=plain,seed=0",
    "rope=plain,seed=1",
    "rope=yarn-4,seed=0",
    "rope=yarn-4,seed=1",
];

fn names(records: &[(String, String)]) -> Vec<&str> {
    records.iter().map(|(name, _)| name.as_str()).collect()
}

/// A file of a results folder.
fn read(work: &Work, results: &str, file: &str) -> String {
    fs::read_to_string(work.path(results).join(file)).unwrap()
}

/// The sweep in the background.
fn start(work: &Work, arguments: &[&str]) -> Child {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("harness"));
    command
        .current_dir(work.path(""))
        .args(["sweep", "study.toml"])
        .args(arguments)
        .env_remove("HARNESS_CACHE");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until `is` holds, at most a minute.
fn wait_until(mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not come");
        sleep(Duration::from_millis(20));
    }
}

/// Processes of the program that work in this folder.
fn workers(work: &Work) -> Vec<i32> {
    let folder = fs::canonicalize(work.path("")).unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let here = |id: &i32| {
        let cwd = fs::read_link(format!("/proc/{id}/cwd"));
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        cwd.is_ok_and(|cwd| cwd == folder) && line.contains("--key")
    };
    ids.filter(here).collect()
}

fn signal(process: i32, signal: libc::c_int) {
    // SAFETY: sends a signal to a process that this test started.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

/// A study whose trials take some seconds each.
fn long_study() -> Work {
    let work = Work::new();
    work.replace("study.toml", "tokens = 5120", "tokens = \"120k\"");
    work.replace("study.toml", "seeds = [0, 1]", "seeds = [0]");
    work
}

#[test]
fn a_dry_run_shows_trials_and_costs_and_starts_nothing() {
    let work = Work::new();
    let (code, out, error) = work.run(&["sweep", "study.toml", "--dry-run"]);
    assert_eq!((code, error.as_str()), (0, ""));
    insta::with_settings!({filters => vec![
        (r"[0-9a-f]{16}", "[key]"),
        (r" +\d+ s ", " [time] "),
        (r"about [0-9.]+ minutes", "about [time] minutes"),
        (r"time: at .*", "time: at [speed]"),
    ]}, {
        insta::assert_snapshot!(out, @r#"
        small, to results/small
         key               name                status   tokens  scored   FLOPs  time  memory
         [key]  base                waiting       0    3952  3.72e8 [time]  65 MiB
         [key]  rope=plain,seed=0   waiting    5120    3952  1.44e9 [time]  65 MiB
         [key]  rope=plain,seed=1   waiting    5120    3952  1.44e9 [time]  65 MiB
         [key]  rope=yarn-4,seed=0  waiting    5120    3952  1.44e9 [time]  65 MiB
         [key]  rope=yarn-4,seed=1  waiting    5120    3952  1.44e9 [time]  65 MiB
        5 trials: 20480 tokens, 6.14e9 FLOPs, about [time] minutes
        time: at [speed]
        "#);
    });
    let (code, out, _) = work.run(&["sweep", "study.toml", "--dry-run", "--json", "--reduced"]);
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, all["reduced"].as_bool()), (0, Some(true)));
    assert_eq!(all["study"], "small-reduced");
    let trials = all["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3);
    assert_eq!(trials[1]["cost"]["train_tokens"], 512);
    assert!(trials[1]["cost"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(trials[1]["seconds"].as_f64().unwrap() > 0.0);
    assert!(!work.path("results").exists());
}

#[test]
fn a_sweep_gives_the_same_bytes_however_it_is_run() {
    let work = Work::new();
    let (code, _, error) = work.run(&["sweep", "study.toml"]);
    assert_eq!(code, 0, "{error}");
    let records = work.records("results/small");
    let scores = read(&work, "results/small", "scores.csv");
    assert_eq!(names(&records), ALL);
    // Every arm and seed gives something else.
    for (i, (_, one)) in records.iter().enumerate() {
        assert!(records[..i].iter().all(|(_, other)| one != other));
    }

    // Again: nothing to do.
    let (code, _, error) = work.run(&["sweep", "study.toml"]);
    assert_eq!(code, 0);
    assert!(
        error.contains("5 trials, 5 done") && !error.contains("starts"),
        "{error}"
    );

    for (threads, jobs, out) in [("1", "1", "one"), ("2", "2", "two")] {
        let arguments = ["sweep", "study.toml", "--out", out, "--jobs", jobs];
        let mut command = work.harness(&arguments);
        assert!(
            command
                .env("RAYON_NUM_THREADS", threads)
                .env("HARNESS_CACHE", work.path(out).join("scores"))
                .output()
                .unwrap()
                .status
                .success()
        );
        assert_eq!(work.records(out), records);
        assert_eq!(read(&work, out, "scores.csv"), scores);
    }
}

#[test]
fn a_sweep_leaves_its_tables_figure_and_decision() {
    let work = Work::new();
    work.append(
        "study.toml",
        "\n[decision]\nbest = \"prose.nats_per_token\"\n\
         gates = [{ score = \"passkey.192.exact_match\", may_worsen = 0.1 }]\n",
    );
    let template = "{{ messages }}";
    fs::write(work.path("small/base/chat_template.jinja"), template).unwrap();
    let (code, out, error) = work.run(&["sweep", "study.toml"]);
    assert_eq!(code, 0, "{error}");
    for trial in fs::read_dir(work.path("results/small/trials")).unwrap() {
        let checkpoint = trial.unwrap().path().join("checkpoint");
        // The base's own trial has none.
        if checkpoint.exists() {
            let its = fs::read_to_string(checkpoint.join("chat_template.jinja")).unwrap();
            assert_eq!(its, template);
        }
    }
    let (table, printed_why) = out.split_once("\n\n").unwrap();
    insta::assert_snapshot!(table, @r"
    arm          done  passkey  passkey   prose
                         192 ↑    256 ↑  nats ↓
    base          1/1    0.000    0.000   5.985
    rope=plain    2/2    0.000    0.000   5.355
    rope=yarn-4   2/2    0.000    0.000   5.354
    ");
    assert!(out.lines().all(|line| line == line.trim_end()), "{out}");
    let file = |name: &str| read(&work, "results/small", name);
    let rows = |name: &str| file(name).lines().count() - 1;
    assert_eq!(rows("trials.csv"), ALL.len());
    // Passkey: 2 lengths at 2 depths, a mean for each length, one over all. Losses: 2 metrics, by sliding
    // windows and at 2 ranges of positions.
    assert_eq!(rows("scores.csv"), ALL.len() * (7 + 6));
    assert_eq!(rows("summary.csv"), 3 * (7 + 6));
    let decision: toml::Table = file("decision.toml").parse().unwrap();
    assert_eq!(decision["why"].as_str(), Some(printed_why.trim_end()));
    assert_eq!(decision["status"].as_str(), Some("no_decision"));
    for text in ["rope=plain", "rope=yarn-4", "\n192\n", "\n256\n"] {
        assert!(file("figure.svg").contains(text), "{text}");
    }
}

#[test]
fn a_reduced_run_has_results_of_its_own() {
    let work = Work::new();
    assert_eq!(work.run(&["sweep", "study.toml", "--reduced"]).0, 0);
    assert!(!work.path("results/small").exists());
    let names_of_reduced = work.records("results/small-reduced");
    assert_eq!(
        names(&names_of_reduced),
        ["base", "rope=plain,seed=0", "rope=yarn-4,seed=0"]
    );
    let (code, _, error) = work.run(&["sweep", "study.toml", "--out", "results/small-reduced"]);
    assert_eq!(code, 2);
    assert!(error.contains("reduced was true, is now false"), "{error}");
}

#[test]
fn only_what_is_named_runs() {
    let work = Work::new();
    assert_eq!(
        work.run(&["sweep", "study.toml", "--only", "*yarn*seed=1"])
            .0,
        0
    );
    assert_eq!(
        names(&work.records("results/small")),
        ["rope=yarn-4,seed=1"]
    );
}

#[test]
fn a_trial_that_diverges_leaves_its_reason_and_the_others_go_on() {
    let work = Work::new();
    work.replace("study.toml", "seeds = [0, 1]", "seeds = [0]");
    work.append(
        "study.toml",
        "\n[[axis]]\nkey = \"optimizer.lr\"\nvalues = [1e6, 1e-3]\n",
    );
    let (code, _, error) = work.run(&["sweep", "study.toml"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("failed: diverged at step"), "{error}");
    let done = [
        "base",
        "rope=plain,lr=0.001,seed=0",
        "rope=yarn-4,lr=0.001,seed=0",
    ];
    assert_eq!(names(&work.records("results/small")), done);
    let failures = || {
        let folders = fs::read_dir(work.path("results/small/trials"))
            .unwrap()
            .flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
        let names = files.map(|file| file.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("failure")).collect();
        names.sort();
        names
    };
    assert_eq!(failures(), ["failure-1.json"; 2]);
    // A failure stays one until it is to be tried again.
    assert_eq!(work.run(&["sweep", "study.toml"]).0, 1);
    assert_eq!(failures(), ["failure-1.json"; 2]);
    assert_eq!(work.run(&["sweep", "study.toml", "--retry-failed"]).0, 1);
    let twice = [
        "failure-1.json",
        "failure-1.json",
        "failure-2.json",
        "failure-2.json",
    ];
    assert_eq!(failures(), twice);
}

#[test]
fn a_sweep_that_was_killed_goes_on_to_the_same_bytes() {
    let work = long_study();
    // What was killed may not take the scores of what was not.
    let mut command = work.harness(&["sweep", "study.toml", "--out", "whole"]);
    let command = command.env("HARNESS_CACHE", work.path("whole-cache"));
    assert!(command.output().unwrap().status.success());
    let whole = work.records("whole");
    let scores = read(&work, "whole", "scores.csv");
    assert_eq!(whole.len(), 3);
    // Moments that differ in kind: before the first step, within training, between trials.
    for milliseconds in [60, 400, 900, 1700] {
        let mut sweep = start(&work, &["--jobs", "2"]);
        sleep(Duration::from_millis(milliseconds));
        sweep.kill().unwrap();
        sweep.wait().unwrap();
        wait_until(|| workers(&work).is_empty());
    }
    let (code, _, error) = work.run(&["sweep", "study.toml"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(work.records("results/small"), whole);
    assert_eq!(read(&work, "results/small", "scores.csv"), scores);
}

#[test]
fn ctrl_c_ends_the_workers_and_is_no_failure() {
    let work = long_study();
    let mut sweep = start(&work, &[]);
    wait_until(|| !workers(&work).is_empty());
    signal(sweep.id().try_into().unwrap(), libc::SIGINT);
    assert_eq!(sweep.wait().unwrap().code(), Some(130));
    wait_until(|| workers(&work).is_empty());
    let (_, out, _) = work.run(&["status", "results/small"]);
    assert!(!out.contains("failed"), "{out}");
    assert_eq!(work.run(&["sweep", "study.toml"]).0, 0);
}

#[test]
fn a_worker_that_is_killed_three_times_has_failed() {
    let work = long_study();
    let mut sweep = start(&work, &["--only", "rope=plain*"]);
    let mut killed = Vec::new();
    wait_until(|| {
        if let Some(&worker) = workers(&work).iter().find(|id| !killed.contains(*id)) {
            killed.push(worker);
            signal(worker, libc::SIGKILL);
        }
        killed.len() == 3
    });
    assert_eq!(sweep.wait().unwrap().code(), Some(1));
    let (_, out, _) = work.run(&["status", "results/small"]);
    assert!(out.contains("ended by signal 9"), "{out}");
    assert_eq!(work.run(&["sweep", "study.toml", "--retry-failed"]).0, 0);
}

#[test]
fn scores_of_a_text_that_changed_while_a_trial_trained_are_not_published() {
    let work = long_study();
    let text = fs::read_to_string(work.path("small/held_out.jsonl")).unwrap();
    let mut sweep = start(&work, &["--only", "rope=plain*"]);
    let trials = work.path("results/small/trials");
    let file = |name: &str| {
        let folders = fs::read_dir(&trials).into_iter().flatten().flatten();
        let mut files = folders.map(|folder| folder.path().join(name));
        files.find(|path| path.exists())
    };
    let trains = |path: PathBuf| fs::read_to_string(path).is_ok_and(|said| said.contains("train"));
    wait_until(|| file("progress.json").is_some_and(trains));
    let other = text.replace(" the ", " a ");
    fs::write(work.path("small/held_out.jsonl"), other).unwrap();
    assert_eq!(sweep.wait().unwrap().code(), Some(1));
    let failure = fs::read_to_string(file("failure-1.json").unwrap()).unwrap();
    assert!(
        failure.contains("texts of its evaluations changed"),
        "{failure}"
    );
    // What it had learnt is not lost.
    assert!(file("snapshot.safetensors").is_some());
    fs::write(work.path("small/held_out.jsonl"), text).unwrap();
    let again = [
        "sweep",
        "study.toml",
        "--only",
        "rope=plain*",
        "--retry-failed",
    ];
    let (code, _, error) = work.run(&again);
    assert_eq!(code, 0, "{error}");
    let whole = long_study();
    assert_eq!(whole.run(&again).0, 0);
    assert_eq!(
        work.records("results/small"),
        whole.records("results/small")
    );
}

#[test]
fn a_cache_of_scores_that_cannot_be_written_fails_nothing() {
    let work = Work::new();
    let mut command = work.harness(&["sweep", "study.toml", "--only", "rope=plain,seed=0"]);
    let output = command
        .env("HARNESS_CACHE", "/proc/nothing")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
}
