//! Token embedding: row `ids[i]` of the table for token i.
use super::{Env, Error, Result, from_vec, update, view};
use candle_core::Tensor;

/// Rows of `table` (`[vocab, dim]`) for `ids`, as `[batch, tokens, dim]`; `ids` is `[batch, tokens]`,
/// row-major.
///
/// # Errors
/// When an id is not in the table.
pub fn forward(env: &Env, table: &Tensor, ids: &[u32], batch: usize) -> Result<Tensor> {
    let (vocab, dim) = table.dims2()?;
    let rows = view::<f32>(table)?;
    let mut y = Vec::with_capacity(ids.len() * dim);
    for &id in ids {
        let id = id as usize;
        if id >= vocab {
            return Err(Error::Shape {
                op: "embedding",
                what: format!("token id {id} in a vocabulary of {vocab}"),
            });
        }
        y.extend_from_slice(&rows[id * dim..(id + 1) * dim]);
    }
    from_vec(y, &[batch, ids.len() / batch.max(1), dim], env)
}

/// Adds each token's gradient (`dy`: `[batch, tokens, dim]`) to its row of `table_grad`
/// (`[vocab, dim]`), in the order of the tokens.
pub fn backward(dy: &Tensor, ids: &[u32], table_grad: &Tensor) -> Result<()> {
    let (_, dim) = table_grad.dims2()?;
    let dys = view::<f32>(dy)?;
    update(table_grad, |grad| {
        for (&id, dy) in ids.iter().zip(dys.chunks_exact(dim)) {
            let row = &mut grad[id as usize * dim..(id as usize + 1) * dim];
            for (g, d) in row.iter_mut().zip(dy) {
                *g += d;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{to_vec, zeros};

    #[test]
    fn a_row_a_token_and_gradients_add_up() -> Result<()> {
        let env = Env::cpu();
        let table = from_vec(vec![0f32, 1., 10., 11., 20., 21.], &[3, 2], &env)?;
        let y = forward(&env, &table, &[2, 0, 2], 1)?;
        assert_eq!(y.dims(), [1, 3, 2]);
        assert_eq!(to_vec::<f32>(&y)?, [20., 21., 0., 1., 20., 21.]);
        let grad = zeros(&[3, 2], &env)?;
        let dy = from_vec(vec![1f32, 2., 3., 4., 5., 6.], &[1, 3, 2], &env)?;
        backward(&dy, &[2, 0, 2], &grad)?;
        assert_eq!(to_vec::<f32>(&grad)?, [3., 4., 0., 0., 6., 8.]);
        assert!(forward(&env, &table, &[3], 1).is_err());
        Ok(())
    }
}
