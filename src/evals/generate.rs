//! A task of a user's own, which the model answers by greedy continuation: prompts and answers of a row's fields.
use super::completion::edit_similarity;
use super::record::{Protocol, Record};
use super::task::{NO_SOURCES, a_tenth_of_rows, at_least_one, chunks_that_fit, only_rows, rows_of};
use super::template::{Said, Templates, fields, sample};
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::{Document, Row, SourceSpec};
use crate::model::generate;
use minijinja::Value;
use minijinja::value::ValueKind;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// `kind = "generate"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    pub name: String,
    /// Rows of JSON lines or Parquet, one an item.
    pub sources: Vec<SourceSpec>,
    /// The prompt, a Jinja template over the row's fields.
    pub prompt: String,
    /// What is right: an expression that gives a text, a number, or a list of them, of which any will do.
    pub expected: String,
    /// How the answer is compared.
    pub metrics: Vec<Metric>,
    /// A regular expression: of the answer the first match alone is compared, or its first group if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// Texts before which the answer ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Tokens of the answer, at most.
    pub max_tokens: usize,
    /// The length under which the item is counted, an expression; all have one length unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
    /// What items of one text have in common, an expression; items are independent unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many items, at most; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
}

/// How an answer is compared, both without the space around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// It is what is expected.
    ExactMatch,
    /// It has what is expected somewhere.
    Contains,
    /// It begins with what is expected.
    Prefix,
    /// 1 − the edits between both over the characters of the longer.
    EditSimilarity,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Metric::ExactMatch => "exact_match",
            Metric::Contains => "contains",
            Metric::Prefix => "prefix",
            Metric::EditSimilarity => "edit_similarity",
        }
    }

    fn score(self, answer: &str, expected: &str) -> f64 {
        let (answer, expected) = (answer.trim(), expected.trim());
        let hit = |is: bool| f64::from(u8::from(is));
        match self {
            Metric::ExactMatch => hit(answer == expected),
            Metric::Contains => hit(answer.contains(expected)),
            Metric::Prefix => hit(answer.starts_with(expected)),
            Metric::EditSimilarity => edit_similarity(answer, expected),
        }
    }
}

impl Kind for GenerateSpec {
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
        if self.metrics.is_empty() {
            return Some("`metrics` is empty; name one at least".into());
        }
        let capture = self.capture.as_deref().map(Regex::new);
        if let Some(Err(error)) = capture {
            let what = error.to_string();
            let what = what.lines().last().unwrap_or_default();
            return Some(format!("`capture` is no regular expression: {what}"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Some("`stop` has an empty text, before which every answer ends".into());
        }
        only_rows(&self.sources).or_else(|| {
            at_least_one(&[
                ("max_tokens", self.max_tokens),
                ("items", self.items.unwrap_or(1)),
            ])
        })
    }

    fn scores(&self) -> Vec<String> {
        let names = self.metrics.iter().map(|metric| metric.name().to_string());
        names.collect()
    }

    fn longest(&self) -> usize {
        // Not known before the rows are read.
        2048
    }

    fn reduce(&mut self) {
        self.items = Some(a_tenth_of_rows(self.items));
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let all = rows_of(&self.name, &self.sources)?;
        Ok(Box::new(Generate::new(self, tokens, all)?))
    }
}

/// The prepared task.
pub struct Generate {
    spec: GenerateSpec,
    capture: Option<Regex>,
    tokens: Rc<Tokens>,
    questions: Vec<Question>,
    items: Vec<String>,
}

/// One item.
struct Question {
    prompt: Vec<u32>,
    /// Of which any is right.
    expected: Vec<String>,
    length: usize,
    cluster: String,
    /// The prompt's text with the first answer.
    text: String,
}

impl Generate {
    /// Makes items of the rows.
    ///
    /// # Errors
    /// With the row and the key when a template cannot be filled in, or an expression gives what does not fit.
    pub fn new(spec: &GenerateSpec, tokens: Rc<Tokens>, rows: Vec<Row>) -> Result<Self, Error> {
        let templates = Templates::new(&spec.name);
        let capture = spec.capture.as_deref().map(Regex::new).transpose();
        let capture = capture.map_err(|e| Error::task(&spec.name, e.to_string()))?;
        let rows = sample(rows, spec.items);
        let question = |row: &Row| question(spec, &templates, &tokens, row);
        let mut questions: Vec<Question> = rows.iter().map(question).collect::<Result<_, _>>()?;
        if spec.length.is_none() {
            let longest = questions.iter().map(|q| q.prompt.len()).max();
            let length = longest.unwrap_or(0) + spec.max_tokens;
            questions.iter_mut().for_each(|q| q.length = length);
        }
        Ok(Generate {
            spec: spec.clone(),
            capture,
            tokens,
            items: rows
                .iter()
                .map(|row| format!("{}/{}", spec.name, row.id))
                .collect(),
            questions,
        })
    }

    /// The answer in a continuation: up to the first stop text.
    fn answer<'a>(&self, text: &'a str) -> &'a str {
        let ends = self.spec.stop.iter().filter_map(|stop| text.find(stop));
        &text[..ends.min().unwrap_or(text.len())]
    }

    /// What of an answer is compared.
    fn compared<'a>(&self, answer: &'a str) -> &'a str {
        let Some(capture) = &self.capture else {
            return answer;
        };
        let found = capture.captures(answer);
        let part = found.and_then(|found| found.get(1).or_else(|| found.get(0)));
        part.map_or("", |part| part.as_str())
    }

    fn record(&self, index: usize, output: Vec<u32>) -> Result<Record, Error> {
        let question = &self.questions[index];
        let text = self.tokens.decode(&output)?;
        let answer = self.answer(&text);
        let compared = self.compared(answer);
        let best = |metric: &Metric| {
            let scores = question.expected.iter().map(|e| metric.score(compared, e));
            (metric.name().to_string(), scores.fold(0.0, f64::max))
        };
        Ok(Record {
            task: self.spec.name.clone(),
            protocol: Protocol::Answer,
            item: self.items[index].clone(),
            index,
            length: question.length,
            place: None,
            cluster: question.cluster.clone(),
            prompt: question.prompt.clone(),
            output,
            output_text: answer.to_string(),
            expected: question.expected.join("\n"),
            choices: Vec::new(),
            samples: Vec::new(),
            threshold: None,
            metrics: self
                .spec
                .metrics
                .iter()
                .map(best)
                .collect::<BTreeMap<_, _>>(),
            weight: 1.0,
        })
    }
}

fn question(
    spec: &GenerateSpec,
    templates: &Templates,
    tokens: &Tokens,
    row: &Row,
) -> Result<Question, Error> {
    let key = |key, text| Said { key, text };
    let fields = fields(row);
    let said = key("prompt", &spec.prompt);
    let text = templates.text(said, row, &fields)?;
    let prompt = tokens.document(&text)?;
    if prompt.is_empty() {
        return Err(templates.error(said, row, "is empty; a model needs a token to go on from"));
    }
    let said = key("expected", &spec.expected);
    let value = templates.value(said, row, &fields)?;
    let values = match value.kind() {
        ValueKind::Seq => templates.list(said, row, &fields)?,
        _ => vec![value],
    };
    // A blank text is in every answer, and null as a text is "none".
    let blank = |value: &Value| value.is_none() || value.to_string().trim().is_empty();
    if values.iter().any(blank) {
        let what = "gives null or a blank text, which tells no answer from another; fill it in, or leave the row out";
        return Err(templates.error(said, row, what));
    }
    let expected: Vec<String> = values.iter().map(Value::to_string).collect();
    let Some(first) = expected.first() else {
        return Err(templates.error(said, row, "gives an empty list"));
    };
    let length = match &spec.length {
        None => 0,
        Some(length) => {
            let said = key("length", length);
            let value = templates.value(said, row, &fields)?;
            let number = value.to_string().parse();
            number.map_err(|_| templates.error(said, row, "is no whole number"))?
        }
    };
    Ok(Question {
        prompt,
        length,
        cluster: match &spec.cluster {
            Some(cluster) => templates
                .value(key("cluster", cluster), row, &fields)?
                .to_string(),
            None => row.id.clone(),
        },
        text: format!("{text}{first}"),
        expected,
    })
}

impl Task for Generate {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        let questions = self.questions.iter();
        chunks_that_fit(questions.map(|q| q.prompt.len() + self.spec.max_tokens))
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        let text = |(question, item): (&Question, &String)| Document {
            id: item.clone(),
            text: question.text.clone(),
        };
        Ok(self.questions.iter().zip(&self.items).map(text).collect())
    }

    fn estimate(&self) -> Estimate {
        Estimate {
            prefill: self.questions.iter().map(|q| q.prompt.len()).sum(),
            generated: self.questions.len() * self.spec.max_tokens,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let prompts: Vec<Vec<u32>> = items
            .iter()
            .map(|&i| self.questions[i].prompt.clone())
            .collect();
        let (env, model) = (subject.env, subject.model);
        let mut failed = None;
        let mut ended = |_: usize, ids: &[u32]| {
            let eos = &model.config.eos_token_id;
            if ids.last().is_some_and(|id| eos.contains(id)) {
                return true;
            }
            match self.tokens.decode(ids) {
                Ok(text) => self.answer(&text).len() < text.len(),
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        };
        let limit = self.spec.max_tokens;
        let outputs = generate::greedy_until(env, model, &prompts, limit, &mut ended)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let each = items.iter().zip(outputs);
        each.map(|(&i, output)| self.record(i, output)).collect()
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
