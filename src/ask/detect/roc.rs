//! How well a statistic that is high for outliers tells two sets apart.

/// Area under the receiver operating characteristic: the probability that an outlier's value is above an inlier's, equal
/// values counting one half (the Mann-Whitney statistic). NaN where a set is empty or holds a NaN.
pub fn auroc(inliers: &[f64], outliers: &[f64]) -> f64 {
    if inliers.iter().chain(outliers).any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = inliers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let halves_below = |value: &f64| {
        let (below, not_above) = (sorted.partition_point(|v| v < value), sorted.partition_point(|v| v <= value));
        (below + not_above) as f64
    };
    outliers.iter().map(halves_below).sum::<f64>() / (2.0 * inliers.len() as f64 * outliers.len() as f64)
}

/// The share of outliers that pass for inliers where the threshold lets `kept` of the inliers pass (0.95 for FPR@95). NaN
/// where a set is empty or holds a NaN.
pub fn false_positive_rate(inliers: &[f64], outliers: &[f64], kept: f64) -> f64 {
    if inliers.is_empty() || inliers.iter().chain(outliers).any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = inliers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last_kept = ((kept * inliers.len() as f64).ceil() as usize).clamp(1, inliers.len()) - 1;
    outliers.iter().filter(|&&value| value <= sorted[last_kept]).count() as f64 / outliers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ContinuousCDF, Normal};

    /// The quantiles of N(mean, 1) in the middle of n equal parts.
    fn quantiles(mean: f64, n: usize) -> Vec<f64> {
        let normal = Normal::new(mean, 1.0).expect("a distribution");
        (0..n).map(|k| normal.inverse_cdf((k as f64 + 0.5) / n as f64)).collect()
    }

    #[test]
    fn two_gaussians_have_their_closed_forms() {
        let standard = Normal::new(0.0, 1.0).expect("a distribution");
        for shift in [-1.5, 0.0, 0.3, 1.0, 2.5] {
            let (inliers, outliers) = (quantiles(0.0, 2000), quantiles(shift, 1000));
            // Sums over quantiles are midpoint rules with 1,000 cells.
            let area = standard.cdf(shift / 2f64.sqrt());
            assert!((auroc(&inliers, &outliers) - area).abs() <= 1e-3, "{shift}: {}", auroc(&inliers, &outliers));
            let passed = standard.cdf(standard.inverse_cdf(0.95) - shift);
            let found = false_positive_rate(&inliers, &outliers, 0.95);
            assert!((found - passed).abs() <= 2e-3, "{shift}: {found}, expected {passed}");
        }
    }

    #[test]
    fn ties_count_one_half() {
        assert_eq!(auroc(&[1.0, 2.0, 2.0], &[2.0, 3.0]), (1.0 + 0.5 + 0.5 + 3.0) / 6.0);
        assert_eq!(auroc(&[5.0], &[5.0]), 0.5);
        assert_eq!((auroc(&[0.0, 1.0], &[2.0]), auroc(&[2.0], &[0.0])), (1.0, 0.0));
    }

    #[test]
    fn the_threshold_keeps_the_share_that_was_asked_for() {
        let inliers: Vec<f64> = (0..20).map(f64::from).collect();
        // 19 of 20 are kept: up to 18.
        assert_eq!(false_positive_rate(&inliers, &[17.0, 18.0, 18.5, 30.0], 0.95), 0.5);
        assert_eq!(false_positive_rate(&inliers, &[30.0], 0.95), 0.0);
    }

    #[test]
    fn what_is_undefined_is_nan() {
        assert!(auroc(&[f64::NAN], &[1.0]).is_nan() && auroc(&[], &[1.0]).is_nan() && auroc(&[1.0], &[]).is_nan());
        assert!(false_positive_rate(&[], &[1.0], 0.95).is_nan());
    }
}
