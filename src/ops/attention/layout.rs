//! Where heads, tiles and visible keys are, for the fast forward and backward.
use super::{Shape, Spec};
use crate::ops::{
    Error, Result,
    product::kernel::{Groups, KERNELS, Panels},
};
use candle_core::Tensor;
use rayon::prelude::*;

/// Queries and keys of a tile. Key tiles stand at absolute positions.
pub const TILE: usize = 128;
/// Rows of a tile that are masked and multiplied together: what none of them sees is skipped.
pub const STRIP: usize = 48;

/// The sizes of a call.
pub fn shape_of(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Spec) -> Result<Shape> {
    let (batch, queries, heads, head_dim) = q.dims4()?;
    let (kb, keys, kv_heads, kd) = k.dims4()?;
    let rows_fit = match spec.key_rows {
        Some(rows) => rows.len() == batch && rows.iter().all(|&row| row < kb),
        None => kb == batch,
    };
    let fits = rows_fit
        && kd == head_dim
        && v.dims() == k.dims()
        && kv_heads > 0
        && heads % kv_heads == 0
        && spec.offsets.len() == batch
        && spec.doc_starts.is_none_or(|d| d.len() == batch * queries);
    if !fits {
        return Err(Error::Shape {
            op: "attention",
            what: format!("q {:?}, k {:?}, v {:?}", q.dims(), k.dims(), v.dims()),
        });
    }
    Ok(Shape {
        batch,
        queries,
        keys,
        heads,
        kv_heads,
        head_dim,
    })
}

/// Rows of one head from one token on, in `[batch, tokens, heads, head_dim]`.
#[derive(Clone, Copy)]
pub struct HeadRows<'a> {
    pub data: &'a [f32],
    /// Elements from one token to the next.
    pub stride: usize,
    pub dim: usize,
}

impl<'a> HeadRows<'a> {
    /// `at` is batch row, token and head; `tokens` and `heads` are the tensor's.
    pub fn new(
        data: &'a [f32],
        [tokens, heads, dim]: [usize; 3],
        [b, token, head]: [usize; 3],
    ) -> Self {
        HeadRows {
            data: &data[((b * tokens + token) * heads + head) * dim..],
            stride: heads * dim,
            dim,
        }
    }

    /// The same in a copy that [`by_head`] made.
    pub fn of_head(
        data: &'a [f32],
        [tokens, heads, dim]: [usize; 3],
        [b, token, head]: [usize; 3],
    ) -> Self {
        HeadRows {
            data: &data[((b * heads + head) * tokens + token) * dim..],
            stride: dim,
            dim,
        }
    }

    /// From token `first` on.
    pub fn from(self, first: usize) -> Self {
        HeadRows {
            data: &self.data[first * self.stride..],
            ..self
        }
    }

    /// `rows` tokens as a left matrix, `rows × dim`.
    pub fn groups(self, rows: usize) -> Groups<'a> {
        Groups::in_place(self.data, [self.stride, 1], rows)
    }

    /// `tokens` tokens as a right matrix, `tokens × dim`: in place where the kernels can, else packed.
    pub fn panels<'b>(self, tokens: usize, buffer: &'b mut Vec<f32>) -> Panels<'b>
    where
        'a: 'b,
    {
        Panels::in_place(self.data, self.stride, tokens, self.dim).unwrap_or_else(|| {
            let len = Panels::packed_len(tokens, self.dim);
            buffer.resize(len, 0.0);
            Panels::pack(buffer, self.data, [self.stride, 1], tokens, self.dim)
        })
    }

    /// `tokens` tokens as a right matrix, `dim × tokens`.
    pub fn transposed<'b>(self, tokens: usize, buffer: &'b mut [f32]) -> Panels<'b> {
        Panels::pack(buffer, self.data, [1, self.stride], self.dim, tokens)
    }
}

/// The part of a key tile that a query sees, in keys of the tile.
#[derive(Clone, Copy)]
pub struct Seen {
    pub start: usize,
    pub end: usize,
}

impl Seen {
    /// Of `visible` keys, those of the tile of `width` keys from `key0` on.
    pub fn of((start, end): (usize, usize), key0: usize, width: usize) -> Self {
        let start = start.clamp(key0, key0 + width) - key0;
        let end = end.clamp(key0, key0 + width) - key0;
        Seen {
            start,
            end: end.max(start),
        }
    }

    /// From the first to behind the last key that any of them sees; `None` where there is none.
    pub fn union(all: &[Seen]) -> Option<Seen> {
        let seen = all.iter().filter(|s| s.start < s.end);
        let start = seen.clone().map(|s| s.start).min()?;
        let end = seen.map(|s| s.end).max()?;
        Some(Seen { start, end })
    }

    /// The start of the panel of columns that `start` lies in.
    pub fn panel_start(self) -> usize {
        self.start / KERNELS.cols * KERNELS.cols
    }
}

/// From the first to behind the last key that any of the rows sees.
pub fn key_range(visible: &[(usize, usize)]) -> (usize, usize) {
    visible
        .iter()
        .fold((usize::MAX, 0), |(from, to), &(start, end)| {
            if start < end {
                (from.min(start), to.max(end))
            } else {
                (from, to)
            }
        })
}

/// For each query of a batch row, the keys that it sees: from the first (inclusive) to the last (exclusive).
pub type Visible = Vec<(usize, usize)>;

/// What the queries of every batch row see.
pub fn visible(s: Shape, spec: &Spec) -> Vec<Visible> {
    let row = |b| {
        (0..s.queries)
            .map(|i| spec.visible(b, i, s.queries, s.keys))
            .collect()
    };
    (0..s.batch).map(row).collect()
}

/// Keys (or values) of every head as right matrices `head_dim × keys`, a tile after the other:
/// `[batch, kv_heads, tiles]`, each of [`packed_tile`] elements. Tiles that nobody sees are left out.
pub fn pack_keys(k: &[f32], s: Shape, spec: &Spec, visible: &[Visible]) -> Vec<f32> {
    let used: Vec<(usize, usize)> = visible
        .iter()
        .map(|queries| {
            let (from, to) = key_range(queries);
            (from.min(to) / TILE, to.div_ceil(TILE))
        })
        .collect();
    let tiles = s.keys.div_ceil(TILE);
    let size = packed_tile(s.head_dim);
    let mut packed = vec![0f32; s.batch * s.kv_heads * tiles * size];
    packed
        .par_chunks_exact_mut(size)
        .enumerate()
        .for_each(|(i, buffer)| {
            let (tile, head, b) = (i % tiles, i / tiles % s.kv_heads, i / tiles / s.kv_heads);
            if (used[b].0..used[b].1).contains(&tile) {
                let key0 = tile * TILE;
                let at = [spec.key_row(b), key0, head];
                let keys = HeadRows::new(k, [s.keys, s.kv_heads, s.head_dim], at);
                keys.transposed(TILE.min(s.keys - key0), buffer);
            }
        });
    packed
}

/// `[rows, tokens, heads, head_dim]` as `[batch, heads, tokens, head_dim]`, batch row `b` from row `row(b)`. Rows that lie
/// `heads · head_dim` apart share a few sets of the first cache: a tile of them would not stay there.
pub fn by_head(
    x: &[f32],
    [batch, tokens, heads, dim]: [usize; 4],
    row: impl Fn(usize) -> usize + Sync,
) -> Vec<f32> {
    let mut out = vec![0f32; batch * tokens * heads * dim];
    let tile = TILE * dim;
    out.par_chunks_mut((tokens * dim).max(1))
        .enumerate()
        .flat_map(|(i, of_head)| {
            of_head
                .par_chunks_mut(tile)
                .enumerate()
                .map(move |t| (i, t))
        })
        .for_each(|(i, (tile, out))| {
            let at = [row(i / heads), tile * TILE, i % heads];
            let from = HeadRows::new(x, [tokens, heads, dim], at);
            let rows = from.data.chunks(from.stride);
            for (out, from) in out.chunks_exact_mut(dim).zip(rows) {
                out.copy_from_slice(&from[..dim]);
            }
        });
    out
}

/// The way back from [`by_head`].
pub fn by_token(x: &[f32], [batch, tokens, heads, dim]: [usize; 4]) -> Vec<f32> {
    let mut out = vec![0f32; batch * tokens * heads * dim];
    out.par_chunks_mut((heads * dim).max(1))
        .enumerate()
        .for_each(|(token, out)| {
            let (b, token) = (token / tokens, token % tokens);
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                let at = [b, token, head];
                let from = HeadRows::of_head(x, [tokens, heads, dim], at);
                out.copy_from_slice(&from.data[..dim]);
            }
        });
    out
}

/// Elements of a packed tile.
fn packed_tile(head_dim: usize) -> usize {
    Panels::packed_len(head_dim, TILE)
}

/// Tile `tile` of what [`pack_keys`] packed.
pub fn packed_panels(packed: &[f32], s: Shape, [b, kv, tile]: [usize; 3]) -> Panels<'_> {
    let size = packed_tile(s.head_dim);
    let at = (b * s.kv_heads + kv) * s.keys.div_ceil(TILE) + tile;
    let cols = TILE.min(s.keys - tile * TILE);
    Panels::packed(&packed[at * size..(at + 1) * size], s.head_dim, cols)
}

/// Calls `f` with the first row and what its rows see, strip by strip.
pub fn strips(seen: &[Seen], mut f: impl FnMut(usize, &[Seen])) {
    for (i, strip) in seen.chunks(STRIP).enumerate() {
        f(i * STRIP, strip);
    }
}
