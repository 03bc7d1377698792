//! How `config.json` says a model. Where it says nothing, the defaults of transformers' classes count.
use super::{Family, LayerType, ModelConfig, fields::Fields};
use crate::model::{Error, Result, Rope};
use serde_json::{Value, json};

impl ModelConfig {
    /// Reads `config.json`'s text.
    ///
    /// # Errors
    /// When the architecture is not supported, a field is missing or of the wrong kind, or shapes do not
    /// fit each other.
    pub fn parse(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).map_err(|e| Error::Config(e.to_string()))?;
        let family = Family::of(&json)?;
        refuse_unsupported(&json)?;
        let fields = Fields(&json);
        let hidden_size = fields.size("hidden_size")?;
        let layers = fields.size("num_hidden_layers")?;
        let heads = fields.size("num_attention_heads")?;
        let max_position_embeddings = fields.size("max_position_embeddings")?;
        let head_dim = match family {
            Family::Qwen3 => fields.nullable_size("head_dim", 128)?,
            _ => fields.optional_size("head_dim")?,
        };
        let kv_heads = match family {
            Family::Llama => fields.optional_size("num_key_value_heads")?,
            Family::Mistral => fields.nullable_size("num_key_value_heads", 8)?,
            Family::Qwen2 | Family::Qwen3 => fields.nullable_size("num_key_value_heads", 32)?,
        };
        let attention_bias = fields.flag("attention_bias")?;
        let (qkv_bias, o_bias) = match family {
            Family::Llama | Family::Qwen3 => (attention_bias, attention_bias),
            Family::Mistral => (false, false),
            Family::Qwen2 => (true, false),
        };
        let sliding_window = match family {
            // transformers' Llama has no window, whatever its config.json says.
            Family::Llama => None,
            Family::Mistral => fields.nullable_size("sliding_window", 4096)?,
            Family::Qwen2 | Family::Qwen3 if fields.flag("use_sliding_window")? => {
                fields.nullable_size("sliding_window", 4096)?
            }
            Family::Qwen2 | Family::Qwen3 => None,
        };
        let parsed = ModelConfig {
            family,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads.unwrap_or(heads),
            head_dim: head_dim.unwrap_or(hidden_size / heads.max(1)),
            qkv_bias,
            o_bias,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias")?,
            qk_norm: family == Family::Qwen3,
            rms_norm_eps: fields.number("rms_norm_eps")?,
            max_position_embeddings,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?,
            bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
            eos_token_id: fields.tokens("eos_token_id")?,
            sliding_window,
            layer_types: layer_types(&json, family, sliding_window, layers)?,
            initializer_range: json["initializer_range"].as_f64().unwrap_or(0.02),
            rope: Rope::from_config(&json, max_position_embeddings)?,
        };
        parsed.check()?;
        Ok(parsed)
    }

    /// `eos_token_id` as configurations have it: nothing, an id, or a list.
    pub fn eos_json(&self) -> Value {
        match self.eos_token_id[..] {
            [] => Value::Null,
            [id] => id.into(),
            ref ids => ids.into(),
        }
    }

    /// `config.json` as transformers reads it.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
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
            "eos_token_id": self.eos_json(),
            "initializer_range": self.initializer_range,
            "torch_dtype": "float32",
        });
        if self.o_bias {
            json["attention_bias"] = true.into();
        }
        if self.mlp_bias {
            json["mlp_bias"] = true.into();
        }
        match self.family {
            Family::Llama => {}
            // Said even where there is none: a missing window is one of 4096.
            Family::Mistral => json["sliding_window"] = self.sliding_window.into(),
            Family::Qwen2 | Family::Qwen3 => {
                let slides = |t: &LayerType| *t == LayerType::SlidingAttention;
                let first = self.layer_types.iter().position(slides);
                let names: Vec<_> = self.layer_types.iter().map(|t| t.name()).collect();
                json["use_sliding_window"] = self.sliding_window.is_some().into();
                json["sliding_window"] = self.sliding_window.into();
                json["layer_types"] = names.into();
                // Read by transformers from before layer_types.
                json["max_window_layers"] = first.unwrap_or(self.num_hidden_layers).into();
            }
        }
        if let Some(map) = json.as_object_mut() {
            self.rope.write_config(map);
        }
        json
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
            ("sliding_window", self.sliding_window.unwrap_or(1)),
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
        if self.layer_types.len() != self.num_hidden_layers {
            return Err(Error::Config(format!(
                "layer_types has {} entries for num_hidden_layers = {}",
                self.layer_types.len(),
                self.num_hidden_layers
            )));
        }
        let bos = self.bos_token_id.iter().map(|id| ("bos_token_id", id));
        let eos = self.eos_token_id.iter().map(|id| ("eos_token_id", id));
        for (key, &id) in bos.chain(eos) {
            if id as usize >= self.vocab_size {
                return Err(Error::Config(format!(
                    "{key} = {id} is not in a vocabulary of {}",
                    self.vocab_size
                )));
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::Config(format!(
                "head_dim = {} is odd; RoPE turns pairs of dimensions",
                self.head_dim
            )));
        }
        // Longrope's factors are counted, those for short texts and those for long ones.
        for length in [1, u32::MAX as usize] {
            self.rope.inv_freq(self.head_dim, length)?;
        }
        Ok(())
    }
}

/// What the families' `config.json` can ask for and the decoder does not compute.
fn refuse_unsupported(json: &Value) -> Result<()> {
    if let Some(act) = json["hidden_act"].as_str().filter(|&act| act != "silu") {
        return Err(Error::Config(format!(
            "hidden_act = {act:?} is not supported; silu is"
        )));
    }
    if !json["quantization_config"].is_null() {
        return Err(Error::Config(
            "quantization_config: quantised weights are not supported; take the checkpoint that they \
             were made from"
                .into(),
        ));
    }
    Ok(())
}

/// The layers that slide: as `layer_types` says, or all from `max_window_layers` on.
fn layer_types(
    json: &Value,
    family: Family,
    window: Option<usize>,
    layers: usize,
) -> Result<Vec<LayerType>> {
    let first_sliding = match (family, window) {
        (_, None) | (Family::Llama, _) => layers,
        (Family::Mistral, Some(_)) => 0,
        (Family::Qwen2 | Family::Qwen3, Some(_)) => {
            if let Some(said) = json["layer_types"].as_array() {
                return said.iter().map(LayerType::parse).collect();
            }
            Fields(json)
                .optional_size("max_window_layers")?
                .unwrap_or(28)
        }
    };
    let of_layer = |layer| match layer < first_sliding {
        true => LayerType::FullAttention,
        false => LayerType::SlidingAttention,
    };
    Ok((0..layers).map(of_layer).collect())
}
