//! A score of an arm over its seeds.
use super::{ScoreRow, Tables, mean_interval};
use serde::Serialize;

/// One score of one arm: a row of `summary.csv`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SummaryRow {
    pub arm: String,
    pub task: String,
    pub protocol: String,
    pub length: Option<u64>,
    pub position: String,
    pub metric: String,
    /// Mean over seeds.
    pub mean: f64,
    /// 95 % interval over seeds (Student's t); nothing with one seed.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub seeds: usize,
    pub reduced: bool,
}

/// All scores of all arms, in the order of the tables.
pub fn summarise(tables: &Tables) -> Vec<SummaryRow> {
    let mut out: Vec<SummaryRow> = Vec::new();
    for arm in tables.arms() {
        let rows: Vec<&ScoreRow> = tables.scores.iter().filter(|r| r.arm == arm).collect();
        let mut seen: Vec<&ScoreRow> = Vec::new();
        for row in &rows {
            if seen.iter().any(|s| same_score(s, row)) {
                continue;
            }
            seen.push(row);
            let values: Vec<f64> = rows
                .iter()
                .filter(|r| same_score(r, row))
                .map(|r| r.value)
                .collect();
            let interval = mean_interval(&values).and_then(|e| e.interval());
            out.push(SummaryRow {
                arm: arm.to_string(),
                task: row.task.clone(),
                protocol: row.protocol.clone(),
                length: row.length,
                position: row.position.clone(),
                metric: row.metric.clone(),
                mean: values.iter().sum::<f64>() / values.len() as f64,
                low: interval.map(|i| i.0),
                high: interval.map(|i| i.1),
                seeds: values.len(),
                reduced: row.reduced,
            });
        }
    }
    out
}

fn same_score(a: &ScoreRow, b: &ScoreRow) -> bool {
    (&a.task, &a.protocol, a.length, &a.position, &a.metric)
        == (&b.task, &b.protocol, b.length, &b.position, &b.metric)
}
