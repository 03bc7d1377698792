//! The shapes that results/speed.md reports, for all benchmarks.

/// A model's sizes and the tokens of a step.
#[derive(Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    pub dim: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub ff: usize,
    pub vocab: usize,
    pub ctx: usize,
    pub batch: usize,
}

/// A small model, many short sequences.
const S: Shape = Shape {
    name: "S",
    dim: 256,
    layers: 4,
    heads: 4,
    kv_heads: 4,
    ff: 768,
    vocab: 4096,
    ctx: 512,
    batch: 8,
};

/// S and L are one small model, with many short sequences and with one long one; M is SmolLM2-135M.
pub const SHAPES: [Shape; 3] = [
    S,
    Shape {
        name: "L",
        ctx: 4096,
        batch: 1,
        ..S
    },
    Shape {
        name: "M",
        dim: 576,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        ff: 1536,
        vocab: 49152,
        ctx: 1024,
        batch: 1,
    },
];
