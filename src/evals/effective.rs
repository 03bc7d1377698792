//! The effective context: how long a context a model uses, not how long a one it takes.

/// The name of the score.
pub(super) const METRIC: &str = "effective_context";

/// The longest length whose mean score is `threshold` or more, as are those of all shorter ones (RULER,
/// arXiv:2404.06654, section 4); 0 where the shortest fails. Given are lengths and their means, in any order.
pub(super) fn context(means: impl Iterator<Item = (usize, f64)>, threshold: f64) -> usize {
    let mut means: Vec<(usize, f64)> = means.collect();
    means.sort_by_key(|&(length, _)| length);
    let passed = means.iter().take_while(|&&(_, mean)| mean >= threshold);
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
}
