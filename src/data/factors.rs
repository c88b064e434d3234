//! Factor analysis: a Gaussian of any number of dimensions whose every score is known at a price linear in them.

use rand::RngExt;
use rand_distr::StandardNormal;

use super::{TRAIN_STREAM, TRUTH_STREAM, host_rng};

/// x = A z + v eps with z (R) and eps (D) standard normal: covariance A A^T + diag(v^2).
///
/// What is known of z after the first d values is normal; its moments follow from one value to the next (Kalman's filter
/// without motion), and with them all scores at any noise level: O(D R^2) in place of the O(D^3) of a general covariance.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    factors: usize,
    /// A (D, R), row by row.
    loadings: Vec<f64>,
    /// v (D)
    deviations: Vec<f64>,
}

/// What the filter knows of x + sigma eps, whatever its values.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    model: &'a Factors,
    /// Variances of the noise alone, v^2 + sigma^2 (D).
    noise: Vec<f64>,
    /// Variance of each value given those before it (D).
    variances: Vec<f64>,
    /// Covariance of z with each value, given those before it (D, R).
    covariances: Vec<f64>,
    /// Covariance of z given all values (R, R).
    rest: Vec<f64>,
}

impl Factors {
    /// Normal loadings of variance 1 / R, so that factors give every value about unit variance; v in [0.5, 1).
    pub fn new(dimensions: usize, factors: usize, seed: u64) -> Self {
        let mut rng = host_rng(seed, TRUTH_STREAM);
        let scale = (factors as f64).sqrt().recip();
        Self {
            factors,
            loadings: (0..dimensions * factors).map(|_| scale * rng.sample::<f64, _>(StandardNormal)).collect(),
            deviations: (0..dimensions).map(|_| rng.random_range(0.5..1.0)).collect(),
        }
    }

    /// D
    pub fn dimensions(&self) -> usize {
        self.deviations.len()
    }

    /// Fills `out` (B, D) with the samples of batch `number`.
    pub fn draw(&self, seed: u64, number: u64, out: &mut [f32]) {
        let mut rng = host_rng(seed, TRAIN_STREAM + number);
        for sample in out.chunks_exact_mut(self.dimensions()) {
            let z: Vec<f64> = (0..self.factors).map(|_| rng.sample(StandardNormal)).collect();
            for (d, value) in sample.iter_mut().enumerate() {
                *value = (dot(self.row(d), &z) + self.deviations[d] * rng.sample::<f64, _>(StandardNormal)) as f32;
            }
        }
    }

    /// All that can be said of x + sigma eps without its values.
    pub fn filter(&self, sigma: f64) -> Filter<'_> {
        let r = self.factors;
        let noise: Vec<f64> = self.deviations.iter().map(|v| v * v + sigma * sigma).collect();
        let mut rest = vec![0.0; r * r];
        (0..r).for_each(|k| rest[k * r + k] = 1.0);
        let (mut variances, mut covariances) = (Vec::new(), Vec::new());
        for (d, noise) in noise.iter().enumerate() {
            let a = self.row(d);
            let covariance: Vec<f64> = rest.chunks_exact(r).map(|row| dot(row, a)).collect();
            let variance = noise + dot(a, &covariance);
            for (i, row) in rest.chunks_exact_mut(r).enumerate() {
                row.iter_mut().zip(&covariance).for_each(|(entry, c)| *entry -= covariance[i] * c / variance);
            }
            variances.push(variance);
            covariances.extend(covariance);
        }
        Filter { model: self, noise, variances, covariances, rest }
    }

    fn row(&self, d: usize) -> &[f64] {
        &self.loadings[d * self.factors..][..self.factors]
    }
}

impl Filter<'_> {
    /// Mean of x_d given x_<d, for every d of x (D).
    pub fn conditional_means(&self, x: &[f64]) -> Vec<f64> {
        let mut z = vec![0.0; self.model.factors];
        let step = |d: usize| {
            let mean = dot(self.model.row(d), &z);
            let surprise = (x[d] - mean) / self.variances[d];
            let covariance = &self.covariances[d * z.len()..][..z.len()];
            z.iter_mut().zip(covariance).for_each(|(z, c)| *z += c * surprise);
            mean
        };
        (0..x.len()).map(step).collect()
    }

    /// Variance of x_d given x_<d (D).
    pub fn conditional_variances(&self) -> &[f64] {
        &self.variances
    }

    /// grad log p(x) at x (D): -(x_d - E[(A z)_d | x]) / (v_d^2 + sigma^2).
    pub fn score(&self, x: &[f64]) -> Vec<f64> {
        let r = self.model.factors;
        let mut evidence = vec![0.0; r];
        for (d, x) in x.iter().enumerate() {
            evidence.iter_mut().zip(self.model.row(d)).for_each(|(sum, a)| *sum += a * x / self.noise[d]);
        }
        let z: Vec<f64> = self.rest.chunks_exact(r).map(|row| dot(row, &evidence)).collect();
        x.iter().enumerate().map(|(d, x)| (dot(self.model.row(d), &z) - x) / self.noise[d]).collect()
    }

    /// E |grad log p|^2, the trace of the precision matrix.
    pub fn squared_score(&self) -> f64 {
        let of_dimension = |(d, noise): (usize, &f64)| {
            let a = self.model.row(d);
            let known: f64 = self.rest.chunks_exact(a.len()).zip(a).map(|(row, a_i)| a_i * dot(row, a)).sum();
            (1.0 - known / noise) / noise
        };
        self.noise.iter().enumerate().map(of_dimension).sum()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::linear::Cholesky;

    const D: usize = 5;
    const SIGMA: f64 = 0.3;

    /// A A^T + diag(v^2 + sigma^2)
    fn covariance(model: &Factors) -> Vec<f64> {
        let entry = |i: usize, j: usize| {
            let own = if i == j { model.deviations[i].powi(2) + SIGMA * SIGMA } else { 0.0 };
            dot(model.row(i), model.row(j)) + own
        };
        (0..D * D).map(|at| entry(at / D, at % D)).collect()
    }

    #[test]
    fn conditionals_are_those_of_the_covariance() {
        let model = Factors::new(D, 2, 7);
        let filter = model.filter(SIGMA);
        let cholesky = Cholesky::new(covariance(&model), D);
        let x = [0.3, -1.2, 0.7, 2.0, -0.4];
        let (means, white) = (filter.conditional_means(&x), cholesky.whiten(x.into_iter()));
        for d in 0..D {
            let deviation = cholesky.diagonal(d);
            assert!((filter.conditional_variances()[d] - deviation.powi(2)).abs() <= 1e-13, "variance {d}");
            assert!((x[d] - means[d] - deviation * white[d]).abs() <= 1e-13, "mean {d}");
        }
    }

    #[test]
    fn the_score_solves_the_covariance() {
        let model = Factors::new(D, 3, 8);
        let (filter, covariance) = (model.filter(SIGMA), covariance(&model));
        let x = [0.3, -1.2, 0.7, 2.0, -0.4];
        let score = filter.score(&x);
        for (row, x) in covariance.chunks_exact(D).zip(x) {
            assert!((dot(row, &score) + x).abs() <= 1e-13, "covariance times score is -x");
        }
        // The score is linear: its divergence is minus the trace of the precision matrix.
        let unit = |d: usize| (0..D).map(|i| f64::from(i == d)).collect::<Vec<_>>();
        let trace: f64 = (0..D).map(|d| -filter.score(&unit(d))[d]).sum();
        assert!((filter.squared_score() - trace).abs() <= 1e-13);
    }

    #[test]
    fn samples_have_the_variance_and_covariance_of_the_model() {
        let model = Factors::new(3, 2, 9);
        let mut x = vec![0.0; 3 * 40_000];
        model.draw(1, 4, &mut x);
        for (i, j) in [(0, 0), (1, 1), (0, 1), (1, 2)] {
            let got = x.chunks_exact(3).map(|x| f64::from(x[i] * x[j])).sum::<f64>() / 40_000.0;
            let own = if i == j { model.deviations[i].powi(2) } else { 0.0 };
            // Entries are of order 2 at most: five standard errors of 2 sqrt(2 / 40,000).
            assert!((got - own - dot(model.row(i), model.row(j))).abs() <= 0.07, "[{i}][{j}] {got}");
        }
        let (mut again, mut other) = (vec![0.0; 6], vec![0.0; 6]);
        model.draw(1, 4, &mut again);
        model.draw(1, 5, &mut other);
        assert_eq!(again, x[..6]);
        assert_ne!(again, other);
    }
}
