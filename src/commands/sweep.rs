//! `harness sweep`: a study from its file to its tables.
use super::{fetch, prepare, preparing::Preparing, trial::cache};
use crate::{
    checkpoint::hub::Commits,
    experiment::{Cost, DataManifest, Speed, Study, StudySpec, Trial, repositories},
    report, say,
    sweep::{self, Collected, Ended, Launch, ResultsFolder, State, TrialFolder, launch},
    verdict::{Decision, SummaryRow, decide, summarise},
};
use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// `harness sweep STUDY`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The study's file.
    study: PathBuf,
    /// Folder of the results; results/NAME where it is not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Trials at a time; they share the cores.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Run only this trial (its key), or those whose names match this pattern, such as '*seed=0'.
    #[arg(long, value_name = "KEY|NAME-GLOB")]
    only: Option<String>,
    /// Run trials that failed once more.
    #[arg(long)]
    retry_failed: bool,
    /// One seed and a tenth of the tokens and items, to results/NAME-reduced.
    #[arg(long)]
    reduced: bool,
    /// Show the trials and what they cost, and start nothing.
    #[arg(long)]
    dry_run: bool,
    /// The dry run as JSON.
    #[arg(long, requires = "dry_run")]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, quiet: bool) -> Result<u8> {
    let asked = Asked {
        study: &arguments.study,
        out: arguments.out.as_deref(),
        reduced: arguments.reduced,
    };
    let (study, out) = asked.load(quiet)?;
    let chosen = choose(&study, arguments.only.as_deref())?;
    if arguments.dry_run {
        return dry_run(&study, &chosen, &out, arguments.json, quiet);
    }
    let results = ResultsFolder::open(&out, &study)?;
    let (trials, data) = prepare(&study, &chosen, &cache(&out), quiet)?;
    prepare::write(&out, &data)?;
    let states = || {
        trials
            .iter()
            .map(|(trial, _)| TrialFolder::new(&out, &trial.key).state())
    };
    if !quiet {
        let done = states().filter(|state| *state == State::Done).count();
        say::aside(format_args!(
            "{}: {} trials, {done} done, in {}",
            study.name(),
            trials.len(),
            out.display()
        ));
    }
    let mut publication = Publication::default();
    // What was published before and is damaged is said before anything is trained.
    publication.publish(&out, &study)?;
    let ended = launch(
        &Launch {
            study: &arguments.study,
            reduced: arguments.reduced,
            results: &results.path,
            trials: &trials,
            jobs: arguments.jobs.into(),
            retry_failed: arguments.retry_failed,
            quiet,
        },
        || publication.publish(&out, &study).map(|_| ()),
    )?;
    let decision = publication.publish(&out, &study)?;
    let (tables, summary) = (publication.collected.tables(), &publication.summary);
    say::out(report::table(tables, summary, decision.as_ref()))?;
    if ended == Ended::Interrupted {
        say::aside("interrupted; the same command goes on from here");
        return Ok(super::INTERRUPTED);
    }
    let failed = states().filter(|state| *state == State::Failed).count();
    if failed > 0 {
        log::error!(
            "{failed} of {} trials failed; `harness status {}` says why, --retry-failed runs them again",
            trials.len(),
            out.display()
        );
        return Ok(super::TRIAL_FAILED);
    }
    Ok(super::OK)
}

/// Which study, and where its results are.
pub(super) struct Asked<'a> {
    pub study: &'a Path,
    pub out: Option<&'a Path>,
    pub reduced: bool,
}

impl Asked<'_> {
    /// The study, after what it needs of the hub was fetched, at the commits that earlier results were made with; and
    /// the folder of its results.
    pub fn load(&self, quiet: bool) -> Result<(Study, PathBuf)> {
        let out = match self.out {
            Some(out) => out.to_path_buf(),
            None => Path::new("results").join(StudySpec::name(self.study, self.reduced)?),
        };
        let wanted = repositories(self.study)?;
        let mut commits = Commits::default();
        if !wanted.is_empty() {
            commits = sweep::commits_of_trials(&out)?;
            fetch::all(&wanted, &mut commits, quiet)?;
        }
        let study = Study::load(self.study, self.reduced, &commits, &cache(&out))?;
        Ok((study, out))
    }
}

/// What was published so far.
#[derive(Default)]
struct Publication {
    collected: Collected,
    summary: Vec<SummaryRow>,
}

impl Publication {
    /// Builds the tables from what is published, decides, and writes both.
    fn publish(&mut self, out: &Path, study: &Study) -> Result<Option<Decision>> {
        let tables = self.collected.update(out, study)?;
        self.summary = summarise(tables, &self.summary);
        let decision = match &study.spec.decision {
            Some(spec) => Some(decide(&study.name(), spec, tables)?),
            None => None,
        };
        let title = match study.reduced {
            true => format!("{} (reduced)", study.spec.name),
            false => study.spec.name.clone(),
        };
        report::write(out, &title, tables, &self.summary, decision.as_ref())?;
        Ok(decision)
    }
}

/// Prepares the study and returns the chosen trials with what they cost, and how their data came about.
fn prepare<'a>(
    study: &'a Study,
    chosen: &[&str],
    cache: &Path,
    quiet: bool,
) -> Result<(Vec<(&'a Trial, Cost)>, DataManifest)> {
    let shown = Preparing::new(quiet, SHORT);
    let prepared = study.prepare(cache, &|progress| shown.watch(progress));
    shown.close();
    let (costs, data) = prepared?;
    let all = study.trials.iter().zip(costs);
    let chosen = all.filter(|(trial, _)| chosen.contains(&trial.key.as_str()));
    Ok((chosen.collect(), data))
}

/// Steps of the preparation that take less are not spoken of.
const SHORT: Duration = Duration::from_secs(2);

/// Keys of the trials that `--only` names, or of all.
fn choose<'a>(study: &'a Study, only: Option<&str>) -> Result<Vec<&'a str>> {
    let all = study.trials.iter();
    let Some(only) = only else {
        return Ok(all.map(|t| t.key.as_str()).collect());
    };
    let pattern = glob::Pattern::new(only).with_context(|| format!("--only {only}"))?;
    let chosen: Vec<&str> = all
        .filter(|t| t.key == only || pattern.matches(&t.name))
        .map(|t| t.key.as_str())
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = study
            .trials
            .iter()
            .map(|t| t.name.as_str())
            .take(4)
            .collect();
        bail!(
            "--only {only}: no trial has this key or a name like it; names are {} ...",
            names.join(" ")
        );
    }
    Ok(chosen)
}

fn dry_run(study: &Study, chosen: &[&str], out: &Path, as_json: bool, quiet: bool) -> Result<u8> {
    // What a sweep tokenised already serves here, too; a dry run itself leaves nothing behind.
    let temporary = tempfile::tempdir().context("a temporary folder")?;
    let cache = match cache(out) {
        cache if cache.is_dir() => cache,
        _ => temporary.path().to_path_buf(),
    };
    let (trials, _) = prepare(study, chosen, &cache, quiet)?;
    let first = study.trials.iter().find(|trial| !trial.is_base());
    let speed = match first {
        Some(trial) => Some(
            Speed::measure(&trial.spec, &cache)
                .map_err(|e| anyhow::anyhow!("trial {}: {e}", trial.name))?,
        ),
        None => None,
    };
    let seconds = |cost: &Cost| speed.map(|speed| speed.seconds(cost));
    if as_json {
        let rows = trials.iter().map(|(trial, cost)| {
            json!({
                "key": trial.key,
                "name": trial.name,
                "arm": trial.arm,
                "seed": trial.spec.seed,
                "status": TrialFolder::new(out, &trial.key).state(),
                "cost": cost,
                "seconds": seconds(cost),
            })
        });
        let all = json!({
            "study": study.name(),
            "reduced": study.reduced,
            "results": out,
            "backend": study.backend,
            "speed": speed,
            "trials": rows.collect::<Vec<_>>(),
        });
        say::out(serde_json::to_string_pretty(&all)?)?;
        return Ok(super::OK);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "key", "name", "status", "tokens", "scored", "FLOPs", "time", "memory",
    ]);
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut total = (0u64, 0.0, 0.0);
    for (trial, cost) in &trials {
        let flops = cost.train_flops + cost.score_flops;
        let state = TrialFolder::new(out, &trial.key).state();
        table.add_row([
            trial.key.clone(),
            trial.name.clone(),
            state.to_string(),
            cost.train_tokens.to_string(),
            (cost.score_tokens + cost.generated_tokens).to_string(),
            format!("{flops:.2e}"),
            seconds(cost).map_or(String::new(), |s| format!("{s:.0} s")),
            format!("{:.0} MiB", cost.memory_bytes as f64 / f64::from(1 << 20)),
        ]);
        total.0 += cost.train_tokens;
        total.1 += flops;
        total.2 += seconds(cost).unwrap_or_default();
    }
    say::out(format_args!("{}, to {}", study.name(), out.display()))?;
    say::out(table.trim_fmt())?;
    let (tokens, flops, time) = total;
    say::out(format_args!(
        "{} trials: {tokens} tokens, {flops:.2e} FLOPs, about {:.1} minutes",
        trials.len(),
        time / 60.0
    ))?;
    if let Some(speed) = speed {
        say::out(format_args!(
            "time: at {:.1} GFLOP/s of training, {:.1} of reading and {:.1} ms a generated token, measured \
             just now on one sequence; --jobs shares the cores",
            speed.train_flops / 1e9,
            speed.scoring.score_flops / 1e9,
            speed.scoring.token_seconds * 1e3
        ))?;
    }
    Ok(super::OK)
}
