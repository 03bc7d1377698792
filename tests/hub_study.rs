//! Studies whose base, data and evaluation come from a hub on this machine.
mod loopback;
mod small;

use loopback::{Fault, Hub};
use small::Work;
use std::fs;

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const BASE: &str = "models/org/base";
const TEXTS: &str = "datasets/org/texts";

/// The small study with its files on a hub: base, prose and held-out texts.
fn study() -> (Work, Hub) {
    let (work, hub) = (Work::new(), Hub::start());
    let bytes = |file: &str| fs::read(work.path("small").join(file)).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        hub.add(BASE, FIRST, name, &bytes(&format!("base/{name}")), false);
    }
    hub.add(
        TEXTS,
        FIRST,
        "data/prose.jsonl",
        &bytes("prose.jsonl"),
        true,
    );
    hub.add(
        TEXTS,
        FIRST,
        "held_out.jsonl",
        &bytes("held_out.jsonl"),
        false,
    );
    hub.point(BASE, "main", FIRST).point(TEXTS, "main", FIRST);
    work.replace("study.toml", "path = \"small/base\"", "hub = \"org/base\"");
    work.replace(
        "study.toml",
        "paths = [\"small/prose.jsonl\"]",
        "hub = \"org/texts\"\nfiles = \"data/*.jsonl\"",
    );
    work.replace(
        "small/suite.toml",
        "paths = [\"small/held_out.jsonl\"]",
        "hub = \"org/texts\", files = \"held_out.jsonl\"",
    );
    (work, hub)
}

/// Runs the program with this hub, and no other environment of hubs.
fn run(work: &Work, hub: &Hub, arguments: &[&str], more: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = work.harness(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_")) {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", work.path("hf"))
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("NO_PROXY", "127.0.0.1")
        .envs(more.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.replace(&work.path("").display().to_string(), "WORK/")
    };
    let code = output.status.code().unwrap_or(-1);
    (code, text(&output.stdout), text(&output.stderr))
}

fn keys(work: &Work, results: &str) -> Vec<String> {
    let folders = fs::read_dir(work.path(results).join("trials")).unwrap();
    let mut keys: Vec<String> = folders
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    keys.sort();
    keys
}

const OFFLINE: [(&str, &str); 1] = [("HF_HUB_OFFLINE", "1")];

#[test]
fn a_sweep_takes_from_the_hub_what_it_needs_and_stays_with_its_commits() {
    let (work, hub) = study();
    let (code, _, error) = run(&work, &hub, &["sweep", "study.toml"], &[]);
    assert_eq!(code, 0, "{error}");
    // Contents decide what a trial is, not where they come from.
    let local = Work::new();
    assert_eq!(local.run(&["sweep", "study.toml"]).0, 0);
    assert_eq!(keys(&work, "results/small"), keys(&local, "results/small"));
    assert_eq!(
        work.records("results/small"),
        local.records("results/small")
    );
    // The commits are recorded.
    for folder in fs::read_dir(work.path("results/small/trials")).unwrap() {
        let folder = folder.unwrap().path();
        let trial: toml::Table = fs::read_to_string(folder.join("trial.toml"))
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(trial["base"]["hub"].as_str(), Some("org/base"));
        assert_eq!(trial["base"]["revision"].as_str(), Some(FIRST));
        let result = fs::read_to_string(folder.join("result.json")).unwrap();
        let result: serde_json::Value = serde_json::from_str(&result).unwrap();
        let expected = [
            format!("datasets/org/texts@{FIRST}"),
            format!("org/base@{FIRST}"),
        ];
        assert_eq!(result["hub"], serde_json::json!(expected));
    }
    // The workers asked for nothing: what was asked for was asked for once.
    assert_eq!(hub.requests("/resolve/").len(), 4);

    // The branch moves on; these results stay with their commits, and ask nobody.
    hub.add(BASE, SECOND, "config.json", b"{}", false);
    hub.add(BASE, SECOND, "tokenizer.json", b"{}", false);
    hub.point(BASE, "main", SECOND);
    let (code, _, error) = run(&work, &hub, &["sweep", "study.toml"], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("5 trials, 5 done"), "{error}");
    assert!(hub.requests("").is_empty());
    // Others take the new one, which is no model.
    let (code, _, error) = run(&work, &hub, &["sweep", "study.toml", "--out", "other"], &[]);
    assert_eq!(code, 2);
    assert!(
        error.contains(
            "error: study.toml:6: base.hub: checkpoint WORK/hf/hub/models--org--base/snapshots/2222"
        ),
        "{error}"
    );
}

#[test]
fn what_was_fetched_ahead_is_all_that_a_job_without_a_network_needs() {
    let (work, hub) = study();
    let offline = |arguments: &[&str]| run(&work, &hub, arguments, &OFFLINE);
    insta::assert_snapshot!(offline(&["sweep", "study.toml"]).2, @"error: org/base@main: is not in the cache WORK/hf/hub/models--org--base; without HF_HUB_OFFLINE, where there is a network, run `harness fetch org/base`, or `harness fetch` with the study");
    insta::assert_snapshot!(offline(&["fetch", "study.toml"]).2, @"error: HF_HUB_OFFLINE is set, and fetching needs the network; unset it");
    let (code, out, error) = run(&work, &hub, &["fetch", "study.toml"], &[]);
    assert_eq!(code, 0, "{error}");
    insta::assert_snapshot!(out, @"org/base@main is commit 1111111111111111111111111111111111111111, in WORK/hf/hub/models--org--base/snapshots/1111111111111111111111111111111111111111
datasets/org/texts@main is commit 1111111111111111111111111111111111111111, in WORK/hf/hub/datasets--org--texts/snapshots/1111111111111111111111111111111111111111");
    let asked = hub.requests("").len();
    assert!(asked > 0);
    let (code, _, error) = offline(&["sweep", "study.toml"]);
    assert_eq!(code, 0, "{error}");
    assert!(hub.requests("").is_empty());

    // The other commands read the same cache.
    for named in ["hub:org/base".to_string(), format!("hub:org/base@{FIRST}")] {
        let (code, _, error) = offline(&["inspect", &named]);
        assert_eq!(code, 2);
        // The study begins from drawn weights, so the repository's were not fetched.
        let there = format!("models--org--base/snapshots/{FIRST}: has neither model.safetensors");
        assert!(error.contains(&there), "{error}");
    }
    let error = offline(&["inspect", "hub:org/other"]).2;
    assert!(error.contains("run `harness fetch org/other`"), "{error}");

    // A cache that another program filled may have no listings. Without one a model is known to be whole, a data
    // set is not.
    let tree = |repo: &str| work.path(&format!("hf/hub/{repo}/trees/{FIRST}.json"));
    fs::remove_file(tree("models--org--base")).unwrap();
    assert_eq!(offline(&["sweep", "study.toml"]).0, 0);
    let kept = fs::read(tree("datasets--org--texts")).unwrap();
    fs::remove_file(tree("datasets--org--texts")).unwrap();
    let error = offline(&["sweep", "study.toml"]).2;
    assert!(
        error.contains("the cache has no listing of commit 1111"),
        "{error}"
    );
    fs::write(tree("datasets--org--texts"), kept).unwrap();

    // A file that is gone again is missed, not left out.
    let texts = format!("hf/hub/datasets--org--texts/snapshots/{FIRST}/held_out.jsonl");
    fs::remove_file(work.path(&texts)).unwrap();
    insta::assert_snapshot!(offline(&["sweep", "study.toml"]).2, @"error: datasets/org/texts@main: commit 1111111111111111111111111111111111111111 is not whole in the cache: 1 of 1 files are missing, such as held_out.jsonl; without HF_HUB_OFFLINE, where there is a network, run `harness fetch org/texts --dataset`, or `harness fetch` with the study");
}

#[test]
fn a_hub_that_cannot_be_reached_does_not_stop_what_is_in_the_cache() {
    let (work, hub) = study();
    assert_eq!(run(&work, &hub, &["fetch", "study.toml"], &[]).0, 0);
    hub.fail("/api/", 1000, Fault::Cut(0));
    let (code, _, error) = run(&work, &hub, &["sweep", "study.toml", "--only", "base"], &[]);
    assert_eq!(code, 0, "{error}");
    assert!(
        error.contains(&format!("going on with commit {FIRST} from the cache")),
        "{error}"
    );
}

#[test]
fn what_a_study_says_wrongly_of_the_hub_is_found() {
    let (work, hub) = study();
    let error = |from: &str, to: &str| {
        work.replace("study.toml", from, to);
        let (code, _, error) = run(&work, &hub, &["sweep", "study.toml"], &[]);
        work.replace("study.toml", to, from);
        let lines = error.lines().filter(|line| line.starts_with("error: "));
        let lines: Vec<String> = lines.map(String::from).collect();
        assert_eq!((code, lines.len()), (2, 1), "{error}");
        lines.concat()
    };
    let base = "hub = \"org/base\"";
    insta::assert_snapshot!(error(base, "hub = \"org/base\"\npath = \"small/base\""), @"error: study.toml:6: base.hub: says both `path` and `hub`; give one of them");
    insta::assert_snapshot!(error(base, "# nothing"), @"error: study.toml:5: base.path: says neither `path` nor `hub`; give one of them");
    insta::assert_snapshot!(error(base, "path = \"small/base\"\nrevision = \"main\""), @"error: study.toml:6: base.path: says `revision` without `hub`; a path has none");
    insta::assert_snapshot!(error(base, "hub = \"base of org\""), @"error: study.toml:6: base.hub: base of org@main: is no repository of the hub; write ORG/NAME, such as HuggingFaceTB/SmolLM2-135M");
    insta::assert_snapshot!(error("files = \"data/*.jsonl\"", "# none"), @r#"error: study.toml:9: data.0: data source "prose": says `hub` without `files`; give files = "data/*.parquet" or such"#);
    insta::assert_snapshot!(error("files = \"data/*.jsonl\"", "files = \"*.jsonll\""), @r#"error: datasets/org/texts@main: glob "*.jsonll" matches no file; it has data/prose.jsonl, held_out.jsonl"#);
    insta::assert_snapshot!(error("hub = \"org/texts\"\n", "paths = [\"x\"]\nrevision = \"main\"\n"), @r#"error: study.toml:9: data.0: data source "prose": says `revision` without `hub`, to which it belongs"#);
    assert!(hub.requests("/resolve/").len() <= 2);
}
