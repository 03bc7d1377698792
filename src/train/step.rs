//! One training step: micro-batches, gradients over ranks, clip, AdamW.
use super::{Optimizer, OptimizerSpec, Result};
use crate::model::{Batch, Decoder, decoder::Walk};
use crate::ops::{Env, clip, rope};
use crate::parallel::Ranks;

/// A model with its optimizer, as one rank holds it.
#[derive(Debug)]
pub struct Stepper {
    pub env: Env,
    pub model: Decoder,
    pub optimizer: Optimizer,
    pub ranks: Ranks,
}

/// What a step gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss over the global batch's weights, in nats per token.
    pub loss: f64,
    /// Global norm of the gradient before the clip.
    pub grad_norm: f64,
}

impl Stepper {
    /// Makes every weight of `model` train.
    pub fn new(env: &Env, mut model: Decoder, ranks: Ranks) -> Result<Self> {
        model.train();
        let optimizer = Optimizer::new(env, &model)?;
        Ok(Stepper {
            env: env.clone(),
            model,
            optimizer,
            ranks,
        })
    }

    /// Adds the gradients of the global batch's mean loss, and returns that loss. Every rank is given
    /// the whole batch and takes its part; rows go in passes of `micro_batch`.
    pub fn accumulate(
        &self,
        batch: &Batch,
        table: &rope::Table,
        micro_batch: usize,
        recompute: bool,
    ) -> Result<f64> {
        let (group, groups) = self.ranks.data();
        let walk = Walk {
            normaliser: batch.weight().max(f64::MIN_POSITIVE),
            recompute,
        };
        let from = batch.batch * group / groups;
        let to = batch.batch * (group + 1) / groups;
        let mut loss = 0.0;
        for first in (from..to).step_by(micro_batch.max(1)) {
            let rows = batch.rows(first, (first + micro_batch.max(1)).min(to));
            loss += self
                .model
                .forward_backward(&self.env, &rows, table, walk, &self.ranks)?;
        }
        for param in self.model.params() {
            if let Some(grad) = param.grad(&self.env)? {
                self.ranks.world.sum(&grad)?;
            }
        }
        Ok(self.ranks.world.sum_number(loss)?)
    }

    /// The global norm of the accumulated gradient.
    pub fn grad_norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for param in self.model.params() {
            if let Some(grad) = param.grad(&self.env)? {
                sum += clip::sum_of_squares(&grad)?;
            }
        }
        Ok(sum.sqrt())
    }

    /// One whole step.
    pub fn step(
        &mut self,
        batch: &Batch,
        table: &rope::Table,
        spec: &OptimizerSpec,
        lr: f64,
        (micro_batch, recompute): (usize, bool),
    ) -> Result<StepReport> {
        let loss = self.accumulate(batch, table, micro_batch, recompute)?;
        let grad_norm = self.grad_norm()?;
        if loss.is_finite() && grad_norm.is_finite() {
            let factor = clip::factor(grad_norm, spec.clip);
            self.optimizer.step(&self.model, spec, lr, factor)?;
        }
        Ok(StepReport { loss, grad_norm })
    }
}
