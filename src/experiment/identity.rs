//! What makes a trial the same trial: the hash of all that its bytes depend on.
use super::TrialSpec;
use crate::{
    checkpoint::{self, BaseSpec},
    data::{self, SourceSpec},
    evals::{self, ScoreCache, SuiteSpec, identity::Material, spec::TaskSpec},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// Version of what the engine computes: raised when a trial gives other bytes than before.
pub const ENGINE_FORMAT: u32 = 3;

/// What reading a trial's inputs can fail with.
#[derive(Debug)]
pub(super) enum Failure {
    Base(Box<checkpoint::Error>),
    Data(data::Error),
    /// A source of this task.
    Task(String, data::Error),
    /// What runs the programs of this task.
    Programs(String, evals::Error),
}

/// Hashes of what the paths of a study hold; each is read once.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// Where hashes of earlier times are.
    cache: &'a Path,
    hashes: BTreeMap<String, String>,
    /// By what the study calls them, for people: sources of one name under several arms share an entry.
    named: BTreeMap<String, Vec<String>>,
}

impl<'a> Contents<'a> {
    /// Nothing read yet; files whose hashes are in the folder `cache` will not be.
    pub fn new(cache: &'a Path) -> Self {
        Contents {
            cache,
            hashes: BTreeMap::new(),
            named: BTreeMap::new(),
        }
    }

    /// What was read: its name in the study, and its hash.
    pub fn named(&self) -> BTreeMap<String, String> {
        let joined = |(name, hashes): (&String, &Vec<String>)| (name.clone(), hashes.join("+"));
        self.named.iter().map(joined).collect()
    }

    /// The hash of what `said` names. `how` tells apart hashes of the same files that are made in different ways.
    fn hash<E>(
        &mut self,
        name: String,
        how: &str,
        said: &Value,
        read: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        let said = format!("{how} {}", canonical(said));
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
        self.hash(name, "checkpoint", &json!(base), || base.content_hash())
            .map_err(|e| Failure::Base(Box::new(e)))
    }

    fn source(&mut self, of: &str, source: &SourceSpec) -> Result<String, data::Error> {
        let (name, cache) = (format!("{of} {}", source.name), self.cache);
        self.hash(name, "documents", &json!(source), || {
            data::content_hash(source, cache)
        })
    }

    /// What a task is, with every path replaced by the hash of its content.
    fn task(&mut self, task: &TaskSpec) -> Result<Value, Failure> {
        let named = |e| Failure::Task(task.name().to_string(), e);
        let cache = self.cache;
        evals::identity::of(task, &mut |material| match material {
            Material::Source(source) => {
                let name = format!("{} {}", task.name(), source.name);
                let read = || task.kind().content_hash(source, cache);
                let how = match task.kind().reads_rows() {
                    true => "rows",
                    false => "documents",
                };
                self.hash(name, how, &json!(source), read).map_err(named)
            }
            Material::File(path) => {
                let read = || data::file_hash(path);
                self.hash("items".into(), "file", &json!(path), read)
                    .map_err(named)
            }
            Material::Judge(path) => self.base(&BaseSpec::of_path(path)),
        })
    }

    /// What runs the programs of tasks that have any.
    fn interpreter(&mut self) -> Result<String, evals::Error> {
        let said = json!({ "program": "python3" });
        self.hash(
            "python3".into(),
            "program",
            &said,
            evals::identity::interpreter,
        )
    }

    /// A trial's key: the hash of its specification with every path replaced by the hash of its content,
    /// of the formats of the engine and of the tasks, and of `backend`, which names what computes.
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
        // What it may take of memory is no part of it.
        if let Some(dedup) = &trial.dedup {
            said["dedup"] = dedup.identity().into();
        }
        for (i, task) in trial.evals.task.iter().enumerate() {
            said["evals"]["task"][i] = self.task(task)?;
            if evals::identity::runs_programs(task) {
                let named = |e| Failure::Programs(task.name().to_string(), e);
                said["evals"]["task"][i]["interpreter"] = self.interpreter().map_err(named)?.into();
            }
        }
        let identity = json!({
            "engine": ENGINE_FORMAT,
            "evals": evals::identity::FORMAT,
            "backend": backend,
            "trial": said,
        });
        Ok(hash(&identity))
    }
}

/// The hash of all that a suite reads and says: another one where a text changed.
///
/// # Errors
/// In words, when what a task names cannot be read.
pub fn suite_key(suite: &SuiteSpec) -> Result<String, String> {
    let cache = ScoreCache::of_environment();
    let mut contents = Contents::new(cache.folder());
    let tasks = suite.task.iter().map(|task| contents.task(task));
    let tasks: Result<Vec<Value>, Failure> = tasks.collect();
    Ok(hash(&tasks.map_err(words)?.into()))
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Base(e) => e.to_string(),
        Failure::Data(e) => e.to_string(),
        Failure::Task(task, e) => format!("task \"{task}\": {e}"),
        Failure::Programs(task, e) => format!("task \"{task}\": {e}"),
    }
}

/// The keys under which the scores of a checkpoint under a RoPE are kept for everybody, task by task: hashes of all
/// that they depend on.
///
/// # Errors
/// In words, when what a task names, or the checkpoint, cannot be read.
pub fn score_keys(
    suite: &SuiteSpec,
    checkpoint: &BaseSpec,
    rope: &str,
    backend: &str,
) -> Result<Vec<String>, String> {
    let cache = ScoreCache::of_environment();
    let mut contents = Contents::new(cache.folder());
    let content = contents.base(checkpoint).map_err(words)?;
    let key = |task: &TaskSpec| {
        let mut said = contents.task(task).map_err(words)?;
        if evals::identity::runs_programs(task) {
            let interpreter = contents.interpreter();
            let interpreter = interpreter.map_err(|e| format!("task \"{}\": {e}", task.name()))?;
            said["interpreter"] = interpreter.into();
        }
        let identity = json!({
            "engine": ENGINE_FORMAT,
            "evals": evals::identity::FORMAT,
            "backend": backend,
            "checkpoint": { "content": content, "init": checkpoint.init },
            "rope": rope,
            "task": said,
        });
        Ok(hash(&identity))
    };
    suite.task.iter().map(key).collect()
}

fn hash(identity: &Value) -> String {
    let hash = blake3::hash(canonical(identity).as_bytes());
    hash.to_hex()[..16].to_string()
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
            Contents::new(folder.path()).key(&trial, backend).unwrap()
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

    #[test]
    fn the_same_files_read_in_two_ways_have_two_hashes() {
        let folder = Folder::new();
        let path = folder.path().join("own.jsonl");
        let source = format!("[{{ name = 'own', paths = [{path:?}] }}]");
        let suite: SuiteSpec = toml::from_str(&format!(
            "[[task]]\nkind = 'long_loss'\nname = 'loss'\nsources = {source}\ncontext = 8\nstride = 4\ndocuments = 1\n\
             max_tokens = 16\n[[task]]\nkind = 'generate'\nname = 'answers'\nsources = {source}\nprompt = '{{{{text}}}}'\n\
             metrics = ['exact_match']\nexpected = 'number'\nmax_tokens = 4"
        ))
        .unwrap();
        let keys = |number: usize| {
            let line = format!("{{\"text\": \"how many\", \"number\": \"{number}\"}}\n");
            std::fs::write(&path, line).unwrap();
            let mut contents = Contents::new(folder.path());
            [0, 1].map(|i| contents.task(&suite.task[i]).unwrap())
        };
        let ([loss, answers], [same_loss, other_answers]) = (keys(3), keys(4));
        assert_eq!(loss, same_loss);
        assert_ne!(answers, other_answers);
    }
}
