//! A source's documents on disk after reading and cleaning: compressed, in segments that are there whole or not at all.
//!
//! ```text
//! summary.json   what came of reading and cleaning; written last: where it is, all is there
//! 00000.docs     a segment: magic, length of its head (u32), its head (JSON), and blocks: bytes compressed and not
//!                (u32 each), a zstd frame; in it for each document the lengths of id and text (u32 each), and the two
//! ```
use super::super::{Document, Error, ReadReport, Result, clean::CleanReport};
use crate::whole_file;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// First bytes of a segment; the number is the format's version.
const MAGIC: &[u8; 8] = b"hdocs001";
/// Bytes of text that a block has, about: what is unpacked at once.
const BLOCK: usize = 1 << 20;
/// Fast: the disk is to be spared, not filled to the last byte.
const LEVEL: i32 = 1;

/// Documents and bytes of their texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub documents: u64,
    pub bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, text: &str) {
        self.documents += 1;
        self.bytes += text.len() as u64;
    }
}

/// What came of reading and cleaning a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub read: ReadReport,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanReport>,
    /// What is left.
    pub left: Count,
}

/// What a segment says of itself, and of all before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    /// Documents that were read up to its end, those dropped among them.
    taken: u64,
    /// Hash of these documents as they were read.
    #[serde(default)]
    read: String,
    /// Documents in it.
    documents: u64,
    /// What is left up to its end.
    left: Count,
    /// Cleaning up to its end.
    clean: Option<CleanReport>,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |e| Error::File {
        path: path.display().to_string(),
        what: e.to_string(),
    }
}

fn damaged(path: &Path) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: "is damaged; remove its folder, and it is made again".into(),
    }
}

/// The documents of a source, all of them.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    pub summary: Summary,
    segments: u32,
}

impl Store {
    /// Opens a store that is whole; none where it is not.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("summary.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path)(e)),
        };
        let (segments, summary) = serde_json::from_str(&text).map_err(|_| damaged(&path))?;
        Ok(Some(Store {
            folder: folder.to_path_buf(),
            summary,
            segments,
        }))
    }

    /// The documents from number `first` on, in their order.
    pub fn documents(&self, first: u64) -> Documents {
        Documents {
            folder: self.folder.clone(),
            segments: 0..self.segments,
            skip: first,
            open: None,
            block: Vec::new().into_iter(),
        }
    }
}

fn segment(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:05}.docs"))
}

/// Opens a segment behind its head.
fn open(path: &Path) -> Result<(Head, BufReader<File>)> {
    let failed = failed(path);
    let mut file = BufReader::new(File::open(path).map_err(&failed)?);
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(&failed)?;
    if &magic != MAGIC {
        return Err(damaged(path));
    }
    let length = u32_of(&mut file).map_err(&failed)?;
    let mut head = vec![0; length as usize];
    file.read_exact(&mut head).map_err(&failed)?;
    let head = serde_json::from_slice(&head).map_err(|_| damaged(path))?;
    Ok((head, file))
}

fn u32_of(file: &mut impl Read) -> io::Result<u32> {
    let mut word = [0; 4];
    file.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word))
}

/// Goes through the documents of a store.
pub(super) struct Documents {
    folder: PathBuf,
    segments: std::ops::Range<u32>,
    skip: u64,
    open: Option<(PathBuf, BufReader<File>)>,
    block: std::vec::IntoIter<Document>,
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.block.next() {
                Some(_) if self.skip > 0 => self.skip -= 1,
                Some(document) => return Some(Ok(document)),
                None => match self.more() {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

impl Documents {
    /// Reads the next block; false behind the last one.
    fn more(&mut self) -> Result<bool> {
        loop {
            if let Some((path, file)) = &mut self.open {
                let read = block(file).map_err(|e| match e.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(path),
                    _ => failed(path)(e),
                })?;
                if let Some(documents) = read {
                    self.block = documents.into_iter();
                    return Ok(true);
                }
                self.open = None;
            }
            let Some(number) = self.segments.next() else {
                return Ok(false);
            };
            let path = segment(&self.folder, number);
            let (head, file) = open(&path)?;
            match head.documents <= self.skip {
                true => self.skip -= head.documents,
                false => self.open = Some((path, file)),
            }
        }
    }
}

/// The documents of the next block; none at the end of the file.
fn block(file: &mut BufReader<File>) -> io::Result<Option<Vec<Document>>> {
    if io::BufRead::fill_buf(file)?.is_empty() {
        return Ok(None);
    }
    let (packed, length) = (u32_of(file)?, u32_of(file)?);
    let mut bytes = vec![0; packed as usize];
    file.read_exact(&mut bytes)?;
    let unpacked = zstd::bulk::decompress(&bytes, length as usize)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let mut rest = &unpacked[..];
    let mut documents = Vec::new();
    while !rest.is_empty() {
        let (id, text) = (u32_of(&mut rest)? as usize, u32_of(&mut rest)? as usize);
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (id, after) = rest.split_at_checked(id).ok_or_else(invalid)?;
        let (text, after) = after.split_at_checked(text).ok_or_else(invalid)?;
        let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| invalid());
        documents.push(Document {
            id: utf8(id)?,
            text: utf8(text)?,
        });
        rest = after;
    }
    Ok(Some(documents))
}

/// Compresses documents as one block.
fn packed(documents: &[Document]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    for Document { id, text } in documents {
        plain.extend((id.len() as u32).to_le_bytes());
        plain.extend((text.len() as u32).to_le_bytes());
        plain.extend(id.as_bytes());
        plain.extend(text.as_bytes());
    }
    let frame = zstd::bulk::compress(&plain, LEVEL)?;
    let mut out = Vec::with_capacity(frame.len() + 8);
    out.extend((frame.len() as u32).to_le_bytes());
    out.extend((plain.len() as u32).to_le_bytes());
    out.extend(frame);
    Ok(out)
}

/// Fills a store, going on behind the segments that an earlier one wrote.
pub(super) struct Writer {
    folder: PathBuf,
    segments: u32,
    /// Up to and with what is pending.
    head: Head,
    pending: Vec<Document>,
    pending_bytes: usize,
}

/// Bytes of text after which a segment is written: what a kill can cost, and memory.
const SEGMENT: usize = 32 << 20;

impl Writer {
    /// A writer for this folder, which nobody else may write; `cleans` says whether there is a report of cleaning.
    pub fn open(folder: &Path, cleans: bool) -> Result<Self> {
        let mut segments = 0;
        while segment(folder, segments).exists() {
            segments += 1;
        }
        let mut head = Head {
            clean: cleans.then(CleanReport::default),
            ..Head::default()
        };
        if let Some(last) = segments.checked_sub(1) {
            (head, _) = open(&segment(folder, last))?;
            head.documents = 0;
        }
        Ok(Writer {
            folder: folder.to_path_buf(),
            segments,
            head,
            pending: Vec::new(),
            pending_bytes: 0,
        })
    }

    /// How many documents were taken, those dropped among them.
    pub fn taken(&self) -> u64 {
        self.head.taken
    }

    /// The report of cleaning so far.
    pub fn clean(&mut self) -> Option<&mut CleanReport> {
        self.head.clean.as_mut()
    }

    /// Counts a document that was read, and takes it if it is kept.
    pub fn push(&mut self, document: Option<Document>) {
        self.head.taken += 1;
        if let Some(document) = document {
            self.head.left.add(&document.text);
            self.head.documents += 1;
            self.pending_bytes += document.text.len();
            self.pending.push(document);
        }
    }

    /// The hash of the documents that were taken, as they were read.
    pub fn read(&self) -> &str {
        &self.head.read
    }

    /// Writes a segment if there is enough for one. When this is called must depend on the documents alone; `read` is
    /// the hash of all of them so far, as they were read.
    pub fn settle(&mut self, read: String) -> Result<()> {
        self.head.read = read;
        match self.pending_bytes >= SEGMENT {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Removes the segments.
    pub fn discard(self) -> Result<()> {
        for i in (0..self.segments).rev() {
            let path = segment(&self.folder, i);
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let path = segment(&self.folder, self.segments);
        let mut ends = Vec::new();
        let mut bytes = 0;
        for (i, document) in self.pending.iter().enumerate() {
            bytes += document.text.len();
            if bytes >= BLOCK {
                ends.push(i + 1);
                bytes = 0;
            }
        }
        ends.push(self.pending.len());
        let begins = std::iter::once(0).chain(ends.iter().copied());
        let ranges: Vec<_> = begins.zip(ends.iter().copied()).collect();
        let blocks: Vec<Vec<u8>> = ranges
            .into_par_iter()
            .filter(|(from, to)| from < to)
            .map(|(from, to)| packed(&self.pending[from..to]))
            .collect::<io::Result<_>>()
            .map_err(failed(&path))?;
        let head = serde_json::to_vec(&self.head).map_err(|e| failed(&path)(e.into()))?;
        whole_file::replace(&path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&(head.len() as u32).to_le_bytes())?;
            file.write_all(&head)?;
            blocks.iter().try_for_each(|block| file.write_all(block))
        })
        .map_err(failed(&path))?;
        self.segments += 1;
        self.head.documents = 0;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Writes what is pending and the summary.
    pub fn finish(mut self, read: ReadReport) -> Result<Store> {
        if !self.pending.is_empty() {
            self.write()?;
        }
        let summary = Summary {
            read,
            clean: self.head.clean,
            left: self.head.left,
        };
        let path = self.folder.join("summary.json");
        let text = serde_json::to_vec_pretty(&(self.segments, &summary));
        let text = text.map_err(|e| failed(&path)(e.into()))?;
        whole_file::replace(&path, |file| file.write_all(&text)).map_err(failed(&path))?;
        Ok(Store {
            folder: self.folder,
            summary,
            segments: self.segments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(i: usize) -> Document {
        Document {
            id: format!("d{i}"),
            text: format!("naïve {i} ").repeat(i * 37 % 5000 + 1),
        }
    }

    fn fill(folder: &Path, from: usize, to: usize) -> Writer {
        let mut writer = Writer::open(folder, false).unwrap();
        assert_eq!(writer.taken(), from as u64);
        for i in from..to {
            writer.push((i % 3 > 0).then(|| document(i)));
            writer.settle(i.to_string()).unwrap();
        }
        writer
    }

    fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        let mut all: Vec<_> = entries
            .map(|p| {
                (
                    p.display().to_string().split_off(folder.as_os_str().len()),
                    fs::read(&p).unwrap(),
                )
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn documents_come_back_from_any_number_on_and_a_kill_changes_nothing() {
        let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let n = 3000;
        let store = fill(whole.path(), 0, n)
            .finish(ReadReport::default())
            .unwrap();
        assert!(store.segments > 1);
        let expected: Vec<Document> = (0..n).filter(|i| i % 3 > 0).map(document).collect();
        assert_eq!(store.summary.left.documents, expected.len() as u64);
        for first in [0, 1, 1000, expected.len() - 1, expected.len()] {
            let found: Vec<Document> = store.documents(first as u64).map(Result::unwrap).collect();
            assert_eq!(found, expected[first..], "{first}");
        }
        // Killed after a segment and more: what was pending is gone.
        drop(fill(killed.path(), 0, n - 1));
        assert!(Store::open(killed.path()).unwrap().is_none());
        let taken = Writer::open(killed.path(), false).unwrap().taken() as usize;
        assert!(taken > 0 && taken < n - 1);
        fill(killed.path(), taken, n)
            .finish(ReadReport::default())
            .unwrap();
        assert!(bytes(whole.path()) == bytes(killed.path()));
    }

    #[test]
    fn a_damaged_segment_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let store = fill(folder.path(), 0, 20)
            .finish(ReadReport::default())
            .unwrap();
        let path = segment(folder.path(), 0);
        let whole = fs::read(&path).unwrap();
        for cut in [whole.len() - 1, 40, 4] {
            fs::write(&path, &whole[..cut]).unwrap();
            let error = store.documents(0).find_map(Result::err).unwrap();
            assert!(error.to_string().contains("00000.docs"), "{error}");
        }
    }
}
