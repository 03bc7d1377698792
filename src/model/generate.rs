//! Inference: greedy generation with a KV cache, and scoring of given tokens.
use super::Decoder;
use crate::ops::{Env, Error};

/// Greedy continuation of each prompt, batched, with a KV cache: up to `max_new_tokens` ids a prompt,
/// ended after the first id that is in `stop`. A prompt's result does not depend on the others.
pub fn greedy(_env: &Env, _model: &Decoder, _prompts: &[Vec<u32>], _max_new_tokens: usize, _stop: &[u32]) -> Result<Vec<Vec<u32>>, Error> {
    todo!()
}

/// Log-probabilities (nats) of `ids[1..]`, each given all ids before it: `ids.len() - 1` numbers.
/// A position's result does not depend on `ids` after it.
pub fn log_probs(_env: &Env, _model: &Decoder, _ids: &[u32]) -> Result<Vec<f32>, Error> {
    todo!()
}
