//! The results folder and the study that it belongs to.
use super::{Error, Result, folder::write, io};
use crate::{
    checkpoint::hub::Commits,
    evals,
    experiment::{ENGINE_FORMAT, Study},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// `manifest.toml`: which study a folder's results are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub engine_format: u32,
    /// What tasks ask and how they score; folders of engine format 2 do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evals_format: Option<u32>,
    /// What computed.
    pub backend: String,
    /// One seed, a tenth of the tokens and items.
    pub reduced: bool,
    /// The study's file.
    pub study: Table,
    /// Its suites by their files.
    pub suites: Table,
    /// Hashes of what its paths hold.
    pub contents: BTreeMap<String, String>,
    /// What the revisions of the hub's repositories stand for.
    #[serde(default, skip_serializing_if = "Commits::is_empty")]
    pub commits: Commits,
    pub trial: Vec<ManifestTrial>,
}

/// One trial of the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestTrial {
    pub key: String,
    pub name: String,
    pub arm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Labels by axis.
    #[serde(default)]
    pub axes: BTreeMap<String, String>,
}

impl Manifest {
    fn of(study: &Study) -> std::result::Result<Self, toml::ser::Error> {
        let trial = study.trials.iter().map(|trial| ManifestTrial {
            key: trial.key.clone(),
            name: trial.name.clone(),
            arm: trial.arm.clone(),
            seed: trial.spec.seed,
            axes: trial.axes.iter().cloned().collect(),
        });
        Ok(Manifest {
            engine_format: ENGINE_FORMAT,
            evals_format: Some(evals::identity::FORMAT),
            backend: study.backend.clone(),
            reduced: study.reduced,
            study: Table::try_from(&study.spec)?,
            suites: Table::try_from(&study.suites)?,
            contents: study.contents.clone(),
            commits: study.commits.clone(),
            trial: trial.collect(),
        })
    }

    /// Reads the manifest of a results folder.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn read(results: &Path) -> Result<Self> {
        let path = results.join("manifest.toml");
        let text = fs::read_to_string(&path).map_err(|e| Error::Folder {
            path: path.clone(),
            what: format!("{e}; is this a results folder of `harness sweep`?"),
        })?;
        toml::from_str(&text).map_err(|e| Error::Folder {
            path,
            what: format!("is damaged: {}", e.message().replace('\n', " ")),
        })
    }

    /// What another version of the study says otherwise, apart from its decision: that is made from the
    /// results anew.
    fn differences(&self, now: &Manifest) -> Vec<String> {
        if self.reduced != now.reduced {
            let (was, is) = (self.reduced, now.reduced);
            return vec![format!("reduced was {was}, is now {is}")];
        }
        let mut found = Vec::new();
        let mut note = |what: &str, was: &dyn ToString, is: &dyn ToString| {
            let (was, is) = (was.to_string(), is.to_string());
            if was != is {
                found.push(format!("{what} was {was}, is now {is}"));
            }
        };
        note(
            "the engine's format",
            &self.engine_format,
            &now.engine_format,
        );
        if let (Some(was), Some(is)) = (self.evals_format, now.evals_format) {
            note("the evaluations' format", &was, &is);
        }
        note("the backend", &self.backend, &now.backend);
        let without_decision = |study: &Table| {
            let mut study = study.clone();
            study.remove("decision");
            study
        };
        compare_tables(
            "",
            &without_decision(&self.study),
            &without_decision(&now.study),
            &mut found,
        );
        compare_tables("", &self.suites, &now.suites, &mut found);
        for (name, hash) in &now.contents {
            if self.contents.get(name).is_some_and(|was| was != hash) {
                found.push(format!("the content of {name} is another"));
            }
        }
        found
    }
}

fn compare_tables(path: &str, was: &Table, is: &Table, found: &mut Vec<String>) {
    let mut keys: Vec<&String> = was.keys().chain(is.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        compare(&path, was.get(key), is.get(key), found);
    }
}

fn compare(path: &str, was: Option<&Value>, is: Option<&Value>, found: &mut Vec<String>) {
    match (was, is) {
        (Some(Value::Table(was)), Some(Value::Table(is))) => compare_tables(path, was, is, found),
        (Some(Value::Array(was)), Some(Value::Array(is))) if has_tables(was) || has_tables(is) => {
            for i in 0..was.len().max(is.len()) {
                compare(&format!("{path}.{i}"), was.get(i), is.get(i), found);
            }
        }
        (was, is) if was == is => {}
        (Some(was), Some(is)) => {
            found.push(format!("{path} was {}, is now {}", short(was), short(is)));
        }
        (Some(was), None) => found.push(format!("{path} was {}, is now gone", short(was))),
        (None, Some(is)) => found.push(format!("{path} is new: {}", short(is))),
        (None, None) => {}
    }
}

fn has_tables(values: &[Value]) -> bool {
    values.iter().any(Value::is_table)
}

fn short(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A results folder, locked for one sweep.
#[derive(Debug)]
pub struct ResultsFolder {
    pub path: PathBuf,
    _lock: File,
}

impl ResultsFolder {
    /// Makes or opens the folder for a study, checks that it can be written and that its results are
    /// of this version of the study, and locks it.
    ///
    /// # Errors
    /// One line that says what is in the way and what to do.
    pub fn open(path: &Path, study: &Study) -> Result<Self> {
        let unwritable = |e: std::io::Error| Error::Folder {
            path: path.to_path_buf(),
            what: format!("results cannot be written here ({e}); choose another folder with --out"),
        };
        fs::create_dir_all(path).map_err(unwritable)?;
        tempfile::tempfile_in(path).map_err(unwritable)?;
        let lock_path = path.join("lock");
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true);
        let lock = options.open(&lock_path).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Folder {
                    path: path.to_path_buf(),
                    what: "another sweep works in this folder; wait for it, or use --out".into(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(io(&lock_path)(e)),
        }
        crate::whole_file::remove_temporaries(path).map_err(io(path))?;
        let folder = ResultsFolder {
            path: path.to_path_buf(),
            _lock: lock,
        };
        folder.settle_manifest(study)?;
        Ok(folder)
    }

    /// Writes the manifest, or checks that the one there is of this study.
    fn settle_manifest(&self, study: &Study) -> Result<()> {
        let path = self.path.join("manifest.toml");
        let wrong = |e: toml::ser::Error| Error::Folder {
            path: path.clone(),
            what: e.to_string(),
        };
        let now = Manifest::of(study).map_err(wrong)?;
        // Without trials the folder binds nobody: tables of a study that was run elsewhere.
        if path.exists() && has_trials(&self.path) {
            let was = Manifest::read(&self.path)?;
            let differences = was.differences(&now);
            if !differences.is_empty() {
                let more = differences.len().saturating_sub(SHOWN);
                let mut what = differences[..differences.len().min(SHOWN)].join("; ");
                if more > 0 {
                    what += &format!("; and {more} more");
                }
                return Err(Error::Folder {
                    path: self.path.clone(),
                    what: format!(
                        "made by another version of this study: {what}; use --out or move it away"
                    ),
                });
            }
            if was == now {
                return Ok(());
            }
        }
        let text = toml::to_string(&now).map_err(wrong)?;
        write(&path, &text)
    }
}

fn has_trials(results: &Path) -> bool {
    fs::read_dir(results.join("trials")).is_ok_and(|mut entries| entries.next().is_some())
}

/// The commits of the hub that a results folder's manifest names; none where there is no manifest.
///
/// # Errors
/// When it is damaged.
pub fn commits(results: &Path) -> Result<Commits> {
    match results.join("manifest.toml").exists() {
        true => Ok(Manifest::read(results)?.commits),
        false => Ok(Commits::default()),
    }
}

/// [`commits`] of a folder that has trials: they stay what they are as long as it has them.
pub fn commits_of_trials(results: &Path) -> Result<Commits> {
    match has_trials(results) {
        true => commits(results),
        false => Ok(Commits::default()),
    }
}

/// Differences that an error names one by one.
const SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Fixture;

    fn error(results: &Path, fixture: &Fixture, reduced: bool) -> String {
        let study = fixture.study(reduced).unwrap();
        let error = ResultsFolder::open(results, &study).unwrap_err();
        error
            .to_string()
            .replace(&results.display().to_string(), "RESULTS")
    }

    #[test]
    fn a_folder_belongs_to_one_version_of_a_study() {
        let fixture = Fixture::new();
        let results = fixture.path().join("results");
        let open = || ResultsFolder::open(&results, &fixture.study(false).unwrap());
        let first = open().unwrap();
        let busy = error(&results, &fixture, false);
        assert!(
            busy.contains("another sweep works in this folder"),
            "{busy}"
        );
        drop(first);
        let text = fs::read_to_string(results.join("manifest.toml")).unwrap();
        drop(open().unwrap());
        assert_eq!(
            text,
            fs::read_to_string(results.join("manifest.toml")).unwrap()
        );
        let manifest = Manifest::read(&results).unwrap();
        assert_eq!(manifest.trial.len(), 5);
        assert_eq!(manifest.trial[4].axes["rope"], "yarn-4");

        fs::create_dir_all(results.join("trials/x")).unwrap();
        assert_eq!(
            error(&results, &fixture, true),
            "RESULTS: made by another version of this study: reduced was false, is now true; use \
             --out or move it away"
        );
        fixture.replace("study.toml", "tokens = 5120", "tokens = '10k'");
        let other = error(&results, &fixture, false);
        assert!(
            other.contains("stage.0.tokens was 5120, is now 10000; use --out"),
            "{other}"
        );
        fixture.replace("study.toml", "tokens = '10k'", "tokens = '5120'");
        // Written in another way, it still is the same study.
        drop(open().unwrap());
        fixture.append("prose.jsonl", "{\"text\": \"more\"}\n");
        let other = error(&results, &fixture, false);
        assert!(
            other.contains("the content of data prose is another"),
            "{other}"
        );
    }

    #[test]
    fn a_folder_of_other_formats_is_refused_and_can_be_read() {
        let fixture = Fixture::new();
        let results = fixture.path().join("results");
        let study = fixture.study(false).unwrap();
        drop(ResultsFolder::open(&results, &study).unwrap());
        fs::create_dir_all(results.join("trials/x")).unwrap();
        let evals = format!("evals_format = {}", evals::identity::FORMAT);
        fixture.replace("results/manifest.toml", &evals, "evals_format = 1");
        let other = error(&results, &fixture, false);
        assert!(
            other.contains("the evaluations' format was 1, is now "),
            "{other}"
        );
        fixture.replace("results/manifest.toml", "evals_format = 1\n", "");
        fixture.replace(
            "results/manifest.toml",
            &format!("engine_format = {ENGINE_FORMAT}"),
            "engine_format = 2",
        );
        assert_eq!(Manifest::read(&results).unwrap().evals_format, None);
        let other = error(&results, &fixture, false);
        assert!(
            other.contains("study: the engine's format was 2, is now "),
            "{other}"
        );
    }

    #[test]
    fn an_unwritable_folder_is_said() {
        let fixture = Fixture::new();
        let text = error(&fixture.path().join("suite.toml/results"), &fixture, false);
        assert!(text.contains("results cannot be written here"), "{text}");
        assert!(text.contains("--out"), "{text}");
    }
}
