//! `harness fetch` against a hub on this machine that misbehaves: every fault ends in a retry that works or in one
//! line, and nothing half-written is ever taken for whole.
mod loopback;

use assert_cmd::Command;
use loopback::{Fault, Hub, git_hash, sha256};
use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

const MODEL: &str = "models/org/tiny";
const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

/// A hub with a model, and a cache that is empty.
struct Work {
    hub: Hub,
    folder: tempfile::TempDir,
}

/// Bytes that no two places of have in common.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

const WEIGHTS: usize = 300_000;

impl Work {
    fn new() -> Self {
        let hub = Hub::start();
        for commit in [FIRST, SECOND] {
            hub.add(MODEL, commit, "config.json", b"{}", false);
            hub.add(MODEL, commit, "tokenizer.json", &noise(5000, 1), false);
            hub.add(
                MODEL,
                commit,
                "generation_config.json",
                b"{\"a\": 1}",
                false,
            );
            hub.add(MODEL, commit, "model.safetensors", &noise(WEIGHTS, 2), true);
            hub.add(MODEL, commit, "pytorch_model.bin", b"pickle", true);
            hub.add(MODEL, commit, "README.md", commit.as_bytes(), false);
            hub.add(MODEL, commit, "onnx/model.safetensors", b"another", true);
        }
        hub.point(MODEL, "main", FIRST);
        Work {
            hub,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The program, which knows no other hub and no token.
    fn harness(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("harness"));
        command.current_dir(self.folder.path()).args(arguments);
        for (name, _) in std::env::vars() {
            if name.starts_with("HF_") || name.starts_with("HUGGING") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .env("HF_HOME", self.folder.path().join("hf"))
            .env("HF_ENDPOINT", &self.hub.endpoint)
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "2")
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    /// Exit code, standard output and standard error.
    fn run(&self, command: std::process::Command) -> (i32, String, String) {
        let output = Command::from_std(command).output().unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let folder = self.folder.path().display().to_string();
            text.replace(&folder, "WORK")
                .replace(&self.hub.endpoint, "HUB")
        };
        let code = output.status.code().unwrap_or(-1);
        (code, text(&output.stdout), text(&output.stderr))
    }

    fn fetch(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run(self.harness(&[&["fetch", "org/tiny"], arguments].concat()))
    }

    /// Fetches the model, which must work.
    fn fetched(&self) -> String {
        let (code, _, error) = self.fetch(&[]);
        assert_eq!(code, 0, "{error}");
        self.assert_whole();
        error
    }

    /// Fetches the model, which must be refused, and returns the error's line.
    fn refused(&self) -> String {
        self.refused_by(self.harness(&["fetch", "org/tiny"]))
    }

    fn refused_by(&self, command: std::process::Command) -> String {
        let (code, out, error) = self.run(command);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        let lines: Vec<&str> = error.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{error}");
        assert!(!self.snapshot(FIRST).join("model.safetensors").exists());
        lines[0]["error: ".len()..].to_string()
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("hf/hub/models--org--tiny")
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache().join("snapshots").join(commit)
    }

    fn blob(&self) -> PathBuf {
        self.cache().join("blobs").join(sha256(&noise(WEIGHTS, 2)))
    }

    /// What came of the weights.
    fn partial(&self) -> PathBuf {
        self.blob().with_added_extension("incomplete")
    }

    fn assert_whole(&self) {
        let bytes = fs::read(self.snapshot(FIRST).join("model.safetensors")).unwrap();
        assert!(bytes == noise(WEIGHTS, 2));
        assert!(!self.partial().exists());
    }
}

fn weights_from(work: &Work) -> Vec<Option<String>> {
    let asked = work.hub.requests("/blob/");
    asked
        .iter()
        .map(|r| r.headers.get("range").cloned())
        .collect()
}

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
fn a_busy_hub_is_asked_again_when_it_says() {
    let work = Work::new();
    let busy = |seconds: u32| {
        let headers = vec![("Retry-After", seconds.to_string())];
        Fault::Status(429, headers, "")
    };
    work.hub.fail("/revision/", 1, busy(2));
    work.hub.fail("/resolve/", 1, busy(1));
    let began = Instant::now();
    let error = work.fetched();
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(
        error.contains("429, too many requests; again in 2 s"),
        "{error}"
    );
    let work = Work::new();
    work.hub.fail("/tree/", 1, busy(3600));
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: the hub answers 429, too many requests, and asks to come back in 3600 s; run the same command again then");
}

#[test]
fn an_ailing_hub_is_borne_for_a_while() {
    let work = Work::new();
    for part in ["/revision/", "/tree/", "/resolve/", "/blob/"] {
        work.hub
            .fail(part, 1, Fault::Status(503, vec![], "try later"));
    }
    work.fetched();
    let work = Work::new();
    work.hub
        .fail("/resolve/", 100, Fault::Status(500, vec![], ""));
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: config.json: the hub answers 500, asked for config.json (5 times)");
    assert_eq!(work.hub.requests("/resolve/").len(), 5);
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Cut(100_000));
    work.hub
        .fail("/blob/", 1, Fault::Stall(50_000, Duration::from_secs(5)));
    work.hub.fail("/tree/", 1, Fault::Cut(20));
    let error = work.fetched();
    assert!(
        error.contains("broke after 100000 of 300000 bytes"),
        "{error}"
    );
    assert_eq!(
        weights_from(&work),
        [
            None,
            Some("bytes=100000-".into()),
            Some("bytes=150000-".into())
        ]
    );
    // Of a server that knows no ranges, from the beginning.
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Cut(100_000));
    work.hub.fail("/blob/", 1, Fault::NoRange);
    work.fetched();
    assert_eq!(weights_from(&work), [None, Some("bytes=100000-".into())]);
    // One that sends nothing at all is given up, and what came before stays for the next time.
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Cut(100_000));
    work.hub.fail("/blob/", 100, Fault::Cut(0));
    let error = work.refused();
    assert!(
        error.starts_with(
            "org/tiny@main: model.safetensors: the connection broke after 100000 of 300000 bytes"
        ),
        "{error}"
    );
    assert!(error.ends_with("(5 times)"), "{error}");
    work.hub.behave();
    work.hub.requests("");
    work.fetched();
    assert_eq!(weights_from(&work), [Some("bytes=100000-".into())]);
}

#[test]
fn lengths_and_hashes_are_checked() {
    // Other bytes in the right length, once.
    let work = Work::new();
    work.hub.fail("/blob/", 1, Fault::Body(noise(WEIGHTS, 3)));
    let error = work.fetched();
    assert!(
        error.contains("model.safetensors came with a wrong hash; downloading it again"),
        "{error}"
    );
    // A small file, always.
    let work = Work::new();
    work.hub.fail(
        "resolve/1111111111111111111111111111111111111111/config.json",
        100,
        Fault::Body(b"[]".to_vec()),
    );
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: config.json: has the hash 0637a088a01e8ddab3bf3fa98dbe804cbde1a0dc as it is sent, twice, and 9e26dfeeb6e641a33dae4961196235bdb965b21b in the hub's listing; nothing of it was kept");
    assert!(!work.snapshot(FIRST).exists());
    // The listing says another length than the server of the file.
    let work = Work::new();
    work.hub
        .list_as(MODEL, FIRST, "model.safetensors", WEIGHTS as u64 + 1);
    insta::assert_snapshot!(work.refused(), @"org/tiny@main: model.safetensors: it has 300000 bytes where it is sent from, and 300001 in the hub's listing (5 times)");
    assert!(!work.blob().exists());
}

#[test]
fn what_came_of_another_file_is_found_out() {
    let work = Work::new();
    fs::create_dir_all(work.cache().join("blobs")).unwrap();
    // As long as the file, longer, and a wrong beginning.
    for length in [WEIGHTS, WEIGHTS + 7, 1000] {
        fs::write(work.partial(), noise(length, 9)).unwrap();
        work.fetched();
        fs::remove_dir_all(work.snapshot(FIRST)).unwrap();
        fs::remove_file(work.blob()).unwrap();
    }
    // A blob that lost its end has its name and is not believed.
    fs::write(work.blob(), &noise(WEIGHTS, 2)[..1000]).unwrap();
    work.fetched();
}

#[test]
fn a_full_disk_is_said_and_what_came_is_kept() {
    let work = Work::new();
    work.hub.list_as(MODEL, FIRST, "model.safetensors", 1 << 60);
    let error = work.refused();
    assert!(error.contains("4 files need 1152921504606851"), "{error}");
    assert!(
        error.ends_with("make room, or put the cache elsewhere with HF_HUB_CACHE"),
        "{error}"
    );
    assert!(work.hub.requests("/resolve/").is_empty());

    let work = Work::new();
    let mut command = work.harness(&["fetch", "org/tiny"]);
    // SAFETY: between fork and exec, only these two calls.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 65536,
                rlim_max: 65536,
            };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let error = work.refused_by(command);
    let hash = sha256(&noise(WEIGHTS, 2));
    insta::assert_snapshot!(error.replace(&hash, "HASH"), @"org/tiny@main: model.safetensors: WORK/hf/hub/models--org--tiny/blobs/HASH.incomplete cannot be written (File too large (os error 27)); what came stays there, and the same command goes on from it: make room, or put the cache elsewhere with HF_HUB_CACHE");
    assert_eq!(fs::metadata(work.partial()).unwrap().size(), 65536);
    work.hub.requests("");
    work.fetched();
    assert_eq!(weights_from(&work), [Some("bytes=65536-".into())]);
}

#[test]
fn a_killed_fetch_is_gone_on_with() {
    let work = Work::new();
    for came in [70_000, 100_000] {
        work.hub
            .fail("/blob/", 1, Fault::Stall(came, Duration::from_secs(60)));
    }
    let mut total = 0;
    for came in [70_000, 100_000] {
        total += came;
        let mut command = work.harness(&["fetch", "org/tiny"]);
        command
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "60")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while fs::metadata(work.partial()).map_or(0, |m| m.len()) < total {
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!work.snapshot(FIRST).join("model.safetensors").exists());
        assert!(!work.blob().exists() && !work.cache().join("refs/main").exists());
    }
    work.fetched();
    assert_eq!(
        weights_from(&work),
        [
            None,
            Some("bytes=70000-".into()),
            Some("bytes=170000-".into())
        ]
    );
}

#[test]
fn two_that_fetch_at_once_download_once() {
    let work = Work::new();
    work.hub.misbehave(|request| {
        // Slow enough that they meet.
        if request.to_cdn {
            thread::sleep(Duration::from_millis(700));
        }
        None
    });
    thread::scope(|scope| {
        let one = scope.spawn(|| work.fetched());
        let two = scope.spawn(|| work.fetched());
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(weights_from(&work).len(), 1);
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
