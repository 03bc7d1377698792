//! What a task is, wherever its texts lie: what its scores depend on beside the model.
use super::spec::TaskSpec;
use crate::data::SourceSpec;
use serde_json::{Value, json};
use std::path::Path;

/// Version of what the tasks ask and how they score: raised when a task of the same words gives other records.
pub const FORMAT: u32 = 2;

/// What a task names that is elsewhere.
#[derive(Debug, Clone, Copy)]
pub enum Material<'a> {
    Source(&'a SourceSpec),
    /// The file of its items.
    File(&'a Path),
    /// The checkpoint that judges.
    Judge(&'a str),
}

/// What a task says, with all that it names replaced by the hash of its content.
///
/// # Errors
/// What `hash` fails with.
pub fn of<E>(
    task: &TaskSpec,
    hash: &mut dyn FnMut(Material) -> Result<String, E>,
) -> Result<Value, E> {
    let mut said = json!(task);
    let sources = task.kind().sources().iter();
    let sources: Vec<String> = sources
        .map(|s| hash(Material::Source(s)))
        .collect::<Result<_, _>>()?;
    if !sources.is_empty() {
        said["sources"] = sources.into();
    }
    for (key, path) in task.kind().files() {
        said[key] = hash(Material::File(path))?.into();
    }
    if let Some(judge) = task.kind().judge() {
        said["judge"] = hash(Material::Judge(judge))?.into();
    }
    Ok(said)
}
