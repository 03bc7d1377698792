//! Text as words for comparison: what two documents may differ in and still be the same.
//!
//! A word is a run of letters and digits (Unicode's Alphabetic and Numeric), in lower case. All else (punctuation,
//! symbols, white space) only separates words. Scripts without spaces between words (Han, kana, Thai, Lao, Burmese,
//! Khmer) have a word in each character.

/// Words that are handed on at once.
pub(super) const BLOCK: usize = 1024;

/// Hands the hashes of the words of `text` to `each`, `BLOCK` at a time (fewer at the end), and returns the number of
/// words and the first 16 bytes of blake3 of the normalised text: words with one space between them. A text without any
/// word is hashed as it stands, behind a zero byte.
///
/// A word's hash is FNV-1a over its UTF-8 bytes, 64 bits; it is mixed where it is used.
pub(super) fn each_block(text: &str, mut each: impl FnMut(&[u64])) -> (u64, [u8; 16]) {
    let mut words = Words {
        hash: FNV_OFFSET,
        open: false,
        hashes: Vec::with_capacity(BLOCK),
        text: Vec::with_capacity(BLOCK * 8),
        count: 0,
        whole: blake3::Hasher::new(),
    };
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let byte = bytes[i];
        if byte < 128 {
            i += 1;
            match LOWER[byte as usize] {
                0 => words.end(&mut each),
                lower => words.put(lower),
            }
        } else {
            // `i` is always at the beginning of a character.
            let Some(c) = text[i..].chars().next() else {
                break;
            };
            i += c.len_utf8();
            words.character(c, &mut each);
        }
    }
    words.end(&mut each);
    if !words.hashes.is_empty() {
        each(&words.hashes);
    }
    match words.count {
        0 => words.whole.update(b"\0").update(bytes),
        _ => words.whole.update(&words.text),
    };
    let mut key = [0; 16];
    key.copy_from_slice(&words.whole.finalize().as_bytes()[..16]);
    (words.count, key)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// For each ASCII byte, its lower case where it is a letter or a digit, else 0.
const LOWER: [u8; 128] = {
    let mut table = [0; 128];
    let mut i = 0;
    while i < 128 {
        let byte = i as u8;
        if byte.is_ascii_alphanumeric() {
            table[i] = byte.to_ascii_lowercase();
        }
        i += 1;
    }
    table
};

struct Words {
    /// Of the word that is being read.
    hash: u64,
    /// Whether a word is being read.
    open: bool,
    hashes: Vec<u64>,
    /// Normalised text that is not in `whole` yet.
    text: Vec<u8>,
    count: u64,
    whole: blake3::Hasher,
}

impl Words {
    #[inline(always)]
    fn put(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        self.open = true;
        self.text.push(byte);
    }

    #[inline(always)]
    fn end(&mut self, each: &mut impl FnMut(&[u64])) {
        if !self.open {
            return;
        }
        self.hashes.push(self.hash);
        self.text.push(b' ');
        self.count += 1;
        self.hash = FNV_OFFSET;
        self.open = false;
        if self.hashes.len() == BLOCK {
            each(&self.hashes);
            self.hashes.clear();
            self.whole.update(&self.text);
            self.text.clear();
        }
    }

    fn character(&mut self, c: char, each: &mut impl FnMut(&[u64])) {
        if !c.is_alphanumeric() {
            return self.end(each);
        }
        let alone = stands_alone(c);
        if alone {
            self.end(each);
        }
        for lower in c.to_lowercase() {
            let mut utf8 = [0; 4];
            lower
                .encode_utf8(&mut utf8)
                .bytes()
                .for_each(|byte| self.put(byte));
        }
        if alone {
            self.end(each);
        }
    }
}

/// Whether a character is of a script without spaces between words.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'       // Thai, Lao
        | '\u{1000}'..='\u{109f}'     // Burmese
        | '\u{1780}'..='\u{17ff}'     // Khmer
        | '\u{3040}'..='\u{30ff}'     // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'     // Han
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        each_block(text, |block| all.extend_from_slice(block));
        all
    }

    /// The words as the comment of this file says them, by `char` alone.
    fn plainly(text: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for c in text.chars() {
            if !c.is_alphanumeric() {
                words.push(String::new());
            } else if stands_alone(c) {
                words.extend([c.to_string(), String::new()]);
            } else {
                words.last_mut().unwrap().extend(c.to_lowercase());
            }
        }
        words.retain(|w| !w.is_empty());
        words
    }

    #[test]
    fn words_are_what_is_said() {
        for (text, words) in [
            ("Don't  STOP,\n\tnow!", vec!["don", "t", "stop", "now"]),
            ("x_1 = f(y2)", vec!["x", "1", "f", "y2"]),
            ("Größe ÉTÉ Σοφία", vec!["größe", "été", "σοφία"]),
            ("abc漢字かxyz", vec!["abc", "漢", "字", "か", "xyz"]),
            ("— … «»", vec![]),
        ] {
            assert_eq!(plainly(text), words);
            let expected: Vec<u64> = words
                .iter()
                .map(|w| {
                    w.bytes().fold(FNV_OFFSET, |h, b| {
                        (h ^ u64::from(b)).wrapping_mul(FNV_PRIME)
                    })
                })
                .collect();
            assert_eq!(hashes(text), expected, "{text}");
        }
    }

    #[test]
    fn blocks_do_not_show_in_the_key() {
        for count in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let text: String = (0..count).map(|i| format!("Wörd{i}; ")).collect();
            let mut sizes = Vec::new();
            let (words, key) = each_block(&text, |block| sizes.push(block.len()));
            assert_eq!(words as usize, count);
            assert_eq!(sizes.iter().sum::<usize>(), count);
            assert!(sizes.iter().all(|n| (1..=BLOCK).contains(n)));
            let normal = plainly(&text).join(" ") + " ";
            assert_eq!(key, blake3::hash(normal.as_bytes()).as_bytes()[..16]);
        }
    }

    #[test]
    fn texts_without_words_differ_by_their_bytes() {
        let key = |text| each_block(text, |_| {}).1;
        assert_eq!(key("Hello, world"), key("hello world!"));
        assert_ne!(key("hello world"), key("helloworld"));
        assert_ne!(key("---"), key("***"));
        assert_eq!(key("---"), key("---"));
        assert_ne!(key(""), key("\0"));
    }
}
