//! Rotary position embedding of head vectors, half-split: dimension i turns with dimension i + d/2.
use super::{Env, Error, Result, from_vec, simd, update, view};
use candle_core::Tensor;
use num_traits::Float;
use rayon::prelude::*;

/// Cosines and sines of every position, in f32, each times the method's scale.
#[derive(Debug, Clone)]
pub struct Table {
    /// `[positions, head_dim / 2]`
    pub cos: Tensor,
    /// `[positions, head_dim / 2]`
    pub sin: Tensor,
}

impl Table {
    /// The table of the angles `position · inv_freq[i]` for positions 0 to `positions`, each computed as
    /// f32(position) · f32(inverse frequency).
    pub fn new(env: &Env, inv_freq: &[f32], scale: f32, positions: usize) -> Result<Self> {
        let turn = |f: fn(f32) -> f32| -> Vec<f32> {
            (0..positions)
                .flat_map(|p| inv_freq.iter().map(move |w| f(p as f32 * w) * scale))
                .collect()
        };
        let shape = [positions, inv_freq.len()];
        Ok(Table {
            cos: from_vec(turn(f32::cos), &shape, env)?,
            sin: from_vec(turn(f32::sin), &shape, env)?,
        })
    }
}

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Turn {
    Forward,
    Transposed,
}

/// Turns `x` (`[batch, tokens, heads, head_dim]`) in place by the angles of `positions`
/// (`[batch, tokens]`).
///
/// # Errors
/// When a position is beyond the table.
pub fn rope(x: &Tensor, positions: &[u32], table: &Table) -> Result<()> {
    turn(x, positions, table, Turn::Forward)
}

/// The transpose of [`rope`], which is its backward: turns a gradient back, in place.
pub fn rope_transposed(dx: &Tensor, positions: &[u32], table: &Table) -> Result<()> {
    turn(dx, positions, table, Turn::Transposed)
}

fn turn(x: &Tensor, positions: &[u32], table: &Table, turn: Turn) -> Result<()> {
    let (batch, tokens, heads, head_dim) = x.dims4()?;
    let (known, half) = table.cos.dims2()?;
    let beyond = positions.iter().find(|&&p| p as usize >= known);
    if positions.len() != batch * tokens || head_dim != 2 * half || beyond.is_some() {
        return Err(Error::Shape {
            op: "rope",
            what: format!(
                "{} positions (largest {:?}) for {:?} with a table of {known} positions of {half} angles",
                positions.len(),
                positions.iter().max(),
                x.dims(),
            ),
        });
    }
    let (cos, sin) = (view::<f32>(&table.cos)?, view::<f32>(&table.sin)?);
    let row = heads * head_dim;
    update(x, |x| {
        x.par_chunks_mut(row * 64)
            .zip(positions.par_chunks(64))
            .for_each(|(x, positions)| {
                simd::dispatch(
                    #[inline(always)]
                    || {
                        for (x, &p) in x.chunks_exact_mut(row).zip(positions) {
                            let at = p as usize * half;
                            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                            for head in x.chunks_exact_mut(head_dim) {
                                let (low, high) = head.split_at_mut(half);
                                for i in 0..half {
                                    let (a, b) = (low[i], high[i]);
                                    let s = match turn {
                                        Turn::Forward => sin[i],
                                        Turn::Transposed => -sin[i],
                                    };
                                    low[i] = a * cos[i] - b * s;
                                    high[i] = b * cos[i] + a * s;
                                }
                            }
                        }
                    },
                );
            });
    })
}

/// Plain version of [`rope`] on one head vector, with its cosines and sines (`head_dim / 2` each).
pub fn plain_rope<T: Float>(x: &[T], cos: &[T], sin: &[T]) -> Vec<T> {
    let half = cos.len();
    let low = (0..half).map(|i| x[i] * cos[i] - x[i + half] * sin[i]);
    let high = (0..half).map(|i| x[i + half] * cos[i] + x[i] * sin[i]);
    low.chain(high).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradient, norm_error, normal, wide};
    use crate::ops::to_vec;

    #[test]
    fn turns_as_the_plain_one_and_back_as_finite_differences_say() -> Result<()> {
        let env = Env::cpu();
        let (batch, tokens, heads, head_dim) = (2, 70, 3, 8);
        let inv_freq = [1.0, 0.3, 0.1, 0.03];
        let table = Table::new(&env, &inv_freq, 1.2, 200)?;
        let positions: Vec<u32> = (0..batch * tokens).map(|i| (i as u32 * 37) % 200).collect();
        let x = normal(1, batch * tokens * heads * head_dim);
        let xt = from_vec(x.clone(), &[batch, tokens, heads, head_dim], &env)?;
        rope(&xt, &positions, &table)?;
        let (cos, sin) = (wide(&to_vec(&table.cos)?), wide(&to_vec(&table.sin)?));
        let plain = |x: &[f64]| -> Vec<f64> {
            x.chunks_exact(head_dim)
                .enumerate()
                .flat_map(|(i, head)| {
                    let at = positions[i / heads] as usize * 4;
                    plain_rope(head, &cos[at..at + 4], &sin[at..at + 4])
                })
                .collect()
        };
        assert!(norm_error(&to_vec(&xt)?, &plain(&wide(&x))) < 1e-6);

        let dy = normal(2, 3 * head_dim);
        let few = [5u32, 0, 199];
        let dxt = from_vec(dy.clone(), &[1, 3, 1, head_dim], &env)?;
        rope_transposed(&dxt, &few, &table)?;
        let got = wide(&to_vec(&dxt)?);
        let x = wide(&normal(3, 3 * head_dim));
        let loss = |x: &[f64]| -> f64 {
            x.chunks_exact(head_dim)
                .enumerate()
                .flat_map(|(i, head)| {
                    let at = few[i] as usize * 4;
                    plain_rope(head, &cos[at..at + 4], &sin[at..at + 4])
                })
                .zip(&dy)
                .map(|(y, &d)| y * f64::from(d))
                .sum()
        };
        check_gradient(&x, &got, loss);
        assert!(rope(&dxt, &[200, 0, 0], &table).is_err());
        Ok(())
    }
}
