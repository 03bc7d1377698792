//! Recall in conversations of growing length: of a fact, of a correction (the later value counts), of the n-th topic,
//! and of a line of a long record. Topics and lines are those of LongEval (Li et al., "How Long Can Open-Source LLMs
//! Truly Promise on Context Length?", LongChat, 2023), but that the answer's beginning is given, as in RULER, so that
//! base models answer, too.
//!
//! A conversation is made of topics, each announced by the user and filled with turns of other texts; a fact, and
//! another with its correction, are said somewhere between. What is asked of one conversation has the same beginning,
//! which is read once. It is written by the model's chat template where it has one (protocol `chat_template`), else in
//! lines of `User:` and `Assistant:` (`chat_plain`).
//!
//! An answer is right by these rules alone: of a number, the first run of digits of the output is the number; of a
//! topic, it is the first of the conversation's topics that the output names, in any case.
mod answer;
mod conversation;
mod filler;
#[cfg(test)]
mod tests;

use super::draw::Draw;
use super::fit;
use super::record::{Place, Record};
use super::task::{
    BATCH_TOKENS, NO_SOURCES, a_tenth, at_least_one, held_out, lengths_problem, scores_by_length,
    tokens_together,
};
use super::words::Words;
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::{Document, SourceSpec};
use crate::model::generate;
use answer::Answer;
use conversation::{Asked, Conversation, lines};
use filler::Filler;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Tokens that are generated, at most.
const ANSWER_TOKENS: usize = 24;
/// Conversations whose questions are answered together, at most.
const BATCH: usize = 4;

/// `kind = "dialogue"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialogueSpec {
    pub name: String,
    /// What is asked of each conversation.
    pub tasks: Vec<Recall>,
    /// Tokens of conversation and answer, in the model's own tokens: at most this, and as near as the units allow.
    pub lengths: Vec<usize>,
    /// Conversations of each length.
    pub conversations: usize,
    /// Decides the conversations.
    #[serde(default)]
    pub seed: u64,
    /// Chats (or other texts) for the turns between: each line of a document is a turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSpec>,
    /// Words of a turn, at least: lines that follow one another are put together.
    #[serde(default = "one_word")]
    pub turn_words: usize,
    /// Mean from which a length counts as passed: gives the score `effective_context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

fn one_word() -> usize {
    1
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recall {
    /// A number that the user said.
    Fact,
    /// A number that the user said and later corrected.
    Correction,
    /// The n-th topic.
    Topic,
    /// A line of a long record in one turn.
    Line,
}

impl Recall {
    fn name(self) -> &'static str {
        match self {
            Recall::Fact => "fact",
            Recall::Correction => "correction",
            Recall::Topic => "topic",
            Recall::Line => "line",
        }
    }
}

impl Kind for DialogueSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn problem(&self) -> Option<String> {
        let distinct: BTreeSet<Recall> = self.tasks.iter().copied().collect();
        if distinct.is_empty() || distinct.len() < self.tasks.len() {
            return Some("`tasks` must name at least one of fact, correction, topic and line, and none twice".into());
        }
        let lines_alone = self.tasks == [Recall::Line];
        if self.sources.is_empty() && !lines_alone {
            return Some(NO_SOURCES.into());
        }
        if !self.sources.is_empty() && lines_alone {
            return Some("`sources` are for turns between, which `line` has not".into());
        }
        let (conversations, words) = (self.conversations, self.turn_words);
        lengths_problem(&self.lengths, self.threshold)
            .or_else(|| at_least_one(&[("conversations", conversations), ("turn_words", words)]))
    }

    fn scores(&self) -> Vec<String> {
        scores_by_length("exact_match", &self.lengths, self.threshold)
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    fn batch_tokens(&self) -> usize {
        tokens_together(BATCH, self.tasks.len() * self.longest())
    }

    fn reduce(&mut self) {
        self.conversations = a_tenth(self.conversations);
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let documents = match self.sources.is_empty() {
            true => Vec::new(),
            false => held_out(&self.name, &self.sources)?,
        };
        let filler = Filler::new(&documents, self.turn_words);
        Ok(Box::new(Dialogue::new(self, tokens, filler)?))
    }
}

/// One item.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    length: usize,
    conversation: usize,
    recall: Recall,
}

/// The prepared task.
pub struct Dialogue {
    spec: DialogueSpec,
    tokens: Rc<Tokens>,
    words: Words,
    filler: Filler,
    cells: Vec<Cell>,
    items: Vec<String>,
}

impl Dialogue {
    /// # Errors
    /// When a length has no room for what is said and asked without any turns between, or the chat template refuses
    /// conversations.
    fn new(spec: &DialogueSpec, tokens: Rc<Tokens>, filler: Filler) -> Result<Self, Error> {
        let mut task = Dialogue {
            spec: spec.clone(),
            tokens,
            words: Words::new(),
            filler,
            cells: Vec::new(),
            items: Vec::new(),
        };
        for &length in &spec.lengths {
            let mut smallest = 0;
            for conversation in 0..spec.conversations {
                for &recall in &spec.tasks {
                    let cell = Cell {
                        length,
                        conversation,
                        recall,
                    };
                    smallest =
                        smallest.max(task.ids(&task.asked(cell, smallest_of(recall)))?.len());
                    let name = format!("{}/{}", task.cluster(cell), recall.name());
                    task.items.push(name);
                    task.cells.push(cell);
                }
            }
            if smallest + ANSWER_TOKENS > length {
                let what = format!(
                    "length {length} is too short: a conversation without turns between has up to {smallest} tokens \
                     and an answer {ANSWER_TOKENS}; ask for a length well above their sum"
                );
                return Err(Error::task(&spec.name, what));
            }
        }
        Ok(task)
    }

    fn cluster(&self, cell: Cell) -> String {
        format!("{}/{}/{}", self.spec.name, cell.length, cell.conversation)
    }

    /// Names the draws of a conversation, which is the same whatever is asked.
    fn stream(&self, cell: Cell) -> String {
        let (seed, length, conversation) = (self.spec.seed, cell.length, cell.conversation);
        format!("harness dialogue/{seed}/{length}/{conversation}")
    }

    /// The conversation with so many words of filler, or lines of the record, and the question at its end.
    fn asked(&self, cell: Cell, size: usize) -> Asked {
        let stream = self.stream(cell);
        if cell.recall == Recall::Line {
            return lines(&stream, size, &self.words);
        }
        let turns = self
            .filler
            .turns(&mut Draw::new(&format!("{stream}/filler")), size);
        Conversation::new(&stream, turns).ask(cell.recall)
    }

    fn ids(&self, asked: &Asked) -> Result<Vec<u32>, Error> {
        self.tokens.conversation(&asked.turns, &asked.begun)
    }

    /// The size at which the longest of a conversation's prompts fits.
    fn size(&self, cell: Cell) -> Result<usize, Error> {
        let room = cell.length - ANSWER_TOKENS;
        let of_lines =
            |recall: &&Recall| (**recall == Recall::Line) == (cell.recall == Recall::Line);
        let same: Vec<Recall> = self.spec.tasks.iter().filter(of_lines).copied().collect();
        let count = |size: usize| -> Result<usize, Error> {
            let mut most = 0;
            for &recall in &same {
                let asked = self.asked(Cell { recall, ..cell }, size);
                most = most.max(self.ids(&asked)?.len());
            }
            Ok(most)
        };
        let smallest = smallest_of(cell.recall);
        // A word or a line has a token at least.
        let found = fit::largest(smallest, cell.length, room, count)?;
        Ok(found.unwrap_or(smallest))
    }

    fn record(
        &self,
        index: usize,
        asked: Asked,
        ids: Vec<u32>,
        output: Vec<u32>,
    ) -> Result<Record, Error> {
        let cell = self.cells[index];
        let output_text = self.tokens.decode(&output)?;
        let right = asked.answer.is_right(&output_text);
        Ok(Record {
            task: self.spec.name.clone(),
            protocol: self.tokens.chat().protocol(),
            item: self.items[index].clone(),
            index,
            length: cell.length,
            place: Some(Place::Subtask(cell.recall.name().to_string())),
            cluster: self.cluster(cell),
            prompt: ids,
            output,
            output_text,
            expected: asked.answer.expected().to_string(),
            metrics: BTreeMap::from([("exact_match".into(), f64::from(right))]),
            weight: 1.0,
            choices: Vec::new(),
            samples: Vec::new(),
            threshold: self.spec.threshold,
        })
    }
}

/// Words or lines of the smallest conversation.
fn smallest_of(recall: Recall) -> usize {
    match recall {
        Recall::Line => 1,
        _ => 0,
    }
}

impl Task for Dialogue {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        // Whole conversations: what is asked of one shares its beginning.
        let mut chunks = Vec::new();
        let asked = self.spec.tasks.len();
        for &length in &self.spec.lengths {
            let together = (BATCH_TOKENS / (length * asked)).clamp(1, BATCH);
            let conversations = (0..self.spec.conversations).step_by(together);
            chunks.extend(
                conversations.map(|from| asked * together.min(self.spec.conversations - from)),
            );
        }
        chunks
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        Ok(Vec::new())
    }

    fn estimate(&self) -> Estimate {
        // One reading for all questions of a conversation, and one for the record of lines.
        let records = self.spec.tasks.contains(&Recall::Line);
        let conversations = self.spec.tasks.len() > usize::from(records);
        let read = usize::from(records) + usize::from(conversations);
        Estimate {
            prefill: self.spec.conversations * read * self.spec.lengths.iter().sum::<usize>(),
            generated: self.items.len() * ANSWER_TOKENS,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let mut all = Vec::new();
        let mut ids = Vec::new();
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        for &index in items {
            let cell = self.cells[index];
            let kind = format!("{} {}", self.cluster(cell), cell.recall == Recall::Line);
            let size = match sizes.get(&kind) {
                Some(&size) => size,
                None => self.size(cell)?,
            };
            sizes.insert(kind, size);
            let asked = self.asked(cell, size);
            ids.push(self.ids(&asked)?);
            all.push(asked);
        }
        let end = &subject.model.config.eos_token_id;
        let ended = &mut |row: usize, output: &[u32]| {
            let answer: &Answer = &all[row].answer;
            let decided = self
                .tokens
                .decode(output)
                .is_ok_and(|text| answer.is_decided(&text));
            decided || output.last().is_some_and(|id| end.contains(id))
        };
        let outputs =
            generate::greedy_until(subject.env, subject.model, &ids, ANSWER_TOKENS, ended)?;
        let rows = items.iter().zip(all).zip(ids).zip(outputs);
        rows.map(|(((&index, asked), ids), output)| self.record(index, asked, ids, output))
            .collect()
    }
}
