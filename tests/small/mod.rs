//! The small study of this folder, copied where a test may change it.
use assert_cmd::Command;
use harness::{
    checkpoint::{self, BaseSpec},
    model::{Decoder, Init, Method},
    ops::Env,
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// A working folder with `study.toml` and what it reads in `small/`.
pub struct Work(tempfile::TempDir);

#[allow(dead_code, reason = "each test program uses a part of it")]
impl Work {
    pub fn new() -> Self {
        let work = Work(tempfile::tempdir().unwrap());
        let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small");
        fs::create_dir_all(work.path("small/base")).unwrap();
        for file in [
            "base/config.json",
            "base/tokenizer.json",
            "prose.jsonl",
            "held_out.jsonl",
            "suite.toml",
        ] {
            fs::copy(small.join(file), work.path("small").join(file)).unwrap();
        }
        fs::copy(small.join("study.toml"), work.path("study.toml")).unwrap();
        work
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Replaces a text, which must be there once at least, in a file.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
        self
    }

    /// Gives the base in this folder weights.
    pub fn save_base(&self, folder: &str) {
        let folder = self.path(folder);
        let base = BaseSpec::of_path(folder.to_str().unwrap());
        let init = Init {
            seed: 0,
            method: Method::Random,
        };
        let model = Decoder::init(&Env::cpu(), &base.config().unwrap(), init).unwrap();
        checkpoint::save(&folder, &model, &base.tokenizer().unwrap()).unwrap();
    }

    pub fn append(&self, file: &str, text: &str) -> &Self {
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).open(self.path(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self
    }

    /// The program, in this folder.
    pub fn harness(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("harness"));
        command.current_dir(self.0.path()).args(arguments);
        command
            .env_remove("RUST_LOG")
            .env_remove("HARNESS_CACHE")
            .env_remove("RAYON_NUM_THREADS");
        command
    }

    /// Exit code, standard output and standard error.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.harness(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Every published trial's records, by its name.
    pub fn records(&self, results: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.path(results).join("trials")).unwrap() {
            let folder = entry.unwrap().path();
            let Ok(result) = fs::read_to_string(folder.join("result.json")) else {
                continue;
            };
            let result: serde_json::Value = serde_json::from_str(&result).unwrap();
            let records = fs::read_to_string(folder.join("records.jsonl")).unwrap();
            let losses = result["losses"].to_string();
            all.push((
                result["name"].as_str().unwrap().into(),
                losses + "\n" + &records,
            ));
        }
        all.sort();
        all
    }
}
