//! The smallest base that a context asks for.
use rayon::prelude::*;
use std::f64::consts::TAU;

/// Positions that are summed one after the other from one exact start.
const RUN: usize = 256;
/// The grid of bases: one per cent apart.
const STEP: f64 = 1.01;

/// The first position m up to `context` at which Σ_i cos(m·base^(−2i/head_dim)) is negative: from there on a
/// token no longer tells a similar token from others by its place (arXiv 2405.14591, eq. 7).
pub fn first_violation(base: f64, head_dim: usize, context: usize) -> Option<usize> {
    let frequencies: Vec<f64> = (0..head_dim / 2)
        .map(|i| base.powf(-2.0 * i as f64 / head_dim as f64))
        .collect();
    // Turning by each frequency once is cheaper than a cosine for each position.
    let turns: Vec<(f64, f64)> = frequencies.iter().map(|w| w.sin_cos()).collect();
    let runs = (context + 1).div_ceil(RUN);
    (0..runs).into_par_iter().find_map_first(|run| {
        let from = run * RUN;
        let mut places: Vec<(f64, f64)> = frequencies
            .iter()
            .map(|w| (w * from as f64 % TAU).sin_cos())
            .collect();
        for m in from..(from + RUN).min(context + 1) {
            if places.iter().map(|(_, cos)| cos).sum::<f64>() < 0.0 {
                return Some(m);
            }
            for ((sin, cos), (dsin, dcos)) in places.iter_mut().zip(&turns) {
                (*sin, *cos) = (*sin * dcos + *cos * dsin, *cos * dcos - *sin * dsin);
            }
        }
        None
    })
}

/// The base above which no base violates the condition of [`first_violation`] up to `context`, on a grid of
/// one per cent. Smaller bases may hold, too, but with others that do not between them.
pub fn smallest_base(head_dim: usize, context: usize) -> f64 {
    // The paper's power law for the smallest base that holds at d = 128; of smaller heads the last one that
    // does not lies up to some hundred times higher.
    let law = 0.0424 * (context as f64).powf(1.628);
    let top = (law.max(10.0) * 1e4).ln() / STEP.ln();
    let mut power = top.ceil() as i32;
    while power > 1 && first_violation(STEP.powi(power - 1), head_dim, context).is_none() {
        power -= 1;
    }
    STEP.powi(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(base: f64, head_dim: usize, m: usize) -> f64 {
        let angle = |i| m as f64 * base.powf(-2.0 * i as f64 / head_dim as f64);
        (0..head_dim / 2).map(|i| angle(i).cos()).sum()
    }

    #[test]
    fn the_first_violation_of_a_million() {
        for (head_dim, first) in [(128, 27_115), (64, 6_235)] {
            assert_eq!(first_violation(1e6, head_dim, 40_000), Some(first));
            assert_eq!(first_violation(1e6, head_dim, first - 1), None);
            assert!(plain(1e6, head_dim, first) < 0.0 && plain(1e6, head_dim, first - 1) >= 0.0);
        }
    }

    #[test]
    fn the_smallest_base_is_above_the_islands() {
        for (head_dim, context, base) in [(128, 4096, 5.9e4), (64, 4096, 9.8e5)] {
            let found = smallest_base(head_dim, context);
            assert!(
                (found / base - 1.0).abs() < 0.02,
                "{head_dim} {context}: {found}"
            );
            assert!(first_violation(found, head_dim, context).is_none());
            assert!(first_violation(found / STEP, head_dim, context).is_some());
        }
    }
}
