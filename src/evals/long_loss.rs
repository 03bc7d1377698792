//! Loss on long documents: each token once in a sliding window, and by its position in disjoint windows.
use super::record::{Place, Protocol, Record};
use super::task::{NO_SOURCES, a_tenth, at_least_one, held_out};
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::{Document, SourceSpec};
use crate::model::generate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// `kind = "long_loss"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongLossSpec {
    pub name: String,
    /// Held-out texts.
    pub sources: Vec<SourceSpec>,
    /// Tokens of a window.
    pub context: usize,
    /// Tokens by which the sliding window moves; less than `context`.
    pub stride: usize,
    /// How many documents, at most.
    pub documents: usize,
    /// Tokens that a document must have; `context` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<usize>,
    /// Tokens of each document that are scored, at most.
    pub max_tokens: usize,
    /// Whether the loss is measured by position, too.
    #[serde(default = "yes")]
    pub by_position: bool,
}

fn yes() -> bool {
    true
}

impl LongLossSpec {
    /// Tokens that a document must have.
    pub fn min_tokens(&self) -> usize {
        self.min_tokens.unwrap_or(self.context)
    }
}

impl Kind for LongLossSpec {
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
        let (context, stride) = (self.context, self.stride);
        if self.sources.is_empty() {
            return Some(NO_SOURCES.into());
        }
        if context < 2 {
            return Some(format!(
                "`context` is {context}; a window needs at least 2 tokens"
            ));
        }
        if stride == 0 || stride >= context {
            return Some(format!(
                "`stride` is {stride}; it must be from 1 to less than `context` ({context}), or a \
                 window's first token would have nothing before it"
            ));
        }
        if self.min_tokens() < 2 || self.by_position && self.min_tokens() < context {
            return Some(format!(
                "`min_tokens` is {}; a document needs 2 tokens, and {context} (`context`) for a loss \
                 by position",
                self.min_tokens()
            ));
        }
        if self.max_tokens < self.min_tokens() {
            return Some(format!(
                "`max_tokens` is {}, less than the {} that a document must have",
                self.max_tokens,
                self.min_tokens()
            ));
        }
        at_least_one(&[("documents", self.documents)])
    }

    fn scores(&self) -> Vec<String> {
        vec!["nats_per_token".into(), "bits_per_byte".into()]
    }

    fn longest(&self) -> usize {
        self.context
    }

    fn reduce(&mut self) {
        let tokens = a_tenth(self.documents * self.max_tokens);
        // Two, so that there still is a standard error.
        self.documents = a_tenth(self.documents).max(self.documents.min(2));
        let least = self.context.max(self.min_tokens());
        self.max_tokens = (tokens / self.documents).clamp(least, self.max_tokens);
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let documents = held_out(&self.name, &self.sources)?;
        Ok(Box::new(LongLoss::new(self, tokens, documents)?))
    }
}

/// The prepared task.
pub struct LongLoss {
    spec: LongLossSpec,
    tokens: Rc<Tokens>,
    documents: Vec<Text>,
    items: Vec<String>,
}

/// A document's first tokens.
struct Text {
    id: String,
    ids: Vec<u32>,
}

/// A window of a document, and which of its tokens are scored there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    tokens: Range<usize>,
    scored: Range<usize>,
}

/// What the scored tokens add up to.
#[derive(Debug, Default)]
struct Sum {
    nats: f64,
    tokens: usize,
    bytes: usize,
}

impl LongLoss {
    /// Takes documents of at least `min_tokens` tokens. Which ones is decided by the hash of their names:
    /// a sample of all sources, and of `n` documents the first are those of fewer.
    ///
    /// # Errors
    /// When no document is long enough.
    pub fn new(
        spec: &LongLossSpec,
        tokens: Rc<Tokens>,
        mut documents: Vec<Document>,
    ) -> Result<Self, Error> {
        documents.sort_by_cached_key(|d| (*blake3::hash(d.id.as_bytes()).as_bytes(), d.id.clone()));
        let min_tokens = spec.min_tokens();
        let mut texts = Vec::new();
        let mut longest = 0;
        for document in &documents {
            if texts.len() == spec.documents {
                break;
            }
            // A token is at least a byte, so what is shorter need not be tokenised.
            if document.text.len() < min_tokens {
                continue;
            }
            let mut ids = tokens.document(&document.text)?;
            longest = longest.max(ids.len());
            if ids.len() < min_tokens {
                continue;
            }
            ids.truncate(spec.max_tokens);
            texts.push(Text {
                id: document.id.clone(),
                ids,
            });
        }
        if texts.is_empty() {
            let what = format!(
                "none of its {} documents has {min_tokens} tokens (the longest that was read has \
                 {longest}); name longer ones or lower `context` or `min_tokens`",
                documents.len()
            );
            return Err(Error::task(&spec.name, what));
        }
        let mut items = Vec::new();
        for text in &texts {
            let (name, id) = (&spec.name, &text.id);
            items.push(format!("{name}/{id}/sliding"));
            if spec.by_position {
                let places = buckets(spec.context)
                    .into_iter()
                    .map(|bucket| place(&bucket));
                items.extend(places.map(|place| format!("{name}/{id}/{place}")));
            }
        }
        Ok(LongLoss {
            spec: spec.clone(),
            tokens,
            documents: texts,
            items,
        })
    }

    /// Items of a document: the sliding loss, then the positions.
    fn items_per_document(&self) -> usize {
        if self.spec.by_position {
            1 + buckets(self.spec.context).len()
        } else {
            1
        }
    }

    fn sliding(&self, text: &Text, score: &mut Scorer) -> Result<Sum, Error> {
        let mut sum = Sum::default();
        for window in windows(text.ids.len(), self.spec.context, self.spec.stride) {
            let first = window.scored.start - window.tokens.start;
            let log_probs = score(&text.ids[window.tokens], first)?;
            self.add(&mut sum, &log_probs, &text.ids[window.scored]);
        }
        Ok(sum)
    }

    /// Sums by bucket over windows of `context` tokens that do not overlap; what is left of the document
    /// after the last whole one is not scored, so that every bucket comes from the same windows.
    fn by_position(&self, text: &Text, score: &mut Scorer) -> Result<Vec<Sum>, Error> {
        let buckets = buckets(self.spec.context);
        let mut sums: Vec<Sum> = buckets.iter().map(|_| Sum::default()).collect();
        for ids in text.ids.chunks_exact(self.spec.context) {
            let log_probs = score(ids, 1)?;
            for (sum, bucket) in sums.iter_mut().zip(&buckets) {
                // The token at position 0 has nothing before it, and `log_probs` begins with position 1.
                let positions = bucket.start.max(1)..bucket.end;
                self.add(
                    sum,
                    &log_probs[positions.start - 1..positions.end - 1],
                    &ids[positions],
                );
            }
        }
        Ok(sums)
    }

    fn add(&self, sum: &mut Sum, log_probs: &[f32], ids: &[u32]) {
        sum.nats -= log_probs.iter().map(|&x| f64::from(x)).sum::<f64>();
        sum.tokens += ids.len();
        sum.bytes += self.tokens.bytes(ids);
    }

    fn record(&self, index: usize, sum: &Sum, place: Option<Place>) -> Record {
        let text = &self.documents[index / self.items_per_document()];
        let protocol = match place {
            None => Protocol::Sliding,
            Some(_) => Protocol::Disjoint,
        };
        let mut metrics =
            BTreeMap::from([("nats_per_token".to_string(), sum.nats / sum.tokens as f64)]);
        // Special tokens alone have no bytes.
        if sum.bytes > 0 {
            metrics.insert("bits_per_byte".into(), bits_per_byte(sum.nats, sum.bytes));
            metrics.insert("bytes".into(), sum.bytes as f64);
        }
        Record {
            task: self.spec.name.clone(),
            protocol,
            item: self.items[index].clone(),
            index,
            length: self.spec.context,
            place,
            cluster: text.id.clone(),
            prompt: if place.is_none() {
                text.ids.clone()
            } else {
                Vec::new()
            },
            output: Vec::new(),
            output_text: String::new(),
            expected: String::new(),
            metrics,
            weight: sum.tokens as f64,
        }
    }

    /// The records of items of one document.
    fn score(&self, items: &[usize], score: &mut Scorer) -> Result<Vec<Record>, Error> {
        let each = self.items_per_document();
        let Some(text) = items.first().map(|&i| &self.documents[i / each]) else {
            return Ok(Vec::new());
        };
        let by_position = if items.iter().any(|i| i % each > 0) {
            self.by_position(text, score)?
        } else {
            Vec::new()
        };
        let buckets = buckets(self.spec.context);
        let mut records = Vec::new();
        for &index in items {
            records.push(match index % each {
                0 => self.record(index, &self.sliding(text, score)?, None),
                i => self.record(index, &by_position[i - 1], Some(place(&buckets[i - 1]))),
            });
        }
        Ok(records)
    }
}

/// Gives the log-probabilities of a window's tokens from the one of this index on, which is 1 or more.
type Scorer<'a> = dyn FnMut(&[u32], usize) -> Result<Vec<f32>, Error> + 'a;

impl Task for LongLoss {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        vec![self.items_per_document(); self.documents.len()]
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        let text = |text: &Text| {
            Ok(Document {
                id: format!("{}/{}", self.spec.name, text.id),
                text: self.tokens.decode(&text.ids)?,
            })
        };
        self.documents.iter().map(text).collect()
    }

    fn estimate(&self) -> Estimate {
        let (context, stride) = (self.spec.context, self.spec.stride);
        let mut prefill = 0;
        for text in &self.documents {
            let n = text.ids.len();
            prefill += windows(n, context, stride)
                .iter()
                .map(|w| w.tokens.len())
                .sum::<usize>();
            if self.spec.by_position {
                prefill += n / context * context;
            }
        }
        Estimate {
            prefill,
            generated: 0,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let mut score = |ids: &[u32], first: usize| {
            let (env, model) = (subject.env, subject.model);
            Ok(generate::log_probs_from(env, model, ids, first)?)
        };
        self.score(items, &mut score)
    }
}

/// The windows of the protocol "sliding", as Hugging Face's guide to perplexity and YaRN's evaluation have
/// them: the window moves by `stride`, and of each but the first only the tokens that no earlier window
/// reached are scored. So every token but the document's first is scored once, with at least
/// `context - stride` tokens before it in its window unless the document has fewer.
fn windows(tokens: usize, context: usize, stride: usize) -> Vec<Window> {
    let mut all = Vec::new();
    let (mut begin, mut reached) = (0, 1);
    while reached < tokens {
        let end = (begin + context).min(tokens);
        all.push(Window {
            tokens: begin..end,
            scored: reached..end,
        });
        reached = end;
        begin += stride;
    }
    all
}

/// Positions 0-31, 32-63, 64-127 and on in powers of two up to `context`.
fn buckets(context: usize) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let (mut from, mut end) = (0, 32);
    while from < context {
        all.push(from..end.min(context));
        (from, end) = (end, 2 * end);
    }
    all
}

fn place(bucket: &Range<usize>) -> Place {
    Place::Positions {
        from: bucket.start,
        to: bucket.end - 1,
    }
}

/// A text's information content over its size in UTF-8: comparable across tokenizers.
fn bits_per_byte(nats: f64, bytes: usize) -> f64 {
    nats / std::f64::consts::LN_2 / bytes as f64
}

#[cfg(test)]
#[path = "long_loss_tests.rs"]
mod tests;
