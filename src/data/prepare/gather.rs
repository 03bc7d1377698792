//! From a source's files to its store: one thread reads, all clean.
use super::{
    super::{Document, Error, ReadReport, Result, SourceSpec, clean::Cleaner, inputs::Hash, read},
    Meter, Step, Watch,
    store::{Store, Writer},
};
use rayon::prelude::*;
use std::{
    fs::{self, File},
    path::Path,
    sync::mpsc::sync_channel,
    thread,
};

/// Bytes of text, and documents, that are cleaned at once. With what waits for it, memory follows them.
const BATCH: (usize, usize) = (8 << 20, 1 << 16);

/// Reads and cleans a source into a folder of its own, or opens what is there. `content` is the hash of what reading
/// gives. A killed one goes on behind the last segment, and leaves the same bytes.
///
/// # Errors
/// What reading fails with, when the source is another than `content` says, when cleaning drops everything, or the
/// folder cannot be written.
pub(super) fn gather(
    spec: &SourceSpec,
    content: &str,
    cleaner: &Cleaner,
    folder: &Path,
    watch: &Watch,
) -> Result<Store> {
    if let Some(store) = Store::open(folder)? {
        return not_empty(spec, store);
    }
    let failed = |e: std::io::Error| Error::File {
        path: folder.display().to_string(),
        what: format!("cannot write the cache: {e}"),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    // Another process may be at it, and is waited for.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if let Some(store) = Store::open(folder)? {
        return not_empty(spec, store);
    }
    crate::whole_file::remove_temporaries(folder).map_err(failed)?;
    let mut writer = Writer::open(folder, !spec.clean.is_none())?;
    let meter = Meter::start(watch, Step::Read, &spec.name, read::size(spec)?);
    let (behind, read_before) = (writer.taken(), writer.read().to_string());
    let (send, batches) = sync_channel(1);
    let (report, found) = thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<(ReadReport, Option<String>)> {
            // Taken along, so that the end of reading is the end of the batches.
            let send = send;
            let mut hash = Hash::default();
            let (mut batch, mut bytes, mut number) = (Vec::new(), 0, 0);
            let mut same = true;
            let report = read::each(spec, &|n| meter.add(n), &mut |document| {
                hash.add(&document);
                number += 1;
                if number < behind {
                    return Ok(true);
                }
                if number == behind {
                    same = hash.finish() == read_before;
                    return Ok(same);
                }
                bytes += document.text.len();
                batch.push(document);
                if bytes < BATCH.0 && batch.len() < BATCH.1 {
                    return Ok(true);
                }
                bytes = 0;
                // Nobody takes it when writing failed, and that error is the one that counts.
                let batch = (std::mem::take(&mut batch), hash.finish());
                Ok(send.send(batch).is_ok())
            })?;
            same &= number >= behind;
            let _ = send.send((batch, hash.finish()));
            Ok((report, same.then(|| hash.finish())))
        });
        for (batch, read) in batches {
            take(batch, read, cleaner, &mut writer)?;
        }
        match reader.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    // The next run must not go on behind what is not the source's any more.
    if found.as_deref() != Some(content) {
        writer.discard()?;
        return spec.wrong(
            "changed since it was read first; run again when nothing writes to it any more",
        );
    }
    report.warn(&spec.name);
    let store = writer.finish(report)?;
    meter.finish();
    not_empty(spec, store)
}

fn not_empty(spec: &SourceSpec, store: Store) -> Result<Store> {
    match store.summary.left.documents {
        0 => spec.wrong(format!(
            "cleaning leaves none of its {} documents; loosen the rules of `clean`",
            store.summary.read.documents
        )),
        _ => Ok(store),
    }
}

/// Cleans documents and stores them; `read` is the hash of all that were read up to their end.
fn take(batch: Vec<Document>, read: String, cleaner: &Cleaner, writer: &mut Writer) -> Result<()> {
    let cleaned: Vec<_> = batch
        .into_par_iter()
        .map(|document| cleaner.clean(document))
        .collect();
    for cleaned in cleaned {
        if let Some(report) = writer.clean() {
            report.add(&cleaned);
        }
        writer.push(cleaned.dropped.is_none().then_some(cleaned.document));
    }
    writer.settle(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files, of which the first fills a segment.
    fn write(folder: &Path, first: char) {
        let line = |c: char| format!("{{\"text\": \"{}\"}}\n", c.to_string().repeat(1 << 20));
        fs::write(folder.join("0.jsonl"), line(first).repeat(48)).unwrap();
        fs::write(folder.join("1.jsonl"), line('z').repeat(8)).unwrap();
    }

    #[test]
    fn documents_of_a_file_that_changed_are_not_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let said = format!(
            "name = 'x'\npaths = ['{}/*.jsonl']",
            folder.path().display()
        );
        let spec: SourceSpec = toml::from_str(&said).unwrap();
        let cleaner = spec.cleaner().unwrap();
        let nobody = folder.path().join("no cache");
        let gathered = |content: &str, into: &str| {
            let into = folder.path().join(into);
            gather(&spec, content, &cleaner, &into, &|_| ())
        };
        write(folder.path(), 'a');
        let content = super::super::super::content_hash(&spec, &nobody).unwrap();
        let whole = gathered(&content, "whole").unwrap();
        // Changed while it was read: what was stored goes.
        write(folder.path(), 'b');
        let error = gathered(&content, "changed").unwrap_err().to_string();
        assert!(error.contains("changed since it was read first"), "{error}");
        assert!(!folder.path().join("changed/00000.docs").exists());
        // And where it was killed before anybody saw that.
        let other = super::super::super::content_hash(&spec, &nobody).unwrap();
        gathered(&other, "changed").unwrap();
        fs::remove_file(folder.path().join("changed/summary.json")).unwrap();
        write(folder.path(), 'a');
        let error = gathered(&content, "changed").unwrap_err().to_string();
        assert!(error.contains("changed since it was read first"), "{error}");
        let again = gathered(&content, "changed").unwrap();
        let mut same = whole.documents(0).zip(again.documents(0));
        assert!(same.all(|(a, b)| a.unwrap() == b.unwrap()));
        assert_eq!(whole.documents(0).count(), again.documents(0).count());
    }
}
