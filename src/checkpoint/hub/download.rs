//! From the hub into the cache: a file is there whole, with the length and the hash that the hub lists, or it is
//! not there.
use super::{
    Event, Result,
    cache::Cache,
    client::{self, Client},
    fault::{Fault, Patience},
    file_error,
    tree::{Entry, Tree},
};
use crate::whole_file;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Downloads those of the named files that are not there yet, and gives all of them their names.
///
/// # Errors
/// The first one that cannot be had. What came of it stays, and the next call goes on from there.
pub(super) fn files(
    client: &Client,
    cache: &Cache,
    commit: &str,
    tree: &Tree,
    names: Vec<String>,
    say: &mut dyn FnMut(Event),
) -> Result<()> {
    let entries = names.iter().map(|name| (name, &tree.files[name]));
    let (there, missing): (Vec<_>, Vec<_>) =
        entries.partition(|(_, entry)| is_whole(&cache.blob(entry.hash()), entry));
    for (name, entry) in there {
        cache.link(commit, name, entry.hash())?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    let bytes = missing.iter().map(|(_, e)| left(cache, e)).sum();
    let blobs = cache.folder().join("blobs");
    fs::create_dir_all(&blobs).map_err(file_error(&blobs))?;
    if let Ok(disk) = rustix::fs::statvfs(&blobs) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < bytes {
            return Err(client.repo.wrong(format!(
                "{} files need {bytes} more bytes, and the disk of {} has {free} free; make room, or put the \
                 cache elsewhere with HF_HUB_CACHE",
                missing.len(),
                blobs.display()
            )));
        }
    }
    say(Event::Begin {
        files: missing.len(),
        bytes,
    });
    for (name, entry) in missing {
        say(Event::File(name));
        let blob = cache.blob(entry.hash());
        let _lock = cache.lock(name, entry.hash(), say)?;
        if !is_whole(&blob, entry) {
            let filled = fill(client, commit, name, entry, &blob, say);
            filled.map_err(|fault| client.repo.wrong(format!("{name}: {fault}")))?;
        }
        cache.link(commit, name, entry.hash())?;
    }
    Ok(())
}

/// A blob has its name only when its hash was right.
fn is_whole(blob: &Path, entry: &Entry) -> bool {
    fs::metadata(blob).is_ok_and(|m| m.is_file() && m.len() == entry.size())
}

/// The part of a file that came.
fn partial(blob: &Path) -> PathBuf {
    let mut path = blob.as_os_str().to_owned();
    path.push(".incomplete");
    path.into()
}

fn left(cache: &Cache, entry: &Entry) -> u64 {
    let came = fs::metadata(partial(&cache.blob(entry.hash()))).map_or(0, |m| m.len());
    entry.size().saturating_sub(came)
}

/// Downloads the blob, going on with what came of it earlier.
fn fill(
    client: &Client,
    commit: &str,
    name: &str,
    entry: &Entry,
    blob: &Path,
    say: &mut dyn FnMut(Event),
) -> std::result::Result<(), Fault> {
    let path = partial(blob);
    let unwritable = |e: io::Error| {
        Fault::Final(format!(
            "{} cannot be written ({e}); what came stays there, and the same command goes on from it: make room, \
             or put the cache elsewhere with HF_HUB_CACHE",
            path.display()
        ))
    };
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    let file = options.open(&path).map_err(unwritable)?;
    for tried in 0.. {
        pull(client, commit, name, entry.size(), &file, &unwritable, say)?;
        file.sync_all().map_err(unwritable)?;
        let hash = hash(&path, entry).map_err(unwritable)?;
        if hash == entry.hash() {
            break;
        }
        restart(&file, entry.size(), say).map_err(unwritable)?;
        if tried == 1 {
            return Err(Fault::Final(format!(
                "has the hash {hash} as it is sent, twice, and {} in the hub's listing; nothing of it was kept",
                entry.hash()
            )));
        }
        log::warn!(
            "{}: {name} came with a wrong hash; downloading it again",
            client.repo
        );
    }
    fs::rename(&path, blob)
        .and_then(|()| whole_file::sync_folder(blob))
        .map_err(unwritable)
}

/// Adds to the file until it has `size` bytes.
fn pull(
    client: &Client,
    commit: &str,
    name: &str,
    size: u64,
    file: &File,
    unwritable: &dyn Fn(io::Error) -> Fault,
    say: &mut dyn FnMut(Event),
) -> std::result::Result<(), Fault> {
    let mut at = file.metadata().map_err(unwritable)?.len();
    if at > size {
        restart(file, at, say).map_err(unwritable)?;
        at = 0;
    }
    let mut patience = Patience::default();
    let mut piece = vec![0; PIECE];
    while at < size {
        let mut rest = match client.file(commit, name, at, size) {
            Ok(rest) => rest,
            Err(fault) => {
                patience.wait(fault, say)?;
                continue;
            }
        };
        if rest.start != at {
            restart(file, at, say).map_err(unwritable)?;
            at = 0;
            if rest.start != 0 {
                let what = "it is sent from another byte on than was asked for";
                patience.wait(Fault::Busy(what.into(), None), say)?;
                continue;
            }
        }
        let before = at;
        let ended = loop {
            match rest.body.read(&mut piece) {
                Ok(0) => break "it ended".to_string(),
                Ok(n) => {
                    let n = n.min(usize::try_from(size - at).unwrap_or(n));
                    // At its place, not at the end: where a file system has no locks, two processes write the
                    // same bytes there.
                    file.write_all_at(&piece[..n], at).map_err(unwritable)?;
                    at += n as u64;
                    say(Event::Bytes(n as i64));
                    if at == size {
                        return Ok(());
                    }
                }
                Err(e) => break client::innermost(&e),
            }
        };
        if at > before {
            patience = Patience::default();
        }
        let what = format!("the connection broke after {at} of {size} bytes: {ended}");
        patience.wait(Fault::Unreachable(what), say)?;
    }
    Ok(())
}

/// Throws away what came.
fn restart(file: &File, came: u64, say: &mut dyn FnMut(Event)) -> io::Result<()> {
    say(Event::Bytes(-(came as i64)));
    file.set_len(0)
}

/// The hash of a file, of the kind by which the hub lists it: SHA-256, or SHA-1 as git takes it of a blob.
fn hash(path: &Path, entry: &Entry) -> io::Result<String> {
    let file = File::open(path)?;
    match entry.hash().len() {
        64 => digest(Sha256::new(), file),
        _ => {
            let head = format!("blob {}\0", entry.size());
            digest(Sha1::new_with_prefix(head), file)
        }
    }
}

fn digest<D: Digest>(mut digest: D, mut file: File) -> io::Result<String> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => digest.update(&piece[..n]),
        }
    }
    let bytes = digest.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_of_lfs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "hello\n").unwrap();
        let entry = |hash: &str| {
            let text = match hash.len() {
                64 => format!(r#"{{"size": 6, "blob_id": "", "lfs_sha256": "{hash}"}}"#),
                _ => format!(r#"{{"size": 6, "blob_id": "{hash}"}}"#),
            };
            serde_json::from_str::<Entry>(&text).unwrap()
        };
        // `git hash-object a` and `sha256sum a`.
        for known in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            assert_eq!(hash(&path, &entry(known)).unwrap(), known);
        }
    }
}
