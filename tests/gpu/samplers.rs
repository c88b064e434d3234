//! What the samplers of score heads draw, against laws in closed form.

use arcsm::data::SampleShape;
use arcsm::gpu::Gpu;
use arcsm::nn::{ArCsm, ParamBuffer};
use arcsm::sample::{SampleRequest, Sampler, sample};
use arcsm::trained::Trained;
use statrs::function::erf::erf;

use super::training::small;
use super::{KOLMOGOROV, kolmogorov, shared};

const MEAN: f64 = 0.25;
const SD: f64 = 0.5;
const COUNT: usize = 2000;

/// A model whose network gives 0: by its preconditioning, the score is that of N(mean, sd^2 + sigma^2) at every level.
fn gaussian(gpu: &Gpu) -> Trained {
    let mut config = small("gaussian:8", 1);
    let score = &mut config.model.score;
    (score.mean, score.sd, score.range, score.hidden) = (Some(MEAN as f32), Some(SD as f32), None, vec![4]);
    let shape = SampleShape::Vector { dimensions: 2 };
    let model = ArCsm::new(gpu, &config.model, shape).expect("laid out");
    let weights = ParamBuffer::zeros(gpu, "weights", &model.table).expect("memory");
    Trained { model, weights, config, shape, step: 0, fingerprint: String::new() }
}

/// Variance of x = y + sigma^2 s(y) for y of a variance.
fn denoised(variance: f64, sigma: f64) -> f64 {
    let shrink = SD * SD / (SD * SD + sigma * sigma);
    shrink * shrink * variance
}

/// Variance of y after annealed Langevin steps of size e: each multiplies y by 1 - e sigma^2 / (2 (sd^2 + sigma^2)) and adds
/// noise of variance e sigma^2. For small e it tends to sd^2 + sigma^2 = v; in general, to v / (1 - e sigma^2 / (4 v)).
fn after_langevin(sigmas: &[f64], steps: usize, e: f64) -> f64 {
    let start = SD * SD + sigmas[0] * sigmas[0];
    sigmas.iter().flat_map(|sigma| std::iter::repeat_n(sigma * sigma, steps)).fold(start, |variance, square| {
        let keep = 1.0 - e * square / (2.0 * (SD * SD + square));
        keep * keep * variance + e * square
    })
}

/// The largest statistic over both dimensions of 20 seeds against a Gaussian.
fn worst(gpu: &Gpu, trained: &Trained, sampler: &Sampler, variance: f64) -> f64 {
    let cdf = |x: f64| 0.5 * (1.0 + erf((x - MEAN) / (2.0 * variance).sqrt()));
    let of_seed = |seed| {
        let request = SampleRequest { sampler: sampler.clone(), ..SampleRequest::new(trained, COUNT, seed) };
        let drawn = sample(gpu, trained, &request, &mut |_| {}).expect("samples");
        let of_d = |d: usize| drawn.values.chunks_exact(2).map(|x| f64::from(x[d])).collect();
        kolmogorov(of_d(0), cdf).max(kolmogorov(of_d(1), cdf))
    };
    (0..20).map(of_seed).fold(0.0, f64::max)
}

#[test]
fn multilevel_draws_follow_analytic_conditionals() {
    let Some(gpu) = shared() else { return };
    let trained = gaussian(gpu);
    for sigmas in [vec![1.0_f32, 0.4, 0.1], vec![0.5]] {
        let last = f64::from(sigmas[sigmas.len() - 1]);
        let sampler = Sampler::MultiLevel { sigmas, points: 32 };
        let statistic = worst(gpu, &trained, &sampler, denoised(SD * SD + last * last, last));
        println!("{sampler:?}: {statistic:.2}");
        assert!(statistic <= KOLMOGOROV, "{sampler:?}: {statistic}");
    }
}

/// Annealed Langevin dynamics without a Metropolis step draws from a law of its own, which is known: what tends to the
/// variance v / (1 - a / 2v) for a drift of a s, a = e sigma^2 / 2, where v was wanted.
#[test]
fn langevin_draws_follow_the_law_of_their_steps() {
    let Some(gpu) = shared() else { return };
    let trained = gaussian(gpu);
    for (sigmas, steps, e) in [(vec![1.0_f32, 0.5, 0.25], 10, 0.5), (vec![1.0], 30, 3.0)] {
        let levels: Vec<f64> = sigmas.iter().map(|&sigma| f64::from(sigma)).collect();
        let last = levels[levels.len() - 1];
        let sampler = Sampler::Langevin { sigmas, steps: steps as u32, step_size: e as f32 };
        let variance = after_langevin(&levels, steps, e);
        let statistic = worst(gpu, &trained, &sampler, denoised(variance, last));
        println!("{sampler:?}: {statistic:.2}, variance {variance:.3}");
        assert!(statistic <= KOLMOGOROV, "{sampler:?}: {statistic}");
    }
    // With steps this large the bias is plain to see.
    let sampler = Sampler::Langevin { sigmas: vec![1.0], steps: 30, step_size: 3.0 };
    let (unbiased, tending) = (SD * SD + 1.0, (SD * SD + 1.0) / (1.0 - 3.0 / (4.0 * (SD * SD + 1.0))));
    assert!((after_langevin(&[1.0], 30, 3.0) - tending).abs() <= 1e-6 * tending);
    assert!(worst(gpu, &trained, &sampler, denoised(unbiased, 1.0)) > 2.0 * KOLMOGOROV);
}
