//! LongPPL (Fang et al., arXiv:2410.23771, and its code, PKU-ML/LongPPL): the loss on those tokens alone that need the
//! long context, as another model, the judge, has it.
//!
//! With the judge's log-probabilities of a token given the whole document before it, `long`, and given a short context,
//! `short`, a token is a key token when
//!
//! ```text
//! long − short > α   and   long > β
//! ```
//!
//! The short context has `short_context` tokens and up to `step − 1` more: windows move by `step`, as the code has them.
//! Key tokens are stretches of text, so that the judge may have another tokenizer: a token of the model counts when it
//! lies in such a stretch whole.
use super::record::{Protocol, Record};
use super::scores::bits_per_byte;
use super::task::{NO_SOURCES, a_tenth, at_least_one, by_hash, held_out};
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::checkpoint::{BaseSpec, Checkpoint};
use crate::data::{Document, SourceSpec};
use crate::model::generate;
use crate::ops::Env;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// `kind = "long_ppl"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPplSpec {
    pub name: String,
    /// Held-out texts.
    pub sources: Vec<SourceSpec>,
    /// Tokens of each document: longer ones are cut, shorter ones (for the judge, up to `short_context`) left out.
    pub context: usize,
    /// How many documents, at most.
    pub documents: usize,
    /// The checkpoint that judges, as a path. Without one the task is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// The judge's tokens of short context, at least.
    #[serde(default = "short_context")]
    pub short_context: usize,
    /// Tokens by which the judge's short windows move.
    #[serde(default = "step")]
    pub step: usize,
    /// By how many nats a key token gains from the long context.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Nats that the log-probability of a key token is above.
    #[serde(default = "beta")]
    pub beta: f64,
}

fn short_context() -> usize {
    4096
}

fn step() -> usize {
    1024
}

fn alpha() -> f64 {
    2.0
}

fn beta() -> f64 {
    -2.0
}

/// By which rule tokens are key tokens: a part of the protocol, since scores under different rules are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    pub short_context: usize,
    pub step: usize,
    pub alpha: f64,
    pub beta: f64,
    /// The first 32 bits of the hash of the judge's content.
    pub judge: u32,
}

impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let KeyRule {
            short_context: short,
            step,
            alpha,
            beta,
            judge,
        } = self;
        write!(
            f,
            "short={short} step={step} alpha={alpha} beta={beta} judge={judge:08x}"
        )
    }
}

impl Kind for LongPplSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn judge(&self) -> Option<&str> {
        self.judge.as_deref()
    }

    fn set_judge(&mut self, path: &str) -> bool {
        self.judge.get_or_insert_with(|| path.to_string());
        true
    }

    fn problem(&self) -> Option<String> {
        if self.sources.is_empty() {
            return Some(NO_SOURCES.into());
        }
        if self.short_context >= self.context {
            return Some(format!(
                "`short_context` is {}; it must be less than `context` ({}), or no token has more than that before it",
                self.short_context, self.context
            ));
        }
        if !self.alpha.is_finite() || !self.beta.is_finite() {
            return Some("`alpha` and `beta` must be numbers".into());
        }
        at_least_one(&[
            ("documents", self.documents),
            ("short_context", self.short_context),
            ("step", self.step),
        ])
    }

    fn scores(&self) -> Vec<String> {
        match self.judge {
            Some(_) => vec!["nats_per_token".into(), "bits_per_byte".into()],
            None => Vec::new(),
        }
    }

    fn longest(&self) -> usize {
        self.context
    }

    fn reduce(&mut self) {
        self.documents = a_tenth(self.documents).max(self.documents.min(2));
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let Some(judge) = &self.judge else {
            log::warn!(
                "task \"{}\": left out, for it has no judge; name a checkpoint by `judge`, or by --judge of eval",
                self.name
            );
            return Ok(Box::new(LongPpl::without_judge(self, tokens)));
        };
        let judge = Judge::open(&self.name, judge)?;
        let documents = held_out(&self.name, &self.sources)?;
        Ok(Box::new(LongPpl::new(self, tokens, judge, documents)?))
    }
}

/// The model that says which tokens need the long context. Its weights are read when it is first asked.
pub(super) struct Judge {
    task: String,
    spec: BaseSpec,
    tokens: Tokens,
    /// Tokens that it was trained for.
    context: usize,
    hash: u32,
    checkpoint: OnceCell<Checkpoint>,
}

impl Judge {
    /// Reads all but the weights.
    ///
    /// # Errors
    /// When there is no whole checkpoint at the path.
    pub fn open(task: &str, path: &str) -> Result<Self, Error> {
        let wrong = |e| Error::judge(task, e);
        let spec = BaseSpec::of_path(path);
        spec.check().map_err(wrong)?;
        let hash = spec.content_hash().map_err(wrong)?;
        Ok(Judge {
            task: task.to_string(),
            tokens: Tokens::new(&spec.tokenizer().map_err(wrong)?)?,
            context: spec.config().map_err(wrong)?.max_position_embeddings,
            hash: u32::from_str_radix(&hash[..8], 16).unwrap_or_default(),
            checkpoint: OnceCell::new(),
            spec,
        })
    }

    fn checkpoint(&self, env: &Env) -> Result<&Checkpoint, Error> {
        if let Some(checkpoint) = self.checkpoint.get() {
            return Ok(checkpoint);
        }
        let loaded = self.spec.load(env);
        let loaded = loaded.map_err(|e| Error::judge(&self.task, e))?;
        Ok(self.checkpoint.get_or_init(|| loaded))
    }
}

/// The prepared task.
pub struct LongPpl {
    spec: LongPplSpec,
    tokens: Rc<Tokens>,
    judge: Option<Judge>,
    documents: Vec<Text>,
    items: Vec<String>,
}

/// A document, as the model and as the judge read it.
struct Text {
    id: String,
    text: String,
    model: Reading,
    judge: Reading,
}

/// Ids, and the stretch of text of each; special ids at the beginning have none.
struct Reading {
    ids: Vec<u32>,
    spans: Vec<(usize, usize)>,
}

impl Reading {
    fn of(tokens: &Tokens, text: &str) -> Result<Self, Error> {
        let read = tokens.spans(text)?;
        let leading = tokens.leading();
        let none = vec![(0, 0); leading.len()];
        Ok(Reading {
            ids: [leading, &read.ids[..]].concat(),
            spans: [none, read.spans].concat(),
        })
    }

    fn truncate(&mut self, tokens: usize) {
        self.ids.truncate(tokens);
        self.spans.truncate(tokens);
    }
}

impl LongPpl {
    fn without_judge(spec: &LongPplSpec, tokens: Rc<Tokens>) -> Self {
        LongPpl {
            spec: spec.clone(),
            tokens,
            judge: None,
            documents: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Takes documents of at least `context` tokens, by the hash of their names.
    ///
    /// # Errors
    /// When no document is long enough for the model and the judge, or one is longer than what the judge was trained for.
    pub(super) fn new(
        spec: &LongPplSpec,
        tokens: Rc<Tokens>,
        judge: Judge,
        documents: Vec<Document>,
    ) -> Result<Self, Error> {
        let (context, short) = (spec.context, spec.short_context);
        let (mut texts, of_all) = (Vec::new(), documents.len());
        // The judge's tokens of the documents that are too short for it, at most.
        let mut most: Option<usize> = None;
        for Document { id, mut text } in by_hash(documents) {
            if texts.len() == spec.documents {
                break;
            }
            if text.len() < context {
                continue;
            }
            let mut model = Reading::of(&tokens, &text)?;
            if model.ids.len() < context {
                continue;
            }
            model.truncate(context);
            text.truncate(model.spans.last().map_or(0, |span| span.1));
            let judged = Reading::of(&judge.tokens, &text)?;
            if judged.ids.len() > judge.context {
                let what = format!(
                    "{id} has {} tokens for the judge, which was trained for {}; lower `context`, or name a judge \
                     of a longer context",
                    judged.ids.len(),
                    judge.context
                );
                return Err(Error::task(&spec.name, what));
            }
            if judged.ids.len() <= short {
                most = most.max(Some(judged.ids.len()));
                continue;
            }
            texts.push(Text {
                id,
                text,
                model,
                judge: judged,
            });
        }
        if texts.is_empty() {
            let what = match most {
                None => format!(
                    "none of its {of_all} documents has {context} tokens; name longer ones or lower `context`"
                ),
                Some(most) => format!(
                    "{context} tokens are at most {most} for the judge, of which none has `short_context` ({short}) \
                     before it; lower `short_context` or raise `context`"
                ),
            };
            return Err(Error::task(&spec.name, what));
        }
        let item = |text: &Text| format!("{}/{}/long_ppl", spec.name, text.id);
        Ok(LongPpl {
            spec: spec.clone(),
            tokens,
            judge: Some(judge),
            items: texts.iter().map(item).collect(),
            documents: texts,
        })
    }

    /// Indices of the model's key tokens in a document.
    fn key_tokens(&self, judge: &Judge, text: &Text, env: &Env) -> Result<Vec<usize>, Error> {
        let model = &judge.checkpoint(env)?.model;
        let mut score =
            |ids: &[u32], first: usize| Ok(generate::log_probs_from(env, model, ids, first)?);
        let gains = self.gains(&text.judge.ids, &mut score)?;
        let is_key =
            |&(_, gain, long): &(usize, f64, f64)| gain > self.spec.alpha && long > self.spec.beta;
        let keys = gains.into_iter().filter(is_key);
        let stretches = merged(keys.map(|(i, _, _)| text.judge.spans[i]));
        Ok(inside(&text.model.spans, &stretches))
    }

    /// Of each token with `short_context` before it: its index, what it gains from the rest, and its
    /// log-probability with all before it.
    fn gains(&self, ids: &[u32], score: &mut Scorer) -> Result<Vec<(usize, f64, f64)>, Error> {
        let (short, step) = (self.spec.short_context, self.spec.step);
        if ids.len() <= short {
            return Ok(Vec::new());
        }
        let long = score(ids, short)?;
        let mut all = Vec::with_capacity(long.len());
        for begin in (0..ids.len() - short).step_by(step) {
            let end = (begin + short + step).min(ids.len());
            let near = score(&ids[begin..end], short)?;
            for (i, near) in (begin + short..end).zip(near) {
                let long = f64::from(long[i - short]);
                all.push((i, long - f64::from(near), long));
            }
        }
        Ok(all)
    }

    fn record(&self, index: usize, rule: KeyRule, keys: &[usize], log_probs: &[f32]) -> Record {
        let text = &self.documents[index];
        let ids: Vec<u32> = keys.iter().map(|&i| text.model.ids[i]).collect();
        // The first number is of the token at index 1.
        let nats: f64 = keys.iter().map(|&i| -f64::from(log_probs[i - 1])).sum();
        let bytes = self.tokens.bytes(&ids);
        let mut metrics = BTreeMap::new();
        if !keys.is_empty() {
            metrics.insert("nats_per_token".to_string(), nats / keys.len() as f64);
        }
        if bytes > 0 {
            metrics.insert("bits_per_byte".into(), bits_per_byte(nats, bytes));
            metrics.insert("bytes".into(), bytes as f64);
        }
        let places: Vec<String> = keys.iter().map(usize::to_string).collect();
        Record {
            task: self.spec.name.clone(),
            protocol: Protocol::LongPpl(rule),
            item: self.items[index].clone(),
            index,
            length: self.spec.context,
            place: None,
            cluster: text.id.clone(),
            prompt: text.model.ids.clone(),
            output: Vec::new(),
            output_text: String::new(),
            // Which tokens of the prompt are scored.
            expected: places.join(" "),
            choices: Vec::new(),
            samples: Vec::new(),
            threshold: None,
            metrics,
            weight: keys.len() as f64,
        }
    }
}

/// Gives the log-probabilities of tokens from the one of this index on, which is 1 or more.
type Scorer<'a> = dyn FnMut(&[u32], usize) -> Result<Vec<f32>, Error> + 'a;

impl Task for LongPpl {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        vec![1; self.items.len()]
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        let text = |(text, item): (&Text, &String)| Document {
            id: item.clone(),
            text: text.text.clone(),
        };
        Ok(self.documents.iter().zip(&self.items).map(text).collect())
    }

    /// Tokens of the judge count as those of the model.
    fn estimate(&self) -> Estimate {
        let (short, step) = (self.spec.short_context, self.spec.step);
        let of_document = |text: &Text| {
            let judged = text.judge.ids.len();
            let windows = judged.saturating_sub(short).div_ceil(step);
            text.model.ids.len() + judged + windows * (short + step)
        };
        Estimate {
            prefill: self.documents.iter().map(of_document).sum(),
            generated: 0,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let Some(judge) = &self.judge else {
            return Ok(Vec::new());
        };
        let rule = KeyRule {
            short_context: self.spec.short_context,
            step: self.spec.step,
            alpha: self.spec.alpha,
            beta: self.spec.beta,
            judge: judge.hash,
        };
        let record = |&index: &usize| {
            let text = &self.documents[index];
            let keys = self.key_tokens(judge, text, subject.env)?;
            let (env, model) = (subject.env, subject.model);
            let log_probs = match keys.is_empty() {
                true => Vec::new(),
                false => generate::log_probs(env, model, &text.model.ids)?,
            };
            Ok(self.record(index, rule, &keys, &log_probs))
        };
        items.iter().map(record).collect()
    }
}

/// Stretches in ascending order, those that touch put together.
fn merged(spans: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (start, end) in spans {
        match all.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => all.push((start, end)),
        }
    }
    all
}

/// Indices of the spans that lie in one of the stretches whole: LongPPL's `cal_overlap`.
fn inside(spans: &[(usize, usize)], stretches: &[(usize, usize)]) -> Vec<usize> {
    let (mut found, mut i, mut j) = (Vec::new(), 0, 0);
    while i < spans.len() && j < stretches.len() {
        let ((start, end), (from, to)) = (spans[i], stretches[j]);
        if start >= from && end <= to {
            found.push(i);
            i += 1;
        } else if start < from {
            i += 1;
        } else {
            j += 1;
        }
    }
    // The first token has nothing before it.
    found.retain(|&i| i > 0);
    found
}

#[cfg(test)]
#[path = "long_ppl_tests.rs"]
mod tests;
