//! The normal and Student's t distribution, and the power of a t test.
//!
//! statrs gives the cumulative distributions. Its quantile of Student's t is not used: it is off by 1e-3 at a million
//! degrees of freedom, and does not end at a hundred million.
use statrs::function::{beta::beta_reg, erf::erfc, gamma::ln_gamma};

/// From here on Student's t is the normal distribution with the first term of its expansion, to 1e-9.
const NORMAL_DF: f64 = 1e5;

/// The normal distribution's cumulative distribution.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// Two-sided p of Student's t: P(|T| ≥ t) with `df` degrees of freedom.
pub fn student_p(t: f64, df: f64) -> f64 {
    let t = t.abs();
    if t.is_infinite() {
        return 0.0;
    }
    if df >= NORMAL_DF {
        // Fisher's expansion in 1 / df.
        let density = (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt();
        return 2.0 * normal_cdf(-t) + density * (t.powi(3) + t) / (2.0 * df);
    }
    // 1 at t = 0, where the beta function's argument is 1.
    beta_reg(df / 2.0, 0.5, df / (df + t * t))
}

/// The value that |T| stays below with probability `1 − alpha`: Student's t(1 − alpha/2; df).
pub fn student_quantile(alpha: f64, df: f64) -> f64 {
    if alpha >= 1.0 {
        return 0.0;
    }
    let mut high = 2.0;
    while student_p(high, df) > alpha {
        high *= 2.0;
    }
    bisect(0.0, high, |t| student_p(t, df) <= alpha)
}

/// The true difference, in standard errors of the mean, that a two-sided t test at `alpha` finds with probability
/// `power` (in its own direction): the noncentrality at which P(T > t(1 − alpha/2)) is that.
pub fn detectable(alpha: f64, power: f64, df: f64) -> f64 {
    let critical = student_quantile(alpha, df);
    let mut high = critical + 2.0;
    while exceeds(critical, high, df) < power {
        high *= 2.0;
    }
    bisect(0.0, high, |shift| exceeds(critical, shift, df) >= power)
}

/// The mean of a sample's standard deviation with `df` degrees of freedom, as a part of the true one (c4).
pub fn mean_of_deviation(df: f64) -> f64 {
    (2.0 / df).sqrt() * (ln_gamma((df + 1.0) / 2.0) - ln_gamma(df / 2.0)).exp()
}

/// P((Z + shift) / s > critical), where df·s² has the chi-squared distribution with `df` degrees of freedom.
fn exceeds(critical: f64, shift: f64, df: f64) -> f64 {
    if df >= 1e6 {
        return normal_cdf(shift - critical);
    }
    // Simpson's rule over s, whose density is 2·(df/2)^(df/2) / Γ(df/2) · s^(df − 1) · exp(−df·s²/2).
    let half = df / 2.0;
    let constant = std::f64::consts::LN_2 + half * half.ln() - ln_gamma(half);
    let spread = 10.0 / (2.0 * df).sqrt();
    let (from, to) = ((1.0 - spread).max(1e-9), 1.0 + spread);
    let step = (to - from) / f64::from(STEPS);
    let value = |i: i32| {
        let s = from + step * f64::from(i);
        let density = (constant + (df - 1.0) * s.ln() - half * s * s).exp();
        density * normal_cdf(shift - critical * s)
    };
    let weighted = |i: i32| {
        let weight = match i {
            0 | STEPS => 1.0,
            _ if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        weight * value(i)
    };
    (0..=STEPS).map(weighted).sum::<f64>() * step / 3.0
}

/// Steps of the integral; even.
const STEPS: i32 = 200;

/// Where `holds` begins to hold between `low` and `high`, to the last digits.
fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..52 {
        let middle = 0.5 * (low + high);
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
