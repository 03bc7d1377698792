//! Aggregation: which words are there most often, of English words in a numbered list (common words) and of coded
//! words (frequent words).
use super::Prompt;
use super::subtask::{common_words_template, frequent_words_template};
use crate::evals::draw::Draw;
use crate::evals::words::Words;

/// Words of a list that are asked for.
pub(super) const COMMON: usize = 10;
/// From this length on a list repeats its words more often.
const LONG: usize = 4096;
/// How often a list has its common words and its others, and the same of the solved example, with its words.
struct Repeats {
    common: usize,
    others: usize,
    example: (usize, usize, usize),
}

impl Repeats {
    fn at(length: usize) -> Self {
        if length < LONG {
            return Repeats {
                common: 6,
                others: 1,
                example: (20, 3, 1),
            };
        }
        Repeats {
            common: 30,
            others: 3,
            example: (40, 10, 3),
        }
    }
}

/// The prompt of the common words, at a context of `length` tokens, with `size` different words in its list.
pub(super) fn common_words(stream: &str, length: usize, size: usize, words: &Words) -> Prompt {
    let repeats = Repeats::at(length);
    let (example_words, common, others) = repeats.example;
    let template = common_words_template();
    let mut draw = Draw::new(&format!("{stream}/example"));
    let (example, answer) = list(&mut draw, words, example_words, common, others);
    let example = format!("{}{}", template.around(&example), numbered(&answer));
    let mut draw = Draw::new(&format!("{stream}/list"));
    let (list, answer) = list(&mut draw, words, size, repeats.common, repeats.others);
    Prompt {
        text: format!("{example}\n{}", template.around(&list)),
        expected: answer.into_iter().map(String::from).collect(),
    }
}

/// A numbered list of so many different words, and those that it repeats most.
fn list(
    draw: &mut Draw,
    words: &Words,
    size: usize,
    common: usize,
    others: usize,
) -> (String, Vec<&'static str>) {
    let drawn = draw.sample(words.all().len(), size);
    let drawn: Vec<&str> = drawn.into_iter().map(|i| words.all()[i]).collect();
    let (most, rest) = drawn.split_at(COMMON.min(size));
    let mut all = most.repeat(common);
    all.extend(rest.repeat(others));
    draw.shuffle(&mut all);
    (numbered(&all), most.to_vec())
}

fn numbered(words: &[&str]) -> String {
    let entries = words.iter().enumerate();
    let entries: Vec<String> = entries
        .map(|(i, word)| format!("{}. {word}", i + 1))
        .collect();
    entries.join(" ")
}

/// Letters of a coded word.
const CODED: usize = 6;
/// Words that are asked for: those of ranks 2 to 4; the first is the noise "...".
const ASKED: usize = 3;

/// Different coded words at a context of so many tokens, the noise among them.
fn vocabulary(length: usize) -> usize {
    (length / 50).max(ASKED + 1)
}

/// How often the word of each rank is there among about `size` words: the zeta distribution with exponent 2.
fn counts(length: usize, size: usize) -> Vec<usize> {
    let zeta = std::f64::consts::PI.powi(2) / 6.0;
    let count = |rank: usize| (size as f64 * (rank as f64).powi(-2) / zeta) as usize;
    (1..=vocabulary(length)).map(count).collect()
}

/// Whether the words that are asked for are there more often than all others.
pub(super) fn has_an_answer(length: usize, size: usize) -> bool {
    let counts = counts(length, size);
    counts[ASKED] > counts.get(ASKED + 1).copied().unwrap_or(0)
}

/// The prompt of the frequent words, at a context of `length` tokens, with about `size` words.
pub(super) fn frequent_words(stream: &str, length: usize, size: usize) -> Prompt {
    let mut draw = Draw::new(&format!("{stream}/vocabulary"));
    let mut coded = vec!["...".to_string()];
    while coded.len() < vocabulary(length) {
        let word = draw.letters('a', CODED);
        if !coded.contains(&word) {
            coded.push(word);
        }
    }
    let counts = counts(length, size);
    let repeated = coded.iter().zip(&counts);
    let mut all: Vec<&str> = repeated
        .flat_map(|(word, &count)| std::iter::repeat_n(word.as_str(), count))
        .collect();
    Draw::new(&format!("{stream}/order")).shuffle(&mut all);
    Prompt {
        text: frequent_words_template().around(&all.join(" ")),
        expected: coded[1..=ASKED].to_vec(),
    }
}
