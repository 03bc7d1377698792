//! Which files a commit has.
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

/// The files of a commit by their names, as Python's `huggingface_hub` keeps them in `trees/COMMIT.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree {
    format_version: u32,
    pub files: BTreeMap<String, Entry>,
}

/// The version of `trees/COMMIT.json` that is read and written.
const FORMAT: u32 = 1;

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    size: u64,
    /// git's SHA-1 of the file, or of its pointer where it is stored in LFS.
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

/// What the hub's listing says of a file or a folder.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
    #[serde(rename = "xetHash")]
    xet_hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Entry {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.lfs_size.unwrap_or(self.size)
    }

    /// The hash that names the file's blob: 64 digits of SHA-256 for large files, else git's 40 of SHA-1.
    pub fn hash(&self) -> &str {
        self.lfs_sha256.as_deref().unwrap_or(&self.blob_id)
    }
}

impl Tree {
    /// Of what the hub lists.
    ///
    /// # Errors
    /// When a name leads out of the repository, or a hash is none.
    pub fn of_listing(listing: Vec<Listed>) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for file in listing.into_iter().filter(|file| file.kind == "file") {
            let (lfs_sha256, lfs_size) = match file.lfs {
                Some(lfs) => (Some(lfs.oid), Some(lfs.size)),
                None => (None, None),
            };
            let entry = Entry {
                size: file.size,
                blob_id: file.oid,
                lfs_sha256,
                lfs_size,
                xet_hash: file.xet_hash,
            };
            files.insert(file.path, entry);
        }
        let tree = Tree {
            format_version: FORMAT,
            files,
        };
        match tree.fault() {
            Some(what) => Err(what),
            None => Ok(tree),
        }
    }

    /// Of a `trees/COMMIT.json`; nothing where it is of another version or damaged.
    pub fn parse(text: &str) -> Option<Self> {
        let tree: Tree = serde_json::from_str(text).ok()?;
        (tree.format_version == FORMAT && tree.fault().is_none()).then_some(tree)
    }

    /// Of a folder that another program filled. It says nothing of hashes, and a file that is there counts as
    /// whole: the cache's blobs have their names only then.
    pub fn of_folder(folder: &Path) -> Self {
        let walk = walkdir::WalkDir::new(folder).follow_links(true);
        let found = walk.into_iter().flatten().filter_map(|entry| {
            let name = entry.path().strip_prefix(folder).ok()?;
            let size = entry.metadata().ok().filter(|m| m.is_file())?.len();
            let entry = Entry {
                size,
                blob_id: String::new(),
                lfs_sha256: None,
                lfs_size: None,
                xet_hash: None,
            };
            Some((name.to_str()?.to_string(), entry))
        });
        Tree {
            format_version: FORMAT,
            files: found.collect(),
        }
    }

    /// What must not be followed: names and hashes become paths.
    fn fault(&self) -> Option<String> {
        self.files.iter().find_map(|(name, entry)| {
            let plain = |part: Component| matches!(part, Component::Normal(_));
            let inside = !name.is_empty() && Path::new(name).components().all(plain);
            if !inside || name.contains(['\0', '\\']) {
                return Some(format!("the hub lists a file {name:?}, which is no name"));
            }
            let hash = entry.hash();
            let length = if entry.lfs_sha256.is_some() { 64 } else { 40 };
            let whole = hash.len() == length && hash.bytes().all(|b| b.is_ascii_hexdigit());
            (!whole).then(|| format!("the hub lists {name} with the hash {hash:?}, which is none"))
        })
    }

    /// Whether the file is in the folder in its length.
    pub fn has_whole(&self, name: &str, folder: &Path) -> bool {
        let length = std::fs::metadata(folder.join(name)).map(|m| m.len()).ok();
        length.is_some() && length == self.files.get(name).map(Entry::size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str, oid: &str, lfs: Option<&str>) -> Listed {
        let lfs =
            lfs.map(|oid| format!(r#", "lfs": {{"oid": "{oid}", "size": 7, "pointerSize": 3}}"#));
        let lfs = lfs.unwrap_or_default();
        let text =
            format!(r#"{{"type": "file", "path": "{path}", "oid": "{oid}", "size": 3{lfs}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_listing_is_kept_as_python_keeps_it() {
        let (sha1, sha256) = ("a".repeat(40), "b".repeat(64));
        let folder = r#"{"type": "directory", "path": "data", "oid": "x"}"#;
        let listing = vec![
            serde_json::from_str(folder).unwrap(),
            listed("data/x.parquet", &sha1, Some(&sha256)),
            listed("README.md", &sha1, None),
        ];
        let tree = Tree::of_listing(listing).unwrap();
        let text = serde_json::to_string(&tree).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"format_version":1,"files":{{"README.md":{{"size":3,"blob_id":"{sha1}"}},"data/x.parquet":{{"size":3,"blob_id":"{sha1}","lfs_sha256":"{sha256}","lfs_size":7}}}}}}"#
            )
        );
        assert_eq!(Tree::parse(&text), Some(tree.clone()));
        assert_eq!(Tree::parse(&text.replace(":1,", ":2,")), None);
        let large = &tree.files["data/x.parquet"];
        assert_eq!((large.size(), large.hash()), (7, sha256.as_str()));
    }

    #[test]
    fn names_and_hashes_that_lead_elsewhere_are_refused() {
        let sha1 = "a".repeat(40);
        for (path, oid) in [
            ("../../.bashrc", sha1.as_str()),
            ("/etc/passwd", &sha1),
            ("a/../../b", &sha1),
            ("config.json", "../../x"),
            ("config.json", &sha1[..39]),
        ] {
            let error = Tree::of_listing(vec![listed(path, oid, None)]).unwrap_err();
            assert!(error.starts_with("the hub lists"), "{error}");
        }
    }
}
