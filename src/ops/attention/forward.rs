//! The forward in tiles of 128 × 128. A tile's sums have fixed places, so that a query's result depends
//! neither on the queries beside it nor on how a prompt was cut into chunks: a (finite) key that a query
//! does not see changes nothing, to the bit.
use super::layout::{
    HeadRows, Seen, TILE, Visible, by_head, key_range, pack_keys, packed_panels, shape_of, strips,
    visible,
};
use super::{Shape, Spec};
use crate::ops::{
    Env, Result, from_vec,
    product::{
        Shared,
        kernel::{Groups, Panels, Span, multiply},
    },
    simd, view,
};
use candle_core::Tensor;
use rayon::prelude::*;
use std::cell::RefCell;

/// Up to so many queries keys are multiplied where they lie, instead of being packed first.
const FEW: usize = 12;

/// `(o, lse)` of `q` (`[batch, queries, heads, head_dim]`) over `k`, `v`
/// (`[batch, keys, kv_heads, head_dim]`): o has q's shape, lse is `[batch, queries, heads]`.
///
/// # Errors
/// When the shapes do not fit each other.
pub fn forward(
    env: &Env,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &Spec,
) -> Result<(Tensor, Tensor)> {
    let s = shape_of(q, k, v, spec)?;
    let (qs, ks, vs) = (view::<f32>(q)?, view::<f32>(k)?, view::<f32>(v)?);
    let mut o = vec![0f32; qs.len()];
    let mut lse = vec![0f32; s.batch * s.queries * s.heads];
    let visible = visible(s, spec);
    let packed = (s.queries > FEW).then(|| Packed {
        keys: pack_keys(&ks, s, spec, &visible),
        queries: by_head(&qs, [s.batch, s.queries, s.heads, s.head_dim], |b| b),
        values: by_head(&vs, [s.batch, s.keys, s.kv_heads, s.head_dim], |b| {
            spec.key_row(b)
        }),
    });
    let call = Forward {
        s,
        spec,
        q: &qs,
        k: &ks,
        v: &vs,
        packed: packed.as_ref(),
        visible: &visible,
        o: Shared::new(&mut o),
        lse: Shared::new(&mut lse),
    };
    let tiles = s.queries.div_ceil(TILE);
    // Tiles with the most keys first, so that no thread is left with one at the end.
    (0..s.batch * s.kv_heads * tiles)
        .into_par_iter()
        .for_each(|task| {
            let (tile, rest) = (task / (s.batch * s.kv_heads), task % (s.batch * s.kv_heads));
            let at = [rest / s.kv_heads, tiles - 1 - tile, rest % s.kv_heads];
            SCRATCH.with_borrow_mut(|scratch| call.tile(at, scratch));
        });
    Ok((
        from_vec(o, q.dims(), env)?,
        from_vec(lse, &[s.batch, s.queries, s.heads], env)?,
    ))
}

#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    turned: Vec<f32>,
    acc: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct Forward<'a> {
    s: Shape,
    spec: &'a Spec<'a>,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    /// `None` with few queries.
    packed: Option<&'a Packed>,
    visible: &'a [Visible],
    o: Shared<'a>,
    lse: Shared<'a>,
}

/// What is put in order once for all tiles.
struct Packed {
    /// As [`pack_keys`] has them.
    keys: Vec<f32>,
    /// As [`by_head`] has them.
    queries: Vec<f32>,
    values: Vec<f32>,
}

/// The running softmax of one row.
#[derive(Clone, Copy)]
struct Running {
    top: f32,
    total: f32,
}

impl Forward<'_> {
    /// All heads of one key-value head, for one tile of queries.
    fn tile(&self, [b, tile, kv]: [usize; 3], scratch: &mut Scratch) {
        let s = self.s;
        let first = tile * TILE;
        let rows = TILE.min(s.queries - first);
        let visible = &self.visible[b][first..first + rows];
        let group = s.heads / s.kv_heads;
        if self.packed.is_none() {
            // The heads of a group one below the other: they see the same keys.
            let visible = visible.repeat(group);
            self.rows([b, first, kv * group], kv, &visible, rows, scratch);
        } else {
            for g in 0..group {
                self.rows([b, first, kv * group + g], kv, visible, rows, scratch);
            }
        }
    }

    /// The rows of `visible`: `queries` queries for each head from `at` on.
    fn rows(
        &self,
        at: [usize; 3],
        kv: usize,
        visible: &[(usize, usize)],
        queries: usize,
        scratch: &mut Scratch,
    ) {
        let (s, dim) = (self.s, self.s.head_dim);
        let [b, first, head] = at;
        let rows = visible.len();
        let Scratch {
            scores,
            turned,
            acc,
            values,
            queries: stacked,
        } = scratch;
        scores.resize((rows * TILE).max(scores.len()), 0.0);
        acc.clear();
        acc.resize(rows * dim, 0.0);
        let start = Running {
            top: f32::NEG_INFINITY,
            total: 0.0,
        };
        let mut running = vec![start; rows];
        let stacked = match self.packed {
            None => Some(stack(stacked, self.q, s, at, rows / queries, queries)),
            Some(_) => None,
        };
        let key_row = self.spec.key_row(b);
        let (from, to) = key_range(visible);
        for tile in from / TILE..to.div_ceil(TILE) {
            let key0 = tile * TILE;
            let width = TILE.min(s.keys - key0);
            let layout = [s.keys, s.kv_heads, dim];
            let seen: Vec<Seen> = visible.iter().map(|&v| Seen::of(v, key0, width)).collect();
            if let Some(queries) = stacked {
                let keys = HeadRows::new(self.k, layout, [key_row, key0, kv]);
                self.turned_scores(scores, turned, keys, queries, &seen);
            } else if let Some(packed) = self.packed {
                let keys = packed_panels(&packed.keys, s, [b, kv, tile]);
                let query = HeadRows::of_head(&packed.queries, [s.queries, s.heads, dim], at);
                strips(&seen, |row, seen| {
                    let Some(span) = Seen::union(seen) else {
                        return;
                    };
                    let span = Span {
                        from: span.panel_start(),
                        to: span.end,
                        depth: dim,
                    };
                    let query = query.from(row).groups(seen.len());
                    // SAFETY: `scores` has these rows.
                    unsafe {
                        multiply(
                            scores[row * TILE..].as_mut_ptr(),
                            TILE,
                            query,
                            keys,
                            span,
                            false,
                        )
                    };
                });
            }
            let value = match self.packed {
                Some(packed) => HeadRows::of_head(&packed.values, layout, [b, key0, kv]),
                None => HeadRows::new(self.v, layout, [key_row, key0, kv]),
            };
            let value = value.panels(width, values);
            strips(&seen, |row, seen| {
                let Some(Seen { end, .. }) = Seen::union(seen) else {
                    return;
                };
                simd::dispatch(
                    #[inline(always)]
                    || {
                        for (r, seen) in (row..).zip(seen) {
                            let p = &mut scores[r * TILE..(r + 1) * TILE];
                            let acc = &mut acc[r * dim..(r + 1) * dim];
                            softmax(p, *seen, end, self.spec.scale, &mut running[r], acc);
                        }
                    },
                );
                let p = Groups::in_place(&scores[row * TILE..], [TILE, 1], seen.len());
                let span = Span {
                    from: 0,
                    to: dim,
                    depth: end,
                };
                // SAFETY: `acc` has these rows.
                unsafe { multiply(acc[row * dim..].as_mut_ptr(), dim, p, value, span, true) };
            });
        }
        for (r, &Running { top, total }) in running.iter().enumerate() {
            let token = b * s.queries + first + r % queries;
            let place = token * s.heads + head + r / queries;
            // SAFETY: these rows of these heads belong to this task.
            let (out, lse) = unsafe { (self.o.slice(place * dim, dim), self.lse.slice(place, 1)) };
            // A query that sees no key has an output of zeros.
            let norm = if total == 0.0 { 0.0 } else { 1.0 / total };
            for (o, a) in out.iter_mut().zip(&acc[r * dim..(r + 1) * dim]) {
                *o = a * norm;
            }
            lse[0] = top + total.ln();
        }
    }

    /// Scores of a few queries: keys times queries, then turned.
    fn turned_scores(
        &self,
        scores: &mut [f32],
        turned: &mut Vec<f32>,
        keys: HeadRows,
        queries: Panels,
        seen: &[Seen],
    ) {
        let Some(union) = Seen::union(seen) else {
            return;
        };
        let rows = seen.len();
        turned.resize((TILE * rows).max(turned.len()), 0.0);
        let keys = keys.from(union.start).groups(union.end - union.start);
        // SAFETY: `turned` has `rows` elements for each key of a tile.
        unsafe {
            multiply(
                turned.as_mut_ptr(),
                rows,
                keys,
                queries,
                Span::all(queries),
                false,
            )
        };
        for j in union.start..union.end {
            let of_key = &turned[(j - union.start) * rows..][..rows];
            for (r, &score) in of_key.iter().enumerate() {
                scores[r * TILE + j] = score;
            }
        }
    }
}

/// The queries of a few rows as a right matrix `head_dim × rows`, the heads one after the other.
fn stack<'a>(
    buffer: &'a mut Vec<f32>,
    q: &[f32],
    s: Shape,
    [b, first, head]: [usize; 3],
    heads: usize,
    queries: usize,
) -> Panels<'a> {
    let (dim, rows) = (s.head_dim, heads * queries);
    let mut all = vec![0f32; rows * dim];
    for (r, to) in all.chunks_exact_mut(dim).enumerate() {
        let at = [b, first + r % queries, head + r / queries];
        to.copy_from_slice(&HeadRows::new(q, [s.queries, s.heads, dim], at).data[..dim]);
    }
    buffer.resize(Panels::packed_len(dim, rows), 0.0);
    Panels::pack(buffer, &all, [1, dim], dim, rows)
}

/// Makes a tile's scores `p` of one row into weights, 0 from the keys that it does not see up to `end`, and
/// brings the sums of the tiles before to the same scale.
#[inline(always)]
fn softmax(
    p: &mut [f32],
    seen: Seen,
    end: usize,
    scale: f32,
    running: &mut Running,
    acc: &mut [f32],
) {
    let end = end.next_multiple_of(simd::LANES).min(p.len());
    let p = &mut p[..end];
    p[..seen.start.min(end)].fill(f32::NEG_INFINITY);
    p[seen.end.min(end)..].fill(f32::NEG_INFINITY);
    let top = (simd::max(p) * scale).max(running.top);
    if top == f32::NEG_INFINITY {
        p.fill(0.0);
        return;
    }
    for x in p.iter_mut() {
        *x = simd::exp(x.mul_add(scale, -top));
    }
    let shrink = simd::exp(running.top - top);
    running.total = running.total.mul_add(shrink, simd::sum(p));
    running.top = top;
    for x in acc {
        *x *= shrink;
    }
}
