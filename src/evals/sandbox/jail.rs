//! A program's walls, which its process puts around itself before it becomes the interpreter.
use super::{Limits, calls, files, python::Python};
use rustix::fd::BorrowedFd;
use rustix::io::{Errno, FdFlags, fcntl_setfd, write};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Runs the program and says what came of it; see `driver.py`.
const DRIVER: &str = include_str!("driver.py");
/// Descriptors that a program may have open.
const OPEN_FILES: u64 = 64;
const STACK_BYTES: u64 = 8 << 20;
/// What is written when the walls stand.
pub const STANDS: &[u8] = b"\0";

/// What one program's process needs to know of its walls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jail {
    pub python: Python,
    pub limits: Limits,
    pub scratch: PathBuf,
    /// Whether Landlock is the wall of files.
    pub landlock: bool,
    /// The user that it becomes.
    pub user: Option<u32>,
    /// Processes and threads that its user may have.
    pub tasks: u64,
    /// The process that it must not outlive, where it can be seen from within.
    pub parent: Option<u32>,
    /// Where the driver says what came of the program.
    pub done: RawFd,
    /// Where it is said that the walls stand, or why not.
    pub stands: RawFd,
}

impl Jail {
    /// The interpreter, as it is started within the walls: with an environment that says nothing of the harness.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.python.program);
        command.args(["-s", "-B", "-c", DRIVER]);
        command.args([self.done.to_string(), libc::SYS_execve.to_string()]);
        command.current_dir(&self.scratch);
        command.env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        command
            .env("HOME", &self.scratch)
            .env("TMPDIR", &self.scratch);
        // The order of a set of strings is the same in every run.
        command.env("PYTHONHASHSEED", "0");
        // numpy's threads would each take address space, as would the C library's heap for each thread.
        command
            .env("OPENBLAS_NUM_THREADS", "1")
            .env("OMP_NUM_THREADS", "1")
            .env("MALLOC_ARENA_MAX", "1");
        command
    }

    /// Puts the walls around this process, which has one thread, and says on `stands` that they stand, or why not.
    pub fn enter(&self) -> std::io::Result<()> {
        let walls = self.walls();
        // SAFETY: the descriptor was made for this and stays open until the interpreter starts.
        let stands = unsafe { BorrowedFd::borrow_raw(self.stands) };
        match walls {
            Ok(()) => write(stands, STANDS).map(drop).map_err(Into::into),
            Err(what) => {
                write(stands, what.as_bytes())?;
                Err(std::io::Error::from(Errno::PERM))
            }
        }
    }

    fn walls(&self) -> Result<(), String> {
        self.shut_descriptors()
            .map_err(|e| format!("descriptors: {e}"))?;
        if let Some(user) = self.user {
            become_user(user).map_err(|e| format!("becoming user {user}: {e}"))?;
        }
        drop_capabilities().map_err(|e| format!("capabilities: {e}"))?;
        rustix::thread::set_no_new_privs(true).map_err(|e| format!("no_new_privs: {e}"))?;
        // Another user's process has lost its parent's signal, so that it is asked for now.
        let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        death.map_err(|e| format!("the parent's death: {e}"))?;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
        if self.parent.is_some() && self.parent != parent {
            return Err("the jailer is gone".into());
        }
        // Fails where it leads a session already: of its own, then.
        let _ = rustix::process::setsid();
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        self.limit().map_err(|e| format!("limits: {e}"))?;
        fix_addresses();
        if self.landlock {
            files::allow_only(&self.python, &self.scratch)?;
        }
        calls::allow_only_computing()
    }

    /// Lets the interpreter inherit its standard streams and `done`, whatever the harness had open.
    fn shut_descriptors(&self) -> rustix::io::Result<()> {
        // SAFETY: the call marks descriptors of this process, and closes none.
        let marked = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        if marked != 0 {
            match Errno::from_io_error(&std::io::Error::last_os_error()) {
                // Linux before 5.11, and containers' filters that do not know the call.
                Some(Errno::NOSYS | Errno::INVAL | Errno::PERM) => shut_each_from(3),
                error => return Err(error.unwrap_or(Errno::NOSYS)),
            }
        }
        // SAFETY: the descriptor was made for this and is open.
        fcntl_setfd(
            unsafe { BorrowedFd::borrow_raw(self.done) },
            FdFlags::empty(),
        )
    }

    fn limit(&self) -> rustix::io::Result<()> {
        let limits = &self.limits;
        // At its seconds a signal that it can catch, at one more the end.
        lower(Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds + 1)?;
        for (resource, most) in [
            (Resource::As, limits.memory_bytes),
            (Resource::Stack, STACK_BYTES),
            (Resource::Fsize, limits.disk_bytes),
            (Resource::Nofile, OPEN_FILES),
            (Resource::Nproc, self.tasks),
            (Resource::Core, 0),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
        ] {
            lower(resource, most, most)?;
        }
        Ok(())
    }
}

/// Sets a limit, but none above the one that there is.
fn lower(resource: Resource, soft: u64, hard: u64) -> rustix::io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(soft.min(most)),
        maximum: Some(hard.min(most)),
    };
    setrlimit(resource, limit)
}

/// Marks every descriptor from this one on that there may be.
fn shut_each_from(first: RawFd) {
    // The kernel's own limit (nr_open), unless somebody raised it.
    const MOST: u64 = 1 << 20;
    let most = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    for fd in first..most.min(MOST) as RawFd {
        // SAFETY: the call marks a descriptor; where there is none it fails, and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Where a program's objects lie decides in which order a set has them: the same in every run, but where a container's
/// filter does not allow it.
fn fix_addresses() {
    // SAFETY: the call sets what holds for the program that this process executes next.
    unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) };
}

/// From root to a user without groups.
fn become_user(user: u32) -> rustix::io::Result<()> {
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Gives up all capabilities of this thread: a harness that is not root's may have some, too, by its file or its parent.
fn drop_capabilities() -> rustix::io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}

/// `harness jailer --enter JSON`: puts the walls that the text describes around this process and becomes the interpreter.
/// bubblewrap starts it within its namespaces.
///
/// # Errors
/// What stood in the way.
pub fn enter_and_execute(jail: &str) -> Result<std::convert::Infallible, String> {
    let jail: Jail = serde_json::from_str(jail).map_err(|e| e.to_string())?;
    jail.enter().map_err(|e| e.to_string())?;
    Err(jail.command().exec().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::fcntl_getfd;
    use std::os::fd::AsRawFd;

    #[test]
    fn no_capability_is_left() {
        let left = std::thread::spawn(|| {
            drop_capabilities().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let left = left.join().unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let empty = format!("\n{set}:\t0000000000000000\n");
            assert!(left.contains(&empty), "{left}");
        }
    }

    #[test]
    fn descriptors_are_shut_one_by_one_where_a_range_cannot_be() {
        let (file, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::empty());
        shut_each_from(file.as_raw_fd());
        assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
    }
}
