//! How much of a text it says again: lines, paragraphs and n-grams of words (Gopher, table A1).
//!
//! The definitions are those of datatrove's filters. Shares are of sums over the windows.
use super::words::{Token, Words};
use rustc_hash::{FxHashMap, FxHashSet};

/// The longest n-gram.
const LONGEST: usize = 10;

/// Elements that were there before.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    elements: usize,
    repeated: usize,
    chars: usize,
    repeated_chars: usize,
}

impl Repeats {
    /// Share of the elements that were there before.
    pub fn count_share(&self) -> Option<f64> {
        (self.elements > 0).then(|| self.repeated as f64 / self.elements as f64)
    }

    /// Share of the text's characters in elements that were there before.
    pub fn char_share(&self) -> Option<f64> {
        (self.chars > 0).then(|| self.repeated_chars as f64 / self.chars as f64)
    }

    fn add<'a>(&mut self, elements: impl Iterator<Item = &'a str>, chars: usize) {
        let mut seen = FxHashSet::default();
        self.chars += chars;
        for element in elements {
            self.elements += 1;
            if !seen.insert(element) {
                self.repeated += 1;
                self.repeated_chars += element.chars().count();
            }
        }
    }
}

/// Repetition in a text.
#[derive(Debug, Default)]
pub(super) struct Repetition {
    pub paragraphs: Repeats,
    pub lines: Repeats,
    /// Lines that are not blank; their share is of the characters without line ends.
    pub filled_lines: Repeats,
    chars: usize,
    /// Characters of the most frequent n-gram and of repeated n-grams, by n.
    top: [usize; LONGEST + 1],
    duplicate: [usize; LONGEST + 1],
}

impl Repetition {
    pub fn of(text: &str, words: &Words) -> Self {
        let mut found = Self::default();
        for window in &words.windows {
            let text = &text[window.text.clone()];
            let chars = text.chars().count();
            let newlines = text.bytes().filter(|b| *b == b'\n').count();
            found.chars += chars;
            found.paragraphs.add(runs(text.trim(), 2), chars);
            found.lines.add(runs(text, 1), chars);
            let filled = text.split('\n').filter(|line| !line.trim().is_empty());
            found.filled_lines.add(filled, chars - newlines);
            found.grams(&words.tokens[window.tokens.clone()]);
        }
        found
    }

    /// Share of the characters that the most frequent n-gram has, with a space between its words.
    pub fn top_gram(&self, n: usize) -> Option<f64> {
        (self.chars > 0).then(|| self.top[n] as f64 / self.chars as f64)
    }

    /// Share of the characters in n-grams that were there before.
    pub fn duplicate_grams(&self, n: usize) -> Option<f64> {
        (self.chars > 0).then(|| self.duplicate[n] as f64 / self.chars as f64)
    }

    /// Adds the n-grams of one window.
    ///
    /// Of an n-gram that is there twice both halves of n - 1 words are: only where these are, the longer ones are
    /// looked up at all. Most of a text is out after three words.
    fn grams(&mut self, tokens: &[Token]) {
        let mut places: Vec<(usize, u64)> = tokens
            .iter()
            .enumerate()
            .map(|(i, t)| (i, t.hash))
            .collect();
        for n in 2..=LONGEST {
            places.retain_mut(|(at, hash)| match tokens.get(*at + n - 1) {
                Some(next) => {
                    *hash = mix(*hash, next.hash);
                    true
                }
                None => false,
            });
            let mut counts: FxHashMap<u64, u32> = FxHashMap::default();
            counts.reserve(places.len());
            for (_, hash) in &places {
                *counts.entry(*hash).or_default() += 1;
            }
            places.retain(|(_, hash)| counts[hash] > 1);
            if tokens.len() >= n {
                let mut most = (1, 0);
                for (at, hash) in &places {
                    // The first of the most frequent.
                    if counts[hash] > most.0 {
                        most = (counts[hash], *at);
                    }
                }
                let length = chars(&tokens[most.1..most.1 + n]) + n - 1;
                self.top[n] += most.0 as usize * length;
            }
            self.duplicate[n] += duplicates(&places, tokens, n);
        }
    }
}

/// Characters of the n-grams that were there before, from left to right, none counted twice.
fn duplicates(places: &[(usize, u64)], tokens: &[Token], n: usize) -> usize {
    let mut seen = FxHashSet::default();
    let (mut repeated, mut free) = (0, 0);
    for (at, hash) in places {
        if *at >= free && !seen.insert(hash) {
            repeated += chars(&tokens[*at..at + n]);
            free = at + n;
        }
    }
    repeated
}

fn chars(tokens: &[Token]) -> usize {
    tokens.iter().map(|t| t.chars as usize).sum()
}

/// The hash of an n-gram from that of its beginning and its last word's: both halves of a 128-bit product.
fn mix(before: u64, word: u64) -> u64 {
    let product =
        u128::from(before ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xd1b5_4a32_d192_ed03);
    product as u64 ^ (product >> 64) as u64
}

/// What stands between runs of at least `least` line ends, as Python's `re.split` gives it.
fn runs(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        while let Some(at) = text[from..].find('\n').map(|at| from + at) {
            let length = text[at..].bytes().take_while(|b| *b == b'\n').count();
            if length >= least {
                rest = Some(&text[at + length..]);
                return Some(&text[..at]);
            }
            from = at + length;
        }
        rest = None;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// Table A1 as datatrove computes it, with strings.
    fn slow(words: &[&str], n: usize) -> (usize, usize) {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for (i, gram) in words.windows(n).enumerate() {
            counts.entry(gram.join(" ")).or_insert((0, i)).0 += 1;
        }
        let top = counts
            .iter()
            .max_by_key(|(_, (count, first))| (*count, std::cmp::Reverse(*first)))
            .map_or(0, |(gram, (count, _))| gram.chars().count() * count);
        let (mut seen, mut at, mut duplicate) = (HashSet::new(), 0, 0);
        while at + n <= words.len() {
            let gram = words[at..at + n].concat();
            if seen.contains(&gram) {
                duplicate += gram.chars().count();
                at += n;
            } else {
                seen.insert(gram);
                at += 1;
            }
        }
        (top, duplicate)
    }

    #[test]
    fn grams_are_those_of_the_definition() {
        // Words of a small vocabulary, by a linear congruence: n-grams of all lengths repeat.
        let vocabulary = ["a", "bb", "ccc", "dé", "e"];
        for (modulus, length) in [(2, 60), (3, 200), (5, 400), (5, 9), (5, 1)] {
            let mut state = 7u64;
            let words: Vec<&str> = (0..length)
                .map(|_| {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    vocabulary[(state >> 33) as usize % modulus]
                })
                .collect();
            let text = words.join(" ");
            let found = Repetition::of(&text, &Words::of(&text, None));
            for n in 2..=LONGEST {
                let (top, duplicate) = slow(&words, n);
                assert_eq!(
                    (found.top[n], found.duplicate[n]),
                    (top, duplicate),
                    "{n} of {words:?}"
                );
            }
        }
    }

    #[test]
    fn lines_and_paragraphs_are_split_as_python_does() {
        let split = |text, least| runs(text, least).collect::<Vec<_>>();
        assert_eq!(split("a\n\nb\nc\n", 1), ["a", "b", "c", ""]);
        assert_eq!(split("a\n\n\nb\nc", 2), ["a", "b\nc"]);
        assert_eq!(split("\nx", 1), ["", "x"]);
        assert_eq!(split("", 1), [""]);
        let text = "one\n\ntwo\none\n\ntwo\none";
        let found = Repetition::of(text, &Words::of(text, None));
        assert_eq!(found.lines.count_share(), Some(3.0 / 5.0));
        assert_eq!(found.lines.char_share(), Some(9.0 / 21.0));
        assert_eq!(found.paragraphs.count_share(), Some(1.0 / 3.0));
        assert_eq!(found.filled_lines.char_share(), Some(9.0 / 15.0));
    }

    #[test]
    fn windows_keep_a_long_text_from_repeating_itself() {
        let page: String = (0..2000).map(|i| format!("w{i} ")).collect();
        let text = format!("{page}\n{page}\n");
        let whole = Repetition::of(&text, &Words::of(&text, None));
        assert!(whole.duplicate_grams(10) > Some(0.4));
        let parts = Repetition::of(&text, &Words::of(&text, Some(page.len() + 1)));
        assert_eq!(parts.duplicate_grams(10), Some(0.0));
        assert_eq!(parts.lines.count_share(), Some(0.0));
    }
}
