//! AdamW in place (arXiv 1711.05101): decay, moments, bias correction and update in one pass.
use super::{Result, update, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// 1 for the first step.
    pub step: u64,
    /// Factor of the gradient: the clip's.
    pub grad_scale: f64,
}

/// A step's numbers as the loop needs them.
#[derive(Clone, Copy)]
struct Factors<T> {
    beta1: T,
    beta2: T,
    eps: T,
    keep: T,
    step_size: T,
    root_correction: T,
    grad_scale: T,
}

impl Step {
    fn factors<T: Float>(&self) -> Factors<T> {
        let number = |x: f64| T::from(x).unwrap_or_else(T::zero);
        let correction1 = 1.0 - self.beta1.powf(self.step as f64);
        let correction2 = 1.0 - self.beta2.powf(self.step as f64);
        Factors {
            beta1: number(self.beta1),
            beta2: number(self.beta2),
            eps: number(self.eps),
            keep: number(1.0 - self.lr * self.weight_decay),
            step_size: number(self.lr / correction1),
            root_correction: number(correction2.sqrt()),
            grad_scale: number(self.grad_scale),
        }
    }
}

#[inline(always)]
fn element<T: Float>(f: Factors<T>, w: T, g: T, m: T, v: T) -> (T, T, T) {
    let g = g * f.grad_scale;
    let m = f.beta1 * m + (T::one() - f.beta1) * g;
    let v = f.beta2 * v + (T::one() - f.beta2) * g * g;
    let denominator = v.sqrt() / f.root_correction + f.eps;
    (f.keep * w - f.step_size * m / denominator, m, v)
}

/// Moves `value` by its gradient and brings the moments up to date, in one pass; all of one shape, in f32.
pub fn step(value: &Tensor, grad: &Tensor, [m, v]: [&Tensor; 2], step: &Step) -> Result<()> {
    let factors = step.factors::<f32>();
    let grad = view::<f32>(grad)?;
    let (mut second, mut third) = (Ok(()), Ok(()));
    update(value, |value| {
        second = update(m, |m| {
            third = update(v, |v| {
                value
                    .par_chunks_mut(CHUNK)
                    .zip(m.par_chunks_mut(CHUNK))
                    .zip(v.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)))
                    .for_each(|((value, m), (v, grad))| {
                        super::simd::dispatch(
                            #[inline(always)]
                            || {
                                let state = m.iter_mut().zip(v).zip(grad);
                                for (w, ((m, v), &g)) in value.iter_mut().zip(state) {
                                    (*w, *m, *v) = element(factors, *w, g, *m, *v);
                                }
                            },
                        );
                    });
            });
        });
    })?;
    second.and(third)
}

/// Plain version of [`step`], as algorithm 2 of the paper has it: new (value, m, v).
pub fn plain<T: Float>(
    value: &[T],
    grad: &[T],
    m: &[T],
    v: &[T],
    step: &Step,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let number = |x: f64| T::from(x).unwrap_or_else(T::zero);
    let (beta1, beta2) = (number(step.beta1), number(step.beta2));
    let lr = number(step.lr);
    let t = number(step.step as f64);
    let mut out = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..value.len() {
        let g = grad[i] * number(step.grad_scale);
        let m = beta1 * m[i] + (T::one() - beta1) * g;
        let v = beta2 * v[i] + (T::one() - beta2) * g * g;
        let m_hat = m / (T::one() - beta1.powf(t));
        let v_hat = v / (T::one() - beta2.powf(t));
        let decayed = value[i] - lr * number(step.weight_decay) * value[i];
        out.0
            .push(decayed - lr * m_hat / (v_hat.sqrt() + number(step.eps)));
        out.1.push(m);
        out.2.push(v);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{norm_error, normal, wide};
    use crate::ops::{Env, from_vec, to_vec, zeros};

    #[test]
    fn fast_steps_agree_with_plain_ones() -> Result<()> {
        let env = Env::cpu();
        let n = CHUNK + 5;
        let start = normal(1, n);
        let value = from_vec(start.clone(), &[n], &env)?;
        let (m, v) = (zeros(&[n], &env)?, zeros(&[n], &env)?);
        let mut plain_state = (wide(&start), vec![0f64; n], vec![0f64; n]);
        for t in 1..=5 {
            let grad = normal(10 + t, n);
            let numbers = Step {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step: t,
                grad_scale: 0.5,
            };
            let grad_tensor = from_vec(grad.clone(), &[n], &env)?;
            step(&value, &grad_tensor, [&m, &v], &numbers)?;
            let (w, pm, pv) = &plain_state;
            plain_state = plain(w, &wide(&grad), pm, pv, &numbers);
        }
        assert!(norm_error(&to_vec(&value)?, &plain_state.0) < 1e-6);
        assert!(norm_error(&to_vec(&m)?, &plain_state.1) < 1e-6);
        assert!(norm_error(&to_vec(&v)?, &plain_state.2) < 1e-6);
        let moved: Vec<f64> = wide(&start)
            .iter()
            .zip(&plain_state.0)
            .map(|(a, b)| b - a)
            .collect();
        assert!(moved.iter().any(|d| d.abs() > 1e-3));
        Ok(())
    }
}
