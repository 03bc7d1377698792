//! Llama's logits against candle-transformers' Llama, a second implementation of it.
use super::{cache::KvCache, *};
use crate::ops::{Env, linear, testing::normal, to_vec};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama;

/// Largest difference of a logit.
const LOGIT: f32 = 1e-4;

/// The logits of every token, by ours in one pass and by candle's token by token, which keeps keys and
/// values.
fn compare(said: &str) {
    let text = format!(
        r#"{{"model_type": "llama", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512, "initializer_range": 0.15 {said}}}"#
    );
    let env = Env::cpu();
    let config = ModelConfig::parse(&text).unwrap();
    let method = Method::Random;
    let model = Decoder::init(&env, &config, Init { seed: 9, method }).unwrap();
    let ids: Vec<u32> = normal(4, 130)
        .iter()
        .map(|x| (x.abs() * 1e4) as u32 % 97)
        .collect();

    let table = model.rope_table(&env, ids.len()).unwrap();
    let mut cache = KvCache::new(&env, &model, 1, ids.len()).unwrap();
    let hidden = model.hidden(&env, &mut cache, &[0], &ids, &table).unwrap();
    let ours = linear::forward(&env, &hidden, &model.head().value).unwrap();
    let ours = to_vec::<f32>(&ours).unwrap();

    let theirs: llama::LlamaConfig = serde_json::from_str(&text).unwrap();
    let theirs = theirs.into_config(false);
    let weights = model.params().into_iter();
    let weights = weights.map(|p| (p.name.clone(), p.value.clone())).collect();
    let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let reference = llama::Llama::load(weights, &theirs).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &theirs, &Device::Cpu).unwrap();
    let mut spread = 0f32;
    for (at, (&id, ours)) in ids.iter().zip(ours.chunks_exact(97)).enumerate() {
        let input = Tensor::new(&[[id]], &Device::Cpu).unwrap();
        let logits = reference.forward(&input, at, &mut cache).unwrap();
        let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (ours, theirs) in ours.iter().zip(&logits) {
            assert!(
                (ours - theirs).abs() <= LOGIT,
                "{said} at {at}: {ours} {theirs}"
            );
            spread = spread.max(theirs.abs());
        }
    }
    assert!(spread > 1.0, "the logits are all about 0: {spread}");
}

#[test]
fn llama_is_candles_llama() {
    compare("");
    compare(r#", "tie_word_embeddings": true, "rope_theta": 1e6"#);
    compare(
        r#", "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}"#,
    );
}
