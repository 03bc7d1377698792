//! The conversations, and what is asked at their end.
use super::Recall;
use super::answer::Answer;
use crate::evals::chat::Turn;
use crate::evals::draw::Draw;
use crate::evals::words::Words;

/// What is told of each topic.
const ASPECTS: [&str; 8] = [
    "history", "future", "science", "art", "cost", "smell", "colours", "law",
];
const SUBJECTS: [&str; 12] = [
    "bread", "trains", "gardens", "clocks", "bridges", "glass", "islands", "kites", "rivers",
    "salt", "theatre", "wool",
];
/// What the facts are about.
const THINGS: [&str; 12] = [
    "locker",
    "bicycle",
    "passport",
    "garage",
    "parcel",
    "ticket",
    "library card",
    "mailbox",
    "insurance",
    "seat",
    "rental car",
    "hotel room",
];
/// Pairs of turns that are said on a topic, about.
const PAIRS: usize = 3;
/// Topics of the shortest conversation.
const TOPICS: usize = 3;

/// Turns, the beginning of the assistant's answer to the last of them, and what it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub turns: Vec<Turn>,
    pub begun: String,
    pub answer: Answer,
}

/// A conversation before its question.
pub(super) struct Conversation {
    turns: Vec<Turn>,
    topics: Vec<String>,
    /// Which topic is asked for.
    topic: usize,
    fact: (String, String),
    correction: (String, String),
}

impl Conversation {
    /// Makes a conversation of what others said (the user's turns and the assistant's in turn). Where things are said
    /// does not depend on how much that is, relative to the whole.
    pub fn new(stream: &str, filler: Vec<String>) -> Self {
        let pairs = pairs(filler);
        let mut draw = Draw::new(&format!("{stream}/facts"));
        let things = draw.sample(THINGS.len(), 2);
        let number = |draw: &mut Draw| (10_000 + draw.below(90_000)).to_string();
        let (fact, wrong) = (number(&mut draw), number(&mut draw));
        let mut right = number(&mut draw);
        while right == wrong {
            right = number(&mut draw);
        }
        let (thing, other) = (THINGS[things[0]], THINGS[things[1]]);
        let places = 1_000_000;
        let told = draw.below(places);
        let mut twice = [draw.below(places), draw.below(places)];
        twice.sort_unstable();
        let at = |place: usize| place * (pairs.len() + 1) / places;
        let said = [
            (at(told), statement(thing, &fact)),
            (at(twice[0]), statement(other, &wrong)),
            (at(twice[1]), corrected(other, &right)),
        ];

        let mut draw = Draw::new(&format!("{stream}/topics"));
        let all = draw.sample(
            ASPECTS.len() * SUBJECTS.len(),
            ASPECTS.len() * SUBJECTS.len(),
        );
        let count = (pairs.len() / PAIRS).clamp(TOPICS, all.len());
        let name = |i: &usize| {
            let (aspect, subject) = (ASPECTS[i % ASPECTS.len()], SUBJECTS[i / ASPECTS.len()]);
            format!("{aspect} of {subject}")
        };
        let topics: Vec<String> = all[..count].iter().map(name).collect();
        let topic = draw.below(count);

        let mut turns = Vec::new();
        let mut announced = 0;
        for (i, pair) in pairs.iter().map(Some).chain([None]).enumerate() {
            while announced < count && announced * pairs.len() / count <= i {
                turns.extend(announcement(&topics[announced]));
                announced += 1;
            }
            for (at, exchange) in &said {
                if *at == i {
                    turns.extend(exchange.clone());
                }
            }
            turns.extend(pair.into_iter().flatten().cloned());
        }
        Conversation {
            turns,
            topics,
            topic,
            fact: (thing.to_string(), fact),
            correction: (other.to_string(), right),
        }
    }

    /// The conversation with its question.
    pub fn ask(self, recall: Recall) -> Asked {
        let mut turns = self.turns;
        let (begun, answer) = match recall {
            Recall::Topic => {
                let nth = ordinal(self.topic + 1);
                turns.push(Turn::user(format!(
                    "What was the {nth} topic that we discussed? Only give me the topic."
                )));
                let expected = self.topics[self.topic].clone();
                let answer = Answer::Topic {
                    expected,
                    all: self.topics,
                };
                (format!("The {nth} topic was the"), answer)
            }
            _ => {
                let of = match recall {
                    Recall::Fact => self.fact,
                    _ => self.correction,
                };
                let (thing, number) = of;
                turns.push(Turn::user(format!(
                    "What is the number of my {thing}? Only give me the number."
                )));
                (
                    format!("The number of your {thing} is"),
                    Answer::Number(number),
                )
            }
        };
        Asked {
            turns,
            begun,
            answer,
        }
    }
}

/// Turns by two; the user's last word has an answer, too.
fn pairs(filler: Vec<String>) -> Vec<[Turn; 2]> {
    let pair = |pair: &[String]| {
        let answer = pair.get(1).map_or("I see.", String::as_str);
        [Turn::user(pair[0].clone()), Turn::assistant(answer)]
    };
    filler.chunks(2).map(pair).collect()
}

fn statement(thing: &str, number: &str) -> [Turn; 2] {
    [
        Turn::user(format!(
            "Please remember this: the number of my {thing} is {number}."
        )),
        Turn::assistant("I will remember it."),
    ]
}

fn corrected(thing: &str, number: &str) -> [Turn; 2] {
    [
        Turn::user(format!(
            "What I said about my {thing} was wrong: the number of my {thing} is {number}."
        )),
        Turn::assistant("Thank you, I have corrected it."),
    ]
}

/// LongEval's words.
fn announcement(topic: &str) -> [Turn; 2] {
    [
        Turn::user(format!("I would like to discuss the {topic}.")),
        Turn::assistant("Gladly. What would you like to say about it?"),
    ]
}

fn ordinal(n: usize) -> String {
    const FIRST: [&str; 10] = [
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
        "tenth",
    ];
    if let Some(word) = FIRST.get(n - 1) {
        return word.to_string();
    }
    let ending = match (n % 10, n % 100) {
        (1, hundred) if hundred != 11 => "st",
        (2, hundred) if hundred != 12 => "nd",
        (3, hundred) if hundred != 13 => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// LongEval's record of lines in one turn, of which one is asked for.
pub(super) fn lines(stream: &str, count: usize, words: &Words) -> Asked {
    let mut draw = Draw::new(&format!("{stream}/lines"));
    let mut record: Vec<(String, String)> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    while record.len() < count {
        let name = words.pair(&mut draw);
        let number = (1 + draw.below(50_000)).to_string();
        if known.insert(name.clone()) {
            record.push((name, number));
        }
    }
    let asked = Draw::new(&format!("{stream}/line")).below(1_000_000) * count / 1_000_000;
    let (name, number) = record[asked].clone();
    let line = |(name, number): &(String, String)| {
        format!("line {name}: REGISTER_CONTENT is <{number}>\n")
    };
    let all: String = record.iter().map(line).collect();
    let text = format!(
        "Below is a record of lines I want you to remember. Each line begins with 'line <line index>' and contains a \
         '<REGISTER_CONTENT>' at the end of the line as a numerical value. For each line index, memorize its \
         corresponding <REGISTER_CONTENT>. At the end of the record, I will ask you to retrieve the corresponding \
         <REGISTER_CONTENT> of a certain line index. Now the record start:\n\n{all}\nNow the record is over. Tell me \
         what is the <REGISTER_CONTENT> in line {name}? I need the number."
    );
    Asked {
        turns: vec![Turn::user(text)],
        begun: format!("The <REGISTER_CONTENT> in line {name} is"),
        answer: Answer::Number(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals() {
        let all = [1, 10, 11, 12, 13, 21, 22, 23, 24, 111, 112].map(ordinal);
        let expected = [
            "first", "tenth", "11th", "12th", "13th", "21st", "22nd", "23rd", "24th", "111th",
            "112th",
        ];
        assert_eq!(all, expected);
    }
}
