//! `harness prepare`: from files to token ids, the same bytes however it runs, and the manifest of it.
mod small;

use small::Work;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Instant,
};

/// Numbers that look random: a linear congruential generator's.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn text(&mut self, words: usize) -> String {
        let word = |lcg: &mut Lcg| {
            let length = 2 + lcg.below(7);
            (0..length)
                .map(|_| (b'a' + lcg.below(26) as u8) as char)
                .collect::<String>()
        };
        let mut text = String::new();
        for i in 0..words {
            text += &word(self);
            text += if i % 12 == 11 { ". The " } else { " of " };
        }
        text
    }
}

fn line(text: &str) -> String {
    serde_json::json!({ "text": text }).to_string() + "\n"
}

/// A study of two sources with duplicates within and across them, a text of the evaluation's in one, and one that is
/// near an evaluation's document.
fn study(documents: usize) -> Work {
    let work = Work::new();
    let mut lcg = Lcg(7);
    let texts: Vec<String> = (0..documents).map(|i| lcg.text(80 + i % 60)).collect();
    let held_out = fs::read_to_string(work.path("small/held_out.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(held_out.lines().next().unwrap()).unwrap();
    let held_out = first["text"].as_str().unwrap();
    let words: Vec<&str> = held_out.split_whitespace().collect();
    let mut prose: String = texts.iter().map(|text| line(text)).collect();
    // Exact, near, and short ones twice.
    prose += &line(&texts[3]);
    prose += &line(&texts[5].replacen(" of ", " for ", 1));
    prose += &line("x");
    prose += &line(&format!(
        "{} {} {}",
        lcg.text(60),
        words[10..40].join(" "),
        lcg.text(60)
    ));
    prose += &line(&held_out.replacen(words[20], "another", 1));
    fs::write(work.path("small/prose.jsonl"), prose).unwrap();
    fs::create_dir_all(work.path("small/tree/sub")).unwrap();
    fs::write(work.path("small/tree/a.txt"), lcg.text(300)).unwrap();
    fs::write(work.path("small/tree/sub/b.txt"), &texts[9]).unwrap();
    fs::write(work.path("small/tree/c.bin"), [0, 1, 2]).unwrap();
    work.replace(
        "study.toml",
        "\n[mix]\n",
        "\n[[data]]\nname = \"tree\"\npaths = [\"small/tree\"]\n\n[mix]\ntree = 1\n",
    );
    work.replace(
        "study.toml",
        "paths = [\"small/prose.jsonl\"]",
        "paths = [\"small/prose.jsonl\"]\nclean = { rules = \"repair\", min_words = 5 }",
    );
    work.append(
        "study.toml",
        "\n[dedup]\nprecedence = [\"tree\"]\n\n[decontaminate]\n",
    );
    work
}

/// Every file of the cache but locks and what is known of inputs, which names times.
fn cache(results: &Path) -> BTreeMap<String, Vec<u8>> {
    let root = results.join("cache");
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&root) {
        let path = entry.unwrap().into_path();
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if path.is_file() && !name.ends_with("lock") && !name.starts_with("inputs") {
            all.insert(name, fs::read(&path).unwrap());
        }
    }
    all.insert(
        "data.json".into(),
        fs::read(results.join("data.json")).unwrap(),
    );
    all
}

fn prepare(work: &Work, out: &str, threads: &str) -> (i32, String, String) {
    let output = work
        .harness(&["prepare", "study.toml", "--out", out])
        .env("RAYON_NUM_THREADS", threads)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn the_same_bytes_in_one_thread_and_in_three_and_nothing_twice() {
    let work = study(60);
    for (out, threads) in [("one", "1"), ("three", "3")] {
        let (code, _, error) = prepare(&work, out, threads);
        assert_eq!(code, 0, "{error}");
    }
    let (one, three) = (cache(&work.path("one")), cache(&work.path("three")));
    assert!(one.keys().eq(three.keys()) && one == three);
    // What is there is not made again.
    let made = |name: &String| {
        fs::metadata(work.path("one/cache").join(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    let names: Vec<&String> = one.keys().filter(|name| *name != "data.json").collect();
    let before: Vec<_> = names.iter().map(|name| made(name)).collect();
    assert_eq!(prepare(&work, "one", "2").0, 0);
    let after: Vec<_> = names.iter().map(|name| made(name)).collect();
    assert!(before == after && one == cache(&work.path("one")));
}

#[test]
fn duplicates_and_evaluation_texts_go_and_the_manifest_says_so() {
    let work = study(60);
    let (code, out, error) = work.run(&["prepare", "study.toml", "--json"]);
    assert_eq!(code, 0, "{error}");
    let manifest: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        fs::read_to_string(work.path("results/small/data.json")).unwrap(),
        out
    );
    let data = &manifest["preparations"][0];
    assert_eq!(
        data["arms"],
        serde_json::json!(["rope=plain", "rope=yarn-4"])
    );
    let report = &data["report"];
    let steps = |source: usize| {
        let steps = report["sources"][source]["steps"].as_array().unwrap();
        let step = |step: &serde_json::Value| {
            (
                step["after"].as_str().unwrap().to_string(),
                step["documents"].as_u64().unwrap(),
            )
        };
        steps.iter().map(step).collect::<Vec<_>>()
    };
    // "x" has too few words; one exact and one near go for their likes in the source, one for the tree's, one for
    // the evaluation's document; one more holds a text of it.
    let named = |all: &[(&str, u64)]| {
        all.iter()
            .map(|(s, n)| (s.to_string(), *n))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        steps(0),
        named(&[
            ("read", 65),
            ("clean", 64),
            ("deduplicate", 60),
            ("decontaminate", 59)
        ])
    );
    assert_eq!(
        steps(2),
        named(&[("read", 2), ("deduplicate", 2), ("decontaminate", 2)])
    );
    assert_eq!(report["sources"][0]["documents"], 59);
    assert_eq!(
        report["sources"][2]["read"]["left_out"]["binary"]["examples"][0],
        "c.bin"
    );
    let finding = &report["decontaminate"]["findings"][0];
    assert_eq!(finding["document"], "prose: prose.jsonl:64");
    assert!(
        finding["item"]
            .as_str()
            .unwrap()
            .contains("held_out.jsonl:1"),
        "{finding}"
    );

    let (code, out, _) = work.run(&["prepare", "study.toml", "--report"]);
    assert_eq!(code, 0);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = out.lines().map(words).collect();
    for expected in [
        "decontaminate 59 59341 41027 1.45",
        "tree 42b095d9a59dc8fa 3 2 3530",
        "rule min_words 1 1 prose.jsonl:63",
        "left out as binary 1 3 c.bin",
        "Duplicates: 73 documents with those held out, 62 stay; 2 candidate pairs, 0 refused as less similar",
        "prose evaluation prose 0 1",
        "prose tree 1 0",
        "prose prose 1 1",
        "rope=plain 0 prose",
        "written to results/small/data.json",
    ] {
        let found = lines.iter().any(|line| line.starts_with(expected));
        assert!(found, "{expected} in {out}");
    }
}

#[test]
fn a_preparation_that_is_killed_again_and_again_gives_the_same_bytes() {
    let work = study(6000);
    let began = Instant::now();
    assert_eq!(prepare(&work, "whole", "2").0, 0);
    // What a killed writer leaves, where the kills below may not hit one.
    fs::create_dir_all(work.path("killed/cache/chosen")).unwrap();
    for left in ["killed", "killed/cache", "killed/cache/chosen"] {
        fs::write(work.path(left).join(".harness-left"), "half").unwrap();
    }
    let mut kills = 0;
    // Short enough for many kills, also where the first run was slow by chance.
    let mut delay = began.elapsed() / 100;
    loop {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("harness"))
            .current_dir(work.path("."))
            .args(["--quiet", "prepare", "study.toml", "--out", "killed"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        sleep(delay);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        delay = delay * 6 / 5;
    }
    assert!(kills >= 5, "{kills} kills");
    let (whole, killed) = (cache(&work.path("whole")), cache(&work.path("killed")));
    assert!(
        whole.keys().eq(killed.keys()),
        "{:?} {:?}",
        whole.keys(),
        killed.keys()
    );
    assert!(whole == killed);
    assert!(!work.path("killed/.harness-left").exists());
}

#[test]
fn trials_train_on_what_was_prepared_and_their_keys_cover_how() {
    let work = study(60);
    assert_eq!(work.run(&["prepare", "study.toml"]).0, 0);
    let before = cache(&work.path("results/small"));
    let (code, _, error) = work.run(&["sweep", "study.toml", "--only", "rope=plain,seed=0"]);
    assert_eq!(code, 0, "{error}");
    assert!(before == cache(&work.path("results/small")));
    let keys = |work: &Work| {
        let (code, out, error) = work.run(&["sweep", "study.toml", "--dry-run", "--json"]);
        assert_eq!(code, 0, "{error}");
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        let key = |trial: &serde_json::Value| trial["key"].as_str().unwrap().to_string();
        out["trials"]
            .as_array()
            .unwrap()
            .iter()
            .map(key)
            .collect::<Vec<_>>()
    };
    let first = keys(&work);
    for (from, to, same) in [
        ("[dedup]", "[dedup]\nmemory = \"32 MiB\"", true),
        ("[dedup]", "[dedup]\nbands = 20", false),
        (
            "[decontaminate]",
            "[decontaminate]\naction = \"cut\"",
            false,
        ),
        ("min_words = 5", "min_words = 6", false),
    ] {
        let other = study(60);
        other.replace("study.toml", from, to);
        let other = keys(&other);
        // The base's own evaluation does not depend on data.
        assert_eq!(first[0], other[0]);
        assert_eq!(first[1..] == other[1..], same, "{to}");
    }
}

#[test]
fn bad_settings_are_one_line() {
    let refused = |from: &str, to: &str| {
        let work = study(12);
        work.replace("study.toml", from, to);
        let (code, out, error) = work.run(&["--quiet", "prepare", "study.toml"]);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!work.path("results/small/data.json").exists());
        error.trim_end().trim_start_matches("error: ").to_string()
    };
    insta::assert_snapshot!(refused("[dedup]", "[dedup]\nband = 3"), @"study.toml:46: unknown key `band` in [dedup]; did you mean `bands`?");
    insta::assert_snapshot!(refused("precedence = [\"tree\"]", "precedence = [\"trees\"]"), @r#"study.toml:45: dedup: precedence: "trees" is no data source of texts; there are prose, tree"#);
    insta::assert_snapshot!(refused("[decontaminate]", "[decontaminate]\nwords = 2"), @"study.toml:48: decontaminate: `words` is 2; give a number from 5 (fewer words are everywhere) to 50");
    insta::assert_snapshot!(refused("min_words = 5", "min_word = 5"), @"study.toml:12: unknown key `min_word` in `data.0.clean`; did you mean `min_words`?");
    insta::assert_snapshot!(refused("rules = \"repair\"", "rules = \"pros\""), @r#"study.toml:12: unknown value "pros"; did you mean `prose`?"#);
    insta::assert_snapshot!(refused("min_words = 5", "min_words = 5000"), @r#"study.toml:9: data.0: data source "prose": cleaning leaves none of its 17 documents; loosen the rules of `clean` (in arm rope=plain)"#);
    insta::assert_snapshot!(refused("small/tree\"]", "small/tree\"]\ntemplate = \"{a\""), @r#"study.toml:18: data.2: data source "tree": template "{a": a { without its pair; write {{ for the brace itself"#);
}

/// A folder that its reader may not look into; root may look everywhere, so that the program runs as somebody else.
#[test]
fn a_folder_without_permission_is_one_line() {
    let work = study(12);
    let root = work.path(".");
    let me = fs::metadata(&root).unwrap().uid();
    let nobody = 65534;
    let program = assert_cmd::cargo::cargo_bin!("harness");
    let copy = work.path("harness");
    let mut command = Command::new(program);
    if me == 0 {
        // The program, too, must be where somebody else may run it.
        fs::copy(program, &copy).unwrap();
        command = Command::new(&copy);
        for entry in walkdir::WalkDir::new(&root) {
            chown(entry.unwrap().path(), Some(nobody), Some(nobody)).unwrap();
        }
        command.uid(nobody).gid(nobody);
    }
    fs::set_permissions(
        work.path("small/tree/sub"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    let output = command
        .args(["prepare", "study.toml"])
        .current_dir(&root)
        .output()
        .unwrap();
    fs::set_permissions(
        work.path("small/tree/sub"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    insta::assert_snapshot!(error.trim_end(), @"error: study.toml:9: data: small/tree: cannot be read whole: small/tree/sub: IO error for operation on small/tree/sub: Permission denied (os error 13)");
}
