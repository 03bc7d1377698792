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
//! - Where a length has room for more documents than a file has, they come again, as in RULER; but those that a question
//!   needs stand there once.
//! - Common words are wonderwords' alone; RULER goes on with another list where these end. A length of which a task's
//!   largest prompt leaves a tenth empty is refused.
//! - Generation ends as soon as the score cannot rise: when every expected string is in the output.
mod essays;
mod frequencies;
mod matching;
mod needles;
mod questions;
mod spec;
mod subtask;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
mod variables;

pub use spec::RulerSpec;
pub use subtask::Subtask;

use super::draw::Draw;
use super::fit;
use super::record::{Place, Protocol, Record};
use super::task::{BATCH, BATCH_TOKENS};
use super::words::Words;
use super::{Error, Estimate, Subject, Task, Tokens};
use crate::data::Document;
use crate::model::generate;
use essays::Essays;
use questions::Questions;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Units of haystack that are added to an item to see how fast its prompt grows.
const UNITS: usize = 64;
/// Tokens of the solved example of variable tracking, at most.
const EXAMPLE_TOKENS: usize = 500;

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
    /// When a length has no room for the text around what is asked for, or too few questions have it, or there is too little
    /// to fill it.
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
                task.check_filled(&cells)?;
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

    /// An error where the largest prompt of an item leaves a tenth of its length empty.
    fn check_filled(&self, cells: &[Cell]) -> Result<(), Error> {
        let Some(cell) = cells.iter().min_by_key(|cell| self.sizes(cell).1) else {
            return Ok(());
        };
        let (length, name) = (cell.length, cell.subtask.name());
        let (smallest, most) = self.sizes(cell);
        let units = UNITS.min(most - smallest);
        let least = self.count(cell, smallest)?;
        let grown = self.count(cell, smallest + units)?.saturating_sub(least);
        // Most haystacks have no end, and the largest is many times the length: it is made only where it may be too small.
        if units > 0 && least + grown * (most - smallest) / units >= length {
            return Ok(());
        }
        let filled = self.count(cell, most)? + self.spec.answer_tokens(cell.subtask);
        if filled >= length - length / 10 {
            return Ok(());
        }
        self.wrong(format!(
            "length {length} is too long for {name}: with all that there is to fill it an item has {filled} tokens; ask \
             for smaller `lengths`, or leave {name} out of `tasks`"
        ))
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
                // Documents come again, but for those that are needed.
                match smallest < questions.documents() {
                    true => (smallest, all.max(smallest)),
                    false => (smallest, smallest),
                }
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
            choices: Vec::new(),
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
