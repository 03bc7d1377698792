//! What a suite says of RULER.
use super::essays::Essays;
use super::questions::{self, Questions};
use super::{Ruler, Subtask};
use crate::data::SourceSpec;
use crate::evals::task::{a_tenth, at_least_one, held_out, lengths_problem, scores_by_length};
use crate::evals::{Error, Kind, Task, Tokens};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// `kind = "ruler"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulerSpec {
    pub name: String,
    /// Which of the 13 tasks.
    pub tasks: Vec<Subtask>,
    /// Tokens of prompt and answer, in the model's own tokens: at most this, and as near as the units allow.
    pub lengths: Vec<usize>,
    /// Items of each task and length.
    pub items: usize,
    /// Decides the items.
    #[serde(default)]
    pub seed: u64,
    /// The essays of the haystack, for the tasks that have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSpec>,
    /// SQuAD's file, for `qa_1`; `${VARIABLE}` is replaced by the environment's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "expanded"
    )]
    pub squad: Option<PathBuf>,
    /// HotpotQA's file, for `qa_2`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "expanded"
    )]
    pub hotpotqa: Option<PathBuf>,
    /// Tokens that are generated, at most; RULER's numbers (30 to 128) where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_tokens: Option<usize>,
    /// Mean from which a length counts as passed: gives the score `effective_context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// A path with the environment's values in the place of its variables.
fn expanded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = String::deserialize(deserializer)?;
    let expanded = shellexpand::env(&path).map_err(|error| {
        let name = error.var_name;
        serde::de::Error::custom(format!(
            "{path} names the environment's {name}, which is not set; set {name} to the folder of the file"
        ))
    })?;
    Ok(Some(PathBuf::from(expanded.into_owned())))
}

impl RulerSpec {
    pub(super) fn answer_tokens(&self, subtask: Subtask) -> usize {
        self.answer_tokens.unwrap_or(subtask.answer_tokens())
    }
}

impl Kind for RulerSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        let squad = self.squad.iter().map(|path| ("squad", path.as_path()));
        let hotpotqa = self
            .hotpotqa
            .iter()
            .map(|path| ("hotpotqa", path.as_path()));
        squad.chain(hotpotqa).collect()
    }

    fn problem(&self) -> Option<String> {
        let distinct: BTreeSet<Subtask> = self.tasks.iter().copied().collect();
        if distinct.is_empty() || distinct.len() < self.tasks.len() {
            return Some("`tasks` must name at least one task of RULER, and none twice".into());
        }
        let essays = self.tasks.iter().find(|task| task.needs_essays());
        match (essays, self.sources.is_empty()) {
            (Some(task), true) => {
                let task = task.name();
                return Some(format!(
                    "{task} hides its needles in essays; name texts by `sources`"
                ));
            }
            (None, false) => {
                return Some("`sources` are essays, which none of its `tasks` has".into());
            }
            _ => {}
        }
        for (task, file) in [
            (Subtask::Squad, &self.squad),
            (Subtask::Hotpot, &self.hotpotqa),
        ] {
            let (name, key) = (task.name(), questions::key(task));
            match (distinct.contains(&task), file) {
                (true, None) => {
                    return Some(format!(
                        "{name} needs a file of questions; name it by `{key}`"
                    ));
                }
                (false, Some(_)) => {
                    return Some(format!(
                        "`{key}` is the file of {name}, which `tasks` lacks"
                    ));
                }
                _ => {}
            }
        }
        lengths_problem(&self.lengths, self.threshold)
            .or_else(|| at_least_one(&[("items", self.items)]))
            .or_else(|| at_least_one(&[("answer_tokens", self.answer_tokens.unwrap_or(1))]))
    }

    fn scores(&self) -> Vec<String> {
        scores_by_length("string_match", &self.lengths, self.threshold)
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    fn reduce(&mut self) {
        self.items = a_tenth(self.items);
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let essays = match self.sources.is_empty() {
            true => None,
            false => Some(Essays::new(&held_out(&self.name, &self.sources)?)),
        };
        let mut questions = BTreeMap::new();
        for (task, file) in [
            (Subtask::Squad, &self.squad),
            (Subtask::Hotpot, &self.hotpotqa),
        ] {
            if let Some(path) = file {
                let read =
                    Questions::read(task, path).map_err(|what| Error::task(&self.name, what))?;
                questions.insert(task, read);
            }
        }
        Ok(Box::new(Ruler::new(self, tokens, essays, questions)?))
    }
}
