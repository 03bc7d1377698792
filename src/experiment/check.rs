//! What is checked before any training starts, and what a trial's settings stand for.
use super::{
    Cost, Result, Study, TrialSpec, cost,
    study::{ArmSpec, data_error},
};
use crate::{
    data::{self, MixSpec, Plan, PlanStage},
    evals::{Estimate, Suite},
    model::{self, ModelConfig, Rope},
    train::StageSpec,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use tokenizers::Tokenizer;

/// Checks an arm's settings; `checked` holds what was already found right. An error begins with the key
/// that it speaks of.
pub(super) fn arm(
    arm: &ArmSpec,
    checked: &mut BTreeSet<String>,
) -> std::result::Result<(), String> {
    if arm.stage.is_empty() {
        return Err("stage: the study has no [[stage]]; give one at least".into());
    }
    for (i, stage) in arm.stage.iter().enumerate() {
        stage.check(i).map_err(|e| e.to_string())?;
        let mix = stage.mix.as_ref().unwrap_or(&arm.mix);
        if mix.0.is_empty() {
            return Err("mix: there is none; give each data source its weight in [mix]".into());
        }
        let shares = |mix: &MixSpec| mix.shares(arm.data.iter().map(|s| s.name.as_str()));
        let of_stage =
            |key: &str, e: data::Error| format!("stage.{i}.{key}: {e}").replace(": mix:", ":");
        shares(mix).map_err(|e| match stage.mix {
            Some(_) => of_stage("mix", e),
            None => e.to_string(),
        })?;
        if let Some(mix) = &stage.mix_to {
            shares(mix).map_err(|e| of_stage("mix_to", e))?;
        }
        for (name, long) in &stage.long {
            long.check()
                .map_err(|e| of_stage(&format!("long.{name}"), e))?;
            if arm.data.iter().all(|source| source.name != *name) {
                return Err(format!("stage.{i}.long: {name:?} is no data source"));
            }
        }
    }
    arm.optimizer.check().map_err(|e| e.to_string())?;
    if checked.insert(json!(arm.data).to_string()) {
        data::check_sources(&arm.data).map_err(|e| data_error(&arm.data, &e))?;
    }
    if checked.insert(json!(arm.base).to_string()) {
        arm.base
            .check()
            .map_err(|e| format!("{}: {e}", arm.base.key()))?;
    }
    let config = arm.base.config();
    let config = config.map_err(|e| format!("{}: {e}", arm.base.key()))?;
    ropes(&arm.stage, &config).map_err(|(i, e)| {
        let what = match e {
            model::Error::Rope(what) => what,
            other => other.to_string(),
        };
        format!("stage.{i}.rope: {what}")
    })?;
    Ok(())
}

/// The RoPE of each stage: its own, or what was in force before it.
///
/// # Errors
/// The stage's number, and what its RoPE lacks.
pub fn ropes(
    stages: &[StageSpec],
    config: &ModelConfig,
) -> std::result::Result<Vec<Rope>, (usize, model::Error)> {
    let mut rope = config.rope.clone();
    let mut all = Vec::with_capacity(stages.len());
    for (i, stage) in stages.iter().enumerate() {
        if let Some(said) = &stage.rope {
            rope = said.resolve(config.rope.rope_theta).map_err(|e| (i, e))?;
        }
        rope.inv_freq(config.head_dim, stage.context)
            .map_err(|e| (i, e))?;
        all.push(rope.clone());
    }
    Ok(all)
}

/// The order of a trial's data. Sources are tokenised into the folder `cache`, or found there.
///
/// # Errors
/// When a source cannot be read or cannot give what a stage asks for.
pub fn plan(
    trial: &TrialSpec,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    cache: &Path,
) -> data::Result<Plan> {
    let ends = (config.bos_token_id, config.eos_token_id.first().copied());
    let mut sources = Vec::with_capacity(trial.data.len());
    for source in &trial.data {
        let shard = data::prepare(source, tokenizer, ends, cache)?;
        sources.push((source.name.clone(), shard));
    }
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
    Plan::new(sources, stages, trial.seed.unwrap_or_default())
}

impl Study {
    /// Tokenises all data into the folder `cache`, makes sure that every trial's data and evaluation can
    /// be had, and returns what each trial costs, in the order of the trials.
    ///
    /// # Errors
    /// One line: what cannot be had, where, and what to do.
    pub fn prepare(&self, cache: &Path) -> Result<Vec<Cost>> {
        let mut planned = BTreeSet::new();
        let mut estimates: BTreeMap<String, Estimate> = BTreeMap::new();
        let mut costs = Vec::with_capacity(self.trials.len());
        for trial in &self.trials {
            let spec = &trial.spec;
            let wrong = |what: String| match trial.axes.is_empty() {
                true => self.places.error_named(what),
                false => self
                    .places
                    .error_named(format!("{what} (in arm {})", trial.arm)),
            };
            let from_base = |e| wrong(format!("{}: {e}", spec.base.key()));
            let config = spec.base.config().map_err(from_base)?;
            let tokenizer = spec.base.tokenizer().map_err(from_base)?;
            let data = json!([spec.base, spec.data, spec.mix, spec.stage]).to_string();
            if !trial.is_base() && planned.insert(data) {
                let plan = plan(spec, &config, &tokenizer, cache)
                    .map_err(|e| wrong(data_error(&spec.data, &e)))?;
                for (source, usage) in spec.data.iter().zip(plan.usage()) {
                    if let Some(warning) = source.repeated(usage.epochs) {
                        log::warn!("{}: {warning}", trial.arm);
                    }
                }
            }
            let suite = json!([spec.base, spec.evals]).to_string();
            let estimate = match estimates.get(&suite) {
                Some(estimate) => *estimate,
                None => Suite::load(&spec.evals, &tokenizer)
                    .map_err(|e| wrong(format!("evals.suite: {e}")))?
                    .estimate(),
            };
            estimates.insert(suite, estimate);
            costs.push(cost::of(spec, &config, estimate));
        }
        Ok(costs)
    }
}
