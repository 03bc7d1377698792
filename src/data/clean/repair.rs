//! Unicode repair: misread characters, controls, line ends, invisible characters, normal form C.
use super::{mojibake, spec::Kind};
use icu_normalizer::ComposingNormalizerBorrowed;
use serde::{Deserialize, Serialize};

/// Bytes of a document that repair replaced or took away, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// UTF-8 that was read as another encoding.
    pub mojibake: usize,
    /// Carriage returns and other line ends than `\n`.
    pub line_ends: usize,
    /// Control characters and terminals' escape sequences.
    pub controls: usize,
    /// Byte order marks, zero-width spaces, word joiners, soft hyphens.
    pub invisible: usize,
    /// Characters that were not in Unicode's normal form C.
    pub normalised: usize,
}

impl Repairs {
    /// Bytes by reason, each with its name.
    pub fn by_reason(&self) -> [(&'static str, usize); 5] {
        [
            ("mojibake", self.mojibake),
            ("line_ends", self.line_ends),
            ("controls", self.controls),
            ("invisible", self.invisible),
            ("normalised", self.normalised),
        ]
    }
}

/// Repairs a text. Of code, only the byte order mark and the line ends: its strings and identifiers may hold anything
/// else on purpose.
pub(super) fn repair(text: String, kind: Kind) -> (String, Repairs) {
    let mut repairs = Repairs::default();
    let text = match kind {
        Kind::Code => code(text, &mut repairs),
        Kind::Prose => {
            let text = match mojibake::fix(&text) {
                Some((fixed, bytes)) => {
                    repairs.mojibake = bytes;
                    fixed
                }
                None => text,
            };
            let text = characters(text, &mut repairs);
            normal_form(text, &mut repairs)
        }
    };
    (text, repairs)
}

/// Takes the mark at the beginning away and makes `\r\n` of code `\n`.
fn code(mut text: String, repairs: &mut Repairs) -> String {
    if text.starts_with('\u{feff}') {
        repairs.invisible = '\u{feff}'.len_utf8();
        text.drain(..repairs.invisible);
    }
    if text.contains("\r\n") {
        let before = text.len();
        text = text.replace("\r\n", "\n");
        repairs.line_ends = before - text.len();
    }
    text
}

/// Replaces or takes away single characters.
fn characters(text: String, repairs: &mut Repairs) -> String {
    let Some(first) = first_odd(&text) else {
        return text;
    };
    let (good, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len());
    out.push_str(good);
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = || rest[at + c.len_utf8()..].chars().next();
        match c {
            '\r' => {
                repairs.line_ends += 1;
                if next() != Some('\n') {
                    out.push('\n');
                }
            }
            '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}' => {
                repairs.line_ends += c.len_utf8();
                out.push('\n');
            }
            '\u{1b}' => {
                let length = escape(&rest[at..]);
                repairs.controls += length;
                while chars.next_if(|(next, _)| *next < at + length).is_some() {}
            }
            '\u{80}'..='\u{9f}' => match mojibake::windows_1252(c) {
                Some(meant) => {
                    repairs.mojibake += c.len_utf8();
                    out.push(meant);
                }
                None => repairs.controls += c.len_utf8(),
            },
            _ if is_control(c) => repairs.controls += 1,
            _ if is_invisible(c) => repairs.invisible += c.len_utf8(),
            _ => out.push(c),
        }
    }
    out
}

/// The first character that does not stay.
fn first_odd(text: &str) -> Option<usize> {
    let odd = |c: char| {
        is_control(c)
            || matches!(
                c,
                '\r' | '\u{b}' | '\u{c}' | '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}'
            )
            || is_invisible(c)
    };
    // A control is one byte, all other odd characters begin with one of four: few bytes are looked at twice.
    let begins =
        |b: u8| b < 0x20 && b != b'\n' && b != b'\t' || matches!(b, 0x7f | 0xc2 | 0xe2 | 0xef);
    let bytes = text.bytes().enumerate();
    let mut places = bytes.filter(|(_, b)| begins(*b)).map(|(at, _)| at);
    places.find(|at| text[*at..].chars().next().is_some_and(odd))
}

/// ASCII's controls but for those that end lines and for the tabulator.
fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}')
}

/// What joins or parts words without being seen. The joiners of emoji and of Indic and Arabic script mean something,
/// and stay.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Bytes of the terminal's sequence at the beginning of `text`, or of the escape character alone.
fn escape(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.get(1) != Some(&b'[') {
        return 1;
    }
    let parameters = bytes[2..]
        .iter()
        .take_while(|b| b.is_ascii_digit() || **b == b';')
        .count();
    match bytes.get(2 + parameters) {
        Some(b) if b.is_ascii_alphabetic() => 3 + parameters,
        _ => 1,
    }
}

/// Composes what is not in normal form C.
fn normal_form(text: String, repairs: &mut Repairs) -> String {
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    let (good, rest) = normalizer.split_normalized(&text);
    if rest.is_empty() {
        return text;
    }
    let mut out = good.to_string();
    // ASCII characters compose with what follows alone: the text is cut before each that has non-ASCII behind it.
    let mut rest = rest;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(piece_end(rest));
        let composed = normalizer.normalize(piece);
        if composed != piece {
            repairs.normalised += piece.len();
        }
        out.push_str(&composed);
        rest = behind;
    }
    out
}

/// The end of the first run of non-ASCII characters with the character before it; at least one character.
fn piece_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let ascii = bytes.iter().take_while(|b| b.is_ascii()).count();
    match ascii {
        0 | 1 => ascii + bytes[ascii..].iter().take_while(|b| !b.is_ascii()).count(),
        // What stands before the last ASCII character is a piece by itself.
        _ => ascii - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prose(text: &str) -> (String, Repairs) {
        repair(text.to_string(), Kind::Prose)
    }

    #[test]
    fn characters_are_put_right() {
        for (wrong, right) in [
            (
                "\u{feff}one\r\ntwo\rthree\u{c}four\u{2028}five",
                "one\ntwo\nthree\nfour\nfive",
            ),
            ("a\0b\u{7}c\td\u{7f}", "abc\td"),
            ("\u{1b}[36;44mblue\u{1b}[0m \u{1b}x\u{1b}", "blue x"),
            ("soft\u{ad}ly zero\u{200b}width\u{2060}", "softly zerowidth"),
            (
                "never UTF-8 at all\u{85} \u{93}so\u{94}\u{81}",
                "never UTF-8 at all… “so”",
            ),
            ("e\u{301} u\u{308}ber A\u{30a} \u{2126}", "é über Å Ω"),
            ("cafÃ© donâ€™t", "café don’t"),
            ("👩\u{200d}💻 नमस्\u{200d}ते", "👩\u{200d}💻 नमस्\u{200d}ते"),
        ] {
            assert_eq!(prose(wrong).0, right);
            assert_eq!(
                prose(right),
                (right.to_string(), Repairs::default()),
                "twice is once"
            );
        }
    }

    #[test]
    fn bytes_are_counted_by_reason() {
        let (_, repairs) = prose("\u{feff}a\r\nb\0 cafe\u{301} naÃ¯ve");
        let by_reason = [
            ("mojibake", 4),
            ("line_ends", 1),
            ("controls", 1),
            ("invisible", 3),
            ("normalised", 3),
        ];
        assert_eq!(repairs.by_reason(), by_reason);
    }

    #[test]
    fn pieces_compose_as_the_whole_does() {
        let text = "x\u{301}\u{323}e\u{323}\u{301}가각ᄀ\u{1161}\u{11a8} ascii e\u{301}e\u{301}\u{301}abc\u{327}";
        let whole = ComposingNormalizerBorrowed::new_nfc().normalize(text);
        assert_eq!(prose(text).0, whole);
    }

    #[test]
    fn of_code_nothing_changes_that_could_mean_something() {
        let text = "s = 'e\u{301}\u{200b} cafÃ© \u{ad}\u{c}\r'\n";
        let repaired = repair(
            format!("\u{feff}{}", text.replace('\n', "\r\n")),
            Kind::Code,
        );
        assert_eq!(repaired.0, text);
        assert_eq!((repaired.1.invisible, repaired.1.line_ends), (3, 1));
    }
}
