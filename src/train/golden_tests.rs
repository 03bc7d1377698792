//! Twenty steps against PyTorch's (`tests/golden/train_step.py`), and that the comparison sees each part
//! of a step that is missing.
use super::*;
use crate::model::{Batch, Decoder, ModelConfig};
use crate::ops::testing::wide;
use crate::ops::{Env, to_vec};
use crate::parallel::Ranks;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

const FILE: &[u8] = include_bytes!("../../tests/golden/train_step.safetensors");
/// Largest relative difference of a step's loss.
const LOSS: f64 = 1e-4;
/// Largest ‖w − w_torch‖ / ‖w_torch − w_0‖ of a weight after the last step.
const WEIGHT: f64 = 5e-3;

/// What PyTorch began with, was given and came to.
struct Golden {
    config: ModelConfig,
    optimizer: OptimizerSpec,
    tensors: HashMap<String, Tensor>,
    batches: Vec<Batch>,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
    lrs: Vec<f64>,
}

impl Golden {
    fn load() -> Self {
        let (_, header) = safetensors::SafeTensors::read_metadata(FILE).unwrap();
        let said = header.metadata().as_ref().unwrap();
        let tensors = candle_core::safetensors::load_buffer(FILE, &Device::Cpu).unwrap();
        let (steps, rows, tokens) = tensors["ids"].dims3().unwrap();
        let integers = |name: &str, step| to_vec::<u32>(&tensors[name].get(step).unwrap()).unwrap();
        let batches = (0..steps).map(|step| Batch {
            batch: rows,
            tokens,
            ids: integers("ids", step),
            targets: integers("targets", step),
            weights: to_vec(&tensors["weights"].get(step).unwrap()).unwrap(),
            positions: (0..rows).flat_map(|_| 0..tokens as u32).collect(),
            doc_starts: integers("doc_starts", step),
        });
        let numbers = |name: &str| to_vec::<f64>(&tensors[name]).unwrap();
        Golden {
            config: ModelConfig::parse(&said["config"]).unwrap(),
            optimizer: serde_json::from_str(&said["optimizer"]).unwrap(),
            batches: batches.collect(),
            losses: numbers("losses"),
            grad_norms: numbers("grad_norms"),
            lrs: numbers("lrs"),
            tensors,
        }
    }

    fn weight(&self, when: &str, name: &str) -> Vec<f64> {
        let weight = &self.tensors[&format!("{when}.{name}")];
        wide(&to_vec::<f32>(weight).unwrap())
    }

    /// Runs the steps on these inputs from PyTorch's initial weights, as if `steps_before` steps had
    /// been taken.
    fn run(&self, steps_before: u64, (micro_batch, recompute): (usize, bool)) -> Difference {
        let env = Env::cpu();
        let initial = self.tensors.iter().filter_map(|(name, weight)| {
            // A copy: training writes into its weights.
            let weight = weight.copy().unwrap();
            Some((name.strip_prefix("initial.")?.to_string(), weight))
        });
        let model = Decoder::from_tensors(&self.config, initial.collect()).unwrap();
        let mut stepper = Stepper::new(&env, model, Ranks::solo()).unwrap();
        stepper.optimizer.steps = steps_before;
        let table = stepper.model.rope_table(&env, self.batches[0].tokens);
        let table = table.unwrap();
        let steps = self.batches.len() as u64;
        let mut worst = Difference::default();
        for (step, batch) in self.batches.iter().enumerate() {
            let lr = learning_rate(&self.optimizer, self.optimizer.lr, step as u64, steps);
            let how = (micro_batch, recompute);
            let report = stepper.step(batch, &table, &self.optimizer, lr, how);
            let report = report.unwrap();
            assert!(report.loss.is_finite() && report.grad_norm.is_finite());
            let relative = |got: f64, want: &[f64]| (got - want[step]).abs() / want[step];
            worst.loss = worst.loss.max(relative(report.loss, &self.losses));
            let grad_norm = relative(report.grad_norm, &self.grad_norms);
            worst.grad_norm = worst.grad_norm.max(grad_norm);
            worst.lr = worst.lr.max(relative(lr, &self.lrs));
        }
        for param in stepper.model.params() {
            let got = wide(&to_vec::<f32>(&param.value).unwrap());
            let [initial, end] = ["initial", "final"].map(|when| self.weight(when, &param.name));
            let ratio = distance(&got, &end) / distance(&end, &initial);
            assert!(ratio.is_finite(), "{}: {ratio}", param.name);
            if ratio > worst.weight {
                (worst.weight, worst.name) = (ratio, param.name.clone());
            }
        }
        worst
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The largest differences from PyTorch over all steps, each relative.
#[derive(Debug, Default)]
struct Difference {
    loss: f64,
    grad_norm: f64,
    lr: f64,
    /// Over all weights, after the last step.
    weight: f64,
    /// The weight of that.
    name: String,
}

#[test]
fn twenty_steps_are_pytorchs() {
    let golden = Golden::load();
    assert_eq!(golden.losses.len(), 20);
    assert!(golden.losses[19] < 0.8 * golden.losses[0]);
    assert!(golden.optimizer.lr >= 1e-3 && golden.optimizer.warmup > 0);
    let clipped = |norm: &&f64| **norm > golden.optimizer.clip;
    assert!(golden.grad_norms.iter().filter(clipped).count() > 10);
    let rows = golden.batches[0].batch;
    for how in [(rows, false), (1, true)] {
        let difference = golden.run(0, how);
        assert!(difference.loss <= LOSS, "{how:?}: {difference:?}");
        assert!(difference.weight <= WEIGHT, "{how:?}: {difference:?}");
        assert!(difference.grad_norm <= 1e-3, "{how:?}: {difference:?}");
        assert!(difference.lr <= 1e-12, "{how:?}: {difference:?}");
    }
}

/// Takes one part out of the step, through its inputs; both comparisons must fail.
fn must_differ(steps_before: u64, change: impl Fn(&mut Golden)) {
    let mut golden = Golden::load();
    change(&mut golden);
    let difference = golden.run(steps_before, (golden.batches[0].batch, false));
    assert!(difference.loss > LOSS, "{difference:?}");
    assert!(difference.weight > WEIGHT, "{difference:?}");
}

#[test]
fn a_step_without_clip_is_seen() {
    must_differ(0, |golden| golden.optimizer.clip = 1e9);
}

#[test]
fn a_step_without_decay_is_seen() {
    must_differ(0, |golden| golden.optimizer.weight_decay = 0.0);
}

#[test]
fn a_step_without_document_mask_is_seen() {
    must_differ(0, |golden| {
        for batch in &mut golden.batches {
            batch.doc_starts.fill(0);
        }
    });
}

/// After very many steps both corrections are 1.
#[test]
fn a_step_without_bias_correction_is_seen() {
    must_differ(1 << 40, |_| ());
}
