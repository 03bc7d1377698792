//! A source's documents in the order of its epochs.
use super::Shard;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

/// Documents between two marks of an epoch.
const MARK: usize = 64;

/// A source's name and tokens.
#[derive(Debug)]
pub(super) struct Source {
    pub name: String,
    pub shard: Shard,
}

/// A part of a document, by its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub document: u32,
    pub from: u64,
    pub to: u64,
}

impl Piece {
    pub fn len(&self) -> u64 {
        self.to - self.from
    }
}

/// The documents of a source whose lengths are in a range, again and again: a permutation for each (seed, source,
/// epoch). A position in it is a number of tokens, counted over all epochs. It keeps four bytes a document for each
/// of the last two epochs that were asked for.
#[derive(Debug)]
pub(super) struct Stream {
    pub source: Arc<Source>,
    pub lengths: RangeInclusive<u64>,
    /// Tokens of an epoch.
    pub tokens: u64,
    /// Documents of an epoch that have tokens.
    pub documents: u64,
    seed: u64,
    epochs: Mutex<Vec<(u64, Arc<Epoch>)>>,
}

/// One pass through a stream.
#[derive(Debug)]
struct Epoch {
    /// The documents' order; empty ones are left out.
    order: Vec<u32>,
    /// Tokens before every 64th of them.
    marks: Vec<u64>,
}

impl Stream {
    pub fn new(source: Arc<Source>, lengths: RangeInclusive<u64>, seed: u64) -> Self {
        let all = 0..source.shard.len();
        let inside = all
            .map(|i| source.shard.length(i))
            .filter(|n| *n > 0 && lengths.contains(n));
        let (documents, tokens) = inside.fold((0, 0), |(d, t), n| (d + 1, t + n));
        Stream {
            source,
            lengths,
            tokens,
            documents,
            seed,
            epochs: Mutex::default(),
        }
    }

    pub fn length(&self, document: u32) -> u64 {
        self.source.shard.length(document as usize)
    }

    fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut kept = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, epoch)) = kept.iter().find(|(kept, _)| *kept == number) {
            return Arc::clone(epoch);
        }
        let key = format!("order/{}/{}/{number}", self.seed, self.source.name);
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(key.as_bytes()).as_bytes());
        // All of the source is shuffled, whatever part of it this is: its order in the whole stays.
        let mut order: Vec<u32> = (0..self.source.shard.len() as u32).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let (mut marks, mut at, mut taken) = (Vec::new(), 0, 0);
        order.retain(|&document| {
            let length = self.length(document);
            let inside = length > 0 && self.lengths.contains(&length);
            if inside {
                if taken % MARK == 0 {
                    marks.push(at);
                }
                at += length;
                taken += 1;
            }
            inside
        });
        order.shrink_to_fit();
        let epoch = Arc::new(Epoch { order, marks });
        if kept.len() >= 2 {
            kept.remove(0);
        }
        kept.push((number, Arc::clone(&epoch)));
        epoch
    }

    /// The pieces from position `at` on, without end; the stream must have tokens.
    pub fn walk(&self, at: u64) -> Walk<'_> {
        let (number, inner) = (at / self.tokens, at % self.tokens);
        let epoch = self.epoch(number);
        let mark = epoch.marks.partition_point(|&m| m <= inner) - 1;
        let (mut index, mut start) = (mark * MARK, epoch.marks[mark]);
        while start + self.length(epoch.order[index]) <= inner {
            start += self.length(epoch.order[index]);
            index += 1;
        }
        Walk {
            stream: self,
            number,
            epoch,
            index,
            from: inner - start,
            at,
        }
    }

    /// The position at which document `ordinal` begins, counted over all epochs.
    pub fn begin_of(&self, ordinal: u64) -> u64 {
        let (number, index) = (
            ordinal / self.documents,
            (ordinal % self.documents) as usize,
        );
        let epoch = self.epoch(number);
        let before = &epoch.order[index / MARK * MARK..index];
        let inside: u64 = before.iter().map(|&d| self.length(d)).sum();
        number * self.tokens + epoch.marks[index / MARK] + inside
    }

    /// How many documents begin before position `at`.
    pub fn documents_before(&self, at: u64) -> u64 {
        let walk = self.walk(at);
        walk.number * self.documents + walk.index as u64 + u64::from(walk.from > 0)
    }
}

/// What comes in a stream from a position on; the first piece may be the rest of a document.
pub(super) struct Walk<'a> {
    stream: &'a Stream,
    number: u64,
    epoch: Arc<Epoch>,
    index: usize,
    from: u64,
    /// Where it stands.
    pub at: u64,
}

impl Walk<'_> {
    pub fn next(&mut self) -> Piece {
        if self.index == self.epoch.order.len() {
            self.number += 1;
            self.epoch = self.stream.epoch(self.number);
            self.index = 0;
        }
        let document = self.epoch.order[self.index];
        let (from, to) = (self.from, self.stream.length(document));
        self.index += 1;
        self.from = 0;
        self.at += to - from;
        Piece { document, from, to }
    }

    /// Whether one epoch is over here and the next one not begun.
    pub fn between_epochs(&self) -> bool {
        self.at.is_multiple_of(self.stream.tokens)
    }
}
