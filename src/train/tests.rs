//! The step over ranks and micro-batches, and from a snapshot.
use super::*;
use crate::model::{Batch, Decoder, Init, Method, ModelConfig};
use crate::ops::testing::{norm_error, normal, wide};
use crate::ops::{Env, to_vec};
use crate::parallel::Ranks;

fn model(env: &Env, extra: &str) -> Decoder {
    let config = ModelConfig::parse(&format!(
        r#"{{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "initializer_range": 0.1, "tie_word_embeddings": true {extra}}}"#,
    ));
    Decoder::init(
        env,
        &config.unwrap(),
        Init {
            seed: 1,
            method: Method::Random,
        },
    )
    .unwrap()
}

/// Four sequences of 144 tokens with documents of mixed length.
fn batch(seed: u64) -> Batch {
    let (rows, n) = (4, 144);
    let ids: Vec<u32> = normal(seed, rows * n + 1)
        .iter()
        .map(|x| (x.abs() * 1e4) as u32 % 61)
        .collect();
    let cuts = [0usize, 1, 30, 77, 140];
    let start = |i: usize| {
        cuts.into_iter()
            .rfind(|&c| c <= (i % n + i / n * 11) % n.max(1))
            .unwrap_or(0)
    };
    let doc_starts: Vec<u32> = (0..rows * n).map(|i| start(i).min(i % n) as u32).collect();
    let weights = (0..rows * n)
        .map(|i| f32::from(u8::from(i % 7 != 0)))
        .collect();
    Batch {
        batch: rows,
        tokens: n,
        ids: ids[..rows * n].to_vec(),
        targets: ids[1..].to_vec(),
        weights,
        positions: (0..rows * n).map(|i| (i % n) as u32).collect(),
        doc_starts,
    }
}

/// Loss and all gradients of one batch on these ranks.
fn gradients(extra: &str, ranks: Vec<Ranks>, micro_batch: usize) -> Vec<(f64, Vec<Vec<f32>>)> {
    std::thread::scope(|scope| {
        let handles: Vec<_> = ranks
            .into_iter()
            .map(|ranks| {
                scope.spawn(move || {
                    let env = Env::cpu();
                    let stepper = Stepper::new(&env, model(&env, extra), ranks).unwrap();
                    let table = stepper.model.rope_table(&env, 144).unwrap();
                    let loss = stepper
                        .accumulate(&batch(3), &table, micro_batch, false)
                        .unwrap();
                    let params = stepper.model.params();
                    let grads = params
                        .iter()
                        .map(|p| to_vec(&p.take_grad().unwrap()).unwrap());
                    (loss, grads.collect())
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    })
}

#[test]
fn ranks_and_micro_batches_give_one_loss_and_one_gradient() {
    one_loss_and_one_gradient("");
}

/// Documents are masked from each other as above.
#[test]
fn a_sliding_window_that_reaches_over_context_ranks_gives_them_too() {
    // Four context ranks hold 36 tokens each: windows within one rank's part, over two, over three.
    for window in [17, 40, 80] {
        one_loss_and_one_gradient(&format!(
            r#", "model_type": "mistral", "sliding_window": {window}"#
        ));
    }
    one_loss_and_one_gradient(
        r#", "model_type": "qwen3", "head_dim": 16, "attention_bias": true, "use_sliding_window": true,
        "sliding_window": 40, "max_window_layers": 1"#,
    );
}

fn one_loss_and_one_gradient(extra: &str) {
    let (want, want_grads) = gradients(extra, vec![Ranks::solo()], 4).remove(0);
    let cases = [
        (Ranks::threads(2, 1), 4),
        (Ranks::threads(4, 1), 1),
        (Ranks::threads(1, 2), 4),
        (Ranks::threads(1, 4), 2),
        (Ranks::threads(2, 2), 4),
        (vec![Ranks::solo()], 1),
    ];
    for (ranks, micro_batch) in cases {
        let named = format!("{extra} {:?} micro {micro_batch}", ranks[0].data());
        for (loss, grads) in gradients(extra, ranks, micro_batch) {
            assert!((loss - want).abs() / want < 1e-6, "{named}: {loss} {want}");
            for (got, want) in grads.iter().zip(&want_grads) {
                let error = norm_error(got, &wide(want));
                assert!(error < 1e-5, "{named}: {error:e}");
            }
        }
    }
}

#[test]
fn a_snapshot_goes_on_to_the_same_bytes() {
    let env = Env::cpu();
    let spec: OptimizerSpec = toml::from_str("lr = 1e-2\nweight_decay = 0.1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot.safetensors");
    let fresh = || Stepper::new(&env, model(&env, ""), Ranks::solo()).unwrap();
    let table = fresh().model.rope_table(&env, 144).unwrap();
    let mut whole = fresh();
    let mut kept = Snapshot {
        rope: "plain".into(),
        ..Snapshot::default()
    };
    let mut losses = Vec::new();
    for step in 0..6 {
        if step == 3 {
            kept.save(&path, &whole).unwrap();
        }
        let done = whole
            .step(&batch(step), &table, &spec, 1e-2, (4, false))
            .unwrap();
        losses.push(done.loss);
        kept.losses.push(done.loss);
    }
    let mut resumed = fresh();
    let kept = Snapshot::load(&path, &mut resumed).unwrap().unwrap();
    assert_eq!(kept.losses, losses[..3]);
    kept.check_rope(&path, "plain").unwrap();
    let error = kept.check_rope(&path, "yarn").unwrap_err().to_string();
    assert!(
        error.contains("was trained with the RoPE plain, not yarn"),
        "{error}"
    );
    for step in 3..6 {
        resumed
            .step(&batch(step), &table, &spec, 1e-2, (4, false))
            .unwrap();
    }
    for (a, b) in whole.model.params().iter().zip(resumed.model.params()) {
        assert_eq!(
            to_vec::<f32>(&a.value).unwrap(),
            to_vec::<f32>(&b.value).unwrap()
        );
    }
    assert!(losses[5] < losses[0]);
    std::fs::write(&path, b"cut off").unwrap();
    let error = Snapshot::load(&path, &mut fresh()).unwrap_err().to_string();
    assert!(error.contains("begins again"), "{error}");
}

#[test]
fn token_counts_may_be_said_with_units() {
    #[derive(serde::Deserialize)]
    struct Said {
        t: Tokens,
    }
    let tokens = |text: &str| toml::from_str::<Said>(text).map(|s| s.t.0);
    assert_eq!(tokens("t = 1000"), Ok(1000));
    assert_eq!(tokens("t = '400k'"), Ok(400_000));
    assert_eq!(tokens("t = '1.5M'"), Ok(1_500_000));
    assert_eq!(tokens("t = '20B'"), Ok(20_000_000_000));
    assert!(
        tokens("t = 'many'")
            .unwrap_err()
            .to_string()
            .contains("400k")
    );
    assert!(tokens("t = -3").is_err());
}
