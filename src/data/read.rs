//! Documents from files: text, source code, JSONL, Parquet, unpacked crates, and data sets of the hub.
use super::{Error, Result, SourceSpec, crates, parquet};
use crate::checkpoint::hub::Commits;
use std::{
    fs,
    io::BufRead,
    path::{Path, PathBuf},
};

/// A text with a name that is the same on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// File name (or crate and file, or file and line).
    pub id: String,
    pub text: String,
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    pub id: String,
    pub path: PathBuf,
}

/// The files of a source, in the order of their names.
///
/// # Errors
/// When a variable is not set, a glob matches nothing, or a crate is not unpacked.
pub(super) fn files(spec: &SourceSpec) -> Result<Vec<File>> {
    if !spec.crates.is_empty() {
        return crates::files(spec);
    }
    if let Some((repo, wanted)) = spec.repository()? {
        let snapshot = repo.cached(&wanted, &Commits::default());
        let snapshot = snapshot.map_err(|e| spec.error(e.to_string()))?;
        let pattern = spec.files.as_deref().unwrap_or_default();
        let file = |name: &String| File {
            id: name_behind(pattern, Path::new(name)),
            path: snapshot.folder.join(name),
        };
        return Ok(snapshot.files.iter().map(file).collect());
    }
    let mut all = Vec::new();
    for pattern in &spec.paths {
        let expanded = expand(spec, pattern)?;
        let matches = match glob::glob(&expanded) {
            Ok(matches) => matches,
            Err(e) => return spec.wrong(format!("glob {pattern:?}: {e}")),
        };
        let mut found = Vec::new();
        for path in matches {
            let path = path.map_err(|e| Error::File {
                path: e.path().display().to_string(),
                what: e.error().to_string(),
            })?;
            if path.is_file() {
                let id = name_behind(&expanded, &path);
                found.push(File { id, path });
            }
        }
        if found.is_empty() {
            return spec.wrong(format!("glob {pattern:?} matches no file; check the path"));
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        all.extend(found);
    }
    Ok(all)
}

/// A path with the environment's variables in it.
pub(super) fn expand(spec: &SourceSpec, path: &str) -> Result<String> {
    let expanded = shellexpand::env(path).map_err(|e| {
        spec.error(format!(
            "path {path:?}: the environment variable {} is not set; set it to the folder with the material",
            e.var_name
        ))
    })?;
    Ok(expanded.into_owned())
}

/// A file's name for a document: what is before the pattern's first wildcard differs between machines, so it begins
/// behind that.
fn name_behind(pattern: &str, path: &Path) -> String {
    let root = Path::new(pattern)
        .components()
        .take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect::<PathBuf>();
    let name = path.strip_prefix(&root).unwrap_or(path);
    match name.as_os_str().is_empty() {
        true => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        false => name.display().to_string(),
    }
}

/// All documents of a source of files or crates, in the order of their names. A file that is not UTF-8
/// is left out, and a line says so.
///
/// # Errors
/// When files cannot be read, a JSONL line has no text, or nothing is left.
pub fn documents(spec: &SourceSpec) -> Result<Vec<Document>> {
    if spec.tokens.is_some() {
        return spec.wrong("is token ids, and texts are asked for here; give `paths`");
    }
    let mut taken = Taken {
        spec,
        documents: Vec::new(),
        bytes: 0,
    };
    let mut skipped = Vec::new();
    for file in files(spec)? {
        if taken.is_full() {
            break;
        }
        match file.path.extension().and_then(|e| e.to_str()) {
            Some("jsonl") => jsonl(spec, &file, &mut taken)?,
            Some("parquet") => parquet::each(spec, &file, &mut |document| taken.take(document))?,
            _ => match String::from_utf8(fs::read(&file.path).map_err(|e| Error::File {
                path: file.path.display().to_string(),
                what: e.to_string(),
            })?) {
                Ok(text) => {
                    let text = crates::part_of(spec, &file.path, text);
                    taken.take(Document { id: file.id, text });
                }
                Err(_) => skipped.push(file.id),
            },
        }
    }
    if !skipped.is_empty() {
        let (n, name) = (skipped.len(), &spec.name);
        log::warn!(
            "data source {name:?}: left out {n} files that are not UTF-8: {}",
            skipped.join(", ")
        );
    }
    if taken.documents.is_empty() {
        let least = spec.min_chars.max(1);
        return spec.wrong(format!(
            "an empty document set: no document has {least} characters or more"
        ));
    }
    Ok(taken.documents)
}

/// The documents of a source so far.
struct Taken<'a> {
    spec: &'a SourceSpec,
    documents: Vec<Document>,
    bytes: usize,
}

impl Taken<'_> {
    /// Takes a document if it is long enough and there is room for it; false when there is room for no more.
    fn take(&mut self, document: Document) -> bool {
        let long_enough = document.text.chars().count() >= self.spec.min_chars.max(1);
        if long_enough && !self.is_full() {
            self.bytes += document.text.len();
            self.documents.push(document);
        }
        !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.spec.max_bytes.is_some_and(|max| self.bytes >= max)
    }
}

fn jsonl(spec: &SourceSpec, file: &File, taken: &mut Taken) -> Result<()> {
    let at = |line: usize, what: String| Error::File {
        path: format!("{}:{line}", file.path.display()),
        what,
    };
    let opened = fs::File::open(&file.path).map_err(|e| at(0, e.to_string()))?;
    for (i, line) in std::io::BufReader::new(opened).lines().enumerate() {
        let line = line.map_err(|e| at(i + 1, e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let json: serde_json::Value =
            serde_json::from_str(&line).map_err(|e| at(i + 1, format!("no JSON: {e}")))?;
        let Some(text) = json[&spec.field].as_str() else {
            return Err(at(
                i + 1,
                format!("no text field {:?}; name one with `field`", spec.field),
            ));
        };
        let wants_more = taken.take(Document {
            id: format!("{}:{}", file.id, i + 1),
            text: text.to_string(),
        });
        if !wants_more {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(toml: &str) -> SourceSpec {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn reads_text_and_jsonl_in_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        write("b.txt", b"second");
        write("a.txt", b"first");
        write("c.txt", &[0xff, 0xfe]);
        write(
            "d.jsonl",
            b"{\"body\": \"third\"}\n\n{\"body\": \"fourth\"}\n",
        );
        let dir = folder.path().display();
        let spec = spec(&format!(
            "name = 'x'\nfield = 'body'\npaths = ['{dir}/*.txt', '{dir}/d.jsonl']"
        ));
        let found = documents(&spec).unwrap();
        let texts: Vec<&str> = found.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["first", "second", "third", "fourth"]);
        assert_eq!(
            (found[0].id.as_str(), found[3].id.as_str()),
            ("a.txt", "d.jsonl:3")
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("e.txt"), "").unwrap();
        fs::write(folder.path().join("j.jsonl"), "{\"a\": 1}\n").unwrap();
        let dir = folder.path().display();
        for (toml, word) in [
            (
                format!("name = 'x'\npaths = ['{dir}/*.md']"),
                "matches no file",
            ),
            (
                format!("name = 'x'\npaths = ['{dir}/e.txt']"),
                "empty document set",
            ),
            (
                format!("name = 'x'\npaths = ['{dir}/j.jsonl']"),
                "no text field \"text\"",
            ),
            (
                "name = 'x'\npaths = ['${HARNESS_NO_SUCH}/a']".into(),
                "HARNESS_NO_SUCH",
            ),
            (
                "name = 'x'\ncrates = ['nothing-0.0.1']\npart = 'code'".into(),
                "cargo fetch",
            ),
        ] {
            let error = documents(&spec(&toml)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
