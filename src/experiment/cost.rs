//! What a trial costs, known before it runs: tokens, FLOPs, memory, time.
use super::{TrialSpec, check, plan};
use crate::{
    checkpoint::BaseSpec,
    evals::{Estimate, SuiteSpec},
    model::{self, Decoder, ModelConfig, generate},
    ops::Env,
    parallel::Ranks,
    train::{StageSpec, Stepper},
};
use serde::Serialize;
use std::{path::Path, time::Instant};

/// What one trial costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Tokens that it trains on.
    pub train_tokens: u64,
    /// FLOPs of training: a token costs 6 × weights in products + 6 × layers × dim × context.
    pub train_flops: f64,
    /// Tokens that the evaluation reads.
    pub score_tokens: u64,
    /// FLOPs of reading and generating them: a third of training on them.
    pub score_flops: f64,
    /// Tokens that it generates one after the other, at most.
    pub generated_tokens: u64,
    /// Bytes of weights, gradients, moments and activations at the peak, estimated.
    pub memory_bytes: u64,
}

/// Bytes of program, tokenizer and buffers beside the model.
const PROCESS: usize = 64 << 20;

/// The cost of a trial on a model of this configuration.
pub(super) fn of(trial: &TrialSpec, config: &ModelConfig, estimate: Estimate) -> Cost {
    let flops = |stage: &StageSpec| {
        stage.trained_tokens() as f64 * config.train_flops_per_token(stage.context)
    };
    let longest = longest_scored(trial);
    let scored = (estimate.prefill + estimate.generated) as f64;
    let train = trial
        .stage
        .iter()
        .map(|stage| stage_bytes(stage, config))
        .max();
    let scoring = scoring_bytes(&trial.evals, config);
    let memory = train.unwrap_or(0).max(scoring) + PROCESS;
    Cost {
        train_tokens: trial.tokens(),
        train_flops: trial.stage.iter().map(flops).sum(),
        score_tokens: estimate.prefill as u64,
        score_flops: scored * config.train_flops_per_token(longest) / 3.0,
        generated_tokens: estimate.generated as u64,
        memory_bytes: memory as u64,
    }
}

/// The longest context of the evaluation.
fn longest_scored(trial: &TrialSpec) -> usize {
    let lengths = trial.evals.task.iter().map(|task| task.kind().longest());
    lengths.max().unwrap_or(0)
}

/// Bytes of a stage's training.
fn stage_bytes(stage: &StageSpec, config: &ModelConfig) -> usize {
    let rows = stage
        .micro_batch
        .unwrap_or(stage.sequences())
        .min(stage.sequences());
    training_bytes(config, rows * stage.context, stage.recompute)
}

/// Bytes of training, estimated: f32 weight, gradient and two moments, and what one pass over `tokens` keeps
/// for its backward; `recompute` keeps a block's input alone.
pub fn training_bytes(config: &ModelConfig, tokens: usize, recompute: bool) -> usize {
    let (dim, ff) = (config.hidden_size, config.intermediate_size);
    let q = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    // A block keeps its input, q and k (these before their norms, too), v, o, lse, the middle, gate and
    // up; its backward makes as many gradients.
    let raw = if config.qk_norm { q + kv } else { 0 };
    let block = 2 * dim + 2 * q + 2 * kv + raw + config.num_attention_heads + 2 * ff;
    let kept = match recompute {
        true => config.num_hidden_layers * dim + block,
        false => config.num_hidden_layers * block,
    };
    4 * (4 * config.num_parameters() + tokens * (kept + block))
}

/// Weights, keys and values of what runs together, and the weights of the judges, which stay once they are read.
fn scoring_bytes(evals: &SuiteSpec, config: &ModelConfig) -> usize {
    let kv = 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers;
    let kinds = || evals.task.iter().map(|task| task.kind());
    let tokens = kinds().map(|kind| kind.batch_tokens()).max().unwrap_or(0);
    let judges = kinds().filter_map(|kind| BaseSpec::of_path(kind.judge()?).config().ok());
    let judges: usize = judges.map(|judge| judge.num_parameters()).sum();
    4 * (config.num_parameters() + judges + tokens * kv)
}

/// Rows that an evaluation runs together, about.
const ROWS: usize = 8;

/// How fast this machine is on a study's model, measured on one sequence of its first stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// FLOPs a second of training.
    pub train_flops: f64,
    #[serde(flatten)]
    pub scoring: ReadingSpeed,
}

/// How fast this machine scores with a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReadingSpeed {
    /// FLOPs a second of reading a text.
    pub score_flops: f64,
    /// Seconds of generating a token in one row.
    pub token_seconds: f64,
}

impl ReadingSpeed {
    /// Reads a text and generates some tokens, each once to warm up and once measured.
    ///
    /// # Errors
    /// What kept the model from running.
    pub fn measure(env: &Env, model: &Decoder, ids: &[u32]) -> model::Result<Self> {
        let read = timed(&mut || generate::log_probs(env, model, ids).map(|_| ()))?;
        let prompt = vec![ids[..1].to_vec()];
        let made =
            timed(&mut || generate::greedy(env, model, &prompt, MEASURED_TOKENS, &[]).map(|_| ()))?;
        let flops = ids.len() as f64 * model.config.train_flops_per_token(ids.len()) / 3.0;
        Ok(ReadingSpeed {
            score_flops: flops / read,
            token_seconds: made / MEASURED_TOKENS as f64,
        })
    }

    /// Seconds of a task whose longest context has `longest` tokens.
    pub fn seconds(&self, config: &ModelConfig, estimate: Estimate, longest: usize) -> f64 {
        let flops = estimate.prefill as f64 * config.train_flops_per_token(longest) / 3.0;
        // Rows are generated together, and a row more costs little.
        let generating = estimate.generated as f64 / ROWS as f64 * self.token_seconds;
        flops / self.score_flops + generating
    }
}

/// Seconds of the second of two runs.
fn timed<E>(work: &mut dyn FnMut() -> Result<(), E>) -> Result<f64, E> {
    work()?;
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

impl Speed {
    /// Trains one sequence, reads it and generates some tokens, each once to warm up and once measured.
    ///
    /// # Errors
    /// What kept the model from running.
    pub fn measure(trial: &TrialSpec, cache: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let env = Env::cpu();
        let checkpoint = trial.base.load(&env)?;
        let mut config = checkpoint.model.config.clone();
        let plan = plan(trial, &config, &checkpoint.tokenizer, cache)?;
        let ropes = check::ropes(&trial.stage, &config).map_err(|(_, e)| e)?;
        if let Some(rope) = ropes.into_iter().next() {
            config.rope = rope;
        }
        let mut model = checkpoint.model;
        model.config.rope = config.rope.clone();
        let row = plan.batch(0, 0)?.rows(0, 1);
        let flops = row.tokens as f64 * config.train_flops_per_token(row.tokens);

        let scoring = ReadingSpeed::measure(&env, &model, &row.ids)?;
        let table = model.rope_table(&env, row.tokens)?;
        let state = Stepper::new(&env, model, Ranks::solo())?;
        let recompute = trial.stage[0].recompute;
        let trained = timed(&mut || state.accumulate(&row, &table, 1, recompute).map(|_| ()))?;
        Ok(Speed {
            train_flops: flops / trained,
            scoring,
        })
    }

    /// Seconds that a trial takes at this speed.
    pub fn seconds(&self, cost: &Cost) -> f64 {
        let (read, made) = (cost.score_tokens as f64, cost.generated_tokens as f64);
        let reading = cost.score_flops * read / (read + made).max(1.0);
        let generating = made / ROWS as f64 * self.scoring.token_seconds;
        cost.train_flops / self.train_flops + reading / self.scoring.score_flops + generating
    }
}

/// Tokens that are generated to measure the speed.
const MEASURED_TOKENS: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::testing::Folder;
    use super::*;

    #[test]
    fn costs_follow_from_the_stages_and_the_model() {
        let folder = Folder::new();
        let trial = &folder.study(false).unwrap().trials[1];
        let config = trial.spec.base.config().unwrap();
        let cost = of(
            &trial.spec,
            &config,
            Estimate {
                prefill: 900,
                generated: 100,
            },
        );
        // 2 blocks of 4 · 32² − 2 · 32 · 16 (grouped) + 3 · 32 · 64 weights, and the head.
        let products = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 384 * 32;
        assert_eq!(
            cost.train_flops,
            5120.0 * 6.0 * (products + 2 * 32 * 64) as f64
        );
        assert_eq!(
            cost.score_flops,
            1000.0 * 2.0 * (products + 2 * 32 * 256) as f64
        );
        assert_eq!((cost.score_tokens, cost.generated_tokens), (900, 100));
        let mut stage = trial.spec.stage[0].clone();
        stage.context = 4096;
        stage.batch_tokens = None;
        let whole = stage_bytes(&stage, &config);
        stage.recompute = true;
        assert!(stage_bytes(&stage, &config) < whole);
    }

    #[test]
    fn what_runs_together_and_the_judges_take_memory() {
        let folder = Folder::new();
        let trial = &folder.study(false).unwrap().trials[1].spec;
        let config = trial.base.config().unwrap();
        let bytes = |rest: &str| {
            let text = format!("[[task]]\nname = 'a'\n{rest}");
            scoring_bytes(&SuiteSpec::parse(&text, "suite").unwrap(), &config)
        };
        let kv = 4 * 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers;
        let weights = 4 * config.num_parameters();
        let passkey = |length: usize| {
            bytes(&format!(
                "kind = 'passkey'\nlengths = [{length}]\ndepths = 1\nitems = 1"
            ))
        };
        assert_eq!(passkey(256), weights + 8 * 256 * kv);
        assert_eq!(passkey(4096), weights + 16_384 * kv);
        assert_eq!(passkey(40_000), weights + 40_000 * kv);
        let programs = "kind = 'programs'\npath = 'p.jsonl'\nsamples = 20\ntemperature = 0.2\n\
                        max_tokens = 88\nk = [1]";
        assert_eq!(bytes(programs), weights + 20 * 600 * kv);
        let keys = "kind = 'long_ppl'\nsources = [{ name = 'x', paths = ['a'] }]\ncontext = 256\nshort_context = 64\n\
                    documents = 1";
        let judge = format!("judge = '{}'", folder.path().join("base").display());
        assert_eq!(bytes(&format!("{keys}\n{judge}")), bytes(keys) + weights);
    }

    #[test]
    fn the_speed_is_measured() {
        let folder = Folder::new();
        let trial = &folder.study(false).unwrap().trials[1];
        let speed = Speed::measure(&trial.spec, &folder.path().join("cache")).unwrap();
        let config = trial.spec.base.config().unwrap();
        let cost = of(
            &trial.spec,
            &config,
            Estimate {
                prefill: 900,
                generated: 100,
            },
        );
        let seconds = speed.seconds(&cost);
        assert!(seconds > 1e-4 && seconds < 600.0, "{seconds} {speed:?}");
    }
}
