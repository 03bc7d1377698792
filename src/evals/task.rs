//! What every task has in common.
use super::{Error, Record, Tokens};
use crate::data::{Document, Row, SourceSpec, documents, rows};
use crate::model::Decoder;
use crate::ops::Env;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

/// What a kind of task says of itself in a suite, before anything is read: the table `[[task]]`, one type a
/// kind, in the kind's file.
pub trait Kind {
    /// The name in the suite.
    fn name(&self) -> &str;

    /// Its held-out texts.
    fn sources(&self) -> &[SourceSpec] {
        &[]
    }

    /// The same, to be settled (commits for branches).
    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut []
    }

    /// The file of its items (key `path`), if it has one.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Whether its sources are rows of fields, one an item, and not documents.
    fn reads_rows(&self) -> bool {
        false
    }

    /// The hash of what a source holds for it; hashes of files that are as they were lie in the folder `cache`.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn content_hash(&self, source: &SourceSpec, cache: &Path) -> crate::data::Result<String> {
        match self.reads_rows() {
            true => crate::data::rows_hash(source),
            false => crate::data::content_hash(source, cache),
        }
    }

    /// A source's documents, near copies of which are not to be trained on; none where its rows are items, whose texts
    /// are all that there is.
    ///
    /// # Errors
    /// When the source cannot be read.
    fn documents(&self, source: &SourceSpec) -> crate::data::Result<Vec<Document>> {
        match self.reads_rows() {
            true => Ok(Vec::new()),
            false => documents(source),
        }
    }

    /// The checkpoint that judges its texts, as a path, if it names one.
    fn judge(&self) -> Option<&str> {
        None
    }

    /// Names that checkpoint unless the task does. False where the kind takes none.
    fn set_judge(&mut self, _path: &str) -> bool {
        false
    }

    /// All files that it names, each with its key.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        self.path().map(|path| ("path", path)).into_iter().collect()
    }

    /// What it asks for that cannot be done.
    fn problem(&self) -> Option<String>;

    /// The scores over all depths and positions that it gives: `metric`, and `length.metric` where it has several
    /// lengths.
    fn scores(&self) -> Vec<String>;

    /// Tokens of the longest context that it scores.
    fn longest(&self) -> usize;

    /// Tokens that it runs together, at most: their keys and values are in memory at once.
    fn batch_tokens(&self) -> usize {
        tokens_together(BATCH, self.longest())
    }

    /// Makes about a tenth of the work of it.
    fn reduce(&mut self);

    /// Reads its texts and prepares its items.
    ///
    /// # Errors
    /// When a source cannot be read or has nothing that fits.
    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error>;
}

/// What is wrong with a task that needs `sources` and has none.
pub(super) const NO_SOURCES: &str = "`sources` is empty; name at least one";

/// What is wrong with sources whose rows are wanted.
pub(super) fn only_rows(sources: &[SourceSpec]) -> Option<String> {
    let other = |s: &&SourceSpec| !s.crates.is_empty() || s.generator.is_some();
    let source = sources.iter().find(other)?;
    Some(format!(
        "source \"{}\" has no rows; give `paths` or `hub` with .jsonl or .parquet files",
        source.name
    ))
}

/// The first of the keys whose value is 0, and so cannot be done.
pub(super) fn at_least_one(keys: &[(&str, usize)]) -> Option<String> {
    let (key, _) = keys.iter().find(|(_, value)| *value == 0)?;
    Some(format!("`{key}` is 0; it must be at least 1"))
}

/// What is wrong with the lengths of a task, or with the mean from which it counts them as passed.
pub(super) fn lengths_problem(lengths: &[usize], threshold: Option<f64>) -> Option<String> {
    let distinct: BTreeSet<usize> = lengths.iter().copied().collect();
    if distinct.is_empty() || distinct.len() < lengths.len() {
        return Some("`lengths` must name at least one length, and none twice".into());
    }
    let threshold = threshold.filter(|share| !(*share > 0.0 && *share <= 1.0))?;
    Some(format!(
        "`threshold` is {threshold}; it is a mean score above 0 and up to 1"
    ))
}

/// The scores of a task with several lengths: over all, by length, and the effective context where a threshold says
/// what that is.
pub(super) fn scores_by_length(
    metric: &str,
    lengths: &[usize],
    threshold: Option<f64>,
) -> Vec<String> {
    let by_length = lengths.iter().map(|length| format!("{length}.{metric}"));
    let effective = threshold.map(|_| super::effective::METRIC.to_string());
    std::iter::once(metric.to_string())
        .chain(by_length)
        .chain(effective)
        .collect()
}

/// The rows of a task's sources.
pub(super) fn rows_of(task: &str, sources: &[SourceSpec]) -> Result<Vec<Row>, Error> {
    let mut all = Vec::new();
    for source in sources {
        all.extend(rows(source)?);
    }
    distinct(task, "rows", all, |row| &row.id)
}

/// A tenth of a number of items, but one at least.
pub(super) fn a_tenth(n: usize) -> usize {
    (n / 10).max(1)
}

/// The same of a task whose items are all its rows unless it says how many. How many rows there are is not known before
/// they are read: a hundred stand for a tenth of them.
pub(super) fn a_tenth_of_rows(items: Option<usize>) -> usize {
    items.map_or(100, a_tenth)
}

/// Rows that are continued together, at most.
pub(super) const BATCH: usize = 8;
/// Tokens of them, at most, but for a row that is longer: each takes as much of the cache as the longest.
pub(super) const BATCH_TOKENS: usize = 16_384;

/// Rows, given by their tokens, in their order: chunk by chunk how many are continued together.
pub(super) fn chunks_that_fit(rows: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut chunks = Vec::new();
    let (mut together, mut longest) = (0, 0);
    for tokens in rows {
        longest = tokens.max(longest);
        if together == BATCH || together > 0 && (together + 1) * longest > BATCH_TOKENS {
            chunks.push(together);
            (together, longest) = (0, tokens);
        }
        together += 1;
    }
    chunks.extend((together > 0).then_some(together));
    chunks
}

/// Tokens of at most so many rows of this length that are continued together.
pub(super) fn tokens_together(rows: usize, length: usize) -> usize {
    rows.saturating_mul(length).min(BATCH_TOKENS.max(length))
}

/// A model under evaluation.
pub struct Subject<'a> {
    pub env: &'a Env,
    pub model: &'a Decoder,
}

/// Tokens that a task runs through the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of prompts and of texts to be scored.
    pub prefill: usize,
    /// Tokens generated one after the other, at most.
    pub generated: usize,
}

impl std::ops::AddAssign for Estimate {
    fn add_assign(&mut self, other: Estimate) {
        self.prefill += other.prefill;
        self.generated += other.generated;
    }
}

/// A kind of evaluation with its items prepared: one file a kind.
pub trait Task {
    /// The name in the suite, unique there.
    fn name(&self) -> &str;

    /// The items' names in their order: known without running anything, the same for every model.
    fn items(&self) -> &[String];

    /// Items that run together: chunk by chunk how many, adding up to all items.
    fn chunks(&self) -> Vec<usize>;

    /// Whether items of a chunk may also run apart at no cost but time. Where they come from one pass, they may not.
    fn divisible(&self) -> bool {
        true
    }

    /// The items' own texts, named after the items, against which training data are decontaminated; none where they
    /// are generated.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn texts(&self) -> Result<Vec<Document>, Error>;

    /// Tokens that the task processes when it runs whole.
    fn estimate(&self) -> Estimate;

    /// Scores items of one chunk, given by their indices in ascending order: a record for each, in the
    /// same order. What an item scores does not depend on the others.
    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error>;
}

/// The documents of a task's sources.
pub(super) fn held_out(task: &str, sources: &[SourceSpec]) -> Result<Vec<Document>, Error> {
    let mut all = Vec::new();
    for source in sources {
        all.extend(documents(source)?);
    }
    distinct(task, "documents", all, |document| &document.id)
}

/// Documents in the order of the hashes of their names: a sample of all sources.
pub(super) fn by_hash(mut documents: Vec<Document>) -> Vec<Document> {
    documents.sort_by_cached_key(|d| (*blake3::hash(d.id.as_bytes()).as_bytes(), d.id.clone()));
    documents
}

/// Items are named after documents or rows, so no two may have one name.
fn distinct<T>(
    task: &str,
    what: &str,
    all: Vec<T>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>, Error> {
    let mut seen = BTreeSet::new();
    let twice = all.iter().map(name).find(|name| !seen.insert(*name));
    match twice.map(str::to_string) {
        Some(twice) => {
            let what = format!(
                "two {what} of its sources are called {twice}; leave one out, or name both by one glob above \
                 their folders"
            );
            Err(Error::task(task, what))
        }
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source of files in a folder.
    fn source(folder: &Path, paths: &[&str]) -> SourceSpec {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| format!("'{}'", folder.join(path).display()))
            .collect();
        toml::from_str(&format!("name = 'x'\npaths = [{}]", paths.join(", "))).unwrap()
    }

    #[test]
    fn what_is_named_twice_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for of in ["a", "b"] {
            let of = folder.path().join(of);
            std::fs::create_dir(&of).unwrap();
            std::fs::write(of.join("test.jsonl"), "{\"text\": \"Here we go.\"}\n").unwrap();
        }
        let one = source(folder.path(), &["a/test.jsonl"]);
        let other = source(folder.path(), &["b/test.jsonl"]);
        let both = source(folder.path(), &["a/test.jsonl", "b/test.jsonl"]);
        for sources in [vec![one.clone(), other], vec![both]] {
            let error = rows_of("own", &sources).unwrap_err().to_string();
            assert!(
                error.starts_with("task \"own\": two rows of its sources are called test.jsonl:1;"),
                "{error}"
            );
            let error = held_out("prose", &sources).unwrap_err().to_string();
            assert!(
                error.starts_with("task \"prose\": two documents of its sources are called "),
                "{error}"
            );
        }
        assert_eq!(rows_of("own", &[one]).unwrap().len(), 1);
        let glob = source(folder.path(), &["*/test.jsonl"]);
        let rows = rows_of("own", &[glob]).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(names, ["a/test.jsonl:1", "b/test.jsonl:1"]);
    }

    #[test]
    fn a_long_row_is_not_run_with_as_many_as_short_ones_are() {
        let chunks = |rows: &[usize]| chunks_that_fit(rows.iter().copied());
        assert!(chunks(&[]).is_empty());
        assert_eq!(chunks(&[100; 19]), [8, 8, 3]);
        assert_eq!(chunks(&[4096; 9]), [4, 4, 1]);
        assert_eq!(chunks(&[100, 100, 6000, 100, 100]), [2, 2, 1]);
        assert_eq!(chunks(&[100, 100, 40_000, 100, 100]), [2, 1, 2]);
        assert_eq!(
            [2048, 3000, 40_000].map(|length| tokens_together(BATCH, length)),
            [16_384, 16_384, 40_000]
        );
        assert_eq!(tokens_together(BATCH, 100), 800);
    }
}
