//! What the samplers of score heads draw, against laws in closed form.

use arcsm::ask::sample::{SampleRequest, Sampler, geometric, sample};
use arcsm::ask::trained::Trained;
use arcsm::data::Gaussian;
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::ArCsm;
use arcsm::nn::ParamBuffer;
use arcsm::shape::SampleShape;
use statrs::function::erf::erf;

use super::likelihood::exact_model;
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
    Trained { model, weights, stored: None, config, shape, step: 0, fingerprint: String::new(), note: None }
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

/// Factor of y's deviation from the mean by the Heun steps of the probability-flow ODE.
fn after_heun(sigmas: &[f64]) -> f64 {
    let slope = |sigma: f64| sigma / (SD * SD + sigma * sigma);
    let step = |pair: &[f64]| {
        let (span, here, there) = (pair[0] - pair[1], slope(pair[0]), slope(pair[1]));
        1.0 - 0.5 * span * (here + there * (1.0 - span * here))
    };
    sigmas.windows(2).map(step).product()
}

/// Variance of y after ancestral steps: each multiplies y by 1 - (sigma^2 - sigma'^2) / v and adds its noise.
fn after_ancestral(sigmas: &[f64]) -> f64 {
    sigmas.windows(2).fold(SD * SD + sigmas[0] * sigmas[0], |variance, pair| {
        let (upper, lower) = (pair[0] * pair[0], pair[1] * pair[1]);
        let keep = 1.0 - (upper - lower) / (SD * SD + upper);
        keep * keep * variance + lower / upper * (upper - lower)
    })
}

fn widened(sigmas: &[f32]) -> Vec<f64> {
    sigmas.iter().copied().map(f64::from).collect()
}

/// The largest statistic over both dimensions of 20 seeds against a Gaussian.
fn worst(gpu: &Gpu, trained: &Trained, sampler: &Sampler, variance: f64) -> f64 {
    (0..20).map(|seed| statistic(gpu, trained, sampler, 1.0, seed, variance)).fold(0.0, f64::max)
}

/// The larger statistic of both dimensions against a Gaussian.
fn statistic(gpu: &Gpu, trained: &Trained, sampler: &Sampler, temperature: f32, seed: u64, variance: f64) -> f64 {
    let cdf = |x: f64| 0.5 * (1.0 + erf((x - MEAN) / (2.0 * variance).sqrt()));
    let request = SampleRequest { sampler: sampler.clone(), temperature, ..SampleRequest::new(trained, COUNT, seed) };
    let drawn = sample(gpu, trained, &request, &mut |_| {}).expect("samples");
    let of_d = |d: usize| drawn.values.chunks_exact(2).map(|x| f64::from(x[d])).collect();
    kolmogorov(of_d(0), cdf).max(kolmogorov(of_d(1), cdf))
}

/// Asserts that a sampler draws from a Gaussian of this variance, or that it plainly does not.
#[track_caller]
fn assert_law(gpu: &Gpu, sampler: &Sampler, temperature: f32, variance: f64, follows: bool) {
    let trained = gaussian(gpu);
    let seeds = if temperature == 1.0 { 0..20 } else { 20..24 };
    let of_seed = |seed| statistic(gpu, &trained, sampler, temperature, seed, variance);
    let worst = seeds.map(of_seed).fold(0.0, f64::max);
    println!("{sampler:?} at T = {temperature}: {worst:.2} for variance {variance:.4}");
    assert_eq!(worst <= KOLMOGOROV, follows, "{sampler:?} at T = {temperature}: {worst}");
}

#[test]
fn multilevel_draws_follow_analytic_conditionals() {
    let Some(gpu) = shared() else { return };
    let trained = gaussian(gpu);
    for sigmas in [vec![1.0_f32, 0.4, 0.1], vec![0.5]] {
        let last = f64::from(sigmas[sigmas.len() - 1]);
        let sampler = Sampler::multilevel(sigmas, 32);
        let statistic = worst(gpu, &trained, &sampler, denoised(SD * SD + last * last, last));
        println!("{sampler:?}: {statistic:.2}");
        assert!(statistic <= KOLMOGOROV, "{sampler:?}: {statistic}");
    }
}

/// Standard deviations that a mean or a covariance of the samples may lie from the truth; there are 560 of them.
const MOST_DEVIATIONS: f64 = 4.5;

/// 20,000 samples of D = 32 by exact scores: the errors of all means and covariances are as large as chance makes them.
#[test]
fn samples_of_a_gaussian_have_its_mean_and_covariance() {
    let Some(gpu) = shared() else { return };
    let truth = Gaussian::new(32, 5);
    let trained = exact_model(gpu, &truth);
    let (dimensions, count) = (truth.dimensions(), 20_000);
    let sampler = Sampler::multilevel(vec![0.0], 64);
    let request = SampleRequest { sampler, batch: 1000, ..SampleRequest::new(&trained, count, 7) };
    let drawn = sample(gpu, &trained, &request, &mut |_| {}).expect("samples");
    let rows = || drawn.values.chunks_exact(dimensions);
    let mean_of = |term: &dyn Fn(&[f32]) -> f64| rows().map(term).sum::<f64>() / count as f64;
    let covariance = |i: usize, j: usize| -> f64 {
        let row = |d: usize| &truth.factor()[d * dimensions..][..dimensions];
        row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum()
    };
    let mut deviations = Vec::new();
    for i in 0..dimensions {
        let mean = mean_of(&|x| f64::from(x[i]));
        deviations.push(mean / (covariance(i, i) / count as f64).sqrt());
        for j in 0..=i {
            let product = mean_of(&|x| f64::from(x[i]) * f64::from(x[j]));
            let variance = covariance(i, i) * covariance(j, j) + covariance(i, j).powi(2);
            deviations.push((product - covariance(i, j)) / (variance / count as f64).sqrt());
        }
    }
    let worst = deviations.iter().fold(0.0_f64, |worst, z| worst.max(z.abs()));
    let square = deviations.iter().map(|z| z * z).sum::<f64>() / deviations.len() as f64;
    println!(
        "of {} means and covariances the worst is {worst:.2} deviations off, their square {square:.2}",
        deviations.len()
    );
    assert!(worst <= MOST_DEVIATIONS && square <= 1.5, "{worst} deviations, in square {square}");
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

/// Twelve Heun steps follow the flow of a Gaussian so closely that their own law and the exact one cannot be told apart;
/// two steps cannot.
#[test]
fn flows_draw_from_the_noisy_density_at_the_end() {
    let Some(gpu) = shared() else { return };
    let ladder = |steps: usize| Sampler::Ode { sigmas: geometric(1.0, 0.05, steps + 1), points: 32 };
    let of_steps = |sampler: &Sampler| {
        let sigmas = widened(sampler.noise_levels());
        let factor = after_heun(&sigmas);
        denoised(factor * factor * (SD * SD + sigmas[0] * sigmas[0]), 0.05)
    };
    let exact = denoised(SD * SD + 0.05 * 0.05, 0.05);
    assert_law(gpu, &ladder(12), 1.0, of_steps(&ladder(12)), true);
    assert_law(gpu, &ladder(12), 1.0, exact, true);
    assert_law(gpu, &ladder(1), 1.0, of_steps(&ladder(1)), true);
    assert_law(gpu, &ladder(1), 1.0, exact, false);
}

/// The posterior at the denoised mean is too narrow, as the clean value is not known: few steps show it.
#[test]
fn ancestral_draws_follow_the_law_of_their_steps() {
    let Some(gpu) = shared() else { return };
    let ladder = |steps: usize| Sampler::Ancestral { sigmas: geometric(1.0, 0.05, steps + 1), points: 32 };
    let of_steps = |sampler: &Sampler| denoised(after_ancestral(&widened(sampler.noise_levels())), 0.05);
    let exact = denoised(SD * SD + 0.05 * 0.05, 0.05);
    for steps in [40, 4] {
        assert_law(gpu, &ladder(steps), 1.0, of_steps(&ladder(steps)), true);
    }
    assert_law(gpu, &ladder(4), 1.0, exact, false);
}

/// The Metropolis step takes away the bias that `langevin_draws_follow_the_law_of_their_steps` shows, at the same settings.
#[test]
fn metropolis_adjusted_draws_have_no_bias() {
    let Some(gpu) = shared() else { return };
    for (sigmas, steps, step_size) in [(vec![1.0_f32], 30, 3.0), (vec![1.0, 0.5, 0.25], 40, 2.0)] {
        let last = f64::from(sigmas[sigmas.len() - 1]);
        let exact = denoised(SD * SD + last * last, last);
        assert_law(gpu, &Sampler::Mala { sigmas: sigmas.clone(), steps, step_size }, 1.0, exact, true);
        if last == 1.0 {
            assert_law(gpu, &Sampler::Langevin { sigmas, steps, step_size }, 1.0, exact, false);
        }
    }
    let trained = gaussian(gpu);
    let sampler = Sampler::Mala { sigmas: vec![1.0, 0.25], steps: 20, step_size: 2.0 };
    let drawn = |batch| {
        let request = SampleRequest { sampler: sampler.clone(), batch, ..SampleRequest::new(&trained, 300, 4) };
        sample(gpu, &trained, &request, &mut |_| {}).expect("samples").acceptance
    };
    let (whole, cut) = (drawn(300), drawn(128));
    assert_eq!(whole, cut, "the batch changes what is reported");
    // A step of size e at level sigma moves by about e sigma^2 / v: the smaller, the more is accepted.
    assert!(whole[0].rate > 0.5 && whole[0].rate < whole[1].rate && whole[1].rate < 1.0, "{whole:?}");
}

#[test]
fn a_temperature_scales_the_variance_of_every_sampler() {
    let Some(gpu) = shared() else { return };
    let (points, last, exact) = (32, 0.1, denoised(SD * SD + 0.01, 0.1));
    let sigmas = || geometric(1.0, last, 13);
    let quadrature = Sampler::multilevel(vec![1.0, 0.4, last], points);
    let mala = Sampler::Mala { sigmas: vec![1.0], steps: 30, step_size: 1.5 };
    let langevin = Sampler::Langevin { sigmas: vec![1.0, 0.5], steps: 10, step_size: 0.5 };
    let ancestral = Sampler::Ancestral { sigmas: sigmas(), points };
    for (temperature, t) in [(0.5, 0.5), (2.0, 2.0)] {
        assert_law(gpu, &quadrature, temperature, t * exact, true);
        assert_law(gpu, &Sampler::Ode { sigmas: sigmas(), points }, temperature, t * exact, true);
        let of_steps = denoised(after_langevin(&[1.0, 0.5], 10, 0.5), 0.5);
        assert_law(gpu, &langevin, temperature, t * of_steps, true);
        assert_law(gpu, &mala, temperature, t * denoised(SD * SD + 1.0, 1.0), true);
    }
    assert_law(gpu, &ancestral, 0.5, 0.5 * denoised(after_ancestral(&widened(&sigmas())), f64::from(last)), true);
}

#[test]
fn snapped_values_are_on_levels_and_condition_what_follows() {
    let Some(gpu) = shared() else { return };
    let mut trained = gaussian(gpu);
    trained.config.model.score.range = Some([-1.0, 1.5]);
    for sampler in Sampler::presets(&trained.config) {
        let request = SampleRequest { sampler, ..SampleRequest::new(&trained, 100, 7) };
        let draw = |snap| {
            let request = SampleRequest { snap, ..request.clone() };
            sample(gpu, &trained, &request, &mut |_| {}).expect("samples").values
        };
        let nearest = |x: f32| -1.0 + 0.25 * ((x.clamp(-1.0, 1.5) + 1.0) / 0.25).round_ties_even();
        // The network is blind to the context here: each value is the same as without snapping, to the nearest level.
        let want: Vec<f32> = draw(None).into_iter().map(nearest).collect();
        assert_eq!(draw(Some(11)), want, "{:?}", request.sampler);
    }
    let refusal =
        |request: SampleRequest| sample(gpu, &trained, &request, &mut |_| {}).expect_err("refused").to_string();
    let request = SampleRequest::new(&trained, 1, 0);
    assert!(refusal(SampleRequest { snap: Some(1), ..request.clone() }).contains("2 to 65536"));
    assert!(refusal(SampleRequest { temperature: 0.0, ..request }).contains("positive"));
}
