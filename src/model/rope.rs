//! Every RoPE method behind one type: frequencies, scale, identity, and the forms in which a study and
//! `config.json` say it.
//!
//! Where paper and the implementation that everyone runs differ, `modeling_rope_utils` of transformers
//! is meant.
use super::{Error, Result, config::Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::f64::consts::PI;

/// What a study says of RoPE: base and scaling are independent of each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeSpec {
    /// The RoPE base; the checkpoint's where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<f64>,
    /// linear, ntk, dynamic, by_parts, yarn, llama3 or longrope; plain where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<String>,
    /// By how much the context is stretched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The context before stretching, in tokens: said, never inferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_context: Option<usize>,
    /// by_parts and yarn: rotations within the original context above which a frequency is kept (32).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_fast: Option<f64>,
    /// by_parts and yarn: rotations below which a frequency is divided by the factor (1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_slow: Option<f64>,
    /// by_parts and yarn: round the ramp's bounds to whole dimensions (true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// yarn: coefficients of the temperature of DeepSeek's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// yarn and longrope: the scale of q and k itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// llama3: wavelengths longer than original_context / this are divided by the factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    /// llama3: wavelengths shorter than original_context / this are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    /// longrope: a factor a frequency, up to the original context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_factor: Option<Vec<f64>>,
    /// longrope: a factor a frequency, beyond it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_factor: Option<Vec<f64>>,
}

/// A RoPE method with all its parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// The base b: frequency i is b^(−2i / head_dim).
    pub rope_theta: f64,
    pub scaling: Scaling,
}

/// How the frequencies are changed for a longer context.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Scaling {
    /// RoFormer, arXiv 2104.09864.
    Plain,
    /// Position interpolation, arXiv 2306.15595.
    Linear { factor: f64 },
    /// The base times factor^(D/(D−2)): YaRN §3.1, arXiv 2309.00071.
    Ntk { factor: f64 },
    /// NTK-aware with a factor that grows with the sequence: YaRN §3.3.
    Dynamic {
        factor: f64,
        original_context: usize,
    },
    /// NTK-by-parts, YaRN §3.2.
    ByParts(Parts),
    /// NTK-by-parts with the logits' temperature, YaRN §3.4.
    Yarn { parts: Parts, attention_factor: f64 },
    /// Llama 3.1's configuration.
    Llama3 {
        factor: f64,
        original_context: usize,
        low_freq_factor: f64,
        high_freq_factor: f64,
    },
    /// LongRoPE, arXiv 2402.13753, as Phi-3 configures it.
    Longrope {
        original_context: usize,
        short_factor: Vec<f64>,
        long_factor: Vec<f64>,
        attention_factor: f64,
    },
}

/// The ramp between kept and interpolated frequencies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parts {
    pub factor: f64,
    pub original_context: usize,
    pub beta_fast: f64,
    pub beta_slow: f64,
    pub truncate: bool,
}

impl RopeSpec {
    /// The method that this says, for a checkpoint whose base is `rope_theta`.
    ///
    /// # Errors
    /// When the method is unknown, or a parameter of it is missing or impossible.
    pub fn resolve(&self, rope_theta: f64) -> Result<Rope> {
        let rope_theta = self.base.unwrap_or(rope_theta);
        if !(rope_theta.is_finite() && rope_theta > 1.0) {
            return Err(Error::Rope(format!("base = {rope_theta} must be above 1")));
        }
        let method = self.scaling.as_deref().unwrap_or("plain");
        let factor = || self.need("factor", self.factor, method);
        let original_context = || self.need("original_context", self.original_context, method);
        let scaling = match method {
            "plain" => Scaling::Plain,
            "linear" => Scaling::Linear { factor: factor()? },
            "ntk" => Scaling::Ntk { factor: factor()? },
            "dynamic" => Scaling::Dynamic {
                factor: factor()?,
                original_context: original_context()?,
            },
            "by_parts" => Scaling::ByParts(self.parts(method)?),
            "yarn" => {
                let parts = self.parts(method)?;
                let attention_factor = self.attention_factor.unwrap_or_else(|| {
                    match (self.mscale, self.mscale_all_dim) {
                        (Some(a), Some(b)) if a != 0.0 && b != 0.0 => {
                            temperature(parts.factor, a) / temperature(parts.factor, b)
                        }
                        _ => temperature(parts.factor, 1.0),
                    }
                });
                Scaling::Yarn {
                    parts,
                    attention_factor,
                }
            }
            "llama3" => Scaling::Llama3 {
                factor: factor()?,
                original_context: original_context()?,
                low_freq_factor: self.need("low_freq_factor", self.low_freq_factor, method)?,
                high_freq_factor: self.need("high_freq_factor", self.high_freq_factor, method)?,
            },
            "longrope" => {
                let original = original_context()?;
                let stretch = self.factor.unwrap_or(1.0);
                let scale = if stretch <= 1.0 {
                    1.0
                } else {
                    (1.0 + stretch.ln() / (original as f64).ln()).sqrt()
                };
                Scaling::Longrope {
                    original_context: original,
                    short_factor: self.need("short_factor", self.short_factor.clone(), method)?,
                    long_factor: self.need("long_factor", self.long_factor.clone(), method)?,
                    attention_factor: self.attention_factor.unwrap_or(scale),
                }
            }
            other => {
                return Err(Error::Rope(format!(
                    "scaling = {other:?} is unknown; plain, linear, ntk, dynamic, by_parts, yarn, \
                     llama3 and longrope are known"
                )));
            }
        };
        if self.factor.is_some_and(|f| !(f.is_finite() && f >= 1.0)) {
            return Err(Error::Rope(format!(
                "factor = {:?} must be at least 1",
                self.factor.unwrap_or_default()
            )));
        }
        if let ("plain", Some(_)) = (method, self.factor) {
            return Err(Error::Rope(
                "factor is given without a scaling; name one, such as scaling = \"yarn\"".into(),
            ));
        }
        Ok(Rope {
            rope_theta,
            scaling,
        })
    }

    fn need<T>(&self, name: &str, value: Option<T>, method: &str) -> Result<T> {
        value.ok_or_else(|| {
            Error::Rope(format!(
                "scaling = {method:?} needs `{name}`, which is missing"
            ))
        })
    }

    fn parts(&self, method: &str) -> Result<Parts> {
        Ok(Parts {
            factor: self.need("factor", self.factor, method)?,
            original_context: self.need("original_context", self.original_context, method)?,
            beta_fast: self.beta_fast.unwrap_or(32.0),
            beta_slow: self.beta_slow.unwrap_or(1.0),
            truncate: self.truncate.unwrap_or(true),
        })
    }
}

/// The scale of q and k in YaRN: 0.1 · mscale · ln(factor) + 1.
fn temperature(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * mscale * factor.ln() + 1.0
    }
}

impl Rope {
    /// Plain RoPE of this base.
    pub fn plain(rope_theta: f64) -> Self {
        Rope {
            rope_theta,
            scaling: Scaling::Plain,
        }
    }

    /// Whether the frequencies change with the length of the sequence; keys then have to be cached
    /// before they are turned.
    pub fn depends_on_length(&self) -> bool {
        matches!(
            self.scaling,
            Scaling::Dynamic { .. } | Scaling::Longrope { .. }
        )
    }

    /// The `head_dim / 2` inverse frequencies for a sequence of `length` tokens.
    ///
    /// # Errors
    /// When longrope has another number of factors.
    pub fn inv_freq(&self, head_dim: usize, length: usize) -> Result<Vec<f32>> {
        let dims = head_dim as f64;
        let plain = |base: f64| -> Vec<f64> {
            (0..head_dim / 2)
                .map(|i| base.powf(-2.0 * i as f64 / dims))
                .collect()
        };
        let base = self.rope_theta;
        let stretched = |s: f64| base * s.powf(dims / (dims - 2.0));
        let frequencies = match &self.scaling {
            Scaling::Plain => plain(base),
            Scaling::Linear { factor } => plain(base).iter().map(|w| w / factor).collect(),
            Scaling::Ntk { factor } => plain(stretched(*factor)),
            Scaling::Dynamic {
                factor,
                original_context,
            } => {
                let length = length.max(*original_context) as f64;
                plain(stretched(
                    factor * length / *original_context as f64 - (factor - 1.0),
                ))
            }
            Scaling::ByParts(parts) | Scaling::Yarn { parts, .. } => {
                parts.blend(&plain(base), base)
            }
            Scaling::Llama3 {
                factor,
                original_context,
                low_freq_factor,
                high_freq_factor,
            } => plain(base)
                .iter()
                .map(|w| {
                    let turns = *original_context as f64 * w / (2.0 * PI);
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let smooth = smooth.clamp(0.0, 1.0);
                    (1.0 - smooth) * w / factor + smooth * w
                })
                .collect(),
            Scaling::Longrope {
                original_context,
                short_factor,
                long_factor,
                ..
            } => {
                let factors = if length > *original_context {
                    long_factor
                } else {
                    short_factor
                };
                if factors.len() != head_dim / 2 {
                    return Err(Error::Rope(format!(
                        "longrope has {} factors for {} frequencies",
                        factors.len(),
                        head_dim / 2
                    )));
                }
                plain(base)
                    .iter()
                    .zip(factors)
                    .map(|(w, f)| w / f)
                    .collect()
            }
        };
        Ok(frequencies.into_iter().map(|w| w as f32).collect())
    }

    /// The factor of cosines and sines, hence of q and k.
    pub fn scale(&self) -> f32 {
        match &self.scaling {
            Scaling::Yarn {
                attention_factor, ..
            }
            | Scaling::Longrope {
                attention_factor, ..
            } => *attention_factor as f32,
            _ => 1.0,
        }
    }

    /// Identity of the method for a model of this head dimension trained at `context`: the hash of its
    /// parameters and of its frequencies and scale at the original, the trained and four times the
    /// trained context.
    pub fn identity(&self, head_dim: usize, original: usize, context: usize) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        hash.update(json!(self).to_string().as_bytes());
        for length in [original, context, 4 * context] {
            for w in self.inv_freq(head_dim, length)? {
                hash.update(&w.to_le_bytes());
            }
        }
        hash.update(&self.scale().to_le_bytes());
        Ok(hash.finalize().to_hex()[..16].to_string())
    }

    /// Reads `rope_parameters`, or `rope_theta` with `rope_scaling`, of a `config.json`.
    pub(super) fn from_config(json: &Value, max_position_embeddings: usize) -> Result<Self> {
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
                (kind == Some("longrope")).then(|| max_position_embeddings as f64 / original as f64)
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
    pub(super) fn write_config(&self, config: &mut Json) {
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

impl Parts {
    /// Frequencies between `w / factor` and `w`, by a ramp over the dimension's index.
    fn blend(&self, plain: &[f64], base: f64) -> Vec<f64> {
        let dims = 2.0 * plain.len() as f64;
        let bound = |rotations: f64| {
            dims * (self.original_context as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln())
        };
        let (mut low, mut high) = (bound(self.beta_fast), bound(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        plain
            .iter()
            .enumerate()
            .map(|(i, w)| {
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                w / self.factor * ramp + w * (1.0 - ramp)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(toml: &str) -> RopeSpec {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn methods_at_their_ends() -> Result<()> {
        let plain = Rope::plain(10_000.0).inv_freq(64, 512)?;
        let linear = spec("scaling = 'linear'\nfactor = 4")
            .resolve(1e4)?
            .inv_freq(64, 512)?;
        assert!((linear[5] * 4.0 - plain[5]).abs() < 1e-7);
        // NTK-aware keeps the fastest and stretches the slowest frequency by the whole factor.
        let ntk = spec("scaling = 'ntk'\nfactor = 4")
            .resolve(1e4)?
            .inv_freq(64, 512)?;
        assert_eq!(ntk[0], plain[0]);
        assert!((ntk[31] * 4.0 / plain[31] - 1.0).abs() < 1e-5);
        let yarn = spec("scaling = 'yarn'\nfactor = 4\noriginal_context = 512").resolve(1e4)?;
        let w = yarn.inv_freq(64, 2048)?;
        assert_eq!(w[0], plain[0]);
        assert!((w[31] * 4.0 / plain[31] - 1.0).abs() < 1e-6);
        assert!((yarn.scale() - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);
        let dynamic =
            spec("scaling = 'dynamic'\nfactor = 2\noriginal_context = 512").resolve(1e4)?;
        assert_eq!(dynamic.inv_freq(64, 100)?, plain);
        assert_ne!(dynamic.inv_freq(64, 1024)?, plain);
        Ok(())
    }

    #[test]
    fn a_missing_parameter_is_named() {
        for (toml, word) in [
            ("scaling = 'yarn'\nfactor = 4", "original_context"),
            ("scaling = 'linear'", "factor"),
            (
                "scaling = 'llama3'\nfactor = 8\noriginal_context = 9",
                "low_freq_factor",
            ),
            ("scaling = 'yarm'", "yarn"),
            ("factor = 4", "scaling"),
            ("base = -1.0", "base"),
        ] {
            let error = spec(toml).resolve(1e4).unwrap_err().to_string();
            assert!(error.contains(word), "{toml}: {error}");
        }
    }

    #[test]
    fn identity_differs_where_angles_do() -> Result<()> {
        let id = |toml: &str| {
            spec(toml)
                .resolve(1e4)
                .and_then(|r| r.identity(64, 512, 2048))
        };
        let plain = id("")?;
        assert_eq!(plain, id("base = 10000.0")?);
        for other in [
            "base = 1e6",
            "scaling = 'ntk'\nfactor = 4",
            "scaling = 'linear'\nfactor = 4",
        ] {
            assert_ne!(plain, id(other)?);
        }
        Ok(())
    }

    #[test]
    fn config_json_carries_every_method() -> Result<()> {
        for toml in [
            "base = 5e5",
            "scaling = 'linear'\nfactor = 4",
            "scaling = 'dynamic'\nfactor = 2\noriginal_context = 512",
            "scaling = 'yarn'\nfactor = 4\noriginal_context = 512\ntruncate = false",
            "scaling = 'llama3'\nfactor = 8\noriginal_context = 512\nlow_freq_factor = 1\nhigh_freq_factor = 4",
            "scaling = 'longrope'\noriginal_context = 512\nshort_factor = [1, 2]\nlong_factor = [3, 4]\nattention_factor = 1.1",
        ] {
            let rope = spec(toml).resolve(1e4)?;
            let mut config = Json::new();
            config.insert("head_dim".into(), 4.into());
            rope.write_config(&mut config);
            assert_eq!(
                Rope::from_config(&Value::Object(config), 2048)?,
                rope,
                "{toml}"
            );
        }
        // What has no name there has the same frequencies.
        for toml in [
            "scaling = 'ntk'\nfactor = 4",
            "scaling = 'by_parts'\nfactor = 4\noriginal_context = 512",
        ] {
            let rope = spec(toml).resolve(1e4)?;
            let mut config = Json::new();
            config.insert("head_dim".into(), 64.into());
            rope.write_config(&mut config);
            let read = Rope::from_config(&Value::Object(config), 2048)?;
            for (a, b) in read.inv_freq(64, 9)?.iter().zip(rope.inv_freq(64, 9)?) {
                assert!((a / b - 1.0).abs() < 1e-6, "{toml}");
            }
            assert_eq!(read.scale(), rope.scale());
        }
        Ok(())
    }
}
