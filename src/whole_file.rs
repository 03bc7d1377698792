//! Files that are there whole or not at all: written under another name, synced, then given theirs.
use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Result},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};
use tempfile::{Builder, NamedTempFile, TempDir};
use walkdir::WalkDir;

/// What the names of files that are being written begin with. Each is locked by its writer.
const TEMPORARY: &str = ".harness-";

/// Lets `write` fill a file that then takes the name `path`, in the place of what was there.
///
/// # Errors
/// What `write` fails with, or the system; the file is then as it was.
pub fn replace<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut NamedTempFile) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let temporary = written(path, write)?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(sync_folder(path)?)
}

/// Removes what killed processes were writing in a folder and all below it. What others are writing stays.
///
/// # Errors
/// When a folder cannot be read or a file not removed.
pub fn remove_temporaries(folder: &Path) -> Result<()> {
    for entry in WalkDir::new(folder) {
        match entry {
            Ok(entry) => remove_abandoned(entry.path())?,
            Err(e) if gone(e.io_error()) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Removes a file or folder of a process that is gone, if it is one.
fn remove_abandoned(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with(TEMPORARY) {
        return Ok(());
    }
    let is_folder = path.is_dir();
    // Network file systems lock for writing only what is open for writing, which a folder cannot be.
    let opened = File::options().read(true).write(!is_folder).open(path);
    // What nobody may write or lock is not known to be abandoned: it stays.
    if !opened.is_ok_and(|file| file.try_lock().is_ok()) {
        return Ok(());
    }
    let removed = match is_folder {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(e) if !gone(Some(&e)) => Err(e),
        _ => Ok(()),
    }
}

fn gone(error: Option<&Error>) -> bool {
    error.is_some_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Publishes `bytes` as `path` once: false where it was there before; it then stays as it was.
pub fn once(path: &Path, bytes: &[u8]) -> Result<bool> {
    let temporary = written(path, |file| std::io::Write::write_all(file, bytes))?;
    match fs::hard_link(temporary.path(), path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(e),
    }
    sync_folder(path)?;
    Ok(true)
}

fn written<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut NamedTempFile) -> std::result::Result<(), E>,
) -> std::result::Result<NamedTempFile, E> {
    let mut temporary = temporary(folder(path))?;
    write(&mut temporary)?;
    // A library may have opened the path itself, so that it is the path that is synced.
    File::open(temporary.path())?.sync_all()?;
    Ok(temporary)
}

/// A folder to be filled and then renamed to `path`, with its lock. What a killed process left of such folders of the
/// same parent is removed.
///
/// # Errors
/// When the parent cannot be read or written.
pub fn temporary_folder(path: &Path) -> Result<(TempDir, File)> {
    let parent = folder(path);
    for entry in fs::read_dir(parent)? {
        remove_abandoned(&entry?.path())?;
    }
    loop {
        let temporary = Builder::new().prefix(TEMPORARY).tempdir_in(parent)?;
        let lock = match File::open(temporary.path()) {
            Err(e) if gone(Some(&e)) => continue,
            other => other?,
        };
        if lock_named(&lock, temporary.path())? {
            return Ok((temporary, lock));
        }
    }
}

fn temporary(folder: &Path) -> Result<NamedTempFile> {
    loop {
        // As readable as any other file: temporary files are their owner's alone.
        let permissions = fs::Permissions::from_mode(0o666);
        let temporary = Builder::new()
            .prefix(TEMPORARY)
            .permissions(permissions)
            .tempfile_in(folder)?;
        if lock_named(temporary.as_file(), temporary.path())? {
            return Ok(temporary);
        }
    }
}

/// Locks what was made, so that nobody takes it for something left behind. False where that was done before it was
/// locked. Where nothing can be locked, nothing is taken for that either.
fn lock_named(file: &File, path: &Path) -> Result<bool> {
    if file.lock().is_err() {
        return Ok(true);
    }
    let there = fs::metadata(path).map(|there| there.ino());
    Ok(there.is_ok_and(|ino| file.metadata().is_ok_and(|mine| mine.ino() == ino)))
}

/// The folder that `path` is in.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Syncs the folder of `path`, so that its name outlives a loss of power.
pub fn sync_folder(path: &Path) -> Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn bytes(path: &Path, bytes: &[u8]) -> Result<()> {
        replace(path, |file| file.write_all(bytes))
    }

    #[test]
    fn what_is_published_stays_and_what_is_replaced_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        assert!(once(&path, b"first").unwrap());
        assert!(!once(&path, b"second").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        bytes(&path, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        assert_eq!(mode, fs::metadata(&plain).unwrap().permissions().mode());
    }

    #[test]
    fn a_writer_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        bytes(&path, b"whole").unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half")?;
            Err(Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        let left = [folder.path(), &below].map(|folder| folder.join(".harness-AbC"));
        left.iter()
            .for_each(|path| fs::write(path, "half").unwrap());
        let others = [".tmpAbC", "harness-a"].map(|name| below.join(name));
        others
            .iter()
            .for_each(|path| fs::write(path, "mine").unwrap());
        let half = folder.path().join(".harness-folder");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("a"), "half").unwrap();
        let whole = temporary_folder(&folder.path().join("whole")).unwrap();
        assert!(!half.exists());
        let path = below.join("a");
        replace(&path, |file| {
            file.write_all(b"whole")?;
            remove_temporaries(folder.path())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(left.iter().all(|path| !path.exists()));
        assert!(whole.0.path().exists());
        assert!(others.iter().all(|path| path.exists()));
        assert_eq!(fs::read_dir(&below).unwrap().count(), 3);
    }

    #[test]
    fn writers_and_removers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |writer, n| folder.path().join(format!("{writer}-{n}"));
        std::thread::scope(|scope| {
            for writer in 0..3 {
                scope.spawn(move || (0..100).for_each(|n| bytes(&path(writer, n), b"x").unwrap()));
            }
            for _ in 0..200 {
                remove_temporaries(folder.path()).unwrap();
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 300);
    }
}
