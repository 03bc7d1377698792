//! The order of the data: which tokens a step sees.
use super::{
    Error, LongSpec, MixSpec, Packing, Result, Shard,
    mix::Assigner,
    pack::{Course, Due, Row},
    stream::{Source, Stream},
};
use crate::model::Batch;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What the plan needs to know of a stage.
#[derive(Debug, Clone)]
pub struct PlanStage {
    pub context: usize,
    pub sequences: usize,
    pub steps: u64,
    pub mix: MixSpec,
    /// The mix at the stage's end, if it changes on the way.
    pub mix_to: Option<MixSpec>,
    /// By source, how much of it comes from long documents.
    pub long: BTreeMap<String, LongSpec>,
    pub packing: Packing,
    pub document_mask: bool,
    pub restart_positions: bool,
}

/// What a plan takes from a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub name: String,
    /// Without padding.
    pub tokens: u64,
    /// How often the documents are gone through that are gone through most.
    pub epochs: f64,
}

/// The order of the data over all stages: a pure function of sources, stages and seed. It keeps eight bytes a
/// sequence, and eight a document of the epochs in use.
#[derive(Debug)]
pub struct Plan {
    pub(super) streams: Vec<Stream>,
    /// Each source's streams.
    pub(super) of_source: Vec<Vec<usize>>,
    pub(super) stages: Vec<Stage>,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub spec: PlanStage,
    /// For each sequence its stream and which of the stream's sequences in this stage it is.
    pub sequences: Vec<(u32, u32)>,
    /// How many there are of each stream.
    pub counts: Vec<u32>,
    pub courses: Vec<Option<Course>>,
}

impl Plan {
    /// The plan of `stages` over `sources` (name and tokens).
    ///
    /// A source is cut into streams at the lengths that stages name in `long`, and at the context of those that pack
    /// by documents. Each stream goes on in each stage where it stood, whatever the stage before made of it.
    ///
    /// # Errors
    /// When a mix is impossible, a source with a share is empty, or has no documents of a length that a stage
    /// asks for.
    pub fn new(sources: Vec<(String, Shard)>, stages: Vec<PlanStage>, seed: u64) -> Result<Self> {
        let names: Vec<String> = sources.iter().map(|(name, _)| name.clone()).collect();
        let (mut streams, mut of_source) = (Vec::new(), Vec::new());
        for (name, shard) in sources {
            let cuts = cuts(&name, &stages);
            let source = Arc::new(Source { name, shard });
            let first = streams.len();
            let mut least = 0;
            for most in cuts.into_iter().chain([u64::MAX]) {
                streams.push(Stream::new(Arc::clone(&source), least..=most, seed));
                least = most.saturating_add(1);
            }
            of_source.push((first..streams.len()).collect());
        }
        let mut plan = Plan {
            streams,
            of_source,
            stages: Vec::new(),
        };
        let mut due = vec![Due::default(); plan.streams.len()];
        for spec in stages {
            let shares = |mix: &MixSpec| mix.shares(names.iter().map(String::as_str));
            let from = shares(&spec.mix)?;
            let to = spec.mix_to.as_ref().map_or(Ok(from.clone()), shares)?;
            let stage = plan.stage(spec, (from, to), &due)?;
            for (s, due) in due.iter_mut().enumerate() {
                if let Some(course) = &stage.courses[s] {
                    *due = course.after(&plan.streams[s], stage.counts[s].into());
                }
            }
            plan.stages.push(stage);
        }
        Ok(plan)
    }

    /// Gives each sequence of a stage to a source, and to one of its streams.
    fn stage(
        &self,
        spec: PlanStage,
        (from, to): (Vec<f64>, Vec<f64>),
        due: &[Due],
    ) -> Result<Stage> {
        let n = spec.steps as usize * spec.sequences;
        let mut within = Vec::new();
        let mut courses: Vec<Option<Course>> = self.streams.iter().map(|_| None).collect();
        for (source, streams) in self.of_source.iter().enumerate() {
            if from[source] + to[source] <= 0.0 {
                within.push(Assigner::new(&[], &[], 0, spec.context));
                continue;
            }
            let shares = self.shares_within(streams, &spec)?;
            for (&s, _) in streams
                .iter()
                .zip(&shares)
                .filter(|(_, share)| **share > 0.0)
            {
                let course =
                    Course::new(&self.streams[s], spec.packing, spec.context, due[s].clone());
                courses[s] = Some(course);
            }
            within.push(Assigner::new(&shares, &shares, n, spec.context));
        }
        let mut sources = Assigner::new(&from, &to, n, spec.context);
        let mut counts = vec![0u32; self.streams.len()];
        let mut sequences = Vec::with_capacity(n);
        for _ in 0..n {
            let source = sources.next();
            let inside = within[source].next();
            let stream = self.of_source[source][inside];
            let ordinal = counts[stream];
            counts[stream] += 1;
            let tokens = courses[stream].as_mut().map_or(0, |course| {
                course.tokens(&self.streams[stream], u64::from(ordinal))
            });
            sources.took(source, tokens);
            within[source].took(inside, tokens);
            sequences.push((stream as u32, ordinal));
        }
        Ok(Stage {
            spec,
            sequences,
            counts,
            courses,
        })
    }

    /// The share of each of a source's streams in what the source gives to a stage: as much as there is of it, but
    /// for what the stage says of long documents.
    fn shares_within(&self, streams: &[usize], spec: &PlanStage) -> Result<Vec<f64>> {
        let source = &self.streams[streams[0]].source;
        let wrong = |what: String| {
            Err(Error::Source {
                source_name: source.name.clone(),
                what,
            })
        };
        if source.shard.tokens() == 0 {
            return wrong("an empty document set: it has no tokens".into());
        }
        let lengths = (0..source.shard.len()).map(|i| source.shard.length(i));
        let longest = || lengths.max().unwrap_or(0);
        // What a stream has of what the stage can use: tokens, or documents.
        let amount = |&s: &usize| {
            let stream = &self.streams[s];
            match spec.packing {
                Packing::Documents if *stream.lengths.start() <= spec.context as u64 => 0,
                Packing::Documents => stream.documents,
                Packing::Concat | Packing::BestFit => stream.tokens,
            }
        };
        let amounts: Vec<u64> = streams.iter().map(amount).collect();
        let all: u64 = amounts.iter().sum();
        if all == 0 {
            return wrong(format!(
                "packing = \"documents\" with a context of {} asks for longer documents than any here: \
                 the longest has {} tokens; shorten the context or use packing = \"concat\"",
                spec.context,
                longest()
            ));
        }
        let Some(LongSpec { over, share }) = spec.long.get(&source.name) else {
            return Ok(amounts.iter().map(|n| *n as f64 / all as f64).collect());
        };
        let is_long = |s: usize| *self.streams[s].lengths.start() > *over;
        let long: u64 = streams
            .iter()
            .zip(&amounts)
            .filter(|(s, _)| is_long(**s))
            .map(|(_, n)| n)
            .sum();
        if *share > 0.0 && long == 0 {
            return wrong(format!(
                "a stage asks for documents of more than {over} tokens (`long`): the longest has {}; \
                 lower `over`",
                longest()
            ));
        }
        if *share < 1.0 && long == all {
            return wrong(format!(
                "a stage asks for {share} of it from long documents, and all that it can use have more than {over} \
                 tokens; raise `over`, or leave `long` out"
            ));
        }
        let share = |(&s, &n): (&usize, &u64)| match is_long(s) {
            _ if n == 0 => 0.0,
            true => share * n as f64 / long as f64,
            false => (1.0 - share) * n as f64 / (all - long) as f64,
        };
        Ok(streams.iter().zip(&amounts).map(share).collect())
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
        for i in step as usize * n..(step as usize + 1) * n {
            let (stream, row) = self.row(planned, i);
            fill(&mut batch, stream, &row, spec);
        }
        Ok(batch)
    }

    /// Sequence `i` of a stage.
    pub(super) fn row(&self, stage: &Stage, i: usize) -> (&Stream, Row) {
        let (stream, ordinal) = stage.sequences[i];
        let course = stage.courses[stream as usize].as_ref();
        let stream = &self.streams[stream as usize];
        let row = course.map(|course| course.row(stream, u64::from(ordinal)));
        (stream, row.expect("what has a sequence has a course"))
    }

    /// What the whole plan takes from each source.
    pub fn usage(&self) -> Vec<Usage> {
        let mut tokens = vec![0u64; self.streams.len()];
        let mut epochs = vec![0f64; self.streams.len()];
        for stage in &self.stages {
            let mut documents = vec![0u64; self.streams.len()];
            let mut inside = vec![0u64; self.streams.len()];
            for i in 0..stage.sequences.len() {
                let stream = stage.sequences[i].0 as usize;
                documents[stream] += 1;
                inside[stream] += match stage.spec.packing {
                    Packing::BestFit => self.row(stage, i).1.tokens(),
                    Packing::Concat | Packing::Documents => stage.spec.context as u64,
                };
            }
            for (s, stream) in self
                .streams
                .iter()
                .enumerate()
                .filter(|(s, _)| documents[*s] > 0)
            {
                tokens[s] += inside[s];
                epochs[s] += match stage.spec.packing {
                    Packing::Documents => documents[s] as f64 / stream.documents as f64,
                    Packing::Concat | Packing::BestFit => inside[s] as f64 / stream.tokens as f64,
                };
            }
        }
        let of_source = |streams: &Vec<usize>| Usage {
            name: self.streams[streams[0]].source.name.clone(),
            tokens: streams.iter().map(|&s| tokens[s]).sum(),
            epochs: streams.iter().map(|&s| epochs[s]).fold(0.0, f64::max),
        };
        self.of_source.iter().map(of_source).collect()
    }
}

/// The lengths at which a source is cut into streams, each the longest of its stream.
fn cuts(source: &str, stages: &[PlanStage]) -> BTreeSet<u64> {
    let long = stages.iter().filter_map(|stage| stage.long.get(source));
    let by_documents = stages.iter().filter(|s| s.packing == Packing::Documents);
    let contexts = by_documents.map(|stage| stage.context as u64);
    long.map(|long| long.over).chain(contexts).collect()
}

/// Adds a row to a batch. A token's target is what follows it in its document; at a document's end it is what
/// follows there, which counts where documents see each other. Padding sees itself alone and has no target.
fn fill(batch: &mut Batch, stream: &Stream, row: &Row, spec: &PlanStage) {
    let shard = &stream.source.shard;
    let mut start = 0u32;
    for (i, piece) in row.pieces.iter().enumerate() {
        let document = piece.document as usize;
        let length = piece.len() as usize;
        shard.read(document, piece.from..piece.to, &mut batch.ids);
        shard.read(document, piece.from + 1..piece.to, &mut batch.targets);
        batch.weights.resize(batch.weights.len() + length - 1, 1.0);
        let weight = if piece.to < stream.length(piece.document) {
            shard.read(document, piece.to..piece.to + 1, &mut batch.targets);
            1.0
        } else if let Some(next) = row.pieces.get(i + 1).or(row.ahead.as_ref()) {
            let first = next.from..next.from + 1;
            shard.read(next.document as usize, first, &mut batch.targets);
            f32::from(u8::from(!spec.document_mask))
        } else {
            batch.targets.push(0);
            0.0
        };
        batch.weights.push(weight);
        let seen_from = if spec.document_mask { start } else { 0 };
        let seen = std::iter::repeat_n(seen_from, length);
        batch.doc_starts.extend(seen);
        let position = if spec.restart_positions { 0 } else { start };
        batch.positions.extend(position..position + length as u32);
        start += length as u32;
    }
    for at in start..spec.context as u32 {
        batch.ids.push(0);
        batch.targets.push(0);
        batch.weights.push(0.0);
        batch.doc_starts.push(at);
        batch
            .positions
            .push(if spec.restart_positions { 0 } else { at });
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
