//! Namespaces by `bwrap`, where it is installed: the interpreter's files to read, the scratch folder, no network, no other
//! process to be seen. Within, `harness jailer --enter` puts up the other walls.
use super::{files::DEVICES, jail::Jail, root::LINKS};
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the harness lies within.
const HARNESS: &str = "/harness";

/// `bwrap` on the `PATH`.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("bwrap"))
        .find(|program| program.is_file())
}

/// The interpreter within bubblewrap's namespaces and the jail's other walls.
pub fn command(bwrap: &Path, harness: &Path, jail: &Jail) -> Command {
    let mut command = Command::new(bwrap);
    command.env_clear();
    command.args(["--die-with-parent", "--new-session", "--unshare-pid"]);
    command.args(["--unshare-net", "--unshare-ipc", "--unshare-uts"]);
    command.args(["--cap-drop", "ALL"]);
    match jail.user {
        // Root becomes another user only within: for that it reads what is root's alone, such as its own Python.
        Some(_) => command.args(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]),
        None => command.arg("--unshare-user"),
    };
    // The folders on the way, which would else be as shut as root's home may be.
    let readable = &jail.python.readable;
    let files = readable
        .iter()
        .map(PathBuf::as_path)
        .chain(DEVICES.map(Path::new))
        .chain([jail.scratch.as_path()]);
    let above = files.flat_map(|path| path.ancestors().skip(1));
    let above: BTreeSet<&Path> = above.filter(|path| path.parent().is_some()).collect();
    for folder in above {
        command.args(["--perms", "0755", "--dir"]).arg(folder);
    }
    for path in readable {
        command.arg("--ro-bind").args([path, path]);
    }
    for device in DEVICES {
        command.args(["--dev-bind", device, device]);
    }
    for link in LINKS {
        if let Ok(target) = std::fs::read_link(link) {
            command.arg("--symlink").arg(target).arg(link);
        }
    }
    command.arg("--ro-bind").arg(harness).arg(HARNESS);
    // Not bubblewrap's own folder in memory: that has no limit to the number of files, and cannot be watched.
    command.arg("--bind").args([&jail.scratch, &jail.scratch]);
    // The interpreter goes there itself, as the user whose folder it is.
    command.args(["--remount-ro", "/", "--chdir", "/"]);
    let text = serde_json::to_string(jail).expect("a jail has string keys");
    command.args(["--", HARNESS, "jailer", "--enter", &text]);
    let inherited = [jail.done, jail.stands];
    let inherit = move || {
        for fd in inherited {
            // SAFETY: both were made for this and are open.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the jailer has one thread, so that what it may do after a fork is what it may do before.
    unsafe { command.pre_exec(inherit) };
    command
}
