//! What GGUF calls a tensor that Hugging Face calls otherwise.

/// Llama 3's frequency factors: no weight, but a part of the configuration.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Parts of a block: Hugging Face's name, GGUF's.
const BLOCK: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// GGUF's name of a tensor of Hugging Face's name; nothing where GGUF has none.
pub(super) fn to_gguf(name: &str) -> Option<String> {
    let (part, kind) = name.rsplit_once('.')?;
    let part = match part {
        "model.embed_tokens" => "token_embd".to_string(),
        "model.norm" => "output_norm".to_string(),
        "lm_head" => "output".to_string(),
        _ => {
            let (layer, part) = part.strip_prefix("model.layers.")?.split_once('.')?;
            let (_, stored) = BLOCK.iter().find(|(hf, _)| *hf == part)?;
            format!("blk.{layer}.{stored}")
        }
    };
    Some(format!("{part}.{kind}"))
}

/// Whether RoPE turns what this tensor makes, so that the order of its rows matters.
pub(super) fn is_turned(name: &str) -> bool {
    [
        "q_proj.weight",
        "k_proj.weight",
        "q_proj.bias",
        "k_proj.bias",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}
