//! `config.json` of a GGUF file's metadata.
use super::{Gguf, names::ROPE_FREQS};
use candle_core::Device;
use serde_json::{Map, Value, json};
use std::{fs::File, io::BufReader};

/// The architectures that are read: GGUF's name, Hugging Face's `model_type`, and whether the rows of
/// queries and keys are stored in the order of pairs that stand side by side.
const ARCHITECTURES: [(&str, &str, bool); 3] = [
    ("llama", "llama", true),
    ("qwen2", "qwen2", false),
    ("qwen3", "qwen3", false),
];

fn architecture(file: &Gguf) -> Result<(&'static str, &'static str, bool), String> {
    let said = file
        .metadata
        .text("general.architecture")?
        .ok_or("metadata general.architecture is missing")?;
    let found = ARCHITECTURES.iter().find(|(name, ..)| *name == said);
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, ..)| *name).collect();
        format!(
            "architecture {said:?} is not supported; {} are",
            known.join(", ")
        )
    })
}

/// Whether the rows of queries and keys are stored in the order of pairs that stand side by side.
pub(super) fn interleaved(file: &Gguf) -> Result<bool, String> {
    Ok(architecture(file)?.2)
}

/// The configuration as Hugging Face would write it.
pub(super) fn json(file: &Gguf) -> Result<Value, String> {
    let (name, model_type, _) = architecture(file)?;
    let metadata = &file.metadata;
    let key = |end: &str| format!("{name}.{end}");
    let size = |end: &str| metadata.need_size(&key(end));
    if metadata.size(&key("expert_count"))?.is_some_and(|n| n > 0) {
        return Err("is a mixture of experts, which is not supported".into());
    }
    let hidden_size = size("embedding_length")?;
    let heads = size("attention.head_count")?;
    let head_dim = match metadata.size(&key("attention.key_length"))? {
        Some(length) => length,
        None => hidden_size / heads.max(1),
    };
    for end in ["rope.dimension_count", "attention.value_length"] {
        if let Some(other) = metadata.size(&key(end))?.filter(|n| *n != head_dim) {
            return Err(format!(
                "metadata {} = {other} is not the head dimension {head_dim}; that is not supported",
                key(end)
            ));
        }
    }
    let embedding = file
        .tensors
        .get("token_embd.weight")
        .ok_or("tensor token_embd.weight is missing")?;
    let context = size("context_length")?;
    let window = metadata.size(&key("attention.sliding_window"))?;
    // llama.cpp knows Mistral as a Llama; its window tells.
    let model_type = match (model_type, window) {
        ("llama", Some(_)) => "mistral",
        _ => model_type,
    };
    let mut config = json!({
        "model_type": model_type,
        "vocab_size": embedding.shape.dims().first(),
        "hidden_size": hidden_size,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": size("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.size(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": head_dim,
        "rms_norm_eps": metadata.number(&key("attention.layer_norm_rms_epsilon"))?,
        "max_position_embeddings": context,
        "tie_word_embeddings": !file.tensors.contains_key("output.weight"),
        "bos_token_id": metadata.size("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": metadata.size("tokenizer.ggml.eos_token_id")?,
        "sliding_window": window,
        "rope_parameters": rope(file, &key, context, head_dim)?,
    });
    // Llama itself has no biases; a file that has them says so by having them.
    if model_type == "llama" && file.tensors.contains_key("blk.0.attn_q.bias") {
        config["attention_bias"] = true.into();
    }
    Ok(config)
}

/// `rope_parameters` of the metadata and, for Llama 3, of the factors that the file keeps as a tensor.
fn rope(
    file: &Gguf,
    key: &impl Fn(&str) -> String,
    context: u64,
    head_dim: u64,
) -> Result<Value, String> {
    let metadata = &file.metadata;
    // llama.cpp's default where the file says nothing.
    let base = metadata.number(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let mut said = Map::new();
    said.insert("rope_theta".into(), base.into());
    said.insert("rope_type".into(), "default".into());
    if let Some(factors) = rope_factors(file)? {
        if factors.len() as u64 * 2 != head_dim {
            return Err(format!(
                "tensor {ROPE_FREQS} has {} factors for {} frequencies",
                factors.len(),
                head_dim / 2
            ));
        }
        said.extend(of_factors(&factors, base, context));
        return Ok(Value::Object(said));
    }
    // Files of 2023 say linear scaling by a key of its own.
    let old = metadata.number(&key("rope.scale_linear"))?;
    let factor = metadata.number(&key("rope.scaling.factor"))?.or(old);
    let kind = metadata.text(&key("rope.scaling.type"))?;
    let kind = kind.unwrap_or(if old.is_some() { "linear" } else { "none" });
    match kind {
        "none" => {}
        "linear" | "yarn" => {
            said.insert("rope_type".into(), kind.into());
            said.insert("factor".into(), factor.into());
        }
        other => {
            return Err(format!(
                "metadata {} = {other:?} is not supported; none, linear and yarn are",
                key("rope.scaling.type")
            ));
        }
    }
    if kind == "yarn" {
        let original = metadata.size(&key("rope.scaling.original_context_length"))?;
        let numbers = [
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
        ];
        said.insert("original_max_position_embeddings".into(), original.into());
        for (name, end) in numbers {
            if let Some(number) = metadata.number(&key(end))? {
                said.insert(name.into(), number.into());
            }
        }
    }
    Ok(Value::Object(said))
}

/// What each frequency is divided by, where the file says it.
fn rope_factors(file: &Gguf) -> Result<Option<Vec<f32>>, String> {
    let Some(info) = file.tensors.get(ROPE_FREQS) else {
        return Ok(None);
    };
    let read = || -> candle_core::Result<Vec<f32>> {
        let mut reader = BufReader::new(File::open(&file.path)?);
        let factors = info.read(&mut reader, file.data, &Device::Cpu)?;
        factors.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()
    };
    read()
        .map(Some)
        .map_err(|e| format!("tensor {ROPE_FREQS}: {e}"))
}

/// Llama 3's parameters where they give these factors; otherwise the factors themselves, in the form of
/// longrope.
fn of_factors(factors: &[f32], base: f64, context: u64) -> Map<String, Value> {
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let (low, high, original) = (1.0, 4.0, 8192.0);
    let llama3 = |i: usize| {
        let w = base.powf(-(i as f64) / factors.len() as f64);
        let turns = original * w / (2.0 * std::f64::consts::PI);
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / f64::from(factor) + smooth)
    };
    let fits = |(i, f): (usize, &f32)| (llama3(i) / f64::from(*f) - 1.0).abs() < 1e-5;
    let said = if factors.iter().enumerate().all(fits) {
        json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": original as u64})
    } else {
        json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors,
            "attention_factor": 1.0, "original_max_position_embeddings": context})
    };
    said.as_object().cloned().unwrap_or_default()
}
