//! How the learning rate and the moving average change over a run.

use std::f64::consts::PI;

/// Learning rate of step 1 ..= `steps`: linear up to `peak` at step `warmup`, then a half cosine down to
/// `final_rate` times `peak` at step `steps`, where it stays.
pub fn learning_rate(step: u64, steps: u64, peak: f64, warmup: u64, final_rate: f64) -> f64 {
    if step < warmup {
        return peak * step as f64 / warmup as f64;
    }
    let length = steps.saturating_sub(warmup).max(1) as f64;
    let progress = ((step - warmup) as f64 / length).min(1.0);
    peak * (final_rate + (1.0 - final_rate) * 0.5 * (1.0 + (PI * progress).cos()))
}

/// Decay of the moving average at step n: min(decay, (1 + n) / (10 + n)), so that early weights are soon forgotten.
pub fn ema_decay(step: u64, decay: f64) -> f64 {
    decay.min((1.0 + step as f64) / (10.0 + step as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_climbs_and_follows_a_cosine() {
        let rate = |step| learning_rate(step, 110, 4.0, 10, 0.25);
        for (step, want) in [(0, 0.0), (1, 0.4), (5, 2.0), (10, 4.0), (60, 2.5), (110, 1.0), (500, 1.0)] {
            assert!((rate(step) - want).abs() <= 1e-14, "step {step}: {}", rate(step));
        }
        assert!((rate(35) - (1.0 + 3.0 * 0.5 * (1.0 + 0.5f64.sqrt()))).abs() <= 1e-14, "a quarter");
        assert!((learning_rate(0, 10, 3.0, 0, 0.5) - (3.0)).abs() <= 1e-14, "without warm-up");
        assert!((learning_rate(9, 9, 3.0, 9, 0.5) - (3.0)).abs() <= 1e-14, "warm-up only");
    }

    #[test]
    fn the_moving_average_starts_short() {
        assert_eq!(ema_decay(0, 0.998), 0.1);
        assert_eq!(ema_decay(8, 0.998), 0.5);
        assert_eq!(ema_decay(100_000, 0.998), 0.998);
        assert_eq!(ema_decay(100_000, 0.0), 0.0);
    }
}
