//! Root-mean-square normalisation of token rows: `y = x / sqrt(mean(x²) + eps) · weight`.
use super::{Env, Result, from_vec, simd, update, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Rows of one task.
const ROWS: usize = 64;

/// Normalises the last dimension of `x` (`[.., dim]`) by `weight` (`[dim]`).
///
/// The backward needs `x` alone: the row's scale is cheaper to make again than to keep.
pub fn forward(env: &Env, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (xs, w) = (view::<f32>(x)?, view::<f32>(weight)?);
    let dim = w.len();
    let mut y = vec![0f32; xs.len()];
    y.par_chunks_mut(ROWS * dim)
        .zip(xs.par_chunks(ROWS * dim))
        .for_each(|(y, x)| {
            simd::dispatch(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                        let scale = row_scale(x, eps);
                        for i in 0..dim {
                            y[i] = x[i] * scale * w[i];
                        }
                    }
                },
            );
        });
    from_vec(y, x.dims(), env)
}

#[inline(always)]
fn row_scale(x: &[f32], eps: f64) -> f32 {
    let mean = simd::dot(x, x) / x.len() as f32;
    1.0 / (mean + eps as f32).sqrt()
}

/// Gradient of [`forward`] by `x`; the weight's gradient is added to `weight_grad` (`[dim]`) if there
/// is one.
pub fn backward(
    env: &Env,
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    weight_grad: Option<&Tensor>,
) -> Result<Tensor> {
    let (dys, xs, w) = (view::<f32>(dy)?, view::<f32>(x)?, view::<f32>(weight)?);
    let dim = w.len();
    let mut dx = vec![0f32; xs.len()];
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(ROWS * dim)
        .zip(dys.par_chunks(ROWS * dim).zip(xs.par_chunks(ROWS * dim)))
        .map(|(dx, (dy, x))| {
            let mut dw = vec![0f32; dim];
            simd::dispatch(
                #[inline(always)]
                || {
                    for ((dx, dy), x) in dx
                        .chunks_exact_mut(dim)
                        .zip(dy.chunks_exact(dim))
                        .zip(x.chunks_exact(dim))
                    {
                        let scale = row_scale(x, eps);
                        for i in 0..dim {
                            dx[i] = dy[i] * w[i];
                            dw[i] += dy[i] * x[i] * scale;
                        }
                        let along = simd::dot(dx, x) * scale * scale * scale / dim as f32;
                        for i in 0..dim {
                            dx[i] = dx[i] * scale - x[i] * along;
                        }
                    }
                },
            );
            dw
        })
        .collect();
    if let Some(grad) = weight_grad {
        update(grad, |grad| {
            for part in &partial {
                for (g, p) in grad.iter_mut().zip(part) {
                    *g += p;
                }
            }
        })?;
    }
    from_vec(dx, x.dims(), env)
}

/// Plain version of [`forward`] on rows of `weight.len()`.
pub fn plain_forward<T: Float>(x: &[T], weight: &[T], eps: T) -> Vec<T> {
    let dim = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(dim) {
        let scale = plain_scale(row, eps);
        y.extend(row.iter().zip(weight).map(|(&x, &w)| x * scale * w));
    }
    y
}

fn plain_scale<T: Float>(row: &[T], eps: T) -> T {
    let dim = T::from(row.len()).unwrap_or_else(T::one);
    let mean = row.iter().fold(T::zero(), |sum, &x| sum + x * x) / dim;
    T::one() / (mean + eps).sqrt()
}

/// Plain version of [`backward`]: (dx, dweight).
pub fn plain_backward<T: Float>(dy: &[T], x: &[T], weight: &[T], eps: T) -> (Vec<T>, Vec<T>) {
    let dim = weight.len();
    let n = T::from(dim).unwrap_or_else(T::one);
    let mut dx = Vec::with_capacity(x.len());
    let mut dw = vec![T::zero(); dim];
    for (dy, x) in dy.chunks_exact(dim).zip(x.chunks_exact(dim)) {
        let scale = plain_scale(x, eps);
        let mut along = T::zero();
        for i in 0..dim {
            dw[i] = dw[i] + dy[i] * x[i] * scale;
            along = along + dy[i] * weight[i] * x[i];
        }
        for i in 0..dim {
            dx.push(dy[i] * weight[i] * scale - x[i] * along * scale * scale * scale / n);
        }
    }
    (dx, dw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, norm_error, normal, wide};
    use crate::ops::{to_vec, zeros};

    #[test]
    fn plain_backward_agrees_with_finite_differences() {
        let (x, w, dy) = (
            wide(&normal(1, 21)),
            wide(&normal(2, 7)),
            wide(&normal(3, 21)),
        );
        let loss = |x: &[f64], w: &[f64]| -> f64 {
            plain_forward(x, w, 1e-5)
                .iter()
                .zip(&dy)
                .map(|(y, d)| y * d)
                .sum()
        };
        let (dx, dw) = plain_backward(&dy, &x, &w, 1e-5);
        check_gradient(&x, &dx, |x| loss(x, &w));
        check_gradient(&w, &dw, |w| loss(&x, w));
    }

    #[test]
    fn fast_agrees_with_plain() -> Result<()> {
        let env = Env::cpu();
        let (rows, dim) = (131, 37);
        let (x, w, dy) = (normal(1, rows * dim), normal(2, dim), normal(3, rows * dim));
        let tensor = |v: &Vec<f32>, shape: &[usize]| from_vec(v.clone(), shape, &env);
        let (xt, wt, dyt) = (
            tensor(&x, &[rows, dim])?,
            tensor(&w, &[dim])?,
            tensor(&dy, &[rows, dim])?,
        );
        let y = forward(&env, &xt, &wt, 1e-5)?;
        let want = plain_forward(&wide(&x), &wide(&w), 1e-5);
        assert!(norm_error(&to_vec(&y)?, &want) < 1e-6);
        let grad = zeros(&[dim], &env)?;
        let dx = backward(&env, &dyt, &xt, &wt, 1e-5, Some(&grad))?;
        let (want_dx, want_dw) = plain_backward(&wide(&dy), &wide(&x), &wide(&w), 1e-5);
        assert!(norm_error(&to_vec(&dx)?, &want_dx) < 1e-6);
        assert!(norm_error(&to_vec(&grad)?, &want_dw) < 1e-6);
        Ok(())
    }
}
