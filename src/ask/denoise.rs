//! Removing noise of a known level from samples, and what can be had at best.

use std::path::Path;
use std::time::Instant;

use crate::ask::evaluate::outside_trained_range;
use crate::ask::sample::given::{Given, KNOWLEDGE_BYTES, Knowledge, Weigh};
use crate::ask::sample::{SampleRequest, Sampler, geometric, sample};
use crate::ask::trained::{Perturbation, Trained};
use crate::codes::Objective;
use crate::data::Samples;
use crate::error::{Error, Result};
use crate::files::image_grid::{Grid, PngText};
use crate::gpu::Gpu;
use crate::host;
use crate::numbers::linear::Cholesky;
use crate::numbers::random::{normal_pair, random_bits, stream};
use crate::order::Permutation;
use crate::shape::SampleShape;

/// Images side by side in a picture.
const SHOWN: usize = 16;
/// Samples that a [`Filter`] is made of, at most.
const FILTER_SAMPLES: usize = 4000;

/// How the clean values are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// x~_d + sigma^2 s_d with contexts from the noisy values: E[x_d | x~_1 .. x~_d] where the model was trained on noisy
    /// contexts (Meng et al. 2020, section 5.3)
    Step,
    /// The same with contexts from the values denoised before; for models trained on clean contexts
    Mean,
    /// A draw of x_d given x~_d and the draws before it, by multi-level quadrature from sigma down; particles weigh in
    /// what comes after
    Draw,
}

/// What to remove, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct DenoiseRequest {
    /// Standard deviation of the noise, in the data's units.
    pub sigma: f32,
    /// How.
    pub method: Method,
    /// `Draw`: draws that are averaged.
    pub draws: usize,
    /// `Draw`: particles of each draw.
    pub particles: usize,
    /// `Draw`: seed.
    pub seed: u64,
}

/// Samples without their noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Denoised {
    /// (N, D)
    pub values: Vec<f32>,
    /// `Step`: the mean squared error that the model itself expects, the mean of sigma^2 (1 + sigma^2 ds_d/dx~_d): the
    /// variance of x_d given x~_1 .. x~_d (Tweedie's formula of second order).
    pub expected_mse: Option<f64>,
    /// Wall time, s.
    pub seconds: f64,
}

impl DenoiseRequest {
    /// One step at a level.
    pub fn new(sigma: f32) -> Self {
        Self { sigma, method: Method::Step, draws: 1, particles: 1, seed: 0 }
    }

    /// What a model was trained for, where it is something else: a line for the user.
    pub fn mismatch(&self, trained: &Trained) -> Option<String> {
        let noise = &trained.config.noise;
        let is_noisy = noise.context >= 0.5 * self.sigma;
        match self.method {
            Method::Step if !is_noisy => Some(format!(
                "the model was trained with contexts of noise {}, one step takes them from values with noise {}; train \
                 with --context-noise {}, or use --method mean",
                noise.context, self.sigma, self.sigma
            )),
            Method::Mean | Method::Draw if is_noisy => Some(format!(
                "the model was trained with contexts of noise {}, this method takes them from denoised values; use \
                 --method step",
                noise.context
            )),
            _ => None,
        }
    }
}

/// Refuses a noise level that the model never saw.
///
/// # Errors
/// Bad input, with the range of training.
pub fn check_sigma(trained: &Trained, sigma: f32) -> Result<()> {
    if matches!(trained.config.train.objective, Objective::Plain | Objective::Weighted) {
        let remedy = "Train with --objective dsm or csm, or go on with --force";
        return Err(Error::input("--sigma", "means nothing to a model that was trained without noise", remedy));
    }
    match outside_trained_range(trained, sigma) {
        None => Ok(()),
        Some(problem) => Err(Error::input("--sigma", problem, "Give a level in that range, or go on with --force")),
    }
}

/// x + sigma eps for samples x (N, D); eps depends on the seed, the sample's number and the dimension alone.
pub fn add_noise(clean: &[f32], dimensions: usize, sigma: f32, seed: u64) -> Vec<f32> {
    let noise = |index: usize| {
        let bits = random_bits(seed, stream::DATA, (index / dimensions) as u32, (index % dimensions) as u32, 0);
        normal_pair(bits[0], bits[1]).0 as f32
    };
    clean.iter().enumerate().map(|(index, x)| x + sigma * noise(index)).collect()
}

/// Estimates the clean values of noisy samples (N, D). `progress` is told the share that is done.
///
/// # Errors
/// Values that do not fit the model, no positive noise level, particles or draws for a method without; a failed adapter.
pub fn denoise(
    gpu: &Gpu,
    trained: &Trained,
    noisy: &[f32],
    request: &DenoiseRequest,
    progress: &mut dyn FnMut(f64),
) -> Result<Denoised> {
    if !(request.sigma.is_finite() && request.sigma > 0.0) {
        return Err(Error::input("--sigma", format!("is {}", request.sigma), "Give a positive noise level"));
    }
    if request.method != Method::Draw && (request.draws, request.particles) != (1, 1) {
        return Err(Error::input("--method", "has one result only", "Use --method draw with draws and particles"));
    }
    let start = Instant::now();
    let (values, expected_mse) = match request.method {
        Method::Step => {
            let (values, expected_mse) = one_step(gpu, trained, noisy, request.sigma)?;
            (values, Some(expected_mse))
        }
        Method::Mean | Method::Draw => (in_sequence(gpu, trained, noisy, request, progress)?, None),
    };
    Ok(Denoised { values, expected_mse, seconds: start.elapsed().as_secs_f64() })
}

/// x~ + sigma^2 s, and the mean of sigma^2 (1 + sigma^2 ds/dx~).
fn one_step(gpu: &Gpu, trained: &Trained, noisy: &[f32], sigma: f32) -> Result<(Vec<f32>, f64)> {
    let at = vec![Perturbation { sigma, eps: 0.0 }; noisy.len()];
    let scores = trained.scores(gpu, noisy, &at)?;
    let values = noisy.iter().zip(&scores.score).map(|(x, s)| x + sigma * sigma * s).collect();
    let variance = f64::from(sigma).powi(2);
    let expected = scores.slope.iter().map(|&slope| variance * (1.0 + variance * f64::from(slope)).max(0.0));
    Ok((values, expected.sum::<f64>() / noisy.len() as f64))
}

/// Dimension after dimension. With one level, the draw is y_0 + sigma^2 s(y_0): the posterior mean.
fn in_sequence(
    gpu: &Gpu,
    trained: &Trained,
    noisy: &[f32],
    request: &DenoiseRequest,
    progress: &mut dyn FnMut(f64),
) -> Result<Vec<f32>> {
    let numbers = [noisy.len(), request.draws, request.particles];
    let remedy = "Give fewer samples, draws or particles at a time";
    host::check_fits("--draws", "the draws", KNOWLEDGE_BYTES, &numbers, remedy)?;
    let dimensions = trained.model.dimensions();
    let lowest = (2.0 * trained.config.noise.sigma_min).min(request.sigma);
    let sigmas = match request.method {
        Method::Draw => geometric(request.sigma, lowest, 3),
        Method::Step | Method::Mean => vec![request.sigma],
    };
    let knowledge = noisy
        .chunks_exact(dimensions)
        .flat_map(|sample| std::iter::repeat_n(sample, request.draws).flatten().map(|&value| Knowledge::Noisy(value)));
    let weigh = if request.particles > 1 { Weigh::AfterUnknown } else { Weigh::Nothing };
    let given = Given { knowledge: knowledge.collect(), particles: request.particles, weigh };
    let sampling = SampleRequest {
        sampler: Sampler::multilevel(sigmas, 32),
        given: Some(given),
        ..SampleRequest::new(trained, noisy.len() / dimensions * request.draws, request.seed)
    };
    let drawn = sample(gpu, trained, &sampling, progress)?;
    let mean_of = |draws: &[f32]| -> Vec<f32> {
        let sum = |d: usize| draws.iter().skip(d).step_by(dimensions).sum::<f32>();
        (0..dimensions).map(|d| sum(d) / request.draws as f32).collect()
    };
    Ok(drawn.values.chunks_exact(request.draws * dimensions).flat_map(mean_of).collect())
}

/// Mean squared difference.
///
/// # Panics
/// When the lengths differ.
pub fn mse(clean: &[f32], other: &[f32]) -> f64 {
    assert_eq!(clean.len(), other.len(), "two versions of the same values");
    clean.iter().zip(other).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>() / clean.len() as f64
}

/// Peak signal-to-noise ratio of values whose range is 1, dB.
pub fn psnr(clean: &[f32], other: &[f32]) -> f64 {
    -10.0 * mse(clean, other).log10()
}

/// The same once the other values are clipped to [0, 1].
pub fn psnr_clipped(clean: &[f32], other: &[f32]) -> f64 {
    psnr(clean, &other.iter().map(|value| value.clamp(0.0, 1.0)).collect::<Vec<_>>())
}

/// The best linear estimate of x_d from x~_1 .. x~_d, as the covariance of some samples has it: what a model has to beat,
/// since it sees no more. (A filter that looks ahead can do better than either.)
///
/// With C + sigma^2 I = L L^T and innovations e = L^-1 (x~ - mean), the noise on x~_d has covariance sigma^2 / L_dd with
/// e_d and none with the innovations before it: the estimate is x~_d - sigma^2 e_d / L_dd.
#[derive(Debug, Clone)]
pub struct Filter {
    order: Permutation,
    mean: Vec<f64>,
    factor: Cholesky,
    variance: f64,
}

impl Filter {
    /// Most dimensions: time and memory grow as D^3 and D^2.
    pub const MOST_DIMENSIONS: usize = 1024;

    /// From the first few thousand samples; None where D is over [`Filter::MOST_DIMENSIONS`].
    ///
    /// # Errors
    /// A file that samples are read from changed or went away.
    pub fn new(samples: &Samples, order: &Permutation, sigma: f32) -> Result<Option<Self>> {
        let dimensions = samples.dimensions();
        if dimensions > Self::MOST_DIMENSIONS {
            return Ok(None);
        }
        let count = samples.len().min(FILTER_SAMPLES);
        let values = order.to_model(&samples.first(count)?, 1);
        let mut mean = vec![0.0; dimensions];
        for sample in values.chunks_exact(dimensions) {
            mean.iter_mut().zip(sample).for_each(|(mean, &x)| *mean += f64::from(x) / count as f64);
        }
        let mut covariance = vec![0.0; dimensions * dimensions];
        let mut centred = vec![0.0; dimensions];
        for sample in values.chunks_exact(dimensions) {
            centred.iter_mut().zip(sample.iter().zip(&mean)).for_each(|(c, (&x, mean))| *c = f64::from(x) - mean);
            for (row, &c) in covariance.chunks_exact_mut(dimensions).zip(&centred).filter(|(_, c)| **c != 0.0) {
                row.iter_mut().zip(&centred).for_each(|(sum, other)| *sum += c * other / count as f64);
            }
        }
        let variance = f64::from(sigma).powi(2);
        (0..dimensions).for_each(|d| covariance[d * dimensions + d] += variance);
        Ok(Some(Self { order: order.clone(), mean, factor: Cholesky::new(covariance, dimensions), variance }))
    }

    /// Estimates of the clean values of noisy samples (N, D).
    pub fn apply(&self, noisy: &[f32]) -> Vec<f32> {
        let dimensions = self.mean.len();
        let mut values = self.order.to_model(noisy, 1);
        for sample in values.chunks_exact_mut(dimensions) {
            let innovations = self.factor.whiten(sample.iter().zip(&self.mean).map(|(&x, mean)| f64::from(x) - mean));
            for (d, (value, innovation)) in sample.iter_mut().zip(innovations).enumerate() {
                *value -= (self.variance * innovation / self.factor.diagonal(d)) as f32;
            }
        }
        self.order.to_data(&values, 1)
    }
}

/// Writes rows of images (N, D), one above the other, the first few of each; `range` is drawn from black to white.
///
/// # Errors
/// Samples that are no images; a file that cannot be written.
pub fn write_rows(path: &Path, rows: &[&[f32]], shape: SampleShape, range: [f64; 2], text: PngText<'_>) -> Result<()> {
    let SampleShape::Image { height, width, channels } = shape else {
        let problem = format!("samples of D = {shape} are no images");
        return Err(Error::input(path.display().to_string(), problem, "Write them with --npy FILE instead"));
    };
    let shown = rows.iter().map(|row| row.len() / shape.dimensions()).min().unwrap_or(0).min(SHOWN);
    let images: Vec<f32> = rows.iter().flat_map(|row| &row[..shown * shape.dimensions()]).copied().collect();
    Grid::new(&images, [height, width, channels], range, Some(shown))?.write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Order;

    #[test]
    fn decibels_of_known_errors() {
        assert!((psnr(&[0.0, 1.0], &[0.1, 0.9]) - 20.0).abs() <= 1e-5);
        assert!((psnr_clipped(&[0.0, 1.0], &[-3.0, 0.8]) - 10.0 * 50f64.log10()).abs() <= 1e-5);
        assert!(mse(&[0.0, f32::NAN], &[0.0, 0.0]).is_nan());
    }

    #[test]
    fn noise_depends_on_seed_and_place_alone() {
        let clean = vec![0.25; 3000];
        let noisy = add_noise(&clean, 3, 0.5, 7);
        assert_eq!(noisy[..30], add_noise(&clean[..30], 3, 0.5, 7));
        assert_ne!(noisy[..30], add_noise(&clean[..30], 3, 0.5, 8)[..]);
        // The mean square of 3,000 normal numbers is 1 within 5 standard errors of sqrt(2 / 3000).
        assert!((mse(&clean, &noisy) / 0.25 - 1.0).abs() <= 5.0 * (2f64 / 3000.0).sqrt());
    }

    #[test]
    fn the_filter_is_the_conditional_mean_of_a_gaussian_in_the_models_order() {
        // x_2 = a, x_1 = a + b of four points whose covariance is exact: var a = 1, var b = 0.25.
        let points = [[1.5, 1.0], [0.5, 1.0], [-0.5, -1.0], [-1.5, -1.0]];
        let samples = Samples::from_floats(2, points.as_flattened().to_vec());
        let filter =
            Filter::new(&samples, &Permutation::new(Order::Reversed, 0, 2), 0.5).expect("in memory").expect("small");
        let (noisy, variance) = ([0.7f32, -0.4], 0.25);
        let [y1, y2] = noisy.map(f64::from);
        // First in the order stands x_2: E[x_2 | y_2] = y_2 var / (var + noise).
        let first = y2 / (1.0 + variance);
        // Then x_1 given both: cov(x_1, (y_1, y_2)) = (1.25, 1), K = [[1.5, 1], [1, 1.25]].
        let determinant = 1.5 * 1.25 - 1.0;
        let second = ((1.25 * 1.25 - 1.0) * y1 + (1.5 - 1.25) * y2) / determinant;
        for (got, want) in filter.apply(&noisy).into_iter().zip([second, first]) {
            assert!((f64::from(got) - want).abs() <= 1e-6, "{got} {want}");
        }
    }
}
