//! What a study says about a data source.
use super::{
    Error, Result, Shard,
    clean::{CleanSpec, Cleaner},
    inputs, read, synthetic,
};
use crate::checkpoint::hub::{Kind, Repo, Wanted};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One `[[data]]` table: files, crates, or a generator of documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// What the mix calls it.
    pub name: String,
    /// Files and globs of text, source code, JSON lines, JSON or Parquet, and folders, which are walked;
    /// `${VARIABLE}` is replaced by the environment's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// A data set of the hub, `org/name`, in the place of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// Its branch, tag or commit; `main` unless said. In a trial, the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Which files of it, or of the folders in `paths`, as a glob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The field of a JSONL line, or the column of a Parquet file, that holds the text.
    #[serde(default = "text_field")]
    pub field: String,
    /// The text of several fields or columns: `"Question: {question}\nAnswer: {answer}"`; `{#turns}{text}{/turns}`
    /// goes through a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What becomes of a text that is not UTF-8.
    #[serde(default, skip_serializing_if = "InvalidUtf8::is_default")]
    pub invalid_utf8: InvalidUtf8,
    /// Crates as cargo unpacked them, as NAME-VERSION.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<String>,
    /// Which part of the crates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Token ids in Megatron's indexed format, in the place of documents: what is before `.bin` and `.idx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// Documents made by a seeded generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<Generator>,
    /// Leave out documents of fewer characters.
    #[serde(default)]
    pub min_chars: usize,
    /// Stop taking documents when they have this many bytes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// How its documents are repaired, and which of them are left out; they stay as they are unless said.
    #[serde(default, skip_serializing_if = "CleanSpec::is_none")]
    pub clean: CleanSpec,
    /// A longer document, or line of JSON, is an error; 64 MiB unless said. What reading takes of memory follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_document_bytes: Option<usize>,
    /// Warn when training goes through any of its documents more often than this; 4 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_epochs: Option<f64>,
}

/// What becomes of a text that is not UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidUtf8 {
    /// It is left out and counted.
    #[default]
    Skip,
    /// What is wrong becomes U+FFFD, and the text is counted.
    Replace,
    /// Nothing is prepared.
    Error,
}

impl InvalidUtf8 {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Data repeated up to so often teach nearly as much as new ones (Muennighoff et al., arXiv 2305.16264).
const MAX_EPOCHS: f64 = 4.0;

fn text_field() -> String {
    "text".into()
}

fn twice() -> usize {
    2
}

/// Which part of a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// README, CHANGELOG and other Markdown, and the doc comments of its code.
    Prose,
    /// Its Rust files.
    Code,
}

/// A seeded generator of documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Generator {
    /// A segment of random tokens, repeated.
    Copy {
        documents: usize,
        seed: u64,
        /// Tokens of the segment, drawn between these.
        min_tokens: usize,
        max_tokens: usize,
        /// Draw from the tokenizer's first ids alone, so many; from all where it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vocabulary: Option<usize>,
        /// How often the segment stands there.
        #[serde(default = "twice")]
        times: usize,
    },
    /// Facts with digits among other sentences, and questions for them.
    Lookup {
        documents: usize,
        seed: u64,
        /// Words of a document, drawn between these.
        min_words: usize,
        max_words: usize,
    },
}

impl SourceSpec {
    /// Whether it is read as texts, which are cleaned, deduplicated and decontaminated; a generator's and token files'
    /// are not.
    pub fn has_texts(&self) -> bool {
        self.generator.is_none() && self.tokens.is_none()
    }

    pub(super) fn wrong<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(self.error(what))
    }

    /// An error that names this source.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::Source {
            source_name: self.name.clone(),
            what: what.into(),
        }
    }

    /// The repository of the hub, and what is needed of it.
    ///
    /// # Errors
    /// When `revision` is said without `hub`, or `hub` without `files`.
    pub fn repository(&self) -> Result<Option<(Repo, Wanted)>> {
        let Some(id) = &self.hub else {
            return match &self.revision {
                None => Ok(None),
                Some(_) => self.wrong("says `revision` without `hub`, to which it belongs"),
            };
        };
        let Some(files) = &self.files else {
            return self
                .wrong("says `hub` without `files`; give files = \"data/*.parquet\" or such");
        };
        let repo = Repo::new(Kind::Dataset, id, self.revision.as_deref());
        let repo = repo.map_err(|e| self.error(e.to_string()))?;
        Ok(Some((repo, Wanted::Files(vec![files.clone()]))))
    }

    /// Bytes that a document, or a line of JSON, may have.
    pub(super) fn max_document_bytes(&self) -> usize {
        self.max_document_bytes.unwrap_or(64 << 20)
    }

    /// What repairs and judges its documents.
    pub(super) fn cleaner(&self) -> Result<Cleaner> {
        Cleaner::new(&self.clean).map_err(|e| self.error(e.to_string()))
    }

    /// Where its token ids lie, if it is token ids.
    ///
    /// # Errors
    /// When an environment variable is not set, or there is no index.
    pub(super) fn token_prefix(&self) -> Result<Option<PathBuf>> {
        let Some(said) = &self.tokens else {
            return Ok(None);
        };
        let prefix = PathBuf::from(read::expand(self, said)?);
        if !Shard::exists(&prefix) {
            return self.wrong(format!(
                "tokens = {said:?}: there is no {}.idx; give what is before .bin and .idx",
                prefix.display()
            ));
        }
        if self.min_chars > 0 || self.max_bytes.is_some() {
            return self.wrong("says `min_chars` or `max_bytes` of `tokens`, which have no text");
        }
        if !self.clean.is_none() {
            return self.wrong("says `clean` of `tokens`, which have no text");
        }
        Ok(Some(prefix))
    }

    /// What there is to warn of when training goes through it so often.
    pub fn repeated(&self, epochs: f64) -> Option<String> {
        let most = self.max_epochs.unwrap_or(MAX_EPOCHS);
        (epochs > most).then(|| {
            format!(
                "data source {:?} is gone through {epochs:.1} times, more than max_epochs = {most}: repeated data \
                 teach less each time; give it more documents, a smaller share of the mix, or `long` a smaller share",
                self.name
            )
        })
    }

    /// Checks what the table says, without reading documents.
    ///
    /// # Errors
    /// One line that names the source and what is wrong.
    pub fn check(&self) -> Result<()> {
        self.repository()?;
        let kinds = [
            !self.paths.is_empty(),
            self.hub.is_some(),
            !self.crates.is_empty(),
            self.generator.is_some(),
            self.tokens.is_some(),
        ];
        match kinds.iter().filter(|k| **k).count() {
            0 => {
                return self.wrong(
                    "says no `paths`, `hub`, `crates`, `generator` or `tokens`; give one of them",
                );
            }
            1 => {}
            _ => {
                return self.wrong(
                    "says more than one of `paths`, `hub`, `crates`, `generator` and `tokens`",
                );
            }
        }
        if self.files.is_some() && self.hub.is_none() && self.paths.is_empty() {
            return self
                .wrong("says `files` without `hub` or a folder in `paths`, to which it belongs");
        }
        if !self.crates.is_empty() && self.part.is_none() {
            return self.wrong("says `crates` without `part`; give part = \"prose\" or \"code\"");
        }
        let range = match &self.generator {
            Some(Generator::Copy {
                documents,
                min_tokens,
                max_tokens,
                ..
            }) => (*documents, *min_tokens, *max_tokens),
            Some(Generator::Lookup {
                documents,
                min_words,
                max_words,
                ..
            }) => (*documents, *min_words, *max_words),
            None => {
                self.cleaner()?;
                if self.token_prefix()?.is_none() {
                    read::check(self)?;
                    read::files(self)?;
                }
                return Ok(());
            }
        };
        if !self.clean.is_none() {
            return self
                .wrong("says `clean` of a generator, whose documents are as they should be");
        }
        match range {
            (0, _, _) => self.wrong("an empty document set: `documents` is 0"),
            (_, 0, _) => self.wrong("the generator's smallest size must be at least 1"),
            (_, min, max) if min > max => self.wrong(format!(
                "the generator's sizes are reversed: {min} to {max}"
            )),
            _ => Ok(()),
        }
    }
}

/// Checks all sources of a study: each by itself, and that their names differ.
pub fn check_sources(sources: &[SourceSpec]) -> Result<()> {
    for (i, source) in sources.iter().enumerate() {
        if sources[..i].iter().any(|s| s.name == source.name) {
            return source.wrong("is there twice; every name must be another");
        }
        source.check()?;
    }
    Ok(())
}

/// Hash of what the source gives: of its documents in their order and of how they are cleaned, of its token ids, or of
/// its generator. Files that are as they were when `cache` was filled are not read again.
pub fn content_hash(spec: &SourceSpec, cache: &Path) -> Result<String> {
    if let Some(prefix) = spec.token_prefix()? {
        return Shard::content_hash(&prefix);
    }
    if let Some(generator) = &spec.generator {
        return Ok(generator_hash(generator));
    }
    let content = inputs::hash(spec, cache, &|_| ())?;
    if spec.clean.is_none() {
        return Ok(content);
    }
    let said = format!("{content} {}", spec.cleaner()?.identity());
    Ok(blake3::hash(said.as_bytes()).to_hex()[..16].to_string())
}

/// Hash of what a generator makes.
pub(super) fn generator_hash(generator: &Generator) -> String {
    let said = serde_json::to_string(generator).unwrap_or_default();
    let said = format!("generator {} {said}", synthetic::VERSION);
    blake3::hash(said.as_bytes()).to_hex()[..16].to_string()
}

/// Hash of a file's bytes.
///
/// # Errors
/// When it cannot be read.
pub fn file_hash(path: &Path) -> Result<String> {
    let wrong = |e: std::io::Error| Error::File {
        path: path.display().to_string(),
        what: e.to_string(),
    };
    let mut hash = blake3::Hasher::new();
    hash.update_reader(std::fs::File::open(path).map_err(wrong)?)
        .map_err(wrong)?;
    Ok(hash.finalize().to_hex()[..16].to_string())
}
