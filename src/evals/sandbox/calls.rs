//! The system calls that a program may make (seccomp): those that Python computes with. To the program there are no
//! others: they fail with `ENOSYS`, which makes the C library take its older way where it has one.
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// Calls that are allowed whatever their arguments. What names a file is for the walls of files to judge.
const PLAIN: &[c_long] = &[
    // Files and folders. Not `chmod`, `chown`, `utimensat` and `truncate`, which Landlock did not judge at first.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // The way in: the interpreter itself is started behind this wall. Its driver shuts that.
    libc::SYS_execve,
    // Memory. Not `memfd_create` and `shmget`, whose memory no limit counts.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_brk,
    // Threads.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Signals to itself; see `kill` below.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    // Time and who it is.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getcpu,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // Waiting, which asyncio does even without a network.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
];

/// The older names of some of these, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Flags that make a new process or namespace of a thread.
const NEW: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Puts this thread, and what it executes, behind the wall: for good.
///
/// # Errors
/// When the kernel has no seccomp, or for an architecture that the filter's compiler does not know.
pub fn allow_only_computing() -> Result<(), String> {
    let filter = compiled().map_err(|e| format!("seccomp: {e}"))?;
    seccompiler::apply_filter(&filter).map_err(|e| format!("seccomp: {e}"))
}

/// Rules for calls of the process that this is compiled in.
fn compiled() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = PLAIN
        .iter()
        .chain(OLDER)
        .map(|&call| (call, Vec::new()))
        .collect();
    let own = u64::from(std::process::id());
    let mut allow = |call: c_long, argument: u8, values: &[u64]| {
        let rule = |&value: &u64| rule(&[(argument, SeccompCmpOp::Eq, value)]);
        let any: Result<Vec<SeccompRule>, _> = values.iter().map(rule).collect();
        any.map(|any| rules.insert(call, any))
    };
    // Signals to itself alone.
    allow(libc::SYS_kill, 0, &[own])?;
    allow(libc::SYS_tgkill, 0, &[own])?;
    // Limits of itself, which it can only lower.
    allow(libc::SYS_prlimit64, 0, &[0])?;
    // With a filter more it can only take from itself.
    let options = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_SECCOMP];
    allow(libc::SYS_prctl, 0, &options.map(|o| o as u64))?;
    // Not F_SETOWN and F_SETSIG, by which the kernel would send signals for it.
    let commands = [
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_GETLK,
        libc::F_SETLK,
        libc::F_SETLKW,
    ];
    allow(libc::SYS_fcntl, 1, &commands.map(|c| c as u64))?;
    let requests = [
        libc::TCGETS,
        libc::TIOCGWINSZ,
        libc::FIONREAD,
        libc::FIONBIO,
        libc::FIOCLEX,
    ];
    allow(libc::SYS_ioctl, 1, &requests)?;
    // No address: it may only write to its own pairs.
    rules.insert(
        libc::SYS_sendto,
        vec![SeccompRule::new(vec![SeccompCondition::new(
            4,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::Eq,
            0,
        )?])?],
    );
    let stream = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u64;
    rules.insert(
        libc::SYS_socketpair,
        vec![rule(&[
            (0, SeccompCmpOp::Eq, libc::AF_UNIX as u64),
            (1, SeccompCmpOp::MaskedEq(!stream), libc::SOCK_STREAM as u64),
        ])?],
    );
    // A thread of this process, not a process, and with its descriptors: their limit is each table's.
    let thread = libc::CLONE_THREAD | libc::CLONE_FILES;
    let judged = SeccompCmpOp::MaskedEq(u64::from((thread | NEW) as u32));
    rules.insert(libc::SYS_clone, vec![rule(&[(0, judged, thread as u64)])?]);
    // Opening to read may not empty the file, which Landlock did not judge at first.
    let mode = |flag: i32| SeccompCmpOp::MaskedEq(flag as u64);
    for (call, flags) in opening() {
        rules.insert(
            call,
            vec![
                rule(&[(flags, mode(libc::O_TRUNC), 0)])?,
                rule(&[(flags, mode(libc::O_ACCMODE), libc::O_WRONLY as u64)])?,
                rule(&[(flags, mode(libc::O_ACCMODE), libc::O_RDWR as u64)])?,
            ],
        );
    }
    let arch = std::env::consts::ARCH.try_into()?;
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, absent, SeccompAction::Allow, arch)?.try_into()
}

/// Calls that open files, with the place of their flags.
fn opening() -> Vec<(c_long, u8)> {
    let mut calls = vec![(libc::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    calls.push((libc::SYS_open, 1));
    calls
}

/// All of these conditions on 32-bit arguments.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |(argument, op, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, op.clone(), *value)
    };
    let all: Result<Vec<SeccompCondition>, _> = conditions.iter().map(condition).collect();
    SeccompRule::new(all?)
}
