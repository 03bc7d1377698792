//! Greedy generation with a KV cache, and the scoring of given tokens.
use super::{Decoder, Result, cache::KvCache};
use crate::ops::{Env, cross_entropy, linear, rope, view};
use candle_core::Tensor;
use rayon::prelude::*;

/// Tokens of one chunk of a prompt.
const CHUNK: usize = 1024;

/// Greedy continuation of each prompt, decoded together with a KV cache: up to `max_new_tokens` ids a
/// prompt, ended after the first id that is in `stop`. A prompt's result does not depend on the others.
pub fn greedy(
    env: &Env,
    model: &Decoder,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
    stop: &[u32],
) -> Result<Vec<Vec<u32>>> {
    let ended = &mut |_: usize, ids: &[u32]| ids.last().is_some_and(|id| stop.contains(id));
    greedy_until(env, model, prompts, max_new_tokens, ended)
}

/// The same until `ended` says that a prompt's continuation is.
pub fn greedy_until(
    env: &Env,
    model: &Decoder,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
    ended: &mut Ended,
) -> Result<Vec<Vec<u32>>> {
    let best = &mut |rows: &[(usize, &[f32])]| {
        Ok(rows.par_iter().map(|(_, logits)| best_of(logits)).collect())
    };
    decode(env, model, prompts, max_new_tokens, best, ended)
}

/// Picks the next id of each of some prompts, given their indices, which rise, and logits (`[vocab]`).
pub(super) type Choose<'a> = dyn FnMut(&[(usize, &[f32])]) -> Result<Vec<u32>> + 'a;

/// Says of a prompt's index and the ids made so far whether it ends here.
pub type Ended<'a> = dyn FnMut(usize, &[u32]) -> bool + 'a;

/// Continues each prompt by the ids that `choose` picks, decoded together with a KV cache: up to
/// `max_new_tokens` ids a prompt, until `ended`. The logits of a prompt do not depend on the others.
pub(super) fn decode(
    env: &Env,
    model: &Decoder,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
    choose: &mut Choose,
    ended: &mut Ended,
) -> Result<Vec<Vec<u32>>> {
    let mut out: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    if max_new_tokens == 0 || longest == 0 {
        return Ok(out);
    }
    let capacity = longest + max_new_tokens;
    let table = model.rope_table(env, capacity)?;
    let mut cache = KvCache::new(env, model, prompts.len(), capacity)?;
    let mut last: Vec<Option<Tensor>> = vec![None; prompts.len()];
    let shares = !model.config.rope.depends_on_length();
    for (row, shared) in prefill_order(prompts) {
        let mut known = 0;
        if let Some((from, tokens)) = shared.filter(|_| shares) {
            cache.share(from, row, tokens)?;
            known = tokens;
            if tokens == prompts[row].len() {
                last[row] = last[from].clone();
                continue;
            }
        }
        let rest = &prompts[row][known..];
        last[row] = prefill(env, model, &mut cache, row, rest, &table)?;
    }
    let mut open: Vec<usize> = (0..prompts.len())
        .filter(|&row| last[row].is_some())
        .collect();
    let states: Vec<Tensor> = last.into_iter().flatten().collect();
    let mut hidden = Tensor::cat(&states, 0)?;
    loop {
        let logits = linear::forward(env, &hidden, &model.head().value)?;
        let logits = view::<f32>(&logits)?;
        let rows = logits.chunks_exact(model.config.vocab_size);
        let rows: Vec<(usize, &[f32])> = open.iter().copied().zip(rows).collect();
        for (&row, id) in open.iter().zip(choose(&rows)?) {
            out[row].push(id);
        }
        open.retain(|&row| out[row].len() < max_new_tokens && !ended(row, &out[row]));
        if open.is_empty() {
            return Ok(out);
        }
        let ids: Vec<u32> = open
            .iter()
            .filter_map(|&row| out[row].last().copied())
            .collect();
        hidden = model.hidden(env, &mut cache, &open, &ids, &table)?;
    }
}

/// The order in which prompts are read, and for each the row and the number of tokens of a prompt read
/// before it that it begins with: all of them only where the two are the same, since a prompt comes before those
/// that begin with it.
fn prefill_order(prompts: &[Vec<u32>]) -> Vec<(usize, Option<(usize, usize)>)> {
    let mut rows: Vec<usize> = (0..prompts.len()).collect();
    // Prompts with a long common beginning are neighbours in the order of their ids.
    rows.sort_by(|&a, &b| prompts[a].cmp(&prompts[b]).then(a.cmp(&b)));
    let mut before: Option<usize> = None;
    let mut order = Vec::with_capacity(rows.len());
    for row in rows {
        let shared = before.and_then(|from| {
            let same = prompts[from].iter().zip(&prompts[row]);
            let tokens = same.take_while(|(a, b)| a == b).count();
            (tokens > 0).then_some((from, tokens))
        });
        order.push((row, shared));
        before = Some(row);
    }
    order
}

/// Runs a prompt through the model in chunks; the last token's hidden state (`[1, 1, dim]`), or nothing
/// for an empty prompt. A RoPE that depends on the length takes the prompt whole.
fn prefill(
    env: &Env,
    model: &Decoder,
    cache: &mut KvCache,
    row: usize,
    prompt: &[u32],
    table: &rope::Table,
) -> Result<Option<Tensor>> {
    let chunk = chunk_size(model, prompt.len());
    let mut last = None;
    for ids in prompt.chunks(chunk) {
        let hidden = model.hidden(env, cache, &[row], ids, table)?;
        last = Some(hidden.narrow(1, ids.len() - 1, 1)?.contiguous()?);
    }
    Ok(last)
}

fn chunk_size(model: &Decoder, length: usize) -> usize {
    if model.config.rope.depends_on_length() {
        length.max(1)
    } else {
        CHUNK
    }
}

/// The likeliest id; the lower of equal ones.
fn best_of(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Log-probabilities (nats) of `ids[1..]`, each given all ids before it: `ids.len() - 1` numbers.
pub fn log_probs(env: &Env, model: &Decoder, ids: &[u32]) -> Result<Vec<f32>> {
    log_probs_from(env, model, ids, 1)
}

/// Log-probabilities (nats) of `ids[first..]`, each given all ids before it; `first` is 1 or more. The
/// logits of the tokens before are not made.
pub fn log_probs_from(env: &Env, model: &Decoder, ids: &[u32], first: usize) -> Result<Vec<f32>> {
    let Some(inputs) = ids.len().checked_sub(1).filter(|&n| n > 0) else {
        return Ok(Vec::new());
    };
    let table = model.rope_table(env, inputs)?;
    let mut cache = KvCache::new(env, model, 1, inputs)?;
    let mut out = Vec::with_capacity(inputs);
    let chunk = chunk_size(model, inputs);
    for from in (0..inputs).step_by(chunk) {
        let to = (from + chunk).min(inputs);
        let hidden = model.hidden(env, &mut cache, &[0], &ids[from..to], &table)?;
        // The state of token i gives the probabilities of token i + 1.
        let begin = from.max(first.saturating_sub(1));
        if begin >= to {
            continue;
        }
        let hidden = hidden.narrow(1, begin - from, to - begin)?;
        let targets = &ids[begin + 1..=to];
        let scored = cross_entropy::log_probs(&hidden, &model.head().value, targets)?;
        out.extend(scored.iter().map(|s| s.0));
    }
    Ok(out)
}
