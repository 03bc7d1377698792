//! The essays of a haystack: words of the task's texts, and where their sentences end.
use crate::data::Document;

/// Words after which a full stop ends no sentence.
const ABBREVIATIONS: [&str; 14] = [
    "mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "rev.", "jr.", "sr.", "vs.", "cf.", "e.g.",
    "i.e.", "no.",
];

/// All texts as one sequence of words.
pub(super) struct Essays {
    words: Vec<String>,
    /// For each word whether a sentence ends with it.
    ends: Vec<bool>,
}

impl Essays {
    /// The texts in their order.
    pub fn new(documents: &[Document]) -> Self {
        let mut essays = Essays {
            words: Vec::new(),
            ends: Vec::new(),
        };
        for document in documents {
            let words: Vec<&str> = document.text.split_whitespace().collect();
            let next = words.iter().skip(1);
            let ends = words
                .iter()
                .zip(next)
                .map(|(word, next)| is_end(word, next));
            essays.ends.extend(ends);
            essays.ends.extend(words.last().map(|_| true));
            essays.words.extend(words.into_iter().map(String::from));
        }
        essays
    }

    /// The sentences of the first `words` words; the texts begin anew where they have fewer.
    pub fn sentences(&self, words: usize) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut sentence = String::new();
        let mut all = self
            .words
            .iter()
            .zip(&self.ends)
            .cycle()
            .take(words)
            .peekable();
        while let Some((word, &ends)) = all.next() {
            if !sentence.is_empty() {
                sentence.push(' ');
            }
            sentence.push_str(word);
            if ends || all.peek().is_none() {
                sentences.push(std::mem::take(&mut sentence));
            }
        }
        sentences
    }
}

/// Whether a sentence ends between two words: after a full stop, question or exclamation mark, where the next word
/// begins as a sentence does.
fn is_end(word: &str, next: &str) -> bool {
    let bare = word.trim_end_matches(['"', '\'', '”', '’', ')', ']']);
    let begins = next.trim_start_matches(['"', '\'', '“', '‘', '(', '[']);
    let stops = bare.ends_with(['.', '?', '!']);
    let new = begins.chars().next().is_some_and(|c| !c.is_lowercase());
    let initial = bare.len() == 2 && bare.starts_with(|c: char| c.is_uppercase());
    let short = ABBREVIATIONS.contains(&bare.trim_start_matches('(').to_lowercase().as_str());
    stops && new && !initial && !short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn essays(text: &str) -> Essays {
        let document = |text: &str| Document {
            id: "essay".into(),
            text: text.into(),
        };
        Essays::new(&[document(text)])
    }

    #[test]
    fn sentences_end_where_a_reader_would_say() {
        let text = "Mr. Hale came\nin. \"Is it late?\" he asked.  \"Yes!\" It was 3.5 p.m. then; J. Smith, \
                    e.g. John, left.\n\nWhat now";
        let words = text.split_whitespace().count();
        assert_eq!(
            essays(text).sentences(words),
            [
                "Mr. Hale came in.",
                "\"Is it late?\" he asked.",
                "\"Yes!\"",
                "It was 3.5 p.m. then; J. Smith, e.g. John, left.",
                "What now",
            ]
        );
    }

    #[test]
    fn a_haystack_longer_than_the_texts_begins_them_anew() {
        let essays = essays("One two. Three four");
        assert_eq!(essays.sentences(3), ["One two.", "Three"]);
        assert_eq!(essays.sentences(6), ["One two.", "Three four", "One two."]);
        assert!(essays.sentences(0).is_empty());
    }
}
