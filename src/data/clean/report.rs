//! What cleaning did, by rule.
use super::Cleaned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Examples of a rule.
const EXAMPLES: usize = 10;
/// Characters of an excerpt.
const EXCERPT: usize = 120;

/// Documents and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub documents: usize,
    pub bytes: usize,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.documents += 1;
        self.bytes += bytes;
    }
}

/// What a rule dropped, or a repair changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The documents with their bytes; of a repair, the bytes that it changed.
    #[serde(flatten)]
    pub count: Count,
    /// The first ten, in the order of the documents.
    pub examples: Vec<Example>,
}

/// A document as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The document's id.
    pub document: String,
    /// What was found in it.
    pub found: String,
    /// Its beginning.
    pub excerpt: String,
}

/// What cleaning did to the documents of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CleanReport {
    /// All documents, in bytes after repair.
    pub seen: Count,
    pub kept: Count,
    /// What repair changed, by reason.
    pub repaired: BTreeMap<String, Effect>,
    /// What was dropped, by the first rule that it broke.
    pub dropped: BTreeMap<String, Effect>,
}

impl CleanReport {
    /// Adds the next document; the report is that of their order.
    pub fn add(&mut self, cleaned: &Cleaned) {
        let bytes = cleaned.document.text.len();
        self.seen.add(bytes);
        for (reason, changed) in cleaned.repairs.by_reason() {
            if changed > 0 {
                let found = format!("{changed} bytes");
                self.repaired
                    .entry(reason.into())
                    .or_default()
                    .add(cleaned, changed, found);
            }
        }
        match &cleaned.dropped {
            None => self.kept.add(bytes),
            Some(breach) => {
                let effect = self.dropped.entry(breach.rule.into()).or_default();
                effect.add(cleaned, bytes, breach.found.clone());
            }
        }
    }
}

impl Effect {
    fn add(&mut self, cleaned: &Cleaned, bytes: usize, found: String) {
        self.count.add(bytes);
        if self.examples.len() < EXAMPLES {
            self.examples.push(Example {
                document: cleaned.document.id.clone(),
                found,
                excerpt: excerpt(&cleaned.document.text),
            });
        }
    }
}

/// The beginning of a text in one line.
fn excerpt(text: &str) -> String {
    let mut excerpt = String::new();
    let mut words = text.split_whitespace();
    let mut free = EXCERPT;
    while free > 0
        && let Some(word) = words.next()
    {
        let taken: String = word.chars().take(free).collect();
        free = free.saturating_sub(taken.chars().count() + 1);
        if !excerpt.is_empty() {
            excerpt.push(' ');
        }
        excerpt.push_str(&taken);
    }
    excerpt
}
