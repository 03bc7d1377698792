//! What a suite file says: `[[task]]` tables, each of a kind.
use super::Error;
use super::choice::ChoiceSpec;
use super::completion::CompletionSpec;
use super::dialogue::DialogueSpec;
use super::generate::GenerateSpec;
use super::long_loss::LongLossSpec;
use super::long_ppl::LongPplSpec;
use super::passkey::PasskeySpec;
use super::programs::ProgramsSpec;
use super::ruler::RulerSpec;
use super::task::Kind;
use crate::data::SourceSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// A suite: the file `evals/*.toml`, or the same as a table of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// The tasks, in the order in which they run.
    pub task: Vec<TaskSpec>,
}

impl SuiteSpec {
    /// The held-out texts of all tasks.
    pub fn sources_mut(&mut self) -> impl Iterator<Item = &mut SourceSpec> {
        let tasks = self.task.iter_mut();
        tasks.flat_map(|task| task.kind_mut().sources_mut())
    }

    /// Names the judge of all tasks that take one and name none.
    ///
    /// # Errors
    /// When no task takes one.
    pub fn set_judge(&mut self, path: &str) -> Result<(), Error> {
        let mut taken = false;
        for task in &mut self.task {
            taken |= task.kind_mut().set_judge(path);
        }
        match taken {
            true => Ok(()),
            false => Err(Error::Spec {
                place: "judge".into(),
                what: "no task of the suite takes one; leave it out".into(),
            }),
        }
    }

    /// The scores over all depths and positions that the suite gives, as a decision names them:
    /// `task.metric`, and `task.length.metric` where a task has several lengths.
    pub fn score_names(&self) -> Vec<String> {
        let of_task = |task: &TaskSpec| {
            let kind = task.kind();
            let named = |score| format!("{}.{score}", kind.name());
            kind.scores().into_iter().map(named).collect::<Vec<_>>()
        };
        self.task.iter().flat_map(of_task).collect()
    }
}

/// One task of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskSpec {
    Passkey(PasskeySpec),
    LongLoss(LongLossSpec),
    Completion(CompletionSpec),
    Programs(ProgramsSpec),
    LongPpl(LongPplSpec),
    Choice(ChoiceSpec),
    Generate(GenerateSpec),
    Ruler(RulerSpec),
    Dialogue(DialogueSpec),
}

impl TaskSpec {
    /// What its kind says of itself.
    pub fn kind(&self) -> &dyn Kind {
        match self {
            TaskSpec::Passkey(spec) => spec,
            TaskSpec::LongLoss(spec) => spec,
            TaskSpec::Completion(spec) => spec,
            TaskSpec::Programs(spec) => spec,
            TaskSpec::LongPpl(spec) => spec,
            TaskSpec::Choice(spec) => spec,
            TaskSpec::Generate(spec) => spec,
            TaskSpec::Ruler(spec) => spec,
            TaskSpec::Dialogue(spec) => spec,
        }
    }

    fn kind_mut(&mut self) -> &mut dyn Kind {
        match self {
            TaskSpec::Passkey(spec) => spec,
            TaskSpec::LongLoss(spec) => spec,
            TaskSpec::Completion(spec) => spec,
            TaskSpec::Programs(spec) => spec,
            TaskSpec::LongPpl(spec) => spec,
            TaskSpec::Choice(spec) => spec,
            TaskSpec::Generate(spec) => spec,
            TaskSpec::Ruler(spec) => spec,
            TaskSpec::Dialogue(spec) => spec,
        }
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        self.kind().name()
    }
}

impl SuiteSpec {
    /// Reads and checks a suite file.
    ///
    /// # Errors
    /// With the file, the line and what is wrong there.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks a suite; `place` names it in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self, Error> {
        let suite: SuiteSpec = toml::from_str(text).map_err(|error| {
            let message = error.message();
            let unknown = backquoted(message).filter(|_| message.starts_with("unknown"));
            let line = unknown
                .and_then(|(found, _)| line_of(text, found, error.span().map_or(0, |s| s.start)))
                .or_else(|| error.span().map(|span| line_at(text, span.start)));
            let nearest = unknown.and_then(|(found, known)| nearest(found, known));
            Error::Spec {
                place: line.map_or(place.to_string(), |line| format!("{place}:{line}")),
                what: match nearest {
                    Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
                    None => message.to_string(),
                },
            }
        })?;
        suite.validate().map_err(|error| match error {
            Error::Spec { place: task, what } => Error::Spec {
                place: format!("{place}: {task}"),
                what,
            },
            other => other,
        })?;
        Ok(suite)
    }

    /// Checks what the types do not.
    pub fn validate(&self) -> Result<(), Error> {
        if self.task.is_empty() {
            return Err(Error::Spec {
                place: "suite".into(),
                what: "has no [[task]]".into(),
            });
        }
        let mut names = BTreeSet::new();
        for task in &self.task {
            let wrong = |what: String| Err(Error::task(task.name(), what));
            if task.name().is_empty() || task.name().contains(['/', '\n', ',']) {
                return wrong("a name must be there and have no `/`, `,` or line break".into());
            }
            if !names.insert(task.name()) {
                return wrong("is there twice; a task's name must be its own".into());
            }
            if let Some(what) = task.kind().problem() {
                return wrong(what);
            }
        }
        Ok(())
    }

    /// The same suite at about a tenth of its work: a tenth of the items, and of the texts' tokens as far
    /// as one window of each of two documents allows.
    pub fn reduced(&self) -> Self {
        let mut reduced = self.clone();
        for task in &mut reduced.task {
            task.kind_mut().reduce();
        }
        reduced
    }
}

/// The first backquoted word of serde's message, and what follows it.
fn backquoted(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once('`')?;
    rest.split_once('`')
}

/// Of the backquoted names in a message the one that looks most like `found`.
fn nearest<'a>(found: &str, known: &'a str) -> Option<&'a str> {
    let names = known.split('`').skip(1).step_by(2);
    let likeness = |name: &&str| strsim::jaro_winkler(found, name);
    names
        .filter(|name| likeness(name) > 0.7)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// The line from `from` on that begins with a key, or has it in an inline table.
fn line_of(text: &str, key: &str, from: usize) -> Option<usize> {
    let is_key = |line: &str| {
        line.match_indices(key).any(|(at, _)| {
            let before = line[..at].trim_end().chars().last();
            let after = line[at + key.len()..]
                .trim_start_matches(['"', '\''])
                .trim_start();
            before.is_none_or(|c| "{,\"'[".contains(c)) && after.starts_with(['=', ']'])
                || line.trim_start().starts_with("kind") && before.is_some_and(|c| c == '"')
        })
    };
    let first = line_at(text, from);
    let lines = text.lines().enumerate().skip(first - 1);
    lines
        .filter(|(_, line)| is_key(line))
        .map(|(i, _)| i + 1)
        .next()
}

/// The line, from 1, of a byte.
fn line_at(text: &str, byte: usize) -> usize {
    text[..byte].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"
[[task]]
kind = "passkey"
name = "passkey"
lengths = [256, 512]
depths = 5
items = 8

[[task]]
kind = "long_loss"
name = "prose"
sources = [{ name = "held out", paths = ["a/*.txt"] }]
context = 512
stride = 128
documents = 4
max_tokens = 4096

[[task]]
kind = "completion"
name = "code"
sources = [{ name = "held out code", crates = ["rayon-1.12.0"], part = "code" }]
prefix = 512
items = 32
per_file = 4
"#;

    fn parse(text: &str) -> Result<SuiteSpec, String> {
        SuiteSpec::parse(text, "evals/x.toml").map_err(|e| e.to_string())
    }

    fn error(from: &str, to: &str) -> String {
        assert!(SUITE.contains(from));
        parse(&SUITE.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn a_suite_is_read_and_written_back() {
        let suite = parse(SUITE).unwrap();
        let names: Vec<&str> = suite.task.iter().map(TaskSpec::name).collect();
        assert_eq!(names, ["passkey", "prose", "code"]);
        let TaskSpec::LongLoss(prose) = &suite.task[1] else {
            panic!()
        };
        assert_eq!((prose.min_tokens(), prose.by_position), (512, true));
        assert_eq!(prose.protocol, super::super::long_loss::Windows::Sliding);
        assert_eq!(parse(&toml::to_string(&suite).unwrap()).unwrap(), suite);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let text = error("stride =", "strides =");
        assert!(
            text.starts_with("evals/x.toml:14: unknown field `strides`"),
            "{text}"
        );
        assert!(text.ends_with("did you mean `stride`?"), "{text}");
        let text = error("\"completion\"", "\"completions\"");
        assert!(
            text.starts_with("evals/x.toml:19: unknown variant `completions`"),
            "{text}"
        );
        assert!(text.ends_with("did you mean `completion`?"), "{text}");
        let text = error("crates =", "crate =");
        assert!(
            text.starts_with("evals/x.toml:21: unknown field `crate`"),
            "{text}"
        );
        // The key is known, but not to this kind.
        let text = error("depths = 5", "depths = 5\nstride = 3");
        assert!(
            text.starts_with("evals/x.toml:7: unknown field `stride`"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_done_is_an_error_that_names_the_task() {
        for (from, to, expected) in [
            (
                "lengths = [256, 512]",
                "lengths = []",
                "at least one length",
            ),
            ("lengths = [256, 512]", "lengths = [256, 256]", "none twice"),
            ("depths = 5", "depths = 0", "`depths` is 0"),
            ("items = 8", "items = 0", "`items` is 0"),
            ("stride = 128", "stride = 512", "`stride` is 512"),
            ("stride = 128", "stride = 0", "`stride` is 0"),
            ("documents = 4", "documents = 0", "`documents` is 0"),
            (
                "max_tokens = 4096",
                "max_tokens = 300",
                "`max_tokens` is 300",
            ),
            (
                "documents = 4",
                "documents = 4\nmin_tokens = 9",
                "`min_tokens` is 9",
            ),
            ("prefix = 512", "prefix = 0", "`prefix` is 0"),
            ("name = \"prose\"", "name = \"passkey\"", "is there twice"),
            ("name = \"prose\"", "name = \"a/b\"", "no `/`"),
        ] {
            let text = error(from, to);
            assert!(
                text.contains(expected) && text.contains("evals/x.toml: task \""),
                "{text}"
            );
        }
        assert!(parse("task = []").unwrap_err().contains("has no [[task]]"));
        let text = error("name = \"prose\"\n", "");
        assert!(text.contains("missing field `name`"), "{text}");
    }

    #[test]
    fn a_reduced_suite_is_valid_and_about_a_tenth() {
        let reduced = parse(SUITE).unwrap().reduced();
        reduced.validate().unwrap();
        let [
            TaskSpec::Passkey(passkey),
            TaskSpec::LongLoss(prose),
            TaskSpec::Completion(code),
        ] = &reduced.task[..]
        else {
            panic!()
        };
        assert_eq!((passkey.items, code.items), (1, 3));
        // 4 · 4,096 / 10 tokens over two documents.
        assert_eq!((prose.documents, prose.max_tokens), (2, 819));
    }

    #[test]
    fn the_suites_of_the_repository_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("evals");
        let mut suites = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            // What the environment names is not needed to read a suite.
            let text = text.replace("${", "").replace("}\"", "\"");
            let suite = SuiteSpec::parse(&text, "a suite").unwrap();
            suite.reduced().validate().unwrap();
            suites += 1;
        }
        assert!(suites > 4);
    }
}
