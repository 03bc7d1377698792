use super::super::testing::{decoder, tokens};
use super::*;
use crate::model::Decoder;
use crate::ops::Env;
use serde_json::json;

fn spec(rest: &str) -> ChoiceSpec {
    let text = format!("name = 'arc'\nsources = [{{ name = 'x', paths = ['a.jsonl'] }}]\n{rest}");
    toml::from_str(&text).unwrap()
}

fn row(id: &str, fields: serde_json::Value) -> Row {
    Row {
        id: id.into(),
        fields,
    }
}

/// The forms of ARC, HellaSwag and MMLU as their data sets have them.
fn arc() -> (ChoiceSpec, Row) {
    let spec = spec(
        "context = \"Question: {{question}}\\nAnswer:\"\nchoices = 'choices.text'\nlabels = 'choices.label'\n\
         answer = 'answerKey'",
    );
    let fields = json!({"question": "What is yellow?", "answerKey": "C",
        "choices": {"text": ["grass", "sky", "sun"], "label": ["A", "B", "C"]}});
    (spec, row("arc.jsonl:1", fields))
}

fn hellaswag() -> (ChoiceSpec, Row) {
    let spec =
        spec("context = '{{ctx}}'\nchoices = 'endings'\nanswer = 'label'\ncluster = 'source_id'");
    let fields = json!({"ctx": "The grass is", "endings": ["green.", "blue and yellow."], "label": "1",
        "source_id": "video 3"});
    (spec, row("h.jsonl:9", fields))
}

fn mmlu() -> (ChoiceSpec, Row) {
    let spec = spec(
        "context = \"{{question}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nAnswer:\"\nchoices = 'choices'\n\
         continuation = ' {{label}}'\nanswer = 'answer'",
    );
    let fields = json!({"question": "The sky is", "choices": ["blue", "green"], "answer": 0});
    (spec, row("m.parquet:2", fields))
}

/// The ids of a whole text, and how many of them are its context's.
fn split(context: &str, continuation: &str) -> (Vec<u32>, usize) {
    let tokens = tokens();
    let whole = tokens
        .document(&format!("{context}{continuation}"))
        .unwrap();
    (whole, tokens.document(context).unwrap().len())
}

#[test]
fn items_are_those_of_the_known_forms() {
    for ((spec, row), context, continuations, characters, answer) in [
        (
            arc(),
            "Question: What is yellow?\nAnswer:",
            vec![" grass", " sky", " sun"],
            vec![5, 3, 3],
            2,
        ),
        (
            hellaswag(),
            "The grass is",
            vec![" green.", " blue and yellow."],
            vec![6, 16],
            1,
        ),
        (
            mmlu(),
            "The sky is\nA. blue\nB. green\nAnswer:",
            vec![" A", " B"],
            vec![1, 1],
            0,
        ),
    ] {
        let task = Choices::new(&spec, &tokens(), vec![row]).unwrap();
        let question = &task.questions[0];
        assert_eq!(question.continuations, continuations);
        assert_eq!(question.characters, characters);
        assert_eq!(question.answer, answer);
        for (item, continuation) in question.items.iter().zip(&continuations) {
            let (ids, from) = split(context, continuation);
            assert_eq!((&item.token_ids, item.scored_from), (&ids, from));
        }
        assert_eq!(
            task.texts().unwrap()[0].text,
            format!("{context}{}", continuations[answer])
        );
        assert_eq!(question.bytes, continuations[answer].len());
    }
    let task = Choices::new(&hellaswag().0, &tokens(), vec![hellaswag().1]).unwrap();
    assert_eq!(
        (task.items()[0].as_str(), task.questions[0].cluster.as_str()),
        ("arc/h.jsonl:9", "video 3")
    );
}

#[test]
fn the_longest_likely_choice_wins_by_length_alone() {
    let task = Choices::new(&hellaswag().0, &tokens(), vec![hellaswag().1]).unwrap();
    let scored = |nats: [f32; 2]| {
        let one = |(item, nats): (&Item, f32)| {
            let n = item.token_ids.len() - item.scored_from;
            loglikelihood::Scored {
                logprobs: vec![nats / n as f32; n],
                greedy: (0..n).map(|i| nats > -1.0 || i > 0).collect(),
            }
        };
        let items = task.questions[0].items.iter();
        items.zip(nats).map(one).collect::<Vec<_>>()
    };
    // −6 over 6 characters against −8 over 16: the second, and right, one is likelier a character.
    let record = task.record(0, &task.questions[0].items, &scored([-6.0, -8.0]));
    assert_eq!(
        (record.metrics["acc"], record.metrics["acc_norm"]),
        (0.0, 1.0)
    );
    let bits = 8.0 / std::f64::consts::LN_2 / " blue and yellow.".len() as f64;
    assert!((record.metrics["bits_per_byte"] - bits).abs() < 1e-6);
    assert_eq!(
        (record.output_text.as_str(), record.expected.as_str()),
        (" green.", " blue and yellow.")
    );
    assert!((record.choices[1].logprob + 8.0).abs() < 1e-5);
    assert!(record.choices.iter().all(|choice| !choice.greedy));
    // Of equal ones the first.
    let record = task.record(0, &task.questions[0].items, &scored([-0.5, -0.5]));
    assert_eq!(record.metrics["acc"], 0.0);
    assert!(record.choices[0].greedy);
}

#[test]
fn without_a_context_a_choice_comes_after_bos_or_eos() {
    let (mut spec, row) = hellaswag();
    spec.context = String::new();
    let task = Choices::new(&spec, &tokens(), vec![row]).unwrap();
    let env = Env::cpu();
    let run = |model: &Decoder| task.run(&Subject { env: &env, model }, &[0]);
    let mut model = decoder(&env);
    model.config.bos_token_id = None;
    model.config.eos_token_id = Vec::new();
    let error = run(&model).unwrap_err().to_string();
    let words = "task \"arc\": arc/h.jsonl:9: context is empty, and the checkpoint has neither a BOS nor an EOS";
    assert!(error.starts_with(words), "{error}");
    for (bos, eos, first) in [(None, 7, 7), (Some(5), 7, 5)] {
        model.config.bos_token_id = bos;
        model.config.eos_token_id = vec![eos];
        let record = run(&model).unwrap().remove(0);
        assert_eq!(record.prompt, [first]);
        for (choice, text) in record.choices.iter().zip([" green.", " blue and yellow."]) {
            assert_eq!((choice.token_ids[0], choice.scored_from), (first, 1));
            assert_eq!(choice.token_ids[1..], tokens().document(text).unwrap());
        }
    }
}

#[test]
fn a_score_that_is_no_number_names_its_item() {
    let task = Choices::new(&hellaswag().0, &tokens(), vec![hellaswag().1]).unwrap();
    let env = Env::cpu();
    let mut model = decoder(&env);
    model.config.rms_norm_eps = f64::NAN;
    let subject = Subject {
        env: &env,
        model: &model,
    };
    let error = task.run(&subject, &[0]).unwrap_err().to_string();
    let words = "arc/h.jsonl:9: the loss is not a finite number";
    assert!(error.starts_with(words), "{error}");
}

#[test]
fn there_may_be_more_choices_than_letters() {
    let (spec, mut row) = hellaswag();
    let endings: Vec<String> = (0..30).map(|i| format!("number {i}")).collect();
    row.fields["endings"] = json!(endings);
    row.fields["label"] = json!(28);
    let task = Choices::new(&spec, &tokens(), vec![row.clone()]).unwrap();
    assert_eq!(task.questions[0].answer, 28);
    row.fields["label"] = json!(30);
    let error = Choices::new(&spec, &tokens(), vec![row]).err().unwrap();
    let words = "gives 30, which is none of its places (0 to 29)";
    assert!(error.to_string().ends_with(words), "{error}");
}

#[test]
fn a_reduced_task_has_a_tenth_of_its_items_and_a_hundred_of_all_rows() {
    let (mut spec, _) = hellaswag();
    for (items, reduced) in [(Some(500), 50), (None, 100)] {
        spec.items = items;
        spec.reduce();
        assert_eq!(spec.items, Some(reduced));
    }
}

#[test]
fn what_is_wrong_names_the_row() {
    for (key, value, what) in [
        (
            "answerKey",
            json!("D"),
            "`answer` = \"answerKey\" gives D, which is none of its labels (A, B, C)",
        ),
        (
            "choices",
            json!({"text": ["sun"], "label": ["A"]}),
            "fewer than two choices",
        ),
        (
            "choices",
            json!({"text": "sun", "label": ["A"]}),
            "`choices` = \"choices.text\" is no list",
        ),
        (
            "choices",
            json!({"text": ["a", ""], "label": ["C", "D"]}),
            "is empty for one of its choices",
        ),
        (
            "question",
            json!(null),
            "cannot be filled in: invalid operation (a field is null)",
        ),
    ] {
        let (spec, mut row) = arc();
        row.fields[key] = value;
        let error = Choices::new(&spec, &tokens(), vec![row])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("arc.jsonl:1: ") && error.contains(what),
            "{error}"
        );
    }
    let (spec, mut row) = mmlu();
    row.fields["answer"] = json!(2);
    let error = Choices::new(&spec, &tokens(), vec![row])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.ends_with("gives 2, which is none of its places (0 to 1)"),
        "{error}"
    );
    let with = |rest: &str| spec_of(rest).problem().unwrap();
    assert!(with("sources = []").contains("`sources` is empty"));
    assert!(
        with("sources = [{ name = 'c', crates = ['jiff-0.2.46'], part = 'prose' }]")
            .contains("\"c\" has no rows")
    );
}

fn spec_of(sources: &str) -> ChoiceSpec {
    toml::from_str(&format!(
        "name = 'a'\n{sources}\ncontext = 'c'\nchoices = 'd'\nanswer = 'e'"
    ))
    .unwrap()
}
