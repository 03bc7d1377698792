//! Documents from files, one at a time: text, source trees, JSON lines, JSON, Parquet, unpacked crates, and data sets of
//! the hub; compressed by gzip or zstd or not.
mod files;
mod parquet;
mod record;
mod report;
mod stream;
mod template;
mod tree;

use super::{Error, Result, SourceSpec, crates, source::InvalidUtf8};
pub(super) use files::{File, expand, files};
use record::Form;
pub use report::{ReadReport, Reason};
use std::path::Path;
use stream::{Compression, Stream};

/// A text with a name that is the same on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// File name (or crate and file, or file and line).
    pub id: String,
    pub text: String,
}

/// Checks what a source says of its records, without reading any.
///
/// # Errors
/// What is wrong with its template.
pub(super) fn check(spec: &SourceSpec) -> Result<()> {
    Form::of(spec).map(|_| ())
}

/// Gives the documents of a source of files or crates to `take`, in the order of their names, one at a time, until it
/// wants no more (false). `seen` is told of every bytes that are taken of the files. What is left out is in the report.
///
/// # Errors
/// When a file cannot be read, is damaged or changes, a record has no text, a document is longer than allowed, what
/// `take` fails with, or when nothing is left.
pub(super) fn each(
    spec: &SourceSpec,
    seen: &dyn Fn(u64),
    take: &mut dyn FnMut(Document) -> Result<bool>,
) -> Result<ReadReport> {
    let form = Form::of(spec)?;
    let mut reading = Reading {
        spec,
        seen,
        take,
        report: ReadReport::default(),
    };
    for file in files(spec)? {
        if reading.is_full() || !one(&file, &form, &mut reading)? {
            break;
        }
    }
    let report = reading.report;
    if report.documents == 0 {
        let least = spec.min_chars.max(1);
        return spec.wrong(format!(
            "an empty document set: no document has {least} characters or more"
        ));
    }
    Ok(report)
}

/// The documents of one file; false when no more are wanted.
fn one(file: &File, form: &Form, reading: &mut Reading) -> Result<bool> {
    reading.report.files += 1;
    let (_, name) = Compression::of(&file.path);
    let with_template = matches!(form, Form::Template(_));
    match name.extension().and_then(|e| e.to_str()) {
        Some("jsonl" | "ndjson") => record::lines(file, form, reading),
        Some("json") if with_template => record::elements(file, form, reading),
        Some("parquet") => parquet::rows(file, form, reading),
        _ => text(file, &name, reading),
    }
}

/// A file that is one text.
fn text(file: &File, name: &Path, reading: &mut Reading) -> Result<bool> {
    let mut stream = Stream::open(&file.path, reading.seen)?;
    let bytes = stream.whole(reading.spec.max_document_bytes())?;
    stream.finish()?;
    if file.in_tree
        && let Some(reason) = tree::why_not(name, &bytes)
    {
        reading.report.note(reason, &file.id, bytes.len());
        return Ok(true);
    }
    match reading.text(&file.id, bytes)? {
        Some(text) => {
            let text = crates::part_of(reading.spec, &file.path, text);
            reading.offer(file.id.clone(), text)
        }
        None => Ok(true),
    }
}

/// Which documents reading gives from the same files: raised when it gives others, so that hashes kept before are made
/// again.
pub(super) const VERSION: u32 = 2;

/// All documents of a source of files or crates, in the order of their names, cleaned as the source says.
///
/// # Errors
/// As for a source that is read one document at a time, and when it is one of token ids.
pub fn documents(spec: &SourceSpec) -> Result<Vec<Document>> {
    if spec.tokens.is_some() {
        return spec.wrong("is token ids, and texts are asked for here; give `paths`");
    }
    let cleaner = spec.cleaner()?;
    let mut documents = Vec::new();
    let report = each(spec, &|_| (), &mut |document| {
        let cleaned = cleaner.clean(document);
        if cleaned.dropped.is_none() {
            documents.push(cleaned.document);
        }
        Ok(true)
    })?;
    report.warn(&spec.name);
    Ok(documents)
}

/// Bytes of all files of a source.
pub(super) fn size(spec: &SourceSpec) -> Result<u64> {
    let mut size = 0;
    for file in files(spec)? {
        let metadata = std::fs::metadata(&file.path).map_err(|e| Error::File {
            path: file.path.display().to_string(),
            what: e.to_string(),
        })?;
        size += metadata.len();
    }
    Ok(size)
}

/// A source that is being read.
struct Reading<'a> {
    spec: &'a SourceSpec,
    seen: &'a dyn Fn(u64),
    take: &'a mut dyn FnMut(Document) -> Result<bool>,
    report: ReadReport,
}

impl Reading<'_> {
    /// Bytes as text, as the source says for what is not UTF-8.
    fn text(&mut self, id: &str, bytes: Vec<u8>) -> Result<Option<String>> {
        let n = bytes.len();
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => return Ok(Some(text)),
            Err(e) => e.into_bytes(),
        };
        match self.spec.invalid_utf8 {
            InvalidUtf8::Skip => {
                self.report.note(Reason::InvalidUtf8, id, n);
                Ok(None)
            }
            InvalidUtf8::Replace => {
                self.report.note(Reason::Replaced, id, n);
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            InvalidUtf8::Error => self.spec.wrong(format!(
                "{id} is not UTF-8; repair it, or say invalid_utf8 = \"skip\" or \"replace\""
            )),
        }
    }

    /// Takes a document if it is long enough and there is room for it; false when no more are wanted.
    fn offer(&mut self, id: String, text: String) -> Result<bool> {
        let least = self.spec.min_chars.max(1);
        // A character has four bytes at most, and one at least.
        if text.len() < least || text.len() < 4 * least && text.chars().count() < least {
            self.report.note(Reason::Short, &id, text.len());
            return Ok(true);
        }
        self.report.documents += 1;
        self.report.bytes += text.len() as u64;
        let wants_more = (self.take)(Document { id, text })?;
        Ok(wants_more && !self.is_full())
    }

    fn is_full(&self) -> bool {
        let max = self.spec.max_bytes.map(|max| max as u64);
        max.is_some_and(|max| self.report.bytes >= max)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
