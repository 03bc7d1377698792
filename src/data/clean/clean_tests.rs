use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;

fn cleaner(toml: &str) -> Cleaner {
    let table: BTreeMap<String, CleanSpec> = toml::from_str(toml).unwrap();
    Cleaner::new(&table["clean"]).unwrap()
}

fn document(text: &str) -> Document {
    Document {
        id: "d".into(),
        text: text.into(),
    }
}

fn broken(cleaner: &Cleaner, text: &str) -> Option<&'static str> {
    cleaner.clean(document(text)).dropped.map(|b| b.rule)
}

/// A cleaner that asks one rule of a set.
fn only(set: &str, rule: &str) -> Cleaner {
    let off = RULES.iter().filter(|r| r.name != rule);
    let off: Vec<String> = off.map(|r| format!("{} = false", r.name)).collect();
    cleaner(&format!(
        "clean = {{ rules = '{set}', {} }}",
        off.join(", ")
    ))
}

/// Words by a linear congruence with a power law, as natural text has it.
struct Words(u64);

impl Words {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 16] = [
            "the", "of", "and", "a", "to", "in", "he", "was", "mar", "ten", "lor", "wick", "is",
            "sen", "ro", "by",
        ];
        // Small numbers are frequent: the product of two evenly drawn ones.
        let number = self.below(90) * self.below(90);
        match number {
            0..16 => SYLLABLES[number as usize].into(),
            _ => format!(
                "{}{}",
                SYLLABLES[number as usize % 16],
                SYLLABLES[number as usize / 16 % 16]
            ),
        }
    }

    fn sentence(&mut self) -> String {
        let n = 4 + self.below(24);
        let words: Vec<String> = (0..n).map(|_| self.word()).collect();
        format!("{}.", words.join(" "))
    }
}

#[test]
fn none_leaves_a_document_as_it_is() {
    let text = "\u{feff}x\r\n\0";
    let cleaned = cleaner("clean = 'none'").clean(document(text));
    assert_eq!(
        (cleaned.document.text.as_str(), cleaned.dropped),
        (text, None)
    );
    let repaired = cleaner("clean = 'repair'").clean(document(text));
    assert_eq!(
        (repaired.document.text.as_str(), repaired.dropped),
        ("x\n", None)
    );
}

#[test]
fn a_novel_of_200_000_words_is_kept() {
    let mut words = Words(1);
    let (mut count, mut novel) = (0, String::new());
    while count < 200_000 {
        if count % 4000 < 20 {
            novel.push_str(&format!("CHAPTER {}\n\n", count / 4000 + 1));
        }
        // Dialogue, with lines that are there hundreds of times.
        if words.below(4) == 0 {
            novel.push_str(
                ["\"Yes.\"\n", "\"No,\" he said.\n", "\"Why?\"\n"][words.below(3) as usize],
            );
            count += 2;
        }
        // Hard-wrapped, so that most lines end amid a sentence.
        let mut width = 0;
        for word in words.sentence().split(' ') {
            novel.push_str(word);
            width += word.len() + 1;
            let end = if width > 60 { '\n' } else { ' ' };
            novel.push(end);
            width *= usize::from(end == ' ');
            count += 1;
        }
        novel.push('\n');
    }
    assert_eq!(broken(&cleaner("clean = 'prose'"), &novel), None);
    assert_eq!(
        broken(&only("gopher", "max_words"), &novel),
        Some("max_words")
    );
    assert!(broken(&cleaner("clean = 'gopher'"), &novel).is_some());
    // In one line, too.
    assert_eq!(
        broken(&cleaner("clean = 'prose'"), &novel.replace('\n', " ")),
        None
    );
}

#[test]
fn a_source_file_of_5_000_lines_is_kept() {
    let mut words = Words(2);
    let mut file = String::from("\"\"\"Tables and what is made of them.\"\"\"\nimport os\n\n");
    // One line that no editor shows whole.
    let table: Vec<String> = (0..3000).map(|_| words.below(1000).to_string()).collect();
    file.push_str(&format!("TABLE = [{}]\n\n", table.join(", ")));
    for i in 0..625 {
        let (name, argument) = (words.word(), words.word());
        file.push_str(&format!(
            "def {name}_{i}({argument}, scale=1.0):\n    \"\"\"Return the {name} of {argument}.\"\"\"\n    total = 0\n    \
             for value in {argument}:\n        total += value * scale\n    return total\n\n\n"
        ));
    }
    assert!(file.lines().count() > 5000);
    assert_eq!(broken(&cleaner("clean = 'code'"), &file), None);
    assert_eq!(
        broken(&cleaner("clean = 'starcoder'"), &file),
        Some("max_line_length")
    );
    let adjusted = cleaner("clean = { rules = 'code', max_line_length = 2000 }");
    assert_eq!(broken(&adjusted, &file), Some("max_line_length"));
}

#[test]
fn what_is_no_text_and_no_code_is_dropped() {
    let prose = cleaner("clean = 'prose'");
    let code = cleaner("clean = 'code'");
    let mut words = Words(3);
    let sentence = words.sentence();
    let menu: Vec<String> = (0..80).map(|_| words.word()).collect();
    let data = "iVBORw0KGgoAAAANSUhEUgAAAAUA".repeat(9);
    let encoded: Vec<String> = (0..20).map(|_| format!("'{data}'")).collect();
    for (cleaner, text, rule) in [
        (&prose, "Too short.".into(), "min_words"),
        (
            &prose,
            format!("{sentence} ").repeat(40),
            "max_top_4_gram_char_share",
        ),
        (&prose, menu.join("\n"), "min_sentence_ends_per_word"),
        (
            &prose,
            "12.5 | 17.0 | 3\n".repeat(60),
            "min_mean_word_length",
        ),
        (
            &code,
            "# This file is automatically generated.\nx = 1\n".into(),
            "max_generated_markers",
        ),
        (
            &code,
            format!("var a={}", "b(c,d);e=f+1;".repeat(90)),
            "max_long_line_share",
        ),
        (
            &code,
            "(((((((x)))))))[]{}<>\n".repeat(5),
            "min_alphanumeric_share",
        ),
        (
            &code,
            "x = 123456, 654321\n".repeat(5),
            "min_alphabetic_share",
        ),
        (&code, encoded.join(",\n"), "max_encoded_share"),
    ] {
        assert_eq!(broken(cleaner, &text), Some(rule), "{text}");
    }
}

#[test]
fn a_report_counts_and_shows_the_first_ten() {
    let cleaner = cleaner("clean = { rules = 'repair', min_words = 3 }");
    let mut report = CleanReport::default();
    for i in 0..12 {
        let text = format!(
            "{}two\r\n\nwords {}",
            if i == 0 { "\u{feff}" } else { "" },
            "x".repeat(200)
        );
        let Document { id, text } = Document {
            id: format!("d{i}"),
            text,
        };
        report.add(&cleaner.clean(Document {
            id,
            text: text.replace("words ", if i % 6 == 5 { "w x " } else { "words" }),
        }));
    }
    assert_eq!((report.seen.documents, report.kept.documents), (12, 2));
    let dropped = &report.dropped["min_words"];
    assert_eq!(
        (dropped.count.documents, dropped.count.bytes),
        (10, 10 * (5 + 5 + 200))
    );
    assert_eq!(dropped.examples.len(), 10);
    assert_eq!(
        (
            dropped.examples[9].document.as_str(),
            dropped.examples[9].found.as_str()
        ),
        ("d10", "2 against 3")
    );
    assert_eq!(
        dropped.examples[0].excerpt,
        format!("two words{}", "x".repeat(111))
    );
    assert_eq!(report.repaired["line_ends"].count.bytes, 12);
    assert_eq!(
        (
            report.repaired["invisible"].count.documents,
            report.repaired["line_ends"].examples.len()
        ),
        (1, 10)
    );
    let again: CleanReport =
        serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
}

#[test]
fn an_identity_covers_thresholds_and_languages() {
    let identities = [
        "clean = 'prose'",
        "clean = 'gopher'",
        "clean = 'repair'",
        "clean = { rules = 'prose', min_words = 49 }",
        "clean = { rules = 'prose', min_words = false }",
        "clean = { rules = 'prose', languages = ['eng'] }",
        "clean = { rules = 'prose', languages = ['eng'], min_language_confidence = 0.9 }",
    ]
    .map(|toml| cleaner(toml).identity());
    assert_eq!(
        identities
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        identities.len()
    );
    assert_eq!(
        cleaner("clean = { rules = 'prose', min_words = 50 }").identity(),
        identities[0]
    );
}

/// What tests/golden/clean.py wrote.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    misread: Vec<Misread>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    /// Why each of datatrove's filters drops the text, with spaCy's words and with ours.
    spacy: Reasons,
    ours: Reasons,
}

#[derive(Deserialize, PartialEq)]
struct Reasons {
    repetition: Option<String>,
    quality: Option<String>,
    fineweb: Option<String>,
}

#[derive(Deserialize)]
struct Misread {
    text: String,
    fixed: String,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/golden/clean.json")).unwrap()
}

/// The rule that datatrove calls by another name.
fn rule_of(reason: &str) -> String {
    let name = match reason {
        "dup_line_frac" => "max_duplicate_line_share",
        "dup_line_char_frac" => "max_duplicate_line_char_share",
        "dup_para_frac" => "max_duplicate_paragraph_share",
        "dup_para_char_frac" => "max_duplicate_paragraph_char_share",
        "gopher_short_doc" => "min_words",
        "gopher_above_avg_threshold" => "max_mean_word_length",
        "gopher_below_avg_threshold" => "min_mean_word_length",
        "gopher_too_many_hashes" => "max_hashes_per_word",
        "gopher_too_many_ellipsis" => "max_ellipses_per_word",
        "gopher_too_many_bullets" => "max_bullet_line_share",
        "gopher_too_many_end_ellipsis" => "max_ellipsis_line_share",
        "gopher_below_alpha_threshold" => "min_alphabetic_word_share",
        "gopher_enough_stop_words" => "min_stop_words",
        "line_punct_ratio" => "min_punctuated_line_share",
        "short_line_ratio" => "max_short_line_share",
        "char_dup_ratio" => "max_repeated_line_char_share",
        "list_ratio" => "max_newlines_per_word",
        _ => match reason.strip_prefix("duplicated_") {
            Some(rest) => {
                return format!(
                    "max_duplicate_{}_gram_char_share",
                    rest.replace("_n_grams", "")
                );
            }
            None => return format!("max_{reason}_char_share"),
        },
    };
    name.into()
}

#[test]
fn decisions_are_those_of_datatrove() {
    // Cleaners of one rule each, so that datatrove's reason is seen whatever was asked first.
    let alone: BTreeMap<(&str, &str), Cleaner> = ["gopher", "fineweb"]
        .into_iter()
        .flat_map(|set| {
            RULES
                .iter()
                .map(move |rule| ((set, rule.name), only(set, rule.name)))
        })
        .collect();
    let breaks = |set, rule: &str, text: &str| {
        let (_, cleaner) = alone
            .iter()
            .find(|((s, r), _)| *s == set && *r == rule)
            .unwrap();
        broken(cleaner, text).is_some()
    };
    let (mut reasons, mut differ) = (std::collections::BTreeSet::new(), 0);
    let golden = golden();
    for Case { text, spacy, ours } in &golden.cases {
        let repeats = |name: &str| name.contains("duplicate") || name.contains("_gram_");
        for (set, reason, of_repetition) in [
            ("gopher", &ours.repetition, Some(true)),
            ("gopher", &ours.quality, Some(false)),
            ("fineweb", &ours.fineweb, None),
        ] {
            let asked = |rule: &&Rule| of_repetition.is_none_or(|is| is == repeats(rule.name));
            match reason {
                Some(reason) => {
                    assert!(breaks(set, &rule_of(reason), text), "{reason}: {text}");
                    reasons.insert(rule_of(reason));
                }
                None => {
                    for rule in RULES.iter().filter(asked) {
                        assert!(!breaks(set, rule.name, text), "{rule:?}: {text}");
                    }
                }
            }
        }
        let kept = |r: &Reasons| {
            (
                r.repetition.is_none(),
                r.quality.is_none(),
                r.fineweb.is_none(),
            )
        };
        differ += usize::from(kept(spacy) != kept(ours));
    }
    assert!(reasons.len() >= 20, "{reasons:?}");
    // Words of another cut move a share over its threshold now and then.
    assert!(
        differ * 20 <= golden.cases.len(),
        "{differ} of {}",
        golden.cases.len()
    );
}

#[test]
fn misread_text_is_put_right_as_ftfy_does() {
    for Misread { text, fixed } in golden().misread {
        let repaired = cleaner("clean = 'repair'")
            .clean(document(&text))
            .document
            .text;
        match text.starts_with("5 Å³") {
            // Cubic ångström are not Polish.
            true => assert_eq!(repaired, text),
            false => assert_eq!(repaired, fixed),
        }
    }
}
