//! The effective context: how long a context a model uses, not how long a one it takes.

/// The name of the score.
pub(super) const METRIC: &str = "effective_context";

/// What a mean may lack of the threshold by rounding: 0.7, 0.8 and 0.9 have the mean 0.7999999999999999. Means that
/// differ in a score differ by more.
const ROUNDING: f64 = 1e-9;

/// The longest length whose mean score is `threshold` or more, as are those of all shorter ones (RULER,
/// arXiv:2404.06654, section 4); 0 where the shortest fails. Given are lengths and their means, in any order.
pub(super) fn context(means: impl Iterator<Item = (usize, f64)>, threshold: f64) -> usize {
    let mut means: Vec<(usize, f64)> = means.collect();
    means.sort_by_key(|&(length, _)| length);
    let passes = |&&(_, mean): &&(usize, f64)| mean + ROUNDING >= threshold;
    let passed = means.iter().take_while(passes);
    passed.last().map_or(0, |&(length, _)| length)
}

#[cfg(test)]
mod tests {
    use super::context;

    #[test]
    fn the_longest_that_passes_with_all_shorter_ones() {
        let of = |means: &[(usize, f64)]| context(means.iter().copied(), 0.85);
        assert_eq!(
            of(&[(256, 1.0), (512, 0.85), (1024, 0.84), (2048, 1.0)]),
            512
        );
        // In any order.
        assert_eq!(
            of(&[(2048, 1.0), (512, 0.9), (1024, 0.86), (256, 0.85)]),
            2048
        );
        assert_eq!(of(&[(256, 0.8), (512, 1.0)]), 0);
        assert_eq!(of(&[]), 0);
    }

    #[test]
    fn a_mean_that_is_the_threshold_passes_though_it_is_rounded() {
        let mean = (0.7 + 0.8 + 0.9) / 3.0;
        assert!(mean < 0.8);
        assert_eq!(context([(256, mean)].into_iter(), 0.8), 256);
        assert_eq!(context([(256, 0.7999)].into_iter(), 0.8), 0);
    }
}
