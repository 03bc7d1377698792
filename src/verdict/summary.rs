//! A score of an arm over its seeds, and of a trial over its items.
use super::{Better, Estimate, ItemRow, ScoreRow, Tables, layout::Item};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// 95 % interval over seeds and items; over seeds alone where the items are not known. Nothing where nothing varies.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub seeds: usize,
    /// Items, and clusters of items that are not independent.
    pub items: usize,
    pub clusters: usize,
    /// wilson, bootstrap or t.
    pub interval: String,
    pub reduced: bool,
}

/// All scores of all arms, in the order of the tables. What was summarised `before` and has got no seed since is taken
/// from there: the values of a trial do not change.
pub fn summarise(tables: &Tables, before: &[SummaryRow]) -> Vec<SummaryRow> {
    let index = Index::new(&tables.items);
    let mut wanted: Vec<(&str, Vec<&ScoreRow>)> = Vec::new();
    for arm in tables.arms() {
        let rows = tables.scores.iter().filter(|r| r.arm == arm);
        let mut scores: BTreeMap<_, Vec<&ScoreRow>> = BTreeMap::new();
        let mut order = Vec::new();
        for row in rows {
            let name = (
                &row.task,
                &row.protocol,
                row.length,
                &row.position,
                &row.metric,
            );
            let score = scores.entry(name).or_default();
            if score.is_empty() {
                order.push(name);
            }
            score.push(row);
        }
        wanted.extend(
            order
                .iter()
                .filter_map(|name| Some((arm, scores.remove(name)?))),
        );
    }
    let row = |(arm, rows): &(&str, Vec<&ScoreRow>)| {
        let known = before
            .iter()
            .find(|b| b.arm == *arm && b.seeds == rows.len() && b.is_of(rows[0]));
        known.cloned().unwrap_or_else(|| summary(arm, rows, &index))
    };
    wanted.par_iter().map(row).collect()
}

/// Items by arm, task and metric.
struct Index<'a>(BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a ItemRow>>);

impl<'a> Index<'a> {
    fn new(items: &'a [ItemRow]) -> Self {
        let mut all: BTreeMap<_, Vec<&ItemRow>> = BTreeMap::new();
        for item in items {
            let key = (item.arm.as_str(), item.task.as_str(), item.metric.as_str());
            all.entry(key).or_default().push(item);
        }
        Index(all)
    }

    /// The items that are part of the value in the row.
    fn of(&self, row: &ScoreRow) -> Vec<&'a ItemRow> {
        let key = (row.arm.as_str(), row.task.as_str(), row.metric.as_str());
        let part = |item: &&&ItemRow| {
            item.protocol == row.protocol
                && (row.length.is_none() || row.length == item.length)
                && (row.position.is_empty() || row.position == item.position)
        };
        let all = self.0.get(&key).into_iter().flatten();
        all.filter(part).copied().collect()
    }
}

impl SummaryRow {
    fn is_of(&self, row: &ScoreRow) -> bool {
        (
            &self.task,
            &self.protocol,
            self.length,
            &self.position,
            &self.metric,
        ) == (
            &row.task,
            &row.protocol,
            row.length,
            &row.position,
            &row.metric,
        )
    }
}

fn summary(arm: &str, rows: &[&ScoreRow], index: &Index) -> SummaryRow {
    let first = rows[0];
    let values: Vec<f64> = rows.iter().map(|r| r.value).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let interval = interval(&index.of(first), 0.05);
    let (low, high, how) = match (&interval, values.len()) {
        (Some(interval), _) => (interval.low, interval.high, interval.method),
        (None, 1) => (None, None, ""),
        (None, _) => {
            let interval = Estimate::of_seeds(&values).interval(0.05);
            (interval.map(|i| i.0), interval.map(|i| i.1), "t")
        }
    };
    SummaryRow {
        arm: arm.to_string(),
        task: first.task.clone(),
        protocol: first.protocol.clone(),
        length: first.length,
        position: first.position.clone(),
        metric: first.metric.clone(),
        mean,
        low,
        high,
        seeds: values.len(),
        items: interval.as_ref().map_or(first.n, |i| i.items),
        clusters: interval.as_ref().map_or(0, |i| i.clusters),
        interval: match low {
            Some(_) => how.into(),
            None => String::new(),
        },
        reduced: first.reduced,
    }
}

/// Gives each row of one trial its 95 % interval over the trial's items.
pub fn add_intervals(scores: &mut [ScoreRow], items: &[ItemRow]) {
    let index = Index::new(items);
    scores.par_iter_mut().for_each(|row| {
        if let Some(interval) = interval(&index.of(row), 0.05) {
            (row.low, row.high) = (interval.low, interval.high);
        }
    });
}

/// An interval and how it was made.
struct Interval {
    low: Option<f64>,
    high: Option<f64>,
    method: &'static str,
    items: usize,
    clusters: usize,
}

fn interval(items: &[&ItemRow], alpha: f64) -> Option<Interval> {
    let binary = items
        .iter()
        .all(|item| item.value == 0.0 || item.value == 1.0);
    let layout: Vec<Item> = items.iter().map(|row| Item::from(*row)).collect();
    let estimate = Estimate::new(&layout, binary).ok()?;
    let (found, method) = match binary {
        true => (Some(estimate.share_interval(alpha)), "wilson"),
        false => (estimate.interval(alpha), estimate.method()),
    };
    // A symmetric interval of shares, such as pass@k's of a problem, may reach beyond what they can be.
    let shares = items.iter().all(|item| Better::is_of_shares(&item.metric));
    let found = found.map(|(low, high)| match shares {
        true => (low.max(0.0), high.min(1.0)),
        false => (low, high),
    });
    Some(Interval {
        low: found.map(|i| i.0),
        high: found.map(|i| i.1),
        method,
        items: estimate.items,
        clusters: estimate.clusters,
    })
}

/// The one-sided 95 % lower bound of the mean of items.
pub(super) fn one_sided_low(items: &[&ItemRow]) -> Option<f64> {
    interval(items, 0.1).and_then(|interval| interval.low)
}
