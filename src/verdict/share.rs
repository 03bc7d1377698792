//! Shares: items that are right or wrong.

/// Wilson's score interval of a share, for a sample worth `n` independent items: `critical` is the normal quantile, or
/// Student's where `n` itself is estimated (E. B. Wilson 1927; with an effective sample size: Korn and Graubard 1998,
/// Franco et al. 2019).
pub fn wilson(share: f64, n: f64, critical: f64) -> (f64, f64) {
    let square = critical * critical / n;
    let middle = (share + square / 2.0) / (1.0 + square);
    let half = (share * (1.0 - share) * square + square * square / 4.0).sqrt() / (1.0 + square);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// McNemar's exact two-sided test: of the items on which two arms differ, `gained` went one way and `lost` the other;
/// under no difference each way is as likely (binomial, 1/2).
pub fn mcnemar(gained: u64, lost: u64) -> f64 {
    let n = gained + lost;
    let least = gained.min(lost);
    // ln C(n, k) − n·ln 2, from term to term.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for k in 1..=least {
        term += ((n - k + 1) as f64 / k as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}
