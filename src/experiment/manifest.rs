//! How a study's data came about, for a paper's appendix.
use super::Study;
use crate::{
    data::{
        Lengths, Seen, SourceSpec, decontaminate::DecontaminateSpec, dedup::DedupSpec,
        prepare::PreparationReport,
    },
    evals::SuiteSpec,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// `data.json`: a function of the study and of what its sources hold alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataManifest {
    pub study: String,
    pub reduced: bool,
    /// The program's version.
    pub harness: &'static str,
    pub engine_format: u32,
    /// They decide the order of the data, not what is in it.
    pub seeds: Vec<u64>,
    /// Every other way in which the arms prepare their data.
    pub preparations: Vec<ArmsData>,
}

/// One preparation of the sources.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmsData {
    /// The arms that train on it.
    pub arms: Vec<String>,
    /// What the study says of it.
    pub data: Vec<SourceSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<DedupSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateSpec>,
    /// The tasks whose texts are held out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<String>,
    pub report: PreparationReport,
    /// How long the documents of each source are, in tokens.
    pub lengths: BTreeMap<String, Lengths>,
    /// For each arm, what training takes and sees.
    pub trained: BTreeMap<String, Trained>,
}

/// What an arm's training takes and sees, with the first seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trained {
    /// Tokens and epochs of each source.
    pub sources: Vec<Taken>,
    /// What packing makes of the documents, stage by stage.
    pub stages: Vec<Vec<Seen>>,
}

/// What an arm's training takes of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Taken {
    pub source: String,
    pub tokens: u64,
    pub epochs: f64,
}

impl DataManifest {
    pub(super) fn of(study: &Study, preparations: Vec<ArmsData>) -> Self {
        DataManifest {
            study: study.spec.name.clone(),
            reduced: study.reduced,
            harness: env!("CARGO_PKG_VERSION"),
            engine_format: super::ENGINE_FORMAT,
            seeds: match study.reduced {
                true => study.spec.seeds[..1].to_vec(),
                false => study.spec.seeds.clone(),
            },
            preparations,
        }
    }
}

/// The tasks whose texts are held out.
pub(super) fn tasks(suite: &SuiteSpec) -> Vec<String> {
    let names = suite.task.iter().map(|task| task.kind().name().to_string());
    names.collect()
}
