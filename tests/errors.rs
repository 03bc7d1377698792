//! Bad input: one line that says what, where and what to do, exit code 2, and nothing is started.
mod small;

use harness::{
    checkpoint,
    model::{Decoder, Init, Method, ModelConfig},
    ops::Env,
};
use small::Work;
use std::fs;

/// Runs the study, which must be refused with one line, and returns the line.
fn refused(work: &Work, arguments: &[&str]) -> String {
    let (code, out, error) = work.run(&[&["sweep", "study.toml"], arguments].concat());
    assert_eq!((code, out.as_str()), (2, ""), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!work.path("results/small/trials").exists());
    let line = error.trim_end().strip_prefix("error: ");
    line.unwrap_or_else(|| panic!("{error}")).to_string()
}

fn study(from: &str, to: &str) -> String {
    let work = Work::new();
    work.replace("study.toml", from, to);
    refused(&work, &[])
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_one_and_its_line() {
    insta::assert_snapshot!(
        study("warmup = 2", "warmupp = 2"),
        @"study.toml:28: unknown key `warmupp` in [optimizer]; did you mean `warmup`?"
    );
    insta::assert_snapshot!(study("stage.0.rope", "stage.0.ropes"), @"study.toml:32: axis key `stage.0.ropes` is unknown; did you mean `stage.0.rope`?");
    insta::assert_snapshot!(study("factor = 4", "factr = 4"), @"study.toml:33: unknown key `factr` in `axis.0.values.1`; did you mean `factor`?");
}

#[test]
fn a_mix_without_weight_or_with_a_negative_one() {
    insta::assert_snapshot!(study("prose = 3", "prose = -3"), @"study.toml:17: mix: prose = -3: a weight must be 0 or more");
    insta::assert_snapshot!(study("prose = 3\nlookup = 1", "prose = 0\nlookup = 0"), @"study.toml:17: mix: all weights are zero; give one source at least");
}

#[test]
fn data_that_is_not_there() {
    insta::assert_snapshot!(study("small/prose.jsonl", "small/*.md"), @r#"study.toml:9: data.0: data source "prose": glob "small/*.md" matches no file; check the path"#);
    let work = Work::new();
    fs::write(work.path("small/prose.jsonl"), "\n").unwrap();
    insta::assert_snapshot!(refused(&work, &[]), @r#"study.toml:9: data.0: data source "prose": an empty document set: no document has 1 characters or more"#);
}

#[test]
fn a_context_longer_than_any_document() {
    let work = Work::new();
    work.replace(
        "study.toml",
        "\ncontext = 64",
        "\npacking = \"documents\"\ncontext = 4096",
    );
    work.replace("study.toml", "batch_tokens = 128\n", "");
    insta::assert_snapshot!(refused(&work, &[]), @r#"study.toml:9: data.0: data source "prose": packing = "documents" with a context of 4096 asks for longer documents than any here: the longest has 801 tokens; shorten the context or use packing = "concat" (in arm rope=plain)"#);
}

#[test]
fn a_rope_method_without_its_parameter() {
    insta::assert_snapshot!(study("factor = 4, ", ""), @r#"study.toml:33: stage.0.rope: scaling = "yarn" needs `factor`, which is missing (in arm rope=yarn-4)"#);
}

#[test]
fn a_checkpoint_with_wrong_weights() {
    let env = Env::cpu();
    let work = Work::new();
    let base = work.path("small/base");
    let text = fs::read_to_string(base.join("config.json")).unwrap();
    let config = ModelConfig::parse(&text).unwrap();
    let spec: checkpoint::BaseSpec =
        toml::from_str(&format!("path = '{}'", base.display())).unwrap();
    let tokenizer = spec.tokenizer().unwrap();
    let save = |config: &ModelConfig| {
        let init = Init {
            seed: 0,
            method: Method::Random,
        };
        let model = Decoder::init(&env, config, init).unwrap();
        checkpoint::save(&base, &model, &tokenizer).unwrap();
        fs::write(base.join("config.json"), &text).unwrap();
    };
    work.replace("study.toml", "init = { seed = 0 }\n", "");

    let mut fewer = config.clone();
    fewer.num_hidden_layers = 1;
    save(&fewer);
    insta::assert_snapshot!(refused(&work, &[]), @"study.toml:6: base.path: checkpoint small/base/model.safetensors: tensor model.layers.1.input_layernorm.weight is missing; config.json asks for [32]");
    let mut wider = config.clone();
    wider.intermediate_size = 80;
    save(&wider);
    insta::assert_snapshot!(refused(&work, &[]), @"study.toml:6: base.path: checkpoint small/base/model.safetensors: tensor model.layers.0.mlp.gate_proj.weight has shape [80, 32], config.json asks for [64, 32]");
    save(&config);
    let weights = base.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    insta::assert_snapshot!(refused(&work, &[]), @"study.toml:6: base.path: checkpoint small/base/model.safetensors: damaged or cut off (incomplete metadata, file not fully covered); fetch the checkpoint again");
}

#[test]
fn results_that_cannot_be_written() {
    let work = Work::new();
    insta::assert_snapshot!(refused(&work, &["--out", "study.toml/results"]), @"study.toml/results: results cannot be written here (Not a directory (os error 20)); choose another folder with --out");
}

#[test]
fn results_of_another_version_of_the_study() {
    let work = Work::new();
    assert_eq!(work.run(&["sweep", "study.toml", "--only", "base"]).0, 0);
    work.replace("study.toml", "tokens = 5120", "tokens = \"10k\"");
    let (code, _, error) = work.run(&["sweep", "study.toml"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(error.trim_end(), @"error: results/small: made by another version of this study: stage.0.tokens was 5120, is now 10000; use --out or move it away");
}

#[test]
fn a_selection_that_names_nothing() {
    let work = Work::new();
    insta::assert_snapshot!(refused(&work, &["--only", "rope=linear*"]), @"--only rope=linear*: no trial has this key or a name like it; names are base rope=plain,seed=0 rope=plain,seed=1 rope=yarn-4,seed=0 ...");
}
