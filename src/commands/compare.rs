//! `harness compare`: arms of results folders and tables, paired by item.
use crate::{
    evals::Record,
    say,
    sweep::{Manifest, TrialFolder, items},
    verdict::{Better, Comparison, ItemRow, Pairing, compare_all, number, p, pair},
};
use anyhow::{Context, Result, bail, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// `harness compare A B ...`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Results folders of sweeps (all their arms, or one as FOLDER@ARM), trials' folders, records.jsonl, or CSV tables
    /// of items with the columns task, item, metric, value and, where they matter, arm, seed, protocol, length, cluster,
    /// weight. Of a sweep's scores.csv, which has no items, the seeds are compared. The first arm is the one that the
    /// others are compared with.
    #[arg(required = true)]
    arms: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One arm with its items.
struct Arm {
    name: String,
    items: Vec<ItemRow>,
}

/// A score of two arms.
#[derive(Debug, Serialize)]
struct Row {
    task: String,
    protocol: String,
    /// Nothing for a mean over several lengths.
    length: Option<u64>,
    metric: String,
    /// Items that one of the two alone has.
    left_out: usize,
    /// Values of right or wrong.
    binary: bool,
    /// Which way is better, where the metric is known.
    better: Option<Better>,
    /// Why there is no comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let mut arms = Vec::new();
    for argument in &arguments.arms {
        arms.extend(read(argument)?);
    }
    let Some((first, others)) = arms.split_first() else {
        bail!("nothing to compare");
    };
    ensure!(
        !others.is_empty(),
        "{}: one arm alone, {}, has nothing to be compared with; name another",
        arguments.arms[0],
        first.name
    );
    let mut rows = Vec::new();
    for score in scores(&first.items) {
        rows.extend(compare(&score, first, others));
    }
    if rows.iter().all(|row| row.comparison.is_none()) {
        let reasons: BTreeSet<&String> =
            rows.iter().filter_map(|row| row.why_not.as_ref()).collect();
        let reasons: Vec<&str> = reasons.into_iter().map(String::as_str).collect();
        bail!(
            "nothing can be compared; arms must have the same items under the same seeds: {}",
            reasons.join("; ")
        );
    }
    if arguments.json {
        say::out(serde_json::to_string_pretty(&rows)?)?;
    } else {
        say::out(text(&rows, &first.name, others.len()))?;
    }
    Ok(super::OK)
}

/// Which items make a score.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    task: String,
    protocol: String,
    metric: String,
    length: Option<u64>,
}

impl Score {
    fn covers(&self, item: &ItemRow) -> bool {
        (&self.task, &self.protocol, &self.metric) == (&item.task, &item.protocol, &item.metric)
            && (self.length.is_none() || self.length == item.length)
    }
}

/// The scores of an arm in the order of its items: over all lengths, and by length where there are several. Losses by
/// position are for curves.
fn scores(items: &[ItemRow]) -> Vec<Score> {
    let mut seen = BTreeSet::new();
    let mut all: Vec<Score> = Vec::new();
    for item in items.iter().filter(|item| item.protocol != "disjoint") {
        let score = Score {
            task: item.task.clone(),
            protocol: item.protocol.clone(),
            metric: item.metric.clone(),
            length: None,
        };
        if !seen.insert(score.clone()) {
            continue;
        }
        let lengths: BTreeSet<Option<u64>> = items
            .iter()
            .filter(|i| score.covers(i))
            .map(|i| i.length)
            .collect();
        let by_length = lengths.iter().filter(|_| lengths.len() > 1);
        let by_length: Vec<Score> = by_length
            .map(|length| Score {
                length: *length,
                ..score.clone()
            })
            .collect();
        all.push(score);
        all.extend(by_length);
    }
    all
}

/// The others with the first in one score, corrected together.
fn compare(score: &Score, first: &Arm, others: &[Arm]) -> Vec<Row> {
    let of = |arm: &'_ Arm| -> Vec<usize> {
        (0..arm.items.len())
            .filter(|&i| score.covers(&arm.items[i]))
            .collect()
    };
    let rows_of =
        |arm: &Arm| -> Vec<ItemRow> { of(arm).into_iter().map(|i| arm.items[i].clone()).collect() };
    let base = rows_of(first);
    let mut rows = Vec::new();
    let mut found: Vec<(&str, &str, Pairing)> = Vec::new();
    for other in others {
        let mine = rows_of(other);
        let pairing = pair(
            &mine.iter().collect::<Vec<_>>(),
            &base.iter().collect::<Vec<_>>(),
        );
        let row = Row {
            task: score.task.clone(),
            protocol: score.protocol.clone(),
            length: score.length,
            metric: score.metric.clone(),
            left_out: pairing.as_ref().map_or(0, |p| p.left_out),
            binary: pairing.as_ref().is_ok_and(|p| p.binary),
            better: Better::of(&score.metric),
            why_not: pairing
                .as_ref()
                .err()
                .map(|e| format!("{} and {}: {e}", other.name, first.name)),
            comparison: None,
        };
        rows.push(row);
        if let Ok(pairing) = pairing {
            found.push((&other.name, &first.name, pairing));
        }
    }
    let mut compared = compare_all(&found, 1.0, 0).into_iter();
    for row in rows.iter_mut().filter(|row| row.why_not.is_none()) {
        row.comparison = compared.next();
    }
    rows
}

fn text(rows: &[Row], first: &str, others: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "score",
        "arm",
        "value",
        "first",
        "difference",
        "95 % interval",
        "p",
        "could see",
        "items",
        "test",
    ]);
    for column in [2, 3, 4, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (row, c) in rows
        .iter()
        .filter_map(|row| Some((row, row.comparison.as_ref()?)))
    {
        let half = c
            .low
            .zip(c.high)
            .map_or(0.0, |(low, high)| 0.5 * (high - low));
        let n = |value: f64| number(value, half);
        let length = row
            .length
            .map_or(String::new(), |length| format!(".{length}"));
        let arrow = match row.better {
            Some(Better::Higher) => " ↑",
            Some(Better::Lower) => " ↓",
            None => "",
        };
        let clusters = if c.clusters == c.items {
            String::new()
        } else {
            format!(" in {}", c.clusters)
        };
        let seeds = if c.seeds > 1 {
            format!(" × {} seeds", c.seeds)
        } else {
            String::new()
        };
        table.add_row([
            format!("{}{length}.{}{arrow}", row.task, row.metric),
            c.arm.clone(),
            n(c.value),
            n(c.than_value),
            n(c.better_by),
            match c.low.zip(c.high) {
                Some((low, high)) => format!("{} to {}", n(low), n(high)),
                None if c.test.is_empty() => "unknown".into(),
                None => "all agree".into(),
            },
            p(c.p_corrected),
            c.detectable.map_or(String::new(), n),
            format!("{}{clusters}{seeds}", c.items),
            c.test.clone(),
        ]);
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_string())
        .collect();
    let mut said = lines.join("\n") + "\n";
    said += &format!("first: {first}. Differences are arm less first, paired by item");
    if others > 1 {
        said += "; p is Holm's over the arms in each score";
    }
    said += "; \"could see\" is the smallest true difference that these items and seeds would have found with 80 % power.\n";
    let left_out = rows
        .iter()
        .map(|row| row.left_out)
        .max()
        .unwrap_or_default();
    if left_out > 0 {
        said +=
            &format!("Up to {left_out} items of a score are not in both arms and are left out.\n");
    }
    let unknown = |row: &Row| row.comparison.as_ref().is_some_and(|c| c.test.is_empty());
    if rows.iter().any(unknown) {
        said += "unknown: one cluster of items under one seed tells no error.\n";
    }
    let reasons: BTreeSet<&String> = rows.iter().filter_map(|row| row.why_not.as_ref()).collect();
    for reason in reasons {
        said += &format!("not compared: {reason}\n");
    }
    said
}

/// The arms that an argument names.
fn read(argument: &str) -> Result<Vec<Arm>> {
    let (path, arm) = match (Path::new(argument).exists(), argument.split_once('@')) {
        (false, Some((path, arm))) => (PathBuf::from(path), Some(arm)),
        _ => (PathBuf::from(argument), None),
    };
    ensure!(
        path.exists(),
        "{}: there is no such file or folder",
        path.display()
    );
    let mut arms = if path.join("manifest.toml").is_file() && path.join("trials").is_dir() {
        results(&path)?
    } else if path.join("records.jsonl").is_file() {
        vec![Arm {
            name: argument.into(),
            items: records(&path.join("records.jsonl"))?,
        }]
    } else if path.join("scores.csv").is_file() {
        table(&path.join("scores.csv"))?
    } else if path.is_dir() {
        bail!(
            "{}: neither a results folder (manifest.toml with its trials, or scores.csv) nor a trial (records.jsonl)",
            path.display()
        );
    } else if path.extension().is_some_and(|e| e == "csv") {
        table(&path)?
    } else {
        vec![Arm {
            name: argument.into(),
            items: records(&path)?,
        }]
    };
    if let Some(wanted) = arm {
        let names: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
        arms.retain(|arm| {
            arm.name
                .rsplit_once('@')
                .map_or(arm.name.as_str(), |(_, name)| name)
                == wanted
        });
        ensure!(
            !arms.is_empty(),
            "{}: no arm is named {wanted}; there are {}",
            path.display(),
            names.join(", ")
        );
    }
    Ok(arms)
}

/// All arms of a results folder that have a trial that is done.
fn results(path: &Path) -> Result<Vec<Arm>> {
    let manifest = Manifest::read(path)?;
    let mut arms: Vec<Arm> = Vec::new();
    for trial in &manifest.trial {
        let folder = TrialFolder::new(path, &trial.key);
        let Some(published) = folder.published()? else {
            continue;
        };
        let items = items(
            &folder.published_records(&published)?,
            &trial.arm,
            trial.seed,
        );
        let name = format!("{}@{}", path.display(), trial.arm);
        match arms.iter_mut().find(|arm| arm.name == name) {
            Some(arm) => arm.items.extend(items),
            None => arms.push(Arm { name, items }),
        }
    }
    ensure!(
        !arms.is_empty(),
        "{}: none of its trials is done",
        path.display()
    );
    Ok(arms)
}

fn records(path: &Path) -> Result<Vec<ItemRow>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let record = |(i, line): (usize, &str)| {
        let record = serde_json::from_str::<Record>(line);
        record.map_err(|e| {
            anyhow::anyhow!(
                "{}:{}: is no record of an evaluation: {e}",
                path.display(),
                i + 1
            )
        })
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let records: Vec<Record> = lines.map(record).collect::<Result<_>>()?;
    ensure!(!records.is_empty(), "{}: has no record", path.display());
    Ok(items(&records, "", None))
}

/// One line of a table of items.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    arm: String,
    seed: Option<u64>,
    task: String,
    #[serde(default)]
    protocol: String,
    length: Option<u64>,
    #[serde(default)]
    position: String,
    #[serde(default)]
    item: String,
    cluster: Option<String>,
    metric: String,
    value: f64,
    weight: Option<f64>,
}

/// The arms of a table of items, in the order in which it has them.
fn table(path: &Path) -> Result<Vec<Arm>> {
    let place = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).with_context(place)?;
    let header = reader.headers().with_context(place)?.clone();
    let missing = |wanted: &&&str| !header.iter().any(|name| name == **wanted);
    // A sweep's table of scores: each is one item of its own, so that the seeds alone speak of the error.
    let of_trials =
        header.iter().any(|name| name == "trial") && !header.iter().any(|name| name == "item");
    let needed: &[&str] = if of_trials {
        &["task", "metric", "value"]
    } else {
        &["task", "item", "metric", "value"]
    };
    let missing: Vec<&str> = needed.iter().filter(missing).copied().collect();
    ensure!(
        missing.is_empty(),
        "{}: has no column {}; a table of items needs {}",
        path.display(),
        missing.join(", "),
        needed.join(", ")
    );
    let mut arms: Vec<Arm> = Vec::new();
    for row in reader.records() {
        // The error says the line itself.
        let row = row.with_context(place)?;
        let at = row.position().map_or(0, csv::Position::line);
        let line: Line = row
            .deserialize(Some(&header))
            .map_err(|e| anyhow::anyhow!("{}:{at}: {e}", path.display()))?;
        if of_trials && !line.position.is_empty() {
            continue;
        }
        let (task, length) = match (of_trials, line.length) {
            (true, Some(length)) => (format!("{}.{length}", line.task), None),
            (_, length) => (line.task, length),
        };
        let weight = line.weight.unwrap_or(1.0);
        ensure!(
            line.value.is_finite() && weight.is_finite() && weight >= 0.0,
            "{}:{at}: a value must be a number, and a weight 0 or more",
            path.display()
        );
        let name = match line.arm.is_empty() {
            true => path.display().to_string(),
            false => format!("{}@{}", path.display(), line.arm),
        };
        let item = ItemRow {
            arm: line.arm,
            seed: line.seed,
            task,
            protocol: line.protocol,
            length,
            position: String::new(),
            cluster: line.cluster.unwrap_or_else(|| line.item.clone()),
            item: line.item,
            metric: line.metric,
            value: line.value,
            weight,
        };
        match arms.iter_mut().find(|arm| arm.name == name) {
            Some(arm) => arm.items.push(item),
            None => arms.push(Arm {
                name,
                items: vec![item],
            }),
        }
    }
    ensure!(!arms.is_empty(), "{}: has no row", path.display());
    Ok(arms)
}
