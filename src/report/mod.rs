//! What a study gives: CSV tables, a figure, the decision, and the table on the terminal.
mod card;
mod figure;
mod terminal;

pub use card::{Card, card};
pub use terminal::{scores, table};

use crate::verdict::{Decision, SummaryRow, Tables};
use serde::Serialize;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// What a report can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {what}")]
    Format { path: PathBuf, what: String },
}

/// Result of a report.
pub type Result<T> = std::result::Result<T, Error>;

/// Writes `trials.csv`, `scores.csv`, `summary.csv`, `decision.toml` and `figure.svg` to `folder`; what there is nothing for is removed. Of
/// these, `trials.csv` alone holds anything that was timed.
///
/// # Errors
/// When a file cannot be written; each is whole or as it was.
pub fn write(
    folder: &Path,
    title: &str,
    tables: &Tables,
    summary: &[SummaryRow],
    decision: Option<&Decision>,
) -> Result<()> {
    csv(&folder.join("trials.csv"), &tables.trials)?;
    write_scores(folder, tables)?;
    csv(&folder.join("summary.csv"), summary)?;
    let path = folder.join("decision.toml");
    if let Some(decision) = decision {
        let text = toml::to_string(decision).map_err(|e| Error::Format {
            path: path.clone(),
            what: e.to_string(),
        })?;
        replace(&path, text.as_bytes())?;
    } else {
        // The study decides nothing any more.
        remove(&path)?;
    }
    let path = folder.join("figure.svg");
    match figure::draw(title, summary) {
        Some(Ok(svg)) => replace(&path, svg.as_bytes()),
        Some(Err(what)) => Err(Error::Format { path, what }),
        None => remove(&path),
    }
}

/// Removes what an earlier report has left there.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io {
            path: path.to_path_buf(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Writes `scores.csv` alone to `folder`.
///
/// # Errors
/// When the file cannot be written; it is then as it was.
pub fn write_scores(folder: &Path, tables: &Tables) -> Result<()> {
    csv(&folder.join("scores.csv"), &tables.scores)
}

fn csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let wrong = |what: String| Error::Format {
        path: path.to_path_buf(),
        what,
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|e| wrong(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| wrong(e.to_string()))?;
    replace(path, &bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::whole_file::replace(path, |file| file.write_all(bytes)).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests;
