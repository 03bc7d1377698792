//! The shares of the sources, exact by sequences.
use super::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Weights by the sources' names; their ratio counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MixSpec(pub BTreeMap<String, f64>);

impl MixSpec {
    /// Each source's share, in the order of `sources`; 0 for one that the mix does not name.
    ///
    /// # Errors
    /// When a weight is negative or not finite, all are zero, or a name is no source.
    pub fn shares<'a>(&self, sources: impl Iterator<Item = &'a str>) -> Result<Vec<f64>> {
        let sources: Vec<&str> = sources.collect();
        for (name, weight) in &self.0 {
            if !sources.contains(&name.as_str()) {
                return Err(Error::Mix(format!(
                    "{name:?} is no data source; there are {}",
                    sources.join(", ")
                )));
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(Error::Mix(format!(
                    "{name} = {weight}: a weight must be 0 or more"
                )));
            }
        }
        let total: f64 = self.0.values().sum();
        if total <= 0.0 {
            return Err(Error::Mix(
                "all weights are zero; give one source at least".into(),
            ));
        }
        let share = |name: &&str| self.0.get(*name).copied().unwrap_or(0.0) / total;
        Ok(sources.iter().map(share).collect())
    }
}

/// Which source each of `n` sequences comes from: at every point each source is within one sequence of
/// its exact share, hence within two in any window (Tijdeman 1980, "The chairman assignment problem").
pub(super) fn assign(shares: &[f64], n: usize) -> Vec<usize> {
    let used = shares.iter().filter(|s| **s > 0.0).count();
    let slack = if used > 1 {
        1.0 / (2.0 * used as f64 - 2.0)
    } else {
        0.0
    };
    let mut counts = vec![0f64; shares.len()];
    let mut out = Vec::with_capacity(n);
    for i in 1..=n {
        let mut best: Option<(f64, usize)> = None;
        for (s, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let owed = share * i as f64 - counts[s];
            // The last moment at which this source can come without falling behind by one.
            let deadline = (1.0 - slack - owed) / share;
            // Rounding must not leave every source out.
            if owed >= slack - 1e-9 && best.is_none_or(|(least, _)| deadline < least) {
                best = Some((deadline, s));
            }
        }
        let chosen = best.map_or(0, |(_, s)| s);
        counts[chosen] += 1.0;
        out.push(chosen);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_overall_and_in_every_window() {
        for shares in [
            vec![0.7, 0.2, 0.1],
            vec![1.0],
            vec![0.5, 0.0, 0.5],
            vec![0.9, 0.05, 0.03, 0.02],
        ] {
            let n = 3000;
            let chosen = assign(&shares, n);
            let mut counts = vec![vec![0f64; n + 1]; shares.len()];
            for (i, &c) in chosen.iter().enumerate() {
                for (s, counts) in counts.iter_mut().enumerate() {
                    counts[i + 1] = counts[i] + f64::from(u8::from(s == c));
                }
            }
            for (s, share) in shares.iter().enumerate() {
                for (i, count) in counts[s].iter().enumerate() {
                    let off = count - share * i as f64;
                    assert!(off.abs() < 1.0, "{shares:?} {s} {i}");
                }
                for (from, to) in [(1, 17), (100, 333), (2500, 2999)] {
                    let seen = counts[s][to] - counts[s][from];
                    assert!((seen - share * (to - from) as f64).abs() < 2.0);
                }
            }
        }
    }

    #[test]
    fn a_bad_mix_is_named() {
        let mix = |toml: &str| -> MixSpec { toml::from_str(toml).unwrap() };
        for (toml, word) in [
            ("a = -1.0", "a = -1"),
            ("a = 0.0\nb = 0", "all weights are zero"),
            ("c = 1", "\"c\" is no data source; there are a, b"),
            ("a = nan", "a = NaN"),
        ] {
            let error = mix(toml)
                .shares(["a", "b"].into_iter())
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(
            mix("b = 3\na = 1").shares(["a", "b"].into_iter()).unwrap(),
            [0.25, 0.75]
        );
    }
}
