use super::*;
use crate::data::{Document, clean::Kind};

/// HumanEval/0 as `openai/human-eval` has it.
const PROBLEM: &str = r#"from typing import List


def has_close_elements(numbers: List[float], threshold: float) -> bool:
    """ Check if in given list of numbers, are any two numbers closer to each other than
    given threshold.
    >>> has_close_elements([1.0, 2.0, 3.0], 0.5)
    False
    >>> has_close_elements([1.0, 2.8, 3.0, 4.0, 5.0, 2.0], 0.3)
    True
    """
"#;
/// The first problem of GSM8K's training split.
const CLIPS: &str = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. \
    How many clips did Natalia sell altogether in April and May?";

fn items() -> Vec<Document> {
    vec![document("HumanEval/0", PROBLEM), document("gsm8k/0", CLIPS)]
}

fn document(id: &str, text: &str) -> Document {
    Document {
        id: id.into(),
        text: text.into(),
    }
}

fn index(spec: &DecontaminateSpec, items: Vec<Document>) -> Index {
    Index::new(spec, items).unwrap()
}

/// A sentence of `n` words that no other number gives.
fn words(name: &str, n: usize) -> String {
    (0..n).map(|i| format!("{name}{i} ")).collect()
}

fn decide(index: &Index, kind: Kind, documents: &[Document]) -> Decontaminated {
    let mut decontaminator = Decontaminator::new(index);
    for Document { id, text } in documents {
        decontaminator.add(id, index.check(text, kind));
    }
    decontaminator.finish()
}

#[test]
fn a_pasted_problem_is_found_and_reported() {
    let index = index(&DecontaminateSpec::default(), items());
    let file =
        format!("import os\n\n{PROBLEM}    return False\n\n\ndef other(a, b):\n    return a + b\n");
    let prose = format!(
        "A quiz. {} And the answer?",
        CLIPS.to_uppercase().replace(',', " --")
    );
    let files = [
        document("clean.py", "def f(x):\n    return x\n"),
        document("leak.py", &file),
    ];
    let found = decide(&index, Kind::Code, &files);
    assert_eq!(found.decisions, [(1, Decision::Drop)].into());
    let [finding] = &found.report.findings[..] else {
        panic!("{:?}", found.report.findings);
    };
    assert_eq!(
        (finding.document.as_str(), finding.item.as_str()),
        ("leak.py", "HumanEval/0")
    );
    assert_eq!(finding.words, 56);
    assert!(finding.text.starts_with("from typing import List\n"));
    let found = decide(&index, Kind::Prose, &[document("quiz", &prose)]);
    assert_eq!(found.report.findings[0].item, "gsm8k/0");
    assert!(
        found.report.findings[0]
            .text
            .starts_with("NATALIA SOLD CLIPS TO 48")
    );
}

#[test]
fn a_paraphrase_is_not_claimed() {
    let index = index(&DecontaminateSpec::default(), items());
    let code = "def close_pair(values, limit):\n    \"\"\"Tell whether two of the values lie nearer to each other than \
                the limit.\n    >>> close_pair([1.0, 2.0, 3.0], 0.5)\n    False\n    \"\"\"\n    return any(abs(a - b) < \
                limit for a in values for b in values if a is not b)\n";
    let prose = "In April Natalia sold 48 clips, one to each friend. In May she sold half of that. What is the total \
                 for both months?";
    assert_eq!(index.check(code, Kind::Code), []);
    assert_eq!(index.check(prose, Kind::Prose), []);
}

#[test]
fn the_least_run_is_the_n_gram() {
    let index = index(&DecontaminateSpec::default(), items());
    let words: Vec<&str> = CLIPS.split(' ').collect();
    assert_eq!(index.check(&words[..12].join(" "), Kind::Prose), []);
    let found = index.check(&words[..13].join(" "), Kind::Prose);
    assert_eq!(
        (found.len(), found[0].words, found[0].bytes.start),
        (1, 13, 0)
    );
    let twice = format!("{}. xyz {}", words[3..17].join(" "), words[..15].join(" "));
    let found = index.check(&twice, Kind::Prose);
    assert_eq!(found.iter().map(|o| o.words).collect::<Vec<_>>(), [14, 15]);
    assert_eq!(&twice[found[1].bytes.clone()], words[..15].join(" "));
}

#[test]
fn a_long_text_is_found_by_a_long_run() {
    let novel = words("w", 3000);
    let index = index(
        &DecontaminateSpec::default(),
        vec![document("novel", &novel)],
    );
    let quote = |n: usize| {
        format!(
            "He said: {} and left.",
            novel
                .split(' ')
                .skip(700)
                .take(n)
                .collect::<Vec<_>>()
                .join(" ")
        )
    };
    assert_eq!(index.check(&quote(49), Kind::Prose), []);
    assert_eq!(index.check(&quote(50), Kind::Prose)[0].words, 50);
}

#[test]
fn a_cut_takes_the_lines_and_nothing_else() {
    let spec = DecontaminateSpec {
        action: Action::Cut,
        ..Default::default()
    };
    let index = index(&spec, items());
    let text = format!("Before.\nQuestion: {CLIPS} Answer: 72\nAfter.\n");
    let found = decide(&index, Kind::Prose, &[document("d", &text)]);
    assert_eq!(
        found.decisions[&0].apply(&text).as_deref(),
        Some("Before.\nAfter.\n")
    );
    let all = decide(&index, Kind::Prose, &[document("d", CLIPS)]);
    assert_eq!(all.decisions[&0].apply(CLIPS), None);
    // A line of 5,000 bytes keeps what is not the problem.
    let line = format!("{}{CLIPS} {}", words("a", 500), words("b", 500));
    let found = decide(&index, Kind::Prose, &[document("d", &line)]);
    let cut = found.decisions[&0].apply(&line).unwrap();
    assert_eq!(cut, format!("{}? {}", words("a", 500), words("b", 500)));
}

#[test]
fn what_many_evaluation_texts_say_is_no_evidence() {
    let licence = words("licence", 40);
    let with = |i: usize| {
        document(
            &format!("item{i}"),
            &format!("{licence}{}", words(&format!("own{i}x"), 40)),
        )
    };
    let training = [
        document("d", &format!("{licence} and code")),
        document("leak", &with(3).text),
    ];
    let eleven = index(&DecontaminateSpec::default(), (0..11).map(with).collect());
    let found = decide(&eleven, Kind::Prose, &training);
    assert_eq!(found.decisions, [(1, Decision::Drop)].into());
    assert_eq!(
        found.report.findings.len(),
        1,
        "of one item alone: {:?}",
        found.report.findings
    );
    // 28 n-grams each, which are the same words for code and 31 there.
    assert_eq!(found.report.common_in_items, 28 + 31);
    let ten = index(&DecontaminateSpec::default(), (0..10).map(with).collect());
    assert_eq!(decide(&ten, Kind::Prose, &training).decisions.len(), 2);
}

#[test]
fn what_many_training_documents_say_is_no_evidence() {
    let licence = words("licence", 60);
    let item = document("item", &format!("{licence}{}", words("own", 60)));
    let index = index(&DecontaminateSpec::default(), vec![item.clone()]);
    let with = |n: usize| {
        let licensed = (0..n).map(|i| {
            document(
                &format!("d{i}"),
                &format!("{licence}{}", words(&format!("x{i}y"), 9)),
            )
        });
        licensed
            .chain([document("leak", &item.text)])
            .collect::<Vec<_>>()
    };
    let few = decide(&index, Kind::Prose, &with(9));
    assert_eq!(few.decisions.len(), 10, "ten documents are no boilerplate");
    let many = decide(&index, Kind::Prose, &with(10));
    assert_eq!(many.decisions, [(10, Decision::Drop)].into());
    assert_eq!(many.report.common_in_documents, 48);
    assert_eq!(many.report.common_examples[0].documents, 11);
    assert!(
        many.report.common_examples[0]
            .text
            .starts_with("licence0 licence1")
    );
}

#[test]
fn tables_and_short_texts_are_no_evidence() {
    let table = "0, ".repeat(200);
    let index = index(
        &DecontaminateSpec::default(),
        vec![document("table", &table), document("short", "Who was he?")],
    );
    assert_eq!(index.check(&table, Kind::Code), []);
    let found = decide(&index, Kind::Code, &[document("d", &table)]);
    assert_eq!(found.report.too_short_for_code, ["short"]);
    assert_eq!(
        (
            found.report.items,
            found.report.documents,
            found.report.contaminated
        ),
        (2, 1, 0)
    );
}

#[test]
fn an_idiom_of_code_is_no_evidence() {
    let problem = "def pairs(l):\n    \"\"\"Pairs that add up to zero.\"\"\"\n    for i in range(len(l)):\n        for j in range(i \
                   + 1, len(l)):\n            if l[i] + l[j] == 0:\n                return True\n    return False\n";
    let index = index(
        &DecontaminateSpec::default(),
        vec![document("pairs", problem)],
    );
    let loops =
        "for i in range(len(l)):\n    for j in range(i + 1, len(l)):\n        swap(l, i, j)\n";
    assert_eq!(index.check(loops, Kind::Code), []);
    let more = format!("def pairs(l):\n  # Pairs that add up to zero.\n  {loops}");
    assert_eq!(index.check(&more, Kind::Code).len(), 1);
}

#[test]
fn the_table_is_checked() {
    let read = |toml: &str| toml::from_str::<DecontaminateSpec>(toml).map_err(|e| e.to_string());
    assert_eq!(read("").unwrap(), DecontaminateSpec::default());
    assert!(
        read("word = 3")
            .unwrap_err()
            .contains("unknown field `word`, expected one of `words`")
    );
    for (toml, word) in [
        ("words = 4", "`words` is 4; give a number from 5"),
        ("tokens = 51", "to 50"),
        ("common_share = 1.5", "from 0 to 1"),
        ("common_items = 0", "give 1 or more"),
    ] {
        let error = Index::new(&read(toml).unwrap(), Vec::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }
}
