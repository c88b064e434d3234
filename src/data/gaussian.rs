//! A correlated Gaussian with a seeded factor: the model whose best loss and best scores are known.

use std::f64::consts::TAU;

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::{TRUTH_STREAM, host_rng};
use crate::error::{Error, Result};

/// x = L z with z standard normal and L lower triangular.
///
/// Its conditionals are Gaussian: d/dx_d log p(x_d | x_<d) = -(L^-1 x)_d / L_dd, so the composite score matching loss
/// is at best -1/2 sum_d 1 / L_dd^2.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    dimensions: usize,
    /// L (D, D), row by row, zero above the diagonal.
    factor: Vec<f64>,
}

impl Gaussian {
    /// L with a diagonal in [0.5, 1.5) and normal entries of variance 1 / D below it.
    pub fn new(dimensions: usize, seed: u64) -> Self {
        let mut rng = host_rng(seed, TRUTH_STREAM);
        let mut factor = vec![0.0; dimensions * dimensions];
        for (d, row) in factor.chunks_exact_mut(dimensions).enumerate() {
            row[..d].fill_with(|| rng.sample::<f64, _>(StandardNormal) / (dimensions as f64).sqrt());
            row[d] = rng.random_range(0.5..1.5);
        }
        Self { dimensions, factor }
    }

    /// Reads D from the text of a SPEC.
    pub(super) fn from_text(text: &str, seed: u64) -> Result<Self> {
        match text.parse() {
            Ok(dimensions @ 1..=1024) => Ok(Self::new(dimensions, seed)),
            _ => Err(Error::input(
                format!("gaussian:{text}"),
                "needs a number of dimensions from 1 to 1024",
                "Write gaussian:8, for one",
            )),
        }
    }

    /// D.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// L (D, D), row-major.
    pub fn factor(&self) -> &[f64] {
        &self.factor
    }

    /// The least value that the composite score matching loss can take: -1/2 sum_d 1 / L_dd^2.
    pub fn optimal_loss(&self) -> f64 {
        -0.5 * self.diagonal().map(|v| v.powi(-2)).sum::<f64>()
    }

    /// The true conditional scores at `x` (D).
    pub fn scores(&self, x: &[f64]) -> Vec<f64> {
        self.whiten(x).iter().zip(self.diagonal()).map(|(z, v)| -z / v).collect()
    }

    pub(super) fn log_density(&self, x: &[f64]) -> f64 {
        let part = |(z, v): (&f64, f64)| -0.5 * z * z - 0.5 * TAU.ln() - v.ln();
        self.whiten(x).iter().zip(self.diagonal()).map(part).sum()
    }

    /// Sum over d of log p(y_d | x_<d) for y_d = x_d + sigma eps, whose conditionals are normal with variance
    /// L_dd^2 + sigma^2. x, y (D).
    pub fn noisy_log_density(&self, x: &[f64], y: &[f64], sigma: f64) -> f64 {
        let parts =
            self.whiten(x).into_iter().zip(self.diagonal()).zip(x.iter().zip(y)).map(|((z, diagonal), (x, y))| {
                let mean = x - diagonal * z;
                let variance = diagonal * diagonal + sigma * sigma;
                -0.5 * (y - mean).powi(2) / variance - 0.5 * (TAU * variance).ln()
            });
        parts.sum()
    }

    pub(super) fn sample(&self, rng: &mut impl Rng, out: &mut [f32]) {
        let z: Vec<f64> = (0..self.dimensions).map(|_| rng.sample(StandardNormal)).collect();
        for (value, row) in out.iter_mut().zip(self.rows()) {
            *value = row.iter().zip(&z).map(|(l, z)| l * z).sum::<f64>() as f32;
        }
    }

    /// L^-1 x by forward substitution.
    fn whiten(&self, x: &[f64]) -> Vec<f64> {
        let mut z = Vec::with_capacity(self.dimensions);
        for (d, row) in self.rows().enumerate() {
            let known: f64 = row.iter().zip(&z).map(|(l, z): (&f64, &f64)| l * z).sum();
            z.push((x[d] - known) / row[d]);
        }
        z
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.factor.chunks_exact(self.dimensions)
    }

    fn diagonal(&self) -> impl Iterator<Item = f64> {
        self.rows().enumerate().map(|(d, row)| row[d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_covariance_of_the_factor() {
        let (gaussian, mut rng) = (Gaussian::new(3, 5), host_rng(0, 0));
        let mut covariance = [[0.0; 3]; 3];
        let mut x = [0.0; 3];
        for _ in 0..40_000 {
            gaussian.sample(&mut rng, &mut x);
            for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                covariance[i][j] += f64::from(x[i] * x[j]) / 40_000.0;
            }
        }
        let l = gaussian.factor();
        assert_eq!([l[1], l[2], l[5]], [0.0; 3], "zero above the diagonal");
        for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
            let expected: f64 = (0..3).map(|k| l[3 * i + k] * l[3 * j + k]).sum();
            // Entries are of order 2 at most: 0.06 is five standard errors of 2 sqrt(2 / 40,000) = 0.014, rounded down.
            assert!((covariance[i][j] - expected).abs() <= 0.06, "[{i}][{j}] {} {expected}", covariance[i][j]);
        }
    }

    #[test]
    fn log_density_matches_the_textbook_in_the_plane() {
        let gaussian = Gaussian::new(2, 3);
        let [a, _, b, c] = gaussian.factor() else { panic!("two by two") };
        let (xx, xy, yy) = (a * a, a * b, b * b + c * c);
        let (x, y) = (0.7, -1.3);
        let determinant = xx * yy - xy * xy;
        let square = (yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant;
        let expected = -0.5 * square - 0.5 * determinant.ln() - TAU.ln();
        assert!((gaussian.log_density(&[x, y]) - expected).abs() <= 1e-12);
    }

    #[test]
    fn scores_are_slopes_of_the_conditionals_and_reach_the_optimal_loss() {
        let (gaussian, mut rng) = (Gaussian::new(4, 8), host_rng(1, 1));
        let mut x = [0.0f32; 4];
        let (mut loss, mut squares) = (0.0, 0.0);
        for _ in 0..20_000 {
            gaussian.sample(&mut rng, &mut x);
            let scores = gaussian.scores(&x.map(f64::from));
            let one: f64 = scores.iter().zip(gaussian.diagonal()).map(|(s, v)| 0.5 * s * s - v.powi(-2)).sum();
            loss += one / 20_000.0;
            squares += one * one / 20_000.0;
        }
        let tolerance = 5.0 * ((squares - loss * loss) / 20_000.0).sqrt();
        let optimum = gaussian.optimal_loss();
        assert!((loss - optimum).abs() <= tolerance, "{loss} {optimum} +- {tolerance}");
        let x = [0.3, -0.4, 1.1, 0.2];
        assert!((gaussian.noisy_log_density(&x, &x, 0.0) - gaussian.log_density(&x)).abs() <= 1e-12);
        // With nothing known before it, the first value is normal with variance L_00^2 + sigma^2.
        let first = Gaussian { dimensions: 1, factor: vec![0.8] };
        let want = -0.5 * 0.49 - 0.5 * TAU.ln();
        assert!((first.noisy_log_density(&[0.1], &[0.7], 0.6) - want).abs() <= 1e-12);
        // Only the last conditional depends on x_3, so its score is the slope of the joint log density.
        let (at, step) = ([0.3, -0.4, 1.1, 0.2], 1e-5);
        let moved = |h: f64| gaussian.log_density(&[at[0], at[1], at[2], at[3] + h]);
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((gaussian.scores(&at)[3] - slope).abs() <= 1e-7);
    }
}
