//! Small GGUF files, written by candle: right ones against what they were made from, wrong ones by their error.
use super::*;
use crate::checkpoint::BaseSpec;
use crate::model::{Decoder, Init, Method, generate};
use crate::ops::Env;
use candle_core::quantized::{
    GgmlDType, QTensor,
    gguf_file::{self, Value},
};
use tempfile::TempDir;

const HEAD_DIM: usize = 16;

fn config() -> ModelConfig {
    ModelConfig::parse(
        r#"{"model_type": "llama", "vocab_size": 260, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "tie_word_embeddings": true,
        "bos_token_id": 257, "eos_token_id": 258, "rope_theta": 50000.0}"#,
    )
    .unwrap()
}

/// Metadata of [`config`] with a byte-level tokenizer of 260 tokens.
fn metadata() -> BTreeMap<String, Value> {
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let mut tokens: Vec<String> = alphabet.into_iter().map(String::from).collect();
    tokens.sort();
    tokens.extend(["th", "<s>", "</s>", "<user>"].map(String::from));
    let kinds = (0..260).map(|id| {
        Value::I32(match id {
            0..257 => 1,
            259 => 4,
            _ => 3,
        })
    });
    let texts = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
    let all = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", Value::U32(64)),
        ("llama.feed_forward_length", Value::U32(96)),
        ("llama.block_count", Value::U32(2)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.context_length", Value::U32(512)),
        ("llama.rope.freq_base", Value::F32(50_000.0)),
        ("llama.rope.dimension_count", Value::U32(16)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("smollm".into())),
        ("tokenizer.ggml.tokens", texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
        ("tokenizer.ggml.merges", texts(vec!["t h".into()])),
        ("tokenizer.ggml.bos_token_id", Value::U32(257)),
        ("tokenizer.ggml.eos_token_id", Value::U32(258)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ];
    all.into_iter()
        .map(|(key, value)| (key.to_string(), value))
        .collect()
}

/// llama.cpp's order of a head's rows: both halves of a pair side by side.
fn interleave(rows: &Tensor) -> Tensor {
    let (total, columns) = rows.dims2().unwrap();
    let heads = rows
        .reshape((total / HEAD_DIM, 2, HEAD_DIM / 2, columns))
        .unwrap();
    let turned = heads.transpose(1, 2).unwrap().contiguous().unwrap();
    turned.reshape((total, columns)).unwrap()
}

/// The model's tensors as llama.cpp stores them, in `dtype` but for vectors.
fn tensors(model: &Decoder, dtype: GgmlDType) -> BTreeMap<String, QTensor> {
    let stored = model.params().into_iter().map(|param| {
        let mut value = param.value.clone();
        if names::is_turned(&param.name) {
            value = interleave(&value);
        }
        let dtype = if value.rank() == 1 {
            GgmlDType::F32
        } else {
            dtype
        };
        let quantised = QTensor::quantize(&value, dtype).unwrap();
        (names::to_gguf(&param.name).unwrap(), quantised)
    });
    stored.collect()
}

fn write(
    folder: &TempDir,
    metadata: &BTreeMap<String, Value>,
    tensors: &BTreeMap<String, QTensor>,
) -> PathBuf {
    let path = folder.path().join("model.gguf");
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}

fn model() -> Decoder {
    let init = Init {
        method: Method::Random,
        seed: 1,
    };
    Decoder::init(&Env::cpu(), &config(), init).unwrap()
}

fn load(path: &Path) -> Result<crate::checkpoint::Checkpoint> {
    BaseSpec::of_path(path.to_str().unwrap()).load(&Env::cpu())
}

#[test]
fn a_file_of_f32_gives_the_model_that_it_was_made_from() {
    let folder = TempDir::new().unwrap();
    let model = model();
    let path = write(&folder, &metadata(), &tensors(&model, GgmlDType::F32));
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.model.config, config());
    let ids: Vec<u32> = (0..40).map(|i| i * 7 % 257).collect();
    let scores = |model: &Decoder| generate::log_probs(&Env::cpu(), model, &ids).unwrap();
    assert_eq!(scores(&loaded.model), scores(&model));
}
