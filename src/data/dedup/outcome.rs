//! What came of deduplication: a verdict for each document, and the numbers of a report.
use super::{
    Source,
    clusters::{self, Clusters, Ranks},
    minhash::similarity,
    segment::Segment,
};
use crate::whole_file;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufWriter, Error, ErrorKind, Result, Write},
    path::Path,
};

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// It goes, for its normalised text is that of document `of`, which stays.
    Exact {
        of: u32,
    },
    /// It goes, for it is near document `of`, which stays.
    Near {
        of: u32,
    },
}

/// Verdicts on all documents, by their numbers in the order in which they were pushed, from 0.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub report: DedupReport,
    /// The document that stays for each.
    stays: Vec<u32>,
    exact: Vec<bool>,
}

/// The numbers of a deduplication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DedupReport {
    /// Held-out ones included.
    pub documents: u64,
    /// Documents that stay, without those held out.
    pub kept: u64,
    /// Documents with fewer words than a gram, which were compared as a whole alone.
    pub short: u64,
    /// Pairs of documents that agree in a band, exact duplicates aside.
    pub candidates: u64,
    /// Those of them that were compared and are less similar than `min_jaccard`.
    pub refused: u64,
    /// What went, by pair of sources: in the order of precedence of the one that it went from, then of the other.
    pub sources: Vec<SourcePair>,
    /// Number of clusters by their size, from 2 on: the document that stays and those that went for it.
    pub clusters: BTreeMap<u32, u64>,
    /// Of the first ten clusters, in the order in which their first near duplicate was pushed, that one.
    pub examples: Vec<Example>,
}

/// Duplicates of one source in another, or in itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourcePair {
    /// The source of what went.
    pub from: String,
    /// The source of what stays for it.
    pub duplicate_of: String,
    pub exact: u64,
    pub near: u64,
}

/// A near duplicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Number of the document that went.
    pub gone: u32,
    /// Number of the one that stays for it.
    pub stays: u32,
    /// Their Jaccard similarity, estimated.
    pub similarity: f64,
}

const EXAMPLES: usize = 10;

/// First bytes of the file; the number is the format's version.
const MAGIC: &[u8; 8] = b"hdedupo1";

impl Outcome {
    /// Makes verdicts of clusters. `sources` are in the order of precedence.
    pub(super) fn new(
        segments: &[Segment],
        sources: &[Source],
        ranks: Ranks,
        clusters: Clusters,
    ) -> Result<Self> {
        let count = ranks.len() as usize;
        let mut stays = vec![0; count];
        let mut exact = vec![false; count];
        let mut sizes = vec![1u32; count];
        let mut pairs: BTreeMap<(usize, usize), [u64; 2]> = BTreeMap::new();
        let mut gone = 0;
        for rank in 0..ranks.len() {
            let first = clusters.stays[rank as usize];
            let number = ranks.number(rank) as usize;
            stays[number] = ranks.number(first);
            exact[number] = clusters.exact[rank as usize];
            if first != rank {
                gone += 1;
                sizes[first as usize] += 1;
                let pair = (ranks.source(rank), ranks.source(first));
                pairs.entry(pair).or_default()[usize::from(!exact[number])] += 1;
            }
        }
        let mut by_size = BTreeMap::new();
        for size in sizes.into_iter().filter(|size| *size > 1) {
            *by_size.entry(size).or_default() += 1;
        }
        let pair = |((from, of), [exact, near]): ((usize, usize), [u64; 2])| SourcePair {
            from: sources[from].name.clone(),
            duplicate_of: sources[of].name.clone(),
            exact,
            near,
        };
        let report = DedupReport {
            documents: count as u64,
            kept: count as u64 - gone - u64::from(ranks.held_out()),
            short: segments.iter().map(|s| u64::from(s.count - s.near)).sum(),
            candidates: clusters.candidates,
            refused: clusters.refused,
            sources: pairs.into_iter().map(pair).collect(),
            clusters: by_size,
            examples: Vec::new(),
        };
        let mut outcome = Outcome {
            report,
            stays,
            exact,
        };
        outcome.report.examples = outcome.examples(segments)?;
        Ok(outcome)
    }

    fn examples(&self, segments: &[Segment]) -> Result<Vec<Example>> {
        let mut examples: Vec<Example> = Vec::new();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for gone in 0..self.documents() {
            let Fate::Near { of } = self.fate(gone) else {
                continue;
            };
            if examples.iter().any(|e| e.stays == of) {
                continue;
            }
            clusters::sketch(segments, gone, &mut first)?;
            clusters::sketch(segments, of, &mut second)?;
            examples.push(Example {
                gone,
                stays: of,
                similarity: similarity(&first, &second),
            });
            if examples.len() == EXAMPLES {
                break;
            }
        }
        Ok(examples)
    }

    /// Number of documents.
    pub fn documents(&self) -> u32 {
        self.stays.len() as u32
    }

    /// What becomes of document `number`.
    pub fn fate(&self, number: u32) -> Fate {
        let of = self.stays[number as usize];
        match self.exact[number as usize] {
            _ if of == number => Fate::Stays,
            true => Fate::Exact { of },
            false => Fate::Near { of },
        }
    }

    /// Writes the outcome, whole or not at all: magic, identity, length of the report (u64), the report as JSON, number
    /// of documents (u64), for each the one that stays (u32) and whether it is exact (a byte). Little-endian.
    pub(super) fn write(&self, path: &Path, identity: &[u8; 16]) -> Result<()> {
        let report = serde_json::to_vec(&self.report)?;
        whole_file::replace(path, |file| {
            let mut out = BufWriter::with_capacity(1 << 20, file.as_file_mut());
            out.write_all(MAGIC)?;
            out.write_all(identity)?;
            out.write_all(&(report.len() as u64).to_le_bytes())?;
            out.write_all(&report)?;
            out.write_all(&(self.stays.len() as u64).to_le_bytes())?;
            for of in &self.stays {
                out.write_all(&of.to_le_bytes())?;
            }
            for exact in &self.exact {
                out.write_all(&[u8::from(*exact)])?;
            }
            out.flush()
        })
    }

    /// Reads what `write` wrote; none where nothing is written yet.
    ///
    /// # Errors
    /// `InvalidData` when it is of another task or damaged, or what the system says.
    pub(super) fn read(path: &Path, identity: &[u8; 16]) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let invalid = |what| Error::new(ErrorKind::InvalidData, what);
        if !bytes.starts_with(MAGIC) || bytes.get(8..24) != Some(&identity[..]) {
            return Err(invalid("was made with other settings or other sources"));
        }
        Self::parse(&bytes[24..])
            .map(Some)
            .ok_or_else(|| invalid("is damaged"))
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (report, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let count = u64::from_le_bytes(*count) as usize;
        let (stays, exact) = rest.split_at_checked(count.checked_mul(4)?)?;
        let stays: Vec<u32> = stays
            .as_chunks()
            .0
            .iter()
            .map(|of| u32::from_le_bytes(*of))
            .collect();
        let valid = exact.len() == count && stays.iter().all(|of| (*of as usize) < count);
        valid.then_some(())?;
        Some(Outcome {
            report: serde_json::from_slice(report).ok()?,
            stays,
            exact: exact.iter().map(|e| *e == 1).collect(),
        })
    }
}
