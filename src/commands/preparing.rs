//! What is shown while data are prepared: a bar on a terminal, lines elsewhere.
use crate::{
    data::prepare::{Progress, Step},
    say,
};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often a line is written where there is no bar.
const LINES: Duration = Duration::from_secs(15);

/// Shows the steps of a preparation.
pub(super) struct Preparing {
    quiet: bool,
    /// Steps that took less are not spoken of.
    least: Duration,
    bar: Option<ProgressBar>,
    at: Mutex<Option<At>>,
}

/// The step at work.
struct At {
    step: Step,
    name: String,
    began: Instant,
    told: Instant,
}

impl Preparing {
    /// Tells of every step that took `least` or longer.
    pub fn new(quiet: bool, least: Duration) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let template =
                "{prefix:30} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
            let bar = ProgressBar::hidden();
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Preparing {
            quiet,
            least,
            bar,
            at: Mutex::new(None),
        }
    }

    /// Hears of progress.
    pub fn watch(&self, progress: &Progress) {
        if self.quiet {
            return;
        }
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = match &mut *at {
            Some(at) if at.step == progress.step && at.name == progress.source => at,
            other => {
                if let Some(bar) = &self.bar {
                    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                    bar.reset();
                    bar.set_length(progress.total);
                    bar.set_prefix(named(progress));
                }
                other.insert(At {
                    step: progress.step,
                    name: progress.source.to_string(),
                    began: now,
                    told: now,
                })
            }
        };
        if let Some(bar) = &self.bar {
            bar.set_position(progress.done);
        }
        let spent = at.began.elapsed();
        let rate = progress.done as f64 / spent.as_secs_f64().max(1e-9);
        if progress.done == progress.total {
            if spent >= self.least {
                let bytes = HumanBytes(progress.total);
                let line = format!(
                    "{}: {bytes} in {:.1} s, {:.1} MB/s",
                    named(progress),
                    spent.as_secs_f64(),
                    rate / 1e6
                );
                match &self.bar {
                    Some(bar) => bar.suspend(|| say::aside(line)),
                    None => say::aside(line),
                }
            }
        } else if self.bar.is_none() && at.told.elapsed() >= LINES {
            at.told = now;
            let left = (progress.total - progress.done) as f64 / rate.max(1.0);
            say::aside(format_args!(
                "{}: {} of {}, {:.1} MB/s, {} left",
                named(progress),
                HumanBytes(progress.done),
                HumanBytes(progress.total),
                rate / 1e6,
                HumanDuration(Duration::from_secs_f64(left))
            ));
        }
    }

    /// The bar away.
    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn named(progress: &Progress) -> String {
    match progress.source {
        "" => progress.step.to_string(),
        source => format!("{source}: {}", progress.step),
    }
}
