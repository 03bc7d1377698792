//! The global norm of all gradients, for clipping.
use super::{Result, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Elements of one partial sum.
const CHUNK: usize = 1 << 14;

/// Sum of the squares of a gradient's elements, in f64. The square root of the sum over all
/// gradients is the global norm.
pub fn sum_of_squares(grad: &Tensor) -> Result<f64> {
    let grad = view::<f32>(grad)?;
    let parts: Vec<f64> = grad
        .par_chunks(CHUNK)
        .map(|part| part.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
        .collect();
    Ok(parts.iter().sum())
}

/// The factor that brings a gradient of this norm down to `max_norm`, as PyTorch's
/// `clip_grad_norm_`: `max_norm / (norm + 1e-6)`, and 1 where that is larger.
pub fn factor<T: Float>(norm: T, max_norm: T) -> T {
    let tiny = T::from(1e-6).unwrap_or_else(T::epsilon);
    (max_norm / (norm + tiny)).min(T::one())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::normal;
    use crate::ops::{Env, from_vec};

    #[test]
    fn norm_and_factor() -> Result<()> {
        let n = CHUNK + 3;
        let grad = normal(1, n);
        let want: f64 = grad.iter().map(|&g| f64::from(g).powi(2)).sum();
        let got = sum_of_squares(&from_vec(grad, &[n], &Env::cpu())?)?;
        assert!((got - want).abs() / want < 1e-12);
        assert_eq!(factor(0.5, 1.0), 1.0);
        assert!((factor(4.0f64, 1.0) - 0.25).abs() < 1e-6);
        Ok(())
    }
}
