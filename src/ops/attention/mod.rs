//! Causal attention in memory linear in the length: scores exist one tile at a time
//! (FlashAttention, arXiv 2205.14135; the backward is its algorithm 4).
//!
//! One signature serves packed documents, a sliding window, chunked prefill, decoding and context
//! parallelism: queries and keys may differ in length, and [`Spec`] says which keys a query sees.
mod backward;
mod forward;
mod layout;
pub mod plain;

pub use backward::backward;
pub use forward::forward;

/// Which keys a query sees, and the logits' scale.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// Factor of the logits, usually 1/√head_dim.
    pub scale: f32,
    /// `[batch]`: the key index at which the first query stands. Query i sees keys up to `offset + i`.
    pub offsets: &'a [usize],
    /// How many keys a query sees at most, itself included.
    pub window: Option<usize>,
    /// `[batch, queries]`: the first key that a query sees, the start of its document.
    pub doc_starts: Option<&'a [u32]>,
}

impl Spec<'_> {
    /// The keys that query `i` of batch row `b` sees: from the first (inclusive) to the last (exclusive).
    pub(crate) fn visible(
        &self,
        b: usize,
        i: usize,
        queries: usize,
        keys: usize,
    ) -> (usize, usize) {
        let at = self.offsets[b] + i;
        let start = self.doc_starts.map_or(0, |d| d[b * queries + i] as usize);
        let start = start.max(self.window.map_or(0, |w| (at + 1).saturating_sub(w)));
        let end = (at + 1).min(keys);
        (start.min(end), end)
    }
}

/// Sizes of an attention call.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

#[cfg(test)]
mod tests;
