//! What a task is, wherever its texts lie: what its scores depend on beside the model.
use super::Error;
use super::sandbox::Python;
use super::spec::TaskSpec;
use crate::data::SourceSpec;
use serde_json::{Value, json};
use std::path::Path;

/// Version of what the tasks ask and how they score: raised when a task of the same words gives other records.
pub const FORMAT: u32 = 3;

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

/// Whether what the model writes is run, so that the scores depend on [`interpreter`], too.
pub fn runs_programs(task: &TaskSpec) -> bool {
    matches!(task, TaskSpec::Programs(_))
}

/// What programs are run by: the hash of the interpreter's version and of what is installed for it.
///
/// # Errors
/// When there is no Python, or it does not run.
pub fn interpreter() -> Result<String, Error> {
    Python::find()?.identity()
}

#[cfg(test)]
mod tests {
    use super::super::SuiteSpec;
    use super::*;

    #[test]
    fn only_tasks_with_programs_ask_for_an_interpreter() {
        let text = "[[task]]\nkind = 'passkey'\nname = 'a'\nlengths = [64]\ndepths = 1\nitems = 1\n\
            [[task]]\nkind = 'programs'\nname = 'b'\npath = 'b.jsonl'\nsamples = 1\ntemperature = 0.0\n\
            max_tokens = 9\nk = [1]";
        let suite = SuiteSpec::parse(text, "a suite").unwrap();
        let run: Vec<bool> = suite.task.iter().map(runs_programs).collect();
        assert_eq!(run, [false, true]);
    }
}
