//! Intervals and paired differences.
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::BTreeMap;

/// A mean with what is known of its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    pub standard_error: f64,
    /// Degrees of freedom of the standard error.
    pub df: f64,
    pub seeds: usize,
    pub clusters: usize,
}

fn student(df: f64) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, df).ok()
}

impl Estimate {
    /// The 95 % interval (Student's t); nothing where no item and no seed differs from another, since
    /// their spread then says nothing of the error.
    pub fn interval(&self) -> Option<(f64, f64)> {
        if self.standard_error == 0.0 {
            return None;
        }
        let half = student(self.df)?.inverse_cdf(0.975) * self.standard_error;
        Some((self.mean - half, self.mean + half))
    }

    /// Two-sided p of a mean of 0. Where all differences are the same, that of the sign test over the
    /// clusters: 2^(1 − clusters).
    pub fn p(&self) -> f64 {
        if self.standard_error == 0.0 {
            let signs = 2f64.powi(1 - i32::try_from(self.clusters).unwrap_or(i32::MAX));
            return if self.mean == 0.0 { 1.0 } else { signs };
        }
        let t = (self.mean / self.standard_error).abs();
        student(self.df).map_or(1.0, |d| 2.0 * (1.0 - d.cdf(t)))
    }

    /// The smallest true difference that a study with this error finds with 80 % power at p < 0.05:
    /// (t(0.975) + t(0.8)) standard errors; nothing where there is no interval.
    pub fn detectable(&self) -> Option<f64> {
        let t = student(self.df)?;
        let factor = t.inverse_cdf(0.975) + t.inverse_cdf(0.8);
        (self.standard_error > 0.0).then_some(factor * self.standard_error)
    }
}

/// Mean over seeds with Student's interval; nothing for fewer than two.
pub fn mean_interval(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    Some(Estimate {
        mean,
        standard_error: (sum_of_squares(values, mean) / (n - 1) as f64 / n as f64).sqrt(),
        df: (n - 1) as f64,
        seeds: n,
        clusters: 1,
    })
}

fn sum_of_squares(values: &[f64], mean: f64) -> f64 {
    values.iter().map(|v| (v - mean).powi(2)).sum()
}

/// One item's difference between two arms under one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference<'a> {
    pub seed: u64,
    pub item: &'a str,
    pub cluster: &'a str,
    pub value: f64,
    pub weight: f64,
}

/// Mean difference of two arms on the same items under several seeds, both random and crossed. A seed's mean is
/// weighted by the items; z(s, c) = mean(s) + C · Σ weight · (difference − mean(s)) / Σ weight over cluster c
/// (the linearisation of a ratio) stands in a two-way layout without replication, and the variance is
/// (MS_seeds + MS_clusters − MS_residual) / (S · C), never below MS_residual / (S · C), with
/// Satterthwaite's degrees of freedom. With one seed the error is that of the clusters alone, with one
/// cluster that of the seeds. Nothing where neither can be had, or where an item is missing under a seed.
pub fn paired_difference(differences: &[Difference]) -> Option<Estimate> {
    // Sums of weighted values and of weights.
    let mut cells: BTreeMap<(&str, u64), (f64, f64)> = BTreeMap::new();
    let mut seed_sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    let mut counts: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    for d in differences {
        let cell = cells.entry((d.cluster, d.seed)).or_default();
        let seed = seed_sums.entry(d.seed).or_default();
        for sums in [cell, seed] {
            sums.0 += d.value * d.weight;
            sums.1 += d.weight;
        }
        *counts.entry((d.seed, d.item)).or_default() += 1;
    }
    let seeds: Vec<u64> = seed_sums.keys().copied().collect();
    let mut clusters: Vec<&str> = cells.keys().map(|(cluster, _)| *cluster).collect();
    clusters.dedup();
    let (s, c) = (seeds.len(), clusters.len());
    if s == 0 || cells.len() != s * c || counts.values().any(|n| *n != 1) {
        return None;
    }
    let z = |i: usize, j: usize| {
        let (sum, weight) = cells[&(clusters[j], seeds[i])];
        let (all, all_weight) = seed_sums[&seeds[i]];
        let mean = all / all_weight;
        mean + c as f64 * (sum - weight * mean) / all_weight
    };
    let rows: Vec<f64> = (0..s)
        .map(|i| (0..c).map(|j| z(i, j)).sum::<f64>() / c as f64)
        .collect();
    let columns: Vec<f64> = (0..c)
        .map(|j| (0..s).map(|i| z(i, j)).sum::<f64>() / s as f64)
        .collect();
    let mean = rows.iter().sum::<f64>() / s as f64;
    let estimate = |variance: f64, df: f64| Estimate {
        mean,
        standard_error: variance.max(0.0).sqrt(),
        df,
        seeds: s,
        clusters: c,
    };
    let (sf, cf) = (s as f64, c as f64);
    match (s, c) {
        (1, 1) => None,
        (1, _) => Some(estimate(
            sum_of_squares(&columns, mean) / (cf - 1.0) / cf,
            cf - 1.0,
        )),
        (_, 1) => Some(estimate(
            sum_of_squares(&rows, mean) / (sf - 1.0) / sf,
            sf - 1.0,
        )),
        _ => {
            let of_seeds = cf * sum_of_squares(&rows, mean) / (sf - 1.0);
            let of_clusters = sf * sum_of_squares(&columns, mean) / (cf - 1.0);
            let residual: f64 = (0..s)
                .flat_map(|i| (0..c).map(move |j| (i, j)))
                .map(|(i, j)| (z(i, j) - rows[i] - columns[j] + mean).powi(2))
                .sum();
            let residual_df = (sf - 1.0) * (cf - 1.0);
            let residual = residual / residual_df;
            let crossed = of_seeds + of_clusters - residual;
            let total = crossed.max(residual);
            let df = if crossed > residual {
                let part = |ms: f64, df: f64| ms * ms / df;
                let parts = part(of_seeds, sf - 1.0)
                    + part(of_clusters, cf - 1.0)
                    + part(residual, residual_df);
                (total * total / parts.max(f64::MIN_POSITIVE)).max(1.0)
            } else {
                residual_df
            };
            Some(estimate(total / (sf * cf), df))
        }
    }
}

/// Holm's correction of several p values, in their order.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(p[i] * (p.len() - rank) as f64).min(1.0);
        corrected[i] = least;
    }
    corrected
}
