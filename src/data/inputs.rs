//! The hash of what a source's files hold, kept beside the cache as long as the files are the same.
use super::{
    Document, Error, Result, SourceSpec,
    prepare::{Meter, Step, Watch},
    read,
};
use crate::whole_file;
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// The hash of documents in their order: ids and texts.
#[derive(Default)]
pub(super) struct Hash(blake3::Hasher);

impl Hash {
    pub fn add(&mut self, Document { id, text }: &Document) {
        self.0.update(blake3::hash(id.as_bytes()).as_bytes());
        self.0.update(blake3::hash(text.as_bytes()).as_bytes());
    }

    pub fn finish(&self) -> String {
        self.0.finalize().to_hex()[..16].to_string()
    }
}

/// Hash of all documents that reading the source gives. Where the folder `cache` is there, the hash is kept in it
/// with the files' lengths and times, and the files are not read again until one of these is another.
///
/// # Errors
/// What reading fails with.
pub(super) fn hash(spec: &SourceSpec, cache: &Path, watch: &Watch) -> Result<String> {
    let known = cache.join("inputs").join(state(spec)?);
    if let Ok(hash) = fs::read_to_string(&known) {
        return Ok(hash);
    }
    let mut hash = Hash::default();
    let meter = Meter::start(watch, Step::Hash, &spec.name, read::size(spec)?);
    read::each(spec, &|n| meter.add(n), &mut |document| {
        hash.add(&document);
        Ok(true)
    })?;
    meter.finish();
    let hash = hash.finish();
    if cache.is_dir() {
        keep(&known, &hash).map_err(|e| Error::File {
            path: known.display().to_string(),
            what: format!("cannot write the cache: {e}"),
        })?;
    }
    Ok(hash)
}

fn keep(path: &Path, hash: &str) -> io::Result<()> {
    fs::create_dir_all(whole_file::folder(path))?;
    whole_file::replace(path, |file| file.write_all(hash.as_bytes()))
}

/// What the source says of reading, and how its files are, as a hash.
fn state(spec: &SourceSpec) -> Result<String> {
    let mut spec = spec.clone();
    spec.clean = super::clean::CleanSpec::default();
    let mut hash = blake3::Hasher::new();
    hash.update(&read::VERSION.to_le_bytes());
    hash.update(serde_json::to_string(&spec).unwrap_or_default().as_bytes());
    for file in read::files(&spec)? {
        let metadata = fs::metadata(&file.path).map_err(|e| Error::File {
            path: file.path.display().to_string(),
            what: e.to_string(),
        })?;
        let times = (
            (metadata.mtime(), metadata.mtime_nsec()),
            (metadata.ctime(), metadata.ctime_nsec()),
        );
        let said = (file.path, file.id, metadata.len(), metadata.ino(), times);
        hash.update(format!("{said:?}").as_bytes());
    }
    Ok(hash.finalize().to_hex()[..32].to_string())
}
