//! Decontamination: training documents that hold text of the study's evaluations are dropped, or the text is cut.
//!
//! What is looked for is a run of equal words: 13 of prose, which case, punctuation and white space do not matter to,
//! or 10 of code's identifiers, keywords and numbers. A longer evaluation text must be met by a longer run, a tenth of
//! its words and at most 50: ten identifiers of a problem are the problem, of a file of 5,000 lines they are an idiom.
//! Equality is that of the words, never of their hashes alone; a text in other words is not found, nor claimed to be.
//!
//! What everybody writes is no evidence. An n-gram that stands in more than ten evaluation texts, or in more than ten
//! and one per cent of the training documents, is boilerplate: a licence, a header. An n-gram of few different words
//! is a table, and a run of code of fewer than ten different ones an idiom.
mod decide;
mod index;
mod units;

pub use decide::{Decision, DecontaminateReport, Decontaminated, Decontaminator, Finding};
pub use index::{Index, Overlap};

use super::{Error, Result};
use serde::{Deserialize, Serialize};

/// The `[decontaminate]` table of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecontaminateSpec {
    /// Words of an n-gram of prose.
    pub words: usize,
    /// Identifiers, keywords and numbers of an n-gram of code.
    pub tokens: usize,
    /// What is done with a document.
    pub action: Action,
    /// An n-gram in more evaluation texts than this is boilerplate.
    pub common_items: usize,
    /// An n-gram in a larger share of the training documents is boilerplate, where these are more than ten.
    pub common_share: f64,
}

/// What is done with a document that holds text of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The document is left out.
    Drop,
    /// The lines that hold the text are.
    Cut,
}

impl Default for DecontaminateSpec {
    fn default() -> Self {
        Self {
            words: 13,
            tokens: 10,
            action: Action::Drop,
            common_items: 10,
            common_share: 0.01,
        }
    }
}

impl DecontaminateSpec {
    /// Checks what the table says.
    ///
    /// # Errors
    /// One line with the key and what is wrong.
    pub fn check(&self) -> Result<()> {
        for (key, n) in [("words", self.words), ("tokens", self.tokens)] {
            if !(MIN_GRAM..=index::LONGEST_RUN).contains(&n) {
                return Err(Error::Decontaminate(format!(
                    "`{key}` is {n}; give a number from {MIN_GRAM} (fewer words are everywhere) to {}",
                    index::LONGEST_RUN
                )));
            }
        }
        if !(0.0..=1.0).contains(&self.common_share) {
            return Err(Error::Decontaminate(format!(
                "`common_share` is {}; give a share from 0 to 1",
                self.common_share
            )));
        }
        if self.common_items == 0 {
            return Err(Error::Decontaminate(
                "`common_items` is 0, by which every text is boilerplate; give 1 or more".into(),
            ));
        }
        Ok(())
    }
}

/// Shorter n-grams are no evidence.
const MIN_GRAM: usize = 5;

#[cfg(test)]
#[path = "decontaminate_tests.rs"]
mod tests;
