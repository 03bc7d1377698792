//! The model against candle's own graph, and against itself in other chunks.
use super::{block::Pass, cache::KvCache, decoder::Walk, *};
use crate::ops::testing::{norm_error, normal};
use crate::ops::{Env, attention, from_vec, to_vec};
use crate::parallel::{Communicator, Ranks};
use candle_core::{D, DType, Device, Tensor, Var};
use std::collections::HashMap;

fn config(extra: &str) -> ModelConfig {
    ModelConfig::parse(&format!(
        r#"{{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "initializer_range": 0.2, "rope_theta": 1000.0,
        "tie_word_embeddings": true {extra}}}"#
    ))
    .unwrap()
}

/// What each family differs in.
const FAMILIES: [&str; 7] = [
    "",
    r#", "tie_word_embeddings": false"#,
    r#", "attention_bias": true, "mlp_bias": true"#,
    r#", "model_type": "mistral", "sliding_window": 17"#,
    r#", "model_type": "qwen2""#,
    r#", "model_type": "qwen2", "use_sliding_window": true, "sliding_window": 17, "max_window_layers": 1"#,
    r#", "model_type": "qwen3", "head_dim": 16, "use_sliding_window": true, "sliding_window": 30,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"]"#,
];

/// A model of this configuration, with biases and norms that are not 0 and 1.
fn model(env: &Env, c: &ModelConfig, seed: u64) -> Decoder {
    let method = Method::Random;
    let mut model = Decoder::init(env, c, Init { seed, method }).unwrap();
    let vectors = model.blocks.iter_mut().flat_map(|b| b.params_mut());
    for (i, param) in vectors.enumerate() {
        if let [n] = *param.value.dims() {
            let drawn = from_vec(normal(100 + i as u64, n), &[n], env).unwrap();
            param.value = (&param.value + (drawn * 0.3).unwrap()).unwrap();
        }
    }
    model
}

fn ids(seed: u64, n: usize, vocab: u32) -> Vec<u32> {
    normal(seed, n)
        .iter()
        .map(|x| (x.abs() * 1e4) as u32 % vocab)
        .collect()
}

/// The decoder's loss in f64 candle ops, for one sequence with documents.
fn reference(
    vars: &HashMap<String, Var>,
    c: &ModelConfig,
    batch: &Batch,
) -> candle_core::Result<Tensor> {
    let device = Device::Cpu;
    let n = batch.tokens;
    let (heads, kv, dim) = (c.num_attention_heads, c.num_key_value_heads, c.head_dim);
    let get = |name: &str| vars[name].as_tensor();
    let norm = |x: &Tensor, w: &Tensor| -> candle_core::Result<Tensor> {
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + c.rms_norm_eps)?
            .sqrt()?
            .recip()?;
        x.broadcast_mul(&scale)?.broadcast_mul(w)
    };
    let inv = c.rope.inv_freq(dim, n).unwrap();
    let angle = |f: fn(f64) -> f64| -> candle_core::Result<Tensor> {
        let values: Vec<f64> = batch
            .positions
            .iter()
            .flat_map(|&p| inv.iter().map(move |&w| f(f64::from(p as f32 * w))))
            .collect();
        Tensor::from_vec(values, (n, 1, dim / 2), &device)
    };
    let (cos, sin) = (angle(f64::cos)?, angle(f64::sin)?);
    let turn = |x: &Tensor| -> candle_core::Result<Tensor> {
        let (a, b) = (x.narrow(2, 0, dim / 2)?, x.narrow(2, dim / 2, dim / 2)?);
        let low = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let high = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::cat(&[low, high], 2)
    };
    let mask = |layer: usize| -> candle_core::Result<Tensor> {
        let mask: Vec<f64> = (0..n * n)
            .map(|i| {
                let (q, k) = (i / n, i % n);
                let from = batch.doc_starts[q] as usize;
                let from = from.max(c.window(layer).map_or(0, |w| (q + 1).saturating_sub(w)));
                if k <= q && k >= from {
                    0.0
                } else {
                    f64::NEG_INFINITY
                }
            })
            .collect();
        Tensor::from_vec(mask, (n, n), &device)
    };
    let tokens = Tensor::new(batch.ids.as_slice(), &device)?;
    let mut x = get("model.embed_tokens.weight").index_select(&tokens, 0)?;
    for layer in 0..c.num_hidden_layers {
        let w = |part: &str| get(&format!("model.layers.{layer}.{part}.weight")).clone();
        let linear = |x: &Tensor, part: &str| -> candle_core::Result<Tensor> {
            let y = x.matmul(&w(part).t()?)?;
            match vars.get(&format!("model.layers.{layer}.{part}.bias")) {
                Some(bias) => y.broadcast_add(bias.as_tensor()),
                None => Ok(y),
            }
        };
        let normed = |x: Tensor, part: &str| -> candle_core::Result<Tensor> {
            if c.qk_norm { norm(&x, &w(part)) } else { Ok(x) }
        };
        let h = norm(&x, &w("input_layernorm"))?;
        let q = linear(&h, "self_attn.q_proj")?.reshape((n, heads, dim))?;
        let q = turn(&normed(q, "self_attn.q_norm")?)?;
        let k = linear(&h, "self_attn.k_proj")?.reshape((n, kv, dim))?;
        let k = turn(&normed(k, "self_attn.k_norm")?)?;
        let v = linear(&h, "self_attn.v_proj")?.reshape((n, kv, dim))?;
        let mask = mask(layer)?;
        let mut outs = Vec::new();
        for head in 0..heads {
            let at = |t: &Tensor, i: usize| t.narrow(1, i, 1)?.squeeze(1)?.contiguous();
            let (q, k) = (at(&q, head)?, at(&k, head * kv / heads)?);
            let scores =
                (q.matmul(&k.t()?)? * (1.0 / (dim as f64).sqrt()))?.broadcast_add(&mask)?;
            let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
            outs.push(p.matmul(&at(&v, head * kv / heads)?)?);
        }
        x = (linear(&Tensor::cat(&outs, 1)?, "self_attn.o_proj")? + x)?;
        let h = norm(&x, &w("post_attention_layernorm"))?;
        let gate = linear(&h, "mlp.gate_proj")?.silu()?;
        let up = linear(&h, "mlp.up_proj")?;
        x = (linear(&(gate * up)?, "mlp.down_proj")? + x)?;
    }
    let h = norm(&x, get("model.norm.weight"))?;
    let head = if c.tie_word_embeddings {
        "model.embed_tokens.weight"
    } else {
        "lm_head.weight"
    };
    let logits = h.matmul(&get(head).t()?)?;
    let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
    let targets = Tensor::new(batch.targets.as_slice(), &device)?.unsqueeze(1)?;
    let picked = log_p.gather(&targets, 1)?.squeeze(1)?;
    let weights: Vec<f64> = batch
        .weights
        .iter()
        .map(|&w| f64::from(w) / batch.weight())
        .collect();
    (picked * Tensor::new(weights.as_slice(), &device)?)?
        .sum_all()?
        .neg()
}

fn batch(n: usize) -> Batch {
    let ids = ids(5, n + 1, 61);
    let starts = |i: usize| {
        [0u32, 40, 41, 90]
            .into_iter()
            .rfind(|&s| s as usize <= i)
            .unwrap_or(0)
    };
    Batch {
        batch: 1,
        tokens: n,
        ids: ids[..n].to_vec(),
        targets: ids[1..].to_vec(),
        weights: (0..n)
            .map(|i| if [39, 40, 89].contains(&i) { 0.0 } else { 1.0 })
            .collect(),
        positions: (0..n as u32).collect(),
        doc_starts: (0..n).map(starts).collect(),
    }
}

#[test]
fn loss_and_every_gradient_agree_with_candles_graph() {
    let env = Env::cpu();
    for extra in FAMILIES {
        let c = config(extra);
        let mut model = model(&env, &c, 1);
        model.train();
        let batch = batch(150);
        let table = model.rope_table(&env, 150).unwrap();
        let vars: HashMap<String, Var> = model
            .params()
            .iter()
            .map(|p| {
                let wide = p.value.to_dtype(DType::F64).unwrap();
                (p.name.clone(), Var::from_tensor(&wide).unwrap())
            })
            .collect();
        let want = reference(&vars, &c, &batch).unwrap();
        let gradients = want.backward().unwrap();
        for recompute in [false, true] {
            let walk = Walk {
                normaliser: batch.weight(),
                recompute,
            };
            let loss = model
                .forward_backward(&env, &batch, &table, walk, &Ranks::solo())
                .unwrap();
            let want = want.to_scalar::<f64>().unwrap();
            assert!((loss - want).abs() / want < 1e-5, "{loss} {want}");
            for param in model.params() {
                let got = to_vec::<f32>(&param.take_grad().unwrap()).unwrap();
                let want = gradients.get(vars[&param.name].as_tensor()).unwrap();
                let want = want.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let error = norm_error(&got, &want);
                assert!(error < 1e-4, "{} {extra}: {error:e}", param.name);
            }
        }
    }
}

#[test]
fn a_token_is_scored_the_same_in_any_chunks_and_company() {
    for extra in FAMILIES {
        scored_the_same(extra);
    }
}

fn scored_the_same(extra: &str) {
    let env = Env::cpu();
    let model = model(&env, &config(extra), 2);
    let n = 200;
    let table = model.rope_table(&env, n).unwrap();
    let rows = [ids(1, n, 61), ids(2, n, 61), ids(3, n, 61)];
    let hidden = |row: &[u32], cuts: &[usize]| -> Vec<f32> {
        let mut cache = KvCache::new(&env, &model, 1, n).unwrap();
        let mut out = Vec::new();
        let mut from = 0;
        for &to in cuts {
            let h = model
                .hidden(&env, &mut cache, &[0], &row[from..to], &table)
                .unwrap();
            out.extend(to_vec::<f32>(&h).unwrap());
            from = to;
        }
        out
    };
    let whole = hidden(&rows[0], &[n]);
    assert_eq!(whole, hidden(&rows[0], &[1, 2, 129, 190, 200]));
    let mut cache = KvCache::new(&env, &model, 3, n + 9).unwrap();
    let all: Vec<u32> = rows.concat();
    let together = model
        .hidden(&env, &mut cache, &[0, 1, 2], &all, &table)
        .unwrap();
    assert_eq!(to_vec::<f32>(&together).unwrap()[..whole.len()], whole);
    // The inference path and the training path are the same model.
    let positions: Vec<u32> = (0..n as u32).collect();
    let pass = |layer| Pass {
        env: &env,
        config: &model.config,
        table: &table,
        positions: &positions,
        attention: attention::Spec {
            scale: model.attention_scale(),
            offsets: &[0],
            window: model.config.window(layer),
            doc_starts: None,
            key_rows: None,
        },
        context: &Communicator::Solo,
    };
    let embedding = &model.embed_tokens.value;
    let mut x = crate::ops::embedding::forward(&env, embedding, &rows[0], 1).unwrap();
    for (layer, block) in model.blocks.iter().enumerate() {
        x = block.forward(&pass(layer), &x).unwrap().0;
    }
    let h = crate::ops::rms_norm::forward(&env, &x, &model.norm.value, 1e-5).unwrap();
    assert_eq!(to_vec::<f32>(&h).unwrap(), whole);
}

#[test]
fn generation_does_not_depend_on_the_batch() {
    let env = Env::cpu();
    for rope in [
        "",
        r#", "model_type": "mistral", "sliding_window": 50"#,
        r#", "rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 16"#,
    ] {
        let model = Decoder::init(
            &env,
            &config(rope),
            Init {
                seed: 3,
                method: Method::Random,
            },
        )
        .unwrap();
        // Some begin alike, two are the same, and one is the beginning of others.
        let long = ids(4, 150, 61);
        let with_end = |n: usize, seed| [&long[..n], &ids(seed, 20, 61)].concat();
        let prompts = vec![
            ids(1, 30, 61),
            ids(2, 7, 61),
            ids(3, 130, 61),
            long.clone(),
            with_end(140, 5),
            long[..60].to_vec(),
            with_end(129, 6),
            long.clone(),
        ];
        let together = generate::greedy(&env, &model, &prompts, 12, &[5, 9]).unwrap();
        let seeds: Vec<u64> = (0..prompts.len() as u64).collect();
        let draw = |prompts: &[Vec<u32>], seeds: &[u64]| {
            let sampling = sample::Sampling {
                temperature: 1.0,
                top_p: None,
                top_k: Some(20),
            };
            let never = &mut |_: usize, _: &[u32]| false;
            sample::sample(&env, &model, prompts, seeds, sampling, 12, never).unwrap()
        };
        let drawn = draw(&prompts, &seeds);
        for ((prompt, seed), want) in prompts.iter().zip(&seeds).zip(&drawn) {
            let alone = draw(std::slice::from_ref(prompt), std::slice::from_ref(seed));
            assert_eq!(&alone[0], want);
        }
        assert_ne!(drawn[3], drawn[7], "the same prompt under two seeds");
        let with_empty = [vec![Vec::new()], prompts.clone()].concat();
        let after_empty = generate::greedy(&env, &model, &with_empty, 12, &[5, 9]).unwrap();
        assert_eq!(after_empty[0], Vec::<u32>::new());
        assert_eq!(after_empty[1..], together);
        for (prompt, want) in prompts.iter().zip(&together) {
            let alone =
                generate::greedy(&env, &model, std::slice::from_ref(prompt), 12, &[5, 9]).unwrap();
            assert_eq!(&alone[0], want);
            // Each id is the likeliest one when everything before it is read at once.
            let mut so_far = prompt.clone();
            for &id in want {
                let next =
                    generate::greedy(&env, &model, std::slice::from_ref(&so_far), 1, &[]).unwrap();
                assert_eq!(next[0], [id]);
                so_far.push(id);
            }
        }
    }
}

/// Hidden states of three rows that grow together, past the original context of 16, against those of each
/// row read at once without a cache.
#[test]
fn a_rope_that_depends_on_the_length_is_the_same_with_a_cache() {
    let env = Env::cpu();
    for rope in [
        r#", "max_position_embeddings": 16, "rope_scaling": {"type": "dynamic", "factor": 4.0}"#,
        r#", "original_max_position_embeddings": 16, "rope_scaling": {"type": "longrope",
            "short_factor": [1, 1.1, 1.3, 2], "long_factor": [1, 2, 4, 8]}"#,
    ] {
        let model = model(&env, &config(rope), 6);
        let capacity = 40;
        let table = model.rope_table(&env, capacity).unwrap();
        let at_once = |row: &[u32]| -> Vec<f32> {
            let mut cache = KvCache::new(&env, &model, 1, capacity).unwrap();
            let hidden = model.hidden(&env, &mut cache, &[0], row, &table).unwrap();
            to_vec(&hidden).unwrap()
        };
        let mut rows = [ids(1, 3, 61), ids(2, 14, 61), ids(3, 30, 61)];
        let mut cache = KvCache::new(&env, &model, 3, capacity).unwrap();
        for (i, row) in rows.iter().enumerate() {
            model.hidden(&env, &mut cache, &[i], row, &table).unwrap();
        }
        for step in 0..4 {
            let new = ids(10 + step, 6, 61);
            let hidden = model
                .hidden(&env, &mut cache, &[0, 1, 2], &new, &table)
                .unwrap();
            let hidden = to_vec::<f32>(&hidden).unwrap();
            let each = new.chunks_exact(2).zip(hidden.chunks_exact(2 * 32));
            for (row, (new, got)) in rows.iter_mut().zip(each) {
                row.extend(new);
                let want = at_once(row);
                assert_eq!(got, &want[want.len() - 64..], "{rope} at {}", row.len());
            }
        }
    }
}

#[test]
fn log_probs_are_those_of_the_training_loss() {
    let env = Env::cpu();
    let mut model = Decoder::init(
        &env,
        &config(""),
        Init {
            seed: 4,
            method: Method::Random,
        },
    )
    .unwrap();
    let row = ids(8, 141, 61);
    let scored = generate::log_probs(&env, &model, &row).unwrap();
    let total: f64 = scored.iter().map(|&l| -f64::from(l)).sum();
    model.train();
    let batch = Batch {
        ids: row[..140].to_vec(),
        targets: row[1..].to_vec(),
        weights: vec![1.0; 140],
        doc_starts: vec![0; 140],
        ..batch(140)
    };
    let table = model.rope_table(&env, 140).unwrap();
    let walk = Walk {
        normaliser: 1.0,
        recompute: false,
    };
    let loss = model
        .forward_backward(&env, &batch, &table, walk, &Ranks::solo())
        .unwrap();
    assert!((loss - total).abs() / total < 1e-6);
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let env = Env::cpu();
    let c = config("");
    let tensors = || -> HashMap<String, Tensor> {
        let model = Decoder::init(
            &env,
            &c,
            Init {
                seed: 1,
                method: Method::Random,
            },
        )
        .unwrap();
        model
            .params()
            .iter()
            .map(|p| (p.name.clone(), p.value.clone()))
            .collect()
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut missing = tensors();
    missing.remove(name);
    let error = Decoder::from_tensors(&c, missing).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("missing"), "{error}");
    let mut more = tensors();
    let bias = "model.layers.1.self_attn.q_proj.bias";
    more.insert(bias.into(), from_vec(vec![0f32; 32], &[32], &env).unwrap());
    let error = Decoder::from_tensors(&c, more).unwrap_err().to_string();
    assert!(
        error.contains(bias) && error.contains("no place"),
        "{error}"
    );
    let mut older = tensors();
    let frequencies = from_vec(vec![0f32; 4], &[4], &env).unwrap();
    older.insert(
        "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
        frequencies,
    );
    assert!(Decoder::from_tensors(&c, older).is_ok());
    let mut misshapen = tensors();
    misshapen.insert(name.into(), from_vec(vec![0f32; 6], &[2, 3], &env).unwrap());
    let error = Decoder::from_tensors(&c, misshapen)
        .unwrap_err()
        .to_string();
    assert!(error.contains(name) && error.contains("[2, 3]"), "{error}");
}
