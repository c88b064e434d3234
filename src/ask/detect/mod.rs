//! Outliers: statistics of the learned scores and densities, and how well each tells outliers from inliers.
//!
//! A value that is high says outlier. Statistics of one side only (densities, sums of squares) take smooth or empty images
//! for the most typical of all; two-sided ones measure the distance from what inliers have (Nalisnick et al., "Detecting
//! out-of-distribution inputs to deep generative models using typicality", 2019), here also over several noise levels at
//! once (after Mahmood et al., "Multiscale score matching for out-of-distribution detection", 2021), and of the parts of a
//! sample: what is usual as a whole may be unusual where it is.

mod distance;
mod roc;
mod sets;

pub use roc::{auroc, false_positive_rate};
pub use sets::Synthetic;

use crate::ask::closed_form;
use crate::ask::likelihood::{Chain, Noisy, RESOLUTION, chain_log_densities, levels_down_to, support};
use crate::ask::sample::geometric;
use crate::ask::trained::{Perturbation, Trained};
use crate::codes::Objective;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::ar_csm::Head;
use crate::numbers::random::{normal_pair, random_bits, stream};
use crate::shape::SampleShape;
use distance::Distance;

/// Parts along each side of an image; samples of other shapes have this many, squared, in a row.
const PARTS: usize = 4;
/// Lowest level of models that were trained on clean values, as a share of the highest.
const LEAST_OF_CLEAN: f32 = 0.06;
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
    /// Grid points that stand for one of its noise levels.
    pub resolution: f32,
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

/// Measures of a part of one sample at one noise level, at x itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct OfPart {
    /// sum sigma s
    sum: f64,
    /// sum sigma^2 s^2
    squares: f64,
}

/// Measures of samples, of which [`Detector`] makes statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// (N, L)
    at_levels: Vec<AtLevel>,
    n_levels: usize,
    /// (N, L, P)
    parts: Vec<OfPart>,
    n_parts: usize,
    /// (N), nats.
    negative_log_density: Vec<f64>,
}

/// What inliers have, so that distances from it can be told.
#[derive(Debug, Clone)]
pub struct Detector {
    sigmas: Vec<f32>,
    median: f64,
    /// Of the measures of whole samples at all levels.
    whole: Distance,
    /// Of those of the parts, for each level and measure.
    parts: Vec<Distance>,
}

impl DetectRequest {
    /// Checks the levels and the grids of the likelihood.
    fn check(&self) -> Result<()> {
        let levels = &self.levels;
        let fall = !levels.is_empty() && levels.windows(2).all(|pair| pair[0] > pair[1]);
        if !fall || !levels.iter().all(|level| level.is_finite() && *level > 0.0) {
            let problem = format!("{levels:?} are no falling, positive noise levels");
            return Err(Error::input("--levels", problem, "Give falling, positive ones"));
        }
        if !(1.0..=100.0).contains(&self.resolution) {
            let remedy = "Give 1 to 100 points a noise level";
            return Err(Error::input("--resolution", format!("is {}", self.resolution), remedy));
        }
        Ok(())
    }

    /// Five levels of the range of training.
    ///
    /// # Errors
    /// A model that was trained without noise, or that has probabilities of levels instead of a density.
    pub fn new(trained: &Trained) -> Result<Self> {
        let noise = &trained.config.noise;
        let refuse = |problem: &str, remedy: &str| Err(Error::input("the model", problem, remedy));
        if matches!(trained.config.train.objective, Objective::Plain | Objective::Weighted) {
            let problem = "was trained without noise, and the statistics compare noise levels";
            return refuse(problem, "Train with --objective dsm or csm, or a head in closed form by ml");
        }
        if trained.config.model.bins.is_some() {
            return refuse("gives probabilities to levels, which have no scores", "Train without --bins");
        }
        // Heads in closed form that learned clean values have every level.
        let least = if noise.sigma_min > 0.0 { 2.0 * noise.sigma_min } else { LEAST_OF_CLEAN * noise.sigma_max };
        let mut sigmas = geometric(noise.sigma_max, least.min(noise.sigma_max), 5);
        sigmas.reverse();
        let levels = levels_down_to(trained, least);
        Ok(Self { sigmas, draws: 2, levels, resolution: RESOLUTION, seed: 0 })
    }
}

/// Measures samples x (N, D), as the model sees them. `progress` is told the share that is done.
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
    request.check()?;
    let (dimensions, n_levels) = (trained.model.dimensions(), request.sigmas.len());
    let part_of = parts_of(trained.shape);
    let n_parts = part_of.iter().max().map_or(0, |last| last + 1);
    let mut at_levels = vec![AtLevel::default(); x.len() / dimensions * n_levels];
    let mut parts = vec![OfPart::default(); at_levels.len() * n_parts];
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
            let at = (first / dimensions + number) * n_levels + level;
            let measures = &mut at_levels[at];
            if set % sets_a_level == 0 {
                measures.see_clean(sigma, scores, slopes);
                for (&s, part) in scores.iter().zip(&part_of) {
                    parts[at * n_parts + part].see(sigma * f64::from(s));
                }
            } else {
                let noise = (0..dimensions).map(|d| f64::from(eps(set, first + number * dimensions + d)));
                let squares = scores.iter().zip(noise).map(|(&s, eps)| (sigma * f64::from(s) + eps).powi(2));
                measures.residual += 0.5 * squares.sum::<f64>() / request.draws as f64;
            }
        }
    })?;
    let densities = match trained.model.head {
        Head::Score(_) => {
            let chain = Chain::new(&request.levels, support(trained, x), request.resolution);
            chain_log_densities(gpu, trained, Noisy { x, y: x }, &chain, progress)?.log_density
        }
        Head::Mixture(_) => {
            let lowest = request.levels[request.levels.len() - 1];
            closed_form::log_densities(gpu, trained, x, x, lowest)?
        }
    };
    let of_sample = |densities: &[f32]| densities.iter().copied().map(f64::from).sum::<f64>();
    let samples = densities.chunks_exact(dimensions).zip(trained.log_scale(x));
    let negative_log_density = samples.map(|(densities, scale)| -of_sample(densities) - scale).collect();
    Ok(Measures { at_levels, n_levels, parts, n_parts, negative_log_density })
}

/// The part of each dimension, in the data's order.
fn parts_of(shape: SampleShape) -> Vec<usize> {
    let dimensions = shape.dimensions();
    let of_side = |at: usize, side: usize| at * PARTS.min(side) / side;
    match shape {
        SampleShape::Image { height, width, channels } => (0..dimensions)
            .map(|d| of_side(d / channels / width, height) * PARTS.min(width) + of_side(d / channels % width, width))
            .collect(),
        SampleShape::Vector { .. } => {
            let parts = (PARTS * PARTS).min(dimensions);
            (0..dimensions).map(|d| d * parts / dimensions).collect()
        }
    }
}

impl OfPart {
    fn see(&mut self, scaled_score: f64) {
        self.sum += scaled_score;
        self.squares += scaled_score * scaled_score;
    }
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
        let parts = self.parts.split_off(count * self.n_levels * self.n_parts);
        let densities = self.negative_log_density.split_off(count);
        Self {
            at_levels: std::mem::replace(&mut self.at_levels, rest),
            n_levels: self.n_levels,
            parts: std::mem::replace(&mut self.parts, parts),
            n_parts: self.n_parts,
            negative_log_density: std::mem::replace(&mut self.negative_log_density, densities),
        }
    }

    fn levels_of(&self, sample: usize) -> &[AtLevel] {
        &self.at_levels[sample * self.n_levels..][..self.n_levels]
    }

    /// What the distances of the parts are taken of: for each level the sums of all parts, then the roots of the squares.
    fn features_of_parts(&self, sample: usize) -> Vec<Vec<f64>> {
        let parts = &self.parts[sample * self.n_levels * self.n_parts..][..self.n_levels * self.n_parts];
        let of_level = |parts: &[OfPart]| {
            [parts.iter().map(|p| p.sum).collect(), parts.iter().map(|p| p.squares.sqrt()).collect()]
        };
        parts.chunks_exact(self.n_parts).flat_map(of_level).collect()
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
        let of_parts: Vec<Vec<Vec<f64>>> = (0..inliers.len()).map(|n| inliers.features_of_parts(n)).collect();
        let of_kind = |kind: usize| of_parts.iter().map(|of_sample| of_sample[kind].clone()).collect::<Vec<_>>();
        Self {
            sigmas: sigmas.to_vec(),
            median: densities[densities.len() / 2],
            whole: Distance::new(&rows),
            parts: (0..of_parts[0].len()).map(|kind| Distance::new(&of_kind(kind))).collect(),
        }
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
        names.push("distance, levels and parts".to_owned());
        names
    }

    /// Number of the statistic to go by where outliers are not known: it combines all the others.
    pub fn combined(&self) -> usize {
        self.names().len() - 1
    }

    /// Every statistic of every sample, (N, S), in the order of [`Detector::names`]:
    ///
    /// | statistic | formula |
    /// |---|---|
    /// | sum of scores | sum_d s_d at the lowest level: the paper's h |
    /// | squared scores | sum_d sigma^2 s_d^2 at each level |
    /// | dsm residual | sum_d 1/2 (sigma s_d + eps_d)^2 at x + sigma eps, at each level and over all of them |
    /// | largest score | max_d \|sigma s_d\| at the lowest level |
    /// | -log density | of the chain that the sampler draws or in closed form, at x in the data's units, exact |
    /// | typicality | distance of that from its median over inliers |
    /// | distance over levels | Mahalanobis distance of all levels' measures from those of inliers |
    /// | distance, levels and parts | that, and the distances of 4 x 4 parts at each level |
    ///
    /// The last is the logarithm of the distance over levels plus the mean of the logarithms of those of the parts (of
    /// their sums and of the roots of their squares), each in standard deviations from its mean over inliers.
    pub fn statistics(&self, measures: &Measures) -> Vec<Vec<f64>> {
        let of_sample = |sample: usize| {
            let levels = measures.levels_of(sample);
            let density = measures.negative_log_density[sample];
            let mut values = vec![levels[0].sum / f64::from(self.sigmas[0])];
            values.extend(levels.iter().map(|level| level.squares));
            values.extend(levels.iter().map(|level| level.residual));
            values.extend([levels.iter().map(|level| level.residual).sum(), levels[0].largest]);
            values.extend([density, (density - self.median).abs(), self.whole.of(&measures.features(sample))]);
            values.push(self.of_levels_and_parts(measures, sample));
            values
        };
        (0..measures.len()).map(of_sample).collect()
    }

    fn of_levels_and_parts(&self, measures: &Measures, sample: usize) -> f64 {
        let of_parts = measures.features_of_parts(sample);
        let standings = self.parts.iter().zip(&of_parts).map(|(distance, features)| distance.standing(features));
        self.whole.standing(&measures.features(sample)) + standings.sum::<f64>() / self.parts.len() as f64
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
        // The first part's share of the sum changes from sample to sample, the second's is the rest.
        let part = |n: usize| {
            let share = 0.1 * (n * 7 % 10) as f64;
            [share, 1.0 - share].map(|share| OfPart { sum: share, squares: share * share })
        };
        let parts = (0..densities.len()).flat_map(|n| [part(n), part(n + 3)]).flatten().collect();
        Measures { at_levels, n_levels: 2, parts, n_parts: 2, negative_log_density: densities.to_vec() }
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

    fn usual() -> Measures {
        measures(&(0..60).map(|n| f64::from(n * 13 % 17)).collect::<Vec<_>>())
    }

    #[test]
    fn distances_are_two_sided_and_know_correlations() {
        let inliers = usual();
        let detector = Detector::new(&[0.5, 1.0], &inliers);
        let of = |measures: &Measures, sample: usize| detector.statistics(measures)[sample][detector.names().len() - 2];
        let own = (0..60).map(|n| of(&inliers, n)).fold(0.0, f64::max);
        for shift in [-80.0, 80.0] {
            let mut far = inliers.clone();
            far.negative_log_density[1] += shift;
            assert!(of(&far, 1) > own, "{shift}");
        }
        // Squares of both levels go together: a sample where they do not is far, though each alone is usual.
        let mut odd = inliers.clone();
        odd.at_levels[1].squares = 500.0;
        assert!(of(&odd, 0) > own);
    }

    #[test]
    fn parts_see_what_is_usual_as_a_whole() {
        let inliers = usual();
        let detector = Detector::new(&[0.5, 1.0], &inliers);
        let mut odd = inliers.clone();
        // The sum over both parts stays.
        (odd.parts[0].sum, odd.parts[1].sum) = (-4.0, 5.0);
        let [before, after] = [&inliers, &odd].map(|measures| detector.statistics(measures)[0].clone());
        let last = before.len() - 1;
        assert_eq!(before[..last], after[..last]);
        assert!(after[last] > before[last] + 0.5, "{} {}", after[last], before[last]);
    }

    #[test]
    fn parts_lie_side_by_side() {
        let image = parts_of(SampleShape::Image { height: 8, width: 4, channels: 2 });
        assert_eq!(image[..8], [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!((image[8], image[16], image[63]), (0, 4, 15));
        assert_eq!(parts_of(SampleShape::Vector { dimensions: 32 })[..5], [0, 0, 1, 1, 2]);
        assert_eq!(parts_of(SampleShape::Vector { dimensions: 3 }), [0, 1, 2]);
        assert_eq!(parts_of(SampleShape::Image { height: 2, width: 2, channels: 1 }), [0, 1, 2, 3]);
    }
}
