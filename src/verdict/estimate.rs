//! A mean with its interval, its p and the difference that it could have shown.
use super::{
    bootstrap::Bootstrap,
    distribution::{detectable, mean_of_deviation, student_quantile},
    layout::{Item, Layout, Moments, Stratum, Uneven, sum_of_squares},
    share::wilson,
};

/// Fewest clusters that are resampled; with fewer the interval is Student's.
const FEWEST: usize = 8;
/// The power of which "detectable" speaks.
pub const POWER: f64 = 0.8;

/// A mean over seeds and items, with what is known of its error. Seeds and clusters are both random: the error speaks
/// of other seeds and other items of the same kind.
///
/// Intervals are `mean ± q · standard error` with the jackknife's standard error ([`Layout::moments_of`]). The quantile of
/// the clusters is over resamplings of them (studentised bootstrap); where that cannot be had, since items are right or
/// wrong or clusters are few, it is Student's. That of the seeds is Student's. Both together are weighted by the variance
/// that each adds, halfway between Cochran and Cox (1950), who take the mean of the quantiles, and Welch and Satterthwaite,
/// who take that of the degrees of freedom: with three seeds the first cover too much and the second too little
/// (`results/statistics.md`).
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    pub seeds: usize,
    pub clusters: usize,
    pub items: usize,
    /// Of the mean's variance, what the seeds add.
    of_seeds: f64,
    /// What the clusters add; nothing where that cannot be told ([`Moments::of_clusters`]).
    of_clusters: Option<f64>,
    clusters_df: f64,
    resampled: Option<Bootstrap>,
    strata: Vec<Stratum>,
    /// Whether clusters lie in several strata.
    crossed: bool,
}

impl Estimate {
    /// The mean of `items`. Where they are `binary` (right or wrong, or the difference of two that are), or clusters
    /// are few, they are not resampled.
    ///
    /// # Errors
    /// When an item is missing under a seed.
    pub fn new(items: &[Item], binary: bool) -> Result<Self, Uneven> {
        let layout = Layout::new(items)?;
        let moments = layout.moments();
        let resample = !binary && layout.clusters() >= FEWEST && moments.of_clusters.is_some();
        let resampled = match resample {
            true => Bootstrap::new(&layout, &moments),
            false => None,
        };
        Ok(Estimate::of(&layout, &moments, resampled))
    }

    fn of(layout: &Layout, moments: &Moments, resampled: Option<Bootstrap>) -> Self {
        Estimate {
            mean: moments.mean,
            seeds: layout.seeds,
            clusters: layout.clusters(),
            items: layout.items,
            of_seeds: moments.of_seeds,
            of_clusters: moments.of_clusters,
            clusters_df: moments.clusters_df,
            resampled,
            strata: layout.strata(),
            crossed: layout.is_crossed(),
        }
    }

    /// The mean of one value for each seed, where nothing is known of items.
    pub fn of_seeds(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let spread = sum_of_squares(values, mean) / (n * (n - 1.0).max(1.0));
        Estimate {
            mean,
            seeds: values.len(),
            clusters: 0,
            items: 0,
            of_seeds: spread,
            of_clusters: None,
            clusters_df: 1.0,
            resampled: None,
            strata: Vec::new(),
            crossed: false,
        }
    }

    /// The same with the sign turned.
    pub fn negated(self) -> Self {
        Estimate {
            mean: -self.mean,
            ..self
        }
    }

    /// Whether the error can be told: there are several clusters in every stratum, or several seeds.
    pub fn has_error(&self) -> bool {
        self.of_clusters.is_some() || self.seeds > 1
    }

    /// Of the mean; 0 where no item and no seed differs from another, and where it cannot be told.
    pub fn standard_error(&self) -> f64 {
        (self.of_seeds + self.of_clusters.unwrap_or_default()).sqrt()
    }

    /// The share of the variance that more seeds would lessen.
    pub fn seed_share(&self) -> f64 {
        let all = self.standard_error().powi(2);
        if all > 0.0 { self.of_seeds / all } else { 0.0 }
    }

    /// How it was made, for a report.
    pub fn method(&self) -> &'static str {
        match self.resampled {
            Some(_) => "bootstrap",
            None => "t",
        }
    }

    fn seeds_df(&self) -> f64 {
        self.seeds.saturating_sub(1).max(1) as f64
    }

    /// In standard errors, what an interval of level `1 − alpha` reaches on each side.
    fn quantile(&self, alpha: f64) -> f64 {
        let Some(of_clusters) = self.of_clusters else {
            return student_quantile(alpha, self.seeds_df());
        };
        let clusters = match &self.resampled {
            Some(resampled) => resampled.quantile(alpha),
            None => student_quantile(alpha, self.clusters_df),
        };
        let all = self.of_seeds + of_clusters;
        if self.of_seeds == 0.0 {
            return clusters;
        }
        let (seeds, rest) = (self.of_seeds / all, of_clusters / all);
        let cochran = seeds * student_quantile(alpha, self.seeds_df()) + rest * clusters;
        let df = 1.0 / (seeds * seeds / self.seeds_df() + rest * rest / self.clusters_df);
        // By as much as the clusters' quantile is not Student's.
        let resampled = clusters / student_quantile(alpha, self.clusters_df);
        let welch = student_quantile(alpha, df) * (seeds + rest * resampled);
        0.5 * (cochran + welch)
    }

    /// The interval of level `1 − alpha`; nothing where no item and no seed differs from another, since their spread
    /// then says nothing of the error.
    pub fn interval(&self, alpha: f64) -> Option<(f64, f64)> {
        let half = self.quantile(alpha) * self.standard_error();
        (half > 0.0).then_some((self.mean - half, self.mean + half))
    }

    /// The interval of a share: Wilson's, for as many items as would have this standard error if they were independent
    /// ([`Estimate::worth`]). Where all agree, the spread says nothing of how alike items of a cluster are, and each
    /// cluster counts as one item.
    pub fn share_interval(&self, alpha: f64) -> (f64, f64) {
        wilson(self.mean, self.worth(), self.quantile(alpha))
    }

    /// How many independent items this share is worth: no more than there are values, and in a mean over several strata
    /// no more than what strata of such shares give, where each has two right and two wrong items more (Agresti and Coull
    /// 1998), since one in which all agree does not say that its share is 0 or 1.
    fn worth(&self) -> f64 {
        let variance = self.standard_error().powi(2);
        let spread = self.mean * (1.0 - self.mean);
        let independent = |stratum: &Stratum| match variance > 0.0 {
            true => (stratum.items * self.seeds) as f64,
            false => stratum.clusters as f64,
        };
        let all: f64 = match variance > 0.0 {
            true => (self.items * self.seeds) as f64,
            false => self.clusters as f64,
        };
        if self.strata.len() < 2 || spread <= 0.0 {
            let worth = if variance > 0.0 {
                spread / variance
            } else {
                all
            };
            return worth.clamp(1.0, all.max(1.0));
        }
        let of = |stratum: &Stratum| {
            let n = independent(stratum);
            let share = (stratum.share * n + 2.0) / (n + 4.0);
            share * (1.0 - share) / n
        };
        // What one cluster has in several strata may go together.
        let sum: f64 = match self.crossed {
            true => self
                .strata
                .iter()
                .map(|s| of(s).sqrt())
                .sum::<f64>()
                .powi(2),
            false => self.strata.iter().map(of).sum(),
        };
        let least = sum / (self.strata.len() as f64).powi(2);
        (spread / variance.max(least)).max(1.0)
    }

    /// Two-sided p of a true mean of 0; 1 where no error can be told. Where all values are the same, that of the sign
    /// test over the clusters (over the seeds, without clusters): 2^(1 − n).
    pub fn p(&self) -> f64 {
        if !self.has_error() {
            return 1.0;
        }
        let error = self.standard_error();
        if error == 0.0 {
            let n = if self.clusters > 0 {
                self.clusters
            } else {
                self.seeds
            };
            let signs = 2f64.powi(1 - i32::try_from(n).unwrap_or(i32::MAX));
            return if self.mean == 0.0 {
                1.0
            } else {
                signs.min(1.0)
            };
        }
        let t = (self.mean / error).abs();
        // The p at which the quantile is t.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if self.quantile(middle) > t {
                low = middle
            } else {
                high = middle
            }
        }
        high.max(self.resampled.as_ref().map_or(0.0, Bootstrap::least_p))
    }

    /// Degrees of freedom at which Student's quantile is this estimate's.
    fn equivalent_df(&self, alpha: f64) -> f64 {
        let wanted = self.quantile(alpha);
        // Bisected in the logarithm: the quantile falls from the first to the last.
        let (mut low, mut high) = (0.0, 1e6f64.ln());
        for _ in 0..30 {
            let middle: f64 = 0.5 * (low + high);
            if student_quantile(alpha, middle.exp()) > wanted {
                low = middle
            } else {
                high = middle
            }
        }
        high.exp()
    }

    /// The smallest true difference that a study with this error finds with 80 % power at a two-sided `alpha`; nothing where
    /// there is no interval. It is a t test's with as many degrees of freedom as give this quantile.
    ///
    /// The deviation of a few seeds is smaller than the true one in the mean (of three by 11 %), and so would be what
    /// studies say they can see: the part of the seeds is made up for that. That of the clusters is not, since their
    /// jackknife is rather too large (`results/statistics.md`).
    pub fn detectable(&self, alpha: f64) -> Option<f64> {
        let error = self.standard_error();
        let of_seeds = 1.0 / mean_of_deviation(self.seeds_df()) - 1.0;
        let unbiased = error * (1.0 + self.seed_share() * of_seeds);
        (error > 0.0).then(|| unbiased * detectable(alpha, POWER, self.equivalent_df(alpha)))
    }
}
