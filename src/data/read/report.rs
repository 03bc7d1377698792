//! What reading found and what it left out.
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Why a file, a line or a row gave no document, or not the one that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A file of a folder with a NUL byte in its first 8,000, git's rule.
    Binary,
    /// A file of a folder that says, or whose name says, that a program wrote it.
    Generated,
    /// A JavaScript or CSS file of a folder whose lines have more than 110 bytes on average, linguist's rule.
    Minified,
    /// Not UTF-8, and left out.
    InvalidUtf8,
    /// Not UTF-8, and kept with U+FFFD in the place of what is wrong.
    Replaced,
    /// A row whose text is null.
    NoText,
    /// Fewer characters than `min_chars`, or none.
    Short,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Reason::Binary => "left out as binary",
            Reason::Generated => "left out as generated",
            Reason::Minified => "left out as minified",
            Reason::InvalidUtf8 => "left out as no UTF-8",
            Reason::Replaced => "repaired, for they are no UTF-8",
            Reason::NoText => "left out without a text",
            Reason::Short => "left out as too short",
        })
    }
}

/// How many for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub documents: u64,
    pub bytes: u64,
    /// The first ten.
    pub examples: Vec<String>,
}

/// What came of reading a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReport {
    pub files: u64,
    pub documents: u64,
    /// Bytes of the documents' texts.
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<Reason, Found>,
}

/// Examples that are kept of each reason.
const EXAMPLES: usize = 10;

impl ReadReport {
    pub(super) fn note(&mut self, reason: Reason, id: &str, bytes: usize) {
        let found = self.left_out.entry(reason).or_default();
        found.documents += 1;
        found.bytes += bytes as u64;
        if found.examples.len() < EXAMPLES {
            found.examples.push(id.to_string());
        }
    }

    /// One line for each reason that a person should hear of.
    pub(in crate::data) fn warn(&self, source: &str) {
        for (reason, found) in &self.left_out {
            let n = found.documents;
            let dots = if n > EXAMPLES as u64 { ", ..." } else { "" };
            let line = format!(
                "data source {source:?}: {n} {reason}: {}{dots}",
                found.examples.join(", ")
            );
            match reason {
                // What a folder is expected to hold beside its texts.
                Reason::Binary | Reason::Generated | Reason::Minified | Reason::Short => {
                    log::info!("{line}");
                }
                Reason::InvalidUtf8 | Reason::Replaced | Reason::NoText => log::warn!("{line}"),
            }
        }
    }
}
