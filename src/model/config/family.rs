//! The families that the decoder computes, as `config.json` names them.
use crate::model::{Error, Result};
use serde_json::Value;

/// Who says how `config.json` is read. What the families differ in stands in
/// [`ModelConfig`](super::ModelConfig)'s fields: the computation asks for those, not for the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 1 to 3, Code Llama, TinyLlama, SmolLM2, and what else was published as Llama.
    Llama,
    /// Mistral: a sliding window in all layers.
    Mistral,
    /// Qwen2 and Qwen2.5: biases of q, k and v; a sliding window in some layers.
    Qwen2,
    /// Qwen3: each head of q and k is normalised; a sliding window in some layers.
    Qwen3,
}

impl Family {
    const ALL: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3];

    /// `config.json`'s `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The class of transformers, as `config.json`'s `architectures` names it.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// The family that `model_type` and `architectures` name; Llama where both are missing.
    ///
    /// # Errors
    /// When one of them is not supported, or they name different families.
    pub(super) fn of(json: &Value) -> Result<Self> {
        let model_type = json["model_type"].as_str();
        let architecture = json["architectures"][0].as_str();
        let fits = |family: &Family| {
            model_type.is_none_or(|said| said == family.model_type())
                // The first conversions of Llama say LLaMAForCausalLM.
                && architecture.is_none_or(|said| said.eq_ignore_ascii_case(family.architecture()))
        };
        Self::ALL.into_iter().find(fits).ok_or_else(|| {
            let known = Self::ALL.map(|f| format!("{} ({})", f.architecture(), f.model_type()));
            Error::Config(format!(
                "architecture {} (model_type {}) is not supported; supported are {}",
                architecture.unwrap_or("not given"),
                model_type.unwrap_or("not given"),
                known.join(", ")
            ))
        })
    }
}

/// What the attention of a layer sees, under transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerType {
    FullAttention,
    SlidingAttention,
}

impl LayerType {
    /// The word in `config.json`'s `layer_types`.
    pub(super) fn name(self) -> &'static str {
        match self {
            LayerType::FullAttention => "full_attention",
            LayerType::SlidingAttention => "sliding_attention",
        }
    }

    pub(super) fn parse(word: &Value) -> Result<Self> {
        [LayerType::FullAttention, LayerType::SlidingAttention]
            .into_iter()
            .find(|known| word.as_str() == Some(known.name()))
            .ok_or_else(|| {
                Error::Config(format!(
                    "layer_types has {word}; full_attention and sliding_attention are supported"
                ))
            })
    }
}
