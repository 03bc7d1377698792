//! AdamW over a model's weights.
use super::{OptimizerSpec, Result};
use crate::model::Decoder;
use crate::ops::{Env, adamw, zeros};
use candle_core::Tensor;

/// The moments of every weight, in f32, in the model's order.
#[derive(Debug)]
pub struct Optimizer {
    pub(super) moments: Vec<[Tensor; 2]>,
    /// Steps taken.
    pub(super) steps: u64,
}

impl Optimizer {
    /// Moments of zero.
    pub fn new(env: &Env, model: &Decoder) -> Result<Self> {
        let zeros_like = |p: &crate::model::Param| -> Result<[Tensor; 2]> {
            Ok([zeros(p.value.dims(), env)?, zeros(p.value.dims(), env)?])
        };
        Ok(Optimizer {
            moments: model
                .params()
                .into_iter()
                .map(zeros_like)
                .collect::<Result<_>>()?,
            steps: 0,
        })
    }

    /// Moves the weights by their gradients times `grad_scale`, and takes the gradients away.
    pub fn step(
        &mut self,
        model: &Decoder,
        spec: &OptimizerSpec,
        lr: f64,
        grad_scale: f64,
    ) -> Result<()> {
        self.steps += 1;
        for (param, [m, v]) in model.params().into_iter().zip(&self.moments) {
            let Some(grad) = param.take_grad() else {
                continue;
            };
            let decays = param.value.dims().len() > 1;
            let numbers = adamw::Step {
                lr,
                beta1: spec.beta1,
                beta2: spec.beta2,
                eps: spec.eps,
                weight_decay: if decays { spec.weight_decay } else { 0.0 },
                step: self.steps,
                grad_scale,
            };
            adamw::step(&param.value, &grad, [m, v], &numbers)?;
        }
        Ok(())
    }
}
