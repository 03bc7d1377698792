//! The gated activation `silu(gate) · up`, with `silu(x) = x / (1 + e^-x)`.
use super::{Env, Error, Result, from_vec, host::written, simd, update, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Elements of one task.
const CHUNK: usize = 16 * 1024;

/// `silu(gate) · up`, element by element; all of one shape.
pub fn forward(env: &Env, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    same_shape(gate, up)?;
    let (g, u) = (view::<f32>(gate)?, view::<f32>(up)?);
    // SAFETY: every chunk is written.
    let y = unsafe {
        written(g.len(), |y| {
            y.par_chunks_mut(CHUNK)
                .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
                .for_each(|(y, (g, u))| {
                    simd::dispatch(
                        #[inline(always)]
                        || {
                            for ((y, &g), &u) in y.iter_mut().zip(g).zip(u) {
                                y.write(g / (1.0 + simd::exp(-g)) * u);
                            }
                        },
                    );
                });
        })
    };
    from_vec(y, gate.dims(), env)
}

/// Turns `dy` into the output of [`forward`], which what comes next needs again, and `gate` and `up` into
/// their gradients, all in place and in one pass.
pub fn backward(dy: &Tensor, gate: &Tensor, up: &Tensor) -> Result<()> {
    same_shape(gate, up)?;
    same_shape(gate, dy)?;
    let (mut second, mut third) = (Ok(()), Ok(()));
    update(dy, |d| {
        second = update(gate, |g| {
            third = update(up, |u| {
                d.par_chunks_mut(CHUNK)
                    .zip(g.par_chunks_mut(CHUNK).zip(u.par_chunks_mut(CHUNK)))
                    .for_each(|(d, (g, u))| {
                        simd::dispatch(
                            #[inline(always)]
                            || backward_chunk(d, g, u),
                        );
                    });
            });
        });
    })?;
    second.and(third)
}

fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() == b.dims() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "swiglu",
        what: format!("{:?} and {:?}", a.dims(), b.dims()),
    })
}

#[inline(always)]
fn backward_chunk(d: &mut [f32], g: &mut [f32], u: &mut [f32]) {
    for ((d, g), u) in d.iter_mut().zip(g).zip(u) {
        let e = 1.0 + simd::exp(-*g);
        let sigmoid = 1.0 / e;
        let silu = *g * sigmoid;
        let (dy, up) = (*d, *u);
        *d = *g / e * up;
        *u = dy * silu;
        *g = dy * up * (sigmoid + silu * (1.0 - sigmoid));
    }
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
        let y = to_vec::<f32>(&forward(&env, &gt, &ut)?)?;
        assert!(norm_error(&y, &want) < 1e-6);
        backward(&dt, &gt, &ut)?;
        let (want_dg, want_du) = plain_backward(&wide(&dy), &wide(&g), &wide(&u));
        assert_eq!(to_vec::<f32>(&dt)?, y);
        assert!(norm_error(&to_vec(&gt)?, &want_dg) < 1e-6);
        assert!(norm_error(&to_vec(&ut)?, &want_du) < 1e-6);
        Ok(())
    }
}
