//! The studentised bootstrap over clusters.
use super::layout::{Layout, Moments};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Resamplings.
const DRAWS: usize = 1999;
/// A standard error below this part of the sample's is rounding.
const NOTHING: f64 = 1e-9;
/// Share of resamplings without any spread from which on they say nothing.
const DEGENERATE: f64 = 0.01;

/// Ratios of mean and standard error over resamplings in which the true mean is 0.
///
/// Clusters are drawn with replacement, whole, with their values under every seed. Each resampling gets its own standard
/// error of the clusters, so that the quantiles of |mean / error| know how uncertain that is (Davison and Hinkley 1997, 5.2;
/// symmetric: Hall 1988). Seeds are not resampled: three of them cannot be.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// |mean / standard error|, ascending.
    ratios: Vec<f64>,
}

impl Bootstrap {
    /// Nothing where there is no spread, or none in many resamplings.
    pub fn new(layout: &Layout, moments: &Moments) -> Option<Self> {
        let key = format!("harness bootstrap/{}x{}", layout.seeds, layout.clusters());
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(key.as_bytes()).as_bytes());
        let draws = (0..DRAWS).map(|_| draw(layout, &mut rng));
        Self::from_draws(layout, moments, draws)
    }

    /// The same of given draws: the clusters of each resampling.
    pub fn from_draws(
        layout: &Layout,
        moments: &Moments,
        draws: impl Iterator<Item = Vec<usize>>,
    ) -> Option<Self> {
        let nothing = NOTHING * moments.of_clusters?.sqrt();
        let mut flat = 0;
        let mut ratios: Vec<f64> = draws
            .map(|clusters| {
                let drawn = layout.moments_of(&clusters);
                let error = drawn.of_clusters.unwrap_or_default().sqrt();
                let ratio = ((drawn.mean - moments.mean) / error).abs();
                // A resampling may have no item of any weight at a length.
                if error > nothing && ratio.is_finite() {
                    ratio
                } else {
                    flat += 1;
                    f64::INFINITY
                }
            })
            .collect();
        if f64::from(flat) > DEGENERATE * ratios.len() as f64 {
            return None;
        }
        ratios.sort_by(f64::total_cmp);
        Some(Bootstrap { ratios })
    }

    /// The smallest p that so many resamplings can tell.
    pub fn least_p(&self) -> f64 {
        1.0 / (self.ratios.len() + 1) as f64
    }

    /// What |t| exceeds with probability `alpha`.
    pub fn quantile(&self, alpha: f64) -> f64 {
        quantile(&self.ratios, 1.0 - alpha)
    }
}

/// The order statistic at `share` of the n + 1 intervals between n values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    // Less than the rounding of a share, so that a whole rank stays it.
    let rank = (share * (sorted.len() + 1) as f64 - 1e-6).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn draw(layout: &Layout, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut clusters = Vec::with_capacity(layout.clusters());
    for group in layout.groups() {
        clusters.extend(
            group
                .iter()
                .map(|_| group[rng.random_range(0..group.len())]),
        );
    }
    clusters
}
