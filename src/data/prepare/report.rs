//! What a preparation says of itself: inputs, and what each step left.
use super::super::{
    ReadReport, clean::CleanReport, decontaminate::DecontaminateReport, dedup::DedupReport,
};
use super::store::Count;
use serde::Serialize;
use std::collections::BTreeMap;

/// One preparation of a study's sources. No time, path or machine is in it: the same inputs and settings give the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreparationReport {
    pub sources: Vec<SourceReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<DedupReport>,
    /// Ids of the documents in the examples of `dedup`, by their numbers there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dedup_examples: BTreeMap<u32, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateReport>,
    /// blake3 of the tokenizer.
    pub tokenizer: String,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    pub name: String,
    /// Hash of what it holds: its documents, its token ids or its generator.
    pub content: String,
    /// Of files and crates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanReport>,
    /// What each step left, in their order; those that were not asked for are not there.
    pub steps: Vec<Left>,
    /// Documents and tokens that are trained on, the ids between documents among them.
    pub documents: u64,
    pub tokens: u64,
    /// The token ids in the cache, by their hash; none where they were made elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<String>,
}

/// What is left after a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Left {
    /// `read`, `clean`, `deduplicate` or `decontaminate`.
    pub after: &'static str,
    #[serde(flatten)]
    pub count: Count,
}
