//! What the ops' tests share.
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `n` numbers of about unit size, spread like a sum of three uniform ones.
pub fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut unit = move || rng.next_u32() as f32 / u32::MAX as f32;
    (0..n)
        .map(|_| (unit() + unit() + unit() - 1.5) * 2.0)
        .collect()
}

/// The same in f64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// ‖got − want‖ / ‖want‖.
pub fn norm_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let diff: f64 = got
        .iter()
        .zip(want)
        .map(|(g, w)| (f64::from(*g) - w).powi(2))
        .sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    (diff / norm.max(1e-300)).sqrt()
}

/// Checks `gradient` of the scalar function `f` at `x` against central differences in f64, norm-wise.
pub fn check_gradient(x: &[f64], gradient: &[f64], mut f: impl FnMut(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len());
    let step = 1e-5;
    let mut at = x.to_vec();
    let (mut diff, mut norm) = (0f64, 0f64);
    for i in 0..x.len() {
        at[i] = x[i] + step;
        let up = f(&at);
        at[i] = x[i] - step;
        let down = f(&at);
        at[i] = x[i];
        let numeric = (up - down) / (2.0 * step);
        diff += (numeric - gradient[i]).powi(2);
        norm += numeric.powi(2);
    }
    let error = (diff / norm.max(1e-300)).sqrt();
    assert!(
        error < 1e-6,
        "gradient differs from finite differences by {error:e}"
    );
}
