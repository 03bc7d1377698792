//! The backward in tiles: five products for each tile of scores, which are made again.
//!
//! A query tile's gradient adds up over key tiles in ascending order and a key tile's over query tiles, so
//! tiles on one anti-diagonal of the grid are independent of each other: a head is worked on by as many
//! threads as its anti-diagonals are long, and the sums are the same whatever their number.
use super::layout::{
    HeadRows, STRIP, Seen, TILE, Visible, by_head, by_token, key_range, pack_keys, packed_panels,
    shape_of, strips, visible,
};
use super::{Shape, Spec};
use crate::ops::{
    Env, Error, Result, from_vec,
    product::{
        Shared,
        kernel::{Groups, Span, multiply},
    },
    simd, view,
};
use candle_core::Tensor;
use rayon::prelude::*;
use std::cell::RefCell;

/// Elements from one row of a tile's scores to the next: not a power of two, whose rows would share a
/// few sets of the cache when the tile is read along its columns.
const STRIDE: usize = TILE + 16;
/// Blocks of tiles along each side of the grid, at most: fewer threads wait, more tiles stay in the cache.
const BLOCKS: usize = 8;

/// `(dq, dk, dv)` from the output's gradient, the output and its log-sum-exp.
pub fn backward(
    env: &Env,
    d_out: &Tensor,
    [q, k, v]: [&Tensor; 3],
    (o, lse): (&Tensor, &Tensor),
    spec: &Spec,
) -> Result<(Tensor, Tensor, Tensor)> {
    let s = shape_of(q, k, v, spec)?;
    if spec.key_rows.is_some() {
        return Err(Error::Shape {
            op: "attention",
            what: "a backward through rows of a cache".into(),
        });
    }
    let (qs, ks, vs) = (view::<f32>(q)?, view::<f32>(k)?, view::<f32>(v)?);
    let (ds, os, lses) = (view::<f32>(d_out)?, view::<f32>(o)?, view::<f32>(lse)?);
    if ds.len() != qs.len() || os.len() != qs.len() || lses.len() * s.head_dim != qs.len() {
        return Err(Error::Shape {
            op: "attention",
            what: format!(
                "q {:?}, o {:?} with gradient {:?}, lse {:?}",
                q.dims(),
                o.dims(),
                d_out.dims(),
                lse.dims()
            ),
        });
    }
    let visible = visible(s, spec);
    let [packed_k, packed_v] = [&ks, &vs].map(|x| pack_keys(x, s, spec, &visible));
    let along = row_products(&ds, &os, s.head_dim);
    let of_queries = [s.batch, s.queries, s.heads, s.head_dim];
    let of_keys = [s.batch, s.keys, s.kv_heads, s.head_dim];
    let [q_heads, d_heads] = [&qs, &ds].map(|x| by_head(x, of_queries, |b| b));
    let k_heads = by_head(&ks, of_keys, |b| b);
    let mut dq = vec![0f32; qs.len()];
    let mut dk = vec![0f32; ks.len()];
    let mut dv = vec![0f32; ks.len()];
    let call = Backward {
        s,
        scale: spec.scale,
        q: &q_heads,
        k: &k_heads,
        d_out: &d_heads,
        lse: &lses,
        along: &along,
        packed_k: &packed_k,
        packed_v: &packed_v,
        visible: &visible,
        dq: Shared::new(&mut dq),
        dk: Shared::new(&mut dk),
        dv: Shared::new(&mut dv),
    };
    let heads = s.batch * s.kv_heads;
    let (down, across) = (s.queries.div_ceil(TILE), s.keys.div_ceil(TILE));
    // Many heads: each is one task and keeps its tiles in the cache.
    let alone = heads >= 4 * rayon::current_num_threads();
    let block = match down.max(across).max(1) {
        tiles if alone => tiles,
        tiles => tiles.div_ceil(BLOCKS),
    };
    let (blocks_down, blocks_across) = (down.div_ceil(block), across.div_ceil(block));
    for wave in 0..(blocks_down + blocks_across).saturating_sub(1) {
        let first = (wave + 1).saturating_sub(blocks_across);
        let tasks = (wave + 1).min(blocks_down) - first;
        (0..tasks * heads).into_par_iter().for_each(|task| {
            let (i, head) = (first + task / heads, task % heads);
            let (b, kv) = (head / s.kv_heads, head % s.kv_heads);
            let j = wave - i;
            let queries = i * block..((i + 1) * block).min(down);
            let keys = j * block..((j + 1) * block).min(across);
            SCRATCH.with_borrow_mut(|scratch| {
                for key_tile in keys {
                    for query_tile in queries.clone() {
                        call.tile([b, kv], query_tile, key_tile, scratch);
                    }
                }
            });
        });
    }
    drop([q_heads, d_heads, k_heads, packed_k, packed_v]);
    let put_back = |x: Vec<f32>, dims| from_vec(by_token(&x, dims), &dims, env);
    Ok((
        put_back(dq, of_queries)?,
        put_back(dk, of_keys)?,
        put_back(dv, of_keys)?,
    ))
}

/// The sum of `a · b` over each row of `dim` elements.
fn row_products(a: &[f32], b: &[f32], dim: usize) -> Vec<f32> {
    let mut out = vec![0f32; a.len() / dim];
    out.par_chunks_mut(512)
        .zip(a.par_chunks(512 * dim).zip(b.par_chunks(512 * dim)))
        .for_each(|(out, (a, b))| {
            simd::dispatch(
                #[inline(always)]
                || {
                    let rows = a.chunks_exact(dim).zip(b.chunks_exact(dim));
                    for (out, (a, b)) in out.iter_mut().zip(rows) {
                        *out = simd::dot(a, b);
                    }
                },
            );
        });
    out
}

#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
    /// Right matrices that cannot be read in place: the output's gradient, queries, keys.
    right: [Vec<f32>; 3],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `q`, `k`, `d_out` and the gradients are as [`by_head`] has them.
struct Backward<'a> {
    s: Shape,
    scale: f32,
    q: &'a [f32],
    k: &'a [f32],
    d_out: &'a [f32],
    lse: &'a [f32],
    along: &'a [f32],
    packed_k: &'a [f32],
    packed_v: &'a [f32],
    visible: &'a [Visible],
    dq: Shared<'a>,
    dk: Shared<'a>,
    dv: Shared<'a>,
}

impl Backward<'_> {
    /// Adds the share of one tile of scores, for all heads of one key-value head.
    fn tile(&self, [b, kv]: [usize; 2], query_tile: usize, key_tile: usize, scratch: &mut Scratch) {
        let s = self.s;
        let (first, key0) = (query_tile * TILE, key_tile * TILE);
        let visible = &self.visible[b][first..(first + TILE).min(s.queries)];
        let width = TILE.min(s.keys - key0);
        let (from, to) = key_range(visible);
        if from >= key0 + width || to <= key0 {
            return;
        }
        let seen: Vec<Seen> = visible.iter().map(|&v| Seen::of(v, key0, width)).collect();
        let group = s.heads / s.kv_heads;
        for head in kv * group..(kv + 1) * group {
            self.head([b, first, head], [b, kv, key_tile], &seen, width, scratch);
        }
    }

    fn head(
        &self,
        at: [usize; 3],
        at_key: [usize; 3],
        seen: &[Seen],
        width: usize,
        scratch: &mut Scratch,
    ) {
        let (s, dim, rows) = (self.s, self.s.head_dim, seen.len());
        let ([b, first, head], [_, kv, key_tile]) = (at, at_key);
        let key0 = key_tile * TILE;
        let layout = [s.queries, s.heads, dim];
        let query = HeadRows::of_head(self.q, layout, at);
        let d_out = HeadRows::of_head(self.d_out, layout, at);
        let key = HeadRows::of_head(self.k, [s.keys, s.kv_heads, dim], [b, key0, kv]);
        let keys = packed_panels(self.packed_k, s, at_key);
        let values = packed_panels(self.packed_v, s, at_key);
        let Scratch { p, ds, right } = scratch;
        p.resize(TILE * STRIDE, 0.0);
        ds.resize(TILE * STRIDE, 0.0);
        let [right_d_out, right_query, right_key] = right;
        let query_panels = query.panels(rows, right_query);
        let d_out_panels = d_out.panels(rows, right_d_out);
        let key_panels = key.panels(width, right_key);
        let dq = self.dq.at(((b * s.heads + head) * s.queries + first) * dim);
        let to_queries = |row: usize| dq.wrapping_add(row * dim);

        strips(seen, |row, seen| {
            let Some(union) = Seen::union(seen) else {
                // Keys that rows before and after see are multiplied with these rows, too.
                let rows = row * STRIDE..(row + seen.len()) * STRIDE;
                p[rows.clone()].fill(0.0);
                ds[rows].fill(0.0);
                return;
            };
            let span = Span {
                from: union.panel_start(),
                to: union.end,
                depth: dim,
            };
            let n = seen.len();
            // SAFETY: `p` and `ds` have these rows.
            unsafe {
                let at = row * STRIDE;
                let (p, ds) = (p[at..].as_mut_ptr(), ds[at..].as_mut_ptr());
                multiply(p, STRIDE, query.from(row).groups(n), keys, span, false);
                multiply(ds, STRIDE, d_out.from(row).groups(n), values, span, false);
            }
            simd::dispatch(
                #[inline(always)]
                || {
                    for (r, seen) in (row..).zip(seen) {
                        let place = (b * s.queries + first + r) * s.heads + head;
                        let p = &mut p[r * STRIDE..r * STRIDE + width];
                        let ds = &mut ds[r * STRIDE..r * STRIDE + width];
                        gradients(p, ds, *seen, self.scale, self.lse[place], self.along[place]);
                    }
                },
            );
            let groups = Groups::in_place(&ds[row * STRIDE..], [STRIDE, 1], n);
            let span = Span {
                from: 0,
                to: dim,
                depth: union.end,
            };
            // SAFETY: these rows of this head belong to this task.
            unsafe { multiply(to_queries(row), dim, groups, key_panels, span, true) };
        });

        let place = ((b * s.kv_heads + kv) * s.keys + key0) * dim;
        for from in (0..width).step_by(STRIP) {
            let to = (from + STRIP).min(width);
            // Queries that see none of these keys have weights of 0: they would change nothing.
            let sees = |seen: &Seen| seen.start < to && seen.end > from && seen.start < seen.end;
            let (Some(start), Some(last)) =
                (seen.iter().position(sees), seen.iter().rposition(sees))
            else {
                continue;
            };
            let span = Span {
                from: 0,
                to: dim,
                depth: last + 1 - start,
            };
            let corner = start * STRIDE + from;
            let weights = Groups::in_place(&p[corner..], [1, STRIDE], to - from);
            let gradients = Groups::in_place(&ds[corner..], [1, STRIDE], to - from);
            let at = place + from * dim;
            // SAFETY: these keys of this head belong to this task.
            unsafe {
                let (dk, dv) = (self.dk.at(at), self.dv.at(at));
                multiply(dv, dim, weights, d_out_panels.from(start), span, true);
                multiply(dk, dim, gradients, query_panels.from(start), span, true);
            }
        }
    }
}

/// From one row's scores `p` and products `ds` of output gradients and values: `p` becomes the weights,
/// `ds` the scores' gradient, both 0 at keys that are not seen.
#[inline(always)]
fn gradients(p: &mut [f32], ds: &mut [f32], seen: Seen, scale: f32, lse: f32, along: f32) {
    for row in [&mut *p, &mut *ds] {
        row[..seen.start].fill(0.0);
        row[seen.end..].fill(0.0);
    }
    let ds = &mut ds[seen.start..seen.end];
    for (p, d) in p[seen.start..seen.end].iter_mut().zip(ds) {
        *p = simd::exp(p.mul_add(scale, -lse));
        *d = *p * (*d - along) * scale;
    }
}
