//! Lookup documents: facts with digits among other sentences, and questions for them.
//!
//! They teach to find something far back by the words before it. The passkey evaluation is another
//! text: none of its runs of eight words can occur here (tested below).
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const FIRST: [&str; 40] = [
    "gate", "door", "locker", "vault", "phone", "room", "order", "ticket", "badge", "account",
    "house", "garden", "train", "bank", "box", "safe", "office", "garage", "member", "parcel",
    "bike", "server", "secret", "access", "entry", "lab", "ship", "flight", "hotel", "library",
    "tower", "cellar", "shop", "station", "museum", "school", "boat", "bridge", "farm", "mill",
];
const SECOND: [&str; 10] = [
    "code", "number", "key", "pin", "id", "password", "sign", "mark", "value", "digits",
];
const NAMES: [&str; 30] = [
    "Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karl",
    "Laura", "Maria", "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina", "Victor", "Berlin",
    "London", "Paris", "Rome", "Oslo", "Madrid", "Vienna", "Prague", "Dublin", "Lisbon",
];
const THINGS: [&str; 48] = [
    "apple", "river", "stone", "table", "horse", "cloud", "road", "window", "lamp", "tree", "snow",
    "bread", "wine", "coat", "ship", "bird", "field", "hill", "lake", "wall", "roof", "floor",
    "book", "pen", "clock", "chair", "bed", "dog", "cat", "fish", "milk", "sugar", "salt", "paper",
    "glass", "iron", "gold", "wood", "leaf", "flower", "sea", "sand", "wind", "rain", "fire",
    "night", "day", "moon",
];
const QUALITIES: [&str; 40] = [
    "red", "green", "blue", "yellow", "white", "black", "old", "new", "small", "large", "cold",
    "warm", "soft", "hard", "quiet", "loud", "bright", "dark", "heavy", "light", "dry", "wet",
    "long", "short", "high", "low", "round", "flat", "clean", "sweet", "bitter", "fast", "slow",
    "deep", "thin", "thick", "rich", "poor", "brown", "grey",
];
const SHORT: [&str; 16] = [
    "On we go.",
    "So it was.",
    "Back and forth.",
    "Up and down.",
    "Nothing new.",
    "Time goes by.",
    "We walk on.",
    "Here we are.",
    "Day after day.",
    "Once more.",
    "All is well.",
    "And so on.",
    "Round and round.",
    "Step by step.",
    "It goes on.",
    "Far and wide.",
];
const INTROS: [&str; 10] = [
    "Read the text and answer the questions.",
    "Some facts are hidden in this text. Look for them.",
    "Notes of the day.",
    "In this document there is something to look up.",
    "Pay attention to the numbers.",
    "A long text with one thing that counts.",
    "Instruction: find the number.",
    "Below is a page from a notebook.",
    "Search the following lines.",
    "Keep the important part in mind.",
];

fn pick<'a>(rng: &mut ChaCha8Rng, list: &[&'a str]) -> &'a str {
    list[rng.random_range(0..list.len())]
}

/// A sentence that says nothing to look up.
fn filler(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..10) {
        0..=5 => format!("The {} is {}.", pick(rng, &THINGS), pick(rng, &QUALITIES)),
        6 => format!(
            "{} sees a {} {}.",
            pick(rng, &NAMES),
            pick(rng, &QUALITIES),
            pick(rng, &THINGS)
        ),
        7 => format!(
            "The {} of the {} is {}.",
            pick(rng, &THINGS),
            pick(rng, &THINGS),
            pick(rng, &QUALITIES)
        ),
        _ => pick(rng, &SHORT).to_string(),
    }
}

/// Something to look up: what it is called, and its digits.
struct Fact {
    subject: String,
    digits: String,
}

fn fact(rng: &mut ChaCha8Rng, known: &[Fact]) -> Fact {
    let subject = loop {
        let kind = format!("{} {}", pick(rng, &FIRST), pick(rng, &SECOND));
        let subject = match rng.random_range(0..3) {
            0 => format!("{kind} of {}", pick(rng, &NAMES)),
            _ => kind,
        };
        if known.iter().all(|f| f.subject != subject) {
            break subject;
        }
    };
    let n = match rng.random_range(0..10) {
        0 => 3,
        1 => 4,
        2 => 6,
        3 => 7,
        _ => 5,
    };
    let digits = (0..n)
        .map(|_| char::from(b'0' + rng.random_range(0..10u8)))
        .collect();
    Fact { subject, digits }
}

/// Says a fact, most often twice.
fn statement(rng: &mut ChaCha8Rng, fact: &Fact) -> String {
    let Fact { subject, digits } = fact;
    match rng.random_range(0..8) {
        0..=2 => format!("The {subject} is {digits}."),
        3 => format!("The {subject} is {digits}. Keep it in mind. {digits} is the {subject}."),
        4 => format!("The {subject} is {digits}. Do not forget: {digits} is the {subject}."),
        5 => format!("Note that the {subject} is {digits}. Again, the {subject} is {digits}."),
        6 => format!("{digits} is the {subject}."),
        _ => format!("{subject}: {digits}."),
    }
}

/// A question and its answer.
fn question(rng: &mut ChaCha8Rng, fact: &Fact) -> String {
    let Fact { subject, digits } = fact;
    match rng.random_range(0..6) {
        0..=2 => format!("What is the {subject}? The {subject} is {digits}."),
        3 => format!("Which number was it? The {subject} is {digits}."),
        4 => format!("Question: what is the {subject}? Answer: {digits}."),
        _ => format!("Tell me the {subject}. The {subject} is {digits}."),
    }
}

/// A document of about `words` words.
pub(super) fn document(rng: &mut ChaCha8Rng, words: usize) -> String {
    // Half of the documents repeat a few sentences over and over, the others never tell the same twice.
    let block: Vec<String> = if rng.random_range(0..2) == 0 {
        let n = rng.random_range(2..=7);
        (0..n).map(|_| filler(rng)).collect()
    } else {
        Vec::new()
    };
    let wanted = 1 + rng.random_range(0..4usize).min(words / 60);
    let mut at: Vec<usize> = (0..wanted)
        .map(|_| rng.random_range(0..words.max(2) * 9 / 10))
        .collect();
    at.sort_unstable();
    let mut facts: Vec<Fact> = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    let mut count = 0;
    if rng.random_range(0..3) > 0 {
        parts.push(pick(rng, &INTROS).to_string());
    }
    let mut turn = 0;
    while count < words {
        let sentence = if at.get(facts.len()).is_some_and(|&place| count >= place) {
            let new = fact(rng, &facts);
            let said = statement(rng, &new);
            facts.push(new);
            said
        } else if !facts.is_empty() && rng.random_range(0..15) == 0 {
            let asked = rng.random_range(0..facts.len());
            question(rng, &facts[asked])
        } else if block.is_empty() {
            filler(rng)
        } else {
            turn += 1;
            block[turn % block.len()].clone()
        };
        count += sentence.split(' ').count();
        parts.push(sentence);
    }
    let mut text = parts.join(" ");
    for i in 0..facts.len().max(1) {
        let Some(asked) = facts.get(rng.random_range(0..facts.len().max(1))) else {
            break;
        };
        text.push(if i == 0 { '\n' } else { ' ' });
        text.push_str(&question(rng, asked));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    fn words(text: &str) -> Vec<String> {
        let digits = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit());
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
            .map(|w| {
                if digits(w) {
                    "#".into()
                } else {
                    w.to_lowercase()
                }
            })
            .collect()
    }

    #[test]
    fn no_run_of_eight_words_is_the_passkey_evaluations() {
        let filler = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
        let needle = "The pass key is 12345. Remember it. 12345 is the pass key. ";
        let task = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize \
                    them. I will quiz you about the important information there. ";
        let question = "What is the pass key? The pass key is 12345";
        let template = [
            task, filler, filler, needle, filler, question, " ", task, needle, question,
        ]
        .concat();
        let taken = words(&template);
        let runs: HashSet<&[String]> = taken.windows(8).collect();
        for seed in 0..3000 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let text = document(&mut rng, 200);
            let made = words(&text);
            if let Some(run) = made.windows(8).find(|run| runs.contains(run)) {
                panic!("{run:?} in {text}");
            }
        }
    }

    #[test]
    fn every_answer_stands_in_the_text_before() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let text = document(&mut rng, 150);
            let (body, questions) = text.rsplit_once('\n').unwrap();
            let last = questions.trim_end_matches('.').rsplit(' ').next().unwrap();
            assert!(last.len() >= 3 && body.contains(last), "{text}");
            assert!((120..400).contains(&text.split(' ').count()));
        }
    }
}
