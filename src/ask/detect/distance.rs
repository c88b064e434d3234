//! How far from what inliers have.

use crate::numbers::linear::Cholesky;

/// Keeps logarithms of distances finite.
const LEAST_DISTANCE: f64 = 1e-6;

/// Mahalanobis distance in standardised coordinates, with the covariance shrunk towards the identity by as much as its
/// sampling error asks for (Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004).
#[derive(Debug, Clone)]
pub(super) struct Distance {
    mean: Vec<f64>,
    sd: Vec<f64>,
    factor: Cholesky,
    /// Mean and standard deviation of the distance's logarithm over the inliers.
    usual: [f64; 2],
}

impl Distance {
    /// From features of inliers, (N, F), N at least 1.
    pub(super) fn new(rows: &[Vec<f64>]) -> Self {
        let width = rows[0].len();
        let column = |i: usize| rows.iter().map(move |row| row[i]);
        let moments: Vec<[f64; 2]> = (0..width).map(|i| mean_and_sd(column(i))).collect();
        let mean: Vec<f64> = moments.iter().map(|m| m[0]).collect();
        // A feature that never varies must not make distances infinite.
        let sd: Vec<f64> = moments.iter().map(|m| m[1].max(1e-6 * (1.0 + m[0].abs()))).collect();
        let standardised: Vec<Vec<f64>> = rows.iter().map(|row| standardise(row, &mean, &sd).collect()).collect();
        let factor = Cholesky::new(shrunk_covariance(&standardised), width);
        let mut distance = Self { mean, sd, factor, usual: [0.0, 1.0] };
        let [mean, sd] = mean_and_sd(rows.iter().map(|row| distance.of(row).max(LEAST_DISTANCE).ln()));
        distance.usual = [mean, sd.max(LEAST_DISTANCE)];
        distance
    }

    /// |L^-1 (features - mean) / sd|
    pub(super) fn of(&self, features: &[f64]) -> f64 {
        let white = self.factor.whiten(standardise(features, &self.mean, &self.sd));
        white.iter().map(|w| w * w).sum::<f64>().sqrt()
    }

    /// The logarithm of the distance, in standard deviations from its mean over the inliers.
    pub(super) fn standing(&self, features: &[f64]) -> f64 {
        (self.of(features).max(LEAST_DISTANCE).ln() - self.usual[0]) / self.usual[1]
    }
}

fn mean_and_sd(values: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    [mean, (values.map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt()]
}

fn standardise<'a>(row: &'a [f64], mean: &'a [f64], sd: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    row.iter().zip(mean).zip(sd).map(|((x, mean), sd)| (x - mean) / sd)
}

/// (1 - w) C + w I of standardised rows; w estimates |error of C|^2 / |C - I|^2.
fn shrunk_covariance(rows: &[Vec<f64>]) -> Vec<f64> {
    let (count, width) = (rows.len() as f64, rows[0].len());
    let entry = |at: usize| rows.iter().map(|row| row[at / width] * row[at % width]).sum::<f64>() / count;
    let covariance: Vec<f64> = (0..width * width).map(entry).collect();
    let identity = |at: usize| f64::from(u8::from(at / width == at % width));
    let square: f64 = covariance.iter().map(|c| c * c).sum();
    let distance: f64 = covariance.iter().enumerate().map(|(at, c)| (c - identity(at)).powi(2)).sum();
    // |z z^T - C|^2 = |z|^4 - 2 z^T C z + |C|^2, averaged over the rows: z^T C z averages to |C|^2.
    let fourth = rows.iter().map(|row| row.iter().map(|z| z * z).sum::<f64>().powi(2)).sum::<f64>() / count;
    let weight = ((fourth - square) / count / distance.max(1e-12)).clamp(0.0, 1.0);
    // Whatever the weight, features that say the same must leave the matrix positive definite.
    let ridge = |at: usize| (weight + 1e-6) * identity(at);
    covariance.iter().enumerate().map(|(at, c)| (1.0 - weight) * c + ridge(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::random::{normal_pair, random_bits, stream};

    /// Rows of (a, 0.9 a + 0.44 b, c) for standard normal a, b, c.
    fn rows(count: u32) -> Vec<Vec<f64>> {
        let normals = |n| {
            let bits = random_bits(3, stream::DATA, n, 0, 0);
            let ((a, b), (c, _)) = (normal_pair(bits[0], bits[1]), normal_pair(bits[2], bits[3]));
            vec![a, 0.9 * a + 0.44 * b, c]
        };
        (0..count).map(normals).collect()
    }

    #[test]
    fn many_rows_give_the_distance_of_the_true_covariance() {
        let distance = Distance::new(&rows(4000));
        for (x, want) in [([1.0, 0.9, 0.0], 1.0), ([1.0, -0.9, 0.0], (1.0 + (1.8f64 / 0.44).powi(2)).sqrt())] {
            let found = distance.of(&x);
            assert!((found - want).abs() <= 0.08 * want, "{x:?}: {found}, expected {want}");
        }
    }

    #[test]
    fn few_rows_are_shrunk_and_the_weight_is_the_papers() {
        // By the definition, row after row.
        let rows: Vec<Vec<f64>> = rows(6);
        let covariance = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / 6.0;
        let sum = |f: &dyn Fn(usize, usize) -> f64| (0..9).map(|at| f(at / 3, at % 3)).sum::<f64>();
        let identity = |i: usize, j: usize| if i == j { 1.0 } else { 0.0 };
        let error: f64 =
            rows.iter().map(|row| sum(&|i, j| (row[i] * row[j] - covariance(i, j)).powi(2))).sum::<f64>() / 36.0;
        let weight = (error / sum(&|i, j| (covariance(i, j) - identity(i, j)).powi(2))).min(1.0);
        assert!(weight > 0.05, "{weight}");
        let found = shrunk_covariance(&rows);
        assert_eq!(found.len(), 9);
        for (at, value) in found.iter().enumerate() {
            let (i, j) = (at / 3, at % 3);
            let want = (1.0 - weight) * covariance(i, j) + weight * identity(i, j);
            assert!((value - want).abs() <= 2e-6, "{i} {j}: {value} {want}");
        }
    }

    #[test]
    fn what_never_varies_and_what_is_said_twice_leave_distances_finite() {
        let rows: Vec<Vec<f64>> = rows(30).into_iter().map(|row| vec![row[0], row[0], 5.0]).collect();
        let distance = Distance::new(&rows);
        assert!(distance.of(&[0.3, 0.3, 5.0]).is_finite() && distance.of(&[0.3, 0.3, 6.0]) > 100.0);
        assert!(distance.standing(&rows[0]).is_finite());
    }
}
