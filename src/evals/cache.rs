//! Scores that were made before, by all that they depend on: the base of many studies is scored once a task.
//!
//! A file holds the records of one task of one checkpoint, named by their key. Its first line has the hash of the rest,
//! so that a damaged file is no score.
use super::{Error, Record};
use crate::whole_file;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Names the folder in the place of `results/.cache`.
const VARIABLE: &str = "HARNESS_CACHE";

/// The folder of the scores.
#[derive(Debug, Clone)]
pub struct ScoreCache(PathBuf);

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// Of the bytes behind this line.
    records: String,
}

impl ScoreCache {
    /// The folder that `HARNESS_CACHE` names, or `results/.cache` of the working folder.
    pub fn of_environment() -> Self {
        let folder = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
        let folder = folder.map_or_else(|| Path::new("results").join(".cache"), PathBuf::from);
        ScoreCache(folder.join("scores"))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.join(format!("{key}.jsonl"))
    }

    /// The records under a key, if they are there and whole.
    pub fn get(&self, key: &str) -> Option<Vec<Record>> {
        let path = self.path(key);
        let text = fs::read_to_string(&path).ok()?;
        let records = read(&text);
        if records.is_none() {
            log::warn!("{}: is damaged; its items are scored again", path.display());
        }
        records
    }

    /// Keeps the records of a task unless they are there.
    ///
    /// # Errors
    /// When the file cannot be written; it is then as it was.
    pub fn put(&self, key: &str, records: &[&Record]) -> Result<(), Error> {
        if self.get(key).is_some() {
            return Ok(());
        }
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { path, source }
        };
        fs::create_dir_all(&self.0).map_err(io(&self.0))?;
        whole_file::remove_temporaries(&self.0).map_err(io(&self.0))?;
        let mut lines = String::new();
        for record in records {
            lines.push_str(&serde_json::to_string(record).expect("a record has string keys"));
            lines.push('\n');
        }
        let header = Header {
            records: hash(&lines),
        };
        let header = serde_json::to_string(&header).expect("a header has string keys");
        let (path, text) = (self.path(key), format!("{header}\n{lines}"));
        whole_file::replace(&path, |file| {
            std::io::Write::write_all(file, text.as_bytes())
        })
        .map_err(io(&path))
    }
}

fn read(text: &str) -> Option<Vec<Record>> {
    let (header, lines) = text.split_once('\n')?;
    let header: Header = serde_json::from_str(header).ok()?;
    if header.records != hash(lines) {
        return None;
    }
    lines
        .lines()
        .map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Protocol, tests::record};
    use super::*;

    #[test]
    fn what_is_kept_is_found_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ScoreCache(folder.path().join("scores"));
        assert!(cache.get("a").is_none());
        let mut records = vec![record("passkey", Protocol::Passkey, "passkey/0")];
        records[0].metrics.insert("exact_match".into(), 0.1 + 0.2);
        cache.put("a", &records.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(cache.get("a").unwrap(), records);
        assert!(cache.get("b").is_none());
        let path = cache.path("a");
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in [
            whole.replace("0.30000000000000004", "0.3"),
            whole[..whole.len() - 1].to_string(),
            String::new(),
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(cache.get("a").is_none());
        }
        cache.put("b", &[]).unwrap();
        assert!(cache.get("b").unwrap().is_empty());
    }
}
