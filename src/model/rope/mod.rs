//! Every RoPE method behind one type: frequencies, scale, identity, and the forms in which a study and
//! `config.json` say it.
//!
//! Where paper and the implementation that everyone runs differ, `modeling_rope_utils` of transformers
//! is meant.
mod bound;
mod hf;
mod spec;

pub use bound::{first_violation, smallest_base};
pub use spec::RopeSpec;

use super::{Error, Result};
use serde::Serialize;
use serde_json::json;
use std::f64::consts::PI;

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

impl Rope {
    /// Plain RoPE of this base.
    pub fn plain(rope_theta: f64) -> Self {
        Rope {
            rope_theta,
            scaling: Scaling::Plain,
        }
    }

    /// Whether the frequencies change with the length of the sequence; a cache's row then has to be read again
    /// when they do.
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

    /// The same method in the form in which transformers has a name for it: NTK-aware is plain with its
    /// base, by-parts is YaRN without a temperature.
    pub fn canonical(&self, head_dim: usize) -> Self {
        let dims = head_dim as f64;
        match &self.scaling {
            Scaling::Ntk { factor } => {
                Rope::plain(self.rope_theta * factor.powf(dims / (dims - 2.0)))
            }
            Scaling::ByParts(parts) => Rope {
                rope_theta: self.rope_theta,
                scaling: Scaling::Yarn {
                    parts: parts.clone(),
                    attention_factor: 1.0,
                },
            },
            _ => self.clone(),
        }
    }

    /// The context that the method stretches, where it has one.
    fn original_context(&self) -> Option<usize> {
        match &self.scaling {
            Scaling::Plain | Scaling::Linear { .. } | Scaling::Ntk { .. } => None,
            Scaling::ByParts(parts) | Scaling::Yarn { parts, .. } => Some(parts.original_context),
            Scaling::Dynamic {
                original_context, ..
            }
            | Scaling::Llama3 {
                original_context, ..
            }
            | Scaling::Longrope {
                original_context, ..
            } => Some(*original_context),
        }
    }

    /// Identity of the method for a model of this head dimension trained at `context`: the hash of its
    /// canonical parameters and of its frequencies and scale at the original, the trained and four times the
    /// trained context. A checkpoint's configuration gives the identity that its training had.
    pub fn identity(&self, head_dim: usize, context: usize) -> Result<String> {
        let rope = self.canonical(head_dim);
        let original = rope.original_context().unwrap_or(context);
        let mut hash = blake3::Hasher::new();
        hash.update(json!(rope).to_string().as_bytes());
        for length in [original, context, 4 * context] {
            for w in rope.inv_freq(head_dim, length)? {
                hash.update(&w.to_le_bytes());
            }
        }
        hash.update(&rope.scale().to_le_bytes());
        Ok(hash.finalize().to_hex()[..16].to_string())
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
mod tests;
