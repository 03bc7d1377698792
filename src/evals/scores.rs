//! From records to the rows of `scores.csv`.
//!
//! Every value is a weighted mean of items, `m = Σ w·x / Σ w`. Weights: 1 for `exact_match` and
//! `edit_similarity`, scored tokens for `nats_per_token`, their bytes for `bits_per_byte` (so that both
//! losses are the total loss over the total size). Its standard error is clustered (CR1): with the
//! clusters' sums of weighted residuals `r_g = Σ_{i in g} w_i·(x_i − m)` and `G` clusters,
//!
//! ```text
//! se² = G/(G−1) · Σ_g r_g² / (Σ w)²
//! ```
//!
//! Clusters are documents for losses, files for completion and conversations for dialogue; for a passkey each item is
//! its own, which makes this the usual s/√n. With one cluster there is no standard error.
//!
//! `acc`, `acc_norm` and the metrics of a user's own task weigh every item the same, too. Clusters are what the suite
//! says there, else the items.
//!
//! What is asked at several lengths (passkey, RULER, dialogue, a user's own task) has a row for each (length, depth or subtask), for each
//! length (the mean over its depths' or subtasks' means), and one over all (the mean over lengths). Within a length
//! the standard error takes its items as one sample, which errs on the wide side when depths or subtasks differ; over
//! lengths, which are fixed, `se² = Σ se_l² / L²`. Where the suite says from which mean a length is passed, a last row
//! says how long the context is that is (`effective`).
use super::effective;
use super::record::{Place, Protocol, Record};
use serde::Serialize;
use std::collections::BTreeMap;

/// One row of scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreRow {
    pub task: String,
    pub protocol: Protocol,
    /// As in [`Record::length`]; nothing where a value is over several.
    pub length: Option<usize>,
    /// Depth of the needle, positions, or subtask; nothing where a value is over several.
    pub depth_or_position: Option<Place>,
    pub metric: String,
    pub value: f64,
    /// Nothing where there is only one cluster.
    pub standard_error: Option<f64>,
    /// Items that the value is the mean of.
    pub n: usize,
}

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mean {
    value: f64,
    standard_error: Option<f64>,
    n: usize,
}

/// The rows of a table from one evaluation's records: tasks, and within them lengths, depths and positions,
/// in the order in which the records have them.
pub fn scores(records: &[Record]) -> Vec<ScoreRow> {
    let mut rows = Vec::new();
    for (_, of_task) in groups(records.iter(), |r| r.task.clone()) {
        let of_protocol = groups(of_task.into_iter(), |r| r.protocol);
        for (protocol, records) in of_protocol {
            for metric in metrics(&records) {
                if has_lengths(protocol) {
                    rows.extend(by_length(&records, &metric));
                } else {
                    rows.extend(by_place(&records, &metric));
                }
            }
        }
    }
    rows
}

/// Whether a protocol's tasks ask the same at several lengths.
fn has_lengths(protocol: Protocol) -> bool {
    use Protocol::{Answer, ChatPlain, ChatTemplate, Passkey, Ruler};
    matches!(
        protocol,
        Passkey | Ruler | ChatTemplate | ChatPlain | Answer
    )
}

/// A row for each length and place.
fn by_place(records: &[&Record], metric: &str) -> Vec<ScoreRow> {
    let mut rows = Vec::new();
    let place = |r: &Record| (r.length, r.place.as_ref().map(|p| p.to_string()));
    for (_, records) in groups(records.iter().copied(), place) {
        let first = records[0];
        let mean = clustered(&records, metric);
        rows.push(row(
            first,
            Some(first.length),
            first.place.clone(),
            metric,
            mean,
        ));
    }
    rows
}

/// Rows for each length and place, for each length, and over all; and for the effective context.
fn by_length(records: &[&Record], metric: &str) -> Vec<ScoreRow> {
    let by_place = by_place(records, metric);
    let mut lengths = Vec::new();
    for (length, of_length) in groups(records.iter().copied(), |r| r.length) {
        let depths = by_place.iter().filter(|row| row.length == Some(length));
        let values: Vec<f64> = depths.map(|row| row.value).collect();
        lengths.push((
            length,
            Mean {
                value: values.iter().sum::<f64>() / values.len() as f64,
                ..clustered(&of_length, metric)
            },
        ));
    }
    let first = records[0];
    // Without depths they are the means of the lengths.
    let mut rows = by_place;
    rows.retain(|row| row.depth_or_position.is_some());
    for &(length, mean) in &lengths {
        rows.push(row(first, Some(length), None, metric, mean));
    }
    let means: Vec<Mean> = lengths.iter().map(|&(_, mean)| mean).collect();
    rows.push(row(first, None, None, metric, over_strata(&means)));
    if let Some(threshold) = first.threshold {
        let passed = lengths.iter().map(|&(length, mean)| (length, mean.value));
        let mean = Mean {
            value: effective::context(passed, threshold) as f64,
            standard_error: None,
            n: records.len(),
        };
        rows.push(row(first, None, None, effective::METRIC, mean));
    }
    rows
}

fn row(
    of: &Record,
    length: Option<usize>,
    place: Option<Place>,
    metric: &str,
    mean: Mean,
) -> ScoreRow {
    ScoreRow {
        task: of.task.clone(),
        protocol: of.protocol,
        length,
        depth_or_position: place,
        metric: metric.to_string(),
        value: mean.value,
        standard_error: mean.standard_error,
        n: mean.n,
    }
}

/// Names of the metrics that some record has, sorted.
fn metrics(records: &[&Record]) -> Vec<String> {
    let names = records.iter().flat_map(|r| r.metrics.keys());
    let names: std::collections::BTreeSet<&String> =
        names.filter(|name| *name != "bytes").collect();
    names.into_iter().cloned().collect()
}

/// A text's information content over its size in UTF-8: comparable across tokenizers.
pub(super) fn bits_per_byte(nats: f64, bytes: usize) -> f64 {
    nats / std::f64::consts::LN_2 / bytes as f64
}

/// What an item weighs in the mean of a metric.
pub fn weight(record: &Record, metric: &str) -> f64 {
    match metric {
        "nats_per_token" => record.weight,
        "bits_per_byte" => record.metrics.get("bytes").copied().unwrap_or(0.0),
        _ => 1.0,
    }
}

/// Weighted mean of a metric over the records that have it, with its clustered standard error.
fn clustered(records: &[&Record], metric: &str) -> Mean {
    let items: Vec<(&str, f64, f64)> = records
        .iter()
        .filter_map(|r| {
            Some((
                r.cluster.as_str(),
                weight(r, metric),
                *r.metrics.get(metric)?,
            ))
        })
        .collect();
    let total: f64 = items.iter().map(|(_, w, _)| w).sum();
    let value = items.iter().map(|(_, w, x)| w * x).sum::<f64>() / total;
    let mut residuals: BTreeMap<&str, f64> = BTreeMap::new();
    for &(cluster, w, x) in &items {
        *residuals.entry(cluster).or_default() += w * (x - value);
    }
    let clusters = residuals.len() as f64;
    let squares: f64 = residuals.values().map(|r| r * r).sum();
    let standard_error =
        (residuals.len() > 1).then(|| (clusters / (clusters - 1.0) * squares).sqrt() / total);
    Mean {
        value,
        standard_error,
        n: items.len(),
    }
}

/// Mean over strata of equal weight.
fn over_strata(means: &[Mean]) -> Mean {
    let strata = means.len() as f64;
    let squares: Option<Vec<f64>> = means
        .iter()
        .map(|m| Some(m.standard_error?.powi(2)))
        .collect();
    Mean {
        value: means.iter().map(|m| m.value).sum::<f64>() / strata,
        standard_error: squares.map(|all| all.iter().sum::<f64>().sqrt() / strata),
        n: means.iter().map(|m| m.n).sum(),
    }
}

/// Records by a key, groups and records in the order of their first appearance.
fn groups<'a, K: PartialEq>(
    records: impl Iterator<Item = &'a Record>,
    key: impl Fn(&Record) -> K,
) -> Vec<(K, Vec<&'a Record>)> {
    let mut all: Vec<(K, Vec<&Record>)> = Vec::new();
    for record in records {
        let key = key(record);
        match all.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.push(record),
            None => all.push((key, vec![record])),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    fn passkey_record(length: usize, depth: f64, item: usize, hit: f64) -> Record {
        let name = format!("passkey/{length}/{depth}/{item}");
        let mut record = record("passkey", Protocol::Passkey, &name);
        record.length = length;
        record.place = Some(Place::Depth(depth));
        record.metrics.insert("exact_match".into(), hit);
        record
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    #[test]
    fn passkey_rows_by_depth_by_length_and_over_all() {
        // 256: depth 0 has 2 of 2, depth 1 has 1 of 2. 512: 0 of 2 and 1 of 2.
        let hits = [
            (256, 0.0, [1.0, 1.0]),
            (256, 1.0, [1.0, 0.0]),
            (512, 0.0, [0.0, 0.0]),
            (512, 1.0, [1.0, 0.0]),
        ];
        let records: Vec<Record> = hits
            .iter()
            .flat_map(|&(length, depth, hits)| {
                (0..2).map(move |i| passkey_record(length, depth, i, hits[i]))
            })
            .collect();
        let rows = scores(&records);
        let place = |row: &ScoreRow| row.depth_or_position.as_ref().map(|p| p.to_string());
        let seen: Vec<_> = rows
            .iter()
            .map(|r| (r.length, place(r), r.value, r.n))
            .collect();
        let at = |depth: &str| Some(depth.to_string());
        assert_eq!(
            seen,
            [
                (Some(256), at("0"), 1.0, 2),
                (Some(256), at("1"), 0.5, 2),
                (Some(512), at("0"), 0.0, 2),
                (Some(512), at("1"), 0.5, 2),
                (Some(256), None, 0.75, 4),
                (Some(512), None, 0.25, 4),
                (None, None, 0.5, 8),
            ]
        );
        // 1 and 0: s² = 0.5, s/√2 = 0.5. Three of four: s² = 0.25, s/√4 = 0.25.
        assert!(close(rows[0].standard_error, 0.0));
        assert!(close(rows[1].standard_error, 0.5));
        assert!(close(rows[4].standard_error, 0.25));
        assert!(close(
            rows[6].standard_error,
            (2.0f64 * 0.0625).sqrt() / 2.0
        ));
        assert!(
            rows.iter()
                .all(|r| r.metric == "exact_match" && r.task == "passkey")
        );
    }

    #[test]
    fn answers_have_rows_by_length_and_over_all() {
        let item = |length: usize, item: usize, hit: f64| {
            let mut record = record("own", Protocol::Answer, &format!("own/{item}"));
            record.length = length;
            record.metrics.insert("contains".into(), hit);
            record
        };
        let records = [item(256, 0, 1.0), item(512, 1, 0.0), item(512, 2, 0.5)];
        let seen: Vec<_> = scores(&records)
            .iter()
            .map(|r| (r.length, r.value, r.n))
            .collect();
        assert_eq!(
            seen,
            [(Some(256), 1.0, 1), (Some(512), 0.25, 2), (None, 0.625, 3)]
        );
    }

    #[test]
    fn the_effective_context_is_a_row_where_a_threshold_says_so() {
        let hits = [(256, 1.0), (512, 0.5), (1024, 1.0)];
        let records = |threshold: Option<f64>| -> Vec<Record> {
            let record = |(i, &(length, hit)): (usize, &(usize, f64))| {
                let mut record = passkey_record(length, 0.0, i, hit);
                record.protocol = Protocol::Ruler;
                record.place = Some(Place::Subtask("vt".into()));
                record.threshold = threshold;
                record
            };
            hits.iter().enumerate().map(record).collect()
        };
        let effective = |threshold| {
            let rows = scores(&records(threshold));
            let row = rows
                .into_iter()
                .find(|row| row.metric == "effective_context");
            row.map(|row| (row.value, row.length, row.depth_or_position, row.n))
        };
        assert_eq!(effective(None), None);
        assert_eq!(effective(Some(0.5)), Some((1024.0, None, None, 3)));
        assert_eq!(effective(Some(0.6)), Some((256.0, None, None, 3)));
        let rows = scores(&records(None));
        assert_eq!(rows[0].depth_or_position, Some(Place::Subtask("vt".into())));
        assert_eq!(rows.len(), 3 + 3 + 1);
    }

    fn loss_record(document: &str, nats: f64, tokens: f64, bits: f64, bytes: f64) -> Record {
        let mut record = record("prose", Protocol::Sliding, &format!("prose/{document}"));
        record.cluster = document.into();
        record.weight = tokens;
        record.metrics.insert("nats_per_token".into(), nats);
        record.metrics.insert("bits_per_byte".into(), bits);
        record.metrics.insert("bytes".into(), bytes);
        record
    }

    #[test]
    fn losses_are_weighted_by_tokens_and_bytes() {
        let records = [
            loss_record("a", 2.0, 100.0, 1.0, 400.0),
            loss_record("b", 4.0, 300.0, 2.0, 600.0),
        ];
        let rows = scores(&records);
        assert_eq!(rows.len(), 2);
        let (bits, nats) = (&rows[0], &rows[1]);
        assert_eq!((bits.metric.as_str(), bits.value), ("bits_per_byte", 1.6));
        assert_eq!((nats.metric.as_str(), nats.value), ("nats_per_token", 3.5));
        // r_a = 100·(2 − 3.5) = −150, r_b = 300·0.5 = 150; √(2·45,000)/400 = 0.75.
        assert!(close(nats.standard_error, 0.75));
        // 400·(1 − 1.6) = −240, 600·0.4 = 240; √(2·115,200)/1,000 = 0.48.
        assert!(close(bits.standard_error, 0.48));
        assert_eq!((nats.n, nats.length), (2, Some(256)));
    }

    #[test]
    fn positions_have_rows_of_their_own_under_their_protocol() {
        let at = |from, to| {
            move |document: &str, nats| {
                let mut record = loss_record(document, nats, 31.0, nats, 100.0);
                record.protocol = Protocol::Disjoint;
                record.place = Some(Place::Positions { from, to });
                record
            }
        };
        let mut records = Vec::new();
        for (document, nats) in [("a", 3.0), ("b", 5.0)] {
            records.push(loss_record(document, nats, 10.0, nats, 10.0));
            records.push(at(0, 31)(document, nats + 1.0));
            records.push(at(32, 63)(document, nats));
        }
        let rows = scores(&records);
        let seen: Vec<_> = rows
            .iter()
            .filter(|r| r.metric == "nats_per_token")
            .map(|r| {
                (
                    r.protocol,
                    r.depth_or_position.as_ref().map(|p| p.to_string()),
                    r.value,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (Protocol::Sliding, None, 4.0),
                (Protocol::Disjoint, Some("0-31".into()), 5.0),
                (Protocol::Disjoint, Some("32-63".into()), 4.0),
            ]
        );
    }

    #[test]
    fn items_of_one_file_are_not_independent() {
        let item = |file: &str, i: usize, hit: f64, nats: f64, tokens: f64| {
            let mut record = record("code", Protocol::NextLine, &format!("code/{file}:{i}"));
            record.cluster = file.into();
            record.weight = tokens;
            record.metrics.insert("exact_match".into(), hit);
            record.metrics.insert("nats_per_token".into(), nats);
            record
        };
        let records = [
            item("a", 1, 1.0, 1.0, 10.0),
            item("a", 2, 1.0, 2.0, 10.0),
            item("b", 1, 0.0, 4.0, 20.0),
            item("b", 2, 0.0, 4.0, 0.0),
        ];
        let rows = scores(&records);
        // r_a = 1, r_b = −1: √(2·2)/4 = 0.5; as four independent items it would be 0.289.
        assert_eq!((rows[0].value, rows[0].n), (0.5, 4));
        assert!(close(rows[0].standard_error, 0.5));
        assert_eq!(rows[1].value, (10.0 + 20.0 + 80.0) / 40.0);
    }

    #[test]
    fn one_cluster_has_no_standard_error() {
        let rows = scores(&[loss_record("a", 2.0, 100.0, 1.0, 400.0)]);
        assert!(rows.iter().all(|r| r.standard_error.is_none()));
        assert_eq!(rows[1].value, 2.0);
        assert!(scores(&[]).is_empty());
    }
}
