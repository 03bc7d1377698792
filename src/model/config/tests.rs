//! What is read, what is written, and how much there is of it.
use super::*;
use crate::model::Result;

const TEXT: &str = r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
    "tie_word_embeddings": true, "eos_token_id": [3, 4], "rope_theta": 10000.0}"#;

#[test]
fn reads_what_it_writes() -> Result<()> {
    let config = ModelConfig::parse(TEXT)?;
    assert_eq!(
        (config.head_dim, &config.eos_token_id[..]),
        (8, &[3, 4][..])
    );
    assert_eq!(config.to_json()["eos_token_id"], serde_json::json!([3, 4]));
    let again = ModelConfig::parse(&config.to_json().to_string())?;
    assert_eq!(config, again);
    Ok(())
}

#[test]
fn counts_weights() -> Result<()> {
    let config = ModelConfig::parse(TEXT)?;
    let block = 32 + 32 * 32 + 2 * 16 * 32 + 32 * 32 + 32 + 3 * 64 * 32;
    assert_eq!(config.num_parameters(), 100 * 32 + 2 * block + 32);
    assert_eq!(
        config.num_product_weights(),
        config.num_parameters() - 5 * 32
    );
    Ok(())
}

/// What is said on top of a small configuration.
fn with(said: &str) -> String {
    let mut json: Value = serde_json::from_str(TEXT).unwrap();
    let said: Map<String, Value> = serde_json::from_str(said).unwrap();
    for (key, value) in said {
        match value {
            // Takes the key away.
            Value::String(word) if word == "missing" => json.as_object_mut().unwrap().remove(&key),
            value => json.as_object_mut().unwrap().insert(key, value),
        };
    }
    json.to_string()
}

#[test]
fn each_family_reads_what_it_writes() -> Result<()> {
    let cases = [
        r#"{"model_type": "llama", "attention_bias": true, "mlp_bias": true}"#,
        r#"{"model_type": "mistral"}"#,
        r#"{"model_type": "mistral", "sliding_window": null}"#,
        r#"{"model_type": "mistral", "sliding_window": 17}"#,
        r#"{"model_type": "qwen2", "sliding_window": 17, "use_sliding_window": false}"#,
        r#"{"model_type": "qwen2", "sliding_window": 17, "use_sliding_window": true, "max_window_layers": 1}"#,
        r#"{"model_type": "qwen3", "head_dim": 16, "attention_bias": true}"#,
        r#"{"model_type": "qwen3", "use_sliding_window": true, "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention"]}"#,
    ];
    for said in cases {
        let config = ModelConfig::parse(&with(said))?;
        let written = config.to_json();
        let family = config.family;
        assert_eq!(written["model_type"], family.model_type());
        assert_eq!(written["architectures"][0], family.architecture());
        assert_eq!(ModelConfig::parse(&written.to_string())?, config, "{said}");
        // By the architecture alone it is the same family.
        let mut unnamed = written.clone();
        unnamed.as_object_mut().unwrap().remove("model_type");
        assert_eq!(ModelConfig::parse(&unnamed.to_string())?, config, "{said}");
    }
    Ok(())
}

#[test]
fn the_rope_of_a_stage_is_read_back() -> Result<()> {
    for (rope, context) in [
        ("base = 1e6", 2048),
        ("scaling = 'yarn'\nfactor = 4\noriginal_context = 512", 2048),
        // transformers stretches it from max_position_embeddings.
        (
            "scaling = 'dynamic'\nfactor = 2\noriginal_context = 512",
            512,
        ),
    ] {
        let mut config = ModelConfig::parse(TEXT)?;
        let spec: crate::model::RopeSpec = toml::from_str(rope).unwrap();
        config.set_rope(spec.resolve(1e4)?, 2048);
        let written = config.to_json();
        assert_eq!(written["max_position_embeddings"], context, "{rope}");
        assert_eq!(ModelConfig::parse(&written.to_string())?, config, "{rope}");
    }
    Ok(())
}

#[test]
fn what_is_not_said_is_what_transformers_takes() -> Result<()> {
    let read = |said: &str| ModelConfig::parse(&with(said));
    let windows = |c: &ModelConfig| [c.window(0), c.window(1)];
    let llama = read(r#"{"sliding_window": 17, "num_key_value_heads": null}"#)?;
    assert_eq!(windows(&llama), [None, None]);
    assert_eq!((llama.num_key_value_heads, llama.qkv_bias), (4, false));
    let mistral = read(r#"{"model_type": "mistral", "attention_bias": true}"#)?;
    assert_eq!(windows(&mistral), [Some(4096), Some(4096)]);
    assert!(!mistral.qkv_bias);
    let qwen2 = read(r#"{"model_type": "qwen2", "sliding_window": 9, "max_window_layers": 0}"#)?;
    assert_eq!(windows(&qwen2), [None, None]);
    assert!(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.qk_norm);
    let slides = r#"{"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": true"#;
    let qwen2 = read(&format!(r#"{slides}, "max_window_layers": 1}}"#))?;
    assert_eq!(windows(&qwen2), [None, Some(9)]);
    assert_eq!(windows(&read(&format!("{slides}}}"))?), [None, None]);
    let qwen3 = read(r#"{"model_type": "qwen3"}"#)?;
    assert!(qwen3.qk_norm && !qwen3.qkv_bias && qwen3.head_dim == 128);
    Ok(())
}

#[test]
fn weights_are_named_as_the_families_name_them() -> Result<()> {
    let names = |said: &str| -> Result<Vec<String>> {
        let all = ModelConfig::parse(&with(said))?.tensors();
        let of_layer = |(name, _): (String, Vec<usize>)| {
            let name = name.strip_prefix("model.layers.1.")?;
            (name.ends_with("bias") || name.contains("q_norm")).then(|| name.to_string())
        };
        Ok(all.into_iter().filter_map(of_layer).collect())
    };
    assert_eq!(names("{}")?, [""; 0]);
    let qkv = ["q", "k", "v"].map(|p| format!("self_attn.{p}_proj.bias"));
    assert_eq!(names(r#"{"model_type": "qwen2"}"#)?, qkv);
    let qwen3 = ["self_attn.q_norm.weight"];
    assert_eq!(names(r#"{"model_type": "qwen3"}"#)?, qwen3);
    assert_eq!(
        names(r#"{"attention_bias": true, "mlp_bias": true}"#)?.len(),
        7
    );
    Ok(())
}

#[test]
fn a_bad_field_is_named() {
    for (said, words) in [
        (r#"{"vocab_size": "missing"}"#, ["vocab_size is missing"; 2]),
        (
            r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#,
            [
                "MambaForCausalLM (model_type mamba)",
                "Qwen3ForCausalLM (qwen3)",
            ],
        ),
        (
            r#"{"architectures": ["LlamaForSequenceClassification"]}"#,
            ["LlamaForSequenceClassification", "LlamaForCausalLM"],
        ),
        (
            r#"{"num_key_value_heads": 3}"#,
            ["multiple", "num_key_value_heads = 3"],
        ),
        (
            r#"{"max_position_embeddings": "many"}"#,
            ["max_position_embeddings"; 2],
        ),
        (r#"{"hidden_act": "gelu"}"#, ["hidden_act", "silu"]),
        (r#"{"tie_word_embeddings": 1}"#, ["tie_word_embeddings"; 2]),
        (
            r#"{"quantization_config": {"bits": 4}}"#,
            ["quantization_config"; 2],
        ),
        (
            r#"{"model_type": "mistral", "sliding_window": 0}"#,
            ["sliding_window"; 2],
        ),
        (
            r#"{"model_type": "qwen2", "use_sliding_window": true, "layer_types": ["full_attention"]}"#,
            ["layer_types has 1 entries", "num_hidden_layers = 2"],
        ),
        (
            r#"{"model_type": "qwen2", "use_sliding_window": true, "layer_types": ["linear_attention", "full_attention"]}"#,
            ["linear_attention", "sliding_attention"],
        ),
        (
            r#"{"rope_scaling": {"type": "su", "factor": 2}}"#,
            ["rope_type = \"su\"", "longrope"],
        ),
        (
            r#"{"rope_scaling": {"type": "ntk", "factor": 2}}"#,
            ["rope_type = \"ntk\"", "dynamic"],
        ),
        (
            r#"{"rope_scaling": {"type": "yarn", "factor": "4"}}"#,
            ["factor = \"4\"", "RoPE"],
        ),
        (
            r#"{"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [1, "2", 3, 4]}}"#,
            ["long_factor = ", "RoPE"],
        ),
        (
            r#"{"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [1, 2, 3]}}"#,
            ["3 factors for 4 frequencies"; 2],
        ),
        (
            r#"{"partial_rotary_factor": 0.5}"#,
            ["partial_rotary_factor = 0.5"; 2],
        ),
        (
            r#"{"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}"#,
            ["rope_parameters.full_attention"; 2],
        ),
    ] {
        let error = ModelConfig::parse(&with(said)).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{said}: {error}");
        }
    }
}
