//! What the program says. Who reads it may be gone (`| head`, a terminal that was closed), which ends no work.
use std::{
    fmt::Display,
    io::{Error, ErrorKind, Result, Write, stderr, stdout},
};

/// Prints a result, and the end of its last line where it has none.
///
/// # Errors
/// When it cannot be written though there is somebody to read it: a disk that is full.
pub fn out(text: impl Display) -> Result<()> {
    let mut text = text.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::new(e.kind(), format!("standard output: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// A line on standard error, for whoever watches.
pub fn aside(line: impl Display) {
    // Nobody is left to be told that it cannot be said.
    let _ = writeln!(stderr(), "{line}");
}
