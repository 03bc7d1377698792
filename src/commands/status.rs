//! `harness status`: where a study's trials stand.
use crate::{
    say,
    sweep::{Manifest, State, TrialFolder},
};
use anyhow::Result;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::path::PathBuf;

/// `harness status DIR`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A results folder.
    results: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    key: String,
    name: String,
    status: State,
    /// Where its worker stands, or why it failed.
    progress: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let manifest = Manifest::read(&arguments.results)?;
    let mut rows = Vec::with_capacity(manifest.trial.len());
    for trial in manifest.trial {
        let folder = TrialFolder::new(&arguments.results, &trial.key);
        let status = folder.state();
        let progress = match status {
            State::Done => folder
                .published()?
                .and_then(|published| published.final_loss)
                .map_or(String::new(), |loss| format!("final loss {loss:.3}")),
            State::Failed => folder.last_failure()?.map_or(String::new(), |f| f.reason),
            State::Running | State::Interrupted => folder
                .progress()
                .map_or(String::new(), |update| update.to_string()),
            State::Waiting => String::new(),
        };
        rows.push(Row {
            key: trial.key,
            name: trial.name,
            status,
            progress,
        });
    }
    if arguments.json {
        say::out(serde_json::to_string_pretty(&rows)?)?;
        return Ok(super::OK);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["key", "name", "status", "progress"]);
    for row in &rows {
        let status = row.status.to_string();
        table.add_row([&row.key, &row.name, &status, &row.progress]);
    }
    say::out(table.trim_fmt())?;
    Ok(super::OK)
}
