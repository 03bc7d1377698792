//! Input of JSON lines, with errors that name the line.
use anyhow::{Context, Result, anyhow, ensure};
use indicatif::ProgressBar;
use serde::de::DeserializeOwned;
use std::path::Path;

/// What `make` makes of every line that is not empty. All are read before any is used, so that the last line's
/// error comes first, too.
pub(super) fn read<L: DeserializeOwned, T>(
    path: &Path,
    mut make: impl FnMut(L) -> Result<T, String>,
) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().enumerate();
    let all = lines.filter(|(_, line)| !line.trim().is_empty());
    let made = all.map(|(i, line)| {
        let parsed = serde_json::from_str(line).map_err(|e| e.to_string());
        parsed
            .and_then(&mut make)
            .map_err(|what| anyhow!("{}: line {}: {what}", path.display(), i + 1))
    });
    let made: Vec<T> = made.collect::<Result<_>>()?;
    ensure!(!made.is_empty(), "{}: has no items", path.display());
    Ok(made)
}

/// A bar over `lines` lines of input.
pub(super) fn progress(lines: usize, quiet: bool) -> ProgressBar {
    match quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(lines as u64),
    }
}
