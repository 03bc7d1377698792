//! Time and peak memory of one training step: forward, loss, backward, clip, AdamW.
//!
//!     cargo bench --bench train_step -- --shape S [--json]
//!     cargo bench --bench train_step -- --ctx 16384 --batch 1 [--recompute]
mod memory;
mod shape;

use clap::Parser;
use harness::{
    model::{Batch, Decoder, Init, Method, ModelConfig},
    ops::Env,
    parallel::Ranks,
    train::{OptimizerSpec, Stepper},
};
use rand::{RngExt, SeedableRng};
use shape::{SHAPES, Shape};
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// Sizes that are not given are this shape's.
    #[arg(long, default_value = "S", value_parser = SHAPES.map(|s| s.name))]
    shape: String,
    #[arg(long)]
    dim: Option<usize>,
    #[arg(long)]
    layers: Option<usize>,
    #[arg(long)]
    heads: Option<usize>,
    #[arg(long)]
    kv_heads: Option<usize>,
    #[arg(long)]
    ff: Option<usize>,
    #[arg(long)]
    vocab: Option<usize>,
    #[arg(long)]
    ctx: Option<usize>,
    #[arg(long)]
    batch: Option<usize>,
    #[arg(long, default_value_t = 8)]
    steps: usize,
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Keep each block's input alone.
    #[arg(long)]
    recompute: bool,
    /// One matrix for embedding and head.
    #[arg(long)]
    tied: bool,
    /// Print one JSON line.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn sizes(&self) -> Shape {
        let named = SHAPES.into_iter().find(|s| s.name == self.shape);
        let shape = named.unwrap_or(SHAPES[0]);
        Shape {
            dim: self.dim.unwrap_or(shape.dim),
            layers: self.layers.unwrap_or(shape.layers),
            heads: self.heads.unwrap_or(shape.heads),
            kv_heads: self.kv_heads.or(self.heads).unwrap_or(shape.kv_heads),
            ff: self.ff.unwrap_or(shape.ff),
            vocab: self.vocab.unwrap_or(shape.vocab),
            ctx: self.ctx.unwrap_or(shape.ctx),
            batch: self.batch.unwrap_or(shape.batch),
            ..shape
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let a = args.sizes();
    let config = ModelConfig::parse(
        &serde_json::json!({
            "vocab_size": a.vocab, "hidden_size": a.dim, "intermediate_size": a.ff,
            "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
            "num_key_value_heads": a.kv_heads, "rms_norm_eps": 1e-5,
            "max_position_embeddings": a.ctx, "tie_word_embeddings": args.tied,
        })
        .to_string(),
    )?;
    let env = Env::cpu();
    let mut state = Stepper::new(
        &env,
        Decoder::init(
            &env,
            &config,
            Init {
                seed: 0,
                method: Method::Random,
            },
        )?,
        Ranks::solo(),
    )?;
    let optimizer: OptimizerSpec = toml::from_str("lr = 3e-4\nweight_decay = 0.01")?;
    let table = state.model.rope_table(&env, a.ctx)?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let n = a.batch * a.ctx;
    let (mut times, mut loss) = (Vec::new(), 0.0);
    for step in 0..args.warmup + args.steps {
        let mut ids = || {
            (0..n)
                .map(|_| rng.random_range(0..a.vocab as u32))
                .collect()
        };
        let batch = Batch {
            batch: a.batch,
            tokens: a.ctx,
            ids: ids(),
            targets: ids(),
            weights: vec![1.0; n],
            positions: (0..n).map(|i| (i % a.ctx) as u32).collect(),
            doc_starts: vec![0; n],
        };
        let start = Instant::now();
        let how = (a.batch, args.recompute);
        loss = state.step(&batch, &table, &optimizer, 3e-4, how)?.loss;
        if step >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let flops =
        config.num_product_weights() as f64 * 6.0 + 12.0 * (a.layers * a.dim * a.ctx) as f64;
    let (least, most) = (times[0], times[times.len() - 1]);
    let rate = n as f64 / median;
    let gflops = flops * rate / 1e9;
    let peak = memory::peak_mib()?;
    if args.json {
        let line = serde_json::json!({
            "peer": format!("harness {}", env.backend()),
            "tokens_per_s": (rate * 10.0).round() / 10.0,
            "gflops": (gflops * 10.0).round() / 10.0,
            "step_s_min_med_max": [least, median, most],
            "peak_mib": peak,
            "loss": loss,
            "params": config.num_parameters(),
        });
        println!("{line}");
    } else {
        println!(
            "{rate:.0} tokens/s, {gflops:.0} GFLOP/s (6N + 12LdT), step {median:.4} s \
             ({least:.4} to {most:.4}), peak {peak} MiB, loss {loss:.4}"
        );
    }
    Ok(())
}
