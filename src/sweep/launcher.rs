//! Runs each trial in a process of its own, some at a time.
use super::{
    BUSY, Error, Outcome, Phase, Result, State, TrialFolder, Update, display::Display, io, signal,
};
use crate::experiment::{Cost, Trial};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, available_parallelism},
    time::Duration,
};

/// What to launch.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The study's file.
    pub study: &'a Path,
    pub reduced: bool,
    pub results: &'a Path,
    /// Trials in the order in which they run, with their costs.
    pub trials: &'a [(&'a Trial, Cost)],
    /// Workers at a time.
    pub jobs: usize,
    /// Run trials that failed once more.
    pub retry_failed: bool,
    /// Show nothing.
    pub quiet: bool,
}

/// How a launch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every trial was done, had failed, or is another worker's.
    Finished,
    /// By SIGINT.
    Interrupted,
}

enum Event {
    Update(usize, Update),
    /// The worker closed its standard output.
    Closed(usize),
}

/// Runs what is missing. A trial whose worker crashes or fails leaves its reason in its folder, and the
/// others go on; one whose worker was ended by a signal is run again. `published` is called after every
/// trial that ended. SIGINT ends the workers.
///
/// # Errors
/// When a worker cannot be started or finds bad input that was not there before, or a folder cannot be
/// written.
pub fn launch<E: From<Error>>(
    launch: &Launch,
    mut published: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<Ended, E> {
    signal::listen();
    let mut queue = VecDeque::new();
    for (id, (trial, _)) in launch.trials.iter().enumerate() {
        let folder = TrialFolder::new(launch.results, &trial.key);
        match folder.state() {
            State::Done => folder.clean_up()?,
            State::Failed if !launch.retry_failed => {}
            State::Failed | State::Running | State::Interrupted | State::Waiting => {
                queue.push_back(id);
            }
        }
    }
    let work = queue.iter().map(|&id| work(&launch.trials[id].1)).sum();
    let mut display = Display::new(launch.quiet, work);
    let (sender, events) = channel();
    let mut workers: BTreeMap<usize, Child> = BTreeMap::new();
    let result = loop {
        if signal::interrupted() {
            break Ok(Ended::Interrupted);
        }
        while workers.len() < launch.jobs.max(1)
            && let Some(id) = queue.pop_front()
        {
            let (trial, cost) = &launch.trials[id];
            display.start(id, &trial.name, self::work(cost));
            workers.insert(id, start(launch, trial, id, &sender)?);
        }
        if workers.is_empty() {
            break Ok(Ended::Finished);
        }
        let Some(event) = next(&events) else {
            continue;
        };
        match event {
            Event::Update(id, update) => {
                let share = share(&launch.trials[id].1, &update);
                display.update(id, &update, share);
            }
            Event::Closed(id) => {
                let Some(mut worker) = workers.remove(&id) else {
                    continue;
                };
                let trial = launch.trials[id].0;
                let status = worker.wait().map_err(io(launch.results))?;
                if signal::interrupted() {
                    break Ok(Ended::Interrupted);
                }
                match settle(launch, trial, status) {
                    Ok((line, again)) => {
                        display.end(id, &line, !again);
                        if again {
                            queue.push_back(id);
                        }
                    }
                    Err(error) => break Err(error.into()),
                }
                if let Err(error) = published() {
                    break Err(error);
                }
            }
        }
    };
    for worker in workers.values_mut() {
        // It may have ended by itself meanwhile.
        let _ = worker.kill();
        let _ = worker.wait();
    }
    display.close();
    result
}

/// The next event, or nothing for a moment.
fn next(events: &Receiver<Event>) -> Option<Event> {
    // The launch holds a sender itself: this fails by the time alone.
    events.recv_timeout(Duration::from_millis(100)).ok()
}

/// FLOPs of a trial.
fn work(cost: &Cost) -> f64 {
    cost.train_flops + cost.score_flops
}

/// How much of a trial is done.
fn share(cost: &Cost, update: &Update) -> f64 {
    let done = update.done as f64 / update.total.max(1) as f64;
    let train = cost.train_flops / work(cost).max(f64::MIN_POSITIVE);
    match update.phase {
        Phase::Load => 0.0,
        Phase::Train => train * done,
        Phase::Score => train + (1.0 - train) * done,
    }
}

/// Starts a worker that dies with this process, and a thread that reads what it says.
fn start(launch: &Launch, trial: &Trial, id: usize, events: &Sender<Event>) -> Result<Child> {
    let folder = TrialFolder::new(launch.results, &trial.key);
    folder.create(trial)?;
    let mut options = File::options();
    let log = options.create(true).append(true).open(folder.log());
    let log = log.map_err(io(&folder.log()))?;
    let program = std::env::current_exe().map_err(io(Path::new("harness")))?;
    let mut command = Command::new(&program);
    command.arg("trial").arg(launch.study);
    command.arg("--key").arg(&trial.key);
    command.arg("--out").arg(launch.results);
    if launch.reduced {
        command.arg("--reduced");
    }
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let cores = available_parallelism().map_or(1, usize::from);
        let threads = (cores / launch.jobs.max(1)).max(1);
        command.env("RAYON_NUM_THREADS", threads.to_string());
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    // A group of its own: Ctrl-C reaches the sweep alone, which then ends the worker and knows why.
    command.process_group(0);
    die_with_parent(&mut command);
    let mut worker = command.spawn().map_err(io(&program))?;
    if let Some(said) = worker.stdout.take() {
        let events = events.clone();
        thread::spawn(move || {
            for line in BufReader::new(said)
                .lines()
                .map_while(std::result::Result::ok)
            {
                if let Ok(update) = serde_json::from_str(&line) {
                    // Nobody listens any more when the sweep ends.
                    let _ = events.send(Event::Update(id, update));
                }
            }
            let _ = events.send(Event::Closed(id));
        });
    }
    Ok(worker)
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
    let parent = getpid();
    // SAFETY: between fork and exec these only make system calls.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            match getppid() == Some(parent) {
                true => Ok(()),
                // It died before it was asked to take the worker along.
                false => Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        });
    }
}

/// Elsewhere a worker ends when it has nobody to tell its progress to.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// What came of a worker that ended: a line that says it, and whether to run the trial again.
fn settle(launch: &Launch, trial: &Trial, status: ExitStatus) -> Result<(String, bool)> {
    let folder = TrialFolder::new(launch.results, &trial.key);
    if let Some(published) = folder.published()? {
        let loss = published
            .final_loss
            .map_or(String::new(), |l| format!(", final loss {l:.3}"));
        let (train, score) = (published.train_seconds, published.score_seconds);
        return Ok((
            format!("done{loss} ({train:.0} s training, {score:.0} s scoring)"),
            false,
        ));
    }
    if let Some(signal) = status.signal() {
        let reason = format!("the worker was ended by signal {signal}");
        let failed = folder.publish_interruption(&reason)?;
        let next = if failed { "; failed" } else { "; starts again" };
        return Ok((format!("{reason}{next}"), !failed));
    }
    let code = status.code();
    match code {
        Some(BUSY) => return Ok(("another worker is at it".into(), false)),
        Some(2) => {
            return Err(Error::Worker {
                name: trial.name.clone(),
                what: last_line(&folder.log()),
            });
        }
        Some(code) if code == Outcome::FAILED => {}
        _ => {
            let last = last_line(&folder.log());
            let reason = format!("the worker ended with {status}: {last}");
            folder.publish_failure(&reason)?;
        }
    }
    let reason = folder.last_failure()?.map_or(String::new(), |f| f.reason);
    Ok((format!("failed: {reason}"), false))
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().rev().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or("it said nothing")
        .to_string()
}
