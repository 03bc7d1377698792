//! How far a preparation is.
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading a source the first time, for its hash. In bytes of its files, as they lie.
    Hash,
    /// Reading and cleaning. In bytes of the files, as they lie.
    Read,
    /// Signing documents and finding duplicates. In bytes of text, as for all that follows.
    Deduplicate,
    /// Going through what is left, against the evaluations' texts if that is asked for.
    Select,
    Tokenise,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Step::Hash => "hash",
            Step::Read => "read and clean",
            Step::Deduplicate => "deduplicate",
            Step::Select => "select",
            Step::Tokenise => "tokenise",
        })
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    pub step: Step,
    /// The source at work; all of them where it is empty.
    pub source: &'a str,
    /// Bytes, at most `total`. They are equal once, when the step is done.
    pub done: u64,
    pub total: u64,
}

/// Hears where a preparation stands.
pub type Watch<'a> = dyn Fn(&Progress) + Sync + 'a;

/// Counts the bytes of one step.
pub(in crate::data) struct Meter<'a> {
    watch: &'a Watch<'a>,
    step: Step,
    source: &'a str,
    total: u64,
    done: AtomicU64,
}

impl<'a> Meter<'a> {
    pub fn start(watch: &'a Watch<'a>, step: Step, source: &'a str, total: u64) -> Self {
        let meter = Meter {
            watch,
            step,
            source,
            total,
            done: AtomicU64::new(0),
        };
        meter.tell(0);
        meter
    }

    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // The end is told by `finish`, once.
        self.tell(done.min(self.total.saturating_sub(1)));
    }

    pub fn finish(&self) {
        self.tell(self.total);
    }

    fn tell(&self, done: u64) {
        (self.watch)(&Progress {
            step: self.step,
            source: self.source,
            done,
            total: self.total,
        });
    }
}
