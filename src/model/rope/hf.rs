//! How `config.json` says a RoPE method.
use super::{Parts, Rope, RopeSpec, Scaling};
use crate::model::{Result, config::Json};
use serde_json::{Value, json};

impl Rope {
    /// Reads `rope_parameters`, or `rope_theta` with `rope_scaling`, of a `config.json`.
    pub(in crate::model) fn from_config(
        json: &Value,
        max_position_embeddings: usize,
    ) -> Result<Self> {
        let said = if json["rope_parameters"].is_object() {
            &json["rope_parameters"]
        } else {
            &json["rope_scaling"]
        };
        let theta = said["rope_theta"].as_f64().or(json["rope_theta"].as_f64());
        let number = |key: &str| said[key].as_f64();
        let list = |key: &str| -> Option<Vec<f64>> {
            said[key]
                .as_array()
                .map(|l| l.iter().filter_map(Value::as_f64).collect())
        };
        let kind = said["rope_type"].as_str().or(said["type"].as_str());
        let original = said["original_max_position_embeddings"]
            .as_u64()
            .or(json["original_max_position_embeddings"].as_u64());
        let original = original.map_or(max_position_embeddings, |n| n as usize);
        let spec = RopeSpec {
            base: theta,
            scaling: kind.filter(|&k| k != "default").map(str::to_string),
            factor: number("factor").or_else(|| {
                let stretch = max_position_embeddings as f64 / original as f64;
                (kind == Some("longrope")).then(|| stretch.max(1.0))
            }),
            original_context: Some(original),
            beta_fast: number("beta_fast"),
            beta_slow: number("beta_slow"),
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
            Scaling::Dynamic {
                factor,
                original_context,
            } => json!({"rope_type": "dynamic", "factor": factor,
                "original_max_position_embeddings": original_context}),
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
