//! Needles in a haystack: sentences with a key and a value each, between noise, essays or more such sentences.
use super::Prompt;
use super::essays::Essays;
use super::subtask::{Subtask, needle_template};
use crate::evals::draw::Draw;
use crate::evals::words::Words;

const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
/// RULER's depths of a needle in essays: from 0 to 100 % in 40 steps, rounded to whole per cents.
const DEPTHS: usize = 40;

/// What keys and values are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Numbers,
    Words,
    Uuids,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Haystack {
    Noise,
    Essays,
    Needles,
}

/// How a task's needles are made: RULER's `synthetic.yaml`.
struct Setting {
    haystack: Haystack,
    key: Kind,
    value: Kind,
    keys: usize,
    /// Values of each key.
    values: usize,
    /// Keys that are asked for.
    queries: usize,
}

impl Setting {
    fn of(subtask: Subtask) -> Self {
        let mut setting = Setting {
            haystack: Haystack::Essays,
            key: Kind::Words,
            value: Kind::Numbers,
            keys: 1,
            values: 1,
            queries: 1,
        };
        match subtask {
            Subtask::Single1 => setting.haystack = Haystack::Noise,
            Subtask::Single3 => setting.value = Kind::Uuids,
            Subtask::MultiKey1 => setting.keys = 4,
            Subtask::MultiKey2 => setting.haystack = Haystack::Needles,
            Subtask::MultiKey3 => {
                setting.haystack = Haystack::Needles;
                setting.key = Kind::Uuids;
                setting.value = Kind::Uuids;
            }
            Subtask::MultiValue => setting.values = 4,
            Subtask::MultiQuery => (setting.keys, setting.queries) = (4, 4),
            _ => {}
        }
        setting
    }
}

/// The prompt with `size` units of haystack: lines of noise, words of the essays, or other needles.
pub(super) fn prompt(
    subtask: Subtask,
    stream: &str,
    size: usize,
    words: &Words,
    essays: Option<&Essays>,
) -> Prompt {
    let setting = Setting::of(subtask);
    let mut draw = Draw::new(&format!("{stream}/needles"));
    let mut keys: Vec<String> = Vec::new();
    while keys.len() < setting.keys {
        let key = random(setting.key, words, &mut draw);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let value = |draw: &mut Draw| random(setting.value, words, draw);
    let values: Vec<Vec<String>> = keys
        .iter()
        .map(|_| (0..setting.values).map(|_| value(&mut draw)).collect())
        .collect();
    let all = keys.iter().zip(&values);
    let mut needles: Vec<String> = all
        .flat_map(|(key, values)| values.iter().map(|value| needle(&setting, key, value)))
        .collect();
    draw.shuffle(&mut needles);
    let asked = draw.sample(keys.len(), setting.queries);
    let mut places = Draw::new(&format!("{stream}/places"));
    let context = match setting.haystack {
        Haystack::Essays => between_essays(needles, size, essays, &mut places),
        Haystack::Noise => between_lines(needles, vec![NOISE.to_string(); size], &mut places),
        Haystack::Needles => {
            let mut draw = Draw::new(&format!("{stream}/others"));
            let mut others = Vec::new();
            while others.len() < size {
                let key = random(setting.key, words, &mut draw);
                let other = needle(&setting, &key, &value(&mut draw));
                // A second value of the key that is asked for would be as right as the first.
                if !keys.contains(&key) {
                    others.push(other);
                }
            }
            between_lines(needles, others, &mut places)
        }
    };
    let queries: Vec<&str> = asked.iter().map(|&i| keys[i].as_str()).collect();
    let query = match queries.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{}, and {last}", rest.join(", ")),
        _ => queries.concat(),
    };
    let single = setting.queries * setting.values == 1;
    Prompt {
        text: needle_template(name(setting.value), &query, single).around(&context),
        expected: asked.iter().flat_map(|&i| values[i].clone()).collect(),
    }
}

/// The smallest haystack that has a place for each needle.
pub(super) fn smallest(subtask: Subtask) -> usize {
    let setting = Setting::of(subtask);
    setting.keys * setting.values
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Numbers => "numbers",
        Kind::Words => "words",
        Kind::Uuids => "uuids",
    }
}

fn needle(setting: &Setting, key: &str, value: &str) -> String {
    format!(
        "One of the special magic {} for {key} is: {value}.",
        name(setting.value)
    )
}

fn random(kind: Kind, words: &Words, draw: &mut Draw) -> String {
    match kind {
        Kind::Numbers => (1_000_000 + draw.below(9_000_000)).to_string(),
        Kind::Words => words.pair(draw),
        Kind::Uuids => {
            let mut bytes = draw.bytes();
            // Version 4, variant 1.
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..],
            ];
            parts.join("-")
        }
    }
}

/// Needles before different lines of the haystack, drawn at random; none stands behind the last line, as in RULER.
fn between_lines(needles: Vec<String>, mut lines: Vec<String>, places: &mut Draw) -> String {
    let mut at = places.sample(lines.len(), needles.len());
    at.sort_unstable();
    for (at, needle) in at.into_iter().rev().zip(needles) {
        lines.insert(at, needle);
    }
    lines.join("\n")
}

/// Needles between the sentences of the essays' first words, at different depths.
fn between_essays(
    needles: Vec<String>,
    size: usize,
    essays: Option<&Essays>,
    places: &mut Draw,
) -> String {
    let sentences = essays.map_or(Vec::new(), |essays| essays.sentences(size));
    let mut depths = places.sample(DEPTHS, needles.len());
    depths.sort_unstable();
    let mut parts = Vec::new();
    let mut from = 0;
    for (depth, needle) in depths.into_iter().zip(needles) {
        let percent = (depth as f64 * 100.0 / (DEPTHS - 1) as f64).round_ties_even();
        let to = (sentences.len() as f64 * (percent / 100.0)) as usize;
        parts.push(sentences[from..to].join(" "));
        parts.push(needle);
        from = to;
    }
    parts.push(sentences[from..].join(" "));
    parts.join(" ")
}
