//! Twenty steps against PyTorch's (`tests/golden/train_step.py`).
use super::*;
use crate::model::{Batch, Decoder, LlamaConfig};
use crate::ops::testing::wide;
use crate::ops::{Env, to_vec};
use crate::parallel::Ranks;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

const STEPS: usize = 20;
const LR: f64 = 1e-2;

struct Golden {
    tensors: HashMap<String, Tensor>,
}

/// What is taken out of the step.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    Nothing,
    Clip,
    BiasCorrection,
    Decay,
    Mask,
}

/// How far a run is from PyTorch's.
struct Distance {
    /// Largest relative difference of a loss.
    loss: f64,
    /// Largest ‖w − w_torch‖ / ‖w_torch − w_0‖ of a tensor.
    weights: f64,
}

impl Golden {
    fn load() -> Self {
        let bytes = include_bytes!("../../tests/golden/train_step.safetensors");
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).unwrap();
        Golden { tensors }
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let tensor = self.tensors[name].to_dtype(DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn batch(&self, step: usize) -> Batch {
        let (_, rows, tokens) = self.tensors["ids"].dims3().unwrap();
        let n = rows * tokens;
        let part = |name: &str| self.numbers(name)[step * n..(step + 1) * n].to_vec();
        let ids = |name: &str| -> Vec<u32> { part(name).iter().map(|&x| x as u32).collect() };
        Batch {
            batch: rows,
            tokens,
            ids: ids("ids"),
            targets: ids("targets"),
            weights: part("weights").iter().map(|&x| x as f32).collect(),
            positions: (0..n).map(|i| (i % tokens) as u32).collect(),
            doc_starts: ids("doc_starts"),
        }
    }

    fn run(&self, without: Without) -> Distance {
        let env = Env::cpu();
        let config = LlamaConfig::parse(
            r#"{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 48, "rope_theta": 10000.0, "tie_word_embeddings": false}"#,
        )
        .unwrap();
        let initial = self.tensors.iter().filter_map(|(name, tensor)| {
            name.strip_prefix("initial.")
                .map(|name| (name.to_string(), tensor.copy().unwrap()))
        });
        let model = Decoder::from_tensors(&config, initial.collect()).unwrap();
        let mut state = Stepper::new(&env, model, Ranks::solo()).unwrap();
        let spec = OptimizerSpec {
            weight_decay: if without == Without::Decay { 0.0 } else { 0.1 },
            clip: if without == Without::Clip { 1e9 } else { 0.6 },
            schedule: Schedule::Cosine,
            warmup: 5,
            floor: 0.1,
            ..toml::from_str(&format!("lr = {LR}")).unwrap()
        };
        if without == Without::BiasCorrection {
            // After so many steps there is nothing left to correct.
            state.optimizer.steps = 1_000_000;
        }
        let table = state.model.rope_table(&env, 48).unwrap();
        let losses = self.numbers("losses");
        let mut distance = Distance {
            loss: 0.0,
            weights: 0.0,
        };
        for (step, want) in losses.iter().enumerate() {
            let mut batch = self.batch(step);
            if without == Without::Mask {
                batch.doc_starts.fill(0);
            }
            let lr = learning_rate(&spec, LR, step as u64, STEPS as u64);
            let done = state.step(&batch, &table, &spec, lr, (2, false)).unwrap();
            distance.loss = distance.loss.max((done.loss - want).abs() / want);
        }
        for param in state.model.params() {
            let got = wide(&to_vec(&param.value).unwrap());
            let start = self.numbers(&format!("initial.{}", param.name));
            let end = self.numbers(&format!("final.{}", param.name));
            let norm = |a: &[f64], b: &[f64]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
                    .sqrt()
            };
            distance.weights = distance.weights.max(norm(&got, &end) / norm(&end, &start));
        }
        distance
    }
}

#[test]
fn twenty_steps_are_pytorchs() {
    let golden = Golden::load();
    let losses = golden.numbers("losses");
    assert!(losses[STEPS - 1] < 0.8 * losses[0]);
    let clipped = golden
        .numbers("norms")
        .iter()
        .filter(|norm| **norm > 0.6)
        .count();
    assert!(clipped > 10, "the clip is active in {clipped} steps");
    let distance = golden.run(Without::Nothing);
    assert!(
        distance.loss <= 1e-4,
        "losses differ by {:e}",
        distance.loss
    );
    assert!(
        distance.weights <= 5e-3,
        "weights differ by {:e}",
        distance.weights
    );
}

#[test]
fn every_part_of_the_step_is_seen() {
    let golden = Golden::load();
    for (name, without) in [
        ("clip", Without::Clip),
        ("bias correction", Without::BiasCorrection),
        ("decay", Without::Decay),
        ("mask", Without::Mask),
    ] {
        let distance = golden.run(without);
        let (loss, weights) = (distance.loss, distance.weights);
        assert!(
            loss > 1e-4 && weights > 5e-3,
            "without {name}: {loss:e} and {weights:e}"
        );
    }
}
