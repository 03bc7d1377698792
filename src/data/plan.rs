//! The order of the data: which tokens a step sees.
use super::{Error, MixSpec, Result, Shard, mix};
use crate::model::Batch;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// How sequences are cut from documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Documents one after the other, cut wherever a sequence ends.
    #[default]
    Concat,
    /// Each sequence is the beginning of one document that is longer than the context.
    Documents,
}

/// What the plan needs to know of a stage.
#[derive(Debug, Clone)]
pub struct PlanStage {
    pub context: usize,
    pub sequences: usize,
    pub steps: u64,
    pub mix: MixSpec,
    pub packing: Packing,
    pub document_mask: bool,
}

/// What a plan takes from a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub name: String,
    pub tokens: u64,
    /// How often the source is gone through.
    pub epochs: f64,
}

/// The order of the data over all stages: a pure function of sources, stages and seed.
#[derive(Debug)]
pub struct Plan {
    sources: Vec<Source>,
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Source {
    name: String,
    shard: Shard,
    seed: u64,
    /// The last epochs that were asked for, by number and least document; what they hold is a function
    /// of these, seed and name.
    epochs: Mutex<Vec<Kept>>,
}

/// An epoch by its number and the length of the shortest document in it.
type Kept = ((u64, u64), Arc<Epoch>);

/// One pass through a source.
#[derive(Debug)]
struct Epoch {
    /// The documents' order.
    order: Vec<u32>,
    /// Tokens before each of them.
    starts: Vec<u64>,
}

#[derive(Debug)]
struct Stage {
    spec: PlanStage,
    /// For each sequence its source and which of the source's sequences in this stage it is.
    sequences: Vec<(u16, u32)>,
    /// Where each source's stream stands when the stage begins: at which token, or, when documents are
    /// packed, at which document.
    cursors: Vec<u64>,
    /// How many documents of each source are long enough, when documents are packed.
    eligible: Vec<u64>,
}

impl Source {
    /// Epoch `number` of the documents of `least` tokens and more.
    fn epoch(&self, number: u64, least: u64) -> Arc<Epoch> {
        let mut kept = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (number, least);
        if let Some((_, epoch)) = kept.iter().find(|(kept, _)| *kept == asked) {
            return Arc::clone(epoch);
        }
        let key = format!("order/{}/{}/{number}", self.seed, self.name);
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(key.as_bytes()).as_bytes());
        let mut order: Vec<u32> = (0..self.shard.len() as u32).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        order.retain(|&d| self.shard.length(d as usize) >= least);
        let mut starts = Vec::with_capacity(order.len() + 1);
        let mut at = 0;
        for &document in &order {
            starts.push(at);
            at += self.shard.length(document as usize);
        }
        starts.push(at);
        let epoch = Arc::new(Epoch { order, starts });
        if kept.len() >= 2 {
            kept.remove(0);
        }
        kept.push((asked, Arc::clone(&epoch)));
        epoch
    }

    /// `n` tokens of the stream from position `at` on, and for each the index in `out` of its
    /// document's first token here.
    fn stream(&self, at: u64, n: usize) -> (Vec<u32>, Vec<u32>) {
        let total = self.shard.tokens();
        let (mut number, mut inner) = (at / total, at % total);
        let (mut ids, mut starts) = (Vec::with_capacity(n), Vec::with_capacity(n));
        while ids.len() < n {
            let epoch = self.epoch(number, 0);
            let first = epoch.starts.partition_point(|&s| s <= inner) - 1;
            for (i, &document) in epoch.order.iter().enumerate().skip(first) {
                let from = inner - epoch.starts[i];
                let left = self.shard.length(document as usize) - from;
                let take = left.min((n - ids.len()) as u64);
                let start = ids.len() as u32;
                self.shard
                    .read(document as usize, from..from + take, &mut ids);
                starts.extend(std::iter::repeat_n(start, take as usize));
                inner += take;
                if ids.len() == n {
                    return (ids, starts);
                }
            }
            (number, inner) = (number + 1, 0);
        }
        (ids, starts)
    }

    /// The first `n` tokens of the stream's document number `at` among the `eligible` ones of `n` tokens
    /// and more.
    fn document(&self, at: u64, n: usize, eligible: u64) -> Vec<u32> {
        let epoch = self.epoch(at / eligible, n as u64);
        let chosen = epoch.order[(at % eligible) as usize];
        let mut ids = Vec::with_capacity(n);
        self.shard.read(chosen as usize, 0..n as u64, &mut ids);
        ids
    }

    /// How many documents have `n` tokens or more.
    fn eligible(&self, n: u64) -> u64 {
        (0..self.shard.len())
            .filter(|&i| self.shard.length(i) >= n)
            .count() as u64
    }

    fn longest(&self) -> u64 {
        (0..self.shard.len())
            .map(|i| self.shard.length(i))
            .max()
            .unwrap_or(0)
    }
}

impl Plan {
    /// The plan of `stages` over `sources` (name and tokens).
    ///
    /// # Errors
    /// When a mix is impossible, a source with a share is empty, or under packing by documents a source
    /// with a share has none that is longer than the context.
    pub fn new(sources: Vec<(String, Shard)>, stages: Vec<PlanStage>, seed: u64) -> Result<Self> {
        let sources: Vec<Source> = sources
            .into_iter()
            .map(|(name, shard)| Source {
                name,
                shard,
                seed,
                epochs: Mutex::default(),
            })
            .collect();
        // Tokens and documents taken so far: each packing goes on where it stopped itself.
        let mut taken = [vec![0u64; sources.len()], vec![0u64; sources.len()]];
        let mut planned = Vec::new();
        for spec in stages {
            let shares = spec.mix.shares(sources.iter().map(|s| s.name.as_str()))?;
            for (source, _) in sources
                .iter()
                .zip(&shares)
                .filter(|(_, share)| **share > 0.0)
            {
                source.check(&spec)?;
            }
            let n = spec.steps as usize * spec.sequences;
            let mut counts = vec![0u32; sources.len()];
            let sequences = mix::assign(&shares, n)
                .into_iter()
                .map(|s| {
                    counts[s] += 1;
                    (s as u16, counts[s] - 1)
                })
                .collect();
            let (cursors, eligible) = match spec.packing {
                Packing::Concat => (&mut taken[0], Vec::new()),
                Packing::Documents => {
                    let least = spec.context as u64 + 1;
                    let eligible = sources.iter().map(|s| s.eligible(least)).collect();
                    (&mut taken[1], eligible)
                }
            };
            let began = cursors.clone();
            for (cursor, count) in cursors.iter_mut().zip(counts) {
                *cursor += u64::from(count) * spec.advance();
            }
            planned.push(Stage {
                spec,
                sequences,
                cursors: began,
                eligible,
            });
        }
        Ok(Plan {
            sources,
            stages: planned,
        })
    }

    /// The sequences of step `step` (from 0) of stage `stage`.
    ///
    /// # Errors
    /// When the plan has no such step.
    pub fn batch(&self, stage: usize, step: u64) -> Result<Batch> {
        let Some(planned) = self.stages.get(stage).filter(|s| step < s.spec.steps) else {
            return Err(Error::Mix(format!(
                "the plan has no step {step} in stage {stage}"
            )));
        };
        let spec = &planned.spec;
        let (n, context) = (spec.sequences, spec.context);
        let mut batch = Batch {
            batch: n,
            tokens: context,
            ids: Vec::with_capacity(n * context),
            targets: Vec::with_capacity(n * context),
            weights: Vec::with_capacity(n * context),
            positions: Vec::with_capacity(n * context),
            doc_starts: Vec::with_capacity(n * context),
        };
        for &(source, ordinal) in &planned.sequences[step as usize * n..(step as usize + 1) * n] {
            let at = planned.cursors[source as usize] + u64::from(ordinal) * spec.advance();
            let which = source as usize;
            let source = &self.sources[which];
            let (ids, starts) = match spec.packing {
                Packing::Concat => source.stream(at, context + 1),
                Packing::Documents => (
                    source.document(at, context + 1, planned.eligible[which]),
                    vec![0; context + 1],
                ),
            };
            batch.ids.extend_from_slice(&ids[..context]);
            batch.targets.extend_from_slice(&ids[1..]);
            batch.positions.extend(0..context as u32);
            if spec.document_mask {
                batch.doc_starts.extend_from_slice(&starts[..context]);
                let inside = |i: usize| f32::from(u8::from(starts[i] == starts[i + 1]));
                batch.weights.extend((0..context).map(inside));
            } else {
                batch.doc_starts.extend(std::iter::repeat_n(0, context));
                batch.weights.extend(std::iter::repeat_n(1.0, context));
            }
        }
        Ok(batch)
    }

    /// What the whole plan takes from each source.
    pub fn usage(&self) -> Vec<Usage> {
        let mut all: Vec<Usage> = self
            .sources
            .iter()
            .map(|source| Usage {
                name: source.name.clone(),
                tokens: 0,
                epochs: 0.0,
            })
            .collect();
        for stage in &self.stages {
            let mut counts = vec![0u64; all.len()];
            for &(source, _) in &stage.sequences {
                counts[source as usize] += 1;
            }
            for (s, count) in counts.into_iter().enumerate().filter(|(_, n)| *n > 0) {
                let tokens = count * stage.spec.context as u64;
                all[s].tokens += tokens;
                all[s].epochs += match stage.spec.packing {
                    Packing::Concat => tokens as f64 / self.sources[s].shard.tokens() as f64,
                    Packing::Documents => count as f64 / stage.eligible[s] as f64,
                };
            }
        }
        all
    }
}

impl PlanStage {
    /// How far a sequence moves its source's cursor: tokens, or documents.
    fn advance(&self) -> u64 {
        match self.packing {
            Packing::Concat => self.context as u64,
            Packing::Documents => 1,
        }
    }
}

impl Source {
    fn check(&self, spec: &PlanStage) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::Source {
                source_name: self.name.clone(),
                what,
            })
        };
        if self.shard.tokens() == 0 {
            return wrong("an empty document set: it has no tokens".into());
        }
        let longest = self.longest();
        if spec.packing == Packing::Documents && longest <= spec.context as u64 {
            return wrong(format!(
                "packing = \"documents\" with a context of {} asks for longer documents than any here: \
                 the longest has {longest} tokens; shorten the context or use packing = \"concat\"",
                spec.context
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
