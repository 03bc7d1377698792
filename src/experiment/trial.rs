//! A trial: one run of a study, said in full.
use crate::{
    checkpoint::BaseSpec,
    data::{MixSpec, SourceSpec, decontaminate::DecontaminateSpec, dedup::DedupSpec},
    evals::SuiteSpec,
    train::{OptimizerSpec, StageSpec, Tokens},
};
use serde::Serialize;
use std::collections::BTreeSet;

/// Everything that a trial does. What the base's own evaluation has no use for is empty there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    pub base: BaseSpec,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<SourceSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<DedupSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateSpec>,
    #[serde(skip_serializing_if = "no_mix")]
    pub mix: MixSpec,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerSpec>,
    pub evals: SuiteSpec,
}

fn no_mix(mix: &MixSpec) -> bool {
    mix.0.is_empty()
}

/// A trial with its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// First 16 hexadecimal digits of the identity's hash.
    pub key: String,
    /// `ARM,seed=SEED`, or `base`.
    pub name: String,
    /// The axes' labels: `rope=yarn-4,mix=7:2:1`; `default` without axes; `base` for the base itself.
    pub arm: String,
    /// Axis and label, in the study's order.
    pub axes: Vec<(String, String)>,
    pub spec: TrialSpec,
}

impl Trial {
    /// Whether this is the base itself, scored without training.
    pub fn is_base(&self) -> bool {
        self.spec.stage.is_empty()
    }
}

impl TrialSpec {
    /// Tokens that the trial trains on.
    pub fn tokens(&self) -> u64 {
        self.stage.iter().map(StageSpec::trained_tokens).sum()
    }

    /// What the base, the data and the evaluation take from the hub: `org/name@COMMIT`, in order, each once.
    pub fn hub(&self) -> Vec<String> {
        let mut evals = self.evals.clone();
        let base = self.base.repository().ok().flatten();
        let sources = self.data.iter().chain(evals.sources_mut().map(|s| &*s));
        let of_sources = sources.filter_map(|source| source.repository().ok().flatten());
        let all = base.into_iter().chain(of_sources);
        let names: BTreeSet<String> = all.map(|(repo, _)| repo.to_string()).collect();
        names.into_iter().collect()
    }

    /// The mix of stage `index`: its own, or the study's.
    pub fn stage_mix(&self, index: usize) -> &MixSpec {
        let own = self.stage.get(index).and_then(|stage| stage.mix.as_ref());
        own.unwrap_or(&self.mix)
    }
}

/// A tenth of the stages' tokens, at least one step each, and of the warm-up.
pub(super) fn reduce(stages: &mut [StageSpec], optimizer: &mut OptimizerSpec) {
    for stage in stages {
        stage.tokens = Tokens(stage.tokens.0.div_ceil(10));
    }
    optimizer.warmup = optimizer.warmup.div_ceil(10);
}
