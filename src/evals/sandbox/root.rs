//! A file tree of its own, which only root can make: the interpreter's files to read, four devices, a scratch folder in
//! memory, and nothing else. With it go a network without devices and a namespace of shared memory of its own.
use super::{Limits, files::DEVICES, python::Python};
use rustix::io::{Errno, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where the new tree is put together: nothing that it takes from the old one lies there.
const NEW: &str = "/proc";
/// The scratch folder in it.
pub const SCRATCH: &str = "/scratch";
/// Links by which programs find their libraries.
pub const LINKS: [&str; 4] = ["/bin", "/lib", "/lib32", "/lib64"];

/// Moves this process, which must have one thread, into a new tree, whose [`SCRATCH`] is `owner`'s; false where the kernel
/// does not let it, as in most containers.
///
/// # Errors
/// When the tree cannot be put together.
pub fn enter(python: &Python, limits: &Limits, owner: u32) -> std::result::Result<bool, String> {
    let flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWNET | UnshareFlags::NEWUTS;
    // SAFETY: no descriptor table is unshared, which is what the call is unsafe for.
    match unsafe { unshare_unsafe(flags) } {
        Ok(()) => {}
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) => return Ok(false),
        Err(e) => return Err(format!("namespaces: {e}")),
    }
    // A container may let it have namespaces, but mount nothing.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", private) {
        Ok(()) => {}
        Err(Errno::PERM | Errno::ACCESS) => return Ok(false),
        Err(e) => return Err(format!("/: {e}")),
    }
    build(python, limits, owner).map_err(|(what, e)| format!("{what}: {e}"))?;
    Ok(true)
}

type Step = std::result::Result<(), (String, std::io::Error)>;

fn build(python: &Python, limits: &Limits, owner: u32) -> Step {
    let none = MountFlags::NOSUID | MountFlags::NODEV;
    tmpfs(Path::new(NEW), none, "mode=755,size=1m")?;
    for path in &python.readable {
        bind(path, none)?;
    }
    for device in DEVICES {
        bind(Path::new(device), MountFlags::NOSUID | MountFlags::NOEXEC)?;
    }
    for link in LINKS {
        if let Ok(target) = fs::read_link(link) {
            let made = symlink(target, Path::new(NEW).join(&link[1..]));
            made.map_err(|e| (link.to_string(), e))?;
        }
    }
    let scratch = Path::new(NEW).join(&SCRATCH[1..]);
    fs::create_dir(&scratch).map_err(|e| (SCRATCH.to_string(), e))?;
    let size = limits.disk_bytes;
    let options = format!("mode=700,uid={owner},gid={owner},size={size},nr_inodes=4096");
    tmpfs(&scratch, none | MountFlags::NOEXEC, &options)?;
    let read_only = none | MountFlags::BIND | MountFlags::RDONLY;
    named(NEW, mount_remount(NEW, read_only, ""))?;
    named(NEW, chdir(NEW))?;
    // The old tree is put over the new one, and taken away from there (pivot_root(2)).
    named("pivot_root", pivot_root(".", "."))?;
    named("the old tree", unmount(".", UnmountFlags::DETACH))?;
    named("/", chdir("/"))
}

fn named(what: &str, result: Result<()>) -> Step {
    result.map_err(|e| (what.to_string(), e.into()))
}

fn tmpfs(at: &Path, flags: MountFlags, options: &str) -> Step {
    let options = CString::new(options).expect("options have no NUL");
    let mounted = mount("tmpfs", at, "tmpfs", flags, Some(options.as_c_str()));
    named(&at.display().to_string(), mounted)
}

/// Shows `path` of the old tree at the same place of the new one, to be read.
fn bind(path: &Path, flags: MountFlags) -> Step {
    let io = |e| (path.display().to_string(), e);
    let place = Path::new(NEW).join(path.strip_prefix("/").unwrap_or(path));
    if path.is_dir() {
        fs::create_dir_all(&place).map_err(io)?;
    } else {
        fs::create_dir_all(crate::whole_file::folder(&place)).map_err(io)?;
        fs::File::create(&place).map_err(io)?;
    }
    mount_bind(path, &place).map_err(|e| io(e.into()))?;
    let flags = flags | MountFlags::BIND | MountFlags::RDONLY;
    mount_remount(&place, flags, "").map_err(|e| io(e.into()))
}
