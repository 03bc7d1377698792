//! A text's words, and what is measured of them.
use super::lines::is_terminal;
use rustc_hash::FxHasher;
use std::{hash::Hasher, ops::Range};

/// Gopher's stop words.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// A word, or a sign: a run of one character that is neither letter nor digit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub hash: u64,
    /// Length in characters.
    pub chars: u32,
}

/// A part of the text within which repetition is measured.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub text: Range<usize>,
    pub tokens: Range<usize>,
}

/// The words and signs of a text, and counts over them.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub tokens: Vec<Token>,
    pub windows: Vec<Window>,
    /// Tokens with a letter or digit, and their characters.
    pub words: usize,
    pub word_chars: usize,
    /// Tokens with a letter.
    pub alphabetic: usize,
    /// `#`; `...` and `…`; line ends.
    pub hashes: usize,
    pub ellipses: usize,
    pub newlines: usize,
    /// Full stops and the like behind which no word goes on.
    pub sentence_ends: usize,
    /// A bit for each stop word that is there.
    stops: u8,
    /// Letters, and of these the ones of scripts that set no spaces between words.
    letters: usize,
    unspaced: usize,
}

impl Words {
    /// Reads a text, in windows of about `window` bytes or as one.
    ///
    /// A word is a run of letters, digits, `_` and combining marks; an apostrophe between two of these belongs to it.
    pub fn of(text: &str, window: Option<usize>) -> Self {
        let mut words = Self::default();
        for range in cut(text, window) {
            let first = words.tokens.len();
            words.read(&text[range.clone()]);
            let tokens = first..words.tokens.len();
            words.windows.push(Window {
                text: range,
                tokens,
            });
        }
        words
    }

    /// Words and signs.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// How many of the eight stop words are there.
    pub fn stop_words(&self) -> u32 {
        self.stops.count_ones()
    }

    /// `part / whole`, where there is a whole.
    pub fn share(&self, part: usize, whole: usize) -> Option<f64> {
        (whole > 0).then(|| part as f64 / whole as f64)
    }

    /// The value, but for texts most of whose letters are of scripts without spaces between words: the rules about
    /// words say nothing about those.
    pub fn if_spaced(&self, value: Option<f64>) -> Option<f64> {
        value.filter(|_| 2 * self.unspaced <= self.letters)
    }

    fn read(&mut self, text: &str) {
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            if c.is_whitespace() {
                self.newlines += usize::from(c == '\n');
                at += c.len_utf8();
            } else if in_word(c) {
                at += self.word(&text[at..]);
            } else {
                at += self.sign(&text[at..], c);
            }
        }
    }

    /// Takes the word at the beginning of `text`; its length in bytes.
    fn word(&mut self, text: &str) -> usize {
        let (mut end, mut chars, mut letters, mut digits) = (0, 0, 0, 0);
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if !in_word(c) {
                let apostrophe = matches!(c, '\'' | '’');
                if !apostrophe || !rest.clone().next().is_some_and(in_word) {
                    break;
                }
            }
            end += c.len_utf8();
            chars += 1;
            if c.is_alphabetic() {
                letters += 1;
                self.unspaced += usize::from(is_unspaced(c));
            } else {
                digits += usize::from(c.is_numeric());
            }
        }
        let word = &text[..end];
        self.letters += letters;
        self.alphabetic += usize::from(letters > 0);
        if letters + digits > 0 {
            self.words += 1;
            self.word_chars += chars;
        }
        if let Some(i) = STOP_WORDS.iter().position(|stop| *stop == word) {
            self.stops |= 1 << i;
        }
        self.push(word, chars);
        end
    }

    /// Takes the run of `c` at the beginning of `text`; its length in bytes.
    fn sign(&mut self, text: &str, c: char) -> usize {
        let chars = text.chars().take_while(|next| *next == c).count();
        match c {
            '#' => self.hashes += chars,
            '.' => self.ellipses += chars / 3,
            '…' => self.ellipses += chars,
            _ => {}
        }
        let end = chars * c.len_utf8();
        if is_terminal(c)
            && !text[end..]
                .chars()
                .next()
                .is_some_and(char::is_alphanumeric)
        {
            self.sentence_ends += 1;
        }
        self.push(&text[..end], chars);
        end
    }

    fn push(&mut self, token: &str, chars: usize) {
        let mut hasher = FxHasher::default();
        hasher.write(token.as_bytes());
        self.tokens.push(Token {
            hash: hasher.finish(),
            chars: u32::try_from(chars).unwrap_or(u32::MAX),
        });
    }
}

fn in_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}')
}

/// Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese.
pub(in crate::data) fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Cuts a text into parts of about equal length and at most `window` bytes: behind a line, else behind a space, else
/// anywhere.
fn cut(text: &str, window: Option<usize>) -> Vec<Range<usize>> {
    let window = window.unwrap_or(usize::MAX).max(1);
    let parts = text.len().div_ceil(window).max(1);
    let length = text.len().div_ceil(parts).max(1);
    let mut ranges = Vec::with_capacity(parts);
    let mut from = 0;
    while text.len() - from > length {
        let last = boundary_before(text, from + length);
        let half = boundary_before(text, from + length / 2);
        let piece = &text[half..last];
        let to = match piece.rfind('\n').or_else(|| piece.rfind(' ')) {
            Some(at) => half + at + 1,
            None if last > from => last,
            None => from + text[from..].chars().next().map_or(1, char::len_utf8),
        };
        ranges.push(from..to);
        from = to;
    }
    ranges.push(from..text.len());
    ranges
}

/// The last character boundary at or before a byte of the text.
pub(super) fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_signs() {
        let text = "Don't stop -- the \"na\u{ef}ve\" x_1 = 3... of…\n## it's' 42";
        let words = Words::of(text, None);
        // Don't stop -- the " naïve " x_1 = 3 ... of … ## it's ' 42
        assert_eq!(words.tokens(), 17);
        assert_eq!((words.words, words.alphabetic), (9, 7));
        assert_eq!(words.word_chars, 5 + 4 + 3 + 5 + 3 + 1 + 2 + 4 + 2);
        assert_eq!((words.hashes, words.ellipses, words.newlines), (2, 2, 1));
        assert_eq!((words.sentence_ends, words.stop_words()), (1, 2));
    }

    #[test]
    fn rules_about_words_are_not_asked_of_chinese() {
        let chinese = Words::of("这是一个没有空格的句子。The end.", None);
        assert_eq!(chinese.if_spaced(Some(1.0)), None);
        let english = Words::of("A sentence, with one word 中文 in it.", None);
        assert_eq!(english.if_spaced(Some(1.0)), Some(1.0));
    }

    #[test]
    fn windows_cover_the_text_and_end_with_lines() {
        let text = "One line of the text – as it stands.\n".repeat(100);
        let ranges = cut(&text, Some(1000));
        assert!(ranges.len() >= 4);
        assert!(
            ranges
                .iter()
                .all(|r| r.len() <= 1000 && text[r.clone()].ends_with('\n'))
        );
        assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(
            (ranges[0].start, ranges[ranges.len() - 1].end),
            (0, text.len())
        );
        for hard in ["ä".repeat(333), "💡".repeat(5)] {
            let ranges = cut(&hard, Some(3));
            assert!(ranges.iter().all(|r| hard.is_char_boundary(r.end)));
            assert_eq!(ranges.last().unwrap().end, hard.len());
        }
        assert_eq!(cut("", Some(9)), vec![0..0; 1]);
    }
}
