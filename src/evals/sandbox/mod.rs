//! Where programs that a model wrote are run: Python without network, without processes, and without files but a
//! scratch folder of its own, within [`Limits`].
//!
//! A [`Sandbox`] keeps jailers: processes of this program (`harness jailer`) that run one program after the other and
//! end with the harness, even when that is killed. Each program is a process in these walls:
//!
//! - [`calls`] (seccomp): the system calls that Python needs to compute, and no others. There is no socket to be had, no
//!   `fork` (human-eval and its followers take it away, too), no signal to another process.
//! - Files, by one of the two [`Backend`]s: Landlock, with a file tree of its own ([`root`]) where this is root's to make;
//!   or bubblewrap's namespaces ([`bubblewrap`]). By Landlock alone, without a tree of its own, a program can still ask for
//!   any file's size, times and owner (`stat`), and so whether it is there: Landlock does not judge that.
//! - [`jail`]: another user where the harness is root's, no capabilities, and limits ("rlimits") that its threads share.
//! - [`watch`]: the jailer counts output, disk and time from outside.
//!
//! Time is CPU time: a busy machine fails nobody's program. The wall's clock ends only what sleeps.
//!
//! These walls keep the machine from the program. The tests are in one process with what they test, as in human-eval and
//! EvalPlus: see [`watch`] for what that leaves to a program that wants to pass without solving anything.
mod bubblewrap;
mod calls;
mod files;
mod held;
mod jail;
pub mod jailer;
mod pool;
mod python;
mod root;
mod scratch;
mod watch;

pub use jail::enter_and_execute;
pub use pool::Sandbox;
pub use python::Python;

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds of CPU time, its threads together.
    pub cpu_seconds: u64,
    /// Seconds from start to end: generous, for a program that sleeps.
    pub wall_seconds: u64,
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Bytes of its scratch folder, and of one file.
    pub disk_bytes: u64,
    /// Bytes that it writes to its standard output and error.
    pub output_bytes: u64,
    /// Threads.
    pub threads: u64,
}

impl Default for Limits {
    /// Four times human-eval's three seconds: one of MBPP's own solutions, of problem 123, takes 3.6 seconds of CPU time on
    /// cores that other threads share, and more where a host takes a virtual machine's time.
    fn default() -> Self {
        Limits {
            cpu_seconds: 12,
            wall_seconds: 120,
            memory_bytes: 1 << 30,
            disk_bytes: 16 << 20,
            output_bytes: 256 << 10,
            threads: 64,
        }
    }
}

/// What keeps a program from the machine's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The namespaces that `bwrap` makes.
    Bubblewrap,
    /// The kernel's Landlock.
    Landlock,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Backend::Bubblewrap => "bubblewrap",
            Backend::Landlock => "Landlock",
        })
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It ran to the end of its text.
    Finished,
    /// By an exception, whose name this is; or before its end in another way: `exit code 3`, `signal 11`.
    Failed(String),
    CpuTime,
    WallTime,
    Memory,
    /// Where the scratch folder lies on disk; where it lies in memory, writing more fails within the program.
    Disk,
    Output,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Ended::Finished => f.write_str("finished"),
            Ended::Failed(why) => write!(f, "failed: {why}"),
            Ended::CpuTime => f.write_str("timeout: CPU time"),
            Ended::WallTime => f.write_str("timeout: it slept"),
            Ended::Memory => f.write_str("memory"),
            Ended::Disk => f.write_str("disk"),
            Ended::Output => f.write_str("output"),
        }
    }
}

/// What came of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub ended: Ended,
    /// Whether SIGKILL ended it, and perhaps not for its CPU time: then it was most likely the system, for want of memory.
    pub killed: bool,
    /// What it wrote to its standard output, up to the limit; what is no UTF-8 replaced.
    pub output: String,
    /// What it wrote to its standard error.
    pub errors: String,
    /// Seconds of CPU time, the interpreter's start among them; of bubblewrap alone, where this runs it.
    pub cpu_seconds: f64,
}
