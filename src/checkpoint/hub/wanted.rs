//! Which files of a repository are needed.
use super::tree::Tree;
use std::collections::BTreeSet;

/// What is needed of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A model: configuration, tokenizer, and its safetensors unless they are drawn anew.
    Model { weights: bool },
    /// The files whose names match one of these patterns.
    Files(Vec<String>),
}

/// A model's weights in one file, or the file that says in which ones they are.
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What a model cannot be read without.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// What belongs to it where it is there.
const OPTIONAL: [&str; 11] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
];

impl Wanted {
    /// The name of the file that must be read to know which others are needed.
    pub(super) fn index<'a>(&self, tree: &'a Tree) -> Option<&'a str> {
        let sharded = *self == Wanted::Model { weights: true } && !tree.files.contains_key(WEIGHTS);
        let (name, _) = tree.files.get_key_value(INDEX).filter(|_| sharded)?;
        Some(name)
    }

    /// The names of the needed files in order; `index` is the text of [`Wanted::index`]'s file.
    ///
    /// # Errors
    /// What the repository lacks.
    pub(super) fn names(&self, tree: &Tree, index: Option<String>) -> Result<Vec<String>, String> {
        let mut names = BTreeSet::new();
        match self {
            Wanted::Model { weights } => {
                for name in NEEDED {
                    if !tree.files.contains_key(name) {
                        return Err(format!("it has no {name}, without which no model is read"));
                    }
                }
                let known = NEEDED.iter().chain(&OPTIONAL);
                names.extend(
                    known
                        .filter(|name| tree.files.contains_key(**name))
                        .map(|n| n.to_string()),
                );
                if *weights {
                    names.extend(weight_files(tree, index)?);
                }
            }
            Wanted::Files(patterns) => {
                for text in patterns {
                    let pattern =
                        glob::Pattern::new(text).map_err(|e| format!("glob {text:?}: {e}"))?;
                    let options = glob::MatchOptions {
                        require_literal_separator: true,
                        ..Default::default()
                    };
                    let matches = tree
                        .files
                        .keys()
                        .filter(|name| pattern.matches_with(name, options));
                    let before = names.len();
                    names.extend(matches.cloned());
                    if names.len() == before && patterns.len() == 1 {
                        return Err(format!(
                            "glob {text:?} matches no file; it has {}",
                            some_of(tree)
                        ));
                    }
                }
            }
        }
        if names.is_empty() {
            return Err(format!(
                "it has no file that is wanted, but {}",
                some_of(tree)
            ));
        }
        Ok(names.into_iter().collect())
    }
}

/// The files of a model's weights.
fn weight_files(tree: &Tree, index: Option<String>) -> Result<Vec<String>, String> {
    if tree.files.contains_key(WEIGHTS) {
        return Ok(vec![WEIGHTS.to_string()]);
    }
    let Some(text) = index else {
        let pickled = |name: &&String| name.ends_with(".bin") || name.ends_with(".pth");
        return Err(match tree.files.keys().find(pickled) {
            Some(name) => format!(
                "its weights are in {name} alone, a pickle, which can run code when it is read; take a revision \
                 with model.safetensors"
            ),
            None => format!("it has neither {WEIGHTS} nor {INDEX}"),
        });
    };
    let index: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("{INDEX} is no JSON: {e}"))?;
    let map = index["weight_map"].as_object();
    let Some(map) = map.filter(|map| !map.is_empty()) else {
        return Err(format!("{INDEX} has no `weight_map`"));
    };
    let mut shards = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().unwrap_or_default();
        if !tree.files.contains_key(file) {
            return Err(format!(
                "{INDEX} names the file {file:?} for {tensor}, which is not there"
            ));
        }
        shards.insert(file.to_string());
    }
    shards.insert(INDEX.to_string());
    Ok(shards.into_iter().collect())
}

/// Names of some files, for errors.
fn some_of(tree: &Tree) -> String {
    let shown: Vec<&str> = tree.files.keys().map(String::as_str).take(5).collect();
    let more = tree.files.len().saturating_sub(shown.len());
    match (shown.is_empty(), more) {
        (true, _) => "no files".into(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
