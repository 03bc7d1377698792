//! The folder that a program may write in.
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{ErrorKind, Result};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How the names of this machine's jailers' folders begin: machines that share a folder for temporary files may not see each
/// other's locks.
fn prefix() -> String {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy().replace('/', "_");
    format!("harness-scratch-{machine}-")
}

/// Folders within folders that are looked into; no honest program makes more.
const DEPTH: usize = 32;
/// Bytes that a name takes, whatever is in the file.
const ENTRY: u64 = 4096;

/// A scratch folder among the machine's files, removed with this. It lies in a folder of the jailer's, which is locked
/// while the jailer lives: what a jailer leaves that was killed, the next one removes.
pub struct Folder {
    path: PathBuf,
    _of_jailer: TempDir,
    _lock: File,
}

impl Folder {
    /// A folder of this user's, in one for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new_in(temporary: &Path, user: Option<u32>) -> Result<Self> {
        remove_left(temporary);
        loop {
            let of_jailer = tempfile::Builder::new()
                .prefix(&prefix())
                .tempdir_in(temporary)?;
            let lock = match File::open(of_jailer.path()) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Before it is locked another jailer may take it for one that was left.
            let taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
            if taken || !of_jailer.path().exists() {
                continue;
            }
            let path = of_jailer.path().join("scratch");
            DirBuilder::new().mode(0o700).create(&path)?;
            chown(&path, user, user)?;
            // Another user goes through it to its own.
            fs::set_permissions(of_jailer.path(), Permissions::from_mode(0o711))?;
            return Ok(Folder {
                path,
                _of_jailer: of_jailer,
                _lock: lock,
            });
        }
    }

    /// Where the program may write.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes folders of this user's jailers that live no more.
fn remove_left(temporary: &Path) {
    let own = rustix::process::geteuid().as_raw();
    let prefix = prefix();
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let path = entry.path();
        let mut options = File::options();
        options.custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        // Another user's, or gone meanwhile.
        let Ok(folder) = options.read(true).open(&path) else {
            continue;
        };
        let ours = folder.metadata().is_ok_and(|folder| folder.uid() == own);
        if ours && folder.try_lock().is_ok() {
            // What cannot be removed is in no program's way.
            let _ = clear(&path).and_then(|()| fs::remove_dir(&path));
        }
    }
}

/// Bytes that lie in a folder, while a program is at work there, counted until they are more than `most`. What cannot be
/// looked into counts as more than any limit. A program that moves files about may hide some from one look; what it leaves
/// when it has ended is counted for certain. What has no name is [`held`](super::held).
pub fn size(folder: &Path, most: u64) -> u64 {
    let mut sum = 0;
    match add(CWD, folder, DEPTH, most, &mut sum) {
        Ok(()) => sum,
        Err(_) => u64::MAX,
    }
}

fn add(
    parent: BorrowedFd,
    name: impl Arg,
    depth: usize,
    most: u64,
    sum: &mut u64,
) -> rustix::io::Result<()> {
    // Not by a link, which the program may put in a folder's place at any time.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        folder => folder?,
    };
    if depth == 0 {
        *sum = u64::MAX;
        return Ok(());
    }
    let mut entries = Dir::new(folder)?;
    while *sum <= most {
        let Some(entry) = entries.read().transpose()? else {
            break;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let file = match statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It may have been removed meanwhile.
            Err(Errno::NOENT) => continue,
            file => file?,
        };
        *sum = sum.saturating_add(ENTRY);
        if FileType::from_raw_mode(file.st_mode) == FileType::Directory {
            add(entries.fd()?, name, depth - 1, most, sum)?;
        } else {
            // Some file systems give out blocks long after what is in them was written.
            let blocks = (file.st_blocks as u64).saturating_mul(512);
            *sum = sum.saturating_add(blocks.max(file.st_size as u64));
        }
    }
    Ok(())
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
        assert_eq!(size(top, u64::MAX), u64::MAX);
        assert_eq!(size(&top.join("link"), u64::MAX), 0);
        clear(top).unwrap();
        assert_eq!(fs::read_dir(top).unwrap().count(), 0);
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept");
    }

    #[test]
    fn size_counts_what_is_written_and_how_many() {
        let scratch = tempfile::tempdir().unwrap();
        let of = |most| size(scratch.path(), most);
        assert_eq!(of(u64::MAX), 0);
        fs::create_dir(scratch.path().join("d")).unwrap();
        fs::write(scratch.path().join("d/file"), vec![1; 100_000]).unwrap();
        assert!((100_000..150_000).contains(&of(u64::MAX)));
        // Also what has a length and no blocks yet.
        let file = File::create(scratch.path().join("large")).unwrap();
        file.set_len(1 << 30).unwrap();
        assert!((1 << 30..(1 << 30) + 150_000).contains(&of(u64::MAX)));
        assert!(of(0) > 0 && of(0) < of(u64::MAX));
    }

    #[test]
    fn what_a_killed_jailer_left_is_removed_and_what_a_living_one_has_is_not() {
        let temporary = tempfile::tempdir().unwrap();
        let living = Folder::new_in(temporary.path(), None).unwrap();
        fs::write(living.path().join("file"), "x").unwrap();
        let left = temporary.path().join(prefix() + "left");
        fs::create_dir_all(left.join("scratch/shut/inner")).unwrap();
        fs::set_permissions(left.join("scratch/shut"), Permissions::from_mode(0o0)).unwrap();
        for name in ["another", "harness-scratch-of.another-machine-x"] {
            fs::create_dir(temporary.path().join(name)).unwrap();
        }
        let second = Folder::new_in(temporary.path(), None).unwrap();
        assert!(!left.exists());
        assert!(living.path().join("file").exists() && second.path().exists());
        drop((living, second));
        let names = fs::read_dir(temporary.path()).unwrap();
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["another", "harness-scratch-of.another-machine-x"]);
    }
}
