//! Hugging Face's `config.json` of a Llama-type decoder.
use super::{Error, Result, Rope};
use serde_json::{Map, Value, json};

/// The fields of `config.json` that determine the computation.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    /// The context that the checkpoint was trained for.
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<u32>,
    /// How many tokens a token sees, itself included; all where it is not given.
    pub sliding_window: Option<usize>,
    pub initializer_range: f64,
    pub rope: Rope,
}

impl ModelConfig {
    /// Reads `config.json`'s text.
    ///
    /// # Errors
    /// When a field is missing or of the wrong kind, when shapes do not fit each other, or when the
    /// architecture is not a plain Llama.
    pub fn parse(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).map_err(|e| Error::Config(e.to_string()))?;
        let config = Fields(&json);
        let architecture = json["model_type"].as_str().unwrap_or("llama");
        if architecture != "llama" {
            return Err(Error::Config(format!(
                "model_type {architecture:?} is not supported; llama is"
            )));
        }
        for key in ["attention_bias", "mlp_bias"] {
            if json[key].as_bool() == Some(true) {
                return Err(Error::Config(format!("{key} = true is not supported")));
            }
        }
        let hidden_size = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        let max_position_embeddings = config.size("max_position_embeddings")?;
        let parsed = ModelConfig {
            vocab_size: config.size("vocab_size")?,
            hidden_size,
            intermediate_size: config.size("intermediate_size")?,
            num_hidden_layers: config.size("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: config.size_or("num_key_value_heads", heads)?,
            head_dim: config.size_or("head_dim", hidden_size / heads.max(1))?,
            rms_norm_eps: config.number("rms_norm_eps")?,
            max_position_embeddings,
            tie_word_embeddings: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            bos_token_id: config.token("bos_token_id"),
            eos_token_id: config.token("eos_token_id"),
            sliding_window: json["sliding_window"].as_u64().map(|w| w as usize),
            initializer_range: json["initializer_range"].as_f64().unwrap_or(0.02),
            rope: Rope::from_config(&json, max_position_embeddings)?,
        };
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            return Err(Error::Config(format!("{key} must be at least 1")));
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(Error::Config(format!(
                "num_attention_heads = {} is not a multiple of num_key_value_heads = {}",
                self.num_attention_heads, self.num_key_value_heads
            )));
        }
        for (key, id) in [
            ("bos_token_id", self.bos_token_id),
            ("eos_token_id", self.eos_token_id),
        ] {
            if id.is_some_and(|id| id as usize >= self.vocab_size) {
                return Err(Error::Config(format!(
                    "{key} = {} is not in a vocabulary of {}",
                    id.unwrap_or_default(),
                    self.vocab_size
                )));
            }
        }
        if self.sliding_window == Some(0) {
            return Err(Error::Config("sliding_window must be at least 1".into()));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::Config(format!(
                "head_dim = {} is odd; RoPE turns pairs of dimensions",
                self.head_dim
            )));
        }
        Ok(())
    }

    /// `config.json` as transformers reads it.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "initializer_range": self.initializer_range,
            "torch_dtype": "float32",
        });
        if let (Some(window), Some(map)) = (self.sliding_window, json.as_object_mut()) {
            map.insert("sliding_window".into(), window.into());
        }
        if let Some(map) = json.as_object_mut() {
            self.rope.write_config(map);
        }
        json
    }

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
            let parts = [
                ("input_layernorm", vec![dim]),
                ("self_attn.q_proj", vec![q, dim]),
                ("self_attn.k_proj", vec![kv, dim]),
                ("self_attn.v_proj", vec![kv, dim]),
                ("self_attn.o_proj", vec![dim, q]),
                ("post_attention_layernorm", vec![dim]),
                ("mlp.gate_proj", vec![ff, dim]),
                ("mlp.up_proj", vec![ff, dim]),
                ("mlp.down_proj", vec![dim, ff]),
            ];
            all.extend(
                parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)),
            );
        }
        all.push(("model.norm.weight".into(), vec![dim]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".into(), vec![self.vocab_size, dim]));
        }
        all
    }

    /// Number of weights.
    pub fn num_parameters(&self) -> usize {
        let size = |(_, shape): (String, Vec<usize>)| shape.iter().product::<usize>();
        self.tensors().into_iter().map(size).sum()
    }

    /// Number of weights in matrix products for a token: all but norms and, where it is not the head,
    /// the embedding.
    pub fn num_product_weights(&self) -> usize {
        let head = self.vocab_size * self.hidden_size;
        let blocks: usize = self
            .tensors()
            .into_iter()
            .filter(|(name, _)| name.contains("_proj"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        blocks + head
    }

    /// FLOPs of training on one token of a sequence of `context` tokens, forward and backward:
    /// 6 × weights in products + 6 × layers × heads × head_dim × context for causal attention.
    pub fn train_flops_per_token(&self, context: usize) -> f64 {
        let seen = self.sliding_window.map_or(context, |w| w.min(context));
        let attention = self.num_hidden_layers * self.num_attention_heads * self.head_dim * seen;
        6.0 * (self.num_product_weights() + attention) as f64
    }
}

/// Access to fields with errors that name them.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn size(&self, key: &str) -> Result<usize> {
        match self.0[key].as_u64() {
            Some(n) => Ok(n as usize),
            None if self.0[key].is_null() => Err(Error::Config(format!("{key} is missing"))),
            None => Err(Error::Config(format!(
                "{key} = {} is not a size",
                self.0[key]
            ))),
        }
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.0[key].is_null() {
            Ok(default)
        } else {
            self.size(key)
        }
    }

    fn number(&self, key: &str) -> Result<f64> {
        self.0[key]
            .as_f64()
            .ok_or_else(|| Error::Config(format!("{key} is missing or no number")))
    }

    /// A token id, or the first of a list of them.
    fn token(&self, key: &str) -> Option<u32> {
        let value = &self.0[key];
        let id = value.as_u64().or_else(|| value[0].as_u64());
        id.map(|id| id as u32)
    }
}

/// What [`Rope`] reads and writes.
pub(in crate::model) type Json = Map<String, Value>;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
        "tie_word_embeddings": true, "eos_token_id": [3, 4], "rope_theta": 10000.0}"#;

    #[test]
    fn reads_what_it_writes() -> Result<()> {
        let config = ModelConfig::parse(TEXT)?;
        assert_eq!((config.head_dim, config.eos_token_id), (8, Some(3)));
        let again = ModelConfig::parse(&config.to_json().to_string())?;
        assert_eq!(config, again);
        Ok(())
    }

    #[test]
    fn counts_weights() -> Result<()> {
        let config = ModelConfig::parse(TEXT)?;
        let block = 32 + 32 * 32 + 2 * 16 * 32 + 32 * 32 + 32 + 3 * 64 * 32;
        assert_eq!(config.num_parameters(), 100 * 32 + 2 * block + 32);
        assert_eq!(
            config.num_product_weights(),
            config.num_parameters() - 5 * 32
        );
        Ok(())
    }

    #[test]
    fn a_bad_field_is_named() {
        for (from, to, word) in [
            ("\"vocab_size\": 100,", "", "vocab_size is missing"),
            ("\"llama\"", "\"mamba\"", "mamba"),
            (
                "\"num_key_value_heads\": 2",
                "\"num_key_value_heads\": 3",
                "multiple",
            ),
            ("512", "\"many\"", "max_position_embeddings"),
        ] {
            let error = ModelConfig::parse(&TEXT.replace(from, to))
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
