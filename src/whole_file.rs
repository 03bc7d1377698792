//! Files that are there whole or not at all: written under another name, synced, then given theirs.
use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Result},
    os::unix::fs::PermissionsExt,
    path::Path,
};
use tempfile::{Builder, NamedTempFile};

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

/// Removes what a killed process was writing in a folder that nobody else writes to.
///
/// # Errors
/// When the folder cannot be read or a file not removed.
pub fn remove_temporaries(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".tmp") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
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
    // As readable as any other file: temporary files are their owner's alone.
    let permissions = fs::Permissions::from_mode(0o666);
    let mut temporary = Builder::new()
        .permissions(permissions)
        .tempfile_in(folder(path))?;
    write(&mut temporary)?;
    // A library may have opened the path itself, so that it is the path that is synced.
    File::open(temporary.path())?.sync_all()?;
    Ok(temporary)
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
}
