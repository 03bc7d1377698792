//! `harness export` and `harness inspect`.
mod small;

use serde_json::{Value, json};
use small::Work;
use std::{fs, path::PathBuf};

fn json_of(work: &Work, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(work.path(file)).unwrap()).unwrap()
}

fn trial(work: &Work, named: &str) -> PathBuf {
    let trials = fs::read_dir(work.path("results/trials")).unwrap();
    let found = trials.map(|entry| entry.unwrap().path()).find(|trial| {
        let result = fs::read_to_string(trial.join("result.json")).unwrap();
        serde_json::from_str::<Value>(&result).unwrap()["name"] == named
    });
    found.unwrap()
}

#[test]
fn a_trial_becomes_a_folder_that_says_what_it_is() {
    let work = Work::new();
    work.replace("study.toml", "seeds = [0, 1]", "seeds = [0]");
    let (code, _, error) = work.run(&["sweep", "study.toml", "--out", "results", "--quiet"]);
    assert_eq!(code, 0, "{error}");
    let yarn = trial(&work, "rope=yarn-4,seed=0");
    let yarn = yarn.to_str().unwrap();
    let export = [
        "export",
        yarn,
        "out/yarn",
        "--dtype",
        "bf16",
        "--shard-size",
        "20KB",
    ];
    let (code, out, error) = work.run(&export);
    assert_eq!(code, 0, "{error}");
    let result = fs::read_to_string(format!("{yarn}/result.json")).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    let rope = result["rope"].as_str().unwrap();
    assert!(out.contains(rope), "{out}");
    let config = json_of(&work, "out/yarn/config.json");
    assert_eq!(config["harness_rope_identity"], rope);
    assert_eq!(
        (&config["dtype"], &config["torch_dtype"]),
        (&json!("bfloat16"), &json!("bfloat16"))
    );
    assert_eq!(config["rope_parameters"]["rope_type"], "yarn");
    assert_eq!(config["rope_scaling"]["factor"], 4.0);
    assert_eq!(config["rope_theta"], 10000.0);
    assert_eq!(config["max_position_embeddings"], 64);
    let index = json_of(&work, "out/yarn/model.safetensors.index.json");
    for shard in index["weight_map"].as_object().unwrap().values() {
        assert!(work.path("out/yarn").join(shard.as_str().unwrap()).exists());
    }
    assert_eq!(
        json_of(&work, "out/yarn/tokenizer_config.json")["model_max_length"],
        64
    );
    assert_eq!(
        json_of(&work, "out/yarn/generation_config.json")["eos_token_id"],
        0
    );
    let card = fs::read_to_string(work.path("out/yarn/README.md")).unwrap();
    for words in [
        "# small: rope=yarn-4,seed=0",
        "trial rope=yarn-4,seed=0 of the study small",
        "| base | small/base |",
        "| seed | 0 |",
        &format!("| RoPE identity | `{rope}` |"),
        "batch_tokens = 128",
        "| passkey | passkey | 256 |",
        "| prose | sliding | 64 |",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    let (code, _, error) = work.run(&export);
    assert_eq!(code, 2);
    assert!(error.contains("out/yarn: is there already"), "{error}");
    // The base, scored without training, is exported as what it is.
    let base = trial(&work, "base");
    let (code, _, error) = work.run(&["export", base.to_str().unwrap(), "out/base"]);
    assert_eq!(code, 0, "{error}");
    let card = fs::read_to_string(work.path("out/base/README.md")).unwrap();
    assert!(
        card.contains("The base of the study small, without training."),
        "{card}"
    );
    let (code, out, _) = work.run(&["inspect", "out/yarn", "--json"]);
    assert_eq!(code, 0);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["rope"]["identity"], rope);
    assert_eq!(found["export"]["dtype"], "bfloat16");
    assert_eq!(found["shape"]["head_dim"], 8);
}

#[test]
fn a_checkpoint_is_exported_as_it_is_stored() {
    let work = Work::new();
    work.save_base("small/base");
    fs::write(
        work.path("small/base/chat_template.jinja"),
        "{{ messages }}",
    )
    .unwrap();
    let (code, _, error) = work.run(&["export", "small/base", "out"]);
    assert_eq!(code, 0, "{error}");
    let bytes = |file: &str| fs::read(work.path(file)).unwrap();
    assert_eq!(
        bytes("out/model.safetensors"),
        bytes("small/base/model.safetensors")
    );
    assert_eq!(bytes("out/chat_template.jinja"), b"{{ messages }}");
    for (arguments, words) in [
        (
            ["export", "small/base", "o", "--shard-size", "5parsecs"],
            "no unit",
        ),
        (["export", "small/base", "o", "--dtype", "f8"], "bf16"),
    ] {
        let (code, _, error) = work.run(&arguments);
        assert_eq!(code, 2);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn inspect_says_what_a_checkpoint_is() {
    let work = Work::new();
    work.save_base("small/base");
    let (code, out, error) = work.run(&["inspect", "small/base"]);
    assert_eq!(code, 0, "{error}");
    for words in [
        "family      llama",
        "2 layers of 32, 4 heads of 8 (2 of keys and values), feed-forward 64, 384 ids",
        "parameters  30880, the embedding is the head",
        "context     64 tokens",
        "64 tokens ask for a base of",
        "export      LlamaForCausalLM, 20 tensors",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
}
