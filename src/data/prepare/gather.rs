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
        return Ok(store);
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
        return Ok(store);
    }
    crate::whole_file::remove_temporaries(folder).map_err(failed)?;
    let mut writer = Writer::open(folder, !spec.clean.is_none())?;
    let meter = Meter::start(watch, Step::Read, &spec.name, read::size(spec)?);
    let behind = writer.taken();
    let (send, batches) = sync_channel(1);
    let (report, found) = thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<(ReadReport, String)> {
            // Taken along, so that the end of reading is the end of the batches.
            let send = send;
            let mut hash = Hash::default();
            let (mut batch, mut bytes, mut number) = (Vec::new(), 0, 0);
            let report = read::each(spec, &|n| meter.add(n), &mut |document| {
                hash.add(&document);
                number += 1;
                if number <= behind {
                    return Ok(true);
                }
                bytes += document.text.len();
                batch.push(document);
                if bytes < BATCH.0 && batch.len() < BATCH.1 {
                    return Ok(true);
                }
                bytes = 0;
                // Nobody takes it when writing failed, and that error is the one that counts.
                Ok(send.send(std::mem::take(&mut batch)).is_ok())
            })?;
            let _ = send.send(batch);
            Ok((report, hash.finish()))
        });
        for batch in batches {
            take(batch, cleaner, &mut writer)?;
        }
        match reader.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    if found != content {
        return spec.wrong(
            "changed since it was read first; run again when nothing writes to it any more",
        );
    }
    report.warn(&spec.name);
    let store = writer.finish(report)?;
    meter.finish();
    if store.summary.left.documents == 0 {
        return spec.wrong(format!(
            "cleaning leaves none of its {} documents; loosen the rules of `clean`",
            store.summary.read.documents
        ));
    }
    Ok(store)
}

fn take(batch: Vec<Document>, cleaner: &Cleaner, writer: &mut Writer) -> Result<()> {
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
    writer.settle()
}
