//! Token ids on disk, memory-mapped.
use super::{
    Error, Result,
    megatron::{About, HEADER, MAGIC, Sealed, VERSION, Width, beside, hash},
};
use memmap2::Mmap;
use rayon::prelude::*;
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// A corpus in Megatron's indexed format ([`super::megatron`]): documents as token ids, read where they lie.
#[derive(Debug)]
pub struct Shard {
    prefix: PathBuf,
    index: Mmap,
    bin: Mmap,
    width: Width,
    sequences: usize,
    documents: usize,
    about: Option<About>,
}

impl Shard {
    /// Opens `PREFIX.bin` and `PREFIX.idx` and checks all that they say of each other, and their hashes where
    /// `PREFIX.json` has them.
    ///
    /// # Errors
    /// One line: which file, and what is wrong with it.
    pub fn open(prefix: &Path) -> Result<Self> {
        let (idx, bin) = (beside(prefix, ".idx"), beside(prefix, ".bin"));
        let (index, tokens) = (map(&idx)?, map(&bin)?);
        let (width, sequences, documents) = header(&index).map_err(|what| wrong(&idx, what))?;
        let shard = Shard {
            prefix: prefix.to_owned(),
            index,
            bin: tokens,
            width,
            sequences,
            documents,
            about: None,
        };
        shard.check_index().map_err(|what| wrong(&idx, what))?;
        let ends = shard.sequences().last();
        let said = ends.map_or(0, |(start, length)| start + length as u64);
        if said != shard.bin.len() as u64 {
            let is = shard.bin.len();
            let what = format!(
                "has {is} bytes where its index says {said}: it was cut, or belongs to another index; make both again"
            );
            return Err(wrong(&bin, what));
        }
        shard.sealed()
    }

    /// Whether there is an index: without one, nothing has been finished.
    pub fn exists(prefix: &Path) -> bool {
        beside(prefix, ".idx").exists()
    }

    /// Checks hashes and numbers against `PREFIX.json`, where there is one.
    fn sealed(mut self) -> Result<Self> {
        let note = beside(&self.prefix, ".json");
        let text = match fs::read(&note) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(self),
            other => other.map_err(|e| wrong(&note, e.to_string()))?,
        };
        let sealed: Sealed = serde_json::from_slice(&text).map_err(|e| {
            wrong(
                &note,
                format!("does not say what tokens were made with: {e}"),
            )
        })?;
        for (extension, said) in [(".bin", &sealed.bin), (".idx", &sealed.idx)] {
            let path = beside(&self.prefix, extension);
            if hash(&path).map_err(|e| wrong(&path, e.to_string()))? != *said {
                let what = format!(
                    "is not what it was when it was written: its hash is another than in {}; make it again",
                    note.display()
                );
                return Err(wrong(&path, what));
            }
        }
        self.about = Some(sealed.about);
        Ok(self)
    }

    /// What must hold of the index by itself.
    fn check_index(&self) -> std::result::Result<(), String> {
        let mut at = 0;
        for (i, (start, length)) in self.sequences().enumerate() {
            if length < 0 {
                return Err(format!("sequence {i} has {length} bytes: a damaged index"));
            }
            if start != at {
                return Err(format!(
                    "sequence {i} begins at byte {start} where the one before it ends at {at}: no index of \
                     Megatron's, or a damaged one"
                ));
            }
            at = start.saturating_add(length as u64);
        }
        let mut last = 0;
        for i in 0..=self.documents {
            let first = self.first(i);
            if first < last || first > self.sequences || (i == 0 && first != 0) {
                return Err(format!(
                    "document {i} begins at sequence {first} of {}, behind {last}: a damaged index",
                    self.sequences
                ));
            }
            last = first;
        }
        match last == self.sequences {
            true => Ok(()),
            false => Err(format!(
                "its documents end at sequence {last} of {}: a damaged index",
                self.sequences
            )),
        }
    }

    /// Begin and length of each sequence, in bytes, as the index says them.
    fn sequences(&self) -> impl Iterator<Item = (u64, i64)> + '_ {
        (0..self.sequences).map(|i| {
            let tokens = i32::from_le_bytes(word(&self.index, HEADER + i * 4));
            (
                self.pointer(i),
                i64::from(tokens) * self.width.bytes() as i64,
            )
        })
    }

    /// Where sequence `i` begins, in bytes.
    fn pointer(&self, i: usize) -> u64 {
        u64::from_le_bytes(word(&self.index, HEADER + self.sequences * 4 + i * 8))
    }

    /// The first sequence of document `i`.
    fn first(&self, i: usize) -> usize {
        u64::from_le_bytes(word(&self.index, HEADER + self.sequences * 12 + i * 8)) as usize
    }

    /// The token at which document `i` begins, counted over all.
    fn start(&self, i: usize) -> usize {
        let first = self.first(i);
        let bytes = match first < self.sequences {
            true => self.pointer(first) as usize,
            false => self.bin.len(),
        };
        bytes / self.width.bytes()
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Number of tokens of all documents, their end tokens included.
    pub fn tokens(&self) -> u64 {
        (self.bin.len() / self.width.bytes()) as u64
    }

    /// Number of tokens of document `i`.
    pub fn length(&self, i: usize) -> u64 {
        (self.start(i + 1) - self.start(i)) as u64
    }

    /// The ids of document `i`.
    pub fn document(&self, i: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        self.read(i, 0..self.length(i), &mut ids);
        ids
    }

    /// Adds the ids at these places of document `i` to `out`.
    pub fn read(&self, i: usize, places: Range<u64>, out: &mut Vec<u32>) {
        let start = self.start(i);
        self.ids(
            start + places.start as usize..start + places.end as usize,
            out,
        );
    }

    fn ids(&self, range: Range<usize>, out: &mut Vec<u32>) {
        let bytes = self.width.bytes();
        let ids = &self.bin[range.start * bytes..range.end * bytes];
        match self.width {
            Width::U16 => {
                let narrow = ids.as_chunks::<2>().0.iter();
                out.extend(narrow.map(|id| u32::from(u16::from_le_bytes(*id))));
            }
            Width::I32 => out.extend(
                ids.as_chunks::<4>()
                    .0
                    .iter()
                    .map(|id| u32::from_le_bytes(*id)),
            ),
        }
    }

    /// What the ids were made with, where that is known.
    pub fn about(&self) -> Option<&About> {
        self.about.as_ref()
    }

    /// Checks that a model with this tokenizer can read the ids: that they were made with it, or, where that is not
    /// known, that all of them are ids of it.
    ///
    /// # Errors
    /// One line that says which tokenizer, or which id.
    pub fn check_tokenizer(&self, hash: &str, vocabulary: usize) -> Result<()> {
        let bin = beside(&self.prefix, ".bin");
        if let Some(about) = &self.about {
            return match about.tokenizer == hash {
                true => Ok(()),
                false => Err(wrong(
                    &bin,
                    format!(
                        "was made with another tokenizer ({} ids, {:.16}) than the base's ({vocabulary} ids, \
                         {hash:.16}); tokenize the text again",
                        about.vocabulary, about.tokenizer
                    ),
                )),
            };
        }
        let highest = (0..self.documents).into_par_iter().filter_map(|i| {
            let highest = self.document(i).into_iter().max()?;
            Some((highest, std::cmp::Reverse(i)))
        });
        match highest.max() {
            Some((id, document)) if id as usize >= vocabulary => Err(wrong(
                &bin,
                format!(
                    "document {} has the id {id}, and the base's tokenizer has {vocabulary}: it was made with \
                     another tokenizer; tokenize the text again",
                    document.0
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Hash of what is in the two files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn content_hash(prefix: &Path) -> Result<String> {
        let mut both = blake3::Hasher::new();
        for extension in [".idx", ".bin"] {
            let path = beside(prefix, extension);
            let hash = hash(&path).map_err(|e| wrong(&path, e.to_string()))?;
            both.update(hash.as_bytes());
        }
        Ok(both.finalize().to_hex()[..16].to_string())
    }
}

/// Type of the ids, number of sequences and of documents.
fn header(index: &[u8]) -> std::result::Result<(Width, usize, usize), String> {
    if !index.starts_with(MAGIC) || index.len() < HEADER {
        return Err("is no index of Megatron's: it does not begin with MMIDIDX".into());
    }
    let number = |at: usize| u64::from_le_bytes(word(index, at));
    let version = number(9);
    if version != VERSION {
        return Err(format!(
            "has version {version} of the format; only {VERSION} is known"
        ));
    }
    let code = index[17];
    let width = [Width::U16, Width::I32]
        .into_iter()
        .find(|w| w.code() == code);
    let width = width.ok_or_else(|| {
        format!("says that its ids have type {code}; ids are read as u16 (8) or i32 (4)")
    })?;
    let (sequences, indices) = (number(18), number(26));
    let length = sequences.checked_mul(12).and_then(|n| {
        n.checked_add(indices.checked_mul(8)?)?
            .checked_add(HEADER as u64)
    });
    let is = index.len() as u64;
    if indices > 0 && length.and_then(|n| n.checked_add(sequences)) == Some(is) && sequences > 0 {
        return Err("is the index of a multimodal data set; only texts are read".into());
    }
    if indices == 0 || length != Some(is) {
        return Err(format!(
            "has {is} bytes, which is not what {sequences} sequences and {indices} document indices take: it was \
             cut, or is no index of Megatron's"
        ));
    }
    if indices > u64::from(u32::MAX) {
        return Err(format!("{} documents are more than 4 billion", indices - 1));
    }
    Ok((width, sequences as usize, indices as usize - 1))
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(&bytes[at..at + N]);
    word
}

fn map(path: &Path) -> Result<Mmap> {
    let cannot = |e: std::io::Error| wrong(path, format!("cannot be read: {e}"));
    let file = fs::File::open(path).map_err(cannot)?;
    // SAFETY: what this program writes takes its name whole and never changes under it; corpora made elsewhere are
    // finished before a study names them, and their bytes are part of its identity.
    unsafe { Mmap::map(&file) }.map_err(cannot)
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: what.into(),
    }
}
