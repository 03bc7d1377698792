//! What makes a trial the same trial: the hash of all that its bytes depend on.
use super::TrialSpec;
use crate::{
    checkpoint::{self, BaseSpec},
    data::{self, SourceSpec},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Version of what the engine computes: raised when a trial gives other bytes than before.
pub const ENGINE_FORMAT: u32 = 1;

/// What reading a trial's inputs can fail with.
#[derive(Debug)]
pub(super) enum Failure {
    Base(Box<checkpoint::Error>),
    Data(data::Error),
    /// A source of this task.
    Task(String, data::Error),
}

/// Hashes of what the paths of a study hold; each is read once.
#[derive(Debug, Default)]
pub(super) struct Contents {
    hashes: BTreeMap<String, String>,
    /// By what the study calls them, for people: sources of one name under several arms share an entry.
    named: BTreeMap<String, Vec<String>>,
}

impl Contents {
    /// What was read: its name in the study, and its hash.
    pub fn named(&self) -> BTreeMap<String, String> {
        let joined = |(name, hashes): (&String, &Vec<String>)| (name.clone(), hashes.join("+"));
        self.named.iter().map(joined).collect()
    }

    fn hash<E>(
        &mut self,
        name: String,
        said: &Value,
        read: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        let said = canonical(said);
        let hash = match self.hashes.get(&said) {
            Some(hash) => hash.clone(),
            None => read()?,
        };
        self.hashes.insert(said, hash.clone());
        let all = self.named.entry(name).or_default();
        if !all.contains(&hash) {
            all.push(hash.clone());
            all.sort();
        }
        Ok(hash)
    }

    fn base(&mut self, base: &BaseSpec) -> Result<String, Failure> {
        let name = format!("base {}", base.name());
        self.hash(name, &json!(base), || base.content_hash())
            .map_err(|e| Failure::Base(Box::new(e)))
    }

    fn source(&mut self, of: &str, source: &SourceSpec) -> Result<String, data::Error> {
        let name = format!("{of} {}", source.name);
        self.hash(name, &json!(source), || data::content_hash(source))
    }

    /// A trial's key: the hash of its specification with every path replaced by the hash of its content,
    /// of the engine's format and of `backend`, which names what computes.
    pub fn key(&mut self, trial: &TrialSpec, backend: &str) -> Result<String, Failure> {
        let mut said = json!(trial);
        said["base"] = json!({ "content": self.base(&trial.base)?, "init": trial.base.init });
        if !trial.data.is_empty() {
            let mut sources = Vec::new();
            for source in &trial.data {
                let content = self.source("data", source).map_err(Failure::Data)?;
                sources.push(json!({ "name": source.name, "content": content }));
            }
            said["data"] = sources.into();
        }
        for (i, task) in trial.evals.task.iter().enumerate() {
            let mut contents = Vec::new();
            for source in task.kind().sources() {
                let content = self.source(task.name(), source);
                contents.push(content.map_err(|e| Failure::Task(task.name().to_string(), e))?);
            }
            let said = &mut said["evals"]["task"][i];
            if !contents.is_empty() {
                said["sources"] = contents.into();
            }
            if let Some(path) = task.kind().path() {
                let content = self.hash("items".into(), &json!(path), || data::file_hash(path));
                let content = content.map_err(|e| Failure::Task(task.name().to_string(), e))?;
                said["path"] = content.into();
            }
        }
        let identity = json!({ "engine": ENGINE_FORMAT, "backend": backend, "trial": said });
        let hash = blake3::hash(canonical(&identity).as_bytes());
        Ok(hash.to_hex()[..16].to_string())
    }
}

/// JSON with sorted keys and no spaces: equal values have equal text.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let parts: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", json!(key), canonical(value)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(array) => {
            let parts: Vec<String> = array.iter().map(canonical).collect();
            format!("[{}]", parts.join(","))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Folder;
    use super::*;

    #[test]
    fn canonical_text_has_sorted_keys() {
        let value: Value =
            serde_json::from_str(r#"{"b": [1, {"z": null, "a": 0.5}], "a": "x\"y"}"#).unwrap();
        assert_eq!(
            canonical(&value),
            r#"{"a":"x\"y","b":[1,{"a":0.5,"z":null}]}"#
        );
    }

    #[test]
    fn the_key_follows_contents_and_settings_and_nothing_else() {
        let folder = Folder::new();
        let key = |folder: &Folder, backend: &str, change: &dyn Fn(&mut TrialSpec)| {
            let mut trial = folder.study(false).unwrap().trials[1].spec.clone();
            change(&mut trial);
            Contents::default().key(&trial, backend).unwrap()
        };
        let same = key(&folder, "b", &|_| {});
        assert_eq!(same.len(), 16);
        assert_eq!(same, key(&folder, "b", &|_| {}));
        assert_ne!(same, key(&folder, "c", &|_| {}));
        assert_ne!(same, key(&folder, "b", &|t| t.seed = Some(7)));
        assert_ne!(same, key(&folder, "b", &|t| t.stage[0].recompute = true));
        let init = |t: &mut TrialSpec| {
            if let Some(init) = &mut t.base.init {
                init.seed = 1;
            }
        };
        assert_ne!(same, key(&folder, "b", &init));
        // The same bytes at another place.
        let other = Folder::new();
        assert_eq!(same, key(&other, "b", &|_| {}));
        other.append("prose.jsonl", "{\"text\": \"more\"}\n");
        assert_ne!(same, key(&other, "b", &|_| {}));
        let other = Folder::new();
        other.append("held_out.jsonl", "{\"text\": \"more\"}\n");
        assert_ne!(same, key(&other, "b", &|_| {}));
        let other = Folder::new();
        other.append("base/config.json", " ");
        assert_ne!(same, key(&other, "b", &|_| {}));
    }
}
