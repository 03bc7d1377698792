//! Inference over a chunk of tokens with the keys and values of what came before.
use super::{Decoder, Error, Result};
use crate::ops::{Env, attention, embedding, rms_norm, rope, update, view, zeros};
use candle_core::Tensor;

/// Keys and values of `rows` sequences of up to `capacity` tokens, written in place.
#[derive(Debug)]
pub struct KvCache {
    /// Keys and values a layer, each `[rows, capacity, kv_heads, head_dim]`. Keys are turned already,
    /// but for a RoPE that depends on the length.
    layers: Vec<(Tensor, Tensor)>,
    /// Tokens written of each row.
    lengths: Vec<usize>,
    capacity: usize,
}

impl KvCache {
    /// An empty cache.
    pub fn new(env: &Env, model: &Decoder, rows: usize, capacity: usize) -> Result<Self> {
        let c = &model.config;
        let shape = [rows, capacity, c.num_key_value_heads, c.head_dim];
        let layer = || -> Result<_> { Ok((zeros(&shape, env)?, zeros(&shape, env)?)) };
        Ok(KvCache {
            layers: (0..c.num_hidden_layers)
                .map(|_| layer())
                .collect::<Result<_>>()?,
            lengths: vec![0; rows],
            capacity,
        })
    }
}

/// Writes `x` (`[rows.len(), tokens, heads, dim]`) behind what the rows of `cache` hold.
fn write(cache: &Tensor, x: &Tensor, rows: &[usize], lengths: &[usize]) -> Result<()> {
    let (_, capacity, heads, dim) = cache.dims4()?;
    let tokens = x.dim(1)?;
    let x = view::<f32>(x)?;
    let token = heads * dim;
    Ok(update(cache, |cache| {
        for (x, &row) in x.chunks_exact(tokens * token).zip(rows) {
            let from = (row * capacity + lengths[row]) * token;
            cache[from..from + x.len()].copy_from_slice(x);
        }
    })?)
}

impl Decoder {
    /// Final hidden states (after the last norm, `[rows.len(), tokens, dim]`) of the next `tokens` ids
    /// of each of the given rows of the cache, which then holds them too. `ids` is
    /// `[rows.len(), tokens]`; `table` reaches over the cache's capacity.
    ///
    /// A token's result depends on its own row alone, and not on how the row was cut into chunks, to the
    /// bit, unless the RoPE depends on the length (which here is the row's after this chunk).
    pub fn hidden(
        &self,
        env: &Env,
        cache: &mut KvCache,
        rows: &[usize],
        ids: &[u32],
        table: &rope::Table,
    ) -> Result<Tensor> {
        let tokens = ids.len() / rows.len().max(1);
        let offsets: Vec<usize> = rows.iter().map(|&r| cache.lengths[r]).collect();
        if offsets.iter().any(|o| o + tokens > cache.capacity) {
            return Err(Error::Config(format!(
                "a sequence outgrew the {} tokens of its cache",
                cache.capacity
            )));
        }
        let positions: Vec<u32> = offsets
            .iter()
            .flat_map(|&o| (o as u32)..(o + tokens) as u32)
            .collect();
        let spec = |layer| attention::Spec {
            scale: self.attention_scale(),
            offsets: &offsets,
            window: self.config.window(layer),
            doc_starts: None,
        };
        let all_rows = rows.iter().copied().eq(0..cache.lengths.len());
        let mut x = embedding::forward(env, &self.embed_tokens.value, ids, rows.len())?;
        for (layer, (block, (keys, values))) in self.blocks.iter().zip(&cache.layers).enumerate() {
            let ([q, k, v], _) = block.qkv(env, &self.config, &x)?;
            if !self.config.rope.depends_on_length() {
                rope::rope(&q, &positions, table)?;
                rope::rope(&k, &positions, table)?;
            }
            write(keys, &k, rows, &cache.lengths)?;
            write(values, &v, rows, &cache.lengths)?;
            let pick = |t: &Tensor| -> Result<Tensor> {
                if all_rows {
                    return Ok(t.clone());
                }
                if let [row] = rows {
                    return Ok(t.narrow(0, *row, 1)?);
                }
                let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
                let index = Tensor::new(index.as_slice(), &env.device)?;
                Ok(t.index_select(&index, 0)?)
            };
            let (mut keys, values) = (pick(keys)?, pick(values)?);
            if self.config.rope.depends_on_length() {
                keys = keys.copy()?;
                self.turn_by_length(env, &q, &keys, &offsets, tokens)?;
            }
            let (o, _) = attention::forward(env, &q, &keys, &values, &spec(layer))?;
            x = block.finish(env, &self.config, &x, &o)?.0;
        }
        for &row in rows {
            cache.lengths[row] += tokens;
        }
        Ok(rms_norm::forward(
            env,
            &x,
            &self.norm.value,
            self.config.rms_norm_eps,
        )?)
    }

    /// Turns queries and all keys of each row by the frequencies of the row's length.
    fn turn_by_length(
        &self,
        env: &Env,
        q: &Tensor,
        keys: &Tensor,
        offsets: &[usize],
        tokens: usize,
    ) -> Result<()> {
        for (row, &offset) in offsets.iter().enumerate() {
            let length = offset + tokens;
            let table = self.rope_table(env, length)?;
            let new: Vec<u32> = (offset as u32..length as u32).collect();
            rope::rope(&q.narrow(0, row, 1)?, &new, &table)?;
            let all: Vec<u32> = (0..length as u32).collect();
            rope::rope(&keys.narrow(0, row, 1)?.narrow(1, 0, length)?, &all, &table)?;
        }
        Ok(())
    }
}
