//! Root-mean-square normalisation of token rows: `y = x / sqrt(mean(x²) + eps) · weight`.
use super::{Env, Error, Result, from_vec, host::written, simd, update, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Rows of one task.
const ROWS: usize = 64;

/// Normalises the last dimension of `x` (`[.., dim]`) by `weight` (`[dim]`).
///
/// The backward needs `x` alone: the row's scale is cheaper to make again than to keep.
pub fn forward(env: &Env, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check(x, weight)?;
    let (xs, w) = (view::<f32>(x)?, view::<f32>(weight)?);
    let (w, dim) = (&*w, w.len());
    // SAFETY: every row is written.
    let y = unsafe {
        written(xs.len(), |y| {
            y.par_chunks_mut(ROWS * dim)
                .zip(xs.par_chunks(ROWS * dim))
                .for_each(|(y, x)| {
                    simd::dispatch(
                        #[inline(always)]
                        || {
                            for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                                let scale = row_scale(x, eps);
                                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                                    y.write(x * scale * w);
                                }
                            }
                        },
                    );
                });
        })
    };
    from_vec(y, x.dims(), env)
}

fn check(x: &Tensor, weight: &Tensor) -> Result<()> {
    if weight.dims().len() == 1 && x.dims().last() == weight.dims().last() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "rms_norm",
        what: format!("{:?} by a weight of {:?}", x.dims(), weight.dims()),
    })
}

#[inline(always)]
fn row_scale(x: &[f32], eps: f64) -> f32 {
    let mean = simd::dot(x, x) / x.len() as f32;
    1.0 / (mean + eps as f32).sqrt()
}

/// Gradient of [`forward`] by `x`, made in `dy`, and `residual` added to it: the gradient that goes around
/// the norm. The weight's gradient is added to `weight_grad` (`[dim]`) if there is one.
pub fn backward(
    dy: Tensor,
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    weight_grad: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    check(x, weight)?;
    check(&dy, weight)?;
    let (xs, w) = (view::<f32>(x)?, view::<f32>(weight)?);
    let residual = residual.map(view::<f32>).transpose()?;
    let (w, dim) = (&*w, w.len());
    let none: &[f32] = &[];
    let around = residual.as_deref().unwrap_or(none);
    let mut partial = Vec::new();
    update(&dy, |dy| {
        partial = dy
            .par_chunks_mut(ROWS * dim)
            .zip(xs.par_chunks(ROWS * dim))
            .enumerate()
            .map(|(i, (dy, x))| {
                let mut dw = vec![0f32; dim];
                let around = around.get(i * ROWS * dim..).unwrap_or(none);
                simd::dispatch(
                    #[inline(always)]
                    || {
                        for (dy, x) in dy.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                            backward_row(dy, x, w, &mut dw, row_scale(x, eps));
                        }
                        for (dx, around) in dy.iter_mut().zip(around) {
                            *dx += around;
                        }
                    },
                );
                dw
            })
            .collect();
    })?;
    if let Some(grad) = weight_grad {
        update(grad, |grad| {
            for part in &partial {
                for (g, p) in grad.iter_mut().zip(part) {
                    *g += p;
                }
            }
        })?;
    }
    Ok(dy)
}

#[inline(always)]
fn backward_row(dy: &mut [f32], x: &[f32], w: &[f32], dw: &mut [f32], scale: f32) {
    let dim = w.len();
    let (dy, x, dw) = (&mut dy[..dim], &x[..dim], &mut dw[..dim]);
    for i in 0..dim {
        dw[i] += dy[i] * x[i] * scale;
        dy[i] *= w[i];
    }
    let along = simd::dot(dy, x) * scale * scale * scale / dim as f32;
    for i in 0..dim {
        dy[i] = dy[i] * scale - x[i] * along;
    }
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
        let around = tensor(&normal(4, rows * dim), &[rows, dim])?;
        let dx = backward(dyt, &xt, &wt, 1e-5, Some(&grad), Some(&around))?;
        let (want_dx, want_dw) = plain_backward(&wide(&dy), &wide(&x), &wide(&w), 1e-5);
        let want_dx: Vec<f64> = want_dx
            .iter()
            .zip(&normal(4, rows * dim))
            .map(|(d, &r)| d + f64::from(r))
            .collect();
        assert!(norm_error(&to_vec(&dx)?, &want_dx) < 1e-6);
        assert!(norm_error(&to_vec(&grad)?, &want_dw) < 1e-6);
        Ok(())
    }
}
