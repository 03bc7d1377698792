//! The head and its loss in one: logits exist for a chunk of tokens at a time, and their gradient is
//! made where they are.
use super::{
    Env, Error, Result, from_vec,
    product::{Dims, Matrix, product},
    simd, update, view,
};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Logits of one chunk: 4 MiB, which stay in the cache, unless that were too few rows to be worth reading the
/// head for.
const CHUNK: usize = 1 << 20;
const LEAST_ROWS: usize = 256;

/// What the loss is over.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// `[rows]`: the token to predict.
    pub ids: &'a [u32],
    /// `[rows]`: each one's weight.
    pub weights: &'a [f32],
    /// The loss is the weighted sum of the tokens' losses divided by this: the weights' sum over the
    /// global batch, whatever the micro-batches and ranks.
    pub normaliser: f64,
}

/// Loss of the rows `x` (`[.., dim]`) under the head `weight` (`[vocab, dim]`), in nats, and its
/// gradient by `x`, where the loss is Σ weight · (log Σ e^logit − logit of the target) / normaliser.
/// The head's gradient is added to `weight_grad` if there is one.
pub fn forward_backward(
    env: &Env,
    x: &Tensor,
    weight: &Tensor,
    targets: Targets,
    weight_grad: Option<&Tensor>,
) -> Result<(f64, Tensor)> {
    let (vocab, dim) = weight.dims2()?;
    let (xs, w) = (view::<f32>(x)?, view::<f32>(weight)?);
    check(targets.ids, vocab, xs.len() / dim)?;
    let mut dx = vec![0f32; xs.len()];
    let rows = chunk_rows(vocab);
    let mut logits = vec![0f32; rows.min(targets.ids.len()) * vocab];
    let mut loss = 0f64;
    let w_matrix = Matrix::rows(&w, dim);
    for (chunk, dx) in dx.chunks_mut(rows * dim).enumerate() {
        let from = chunk * rows;
        let n = dx.len() / dim;
        let x_matrix = Matrix::rows(&xs[from * dim..(from + n) * dim], dim);
        let logits = &mut logits[..n * vocab];
        let dims = Dims {
            rows: n,
            cols: vocab,
            depth: dim,
        };
        product(logits, dims, x_matrix, w_matrix.transposed(), false);
        let losses: Vec<f64> = logits
            .par_chunks_mut(vocab)
            .zip(&targets.ids[from..from + n])
            .zip(&targets.weights[from..from + n])
            .map(|((row, &target), &weight)| {
                let factor = (f64::from(weight) / targets.normaliser) as f32;
                let lse = simd::dispatch(
                    #[inline(always)]
                    || log_sum_exp(row),
                );
                let loss = f64::from(weight) * f64::from(lse - row[target as usize]);
                simd::dispatch(
                    #[inline(always)]
                    || {
                        for x in row.iter_mut() {
                            *x = simd::exp(*x - lse) * factor;
                        }
                    },
                );
                row[target as usize] -= factor;
                loss
            })
            .collect();
        loss += losses.iter().sum::<f64>();
        let back = Dims {
            rows: n,
            cols: dim,
            depth: vocab,
        };
        product(dx, back, Matrix::rows(logits, vocab), w_matrix, false);
        if let Some(grad) = weight_grad {
            let to_weight = Dims {
                rows: vocab,
                cols: dim,
                depth: n,
            };
            let d_logits = Matrix::rows(logits, vocab).transposed();
            update(grad, |grad| {
                product(grad, to_weight, d_logits, x_matrix, true)
            })?;
        }
    }
    Ok((loss / targets.normaliser, from_vec(dx, x.dims(), env)?))
}

/// Log-probability (nats) of each row's target and whether it is the likeliest token; `x` is
/// `[.., dim]`. A row's result does not depend on the others.
pub fn log_probs(x: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<Vec<(f32, bool)>> {
    let (vocab, dim) = weight.dims2()?;
    let (xs, w) = (view::<f32>(x)?, view::<f32>(weight)?);
    check(targets, vocab, xs.len() / dim)?;
    let rows = chunk_rows(vocab);
    let mut logits = vec![0f32; rows.min(targets.len()) * vocab];
    let mut out = Vec::with_capacity(targets.len());
    for (x, targets) in xs.chunks(rows * dim).zip(targets.chunks(rows)) {
        let dims = Dims {
            rows: targets.len(),
            cols: vocab,
            depth: dim,
        };
        let logits = &mut logits[..targets.len() * vocab];
        let head = Matrix::rows(&w, dim).transposed();
        product(logits, dims, Matrix::rows(x, dim), head, false);
        let chunk: Vec<(f32, bool)> = logits
            .par_chunks(vocab)
            .zip(targets)
            .map(|(row, &target)| {
                simd::dispatch(
                    #[inline(always)]
                    || {
                        let logit = row[target as usize];
                        (logit - log_sum_exp(row), logit >= simd::max(row))
                    },
                )
            })
            .collect();
        out.extend(chunk);
    }
    Ok(out)
}

fn chunk_rows(vocab: usize) -> usize {
    (CHUNK / vocab).clamp(LEAST_ROWS, 1024)
}

#[inline(always)]
fn log_sum_exp(row: &[f32]) -> f32 {
    let top = simd::max(row);
    let mut lanes = [0f32; simd::LANES];
    let (blocks, rest) = row.as_chunks::<{ simd::LANES }>();
    for block in blocks {
        for i in 0..simd::LANES {
            lanes[i] += simd::exp(block[i] - top);
        }
    }
    for (i, x) in rest.iter().enumerate() {
        lanes[i] += simd::exp(x - top);
    }
    top + simd::sum(&lanes).ln()
}

fn check(ids: &[u32], vocab: usize, rows: usize) -> Result<()> {
    if ids.len() != rows {
        return Err(Error::Shape {
            op: "cross entropy",
            what: format!("{} targets for {rows} rows", ids.len()),
        });
    }
    match ids.iter().find(|&&id| id as usize >= vocab) {
        Some(id) => Err(Error::Shape {
            op: "cross entropy",
            what: format!("target {id} in a vocabulary of {vocab}"),
        }),
        None => Ok(()),
    }
}

/// Plain version of [`forward_backward`]: (loss, dx, dweight).
pub fn plain<T: Float>(x: &[T], weight: &[T], targets: Targets) -> (T, Vec<T>, Vec<T>) {
    let dim = x.len() / targets.ids.len();
    let vocab = weight.len() / dim;
    let number = |x: f64| T::from(x).unwrap_or_else(T::one);
    let mut loss = T::zero();
    let mut dx = vec![T::zero(); x.len()];
    let mut dw = vec![T::zero(); weight.len()];
    for (r, row) in x.chunks_exact(dim).enumerate() {
        let target = targets.ids[r] as usize;
        let factor = number(f64::from(targets.weights[r]) / targets.normaliser);
        let logits = super::linear::plain_forward(row, weight, dim);
        let total = logits.iter().fold(T::zero(), |sum, l| sum + l.exp());
        loss = loss + factor * (total.ln() - logits[target]);
        for o in 0..vocab {
            let hit = if o == target { T::one() } else { T::zero() };
            let d = factor * (logits[o].exp() / total - hit);
            for i in 0..dim {
                dx[r * dim + i] = dx[r * dim + i] + d * weight[o * dim + i];
                dw[o * dim + i] = dw[o * dim + i] + d * row[i];
            }
        }
    }
    (loss, dx, dw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, norm_error, normal, wide};
    use crate::ops::{to_vec, zeros};

    #[test]
    fn plain_gradients_agree_with_finite_differences() {
        let (x, w) = (wide(&normal(1, 12)), wide(&normal(2, 20)));
        let targets = Targets {
            ids: &[1, 4, 0],
            weights: &[1.0, 0.0, 0.5],
            normaliser: 1.5,
        };
        let (_, dx, dw) = plain(&x, &w, targets);
        check_gradient(&x, &dx, |x| plain(x, &w, targets).0);
        check_gradient(&w, &dw, |w| plain(&x, w, targets).0);
    }

    #[test]
    fn chunks_agree_with_plain() -> Result<()> {
        let env = Env::cpu();
        let (rows, dim, vocab) = (1100, 24, 1000);
        let (x, w) = (normal(1, rows * dim), normal(2, vocab * dim));
        let ids: Vec<u32> = (0..rows as u32).map(|i| i * 7 % vocab as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32 * 0.5).collect();
        let targets = Targets {
            ids: &ids,
            weights: &weights,
            normaliser: 321.0,
        };
        let xt = from_vec(x.clone(), &[1, rows, dim], &env)?;
        let wt = from_vec(w.clone(), &[vocab, dim], &env)?;
        let grad = zeros(&[vocab, dim], &env)?;
        let (loss, dx) = forward_backward(&env, &xt, &wt, targets, Some(&grad))?;
        let (want, want_dx, want_dw) = plain(&wide(&x), &wide(&w), targets);
        assert!((loss - want).abs() / want < 1e-6);
        assert!(norm_error(&to_vec(&dx)?, &want_dx) < 1e-5);
        assert!(norm_error(&to_vec(&grad)?, &want_dw) < 1e-5);
        let scored = log_probs(&xt, &wt, &ids)?;
        let total: f64 = scored
            .iter()
            .zip(&weights)
            .map(|(s, &w)| -f64::from(s.0) * f64::from(w))
            .sum();
        assert!((total / 321.0 - want).abs() / want < 1e-6);
        let row = 700;
        let one = from_vec(x[row * dim..(row + 1) * dim].to_vec(), &[1, 1, dim], &env)?;
        assert_eq!(log_probs(&one, &wt, &ids[row..=row])?[0], scored[row]);
        Ok(())
    }
}
