//! Which document stays of those that are much the same.
use super::{
    candidates::{Pairs, groups},
    minhash::similarity,
    runs::Merge,
    segment::{EXACT, ORDER, Segment},
};
use std::{io::Result, path::Path};

/// All documents in the order in which they are to be kept: by the source's precedence (held-out ones first), then
/// the longer, then the first. A document's place there is its rank.
pub(super) struct Ranks {
    of_number: Vec<u32>,
    numbers: Vec<u32>,
    /// For each place of the order of precedence, the rank behind its last document.
    ends: Vec<u32>,
    held_out: u32,
}

impl Ranks {
    /// Of the documents of all segments, from `sources` sources of which the first `held_out` are held out.
    pub fn new(
        segments: &[Segment],
        sources: usize,
        held_out: usize,
        memory: usize,
    ) -> Result<Self> {
        let count: usize = segments.iter().map(|s| s.count as usize).sum();
        let mut of_number = vec![0; count];
        let mut numbers = Vec::with_capacity(count);
        let mut ends = vec![0; sources];
        let runs = segments.iter().map(Segment::orders).collect();
        let mut merge = Merge::<ORDER>::new(runs, memory)?;
        while let Some(record) = merge.next()? {
            let mut number = [0; 4];
            number.copy_from_slice(&record[ORDER - 4..]);
            let number = u32::from_be_bytes(number);
            of_number[number as usize] = numbers.len() as u32;
            numbers.push(number);
            ends[usize::from(u16::from_be_bytes([record[0], record[1]]))] = numbers.len() as u32;
        }
        // A source without documents ends where the one before it does.
        let mut last = 0;
        for end in &mut ends {
            *end = last.max(*end);
            last = *end;
        }
        let held_out = held_out.checked_sub(1).map_or(0, |last| ends[last]);
        Ok(Ranks {
            of_number,
            numbers,
            ends,
            held_out,
        })
    }

    pub fn len(&self) -> u32 {
        self.numbers.len() as u32
    }

    /// The rank of a document.
    pub fn of(&self, number: u32) -> u32 {
        self.of_number[number as usize]
    }

    /// The document with this rank.
    pub fn number(&self, rank: u32) -> u32 {
        self.numbers[rank as usize]
    }

    /// The place of the document's source in the order of precedence.
    pub fn source(&self, rank: u32) -> usize {
        self.ends.partition_point(|end| *end <= rank)
    }

    /// How many documents are held out: theirs are the first ranks.
    pub fn held_out(&self) -> u32 {
        self.held_out
    }
}

/// What became of the documents, by rank.
pub(super) struct Clusters {
    /// The rank of the document that stays for each; its own where it stays itself.
    pub stays: Vec<u32>,
    /// Whether the text is that document's when both are normalised.
    pub exact: Vec<bool>,
    /// Pairs of documents that agree in a band.
    pub candidates: u64,
    /// Those of them that were compared and are not similar enough.
    pub refused: u64,
}

/// What `choose` needs beside the documents.
pub(super) struct Choice<'a> {
    pub segments: &'a [Segment],
    pub bands: usize,
    pub min_jaccard: f64,
    pub memory: usize,
    /// Where pairs that do not fit into the memory go.
    pub folder: &'a Path,
}

/// Chooses the documents that stay.
///
/// 1. Of documents with the same normalised text, the first by rank stays in question.
/// 2. These are gone through by rank. Each stays, unless one that stays already is its candidate with a similarity of at
///    least `min_jaccard`; then it goes for the first such one.
///
/// So a cluster is a document that stays and those that are near *it*: a chain of documents, each a little other than
/// the one before, does not run together into one, and no two documents stay that are near each other, as far as bands
/// show them. Held-out documents stay always.
pub(super) fn choose(ranks: &Ranks, choice: &Choice) -> Result<Clusters> {
    let mut stays: Vec<u32> = (0..ranks.len()).collect();
    let mut exact = vec![false; stays.len()];
    let runs = choice.segments.iter().map(Segment::exact).collect();
    groups::<EXACT>(runs, choice.memory, |members| {
        let first = members.iter().map(|n| ranks.of(*n)).min();
        for rank in members.iter().map(|n| ranks.of(*n)) {
            let first = first.unwrap_or(rank);
            stays[rank as usize] = first;
            exact[rank as usize] = rank != first;
        }
        Ok(())
    })?;

    let (mut candidates, mut refused) = (0, 0);
    let mut pairs = Pairs::find(
        choice.segments,
        choice.bands,
        ranks,
        |rank| stays[rank as usize] == rank,
        choice.memory,
        choice.folder,
    )?;
    let (mut first_sketch, mut second_sketch) = (Vec::new(), Vec::new());
    let mut read = None;
    while let Some((first, second)) = pairs.next()? {
        candidates += 1;
        let is_gone = |rank: u32| stays[rank as usize] != rank;
        // Of all pairs in which `first` stands behind, the last has been seen: what becomes of it is settled.
        if is_gone(first) || is_gone(second) {
            continue;
        }
        if choice.min_jaccard > 0.0 {
            if read != Some(first) {
                sketch(choice.segments, ranks.number(first), &mut first_sketch)?;
                read = Some(first);
            }
            sketch(choice.segments, ranks.number(second), &mut second_sketch)?;
            if similarity(&first_sketch, &second_sketch) < choice.min_jaccard {
                refused += 1;
                continue;
            }
        }
        stays[second as usize] = first;
    }

    for rank in 0..stays.len() {
        if rank < ranks.held_out() as usize {
            (stays[rank], exact[rank]) = (rank as u32, false);
        } else if exact[rank] {
            // The one with the same text may have gone for another, to which this one is then as near.
            let same = stays[rank];
            let stayed = stays[same as usize];
            (stays[rank], exact[rank]) = (stayed, stayed == same);
        }
    }
    Ok(Clusters {
        stays,
        exact,
        candidates,
        refused,
    })
}

/// Reads a document's sketch.
pub(super) fn sketch(segments: &[Segment], number: u32, sketch: &mut Vec<u8>) -> Result<()> {
    let i = segments.partition_point(|s| s.first <= number) - 1;
    segments[i].sketch(number, sketch)
}
