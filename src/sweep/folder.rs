//! A trial's folder: its lock, its state, and what is published in it.
use super::{
    Error, Result, Update, io,
    publish::{count, numbered, once, replace},
};
use crate::{experiment::Trial, whole_file};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Workers that a signal may end before the trial counts as failed.
const MAX_INTERRUPTIONS: usize = 3;

/// The folder of one trial.
#[derive(Debug, Clone)]
pub struct TrialFolder {
    path: PathBuf,
}

/// `result.json`: what a trial that succeeded gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    pub key: String,
    pub name: String,
    /// What it took from the hub, `org/name@COMMIT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hub: Vec<String>,
    /// Tokens that it trained on.
    pub tokens: u64,
    /// Mean loss of the last steps in nats per token; nothing for the base.
    pub final_loss: Option<f64>,
    /// Every step's loss.
    pub losses: Vec<f64>,
    /// Seconds of training, over all its workers.
    pub train_seconds: f64,
    /// Seconds of evaluation in the worker that finished it.
    pub score_seconds: f64,
    /// Largest resident memory of the worker that finished it, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Identity of the RoPE that it was trained and scored with.
    pub rope: String,
    /// blake3 of `records.jsonl`.
    pub records: String,
}

/// `failure-N.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub reason: String,
}

/// Where a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Done,
    Failed,
    Running,
    /// Begun, but no worker is at it.
    Interrupted,
    Waiting,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            State::Done => "done",
            State::Failed => "failed",
            State::Running => "running",
            State::Interrupted => "interrupted",
            State::Waiting => "waiting",
        })
    }
}

impl TrialFolder {
    /// The folder of the trial with this key in a results folder.
    pub fn new(results: &Path, key: &str) -> Self {
        TrialFolder {
            path: results.join("trials").join(key),
        }
    }

    /// The state from which training goes on.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.path.join("snapshot.safetensors")
    }

    /// Every scored item.
    pub fn records(&self) -> PathBuf {
        self.path.join("records.jsonl")
    }

    /// The trained weights.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// What the worker logs.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Makes the folder, with the trial in full for people to read.
    pub(super) fn create(&self, trial: &Trial) -> Result<()> {
        fs::create_dir_all(&self.path).map_err(io(&self.path))?;
        let path = self.path.join("trial.toml");
        let wrong = |e: toml::ser::Error| Error::Folder {
            path: path.clone(),
            what: e.to_string(),
        };
        let said = toml::to_string(&trial.spec).map_err(wrong)?;
        let text = format!("# {} ({})\n{said}", trial.name, trial.key);
        once(&path, text.as_bytes()).map(|_| ())
    }

    fn open_lock(&self) -> Result<File> {
        let path = self.path.join("lock");
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true).read(true);
        options.open(&path).map_err(io(&path))
    }

    /// The trial's lock, which ends with the file or its process; nothing where another worker has it.
    pub(super) fn lock(&self) -> Result<Option<File>> {
        let file = self.open_lock()?;
        // Whoever looks at the state holds the lock for a moment.
        for _ in 0..50 {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(e)) => return Err(io(&self.path)(e)),
            }
        }
        Ok(None)
    }

    /// Whether a worker is at the trial.
    fn is_locked(&self) -> bool {
        let file = File::open(self.path.join("lock"));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Where the trial stands.
    pub fn state(&self) -> State {
        if self.path.join("result.json").exists() {
            State::Done
        } else if self.is_locked() {
            State::Running
        } else if self.failures() > 0 && !self.begun() {
            State::Failed
        } else if self.begun() {
            State::Interrupted
        } else {
            State::Waiting
        }
    }

    /// Whether a worker began, and none has failed since.
    fn begun(&self) -> bool {
        self.path.join("progress.json").exists()
    }

    /// What the trial published.
    ///
    /// # Errors
    /// When the file cannot be read, or is no result.
    pub fn published(&self) -> Result<Option<Published>> {
        self.read("result.json")
    }

    /// How often the trial failed.
    pub fn failures(&self) -> usize {
        count(&self.path, "failure")
    }

    /// Why it failed last.
    pub fn last_failure(&self) -> Result<Option<Failure>> {
        match self.failures() {
            0 => Ok(None),
            n => self.read(&format!("failure-{n}.json")),
        }
    }

    /// Where its worker stood last.
    pub fn progress(&self) -> Option<Update> {
        self.read("progress.json").ok().flatten()
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(&path)(e)),
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|e| Error::Folder {
            path,
            what: format!("{e}; remove the file to run the trial again"),
        })
    }

    /// Notes where the worker stands, for `status`.
    pub(super) fn note(&self, update: &Update) -> Result<()> {
        // Not synced: it is of use while the worker runs, and whole or absent after a crash.
        let path = self.path.join("progress.json");
        let temporary = self.path.join("progress.json.new");
        fs::write(&temporary, json(update)).map_err(io(&temporary))?;
        fs::rename(&temporary, &path).map_err(io(&path))
    }

    /// Publishes the trial's success, unless it was published before.
    pub(super) fn publish(&self, published: &Published) -> Result<()> {
        once(&self.path.join("result.json"), &json(published))?;
        self.clean_up()
    }

    /// Removes the temporary files of writers that were killed.
    pub(super) fn remove_temporaries(&self) -> Result<()> {
        whole_file::remove_temporaries(&self.path).map_err(io(&self.path))
    }

    /// Removes what a finished trial has no more use for.
    pub(super) fn clean_up(&self) -> Result<()> {
        for name in ["snapshot.safetensors", "progress.json"] {
            remove(&self.path.join(name))?;
        }
        Ok(())
    }

    /// Removes what the trial did so far, so that it begins anew.
    pub(super) fn remove_work(&self) -> Result<()> {
        self.clean_up()?;
        remove(&self.records())
    }

    /// Publishes a failure. What the trial has done so far stays for the next try.
    pub(super) fn publish_failure(&self, reason: &str) -> Result<()> {
        remove(&self.path.join("progress.json"))?;
        for n in 1..=count(&self.path, "interrupted") {
            remove(&self.path.join(format!("interrupted-{n}.json")))?;
        }
        let failure = Failure {
            reason: reason.to_string(),
        };
        numbered(&self.path, "failure", &json(&failure)).map(|_| ())
    }

    /// Notes that a signal ended the trial's worker; true when that makes it failed.
    pub(super) fn publish_interruption(&self, reason: &str) -> Result<bool> {
        let failure = Failure {
            reason: reason.to_string(),
        };
        let n = numbered(&self.path, "interrupted", &json(&failure))?;
        let failed = n >= MAX_INTERRUPTIONS;
        if failed {
            self.publish_failure(&format!("{reason}, {n} times"))?;
        }
        Ok(failed)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // These types have no maps with keys that are not text: they are always JSON.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path)(e)),
        _ => Ok(()),
    }
}

/// Writes a file of the results folder, or replaces it as a whole.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;

    fn folder() -> (tempfile::TempDir, TrialFolder) {
        let results = tempfile::tempdir().unwrap();
        let folder = TrialFolder::new(results.path(), "k");
        fs::create_dir_all(&folder.path).unwrap();
        (results, folder)
    }

    #[test]
    fn states_follow_from_the_files() {
        let (_results, folder) = folder();
        assert_eq!(folder.state(), State::Waiting);
        let lock = folder.lock().unwrap().unwrap();
        assert_eq!(folder.state(), State::Running);
        assert!(folder.lock().unwrap().is_none());
        folder.note(&Update::new(Phase::Load, 0, 0)).unwrap();
        drop(lock);
        assert_eq!(folder.state(), State::Interrupted);
        folder.publish_failure("diverged").unwrap();
        assert_eq!(folder.state(), State::Failed);
        folder.publish_failure("diverged again").unwrap();
        assert_eq!(
            folder.last_failure().unwrap().unwrap().reason,
            "diverged again"
        );
        assert_eq!(folder.failures(), 2);
    }

    #[test]
    fn a_failure_keeps_the_work_unless_it_is_of_no_use() {
        let (_results, folder) = folder();
        let work = [folder.snapshot(), folder.records()];
        work.iter().for_each(|path| fs::write(path, "").unwrap());
        folder.note(&Update::new(Phase::Train, 1, 2)).unwrap();
        folder.publish_failure("disk full").unwrap();
        assert_eq!(folder.state(), State::Failed);
        assert!(work.iter().all(|path| path.exists()));
        folder.remove_work().unwrap();
        assert!(work.iter().all(|path| !path.exists()));
    }

    #[test]
    fn three_interruptions_are_a_failure_and_are_counted_anew_after_it() {
        let (_results, folder) = folder();
        for round in 1..=2 {
            assert!(!folder.publish_interruption("killed by signal 9").unwrap());
            assert!(!folder.publish_interruption("killed by signal 9").unwrap());
            assert_eq!(folder.failures(), round - 1);
            assert!(folder.publish_interruption("killed by signal 9").unwrap());
            assert_eq!((folder.failures(), folder.state()), (round, State::Failed));
        }
    }
}
