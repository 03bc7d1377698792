//! The study file.
use super::{
    AxisSpec, Error, Result, Trial, TrialSpec, check,
    grid::{Arm, arms, join},
    identity::{Contents, Failure},
    place::Places,
    repositories::{settle_base, settle_source},
    trial::reduce,
};
use crate::{
    checkpoint::{BaseSpec, hub::Commits},
    data::{self, MixSpec, SourceSpec, decontaminate::DecontaminateSpec, dedup::DedupSpec},
    evals::SuiteSpec,
    ops::Env,
    train::{OptimizerSpec, StageSpec},
    verdict::DecisionSpec,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// Names the folder of the results.
    pub name: String,
    /// Every combination of the axes runs with each of them; they decide the order of the data.
    pub seeds: Vec<u64>,
    pub base: BaseSpec,
    pub data: Vec<SourceSpec>,
    /// Leave out duplicates, within a source and across all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<DedupSpec>,
    /// Leave out what holds text of the evaluations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateSpec>,
    #[serde(default)]
    pub mix: MixSpec,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageSpec>,
    pub optimizer: OptimizerSpec,
    pub evals: EvalsSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axis: Vec<AxisSpec>,
}

/// `[evals]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalsSpec {
    /// The file of the suite.
    pub suite: String,
}

/// What an axis can change: a study without its name, seeds, axes and decision.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArmSpec {
    pub base: BaseSpec,
    pub data: Vec<SourceSpec>,
    #[serde(default)]
    pub dedup: Option<DedupSpec>,
    #[serde(default)]
    pub decontaminate: Option<DecontaminateSpec>,
    #[serde(default)]
    pub mix: MixSpec,
    #[serde(default)]
    pub stage: Vec<StageSpec>,
    pub optimizer: OptimizerSpec,
    pub evals: EvalsSpec,
}

impl StudySpec {
    /// The name of the study in this file, which says whether it is reduced.
    pub fn name(path: &Path, reduced: bool) -> Result<String> {
        Ok(named(&Read::file(path)?.spec.name, reduced))
    }
}

/// A study's file, read.
pub(super) struct Read {
    pub spec: StudySpec,
    pub table: toml::Table,
    pub places: Places,
}

impl Read {
    pub fn file(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Error {
            place: file.clone(),
            what: format!("cannot be read: {e}"),
        })?;
        let places = Places::new(&file, &text);
        let spec: StudySpec = toml::from_str(&text).map_err(|e| places.explain(&e))?;
        let table: toml::Table = toml::from_str(&text).map_err(|e| places.explain(&e))?;
        check_head(&spec, &places)?;
        Ok(Read {
            spec,
            table,
            places,
        })
    }
}

/// A study that was read and checked, with its trials.
#[derive(Debug)]
pub struct Study {
    pub spec: StudySpec,
    /// One seed, a tenth of the tokens and items.
    pub reduced: bool,
    /// The base first, then arm by arm, seed by seed.
    pub trials: Vec<Trial>,
    /// What the study's paths hold: their names and hashes.
    pub contents: BTreeMap<String, String>,
    /// The suites by their files, as they run.
    pub suites: BTreeMap<String, SuiteSpec>,
    /// What the revisions of the hub's repositories stand for.
    pub commits: Commits,
    /// What computes: part of every trial's identity.
    pub backend: String,
    pub(super) places: Places,
}

impl Study {
    /// Reads and checks a study and makes its trials; `reduced` takes one seed, a tenth of the tokens and
    /// of the items. Documents are read, but nothing is tokenised yet (see [`Study::prepare`]).
    ///
    /// What the study needs of the hub must be in the cache; `commits` says which commits are meant where that
    /// is settled, by earlier results. Files whose hashes are in the folder `cache` are not read.
    ///
    /// # Errors
    /// One line with file and line, what is wrong and what to do.
    pub fn load(path: &Path, reduced: bool, commits: &Commits, cache: &Path) -> Result<Self> {
        let Read {
            spec,
            table,
            places,
        } = Read::file(path)?;
        let mut study = Study {
            spec,
            reduced,
            trials: Vec::new(),
            contents: BTreeMap::new(),
            suites: BTreeMap::new(),
            commits: commits.clone(),
            backend: Env::cpu().backend(),
            places,
        };
        let arms = arms(&table, &study.spec.axis, &study.places)?;
        study.add_trials(&arms, cache)?;
        study.check_decision()?;
        Ok(study)
    }

    fn check_decision(&self) -> Result<()> {
        let Some(decision) = &self.spec.decision else {
            return Ok(());
        };
        let wrong = |what: String| self.places.error_at("decision", what);
        let (bases, trained): (Vec<&Trial>, Vec<&Trial>) =
            self.trials.iter().partition(|trial| trial.is_base());
        let [_] = bases[..] else {
            return Err(wrong(format!(
                "decision: an axis changes `base` or `evals`, so that there are {} bases to compare with; \
                 leave the decision out",
                bases.len()
            )));
        };
        let mut arms: Vec<&str> = trained.iter().map(|trial| trial.arm.as_str()).collect();
        arms.dedup();
        let scores: Vec<String> = self
            .suites
            .values()
            .flat_map(SuiteSpec::score_names)
            .collect();
        decision
            .check(&arms, &scores)
            .map_err(|e| wrong(e.to_string()))
    }

    /// The study's name, which says whether it is reduced.
    pub fn name(&self) -> String {
        named(&self.spec.name, self.reduced)
    }

    fn add_trials(&mut self, arms: &[Arm], cache: &Path) -> Result<()> {
        let axes = self.spec.axis.clone();
        let mut suites: BTreeMap<String, SuiteSpec> = BTreeMap::new();
        let mut checked = BTreeSet::new();
        let mut contents = Contents::new(cache);
        let (mut bases, mut trained): (Vec<Trial>, Vec<Trial>) = (Vec::new(), Vec::new());
        for arm in arms {
            let mut said = arm.said(&axes, &self.places)?;
            let wrong = |what: String| arm.error(&axes, &self.places, what);
            settle_base(&mut said.base, &mut self.commits)
                .map_err(|e| wrong(format!("{}: {e}", said.base.key())))?;
            for i in 0..said.data.len() {
                settle_source(&mut said.data[i], &mut self.commits)
                    .map_err(|e| wrong(data_error(&said.data, &e)))?;
            }
            check::arm(&said, &mut checked).map_err(wrong)?;
            if !suites.contains_key(&said.evals.suite) {
                let suite = SuiteSpec::read(Path::new(&said.evals.suite));
                let mut suite = suite.map_err(|e| wrong(format!("evals.suite: {e}")))?;
                if self.reduced {
                    suite = suite.reduced();
                }
                for source in suite.sources_mut() {
                    settle_source(source, &mut self.commits)
                        .map_err(|e| wrong(format!("evals.suite: {e}")))?;
                }
                suites.insert(said.evals.suite.clone(), suite);
            }
            let suite = &suites[&said.evals.suite];
            let mut seeds = &self.spec.seeds[..];
            if self.reduced {
                reduce(&mut said.stage, &mut said.optimizer);
                seeds = &seeds[..1];
            }
            let base = TrialSpec {
                seed: None,
                base: said.base.clone(),
                data: Vec::new(),
                dedup: None,
                decontaminate: None,
                mix: MixSpec::default(),
                stage: Vec::new(),
                optimizer: None,
                evals: suite.clone(),
            };
            let mut key = |spec: &TrialSpec| {
                contents.key(spec, &self.backend).map_err(|failure| {
                    let what = match failure {
                        Failure::Base(e) => format!("base: {e}"),
                        Failure::Task(task, e) => {
                            format!("evals.suite: {}, task \"{task}\": {e}", said.evals.suite)
                        }
                        Failure::Programs(task, e) => {
                            format!("evals.suite: {}, task \"{task}\": {e}", said.evals.suite)
                        }
                        Failure::Data(e) => data_error(&said.data, &e),
                    };
                    arm.error(&axes, &self.places, what)
                })
            };
            let key_of_base = key(&base)?;
            if bases.iter().all(|b| b.key != key_of_base) {
                let of_base = axes.iter().zip(&arm.labels).filter(|(axis, _)| {
                    ["base", "evals"]
                        .iter()
                        .any(|table| axis.key.starts_with(table))
                });
                bases.push(Trial {
                    key: key_of_base,
                    name: String::new(),
                    arm: String::new(),
                    axes: of_base.map(|(_, label)| label.clone()).collect(),
                    spec: base,
                });
            }
            for &seed in seeds {
                let spec = TrialSpec {
                    seed: Some(seed),
                    base: said.base.clone(),
                    data: said.data.clone(),
                    dedup: said.dedup.clone(),
                    decontaminate: said.decontaminate.clone(),
                    mix: said.mix.clone(),
                    stage: said.stage.clone(),
                    optimizer: Some(said.optimizer.clone()),
                    evals: suite.clone(),
                };
                let trial = Trial {
                    key: key(&spec)?,
                    name: format!("{},seed={seed}", arm.name()),
                    arm: arm.name(),
                    axes: arm.labels.clone(),
                    spec,
                };
                if let Some(same) = trained.iter().find(|t| t.key == trial.key) {
                    let what = format!("{} and {} are the same trial", same.name, trial.name);
                    return Err(self.places.error_at("axis", what));
                }
                trained.push(trial);
            }
        }
        let alone = bases.len() == 1;
        for base in &mut bases {
            base.arm = match alone {
                true => "base".into(),
                false => format!("base,{}", join(&base.axes)),
            };
            base.name = base.arm.clone();
            if alone {
                base.axes.clear();
            }
        }
        bases.append(&mut trained);
        self.trials = bases;
        self.contents = contents.named();
        self.suites = suites;
        Ok(())
    }
}

/// A study's name, which says whether it is reduced.
fn named(name: &str, reduced: bool) -> String {
    match reduced {
        true => format!("{name}-reduced"),
        false => name.to_string(),
    }
}

/// An error of data, with the path of the source that it speaks of.
pub(super) fn data_error(sources: &[SourceSpec], error: &data::Error) -> String {
    let index = match error {
        data::Error::Source { source_name, .. } => {
            sources.iter().rposition(|s| s.name == *source_name)
        }
        data::Error::Mix(what) => return format!("mix: {what}"),
        data::Error::Dedup(_) | data::Error::Decontaminate(_) => return error.to_string(),
        _ => None,
    };
    match index {
        Some(i) => format!("data.{i}: {error}"),
        None => format!("data: {error}"),
    }
}

fn check_head(spec: &StudySpec, places: &Places) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if spec.name.is_empty() || spec.name.starts_with('.') || !spec.name.chars().all(plain) {
        let what = format!(
            "name = \"{}\": it names a folder; use letters, digits, - and _",
            spec.name
        );
        return Err(places.error_at("name", what));
    }
    let distinct: BTreeSet<u64> = spec.seeds.iter().copied().collect();
    if distinct.is_empty() || distinct.len() < spec.seeds.len() {
        let what = "seeds: name at least one seed, and none twice, such as [0, 1, 2]";
        return Err(places.error_at("seeds", what));
    }
    Ok(())
}

#[cfg(test)]
#[path = "study_tests.rs"]
mod tests;
