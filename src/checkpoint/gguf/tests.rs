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

#[test]
fn quantised_files_give_what_their_blocks_stand_for() {
    let folder = TempDir::new().unwrap();
    let mut model = model();
    for (dtype, most) in [
        (GgmlDType::F16, 1e-3),
        (GgmlDType::BF16, 1e-2),
        (GgmlDType::Q8_0, 1e-2),
        (GgmlDType::Q5_1, 0.1),
        (GgmlDType::Q5_0, 0.1),
        (GgmlDType::Q4_1, 0.2),
        (GgmlDType::Q4_0, 0.2),
    ] {
        let stored = tensors(&model, dtype);
        let loaded = load(&write(&folder, &metadata(), &stored)).unwrap();
        for (param, read) in model.params().iter().zip(loaded.model.params()) {
            let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut wanted = stored[&names::to_gguf(&param.name).unwrap()]
                .dequantize(&Device::Cpu)
                .unwrap();
            if names::is_turned(&param.name) {
                wanted = half_split(&wanted, HEAD_DIM).unwrap();
            }
            assert_eq!(
                numbers(&read.value),
                numbers(&wanted),
                "{dtype:?} {}",
                param.name
            );
            let (a, b) = (numbers(&read.value), numbers(&param.value));
            let largest = b.iter().fold(0f32, |m, x| m.max(x.abs()));
            let worst = a
                .iter()
                .zip(&b)
                .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= most * largest, "{dtype:?} {}: {worst}", param.name);
        }
    }
    // Blocks of 256: a model whose rows have as many.
    model.config.hidden_size = 256;
    for dtype in [
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let numbers: Vec<f32> = (0..260 * 256)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
            .collect();
        let tensor = Tensor::from_vec(numbers.clone(), (260, 256), &Device::Cpu).unwrap();
        let all = BTreeMap::from([(
            "token_embd.weight".to_string(),
            QTensor::quantize(&tensor, dtype).unwrap(),
        )]);
        let file = Gguf::open(&write(&folder, &metadata(), &all)).unwrap();
        let info = &file.tensors["token_embd.weight"];
        let mut reader = BufReader::new(File::open(&file.path).unwrap());
        let read = info.read(&mut reader, file.data, &Device::Cpu).unwrap();
        let read = read
            .dequantize(&Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap();
        let read = read.to_vec1::<f32>().unwrap();
        let worst = read
            .iter()
            .zip(&numbers)
            .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 0.5, "{dtype:?}: {worst}");
    }
}

#[test]
fn the_tokenizer_splits_as_the_metadata_say() {
    let with = |pre: &str| {
        let mut metadata = metadata();
        metadata.insert("tokenizer.ggml.pre".into(), Value::String(pre.into()));
        tokenizer::build(&Metadata(metadata.into_iter().collect())).unwrap()
    };
    let words = |pre: &str, text: &str| -> Vec<String> {
        let encoding = with(pre).encode(text, false).unwrap();
        let mut words: Vec<(u32, String)> = Vec::new();
        for (word, token) in encoding.get_word_ids().iter().zip(encoding.get_tokens()) {
            match words.last_mut() {
                Some((last, text)) if Some(*last) == *word => text.push_str(token),
                _ => words.push((word.unwrap(), token.clone())),
            }
        }
        words.into_iter().map(|(_, text)| text).collect()
    };
    // Two spaces before a number: with digits apart they stay together.
    assert_eq!(words("gpt-2", "a  12"), ["a", "Ġ", "Ġ12"]);
    assert_eq!(words("smollm", "a  12"), ["a", "ĠĠ", "1", "2"]);
    assert_eq!(
        words("llama-bpe", "I'LL 1234"),
        ["I", "'LL", "Ġ", "123", "4"]
    );
    assert_eq!(words("qwen2", "I'll 12"), ["I", "'ll", "Ġ", "1", "2"]);
    let tokenizer = with("smollm");
    let ids = |special| {
        tokenizer
            .encode("the</s><user>", special)
            .unwrap()
            .get_ids()
            .to_vec()
    };
    assert_eq!(
        ids(false),
        [256, tokenizer.token_to_id("e").unwrap(), 258, 259]
    );
    assert_eq!(ids(true)[0], 257);
    assert_eq!(tokenizer.decode(&ids(true), true).unwrap(), "the<user>");
}

#[test]
fn sentencepiece_merges_by_score_and_falls_back_to_bytes() {
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend(bytes.iter().map(String::as_str));
    tokens.extend(["▁", "a", "b", "c", "▁a", "ab", "bc", "abc"]);
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    let count = tokens.len();
    // bc is better than ab, which a merge by place would take first.
    let score = |token: &&str| match *token {
        "bc" => -1.0,
        "ab" => -2.0,
        "abc" => -3.0,
        "▁a" => -4.0,
        _ => -9.0,
    };
    let all = [
        ("tokenizer.ggml.model", Value::String("llama".into())),
        (
            "tokenizer.ggml.scores",
            Value::Array(tokens.iter().map(|t| Value::F32(score(t))).collect()),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array((0..count).map(|id| Value::I32(kind(id))).collect()),
        ),
        (
            "tokenizer.ggml.tokens",
            Value::Array(
                tokens
                    .iter()
                    .map(|t| Value::String(t.to_string()))
                    .collect(),
            ),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
    ];
    let metadata = all
        .into_iter()
        .map(|(key, value)| (key.to_string(), value))
        .collect();
    let tokenizer = tokenizer::build(&Metadata(metadata)).unwrap();
    let encoded = |text: &str| tokenizer.encode(text, true).unwrap().get_tokens().to_vec();
    assert_eq!(encoded("abc"), ["<s>", "▁", "abc"]);
    assert_eq!(encoded("ab a"), ["<s>", "▁", "ab", "▁a"]);
    // A space before the text is one more, as SentencePiece has it.
    assert_eq!(encoded(" a"), ["<s>", "▁", "▁a"]);
    assert_eq!(encoded("é"), ["<s>", "▁", "<0xC3>", "<0xA9>"]);
    let ids = tokenizer.encode("ab é a", true).unwrap();
    assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), "ab é a");
}

#[test]
fn rope_scaling_of_the_metadata() {
    let folder = TempDir::new().unwrap();
    let model = model();
    let rope = |extra: &[(&str, Value)], factors: Option<Vec<f32>>| {
        let mut metadata = metadata();
        metadata.extend(
            extra
                .iter()
                .map(|(key, value)| (key.to_string(), value.clone())),
        );
        let mut tensors = tensors(&model, GgmlDType::F32);
        if let Some(factors) = factors {
            let factors = Tensor::new(factors, &Device::Cpu).unwrap();
            let factors = QTensor::quantize(&factors, GgmlDType::F32).unwrap();
            tensors.insert(names::ROPE_FREQS.into(), factors);
        }
        load(&write(&folder, &metadata, &tensors)).map(|loaded| loaded.model.config.rope)
    };
    let said = |text: &str| {
        let spec: crate::model::RopeSpec = toml::from_str(text).unwrap();
        spec.resolve(50_000.0).unwrap()
    };
    let kind = |kind: &str| ("llama.rope.scaling.type", Value::String(kind.into()));
    let factor = ("llama.rope.scaling.factor", Value::F32(4.0));
    let linear = rope(&[kind("linear"), factor.clone()], None).unwrap();
    assert_eq!(linear, said("scaling = 'linear'\nfactor = 4"));
    let original = (
        "llama.rope.scaling.original_context_length",
        Value::U32(128),
    );
    let yarn = rope(&[kind("yarn"), factor.clone(), original], None).unwrap();
    assert_eq!(
        yarn,
        said("scaling = 'yarn'\nfactor = 4\noriginal_context = 128")
    );
    let error = rope(&[kind("spiral"), factor], None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("none, linear and yarn"), "{error}");
    // Llama 3.1's factors are found again; others stay factors.
    let llama3 = said(
        "scaling = 'llama3'\nfactor = 8\noriginal_context = 8192\nlow_freq_factor = 1\nhigh_freq_factor = 4",
    );
    let plain = said("").inv_freq(HEAD_DIM, 1).unwrap();
    let scaled = llama3.inv_freq(HEAD_DIM, 1).unwrap();
    let factors: Vec<f32> = plain.iter().zip(&scaled).map(|(a, b)| a / b).collect();
    assert_eq!(rope(&[], Some(factors)).unwrap(), llama3);
    let odd: Vec<f32> = (0..8).map(|i| 1.0 + i as f32).collect();
    let read = rope(&[], Some(odd.clone()))
        .unwrap()
        .inv_freq(HEAD_DIM, 1)
        .unwrap();
    for ((read, plain), factor) in read.iter().zip(&plain).zip(&odd) {
        assert!((read * factor / plain - 1.0).abs() < 1e-6);
    }
}

/// Every damage gives one line that names the file, and no panic.
#[test]
fn damaged_files_are_one_clear_error() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, &metadata(), &tensors(&model(), GgmlDType::Q8_0));
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("checkpoint ") && !error.contains('\n'),
            "{what}: {error}"
        );
        error
    };
    for cut in [0, 3, 20, 500, whole.len() / 2, whole.len() - 40] {
        let error = refused(&whole[..cut], "cut");
        assert!(error.contains("fetch it again"), "{error}");
    }
    // A flipped byte of the header is refused or harmless.
    for at in (0..4000).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = load(&path) {
            assert!(!error.to_string().contains('\n'), "{at}: {error}");
        }
    }
    let changed = |key: &str, value: Option<Value>, words: &str| {
        let mut metadata = metadata();
        match value {
            Some(value) => metadata.insert(key.into(), value),
            None => metadata.remove(key),
        };
        write(&folder, &metadata, &tensors(&model(), GgmlDType::Q8_0));
        let bytes = std::fs::read(&path).unwrap();
        let error = refused(&bytes, key);
        assert!(error.contains(words), "{error}");
    };
    let text = |text: &str| Some(Value::String(text.into()));
    changed(
        "general.alignment",
        Some(Value::U32(0)),
        "general.alignment",
    );
    changed("general.architecture", text("mamba"), "llama, qwen2, qwen3");
    changed("tokenizer.ggml.pre", text("klingon"), "klingon");
    changed(
        "tokenizer.ggml.model",
        text("t5"),
        "\"t5\" is not supported",
    );
    changed("llama.block_count", None, "llama.block_count is missing");
    changed("llama.block_count", Some(Value::U32(1)), "tensor blk.1.");
    changed(
        "llama.block_count",
        Some(Value::U32(3)),
        "tensor blk.2.attn_norm.weight is missing",
    );
    changed(
        "llama.feed_forward_length",
        Some(Value::U32(64)),
        "asks for [64, 64]",
    );
    changed(
        "llama.rope.dimension_count",
        Some(Value::U32(8)),
        "not the head dimension 16",
    );
    changed(
        "llama.expert_count",
        Some(Value::U32(8)),
        "mixture of experts",
    );
    changed(
        "tokenizer.ggml.bos_token_id",
        Some(Value::U32(9999)),
        "9999",
    );
}
