//! SQuAD's and HotpotQA's files as haystacks.
use super::*;

const SQUAD: &str = r#"{"version": "v2.0", "data": [
    {"title": "Rivers", "paragraphs": [
        {"context": "The Elbe is 1,094 km long.", "qas": [
            {"question": "How long is the Elbe?", "answers": [{"text": "1,094 km", "answer_start": 12},
                {"text": "1,094 km long", "answer_start": 12}], "is_impossible": false},
            {"question": "How deep is it?", "answers": [], "is_impossible": true}]},
        {"context": "The Rhine flows north.", "qas": [
            {"question": "Where does the Rhine flow?", "answers": [{"text": "north", "answer_start": 16}]}]}]},
    {"title": "Hills", "paragraphs": [{"context": "Hills are low.", "qas": []},
        {"context": "The Brocken is a hill.", "qas": []}, {"context": "Few hills have snow.", "qas": []}]}]}"#;
const HOTPOT: &str = r#"[{"_id": "1", "question": "Which is longer?", "answer": "The Rhine", "context":
    [["Elbe", ["It is long.", " It flows."]], ["Rhine", ["It is longer."]]], "supporting_facts": []},
    {"_id": "2", "question": "Which is low?", "answer": "The Elbe", "context": [["Elbe", ["It is long.", " It flows."]]]}]"#;

fn questions(subtask: Subtask, text: &str) -> Result<Questions, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Questions::read(subtask, file.path())
}

#[test]
fn questions_are_read_as_their_authors_write_them() {
    let squad = questions(Subtask::Squad, SQUAD).unwrap();
    assert_eq!((squad.questions.len(), squad.documents()), (2, 5));
    let elbe = &squad.questions[0];
    assert_eq!(elbe.answers, ["1,094 km", "1,094 km long"]);
    let alone = squad.prompt(elbe, "x", 1);
    assert_eq!(
        alone.text,
        question_template("How long is the Elbe?")
            .around("Document 1:\nThe Elbe is 1,094 km long.")
    );
    // The other paragraphs of an article come first, then any; each once.
    let two = squad.prompt(elbe, "x", 2).text;
    assert!(two.contains("Rhine") && two.contains("Document 2:") && !two.contains("ills"));
    let all = squad.prompt(elbe, "x", 5).text;
    assert_eq!(all.matches("Document ").count(), 5);
    for document in [
        "Elbe is",
        "Rhine flows",
        "Hills are",
        "Brocken",
        "Few hills",
    ] {
        assert_eq!(all.matches(document).count(), 1);
    }

    let hotpot = questions(Subtask::Hotpot, HOTPOT).unwrap();
    assert_eq!((hotpot.questions.len(), hotpot.documents()), (2, 2));
    let both = hotpot.prompt(&hotpot.questions[0], "x", 2).text;
    assert!(
        both.contains(":\nElbe\nIt is long. It flows.") && both.contains(":\nRhine\nIt is longer.")
    );
}

#[test]
fn where_the_right_document_stands_is_drawn_for_each_question() {
    let squad = questions(Subtask::Squad, SQUAD).unwrap();
    let mut places = [0usize; 5];
    for item in 0..1000 {
        let text = squad
            .prompt(&squad.questions[0], &format!("{item}"), 5)
            .text;
        let before = text.split("The Elbe").next().unwrap();
        places[before.matches("Document ").count() - 1] += 1;
    }
    // 200 each, with a standard deviation of 12.6. (NVIDIA's shuffle has one seed for all, and so one place.)
    assert!(places.iter().all(|&n| n.abs_diff(200) < 63), "{places:?}");
}

#[test]
fn questions_without_room_are_passed_over() {
    let squad = SQUAD.replace(
        "The Rhine flows north.",
        &"The Rhine flows north. ".repeat(200),
    );
    let task = |items, length| {
        let mut spec = spec(&[Subtask::Squad], &[length], items);
        spec.squad = Some("squad.json".into());
        let questions =
            BTreeMap::from([(Subtask::Squad, questions(Subtask::Squad, &squad).unwrap())]);
        Ruler::new(&spec, tokens(), None, questions)
    };
    let one = task(1, 400).unwrap();
    assert_eq!(one.prompt(0).unwrap().0.expected[0], "1,094 km");
    let error = task(2, 400).err().unwrap().to_string();
    assert!(
        error.contains(
            "2 items of qa_1 were asked for, but at length 400 only 1 of its 2 questions"
        ),
        "{error}"
    );
    let both = task(2, 8192).unwrap();
    let clusters: Vec<String> = (0..2)
        .map(|i| {
            let (prompt, ids) = both.prompt(i).unwrap();
            assert!(ids.len() <= 8192 - 32);
            both.record(i, prompt, ids, Vec::new()).unwrap().cluster
        })
        .collect();
    assert_ne!(clusters[0], clusters[1]);
    assert!(
        clusters[0].starts_with("ruler/qa_1/document "),
        "{clusters:?}"
    );
    // What training data must not have.
    let texts = both.texts().unwrap();
    assert!(texts[0].text.contains("Question: ") && texts.len() == 2);
}

#[test]
fn documents_come_again_but_for_those_that_are_needed() {
    let squad = questions(Subtask::Squad, SQUAD).unwrap();
    let text = squad.prompt(&squad.questions[0], "x", 13).text;
    for (document, times) in [
        ("Document ", 13),
        ("Elbe is", 1),
        ("Rhine flows", 3),
        ("Hills are", 3),
        ("Brocken", 3),
        ("Few hills", 3),
    ] {
        assert_eq!(text.matches(document).count(), times, "{document}");
    }
    let task = |subtask: Subtask, text: &str| {
        let spec = spec(&[subtask], &[4096], 1);
        let questions = BTreeMap::from([(subtask, questions(subtask, text).unwrap())]);
        Ruler::new(&spec, tokens(), None, questions)
    };
    let (_, ids) = task(Subtask::Squad, SQUAD).unwrap().prompt(0).unwrap();
    assert!(ids.len() <= 4096 - 32 && ids.len() > 4096 - 32 - 60);
    // A question that needs all that there is has nothing to fill its prompt.
    let all = r#"[{"question": "Which is longer?", "answer": "The Rhine", "context":
        [["Elbe", ["It is long."]], ["Rhine", ["It is longer."]]]}]"#;
    let error = task(Subtask::Hotpot, all).err().unwrap().to_string();
    assert!(
        error.contains("length 4096 is too long for qa_2"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_one_line() {
    let error = questions(Subtask::Squad, HOTPOT).unwrap_err();
    assert!(
        error.contains("is not SQuAD") && !error.contains('\n'),
        "{error}"
    );
    let error = questions(Subtask::Hotpot, "[]").unwrap_err();
    assert!(error.contains("has no question"), "{error}");
    let error = Questions::read(Subtask::Hotpot, Path::new("no/such.json")).unwrap_err();
    assert!(
        error.contains("no/such.json: ") && error.contains("`hotpotqa` names the file of HotpotQA"),
        "{error}"
    );
}
