//! How `config.json` says a RoPE method.
use super::{Parts, Rope, RopeSpec, Scaling};
use crate::model::{Error, Result, config::Json};
use serde_json::{Value, json};

/// The `rope_type`s of transformers that are here, each computed as there.
const NAMES: [&str; 6] = ["default", "linear", "dynamic", "yarn", "llama3", "longrope"];

impl Rope {
    /// Reads `rope_parameters`, or `rope_theta` with `rope_scaling`, of a `config.json`.
    pub(in crate::model) fn from_config(
        json: &Value,
        max_position_embeddings: usize,
    ) -> Result<Self> {
        // As transformers: rope_scaling counts where both are there, and what the top level says of the
        // original context counts before what they say of it.
        let scaling = json["rope_scaling"].as_object().filter(|s| !s.is_empty());
        let said = match scaling {
            Some(_) => &json["rope_scaling"],
            None => &json["rope_parameters"],
        };
        if let Some(key) = ["full_attention", "sliding_attention"]
            .into_iter()
            .find(|key| said[key].is_object())
        {
            return Err(Error::Config(format!(
                "rope_parameters.{key}: a RoPE of its own for some layers is not supported"
            )));
        }
        for value in [
            &said["partial_rotary_factor"],
            &json["partial_rotary_factor"],
        ] {
            if value.as_f64().is_some_and(|part| part != 1.0) {
                return Err(Error::Config(format!(
                    "partial_rotary_factor = {value} is not supported; 1 is"
                )));
            }
        }
        let theta = said["rope_theta"].as_f64().or(json["rope_theta"].as_f64());
        let number = |key: &str| said[key].as_f64();
        // What transformers takes by `or`: its default counts for 0 too.
        let nonzero = |key: &str| number(key).filter(|&x| x != 0.0);
        let list = |key: &str| -> Option<Vec<f64>> {
            said[key]
                .as_array()
                .map(|l| l.iter().filter_map(Value::as_f64).collect())
        };
        let kind = said["rope_type"].as_str().or(said["type"].as_str());
        let kind = kind.unwrap_or("default");
        if !NAMES.contains(&kind) {
            return Err(Error::Config(format!(
                "rope_type = {kind:?} is not supported; {} are",
                NAMES.join(", ")
            )));
        }
        let original = json["original_max_position_embeddings"]
            .as_u64()
            .or(said["original_max_position_embeddings"].as_u64())
            // A dynamic RoPE stretches from max_position_embeddings, whatever else is said.
            .filter(|_| kind != "dynamic")
            .map_or(max_position_embeddings, |n| n as usize);
        let stretch = max_position_embeddings as f64 / original as f64;
        let spec = RopeSpec {
            base: theta,
            scaling: (kind != "default").then(|| kind.to_string()),
            factor: number("factor").or_else(|| {
                let inferred = ["yarn", "longrope"].contains(&kind);
                inferred.then(|| stretch.max(1.0))
            }),
            original_context: Some(original),
            beta_fast: nonzero("beta_fast"),
            beta_slow: nonzero("beta_slow"),
            truncate: said["truncate"].as_bool(),
            mscale: number("mscale"),
            mscale_all_dim: number("mscale_all_dim"),
            attention_factor: number("attention_factor"),
            low_freq_factor: number("low_freq_factor"),
            high_freq_factor: number("high_freq_factor"),
            short_factor: list("short_factor"),
            long_factor: list("long_factor"),
        };
        spec.resolve(10_000.0)
    }

    /// Writes the method where current (`rope_parameters`) and older (`rope_theta`, `rope_scaling`)
    /// transformers look for it. What transformers has no name for is written as what it is: NTK-aware
    /// as plain with its base, by-parts as yarn with `attention_factor = 1`.
    pub(in crate::model) fn write_config(&self, config: &mut Json) {
        let mut theta = self.rope_theta;
        let head_dim = config["head_dim"].as_f64().unwrap_or(2.0);
        let parts_json = |parts: &Parts, attention_factor: f64| {
            json!({"rope_type": "yarn", "factor": parts.factor,
                "original_max_position_embeddings": parts.original_context,
                "beta_fast": parts.beta_fast, "beta_slow": parts.beta_slow,
                "truncate": parts.truncate, "attention_factor": attention_factor})
        };
        let mut said = match &self.scaling {
            Scaling::Plain => json!({"rope_type": "default"}),
            Scaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            Scaling::Ntk { factor } => {
                theta *= factor.powf(head_dim / (head_dim - 2.0));
                json!({"rope_type": "default"})
            }
            // It stretches from max_position_embeddings, which says its original context.
            Scaling::Dynamic { factor, .. } => json!({"rope_type": "dynamic", "factor": factor}),
            Scaling::ByParts(parts) => parts_json(parts, 1.0),
            Scaling::Yarn {
                parts,
                attention_factor,
            } => parts_json(parts, *attention_factor),
            Scaling::Llama3 {
                factor,
                original_context,
                low_freq_factor,
                high_freq_factor,
            } => json!({"rope_type": "llama3", "factor": factor,
                "original_max_position_embeddings": original_context,
                "low_freq_factor": low_freq_factor, "high_freq_factor": high_freq_factor}),
            Scaling::Longrope {
                original_context,
                short_factor,
                long_factor,
                attention_factor,
            } => json!({"rope_type": "longrope", "short_factor": short_factor,
                "long_factor": long_factor, "attention_factor": attention_factor,
                "original_max_position_embeddings": original_context}),
        };
        config.insert("rope_theta".into(), theta.into());
        if said["rope_type"] != "default" {
            config.insert("rope_scaling".into(), said.clone());
        }
        said["rope_theta"] = theta.into();
        config.insert("rope_parameters".into(), said);
    }
}
