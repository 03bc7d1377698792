//! The rules that a document can break: their names, and what each measures.
use super::{encoded, lines::Lines, repetition::Repetition, words::Words};

/// What a rule measures; None where the question makes no sense, which breaks no rule.
pub(super) enum Measure {
    Lines(fn(&Lines) -> Option<f64>),
    Text(fn(&str) -> Option<f64>),
    Words(fn(&Words) -> Option<f64>),
    Repetition(fn(&Repetition) -> Option<f64>),
}

/// A rule: the document is dropped when a `min_` rule's value is less, or a `max_` rule's is more, than its threshold.
pub(super) struct Rule {
    pub name: &'static str,
    pub measure: Measure,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Rule {
    pub fn is_broken(&self, value: f64, threshold: f64) -> bool {
        match self.name.starts_with("min_") {
            true => value < threshold,
            false => value > threshold,
        }
    }
}

/// A value with at most three decimals.
pub(super) fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    match text.split_once('.') {
        Some((whole, "000")) => whole.to_string(),
        _ => text,
    }
}

use Measure::{Lines as L, Repetition as R, Text as T, Words as W};

const fn rule(name: &'static str, measure: Measure) -> Rule {
    Rule { name, measure }
}

/// All rules, in the order in which they are asked: what costs little comes first.
pub(super) const RULES: &[Rule] = &[
    // Characters of the longest line, and of all lines on the mean (bigcode-dataset).
    rule("max_line_length", L(|l| Some(l.longest as f64))),
    rule(
        "max_mean_line_length",
        L(|l| l.share(l.line_chars, l.lines)),
    ),
    // Share of the characters that stand in lines of more than 400.
    rule(
        "max_long_line_share",
        L(|l| l.share(l.long_line_chars, l.line_chars)),
    ),
    // Share of the characters that are letters or digits, and letters alone (bigcode-dataset).
    rule(
        "min_alphanumeric_share",
        L(|l| l.share(l.alphanumeric, l.chars)),
    ),
    rule(
        "min_alphabetic_share",
        L(|l| l.share(l.alphabetic, l.chars)),
    ),
    // Of the first five lines, those that say that the file is generated (CodeParrot's rule and words).
    rule(
        "max_generated_markers",
        L(|l| Some(l.generated_markers as f64)),
    ),
    // `<?xml version=` among the first 100 characters (bigcode-dataset's filter_xml).
    rule(
        "max_xml_declarations",
        L(|l| Some(l.xml_declarations as f64)),
    ),
    // Of all lines, those that begin with a bullet, and end with an ellipsis (Gopher).
    rule("max_bullet_line_share", L(|l| l.share(l.bullets, l.lines))),
    rule(
        "max_ellipsis_line_share",
        L(|l| l.share(l.ellipses, l.lines)),
    ),
    // Of the lines that are not blank, those that end with a sentence's end, and those of at most 30 characters
    // (FineWeb).
    rule(
        "min_punctuated_line_share",
        L(|l| l.share(l.punctuated, l.filled)),
    ),
    rule("max_short_line_share", L(|l| l.share(l.short, l.filled))),
    // Share of the bytes that stand in runs of 64 and more as base64 or hexadecimal digits have them (StarCoder2).
    rule("max_encoded_share", T(|text| Some(encoded::share(text)))),
    // Words with a letter or digit in them, and their mean length in characters (Gopher).
    rule("min_words", W(|w| w.if_spaced(Some(w.words as f64)))),
    rule("max_words", W(|w| w.if_spaced(Some(w.words as f64)))),
    rule(
        "min_mean_word_length",
        W(|w| w.if_spaced(w.share(w.word_chars, w.words))),
    ),
    rule(
        "max_mean_word_length",
        W(|w| w.if_spaced(w.share(w.word_chars, w.words))),
    ),
    // `#`, and `...` and `…`, for each word or sign (Gopher).
    rule(
        "max_hashes_per_word",
        W(|w| w.if_spaced(w.share(w.hashes, w.tokens()))),
    ),
    rule(
        "max_ellipses_per_word",
        W(|w| w.if_spaced(w.share(w.ellipses, w.tokens()))),
    ),
    // Of words and signs, those with a letter (Gopher); English stop words, of eight (Gopher).
    rule(
        "min_alphabetic_word_share",
        W(|w| w.if_spaced(w.share(w.alphabetic, w.tokens()))),
    ),
    rule(
        "min_stop_words",
        W(|w| w.if_spaced(Some(w.stop_words() as f64))),
    ),
    // Ends of sentences for each word or sign: FineWeb's question for punctuated lines, however they are wrapped.
    rule(
        "min_sentence_ends_per_word",
        W(|w| w.if_spaced(w.share(w.sentence_ends, w.tokens()))),
    ),
    // Line ends for each word or sign (FineWeb).
    rule(
        "max_newlines_per_word",
        W(|w| w.if_spaced(w.share(w.newlines, w.tokens()))),
    ),
    // Of paragraphs and lines, those that were there before, and their share of the characters (Gopher).
    rule(
        "max_duplicate_paragraph_share",
        R(|r| r.paragraphs.count_share()),
    ),
    rule(
        "max_duplicate_paragraph_char_share",
        R(|r| r.paragraphs.char_share()),
    ),
    rule("max_duplicate_line_share", R(|r| r.lines.count_share())),
    rule("max_duplicate_line_char_share", R(|r| r.lines.char_share())),
    // The same of lines that are not blank, line ends not counted (FineWeb).
    rule(
        "max_repeated_line_char_share",
        R(|r| r.filled_lines.char_share()),
    ),
    // Share of the characters that the most frequent n-gram of words has (Gopher).
    rule("max_top_2_gram_char_share", R(|r| r.top_gram(2))),
    rule("max_top_3_gram_char_share", R(|r| r.top_gram(3))),
    rule("max_top_4_gram_char_share", R(|r| r.top_gram(4))),
    // Share of the characters in n-grams that were there before, none counted twice (Gopher).
    rule(
        "max_duplicate_5_gram_char_share",
        R(|r| r.duplicate_grams(5)),
    ),
    rule(
        "max_duplicate_6_gram_char_share",
        R(|r| r.duplicate_grams(6)),
    ),
    rule(
        "max_duplicate_7_gram_char_share",
        R(|r| r.duplicate_grams(7)),
    ),
    rule(
        "max_duplicate_8_gram_char_share",
        R(|r| r.duplicate_grams(8)),
    ),
    rule(
        "max_duplicate_9_gram_char_share",
        R(|r| r.duplicate_grams(9)),
    ),
    rule(
        "max_duplicate_10_gram_char_share",
        R(|r| r.duplicate_grams(10)),
    ),
];
