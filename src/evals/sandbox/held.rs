//! Files of a scratch folder that have no name any more, but are open or mapped: no look into the folder finds them.
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the system puts behind the name that a file had.
const REMOVED: &str = " (deleted)";

/// Bytes of such files that a process of `user`'s (this one's where it is none) holds, or one under it (bubblewrap's). How
/// large a mapped one is that was shut cannot be seen: it counts as `largest`.
pub fn size(pid: Pid, user: Option<u32>, folder: &Path, largest: u64) -> u64 {
    let folder = format!("{}/", folder.display());
    let mut files = BTreeMap::new();
    let mut processes = vec![pid.as_raw_nonzero().to_string()];
    while let Some(id) = processes.pop() {
        as_user(user, || add(&id, &folder, largest, &mut files));
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        processes.extend(children.split_whitespace().map(str::to_string));
    }
    files
        .values()
        .fold(0u64, |sum, size| sum.saturating_add(*size))
}

/// Looks at files as another user: in most containers root may not see what another's process has open.
fn as_user(user: Option<u32>, look: impl FnOnce()) {
    let Some(user) = user else {
        return look();
    };
    // SAFETY: the calls change who this thread is to the file system, and nothing else.
    unsafe {
        libc::setfsgid(user);
        libc::setfsuid(user);
    }
    look();
    // SAFETY: as above; a jailer that has another user for its programs is root.
    unsafe {
        libc::setfsuid(0);
        libc::setfsgid(0);
    }
}

/// Adds the files that one process holds, by their inodes.
fn add(id: &str, folder: &str, largest: u64, files: &mut BTreeMap<u64, u64>) {
    let open = fs::read_dir(format!("/proc/{id}/fd"));
    for entry in open.into_iter().flatten().flatten() {
        let name = fs::read_link(entry.path()).unwrap_or_default();
        let name = name.to_string_lossy();
        if name.starts_with(folder)
            && name.ends_with(REMOVED)
            && let Ok(file) = fs::metadata(entry.path())
        {
            let size = file.len().max(file.blocks().saturating_mul(512));
            files.insert(file.ino(), size);
        }
    }
    let mapped = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
    for line in mapped.lines().filter(|line| line.ends_with(REMOVED)) {
        // Addresses, rights, offset, device, inode, name.
        let inode = line.split_whitespace().nth(4).map(str::parse::<u64>);
        if let Some(Ok(inode)) = inode
            && line.contains(folder)
        {
            files.entry(inode).or_insert(largest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_open_or_mapped_counts_when_its_name_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let held = || size(rustix::process::getpid(), None, &folder, 1 << 30);
        let path = folder.join("file");
        fs::write(&path, vec![1; 100_000]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(held(), 0);
        fs::remove_file(&path).unwrap();
        assert!((100_000..150_000).contains(&held()), "{}", held());
        // SAFETY: nobody changes the file.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        assert!((100_000..150_000).contains(&held()), "{}", held());
        drop(file);
        assert_eq!(held(), 1 << 30);
        drop(map);
        assert_eq!(held(), 0);
    }

    #[test]
    fn root_looks_as_another_user_and_is_root_again() {
        if !rustix::process::geteuid().is_root() {
            println!("not tested: only root can be another user");
            return;
        }
        let roots = tempfile::tempdir().unwrap();
        fs::set_permissions(roots.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut seen = None;
        as_user(Some(65534), || {
            seen = Some(fs::read_dir(roots.path()).is_ok())
        });
        assert_eq!(seen, Some(false));
        assert!(fs::read_dir(roots.path()).is_ok());
    }
}
