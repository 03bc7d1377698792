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
    /// The last epochs that were asked for; what they hold is a function of seed, name and number.
    epochs: Mutex<Vec<(u64, Arc<Epoch>)>>,
}

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
    /// Where each source's stream stands when the stage begins.
    cursors: Vec<u64>,
}

impl Source {
    fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut kept = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, epoch)) = kept.iter().find(|(n, _)| *n == number) {
            return Arc::clone(epoch);
        }
        let key = format!("order/{}/{}/{number}", self.seed, self.name);
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(key.as_bytes()).as_bytes());
        let mut order: Vec<u32> = (0..self.shard.len() as u32).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
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
        kept.push((number, Arc::clone(&epoch)));
        epoch
    }

    /// `n` tokens of the stream from position `at` on, and for each the index in `out` of its
    /// document's first token here.
    fn stream(&self, at: u64, n: usize) -> (Vec<u32>, Vec<u32>) {
        let total = self.shard.tokens();
        let (mut number, mut inner) = (at / total, at % total);
        let (mut ids, mut starts) = (Vec::with_capacity(n), Vec::with_capacity(n));
        while ids.len() < n {
            let epoch = self.epoch(number);
            let first = epoch.starts.partition_point(|&s| s <= inner) - 1;
            for (i, &document) in epoch.order.iter().enumerate().skip(first) {
                let tokens = self.shard.document(document as usize);
                let from = (inner - epoch.starts[i]) as usize;
                let take = (tokens.len() - from).min(n - ids.len());
                let start = ids.len() as u32;
                ids.extend_from_slice(&tokens[from..from + take]);
                starts.extend(std::iter::repeat_n(start, take));
                inner += take as u64;
                if ids.len() == n {
                    return (ids, starts);
                }
            }
            (number, inner) = (number + 1, 0);
        }
        (ids, starts)
    }

    /// The first `n` tokens of the stream's document number `at` among those of `n` tokens and more.
    fn document(&self, at: u64, n: usize) -> Vec<u32> {
        let long = |&&d: &&u32| self.shard.length(d as usize) >= n as u64;
        let count = (0..self.shard.len() as u32).filter(|d| long(&d)).count() as u64;
        let epoch = self.epoch(at / count.max(1));
        let chosen = epoch
            .order
            .iter()
            .filter(long)
            .nth((at % count.max(1)) as usize);
        chosen.map_or(Vec::new(), |&d| {
            self.shard.document(d as usize)[..n].to_vec()
        })
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
        let mut cursors = vec![0u64; sources.len()];
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
            let began = cursors.clone();
            for (cursor, count) in cursors.iter_mut().zip(counts) {
                *cursor += u64::from(count) * spec.advance();
            }
            planned.push(Stage {
                spec,
                sequences,
                cursors: began,
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
            let source = &self.sources[source as usize];
            let (ids, starts) = match spec.packing {
                Packing::Concat => source.stream(at, context + 1),
                Packing::Documents => (source.document(at, context + 1), vec![0; context + 1]),
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
        let mut tokens = vec![0u64; self.sources.len()];
        for stage in &self.stages {
            for &(source, _) in &stage.sequences {
                tokens[source as usize] += stage.spec.context as u64;
            }
        }
        let of = |(source, tokens): (&Source, u64)| Usage {
            name: source.name.clone(),
            tokens,
            epochs: tokens as f64 / source.shard.tokens().max(1) as f64,
        };
        self.sources.iter().zip(tokens).map(of).collect()
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
