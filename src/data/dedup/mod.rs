//! Exact and near duplicates among documents, in bounded memory.
//!
//! [`Signer::sign`] makes a signature of each document, in parallel; [`Dedup::push`] takes them in the documents' order
//! and writes a sorted *segment* whenever the memory is used up; [`Dedup::finish`] merges the segments: first by the
//! text's key (exact duplicates), then band by band (candidates), and chooses what stays (`clusters` has the rule).
//! The verdicts are a function of the documents, their order and the settings alone.
mod candidates;
mod clusters;
mod minhash;
mod outcome;
mod runs;
mod segment;
mod spec;
mod words;

use super::{Error, Result};
use clusters::{Choice, Ranks};
pub use minhash::{Signature, Signer};
pub use outcome::{DedupReport, Example, Fate, Outcome, SourcePair};
use segment::{Pending, Segment, Shape};
pub use spec::DedupSpec;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    /// Its documents are not to be trained on (an evaluation's): they stand before all others, and what is a duplicate
    /// of one of them goes.
    pub held_out: bool,
}

/// A deduplication in a folder of its own. A killed one goes on from the segments that are there.
#[derive(Debug)]
pub struct Dedup {
    folder: PathBuf,
    spec: DedupSpec,
    /// In the order of precedence.
    order: Vec<Source>,
    /// For each source as it was given, its place in that order.
    places: Vec<u16>,
    identity: [u8; 16],
    shape: Shape,
    segments: Vec<Segment>,
    pending: Pending,
    outcome: Option<Outcome>,
}

/// Bytes of memory for each document that `finish` takes whatever `memory` says: rank and number; the document that
/// stays and whether it is exact, by rank and by number; the size of a cluster.
const EACH: u64 = 8 + 2 * (4 + 1) + 4;

/// What merging has at least.
const LEAST_TO_MERGE: u64 = 8 << 20;

impl Dedup {
    /// Opens the folder, which must be of this task alone (the caller names it by what the documents depend on), or
    /// makes it.
    ///
    /// # Errors
    /// When the settings are wrong, or the folder is of other settings, or cannot be read.
    pub fn open(folder: &Path, spec: &DedupSpec, sources: &[Source]) -> Result<Self> {
        let trained_on = sources.iter().filter(|s| !s.held_out);
        spec.check(trained_on.map(|s| s.name.as_str()))?;
        let order = in_order_of_precedence(spec, sources);
        let place = |source| order.iter().position(|s| s == source).unwrap_or_default() as u16;
        let places = sources.iter().map(place).collect();
        if sources.len() > usize::from(u16::MAX) {
            return Err(Error::Dedup(format!(
                "{} sources are too many",
                sources.len()
            )));
        }
        let said = format!("{} {sources:?}", spec.identity());
        let mut identity = [0; 16];
        identity.copy_from_slice(&blake3::hash(said.as_bytes()).as_bytes()[..16]);

        let shape = Shape {
            bands: spec.bands,
            sketch: spec.bands * spec.rows,
        };
        let at = |e| failed(folder, e);
        fs::create_dir_all(folder).map_err(at)?;
        crate::whole_file::remove_temporaries(folder).map_err(at)?;
        let path = folder.join(OUTCOME);
        let outcome = Outcome::read(&path, &identity).map_err(|e| failed(&path, e))?;
        let mut segments = Vec::new();
        let mut next = 0;
        for path in segment_files(folder).map_err(at)? {
            if outcome.is_some() {
                fs::remove_file(&path).map_err(|e| failed(&path, e))?;
                continue;
            }
            let segment = Segment::open(&path, shape, &identity).map_err(|e| failed(&path, e))?;
            if segment.first != next {
                let what = format!("begins with document {}, not {next}", segment.first);
                return Err(failed(
                    &path,
                    io::Error::new(io::ErrorKind::InvalidData, what),
                ));
            }
            next += segment.count;
            segments.push(segment);
        }
        Ok(Dedup {
            folder: folder.to_path_buf(),
            spec: spec.clone(),
            order,
            places,
            identity,
            shape,
            segments,
            pending: Pending::new(shape, next, spec.memory.as_u64()),
            outcome,
        })
    }

    /// Number of documents that were pushed. Right after `open`, those that were written before: push those behind them.
    pub fn documents(&self) -> u32 {
        match &self.outcome {
            Some(outcome) => outcome.documents(),
            None => self.written() + self.pending.len() as u32,
        }
    }

    fn written(&self) -> u32 {
        self.segments.last().map_or(0, |s| s.first + s.count)
    }

    /// What makes the signatures that `push` takes.
    pub fn signer(&self) -> Signer {
        Signer::new(&self.spec)
    }

    /// Takes the next document, of the source with this index.
    ///
    /// # Errors
    /// When the folder cannot be written, or there are more documents than a number of 32 bits counts.
    pub fn push(&mut self, source: usize, signature: &Signature) -> Result<()> {
        if self.documents() == u32::MAX || self.outcome.is_some() {
            let all = self.documents();
            let what = format!("document {all} is one too many; the task has its {all}");
            return Err(Error::Dedup(what));
        }
        self.pending.push(self.places[source], signature);
        match self.pending.is_full() {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        let segment = self.pending.write(&self.folder, &self.identity);
        self.segments
            .push(segment.map_err(|e| failed(&self.folder, e))?);
        Ok(())
    }

    /// The verdicts, of which the folder keeps a copy in the place of the segments.
    ///
    /// # Errors
    /// When the folder cannot be written or read.
    pub fn finish(mut self) -> Result<Outcome> {
        if let Some(outcome) = self.outcome {
            return Ok(outcome);
        }
        if self.pending.len() > 0 {
            self.write()?;
        }
        self.pending = Pending::new(self.shape, 0, 0);
        self.merge().map_err(|e| failed(&self.folder, e))
    }

    fn merge(&self) -> io::Result<Outcome> {
        let documents = u64::from(self.written());
        let left = self.spec.memory.as_u64().saturating_sub(EACH * documents);
        let memory = usize::try_from(left.max(LEAST_TO_MERGE)).unwrap_or(usize::MAX);
        let held_out = self.order.iter().filter(|s| s.held_out).count();
        let ranks = Ranks::new(&self.segments, self.order.len(), held_out, memory)?;
        let choice = Choice {
            segments: &self.segments,
            bands: self.spec.bands,
            min_jaccard: self.spec.min_jaccard,
            memory,
            folder: &self.folder,
        };
        let clusters = clusters::choose(&ranks, &choice)?;
        let outcome = Outcome::new(&self.segments, &self.order, ranks, clusters)?;
        outcome.write(&self.folder.join(OUTCOME), &self.identity)?;
        for path in segment_files(&self.folder)? {
            fs::remove_file(path)?;
        }
        Ok(outcome)
    }
}

const OUTCOME: &str = "outcome";

/// The files of segments, in the order of their documents.
fn segment_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "signatures") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Held-out sources, then those that `precedence` names, then the others, as they were given.
fn in_order_of_precedence(spec: &DedupSpec, sources: &[Source]) -> Vec<Source> {
    let place = |source: &&Source| {
        let named = spec.precedence.iter().position(|name| *name == source.name);
        match source.held_out {
            true => (0, 0),
            false => named.map_or((2, 0), |i| (1, i)),
        }
    };
    let mut order: Vec<&Source> = sources.iter().collect();
    order.sort_by_key(place);
    order.into_iter().cloned().collect()
}

fn failed(path: &Path, e: io::Error) -> Error {
    let path = path.display().to_string();
    let what = match e.kind() {
        io::ErrorKind::InvalidData => format!("{e}; remove the folder to begin anew"),
        _ => format!("deduplication: {e}"),
    };
    Error::File { path, what }
}

#[cfg(test)]
mod datatrove_tests;
#[cfg(test)]
mod material_tests;
#[cfg(test)]
mod planted_tests;
#[cfg(test)]
mod tests;
