use super::*;

fn cleaner(toml: &str) -> Cleaner {
    let table: std::collections::BTreeMap<String, CleanSpec> = toml::from_str(toml).unwrap();
    Cleaner::new(&table["clean"]).unwrap()
}

fn document(text: &str) -> Document {
    Document {
        id: "d".into(),
        text: text.into(),
    }
}

fn broken(cleaner: &Cleaner, text: &str) -> Option<&'static str> {
    cleaner.clean(document(text)).dropped.map(|b| b.rule)
}

#[test]
fn none_leaves_a_document_as_it_is() {
    let text = "\u{feff}x\r\n\0";
    let cleaned = cleaner("clean = 'none'").clean(document(text));
    assert_eq!(
        (cleaned.document.text.as_str(), cleaned.dropped),
        (text, None)
    );
    let repaired = cleaner("clean = 'repair'").clean(document(text));
    assert_eq!(
        (repaired.document.text.as_str(), repaired.dropped),
        ("x\n", None)
    );
}
