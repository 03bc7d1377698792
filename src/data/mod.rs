//! (skeleton)
use serde::{Deserialize, Serialize};

/// Placeholder: the keys that evaluation suites use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    pub name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// Placeholder
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub id: String,
    pub text: String,
}

/// Placeholder
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Placeholder
pub fn documents(_spec: &SourceSpec) -> Result<Vec<Document>, Error> {
    todo!()
}
