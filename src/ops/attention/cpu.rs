//! Attention in tiles of 128 × 128. Key tiles stand at absolute positions and a tile's sums have fixed
//! places, so that a query's result depends neither on the queries beside it nor on how a prompt was cut
//! into chunks: a tile that a query does not see changes nothing, to the bit.
use super::{Shape, Spec};
use crate::ops::{
    Env, Error, Result, from_vec,
    product::{Dims, Matrix, serial_product},
    simd, view,
};
use candle_core::Tensor;
use rayon::prelude::*;

/// Queries and keys of a tile.
const TILE: usize = 128;

fn shape_of(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Spec) -> Result<Shape> {
    let (batch, queries, heads, head_dim) = q.dims4()?;
    let (kb, keys, kv_heads, kd) = k.dims4()?;
    let fits = kb == batch
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

/// Rows of head `head` from token `token` on, in `[batch, tokens, heads, head_dim]`.
fn head_rows(data: &[f32], tokens: usize, heads: usize, dim: usize, at: [usize; 3]) -> Matrix<'_> {
    let [b, token, head] = at;
    Matrix {
        data: &data[((b * tokens + token) * heads + head) * dim..],
        rs: heads * dim,
        cs: 1,
    }
}

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
    let row = s.heads * s.head_dim;
    let mut o = vec![0f32; s.batch * s.queries * row];
    let mut lse = vec![0f32; s.batch * s.queries * s.heads];
    let tiles = s.queries.div_ceil(TILE);
    // Rows of one batch entry are cut apart first, so that no tile spans two of them.
    let outputs: Vec<_> = o
        .chunks_mut(s.queries * row)
        .zip(lse.chunks_mut(s.queries * s.heads))
        .enumerate()
        .flat_map(|(b, (o, lse))| {
            o.chunks_mut(TILE * row)
                .zip(lse.chunks_mut(TILE * s.heads))
                .enumerate()
                .map(move |(tile, out)| (b, tile, out))
        })
        .collect();
    debug_assert_eq!(outputs.len(), s.batch * tiles);
    outputs.into_par_iter().for_each(|(b, tile, (o, lse))| {
        let task = ForwardTile {
            s,
            spec,
            b,
            first: tile * TILE,
            rows: TILE.min(s.queries - tile * TILE),
        };
        simd::dispatch(
            #[inline(always)]
            || {
                for head in 0..s.heads {
                    task.head(head, [&qs, &ks, &vs], o, lse);
                }
            },
        );
    });
    Ok((
        from_vec(o, q.dims(), env)?,
        from_vec(lse, &[s.batch, s.queries, s.heads], env)?,
    ))
}

struct ForwardTile<'a> {
    s: Shape,
    spec: &'a Spec<'a>,
    b: usize,
    first: usize,
    rows: usize,
}

impl ForwardTile<'_> {
    fn visible(&self, row: usize) -> (usize, usize) {
        self.spec
            .visible(self.b, self.first + row, self.s.queries, self.s.keys)
    }

    #[inline(always)]
    fn head(&self, head: usize, [q, k, v]: [&[f32]; 3], o: &mut [f32], lse: &mut [f32]) {
        let (s, rows) = (self.s, self.rows);
        let kv = head * s.kv_heads / s.heads;
        let dim = s.head_dim;
        let query = head_rows(q, s.queries, s.heads, dim, [self.b, self.first, head]);
        let mut scores = vec![0f32; rows * TILE];
        let mut acc = vec![0f32; rows * dim];
        let mut top = vec![f32::NEG_INFINITY; rows];
        let mut total = vec![0f32; rows];
        let (from, to) = key_range((0..rows).map(|r| self.visible(r)));
        for tile in from / TILE..to.div_ceil(TILE) {
            let key0 = tile * TILE;
            let width = TILE.min(s.keys - key0);
            let at = [self.b, key0, kv];
            let keys = head_rows(k, s.keys, s.kv_heads, dim, at);
            let values = head_rows(v, s.keys, s.kv_heads, dim, at);
            let mut padding = Vec::new();
            let values = if width == TILE {
                values
            } else {
                // The depth of the second product is always a whole tile: its order of summation
                // must not depend on how many keys there are.
                padding.resize(TILE * dim, 0.0);
                for j in 0..width {
                    padding[j * dim..(j + 1) * dim]
                        .copy_from_slice(&values.data[j * values.rs..j * values.rs + dim]);
                }
                Matrix::rows(&padding, dim)
            };
            let dims = Dims {
                rows,
                cols: width,
                depth: dim,
            };
            serial_product(&mut scores, TILE, dims, query, keys.transposed(), false);
            for r in 0..rows {
                let (start, end) = self.visible(r);
                let start = start.clamp(key0, key0 + width) - key0;
                let end = end.clamp(key0, key0 + width) - key0;
                let p = &mut scores[r * TILE..(r + 1) * TILE];
                p[..start].fill(f32::NEG_INFINITY);
                p[end.max(start)..].fill(f32::NEG_INFINITY);
                let new_top = (simd::max(p) * self.spec.scale).max(top[r]);
                if new_top == f32::NEG_INFINITY {
                    p.fill(0.0);
                    continue;
                }
                for x in p.iter_mut() {
                    *x = simd::exp(x.mul_add(self.spec.scale, -new_top));
                }
                let shrink = simd::exp(top[r] - new_top);
                total[r] = total[r].mul_add(shrink, simd::sum(p));
                top[r] = new_top;
                for x in &mut acc[r * dim..(r + 1) * dim] {
                    *x *= shrink;
                }
            }
            let dims = Dims {
                rows,
                cols: dim,
                depth: TILE,
            };
            serial_product(
                &mut acc,
                dim,
                dims,
                Matrix::rows(&scores, TILE),
                values,
                true,
            );
        }
        for r in 0..rows {
            let out = &mut o[(r * s.heads + head) * dim..][..dim];
            let norm = 1.0 / total[r];
            for (o, a) in out.iter_mut().zip(&acc[r * dim..(r + 1) * dim]) {
                *o = a * norm;
            }
            lse[r * s.heads + head] = top[r] + total[r].ln();
        }
    }
}

/// From the first to behind the last key that any of the rows sees.
fn key_range(visible: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    visible.fold((usize::MAX, 0), |(from, to), (start, end)| {
        if start < end {
            (from.min(start), to.max(end))
        } else {
            (from, to)
        }
    })
}

/// `(dq, dk, dv)` from the output's gradient, the output and its log-sum-exp.
pub fn backward(
    env: &Env,
    d_out: &Tensor,
    [q, k, v]: [&Tensor; 3],
    (o, lse): (&Tensor, &Tensor),
    spec: &Spec,
) -> Result<(Tensor, Tensor, Tensor)> {
    let s = shape_of(q, k, v, spec)?;
    let (qs, ks, vs) = (view::<f32>(q)?, view::<f32>(k)?, view::<f32>(v)?);
    let (ds, os, lses) = (view::<f32>(d_out)?, view::<f32>(o)?, view::<f32>(lse)?);
    let dim = s.head_dim;
    let mut along = vec![0f32; lses.len()];
    along
        .par_chunks_mut(512)
        .zip(ds.par_chunks(512 * dim).zip(os.par_chunks(512 * dim)))
        .for_each(|(along, (d, o))| {
            simd::dispatch(
                #[inline(always)]
                || {
                    for ((a, d), o) in along
                        .iter_mut()
                        .zip(d.chunks_exact(dim))
                        .zip(o.chunks_exact(dim))
                    {
                        *a = simd::dot(d, o);
                    }
                },
            );
        });
    let task = Backward {
        s,
        spec,
        q: &qs,
        k: &ks,
        v: &vs,
        d_out: &ds,
        lse: &lses,
        along: &along,
    };
    let parts: Vec<HeadGradients> = (0..s.batch * s.kv_heads)
        .into_par_iter()
        .map(|i| {
            simd::dispatch(
                #[inline(always)]
                || task.kv_head(i / s.kv_heads, i % s.kv_heads),
            )
        })
        .collect();
    let interleave = |tokens: usize, part: fn(&HeadGradients) -> &[f32], width: usize| {
        let mut all = vec![0f32; s.batch * tokens * s.kv_heads * width];
        all.par_chunks_mut(s.kv_heads * width)
            .enumerate()
            .for_each(|(i, row)| {
                let (b, t) = (i / tokens, i % tokens);
                for (kv, out) in row.chunks_exact_mut(width).enumerate() {
                    let head = part(&parts[b * s.kv_heads + kv]);
                    out.copy_from_slice(&head[t * width..(t + 1) * width]);
                }
            });
        all
    };
    let group = s.heads / s.kv_heads;
    let dq = interleave(s.queries, |p| &p.dq, group * dim);
    let dk = interleave(s.keys, |p| &p.dk, dim);
    let dv = interleave(s.keys, |p| &p.dv, dim);
    Ok((
        from_vec(dq, q.dims(), env)?,
        from_vec(dk, k.dims(), env)?,
        from_vec(dv, v.dims(), env)?,
    ))
}

/// Gradients of one key-value head and of the query heads that use it.
struct HeadGradients {
    /// `[queries, group, head_dim]`
    dq: Vec<f32>,
    /// `[keys, head_dim]`
    dk: Vec<f32>,
    /// `[keys, head_dim]`
    dv: Vec<f32>,
}

struct Backward<'a> {
    s: Shape,
    spec: &'a Spec<'a>,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    d_out: &'a [f32],
    lse: &'a [f32],
    along: &'a [f32],
}

impl Backward<'_> {
    #[inline(always)]
    fn kv_head(&self, b: usize, kv: usize) -> HeadGradients {
        let s = self.s;
        let (dim, group) = (s.head_dim, s.heads / s.kv_heads);
        let mut out = HeadGradients {
            dq: vec![0f32; s.queries * group * dim],
            dk: vec![0f32; s.keys * dim],
            dv: vec![0f32; s.keys * dim],
        };
        let visible: Vec<(usize, usize)> = (0..s.queries)
            .map(|i| self.spec.visible(b, i, s.queries, s.keys))
            .collect();
        let ranges: Vec<(usize, usize)> = visible
            .chunks(TILE)
            .map(|tile| key_range(tile.iter().copied()))
            .collect();
        let mut p = vec![0f32; TILE * TILE];
        let mut dp = vec![0f32; TILE * TILE];
        for key0 in (0..s.keys).step_by(TILE) {
            let width = TILE.min(s.keys - key0);
            for (tile, &(from, to)) in ranges.iter().enumerate() {
                if from >= key0 + width || to <= key0 {
                    continue;
                }
                let first = tile * TILE;
                let visible = &visible[first..(first + TILE).min(s.queries)];
                for g in 0..group {
                    let at = [b, first, kv * group + g];
                    self.probabilities(&mut p, at, [b, key0, kv], visible, width);
                    self.tile(
                        &mut out,
                        (&p, &mut dp),
                        at,
                        [b, key0, kv],
                        visible.len(),
                        width,
                    );
                }
            }
        }
        out
    }

    /// p = exp(scale · q kᵀ − lse) where the query sees the key, 0 elsewhere.
    #[inline(always)]
    fn probabilities(
        &self,
        p: &mut [f32],
        at: [usize; 3],
        at_key: [usize; 3],
        visible: &[(usize, usize)],
        width: usize,
    ) {
        let s = self.s;
        let [b, first, head] = at;
        let key0 = at_key[1];
        let query = head_rows(self.q, s.queries, s.heads, s.head_dim, at);
        let keys = head_rows(self.k, s.keys, s.kv_heads, s.head_dim, at_key);
        let dims = Dims {
            rows: visible.len(),
            cols: width,
            depth: s.head_dim,
        };
        serial_product(p, TILE, dims, query, keys.transposed(), false);
        for (r, &(start, end)) in visible.iter().enumerate() {
            let start = start.clamp(key0, key0 + width) - key0;
            let end = (end.clamp(key0, key0 + width) - key0).max(start);
            let lse = self.lse[(b * s.queries + first + r) * s.heads + head];
            let row = &mut p[r * TILE..r * TILE + width];
            row[..start].fill(0.0);
            row[end..].fill(0.0);
            for x in &mut row[start..end] {
                *x = simd::exp(x.mul_add(self.spec.scale, -lse));
            }
        }
    }

    /// Adds one tile's share to the gradients.
    #[inline(always)]
    fn tile(
        &self,
        out: &mut HeadGradients,
        (p, dp): (&[f32], &mut [f32]),
        at: [usize; 3],
        at_key: [usize; 3],
        rows: usize,
        width: usize,
    ) {
        let s = self.s;
        let dim = s.head_dim;
        let group = s.heads / s.kv_heads;
        let ([b, first, head], key0) = (at, at_key[1]);
        let query = head_rows(self.q, s.queries, s.heads, dim, at);
        let d_out = head_rows(self.d_out, s.queries, s.heads, dim, at);
        let keys = head_rows(self.k, s.keys, s.kv_heads, dim, at_key);
        let values = head_rows(self.v, s.keys, s.kv_heads, dim, at_key);
        let to_keys = Dims {
            rows: width,
            cols: dim,
            depth: rows,
        };
        let p_t = Matrix::rows(p, TILE).transposed();
        serial_product(&mut out.dv[key0 * dim..], dim, to_keys, p_t, d_out, true);
        let dims = Dims {
            rows,
            cols: width,
            depth: dim,
        };
        serial_product(dp, TILE, dims, d_out, values.transposed(), false);
        for r in 0..rows {
            let along = self.along[(b * s.queries + first + r) * s.heads + head];
            let p = &p[r * TILE..r * TILE + width];
            for (d, p) in dp[r * TILE..r * TILE + width].iter_mut().zip(p) {
                *d = p * (*d - along) * self.spec.scale;
            }
        }
        let ds = Matrix::rows(dp, TILE);
        serial_product(
            &mut out.dk[key0 * dim..],
            dim,
            to_keys,
            ds.transposed(),
            query,
            true,
        );
        let to_queries = Dims {
            rows,
            cols: dim,
            depth: width,
        };
        let g = head % group;
        let dq = &mut out.dq[(first * group + g) * dim..];
        serial_product(dq, group * dim, to_queries, ds, keys, true);
    }
}
