//! `harness compare`: arms paired by item, from a sweep's results and from anybody's tables.
mod small;

use small::Work;
use std::fmt::Write;

/// A table of items: 30 clusters of 4 items, right or wrong by a fixed pattern, `more` of ten of them right.
fn table(arms: &[(&str, usize)]) -> String {
    let mut text = String::from("arm,task,item,cluster,metric,value\n");
    for (arm, more) in arms {
        for i in 0..120 {
            let right = usize::from((i * 7 + i / 13) % 10 < *more);
            writeln!(text, "{arm},quiz,q{i},c{},exact_match,{right}", i / 4).unwrap();
        }
    }
    text
}

#[test]
fn arms_of_a_table_are_paired_and_corrected() {
    let work = Work::new();
    std::fs::write(
        work.path("items.csv"),
        table(&[("a", 3), ("b", 8), ("c", 3)]),
    )
    .unwrap();
    let (code, out, error) = work.run(&["compare", "items.csv"]);
    assert_eq!((code, error.as_str()), (0, ""), "{error}");
    insta::assert_snapshot!(out, @r#"
     score               arm          value  first  difference  95 % interval             p  could see      items  test
     quiz.exact_match ↑  items.csv@b  0.800  0.308       0.492  0.425 to 0.559  below 0.001      0.106  120 in 30  t
     quiz.exact_match ↑  items.csv@c   0.31   0.31      0.0000  all agree             1.000             120 in 30  t
    first: items.csv@a. Differences are arm less first, paired by item; p is Holm's over the arms in each score; "could see" is the smallest true difference that these items and seeds would have found with 80 % power.
    "#);
    let (code, out, _) = work.run(&["compare", "items.csv@c", "items.csv@b", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, rows.as_array().unwrap().len()), (0, 1));
    let found = &rows[0]["comparison"];
    assert!(
        (found["better_by"].as_f64().unwrap() - 0.5).abs() < 0.05,
        "{found}"
    );
    assert!(found["p_corrected"].as_f64().unwrap() < 0.001);
    assert_eq!(
        (&found["clusters"], &found["items"]),
        (&30.into(), &120.into())
    );
}

#[test]
fn independent_items_are_mcnemars() {
    let work = Work::new();
    // Of 10 items 6 are right under b alone and none under a alone: 2 · 2^−6.
    let mut text = String::from("arm,task,item,metric,value\n");
    for i in 0..10 {
        writeln!(
            text,
            "a,quiz,q{i},exact_match,{}\nb,quiz,q{i},exact_match,1",
            u8::from(i < 4)
        )
        .unwrap();
    }
    std::fs::write(work.path("items.csv"), text).unwrap();
    let (_, out, _) = work.run(&["compare", "items.csv", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let found = &rows[0]["comparison"];
    assert_eq!(found["test"], "mcnemar");
    assert!(
        (found["p"].as_f64().unwrap() - 0.03125).abs() < 1e-12,
        "{found}"
    );
}

#[test]
fn results_trials_and_scores_are_read() {
    let work = Work::new();
    assert_eq!(work.run(&["sweep", "study.toml"]).0, 0);
    let (code, out, error) = work.run(&[
        "compare",
        "results/small@rope=plain",
        "results/small@rope=yarn-4",
    ]);
    assert_eq!((code, error.as_str()), (0, ""), "{error}");
    assert!(
        out.contains("prose.nats_per_token ↓") && out.contains("passkey.192.exact_match ↑"),
        "{out}"
    );
    assert!(out.contains("× 2 seeds"), "{out}");
    // All arms of the folder, the base first.
    let (_, out, _) = work.run(&["compare", "results/small"]);
    assert!(
        out.contains("first: results/small@base") && out.contains("Holm's over the arms"),
        "{out}"
    );
    let (code, out, _) = work.run(&["compare", "results/small/scores.csv", "--json"]);
    assert!(code == 0 && out.contains("\"passkey.192\""), "{out}");
    let trials = std::fs::read_dir(work.path("results/small/trials"))
        .unwrap()
        .flatten();
    let trials: Vec<String> = trials
        .map(|t| format!("results/small/trials/{}", t.file_name().display()))
        .collect();
    let (code, out, error) = work.run(&[
        "compare",
        &trials[0],
        &format!("{}/records.jsonl", trials[1]),
    ]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains(&format!("first: {}", trials[0])), "{out}");
}

#[test]
fn bad_input_is_one_line() {
    let work = Work::new();
    let refused = |file: &str, text: &str, arguments: &[&str]| {
        std::fs::write(work.path(file), text).unwrap();
        let (code, out, error) = work.run(&[&["compare"], arguments].concat());
        assert_eq!(
            (code, out.as_str(), error.lines().count()),
            (2, "", 1),
            "{error}"
        );
        error.trim_end().to_string()
    };
    insta::assert_snapshot!(refused("x", "", &["none"]), @"error: none: there is no such file or folder");
    insta::assert_snapshot!(refused("a.csv", "task,item,value\n", &["a.csv"]), @"error: a.csv: has no column metric; a table of items needs task, item, metric, value");
    insta::assert_snapshot!(refused("a.csv", "task,item,metric,value\nq,1,acc,x\n", &["a.csv"]), @"error: a.csv:2: CSV deserialize error: record 1 (line: 2, byte: 23): field 3: invalid float literal");
    insta::assert_snapshot!(refused("a.csv", "task,item,metric,value\nq,1,acc,1\n", &["a.csv"]), @"error: a.csv: one arm alone, a.csv, has nothing to be compared with; name another");
    insta::assert_snapshot!(refused("b.csv", "task,item,metric,value\nq,2,acc,1\n", &["a.csv", "b.csv"]), @"error: nothing can be compared; arms must have the same items under the same seeds: b.csv and a.csv: they have no items in common");
    insta::assert_snapshot!(refused("b.csv", "task,item,metric,value\nq,1,acc,1\nq,1,acc,0\n", &["a.csv", "b.csv"]), @r#"error: nothing can be compared; arms must have the same items under the same seeds: b.csv and a.csv: item "1" is there more than once"#);
    insta::assert_snapshot!(refused("b.csv", "task,item,metric,value\nq,\"1\n1\",acc,1\nq,2,acc,nan\n", &["a.csv", "b.csv"]), @"error: b.csv:4: a value must be a number, and a weight 0 or more");
    insta::assert_snapshot!(refused("b.csv", "task,item,metric,value,weight\nq,1,acc,1,2\n", &["a.csv", "b.csv"]), @r#"error: nothing can be compared; arms must have the same items under the same seeds: b.csv and a.csv: item "1" does not weigh the same everywhere (a loss per token under two tokenizers cannot be compared; bits per byte can)"#);
    insta::assert_snapshot!(refused("b.csv", "task,item,metric,value,cluster\nq,1,acc,1,c\n", &["a.csv", "b.csv"]), @r#"error: nothing can be compared; arms must have the same items under the same seeds: b.csv and a.csv: item "1" is not in the same cluster everywhere"#);
    insta::assert_snapshot!(refused("b.csv", "task,item,metric,value\nq,1,acc,1\n", &["a.csv", "b.csv@c"]), @"error: b.csv: no arm is named c; there are b.csv");
    insta::assert_snapshot!(refused("r.jsonl", "{}\n", &["r.jsonl", "a.csv"]), @"error: r.jsonl:1: is no record of an evaluation: missing field `task` at line 1 column 2");
    insta::assert_snapshot!(refused("small/x", "", &["small"]), @"error: small: neither a results folder (manifest.toml with its trials, or scores.csv) nor a trial (records.jsonl)");
}
