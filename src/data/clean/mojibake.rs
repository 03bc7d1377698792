//! UTF-8 that was read as Windows-1252 or Latin-1: `cafÃ©` for `café`, `donâ€™t` for `don’t`.
//!
//! What is put right must be unlikely as text: `Brontë…”` happens to be the bytes of a Korean syllable, and stays. The
//! evidence is looked for in a chain of such sequences and then in its line; single sequences of what can follow a
//! letter in good text stay.
use std::ops::Range;

/// What Windows-1252 makes of the bytes 0x80 to 0x9f; those that it leaves open are Latin-1's controls.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Text is seldom misread more often.
const ROUNDS: usize = 4;

/// What a C1 control was meant as, where Windows-1252 has a character there.
pub(super) fn windows_1252(control: char) -> Option<char> {
    let meant = *WINDOWS_1252.get((control as usize).checked_sub(0x80)?)?;
    (meant != control).then_some(meant)
}

/// The text with misread characters put right, and the bytes that were wrong; None when nothing is.
pub(super) fn fix(text: &str) -> Option<(String, usize)> {
    let mut fixed: Option<(String, usize)> = None;
    for _ in 0..ROUNDS {
        let (text, before) = fixed
            .as_ref()
            .map_or((text, 0), |(text, n)| (text.as_str(), *n));
        let Some((text, wrong)) = fix_once(text) else {
            break;
        };
        fixed = Some((text, before + wrong));
    }
    fixed
}

fn fix_once(text: &str) -> Option<(String, usize)> {
    // Nearly every text is out here: it has no letter from Â to ô with another non-ASCII character behind it.
    next_candidate(text, 0)?;
    let mut out = String::new();
    let (mut wrong, mut copied) = (0, 0);
    let mut from = 0;
    while let Some(candidate) = next_candidate(text, from) {
        let end = text[candidate..]
            .find('\n')
            .map_or(text.len(), |at| candidate + at);
        let start = text[..candidate].rfind('\n').map_or(0, |at| at + 1);
        for Sequence { bytes, meant, .. } in misread(text, start..end) {
            out.push_str(&text[copied..bytes.start]);
            out.push(meant);
            wrong += bytes.len();
            copied = bytes.end;
        }
        from = end;
    }
    (wrong > 0).then(|| {
        out.push_str(&text[copied..]);
        (out, wrong)
    })
}

/// The next letter from Â to ô that has a non-ASCII character behind it.
fn next_candidate(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    (from..bytes.len().saturating_sub(2)).find(|&at| {
        bytes[at] == 0xc3 && (0x82..=0xb4).contains(&bytes[at + 1]) && bytes[at + 2] >= 0x80
    })
}

/// Characters that together are the UTF-8 of another one.
#[derive(Debug)]
struct Sequence {
    bytes: Range<usize>,
    lead: char,
    meant: char,
}

/// The sequences of a line that are to be put right.
fn misread(text: &str, line: Range<usize>) -> Vec<Sequence> {
    let mut chains: Vec<(Vec<Sequence>, bool)> = Vec::new();
    let mut at = line.start;
    while let Some(candidate) = next_candidate(&text[..line.end], at) {
        let mut chain = Vec::new();
        let mut evident = false;
        at = candidate;
        while let Some(sequence) = Sequence::at(&text[..line.end], at) {
            at = sequence.bytes.end;
            evident |= sequence.is_evident(text);
            chain.push(sequence);
        }
        if chain.is_empty() {
            at = candidate + 2;
            continue;
        }
        let unusual = chain.iter().any(|s| !s.is_usual(text));
        let evident = evident || chain.len() >= 3 || chain.len() == 2 && unusual;
        chains.push((chain, evident));
    }
    // Who misread one letter of a line misread the others that begin with the same byte.
    let leads: Vec<char> = chains
        .iter()
        .filter(|(_, evident)| *evident)
        .flat_map(|(chain, _)| chain.iter().map(|s| s.lead))
        .collect();
    let wrong = |(chain, evident): &(Vec<Sequence>, bool)| {
        *evident || chain.iter().all(|s| leads.contains(&s.lead))
    };
    let wrong = chains.into_iter().filter(wrong);
    wrong.flat_map(|(chain, _)| chain).collect()
}

impl Sequence {
    /// The sequence that begins at a byte of the text, if one does.
    fn at(text: &str, at: usize) -> Option<Self> {
        let mut chars = text[at..].chars();
        let lead = chars.next()?;
        let first = u8::try_from(lead as u32).ok()?;
        let length = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return None,
        };
        let mut meant = [first, 0, 0, 0];
        let mut end = at + lead.len_utf8();
        for byte in &mut meant[1..length] {
            let c = chars.next()?;
            *byte = byte_of(c).filter(|b| (0x80..=0xbf).contains(b))?;
            end += c.len_utf8();
        }
        let meant = std::str::from_utf8(&meant[..length]).ok()?.chars().next()?;
        Some(Self {
            bytes: at..end,
            lead,
            meant,
        })
    }

    /// Whether nobody would write this.
    fn is_evident(&self, text: &str) -> bool {
        let after_lead = self.bytes.start + self.lead.len_utf8();
        let Some(second) = text[after_lead..].chars().next() else {
            return false;
        };
        let before = text[..self.bytes.start].chars().next_back();
        let after = text[self.bytes.end..].chars().next();
        let lower_before = before.is_some_and(char::is_lowercase);
        let in_word = lower_before || after.is_some_and(char::is_lowercase);
        let closes = matches!(second, '’' | '”' | '»' | '›' | '…' | '–' | '—' | '·');
        match self.lead {
            // Not in any language's words before a sign, but for those that end in Ã in capitals (IRMÃ…).
            'Â' | 'Ã' => match closes {
                true => lower_before || after.is_some_and(char::is_alphanumeric),
                false => !before.is_some_and(char::is_uppercase) || !self.is_usual(text),
            },
            // A capital behind a small letter, or with a sign between it and a small one; as in 5 Å³ not by itself.
            'Ä'..='ß' => lower_before || in_word && !closes,
            'â' if second == '€' => true,
            _ => self.meant == '\u{feff}' || !self.is_usual(text),
        }
    }

    /// Whether all behind the first letter can follow a letter in good text: quotation marks, dashes, signs.
    fn is_usual(&self, text: &str) -> bool {
        text[self.bytes.clone()].chars().skip(1).all(|c| {
            matches!(
                c,
                '…' | '–'
                    | '—'
                    | '‘'
                    | '’'
                    | '“'
                    | '”'
                    | '‚'
                    | '„'
                    | '‹'
                    | '›'
                    | '«'
                    | '»'
                    | '·'
                    | '°'
                    | '®'
                    | '™'
                    | '©'
                    | '€'
                    | '¡'
                    | '¿'
                    | '\u{a0}'
                    | '¹'
                    | '²'
                    | '³'
                    | 'ª'
                    | 'º'
                    | '§'
            )
        })
    }
}

/// The byte that Windows-1252, or Latin-1, reads as this character, of 0x80 and above.
fn byte_of(c: char) -> Option<u8> {
    if let Some(at) = WINDOWS_1252.iter().position(|known| *known == c) {
        return u8::try_from(0x80 + at).ok();
    }
    u8::try_from(c as u32).ok().filter(|byte| *byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str) -> String {
        fix(text).map_or(text.to_string(), |(text, _)| text)
    }

    #[test]
    fn every_misreading_of_a_sentence_is_undone() {
        for good in [
            "naïve café – “quoted” isn’t… £5 © 20°",
            "Žluťoučký kůň, łódź, żółć",
            "Съешь ещё этих мягких булок и чай",
            "日本語の文章 and 💡",
            "\u{feff}with a mark",
        ] {
            let mut misread = good.to_string();
            for _ in 0..2 {
                misread = misread
                    .bytes()
                    .map(|b| match b {
                        0x80..=0x9f => WINDOWS_1252[usize::from(b) - 0x80],
                        _ => char::from(b),
                    })
                    .collect();
                assert_eq!(fixed(&misread), good);
            }
        }
    }

    #[test]
    fn good_text_stays() {
        for good in [
            "not such a fan of Charlotte Brontë…”",
            "Ô, IRMÃ… MANHÃ” CAFÉ”, ÉCOUTÉ—elle",
            "a cell of 5 Å³, 3 Å²; the letter “Ã”",
            "AHÅ™, the new sofa from IKEA®",
            "Ça été déjà vu: À «É», «à», l’Île",
            "Größe, Übermaß, Ärger; naïveté",
            "→ ñ² ä³ é° è”",
        ] {
            assert_eq!(fix(good), None, "{good}");
        }
    }
}
