//! Sorted runs of records in files, and their merge (an external merge sort's second half).
//!
//! A record is `W` bytes, numbers in it are big-endian: records are in order when their bytes are.
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs::File,
    io::{BufWriter, Result, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// Sorted records in a part of a file.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub file: Arc<File>,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Number of records.
    pub records: u64,
}

/// The records of several runs in their order.
pub(super) struct Merge<const W: usize> {
    readers: Vec<Reader<W>>,
    heap: BinaryHeap<Reverse<([u8; W], usize)>>,
}

/// A reader's buffer: a smaller one makes too many reads, a larger one no fewer that matter.
const LEAST_BUFFER: usize = 4 << 10;
const MOST_BUFFER: usize = 1 << 20;

impl<const W: usize> Merge<W> {
    /// Begins to read; the buffers take `memory` bytes together, as far as a few KiB each allow.
    pub fn new(runs: Vec<Run>, memory: usize) -> Result<Self> {
        let buffer = (memory / runs.len().max(1)).clamp(LEAST_BUFFER, MOST_BUFFER);
        let mut merge = Merge {
            readers: runs.into_iter().map(|r| Reader::new(r, buffer)).collect(),
            heap: BinaryHeap::new(),
        };
        for (i, reader) in merge.readers.iter_mut().enumerate() {
            if let Some(record) = reader.next()? {
                merge.heap.push(Reverse((record, i)));
            }
        }
        Ok(merge)
    }

    /// The next record.
    pub fn next(&mut self) -> Result<Option<[u8; W]>> {
        let Some(mut top) = self.heap.peek_mut() else {
            return Ok(None);
        };
        let (record, i) = top.0;
        match self.readers[i].next()? {
            Some(next) => top.0.0 = next,
            None => {
                PeekMut::pop(top);
            }
        }
        Ok(Some(record))
    }
}

struct Reader<const W: usize> {
    run: Run,
    buffer: Vec<u8>,
    /// The part of the buffer that is not read yet.
    at: usize,
    end: usize,
}

impl<const W: usize> Reader<W> {
    fn new(run: Run, buffer: usize) -> Self {
        let all = usize::try_from(run.records).unwrap_or(usize::MAX);
        Reader {
            buffer: vec![0; W * (buffer / W).min(all)],
            run,
            at: 0,
            end: 0,
        }
    }

    fn next(&mut self) -> Result<Option<[u8; W]>> {
        if self.at == self.end {
            if self.run.records == 0 {
                return Ok(None);
            }
            let most = (self.buffer.len() / W) as u64;
            let records = self.run.records.min(most);
            (self.at, self.end) = (0, records as usize * W);
            let buffer = &mut self.buffer[..self.end];
            self.run.file.read_exact_at(buffer, self.run.offset)?;
            self.run.offset += self.end as u64;
            self.run.records -= records;
        }
        let mut record = [0; W];
        record.copy_from_slice(&self.buffer[self.at..self.at + W]);
        self.at += W;
        Ok(Some(record))
    }
}

/// Sorts numbers that may be more than fit into memory, and drops those that are there twice: runs go to a file
/// without a name, which is gone with this process.
pub(super) struct Sorter {
    buffer: Vec<u64>,
    most: usize,
    out: BufWriter<File>,
    written: u64,
    runs: Vec<(u64, u64)>,
}

impl Sorter {
    /// Bytes of a number in a run.
    pub const WIDTH: usize = 8;

    /// A sorter that takes `memory` bytes and keeps its runs on the disk of `folder`.
    pub fn new(folder: &Path, memory: usize) -> Result<Self> {
        Ok(Sorter {
            buffer: Vec::new(),
            most: (memory / Self::WIDTH).max(1024),
            out: BufWriter::new(tempfile::tempfile_in(folder)?),
            written: 0,
            runs: Vec::new(),
        })
    }

    pub fn push(&mut self, number: u64) -> Result<()> {
        if self.buffer.len() == self.most {
            self.buffer.sort_unstable();
            self.buffer.dedup();
            // What was mostly repeated leaves room for more.
            if self.buffer.len() > self.most / 2 {
                self.write()?;
            }
        }
        if self.buffer.len() == self.buffer.capacity() {
            let more = self.buffer.len().max(1024);
            let room = self.most - self.buffer.len();
            self.buffer.reserve_exact(more.min(room));
        }
        self.buffer.push(number);
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        for number in &self.buffer {
            self.out.write_all(&number.to_be_bytes())?;
        }
        self.runs.push((self.written, self.buffer.len() as u64));
        self.written += (self.buffer.len() * Self::WIDTH) as u64;
        self.buffer.clear();
        Ok(())
    }

    /// All runs, each without repetition.
    pub fn finish(mut self) -> Result<Vec<Run>> {
        self.buffer.sort_unstable();
        self.buffer.dedup();
        if !self.buffer.is_empty() {
            self.write()?;
        }
        let file = Arc::new(self.out.into_inner().map_err(|e| e.into_error())?);
        let run = |(offset, records)| Run {
            file: file.clone(),
            offset,
            records,
        };
        Ok(self.runs.into_iter().map(run).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn many_runs_in_little_memory_give_what_a_set_gives() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (count, most) in [(0, 10), (1000, 300), (20_000, 1 << 40), (50_000, 2_000)] {
            let numbers: Vec<u64> = (0..count).map(|_| rng.random_range(0..most)).collect();
            let mut sorter = Sorter::new(folder.path(), 1).unwrap();
            numbers.iter().for_each(|n| sorter.push(*n).unwrap());
            let runs = sorter.finish().unwrap();
            assert!(runs.len() > 1 || count < 20_000, "{} runs", runs.len());
            // Two sorters' runs in one merge: each number twice where both have it.
            let twice = [runs.clone(), runs].concat();
            let mut merge = Merge::<8>::new(twice, 1).unwrap();
            let mut merged = Vec::new();
            while let Some(record) = merge.next().unwrap() {
                merged.push(u64::from_be_bytes(record));
            }
            assert!(merged.is_sorted());
            merged.dedup();
            let set: std::collections::BTreeSet<u64> = numbers.into_iter().collect();
            assert_eq!(merged, set.into_iter().collect::<Vec<_>>());
        }
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "runs have no name");
    }
}
