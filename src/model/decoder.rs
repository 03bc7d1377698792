//! The decoder: embedding, blocks, final norm and head, and the walk through them that trains.
use super::{
    Batch, Error, ModelConfig, Param, Result,
    block::{Block, Pass},
};
use crate::ops::{Env, attention, cross_entropy, embedding, rms_norm, rope};
use crate::parallel::Ranks;
use candle_core::Tensor;
use std::collections::HashMap;

/// A Llama-type decoder.
#[derive(Debug)]
pub struct Decoder {
    pub config: ModelConfig,
    pub embed_tokens: Param,
    pub blocks: Vec<Block>,
    pub norm: Param,
    /// `None` where the embedding is the head.
    pub lm_head: Option<Param>,
}

/// How a training pass is done.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The loss is a weighted sum divided by this: the weights' sum over the global batch.
    pub normaliser: f64,
    /// Keep a block's input alone and run its forward again in the backward.
    pub recompute: bool,
}

impl Decoder {
    /// A decoder from tensors under Hugging Face's names, which are taken out of the map.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape, or a layer has one more.
    pub fn from_tensors(
        config: &ModelConfig,
        mut tensors: HashMap<String, Tensor>,
    ) -> Result<Self> {
        let mut params = Vec::new();
        for (name, shape) in config.tensors() {
            let Some(value) = tensors.remove(&name) else {
                return Err(Error::Tensor {
                    what: format!("is missing; config.json asks for it with shape {shape:?}"),
                    name,
                });
            };
            if value.dims() != shape {
                return Err(Error::Tensor {
                    what: format!(
                        "has shape {:?}, config.json asks for {shape:?}",
                        value.dims()
                    ),
                    name,
                });
            }
            let value = value.to_dtype(candle_core::DType::F32)?.contiguous()?;
            params.push(Param::frozen(&name, value));
        }
        // Left out, it would change the computation without a word. Old files of Llama hold the frequencies.
        let lost = tensors.into_keys().filter(|name| {
            name.starts_with("model.layers.") && !name.ends_with("rotary_emb.inv_freq")
        });
        if let Some(name) = lost.min() {
            return Err(Error::Tensor {
                name,
                what: "is in the checkpoint, but config.json has no place for it; is it another model's?"
                    .into(),
            });
        }
        Self::assemble(config, params)
    }

    /// `params` in the order of [`ModelConfig::tensors`].
    pub(super) fn assemble(config: &ModelConfig, params: Vec<Param>) -> Result<Self> {
        let params = &mut params.into_iter();
        let embed_tokens = next(params)?;
        let mut blocks = Vec::new();
        for _ in 0..config.num_hidden_layers {
            blocks.push(Block {
                input_layernorm: next(params)?,
                q_proj: next(params)?,
                q_bias: next_if(params, config.qkv_bias)?,
                k_proj: next(params)?,
                k_bias: next_if(params, config.qkv_bias)?,
                v_proj: next(params)?,
                v_bias: next_if(params, config.qkv_bias)?,
                o_proj: next(params)?,
                o_bias: next_if(params, config.o_bias)?,
                q_norm: next_if(params, config.qk_norm)?,
                k_norm: next_if(params, config.qk_norm)?,
                post_attention_layernorm: next(params)?,
                gate_proj: next(params)?,
                gate_bias: next_if(params, config.mlp_bias)?,
                up_proj: next(params)?,
                up_bias: next_if(params, config.mlp_bias)?,
                down_proj: next(params)?,
                down_bias: next_if(params, config.mlp_bias)?,
            });
        }
        Ok(Decoder {
            config: config.clone(),
            embed_tokens,
            blocks,
            norm: next(params)?,
            lm_head: next_if(params, !config.tie_word_embeddings)?,
        })
    }

    /// All weights, in the order of [`ModelConfig::tensors`].
    pub fn params(&self) -> Vec<&Param> {
        let mut all = vec![&self.embed_tokens];
        all.extend(self.blocks.iter().flat_map(Block::params));
        all.push(&self.norm);
        all.extend(&self.lm_head);
        all
    }

    /// Gives every weight a gradient: all train.
    pub fn train(&mut self, env: &Env) -> Result<()> {
        let blocks = self.blocks.iter_mut().flat_map(Block::params_mut);
        let ends = [&mut self.embed_tokens, &mut self.norm];
        for param in blocks.chain(ends).chain(&mut self.lm_head) {
            param.train(env)?;
        }
        Ok(())
    }

    /// The head's weight, `[vocab, dim]`.
    pub fn head(&self) -> &Param {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// The RoPE table for sequences of `length` tokens.
    pub fn rope_table(&self, env: &Env, length: usize) -> Result<rope::Table> {
        let rope = &self.config.rope;
        let inv_freq = rope.inv_freq(self.config.head_dim, length)?;
        Ok(rope::Table::new(env, &inv_freq, rope.scale(), length)?)
    }

    /// The logits' scale.
    pub fn attention_scale(&self) -> f32 {
        1.0 / (self.config.head_dim as f32).sqrt()
    }

    /// One pass forward and backward over this rank's rows: adds to the gradients and returns this
    /// rank's share of the loss (nats; shares add up over ranks and micro-batches).
    ///
    /// `batch` holds whole sequences; with context ranks, this rank works on its part of their tokens.
    /// `table` must reach over the positions.
    pub fn forward_backward(
        &self,
        env: &Env,
        batch: &Batch,
        table: &rope::Table,
        walk: Walk,
        ranks: &Ranks,
    ) -> Result<f64> {
        if !batch.tokens.is_multiple_of(ranks.context.size()) {
            return Err(Error::Config(format!(
                "{} tokens cannot be shared by {} context ranks",
                batch.tokens,
                ranks.context.size()
            )));
        }
        let part = batch.context_part(ranks.context.rank(), ranks.context.size());
        let offsets = vec![part.offset; part.rows.batch];
        let rows = &part.rows;
        let pass = |layer| Pass {
            env,
            config: &self.config,
            table,
            positions: &rows.positions,
            attention: attention::Spec {
                scale: self.attention_scale(),
                offsets: &offsets,
                window: self.config.window(layer),
                doc_starts: Some(&rows.doc_starts),
            },
            context: &ranks.context,
        };
        let mut x = embedding::forward(env, &self.embed_tokens.value, &rows.ids, rows.batch)?;
        let mut kept = Vec::with_capacity(self.blocks.len());
        for (layer, block) in self.blocks.iter().enumerate() {
            let (y, saved) = block.forward(&pass(layer), &x)?;
            kept.push((x, (!walk.recompute).then_some(saved)));
            x = y;
        }
        let eps = self.config.rms_norm_eps;
        let h = rms_norm::forward(env, &x, &self.norm.value, eps)?;
        let targets = cross_entropy::Targets {
            ids: &rows.targets,
            weights: &rows.weights,
            normaliser: walk.normaliser,
        };
        let head = self.head();
        let (loss, dh) =
            cross_entropy::forward_backward(env, &h, &head.value, targets, head.grad.as_ref())?;
        drop(h);
        let norm_grad = self.norm.grad.as_ref();
        let mut dx = rms_norm::backward(env, &dh, &x, &self.norm.value, eps, norm_grad)?;
        drop((x, dh));
        for (layer, block) in self.blocks.iter().enumerate().rev() {
            let Some((x, saved)) = kept.pop() else { break };
            let saved = match saved {
                Some(saved) => saved,
                None => block.forward(&pass(layer), &x)?.1,
            };
            drop(x);
            dx = block.backward(&pass(layer), saved, &dx)?;
        }
        if let Some(grad) = &self.embed_tokens.grad {
            embedding::backward(&dx, &rows.ids, grad)?;
        }
        Ok(loss)
    }
}

/// The next of the weights that a decoder is made of.
fn next(params: &mut impl Iterator<Item = Param>) -> Result<Param> {
    params.next().ok_or_else(|| Error::Tensor {
        name: "decoder".into(),
        what: "has fewer tensors than its configuration".into(),
    })
}

/// The same, where the model has one at this place.
fn next_if(params: &mut impl Iterator<Item = Param>, there: bool) -> Result<Option<Param>> {
    there.then(|| next(params)).transpose()
}
