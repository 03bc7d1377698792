//! The study's tables, from published results alone.
use super::{Published, Result, State, TrialFolder};
use crate::{
    evals::{Record, record, scores, weight},
    experiment::{Study, Trial},
    verdict::{ItemRow, ScoreRow, Tables, TrialRow, add_intervals},
};
use std::path::Path;

/// The tables of a study, from what its trials published. What a trial published does not change: its records are
/// read once.
#[derive(Debug, Default)]
pub struct Collected {
    tables: Tables,
    /// Rows of scores and of items that each trial of the study has in the tables, in the study's order.
    rows: Vec<Option<(usize, usize)>>,
}

impl Collected {
    /// The tables as they were last.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Rows of all trials in the study's order, with the scores and items of those that are done.
    ///
    /// # Errors
    /// When a published file cannot be read, or a trial's records are not those that it published.
    pub fn update(&mut self, results: &Path, study: &Study) -> Result<&Tables> {
        self.rows.resize(study.trials.len(), None);
        self.tables.trials.clear();
        for (i, trial) in study.trials.iter().enumerate() {
            let folder = TrialFolder::new(results, &trial.key);
            let published = folder.published()?;
            let row = trial_row(trial, study.reduced, &folder, published.as_ref())?;
            if let (Some(published), None) = (published, self.rows[i]) {
                let records = folder.published_records(&published)?;
                let (scores, items) = rows(&row, &records);
                let before = self.rows[..i].iter().flatten();
                let (s, t) = before.fold((0, 0), |(s, t), (scores, items)| (s + scores, t + items));
                self.rows[i] = Some((scores.len(), items.len()));
                self.tables.scores.splice(s..s, scores);
                self.tables.items.splice(t..t, items);
            }
            self.tables.trials.push(row);
        }
        Ok(&self.tables)
    }
}

fn trial_row(
    trial: &Trial,
    reduced: bool,
    folder: &TrialFolder,
    published: Option<&Published>,
) -> Result<TrialRow> {
    let state = folder.state();
    let axes: Vec<String> = trial
        .axes
        .iter()
        .map(|(axis, label)| format!("{axis}={label}"))
        .collect();
    Ok(TrialRow {
        trial: trial.key.clone(),
        arm: trial.arm.clone(),
        axes: axes.join(" "),
        seed: trial.spec.seed,
        tokens: published.map_or(0, |p| p.tokens),
        final_loss: published.and_then(|p| p.final_loss),
        tokens_per_second: published.and_then(throughput),
        status: state.to_string(),
        reason: match state {
            State::Failed => folder.last_failure()?.map_or(String::new(), |f| f.reason),
            _ => String::new(),
        },
        rope: published.map_or(String::new(), |p| p.rope.clone()),
        reduced,
    })
}

fn throughput(published: &Published) -> Option<f64> {
    let rate = published.tokens as f64 / published.train_seconds;
    (published.tokens > 0 && rate.is_finite()).then_some(rate)
}

/// A trial's scores with their intervals, and its items.
fn rows(trial: &TrialRow, records: &[Record]) -> (Vec<ScoreRow>, Vec<ItemRow>) {
    let score = |row: crate::evals::ScoreRow| ScoreRow {
        trial: trial.trial.clone(),
        arm: trial.arm.clone(),
        seed: trial.seed,
        task: row.task,
        protocol: row.protocol.to_string(),
        length: row.length.map(|l| l as u64),
        position: row
            .depth_or_position
            .map_or(String::new(), |p| p.to_string()),
        metric: row.metric,
        value: row.value,
        standard_error: row.standard_error,
        low: None,
        high: None,
        n: row.n,
        rope: trial.rope.clone(),
        reduced: trial.reduced,
    };
    let mut scores: Vec<ScoreRow> = scores(records).into_iter().map(score).collect();
    let items = items(records, &trial.arm, trial.seed);
    add_intervals(&mut scores, &items);
    (scores, items)
}

/// Adds the scores and the items of a trial's records.
pub fn add_scores(tables: &mut Tables, trial: &TrialRow, records: &[Record]) {
    let (scores, items) = rows(trial, records);
    tables.scores.extend(scores);
    tables.items.extend(items);
}

/// The items of records, one for each metric.
pub fn items(records: &[Record], arm: &str, seed: Option<u64>) -> Vec<ItemRow> {
    let mut items = Vec::new();
    for record in records {
        let metrics = record
            .metrics
            .iter()
            .filter(|(metric, _)| *metric != "bytes");
        for (metric, &value) in metrics {
            items.push(ItemRow {
                arm: arm.to_string(),
                seed,
                task: record.task.clone(),
                protocol: record.protocol.to_string(),
                length: Some(record.length as u64),
                position: record
                    .place
                    .as_ref()
                    .map_or(String::new(), |p| p.to_string()),
                item: record.item.clone(),
                cluster: record.cluster.clone(),
                metric: metric.clone(),
                value,
                weight: weight(record, metric),
            });
        }
    }
    items
}

impl TrialFolder {
    /// The records of a published trial.
    ///
    /// # Errors
    /// When they are not those that it published.
    pub fn published_records(&self, published: &Published) -> Result<Vec<Record>> {
        let path = self.records();
        let damaged = |what: String| super::Error::Folder {
            path: path.clone(),
            what,
        };
        let bytes = std::fs::read(&path).map_err(super::io(&path))?;
        if super::worker::hash(&bytes) != published.records {
            return Err(damaged(
                "is not what the trial published; delete the trial's folder to run it again".into(),
            ));
        }
        let parsed = record::parse(&path, &bytes);
        let (_, records) = parsed.map_err(|e| damaged(e.to_string()))?;
        Ok(records)
    }
}
