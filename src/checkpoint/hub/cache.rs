//! The cache's folders and files.
use super::{Event, Repo, Result, file_error, tree::Tree};
use crate::whole_file;
use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

/// A repository's part of the cache.
pub(super) struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

/// Whether a revision is a commit's full hash.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Cache {
    pub fn of(repo: &Repo) -> Self {
        let cache = hf_hub::resolve_cache_dir();
        let name = format!("{}--{}", repo.plural(), repo.id.replace('/', "--"));
        Cache {
            locks: cache.join(".locks").join(&name),
            folder: cache.join(name),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where the whole file of this hash is.
    pub fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// The commit that a revision stood for when the hub was last asked.
    pub fn revision(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_string())
    }

    pub fn note_revision(&self, revision: &str, commit: &str) -> Result<()> {
        self.write(&self.folder.join("refs").join(revision), commit)
    }

    /// Which files a commit has, if that was kept.
    pub fn tree(&self, commit: &str) -> Option<Tree> {
        Tree::parse(&fs::read_to_string(self.tree_path(commit)).ok()?)
    }

    pub fn keep_tree(&self, commit: &str, tree: &Tree) -> Result<()> {
        let path = self.tree_path(commit);
        let text = serde_json::to_string_pretty(tree);
        let text = text.map_err(|e| file_error(&path)(e.into()))?;
        self.write(&path, &text)
    }

    fn tree_path(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    /// A text file of a snapshot.
    pub fn read(&self, commit: &str, name: &str) -> Result<String> {
        let path = self.snapshot(commit).join(name);
        fs::read_to_string(&path).map_err(file_error(&path))
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        make_parent(path)?;
        whole_file::replace(path, |file| file.write_all(text.as_bytes())).map_err(file_error(path))
    }

    /// Gives a whole blob its name in a snapshot.
    pub fn link(&self, commit: &str, name: &str, hash: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        let up = "../".repeat(name.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{hash}"));
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(());
        }
        make_parent(&path)?;
        // A link of another program, or to a blob that is gone.
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file_error(&path)(e)),
            _ => {}
        }
        match symlink(&target, &path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(file_error(&path)),
        }
    }

    /// Waits until no other process downloads the blob; the lock ends with the file or its process.
    pub fn lock(&self, name: &str, hash: &str, say: &mut dyn FnMut(Event)) -> Result<File> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_parent(&path)?;
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(file_error(&path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                let why = format!("another process downloads {name}");
                say(Event::Waits(Duration::ZERO, &why));
            }
            Err(TryLockError::Error(e)) => return Err(file_error(&path)(e)),
        }
        file.lock().map_err(file_error(&path))?;
        Ok(file)
    }
}

/// Makes the folder that the file is to be in.
pub(super) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(file_error(folder)),
        None => Ok(()),
    }
}
