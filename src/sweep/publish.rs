//! What trials publish: files that are there whole or not at all, some of them numbered.
use super::{Result, io};
use crate::whole_file;
use std::{io::Write, path::Path};

/// Publishes a file once. False where it was there before; it then stays as it was.
pub(super) fn once(path: &Path, bytes: &[u8]) -> Result<bool> {
    whole_file::once(path, bytes).map_err(io(path))
}

/// Writes a file or replaces it as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    whole_file::replace(path, |file| file.write_all(bytes)).map_err(io(path))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
