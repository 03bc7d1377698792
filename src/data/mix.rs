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
        if !total.is_finite() {
            return Err(Error::Mix(
                "the weights add up to more than a number can say; give smaller ones".into(),
            ));
        }
        if total <= 0.0 {
            return Err(Error::Mix(
                "all weights are zero; give one source at least".into(),
            ));
        }
        let share = |name: &&str| self.0.get(*name).copied().unwrap_or(0.0) / total;
        Ok(sources.iter().map(share).collect())
    }
}

/// How much of a source's tokens come from its long documents, in one stage (Fu et al. 2024, "Data Engineering for
/// Scaling Language Models to 128K Context", arXiv 2402.10171). The source's own share stays what the mix says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongSpec {
    /// A document is long when it has more tokens than this.
    pub over: u64,
    /// Share of the source's tokens that come from long documents.
    pub share: f64,
}

impl LongSpec {
    /// Checks the numbers.
    ///
    /// # Errors
    /// What is out of range.
    pub fn check(&self) -> Result<()> {
        match self.over > 0 && (0.0..=1.0).contains(&self.share) {
            true => Ok(()),
            false => Err(Error::Mix(format!(
                "over = {}, share = {}: `over` is a length in tokens, above 0, and `share` between 0 and 1",
                self.over, self.share
            ))),
        }
    }
}

/// Gives each sequence to a source, so that at every point each source is within one sequence of its exact share of the
/// tokens, hence within two in any window (Tijdeman 1980, "The chairman assignment problem"). Shares may go in a
/// straight line from one mix to another.
#[derive(Debug)]
pub(super) struct Assigner {
    /// Each source's share at the begin, and by how much it is another at the end.
    shares: Vec<(f64, f64)>,
    /// Sequences from the begin to the end.
    length: f64,
    slack: f64,
    /// Tokens of a sequence without padding.
    context: u64,
    /// Tokens so far: of all sources, and of each.
    done: u64,
    counts: Vec<u64>,
}

impl Assigner {
    /// Over `n` sequences of up to `context` tokens, from the shares `from` to the shares `to`.
    pub fn new(from: &[f64], to: &[f64], n: usize, context: usize) -> Self {
        let used = from.iter().zip(to).filter(|(from, to)| **from + **to > 0.0);
        let used = used.count();
        Assigner {
            shares: from
                .iter()
                .zip(to)
                .map(|(&from, &to)| (from, to - from))
                .collect(),
            length: n as f64,
            slack: match used > 1 {
                true => 1.0 / (2.0 * used as f64 - 2.0),
                false => 0.0,
            },
            context: context as u64,
            done: 0,
            counts: vec![0; from.len()],
        }
    }

    /// Where the next sequence comes from; how many tokens it has is told by [`Assigner::took`].
    pub fn next(&self) -> usize {
        let sequences = |tokens: u64| tokens as f64 / self.context as f64;
        let i = sequences(self.done + self.context);
        let (mut best, mut most) = (None, (f64::NEG_INFINITY, 0));
        for (s, &(share, change)) in self.shares.iter().enumerate() {
            if share <= 0.0 && change <= 0.0 {
                continue;
            }
            // What it is behind its share, which is an integral from the begin on, and the sequences until it must
            // come, or is behind by one.
            let count = sequences(self.counts[s]);
            let due = count + 1.0 - self.slack;
            let rate = change / (2.0 * self.length);
            let owed = share * i + rate * i * i - count;
            let deadline = match change == 0.0 {
                true => (1.0 - self.slack - owed) / share,
                false => match share * share + 4.0 * rate * due {
                    root if root >= 0.0 => 2.0 * due / (share + root.sqrt()) - i,
                    _ => f64::INFINITY,
                },
            };
            if owed > most.0 {
                most = (owed, s);
            }
            // Rounding must not leave every source out.
            if owed >= self.slack - 1e-9 && best.is_none_or(|(least, _)| deadline < least) {
                best = Some((deadline, s));
            }
        }
        best.unwrap_or(most).1
    }

    /// The sequence came from `source` and has so many tokens.
    pub fn took(&mut self, source: usize, tokens: u64) {
        self.done += tokens;
        self.counts[source] += tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far each source's count is from its share at any point, and in any of some windows, at most: in
    /// sequences. `part` is how many of 100 tokens sequence `i`
    /// has.
    fn off(from: &[f64], to: &[f64], n: usize, part: impl Fn(usize) -> u64) -> (f64, f64) {
        let mut assigner = Assigner::new(from, to, n, 100);
        let mut ahead = vec![vec![0.0]; from.len()];
        let (mut counts, mut done) = (vec![0.0; from.len()], 0.0);
        for i in 0..n {
            let chosen = assigner.next();
            assigner.took(chosen, part(i));
            counts[chosen] += part(i) as f64 / 100.0;
            done += part(i) as f64 / 100.0;
            for (s, ahead) in ahead.iter_mut().enumerate() {
                // The trapezium under the line from one share to the other.
                let now = from[s] + (to[s] - from[s]) * done / n as f64;
                ahead.push(counts[s] - done * (from[s] + now) / 2.0);
            }
        }
        let most = |all: &[f64]| all.iter().fold(0.0, |most: f64, off| most.max(off.abs()));
        let anywhere = ahead.iter().map(|ahead| most(ahead)).fold(0.0, f64::max);
        // The largest difference of two points is that of the highest and the lowest.
        let window = |ahead: &Vec<f64>| {
            let (low, high) = ahead
                .iter()
                .fold((0.0f64, 0.0f64), |(l, h), x| (l.min(*x), h.max(*x)));
            high - low
        };
        (anywhere, ahead.iter().map(window).fold(0.0, f64::max))
    }

    #[test]
    fn shares_are_kept_overall_and_in_every_window() {
        for shares in [
            vec![0.7, 0.2, 0.1],
            vec![1.0],
            vec![0.5, 0.0, 0.5],
            vec![0.9, 0.05, 0.03, 0.02],
        ] {
            let (anywhere, window) = off(&shares, &shares, 3000, |_| 100);
            assert!(
                anywhere < 1.0 && window < 2.0,
                "{shares:?}: {anywhere} {window}"
            );
        }
    }

    #[test]
    fn seven_to_two_to_one_over_a_hundred_million_tokens() {
        // Contexts of 2,048 and 512.
        for n in [48_829, 195_313] {
            let shares = [0.7, 0.2, 0.1];
            let (anywhere, window) = off(&shares, &shares, n, |_| 100);
            assert!(anywhere < 1.0 && window < 2.0, "{anywhere} {window}");
        }
    }

    #[test]
    fn shares_are_kept_while_they_change_and_under_padding() {
        let cases: [(&[f64], &[f64]); 5] = [
            (&[0.7, 0.2, 0.1], &[0.2, 0.3, 0.5]),
            (&[1.0, 0.0], &[0.0, 1.0]),
            (&[0.5, 0.5, 0.0, 0.0], &[0.0, 0.5, 0.25, 0.25]),
            (&[0.6, 0.4], &[0.6, 0.4]),
            (&[0.97, 0.01, 0.01, 0.01], &[0.25, 0.25, 0.25, 0.25]),
        ];
        for (from, to) in cases {
            let (anywhere, window) = off(from, to, 4000, |_| 100);
            assert!(
                anywhere < 1.0 && window < 2.0,
                "{from:?}: {anywhere} {window}"
            );
            // Sequences of which a tenth to all has tokens.
            let part = |i: usize| 100 - (i * i * 7919 % 91) as u64;
            let (anywhere, window) = off(from, to, 4000, part);
            assert!(
                anywhere < 1.0 && window < 2.0,
                "{from:?}, padded: {anywhere} {window}"
            );
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
