//! What a suite may ask for.
use super::*;

#[test]
fn what_cannot_be_asked_for_is_said() {
    let base = || spec(&[Subtask::Single1], &[512], 2);
    let problem = |change: &dyn Fn(&mut RulerSpec)| {
        let mut spec = base();
        change(&mut spec);
        spec.problem().unwrap_or_default()
    };
    assert_eq!(base().problem(), None);
    assert!(problem(&|s| s.tasks = vec![]).contains("`tasks` must name"));
    assert!(problem(&|s| s.tasks = vec![Subtask::Single1; 2]).contains("none twice"));
    assert!(
        problem(&|s| s.tasks = vec![Subtask::Single2])
            .contains("niah_single_2 hides its needles in essays")
    );
    assert!(
        problem(&|s| s.tasks = vec![Subtask::Squad])
            .contains("qa_1 needs a file of questions; name it by `squad`")
    );
    assert!(problem(&|s| s.hotpotqa = Some("x".into())).contains("`hotpotqa` is the file of qa_2"));
    assert!(problem(&|s| s.lengths = vec![]).contains("`lengths`"));
    assert!(problem(&|s| s.threshold = Some(85.0)).contains("`threshold` is 85"));
    assert!(problem(&|s| s.items = 0).contains("`items` is 0"));
    assert!(problem(&|s| s.answer_tokens = Some(0)).contains("`answer_tokens` is 0"));
    let scores = base().scores();
    assert_eq!(
        scores,
        ["string_match", "512.string_match", "effective_context"]
    );
}

#[test]
fn a_variable_in_the_path_of_a_file_is_replaced_or_named() {
    let read = |path: &str| {
        let text = format!(
            "name = \"qa\"\ntasks = [\"qa_1\"]\nlengths = [512]\nitems = 1\nsquad = \"{path}\""
        );
        toml::from_str::<RulerSpec>(&text).map_err(|e| e.to_string())
    };
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let spec = read("${CARGO_MANIFEST_DIR}/squad.json").unwrap();
    assert_eq!(
        spec.files(),
        [("squad", Path::new(&root).join("squad.json").as_path())]
    );
    let error = read("${HARNESS_NO_SUCH}/squad.json").unwrap_err();
    assert!(
        error.contains("HARNESS_NO_SUCH, which is not set"),
        "{error}"
    );
}
