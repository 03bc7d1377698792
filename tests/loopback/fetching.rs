//! A model on a hub of this machine, and the program that fetches it into a cache that is empty.
use super::{Hub, sha256};
use assert_cmd::Command;
use std::{fs, path::PathBuf};

pub const MODEL: &str = "models/org/tiny";
pub const FIRST: &str = "1111111111111111111111111111111111111111";
pub const SECOND: &str = "2222222222222222222222222222222222222222";

/// A hub with a model, and a cache that is empty.
pub struct Work {
    pub hub: Hub,
    pub folder: tempfile::TempDir,
}

/// Bytes that no two places of have in common.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub const WEIGHTS: usize = 300_000;

#[allow(dead_code, reason = "each test program uses a part of it")]
impl Work {
    pub fn new() -> Self {
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
    pub fn harness(&self, arguments: &[&str]) -> std::process::Command {
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
    pub fn run(&self, command: std::process::Command) -> (i32, String, String) {
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

    pub fn fetch(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run(self.harness(&[&["fetch", "org/tiny"], arguments].concat()))
    }

    /// Fetches the model, which must work.
    pub fn fetched(&self) -> String {
        let (code, _, error) = self.fetch(&[]);
        assert_eq!(code, 0, "{error}");
        self.assert_whole();
        error
    }

    /// Fetches the model, which must be refused, and returns the error's line.
    pub fn refused(&self) -> String {
        self.refused_by(self.harness(&["fetch", "org/tiny"]))
    }

    pub fn refused_by(&self, command: std::process::Command) -> String {
        let (code, out, error) = self.run(command);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        let lines: Vec<&str> = error.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{error}");
        assert!(!self.snapshot(FIRST).join("model.safetensors").exists());
        lines[0]["error: ".len()..].to_string()
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("hf/hub/models--org--tiny")
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache().join("snapshots").join(commit)
    }

    pub fn blob(&self) -> PathBuf {
        self.cache().join("blobs").join(sha256(&noise(WEIGHTS, 2)))
    }

    /// What came of the weights.
    pub fn partial(&self) -> PathBuf {
        PathBuf::from(format!("{}.incomplete", self.blob().display()))
    }

    pub fn assert_whole(&self) {
        let bytes = fs::read(self.snapshot(FIRST).join("model.safetensors")).unwrap();
        assert!(bytes == noise(WEIGHTS, 2));
        assert!(!self.partial().exists());
    }

    /// From which byte on the weights were asked for, each time since last asked.
    pub fn weights_from(&self) -> Vec<Option<String>> {
        let asked = self.hub.requests("/blob/");
        let range = |r: &super::Request| r.headers.get("range").cloned();
        asked.iter().map(range).collect()
    }
}
