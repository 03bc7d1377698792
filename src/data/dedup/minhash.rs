//! MinHash signatures (Broder 1997) in bands (locality-sensitive hashing: Indyk and Motwani 1998).
//!
//! - A gram's hash is multilinear over its words' hashes, `Σ w_j · c_j mod 2^64` with random odd c, then mixed by
//!   MurmurHash3's finaliser, so that grams' hashes are as good as random.
//! - Permutation i is `x ↦ a_i · x + b_i mod 2^64`, a_i random and odd: a bijection, computed in vectors. It is linear,
//!   and its minimum is as good as a random permutation's because what it permutes is random already.
//! - A band's hash is the mixed hash of its minima, 64 bits. Two documents of Jaccard similarity s agree in one of b
//!   bands of r rows with probability 1 − (1 − s^r)^b.
//! - A sketch keeps 8 bits of each minimum (b-bit minwise hashing, Li and König 2010), from which a candidate's
//!   similarity is estimated, with a standard error of at most √(s(1 − s) / (b·r)) + 0.002: .043 at s = .7 with 14 × 8.
use super::{DedupSpec, words};
use crate::ops::simd;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is kept of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Of the normalised text: the same for exact duplicates.
    pub(super) exact: [u8; 16],
    /// Bytes of the text.
    pub(super) bytes: u64,
    /// A hash for each band; none for a document that is shorter than a gram.
    pub(super) bands: Vec<u64>,
    /// Eight bits of each minimum; none for such a document.
    pub(super) sketch: Vec<u8>,
}

/// Makes signatures: a pure function of the text, to be called from any number of threads.
#[derive(Debug, Clone)]
pub struct Signer {
    /// Multipliers of the words of a gram.
    coefficients: Vec<u64>,
    permutations: Permutations,
    rows: usize,
}

impl Signer {
    pub(super) fn new(spec: &DedupSpec) -> Self {
        let key = blake3::hash(format!("dedup/minhash/{}", spec.seed).as_bytes());
        let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
        let coefficients = (0..spec.ngram).map(|_| rng.next_u64() | 1).collect();
        let permutations = Permutations::new(spec.bands * spec.rows, &mut rng);
        Signer {
            coefficients,
            permutations,
            rows: spec.rows,
        }
    }

    /// The signature of a document.
    pub fn sign(&self, text: &str) -> Signature {
        let n = self.coefficients.len();
        let mut minima = self.permutations.none();
        // The last words of the block before, whose grams end in this one, then this block's.
        let mut window: Vec<u64> = Vec::with_capacity(words::BLOCK + n);
        let mut grams = Vec::with_capacity(words::BLOCK);
        let (count, exact) = words::each_block(text, |block| {
            window.extend_from_slice(block);
            simd::dispatch(
                #[inline(always)]
                || {
                    grams_of(&window, &self.coefficients, &mut grams);
                    self.permutations.lower(&mut minima, &grams);
                },
            );
            window.drain(..window.len().saturating_sub(n - 1));
        });
        let mut signature = Signature {
            exact,
            bytes: text.len() as u64,
            bands: Vec::new(),
            sketch: Vec::new(),
        };
        if count >= n as u64 {
            signature.keep(&minima[..self.permutations.count], self.rows);
        }
        signature
    }
}

impl Signature {
    /// Keeps what is needed of the minima of all permutations.
    pub(super) fn keep(&mut self, minima: &[u64], rows: usize) {
        let band = |minima: &[u64]| minima.iter().fold(0, |hash, m| mix(hash ^ mix(*m)));
        self.bands = minima.chunks_exact(rows).map(band).collect();
        self.sketch = minima.iter().map(|m| (mix(*m) >> 56) as u8).collect();
    }
}

/// The Jaccard similarity of two documents, estimated from their sketches.
pub(super) fn similarity(a: &[u8], b: &[u8]) -> f64 {
    // Different minima have the same eight bits once in 256.
    const CHANCE: f64 = 1.0 / 256.0;
    let equal = a.iter().zip(b).filter(|(x, y)| x == y).count();
    let share = equal as f64 / a.len().max(1) as f64;
    ((share - CHANCE) / (1.0 - CHANCE)).max(0.0)
}

/// MurmurHash3's 64-bit finaliser (Appleby): a bijection in which every bit of the argument changes every bit of the
/// result with probability one half.
#[inline(always)]
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The hash of each run of as many words as there are coefficients.
#[inline(always)]
fn grams_of(words: &[u64], coefficients: &[u64], grams: &mut Vec<u64>) {
    grams.clear();
    grams.resize((words.len() + 1).saturating_sub(coefficients.len()), 0);
    for (j, c) in coefficients.iter().enumerate() {
        for (gram, word) in grams.iter_mut().zip(&words[j.min(words.len())..]) {
            *gram = gram.wrapping_add(word.wrapping_mul(*c));
        }
    }
    for gram in grams {
        *gram = mix(*gram);
    }
}

/// Permutations that are computed at once: four vectors of AVX-512.
const LANES: usize = 32;

#[derive(Debug, Clone)]
struct Permutations {
    /// Factors and summands; the last array is filled up.
    by: Vec<([u64; LANES], [u64; LANES])>,
    count: usize,
}

impl Permutations {
    fn new(count: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut by = vec![([1; LANES], [0; LANES]); count.div_ceil(LANES)];
        for i in 0..count {
            let (factors, summands) = &mut by[i / LANES];
            factors[i % LANES] = rng.next_u64() | 1;
            summands[i % LANES] = rng.next_u64();
        }
        Permutations { by, count }
    }

    /// The minima of no gram.
    fn none(&self) -> Vec<u64> {
        vec![u64::MAX; self.by.len() * LANES]
    }

    /// Lowers each permutation's minimum to that of `grams`.
    #[inline(always)]
    fn lower(&self, minima: &mut [u64], grams: &[u64]) {
        for ((factors, summands), minima) in self.by.iter().zip(minima.as_chunks_mut().0) {
            let mut least: [u64; LANES] = *minima;
            for gram in grams {
                for i in 0..LANES {
                    let x = gram.wrapping_mul(factors[i]).wrapping_add(summands[i]);
                    least[i] = if x < least[i] { x } else { least[i] };
                }
            }
            *minima = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u64) -> Signer {
        Signer::new(&DedupSpec {
            seed,
            ..DedupSpec::default()
        })
    }

    #[test]
    fn blocks_and_vectors_give_what_the_formula_gives() {
        let signer = signer(7);
        for count in [5, 6, words::BLOCK - 1, words::BLOCK, words::BLOCK + 3, 2500] {
            let text: String = (0..count).map(|i| format!("w{} ", i % 777)).collect();
            let mut words = Vec::new();
            words::each_block(&text, |block| words.extend_from_slice(block));
            let mut expected = vec![u64::MAX; 112];
            for gram in words.windows(5) {
                let hash = gram
                    .iter()
                    .zip(&signer.coefficients)
                    .fold(0u64, |sum, (w, c)| sum.wrapping_add(w.wrapping_mul(*c)));
                for (i, least) in expected.iter_mut().enumerate() {
                    let (a, b) = &signer.permutations.by[i / LANES];
                    let x = mix(hash)
                        .wrapping_mul(a[i % LANES])
                        .wrapping_add(b[i % LANES]);
                    *least = (*least).min(x);
                }
            }
            let mut signature = signer.sign(&text);
            let made = (signature.bands.clone(), signature.sketch.clone());
            signature.keep(&expected, 8);
            assert_eq!(made, (signature.bands, signature.sketch), "{count} words");
        }
    }

    #[test]
    fn a_document_shorter_than_a_gram_has_no_bands() {
        let signature = signer(0).sign("Only four words here.");
        assert!(signature.bands.is_empty() && signature.sketch.is_empty());
        let signature = signer(0).sign("But here there are five.");
        assert_eq!((signature.bands.len(), signature.sketch.len()), (14, 112));
    }

    /// Shares of equal minima over many pairs: right in the mean, and spread as 112 independent permutations would.
    /// The words are consecutive numbers, which a poor hash would not scatter.
    #[test]
    fn estimates_have_the_mean_and_the_variance_of_independent_permutations() {
        const PAIRS: usize = 600;
        for (shared, own) in [(160, 20), (60, 70), (20, 90)] {
            let s = f64::from(shared) / f64::from(shared + 2 * own);
            let signer = signer(3);
            let estimate = |pair: usize| {
                let at = |from: i32, to: i32, side: usize| -> String {
                    (from..to)
                        .map(|i| format!("{} ", (pair * 2 + side) * 10_000 + i as usize))
                        .collect()
                };
                // Four words before the first whole gram of what is shared.
                let common = at(0, shared + 4, 0);
                let a = signer.sign(&(common.clone() + &at(1_000, 1_000 + own, 0)));
                let b = signer.sign(&(common + &at(1_000, 1_000 + own, 1)));
                similarity(&a.sketch, &b.sketch)
            };
            let estimates: Vec<f64> = (0..PAIRS).map(estimate).collect();
            let mean = estimates.iter().sum::<f64>() / PAIRS as f64;
            let square = |x: &f64| (x - mean).powi(2);
            let variance = estimates.iter().map(square).sum::<f64>() / (PAIRS - 1) as f64;
            let expected = s * (1.0 - s) / 112.0;
            // Standard error of the mean, and of a variance of nearly normal numbers: four of each.
            let mean_error = (expected / PAIRS as f64).sqrt();
            let variance_error = (2.0 / PAIRS as f64).sqrt();
            assert!((mean - s).abs() < 4.0 * mean_error, "{s}: mean {mean}");
            let ratio = variance / expected;
            assert!(
                (ratio - 1.0).abs() < 4.0 * variance_error + 0.02,
                "{s}: variance {ratio} times"
            );
        }
    }
}
