//! How a study says a RoPE method.
use super::{Parts, Rope, Scaling};
use crate::model::{Error, Result};
use serde::{Deserialize, Serialize};

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
                // One of the two is said: without both, q and k would silently not be scaled.
                let attention_factor = match self.attention_factor {
                    Some(said) => said,
                    None => match self.need("factor` or `attention_factor", self.factor, method)? {
                        stretch if stretch <= 1.0 => 1.0,
                        stretch => (1.0 + stretch.ln() / (original as f64).ln()).sqrt(),
                    },
                };
                Scaling::Longrope {
                    original_context: original,
                    short_factor: self.need("short_factor", self.short_factor.clone(), method)?,
                    long_factor: self.need("long_factor", self.long_factor.clone(), method)?,
                    attention_factor,
                }
            }
            other => {
                return Err(Error::Rope(format!(
                    "scaling = {other:?} is unknown; plain, linear, ntk, dynamic, by_parts, yarn, \
                     llama3 and longrope are known"
                )));
            }
        };
        self.check_ranges()?;
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

    fn check_ranges(&self) -> Result<()> {
        let above = |least: f64, value: f64| value.is_finite() && value > least;
        if let Some(factor) = self.factor.filter(|x| !x.is_finite() || *x < 1.0) {
            return Err(Error::Rope(format!(
                "factor = {factor} is out of range; it must be at least 1"
            )));
        }
        let rules = [
            (
                "original_context",
                self.original_context.map(|n| n as f64),
                1.0,
            ),
            ("beta_fast", self.beta_fast, 0.0),
            ("beta_slow", self.beta_slow, 0.0),
            ("attention_factor", self.attention_factor, 0.0),
            ("low_freq_factor", self.low_freq_factor, 0.0),
            (
                "high_freq_factor",
                self.high_freq_factor,
                self.low_freq_factor.unwrap_or(0.0),
            ),
        ];
        for (name, value, least) in rules {
            if let Some(value) = value.filter(|value| !above(least, *value)) {
                return Err(Error::Rope(format!(
                    "{name} = {value} is out of range; it must be above {least}"
                )));
            }
        }
        let parts = self.parts_bounds();
        if parts.0 <= parts.1 {
            return Err(Error::Rope(format!(
                "beta_fast = {} must be above beta_slow = {}",
                parts.0, parts.1
            )));
        }
        let factors = self.short_factor.iter().chain(&self.long_factor).flatten();
        match factors.copied().find(|factor| !above(0.0, *factor)) {
            Some(factor) => Err(Error::Rope(format!(
                "longrope's factor {factor} must be above 0"
            ))),
            None => Ok(()),
        }
    }

    /// Rotations over the original context above which a frequency is kept, and below which it is divided.
    fn parts_bounds(&self) -> (f64, f64) {
        (
            self.beta_fast.unwrap_or(32.0),
            self.beta_slow.unwrap_or(1.0),
        )
    }

    fn need<T>(&self, name: &str, value: Option<T>, method: &str) -> Result<T> {
        value.ok_or_else(|| {
            Error::Rope(format!(
                "scaling = {method:?} needs `{name}`, which is missing"
            ))
        })
    }

    fn parts(&self, method: &str) -> Result<Parts> {
        let (beta_fast, beta_slow) = self.parts_bounds();
        Ok(Parts {
            factor: self.need("factor", self.factor, method)?,
            original_context: self.need("original_context", self.original_context, method)?,
            beta_fast,
            beta_slow,
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
