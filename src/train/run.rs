//! A trial's training: all stages from the base's weights to the final ones, with snapshots.
use super::{Error, OptimizerSpec, Result, Snapshot, StageSpec, Stepper, learning_rate};
use crate::data::Plan;
use crate::model::{Decoder, Rope};
use crate::ops::Env;
use crate::parallel::Ranks;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Steps over which the final loss is the mean.
const FINAL_STEPS: usize = 20;
/// A smoothed loss that is this much above the lowest one, or above that of a guess, has exploded (nats per
/// token).
const EXPLODED: f64 = 3.0;

/// What training is to do.
#[derive(Debug)]
pub struct Run<'a> {
    pub stages: &'a [StageSpec],
    pub optimizer: &'a OptimizerSpec,
    /// The RoPE of each stage.
    pub ropes: &'a [Rope],
    pub plan: &'a Plan,
    /// Where the state is kept; it is there while training is under way.
    pub snapshot: &'a Path,
    /// How often it is written.
    pub snapshot_every: Duration,
}

/// Where training stands.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub stage: usize,
    /// Steps done and to do, over all stages.
    pub step: u64,
    pub steps: u64,
    pub loss: f64,
    pub grad_norm: f64,
    pub lr: f64,
    /// Since this process began.
    pub tokens_per_second: f64,
}

/// What training gives.
#[derive(Debug)]
pub struct Outcome {
    pub model: Decoder,
    /// Every step's loss, in nats per token.
    pub losses: Vec<f64>,
    pub tokens: u64,
    /// Seconds of training, over all processes that worked on it.
    pub seconds: f64,
}

impl Outcome {
    /// Mean loss of the last steps.
    pub fn final_loss(&self) -> f64 {
        mean_of_last(&self.losses, FINAL_STEPS)
    }
}

fn mean_of_last(losses: &[f64], steps: usize) -> f64 {
    let last = &losses[losses.len().saturating_sub(steps)..];
    last.iter().sum::<f64>() / last.len() as f64
}

/// Trains `model` through all stages, going on from the snapshot where there is one. `report` is called
/// after every step.
///
/// # Errors
/// When training diverges: a loss or gradient that is not finite, or a loss that explodes.
pub fn run(
    env: &Env,
    model: Decoder,
    run: &Run,
    mut report: impl FnMut(Progress),
) -> Result<Outcome> {
    let mut state = Stepper::new(env, model, Ranks::solo())?;
    let mut kept = Snapshot::load(run.snapshot, &mut state)?.unwrap_or_default();
    let resumed = kept.losses.len() as u64;
    let steps: u64 = run.stages.iter().map(StageSpec::steps).sum();
    let (began, before) = (Instant::now(), kept.seconds);
    let mut written = Instant::now();
    let (mut first, mut tokens, mut tokens_here) = (0u64, 0u64, 0u64);
    for (index, (stage, rope)) in run.stages.iter().zip(run.ropes).enumerate() {
        let per_step = (stage.sequences() * stage.context) as u64;
        tokens += stage.steps() * per_step;
        state.model.config.set_rope(rope.clone(), stage.context);
        let last = first + stage.steps();
        let config = &state.model.config;
        let identity = config
            .rope
            .identity(config.head_dim, config.max_position_embeddings)?;
        if (first + 1..=last).contains(&resumed) {
            kept.check_rope(run.snapshot, &identity)?;
        }
        if last > resumed {
            kept.rope = identity;
        }
        let table = state.model.rope_table(env, stage.context)?;
        let peak = stage.lr.unwrap_or(run.optimizer.lr);
        let micro_batch = stage.micro_batch.unwrap_or(stage.sequences());
        for step in first.max(kept.losses.len() as u64)..last {
            let batch = run.plan.batch(index, step - first)?;
            let lr = learning_rate(run.optimizer, peak, step, steps);
            let how = (micro_batch, stage.recompute);
            let done = state.step(&batch, &table, run.optimizer, lr, how)?;
            if !(done.loss.is_finite() && done.grad_norm.is_finite()) {
                return Err(Error::Diverged {
                    step,
                    what: format!("loss {}, gradient norm {}", done.loss, done.grad_norm),
                });
            }
            kept.losses.push(done.loss);
            tokens_here += per_step;
            kept.seconds = before + began.elapsed().as_secs_f64();
            let vocab = state.model.config.vocab_size;
            check_explosion(&kept.losses[first as usize..], vocab, step)?;
            report(Progress {
                stage: index,
                step: step + 1,
                steps,
                loss: done.loss,
                grad_norm: done.grad_norm,
                lr,
                tokens_per_second: tokens_here as f64 / began.elapsed().as_secs_f64(),
            });
            if written.elapsed() >= run.snapshot_every {
                kept.save(run.snapshot, &state)?;
                written = Instant::now();
            }
        }
        first = last;
    }
    if (kept.losses.len() as u64) > resumed {
        // The evaluations that follow may be killed: they must not cost the training again.
        kept.save(run.snapshot, &state)?;
    }
    Ok(Outcome {
        model: state.model,
        losses: kept.losses,
        tokens,
        seconds: kept.seconds,
    })
}

/// The mean over the stage's last steps (another stage may have other data) against the lowest such mean, and
/// against a guess among all `vocab` ids: a function of the losses alone, so that a resumed run judges as one
/// that was not interrupted.
fn check_explosion(losses: &[f64], vocab: usize, step: u64) -> Result<()> {
    if losses.len() < FINAL_STEPS {
        return Ok(());
    }
    let means = losses
        .windows(FINAL_STEPS)
        .map(|window| mean_of_last(window, FINAL_STEPS));
    let lowest = means.fold(f64::INFINITY, f64::min);
    let now = mean_of_last(losses, FINAL_STEPS);
    let guess = (vocab as f64).ln();
    if now > lowest + EXPLODED || now > guess + EXPLODED {
        return Err(Error::Diverged {
            step,
            what: format!(
                "the loss is {now:.3}; it was {lowest:.3} at its lowest, and {guess:.3} is that of a guess"
            ),
        });
    }
    Ok(())
}
