use super::super::testing::{decoder, tokens};
use super::*;
use serde_json::json;

fn spec(rest: &str) -> GenerateSpec {
    let text = format!(
        "name = 'own'\nsources = [{{ name = 'x', paths = ['a.jsonl'] }}]\nprompt = 'The {{{{what}}}} is'\n\
         expected = 'colour'\nmax_tokens = 6\n{rest}"
    );
    toml::from_str(&text).unwrap()
}

const ALL: &str = "metrics = ['exact_match', 'contains', 'prefix', 'edit_similarity']";

fn rows() -> Vec<Row> {
    let row = |(i, fields): (usize, serde_json::Value)| Row {
        id: format!("a.jsonl:{}", i + 1),
        fields,
    };
    let fields = [
        json!({"what": "sky", "colour": "blue", "of": "day 1", "long": 256}),
        json!({"what": "sun of the whole day", "colour": ["yellow", "white"], "of": "day 1", "long": 512}),
        json!({"what": "number", "colour": 42, "of": "day 2", "long": 512}),
    ];
    fields.into_iter().enumerate().map(row).collect()
}

fn task(rest: &str) -> Generate {
    Generate::new(&spec(rest), Rc::new(tokens()), rows()).unwrap()
}

/// The record of item `i` for what the model says.
fn said(task: &Generate, i: usize, text: &str) -> Record {
    let output = task.tokens.spans(text).unwrap().ids;
    task.record(i, output).unwrap()
}

#[test]
fn items_come_of_rows() {
    let task = task(&format!("{ALL}\nlength = 'long'\ncluster = 'of'"));
    let tokens = tokens();
    let second = &task.questions[1];
    assert_eq!(
        second.prompt,
        tokens.document("The sun of the whole day is").unwrap()
    );
    assert_eq!(second.expected, ["yellow", "white"]);
    assert_eq!((second.length, second.cluster.as_str()), (512, "day 1"));
    assert_eq!(task.questions[2].expected, ["42"]);
    assert_eq!(task.items()[2], "own/a.jsonl:3");
    let plain = self::task(ALL);
    let longest = plain
        .questions
        .iter()
        .map(|q| q.prompt.len())
        .max()
        .unwrap();
    assert!(plain.questions.iter().all(|q| q.length == longest + 6));
    assert_eq!(plain.questions[0].cluster, "a.jsonl:1");
}

#[test]
fn answers_are_compared_as_the_suite_says() {
    let task = task(&format!("{ALL}\nstop = ['.', \"\\n\"]"));
    let metrics = |i: usize, text: &str| {
        let record = said(&task, i, text);
        ["exact_match", "contains", "prefix", "edit_similarity"].map(|m| record.metrics[m])
    };
    assert_eq!(metrics(0, " blue. And so on"), [1.0; 4]);
    assert_eq!(metrics(0, " bluer"), [0.0, 1.0, 1.0, 0.8]);
    assert_eq!(metrics(0, " a blue one"), [0.0, 1.0, 0.0, 0.4]);
    assert_eq!(metrics(0, "\nblue"), [0.0; 4]);
    // Any of the answers will do.
    assert_eq!(metrics(1, " white\n"), [1.0; 4]);
    assert_eq!(said(&task, 1, " white\nand").output_text, " white");
    assert_eq!(said(&task, 1, "").expected, "yellow\nwhite");
}

#[test]
fn of_an_answer_the_capture_alone_is_compared() {
    let task = task("metrics = ['exact_match']\ncapture = 'answer is ([a-z]+)'");
    let hit = |text: &str| said(&task, 0, text).metrics["exact_match"];
    assert_eq!(hit(" So the answer is blue, then."), 1.0);
    assert_eq!(hit(" blue"), 0.0);
    let whole = self::task("metrics = ['exact_match']\ncapture = 'b[a-z]+'");
    assert_eq!(said(&whole, 0, "It is blue.").metrics["exact_match"], 1.0);
}

#[test]
fn an_answer_ends_at_a_stop_text_and_does_not_depend_on_the_others() {
    let env = crate::ops::Env::cpu();
    let model = decoder(&env);
    let subject = Subject {
        env: &env,
        model: &model,
    };
    let free = task(ALL);
    let records = free.run(&subject, &[0, 1, 2]).unwrap();
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.output.len(), 6);
        assert_eq!(&free.run(&subject, &[i]).unwrap()[0], record);
    }
    // What the model says third, as a stop text.
    let ids = &records[0].output;
    let before = tokens().decode(&ids[..2]).unwrap();
    let third = tokens().decode(&ids[..3]).unwrap()[before.len()..].to_string();
    let stop = toml::Value::from(vec![third]);
    let stopped = task(&format!("{ALL}\nstop = {stop}"));
    let record = stopped.run(&subject, &[0]).unwrap().remove(0);
    assert!(record.output.len() <= 3, "{:?}", record.output);
    assert_eq!(record.output, ids[..record.output.len()]);
    assert!(before.starts_with(&record.output_text));
}

#[test]
fn a_long_prompt_is_not_continued_with_seven_others() {
    let mut all: Vec<Row> = (0..4).flat_map(|_| rows()).collect();
    all[5].fields["what"] = json!("day ".repeat(20_000));
    let task = Generate::new(&spec(ALL), Rc::new(tokens()), all).unwrap();
    assert!(task.questions[5].prompt.len() > 16_384);
    assert_eq!(task.chunks(), [5, 1, 6]);
}

#[test]
fn an_expected_answer_that_is_null_or_blank_is_an_error() {
    for colour in [
        json!(""),
        json!(" \n"),
        json!(["blue", null]),
        json!(["", "blue"]),
    ] {
        let mut all = rows();
        all[1].fields["colour"] = colour;
        let error = Generate::new(&spec(ALL), Rc::new(tokens()), all).err();
        let error = error.unwrap().to_string();
        let words = "a.jsonl:2: `expected` = \"colour\" gives null or a blank text";
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_reduced_task_has_a_tenth_of_its_items_and_a_hundred_of_all_rows() {
    let mut spec = spec(ALL);
    for (items, reduced) in [(Some(40), 4), (None, 100)] {
        spec.items = items;
        spec.reduce();
        assert_eq!(spec.items, Some(reduced));
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (rest, what) in [
        ("metrics = []", "`metrics` is empty"),
        (
            "metrics = ['contains']\ncapture = '('",
            "`capture` is no regular expression",
        ),
        ("metrics = ['contains']\nstop = ['']", "empty text"),
        ("metrics = ['contains']\nitems = 0", "`items` is 0"),
    ] {
        let problem = spec(rest).problem().unwrap();
        assert!(
            problem.contains(what) && !problem.contains('\n'),
            "{problem}"
        );
    }
    for (rest, what) in [
        (
            "length = 'what'",
            "a.jsonl:1: `length` = \"what\" is no whole number",
        ),
        (
            "cluster = 'nothing'",
            "a.jsonl:1: `cluster` = \"nothing\" is not there or null",
        ),
    ] {
        let spec = spec(&format!("{ALL}\n{rest}"));
        let error = Generate::new(&spec, Rc::new(tokens()), rows())
            .err()
            .unwrap();
        assert!(error.to_string().contains(what), "{error}");
    }
}
