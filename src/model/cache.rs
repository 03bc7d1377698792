//! Inference over a chunk of tokens with the keys and values of what came before.
use super::{Decoder, Error, Result};
use crate::ops::{Env, attention, embedding, rms_norm, rope, update, view, zeros};
use candle_core::Tensor;

/// Keys and values of `rows` sequences of up to `capacity` tokens, written in place.
#[derive(Debug)]
pub struct KvCache {
    /// Keys, which are turned already, and values a layer, each `[rows, capacity, kv_heads, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    /// Tokens written of each row.
    lengths: Vec<usize>,
    capacity: usize,
    /// What a RoPE that depends on the length needs.
    by_length: ByLength,
}

/// Where frequencies change with the length, a row is read again: what was read, and the table last used.
#[derive(Debug)]
struct ByLength {
    /// All tokens of each row.
    ids: Vec<Vec<u32>>,
    /// Frequencies, and their table over the cache's capacity.
    table: Option<(Vec<f32>, rope::Table)>,
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
            by_length: ByLength {
                ids: vec![Vec::new(); rows],
                table: None,
            },
        })
    }
}

impl KvCache {
    /// Makes row `to`, which must be empty, begin with the first `tokens` tokens of row `from`, which has as
    /// many. For a RoPE that does not depend on the length.
    pub fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<()> {
        debug_assert!(self.lengths[to] == 0 && tokens <= self.lengths[from]);
        for tensor in self.layers.iter().flat_map(|(keys, values)| [keys, values]) {
            let row = tensor.elem_count() / self.lengths.len();
            let part = row / self.capacity * tokens;
            update(tensor, |all| {
                all.copy_within(from * row..from * row + part, to * row);
            })?;
        }
        self.lengths[to] = tokens;
        Ok(())
    }

    /// Forgets what row `row` holds behind its first `tokens` tokens. For a RoPE that does not depend on the length.
    pub fn truncate(&mut self, row: usize, tokens: usize) {
        self.lengths[row] = self.lengths[row].min(tokens);
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
    /// bit. Where the RoPE depends on the length, that is the row's after this chunk, and the result that
    /// of reading the whole row at once.
    pub fn hidden(
        &self,
        env: &Env,
        cache: &mut KvCache,
        rows: &[usize],
        ids: &[u32],
        table: &rope::Table,
    ) -> Result<Tensor> {
        if self.config.rope.depends_on_length() {
            self.extend_by_length(env, cache, rows, ids)
        } else {
            self.extend(env, cache, rows, ids, table)
        }
    }

    /// [`Self::hidden`] with the frequencies of `table`, whatever the rows' lengths.
    fn extend(
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
            key_rows: Some(rows),
        };
        let mut x = embedding::forward(env, &self.embed_tokens.value, ids, rows.len())?;
        for (layer, (block, (keys, values))) in self.blocks.iter().zip(&cache.layers).enumerate() {
            let ([q, k, v], _) = block.qkv(env, &self.config, &x)?;
            rope::rope(&q, &positions, table)?;
            rope::rope(&k, &positions, table)?;
            write(keys, &k, rows, &cache.lengths)?;
            write(values, &v, rows, &cache.lengths)?;
            let (o, _) = attention::forward(env, &q, keys, values, &spec(layer))?;
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

    /// [`Self::hidden`] with a RoPE that depends on the length. When a row's frequencies change, its keys
    /// cannot be turned to the new ones: those of all layers but the first were made of what the layers
    /// before saw by the old frequencies. So the row is read again.
    fn extend_by_length(
        &self,
        env: &Env,
        cache: &mut KvCache,
        rows: &[usize],
        ids: &[u32],
    ) -> Result<Tensor> {
        let tokens = ids.len() / rows.len().max(1);
        let frequencies = |length| self.config.rope.inv_freq(self.config.head_dim, length);
        let (mut all, mut again) = (Vec::new(), Vec::new());
        for &row in rows {
            let before = cache.lengths[row];
            let now = frequencies(before + tokens)?;
            again.push(before > 0 && frequencies(before)? != now);
            all.push(now);
        }
        if !again.contains(&true) && all.windows(2).all(|pair| pair[0] == pair[1]) {
            let Some(one) = all.pop() else {
                return Ok(zeros(&[0, tokens, self.config.hidden_size], env)?);
            };
            let table = self.table_by_length(env, cache, one)?;
            let hidden = self.extend(env, cache, rows, ids, &table)?;
            for (&row, ids) in rows.iter().zip(ids.chunks_exact(tokens)) {
                cache.by_length.ids[row].extend(ids);
            }
            return Ok(hidden);
        }
        let mut parts = Vec::with_capacity(rows.len());
        let of_row = rows.iter().zip(ids.chunks_exact(tokens));
        for ((&row, ids), (frequencies, again)) in of_row.zip(all.into_iter().zip(again)) {
            let table = self.table_by_length(env, cache, frequencies)?;
            let mut read = std::mem::take(&mut cache.by_length.ids[row]);
            let before = read.len();
            read.extend(ids);
            parts.push(if again {
                cache.lengths[row] = 0;
                let hidden = self.extend(env, cache, &[row], &read, &table)?;
                hidden.narrow(1, before, tokens)?
            } else {
                self.extend(env, cache, &[row], ids, &table)?
            });
            cache.by_length.ids[row] = read;
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// The table of these frequencies over the cache's capacity.
    fn table_by_length(
        &self,
        env: &Env,
        cache: &mut KvCache,
        frequencies: Vec<f32>,
    ) -> Result<rope::Table> {
        if let Some((known, table)) = &cache.by_length.table
            && *known == frequencies
        {
            return Ok(table.clone());
        }
        let scale = self.config.rope.scale();
        let table = rope::Table::new(env, &frequencies, scale, cache.capacity)?;
        cache.by_length.table = Some((frequencies, table.clone()));
        Ok(table)
    }
}
