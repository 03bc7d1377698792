//! What an evaluation takes, said before it begins, and how far it is.
use crate::{
    evals::{Estimate, Progress, Record, Suite, SuiteSpec},
    experiment::ReadingSpeed,
    model::Decoder,
    ops::Env,
    say,
};
use anyhow::Result;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Tokens on which the speed is measured.
const MEASURED: usize = 512;
/// Steps of the bar.
const STEPS: u64 = 10_000;

/// Says what an evaluation takes, and how far it is, by the work of its tasks.
pub(super) struct Meter {
    /// Seconds of an item, estimated, by task.
    item_seconds: BTreeMap<String, f64>,
    known: BTreeSet<String>,
    done: f64,
    total: f64,
    began: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Meter {
    /// Measures the model's speed and says what is to be done and how long that takes.
    pub fn new(
        env: &Env,
        model: &Decoder,
        spec: &SuiteSpec,
        suite: &Suite,
        finished: &[Record],
        known: &BTreeSet<String>,
        quiet: bool,
    ) -> Result<Self> {
        let finished: BTreeSet<&str> = finished.iter().map(|r| r.item.as_str()).collect();
        let (mut items, mut left, mut from_cache) = (0, 0, 0);
        let mut work = Vec::new();
        for (task, said) in suite.tasks().iter().zip(&spec.task) {
            let names = task.items();
            let open: Vec<&String> = names
                .iter()
                .filter(|i| !finished.contains(i.as_str()))
                .collect();
            let cached = open.iter().filter(|item| known.contains(**item)).count();
            items += names.len();
            left += open.len() - cached;
            from_cache += cached;
            let share = (open.len() - cached) as f64 / names.len().max(1) as f64;
            let whole = task.estimate();
            let part = |tokens: usize| (tokens as f64 * share) as usize;
            let estimate = Estimate {
                prefill: part(whole.prefill),
                generated: part(whole.generated),
            };
            work.push((
                task.name(),
                estimate,
                said.kind().longest(),
                open.len() - cached,
            ));
        }
        let speed = match left > 0 && !quiet {
            true => {
                let vocab = model.config.vocab_size;
                let ids: Vec<u32> = (0..MEASURED).map(|i| (i * 7 % vocab) as u32).collect();
                Some(ReadingSpeed::measure(env, model, &ids)?)
            }
            false => None,
        };
        let seconds = |estimate: Estimate, longest: usize| {
            speed.map_or(0.0, |speed| speed.seconds(&model.config, estimate, longest))
        };
        let of_item = |&(task, estimate, longest, n): &(&str, Estimate, usize, usize)| {
            (
                task.to_string(),
                seconds(estimate, longest) / n.max(1) as f64,
            )
        };
        let total = work
            .iter()
            .map(|&(_, estimate, longest, _)| seconds(estimate, longest))
            .sum();
        if !quiet {
            let mut all = Estimate::default();
            work.iter().for_each(|&(_, estimate, _, _)| all += estimate);
            say::aside(format_args!(
                "{} items: {} scored before, {from_cache} from the cache, {left} to be scored: {} tokens to read, {} to \
                 generate at most; about {}",
                items,
                items - left - from_cache,
                HumanCount(all.prefill as u64),
                HumanCount(all.generated as u64),
                HumanDuration(Duration::from_secs_f64(total)),
            ));
        }
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(STEPS);
            let style =
                ProgressStyle::with_template("{msg:40} {wide_bar} {percent:>3} % {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Ok(Meter {
            item_seconds: work.iter().map(of_item).collect(),
            known: known.clone(),
            done: 0.0,
            total,
            began: Instant::now(),
            said: Instant::now(),
            bar,
            quiet,
        })
    }

    /// Some items are scored.
    pub fn tell(&mut self, new: &[Record], progress: Progress) {
        let made = new
            .iter()
            .filter(|record| !self.known.contains(&record.item))
            .count();
        let of_item = self.item_seconds.get(progress.task).copied().unwrap_or(0.0);
        self.done += made as f64 * of_item;
        let share = (self.done / self.total.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let line = format!("{} {}/{}", progress.task, progress.done, progress.items);
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.set_position((share * STEPS as f64) as u64);
            }
            None if !self.quiet && share > 0.0 && self.said.elapsed() > Duration::from_secs(15) => {
                let spent = self.began.elapsed().as_secs_f64();
                let left = Duration::from_secs_f64((spent / share - spent).clamp(0.0, 1e9));
                say::aside(format_args!(
                    "{line}, {:.0} % of the work, {} left",
                    100.0 * share,
                    HumanDuration(left)
                ));
                self.said = Instant::now();
            }
            None => {}
        }
    }

    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
