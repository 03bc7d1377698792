//! `harness status`.
mod small;

use small::Work;
use std::process::Command;

#[test]
fn shows_every_trial_and_where_it_stands() {
    let work = Work::new();
    work.replace("study.toml", "seeds = [0, 1]", "seeds = [0]");
    work.append(
        "study.toml",
        "\n[[axis]]\nkey = \"optimizer.lr\"\nvalues = [1e-3, 1e6]\n",
    );
    assert_eq!(
        work.run(&["--quiet", "sweep", "study.toml", "--only", "*plain*"])
            .0,
        1
    );
    let (code, out, error) = work.run(&["status", "results/small"]);
    assert_eq!((code, error.as_str()), (0, ""));
    insta::with_settings!({filters => vec![
        (r"[0-9a-f]{16}", "[key]"),
        (r"loss [0-9.]+", "loss [loss]"),
        (r"diverged at step .*", "diverged at step [what]"),
        (r" +\n", "\n"),
    ]}, {
        insta::assert_snapshot!(out, @r#"
        key               name                         status   progress
        [key]  base                         waiting
        [key]  rope=plain,lr=0.001,seed=0   done     final loss [loss]
        [key]  rope=plain,lr=1e6,seed=0     failed   diverged at step [what]
        [key]  rope=yarn-4,lr=0.001,seed=0  waiting
        [key]  rope=yarn-4,lr=1e6,seed=0    waiting
        "#);
    });
    let (code, out, _) = work.run(&["status", "results/small", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let states: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["status"].as_str().unwrap())
        .collect();
    assert_eq!(code, 0);
    assert_eq!(states, ["waiting", "done", "failed", "waiting", "waiting"]);
}

#[test]
fn another_folder_is_no_results_folder() {
    let work = Work::new();
    let (code, _, error) = work.run(&["status", "small"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(error.trim_end(), @"error: small/manifest.toml: No such file or directory (os error 2); is this a results folder of `harness sweep`?");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let work = Work::new();
    for arguments in [
        &["sweep", "study.toml", "--dry-run"][..],
        &["prepare", "study.toml", "--report"],
        &["sweep", "study.toml", "--only", "base"],
        &["status", "results/small"],
    ] {
        let closed = || std::io::pipe().unwrap().1;
        let harness = || {
            let mut command = Command::new(assert_cmd::cargo::cargo_bin!("harness"));
            command.current_dir(work.path("")).args(arguments);
            command.stdout(closed());
            command
        };
        let output = harness().output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        let status = harness().stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}
