//! `harness fetch` against a hub on this machine: what is fetched, where it lies, and what the hub refuses.
mod loopback;

use loopback::{
    Fault, Hub,
    fetching::{FIRST, MODEL, SECOND, WEIGHTS, Work, noise},
    git_hash, sha256,
};
use std::fs;

#[test]
fn a_model_is_fetched_into_the_cache_that_python_shares() {
    let work = Work::new();
    let (code, out, error) = work.fetch(&[]);
    assert_eq!(code, 0, "{error}");
    insta::assert_snapshot!(out, @"org/tiny@main is commit 1111111111111111111111111111111111111111, in WORK/hf/hub/models--org--tiny/snapshots/1111111111111111111111111111111111111111");
    insta::assert_snapshot!(error, @"org/tiny@main: 4 files to fetch, 297.86 KiB");
    work.assert_whole();
    let mut names: Vec<String> = fs::read_dir(work.snapshot(FIRST))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json"
        ]
    );
    let link = fs::read_link(work.snapshot(FIRST).join("config.json")).unwrap();
    assert_eq!(
        link.to_str().unwrap(),
        format!("../../blobs/{}", git_hash(b"{}"))
    );
    let link = fs::read_link(work.snapshot(FIRST).join("model.safetensors")).unwrap();
    assert_eq!(
        link.to_str().unwrap(),
        format!("../../blobs/{}", sha256(&noise(WEIGHTS, 2)))
    );
    assert_eq!(
        fs::read_to_string(work.cache().join("refs/main")).unwrap(),
        FIRST
    );
    assert!(work.cache().join(format!("trees/{FIRST}.json")).exists());

    // Again: the hub says what main is, and nothing is fetched. Of a commit it is not even asked.
    work.hub.requests("");
    work.fetched();
    let asked = work.hub.requests("");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(work.fetch(&["--revision", FIRST]).0, 0);
    assert!(work.hub.requests("").is_empty());

    // Another commit with the same weights: only what differs in hash is fetched.
    work.hub.point(MODEL, "main", SECOND);
    work.hub.add(MODEL, SECOND, "config.json", b"{ }", false);
    assert_eq!(work.fetch(&[]).0, 0);
    assert_eq!(work.hub.requests("/resolve/").len(), 1);
    assert!(
        fs::read(work.snapshot(SECOND).join("model.safetensors")).unwrap() == noise(WEIGHTS, 2)
    );
}

#[test]
fn shards_are_fetched_by_their_index() {
    let work = Work::new();
    let repo = "models/org/sharded";
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    for (name, bytes) in [
        ("config.json", "{}"),
        ("tokenizer.json", "{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", "one"),
        ("model-00002-of-00002.safetensors", "two"),
        ("model-00009-of-00009.safetensors", "left over"),
    ] {
        work.hub.add(
            repo,
            FIRST,
            name,
            bytes.as_bytes(),
            name.ends_with("safetensors"),
        );
    }
    work.hub.point(repo, "main", FIRST);
    let fetch = || work.run(work.harness(&["fetch", "org/sharded"]));
    let (code, _, error) = fetch();
    assert_eq!(code, 0, "{error}");
    let snapshot = work
        .folder
        .path()
        .join("hf/hub/models--org--sharded/snapshots")
        .join(FIRST);
    assert_eq!(fs::read_dir(&snapshot).unwrap().count(), 5);
    assert_eq!(
        fs::read_to_string(snapshot.join("model-00002-of-00002.safetensors")).unwrap(),
        "two"
    );

    work.hub.add(repo, SECOND, "config.json", b"{}", false);
    work.hub.add(repo, SECOND, "tokenizer.json", b"{}", false);
    work.hub.add(
        repo,
        SECOND,
        "model.safetensors.index.json",
        index.as_bytes(),
        false,
    );
    work.hub.point(repo, "main", SECOND);
    insta::assert_snapshot!(fetch().2, @r#"error: org/sharded@main: model.safetensors.index.json names the file "model-00001-of-00002.safetensors" for a, which is not there"#);
}

#[test]
fn a_model_without_safetensors_or_configuration_is_refused_before_anything_is_fetched() {
    let work = Work::new();
    let repo = "models/org/old";
    work.hub
        .add(repo, FIRST, "pytorch_model.bin", b"x", true)
        .point(repo, "main", FIRST);
    let error = || work.refused_by(work.harness(&["fetch", "org/old"]));
    insta::assert_snapshot!(error(), @"org/old@main: it has no config.json, without which no model is read");
    work.hub
        .add(repo, SECOND, "pytorch_model.bin", b"x", true)
        .point(repo, "main", SECOND);
    work.hub.add(repo, SECOND, "config.json", b"{}", false);
    work.hub.add(repo, SECOND, "tokenizer.json", b"{}", false);
    insta::assert_snapshot!(error(), @"org/old@main: its weights are in pytorch_model.bin alone, a pickle, which can run code when it is read; take a revision with model.safetensors");
    assert!(work.hub.requests("/resolve/").is_empty());
}

#[test]
fn what_is_not_there_is_named() {
    let work = Work::new();
    let error = |arguments: &[&str]| work.refused_by(work.harness(arguments));
    insta::assert_snapshot!(error(&["fetch", "org/none"]), @"org/none@main: the hub has no such repository, or it is private; look at HUB/org/none; if it is private, set HF_TOKEN to a token of an account that may read it (the hub: Repository not found)");
    insta::assert_snapshot!(error(&["fetch", "org/tiny", "--revision", "v2"]), @"org/tiny@v2: the repository has no revision v2 (the hub: Invalid rev id)");
    insta::assert_snapshot!(error(&["fetch", "org/tiny/more"]), @"org/tiny/more@main: is no repository of the hub; write ORG/NAME, such as HuggingFaceTB/SmolLM2-135M");
    insta::assert_snapshot!(error(&["fetch", "org/tiny", "--revision", "../../x"]), @"org/tiny@../../x: is no revision; write a branch, a tag or a commit's hash");
    insta::assert_snapshot!(error(&["fetch", "none.toml"]), @"none.toml: cannot be read: No such file or directory (os error 2)");
    let gone = Fault::Status(404, vec![("X-Error-Code", "EntryNotFound".into())], "");
    work.hub.fail(
        "resolve/1111111111111111111111111111111111111111/model",
        1,
        gone,
    );
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: model.safetensors: the repository has no file model.safetensors");
}

#[test]
fn a_gated_repository_says_what_to_accept_and_where() {
    let work = Work::new();
    let gated = |status| {
        let headers = vec![
            ("X-Error-Code", "GatedRepo".to_string()),
            (
                "X-Error-Message",
                "Access to model org/tiny is restricted.".to_string(),
            ),
        ];
        Fault::Status(status, headers, "")
    };
    work.hub.fail("/resolve/", 1, gated(401));
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: config.json: the repository is gated: accept its conditions on HUB/org/tiny, and set HF_TOKEN to a token of that account (the hub: Access to model org/tiny is restricted.)");
    work.hub.behave();
    let with_token = || {
        let mut command = work.harness(&["fetch", "org/tiny"]);
        command.env("HF_TOKEN", "hf_secret");
        command
    };
    work.hub.fail("/api/", 1, gated(403));
    insta::assert_snapshot!(work.refused_by(with_token()), @"org/tiny@main: the repository is gated: accept its conditions on HUB/org/tiny with the account of your token, and wait until access is granted (the hub: Access to model org/tiny is restricted.)");
    work.hub.behave();
    work.hub.fail(
        "/api/",
        1,
        Fault::Status(401, vec![], r#"{"error": "Invalid credentials"}"#),
    );
    insta::assert_snapshot!(work.refused_by(with_token()), @"org/tiny@main: the hub wants to know who asks (401): the token in use (HF_TOKEN, or what `hf auth login` left) must be of an account that may read it; its conditions, if it has any, are to be accepted on HUB/org/tiny (the hub: Invalid credentials)");
    work.hub.behave();
    work.hub
        .fail("/resolve/", 1, Fault::Status(403, vec![], ""));
    insta::assert_snapshot!(work.refused_by(with_token()), @"org/tiny@main: config.json: the hub forbids it (403): accept the conditions on HUB/org/tiny if there are any; the token in use (HF_TOKEN, or what `hf auth login` left) must be of an account that may read it");
}

#[test]
fn a_token_is_shown_to_the_hub_and_to_nobody_else() {
    let work = Work::new();
    let needed = |hub: &Hub| {
        hub.misbehave(|request| {
            let told = request.headers.get("authorization").map(String::as_str);
            let right = match request.to_cdn {
                true => told.is_none(),
                false => told == Some("Bearer hf_secret"),
            };
            (!right).then(|| Fault::Status(401, vec![], "no"))
        });
    };
    needed(&work.hub);
    let mut command = work.harness(&["fetch", "org/tiny"]);
    command.env("HF_TOKEN", "hf_secret");
    let (code, _, error) = work.run(command);
    assert_eq!(code, 0, "{error}");
    // What a login left.
    let other = Work::new();
    needed(&other.hub);
    fs::create_dir_all(other.folder.path().join("hf")).unwrap();
    fs::write(other.folder.path().join("hf/token"), "hf_secret\n").unwrap();
    other.fetched();
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() {
    let work = Work::new();
    work.hub.add(MODEL, FIRST, "../../../../evil", b"x", false);
    insta::assert_snapshot!(work.refused(), @r#"org/tiny@main: the hub lists a file "../../../../evil", which is no name"#);
}

#[test]
fn a_data_set_is_fetched_by_its_pattern() {
    let work = Work::new();
    let repo = "datasets/org/texts";
    for name in [
        "data/train-0.parquet",
        "data/train-1.parquet",
        "test.jsonl",
        "README.md",
        "x/y/z.parquet",
    ] {
        work.hub.add(
            repo,
            FIRST,
            name,
            name.as_bytes(),
            name.ends_with("parquet"),
        );
    }
    work.hub.point(repo, "v1.0", FIRST);
    let fetch = |arguments: &[&str]| {
        let said = ["fetch", "org/texts", "--dataset", "--revision", "v1.0"];
        work.run(work.harness(&[&said, arguments].concat()))
    };
    let files = || {
        let snapshot = work
            .folder
            .path()
            .join("hf/hub/datasets--org--texts/snapshots")
            .join(FIRST);
        let walk = walkdir::WalkDir::new(&snapshot)
            .sort_by_file_name()
            .into_iter()
            .flatten();
        let files = walk.filter(|entry| !entry.file_type().is_dir());
        let names = files.map(|entry| fs::read_to_string(entry.path()).unwrap());
        names.collect::<Vec<String>>()
    };
    assert_eq!(fetch(&["--files", "data/*-1.parquet"]).0, 0);
    assert_eq!(files(), ["data/train-1.parquet"]);
    insta::assert_snapshot!(fetch(&["--files", "*.parquet"]).2, @r#"error: datasets/org/texts@v1.0: glob "*.parquet" matches no file; it has README.md, data/train-0.parquet, data/train-1.parquet, test.jsonl, x/y/z.parquet"#);
    let (code, _, error) = fetch(&[]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(
        files(),
        [
            "data/train-0.parquet",
            "data/train-1.parquet",
            "test.jsonl",
            "x/y/z.parquet"
        ]
    );
}
