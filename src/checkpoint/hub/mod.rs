//! Repositories of the Hugging Face Hub: models and data sets, fetched into the cache that Python's
//! `huggingface_hub` uses, and found there again without a network.
//!
//! The crate `hf-hub` says where the hub and the cache are, and what commit a revision stands for. Files are
//! fetched here, through the HTTP client that it brings, into its cache's layout, because its own download begins
//! from nothing after a break, checks no hash, asks again at once when the hub says `Retry-After`, and waits
//! forever for a connection that says nothing; and because its listing drops the SHA-256 of large files.
//!
//! ```text
//! $HF_HOME/hub/                                HF_HUB_CACHE names another place
//!   .locks/models--ORG--NAME/HASH.lock         held (flock) by the process that downloads the blob
//!   models--ORG--NAME/
//!     blobs/HASH                               a whole file, under its SHA-256 (LFS) or git's SHA-1
//!     blobs/HASH.incomplete                    as much of it as has come
//!     snapshots/COMMIT/config.json -> ../../blobs/HASH
//!     trees/COMMIT.json                        which files the commit has: names, sizes, hashes
//!     refs/main                                the commit that a branch or tag stood for when last asked
//! ```
//!
//! A blob takes its name after its length and its hash were checked and it was synced; a revision is noted after
//! all files that were asked for are there. So what has its name is whole, whenever a process was killed.
mod cache;
mod client;
mod download;
mod fault;
mod tree;
mod wanted;

use super::{Error, Result};
use cache::Cache;
use client::Client;
use fault::Fault;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};
use tree::Tree;
pub use wanted::Wanted;

/// What kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Model,
    Dataset,
}

/// A repository of the hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repo {
    kind: Kind,
    /// `org/name`, or `name` for the oldest ones.
    id: String,
    /// Branch, tag or commit.
    revision: String,
}

/// Files of a repository that are in the cache, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The commit's hash, 40 digits.
    pub commit: String,
    /// The folder that holds the files under their names.
    pub folder: PathBuf,
    /// Names of the files that were wanted, in order.
    pub files: Vec<String>,
}

/// What happens while files are fetched.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many bytes of so many files are to come.
    Begin { files: usize, bytes: u64 },
    /// This file is next.
    File(&'a str),
    /// So many more bytes came; fewer than none where what had come was wrong.
    Bytes(i64),
    /// Nothing comes for a while, and why.
    Waits(Duration, &'a str),
}

/// The commits that revisions stand for in one study's results, by repository and revision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commits(BTreeMap<String, String>);

/// The revision that is meant where none is said.
pub const MAIN: &str = "main";

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        write!(f, "{kind}{}@{}", self.id, self.revision)
    }
}

impl Repo {
    /// The repository `id` at a revision, or at `main`.
    ///
    /// # Errors
    /// When the id or the revision cannot be one.
    pub fn new(kind: Kind, id: &str, revision: Option<&str>) -> Result<Self> {
        let repo = Repo {
            kind,
            id: id.to_string(),
            revision: revision.unwrap_or(MAIN).to_string(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = |part: &str| {
            !part.is_empty()
                && part.chars().all(plain)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        if id.split('/').count() > 2 || !id.split('/').all(name) {
            return Err(repo.wrong(
                "is no repository of the hub; write ORG/NAME, such as HuggingFaceTB/SmolLM2-135M",
            ));
        }
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains("..");
        let odd = |c: char| c.is_control() || c.is_whitespace() || "\\~^:?*[".contains(c);
        if repo.revision.contains(odd) || !repo.revision.split('/').all(part) {
            return Err(repo.wrong("is no revision; write a branch, a tag or a commit's hash"));
        }
        Ok(repo)
    }

    fn wrong(&self, what: impl fmt::Display) -> Error {
        Error::Hub {
            repo: self.to_string(),
            what: what.to_string(),
        }
    }

    /// How the hub's addresses and the cache's folders call the kind.
    fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }

    /// The revision, where it is a commit's full hash.
    fn commit(&self) -> Option<&str> {
        cache::is_commit(&self.revision).then_some(self.revision.as_str())
    }

    /// Fetches what is wanted and not yet in the cache. The hub is not asked where the commit is known (from the
    /// revision, or from `commits`) and everything is there, nor where `HF_HUB_OFFLINE` is set.
    ///
    /// # Errors
    /// One line: what the hub refused and what to do, or what is wrong with what it sent or with the disk.
    pub fn fetch(
        &self,
        wanted: &Wanted,
        commits: &Commits,
        say: &mut dyn FnMut(Event),
    ) -> Result<Snapshot> {
        if is_offline() {
            return self.cached(wanted, commits);
        }
        let known = self.commit().or(commits.of(self));
        if known.is_some()
            && let Ok(snapshot) = self.cached(wanted, commits)
        {
            return Ok(snapshot);
        }
        let client = Client::new(self)?;
        let cache = Cache::of(self);
        let commit = match known {
            Some(commit) => commit.to_string(),
            None => match client.commit(say) {
                Ok(commit) => commit,
                Err(fault) => return self.without_the_hub(wanted, fault),
            },
        };
        let tree = match cache.tree(&commit) {
            Some(tree) => tree,
            None => {
                let tree = client.tree(&commit, say).map_err(|e| self.wrong(e))?;
                cache.keep_tree(&commit, &tree)?;
                tree
            }
        };
        // Which weights there are stands in a file that must be there first.
        let index = wanted.index(&tree);
        let first = index.map(str::to_string).into_iter().collect();
        download::files(&client, &cache, &commit, &tree, first, say)?;
        let index = index.map(|name| cache.read(&commit, name)).transpose()?;
        let names = wanted.names(&tree, index).map_err(|e| self.wrong(e))?;
        download::files(&client, &cache, &commit, &tree, names.clone(), say)?;
        if self.commit().is_none() && commits.of(self).is_none() {
            cache.note_revision(&self.revision, &commit)?;
        }
        Ok(Snapshot {
            folder: cache.snapshot(&commit),
            commit,
            files: names,
        })
    }

    /// What is in the cache, where the hub cannot be reached; a refusal of the hub stays one.
    fn without_the_hub(&self, wanted: &Wanted, fault: Fault) -> Result<Snapshot> {
        let unreachable = matches!(fault, Fault::Unreachable(_));
        match self.cached(wanted, &Commits::default()) {
            Ok(snapshot) if unreachable => {
                let commit = &snapshot.commit;
                log::warn!("{self}: {fault}; going on with commit {commit} from the cache");
                Ok(snapshot)
            }
            _ => Err(self.wrong(fault)),
        }
    }

    /// What is wanted, from the cache alone.
    ///
    /// # Errors
    /// When the revision is not known there, or a file is not there whole.
    pub fn cached(&self, wanted: &Wanted, commits: &Commits) -> Result<Snapshot> {
        let cache = Cache::of(self);
        let commit = self.commit().or(commits.of(self)).map(str::to_string);
        let Some(commit) = commit.or_else(|| cache.revision(&self.revision)) else {
            let place = cache.folder().display();
            return Err(self.wrong(format!("is not in the cache {place}; {}", self.advice())));
        };
        let folder = cache.snapshot(&commit);
        // Other programs keep no listing; what a model needs can be told without one.
        let tree = match (cache.tree(&commit), self.kind) {
            (Some(tree), _) => tree,
            (None, Kind::Model) => Tree::of_folder(&folder),
            (None, Kind::Dataset) => {
                return Err(self.wrong(format!(
                    "the cache has no listing of commit {commit}, so that it cannot be told whether all \
                     files are there; {}",
                    self.advice()
                )));
            }
        };
        let partial = |what: &dyn fmt::Display| {
            self.wrong(format!(
                "commit {commit} is not whole in the cache: {what}; {}",
                self.advice()
            ))
        };
        let index = wanted.index(&tree);
        let index = index.map(|name| cache.read(&commit, name)).transpose();
        let index = index.map_err(|e| partial(&e))?;
        let files = wanted.names(&tree, index).map_err(|e| partial(&e))?;
        let missing: Vec<&str> = files
            .iter()
            .filter(|name| !tree.has_whole(name, &folder))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let (n, all, first) = (missing.len(), files.len(), missing[0]);
            return Err(partial(&format!(
                "{n} of {all} files are missing, such as {first}"
            )));
        }
        Ok(Snapshot {
            commit,
            folder,
            files,
        })
    }

    /// The folder of the revision's files, whatever it holds.
    ///
    /// # Errors
    /// When the cache does not know the revision.
    pub fn folder(&self) -> Result<PathBuf> {
        let cache = Cache::of(self);
        let commit = self.commit().map(str::to_string);
        match commit.or_else(|| cache.revision(&self.revision)) {
            Some(commit) => Ok(cache.snapshot(&commit)),
            None => {
                let place = cache.folder().display();
                Err(self.wrong(format!("is not in the cache {place}; {}", self.advice())))
            }
        }
    }

    fn advice(&self) -> String {
        let dataset = match self.kind {
            Kind::Model => "",
            Kind::Dataset => " --dataset",
        };
        let revision = match self.revision.as_str() {
            MAIN => String::new(),
            revision => format!(" --revision {revision}"),
        };
        let online = match is_offline() {
            true => "without HF_HUB_OFFLINE, ",
            false => "",
        };
        format!(
            "{online}where there is a network, run `harness fetch {}{revision}{dataset}`, or `harness fetch` with \
             the study",
            self.id
        )
    }
}

impl Commits {
    /// The commit that the repository's revision stands for.
    pub fn of(&self, repo: &Repo) -> Option<&str> {
        self.0.get(&repo.to_string()).map(String::as_str)
    }

    /// Notes it.
    pub fn note(&mut self, repo: &Repo, commit: &str) {
        self.0.insert(repo.to_string(), commit.to_string());
    }

    /// Whether none is noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether `HF_HUB_OFFLINE` keeps the program off the network.
pub fn is_offline() -> bool {
    let set = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&set.to_lowercase().as_str())
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::File {
        path,
        what: e.to_string(),
    }
}
