//! Tokenised documents in a memory-mapped file, cached by content.
use super::{Error, Result, SourceSpec, encode::Encoder, source::Material, synthetic};
use crate::whole_file;
use rayon::prelude::*;
use std::{fs, io::Write, path::Path};
use tokenizers::Tokenizer;

/// First bytes of a shard; the number is the format's version.
const MAGIC: &[u8; 8] = b"hshard02";

/// A source's documents as token ids, on disk: magic, number of documents and of tokens (u64), the
/// documents' starts (u64 each, and the end), the tokens (u32), blake3 of all of it. All little-endian.
#[derive(Debug)]
pub struct Shard {
    bytes: memmap2::Mmap,
    documents: usize,
}

/// Bytes of the hash at a shard's end.
const HASH: usize = 32;

impl Shard {
    /// Opens a shard and checks its lengths and its hash.
    fn open(path: &Path) -> Option<Self> {
        let file = fs::File::open(path).ok()?;
        // SAFETY: shards are written under another name and never changed under this one.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.ok()?;
        let number = |at: usize| -> Option<usize> {
            let word: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
            usize::try_from(u64::from_le_bytes(word)).ok()
        };
        let (documents, tokens) = (number(8)?, number(16)?);
        let length = documents
            .checked_add(1)?
            .checked_mul(8)?
            .checked_add(tokens.checked_mul(4)?)?;
        let whole = bytes.starts_with(MAGIC) && bytes.len() == length.checked_add(24 + HASH)?;
        if !whole || blake3::hash(&bytes[..24 + length]).as_bytes()[..] != bytes[24 + length..] {
            return None;
        }
        let shard = Shard { bytes, documents };
        let ordered = shard.starts().is_sorted() && shard.starts().last() == Some(&(tokens as u64));
        ordered.then_some(shard)
    }

    fn starts(&self) -> &[u64] {
        bytemuck::cast_slice(&self.bytes[24..24 + (self.documents + 1) * 8])
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
        self.starts()[self.documents]
    }

    /// Number of tokens of document `i`.
    pub fn length(&self, i: usize) -> u64 {
        self.starts()[i + 1] - self.starts()[i]
    }

    /// The ids of document `i`.
    pub fn document(&self, i: usize) -> &[u32] {
        let all: &[u32] = bytemuck::cast_slice(
            &self.bytes[24 + (self.documents + 1) * 8..self.bytes.len() - HASH],
        );
        &all[self.starts()[i] as usize..self.starts()[i + 1] as usize]
    }
}

/// The source's documents, tokenised in parallel, each between `bos` and `eos` where there is one: from
/// the cache folder, where they are kept under the hash of what they were made from.
///
/// # Errors
/// When documents cannot be read, or the cache cannot be written.
pub fn prepare(
    spec: &SourceSpec,
    tokenizer: &Tokenizer,
    (bos, eos): (Option<u32>, Option<u32>),
    cache: &Path,
) -> Result<Shard> {
    let mut key = blake3::Hasher::new();
    key.update(MAGIC);
    let contents = Material::read(spec)?;
    key.update(contents.hash().as_bytes());
    let text = tokenizer
        .to_string(false)
        .map_err(|e| Error::Tokenizer(e.to_string()))?;
    key.update(text.as_bytes());
    key.update(format!("{bos:?} {eos:?}").as_bytes());
    let name = format!("{}.shard", &key.finalize().to_hex()[..24]);
    let path = cache.join(name);
    if let Some(shard) = Shard::open(&path) {
        return Ok(shard);
    }
    let encoder = Encoder::new(tokenizer);
    let documents = match contents {
        Material::Generator(generator) => synthetic::documents(generator, &encoder)?,
        Material::Documents(documents) => documents
            .par_iter()
            .map(|d| encoder.encode(&d.text))
            .collect::<Result<_>>()?,
    };
    let documents: Vec<Vec<u32>> = documents
        .into_iter()
        .map(|ids| bos.into_iter().chain(ids).chain(eos).collect())
        .collect();
    fs::create_dir_all(cache)
        .and_then(|()| whole_file::replace(&path, |file| write(file.as_file_mut(), &documents)))
        .map_err(|e| Error::File {
            path: path.display().to_string(),
            what: format!("cannot write the token cache: {e}"),
        })?;
    Shard::open(&path).ok_or_else(|| Error::File {
        path: path.display().to_string(),
        what: "cannot be read back after it was written; check the disk".into(),
    })
}

/// Fills a shard's file.
fn write(file: &mut fs::File, documents: &[Vec<u32>]) -> std::io::Result<()> {
    let mut out = Hashing {
        out: std::io::BufWriter::new(file),
        hash: blake3::Hasher::new(),
    };
    let tokens: u64 = documents.iter().map(|d| d.len() as u64).sum();
    out.write_all(MAGIC)?;
    out.write_all(&(documents.len() as u64).to_le_bytes())?;
    out.write_all(&tokens.to_le_bytes())?;
    let mut start = 0u64;
    out.write_all(&start.to_le_bytes())?;
    for document in documents {
        start += document.len() as u64;
        out.write_all(&start.to_le_bytes())?;
    }
    for document in documents {
        out.write_all(bytemuck::cast_slice(document))?;
    }
    let hash = out.hash.finalize();
    out.write_all(hash.as_bytes())?;
    out.flush()
}

/// Writes on and hashes what it wrote.
struct Hashing<W> {
    out: W,
    hash: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
