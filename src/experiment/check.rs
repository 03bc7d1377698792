//! What is checked before any training starts, and what a trial's settings stand for.
use super::{
    ArmsData, Cost, DataManifest, PrepareError, Result, Study, Taken, Trained, Trial, cost,
    manifest::tasks,
    prepare::{plan_of, prepare},
    study::{ArmSpec, data_error},
};
use crate::{
    data::{
        self, MixSpec, Plan,
        prepare::{PreparationReport, Watch},
    },
    evals::{Estimate, Suite},
    model::{self, ModelConfig, Rope},
    train::StageSpec,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

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
    if let Some(dedup) = &arm.dedup {
        let texts = arm.data.iter().filter(|source| source.has_texts());
        dedup
            .check(texts.map(|source| source.name.as_str()))
            .map_err(|e| e.to_string())?;
    }
    if let Some(decontaminate) = &arm.decontaminate {
        decontaminate.check().map_err(|e| e.to_string())?;
    }
    if checked.insert(json!(arm.base).to_string()) {
        arm.base
            .check_to_train()
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
        // Both lists of longrope are counted, those for short texts and those for long ones.
        for length in [stage.context, 1, u32::MAX as usize] {
            rope.inv_freq(config.head_dim, length).map_err(|e| (i, e))?;
        }
        all.push(rope.clone());
    }
    Ok(all)
}

impl Study {
    /// Prepares all data in the folder `cache`, makes sure that every trial's data and evaluation can be had, and
    /// returns what each trial costs, in the order of the trials, and how the data came about.
    ///
    /// # Errors
    /// One line: what cannot be had, where, and what to do.
    pub fn prepare(&self, cache: &Path, watch: &Watch) -> Result<(Vec<Cost>, DataManifest)> {
        // The first arm that trains on this data, by all that the plan depends on.
        let mut planned: BTreeMap<String, String> = BTreeMap::new();
        let mut preparations: Vec<(String, ArmsData)> = Vec::new();
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
            let template = spec.base.chat_template().map_err(from_base)?;
            let data = json!([
                spec.base,
                spec.data,
                spec.dedup,
                spec.decontaminate,
                spec.mix,
                spec.stage,
                spec.evals
            ])
            .to_string();
            if trial.is_base() {
                // Nothing is prepared for it.
            } else if let Some(first) = planned.get(&data) {
                note_as(&mut preparations, trial, first);
            } else {
                planned.insert(data, trial.arm.clone());
                let failed = |e: PrepareError| match e {
                    PrepareError::Data(e) => wrong(data_error(&spec.data, &e)),
                    PrepareError::Evals(e) => wrong(format!("evals.suite: {e}")),
                };
                let prepared = prepare(spec, &config, &tokenizer, cache, watch).map_err(failed)?;
                let report = prepared.report.clone();
                let plan = plan_of(spec, prepared).map_err(|e| failed(e.into()))?;
                note(&mut preparations, trial, report, &plan);
                for (source, usage) in spec.data.iter().zip(plan.usage()) {
                    if let Some(warning) = source.repeated(usage.epochs) {
                        log::warn!("{}: {warning}", trial.arm);
                    }
                }
            }
            let suite = json!([spec.base, spec.evals]).to_string();
            let estimate = match estimates.get(&suite) {
                Some(estimate) => *estimate,
                None => Suite::load(&spec.evals, &tokenizer, template)
                    .map_err(|e| wrong(format!("evals.suite: {e}")))?
                    .estimate(),
            };
            estimates.insert(suite, estimate);
            costs.push(cost::of(spec, &config, estimate));
        }
        let preparations = preparations.into_iter().map(|(_, data)| data).collect();
        Ok((costs, DataManifest::of(self, preparations)))
    }
}

/// Notes that a trial trains on what the arm `first` does.
fn note_as(preparations: &mut [(String, ArmsData)], trial: &Trial, first: &str) {
    for (_, data) in preparations {
        let known = data.trained.get(first).cloned();
        if let Some(trained) = known.filter(|_| !data.arms.contains(&trial.arm)) {
            data.arms.push(trial.arm.clone());
            data.trained.insert(trial.arm.clone(), trained);
        }
    }
}

/// Notes how a trial's data were prepared, and what its arm takes of them.
fn note(
    preparations: &mut Vec<(String, ArmsData)>,
    trial: &Trial,
    report: PreparationReport,
    plan: &Plan,
) {
    let spec = &trial.spec;
    let said = json!([spec.data, spec.dedup, spec.decontaminate, report]).to_string();
    let known = preparations.iter().position(|(known, _)| *known == said);
    let known = known.unwrap_or_else(|| {
        let asked = spec.dedup.is_some() || spec.decontaminate.is_some();
        let data = ArmsData {
            arms: Vec::new(),
            data: spec.data.clone(),
            dedup: spec.dedup.clone(),
            decontaminate: spec.decontaminate.clone(),
            held_out: match asked {
                true => tasks(&spec.evals),
                false => Vec::new(),
            },
            report,
            lengths: plan.stored().into_iter().collect(),
            trained: BTreeMap::new(),
        };
        preparations.push((said, data));
        preparations.len() - 1
    });
    let data = &mut preparations[known].1;
    if data.arms.contains(&trial.arm) {
        return;
    }
    data.arms.push(trial.arm.clone());
    let taken = plan.usage().into_iter().map(|usage| Taken {
        source: usage.name,
        tokens: usage.tokens,
        epochs: usage.epochs,
    });
    let trained = Trained {
        sources: taken.collect(),
        stages: (0..spec.stage.len()).map(|i| plan.seen(i)).collect(),
    };
    data.trained.insert(trial.arm.clone(), trained);
}
