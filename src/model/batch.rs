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
}
