//! The harness's side: jailers, some at a time.
use super::jailer::{Answer, Setup};
use super::{Backend, Limits, Run, python::Python};
use crate::evals::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

const PROBE: &str = include_str!("probe.py");

/// Runs programs in isolation; see the [module](super).
pub struct Sandbox {
    setup: Setup,
    /// Jailers that have nothing to do.
    idle: Mutex<Vec<Jailer>>,
    /// Held by whoever runs a program; for one that is to run alone, to write.
    running: RwLock<()>,
}

impl Sandbox {
    /// A sandbox by Landlock or, where the kernel has none, by bubblewrap. It has been tried when it is
    /// returned: a probe can compute and write in its scratch folder, and can read and write no other file, fork, become
    /// another program, have a socket, or signal. `harness` is this program.
    ///
    /// # Errors
    /// When there is no Python, or no isolation to be had: why, and what to install.
    pub fn start(harness: &Path, limits: Limits) -> Result<Self, Error> {
        let mut reasons = Vec::new();
        for backend in [Backend::Landlock, Backend::Bubblewrap] {
            match Self::by(backend, harness, limits) {
                Ok(sandbox) => return Ok(sandbox),
                Err(Error::Sandbox { what }) => reasons.push(what),
                Err(other) => return Err(other),
            }
        }
        let what = format!(
            "programs that a model wrote are not run without isolation, and there is none ({}); install bubblewrap, or \
             use a kernel with Landlock",
            reasons.join("; ")
        );
        Err(Error::NoSandbox { what })
    }

    /// A sandbox by this backend.
    ///
    /// # Errors
    /// When there is no Python, or the backend does not work.
    pub fn by(backend: Backend, harness: &Path, limits: Limits) -> Result<Self, Error> {
        let sandbox = Sandbox {
            setup: Setup {
                backend,
                python: Python::find()?,
                limits,
                harness: harness.to_path_buf(),
            },
            idle: Mutex::new(Vec::new()),
            running: RwLock::new(()),
        };
        let outside = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile();
        let outside = outside.map_err(|e| sandbox.error(&format!("a file for the probe: {e}")))?;
        let outside = serde_json::to_string(outside.path())
            .map_err(|e| sandbox.error(&format!("the temporary folder's name: {e}")))?;
        let run = sandbox.run(&format!("OUTSIDE = {outside}\n{PROBE}"))?;
        if run.ended == super::Ended::Finished {
            return Ok(sandbox);
        }
        let last = run.errors.trim().lines().last().unwrap_or_default();
        Err(sandbox.error(&format!("the probe ended with {}: {last}", run.ended)))
    }

    /// What keeps programs from the machine's files.
    pub fn backend(&self) -> Backend {
        self.setup.backend
    }

    /// The interpreter.
    pub fn python(&self) -> &Path {
        &self.setup.python.program
    }

    /// Runs one program. If it is killed, as the system does for want of memory, it runs once more, without others beside it:
    /// a second time is its own doing.
    ///
    /// # Errors
    /// When the sandbox itself fails, never because of the program.
    pub fn run(&self, program: &str) -> Result<Run, Error> {
        let run = {
            let _among_others = self.running.read().unwrap_or_else(PoisonError::into_inner);
            self.run_once(program)?
        };
        if !run.killed {
            return Ok(run);
        }
        let _alone = self.running.write().unwrap_or_else(PoisonError::into_inner);
        self.run_once(program)
    }

    fn run_once(&self, program: &str) -> Result<Run, Error> {
        let start = || Jailer::start(&self.setup).map_err(|what| self.error(&what));
        let idle = self.lock().pop();
        let mut jailer = idle.map_or_else(start, Ok)?;
        let answer = match jailer.ask(&program) {
            Ok(answer) => answer,
            // A jailer may be killed as well: another one is asked, once.
            Err(_) => {
                jailer = start()?;
                jailer.ask(&program).map_err(|what| self.error(&what))?
            }
        };
        match answer {
            Answer::Run(run) => {
                self.lock().push(jailer);
                Ok(run)
            }
            Answer::Trouble(what) => Err(self.error(&what)),
            Answer::Ready => Err(self.error("a jailer did not answer what it was asked")),
        }
    }

    /// Runs programs, as many at a time as there are threads for work; in their order what came of them.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_all(&self, programs: &[String]) -> Result<Vec<Run>, Error> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Run)>, Error> {
            let mut runs = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(program) = programs.get(i) else {
                    return Ok(runs);
                };
                runs.push((i, self.run(program)?));
            }
        };
        let threads = rayon::current_num_threads().min(programs.len());
        let mut runs = Vec::with_capacity(programs.len());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                let done = worker
                    .join()
                    .map_err(|_| self.error("a thread that waited for a program has panicked"))?;
                runs.extend(done?);
            }
            Ok::<(), Error>(())
        })?;
        runs.sort_by_key(|(i, _)| *i);
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Jailer>> {
        // Jailers are whole whenever they are in the list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, what: &str) -> Error {
        Error::Sandbox {
            what: format!("{}: {what}", self.setup.backend),
        }
    }
}

/// A jailer's process: it ends when its input does.
struct Jailer {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Jailer {
    fn start(setup: &Setup) -> Result<Self, String> {
        let mut command = Command::new(&setup.harness);
        command.arg("jailer");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is the harness's to see to: the jailer ends after it, when it has cleaned up.
        command.process_group(0);
        let failed = |e: std::io::Error| format!("{}: {e}", setup.harness.display());
        let mut process = command.spawn().map_err(failed)?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a jailer's streams were not piped".into());
        };
        let mut jailer = Jailer {
            process,
            input: Some(input),
            output: BufReader::new(output),
        };
        match jailer.ask(setup)? {
            Answer::Ready => Ok(jailer),
            Answer::Trouble(what) => Err(what),
            Answer::Run(_) => Err("a jailer answered before it was asked".into()),
        }
    }

    /// Sends a line and reads the answer.
    fn ask(&mut self, line: &impl serde::Serialize) -> Result<Answer, String> {
        let gone = |e: std::io::Error| format!("the jailer is gone ({e})");
        let mut text = serde_json::to_string(line).map_err(|e| e.to_string())?;
        text.push('\n');
        if let Some(input) = &mut self.input {
            input.write_all(text.as_bytes()).map_err(gone)?;
        }
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(gone)?;
        if answer.is_empty() {
            return Err("the jailer is gone".into());
        }
        serde_json::from_str(&answer).map_err(|e| e.to_string())
    }
}

impl Drop for Jailer {
    fn drop(&mut self) {
        drop(self.input.take());
        // What its end says concerns nobody any more.
        let _ = self.process.wait();
    }
}
