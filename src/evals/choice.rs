//! Multiple choice by log-likelihood, as lm-eval's `multiple_choice` has it: each choice is scored as the continuation
//! of one context, and the likeliest is the answer.
//!
//! `acc` takes the choice with the greatest log-probability, `acc_norm` that with the greatest per character (lm-eval
//! divides by the choice's characters, not its bytes or tokens); the first of equal ones. `bits_per_byte` is of the right answer.
use super::loglikelihood::{self, Item};
use super::record::{Choice, Protocol, Record};
use super::scores::bits_per_byte;
use super::task::{NO_SOURCES, a_tenth_of_rows, at_least_one, only_rows, rows_of};
use super::template::{Said, Templates, fields, sample};
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::{Document, Row, SourceSpec};
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Items whose records are written together.
const BATCH: usize = 16;

/// `kind = "choice"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceSpec {
    pub name: String,
    /// Rows of JSON lines or Parquet, one an item.
    pub sources: Vec<SourceSpec>,
    /// The context, a Jinja template over the row's fields.
    pub context: String,
    /// The choices: an expression that gives a list.
    pub choices: String,
    /// What comes after the context, a template that has `choice` and `label` beside the fields.
    #[serde(default = "continuation")]
    pub continuation: String,
    /// The choices' labels: an expression that gives a list; A, B, C and on unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// The right choice: an expression that gives its label where `labels` is said, else its place, from 0.
    pub answer: String,
    /// What items of one text have in common, an expression; items are independent unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many items, at most; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
}

fn continuation() -> String {
    " {{choice}}".into()
}

impl Kind for ChoiceSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn reads_rows(&self) -> bool {
        true
    }

    fn problem(&self) -> Option<String> {
        if self.sources.is_empty() {
            return Some(NO_SOURCES.into());
        }
        only_rows(&self.sources).or_else(|| at_least_one(&[("items", self.items.unwrap_or(1))]))
    }

    fn scores(&self) -> Vec<String> {
        ["acc", "acc_norm", "bits_per_byte"]
            .map(String::from)
            .into()
    }

    fn longest(&self) -> usize {
        // Not known before the rows are read; contexts of choices are short.
        2048
    }

    fn reduce(&mut self) {
        self.items = Some(a_tenth_of_rows(self.items));
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let all = rows_of(&self.name, &self.sources)?;
        Ok(Box::new(Choices::new(self, &tokens, all)?))
    }
}

/// The prepared task.
pub struct Choices {
    spec: ChoiceSpec,
    questions: Vec<Question>,
    items: Vec<String>,
    /// Tokens of the longest context with a choice.
    longest: usize,
}

/// One item.
struct Question {
    cluster: String,
    /// What the model reads, one a choice; without a context it reads the checkpoint's BOS or EOS before that.
    items: Vec<Item>,
    /// Characters of each choice.
    characters: Vec<usize>,
    /// The texts that come after the context.
    continuations: Vec<String>,
    /// Which of them is right.
    answer: usize,
    /// Bytes of text that its tokens stand for.
    bytes: usize,
    /// The context with it.
    text: String,
}

impl Choices {
    /// Makes items of the rows.
    ///
    /// # Errors
    /// With the row and the key when a template cannot be filled in, there are fewer than two choices, the answer is
    /// none of them, or a choice is empty.
    pub fn new(spec: &ChoiceSpec, tokens: &Tokens, rows: Vec<Row>) -> Result<Self, Error> {
        let templates = Templates::new(&spec.name);
        let rows = sample(rows, spec.items);
        let question = |row: &Row| question(spec, &templates, tokens, row);
        let questions: Vec<Question> = rows.iter().map(question).collect::<Result<_, _>>()?;
        let lengths = questions.iter().flat_map(|q| &q.items);
        Ok(Choices {
            spec: spec.clone(),
            items: rows
                .iter()
                .map(|row| format!("{}/{}", spec.name, row.id))
                .collect(),
            longest: lengths.map(|item| item.token_ids.len()).max().unwrap_or(0),
            questions,
        })
    }

    /// The record of an item: what the model read, one a choice, and what that scored.
    fn record(&self, index: usize, read: &[Item], scored: &[loglikelihood::Scored]) -> Record {
        let question = &self.questions[index];
        let logprobs: Vec<f64> = scored
            .iter()
            .map(|s| s.logprobs.iter().map(|&x| f64::from(x)).sum())
            .collect();
        let per_character: Vec<f64> = logprobs
            .iter()
            .zip(&question.characters)
            .map(|(x, &n)| x / n as f64)
            .collect();
        let (best, right) = (greatest(&logprobs), question.answer);
        let hit = |choice: usize| f64::from(u8::from(choice == right));
        let mut metrics = BTreeMap::from([
            ("acc".to_string(), hit(best)),
            ("acc_norm".into(), hit(greatest(&per_character))),
        ]);
        if question.bytes > 0 {
            metrics.insert(
                "bits_per_byte".into(),
                bits_per_byte(-logprobs[right], question.bytes),
            );
            metrics.insert("bytes".into(), question.bytes as f64);
        }
        let chosen = &read[best];
        let choice = |(i, item): (usize, &Item)| Choice {
            token_ids: item.token_ids.clone(),
            scored_from: item.scored_from,
            logprob: logprobs[i],
            greedy: scored[i].greedy.iter().all(|&greedy| greedy),
        };
        Record {
            task: self.spec.name.clone(),
            protocol: Protocol::Choice,
            item: self.items[index].clone(),
            index,
            length: self.longest,
            place: None,
            cluster: question.cluster.clone(),
            prompt: chosen.token_ids[..chosen.scored_from].to_vec(),
            output: chosen.token_ids[chosen.scored_from..].to_vec(),
            output_text: question.continuations[best].clone(),
            expected: question.continuations[right].clone(),
            choices: read.iter().enumerate().map(choice).collect(),
            samples: Vec::new(),
            threshold: None,
            metrics,
            weight: (read[right].token_ids.len() - read[right].scored_from) as f64,
        }
    }
}

fn question(
    spec: &ChoiceSpec,
    templates: &Templates,
    tokens: &Tokens,
    row: &Row,
) -> Result<Question, Error> {
    let key = |key, text| Said { key, text };
    let fields = fields(row);
    let context = templates.text(key("context", &spec.context), row, &fields)?;
    let said = key("choices", &spec.choices);
    let choices = templates.list(said, row, &fields)?;
    if choices.len() < 2 {
        return Err(templates.error(said, row, "has fewer than two choices"));
    }
    let labels = match &spec.labels {
        Some(labels) => templates.list(key("labels", labels), row, &fields)?,
        None => ('A'..='Z')
            .map(|letter| Value::from(letter.to_string()))
            .collect(),
    };
    let answer = answer(spec, templates, row, &fields, &labels, choices.len())?;
    let said = key("continuation", &spec.continuation);
    // The space that the template itself puts before a choice is not a character of it.
    let delimiter = spec.continuation.len() - spec.continuation.trim_start().len();
    let (mut items, mut characters, mut continuations) = (Vec::new(), Vec::new(), Vec::new());
    for (i, choice) in choices.iter().enumerate() {
        let label = labels.get(i).cloned().unwrap_or_default();
        let both = context! { choice, label, ..fields.clone() };
        let text = templates.text(said, row, &both)?;
        if text.trim().is_empty() {
            return Err(templates.error(said, row, "is empty for one of its choices"));
        }
        let item = Item::of_pair(tokens, &context, &text);
        items.push(item.map_err(|what| templates.error(said, row, &what))?);
        characters.push(text.chars().count().saturating_sub(delimiter).max(1));
        continuations.push(text);
    }
    let of_right = &items[answer];
    Ok(Question {
        cluster: match &spec.cluster {
            Some(cluster) => templates
                .value(key("cluster", cluster), row, &fields)?
                .to_string(),
            None => row.id.clone(),
        },
        bytes: tokens.bytes(&of_right.token_ids[of_right.scored_from..]),
        text: format!("{context}{}", continuations[answer]),
        items,
        characters,
        continuations,
        answer,
    })
}

/// The place of the right one of so many choices: that of its label where the spec has labels, else what is said.
fn answer(
    spec: &ChoiceSpec,
    templates: &Templates,
    row: &Row,
    fields: &Value,
    labels: &[Value],
    choices: usize,
) -> Result<usize, Error> {
    let said = Said {
        key: "answer",
        text: &spec.answer,
    };
    let value = templates.value(said, row, fields)?;
    let labels = &labels[..labels.len().min(choices)];
    let found = match &spec.labels {
        Some(_) => labels
            .iter()
            .position(|label| label.to_string() == value.to_string()),
        None => value
            .to_string()
            .parse()
            .ok()
            .filter(|&i: &usize| i < choices),
    };
    found.ok_or_else(|| {
        let what = format!(
            "gives {value}, which is none of {} ({})",
            if spec.labels.is_some() {
                "its labels"
            } else {
                "its places"
            },
            match &spec.labels {
                Some(_) => labels
                    .iter()
                    .map(Value::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
                None => format!("0 to {}", choices.saturating_sub(1)),
            }
        );
        templates.error(said, row, &what)
    })
}

/// The place of the greatest; the first of equal ones.
fn greatest(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, x) in values.iter().enumerate() {
        if *x > values[best] {
            best = i;
        }
    }
    best
}

impl Task for Choices {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        let all = self.items.len();
        let from = (0..all).step_by(BATCH);
        from.map(|from| BATCH.min(all - from)).collect()
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        let text = |(question, item): (&Question, &String)| Document {
            id: item.clone(),
            text: question.text.clone(),
        };
        Ok(self.questions.iter().zip(&self.items).map(text).collect())
    }

    fn estimate(&self) -> Estimate {
        // A context is read once for all its choices.
        let of_item = |item: &Item| item.token_ids.len() - item.scored_from + 1;
        let of_question = |question: &Question| {
            let context = question.items.first().map_or(0, |item| item.scored_from);
            context + question.items.iter().map(of_item).sum::<usize>()
        };
        Estimate {
            prefill: self.questions.iter().map(of_question).sum(),
            generated: 0,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let prefix = loglikelihood::prefix(&subject.model.config);
        let (mut read, mut owners) = (Vec::new(), Vec::new());
        for &i in items {
            for item in &self.questions[i].items {
                let item = item.clone().after(prefix).map_err(|what| {
                    Error::task(&self.spec.name, format!("{}: {what}", self.items[i]))
                })?;
                read.push(item);
                owners.push(i);
            }
        }
        let name = |at: usize| self.items[owners[at]].clone();
        let scored = loglikelihood::score(subject, &read, &name)?;
        let mut from = 0;
        let records = items.iter().map(|&i| {
            let own = from..from + self.questions[i].items.len();
            from = own.end;
            self.record(i, &read[own.clone()], &scored[own])
        });
        Ok(records.collect())
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
