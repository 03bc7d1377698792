//! A file as a stream of bytes: decompressed, its lines bounded, and the same from beginning to end.
use super::{Error, Result};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// How a file is compressed, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// How `path` is compressed, and its name without what says so.
    pub fn of(path: &Path) -> (Self, PathBuf) {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => (Compression::Gzip, path.with_extension("")),
            Some("zst") => (Compression::Zstd, path.with_extension("")),
            _ => (Compression::None, path.to_path_buf()),
        }
    }
}

/// What tells that a file is as it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub fn of(file: &fs::File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Stamp {
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// # Errors
    /// When the file is another than when this stamp was taken.
    pub fn check(&self, file: &fs::File, path: &Path) -> Result<()> {
        match Stamp::of(file) {
            Ok(now) if now == *self => Ok(()),
            Ok(_) => Err(wrong(
                path,
                "changed while it was read; run again when nothing writes to it any more",
            )),
            Err(e) => Err(wrong(path, e.to_string())),
        }
    }
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: what.into(),
    }
}

/// Tells how many bytes of the file were taken, whatever they are unpacked to. No more are than it had when it was
/// opened, so that one that grows comes to its end.
struct Counting<'a> {
    file: io::Take<fs::File>,
    seen: &'a dyn Fn(u64),
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        (self.seen)(n as u64);
        Ok(n)
    }
}

/// A file that is being read.
pub(super) struct Stream<'a> {
    path: PathBuf,
    file: fs::File,
    stamp: Stamp,
    compression: Compression,
    reader: Box<dyn BufRead + 'a>,
}

/// What came of asking for a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole,
    TooLong,
    End,
}

impl<'a> Stream<'a> {
    /// Opens a file; `seen` is told of every bytes that are taken of it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, seen: &'a dyn Fn(u64)) -> Result<Self> {
        let failed = |e: io::Error| wrong(path, e.to_string());
        let file = fs::File::open(path).map_err(failed)?;
        let stamp = Stamp::of(&file).map_err(failed)?;
        let counting = Counting {
            file: file.try_clone().map_err(failed)?.take(stamp.length),
            seen,
        };
        let buffered = BufReader::with_capacity(BUFFER, counting);
        let (compression, _) = Compression::of(path);
        let reader: Box<dyn BufRead> = match compression {
            Compression::None => Box::new(buffered),
            Compression::Gzip => Box::new(BufReader::with_capacity(
                BUFFER,
                flate2::bufread::MultiGzDecoder::new(buffered),
            )),
            Compression::Zstd => Box::new(BufReader::with_capacity(
                BUFFER,
                zstd::Decoder::with_buffer(buffered).map_err(failed)?,
            )),
        };
        Ok(Stream {
            path: path.to_path_buf(),
            file,
            stamp,
            compression,
            reader,
        })
    }

    /// The next line without its end, if it has at most `limit` bytes.
    pub fn line(&mut self, line: &mut Vec<u8>, limit: usize) -> io::Result<Line> {
        line.clear();
        let mut bounded = (&mut self.reader).take(limit as u64 + 1);
        let n = bounded.read_until(b'\n', line)?;
        if n == 0 {
            return Ok(Line::End);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if n > limit {
            return Ok(Line::TooLong);
        }
        Ok(Line::Whole)
    }

    /// All of it, if that is at most `limit` bytes.
    ///
    /// # Errors
    /// When it is longer, damaged or cut off.
    pub fn whole(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes);
        read.map_err(|e| self.failed("", e))?;
        match bytes.len() > limit {
            true => Err(self.too_long("", "is one document", limit)),
            false => Ok(bytes),
        }
    }

    /// The bytes as they come.
    pub fn reader(&mut self) -> &mut (dyn BufRead + 'a) {
        &mut *self.reader
    }

    /// An error at a place in this file (`:LINE`).
    pub fn error(&self, place: &str, what: impl Into<String>) -> Error {
        Error::File {
            path: format!("{}{place}", self.path.display()),
            what: what.into(),
        }
    }

    /// What reading failed with.
    pub fn failed(&self, place: &str, error: io::Error) -> Error {
        let compression = match self.compression {
            Compression::None => return self.error(place, error.to_string()),
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let what =
            format!("damaged or cut off {compression} ({error}); fetch or make the file again");
        self.error(place, what)
    }

    pub fn too_long(&self, place: &str, what: &str, limit: usize) -> Error {
        self.error(
            place,
            format!(
                "{what} of more than {limit} bytes; raise the source's `max_document_bytes`, or cut it"
            ),
        )
    }

    /// Checks that the file is what it was when it was opened.
    pub fn finish(self) -> Result<()> {
        self.stamp.check(&self.file, &self.path)
    }
}
