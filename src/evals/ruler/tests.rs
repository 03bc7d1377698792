//! Against NVIDIA's generators and scorer (`tests/golden/ruler.json`, made by the script beside it), with the embedded
//! base's tokenizer.
use super::subtask::*;
use super::*;
use crate::evals::Kind;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

#[path = "questions_tests.rs"]
mod of_questions;
#[path = "spec_tests.rs"]
mod of_spec;

const ALL: [Subtask; 13] = [
    Subtask::Single1,
    Subtask::Single2,
    Subtask::Single3,
    Subtask::MultiKey1,
    Subtask::MultiKey2,
    Subtask::MultiKey3,
    Subtask::MultiValue,
    Subtask::MultiQuery,
    Subtask::Variables,
    Subtask::CommonWords,
    Subtask::FrequentWords,
    Subtask::Squad,
    Subtask::Hotpot,
];

fn tokens() -> Rc<Tokens> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("base/tokenizer.json");
    Rc::new(Tokens::new(&tokenizers::Tokenizer::from_file(path).unwrap()).unwrap())
}

fn essays() -> Essays {
    let mut text = String::new();
    for i in 0..400 {
        write!(
            text,
            "On day {i} the ship was seen. Nobody knew, as they said, why it had come! "
        )
        .unwrap();
    }
    Essays::new(&[Document {
        id: "essay".into(),
        text,
    }])
}

fn spec(tasks: &[Subtask], lengths: &[usize], items: usize) -> RulerSpec {
    RulerSpec {
        name: "ruler".into(),
        tasks: tasks.to_vec(),
        lengths: lengths.to_vec(),
        items,
        seed: 3,
        sources: Vec::new(),
        squad: None,
        hotpotqa: None,
        answer_tokens: None,
        threshold: Some(0.85),
    }
}

fn try_task(tasks: &[Subtask], lengths: &[usize], items: usize) -> Result<Ruler, Error> {
    let spec = spec(tasks, lengths, items);
    Ruler::new(&spec, tokens(), Some(essays()), BTreeMap::new())
}

fn task(tasks: &[Subtask], lengths: &[usize], items: usize) -> Ruler {
    try_task(tasks, lengths, items).unwrap()
}

/// What NVIDIA's generators and scorer give for a task.
#[derive(serde::Deserialize)]
struct Golden {
    first: String,
    /// How many strings an answer has (not of questions).
    answers: Vec<usize>,
    /// How many needles a prompt has.
    needles: Vec<usize>,
    /// Tenths of the context (of essays, of their sentences) in which they begin.
    places: Vec<usize>,
    /// Expected strings, output, score in per cent.
    scored: Vec<(Vec<String>, String, f64)>,
}

fn golden() -> BTreeMap<String, Golden> {
    serde_json::from_str(include_str!("../../../tests/golden/ruler.json")).unwrap()
}

/// The context of a prompt, which has the template around it.
fn context<'a>(text: &'a str, template: &Template) -> &'a str {
    let inner = text.strip_prefix(template.before.as_str());
    let inner = inner.unwrap_or_else(|| panic!("{:?} does not begin {text:.300}", template.before));
    inner
        .strip_suffix(template.after.as_str())
        .unwrap_or_else(|| panic!("{:?} does not end it", template.after))
}

/// The keys that a prompt of needles asks for, as the template has them.
fn query(text: &str) -> &str {
    let (_, question) = text.rsplit_once("\nWhat ").unwrap();
    let (before, _) = question.split_once(" mentioned in").unwrap();
    before.split_once(" for ").unwrap().1
}

/// A line or sentence with a needle: key and value.
fn needles_of(context: &str) -> Vec<(usize, String, String)> {
    let begin = "One of the special magic ";
    let parse = |at: usize| {
        let rest = &context[at + begin.len()..];
        let (key, rest) = rest
            .split_once(" for ")
            .unwrap()
            .1
            .split_once(" is: ")
            .unwrap();
        let (value, _) = rest.split_once('.').unwrap();
        (at, key.to_string(), value.to_string())
    };
    context
        .match_indices(begin)
        .map(|(at, _)| parse(at))
        .collect()
}

#[test]
fn outputs_have_the_scores_that_nvidias_functions_give() {
    let golden = golden();
    assert_eq!(golden.len(), 13);
    for subtask in ALL {
        let scored = &golden[subtask.name()].scored;
        assert_eq!(scored.len(), 200);
        for (expected, output, score) in scored {
            let ours = 100.0 * matching::string_match(output, expected, subtask.any_is_enough());
            assert!(
                (ours - score).abs() < 1e-9,
                "{}: {output:?} for {expected:?}: {score}",
                subtask.name()
            );
        }
        let distinct: BTreeSet<String> = scored.iter().map(|s| format!("{:.3}", s.2)).collect();
        assert!(distinct.len() >= 2, "right and wrong ones");
    }
}

#[test]
fn nvidias_prompts_have_our_templates() {
    let golden = golden();
    for subtask in ALL {
        let text = &golden[subtask.name()].first;
        let template = match subtask {
            Subtask::Variables => {
                // The question comes behind a solved example.
                let (example, question) = text.split_once("\n\n\n\n").unwrap();
                let value = |text: &str| {
                    text.rsplit_once("value ")
                        .unwrap()
                        .1
                        .split_once(',')
                        .unwrap()
                        .0
                        .to_string()
                };
                let template = variables_template(&value(example), 5);
                let example = example.strip_prefix(' ').unwrap();
                let (example, solution) = example.rsplit_once("they are: ").unwrap();
                context(&format!("{example}they are: "), &template);
                assert_eq!(solution.split_whitespace().count(), 5);
                let template = variables_template(&value(question), 5);
                context(question, &template);
                continue;
            }
            Subtask::CommonWords => {
                let template = common_words_template();
                let (example, question) =
                    text.rsplit_once(&format!("\n{}", template.before)).unwrap();
                let (example, solution) = example.rsplit_once("list are:").unwrap();
                context(&format!("{example}list are:"), &template);
                assert!(solution.starts_with("1. ") && solution.contains(" 10. "));
                context(&format!("{}{question}", template.before), &template);
                continue;
            }
            Subtask::FrequentWords => frequent_words_template(),
            Subtask::Squad | Subtask::Hotpot => {
                let (_, asked) = text.rsplit_once("Question: ").unwrap();
                question_template(asked.strip_suffix(" Answer:").unwrap())
            }
            needles => {
                let values = if needles == Subtask::Single3 || needles == Subtask::MultiKey3 {
                    "uuids"
                } else {
                    "numbers"
                };
                let single = !matches!(needles, Subtask::MultiValue | Subtask::MultiQuery);
                needle_template(values, query(text), single)
            }
        };
        assert!(context(text, &template).len() > 1000);
    }
}

/// Two histograms of the same distribution have this statistic of about 9, and hardly ever above 28 (0.1 %).
fn chi_squared(a: &[usize], b: &[usize]) -> f64 {
    let (all_a, all_b) = (
        a.iter().sum::<usize>() as f64,
        b.iter().sum::<usize>() as f64,
    );
    let ratio = (all_b / all_a).sqrt();
    let of_bin = |(&a, &b): (&usize, &usize)| match a + b {
        0 => 0.0,
        both => (ratio * a as f64 - b as f64 / ratio).powi(2) / both as f64,
    };
    a.iter().zip(b).map(of_bin).sum()
}

#[test]
fn needles_are_as_many_and_where_nvidias_are() {
    let golden = golden();
    for subtask in &ALL[..9] {
        let theirs = &golden[subtask.name()];
        let length = if subtask.needs_essays() { 8192 } else { 2048 };
        let task = task(&[*subtask], &[length], 200);
        let mut places = vec![0; 10];
        for index in 0..200 {
            let (prompt, _) = task.prompt(index).unwrap();
            let found: Vec<f64> = if *subtask == Subtask::Variables {
                let (_, question) = prompt.text.rsplit_once("\n\nMemorize and track").unwrap();
                let (context, _) = question.rsplit_once("\nQuestion:").unwrap();
                let starts = prompt
                    .expected
                    .iter()
                    .map(|v| context.find(&format!("VAR {v} = ")).unwrap());
                let starts: Vec<usize> = starts.collect();
                assert!(starts.is_sorted(), "assignments in their order");
                starts
                    .iter()
                    .map(|&at| at as f64 / context.len() as f64)
                    .collect()
            } else {
                let context = prompt
                    .text
                    .split_once('\n')
                    .unwrap()
                    .1
                    .rsplit_once("\nWhat ")
                    .unwrap()
                    .0;
                let asked = query(&prompt.text);
                let all = needles_of(context);
                let answers: Vec<&String> = all
                    .iter()
                    .filter(|n| asked.contains(&n.1))
                    .map(|n| &n.2)
                    .collect();
                assert!(
                    prompt.expected.iter().all(|e| answers.contains(&e)),
                    "{asked}"
                );
                // Others with the same key would be right, too.
                assert_eq!(answers.len(), prompt.expected.len());
                let others = matches!(subtask, Subtask::MultiKey2 | Subtask::MultiKey3);
                let all = all.iter().filter(|n| !others || n.1 == asked);
                let sentences =
                    |text: &str| text.matches("seen.").count() + text.matches("come!").count();
                let place = |at: usize| match subtask.needs_essays() {
                    true => sentences(&context[..at]) as f64 / sentences(context) as f64,
                    false => at as f64 / context.len() as f64,
                };
                all.map(|n| place(n.0)).collect()
            };
            assert_eq!(vec![found.len()], theirs.needles, "{}", subtask.name());
            assert_eq!(vec![prompt.expected.len()], theirs.answers);
            found
                .iter()
                .for_each(|place| places[((place * 10.0) as usize).min(9)] += 1);
        }
        let statistic = chi_squared(&places, &theirs.places);
        assert!(
            statistic < 28.0,
            "{}: {places:?} against {:?}",
            subtask.name(),
            theirs.places
        );
    }
}

#[test]
fn words_are_as_often_there_as_in_nvidias_lists() {
    let golden = golden();
    let counts = |list: &str| -> Vec<usize> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let word = |word: &&str| !word.ends_with('.') || *word == "...";
        list.split(' ')
            .filter(word)
            .for_each(|word| *counts.entry(word).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    };
    for subtask in [Subtask::CommonWords, Subtask::FrequentWords] {
        let task = task(&[subtask], &[2048], 20);
        for index in 0..20 {
            let (prompt, _) = task.prompt(index).unwrap();
            assert_eq!(vec![prompt.expected.len()], golden[subtask.name()].answers);
            let theirs = &golden[subtask.name()].first;
            if subtask == Subtask::CommonWords {
                let template = common_words_template();
                let list = |text: &str| {
                    let (_, question) =
                        text.rsplit_once(&format!("\n{}", template.before)).unwrap();
                    question
                        .strip_suffix(template.after.as_str())
                        .unwrap()
                        .to_string()
                };
                for text in [&prompt.text, theirs] {
                    // Ten words six times, all others once (some of the list have two words).
                    let counts = counts(&list(text));
                    assert!(counts[..10].iter().all(|&n| n >= 6), "{counts:?}");
                    assert!(counts[12..].iter().all(|&n| n <= 3), "{counts:?}");
                }
                let ours = list(&prompt.text);
                assert!(
                    prompt
                        .expected
                        .iter()
                        .all(|word| ours.matches(&format!(". {word}")).count() >= 6)
                );
            } else {
                let template = frequent_words_template();
                let (ours, theirs) = (
                    counts(context(&prompt.text, &template)),
                    counts(context(theirs, &template)),
                );
                // NVIDIA's prompt is longer: it leaves the answer out of the count.
                let share = |counts: &[usize], rank: usize| {
                    counts[rank] as f64 / counts.iter().sum::<usize>() as f64
                };
                for rank in 0..4 {
                    let (ours, theirs) = (share(&ours, rank), share(&theirs, rank));
                    assert!(
                        (ours - theirs).abs() < 0.03,
                        "rank {rank}: {ours} against {theirs}"
                    );
                }
                let text = context(&prompt.text, &template);
                let often = |word: &str| text.split(' ').filter(|w| *w == word).count();
                let asked: Vec<usize> = prompt.expected.iter().map(|word| often(word)).collect();
                assert_eq!(asked, ours[1..4]);
                assert!(ours[3] > ours[4], "no ties");
            }
        }
    }
}

#[test]
fn prompts_fill_their_length_to_the_unit_and_never_exceed_it() {
    for subtask in &ALL[..11] {
        let task = task(&[*subtask], &[1100, 2048, 5000], 3);
        for index in 0..task.items.len() {
            let (_, ids) = task.prompt(index).unwrap();
            let (room, name) = (task.room(&task.cells[index]), &task.items[index]);
            // The largest unit is a needle with two UUIDs; words that are frequent skip sizes with ties.
            let unit = match subtask {
                Subtask::Single2
                | Subtask::Single3
                | Subtask::MultiKey1
                | Subtask::MultiValue
                | Subtask::MultiQuery => 8,
                Subtask::MultiKey3 => 110,
                Subtask::FrequentWords => 200,
                Subtask::CommonWords => 60,
                _ => 40,
            };
            assert!(ids.len() <= room, "{name}: {} tokens of {room}", ids.len());
            assert!(
                ids.len() + unit > room,
                "{name}: {} tokens of {room}",
                ids.len()
            );
        }
    }
}

#[test]
fn items_do_not_depend_on_the_rest_of_the_suite() {
    let few = task(&[Subtask::Variables, Subtask::MultiKey1], &[1024], 2);
    let many = task(&ALL[..9], &[2048, 1024], 4);
    for (index, item) in few.items.iter().enumerate() {
        let other = many.items.iter().position(|name| name == item).unwrap();
        assert_eq!(few.prompt(index).unwrap(), many.prompt(other).unwrap());
    }
    let mut spec = spec(&[Subtask::Single1], &[1024], 2);
    let prompt = |spec: &RulerSpec| {
        Ruler::new(spec, tokens(), None, BTreeMap::new())
            .unwrap()
            .prompt(0)
            .unwrap()
    };
    let before = prompt(&spec);
    spec.seed += 1;
    assert_ne!(prompt(&spec).0.expected, before.0.expected);
}

#[test]
fn chunks_cover_the_items_in_batches_that_fit() {
    let task = task(&[Subtask::Single1, Subtask::Variables], &[1024, 8192], 5);
    assert_eq!(task.chunks(), [5, 5, 2, 2, 1, 2, 2, 1]);
    assert_eq!(task.items.len(), task.chunks().iter().sum::<usize>());
    let estimate = task.estimate();
    assert_eq!(estimate.generated, 2 * 5 * (128 + 30));
    assert_eq!(estimate.prefill + estimate.generated, 2 * 5 * (1024 + 8192));
}

#[test]
fn a_length_without_room_is_one_line() {
    for subtask in &ALL[..11] {
        let error = try_task(&[*subtask], &[4096, 60], 2)
            .err()
            .unwrap()
            .to_string();
        let expected = format!(
            "task \"ruler\": length 60 is too short for {}",
            subtask.name()
        );
        assert!(error.starts_with(&expected), "{error}");
        assert!(
            error.contains(" tokens and its answer ") && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn a_length_that_the_material_does_not_fill_is_one_line() {
    let error = try_task(&[Subtask::CommonWords], &[1_000_000], 1);
    let error = error.err().unwrap().to_string();
    assert!(
        error.starts_with("task \"ruler\": length 1000000 is too long for cwe: with all")
            && !error.contains('\n'),
        "{error}"
    );
    let spec = spec(&[Subtask::Single2], &[1024], 1);
    let empty = Some(Essays::new(&[]));
    let error = Ruler::new(&spec, tokens(), empty, BTreeMap::new());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("is too long for niah_single_2"), "{error}");
}

#[test]
fn a_record_has_the_exact_ids_and_is_scored_by_its_text() {
    let task = task(&[Subtask::MultiValue], &[1024], 1);
    let (prompt, ids) = task.prompt(0).unwrap();
    let answer = format!(" {}, {}", prompt.expected[2], prompt.expected[0]);
    let output = task.tokens.spans(&answer).unwrap().ids;
    let record = task.record(0, prompt.clone(), ids.clone(), output).unwrap();
    assert_eq!(record.metrics["string_match"], 0.5);
    assert_eq!((record.prompt, record.output_text), (ids, answer));
    assert_eq!(record.expected, prompt.expected.join("\n"));
    assert_eq!(record.place, Some(Place::Subtask("niah_multivalue".into())));
    assert_eq!(
        (record.cluster, record.threshold),
        (record.item, Some(0.85))
    );
}
