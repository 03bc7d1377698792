//! The learning rate of a step.
use super::spec::{OptimizerSpec, Schedule};

/// Learning rate of step `step` (from 0) of `steps`, where the highest is `peak`: a straight warm-up,
/// then constant, linear or cosine to the floor, which the last step reaches.
pub fn learning_rate(spec: &OptimizerSpec, peak: f64, step: u64, steps: u64) -> f64 {
    if step < spec.warmup {
        return peak * (step + 1) as f64 / spec.warmup as f64;
    }
    let span = steps.saturating_sub(spec.warmup + 1).max(1) as f64;
    let done = ((step - spec.warmup) as f64 / span).min(1.0);
    let share = match spec.schedule {
        Schedule::Constant => return peak,
        Schedule::Linear => 1.0 - done,
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
    };
    peak * (spec.floor + (1.0 - spec.floor) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_and_comes_down_to_the_floor() {
        let spec = |schedule| OptimizerSpec {
            schedule,
            warmup: 4,
            floor: 0.1,
            ..toml::from_str("lr = 2.0").unwrap()
        };
        let at = |schedule, step| learning_rate(&spec(schedule), 2.0, step, 105);
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            assert_eq!(
                (at(schedule, 0), at(schedule, 3), at(schedule, 4)),
                (0.5, 2.0, 2.0)
            );
        }
        assert_eq!(at(Schedule::Constant, 104), 2.0);
        assert!((at(Schedule::Linear, 54) - 1.1).abs() < 1e-12);
        assert!((at(Schedule::Cosine, 54) - 1.1).abs() < 1e-12);
        assert!((at(Schedule::Linear, 104) - 0.2).abs() < 1e-12);
        assert!((at(Schedule::Cosine, 104) - 0.2).abs() < 1e-12);
    }
}
