//! `harness score`: log-probabilities of anybody's items under a checkpoint.
use super::{
    checkpoint::{CheckpointArguments, Loaded, Ran},
    lines,
};
use crate::{
    evals::{RecordLog, Subject, Tokens, loglikelihood},
    ops::Env,
    say,
};
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// `harness score --checkpoint C --input items.jsonl --output scores.jsonl`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    checkpoint: CheckpointArguments,
    /// Lines of {"id", "context", "continuation"} or {"id", "token_ids", "scored_from"}.
    #[arg(long)]
    input: PathBuf,
    /// A line for each item, in their order; where the file is there already, scoring goes on behind it.
    #[arg(long)]
    output: PathBuf,
}

/// A line of the input; other keys are left alone.
#[derive(Debug, Deserialize)]
struct Line {
    id: Value,
    context: Option<String>,
    continuation: Option<String>,
    token_ids: Option<Vec<u32>>,
    scored_from: Option<usize>,
}

/// A line of the output.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    id: Value,
    /// What the model was given, to the token.
    token_ids: Vec<u32>,
    scored_from: usize,
    logprobs: Vec<f32>,
    greedy: Vec<bool>,
    #[serde(flatten)]
    model: Ran,
}

/// Items whose rows are written together.
const WRITTEN_TOGETHER: usize = 64;
/// Tokens of them, at most, but for a longer item.
const TOKENS_TOGETHER: usize = 32_768;

pub(super) fn run(arguments: &Arguments, quiet: bool) -> Result<u8> {
    let env = Env::cpu();
    let loaded = arguments.checkpoint.load(&env)?;
    let (ids, items) = read(&arguments.input, &loaded)?;
    let (mut log, done) = RecordLog::<Row>::open(&arguments.output)?;
    same_run(&arguments.output, &done, &ids, &items, &loaded)?;
    let model = &loaded.checkpoint.model;
    let context = model.config.max_position_embeddings;
    let beyond = items.iter().filter(|i| i.token_ids.len() > context).count();
    if beyond > 0 {
        log::warn!(
            "{beyond} items are longer than the {context} tokens that the checkpoint was trained for"
        );
    }
    let subject = Subject { env: &env, model };
    let progress = lines::progress(items.len(), quiet);
    let mut from = done.len();
    progress.set_position(from as u64);
    while from < items.len() {
        let to = from + together(&items[from..]);
        let name = |at: usize| {
            let (input, id) = (arguments.input.display(), &ids[from + at]);
            format!("{input}: item {}, id {id}", from + at + 1)
        };
        let scored = loglikelihood::score(&subject, &items[from..to], &name)?;
        let all = ids[from..to].iter().zip(&items[from..to]).zip(scored);
        let rows: Vec<Row> = all
            .map(|((id, item), scored)| Row {
                id: id.clone(),
                token_ids: item.token_ids.clone(),
                scored_from: item.scored_from,
                logprobs: scored.logprobs,
                greedy: scored.greedy,
                model: loaded.ran.clone(),
            })
            .collect();
        log.append(&rows)?;
        from = to;
        progress.set_position(from as u64);
    }
    progress.finish_and_clear();
    say::out(format_args!(
        "{}: {} items",
        arguments.output.display(),
        items.len()
    ))?;
    Ok(super::OK)
}

/// How many of the next items are scored and written together.
fn together(items: &[loglikelihood::Item]) -> usize {
    let mut tokens = 0;
    let fits = items.iter().take(WRITTEN_TOGETHER).take_while(|item| {
        tokens += item.token_ids.len();
        tokens <= TOKENS_TOGETHER
    });
    fits.count().max(1)
}

/// The items with their ids.
fn read(path: &Path, loaded: &Loaded) -> Result<(Vec<Value>, Vec<loglikelihood::Item>)> {
    let config = &loaded.checkpoint.model.config;
    let tokens = Tokens::new(&loaded.checkpoint.tokenizer)?;
    let prefix = loglikelihood::prefix(config);
    let items = lines::read(path, |line: Line| {
        let item = item(&line, &tokens, prefix)?;
        item.check(config.vocab_size)?;
        Ok((line.id, item))
    })?;
    Ok(items.into_iter().unzip())
}

fn item(line: &Line, tokens: &Tokens, prefix: Option<u32>) -> Result<loglikelihood::Item, String> {
    match line {
        Line {
            context: Some(context),
            continuation: Some(continuation),
            token_ids: None,
            scored_from: None,
            ..
        } => loglikelihood::Item::of_pair(tokens, context, continuation)?.after(prefix),
        Line {
            context: None,
            continuation: None,
            token_ids: Some(token_ids),
            scored_from: Some(scored_from),
            ..
        } => Ok(loglikelihood::Item {
            token_ids: token_ids.clone(),
            scored_from: *scored_from,
        }),
        _ => {
            Err("an item has `context` and `continuation`, or `token_ids` and `scored_from`".into())
        }
    }
}

/// An error unless the rows that are there are the first that this run would write.
fn same_run(
    path: &Path,
    done: &[Row],
    ids: &[Value],
    items: &[loglikelihood::Item],
    loaded: &Loaded,
) -> Result<()> {
    let remove = "name another output, or remove it to score again";
    for (i, row) in done.iter().enumerate() {
        let at = format!("{}: line {}", path.display(), i + 1);
        if !row.model.is(&loaded.ran) {
            bail!("{at}: was scored with another checkpoint or RoPE; {remove}");
        }
        let same = ids.get(i).zip(items.get(i)).is_some_and(|(id, item)| {
            *id == row.id && item.token_ids == row.token_ids && item.scored_from == row.scored_from
        });
        ensure!(
            same,
            "{at}: is of another item than line {} of the input; {remove}",
            i + 1
        );
    }
    Ok(())
}
