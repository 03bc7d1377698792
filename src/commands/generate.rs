//! `harness generate`: continuations of prompts under a checkpoint.
use super::{
    checkpoint::{CheckpointArguments, Loaded, Ran},
    lines,
};
use crate::{
    evals::{RecordLog, Tokens, loglikelihood},
    model::sample::{Sampling, sample, seed},
    ops::Env,
    say,
};
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `harness generate --checkpoint C --input prompts.jsonl --output texts.jsonl`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    checkpoint: CheckpointArguments,
    /// Lines of {"id", "prompt"} or {"id", "token_ids"}.
    #[arg(long)]
    input: PathBuf,
    /// A line for each prompt, in their order; where the file is there already, it goes on behind it.
    #[arg(long)]
    output: PathBuf,
    /// Tokens of a text, at most.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// What logits are divided by; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Draw from the likeliest tokens that have this probability together.
    #[arg(long)]
    top_p: Option<f64>,
    /// Draw from this many likeliest tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// End a text before this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Texts a prompt.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// With the prompt's id and the text's number it decides what is drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A line of the input; other keys are left alone.
#[derive(Debug, Deserialize)]
struct Line {
    id: Value,
    prompt: Option<String>,
    token_ids: Option<Vec<u32>>,
}

/// A line of the output.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    id: Value,
    /// What the model was given, to the token.
    token_ids: Vec<u32>,
    texts: Vec<Text>,
    sampling: Asked,
    #[serde(flatten)]
    model: Ran,
}

/// What decides a text beside its prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Asked {
    temperature: f64,
    top_p: Option<f64>,
    top_k: Option<usize>,
    max_new_tokens: u32,
    stop: Vec<String>,
    n: u32,
    seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    text: String,
    /// The ids that were made; with those of a stop string, which `text` is without.
    token_ids: Vec<u32>,
    finish: Finish,
}

/// Why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Finish {
    /// The model ended it.
    Eos,
    /// A stop string came.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// Texts that are made together.
const TOGETHER: usize = 8;

struct Prompt {
    id: Value,
    token_ids: Vec<u32>,
}

pub(super) fn run(arguments: &Arguments, quiet: bool) -> Result<u8> {
    let asked = arguments.asked()?;
    let env = Env::cpu();
    let loaded = arguments.checkpoint.load(&env)?;
    let tokens = Tokens::new(&loaded.checkpoint.tokenizer)?;
    let vocab_size = loaded.checkpoint.model.config.vocab_size;
    let prompts = lines::read(&arguments.input, |line| prompt(line, &tokens, vocab_size))?;
    let (mut log, done) = RecordLog::<Row>::open(&arguments.output)?;
    same_run(&arguments.output, &done, &prompts, &asked, &loaded)?;
    let progress = lines::progress(prompts.len(), quiet);
    let together = TOGETHER.div_ceil(asked.n as usize);
    progress.set_position(done.len() as u64);
    for some in prompts[done.len()..].chunks(together) {
        let texts = texts(&env, &loaded, &tokens, some, &asked)?;
        let mut texts = texts.into_iter();
        let rows: Vec<Row> = some
            .iter()
            .map(|prompt| Row {
                id: prompt.id.clone(),
                token_ids: prompt.token_ids.clone(),
                texts: texts.by_ref().take(asked.n as usize).collect(),
                sampling: asked.clone(),
                model: loaded.ran.clone(),
            })
            .collect();
        log.append(&rows)?;
        progress.inc(rows.len() as u64);
    }
    progress.finish_and_clear();
    say::out(format_args!(
        "{}: {} prompts",
        arguments.output.display(),
        prompts.len()
    ))?;
    Ok(super::OK)
}

impl Arguments {
    fn asked(&self) -> Result<Asked> {
        let heat = self.temperature;
        ensure!(
            heat.is_finite() && heat >= 0.0,
            "--temperature {heat}: must be 0 or more"
        );
        if let Some(p) = self.top_p {
            ensure!(
                p > 0.0 && p <= 1.0,
                "--top-p {p}: must be above 0 and at most 1"
            );
        }
        ensure!(self.top_k != Some(0), "--top-k 0: must be 1 or more");
        if heat == 0.0 {
            let drawn = self.n > 1 || self.top_p.is_some() || self.top_k.is_some();
            ensure!(
                !drawn,
                "--n, --top-p and --top-k need a --temperature above 0"
            );
        }
        ensure!(
            !self.stop.contains(&String::new()),
            "--stop: an empty text ends everything"
        );
        Ok(Asked {
            temperature: heat,
            top_p: self.top_p,
            top_k: self.top_k,
            max_new_tokens: self.max_new_tokens,
            stop: self.stop.clone(),
            n: self.n,
            seed: self.seed,
        })
    }
}

fn prompt(line: Line, tokens: &Tokens, vocab_size: usize) -> Result<Prompt, String> {
    let token_ids = match (line.prompt, line.token_ids) {
        (Some(prompt), None) => tokens.document(&prompt).map_err(|e| e.to_string())?,
        (None, Some(token_ids)) => token_ids,
        _ => return Err("an item has either `prompt` or `token_ids`".into()),
    };
    if token_ids.is_empty() {
        return Err("the prompt has no tokens".into());
    }
    loglikelihood::check_ids(&token_ids, vocab_size)?;
    Ok(Prompt {
        id: line.id,
        token_ids,
    })
}

/// The texts of some prompts, `n` of each.
fn texts(
    env: &Env,
    loaded: &Loaded,
    tokens: &Tokens,
    prompts: &[Prompt],
    asked: &Asked,
) -> Result<Vec<Text>> {
    let model = &loaded.checkpoint.model;
    let eos = &model.config.eos_token_id;
    let ends = |ids: &[u32]| ids.last().is_some_and(|id| eos.contains(id));
    let all = || {
        prompts
            .iter()
            .flat_map(|p| (0..asked.n as usize).map(move |n| (p, n)))
    };
    let rows: Vec<Vec<u32>> = all().map(|(prompt, _)| prompt.token_ids.clone()).collect();
    let seeds: Vec<u64> = all()
        .map(|(prompt, n)| seed(asked.seed, &prompt.id.to_string(), n))
        .collect();
    let sampling = Sampling {
        temperature: asked.temperature,
        top_p: asked.top_p,
        top_k: asked.top_k,
    };
    let stopped = |ids: &[u32]| {
        let text = tokens.decode(ids).unwrap_or_default();
        asked.stop.iter().filter_map(|stop| text.find(stop)).min()
    };
    let ended = &mut |_: usize, ids: &[u32]| {
        ends(ids) || (!asked.stop.is_empty() && stopped(ids).is_some())
    };
    let limit = asked.max_new_tokens as usize;
    let made = sample(env, model, &rows, &seeds, sampling, limit, ended)?;
    let mut texts = Vec::with_capacity(made.len());
    for token_ids in made {
        let mut text = tokens.decode(&token_ids)?;
        let finish = match stopped(&token_ids) {
            Some(at) => {
                text.truncate(at);
                Finish::Stop
            }
            None if ends(&token_ids) => Finish::Eos,
            None => Finish::Length,
        };
        texts.push(Text {
            text,
            token_ids,
            finish,
        });
    }
    Ok(texts)
}

/// An error unless the rows that are there are the first that this run would write.
fn same_run(
    path: &Path,
    done: &[Row],
    prompts: &[Prompt],
    asked: &Asked,
    loaded: &Loaded,
) -> Result<()> {
    let remove = "name another output, or remove it to begin again";
    for (i, row) in done.iter().enumerate() {
        let at = format!("{}: line {}", path.display(), i + 1);
        if !row.model.is(&loaded.ran) {
            bail!("{at}: was made with another checkpoint or RoPE; {remove}");
        }
        ensure!(
            row.sampling == *asked,
            "{at}: was made with other options; {remove}"
        );
        let same = |p: &Prompt| p.id == row.id && p.token_ids == row.token_ids;
        ensure!(
            prompts.get(i).is_some_and(same),
            "{at}: is of another prompt than item {} of the input; {remove}",
            i + 1
        );
    }
    Ok(())
}
