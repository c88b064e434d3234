//! Drawing samples dimension after dimension, each context unit computed once, the state kept on the GPU.

pub mod given;
mod run;
mod sampler;

pub(crate) use sampler::{GRID_LINES, MALA_LINES, lines_of_thread, most_samples};
pub use sampler::{Sampler, SamplerCost, geometric};

use std::ops::Range;
use std::time::Instant;

use serde::Serialize;

use crate::ask::sample::given::{Given, KNOWLEDGE_BYTES, Particles};
use crate::ask::trained::Trained;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, pitch};
use crate::host;
use crate::models::ar_csm::{ArCsm, HeadKind};
use crate::numbers::random::{random_bits, stream};
use run::SamplerRun;

/// How often samples outside are drawn again at most.
const REDRAWS: u32 = 6;
/// Most levels that values are snapped to.
const MOST_SNAP_LEVELS: u32 = 65_536;

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// How.
    pub sampler: Sampler,
    /// Number of the first sample: those of a seed can be drawn in pieces.
    pub first: usize,
    /// N
    pub count: usize,
    /// Seed; sample n is the same whatever the count, the batch and the chunking.
    pub seed: u64,
    /// Samples worked on together.
    pub batch: usize,
    /// Compute every context by a whole pass of the context network, D times over: the usual way, for comparison.
    pub full_passes: bool,
    /// At most this many dimensions (quadrature, ladders) or rounds (chains) in one submission; else as many as fit the
    /// adapter's time budget.
    pub chunk: Option<u32>,
    /// What is known of the samples before they are drawn; as many as `count`.
    pub given: Option<Given>,
    /// T: 1 draws from the model as it is, less sharpens. Conditionals of a Gaussian get T times the variance by every
    /// sampler; in general the meaning is the sampler's own:
    ///
    /// | sampler | meaning |
    /// |---|---|
    /// | multi-level quadrature | the density on every level's grid to the power 1/T |
    /// | Langevin | noise of T times the variance: for small steps the law of every level to the power 1/T |
    /// | Metropolis-adjusted | the law of every level to the power 1/T |
    /// | probability flow | the density of the first level to the power 1/T |
    /// | ancestral | that, and noise of T times the variance |
    /// | direct, Gaussians | every component with its weight to the power 1/T: exact as far as they do not overlap |
    /// | direct, logistics | refused: the power of a logistic is none |
    pub temperature: f32,
    /// Snap every value to the nearest of this many equidistant levels of the data's range, before the next one is drawn
    /// given it: 256 for 8-bit images, 17 for the embedded digits.
    pub snap: Option<u32>,
    /// Keep samples that lie outside the range of a table's training rows by more than [`Standard::margin`](crate::standard::Standard::margin). Else they are drawn
    /// again: what no row showed is a guess of the model's tails, and one such row in a thousand moves a standard deviation.
    pub keep_outliers: bool,
}

/// What was drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawn {
    /// (N, D), in the data's order of dimensions.
    pub values: Vec<f32>,
    /// Wall time, s.
    pub seconds: f64,
    /// Multiply-adds that the context network took for one sample.
    pub context_multiply_adds: u64,
    /// Evaluations of the score network for one dimension.
    pub score_evaluations: u64,
    /// (N), nats: for samples of which something was given, log of the estimated density of what [`Given::weigh`] names,
    /// given what precedes it; else empty.
    pub log_densities: Vec<f64>,
    /// How often the particles of a sample were drawn anew by their weights.
    pub resamplings: u64,
    /// Of the Metropolis-adjusted sampler, at each level: else empty.
    pub acceptance: Vec<Acceptance>,
    /// How many samples were drawn again, as they lay outside the range of the training rows.
    pub redrawn: usize,
    /// How many of them lie outside all the same.
    pub outside: usize,
}

/// How many proposals were accepted at a noise level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Acceptance {
    /// The level.
    pub sigma: f32,
    /// The share, over all samples, dimensions and steps.
    pub rate: f64,
}

impl Drawn {
    /// Adds another piece's numbers but for its values: that of `share` of all samples.
    pub(crate) fn add(&mut self, piece: &Self, share: f64) {
        self.seconds += piece.seconds;
        (self.context_multiply_adds, self.score_evaluations) = (piece.context_multiply_adds, piece.score_evaluations);
        self.resamplings += piece.resamplings;
        self.redrawn += piece.redrawn;
        self.outside += piece.outside;
        self.acceptance.resize(piece.acceptance.len(), Acceptance { sigma: 0.0, rate: 0.0 });
        for (sum, of_piece) in self.acceptance.iter_mut().zip(&piece.acceptance) {
            *sum = Acceptance { sigma: of_piece.sigma, rate: sum.rate + share * of_piece.rate };
        }
    }
}

impl SampleRequest {
    /// `count` samples by the model's default sampler.
    pub fn new(trained: &Trained, count: usize, seed: u64) -> Self {
        Self {
            sampler: Sampler::default_of(&trained.config),
            first: 0,
            count,
            seed,
            batch: 256,
            full_passes: false,
            chunk: None,
            given: None,
            temperature: 1.0,
            snap: None,
            keep_outliers: false,
        }
    }

    /// Particles of each sample.
    fn particles(&self) -> usize {
        self.given.as_ref().map_or(1, |given| given.particles)
    }

    /// Checks that the settings make sense for a model.
    ///
    /// # Errors
    /// The setting at fault, with its range.
    pub fn check(&self, trained: &Trained) -> Result<()> {
        self.sampler.check_for(&trained.config)?;
        self.check_temperature(&trained.config)?;
        self.check_snap(&trained.config)?;
        self.check_count(trained)?;
        self.given.as_ref().map_or(Ok(()), |given| given.check(trained, self))
    }

    fn check_count(&self, trained: &Trained) -> Result<()> {
        let refuse = |problem: String, remedy: &str| Err(Error::input("the count", problem, remedy));
        let last = self.first.checked_add(self.count).and_then(|count| count.checked_mul(self.particles()));
        if self.count == 0 || last.is_none_or(|last| last > u32::MAX as usize) {
            let problem = format!("is {} samples of {} particles", self.count, self.particles());
            return refuse(problem, "Give at least 1, and fewer than 2^32 samples times particles");
        }
        if self.first > 0 && self.given.is_some() {
            return refuse("starts after the samples of which something is given".into(), "Start at 0");
        }
        // What is known and drawn of each value.
        let numbers = [self.count, self.particles(), trained.model.dimensions()];
        let bytes = if self.given.is_some() { KNOWLEDGE_BYTES } else { 4 };
        host::check_fits("the count", "the samples", bytes, &numbers, "Ask for fewer at a time")
    }

    fn check_temperature(&self, config: &Config) -> Result<()> {
        let temperature = self.temperature;
        let refuse = |problem: String, remedy: &str| Err(Error::input("temperature", problem, remedy));
        if !(temperature > 0.0 && temperature.is_finite()) {
            return refuse(format!("is {temperature}"), "Give a positive number; 1 draws from the model as it is");
        }
        if temperature == 1.0 {
            return Ok(());
        }
        if config.model.head == HeadKind::Mol {
            let problem = "has no meaning for a mixture of logistics: the power of a logistic is none";
            return refuse(problem.into(), "Leave it at 1, or train with --head mog");
        }
        if self.given.is_some() {
            let problem = "has no meaning where values are given: their weights are densities of the model as it is";
            return refuse(problem.into(), "Leave it at 1");
        }
        Ok(())
    }

    fn check_snap(&self, config: &Config) -> Result<()> {
        let Some(count) = self.snap else { return Ok(()) };
        let refuse = |problem: String, remedy: String| Err(Error::input("snapping", problem, remedy));
        if !(2..=MOST_SNAP_LEVELS).contains(&count) {
            return refuse(format!("to {count} levels"), format!("Give 2 to {MOST_SNAP_LEVELS}"));
        }
        if let Some(bins) = config.model.bins {
            let problem = format!("of what is drawn on the {bins} levels of the model's bins already");
            return refuse(problem, "Leave it out".into());
        }
        if config.model.score.range.is_none() {
            let problem = "needs the data's range, which this checkpoint does not tell".into();
            return refuse(problem, "Leave it out, or train again".into());
        }
        Ok(())
    }

    /// First and last level, and their distance.
    fn snap_numbers(&self, config: &Config) -> [f32; 3] {
        match (self.snap, config.model.score.range) {
            (Some(count), Some([low, high])) => [low, high, (high - low) / (count - 1) as f32],
            _ => [0.0; 3],
        }
    }
}

/// Draws samples. `progress` is told the share that is done.
///
/// # Errors
/// Settings that make no sense for the model, sizes over the adapter's limits, a failed adapter; something given of another
/// number of samples, or to a sampler other than multi-level quadrature.
pub fn sample(gpu: &Gpu, trained: &Trained, request: &SampleRequest, progress: &mut dyn FnMut(f64)) -> Result<Drawn> {
    request.check(trained)?;
    let start = Instant::now();
    let dimensions = trained.model.dimensions();
    let batch = fitting_batch(gpu, trained, request);
    let passes = if request.full_passes { dimensions as u64 } else { 1 };
    let particles = request.particles();
    let mut drawn = Drawn {
        values: Vec::with_capacity(request.count * dimensions),
        seconds: 0.0,
        context_multiply_adds: passes * trained.model.context_net.multiply_adds(),
        score_evaluations: request.sampler.evaluations(),
        log_densities: Vec::new(),
        resamplings: 0,
        acceptance: Vec::new(),
        redrawn: 0,
        outside: 0,
    };
    let mut runs = Vec::new();
    let mut accepted = vec![0; request.sampler.noise_levels().len()];
    while drawn.values.len() < request.count * dimensions {
        let first = drawn.values.len() / dimensions;
        let n_samples = particles * (batch / particles).clamp(1, request.count - first);
        let run = SamplerRun::fitting(gpu, trained, request, particles * (request.first + first), n_samples)?;
        let n_samples = run.n_samples / particles;
        let done = |share: f64| (first as f64 + share * n_samples as f64) / request.count as f64;
        let (values, particles) = run.draw(&mut |share| progress(done(share)))?;
        runs.push(first..first + n_samples);
        drawn.values.extend(values);
        accepted.iter_mut().zip(run.accepted()?).for_each(|(sum, count)| *sum += count);
        drawn.resamplings += particles.as_ref().map_or(0, Particles::resamplings);
        drawn.log_densities.extend(particles.iter().flat_map(Particles::log_densities));
    }
    if let Sampler::Mala { sigmas, steps, .. } = &request.sampler {
        let proposals = (request.count * dimensions) as f64 * f64::from(*steps);
        let rates = sigmas.iter().zip(accepted);
        drawn.acceptance = rates.map(|(&sigma, count)| Acceptance { sigma, rate: count as f64 / proposals }).collect();
    }
    redraw(gpu, trained, request, &runs, &mut drawn)?;
    drawn.seconds = start.elapsed().as_secs_f64();
    Ok(drawn)
}

/// Draws samples again that lie outside the range of the training rows, each with other random numbers of its own, so that
/// they too are the same whatever the count and the batch.
fn redraw(
    gpu: &Gpu,
    trained: &Trained,
    request: &SampleRequest,
    runs: &[Range<usize>],
    drawn: &mut Drawn,
) -> Result<()> {
    let dimensions = trained.model.dimensions();
    let Some(standard) = trained.standard().filter(|standard| standard.columns.len() == dimensions) else {
        return Ok(());
    };
    if request.keep_outliers || request.given.is_some() {
        return Ok(());
    }
    let margin = standard.margin();
    let is_outside = |values: &[f32]| standard.is_outside(values, margin);
    for round in 0..=REDRAWS {
        let outside: Vec<usize> =
            (0..request.count).filter(|n| is_outside(&drawn.values[n * dimensions..][..dimensions])).collect();
        drawn.outside = outside.len();
        if round == 0 {
            drawn.redrawn = outside.len();
        }
        if outside.is_empty() || round == REDRAWS {
            break;
        }
        let bits = random_bits(request.seed, stream::REDRAWS, round, 0, 0);
        let again = SampleRequest { seed: u64::from(bits[0]) << 32 | u64::from(bits[1]), ..request.clone() };
        for run in runs.iter().filter(|run| outside.iter().any(|n| run.contains(n))) {
            let again = SamplerRun::fitting(gpu, trained, &again, request.first + run.start, run.len())?;
            let (values, _) = again.draw(&mut |_| {})?;
            for n in outside.iter().filter(|n| run.contains(n)) {
                let fresh = &values[(n - run.start) * dimensions..][..dimensions];
                drawn.values[n * dimensions..][..dimensions].copy_from_slice(fresh);
            }
        }
    }
    Ok(())
}

/// As many samples of a batch as the adapter can hold the state of.
fn fitting_batch(gpu: &Gpu, trained: &Trained, request: &SampleRequest) -> usize {
    let limit = gpu.adapter().max_binding_bytes;
    let state = 4 * state_words(&trained.model) as u64;
    let batch = request.batch.min((limit / state) as usize);
    if request.full_passes { trained.model.fitting_batch(gpu, batch) } else { batch }
}

/// x, what the context network keeps, and context of a sample, a place for the chain's y, and at last its log weight.
fn state_words(model: &ArCsm) -> usize {
    model.context_net.state_words() + pitch(model.context_net.context()) + 4
}
