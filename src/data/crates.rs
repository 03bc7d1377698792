//! The sources of crates as cargo unpacked them: the same bytes on every machine.
use super::{Error, Part, Result, SourceSpec, read::File};
use std::path::{Path, PathBuf};

/// The folders under which cargo unpacks crates.
fn registries() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let Some(sources) = home.map(|home| home.join("registry/src")) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(sources)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    found.sort();
    found
}

/// The files of the wanted part of the source's crates, crate by crate in the order of their names.
pub(super) fn files(spec: &SourceSpec) -> Result<Vec<File>> {
    let registries = registries();
    let mut all = Vec::new();
    for name in &spec.crates {
        let folder = registries.iter().map(|r| r.join(name)).find(|f| f.is_dir());
        let Some(folder) = folder else {
            return spec.wrong(format!(
                "crate {name} is not unpacked in cargo's registry; run `cargo fetch` in the harness's \
                 folder (the version must be the one in Cargo.lock)"
            ));
        };
        let walk = walkdir::WalkDir::new(&folder).sort_by_file_name();
        for entry in walk {
            let entry = entry.map_err(|e| Error::File {
                path: folder.display().to_string(),
                what: e.to_string(),
            })?;
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.into_path();
            let extension = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            let wanted = match spec.part {
                Some(Part::Code) => extension == "rs",
                _ => matches!(extension, "rs" | "md") || is_readme(&path),
            };
            if wanted {
                let inner = path.strip_prefix(&folder).unwrap_or(&path);
                let id = format!("{name}/{}", inner.display());
                all.push(File {
                    id,
                    path,
                    in_tree: false,
                });
            }
        }
    }
    Ok(all)
}

/// Whether this is a README of plain text.
fn is_readme(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    matches!(
        name.to_lowercase().as_str(),
        "readme" | "readme.txt" | "readme.rst"
    )
}

/// The wanted part of a file's text: of a Rust file's prose, its doc comments.
pub(super) fn part_of(spec: &SourceSpec, path: &Path, text: String) -> String {
    let rust = path.extension().is_some_and(|e| e == "rs");
    if spec.crates.is_empty() || spec.part != Some(Part::Prose) || !rust {
        return text;
    }
    doc_comments(&text)
}

/// The text of `///` and `//!` comments, a blank line between one and the next.
fn doc_comments(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim_start();
        let comment = line.strip_prefix("//!").or_else(|| {
            line.strip_prefix("///")
                .filter(|rest| !rest.starts_with('/'))
        });
        match comment {
            Some(comment) => {
                if !inside && !out.is_empty() {
                    out.push('\n');
                }
                out.push_str(comment.strip_prefix(' ').unwrap_or(comment).trim_end());
                out.push('\n');
                inside = true;
            }
            None => inside = false,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_comments_alone_are_prose() {
        let text =
            "//! Top.\n\nuse x;\n/// One\n///  two.\nfn f() { // no\n}\n//// no\n    /// Three.\n";
        assert_eq!(doc_comments(text), "Top.\n\nOne\n two.\n\nThree.\n");
    }

    #[test]
    fn a_crate_of_this_build_is_found() {
        // serde is a dependency: cargo has unpacked it to build this test.
        let lock = include_str!("../../Cargo.lock");
        let at = lock.find("name = \"serde\"\nversion = \"").unwrap()
            + "name = \"serde\"\nversion = \"".len();
        let version = lock[at..].split('"').next().unwrap();
        let spec: SourceSpec = toml::from_str(&format!(
            "name = 'x'\ncrates = ['serde-{version}']\npart = 'prose'"
        ))
        .unwrap();
        let found = super::super::documents(&spec).unwrap();
        assert!(found.iter().any(|d| d.id.ends_with("README.md")));
        assert!(
            found
                .iter()
                .any(|d| d.id.ends_with("src/lib.rs") && d.text.contains("Serde"))
        );
        assert!(found.iter().all(|d| !d.text.contains("\npub fn ")));
    }
}
