//! Attention as it is written down, one query at a time.
use super::{Shape, Spec};
use num_traits::Float;

fn row<T>(data: &[T], tokens: usize, heads: usize, dim: usize, at: [usize; 3]) -> &[T] {
    let [b, t, h] = at;
    let from = ((b * tokens + t) * heads + h) * dim;
    &data[from..from + dim]
}

fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::zero(), |sum, (&x, &y)| sum + x * y)
}

/// (o, lse): o as `[batch, queries, heads, head_dim]`, lse (the logits' log-sum-exp) as
/// `[batch, queries, heads]`.
pub fn forward<T: Float>(q: &[T], k: &[T], v: &[T], shape: Shape, spec: &Spec) -> (Vec<T>, Vec<T>) {
    let s = shape;
    let scale = T::from(spec.scale).unwrap_or_else(T::one);
    let (mut o, mut lse) = (Vec::new(), Vec::new());
    for b in 0..s.batch {
        for i in 0..s.queries {
            let (start, end) = spec.visible(b, i, s.queries, s.keys);
            for h in 0..s.heads {
                let kv = h * s.kv_heads / s.heads;
                let query = row(q, s.queries, s.heads, s.head_dim, [b, i, h]);
                let logits: Vec<T> = (start..end)
                    .map(|j| scale * dot(query, row(k, s.keys, s.kv_heads, s.head_dim, [b, j, kv])))
                    .collect();
                let top = logits.iter().copied().fold(T::neg_infinity(), T::max);
                let total = logits
                    .iter()
                    .fold(T::zero(), |sum, &l| sum + (l - top).exp());
                let mut out = vec![T::zero(); s.head_dim];
                for (j, &l) in (start..end).zip(&logits) {
                    let p = (l - top).exp() / total;
                    let value = row(v, s.keys, s.kv_heads, s.head_dim, [b, j, kv]);
                    for (o, &v) in out.iter_mut().zip(value) {
                        *o = *o + p * v;
                    }
                }
                o.extend(out);
                lse.push(top + total.ln());
            }
        }
    }
    (o, lse)
}

/// (dq, dk, dv) from the output's gradient.
pub fn backward<T: Float>(
    d_out: &[T],
    [q, k, v]: [&[T]; 3],
    shape: Shape,
    spec: &Spec,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let s = shape;
    let scale = T::from(spec.scale).unwrap_or_else(T::one);
    let (o, lse) = forward(q, k, v, shape, spec);
    let mut dq = vec![T::zero(); q.len()];
    let mut dk = vec![T::zero(); k.len()];
    let mut dv = vec![T::zero(); v.len()];
    for b in 0..s.batch {
        for i in 0..s.queries {
            let (start, end) = spec.visible(b, i, s.queries, s.keys);
            for h in 0..s.heads {
                let kv = h * s.kv_heads / s.heads;
                let at = [b, i, h];
                let query = row(q, s.queries, s.heads, s.head_dim, at);
                let d = row(d_out, s.queries, s.heads, s.head_dim, at);
                let along = dot(d, row(&o, s.queries, s.heads, s.head_dim, at));
                for j in start..end {
                    let at_key = [b, j, kv];
                    let key = row(k, s.keys, s.kv_heads, s.head_dim, at_key);
                    let value = row(v, s.keys, s.kv_heads, s.head_dim, at_key);
                    let p =
                        (scale * dot(query, key) - lse[(b * s.queries + i) * s.heads + h]).exp();
                    let ds = p * (dot(d, value) - along) * scale;
                    let q_from = ((b * s.queries + i) * s.heads + h) * s.head_dim;
                    let k_from = ((b * s.keys + j) * s.kv_heads + kv) * s.head_dim;
                    for e in 0..s.head_dim {
                        dq[q_from + e] = dq[q_from + e] + ds * key[e];
                        dk[k_from + e] = dk[k_from + e] + ds * query[e];
                        dv[k_from + e] = dv[k_from + e] + p * d[e];
                    }
                }
            }
        }
    }
    (dq, dk, dv)
}
