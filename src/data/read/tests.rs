use super::*;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// A folder with files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, bytes) in files {
            let path = folder.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A source whose paths are in this folder: `DIR` in `said` is the folder.
    fn spec(&self, said: &str) -> SourceSpec {
        let dir = self.0.path().display().to_string();
        toml::from_str(&format!("name = 'x'\n{}", said.replace("DIR", &dir))).unwrap()
    }

    /// Ids and texts, and the report.
    fn read(&self, said: &str) -> Result<(Vec<(String, String)>, ReadReport)> {
        let mut found = Vec::new();
        let report = each(&self.spec(said), &|_| (), &mut |document| {
            found.push((document.id, document.text));
            Ok(true)
        })?;
        Ok((found, report))
    }

    fn texts(&self, said: &str) -> Vec<String> {
        let (found, _) = self.read(said).unwrap();
        found.into_iter().map(|(_, text)| text).collect()
    }

    /// The one line of what is wrong, with `DIR` for the folder.
    fn error(&self, said: &str) -> String {
        let error = self.read(said).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error.replace(&self.0.path().display().to_string(), "DIR")
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn reads_text_and_jsonl_in_order_of_names() {
    let folder = Folder::new(&[
        ("b.txt", b"second"),
        ("a.txt", b"first"),
        ("c.txt", &[0xff, 0xfe]),
        (
            "d.jsonl",
            b"{\"body\": \"third\"}\n\n{\"body\": \"fourth\"}\n",
        ),
    ]);
    let (found, report) = folder
        .read("field = 'body'\npaths = ['DIR/*.txt', 'DIR/d.jsonl']")
        .unwrap();
    let expected = [
        ("a.txt", "first"),
        ("b.txt", "second"),
        ("d.jsonl:1", "third"),
        ("d.jsonl:3", "fourth"),
    ];
    assert_eq!(
        found,
        expected.map(|(id, text)| (id.to_string(), text.to_string()))
    );
    assert_eq!((report.files, report.documents, report.bytes), (4, 4, 22));
    let left = &report.left_out[&Reason::InvalidUtf8];
    assert_eq!(
        (left.documents, left.bytes, left.examples.join("")),
        (1, 2, "c.txt".into())
    );
}

#[test]
fn what_is_compressed_gives_what_it_is_compressed_from() {
    let lines: Vec<String> = (0..2000)
        .map(|i| format!("{{\"text\": \"line {i}, naïve\"}}"))
        .collect();
    let jsonl = lines.join("\n").into_bytes();
    // Two members one after the other are one file.
    let members = [gzip(&jsonl[..100]), gzip(&jsonl[100..])].concat();
    let folder = Folder::new(&[
        ("a.jsonl", &jsonl),
        ("b.jsonl.gz", &members),
        ("c.jsonl.zst", &zstd::encode_all(&jsonl[..], 3).unwrap()),
        ("d.txt.gz", &gzip("only café".as_bytes())),
    ]);
    let plain = folder.texts("paths = ['DIR/a.jsonl']");
    assert_eq!(plain.len(), 2000);
    assert_eq!(plain, folder.texts("paths = ['DIR/b.jsonl.gz']"));
    assert_eq!(plain, folder.texts("paths = ['DIR/c.jsonl.zst']"));
    assert_eq!(folder.texts("paths = ['DIR/d.txt.gz']"), ["only café"]);
}

#[test]
fn the_bytes_that_were_taken_are_told() {
    let folder = Folder::new(&[("a.txt", b"12345"), ("b.jsonl", b"{\"text\": \"b\"}")]);
    let seen = std::cell::Cell::new(0);
    let spec = folder.spec("paths = ['DIR/*']");
    each(&spec, &|n| seen.set(seen.get() + n), &mut |_| Ok(true)).unwrap();
    assert_eq!(seen.get(), 5 + 13);
}

#[test]
fn a_folder_gives_its_texts_alone() {
    let folder = Folder::new(&[
        (".gitignore", b"build/\n*.log\n"),
        ("src/a.py", b"a = 1\n"),
        ("src/b.py", b"b = 2\n"),
        ("src/c_pb2.py", b"c = 3\n"),
        ("src/d.pyc", b"\x00\x01"),
        ("src/.hidden.py", b"h = 4\n"),
        ("build/e.py", b"e = 5\n"),
        ("f.log", b"log\n"),
        ("README", b"read\n"),
        ("j.min.js", b"a()\n"),
    ]);
    let (found, report) = folder.read("paths = ['DIR']").unwrap();
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["README", "src/a.py", "src/b.py"]);
    let left = |reason| report.left_out[&reason].examples.join(" ");
    assert_eq!(left(Reason::Binary), "src/d.pyc");
    assert_eq!(left(Reason::Generated), "src/c_pb2.py");
    assert_eq!(left(Reason::Minified), "j.min.js");
    let some = folder.texts("paths = ['DIR']\nfiles = 'src/[ab]*'");
    assert_eq!(some, ["a = 1\n", "b = 2\n"]);
    // As a glob's match a folder is no source: only its own name asks for all that it holds.
    assert_eq!(folder.texts("paths = ['DIR/[fj]*']"), ["log\n", "a()\n"]);
}

#[test]
fn a_template_makes_texts_of_records() {
    let dialogue = r#"{"messages": [["Hi", "there"], ["Yes?"]], "n": 1}"#;
    let other = r#"{"messages": [["No"]], "n": 2}"#;
    let folder = Folder::new(&[
        (
            "object.json",
            format!("{{\"x\": {dialogue}, \"y\": {other}}}").as_bytes(),
        ),
        ("list.json", format!("[{dialogue}, {other}]").as_bytes()),
        ("lines.jsonl", format!("{dialogue}\n{other}\n").as_bytes()),
    ]);
    let template = "template = '{n}:{#messages} -{#.} {.}{/.}{/messages}'";
    let texts = ["1: - Hi there - Yes?", "2: - No"];
    for (file, ids) in [
        ("object.json", ["object.json:x", "object.json:y"]),
        ("list.json", ["list.json:1", "list.json:2"]),
        ("lines.jsonl", ["lines.jsonl:1", "lines.jsonl:2"]),
    ] {
        let (found, _) = folder
            .read(&format!("{template}\npaths = ['DIR/{file}']"))
            .unwrap();
        let expected: Vec<(String, String)> = ids
            .into_iter()
            .zip(texts)
            .map(|(id, text)| (id.into(), text.into()))
            .collect();
        assert_eq!(found, expected);
    }
    // Stopped in the middle of a list.
    let some = folder.texts(&format!(
        "{template}\npaths = ['DIR/list.json']\nmax_bytes = 1"
    ));
    assert_eq!(some, texts[..1]);
}

#[test]
fn columns_inside_others_and_lists_of_parquet_go_through_a_template() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet/snappy.parquet");
    let spec = toml::from_str(&format!(
        "name = 'x'\npaths = ['{}']\ntemplate = '{{id}} {{body}}{{#tags}} <{{.}}>{{/tags}}'",
        golden.display()
    ));
    let found = documents(&spec.unwrap()).unwrap();
    assert_eq!(found.len(), 50);
    insta::assert_snapshot!(found[1].text, @"1 row 1: café word  <t1>");
    insta::assert_snapshot!(found[3].text, @"3");
}

#[test]
fn what_is_not_utf8_is_left_out_replaced_or_an_error() {
    let folder = Folder::new(&[
        ("a.txt", b"caf\xe9"),
        (
            "b.jsonl",
            b"{\"text\": \"caf\xe9\"}\n{\"text\": \"fine\"}\n",
        ),
    ]);
    let paths = "paths = ['DIR/*']";
    let (found, report) = folder.read(paths).unwrap();
    assert_eq!(found, [("b.jsonl:2".to_string(), "fine".to_string())]);
    let left = &report.left_out[&Reason::InvalidUtf8];
    assert_eq!(left.examples, ["a.txt", "b.jsonl:1"]);
    let (found, report) = folder
        .read(&format!("invalid_utf8 = 'replace'\n{paths}"))
        .unwrap();
    let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["caf\u{fffd}", "caf\u{fffd}", "fine"]);
    assert_eq!(report.left_out[&Reason::Replaced].documents, 2);
    insta::assert_snapshot!(
        folder.error(&format!("invalid_utf8 = 'error'\n{paths}")),
        @r#"data source "x": a.txt is not UTF-8; repair it, or say invalid_utf8 = "skip" or "replace""#
    );
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let line = b"{\"text\": \"a\"}\n";
    let folder = Folder::new(&[("a.jsonl", &line.repeat(3))]);
    let path = folder.path("a.jsonl");
    let spec = folder.spec("paths = ['DIR/a.jsonl']");
    let read = |change: &dyn Fn()| {
        each(&spec, &|_| (), &mut |_| {
            change();
            Ok(true)
        })
    };
    read(&|| ()).unwrap();
    let append = || {
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        file.write_all(line).unwrap();
    };
    let error = read(&append).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "a.jsonl: changed while it was read; run again when nothing writes to it any more"
        ),
        "{error}"
    );
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let jsonl: Vec<u8> = (0..4000)
        .flat_map(|i: u32| {
            format!("{{\"text\": \"{}\"}}\n", i.wrapping_mul(2_654_435_761)).into_bytes()
        })
        .collect();
    let (gz, zst) = (gzip(&jsonl), zstd::encode_all(&jsonl[..], 3).unwrap());
    let long = [b"{\"text\": \"short\"}\n".to_vec(), vec![b'a'; 3000]].concat();
    let folder = Folder::new(&[
        ("empty.txt", b""),
        ("no_field.jsonl", b"{\"text\": \"a\"}\n{\"a\": 1}\n"),
        ("no_json.jsonl", b"{\"text\": \"a\"}\n{\"text\": \n"),
        ("cut.jsonl.gz", &gz[..gz.len() / 2]),
        ("cut.jsonl.zst", &zst[..zst.len() / 2]),
        ("no.txt.gz", b"plain"),
        ("long.jsonl", &long),
        ("long.txt", &long),
        (
            "long.json",
            format!("[{{\"a\": \"{}\"}}]", "a".repeat(3000)).as_bytes(),
        ),
        ("number.json", b"12"),
        ("cut.json", b"[{\"a\": 1},"),
        ("none/.gitignore", b"*"),
    ]);
    let error = |said: &str| folder.error(said);
    insta::assert_snapshot!(error("paths = ['DIR/*.md']"), @r#"data source "x": glob "DIR/*.md" matches no file; check the path"#);
    insta::assert_snapshot!(error("paths = ['DIR/empty.txt']"), @r#"data source "x": an empty document set: no document has 1 characters or more"#);
    insta::assert_snapshot!(error("paths = ['DIR/none']"), @r#"data source "x": folder "DIR/none" has no file; check the path"#);
    insta::assert_snapshot!(error("paths = ['DIR']\nfiles = '*.rs'"), @r#"data source "x": folder "DIR" has no file that `files` ("*.rs") names; check the path"#);
    insta::assert_snapshot!(error("paths = ['DIR']\nfiles = '[a'"), @r#"data source "x": files = "[a": Pattern syntax error near position 0: invalid range pattern"#);
    insta::assert_snapshot!(error("paths = ['DIR/empty.txt']\nfiles = '*.rs'"), @r#"data source "x": says `files`, but none of its `paths` is a folder; leave it out"#);
    insta::assert_snapshot!(error("paths = ['DIR/no_field.jsonl']"), @r#"DIR/no_field.jsonl:2: no text field "text"; name one with `field`, or several with `template`"#);
    insta::assert_snapshot!(error("paths = ['DIR/no_field.jsonl']\ntemplate = '{text}{b}'"), @r#"DIR/no_field.jsonl:1: no field "b", which `template` names"#);
    insta::assert_snapshot!(error("paths = ['DIR/no_field.jsonl']\ntemplate = '{text'"), @r#"data source "x": template "{text": a { without its pair; write {{ for the brace itself"#);
    insta::assert_snapshot!(error("paths = ['DIR/no_json.jsonl']"), @"DIR/no_json.jsonl:2: no JSON: EOF while parsing a value at line 1 column 9");
    insta::assert_snapshot!(error("paths = ['DIR/cut.jsonl.gz']").replace(char::is_numeric, "N"), @"DIR/cut.jsonl.gz:NNNN: damaged or cut off gzip (incomplete deflate stream); fetch or make the file again");
    insta::assert_snapshot!(error("paths = ['DIR/cut.jsonl.zst']").replace(char::is_numeric, "N"), @"DIR/cut.jsonl.zst:N: damaged or cut off zstd (incomplete frame); fetch or make the file again");
    insta::assert_snapshot!(error("paths = ['DIR/no.txt.gz']"), @"DIR/no.txt.gz: damaged or cut off gzip (unexpected end of file); fetch or make the file again");
    let limit = "max_document_bytes = 2000";
    insta::assert_snapshot!(error(&format!("paths = ['DIR/long.jsonl']\n{limit}")), @"DIR/long.jsonl:2: a line of more than 2000 bytes; raise the source's `max_document_bytes`, or cut it");
    insta::assert_snapshot!(error(&format!("paths = ['DIR/long.txt']\n{limit}")), @"DIR/long.txt: is one document of more than 2000 bytes; raise the source's `max_document_bytes`, or cut it");
    insta::assert_snapshot!(error(&format!("paths = ['DIR/long.json']\ntemplate = '{{a}}'\n{limit}")), @"DIR/long.json: has an element of more than 2000 bytes; raise the source's `max_document_bytes`, or cut it");
    insta::assert_snapshot!(error("paths = ['DIR/number.json']\ntemplate = '{a}'"), @"DIR/number.json: no JSON list or object: invalid type: integer `12`, expected a list of records, or an object of them at line 1 column 2");
    insta::assert_snapshot!(error("paths = ['DIR/cut.json']\ntemplate = '{a}'"), @"DIR/cut.json: no JSON list or object: EOF while parsing a value at line 1 column 10");
    insta::assert_snapshot!(error("paths = ['${HARNESS_NO_SUCH}/a']"), @r#"data source "x": path "${HARNESS_NO_SUCH}/a": the environment variable HARNESS_NO_SUCH is not set; set it to the folder with the material"#);
    insta::assert_snapshot!(error("crates = ['nothing-0.0.1']\npart = 'code'"), @r#"data source "x": crate nothing-0.0.1 is not unpacked in cargo's registry; run `cargo fetch` in the harness's folder (the version must be the one in Cargo.lock)"#);
}
