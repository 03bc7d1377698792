use super::super::Protocol;
use super::conversation::{Conversation, lines};
use super::*;
use crate::checkpoint::ChatTemplate;
use crate::evals::chat::{Role, Turn};
use std::path::Path;

const ALL: [Recall; 4] = [
    Recall::Fact,
    Recall::Correction,
    Recall::Topic,
    Recall::Line,
];

fn tokens(template: Option<&str>) -> Rc<Tokens> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("base/tokenizer.json");
    let tokens = Tokens::new(&tokenizers::Tokenizer::from_file(path).unwrap()).unwrap();
    let template = template.map(|source| ChatTemplate {
        source: source.into(),
        bos_token: None,
        eos_token: None,
    });
    Rc::new(tokens.with_chat(template).unwrap())
}

fn chats() -> Vec<Document> {
    let chat = |i: usize| {
        let lines =
            (0..7 + i).map(|j| format!("In chat {i} somebody says a thing of number {j} here."));
        Document {
            id: format!("chat {i}"),
            text: lines.collect::<Vec<_>>().join("\n"),
        }
    };
    (0..9).map(chat).collect()
}

fn spec(tasks: &[Recall], lengths: &[usize], conversations: usize) -> DialogueSpec {
    DialogueSpec {
        name: "dialogue".into(),
        tasks: tasks.to_vec(),
        lengths: lengths.to_vec(),
        conversations,
        seed: 5,
        sources: Vec::new(),
        turn_words: 1,
        threshold: Some(0.8),
    }
}

fn try_task(spec: &DialogueSpec, template: Option<&str>) -> Result<Dialogue, Error> {
    Dialogue::new(
        spec,
        tokens(template),
        Filler::new(&chats(), spec.turn_words),
    )
}

fn asked(task: &Dialogue, index: usize) -> (Asked, usize) {
    let cell = task.cells[index];
    let asked = task.asked(cell, task.size(cell).unwrap());
    let tokens = task.ids(&asked).unwrap().len();
    (asked, tokens)
}

/// Numbers that are said of what is asked for, in their order.
fn said(turns: &[Turn], thing: &str) -> Vec<String> {
    let what = format!("the number of my {thing} is ");
    let number = |turn: &Turn| {
        let (_, rest) = turn.text.split_once(&what)?;
        Some(rest.trim_end_matches('.').to_string())
    };
    turns.iter().filter_map(number).collect()
}

fn thing(question: &str) -> &str {
    let (_, rest) = question.split_once("the number of my ").unwrap();
    rest.split_once('?').unwrap().0
}

#[test]
fn conversations_fill_their_length_and_never_exceed_it() {
    for turn_words in [1, 60] {
        let mut spec = spec(&ALL, &[700, 2048, 6000], 3);
        spec.turn_words = turn_words;
        let task = try_task(&spec, None).unwrap();
        for index in 0..task.items.len() {
            let (_, tokens) = asked(&task, index);
            let (length, name) = (task.cells[index].length, &task.items[index]);
            assert!(tokens + ANSWER_TOKENS <= length, "{name}: {tokens} tokens");
            // A line of the record is the largest unit. The other questions of a conversation may be longer; a
            // further topic comes with two turns.
            assert!(
                tokens + ANSWER_TOKENS + 90 > length,
                "{name}: {tokens} tokens"
            );
        }
    }
}

#[test]
fn turns_alternate_and_what_is_asked_was_said() {
    let task = try_task(&spec(&ALL, &[1024, 4096], 12), None).unwrap();
    let mut places = Vec::new();
    for index in 0..task.items.len() {
        let (asked, _) = asked(&task, index);
        let roles = asked.turns.iter().map(|turn| turn.role);
        assert!(
            roles
                .enumerate()
                .all(|(i, role)| (role == Role::User) == (i % 2 == 0))
        );
        let question = &asked.turns.last().unwrap().text;
        match (&asked.answer, task.cells[index].recall) {
            (Answer::Number(number), Recall::Line) => {
                let name = question
                    .rsplit_once("in line ")
                    .unwrap()
                    .1
                    .split_once('?')
                    .unwrap()
                    .0;
                assert_eq!(
                    question
                        .matches(&format!("line {name}: REGISTER_CONTENT is <{number}>\n"))
                        .count(),
                    1
                );
                assert_eq!(
                    asked.begun,
                    format!("The <REGISTER_CONTENT> in line {name} is")
                );
            }
            (Answer::Number(number), recall) => {
                let numbers = said(&asked.turns, thing(question));
                // The last word counts; of a correction there is another before.
                assert_eq!(numbers.last(), Some(number));
                assert_eq!(numbers.len(), if recall == Recall::Fact { 1 } else { 2 });
                assert_ne!(
                    numbers.first() == numbers.last(),
                    recall == Recall::Correction
                );
                if recall == Recall::Fact {
                    let at = asked
                        .turns
                        .iter()
                        .position(|turn| turn.text.contains(number.as_str()))
                        .unwrap();
                    places.push(at as f64 / asked.turns.len() as f64);
                }
            }
            (Answer::Topic { expected, all }, _) => {
                let announced = asked.turns.iter().filter_map(|turn| {
                    turn.text
                        .strip_prefix("I would like to discuss the ")?
                        .strip_suffix('.')
                });
                let announced: Vec<&str> = announced.collect();
                assert_eq!(
                    announced,
                    all.iter().map(String::as_str).collect::<Vec<_>>()
                );
                let (_, nth) = question.split_once("What was the ").unwrap();
                let nth = nth.split(' ').next().unwrap();
                let ordinals = [
                    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth",
                    "ninth", "tenth",
                ];
                let n = ordinals
                    .iter()
                    .position(|o| *o == nth)
                    .unwrap_or_else(|| nth[..2].parse::<usize>().unwrap() - 1);
                assert_eq!(&all[n], expected);
            }
        }
    }
    places.sort_by(f64::total_cmp);
    assert!(
        places[0] < 0.25 && places[places.len() - 1] > 0.75,
        "{places:?}"
    );
}

#[test]
fn longer_conversations_have_more_topics_and_as_many_facts() {
    let turns = |pairs: usize| {
        (0..2 * pairs)
            .map(|i| format!("turn {i}"))
            .collect::<Vec<_>>()
    };
    let of = |pairs: usize| Conversation::new("x", turns(pairs)).ask(Recall::Topic);
    let count = |asked: &Asked| match &asked.answer {
        Answer::Topic { all, .. } => all.len(),
        Answer::Number(_) => 0,
    };
    assert_eq!(
        [0, 8, 9, 30, 5000].map(|pairs| count(&of(pairs))),
        [3, 3, 3, 10, 96]
    );
    for pairs in [0, 1, 2, 5, 30, 300] {
        let asked = of(pairs);
        // Three exchanges of facts and the question.
        assert_eq!(asked.turns.len(), 2 * (pairs + count(&asked) + 3) + 1);
        let filler = asked
            .turns
            .iter()
            .filter(|turn| turn.text.starts_with("turn "));
        assert!(filler.map(|turn| turn.text.clone()).eq(turns(pairs)));
    }
}

#[test]
fn all_questions_of_a_conversation_share_its_beginning_and_its_cluster() {
    let task = try_task(&spec(&ALL, &[1500], 2), None).unwrap();
    let ids: Vec<Vec<u32>> = (0..3)
        .map(|index| task.ids(&asked(&task, index).0).unwrap())
        .collect();
    for other in &ids[1..] {
        let same = ids[0].iter().zip(other).take_while(|(a, b)| a == b).count();
        assert!(same + 60 > ids[0].len(), "{same} of {}", ids[0].len());
    }
    assert_eq!(
        task.items[..4],
        ["fact", "correction", "topic", "line"].map(|t| format!("dialogue/1500/0/{t}"))
    );
    let clusters: BTreeSet<String> = task.cells.iter().map(|cell| task.cluster(*cell)).collect();
    assert_eq!(clusters.len(), 2);
    assert_eq!(task.chunks(), [8]);
    assert_eq!(task.estimate().prefill, 2 * 2 * 1500);
    // What is asked beside changes nothing but the length that fits.
    let alone = try_task(&spec(&[Recall::Line], &[1500], 2), None).unwrap();
    assert_eq!(asked(&alone, 1), asked(&task, 7));
}

#[test]
fn the_template_writes_the_conversation_where_there_is_one() {
    let template =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>";
    let plain = try_task(&spec(&[Recall::Fact], &[900], 1), None).unwrap();
    let chat = try_task(&spec(&[Recall::Fact], &[900], 1), Some(template)).unwrap();
    for (task, protocol, user) in [
        (&plain, Protocol::ChatPlain, "User: "),
        (&chat, Protocol::ChatTemplate, "<|user|>"),
    ] {
        let (asked, _) = asked(task, 0);
        let ids = task.ids(&asked).unwrap();
        let text = task.tokens.decode(&ids).unwrap();
        assert!(
            text.starts_with(user) && text.ends_with(&asked.begun),
            "{text}"
        );
        let right = task
            .tokens
            .spans(&format!(" {}.", asked.answer.expected()))
            .unwrap()
            .ids;
        let record = task.record(0, asked.clone(), ids.clone(), right).unwrap();
        assert_eq!(
            (record.protocol, record.metrics["exact_match"]),
            (protocol, 1.0)
        );
        assert_eq!(
            (record.prompt, record.cluster.as_str()),
            (ids.clone(), "dialogue/900/0")
        );
        assert_eq!(record.place, Some(Place::Subtask("fact".into())));
        let record = task.record(0, asked, ids, Vec::new()).unwrap();
        assert_eq!(record.metrics["exact_match"], 0.0);
    }
    let error = try_task(
        &spec(&[Recall::Fact], &[900], 1),
        Some("{{ raise_exception('no') }}"),
    );
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("chat template: invalid operation: no")
    );
}

#[test]
fn a_record_has_each_name_once() {
    let asked = lines("x", 300, &Words::new());
    let text = &asked.turns[0].text;
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.split_once(": REG"));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    assert_eq!(
        (names.len(), names.iter().collect::<BTreeSet<_>>().len()),
        (300, 300)
    );
}

#[test]
fn what_cannot_be_asked_for_is_said() {
    let problem = |change: &dyn Fn(&mut DialogueSpec)| {
        let mut spec = spec(&[Recall::Line], &[512], 2);
        change(&mut spec);
        spec.problem().unwrap_or_default()
    };
    assert_eq!(problem(&|_| {}), "");
    assert!(problem(&|s| s.tasks = vec![]).contains("`tasks` must name"));
    assert!(problem(&|s| s.tasks.push(Recall::Line)).contains("none twice"));
    assert!(problem(&|s| s.tasks.push(Recall::Fact)).contains("`sources` is empty"));
    assert!(problem(&|s| s.lengths = vec![5, 5]).contains("`lengths`"));
    assert!(problem(&|s| s.conversations = 0).contains("`conversations` is 0"));
    assert!(problem(&|s| s.turn_words = 0).contains("`turn_words` is 0"));
    let error = try_task(&spec(&[Recall::Fact], &[100], 2), None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("length 100 is too short: a conversation without turns between"),
        "{error}"
    );
}
