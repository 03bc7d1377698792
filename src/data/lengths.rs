//! How long documents are: as they are stored, and as training sees them.
use super::{Packing, Plan};
use serde::Serialize;

/// A distribution of lengths in tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// Documents, or parts of them.
    pub count: u64,
    pub tokens: u64,
    pub longest: u64,
    /// By powers of two, from the shortest to the longest.
    pub buckets: Vec<Bucket>,
}

/// Lengths from `from` to twice as many tokens less one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bucket {
    pub from: u64,
    pub count: u64,
    pub tokens: u64,
}

impl Lengths {
    fn add(&mut self, length: u64) {
        self.count += 1;
        self.tokens += length;
        self.longest = self.longest.max(length);
        let from = 1 << length.max(1).ilog2();
        let at = self
            .buckets
            .binary_search_by_key(&from, |bucket| bucket.from);
        let at = at.unwrap_or_else(|at| {
            let (count, tokens) = (0, 0);
            self.buckets.insert(
                at,
                Bucket {
                    from,
                    count,
                    tokens,
                },
            );
            at
        });
        self.buckets[at].count += 1;
        self.buckets[at].tokens += length;
    }
}

/// What a stage sees of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Seen {
    pub source: String,
    pub sequences: u64,
    /// Parts of one document that stand together in a sequence.
    pub spans: Lengths,
    /// Documents that a sequence would have held whole, and that a sequence's end cuts.
    pub cut: u64,
    /// Documents that are longer than a sequence, each counted where it begins.
    pub longer: u64,
    /// Tokens of padding.
    pub padding: u64,
    /// Tokens of documents' ends that packing by documents leaves out.
    pub unused: u64,
}

impl Plan {
    /// The lengths of each source's documents, in the order of the sources.
    pub fn stored(&self) -> Vec<(String, Lengths)> {
        let of_source = |streams: &Vec<usize>| {
            let source = &self.streams[streams[0]].source;
            let mut lengths = Lengths::default();
            (0..source.shard.len()).for_each(|i| lengths.add(source.shard.length(i)));
            (source.name.clone(), lengths)
        };
        self.of_source.iter().map(of_source).collect()
    }

    /// What stage `stage` sees of each source of which it sees anything, in the order of the sources.
    pub fn seen(&self, stage: usize) -> Vec<Seen> {
        let Some(stage) = self.stages.get(stage) else {
            return Vec::new();
        };
        let context = stage.spec.context as u64;
        let mut all = vec![Seen::default(); self.of_source.len()];
        for i in 0..stage.sequences.len() {
            let (stream, row) = self.row(stage, i);
            let source = self
                .of_source
                .iter()
                .position(|of| of.contains(&(stage.sequences[i].0 as usize)));
            let Some(seen) = source.map(|s| &mut all[s]) else {
                continue;
            };
            seen.sequences += 1;
            seen.padding += context - row.tokens();
            for piece in &row.pieces {
                seen.spans.add(piece.len());
                let length = stream.length(piece.document);
                let begins = piece.from == 0;
                seen.longer += u64::from(begins && length > context);
                seen.cut += u64::from(begins && piece.to < length && length <= context);
                if stage.spec.packing == Packing::Documents {
                    seen.unused += length - piece.to;
                }
            }
        }
        for (seen, streams) in all.iter_mut().zip(&self.of_source) {
            seen.source = self.streams[streams[0]].source.name.clone();
        }
        all.retain(|seen| seen.sequences > 0);
        all
    }
}
