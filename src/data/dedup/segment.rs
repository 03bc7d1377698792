//! The signatures of a stretch of documents: in memory, then in a file, sorted in every way that they will be merged.
use super::{Signature, runs::Run};
use crate::whole_file;
use rayon::prelude::*;
use std::{
    fs::File,
    io::{BufWriter, Error, Result, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// Shape of all signatures of a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub bands: usize,
    /// Bytes of a sketch.
    pub sketch: usize,
}

/// First bytes of a segment; the number is the format's version.
const MAGIC: &[u8; 8] = b"hdedup01";

/// Bytes before the records: magic, identity, number of the first document, numbers of documents and of those with
/// bands (u32 each).
const HEADER: usize = 8 + 16 + 3 * 4;

/// What stands first among documents that are much the same: the source's place in the order of precedence, then the
/// longer text (so its complement), then the number.
pub(super) const ORDER: usize = 2 + 8 + 4;
/// Key of the normalised text and number.
pub(super) const EXACT: usize = 16 + 4;
/// A band's hash and number.
pub(super) const BAND: usize = 8 + 4;

/// Bands that are sorted at once: it takes memory.
const AT_ONCE: usize = 4;

/// Documents that are not on disk yet.
#[derive(Debug)]
pub(super) struct Pending {
    shape: Shape,
    /// How many fit into the memory.
    most: usize,
    first: u32,
    orders: Vec<(u16, u64)>,
    exact: Vec<[u8; 16]>,
    /// Numbers of the documents that have bands, and these.
    near: Vec<u32>,
    bands: Vec<u64>,
    sketches: Vec<u8>,
}

impl Pending {
    /// None yet; `first` is the number of the next document.
    pub fn new(shape: Shape, first: u32, memory: u64) -> Self {
        let each = 16 + 16 + 4 + 8 * shape.bands + shape.sketch;
        // The other half is for sorting.
        let most = usize::try_from(memory / 2).unwrap_or(usize::MAX) / each;
        Pending {
            shape,
            most,
            first,
            orders: Vec::new(),
            exact: Vec::new(),
            near: Vec::new(),
            bands: Vec::new(),
            sketches: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.orders.len()
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// Adds a document of the source at this place in the order of precedence.
    pub fn push(&mut self, precedence: u16, signature: &Signature) {
        if self.orders.is_empty() {
            // All at once: what is not used takes no memory, and nothing is copied while it grows.
            self.orders.reserve_exact(self.most);
            self.exact.reserve_exact(self.most);
            self.near.reserve_exact(self.most);
            self.bands.reserve_exact(self.most * self.shape.bands);
            self.sketches.reserve_exact(self.most * self.shape.sketch);
        }
        if !signature.bands.is_empty() {
            self.near.push(self.first + self.orders.len() as u32);
            self.bands.extend_from_slice(&signature.bands);
        }
        self.orders.push((precedence, signature.bytes));
        self.exact.push(signature.exact);
        self.sketches.extend_from_slice(&signature.sketch);
        self.sketches
            .resize(self.orders.len() * self.shape.sketch, 0);
    }

    /// Writes the segment, whole or not at all, and begins the next one.
    pub fn write(&mut self, folder: &Path, identity: &[u8; 16]) -> Result<Segment> {
        let path = folder.join(format!("{:010}.signatures", self.first));
        whole_file::replace(&path, |file| {
            let mut out = BufWriter::with_capacity(1 << 20, file.as_file_mut());
            self.write_to(&mut out, identity)?;
            out.flush()
        })?;
        let segment = Segment::open(&path, self.shape, identity)?;
        self.first += self.len() as u32;
        self.orders.clear();
        self.exact.clear();
        self.near.clear();
        self.bands.clear();
        self.sketches.clear();
        Ok(segment)
    }

    fn write_to(&self, out: &mut impl Write, identity: &[u8; 16]) -> Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(identity)?;
        for number in [self.first, self.len() as u32, self.near.len() as u32] {
            out.write_all(&number.to_le_bytes())?;
        }
        let numbers = self.first..self.first + self.len() as u32;
        let order =
            |((precedence, bytes), number): (&(u16, u64), u32)| (*precedence, !*bytes, number);
        let mut orders: Vec<_> = self.orders.iter().zip(numbers.clone()).map(order).collect();
        orders.par_sort_unstable();
        for (precedence, complement, number) in orders {
            out.write_all(&precedence.to_be_bytes())?;
            out.write_all(&complement.to_be_bytes())?;
            out.write_all(&number.to_be_bytes())?;
        }
        let mut exact: Vec<_> = self.exact.iter().zip(numbers).collect();
        exact.par_sort_unstable();
        for (key, number) in exact {
            out.write_all(key)?;
            out.write_all(&number.to_be_bytes())?;
        }
        let bands: Vec<usize> = (0..self.shape.bands).collect();
        for bands in bands.chunks(AT_ONCE) {
            let sorted: Vec<Vec<u8>> = bands.par_iter().map(|b| self.band(*b)).collect();
            for records in sorted {
                out.write_all(&records)?;
            }
        }
        out.write_all(&self.sketches)
    }

    /// The records of a band in their order.
    fn band(&self, band: usize) -> Vec<u8> {
        let hashes = self.bands.iter().skip(band).step_by(self.shape.bands);
        let mut records: Vec<(u64, u32)> = hashes.copied().zip(self.near.iter().copied()).collect();
        records.sort_unstable();
        let mut bytes = Vec::with_capacity(records.len() * BAND);
        for (hash, number) in records {
            bytes.extend_from_slice(&hash.to_be_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// Documents on disk.
#[derive(Debug)]
pub(super) struct Segment {
    file: Arc<File>,
    shape: Shape,
    pub first: u32,
    pub count: u32,
    /// How many of them have bands.
    pub near: u32,
}

impl Segment {
    /// Opens a segment and checks its head and its length.
    ///
    /// # Errors
    /// `InvalidData` when it is of another task or damaged, or what the system says.
    pub fn open(path: &Path, shape: Shape, identity: &[u8; 16]) -> Result<Self> {
        let invalid = |what| Error::new(std::io::ErrorKind::InvalidData, what);
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return Err(invalid("is damaged"));
        }
        file.read_exact_at(&mut header, 0)?;
        if header[..8] != MAGIC[..] || header[8..24] != identity[..] {
            return Err(invalid("was made with other settings or other sources"));
        }
        let number = |i: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[24 + i * 4..28 + i * 4]);
            u32::from_le_bytes(bytes)
        };
        let segment = Segment {
            file: Arc::new(file),
            shape,
            first: number(0),
            count: number(1),
            near: number(2),
        };
        let end = segment.sketch_at(segment.count);
        if length != end || segment.first.checked_add(segment.count).is_none() {
            return Err(invalid("is damaged"));
        }
        Ok(segment)
    }

    fn run(&self, offset: u64, records: u32) -> Run {
        Run {
            file: self.file.clone(),
            offset,
            records: u64::from(records),
        }
    }

    /// All documents by what stands first: records of `ORDER` bytes.
    pub fn orders(&self) -> Run {
        self.run(HEADER as u64, self.count)
    }

    /// All documents by the key of their text: records of `EXACT` bytes.
    pub fn exact(&self) -> Run {
        let before = u64::from(self.count) * ORDER as u64;
        self.run(HEADER as u64 + before, self.count)
    }

    /// The documents that have bands, by a band's hash: records of `BAND` bytes.
    pub fn band(&self, band: usize) -> Run {
        let before = u64::from(self.count) * (ORDER + EXACT) as u64
            + u64::from(self.near) * (BAND * band) as u64;
        self.run(HEADER as u64 + before, self.near)
    }

    /// Where the sketch of the segment's document `i` begins.
    fn sketch_at(&self, i: u32) -> u64 {
        self.band(self.shape.bands).offset + u64::from(i) * self.shape.sketch as u64
    }

    /// Reads the sketch of document `number`, which is one of these.
    pub fn sketch(&self, number: u32, sketch: &mut Vec<u8>) -> Result<()> {
        sketch.resize(self.shape.sketch, 0);
        let at = self.sketch_at(number - self.first);
        self.file.read_exact_at(sketch, at)
    }
}
