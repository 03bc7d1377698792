//! The gated activation `silu(gate) · up`, with `silu(x) = x / (1 + e^-x)`.
use super::{Env, Result, from_vec, simd, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Elements of one task.
const CHUNK: usize = 16 * 1024;

/// `silu(gate) · up`, element by element; all of one shape.
pub fn forward(env: &Env, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (g, u) = (view::<f32>(gate)?, view::<f32>(up)?);
    let mut y = vec![0f32; g.len()];
    y.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
        .for_each(|(y, (g, u))| {
            simd::dispatch(
                #[inline(always)]
                || {
                    for ((y, &g), &u) in y.iter_mut().zip(g).zip(u) {
                        *y = g / (1.0 + simd::exp(-g)) * u;
                    }
                },
            );
        });
    from_vec(y, gate.dims(), env)
}

/// Gradients of [`forward`]: (dgate, dup).
pub fn backward(env: &Env, dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor)> {
    let (d, g, u) = (view::<f32>(dy)?, view::<f32>(gate)?, view::<f32>(up)?);
    let mut dg = vec![0f32; g.len()];
    let mut du = vec![0f32; g.len()];
    dg.par_chunks_mut(CHUNK)
        .zip(du.par_chunks_mut(CHUNK))
        .zip(d.par_chunks(CHUNK))
        .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
        .for_each(|(((dg, du), d), (g, u))| {
            simd::dispatch(
                #[inline(always)]
                || {
                    let n = dg.len();
                    let (du, d, g, u) = (&mut du[..n], &d[..n], &g[..n], &u[..n]);
                    for i in 0..n {
                        let sigmoid = 1.0 / (1.0 + simd::exp(-g[i]));
                        let silu = g[i] * sigmoid;
                        du[i] = d[i] * silu;
                        dg[i] = d[i] * u[i] * (sigmoid + silu * (1.0 - sigmoid));
                    }
                },
            );
        });
    Ok((
        from_vec(dg, gate.dims(), env)?,
        from_vec(du, up.dims(), env)?,
    ))
}

/// Plain version of [`forward`].
pub fn plain_forward<T: Float>(gate: &[T], up: &[T]) -> Vec<T> {
    gate.iter()
        .zip(up)
        .map(|(&g, &u)| g / (T::one() + (-g).exp()) * u)
        .collect()
}

/// Plain version of [`backward`]: (dgate, dup).
pub fn plain_backward<T: Float>(dy: &[T], gate: &[T], up: &[T]) -> (Vec<T>, Vec<T>) {
    dy.iter()
        .zip(gate.iter().zip(up))
        .map(|(&d, (&g, &u))| {
            let sigmoid = T::one() / (T::one() + (-g).exp());
            let silu = g * sigmoid;
            (d * u * (sigmoid + silu * (T::one() - sigmoid)), d * silu)
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, norm_error, normal, wide};
    use crate::ops::to_vec;

    #[test]
    fn plain_backward_agrees_with_finite_differences() {
        let (g, u, dy) = (
            wide(&normal(1, 12)),
            wide(&normal(2, 12)),
            wide(&normal(3, 12)),
        );
        let loss = |g: &[f64], u: &[f64]| -> f64 {
            plain_forward(g, u)
                .iter()
                .zip(&dy)
                .map(|(y, d)| y * d)
                .sum()
        };
        let (dg, du) = plain_backward(&dy, &g, &u);
        check_gradient(&g, &dg, |g| loss(g, &u));
        check_gradient(&u, &du, |u| loss(&g, u));
    }

    #[test]
    fn fast_agrees_with_plain() -> Result<()> {
        let env = Env::cpu();
        let n = CHUNK + 77;
        let (g, u, dy) = (normal(1, n), normal(2, n), normal(3, n));
        let tensor = |v: &Vec<f32>| from_vec(v.clone(), &[n], &env);
        let (gt, ut, dt) = (tensor(&g)?, tensor(&u)?, tensor(&dy)?);
        let want = plain_forward(&wide(&g), &wide(&u));
        assert!(norm_error(&to_vec(&forward(&env, &gt, &ut)?)?, &want) < 1e-6);
        let (dg, du) = backward(&env, &dt, &gt, &ut)?;
        let (want_dg, want_du) = plain_backward(&wide(&dy), &wide(&g), &wide(&u));
        assert!(norm_error(&to_vec(&dg)?, &want_dg) < 1e-6);
        assert!(norm_error(&to_vec(&du)?, &want_du) < 1e-6);
        Ok(())
    }
}
