//! Megatron-LM's indexed format (`megatron/core/datasets/indexed_dataset.py`): `PREFIX.bin` holds token ids and nothing
//! else, `PREFIX.idx` says where each document lies. Corpora made elsewhere load here (see [`super::Shard`]), and what
//! is written here loads there.
//!
//! ```text
//! PREFIX.idx   magic "MMIDIDX\0\0", version 1 (u64), code of the ids' type (u8), sequences (u64), document indices (u64)
//!              tokens of each sequence (i32), where each begins in PREFIX.bin, in bytes (i64),
//!              each document's first sequence, and the number of sequences (i64); all little-endian
//! PREFIX.bin   the ids, u16 or i32, little-endian
//! PREFIX.json  ours alone: what the ids were made with, and the hashes of the two (see [`About`])
//! ```
//! Here every document is one sequence. The index appears last: where it is, all is there.
use super::{Error, Result};
use crate::whole_file;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tokenizers::Tokenizer;

pub(super) const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
pub(super) const VERSION: u64 = 1;
/// Bytes before the sequences' lengths.
pub(super) const HEADER: usize = 34;
/// Tokens between two checkpoints of a writer: what a kill can cost.
const CHECKPOINT: usize = 1 << 24;

/// The type of the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    U16,
    I32,
}

impl Width {
    /// Megatron's choice for a vocabulary (`DType.optimal_dtype`).
    pub fn of(vocabulary: usize) -> Self {
        match vocabulary < 65_500 {
            true => Width::U16,
            false => Width::I32,
        }
    }

    pub fn code(self) -> u8 {
        match self {
            Width::U16 => 8,
            Width::I32 => 4,
        }
    }

    /// Bytes of an id.
    pub fn bytes(self) -> usize {
        match self {
            Width::U16 => 2,
            Width::I32 => 4,
        }
    }
}

/// `PREFIX.json`: what token ids were made with. Corpora made elsewhere have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Hash of the documents and of all that was done to them.
    pub made_of: String,
    /// blake3 of the tokenizer ([`tokenizer_hash`]).
    pub tokenizer: String,
    /// Ids that the tokenizer has.
    pub vocabulary: usize,
    /// The id before each document.
    pub bos: Option<u32>,
    /// The id behind each document.
    pub eos: Option<u32>,
}

/// `PREFIX.json` in full.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    #[serde(flatten)]
    pub about: About,
    pub documents: u64,
    pub tokens: u64,
    /// blake3 of `PREFIX.bin` and of `PREFIX.idx`.
    pub bin: String,
    pub idx: String,
}

/// Bytes that are hashed at once.
const HASHED: u64 = 16 << 20;

/// Changes when the same documents give other ids or other files.
const FORMAT: &str = "tokens 1";

impl About {
    /// What documents with this hash become between these ids.
    ///
    /// # Errors
    /// When the tokenizer cannot be written down.
    pub fn new(
        documents: &str,
        tokenizer: &Tokenizer,
        (bos, eos): (Option<u32>, Option<u32>),
    ) -> Result<Self> {
        let hash = tokenizer_hash(tokenizer)?;
        let made_of = format!("{FORMAT} {documents} {hash} {bos:?} {eos:?}");
        Ok(About {
            made_of: blake3::hash(made_of.as_bytes()).to_hex().to_string(),
            tokenizer: hash,
            vocabulary: vocabulary(tokenizer),
            bos,
            eos,
        })
    }

    /// The name of these tokens in a cache.
    pub fn name(&self) -> &str {
        &self.made_of[..24]
    }
}

/// The number above a tokenizer's highest id.
pub(super) fn vocabulary(tokenizer: &Tokenizer) -> usize {
    let ids = tokenizer.get_vocab(true).into_values();
    ids.max().map_or(0, |id| id as usize + 1)
}

/// blake3 of a tokenizer's own description of itself.
///
/// # Errors
/// When it has none.
pub(super) fn tokenizer_hash(tokenizer: &Tokenizer) -> Result<String> {
    let text = tokenizer.to_string(false);
    let text = text.map_err(|e| Error::Tokenizer(e.to_string()))?;
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// A path with `.bin`, `.idx` or so behind it, whatever dots it has.
pub(super) fn beside(prefix: &Path, extension: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(extension);
    name.into()
}

pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::File {
        path: path.display().to_string(),
        what: format!("cannot write tokens: {e}"),
    }
}

/// Writes documents in the order in which they come, in little memory: a few bytes a document since the last
/// checkpoint.
///
/// Until the end they lie in the folder `PREFIX.part`. A writer that is killed loses what came after the last
/// checkpoint: the next one for the same [`About`] goes on there, and gives the same bytes.
#[derive(Debug)]
pub struct Writer {
    prefix: PathBuf,
    about: About,
    width: Width,
    part: PathBuf,
    /// Held as long as this writer lives.
    _lock: File,
    tokens: BufWriter<File>,
    lengths: File,
    /// Lengths since the last checkpoint.
    pending: Vec<u8>,
    pending_tokens: usize,
    documents: u64,
    written: u64,
}

impl Writer {
    /// Begins `PREFIX.bin` and `PREFIX.idx`, or goes on where a writer for the same `about` was killed: the first
    /// [`Writer::documents`] documents are there then. Another process that writes them is waited for.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(prefix: &Path, about: About) -> Result<Self> {
        let part = beside(prefix, ".part");
        let wrong = failed(&part);
        let lock = lock(&part).map_err(&wrong)?;
        let said = serde_json::to_vec(&about).map_err(|e| wrong(e.into()))?;
        let note = part.join("about.json");
        let (tokens, lengths) = (part.join("tokens"), part.join("lengths"));
        if fs::read(&note).ok().as_ref() != Some(&said) {
            for old in [&tokens, &lengths, &note] {
                remove(old).map_err(&wrong)?;
            }
            whole_file::replace(&note, |file| file.write_all(&said)).map_err(&wrong)?;
        }
        let open = |path: &Path| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(path).map_err(&wrong)
        };
        let (mut tokens, mut lengths) = (open(&tokens)?, open(&lengths)?);
        let width = Width::of(about.vocabulary);
        let (documents, written) = go_on(&mut tokens, &mut lengths, width).map_err(&wrong)?;
        Ok(Writer {
            prefix: prefix.to_owned(),
            width,
            about,
            _lock: lock,
            tokens: BufWriter::with_capacity(1 << 20, tokens),
            lengths,
            pending: Vec::new(),
            pending_tokens: 0,
            documents,
            written,
            part: part.clone(),
        })
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Adds a document.
    ///
    /// # Errors
    /// When an id is none of the vocabulary, the document is longer than the format can say, or the disk is full.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        let wrong = |what: String| Error::File {
            path: self.prefix.display().to_string(),
            what: format!("document {}: {what}", self.documents),
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.about.vocabulary) {
            let n = self.about.vocabulary;
            return Err(wrong(format!("id {id} is none of a vocabulary of {n}")));
        }
        let Ok(length) = i32::try_from(ids.len()) else {
            let n = ids.len();
            return Err(wrong(format!(
                "{n} tokens are more than the format can say"
            )));
        };
        let done = match self.width {
            Width::U16 => {
                let narrow: Vec<u8> = ids
                    .iter()
                    .flat_map(|&id| (id as u16).to_le_bytes())
                    .collect();
                self.tokens.write_all(&narrow)
            }
            Width::I32 => {
                let wide: Vec<u8> = ids.iter().flat_map(|&id| id.to_le_bytes()).collect();
                self.tokens.write_all(&wide)
            }
        };
        done.map_err(failed(&self.part))?;
        self.pending.extend(length.to_le_bytes());
        self.pending_tokens += ids.len();
        self.documents += 1;
        self.written += ids.len() as u64;
        match self.pending_tokens >= CHECKPOINT {
            true => self.checkpoint().map_err(failed(&self.part)),
            false => Ok(()),
        }
    }

    /// Adds a document between the ids that [`About`] names.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn push_between(&mut self, ids: Vec<u32>) -> Result<()> {
        let (bos, eos) = (self.about.bos, self.about.eos);
        let ids: Vec<u32> = bos.into_iter().chain(ids).chain(eos).collect();
        self.push(&ids)
    }

    /// Puts everything on the disk. Lengths come after the tokens that they count.
    fn checkpoint(&mut self) -> std::io::Result<()> {
        self.tokens.flush()?;
        self.tokens.get_ref().sync_data()?;
        self.lengths.write_all(&self.pending)?;
        self.lengths.sync_data()?;
        self.pending.clear();
        self.pending_tokens = 0;
        Ok(())
    }

    /// Whether a writer of this prefix is at work, or was killed before it had cleared up.
    pub fn left(prefix: &Path) -> bool {
        beside(prefix, ".part").exists()
    }

    /// Publishes the two files and what they were made with, the index last.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish(mut self) -> Result<()> {
        let bin = beside(&self.prefix, ".bin");
        let (idx, note) = (beside(&self.prefix, ".idx"), beside(&self.prefix, ".json"));
        self.checkpoint()
            .and_then(|()| remove(&idx))
            .and_then(|()| remove(&bin))
            // A second name: killed before the index is there, the next writer finds the part whole.
            .and_then(|()| fs::hard_link(self.part.join("tokens"), &bin))
            .map_err(failed(&bin))?;
        let tokens = hash(&bin).map_err(failed(&bin))?;
        whole_file::replace(&idx, |file| -> std::io::Result<()> {
            self.index(&mut BufWriter::new(file.as_file_mut()))?;
            let sealed = Sealed {
                about: self.about.clone(),
                documents: self.documents,
                tokens: self.written,
                bin: tokens,
                idx: hash(file.path())?,
            };
            let text = serde_json::to_vec_pretty(&sealed)?;
            whole_file::replace(&note, |file| file.write_all(&text))
        })
        .map_err(failed(&idx))?;
        self.discard()
    }

    /// Takes away what the writer has so far: somebody else was done with it first.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(self) -> Result<()> {
        fs::remove_dir_all(&self.part).map_err(failed(&self.part))
    }

    fn index(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[self.width.code()])?;
        out.write_all(&self.documents.to_le_bytes())?;
        out.write_all(&(self.documents + 1).to_le_bytes())?;
        self.lengths.rewind()?;
        std::io::copy(&mut self.lengths, out)?;
        self.lengths.rewind()?;
        let mut lengths = BufReader::new(&self.lengths);
        let mut at = 0u64;
        for _ in 0..self.documents {
            out.write_all(&at.to_le_bytes())?;
            at += u64::from(length(&mut lengths)?) * self.width.bytes() as u64;
        }
        for document in 0..=self.documents {
            out.write_all(&document.to_le_bytes())?;
        }
        out.flush()
    }
}

/// Cuts a killed writer's files to their last checkpoint: documents and tokens that are there.
fn go_on(tokens: &mut File, lengths: &mut File, width: Width) -> std::io::Result<(u64, u64)> {
    let mut documents = lengths.metadata()?.len() / 4;
    let mut reader = BufReader::new(&mut *lengths);
    let mut written = 0u64;
    for _ in 0..documents {
        written += u64::from(length(&mut reader)?);
    }
    if tokens.metadata()?.len() < written * width.bytes() as u64 {
        (documents, written) = (0, 0);
    }
    tokens.set_len(written * width.bytes() as u64)?;
    lengths.set_len(documents * 4)?;
    tokens.seek(std::io::SeekFrom::End(0))?;
    lengths.seek(std::io::SeekFrom::End(0))?;
    Ok((documents, written))
}

fn length(from: &mut impl Read) -> std::io::Result<u32> {
    let mut word = [0; 4];
    from.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word))
}

/// blake3 of a file, by all threads. It is read in blocks: a map of it would count as this process's memory, all of it.
pub(super) fn hash(path: &Path) -> std::io::Result<String> {
    let mut hash = blake3::Hasher::new();
    let mut file = File::open(path)?;
    let mut block = Vec::new();
    while Read::by_ref(&mut file)
        .take(HASHED)
        .read_to_end(&mut block)?
        > 0
    {
        hash.update_rayon(&block);
        block.clear();
    }
    Ok(hash.finalize().to_hex().to_string())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes the folder and locks it. Who held it before may have removed it with the lock in it.
fn lock(part: &Path) -> std::io::Result<File> {
    let path = part.join("lock");
    loop {
        fs::create_dir_all(part)?;
        let file = match File::create(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if file.try_lock().is_err() {
            log::info!("waits for another process that writes {}", part.display());
            file.lock()?;
        }
        match fs::metadata(&path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
            _ => continue,
        }
    }
}

#[cfg(test)]
#[path = "megatron_tests.rs"]
mod tests;
