//! The prepared task: documents cut into parts, and what their windows add up to.
use super::{LongLossSpec, Windows};
use crate::data::Document;
use crate::evals::loglikelihood::prefix;
use crate::evals::record::{Place, Protocol, Record};
use crate::evals::scores::bits_per_byte;
use crate::evals::task::by_hash;
use crate::evals::windows::{Window, buckets, place, rolling, sliding};
use crate::evals::{Error, Estimate, Subject, Task, Tokens};
use crate::model::generate;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// Tokens of a document whose records are written together. A longer document has several records a score, so that
/// a run that was killed goes on within it.
const PART: usize = 32_768;

/// The prepared task.
pub struct LongLoss {
    spec: LongLossSpec,
    tokens: Rc<Tokens>,
    documents: Vec<Text>,
    parts: Vec<Part>,
    /// Which score each item is.
    scored: Vec<Scored>,
    items: Vec<String>,
}

/// A document's first tokens.
struct Text {
    id: String,
    ids: Vec<u32>,
}

/// What of a document is scored together: its records are one chunk.
struct Part {
    /// Index of the document.
    document: usize,
    /// Windows over `ids`, which for the rolling protocol begin with a BOS that `Text::ids` may not have.
    whole: Vec<Window>,
    /// Numbers of the disjoint windows, for the loss by position.
    disjoint: Range<usize>,
    /// How many items it has.
    items: usize,
}

/// One item: a part of a document, over its whole windows or a bucket of positions.
struct Scored {
    part: usize,
    bucket: Option<usize>,
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
        documents: Vec<Document>,
    ) -> Result<Self, Error> {
        let min_tokens = spec.min_tokens();
        let mut texts = Vec::new();
        let mut longest = 0;
        let of_all = documents.len();
        for document in by_hash(documents) {
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
                id: document.id,
                ids,
            });
        }
        if texts.is_empty() {
            let what = format!(
                "none of its {of_all} documents has {min_tokens} tokens (the longest that was read has \
                 {longest}); name longer ones or lower `context` or `min_tokens`"
            );
            return Err(Error::task(&spec.name, what));
        }
        let mut task = LongLoss {
            spec: spec.clone(),
            tokens,
            documents: texts,
            parts: Vec::new(),
            scored: Vec::new(),
            items: Vec::new(),
        };
        for document in 0..task.documents.len() {
            task.add_parts(document);
        }
        Ok(task)
    }

    /// Cuts a document into parts, and names their items.
    fn add_parts(&mut self, document: usize) {
        let Text { id, ids } = &self.documents[document];
        let (context, stem) = (self.spec.context, format!("{}/{id}", self.spec.name));
        let mut whole = match self.spec.protocol {
            Windows::Sliding => sliding(ids.len(), context, self.spec.stride.unwrap_or(context)),
            Windows::Rolling => rolling(ids.len() + self.begins_bare(), context),
        }
        .into_iter()
        .peekable();
        let disjoint = match self.spec.by_position {
            true => ids.len() / context,
            false => 0,
        };
        let (parts, mut next) = (ids.len().div_ceil(PART), 0);
        for part in 0..parts {
            let end = match part + 1 == parts {
                true => usize::MAX,
                false => (part + 1) * PART,
            };
            let of_part: Vec<Window> =
                std::iter::from_fn(|| whole.next_if(|w| w.scored.start < end)).collect();
            let before = next;
            next += (next..disjoint).take_while(|w| w * context < end).count();
            let number = match parts {
                1 => String::new(),
                _ => format!("/{part}"),
            };
            let first = self.items.len();
            if !of_part.is_empty() {
                self.items.push(format!("{stem}/{}{number}", self.whole()));
            }
            if before < next {
                let places = buckets(context).into_iter().map(|bucket| place(&bucket));
                self.items
                    .extend(places.map(|place| format!("{stem}/{place}{number}")));
            }
            if self.items.len() == first {
                continue;
            }
            let index = self.parts.len();
            let of_whole = (!of_part.is_empty()).then_some(None);
            let of_buckets = (before < next).then(|| (0..buckets(context).len()).map(Some));
            let buckets = of_whole.into_iter().chain(of_buckets.into_iter().flatten());
            self.scored.extend(buckets.map(|bucket| Scored {
                part: index,
                bucket,
            }));
            self.parts.push(Part {
                document,
                whole: of_part,
                disjoint: before..next,
                items: self.items.len() - first,
            });
        }
    }

    /// The protocol of the score over all positions.
    fn whole(&self) -> Protocol {
        match self.spec.protocol {
            Windows::Sliding => Protocol::Sliding,
            Windows::Rolling => Protocol::Rolling,
        }
    }

    /// 1 where a document has no BOS before its first token, so that the rolling protocol puts one there.
    fn begins_bare(&self) -> usize {
        usize::from(self.tokens.leading().is_empty())
    }

    /// The ids over which the whole windows of a document go.
    fn ids(&self, document: usize, subject: &Subject) -> Result<Vec<u32>, Error> {
        let ids = self.documents[document].ids.clone();
        if self.spec.protocol == Windows::Sliding || self.begins_bare() == 0 {
            return Ok(ids);
        }
        let prefix = prefix(&subject.model.config).ok_or_else(|| {
            let what = "protocol = \"rolling\" begins a document with BOS or EOS, and the checkpoint's \
                        config.json has neither";
            Error::task(&self.spec.name, what)
        })?;
        Ok([&[prefix], &ids[..]].concat())
    }

    fn whole_windows(&self, ids: &[u32], part: &Part, score: &mut Scorer) -> Result<Sum, Error> {
        let mut sum = Sum::default();
        for Window { tokens, scored } in part.whole.iter().cloned() {
            let first = scored.start - tokens.start;
            let log_probs = score(&ids[tokens], first)?;
            self.add(&mut sum, &log_probs, &ids[scored]);
        }
        Ok(sum)
    }

    /// Sums by bucket over windows of `context` tokens that do not overlap; what is left of the document
    /// after the last whole one is not scored, so that every bucket comes from the same windows.
    fn by_position(&self, part: &Part, score: &mut Scorer) -> Result<Vec<Sum>, Error> {
        let (ids, context) = (&self.documents[part.document].ids, self.spec.context);
        let buckets = buckets(context);
        let mut sums: Vec<Sum> = buckets.iter().map(|_| Sum::default()).collect();
        for window in part.disjoint.clone() {
            let ids = &ids[window * context..(window + 1) * context];
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

    /// The record of an item; `prompt` is what the model was given.
    fn record(&self, index: usize, sum: &Sum, prompt: Vec<u32>) -> Record {
        let Scored { part, bucket } = self.scored[index];
        let place: Option<Place> = bucket.map(|b| place(&buckets(self.spec.context)[b]));
        let protocol = match place {
            None => self.whole(),
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
            cluster: self.documents[self.parts[part].document].id.clone(),
            prompt,
            output: Vec::new(),
            output_text: String::new(),
            expected: String::new(),
            choices: Vec::new(),
            metrics,
            weight: sum.tokens as f64,
            samples: Vec::new(),
            threshold: None,
        }
    }

    /// The records of items of one part, whose document has these `ids`.
    fn score(
        &self,
        items: &[usize],
        ids: &[u32],
        score: &mut Scorer,
    ) -> Result<Vec<Record>, Error> {
        let Some(part) = items.first().map(|&i| &self.parts[self.scored[i].part]) else {
            return Ok(Vec::new());
        };
        let by_position = match items.iter().any(|&i| self.scored[i].bucket.is_some()) {
            true => self.by_position(part, score)?,
            false => Vec::new(),
        };
        let mut records = Vec::new();
        for &index in items {
            records.push(match self.scored[index].bucket {
                Some(bucket) => self.record(index, &by_position[bucket], Vec::new()),
                None => {
                    let sum = self.whole_windows(ids, part, score)?;
                    let from = part.whole.first().map_or(0, |w| w.tokens.start);
                    let to = part.whole.last().map_or(0, |w| w.tokens.end);
                    self.record(index, &sum, ids[from..to].to_vec())
                }
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
        self.parts.iter().map(|part| part.items).collect()
    }

    fn divisible(&self) -> bool {
        // The positions of a part come from the same windows.
        false
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
        let of_part = |part: &Part| {
            let whole: usize = part.whole.iter().map(|w| w.tokens.len()).sum();
            whole + part.disjoint.len() * self.spec.context
        };
        Estimate {
            prefill: self.parts.iter().map(of_part).sum(),
            generated: 0,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let Some(&first) = items.first() else {
            return Ok(Vec::new());
        };
        let document = self.parts[self.scored[first].part].document;
        let ids = self.ids(document, subject)?;
        let mut score = |ids: &[u32], first: usize| {
            let (env, model) = (subject.env, subject.model);
            Ok(generate::log_probs_from(env, model, ids, first)?)
        };
        self.score(items, &ids, &mut score)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
