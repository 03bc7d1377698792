//! The words by which texts are compared.
use crate::data::clean::{Kind, is_unspaced};

/// A word of a text: its bytes, and a hash that is the same for words that count as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub start: usize,
    pub end: usize,
    pub hash: u64,
}

/// Calls `each` with the words of a text, in their order.
///
/// Of prose a word is a run of letters and digits, whatever its case; of code a run of letters, digits and `_`, with
/// its case. In scripts without spaces between words every letter is one.
pub(super) fn each(text: &str, kind: Kind, mut each: impl FnMut(Unit)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (mut end, mut hash) = (at, SEED);
        while let Some(&byte) = bytes.get(end) {
            if byte.is_ascii() {
                if !is_word_byte(byte, kind) {
                    break;
                }
                hash = step(hash, folded_byte(byte, kind));
                end += 1;
                continue;
            }
            let Some(c) = text[end..].chars().next() else {
                break;
            };
            let alone = is_unspaced(c);
            if !c.is_alphanumeric() && !is_mark(c) || alone && end > at {
                break;
            }
            let mut buffer = [0; 4];
            for c in folded(c, kind) {
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    hash = step(hash, byte);
                }
            }
            end += c.len_utf8();
            if alone {
                break;
            }
        }
        if end > at {
            each(Unit {
                start: at,
                end,
                hash: hash ^ (hash >> 32),
            });
            at = end;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// Whether two words count as equal.
pub(super) fn equal(a: &str, b: &str, kind: Kind) -> bool {
    a == b || {
        let fold = |text| str::chars(text).flat_map(|c| folded(c, kind));
        fold(a).eq(fold(b))
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn is_word_byte(byte: u8, kind: Kind) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' && kind == Kind::Code
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

fn folded_byte(byte: u8, kind: Kind) -> u8 {
    match kind {
        Kind::Prose => byte.to_ascii_lowercase(),
        Kind::Code => byte,
    }
}

/// The character as it is compared.
fn folded(c: char, kind: Kind) -> impl Iterator<Item = char> {
    let lower = c.to_lowercase();
    let (same, lower) = match kind {
        Kind::Prose => (None, Some(lower)),
        Kind::Code => (Some(c), None),
    };
    same.into_iter().chain(lower.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, kind: Kind) -> Vec<&str> {
        let mut found = Vec::new();
        each(text, kind, |unit| found.push(&text[unit.start..unit.end]));
        found
    }

    #[test]
    fn words_of_prose_and_of_code() {
        let text = "Don’t x_1 += f(Ärger); 3.5 文字。";
        let prose = ["Don", "t", "x", "1", "f", "Ärger", "3", "5", "文", "字"];
        assert_eq!(words(text, Kind::Prose), prose);
        let code = ["Don", "t", "x_1", "f", "Ärger", "3", "5", "文", "字"];
        assert_eq!(words(text, Kind::Code), code);
        assert!(words(" …\n", Kind::Prose).is_empty());
    }

    #[test]
    fn equal_words_have_equal_hashes() {
        let hashes = |text, kind| {
            let mut found = Vec::new();
            each(text, kind, |unit| found.push(unit.hash));
            found
        };
        assert_eq!(
            hashes("ÄRGER The", Kind::Prose),
            hashes("ärger, the", Kind::Prose)
        );
        assert_ne!(hashes("The", Kind::Code), hashes("the", Kind::Code));
        assert!(equal("ÄRGER", "ärger", Kind::Prose) && !equal("The", "the", Kind::Code));
    }
}
