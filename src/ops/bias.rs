//! The bias of a linear layer: the same vector added to every row.
use super::{Result, update, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Rows of one task.
const ROWS: usize = 64;

/// Adds `bias` (`[dim]`) to every row of `y` (`[.., dim]`), in place.
pub fn forward(y: &Tensor, bias: &Tensor) -> Result<()> {
    let bias = view::<f32>(bias)?;
    update(y, |y| {
        y.par_chunks_mut(ROWS * bias.len()).for_each(|y| {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias.iter()).for_each(|(y, b)| *y += b);
            }
        });
    })
}

/// Adds the bias's gradient, the sum of `dy`'s rows (`[.., dim]`), to `bias_grad` (`[dim]`). The gradient
/// by [`forward`]'s input is `dy` itself.
pub fn backward(dy: &Tensor, bias_grad: &Tensor) -> Result<()> {
    let dim = bias_grad.elem_count();
    let dy = view::<f32>(dy)?;
    let partial: Vec<Vec<f32>> = dy
        .par_chunks(ROWS * dim)
        .map(|dy| {
            let mut sum = vec![0f32; dim];
            for row in dy.chunks_exact(dim) {
                sum.iter_mut().zip(row).for_each(|(s, d)| *s += d);
            }
            sum
        })
        .collect();
    update(bias_grad, |grad| {
        for part in &partial {
            grad.iter_mut().zip(part).for_each(|(g, p)| *g += p);
        }
    })
}

/// Plain version of [`forward`].
pub fn plain_forward<T: Float>(y: &[T], bias: &[T]) -> Vec<T> {
    let add = |row: &[T]| -> Vec<T> { row.iter().zip(bias).map(|(&y, &b)| y + b).collect() };
    y.chunks_exact(bias.len()).flat_map(add).collect()
}

/// Plain version of [`backward`]: the bias's gradient.
pub fn plain_backward<T: Float>(dy: &[T], dim: usize) -> Vec<T> {
    let column = |i: usize| dy.iter().skip(i).step_by(dim);
    (0..dim)
        .map(|i| column(i).fold(T::zero(), |sum, &d| sum + d))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, norm_error, normal, wide};
    use crate::ops::{Env, from_vec, to_vec, zeros};

    #[test]
    fn plain_backward_agrees_with_finite_differences() {
        let (y, bias, dy) = (
            wide(&normal(1, 21)),
            wide(&normal(2, 7)),
            wide(&normal(3, 21)),
        );
        let loss = |bias: &[f64]| -> f64 {
            let y = plain_forward(&y, bias);
            // Not linear in the bias, so that a wrong sum cannot hide.
            y.iter().zip(&dy).map(|(y, d)| d * y * y / 2.0).sum()
        };
        let d_out: Vec<f64> = plain_forward(&y, &bias)
            .iter()
            .zip(&dy)
            .map(|(y, d)| d * y)
            .collect();
        check_gradient(&bias, &plain_backward(&d_out, 7), loss);
    }

    #[test]
    fn fast_agrees_with_plain() -> Result<()> {
        let env = Env::cpu();
        let (rows, dim) = (131, 37);
        let (y, bias, dy) = (normal(1, rows * dim), normal(2, dim), normal(3, rows * dim));
        let yt = from_vec(y.clone(), &[rows, dim], &env)?;
        forward(&yt, &from_vec(bias.clone(), &[dim], &env)?)?;
        let want = plain_forward(&wide(&y), &wide(&bias));
        assert!(norm_error(&to_vec(&yt)?, &want) < 1e-6);
        let grad = zeros(&[dim], &env)?;
        let dyt = from_vec(dy.clone(), &[rows, dim], &env)?;
        backward(&dyt, &grad)?;
        backward(&dyt, &grad)?;
        let want: Vec<f64> = plain_backward(&wide(&dy), dim)
            .iter()
            .map(|d| 2.0 * d)
            .collect();
        assert!(norm_error(&to_vec(&grad)?, &want) < 1e-5);
        Ok(())
    }
}
