//! Held-out losses and likelihoods of a trained model: what `arcsm evaluate` reports.
//!
//! A model with noise levels has a density of y_d = x_d + sigma eps for every sigma. Nats are sums over d of
//! -log p(y_d | x_<d), with contexts of the clean x. What that says of data on n + 1 levels (8-bit images: n = 255) is a bound
//! on the length of a code for the clean values themselves: a y is drawn from the model, and then a level v with probability
//! proportional to N(y; v/n, sigma^2). That is a distribution over levels, so for each value
//!
//! ```text
//! -log P(v_d | v_<d)  <=  E[ -log p(y_d | x_<d) + log sum over levels u of N(y_d; u/n, sigma^2) ]
//! ```
//!
//! which is -log p + log n nats away from the ends of the range. Without noise levels the values are dequantised by uniform
//! noise of one cell (Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016), the same bound.

use std::f64::consts::{LN_2, TAU};

use serde::Serialize;

use crate::ask::likelihood::{
    self, Chain, ChainDensities, Flow, FlowDensities, Level, Noisy, chain_log_densities, flow_log_densities,
};
use crate::ask::trained::{Perturbation, Trained};
use crate::data::Density;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};
use crate::shape::SampleShape;

/// Samples whose scores are worked on together.
const BATCH: usize = 64;
/// Samples that are read by the flow at most, where the caller does not say: enough for a second opinion.
const MOST_IN_FLOW: usize = 100;
/// Grid points at the highest noise level, between which the flow takes its density to be linear in logarithms.
const FLOW_TOP_POINTS: f32 = 60.0;
/// Numbers of steps between the levels of quantised data that are looked for: two levels, 4 bits, the digits, 8 bits.
const QUANTA: [u32; 4] = [1, 15, 16, 255];

/// What to evaluate, and how finely.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateRequest {
    /// Noise levels that densities are asked at; 0 for a model without noise.
    pub sigmas: Vec<f32>,
    /// Levels of the chain above them; when absent, those of the default sampler.
    pub levels: Option<Vec<f32>>,
    /// Grid points that stand for one noise level.
    pub resolution: f32,
    /// Range of the data that grids span, beside their margins; when absent, that of the training data and the samples.
    pub support: Option<[f32; 2]>,
    /// Seed of the noise.
    pub seed: u64,
    /// Samples that are read by the probability-flow ODE too, which costs far more than the chain; when absent, so many
    /// that this takes about as long as the chain of all samples.
    pub flow_count: Option<usize>,
    /// Heun steps of the ODE.
    pub flow_steps: u32,
}

impl EvaluateRequest {
    /// The model's least noise level and the default sampler's levels.
    pub fn new(trained: &Trained) -> Self {
        let sigma = if likelihood::has_noise(trained) { trained.config.noise.sigma_min } else { 0.0 };
        Self {
            sigmas: vec![sigma],
            levels: None,
            resolution: likelihood::RESOLUTION,
            support: None,
            seed: 0,
            flow_count: None,
            flow_steps: 32,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The setting at fault, with its range.
    pub fn check(&self, trained: &Trained) -> Result<()> {
        let refuse = |subject: &str, problem: String, remedy: &str| Err(Error::input(subject, problem, remedy));
        let levels = self.levels.iter().flatten().copied();
        let noisy = likelihood::has_noise(trained);
        for sigma in self.sigmas.iter().copied().chain(levels.clone()) {
            if !noisy && sigma != 0.0 {
                let problem = format!("is {sigma}, but the model was trained without noise levels");
                return refuse("--sigma", problem, "Leave --sigma and --levels out for this model");
            }
            if noisy && !(sigma > 0.0 && sigma.is_finite()) {
                return refuse("--sigma", format!("is {sigma}, noise levels are positive"), "Give levels such as 0.03");
            }
        }
        if levels.clone().zip(levels.skip(1)).any(|(above, below)| above <= below) {
            return refuse("--levels", format!("{:?} do not fall", self.levels), "Give falling levels such as 0.6,0.2");
        }
        if !(self.resolution >= 0.5 && self.resolution <= 100.0) {
            return refuse("--resolution", format!("is {}", self.resolution), "Give 0.5 to 100 points a noise level");
        }
        if self.support.is_some_and(|[low, high]| !(low < high && (high - low).is_finite())) {
            return refuse("--range", format!("{:?} is empty", self.support), "Give LOW,HIGH with LOW < HIGH");
        }
        if !(1..=10_000).contains(&self.flow_steps) {
            return refuse("--flow-steps", format!("is {}", self.flow_steps), "Give 1 to 10000");
        }
        Ok(())
    }
}

/// Why scores at a noise level mean nothing, where it lies outside the range that the model was trained on.
pub fn outside_trained_range(trained: &Trained, sigma: f32) -> Option<String> {
    let (low, high) = (trained.config.noise.sigma_min, trained.config.noise.sigma_max);
    // Levels are often typed with fewer digits than they have.
    let inside = !likelihood::has_noise(trained) || (0.999 * low..=1.001 * high).contains(&sigma);
    (!inside).then(|| format!("noise level {sigma} lies outside the range the model was trained on, {low} to {high}"))
}

/// A mean over samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// Mean.
    pub mean: f64,
    /// Its standard error; 0 for one sample.
    pub standard_error: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, standard_error: (squares / (n - 1.0).max(1.0) / n).sqrt() }
    }
}

/// All that is reported.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// N
    pub samples: usize,
    /// D
    pub dimensions: usize,
    /// Steps between the levels of quantised images, 255 for 8 bits.
    pub quanta: Option<u32>,
    /// Losses over the noise levels of the training.
    pub losses: Losses,
    /// One for each noise level asked for.
    pub levels: Vec<AtLevel>,
}

/// Losses, averaged over samples and summed over dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Losses {
    /// sigma^2 (1/2 s^2 + ds/dx~); without the factor for models without noise levels.
    pub csm: f64,
    /// 1/2 (sigma s + eps)^2; none without noise.
    pub dsm: Option<f64>,
}

/// What the densities at one noise level say.
#[derive(Debug, Clone, Serialize)]
pub struct AtLevel {
    /// The noise level.
    pub sigma: f32,
    /// What was added to the clean values.
    pub noise: &'static str,
    /// Losses at this level alone.
    pub losses: Losses,
    /// -log p of the multi-level chain: exact and normalised, the density that is sampled.
    pub nats: Mean,
    /// The same in bits for a value.
    pub bits_per_dimension: Mean,
    /// What these bits are.
    pub bits_meaning: String,
    /// Levels and grids of the chain.
    pub chain: Chain,
    /// Mean change of the nats when every grid has half as many points.
    pub grid_error: f64,
    /// Largest such change of a sample, without its sign.
    pub worst_grid_error: f64,
    /// Largest |1 - integral| of a conditional over all grid points; 0 but for rounding, by construction.
    pub integral_error: f64,
    /// The same by every second point.
    pub coarse_integral_error: f64,
    /// Mass of the conditionals that may lie beyond the grids.
    pub cut_off: CutOff,
    /// What wider grids change, where the mass beyond them is notable.
    pub widened: Option<Widened>,
    /// -log p by quadrature of the score at this level alone: normalised, but the weights of separated modes are arbitrary.
    pub one_level: Option<Mean>,
    /// The probability-flow ODE.
    pub flow: Option<FlowReading>,
    /// Nats of the noise alone: no density of the noisy values can have fewer on average.
    pub noise_floor: f64,
    /// Where the density of the data is known.
    pub truth: Option<Truth>,
    /// Of every sample.
    #[serde(skip)]
    pub of_samples: Vec<OfSample>,
}

/// Mass that may lie beyond the ends of the grids, if densities go on to fall as they do there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CutOff {
    /// Of the worst conditional.
    pub worst: f64,
    /// Mean over all conditionals; times D, about the nats that the cut is worth.
    pub mean: f64,
    /// How many conditionals lose more than [`CutOff::NOTABLE`].
    pub notable: usize,
}

impl CutOff {
    /// Mass that is worth a warning.
    pub const NOTABLE: f64 = 1e-3;

    fn of(masses: &[f32]) -> Self {
        let masses = || masses.iter().map(|&mass| f64::from(mass));
        Self {
            worst: masses().fold(0.0, f64::max),
            mean: masses().sum::<f64>() / masses().count() as f64,
            notable: masses().filter(|&mass| mass > Self::NOTABLE).count(),
        }
    }
}

/// What grids that reach further change of the samples whose conditionals have most mass beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Widened {
    /// How many samples.
    pub samples: usize,
    /// Their mean change in nats.
    pub change: f64,
    /// The range that the wider grids span, in the model's units.
    pub range: [f32; 2],
}

impl Widened {
    /// Samples that are looked at.
    const SAMPLES: usize = 8;
    /// A change that is worth a warning: about what 100 samples tell of a mean.
    const NOTABLE: f64 = 0.05;

    /// Whether the result is another one.
    pub fn matters(&self) -> bool {
        self.change.is_nan() || self.change.abs() > Self::NOTABLE
    }
}

/// Share of its mass that a conditional may gain or lose by the grid that it was integrated on.
const MOST_INTEGRAL_ERROR: f64 = 0.01;

impl AtLevel {
    /// Why its nats cannot be those of the model, and what helps, where that is so: integrals that are not 1, or fewer nats than
    /// the noise alone has.
    pub fn unsound(&self, dimensions: usize) -> Option<(String, &'static str)> {
        if self.integral_error > MOST_INTEGRAL_ERROR {
            let what = format!("a conditional's integral is off by {:.1} %", 100.0 * self.integral_error);
            return Some((what, "Raise --resolution, or narrow the grids with --range LOW,HIGH"));
        }
        // The noise that was drawn has its own mean, with this standard deviation.
        let samples = self.of_samples.len() as f64;
        let chance = 5.0 * (0.5 * dimensions as f64 / samples).sqrt();
        (self.sigma > 0.0 && self.nats.mean < self.noise_floor - chance).then(|| {
            let (nats, floor) = (self.nats.mean, self.noise_floor);
            let what = format!("{nats:.3} nats are fewer than the {floor:.3} that the noise alone has");
            (what, "Raise --resolution, and widen the grids with --range LOW,HIGH; else train longer")
        })
    }
}

/// The probability-flow ODE's reading of the first samples.
#[derive(Debug, Clone, Serialize)]
pub struct FlowReading {
    /// How many samples.
    pub samples: usize,
    /// Heun steps.
    pub steps: u32,
    /// -log p as the ODE has it; its conditionals do not integrate to 1.
    pub raw: Mean,
    /// The same, each conditional divided by its integral over the grid.
    pub normalised: Mean,
    /// Mean integral of a conditional.
    pub mean_mass: f64,
    /// The chain's nats of the same samples.
    pub chain: Mean,
}

/// The data's own density at the noisy values.
#[derive(Debug, Clone, Serialize)]
pub struct Truth {
    /// -log p
    pub nats: Mean,
    /// The model's nats less the true ones.
    pub difference: Mean,
}

impl Truth {
    /// From -log p of every sample, as the model and as the data's own density have it.
    pub fn of(nats: &[f64], truth: &[f64]) -> Self {
        let differences: Vec<f64> = nats.iter().zip(truth).map(|(nats, truth)| nats - truth).collect();
        Self { nats: Mean::of(truth), difference: Mean::of(&differences) }
    }
}

/// Nats of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OfSample {
    /// Chain.
    pub nats: f64,
    /// The same in bits for a value.
    pub bits_per_dimension: f64,
    /// With half as many grid points.
    pub nats_of_half_grid: f64,
    /// One level.
    pub one_level: Option<f64>,
    /// Probability flow.
    pub flow_raw: Option<f64>,
    /// Probability flow, normalised.
    pub flow_normalised: Option<f64>,
    /// The data's own density.
    pub truth: Option<f64>,
}

/// Evaluates samples x (N, D), as the model sees them. `density` is the data's own where it is known. `progress` is told the
/// share that is done. Nats are of a density in the data's units.
///
/// # Errors
/// Settings that make no sense for the model, numbers of values that do not fit it, a failed adapter, a density that is
/// not finite.
pub fn evaluate(
    gpu: &Gpu,
    trained: &Trained,
    x: &[f32],
    density: Option<&Density>,
    request: &EvaluateRequest,
    progress: &mut dyn FnMut(f64),
) -> Result<Evaluation> {
    request.check(trained)?;
    let dimensions = trained.model.dimensions();
    if x.is_empty() || !x.len().is_multiple_of(dimensions) {
        let problem = format!("{} values, the model has D = {dimensions}", x.len());
        return Err(Error::input("samples", problem, "Give (N, D), N at least 1"));
    }
    let quanta = quanta_of(trained.shape, x);
    let task = Task { gpu, trained, x, density, request, quanta };
    let losses = task.losses_over_all_levels()?;
    let n_levels = request.sigmas.len() as f64;
    let mut levels = Vec::with_capacity(request.sigmas.len());
    for (index, &sigma) in request.sigmas.iter().enumerate() {
        levels.push(task.at_level(sigma, &mut |share| progress((index as f64 + share) / n_levels))?);
    }
    Ok(Evaluation { samples: x.len() / dimensions, dimensions, quanta, losses, levels })
}

/// The number of steps between levels that all values of images lie on.
fn quanta_of(shape: SampleShape, x: &[f32]) -> Option<u32> {
    let on_levels = |n: u32| {
        x.iter().all(|&value| {
            let scaled = value * n as f32;
            (0.0..=1.0).contains(&value) && (scaled - scaled.round()).abs() <= 1e-3
        })
    };
    matches!(shape, SampleShape::Image { .. }).then(|| QUANTA.into_iter().find(|&n| on_levels(n))).flatten()
}

/// One evaluation under way.
struct Task<'a> {
    gpu: &'a Gpu,
    trained: &'a Trained,
    x: &'a [f32],
    density: Option<&'a Density>,
    request: &'a EvaluateRequest,
    quanta: Option<u32>,
}

impl Task<'_> {
    /// The four random words of value `index`.
    fn bits(&self, index: usize) -> [u32; 4] {
        let dimensions = self.trained.model.dimensions();
        let (sample, dimension) = (index / dimensions, index % dimensions);
        random_bits(self.request.seed, stream::ROW_NOISE, sample as u32, dimension as u32, 0)
    }

    /// Levels log-uniform over the range of the training, each value its own.
    fn losses_over_all_levels(&self) -> Result<Losses> {
        let noise = &self.trained.config.noise;
        let (low, high) = (f64::from(noise.sigma_min).ln(), f64::from(noise.sigma_max).ln());
        self.losses(|bits| (low + (high - low) * uniform(bits[2])).exp() as f32)
    }

    fn losses(&self, sigma_of: impl Fn([u32; 4]) -> f32) -> Result<Losses> {
        let noisy = likelihood::has_noise(self.trained);
        let dimensions = self.trained.model.dimensions();
        let (mut csm, mut dsm) = (0.0, 0.0);
        for (part, x) in self.x.chunks(BATCH * dimensions).enumerate() {
            let at = |i: usize| {
                let bits = self.bits(part * BATCH * dimensions + i);
                let sigma = if noisy { sigma_of(bits) } else { 0.0 };
                Perturbation { sigma, eps: normal_pair(bits[0], bits[1]).0 as f32 }
            };
            let at: Vec<Perturbation> = (0..x.len()).map(at).collect();
            let scores = self.trained.scores(self.gpu, x, &at)?;
            csm += scores.csm_loss * x.len() as f64;
            dsm += scores.dsm_loss * x.len() as f64;
        }
        let values = self.x.len() as f64;
        Ok(Losses { csm: csm / values, dsm: noisy.then_some(dsm / values) })
    }

    /// The values that densities are asked at, and what was added to the clean ones.
    fn noisy_values(&self, sigma: f32) -> (Vec<f32>, &'static str) {
        let values = self.x.iter().enumerate();
        match self.quanta {
            _ if sigma > 0.0 => {
                let eps = |i| normal_pair(self.bits(i)[0], self.bits(i)[1]).0 as f32;
                (values.map(|(i, x)| x + sigma * eps(i)).collect(), "Gaussian noise of standard deviation sigma")
            }
            Some(n) => {
                let cell = |i| (uniform(self.bits(i)[2]) - 0.5) as f32 / n as f32;
                (values.map(|(i, x)| x + cell(i)).collect(), "uniform noise of one quantum (dequantisation)")
            }
            None => (self.x.to_vec(), "nothing"),
        }
    }

    fn at_level(&self, sigma: f32, progress: &mut dyn FnMut(f64)) -> Result<AtLevel> {
        let (y, noise) = self.noisy_values(sigma);
        let noisy = Noisy { x: self.x, y: &y };
        let support = self.request.support.unwrap_or_else(|| likelihood::support(self.trained, self.x));
        let sigmas: Vec<f32> = match &self.request.levels {
            Some(levels) => levels.iter().copied().filter(|&level| level > sigma).chain([sigma]).collect(),
            None => likelihood::levels_down_to(self.trained, sigma),
        };
        let chain = Chain::new(&sigmas, support, self.request.resolution);

        // The parts' shares of the work, roughly: the flow takes each grid point through many steps.
        let grid_points = |chain: &Chain| chain.levels.iter().map(|level| f64::from(level.points)).sum::<f64>();
        let of_chain = 1.5 * grid_points(&chain) + f64::from(chain.last().points);
        let flow_work = 4.0 * f64::from(self.request.flow_steps) * f64::from(chain.last().points);
        let affordable = ((of_chain * self.samples() as f64 / flow_work) as usize).clamp(1, MOST_IN_FLOW);
        let flow_samples = match sigma > 0.0 {
            true => self.request.flow_count.unwrap_or(affordable).min(self.samples()),
            false => 0,
        };
        let of_flow = flow_work * flow_samples as f64 / self.samples() as f64;
        let mut done = 0.0;
        let mut stage = |work: f64, share: f64| {
            progress((done + work * share) / (of_chain + of_flow));
            if share >= 1.0 {
                done += work;
            }
        };

        let fine_work = grid_points(&chain);
        let fine = chain_log_densities(self.gpu, self.trained, noisy, &chain, &mut |share| stage(fine_work, share))?;
        let coarse = chain_log_densities(self.gpu, self.trained, noisy, &chain.coarser(), &mut |share| {
            stage(0.5 * fine_work, share)
        })?;
        let single = Chain { levels: vec![chain.last()] };
        let one_level = match chain.levels.len() {
            1 => None,
            _ => Some(chain_log_densities(self.gpu, self.trained, noisy, &single, &mut |share| {
                stage(f64::from(chain.last().points), share)
            })?),
        };
        let flow = self.flow(noisy, chain.last(), support, flow_samples, &mut |share| stage(of_flow, share))?;
        progress(1.0);
        let widened = self.widened(&y, &sigmas, support, &fine)?;
        let parts = Parts { fine, coarse, one_level, flow, widened };
        self.report(sigma, noise, &y, chain, &parts)
    }

    /// Reads the samples with most mass beyond the grids again on wider ones: a fall that goes on as it began is a guess.
    fn widened(
        &self,
        y: &[f32],
        sigmas: &[f32],
        [low, high]: [f32; 2],
        fine: &ChainDensities,
    ) -> Result<Option<Widened>> {
        if CutOff::of(&fine.cut_off).worst <= CutOff::NOTABLE {
            return Ok(None);
        }
        let dimensions = self.trained.model.dimensions();
        let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value)).sum::<f64>();
        let mut by_mass: Vec<(f64, usize)> =
            fine.cut_off.chunks_exact(dimensions).map(sum).enumerate().map(|(n, mass)| (mass, n)).collect();
        by_mass.sort_by(|a, b| b.0.total_cmp(&a.0));
        by_mass.truncate(Widened::SAMPLES);
        let of = |values: &[f32]| -> Vec<f32> {
            by_mass.iter().flat_map(|&(_, n)| &values[n * dimensions..][..dimensions]).copied().collect()
        };
        let (x, y, before) = (of(self.x), of(y), of(&fine.log_density));
        let margin = 0.5 * (high - low);
        let range = [low - margin, high + margin];
        let chain = Chain::new(sigmas, range, self.request.resolution);
        let wide = chain_log_densities(self.gpu, self.trained, Noisy { x: &x, y: &y }, &chain, &mut |_| {})?;
        let change = (sum(&before) - sum(&wide.log_density)) / by_mass.len() as f64;
        Ok(Some(Widened { samples: by_mass.len(), change, range }))
    }

    fn samples(&self) -> usize {
        self.x.len() / self.trained.model.dimensions()
    }

    /// None for no samples.
    fn flow(
        &self,
        noisy: Noisy<'_>,
        bottom: Level,
        support: [f32; 2],
        samples: usize,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Option<FlowDensities>> {
        let sigma_max = self.trained.config.noise.sigma_max;
        if samples == 0 || sigma_max <= bottom.sigma {
            return Ok(None);
        }
        let top = Level::new(sigma_max, support, FLOW_TOP_POINTS);
        let flow = Flow { bottom, top, steps: self.request.flow_steps };
        let values = samples * self.trained.model.dimensions();
        let first = Noisy { x: &noisy.x[..values], y: &noisy.y[..values] };
        flow_log_densities(self.gpu, self.trained, first, &flow, progress).map(Some)
    }

    fn report(&self, sigma: f32, noise: &'static str, y: &[f32], chain: Chain, parts: &Parts) -> Result<AtLevel> {
        let dimensions = self.trained.model.dimensions();
        let log_scale = self.trained.log_scale(y);
        let sums_of = |logs: &[f32]| -> Vec<f64> {
            logs.chunks_exact(dimensions).map(|logs| logs.iter().map(|&log| f64::from(log)).sum()).collect()
        };
        // Of a density in the data's units.
        let nats_of = |logs: &[f32]| -> Vec<f64> {
            sums_of(logs).iter().zip(&log_scale).map(|(log, scale)| -log - scale).collect()
        };
        let nats = nats_of(&parts.fine.log_density);
        let of_half = nats_of(&parts.coarse.log_density);
        let one_level = parts.one_level.as_ref().map(|densities| nats_of(&densities.log_density));
        let flow_raw = parts.flow.as_ref().map_or_else(Vec::new, |flow| nats_of(&flow.raw));
        let log_mass = parts.flow.as_ref().map_or_else(Vec::new, |flow| {
            sums_of(&flow.mass.iter().map(|mass| mass.max(f32::MIN_POSITIVE).ln()).collect::<Vec<_>>())
        });
        let truth = self.true_nats(y, sigma);
        let (extra_nats, bits_meaning) = self.nats_to_code(y, sigma, &log_scale);
        let of_samples: Vec<OfSample> = (0..nats.len())
            .map(|n| OfSample {
                nats: nats[n],
                bits_per_dimension: (nats[n] + extra_nats[n]) / (dimensions as f64 * LN_2),
                nats_of_half_grid: of_half[n],
                one_level: one_level.as_ref().map(|nats| nats[n]),
                flow_raw: flow_raw.get(n).copied(),
                flow_normalised: flow_raw.get(n).map(|raw| raw + log_mass[n]),
                truth: truth.as_ref().map(|nats| nats[n]),
            })
            .collect();
        let mean = |value: &dyn Fn(&OfSample) -> Option<f64>| {
            let values: Vec<f64> = of_samples.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| Mean::of(&values))
        };
        let differences: Vec<f64> = nats.iter().zip(&of_half).map(|(fine, coarse)| coarse - fine).collect();
        let flow = match (&parts.flow, mean(&|s| s.flow_raw), mean(&|s| s.flow_normalised)) {
            (Some(flow), Some(raw), Some(normalised)) => Some(FlowReading {
                samples: flow_raw.len(),
                steps: self.request.flow_steps,
                raw,
                normalised,
                mean_mass: flow.mass.iter().map(|&mass| f64::from(mass)).sum::<f64>() / flow.mass.len() as f64,
                chain: Mean::of(&nats[..flow_raw.len()]),
            }),
            _ => None,
        };
        let truth = truth.map(|truth| Truth::of(&nats, &truth));
        let variance = f64::from(sigma).powi(2);
        Ok(AtLevel {
            sigma,
            noise,
            losses: self.losses(|_| sigma)?,
            nats: Mean::of(&nats),
            bits_per_dimension: Mean::of(&of_samples.iter().map(|s| s.bits_per_dimension).collect::<Vec<_>>()),
            bits_meaning,
            chain,
            grid_error: Mean::of(&differences).mean,
            worst_grid_error: differences.iter().fold(0.0, |worst, change| change.abs().max(worst)),
            integral_error: parts.fine.integral_error,
            coarse_integral_error: parts.fine.coarse_integral_error,
            cut_off: CutOff::of(&parts.fine.cut_off),
            widened: parts.widened,
            one_level: mean(&|s| s.one_level),
            flow,
            noise_floor: 0.5 * dimensions as f64 * (1.0 + (TAU * variance).ln()) - Mean::of(&log_scale).mean,
            truth,
            of_samples,
        })
    }

    /// What turns nats of y into nats of a code, for each sample, and what that code is of. Levels are those of the values
    /// that the model sees, whatever the data's unit.
    fn nats_to_code(&self, y: &[f32], sigma: f32, log_scale: &[f64]) -> (Vec<f64>, String) {
        let dimensions = self.trained.model.dimensions();
        let Some(n) = self.quanta else {
            let of = if sigma > 0.0 { "the noisy values" } else { "the values" };
            return (vec![0.0; self.samples()], format!("differential entropy of {of}, which depends on their unit"));
        };
        let depth = match n {
            255 => "8-bit values".into(),
            n => format!("values on {} levels", n + 1),
        };
        let per_value = |y: &f32| match sigma > 0.0 {
            true => log_sum_of_levels(f64::from(*y), f64::from(sigma), n),
            false => f64::from(n).ln(),
        };
        let of_sample = |(y, scale): (&[f32], &f64)| y.iter().map(per_value).sum::<f64>() + scale;
        let extra = y.chunks_exact(dimensions).zip(log_scale).map(of_sample).collect();
        (extra, format!("upper bound on the bits that code the clean {depth}, lossless"))
    }

    /// Nats of the data's own density, where it is known, under noise in the data's units.
    fn true_nats(&self, y: &[f32], sigma: f32) -> Option<Vec<f64>> {
        if self.trained.standard().is_some() {
            return None;
        }
        let dimensions = self.trained.model.dimensions();
        let double = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let samples = self.x.chunks_exact(dimensions).zip(y.chunks_exact(dimensions));
        match self.density? {
            density if sigma == 0.0 => Some(density.nats(self.x)),
            Density::Gaussian(gaussian) if self.trained.model.order.is_natural() => {
                let nats = |(x, y)| -gaussian.noisy_log_density(&double(x), &double(y), f64::from(sigma));
                Some(samples.map(nats).collect())
            }
            _ => None,
        }
    }
}

/// All densities at one noise level.
struct Parts {
    fine: ChainDensities,
    coarse: ChainDensities,
    one_level: Option<ChainDensities>,
    flow: Option<FlowDensities>,
    widened: Option<Widened>,
}

/// log sum over u = 0 .. n of N(y; u/n, sigma^2).
fn log_sum_of_levels(y: f64, sigma: f64, n: u32) -> f64 {
    let squares = |u: u32| ((y - f64::from(u) / f64::from(n)) / sigma).powi(2);
    let least = (0..=n).map(squares).fold(f64::INFINITY, f64::min);
    let sum: f64 = (0..=n).map(|u| (-0.5 * (squares(u) - least)).exp()).sum();
    sum.ln() - 0.5 * least - 0.5 * (TAU * sigma * sigma).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_their_standard_errors() {
        let mean = Mean::of(&[1.0, 2.0, 6.0]);
        assert!((mean.mean - 3.0).abs() <= 1e-12 && (mean.standard_error - (14.0f64 / 6.0).sqrt()).abs() <= 1e-12);
        assert_eq!(Mean::of(&[4.0]).standard_error, 0.0);
    }

    #[test]
    fn levels_of_quantised_images_are_found() {
        let image = SampleShape::Image { height: 1, width: 3, channels: 1 };
        assert_eq!(quanta_of(image, &[0.0, 1.0, 1.0]), Some(1));
        assert_eq!(quanta_of(image, &[0.0, 5.0 / 16.0, 1.0]), Some(16));
        assert_eq!(quanta_of(image, &[7.0 / 255.0, 200.0 / 255.0, 1.0]), Some(255));
        assert_eq!(quanta_of(image, &[0.0, 0.123_456, 1.0]), None);
        assert_eq!(quanta_of(image, &[0.0, 2.0, 1.0]), None);
        assert_eq!(quanta_of(SampleShape::Vector { dimensions: 3 }, &[0.0, 1.0, 1.0]), None);
    }

    #[test]
    fn a_code_of_levels_costs_log_n_more_in_the_middle_and_less_at_the_ends() {
        let (sigma, n) = (0.03, 255);
        assert!((log_sum_of_levels(0.41, sigma, n) - 255f64.ln()).abs() <= 1e-9);
        assert!((log_sum_of_levels(0.0, sigma, n) - 127.5f64.ln()).abs() <= 0.06);
    }

    #[test]
    fn the_bound_holds_for_a_density_that_knows_the_level() {
        // One value, always at level 3 of 0 ..= 16, and the density of its noisy version: all that is left is what the
        // noise hides of the level.
        let (sigma, n, x) = (0.05f64, 16, 3.0 / 16.0);
        let mut sum = 0.0;
        for i in 0..4000 {
            let bits = random_bits(1, stream::DATA, i, 0, 0);
            let eps = normal_pair(bits[0], bits[1]).0;
            let nats = 0.5 * eps * eps + 0.5 * (TAU * sigma * sigma).ln();
            sum += (nats + log_sum_of_levels(x + sigma * eps, sigma, n)) / 4000.0;
        }
        // Noise as wide as 0.8 levels: log(0.8 sqrt(2 pi e)), with a standard error of 0.01.
        let want = (sigma * f64::from(n)).ln() + 0.5 * (1.0 + TAU.ln());
        assert!((sum - want).abs() <= 0.05, "{sum} {want}");
    }
}
