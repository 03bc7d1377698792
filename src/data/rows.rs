//! Rows with fields, where no single text is asked for: lines of JSON, and rows of Parquet.
use super::{Error, Result, SourceSpec, read};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use std::{fs, io::BufRead, path::Path};

/// A row with a name that is the same on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// File and line, or file and row, both from 1.
    pub id: String,
    pub fields: Value,
}

/// All rows of a source's files, in the order of the files' names.
///
/// # Errors
/// When a file cannot be read, is neither JSON lines nor Parquet, or has a line that is no JSON object; when there is
/// no row.
pub fn rows(spec: &SourceSpec) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for file in read::files(spec)? {
        let before = all.len();
        match file.path.extension().and_then(|e| e.to_str()) {
            Some("jsonl") => lines(&file.path, &mut all)?,
            Some("parquet") => parquet(&file.path, &mut all)?,
            _ => {
                return Err(wrong(
                    &file.path,
                    "rows are read of .jsonl and .parquet; name such a file",
                ));
            }
        }
        for row in &mut all[before..] {
            row.id = format!("{}:{}", file.id, row.id);
        }
    }
    match all.is_empty() {
        true => spec.wrong("has no rows"),
        false => Ok(all),
    }
}

/// Hash of a source's rows.
///
/// # Errors
/// As [`rows`].
pub fn rows_hash(spec: &SourceSpec) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    for Row { id, fields } in rows(spec)? {
        hash.update(blake3::hash(id.as_bytes()).as_bytes());
        hash.update(blake3::hash(fields.to_string().as_bytes()).as_bytes());
    }
    Ok(hash.finalize().to_hex()[..16].to_string())
}

fn lines(path: &Path, all: &mut Vec<Row>) -> Result<()> {
    let file = fs::File::open(path).map_err(|e| wrong(path, e.to_string()))?;
    for (i, line) in std::io::BufReader::new(file).lines().enumerate() {
        let at = |what: String| Error::File {
            path: format!("{}:{}", path.display(), i + 1),
            what,
        };
        let line = line.map_err(|e| at(e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let fields: Value = serde_json::from_str(&line).map_err(|e| at(format!("no JSON: {e}")))?;
        if !fields.is_object() {
            return Err(at("is no JSON object, and so has no fields".into()));
        }
        let id = (i + 1).to_string();
        all.push(Row { id, fields });
    }
    Ok(())
}

fn parquet(path: &Path, all: &mut Vec<Row>) -> Result<()> {
    let damaged = |e| wrong(path, format!("damaged, or no Parquet file: {e}"));
    let file = fs::File::open(path).map_err(|e| wrong(path, e.to_string()))?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    for (i, row) in reader.get_row_iter(None).map_err(damaged)?.enumerate() {
        all.push(Row {
            id: (i + 1).to_string(),
            fields: row.map_err(damaged)?.to_json_value(),
        });
    }
    Ok(())
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(path: &Path) -> SourceSpec {
        toml::from_str(&format!("name = 'x'\npaths = ['{}']", path.display())).unwrap()
    }

    #[test]
    fn lines_are_rows_and_their_hash_follows_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.jsonl");
        fs::write(&path, "{\"a\": [1, \"b\"]}\n\n{\"a\": null}\n").unwrap();
        let found = rows(&spec(&path)).unwrap();
        let row = |id: &str, fields| Row {
            id: format!("items.jsonl:{id}"),
            fields,
        };
        assert_eq!(
            found,
            [
                row("1", json!({"a": [1, "b"]})),
                row("3", json!({"a": null}))
            ]
        );
        let before = rows_hash(&spec(&path)).unwrap();
        assert_eq!(before, rows_hash(&spec(&path)).unwrap());
        fs::write(&path, "{\"a\": [1, \"c\"]}\n\n{\"a\": null}\n").unwrap();
        assert_ne!(before, rows_hash(&spec(&path)).unwrap());
    }

    /// `tests/golden/parquet.py` wrote the file.
    #[test]
    fn columns_are_fields() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
        let found = rows(&spec(&golden.join("zstd.parquet"))).unwrap();
        assert_eq!(found.len(), 50);
        assert_eq!(found[4].id, "zstd.parquet:5");
        assert_eq!(found[4].fields["id"], 4);
        let text = "row 4: café word word word word ";
        assert_eq!(found[4].fields["body"], text);
        assert_eq!(found[3].fields["body"], Value::Null);
        assert!(found[4].fields["tags"].is_array());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, what) in [
            ("a.txt", "a", "name such a file"),
            ("b.jsonl", "{}\n{", "b.jsonl:2: no JSON"),
            ("c.jsonl", "[1]\n", "c.jsonl:1: is no JSON object"),
            ("d.jsonl", "\n", "has no rows"),
            ("e.parquet", "PAR", "damaged, or no Parquet file"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let error = rows(&spec(&path)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
