//! The prepared task: documents as the model and as the judge read them, and the loss on key tokens.
use super::judge::Judge;
use super::stretches::{inside, merged};
use super::{KeyRule, LongPplSpec};
use crate::data::Document;
use crate::evals::record::{Protocol, Record};
use crate::evals::scores::bits_per_byte;
use crate::evals::task::by_hash;
use crate::evals::{Error, Estimate, Subject, Task, Tokens};
use crate::model::generate;
use crate::ops::Env;
use std::collections::BTreeMap;
use std::rc::Rc;

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
    pub(super) fn without_judge(spec: &LongPplSpec, tokens: Rc<Tokens>) -> Self {
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
