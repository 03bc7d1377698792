//! Context parallelism: rank r of R holds tokens r·T/R to (r+1)·T/R of every sequence; keys and values
//! are gathered inside a block, their gradients summed and scattered (Llama 3, arXiv 2407.21783 §3.3.2).
use super::{Communicator, Result};
use crate::ops::{Env, from_vec, view};
use candle_core::Tensor;

/// All ranks' tokens of `x` (`[batch, tokens, heads, head_dim]`): `[batch, ranks · tokens, ..]`.
pub fn gather_tokens(env: &Env, ranks: &Communicator, x: &Tensor) -> Result<Tensor> {
    if ranks.size() == 1 {
        return Ok(x.clone());
    }
    let (batch, tokens, heads, dim) = x.dims4().map_err(crate::ops::Error::from)?;
    let parts = ranks.gather(view::<f32>(x)?.to_vec())?;
    let row = tokens * heads * dim;
    let mut all = Vec::with_capacity(parts.len() * batch * row);
    for b in 0..batch {
        for part in &parts {
            all.extend_from_slice(&part[b * row..(b + 1) * row]);
        }
    }
    Ok(from_vec(
        all,
        &[batch, parts.len() * tokens, heads, dim],
        env,
    )?)
}

/// This rank's tokens of the sum over all ranks of `x` (`[batch, ranks · tokens, heads, head_dim]`):
/// the transpose of [`gather_tokens`].
pub fn scatter_sum_tokens(env: &Env, ranks: &Communicator, x: Tensor) -> Result<Tensor> {
    if ranks.size() == 1 {
        return Ok(x);
    }
    let (batch, all_tokens, heads, dim) = x.dims4().map_err(crate::ops::Error::from)?;
    let tokens = all_tokens / ranks.size();
    let parts = ranks.gather(view::<f32>(&x)?.to_vec())?;
    let row = tokens * heads * dim;
    let mut mine = vec![0f32; batch * row];
    for part in &parts {
        for b in 0..batch {
            let from = (b * ranks.size() + ranks.rank()) * row;
            let sum = &mut mine[b * row..(b + 1) * row];
            for (s, p) in sum.iter_mut().zip(&part[from..from + row]) {
                *s += p;
            }
        }
    }
    Ok(from_vec(mine, &[batch, tokens, heads, dim], env)?)
}
