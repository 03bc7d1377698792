//! Files that are there whole or not at all.
use super::{Result, io};
use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path};
use tempfile::{Builder, NamedTempFile};

/// Publishes a file once: written under another name, synced, then linked. False where it was there
/// before; it then stays as it was.
pub(super) fn once(path: &Path, bytes: &[u8]) -> Result<bool> {
    let temporary = written(path, bytes)?;
    match fs::hard_link(temporary.path(), path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(io(path)(e)),
    }
    sync_folder(path)?;
    Ok(true)
}

/// Writes a file or replaces it as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = written(path, bytes)?;
    temporary.persist(path).map_err(|e| io(path)(e.error))?;
    sync_folder(path)
}

/// The first free `STEM-N.json`, counted from 1, takes the bytes.
pub(super) fn numbered(folder: &Path, stem: &str, bytes: &[u8]) -> Result<usize> {
    let mut n = 1;
    while !once(&folder.join(format!("{stem}-{n}.json")), bytes)? {
        n += 1;
    }
    Ok(n)
}

/// How many `STEM-N.json` there are.
pub(super) fn count(folder: &Path, stem: &str) -> usize {
    (1..)
        .take_while(|n| folder.join(format!("{stem}-{n}.json")).exists())
        .count()
}

fn written(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // As readable as any other file: temporary files are their owner's alone.
    let permissions = fs::Permissions::from_mode(0o666);
    let temporary = Builder::new().permissions(permissions).tempfile_in(folder);
    let mut temporary = temporary.map_err(io(folder))?;
    temporary.write_all(bytes).map_err(io(path))?;
    temporary.as_file().sync_all().map_err(io(path))?;
    Ok(temporary)
}

fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let opened = fs::File::open(folder).map_err(io(folder))?;
    opened.sync_all().map_err(io(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        assert!(once(&path, b"first").unwrap());
        assert!(!once(&path, b"second").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(numbered(folder.path(), "failure", b"a").unwrap(), 1);
        assert_eq!(numbered(folder.path(), "failure", b"b").unwrap(), 2);
        assert_eq!(count(folder.path(), "failure"), 2);
        // No temporary file is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
