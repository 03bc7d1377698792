//! What a model is: the numbers that determine the computation, and the names of its weights.
mod family;
mod fields;
mod hf;

pub use family::{Family, LayerType};

use super::{Rope, rope::Scaling};
use serde_json::{Map, Value};

/// What determines the computation, under `config.json`'s names where it has them.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// As what `config.json` is read and written.
    pub family: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    /// q_proj, k_proj and v_proj have a bias.
    pub qkv_bias: bool,
    /// o_proj has one.
    pub o_bias: bool,
    /// gate_proj, up_proj and down_proj have one.
    pub mlp_bias: bool,
    /// Each head of q and k is normalised before it is turned.
    pub qk_norm: bool,
    pub rms_norm_eps: f64,
    /// The context that the checkpoint was trained for; with a dynamic RoPE the one from which it stretches.
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    /// What ends a text: the first is put behind documents, a generated text ends with any.
    pub eos_token_id: Vec<u32>,
    /// How many tokens a token sees in the layers that slide, itself included.
    pub sliding_window: Option<usize>,
    /// One a layer.
    pub layer_types: Vec<LayerType>,
    pub initializer_range: f64,
    pub rope: Rope,
}

impl ModelConfig {
    /// Names and shapes of all weights, in the order in which the model holds them.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (dim, ff) = (self.hidden_size, self.intermediate_size);
        let q = self.num_attention_heads * self.head_dim;
        let kv = self.num_key_value_heads * self.head_dim;
        let mut all = vec![(
            "model.embed_tokens.weight".to_string(),
            vec![self.vocab_size, dim],
        )];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: Vec<usize>| {
                all.push((format!("model.layers.{layer}.{name}"), shape));
            };
            add("input_layernorm.weight", vec![dim]);
            for (part, [rows, columns], bias) in [
                ("self_attn.q_proj", [q, dim], self.qkv_bias),
                ("self_attn.k_proj", [kv, dim], self.qkv_bias),
                ("self_attn.v_proj", [kv, dim], self.qkv_bias),
                ("self_attn.o_proj", [dim, q], self.o_bias),
            ] {
                add(&format!("{part}.weight"), vec![rows, columns]);
                if bias {
                    add(&format!("{part}.bias"), vec![rows]);
                }
            }
            if self.qk_norm {
                add("self_attn.q_norm.weight", vec![self.head_dim]);
                add("self_attn.k_norm.weight", vec![self.head_dim]);
            }
            add("post_attention_layernorm.weight", vec![dim]);
            for (part, [rows, columns]) in [
                ("mlp.gate_proj", [ff, dim]),
                ("mlp.up_proj", [ff, dim]),
                ("mlp.down_proj", [dim, ff]),
            ] {
                add(&format!("{part}.weight"), vec![rows, columns]);
                if self.mlp_bias {
                    add(&format!("{part}.bias"), vec![rows]);
                }
            }
        }
        all.push(("model.norm.weight".into(), vec![dim]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".into(), vec![self.vocab_size, dim]));
        }
        all
    }

    /// How many tokens a token sees in this layer, itself included; all where there is no window.
    pub fn window(&self, layer: usize) -> Option<usize> {
        match self.layer_types[layer] {
            LayerType::FullAttention => None,
            LayerType::SlidingAttention => self.sliding_window,
        }
    }

    /// Takes the RoPE of a model trained at `context` tokens.
    pub fn set_rope(&mut self, rope: Rope, context: usize) {
        self.max_position_embeddings = match rope.scaling {
            // transformers has no other name for the context from which a dynamic RoPE stretches.
            Scaling::Dynamic {
                original_context, ..
            } => original_context,
            _ => context,
        };
        self.rope = rope;
    }

    /// Number of weights.
    pub fn num_parameters(&self) -> usize {
        let size = |(_, shape): (String, Vec<usize>)| shape.iter().product::<usize>();
        self.tensors().into_iter().map(size).sum()
    }

    /// Number of weights in matrix products for a token: all but norms, biases and, where it is not the head,
    /// the embedding.
    pub fn num_product_weights(&self) -> usize {
        let head = self.vocab_size * self.hidden_size;
        let blocks: usize = self
            .tensors()
            .into_iter()
            .filter(|(name, _)| name.ends_with("_proj.weight"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        blocks + head
    }

    /// FLOPs of training on one token of a sequence of `context` tokens, forward and backward:
    /// 6 × weights in products + 6 × heads × head_dim × (what each layer sees of the context) for causal attention.
    pub fn train_flops_per_token(&self, context: usize) -> f64 {
        let seen = |layer| self.window(layer).map_or(context, |w| w.min(context));
        let seen: usize = (0..self.num_hidden_layers).map(seen).sum();
        let attention = self.num_attention_heads * self.head_dim * seen;
        6.0 * (self.num_product_weights() + attention) as f64
    }
}

/// What [`Rope`] reads and writes.
pub(in crate::model) type Json = Map<String, Value>;

#[cfg(test)]
mod tests;
