//! Weights to begin from.
use super::{Decoder, Error, ModelConfig, Param, Result};
use crate::ops::{Env, from_vec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Init {
    pub seed: u64,
    #[serde(default)]
    pub method: Method,
}

/// What the weights are like before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Normally distributed, with smaller weights where a residual branch ends.
    #[default]
    Random,
    /// Normally distributed, but for the attention of the first two layers, which begins as a head that
    /// looks at the token before and heads that look for what they looked at: see [`Decoder::init`].
    Induction,
}

impl Init {
    /// Checks that a model of this shape can begin so.
    ///
    /// # Errors
    /// When induction is asked for and the heads do not fill the hidden size, or there is one layer.
    pub fn check(&self, config: &ModelConfig) -> Result<()> {
        let (dim, head_dim) = (config.hidden_size, config.head_dim);
        let (heads, layers) = (config.num_attention_heads, config.num_hidden_layers);
        let fits = layers >= 2
            && heads * head_dim == dim
            && heads >= 2
            && head_dim >= 2 * PAIRS
            // A norm would take the strength of the match away.
            && !config.qk_norm;
        if self.method == Method::Random || fits {
            return Ok(());
        }
        Err(Error::Config(format!(
            "init method \"induction\" needs two layers, two heads, heads · head_dim = hidden_size and no \
             norms of q and k; here are {layers} layers, {heads} heads of {head_dim}, a hidden size of {dim} \
             and {} norms",
            if config.qk_norm { "such" } else { "no" }
        )))
    }
}

/// Values by the tensors' names.
type Values = HashMap<String, Vec<f32>>;

impl Decoder {
    /// A decoder with normally distributed weights of standard deviation `initializer_range` (those
    /// that end a residual branch: divided by √(2·layers), as in GPT-2), a function of `init` alone.
    ///
    /// [`Method::Induction`] sets the attention of layers 0 and 1 to the shape that induction heads have
    /// after long training (Olsson et al., arXiv 2209.11895), in the spirit of mimetic initialisation
    /// (arXiv 2305.09828): a model of a million weights did not find it from random ones within a
    /// million tokens (`results/TRIED.md`). Training is free to change all of it.
    ///
    /// # Errors
    /// As [`Init::check`].
    pub fn init(env: &Env, config: &ModelConfig, init: Init) -> Result<Self> {
        init.check(config)?;
        let residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        let mut values = Values::new();
        for (name, shape) in config.tensors() {
            let mut rng = stream(init.seed, &name);
            let n: usize = shape.iter().product();
            let ends_branch = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let std = config.initializer_range * if ends_branch { residual } else { 1.0 };
            let drawn = if name.ends_with(".bias") {
                vec![0f32; n]
            } else if shape.len() == 1 {
                vec![1f32; n]
            } else {
                (0..n).map(|_| (normal(&mut rng) * std) as f32).collect()
            };
            values.insert(name, drawn);
        }
        if init.method == Method::Induction {
            induction(config, init.seed, &mut values)?;
        }
        let mut params = Vec::new();
        for (name, shape) in config.tensors() {
            let drawn = values.remove(&name).unwrap_or_default();
            params.push(Param::frozen(&name, from_vec(drawn, &shape, env)?));
        }
        Self::assemble(config, params)
    }
}

fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let key = blake3::hash(format!("initial weights/{seed}/{name}").as_bytes());
    ChaCha8Rng::from_seed(*key.as_bytes())
}

/// A normally distributed number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `rows` random unit vectors of `dim` numbers at right angles to each other and to `to` (Gram and
/// Schmidt).
fn orthonormal(rng: &mut ChaCha8Rng, rows: usize, dim: usize, to: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = to.to_vec();
    while all.len() < to.len() + rows {
        let mut v: Vec<f64> = (0..dim).map(|_| normal(rng)).collect();
        // The second pass takes away what rounding left of the first.
        for _ in 0..2 {
            for u in &all {
                let along = dot(&v, u);
                v.iter_mut().zip(u).for_each(|(x, y)| *x -= along * y);
            }
        }
        let norm = dot(&v, &v).sqrt();
        all.push(v.into_iter().map(|x| x / norm).collect());
    }
    all.split_off(to.len())
}

/// Standard deviation of an embedding's own part, and size of the part that all share.
const OWN: f64 = 0.15;
const SHARED: f64 = 0.15;
/// Strength of the look at the token before, and of what it writes.
const BEFORE: f64 = 0.9;
const WRITTEN: f64 = 0.3;
/// Strength of the match, and the share of the fastest frequencies that it hardly uses: they turn too
/// far between two places to match what stands there.
const MATCH: f64 = 3.0;
const FAST: f64 = 0.6;
/// Frequency pairs by which the token before is found.
const PAIRS: usize = 3;

/// Layer 0, head 0: a query turned back by one position finds, by the part that all embeddings share,
/// the token before, and writes it into a subspace of its own. Layer 1: queries of the token itself,
/// keys of that subspace: a token finds the places behind its earlier occurrences, and copies what
/// stands there.
fn induction(config: &ModelConfig, seed: u64, values: &mut Values) -> Result<()> {
    let (dim, head_dim) = (config.hidden_size, config.head_dim);
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    let half = head_dim / 2;
    let mut rng = stream(seed, "induction");
    let shared = orthonormal(&mut rng, 1, dim, &[]);
    let mu = &shared[0];
    let own: Vec<Vec<f64>> = orthonormal(&mut rng, head_dim, dim, &shared);
    let subspace = orthonormal(&mut rng, head_dim, dim, &[]);
    let copied = orthonormal(&mut rng, kv_heads * head_dim, dim, &[]);
    let mut set = |layer: Option<usize>, name: &str, f: &mut dyn FnMut(&mut [f32])| {
        let name = match layer {
            Some(layer) => format!("model.layers.{layer}.self_attn.{name}.weight"),
            None => name.to_string(),
        };
        if let Some(values) = values.get_mut(&name) {
            f(values);
        }
    };

    let mut embedding_rng = stream(seed, "induction/embedding");
    set(None, "model.embed_tokens.weight", &mut |w| {
        for row in w.chunks_exact_mut(dim) {
            for (x, m) in row.iter_mut().zip(mu) {
                *x = (normal(&mut embedding_rng) * OWN + m * SHARED * (dim as f64).sqrt()) as f32;
            }
        }
    });
    let frequencies: Vec<f64> = config
        .rope
        .inv_freq(head_dim, 1)?
        .into_iter()
        .map(f64::from)
        .collect();
    let add_row = |w: &mut [f32], row: usize, by: f64, v: &[f64]| {
        for (x, v) in w[row * dim..(row + 1) * dim].iter_mut().zip(v) {
            *x += (by * v) as f32;
        }
    };
    set(Some(0), "q_proj", &mut |w| {
        w[..head_dim * dim].iter_mut().for_each(|x| *x *= 0.2);
        for (i, f) in frequencies.iter().enumerate().take(PAIRS) {
            add_row(w, i, BEFORE * f.cos(), mu);
            add_row(w, i + half, -BEFORE * f.sin(), mu);
        }
    });
    set(Some(0), "k_proj", &mut |w| {
        w[..head_dim * dim].iter_mut().for_each(|x| *x *= 0.2);
        (0..PAIRS).for_each(|i| add_row(w, i, BEFORE, mu));
    });
    set(Some(0), "v_proj", &mut |w| {
        w[..head_dim * dim].fill(0.0);
        own.iter()
            .enumerate()
            .for_each(|(i, v)| add_row(w, i, 1.0, v));
    });
    set(Some(0), "o_proj", &mut |w| {
        for (d, row) in w.chunks_exact_mut(heads * head_dim).enumerate() {
            for (x, v) in row.iter_mut().zip(&subspace) {
                *x = (WRITTEN * v[d]) as f32;
            }
        }
    });
    let group = heads / kv_heads;
    for kv in 0..kv_heads {
        let turns = orthonormal(&mut rng, head_dim, head_dim, &[]);
        // Row i of what both sides are multiplied by.
        let mixed = |i: usize, basis: &[Vec<f64>]| -> Vec<f64> {
            let fast = i % half < (FAST * half as f64) as usize;
            let size = MATCH * if fast { 0.1 } else { 1.0 };
            let mut row = vec![0f64; dim];
            for (t, v) in turns[i].iter().zip(basis) {
                row.iter_mut().zip(v).for_each(|(r, v)| *r += size * t * v);
            }
            row
        };
        let place = |w: &mut [f32], head: usize, basis: &[Vec<f64>]| {
            for i in 0..head_dim {
                let row = head * head_dim + i;
                w[row * dim..(row + 1) * dim].fill(0.0);
                add_row(w, row, 1.0, &mixed(i, basis));
            }
        };
        set(Some(1), "k_proj", &mut |w| place(w, kv, &subspace));
        set(Some(1), "q_proj", &mut |w| {
            (kv * group..(kv + 1) * group).for_each(|head| place(w, head, &own));
        });
    }
    set(Some(1), "v_proj", &mut |w| {
        w.fill(0.0);
        copied
            .iter()
            .enumerate()
            .for_each(|(i, v)| add_row(w, i, 1.0, v));
    });
    set(Some(1), "o_proj", &mut |w| {
        for (d, row) in w.chunks_exact_mut(heads * head_dim).enumerate() {
            for (i, x) in row.iter_mut().enumerate() {
                let (head, inner) = (i / head_dim, i % head_dim);
                *x = (copied[head / group * head_dim + inner][d] / group as f64) as f32;
            }
        }
    });
    Ok(())
}
