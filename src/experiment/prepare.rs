//! From a trial's sources to the order of its data.
use super::TrialSpec;
use crate::{
    data::{
        self, Plan, PlanStage,
        prepare::{HeldOut, Preparation, Prepared, Watch},
    },
    evals::{self, Suite},
    model::ModelConfig,
    train::StageSpec,
};
use std::path::Path;
use tokenizers::Tokenizer;

/// What preparing a trial's data can fail with.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The evaluations, whose texts are held out.
    #[error(transparent)]
    Evals(#[from] evals::Error),
}

/// Reads, cleans, chooses and tokenises a trial's sources into the folder `cache`, or finds them there. What comes of
/// it is what the trial trains on.
///
/// # Errors
/// When a source or the suite cannot be read, or a setting is wrong.
pub fn prepare(
    trial: &TrialSpec,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    cache: &Path,
    watch: &Watch,
) -> Result<Prepared, PrepareError> {
    let held_out = match trial.dedup.is_some() || trial.decontaminate.is_some() {
        true => held_out(trial, tokenizer)?,
        false => Vec::new(),
    };
    let preparation = Preparation {
        sources: &trial.data,
        dedup: trial.dedup.as_ref(),
        decontaminate: trial.decontaminate.as_ref(),
        held_out: &held_out,
        tokenizer,
        ends: (config.bos_token_id, config.eos_token_id.first().copied()),
    };
    Ok(preparation.run(cache, watch)?)
}

/// The texts of the evaluations: the items' own, and the documents that they are from.
fn held_out(trial: &TrialSpec, tokenizer: &Tokenizer) -> Result<Vec<HeldOut>, evals::Error> {
    let suite = Suite::load(&trial.evals, tokenizer, None)?;
    let mut all = Vec::new();
    for (task, spec) in suite.tasks().iter().zip(&trial.evals.task) {
        let mut documents = Vec::new();
        for source in spec.kind().sources() {
            documents.extend(spec.kind().documents(source)?);
        }
        let items = task.texts()?;
        if !items.is_empty() || !documents.is_empty() {
            all.push(HeldOut {
                task: task.name().to_string(),
                documents,
                items,
            });
        }
    }
    Ok(all)
}

/// The order of a trial's data, of sources that are prepared.
///
/// # Errors
/// When a source cannot give what a stage asks for.
pub(super) fn plan_of(trial: &TrialSpec, prepared: Prepared) -> data::Result<Plan> {
    let stage = |(i, stage): (usize, &StageSpec)| PlanStage {
        context: stage.context,
        sequences: stage.sequences(),
        steps: stage.steps(),
        mix: trial.stage_mix(i).clone(),
        mix_to: stage.mix_to.clone(),
        long: stage.long.clone(),
        packing: stage.packing,
        document_mask: stage.document_mask,
        restart_positions: stage.restart_positions,
    };
    let stages = trial.stage.iter().enumerate().map(stage).collect();
    Plan::new(prepared.shards, stages, trial.seed.unwrap_or_default())
}

/// The order of a trial's data. Sources are prepared in the folder `cache`, or found there.
///
/// # Errors
/// When a source cannot be read or cannot give what a stage asks for.
pub fn plan(
    trial: &TrialSpec,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    cache: &Path,
) -> Result<Plan, PrepareError> {
    let prepared = prepare(trial, config, tokenizer, cache, &|_| ())?;
    Ok(plan_of(trial, prepared)?)
}
