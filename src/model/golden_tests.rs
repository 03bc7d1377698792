//! Small random models of every family and every RoPE method against transformers
//! (`tests/golden/models.py`).
use super::{cache::KvCache, decoder::Walk, *};
use crate::ops::testing::{norm_error, wide};
use crate::ops::{Env, linear, to_vec};
use crate::parallel::Ranks;
use candle_core::{Device, Tensor};
use serde_json::Value;
use std::collections::HashMap;

const FAMILIES: &[u8] = include_bytes!("../../tests/golden/families.safetensors");
const ROPE: &[u8] = include_bytes!("../../tests/golden/rope.safetensors");
/// Largest difference of a logit.
const LOGIT: f32 = 1e-4;
/// Largest ‖g − g_transformers‖ / ‖g_transformers‖ of a weight's gradient.
const GRADIENT: f64 = 1e-3;

/// A file of cases.
struct Golden {
    cases: Vec<Value>,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn load(file: &[u8]) -> Self {
        let (_, header) = safetensors::SafeTensors::read_metadata(file).unwrap();
        let said: Value =
            serde_json::from_str(&header.metadata().as_ref().unwrap()["said"]).unwrap();
        Golden {
            cases: said["cases"].as_array().unwrap().clone(),
            tensors: candle_core::safetensors::load_buffer(file, &Device::Cpu).unwrap(),
        }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        to_vec(&self.tensors[name]).unwrap()
    }

    fn model(&self, case: &Value, config: &ModelConfig) -> Decoder {
        let prefix = format!("{}.weight.", case["weights"].as_str().unwrap());
        let named = self.tensors.iter().filter_map(|(name, weight)| {
            Some((name.strip_prefix(&prefix)?.to_string(), weight.clone()))
        });
        let named: HashMap<String, Tensor> = named.collect();
        assert_eq!(named.len(), config.tensors().len());
        Decoder::from_tensors(config, named).unwrap()
    }

    /// How far a model of this configuration is from the case: its logits, read at once and in chunks, and
    /// the gradient of every weight.
    fn difference(&self, case: &Value, config: &ModelConfig) -> Difference {
        let env = Env::cpu();
        let name = case["name"].as_str().unwrap();
        let mut model = self.model(case, config);
        let mut worst = Difference::default();
        let ids: Vec<u32> = to_vec(&self.tensors[&format!("{name}.ids")]).unwrap();
        let n = ids.len() - 1;
        let table = model.rope_table(&env, n).unwrap();
        let want = self.values(&format!("{name}.logits"));
        let dependent = model.config.rope.depends_on_length();
        for chunk in [n, 7] {
            let mut cache = KvCache::new(&env, &model, 1, n).unwrap();
            let mut got = Vec::new();
            for ids in ids[..n].chunks(chunk) {
                let hidden = model.hidden(&env, &mut cache, &[0], ids, &table).unwrap();
                let logits = linear::forward(&env, &hidden, &model.head().value).unwrap();
                got.extend(to_vec::<f32>(&logits).unwrap());
            }
            assert_eq!(got.len(), want.len());
            // What was read before the length was known had the frequencies of a shorter one.
            let last = if dependent { (n - 1) % chunk + 1 } else { n };
            let from = (n - last) * config.vocab_size;
            for (got, want) in got[from..].iter().zip(&want[from..]) {
                assert!(got.is_finite());
                worst.logit = worst.logit.max((got - want).abs());
            }
        }
        model.train(&env).unwrap();
        let batch = Batch {
            batch: 1,
            tokens: n,
            ids: ids[..n].to_vec(),
            targets: ids[1..].to_vec(),
            weights: vec![1.0; n],
            positions: (0..n as u32).collect(),
            doc_starts: vec![0; n],
        };
        let walk = Walk {
            normaliser: n as f64,
            recompute: false,
        };
        model
            .forward_backward(&env, &batch, &table, walk, &Ranks::solo())
            .unwrap();
        for param in model.params() {
            let got = to_vec::<f32>(param.grad.as_ref().unwrap()).unwrap();
            let want = wide(&self.values(&format!("{name}.grad.{}", param.name)));
            let error = norm_error(&got, &want);
            assert!(error.is_finite());
            if error > worst.gradient {
                (worst.gradient, worst.weight) = (error, param.name.clone());
            }
        }
        worst
    }
}

/// The largest differences from transformers.
#[derive(Debug, Default)]
struct Difference {
    logit: f32,
    gradient: f64,
    /// The weight of that gradient.
    weight: String,
}

impl Difference {
    fn is_small(&self) -> bool {
        self.logit <= LOGIT && self.gradient <= GRADIENT
    }
}

fn parse(config: &Value) -> ModelConfig {
    ModelConfig::parse(&config.to_string()).unwrap()
}

#[test]
fn families_are_those_of_transformers() {
    let golden = Golden::load(FAMILIES);
    assert_eq!(golden.cases.len(), 12);
    for case in &golden.cases {
        let config = parse(&case["config"]);
        let difference = golden.difference(case, &config);
        assert!(difference.is_small(), "{}: {difference:?}", case["name"]);
        // What is written has the same computation.
        assert_eq!(parse(&config.to_json()), config);
    }
}

#[test]
fn a_family_without_its_windows_is_seen() {
    let golden = Golden::load(FAMILIES);
    let mut seen = 0;
    for case in &golden.cases {
        let mut config = parse(&case["config"]);
        if config.sliding_window.take().is_some() {
            let difference = golden.difference(case, &config);
            assert!(difference.logit > LOGIT && difference.gradient > GRADIENT);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn rope_methods_are_those_of_transformers() {
    let golden = Golden::load(ROPE);
    let models = golden.cases.iter().filter(|c| c["weights"].is_string());
    assert_eq!(models.clone().count(), 30);
    for case in models {
        let config = parse(&case["config"]);
        let difference = golden.difference(case, &config);
        assert!(difference.is_small(), "{}: {difference:?}", case["name"]);
        assert_eq!(parse(&case["older"]), config, "{}", case["name"]);
        assert_eq!(parse(&config.to_json()), config, "{}", case["name"]);
    }
}

#[test]
fn a_rope_method_that_is_another_is_seen() {
    let golden = Golden::load(ROPE);
    let cases: Vec<&Value> = golden
        .cases
        .iter()
        .filter(|c| c["name"].as_str().unwrap().ends_with(".beyond"))
        .collect();
    // Each with the method of the case before it.
    for pair in cases.windows(2) {
        let mut config = parse(&pair[1]["config"]);
        config.rope = parse(&pair[0]["config"]).rope;
        let difference = golden.difference(pair[1], &config);
        let both = (&pair[0]["name"], &pair[1]["name"]);
        assert!(difference.logit > LOGIT, "{both:?}: {difference:?}");
        assert!(difference.gradient > GRADIENT, "{both:?}: {difference:?}");
    }
}

#[test]
fn frequencies_at_published_sizes_are_those_of_transformers() {
    let golden = Golden::load(ROPE);
    let sizes = golden.cases.iter().filter(|c| c["lengths"].is_array());
    assert_eq!(sizes.clone().count(), 7);
    for case in sizes {
        let config = parse(&case["config"]);
        let name = case["name"].as_str().unwrap();
        for length in case["lengths"].as_array().unwrap() {
            let length = length.as_u64().unwrap() as usize;
            let got = config.rope.inv_freq(config.head_dim, length).unwrap();
            let want = golden.values(&format!("{name}.inv_freq.{length}"));
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                let error = (got / want - 1.0).abs();
                assert!(error < 2e-6, "{name} at {length}: {got} {want}");
            }
        }
        let scale: Vec<f64> = to_vec(&golden.tensors[&format!("{name}.scale")]).unwrap();
        assert!((f64::from(config.rope.scale()) - scale[0]).abs() < 1e-7);
    }
}
