//! Which documents may be duplicates of each other.
use super::{
    clusters::Ranks,
    runs::{Merge, Run, Sorter},
    segment::{BAND, Segment},
};
use rayon::prelude::*;
use std::{io::Result, path::Path};

/// Bytes of a pair in a run.
pub(super) const PAIR: usize = Sorter::WIDTH;

/// In a group of documents with the same hash of a band, so many that are to be kept first are paired with all that
/// come behind them: the pairs of a group of n are at most so many times n, not n² / 2.
pub(super) const LEADERS: usize = 16;

/// Hands on each group of two and more documents that have the same key, the bytes of a record before its number.
pub(super) fn groups<const W: usize>(
    runs: Vec<Run>,
    memory: usize,
    mut each: impl FnMut(&[u32]) -> Result<()>,
) -> Result<()> {
    let mut merge = Merge::<W>::new(runs, memory)?;
    let mut members: Vec<u32> = Vec::new();
    let mut last = [0; W];
    while let Some(record) = merge.next()? {
        if record[..W - 4] != last[..W - 4] {
            if members.len() > 1 {
                each(&members)?;
            }
            members.clear();
            last = record;
        }
        let mut number = [0; 4];
        number.copy_from_slice(&record[W - 4..]);
        members.push(u32::from_be_bytes(number));
    }
    match members.len() {
        0 | 1 => Ok(()),
        _ => each(&members),
    }
}

/// Pairs of ranks, the one that is to be kept first in front, each pair once, in ascending order.
pub(super) struct Pairs {
    merge: Merge<PAIR>,
    last: Option<u64>,
}

impl Pairs {
    /// The pairs of all bands' groups, of documents for which `is_in` says yes. Bands are read in parallel.
    pub fn find(
        segments: &[Segment],
        bands: usize,
        ranks: &Ranks,
        is_in: impl Fn(u32) -> bool + Sync,
        memory: usize,
        folder: &Path,
    ) -> Result<Self> {
        let share = memory / rayon::current_num_threads().min(bands);
        let find = |band: usize| {
            let runs = segments.iter().map(|s| s.band(band)).collect();
            let mut sorter = Sorter::new(folder, share / 2)?;
            groups::<BAND>(runs, share / 2, |members| {
                let mut group: Vec<u32> = members.iter().map(|n| ranks.of(*n)).collect();
                group.retain(|rank| is_in(*rank));
                pair(group, ranks.held_out(), &mut sorter)
            })?;
            sorter.finish()
        };
        let runs: Vec<Vec<Run>> = (0..bands)
            .into_par_iter()
            .map(find)
            .collect::<Result<_>>()?;
        let runs: Vec<Run> = runs.into_iter().flatten().collect();
        Ok(Pairs {
            merge: Merge::new(runs, memory)?,
            last: None,
        })
    }

    pub fn next(&mut self) -> Result<Option<(u32, u32)>> {
        while let Some(record) = self.merge.next()? {
            let pair = u64::from_be_bytes(record);
            if self.last != Some(pair) {
                self.last = Some(pair);
                return Ok(Some(((pair >> 32) as u32, pair as u32)));
            }
        }
        Ok(None)
    }
}

/// The pairs of a group. Held-out documents are paired with all others, whatever their number, and not with each other:
/// what is near one of them goes, and they stay.
fn pair(mut group: Vec<u32>, held_out: u32, sorter: &mut Sorter) -> Result<()> {
    group.sort_unstable();
    let held = group.partition_point(|rank| *rank < held_out);
    for (i, first) in group.iter().enumerate().take(held + LEADERS) {
        for second in &group[held.max(i + 1)..] {
            sorter.push(u64::from(*first) << 32 | u64::from(*second))?;
        }
    }
    Ok(())
}
