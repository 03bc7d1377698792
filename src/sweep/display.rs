//! What a sweep shows: bars on a terminal, lines elsewhere.
use super::{Update, progress::Throttle};
use crate::say;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::BTreeMap,
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Steps of the bar over all trials: shares of the work.
const STEPS: u64 = 10_000;

/// The running trials, and all of them by their share of the work.
pub(super) struct Display {
    quiet: bool,
    bars: Option<(MultiProgress, ProgressBar)>,
    running: BTreeMap<usize, Running>,
    began: Instant,
    /// Work of the trials to be run, and of those finished here.
    work: f64,
    finished: f64,
}

struct Running {
    name: String,
    work: f64,
    share: f64,
    bar: Option<ProgressBar>,
    throttle: Throttle,
}

impl Display {
    /// `work` is that of all trials to be run, in any unit.
    pub fn new(quiet: bool, work: f64) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bars = MultiProgress::new();
            let all = bars.add(ProgressBar::new(STEPS));
            all.set_style(style(
                "{prefix:30} {wide_bar} {percent:>3} % {elapsed} + {eta}",
            ));
            all.set_prefix("all");
            all.enable_steady_tick(Duration::from_millis(500));
            (bars, all)
        });
        Display {
            quiet,
            bars,
            running: BTreeMap::new(),
            began: Instant::now(),
            work,
            finished: 0.0,
        }
    }

    /// A line beside the bars.
    pub fn say(&self, line: &str) {
        match &self.bars {
            _ if self.quiet => {}
            Some((bars, _)) => bars.suspend(|| say::aside(line)),
            None => say::aside(line),
        }
    }

    /// A trial begins.
    pub fn start(&mut self, id: usize, name: &str, work: f64) {
        let bar = self.bars.as_ref().map(|(bars, _)| {
            let bar = bars.insert_from_back(1, ProgressBar::new(1));
            bar.set_style(style("{prefix:30} {wide_bar} {msg}"));
            bar.set_prefix(name.to_string());
            bar
        });
        if bar.is_none() {
            self.say(&format!("{name}: starts"));
        }
        let running = Running {
            name: name.to_string(),
            work,
            share: 0.0,
            bar,
            throttle: Throttle::new(Duration::from_secs(15)),
        };
        self.running.insert(id, running);
    }

    /// A trial gets on; `share` is how much of it is done.
    pub fn update(&mut self, id: usize, update: &Update, share: f64) {
        let Some(running) = self.running.get_mut(&id) else {
            return;
        };
        running.share = share;
        match &running.bar {
            Some(bar) => {
                bar.set_length(STEPS);
                bar.set_position((share * STEPS as f64) as u64);
                bar.set_message(update.to_string());
            }
            None if update.total > 0 && running.throttle.ready() => {
                let line = format!("{}: {update}", running.name);
                let left = self.left();
                self.say(&format!("{line}; {left}"));
            }
            None => {}
        }
        if let Some((_, all)) = &self.bars {
            all.set_position((self.done() * STEPS as f64) as u64);
        }
    }

    /// A trial ended.
    pub fn end(&mut self, id: usize, line: &str, finished: bool) {
        if let Some(running) = self.running.remove(&id) {
            if let Some(bar) = running.bar {
                bar.finish_and_clear();
            }
            self.finished += if finished { running.work } else { 0.0 };
            self.say(&format!("{}: {line}", running.name));
        }
    }

    /// All bars away.
    pub fn close(&self) {
        if let Some((bars, all)) = &self.bars {
            all.finish_and_clear();
            let _ = bars.clear();
        }
    }

    fn done(&self) -> f64 {
        let running: f64 = self.running.values().map(|r| r.work * r.share).sum();
        ((self.finished + running) / self.work.max(f64::MIN_POSITIVE)).min(1.0)
    }

    fn left(&self) -> String {
        let (done, spent) = (self.done(), self.began.elapsed().as_secs_f64());
        if done <= 0.0 {
            return "time left unknown".into();
        }
        let left = Duration::from_secs_f64((spent / done - spent).clamp(0.0, 1e9));
        format!(
            "{:.0} % of all, {} left",
            100.0 * done,
            indicatif::HumanDuration(left)
        )
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
