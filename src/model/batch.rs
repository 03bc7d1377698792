//! What one forward pass reads.

/// Packed token rows with their document boundaries.
///
/// Every vector is row-major `[batch, tokens]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub batch: usize,
    pub tokens: usize,
    /// Input token ids.
    pub ids: Vec<u32>,
    /// The id that each position is to predict.
    pub targets: Vec<u32>,
    /// Weight of each position's loss; 0 where there is nothing to predict (a document's last token).
    pub weights: Vec<f32>,
    /// RoPE position of each token.
    pub positions: Vec<u32>,
    /// For each token the index within its row of the first token that it may attend to
    /// (the start of its document); all 0 when documents are not masked from each other.
    pub doc_starts: Vec<u32>,
}

impl Batch {
    /// Sum of the loss weights: the part of the normaliser that this batch contributes.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }

    /// Rows `from` to `to`.
    pub fn rows(&self, from: usize, to: usize) -> Batch {
        let range = from * self.tokens..to * self.tokens;
        Batch {
            batch: to - from,
            tokens: self.tokens,
            ids: self.ids[range.clone()].to_vec(),
            targets: self.targets[range.clone()].to_vec(),
            weights: self.weights[range.clone()].to_vec(),
            positions: self.positions[range.clone()].to_vec(),
            doc_starts: self.doc_starts[range].to_vec(),
        }
    }

    /// Part `rank` of `ranks` equal parts of every row's tokens, which must be a multiple of `ranks`.
    pub fn context_part(&self, rank: usize, ranks: usize) -> Part {
        let tokens = self.tokens / ranks;
        let offset = rank * tokens;
        Part {
            offset,
            rows: Batch {
                batch: self.batch,
                tokens,
                ids: cut(&self.ids, self.tokens, offset, tokens),
                targets: cut(&self.targets, self.tokens, offset, tokens),
                weights: cut(&self.weights, self.tokens, offset, tokens),
                positions: cut(&self.positions, self.tokens, offset, tokens),
                doc_starts: cut(&self.doc_starts, self.tokens, offset, tokens),
            },
        }
    }
}

/// A part of the tokens of every row.
#[derive(Debug)]
pub struct Part {
    /// Index within the whole row of the part's first token; `doc_starts` count from the whole row's.
    pub offset: usize,
    pub rows: Batch,
}

fn cut<T: Copy>(all: &[T], row: usize, offset: usize, tokens: usize) -> Vec<T> {
    let part = |row: &[T]| row[offset..offset + tokens].to_vec();
    all.chunks_exact(row).flat_map(part).collect()
}
