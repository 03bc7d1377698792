//! Cleaning: a document is repaired, then kept or dropped by the first rule that it breaks.
//!
//! The rules and their thresholds are in `rules.toml`, which a study adjusts by name. What is done to a document is
//! a function of it and the rules alone.
mod encoded;
mod language;
mod lines;
mod mojibake;
mod repair;
mod repetition;
mod report;
mod rule;
mod spec;
mod words;

pub use repair::Repairs;
pub use report::CleanReport;
pub use spec::{CleanSpec, Kind, Threshold};

pub(super) use words::is_unspaced;

use super::{Document, Result};
use language::Languages;
use lines::Lines;
use repetition::Repetition;
use rule::{Measure, RULES, Rule};
use words::Words;

/// Changes when the same rules repair or judge a document differently: part of a source's identity.
const VERSION: u32 = 1;

/// Repairs and judges documents as a [`CleanSpec`] says.
#[derive(Debug)]
pub struct Cleaner {
    spec: CleanSpec,
    kind: Kind,
    /// Bytes within which repetition is measured.
    window: Option<usize>,
    /// The rules that are asked, in the order of [`RULES`].
    rules: Vec<(&'static Rule, f64)>,
    languages: Option<Languages>,
}

/// A document after cleaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Cleaned {
    /// The document, repaired, whether it is kept or not.
    pub document: Document,
    /// What repair did.
    pub repairs: Repairs,
    /// Why it is dropped, if it is.
    pub dropped: Option<Breach>,
}

/// The first rule that a document broke.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// The rule's name; `languages` for the language.
    pub rule: &'static str,
    /// What was found, in words: the value and the threshold.
    pub found: String,
}

impl Cleaner {
    /// # Errors
    /// When a language is not known.
    pub fn new(spec: &CleanSpec) -> Result<Self> {
        let set = spec.resolve();
        let rules = RULES.iter().filter_map(|rule| {
            let threshold = set.thresholds.get(rule.name)?;
            Some((rule, *threshold))
        });
        Ok(Self {
            spec: spec.clone(),
            kind: set.kind,
            window: set.window,
            rules: rules.collect(),
            languages: Languages::new(spec)?,
        })
    }

    /// Whether the rules are those of prose or of code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// All that a document's result depends on besides the document, as a text to be hashed.
    pub fn identity(&self) -> String {
        let rules: Vec<String> = self
            .rules
            .iter()
            .map(|(rule, threshold)| format!("{} = {threshold}", rule.name))
            .collect();
        format!(
            "clean {VERSION} {:?} {:?} {} {:?}",
            self.kind,
            self.window,
            rules.join(", "),
            self.languages
        )
    }

    /// Repairs a document and judges it.
    pub fn clean(&self, document: Document) -> Cleaned {
        if self.spec.is_none() {
            return Cleaned {
                document,
                repairs: Repairs::default(),
                dropped: None,
            };
        }
        let Document { id, text } = document;
        let (text, repairs) = repair::repair(text, self.kind);
        let dropped = self.breach(&text);
        Cleaned {
            document: Document { id, text },
            repairs,
            dropped,
        }
    }

    /// The first rule that a repaired text breaks.
    fn breach(&self, text: &str) -> Option<Breach> {
        if let Some(breach) = self.languages.as_ref().and_then(|l| l.breach(text)) {
            return Some(breach);
        }
        let asks = |group: fn(&Measure) -> bool| self.rules.iter().any(|(r, _)| group(&r.measure));
        let lines = asks(|m| matches!(m, Measure::Lines(_))).then(|| Lines::of(text));
        if let Some(lines) = &lines {
            let broken = self.first(|m| match m {
                Measure::Lines(f) => f(lines),
                _ => None,
            });
            if broken.is_some() {
                return broken;
            }
        }
        let encoded = self.first(|m| match m {
            Measure::Text(f) => f(text),
            _ => None,
        });
        if encoded.is_some() {
            return encoded;
        }
        if !asks(|m| matches!(m, Measure::Words(_) | Measure::Repetition(_))) {
            return None;
        }
        let words = Words::of(text, self.window);
        let broken = self.first(|m| match m {
            Measure::Words(f) => f(&words),
            _ => None,
        });
        if broken.is_some() || !asks(|m| matches!(m, Measure::Repetition(_))) {
            return broken;
        }
        let repetition = Repetition::of(text, &words);
        self.first(|m| match m {
            Measure::Repetition(f) => f(&repetition),
            _ => None,
        })
    }

    /// The first rule whose value `measured` knows and that is broken.
    fn first(&self, measured: impl Fn(&Measure) -> Option<f64>) -> Option<Breach> {
        self.rules.iter().find_map(|(rule, threshold)| {
            let value = measured(&rule.measure)?;
            rule.is_broken(value, *threshold).then(|| Breach {
                rule: rule.name,
                found: format!("{} against {threshold}", rule::shown(value)),
            })
        })
    }
}

#[cfg(test)]
#[path = "clean_tests.rs"]
mod tests;
