//! Time and peak memory of three evaluations of a real checkpoint, as one JSON line a task:
//!
//!     cargo bench --bench evaluations -- --checkpoint SmolLM2-135M-Instruct.Q4_1.gguf \
//!         --text novel.txt --problems HumanEval.jsonl --task perplexity
//!
//! `--write work.json` writes the exact token ids, for benches/peers/transformers_eval.py to do the same.
mod memory;

use clap::{Parser, ValueEnum};
use harness::{
    checkpoint::{BaseSpec, Checkpoint},
    evals::{Record, Subject, Suite, SuiteSpec, Tokens},
    model::sample::{Sampling, sample},
    ops::Env,
};
use serde_json::json;
use std::{error::Error, path::PathBuf, time::Instant};

/// Windows of the sliding perplexity: the whole context once, then a stride more each.
const CONTEXT: usize = 4096;
const STRIDE: usize = 512;
const WINDOWS: usize = 4;
const PROBLEMS: usize = 20;
const SAMPLES: usize = 5;
const NEW_TOKENS: usize = 256;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Task {
    Perplexity,
    Passkey,
    Generate,
}

#[derive(Parser)]
struct Args {
    #[arg(long)]
    checkpoint: String,
    /// A long text, for the perplexity.
    #[arg(long)]
    text: PathBuf,
    /// HumanEval's problems, one JSON object a line.
    #[arg(long)]
    problems: PathBuf,
    #[arg(long, value_enum)]
    task: Task,
    /// Write the token ids of all tasks here, with the prompts that the passkey task made, and time nothing.
    #[arg(long)]
    write: Option<PathBuf>,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args = Args::parse();
    let env = Env::cpu();
    let loaded = BaseSpec::of_path(&args.checkpoint).load(&env)?;
    let tokens = Tokens::new(&loaded.tokenizer)?;
    let prompts = prompts(&args, &tokens)?;
    if let Some(path) = &args.write {
        let text = run(&env, &loaded, &long_loss(&args))?.remove(0).prompt;
        let passkey = run(&env, &loaded, &passkey())?;
        let ids: Vec<_> = passkey.iter().map(|r| &r.prompt).collect();
        let work = json!({
            "perplexity": { "ids": text, "context": CONTEXT, "stride": STRIDE },
            "passkey": ids,
            "generate": { "prompts": prompts, "samples": SAMPLES, "new_tokens": NEW_TOKENS },
        });
        return Ok(std::fs::write(path, work.to_string())?);
    }
    let start = Instant::now();
    let result = match args.task {
        Task::Perplexity => {
            let records = run(&env, &loaded, &long_loss(&args))?;
            records[0].metrics["nats_per_token"].exp()
        }
        Task::Passkey => {
            let records = run(&env, &loaded, &passkey())?;
            let found: f64 = records.iter().map(|r| r.metrics["exact_match"]).sum();
            found / records.len() as f64
        }
        Task::Generate => generate(&env, &loaded, &prompts)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let line = json!({
        "peer": format!("harness {}", env.backend()),
        "seconds": (seconds * 1e3).round() / 1e3,
        "result": result,
        "peak_mib": memory::peak_mib()?,
    });
    println!("{line}");
    Ok(())
}

/// The sliding loss, in YaRN's protocol, on the text's beginning.
fn long_loss(args: &Args) -> serde_json::Value {
    json!({
        "kind": "long_loss", "name": "perplexity", "context": CONTEXT, "stride": STRIDE, "by_position": false,
        "documents": 1, "max_tokens": CONTEXT + (WINDOWS - 1) * STRIDE,
        "sources": [{ "name": "text", "paths": [args.text] }],
    })
}

/// 32 prompts of 2,048 tokens.
fn passkey() -> serde_json::Value {
    json!({ "kind": "passkey", "name": "passkey", "lengths": [2048], "depths": 8, "items": 4 })
}

/// The records of a suite of this one task.
fn run(env: &Env, loaded: &Checkpoint, task: &serde_json::Value) -> Result<Vec<Record>> {
    let spec: SuiteSpec = serde_json::from_value(json!({ "task": [task] }))?;
    let suite = Suite::load(&spec, &loaded.tokenizer, None)?;
    let subject = Subject {
        env,
        model: &loaded.model,
    };
    Ok(suite.run(&subject, Vec::new(), &mut |_, _| Ok(()))?)
}

/// The prompts of the first problems.
fn prompts(args: &Args, tokens: &Tokens) -> Result<Vec<Vec<u32>>> {
    let text = std::fs::read_to_string(&args.problems)?;
    let problem = |line: &str| -> Result<Vec<u32>> {
        let problem: serde_json::Value = serde_json::from_str(line)?;
        let prompt = problem["prompt"]
            .as_str()
            .ok_or("a problem without prompt")?;
        Ok(tokens.document(prompt)?)
    };
    text.lines().take(PROBLEMS).map(problem).collect()
}

/// Samples of every prompt, all in one batch; the number of tokens made.
fn generate(env: &Env, loaded: &Checkpoint, prompts: &[Vec<u32>]) -> Result<f64> {
    let all: Vec<Vec<u32>> = prompts
        .iter()
        .flat_map(|p| std::iter::repeat_n(p.clone(), SAMPLES))
        .collect();
    let seeds: Vec<u64> = (0..all.len() as u64).collect();
    let sampling = Sampling {
        temperature: 0.8,
        top_p: None,
        top_k: Some(50),
    };
    let never = &mut |_: usize, _: &[u32]| false;
    let texts = sample(
        env,
        &loaded.model,
        &all,
        &seeds,
        sampling,
        NEW_TOKENS,
        never,
    )?;
    Ok(texts.iter().map(Vec::len).sum::<usize>() as f64)
}
