//! The folder that a program may write in.
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Folders within folders that are looked into; no honest program makes more.
const DEPTH: usize = 32;
/// Bytes that a name takes, whatever is in the file.
const ENTRY: u64 = 4096;

/// Bytes that lie in a folder, while a program is at work there. What cannot be looked into counts as more than any
/// limit. A file that was removed while it is open is not seen: a program has few of these, each within its limit.
pub fn size(folder: &Path) -> u64 {
    size_within(folder, DEPTH)
}

fn size_within(folder: &Path, depth: usize) -> u64 {
    let entries = match fs::read_dir(folder) {
        Ok(entries) if depth > 0 => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return 0,
        _ => return u64::MAX,
    };
    let mut sum = 0u64;
    for entry in entries {
        let size = match entry.and_then(|e| Ok((e.metadata()?, e.path()))) {
            Ok((file, path)) if file.is_dir() => {
                size_within(&path, depth - 1).saturating_add(ENTRY)
            }
            Ok((file, _)) => file.blocks().saturating_mul(512).saturating_add(ENTRY),
            // It may have been removed meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => 0,
            Err(_) => u64::MAX,
        };
        sum = sum.saturating_add(size);
    }
    sum
}

/// Empties a folder when its program has ended. Folders are taken apart from the top, what is in them moved up, so that no
/// depth is too deep.
pub fn clear(folder: &Path) -> Result<()> {
    let mut moved = 0u64;
    loop {
        let mut entries = fs::read_dir(folder)?.peekable();
        if entries.peek().is_none() {
            return Ok(());
        }
        for entry in entries {
            let entry = entry?;
            if !entry.metadata()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            open(&entry.path())?;
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                if !inner.metadata()?.is_dir() {
                    fs::remove_file(inner.path())?;
                    continue;
                }
                // Moving a folder writes its "..".
                open(&inner.path())?;
                let mut place;
                loop {
                    place = folder.join(format!("moved-{moved}"));
                    moved += 1;
                    if place.symlink_metadata().is_err() {
                        break;
                    }
                }
                fs::rename(inner.path(), place)?;
            }
            fs::remove_dir(entry.path())?;
        }
    }
}

/// Makes a folder's owner able to change it.
fn open(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_is_emptied_whatever_a_program_left_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let top = scratch.path();
        symlink(outside.path(), top.join("link")).unwrap();
        fs::write(top.join("moved-0"), "in the way").unwrap();
        let mut deep = top.join("deep");
        for _ in 0..200 {
            fs::create_dir(&deep).unwrap();
            fs::write(deep.join("file"), "x").unwrap();
            symlink(outside.path(), deep.join("link")).unwrap();
            deep.push("d");
        }
        fs::create_dir(top.join("shut")).unwrap();
        fs::create_dir(top.join("shut/inner")).unwrap();
        for path in ["shut/inner", "shut"] {
            fs::set_permissions(top.join(path), Permissions::from_mode(0o0)).unwrap();
        }
        assert_eq!(size(top), u64::MAX);
        clear(top).unwrap();
        assert_eq!(fs::read_dir(top).unwrap().count(), 0);
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept");
    }

    #[test]
    fn size_counts_what_is_written_and_how_many() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(size(scratch.path()), 0);
        fs::create_dir(scratch.path().join("d")).unwrap();
        fs::write(scratch.path().join("d/file"), vec![1; 100_000]).unwrap();
        let size = size(scratch.path());
        assert!((100_000..150_000).contains(&size), "{size}");
    }
}
