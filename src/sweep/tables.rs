//! The study's tables, from published results alone.
use super::{Published, Result, State, TrialFolder};
use crate::{
    evals::{Protocol, Record, RecordLog, scores},
    experiment::Study,
    verdict::{ItemRow, ScoreRow, Tables, TrialRow},
};
use std::path::Path;

/// Rows of all trials in the study's order, with the scores and items of those that are done.
///
/// # Errors
/// When a published file cannot be read, or a trial's records are not those that it published.
pub fn tables(results: &Path, study: &Study) -> Result<Tables> {
    let mut tables = Tables::default();
    for trial in &study.trials {
        let folder = TrialFolder::new(results, &trial.key);
        let published = folder.published()?;
        let state = folder.state();
        let axes: Vec<String> = trial
            .axes
            .iter()
            .map(|(axis, label)| format!("{axis}={label}"))
            .collect();
        let row = TrialRow {
            trial: trial.key.clone(),
            arm: trial.arm.clone(),
            axes: axes.join(" "),
            seed: trial.spec.seed,
            tokens: published.as_ref().map_or(0, |p| p.tokens),
            final_loss: published.as_ref().and_then(|p| p.final_loss),
            tokens_per_second: published.as_ref().and_then(throughput),
            status: state.to_string(),
            reason: match state {
                State::Failed => folder.last_failure()?.map_or(String::new(), |f| f.reason),
                _ => String::new(),
            },
            rope: published.as_ref().map_or(String::new(), |p| p.rope.clone()),
            reduced: study.reduced,
        };
        if let Some(published) = published {
            let records = folder.published_records(&published)?;
            add_scores(&mut tables, &row, &records);
        }
        tables.trials.push(row);
    }
    Ok(tables)
}

fn throughput(published: &Published) -> Option<f64> {
    let rate = published.tokens as f64 / published.train_seconds;
    (published.tokens > 0 && rate.is_finite()).then_some(rate)
}

/// Adds the scores and the items of a trial's records.
pub fn add_scores(tables: &mut Tables, trial: &TrialRow, records: &[Record]) {
    for row in scores(records) {
        tables.scores.push(ScoreRow {
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
            n: row.n,
            rope: trial.rope.clone(),
            reduced: trial.reduced,
        });
    }
    for record in records {
        // Losses by position are for curves; a decision is over the sliding windows.
        if record.protocol == Protocol::Disjoint {
            continue;
        }
        for (metric, &value) in record
            .metrics
            .iter()
            .filter(|(metric, _)| *metric != "bytes")
        {
            let weight = match metric.as_str() {
                "nats_per_token" => record.weight,
                "bits_per_byte" => record.metrics.get("bytes").copied().unwrap_or(1.0),
                _ => 1.0,
            };
            tables.items.push(ItemRow {
                arm: trial.arm.clone(),
                seed: trial.seed,
                task: record.task.clone(),
                protocol: record.protocol.to_string(),
                length: Some(record.length as u64),
                item: record.item.clone(),
                cluster: record.cluster.clone(),
                metric: metric.clone(),
                value,
                weight,
            });
        }
    }
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
        if super::worker::hash(&path)? != published.records {
            return Err(damaged(
                "is not what the trial published; delete the trial's folder to run it again".into(),
            ));
        }
        let (_, records) = RecordLog::open(&path).map_err(|e| damaged(e.to_string()))?;
        Ok(records)
    }
}
