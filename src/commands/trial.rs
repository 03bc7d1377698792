//! `harness trial`: one trial, in this process.
use crate::{experiment::Study, sweep};
use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// `harness trial STUDY --key KEY --out DIR`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The study's file.
    study: PathBuf,
    /// The trial's key, as `sweep --dry-run` shows it.
    #[arg(long)]
    key: String,
    /// The study's results folder.
    #[arg(long)]
    out: PathBuf,
    /// The trial is one of the reduced study: a tenth of the tokens and items.
    #[arg(long)]
    reduced: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let commits = sweep::commits(&arguments.out)?;
    let cache = cache(&arguments.out);
    let study = Study::load(&arguments.study, arguments.reduced, &commits, &cache)?;
    let Some(trial) = study.trials.iter().find(|t| t.key == arguments.key) else {
        bail!(
            "{}: no trial has the key {}; the study or what it reads changed since the key was made",
            arguments.study.display(),
            arguments.key
        );
    };
    log::info!("trial {} of {}", trial.name, study.name());
    let outcome = sweep::run(&arguments.out, &cache, trial, |update| {
        let mut out = std::io::stdout().lock();
        let line = serde_json::to_string(update)?;
        writeln!(out, "{line}")?;
        out.flush()
    })
    .context("the trial's folder")?;
    if let sweep::Outcome::Failed(reason) = &outcome {
        log::error!("trial {} failed: {reason}", trial.name);
    }
    Ok(u8::try_from(outcome.code()).unwrap_or(super::TRIAL_FAILED))
}

/// Where tokenised data is kept in a results folder.
pub(super) fn cache(results: &Path) -> PathBuf {
    results.join("cache")
}
