//! RULER (Hsieh et al., arXiv:2404.06654): 13 synthetic tasks at lengths that are counted in the model's own tokens.
//! Prompts, answer prefixes, haystacks and scoring are those of NVIDIA's generators with the template for base models;
//! what differs:
//!
//! - Every item is drawn by itself, from (seed, task, length, item), and has as much haystack as fits it, to the unit
//!   (a line, word, needle or document); RULER steps by 5 to 500 units, found with its first item.
//! - A prompt with its answer never exceeds the length; RULER's frequent words leave the answer out of the count.
//! - No distractor has the key that is asked for, and frequent words have no ties among those that are asked for.
//! - Below 2,000 tokens the solved example of variable tracking is shorter: at most half of the room.
//! - Questions whose own documents have no room at a length are passed over there.
//! - Generation ends as soon as the score cannot rise: when every expected string is in the output.
mod essays;
pub(super) mod fit;
mod frequencies;
mod matching;
mod needles;
mod questions;
mod subtask;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
mod variables;

pub use subtask::Subtask;

use super::draw::Draw;
use super::record::{Place, Protocol, Record};
use super::task::{a_tenth, at_least_one, held_out, lengths_problem, scores_by_length};
use super::words::Words;
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::{Document, SourceSpec};
use crate::model::generate;
use essays::Essays;
use questions::Questions;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Prompts that are continued together, at most, and tokens of them.
const BATCH: usize = 8;
const BATCH_TOKENS: usize = 16_384;
/// Tokens of the solved example of variable tracking, at most.
const EXAMPLE_TOKENS: usize = 500;

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
    fn answer_tokens(&self, subtask: Subtask) -> usize {
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

/// A prompt, and the strings that its answer should have.
#[derive(Debug, Clone, PartialEq)]
struct Prompt {
    text: String,
    expected: Vec<String>,
}

/// One item.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    length: usize,
    subtask: Subtask,
    /// Names its draws.
    stream: String,
    /// Of a question, which one.
    question: usize,
    /// Lines of noise in the solved example of variable tracking.
    example_lines: usize,
}

/// The prepared task.
pub struct Ruler {
    spec: RulerSpec,
    tokens: Rc<Tokens>,
    words: Words,
    essays: Option<Essays>,
    questions: BTreeMap<Subtask, Questions>,
    cells: Vec<Cell>,
    items: Vec<String>,
}

impl Ruler {
    /// # Errors
    /// When a length has no room for the text around what is asked for, or too few questions have it.
    fn new(
        spec: &RulerSpec,
        tokens: Rc<Tokens>,
        essays: Option<Essays>,
        questions: BTreeMap<Subtask, Questions>,
    ) -> Result<Self, Error> {
        let mut task = Ruler {
            spec: spec.clone(),
            tokens,
            words: Words::new(),
            essays,
            questions,
            cells: Vec::new(),
            items: Vec::new(),
        };
        for &length in &spec.lengths {
            for &subtask in &spec.tasks {
                let cells = task.cells_of(length, subtask)?;
                for (item, cell) in cells.into_iter().enumerate() {
                    let name = format!("{}/{length}/{}/{item}", spec.name, subtask.name());
                    task.items.push(name);
                    task.cells.push(cell);
                }
            }
        }
        Ok(task)
    }

    /// The items of one task at one length.
    fn cells_of(&self, length: usize, subtask: Subtask) -> Result<Vec<Cell>, Error> {
        let stream = |item: &dyn std::fmt::Display| {
            let (seed, task) = (self.spec.seed, subtask.name());
            format!("harness ruler/{seed}/{task}/{length}/{item}")
        };
        let cell = |item: usize, question: usize| Cell {
            length,
            subtask,
            stream: stream(&item),
            question,
            example_lines: 0,
        };
        if let Some(all) = self.questions.get(&subtask) {
            let count = all.questions.len();
            let order = Draw::new(&stream(&"questions")).sample(count, count);
            let mut cells: Vec<Cell> = Vec::new();
            for question in order {
                if cells.len() == self.spec.items {
                    break;
                }
                let next = cell(cells.len(), question);
                if self.count(&next, self.sizes(&next).0)? <= self.room(&next) {
                    cells.push(next);
                }
            }
            if cells.len() < self.spec.items {
                return self.wrong(format!(
                    "{} items of {} were asked for, but at length {length} only {} of its {count} questions have \
                     room for their documents; lower `items` or ask for greater `lengths`",
                    self.spec.items,
                    subtask.name(),
                    cells.len()
                ));
            }
            return Ok(cells);
        }
        let mut cells: Vec<Cell> = (0..self.spec.items).map(|item| cell(item, 0)).collect();
        if subtask == Subtask::Variables {
            let lines = self.example_lines(&cells[0])?;
            cells.iter_mut().for_each(|cell| cell.example_lines = lines);
        }
        let mut smallest = 0;
        for cell in &cells {
            smallest = smallest.max(self.count(cell, self.sizes(cell).0)?);
        }
        let answer = self.spec.answer_tokens(subtask);
        if smallest + answer > length {
            return self.wrong(format!(
                "length {length} is too short for {}: the text around what it asks for has up to {smallest} tokens \
                 and its answer {answer}; ask for a length well above their sum, or leave it out of `tasks`",
                subtask.name()
            ));
        }
        Ok(cells)
    }

    fn wrong<T>(&self, what: String) -> Result<T, Error> {
        Err(Error::task(&self.spec.name, what))
    }

    /// Tokens that a prompt may have.
    fn room(&self, cell: &Cell) -> usize {
        let answer = self.spec.answer_tokens(cell.subtask);
        cell.length.saturating_sub(answer)
    }

    /// The smallest and the largest size of an item's haystack.
    fn sizes(&self, cell: &Cell) -> (usize, usize) {
        // A unit is a byte at least, and so is a token.
        let all = cell.length.max(1);
        match cell.subtask {
            Subtask::Variables => (1, all),
            Subtask::CommonWords => (frequencies::COMMON, self.words.all().len()),
            Subtask::FrequentWords => {
                let asked = |&size: &usize| frequencies::has_an_answer(cell.length, size);
                ((1..all).find(asked).unwrap_or(all), all)
            }
            Subtask::Squad | Subtask::Hotpot => {
                let questions = &self.questions[&cell.subtask];
                let smallest = questions.questions[cell.question].smallest();
                (smallest, questions.documents())
            }
            needles => (
                needles::smallest(needles),
                all.max(needles::smallest(needles)),
            ),
        }
    }

    /// The prompt with so much haystack.
    fn of_size(&self, cell: &Cell, size: usize) -> Prompt {
        let (stream, words) = (&cell.stream, &self.words);
        match cell.subtask {
            Subtask::Variables => {
                let example = self.example(cell, cell.example_lines);
                variables::prompt(stream, &example, size)
            }
            Subtask::CommonWords => frequencies::common_words(stream, cell.length, size, words),
            Subtask::FrequentWords => frequencies::frequent_words(stream, cell.length, size),
            Subtask::Squad | Subtask::Hotpot => {
                let all = &self.questions[&cell.subtask];
                all.prompt(&all.questions[cell.question], stream, size)
            }
            needles => needles::prompt(needles, stream, size, words, self.essays.as_ref()),
        }
    }

    /// The solved example before an item's question; its numbers are those of the task and length.
    fn example(&self, cell: &Cell, lines: usize) -> String {
        let stream = format!("harness ruler/{}/vt/{}", self.spec.seed, cell.length);
        variables::example(&stream, &cell.stream, lines)
    }

    /// Lines of noise in the solved example.
    fn example_lines(&self, cell: &Cell) -> Result<usize, Error> {
        let room = EXAMPLE_TOKENS.min(self.room(cell) / 2);
        let count = |lines| {
            let spans = self.tokens.spans(&self.example(cell, lines));
            spans.map(|spans| spans.ids.len())
        };
        Ok(fit::largest(1, EXAMPLE_TOKENS, room, count)?.unwrap_or(1))
    }

    fn count(&self, cell: &Cell, size: usize) -> Result<usize, Error> {
        Ok(self.tokens.document(&self.of_size(cell, size).text)?.len())
    }

    /// The item with as much haystack as fits its length, and its ids.
    fn prompt(&self, index: usize) -> Result<(Prompt, Vec<u32>), Error> {
        let cell = &self.cells[index];
        let (smallest, most) = self.sizes(cell);
        let room = self.room(cell);
        let found = fit::largest(smallest, most, room, |size| self.count(cell, size))?;
        let mut size = found.unwrap_or(smallest);
        loop {
            let asks = cell.subtask != Subtask::FrequentWords
                || frequencies::has_an_answer(cell.length, size);
            let prompt = self.of_size(cell, size);
            let ids = self.tokens.document(&prompt.text)?;
            if size == smallest || (asks && ids.len() <= room) {
                return Ok((prompt, ids));
            }
            size -= 1;
        }
    }

    fn score(&self, subtask: Subtask, output: &str, expected: &[String]) -> f64 {
        matching::string_match(output, expected, subtask.any_is_enough())
    }

    fn record(
        &self,
        index: usize,
        prompt: Prompt,
        ids: Vec<u32>,
        output: Vec<u32>,
    ) -> Result<Record, Error> {
        let cell = &self.cells[index];
        let output_text = self.tokens.decode(&output)?;
        let score = self.score(cell.subtask, &output_text, &prompt.expected);
        let name = cell.subtask.name();
        let cluster = match self.questions.get(&cell.subtask) {
            // Questions about one paragraph are not independent.
            Some(all) => {
                let about = all.questions[cell.question].about();
                format!("{}/{name}/document {about}", self.spec.name)
            }
            None => self.items[index].clone(),
        };
        Ok(Record {
            task: self.spec.name.clone(),
            protocol: Protocol::Ruler,
            item: self.items[index].clone(),
            index,
            length: cell.length,
            place: Some(Place::Subtask(name.to_string())),
            cluster,
            prompt: ids,
            output,
            output_text,
            expected: prompt.expected.join("\n"),
            metrics: BTreeMap::from([("string_match".into(), score)]),
            weight: 1.0,
            samples: Vec::new(),
            threshold: self.spec.threshold,
        })
    }
}

impl Task for Ruler {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        // Prompts of different lengths are not put together, and those of one task begin alike.
        let mut chunks = Vec::new();
        for &length in &self.spec.lengths {
            let batch = (BATCH_TOKENS / length.max(1)).clamp(1, BATCH);
            for _ in &self.spec.tasks {
                let items = (0..self.spec.items).step_by(batch);
                chunks.extend(items.map(|from| batch.min(self.spec.items - from)));
            }
        }
        chunks
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        let mut texts = Vec::new();
        for (cell, item) in self.cells.iter().zip(&self.items) {
            if self.questions.contains_key(&cell.subtask) {
                let smallest = self.sizes(cell).0;
                texts.push(Document {
                    id: item.clone(),
                    text: self.of_size(cell, smallest).text,
                });
            }
        }
        Ok(texts)
    }

    fn estimate(&self) -> Estimate {
        let answer = |cell: &Cell| self.spec.answer_tokens(cell.subtask);
        let generated: usize = self.cells.iter().map(answer).sum();
        let all: usize = self.cells.iter().map(|cell| cell.length).sum();
        Estimate {
            prefill: all.saturating_sub(generated),
            generated,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let mut prompts = Vec::new();
        let mut ids = Vec::new();
        for &index in items {
            let (prompt, of_prompt) = self.prompt(index)?;
            prompts.push(prompt);
            ids.push(of_prompt);
        }
        // A chunk is of one task.
        let subtask = items.first().map(|&index| self.cells[index].subtask);
        let most = subtask.map_or(0, |subtask| self.spec.answer_tokens(subtask));
        let end = &subject.model.config.eos_token_id;
        let ended = &mut |row: usize, output: &[u32]| {
            let cell = &self.cells[items[row]];
            let complete = self.tokens.decode(output).is_ok_and(|text| {
                // More text takes nothing away from what is found.
                self.score(cell.subtask, &text, &prompts[row].expected) == 1.0
            });
            complete || output.last().is_some_and(|id| end.contains(id))
        };
        let outputs = generate::greedy_until(subject.env, subject.model, &ids, most, ended)?;
        let all = items.iter().zip(&prompts).zip(ids).zip(outputs);
        all.map(|(((&index, prompt), ids), output)| self.record(index, prompt.clone(), ids, output))
            .collect()
    }
}
