//! English words: the lists of the Python package wonderwords (MIT, see `words/LICENSE`), which RULER draws from.
use super::draw::Draw;
use std::collections::BTreeSet;

const NOUNS: &str = include_str!("words/nouns.txt");
const ADJECTIVES: &str = include_str!("words/adjectives.txt");
const VERBS: &str = include_str!("words/verbs.txt");

/// The words of lists, sorted, each once.
fn distinct(lists: &[&'static str]) -> Vec<&'static str> {
    let words: BTreeSet<&str> = lists.iter().flat_map(|list| list.lines()).collect();
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

/// The lists, each word once.
pub(super) struct Words {
    nouns: Vec<&'static str>,
    adjectives: Vec<&'static str>,
    all: Vec<&'static str>,
}

impl Words {
    pub fn new() -> Self {
        Words {
            nouns: distinct(&[NOUNS]),
            adjectives: distinct(&[ADJECTIVES]),
            all: distinct(&[NOUNS, ADJECTIVES, VERBS]),
        }
    }

    /// Nouns, adjectives and verbs.
    pub fn all(&self) -> &[&'static str] {
        &self.all
    }

    /// An adjective and a noun, such as `quiet-harbor`.
    pub fn pair(&self, draw: &mut Draw) -> String {
        let (adjective, noun) = (draw.one(&self.adjectives), draw.one(&self.nouns));
        format!("{adjective}-{noun}")
    }
}
