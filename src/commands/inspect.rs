//! `harness inspect`: what a checkpoint is.
use crate::{
    checkpoint::{BaseSpec, dtype_name},
    evals::Tokens,
    experiment,
    model::{ModelConfig, rope},
    say,
};
use anyhow::Result;
use candle_core::DType;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// `harness inspect C`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A folder in Hugging Face's layout, or a .gguf file.
    checkpoint: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Inspected {
    /// Hash of the content.
    content: String,
    family: &'static str,
    shape: BTreeMap<&'static str, usize>,
    sliding_window: Option<usize>,
    parameters: usize,
    tie_word_embeddings: bool,
    tokenizer: Tokenizer,
    context: usize,
    rope: Rope,
    memory: Memory,
    export: Export,
}

#[derive(Debug, Serialize)]
struct Tokenizer {
    kind: String,
    ids: usize,
    /// Special tokens that a text begins with.
    leading: Vec<String>,
    bos: Option<String>,
    eos: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Rope {
    identity: String,
    base: f64,
    /// The base above which every base tells far tokens apart up to the context at this head dimension.
    smallest_base: f64,
    /// The first position at which its base, without scaling, does not.
    first_violation: Option<usize>,
    parameters: Value,
}

/// Bytes to train it on one sequence of its context.
#[derive(Debug, Serialize)]
struct Memory {
    /// Weights, gradients and moments.
    state: usize,
    whole: usize,
    /// With each block's forward done again in its backward.
    recompute: usize,
}

#[derive(Debug, Serialize)]
struct Export {
    architecture: &'static str,
    dtype: String,
    bytes: usize,
    tensors: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let spec = BaseSpec::named(&arguments.checkpoint);
    spec.check()?;
    let found = inspect(&spec, &spec.config()?)?;
    match arguments.json {
        true => say::out(serde_json::to_string_pretty(&found)?)?,
        false => say::out(text(&found))?,
    }
    Ok(super::OK)
}

fn inspect(spec: &BaseSpec, config: &ModelConfig) -> Result<Inspected> {
    let tokenizer = spec.tokenizer()?;
    let token = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
    let leading = Tokens::new(&tokenizer)?.leading().to_vec();
    let model: Value = serde_json::to_value(tokenizer.get_model())?;
    let context = config.max_position_embeddings;
    let stored = spec.stored_dtypes()?;
    let dtype = |name: &str| stored.get(name).copied().unwrap_or(DType::F32);
    let tensors = config.tensors();
    let names: std::collections::BTreeSet<&str> = tensors
        .iter()
        .map(|(name, _)| dtype_name(dtype(name)))
        .collect();
    let bytes = |(name, shape): &(String, Vec<usize>)| {
        shape.iter().product::<usize>() * dtype(name).size_in_bytes()
    };
    let shape = [
        ("layers", config.num_hidden_layers),
        ("hidden_size", config.hidden_size),
        ("heads", config.num_attention_heads),
        ("key_value_heads", config.num_key_value_heads),
        ("head_dim", config.head_dim),
        ("intermediate_size", config.intermediate_size),
        ("vocab_size", config.vocab_size),
    ];
    Ok(Inspected {
        content: spec.content_hash()?,
        family: config.family.model_type(),
        shape: shape.into(),
        sliding_window: config.sliding_window,
        parameters: config.num_parameters(),
        tie_word_embeddings: config.tie_word_embeddings,
        tokenizer: Tokenizer {
            kind: model["type"].as_str().unwrap_or("unknown").to_string(),
            ids: tokenizer.get_vocab_size(true),
            leading: leading
                .into_iter()
                .filter_map(|id| token(Some(id)))
                .collect(),
            bos: token(config.bos_token_id),
            eos: config
                .eos_token_id
                .iter()
                .filter_map(|&id| token(Some(id)))
                .collect(),
        },
        context,
        rope: Rope {
            identity: config.rope.identity(config.head_dim, context)?,
            base: config.rope.rope_theta,
            smallest_base: rope::smallest_base(config.head_dim, context),
            first_violation: rope::first_violation(
                config.rope.rope_theta,
                config.head_dim,
                context,
            ),
            parameters: config.to_json()["rope_parameters"].clone(),
        },
        memory: Memory {
            state: experiment::training_bytes(config, 0, false),
            whole: experiment::training_bytes(config, context, false),
            recompute: experiment::training_bytes(config, context, true),
        },
        export: Export {
            architecture: config.family.architecture(),
            dtype: names.into_iter().collect::<Vec<_>>().join(" and "),
            bytes: tensors.iter().map(bytes).sum(),
            tensors: tensors.len(),
        },
    })
}

fn text(found: &Inspected) -> String {
    let mut text = String::new();
    let mib = |bytes: usize| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let shape = &found.shape;
    let size = |key: &str| shape.get(key).copied().unwrap_or_default();
    let mut line = |name: &str, value: String| text += &format!("{name:<12}{value}\n");
    line("content", found.content.clone());
    let window = found
        .sliding_window
        .map_or(String::new(), |w| format!(", window {w}"));
    line("family", format!("{}{window}", found.family));
    line(
        "shape",
        format!(
            "{} layers of {}, {} heads of {} ({} of keys and values), feed-forward {}, {} ids",
            size("layers"),
            size("hidden_size"),
            size("heads"),
            size("head_dim"),
            size("key_value_heads"),
            size("intermediate_size"),
            size("vocab_size")
        ),
    );
    let tied = match found.tie_word_embeddings {
        true => "the embedding is the head",
        false => "a head of its own",
    };
    line("parameters", format!("{}, {tied}", found.parameters));
    let tokenizer = &found.tokenizer;
    let named = |token: &Option<String>| token.clone().unwrap_or_else(|| "none".into());
    line(
        "tokenizer",
        format!(
            "{} of {} ids; BOS {}, EOS {}; a text begins with {}",
            tokenizer.kind,
            tokenizer.ids,
            named(&tokenizer.bos),
            match tokenizer.eos.is_empty() {
                true => "none".to_string(),
                false => tokenizer.eos.join(" "),
            },
            match tokenizer.leading.is_empty() {
                true => "nothing special".to_string(),
                false => tokenizer.leading.join(" "),
            }
        ),
    );
    line("context", format!("{} tokens", found.context));
    let rope = &found.rope;
    line(
        "RoPE",
        format!("{}, identity {}", rope.parameters, rope.identity),
    );
    let asked = format!(
        "{} tokens ask for a base of {:.2e} at head dimension {}",
        found.context,
        rope.smallest_base,
        size("head_dim")
    );
    line(
        "",
        match rope.first_violation {
            None => format!("{asked}; its base {:.2e} holds", rope.base),
            Some(m) => format!(
                "{asked}; its base {:.2e} fails first at position {m}",
                rope.base
            ),
        },
    );
    let memory = &found.memory;
    line(
        "training",
        format!(
            "{} of weights, gradients and moments; with one sequence of its context {}, with recompute {}",
            mib(memory.state),
            mib(memory.whole),
            mib(memory.recompute)
        ),
    );
    let export = &found.export;
    line(
        "export",
        format!(
            "{}, {} tensors, {} in {}",
            export.architecture,
            export.tensors,
            mib(export.bytes),
            export.dtype
        ),
    );
    text
}
