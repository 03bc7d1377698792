//! Where in a TOML file something stands, and errors that say so.
use super::Error;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A TOML text with the place of every key and array element.
#[derive(Debug)]
pub(super) struct Places {
    file: String,
    text: String,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Keys and indices from the top.
    path: Vec<String>,
    /// Bytes of the key, or of the whole element of an array.
    span: Range<usize>,
    /// Bytes of what it holds.
    value: Range<usize>,
}

impl Places {
    /// Reads the places in `text`; none where it is no TOML.
    pub fn new(file: &str, text: &str) -> Self {
        let mut entries = Vec::new();
        if let Ok(table) = DeTable::parse(text) {
            walk_table(table.get_ref(), &mut Vec::new(), &mut entries);
        }
        Places {
            file: file.to_string(),
            text: text.to_string(),
            entries,
        }
    }

    /// An error at the line of a dotted path, or of the longest beginning of it that is there.
    pub fn error_at(&self, path: &str, what: impl Into<String>) -> Error {
        let parts: Vec<&str> = path.split('.').collect();
        let line = (1..=parts.len()).rev().find_map(|n| {
            let found = self.entries.iter().find(|e| e.path == parts[..n])?;
            Some(self.line(found.span.start))
        });
        self.error(line, what)
    }

    /// An error at the line of the key that `what` begins with (`stage.0.context: ...`), or without a
    /// line.
    pub fn error_named(&self, what: String) -> Error {
        let end = what.find([':', ' ']).unwrap_or(what.len());
        let path = what[..end].to_string();
        self.error_at(&path, what)
    }

    /// What toml says of the file, as one line.
    pub fn explain(&self, error: &toml::de::Error) -> Error {
        let span = error.span();
        let (found, what) = self.reword(error.message(), span.as_ref());
        let line = found.or_else(|| span.map(|s| self.line(s.start)));
        self.error(line, what)
    }

    /// A message of serde in our words, and the line of the key that it speaks of.
    pub fn reword(&self, message: &str, span: Option<&Range<usize>>) -> (Option<usize>, String) {
        if let Some((found, known)) = unknown(message, "unknown field") {
            let entry = self.key(found, span);
            let place = entry.map_or(String::new(), |e| {
                format!(" in {}", table_name(&e.path[..e.path.len() - 1]))
            });
            let what = format!("unknown key `{found}`{place}; {}", advice(found, &known));
            return (entry.map(|e| self.line(e.span.start)), what);
        }
        if let Some((found, known)) = unknown(message, "unknown variant") {
            let what = format!("unknown value \"{found}\"; {}", advice(found, &known));
            return (None, what);
        }
        if let Some((missing, _)) = unknown(message, "missing field") {
            let table = span.map_or(&[][..], |span| self.table_around(span));
            return (
                None,
                format!("key `{missing}` is missing in {}", table_name(table)),
            );
        }
        (None, message.replace('\n', "; "))
    }

    /// An error at a line.
    pub fn error(&self, line: Option<usize>, what: impl Into<String>) -> Error {
        Error {
            place: match line {
                Some(line) => format!("{}:{line}", self.file),
                None => self.file.clone(),
            },
            what: what.into(),
        }
    }

    /// The entry of a key of this name, within `span` if there is one.
    fn key(&self, name: &str, span: Option<&Range<usize>>) -> Option<&Entry> {
        let named = || {
            let is = |e: &&Entry| e.path.last().is_some_and(|last| last == name);
            self.entries.iter().filter(is)
        };
        let inside = span.and_then(|span| {
            named().find(|e| e.span.start >= span.start && e.span.start < span.end)
        });
        inside.or_else(|| named().next())
    }

    /// Path of the innermost table or element whose value contains the span.
    fn table_around(&self, span: &Range<usize>) -> &[String] {
        let around =
            |e: &&Entry| e.value.start <= span.start && span.end <= e.value.end && !span.is_empty();
        let innermost = self.entries.iter().filter(around);
        innermost
            .max_by_key(|e| e.path.len())
            .map_or(&[], |e| &e.path)
    }

    fn line(&self, byte: usize) -> usize {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        before.matches('\n').count() + 1
    }
}

fn walk_table(table: &DeTable, path: &mut Vec<String>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        entries.push(Entry {
            path: path.clone(),
            span: key.span(),
            value: value.span(),
        });
        walk_value(value.get_ref(), path, entries);
        path.pop();
    }
}

fn walk_value(value: &DeValue, path: &mut Vec<String>, entries: &mut Vec<Entry>) {
    match value {
        DeValue::Table(table) => walk_table(table, path, entries),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                path.push(i.to_string());
                entries.push(Entry {
                    path: path.clone(),
                    span: element.span(),
                    value: element.span(),
                });
                walk_value(element.get_ref(), path, entries);
                path.pop();
            }
        }
        _ => {}
    }
}

/// How a table of the file is called.
fn table_name(path: &[String]) -> String {
    match path {
        [] => "the study".into(),
        [array, index] if index.bytes().all(|b| b.is_ascii_digit()) => format!("[[{array}]]"),
        [table] => format!("[{table}]"),
        path => format!("`{}`", path.join(".")),
    }
}

/// Of serde's "KIND `found`, expected ..." the found name and the known ones.
pub(super) fn unknown<'a>(message: &'a str, kind: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let rest = message.strip_prefix(kind)?.trim_start().strip_prefix('`')?;
    let (found, rest) = rest.split_once('`')?;
    Some((found, rest.split('`').skip(1).step_by(2).collect()))
}

/// Of the known names the one that looks most like `found`.
pub(super) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(found, name);
    let alike = known.iter().filter(|name| likeness(name) > 0.7);
    alike
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .copied()
}

/// The nearest known name, or all of them.
fn advice(found: &str, known: &[&str]) -> String {
    match nearest(found, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there are no keys here".into(),
        None => format!("known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n\n[[stage]]\ncontext = 2\n\n[[stage]]\nrope = { base = 1, factr = 2 }\n[x.y]\nz = [{ q = 1 }]\n";

    #[test]
    fn paths_have_lines() {
        let places = Places::new("f.toml", TEXT);
        for (path, line) in [
            ("a", 1),
            ("stage.0.context", 4),
            ("stage.1.rope.factr", 7),
            ("stage.1.rope.nothing", 7),
            ("x.y.z.0.q", 9),
        ] {
            assert_eq!(
                places.error_at(path, "w").to_string(),
                format!("f.toml:{line}: w")
            );
        }
        assert_eq!(
            places
                .error_named("stage.0.context: bad".into())
                .to_string(),
            "f.toml:4: stage.0.context: bad"
        );
        assert_eq!(
            places.error_named("nothing".into()).to_string(),
            "f.toml: nothing"
        );
    }

    #[test]
    fn unknown_keys_are_found_and_put_right() {
        let places = Places::new("f.toml", TEXT);
        let message = "unknown field `factr`, expected one of `base`, `factor`";
        assert_eq!(
            places.reword(message, None),
            (
                Some(7),
                "unknown key `factr` in `stage.1.rope`; did you mean `factor`?".into()
            )
        );
        let message = "unknown field `q`, expected `long` or `short`";
        assert_eq!(
            places.reword(message, None).1,
            "unknown key `q` in `x.y.z.0`; known are long, short"
        );
    }
}
