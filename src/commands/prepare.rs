//! `harness prepare`: a study's data from files to token ids, and what came of each step.
use super::{data_tables, preparing::Preparing, sweep, trial::cache};
use crate::{experiment::DataManifest, say, sweep::ResultsFolder, whole_file};
use anyhow::{Context, Result};
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// `harness prepare STUDY`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The study's file.
    study: PathBuf,
    /// Folder of the results; results/NAME where it is not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// For the reduced study, whose evaluations hold out fewer texts, to results/NAME-reduced.
    #[arg(long)]
    reduced: bool,
    /// Print everything that the manifest has, as tables.
    #[arg(long)]
    report: bool,
    /// Print the manifest as JSON.
    #[arg(long, conflicts_with = "report")]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, quiet: bool) -> Result<u8> {
    let asked = sweep::Asked {
        study: &arguments.study,
        out: arguments.out.as_deref(),
        reduced: arguments.reduced,
    };
    let (study, out) = asked.load(quiet)?;
    let _folder = ResultsFolder::open(&out, &study)?;
    let shown = Preparing::new(quiet, Duration::ZERO);
    let prepared = study.prepare(&cache(&out), &|progress| shown.watch(progress));
    shown.close();
    let (_, manifest) = prepared?;
    write(&out, &manifest)?;
    if arguments.json {
        say::out(serde_json::to_string_pretty(&manifest)?)?;
    } else {
        say::out(data_tables::text(&manifest, arguments.report))?;
        say::out(format_args!("written to {}", manifest_path(&out).display()))?;
    }
    Ok(super::OK)
}

fn manifest_path(results: &Path) -> PathBuf {
    results.join("data.json")
}

/// Writes how the data came about into the results folder.
pub(super) fn write(results: &Path, manifest: &DataManifest) -> Result<()> {
    let path = manifest_path(results);
    let text = serde_json::to_string_pretty(manifest)? + "\n";
    whole_file::replace(&path, |file| file.write_all(text.as_bytes()))
        .with_context(|| path.display().to_string())
}
