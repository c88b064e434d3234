//! Outliers: statistics of the learned scores and densities, and how well each tells outliers from inliers.
//!
//! A value that is high says outlier. Statistics of one side only (densities, sums of squares) take smooth or empty images
//! for the most typical of all; two-sided ones measure the distance from what inliers have (Nalisnick et al., "Detecting
//! out-of-distribution inputs to deep generative models using typicality", 2019), here also over several noise levels at
//! once (after Mahmood et al., "Multiscale score matching for out-of-distribution detection", 2021).

mod roc;
mod sets;

pub use roc::{auroc, false_positive_rate};
pub use sets::Synthetic;

use crate::config::Objective;
use crate::error::{Error, Result};
use crate::given::{Given, Knowledge, Weigh};
use crate::gpu::Gpu;
use crate::likelihood::levels_down_to;
use crate::linear::Cholesky;
use crate::random::{normal_pair, random_bits, stream};
use crate::sample::{SampleRequest, Sampler, geometric, sample};
use crate::trained::{Perturbation, Trained};

/// Share of the covariance's off-diagonal part that is dropped, so that few samples give a usable inverse.
const SHRINKAGE: f64 = 0.05;
/// Keeps logarithms of sums of squares finite.
const LEAST_SQUARE: f64 = 1e-12;

/// What is measured of each sample.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectRequest {
    /// Noise levels at which scores are taken, rising.
    pub sigmas: Vec<f32>,
    /// Draws of noise at each level for the denoising residual.
    pub draws: usize,
    /// Noise levels of the likelihood's chain, falling; one makes it plain quadrature at that level.
    pub levels: Vec<f32>,
    /// Grid points a level.
    pub points: u32,
    /// Seed of the noise.
    pub seed: u64,
}

/// Measures of one sample at one noise level; sums run over the dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct AtLevel {
    /// sum sigma s at x
    sum: f64,
    /// sum sigma^2 s^2 at x
    squares: f64,
    /// sum sigma^2 ds/dx at x
    slopes: f64,
    /// max |sigma s| at x
    largest: f64,
    /// sum 1/2 (sigma s + eps)^2 at x + sigma eps, averaged over the draws
    residual: f64,
}

/// Measures of samples, of which [`Detector`] makes statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// (N, L)
    at_levels: Vec<AtLevel>,
    n_levels: usize,
    /// (N), nats.
    negative_log_density: Vec<f64>,
}

/// What inliers have, so that distances from it can be told.
#[derive(Debug, Clone)]
pub struct Detector {
    sigmas: Vec<f32>,
    median: f64,
    mean: Vec<f64>,
    factor: Cholesky,
}

impl DetectRequest {
    /// Five levels of the range of training.
    ///
    /// # Errors
    /// A model that was trained without noise, or whose head is no score network.
    pub fn new(trained: &Trained) -> Result<Self> {
        let noise = &trained.config.noise;
        trained.model.score_net()?;
        if matches!(trained.config.train.objective, Objective::Plain | Objective::Weighted) {
            let problem = "was trained without noise, and the statistics compare noise levels";
            return Err(Error::input("the model", problem, "Train with --objective dsm or csm"));
        }
        let mut sigmas = geometric(noise.sigma_max, (2.0 * noise.sigma_min).min(noise.sigma_max), 5);
        sigmas.reverse();
        let levels = levels_down_to(trained, 2.0 * noise.sigma_min);
        Ok(Self { sigmas, draws: 2, levels, points: 16, seed: 0 })
    }
}

/// Measures samples x (N, D). `progress` is told the share that is done.
///
/// # Errors
/// Values or settings that do not fit the model; a failed adapter.
pub fn measure(
    gpu: &Gpu,
    trained: &Trained,
    x: &[f32],
    request: &DetectRequest,
    progress: &mut dyn FnMut(f64),
) -> Result<Measures> {
    let (dimensions, n_levels) = (trained.model.dimensions(), request.sigmas.len());
    let mut at_levels = vec![AtLevel::default(); x.len() / dimensions * n_levels];
    // Of each level first the scores at x itself, then those at x with noise.
    let sets_a_level = 1 + request.draws;
    let eps = |set: usize, index: usize| match set % sets_a_level {
        0 => 0.0,
        draw => {
            let step = (set / sets_a_level * request.draws + draw) as u32;
            let (sample, dimension) = ((index / dimensions) as u32, (index % dimensions) as u32);
            let bits = random_bits(request.seed, stream::DATA, sample, dimension, step);
            normal_pair(bits[0], bits[1]).0 as f32
        }
    };
    let perturb =
        |set: usize, index: usize| Perturbation { sigma: request.sigmas[set / sets_a_level], eps: eps(set, index) };
    trained.visit_scores(gpu, x, n_levels * sets_a_level, perturb, &mut |set, first, scores, slopes| {
        let level = set / sets_a_level;
        let sigma = f64::from(request.sigmas[level]);
        let samples = scores.chunks_exact(dimensions).zip(slopes.chunks_exact(dimensions));
        for (number, (scores, slopes)) in samples.enumerate() {
            let measures = &mut at_levels[(first / dimensions + number) * n_levels + level];
            if set % sets_a_level == 0 {
                measures.see_clean(sigma, scores, slopes);
            } else {
                let noise = (0..dimensions).map(|d| f64::from(eps(set, first + number * dimensions + d)));
                let squares = scores.iter().zip(noise).map(|(&s, eps)| (sigma * f64::from(s) + eps).powi(2));
                measures.residual += 0.5 * squares.sum::<f64>() / request.draws as f64;
            }
        }
    })?;
    let given = Given {
        knowledge: x.iter().map(|&value| Knowledge::Value(value)).collect(),
        particles: 1,
        weigh: Weigh::Everything,
    };
    let sampling = SampleRequest {
        sampler: Sampler::MultiLevel { sigmas: request.levels.clone(), points: request.points },
        given: Some(given),
        ..SampleRequest::new(trained, x.len() / dimensions, request.seed)
    };
    let densities = sample(gpu, trained, &sampling, progress)?.log_densities;
    Ok(Measures { at_levels, n_levels, negative_log_density: densities.iter().map(|density| -density).collect() })
}

impl AtLevel {
    fn see_clean(&mut self, sigma: f64, scores: &[f32], slopes: &[f32]) {
        for (&s, &slope) in scores.iter().zip(slopes) {
            let (s, slope) = (sigma * f64::from(s), sigma * sigma * f64::from(slope));
            self.sum += s;
            self.squares += s * s;
            self.slopes += slope;
            self.largest = self.largest.max(s.abs());
        }
    }
}

impl Measures {
    /// N
    pub fn len(&self) -> usize {
        self.negative_log_density.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the measures of the first `count` samples away.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn split_front(&mut self, count: usize) -> Self {
        let rest = self.at_levels.split_off(count * self.n_levels);
        let densities = self.negative_log_density.split_off(count);
        Self {
            at_levels: std::mem::replace(&mut self.at_levels, rest),
            n_levels: self.n_levels,
            negative_log_density: std::mem::replace(&mut self.negative_log_density, densities),
        }
    }

    fn levels_of(&self, sample: usize) -> &[AtLevel] {
        &self.at_levels[sample * self.n_levels..][..self.n_levels]
    }

    /// What the distance over all levels is taken of.
    fn features(&self, sample: usize) -> Vec<f64> {
        let log = |value: f64| value.max(LEAST_SQUARE).ln();
        let of_levels = self.levels_of(sample).iter().flat_map(|m| [m.sum, log(m.squares), m.slopes, log(m.residual)]);
        of_levels.chain([self.negative_log_density[sample]]).collect()
    }
}

impl Detector {
    /// Learns what inliers have from the measures of some of them, which should not be those it is tried on.
    ///
    /// # Panics
    /// When there are none.
    pub fn new(sigmas: &[f32], inliers: &Measures) -> Self {
        assert!(!inliers.is_empty(), "a detector needs inliers");
        let mut densities = inliers.negative_log_density.clone();
        densities.sort_by(f64::total_cmp);
        let rows: Vec<Vec<f64>> = (0..inliers.len()).map(|n| inliers.features(n)).collect();
        let (count, width) = (rows.len() as f64, rows[0].len());
        let mean: Vec<f64> = (0..width).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / count).collect();
        let covariance = |i: usize, j: usize| {
            let sum: f64 = rows.iter().map(|row| (row[i] - mean[i]) * (row[j] - mean[j])).sum();
            sum / (count - 1.0).max(1.0) * if i == j { 1.0 } else { 1.0 - SHRINKAGE }
        };
        let mut matrix: Vec<f64> = (0..width * width).map(|at| covariance(at / width, at % width)).collect();
        // A measure that never varies must not make distances infinite.
        (0..width).for_each(|i| matrix[i * width + i] += 1e-9 * (1.0 + mean[i].powi(2)));
        let median = densities[densities.len() / 2];
        Self { sigmas: sigmas.to_vec(), median, mean, factor: Cholesky::new(matrix, width) }
    }

    /// Names of the statistics.
    pub fn names(&self) -> Vec<String> {
        let at_levels = |what: &str| -> Vec<String> {
            self.sigmas.iter().map(|sigma| format!("{what}, sigma {sigma:.2}")).collect()
        };
        let mut names = vec!["sum of scores".to_owned()];
        names.extend(at_levels("squared scores"));
        names.extend(at_levels("dsm residual"));
        names.extend(["dsm residual, all levels", "largest score"].map(str::to_owned));
        names.extend(["-log density", "typicality", "distance over levels"].map(str::to_owned));
        names
    }

    /// Every statistic of every sample, (N, S), in the order of [`Detector::names`]:
    ///
    /// | statistic | formula |
    /// |---|---|
    /// | sum of scores | sum_d s_d at the lowest level: the paper's h |
    /// | squared scores | sum_d sigma^2 s_d^2 at each level |
    /// | dsm residual | sum_d 1/2 (sigma s_d + eps_d)^2 at x + sigma eps, at each level and over all of them |
    /// | largest score | max_d \|sigma s_d\| at the lowest level |
    /// | -log density | of the chain that the sampler draws, estimated |
    /// | typicality | distance of that from its median over inliers |
    /// | distance over levels | Mahalanobis distance of all levels' measures from those of inliers |
    pub fn statistics(&self, measures: &Measures) -> Vec<Vec<f64>> {
        let of_sample = |sample: usize| {
            let levels = measures.levels_of(sample);
            let density = measures.negative_log_density[sample];
            let mut values = vec![levels[0].sum / f64::from(self.sigmas[0])];
            values.extend(levels.iter().map(|level| level.squares));
            values.extend(levels.iter().map(|level| level.residual));
            values.extend([levels.iter().map(|level| level.residual).sum(), levels[0].largest]);
            values.extend([density, (density - self.median).abs(), self.distance(&measures.features(sample))]);
            values
        };
        (0..measures.len()).map(of_sample).collect()
    }

    /// |L^-1 (features - mean)|
    fn distance(&self, features: &[f64]) -> f64 {
        let centred = features.iter().zip(&self.mean).map(|(feature, mean)| feature - mean);
        self.factor.whiten(centred).iter().map(|w| w * w).sum::<f64>().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two levels; the squares of sample n are (n + 1), its density is `densities[n]`.
    fn measures(densities: &[f64]) -> Measures {
        let of = |n: usize| {
            let square = (n + 1) as f64;
            let low = AtLevel {
                sum: 0.5 - square,
                squares: square,
                slopes: (square * 7.0) % 3.0,
                largest: 2.0,
                residual: square,
            };
            [low, AtLevel { squares: 10.0 * square, residual: 0.5, ..low }]
        };
        let at_levels = (0..densities.len()).flat_map(of).collect();
        Measures { at_levels, n_levels: 2, negative_log_density: densities.to_vec() }
    }

    #[test]
    fn statistics_stand_under_their_names() {
        let inliers = measures(&[4.0, 1.0, 3.0, 2.0, 10.0, -1.0]);
        let detector = Detector::new(&[0.5, 1.0], &inliers);
        let names = detector.names();
        let values = detector.statistics(&measures(&[7.0, -2.0]));
        assert!(values.iter().all(|row| row.len() == names.len()));
        let of = |name: &str, sample: usize| values[sample][names.iter().position(|n| n == name).expect(name)];
        assert_eq!(of("sum of scores", 1), -3.0);
        assert_eq!([of("squared scores, sigma 0.50", 1), of("squared scores, sigma 1.00", 1)], [2.0, 20.0]);
        assert_eq!([of("dsm residual, sigma 0.50", 1), of("dsm residual, all levels", 1)], [2.0, 2.5]);
        assert_eq!([of("-log density", 0), of("typicality", 0), of("typicality", 1)], [7.0, 4.0, 5.0]);
    }

    #[test]
    fn distances_are_two_sided_and_know_correlations() {
        let inliers = measures(&[4.0, 1.0, 3.0, 2.0, 10.0, -1.0, 5.0, 2.5]);
        let detector = Detector::new(&[0.5, 1.0], &inliers);
        let own: Vec<f64> = (0..8).map(|n| detector.distance(&inliers.features(n))).collect();
        // The mean squared distance of the samples that the covariance is of is near the rank of their measures.
        let mean_square = own.iter().map(|d| d * d).sum::<f64>() / 8.0;
        assert!(mean_square > 1.0 && mean_square <= 9.0, "{own:?}");
        for shift in [-40.0, 40.0] {
            let mut far = inliers.clone();
            far.negative_log_density[1] += shift;
            assert!(detector.distance(&far.features(1)) > 2.0 * own[1], "{shift}");
        }
        // Squares of both levels go together: a sample where they do not is far, though each alone is usual.
        let mut odd = inliers.clone();
        odd.at_levels[1].squares = 80.0;
        assert!(detector.distance(&odd.features(0)) > 2.0 * own[0]);
    }
}
