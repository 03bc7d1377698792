//! Which files a source has.
use super::{super::crates, Error, Result, SourceSpec, tree};
use crate::checkpoint::hub::Commits;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A file of a source.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::data) struct File {
    /// Its name, the same on every machine.
    pub id: String,
    pub path: PathBuf,
    /// Found in a folder, which may hold other things than texts.
    pub in_tree: bool,
}

/// The files of a source, in the order of its paths and of their names.
///
/// # Errors
/// When a variable is not set, a path is not there or cannot be read, or a crate is not unpacked.
pub(in crate::data) fn files(spec: &SourceSpec) -> Result<Vec<File>> {
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
            in_tree: false,
        };
        return Ok(snapshot.files.iter().map(file).collect());
    }
    let mut all = Vec::new();
    let mut folders = 0;
    for pattern in &spec.paths {
        let expanded = expand(spec, pattern)?;
        // What has no wildcard is a file or a folder, and if it is there but cannot be read, that is said.
        match fs::metadata(&expanded) {
            Ok(metadata) if metadata.is_dir() => {
                folders += 1;
                let found = tree::files(spec, Path::new(&expanded))?;
                if found.is_empty() {
                    let only = spec.files.as_ref().map_or(String::new(), |files| {
                        format!(" that `files` ({files:?}) names")
                    });
                    return spec.wrong(format!(
                        "folder {pattern:?} has no file{only}; check the path"
                    ));
                }
                all.extend(found);
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::File {
                    path: expanded,
                    what: e.to_string(),
                });
            }
            _ => {}
        }
        all.extend(matching(spec, pattern, &expanded)?);
    }
    if spec.files.is_some() && folders == 0 {
        return spec.wrong("says `files`, but none of its `paths` is a folder; leave it out");
    }
    Ok(all)
}

/// A path with the environment's variables in their places.
pub(in crate::data) fn expand(spec: &SourceSpec, path: &str) -> Result<String> {
    match shellexpand::env(path) {
        Ok(expanded) => Ok(expanded.into_owned()),
        Err(e) => spec.wrong(format!(
            "path {path:?}: the environment variable {} is not set; set it to the folder with the material",
            e.var_name
        )),
    }
}

/// The files that a glob matches, in the order of their names.
fn matching(spec: &SourceSpec, pattern: &str, expanded: &str) -> Result<Vec<File>> {
    let matches = match glob::glob(expanded) {
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
            found.push(File {
                id: name_behind(expanded, &path),
                path,
                in_tree: false,
            });
        }
    }
    if found.is_empty() {
        return spec.wrong(format!("glob {pattern:?} matches no file; check the path"));
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
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
