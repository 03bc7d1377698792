//! `harness jailer`: a process that runs programs one after the other, and ends with the harness. It has one thread, so
//! that a fork of it may do anything, and is small, so that a fork is quick.
use super::jail::Jail;
use super::watch::{self, Trouble};
use super::{Backend, Limits, Run, bubblewrap, python::Python, root, scratch};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Users that nobody has: from here on, one for each jailer.
const USERS: u32 = 0x5000_0000;
/// The user of that name, where users are few.
const NOBODY: u32 = 65534;

/// The first line that a jailer reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    pub backend: Backend,
    pub python: Python,
    pub limits: Limits,
    /// This program.
    pub harness: PathBuf,
}

/// A line that a jailer writes: one when it is ready, one for each program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ready,
    Run(Run),
    Trouble(String),
}

struct Jailer {
    setup: Setup,
    bwrap: Option<PathBuf>,
    scratch: PathBuf,
    user: Option<u32>,
    /// The scratch folder where it lies among the machine's files, not in memory: removed in the end.
    folder: Option<scratch::Folder>,
}

/// Reads the setup and then programs, each a line of JSON, from standard input and answers on standard output, until its
/// input ends or there is trouble, which is its last answer.
///
/// # Errors
/// When its streams break.
pub fn run() -> std::io::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let Some(setup) = lines.next().transpose()? else {
        return Ok(());
    };
    let jailer = match Jailer::new(serde_json::from_str(&setup)?) {
        Ok(jailer) => jailer,
        Err(what) => return answer(&Answer::Trouble(what)),
    };
    answer(&Answer::Ready)?;
    for line in lines {
        let program: String = serde_json::from_str(&line?)?;
        let trouble = match jailer.run(&program) {
            Ok(run) => {
                answer(&Answer::Run(run))?;
                continue;
            }
            Err(Trouble::Alone) => return Ok(()),
            Err(Trouble::Walls(what)) => what,
            Err(Trouble::System(error)) => error.to_string(),
        };
        return answer(&Answer::Trouble(trouble));
    }
    Ok(())
}

fn answer(answer: &Answer) -> std::io::Result<()> {
    let line = serde_json::to_string(answer)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

impl Jailer {
    fn new(setup: Setup) -> Result<Self, String> {
        let user = rustix::process::geteuid().is_root().then(user_of_its_own);
        let (mut bwrap, mut in_memory) = (None, false);
        match (setup.backend, user) {
            (Backend::Bubblewrap, _) => {
                bwrap = Some(bubblewrap::find().ok_or("it is not installed")?);
            }
            (Backend::Landlock, Some(user)) => {
                in_memory = root::enter(&setup.python, &setup.limits, user)?;
            }
            (Backend::Landlock, None) => {}
        }
        let folder = match in_memory {
            true => None,
            false => Some(scratch_folder(user).map_err(|e| format!("a scratch folder: {e}"))?),
        };
        let scratch = folder
            .as_ref()
            .map_or(root::SCRATCH.into(), |f| f.path().to_path_buf());
        Ok(Jailer {
            setup,
            bwrap,
            scratch,
            user,
            folder,
        })
    }

    fn run(&self, program: &str) -> Result<Run, Trouble> {
        let jail = Jail {
            python: self.setup.python.clone(),
            limits: self.setup.limits,
            scratch: self.scratch.clone(),
            landlock: self.setup.backend == Backend::Landlock,
            user: self.user,
            tasks: self.setup.limits.threads + self.user.map_or_else(own_tasks, |_| 0),
            parent: self.bwrap.is_none().then(std::process::id),
            done: -1,
            stands: -1,
        };
        let folder = self.folder.as_ref().map(scratch::Folder::path);
        let run = watch::run(jail, program, folder, |jail| match &self.bwrap {
            Some(bwrap) => bubblewrap::command(bwrap, &self.setup.harness, jail),
            None => watch::behind_walls(jail),
        });
        scratch::clear(&self.scratch)?;
        run
    }
}

fn scratch_folder(user: Option<u32>) -> std::io::Result<scratch::Folder> {
    scratch::Folder::new_in(&std::env::temp_dir().canonicalize()?, user)
}

/// A user that no other process has, where there are so many.
fn user_of_its_own() -> u32 {
    let user = USERS + std::process::id();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let known = map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => (first..first + count).contains(&u64::from(user)),
            _ => false,
        }
    });
    if known { user } else { NOBODY }
}

/// Processes and threads that this user has: a limit counts these, too.
fn own_tasks() -> u64 {
    let own = rustix::process::geteuid().as_raw();
    let Ok(processes) = Path::new("/proc").read_dir() else {
        return 0;
    };
    // A folder has a link from each of its folders, and two more: here, a folder for each thread.
    let threads = processes.flatten().filter_map(|process| {
        let tasks = process.path().join("task").metadata().ok()?;
        (tasks.uid() == own).then(|| tasks.nlink().saturating_sub(2))
    });
    threads.sum()
}
