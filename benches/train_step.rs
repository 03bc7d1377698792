//! Time and peak memory of one training step, as one JSON line.
//!
//!     cargo bench --bench train_step -- --ctx 16384 --batch 1 [--recompute]
use clap::Parser;
use harness::{
    model::{Batch, Decoder, Init, Method, ModelConfig},
    ops::Env,
    parallel::Ranks,
    train::{OptimizerSpec, Stepper},
};
use rand::{RngExt, SeedableRng};
use std::time::Instant;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 256)]
    dim: usize,
    #[arg(long, default_value_t = 4)]
    layers: usize,
    #[arg(long, default_value_t = 4)]
    heads: usize,
    #[arg(long, default_value_t = 4)]
    kv_heads: usize,
    #[arg(long, default_value_t = 768)]
    ff: usize,
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    #[arg(long, default_value_t = 512)]
    ctx: usize,
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[arg(long, default_value_t = 8)]
    steps: usize,
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Keep each block's input alone.
    #[arg(long)]
    recompute: bool,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let a = Args::parse();
    let config = ModelConfig::parse(
        &serde_json::json!({
            "vocab_size": a.vocab, "hidden_size": a.dim, "intermediate_size": a.ff,
            "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
            "num_key_value_heads": a.kv_heads, "rms_norm_eps": 1e-5,
            "max_position_embeddings": a.ctx, "tie_word_embeddings": false,
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
    for step in 0..a.warmup + a.steps {
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
        let how = (a.batch, a.recompute);
        loss = state.step(&batch, &table, &optimizer, 3e-4, how)?.loss;
        if step >= a.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let flops =
        config.num_product_weights() as f64 * 6.0 + 12.0 * (a.layers * a.dim * a.ctx) as f64;
    let (least, most) = (times[0], times[times.len() - 1]);
    println!(
        "{}",
        serde_json::json!({
            "peer": format!("harness {}", env.backend()),
            "tokens_per_s": (n as f64 / median * 10.0).round() / 10.0,
            "gflops": (flops * n as f64 / median / 1e8).round() / 10.0,
            "step_s_min_med_max": [least, median, most],
            "peak_mib": peak_mib()?,
            "loss": loss,
            "params": config.num_parameters(),
        })
    );
    Ok(())
}

/// The largest resident size of this process so far.
fn peak_mib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024)
}
