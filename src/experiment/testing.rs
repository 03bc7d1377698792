//! The small study of `tests/small` in a folder of its own.
use super::{Result, Study};
use crate::checkpoint::hub::Commits;
use std::{fs, io::Write, path::Path};

/// A copy of the small study; its paths are the copy's.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small");
        for entry in walkdir::WalkDir::new(&small) {
            let entry = entry.unwrap();
            let to = folder
                .path()
                .join(entry.path().strip_prefix(&small).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir_all(to).unwrap();
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
        for file in ["study.toml", "suite.toml"] {
            folder.replace(file, "small/", &format!("{}/", folder.path().display()));
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn append(&self, file: &str, text: &str) {
        let mut options = fs::OpenOptions::new();
        let path = self.path().join(file);
        let mut file = options.append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Replaces a text, which must be there, everywhere in a file.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    pub fn study(&self, reduced: bool) -> Result<Study> {
        Study::load(
            &self.path().join("study.toml"),
            reduced,
            &Commits::default(),
            &self.path().join("cache"),
        )
    }

    /// The error of the study, without the folder's path.
    pub fn error(&self) -> String {
        let error = self.study(false).unwrap_err().to_string();
        error.replace(&format!("{}/", self.path().display()), "")
    }
}
