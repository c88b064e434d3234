//! Drawing samples dimension after dimension, each context unit computed once, the state kept on the GPU.

use std::time::{Duration, Instant};

use crate::config::{Config, HeadKind, NoiseConfig, Objective};
use crate::error::{Error, Result};
use crate::given::{Given, Particles};
use crate::gpu::{Gpu, GpuError, Kernel, MAX_ITERATIONS, Recorder, Tensor, Variant, pitch};
use crate::kernels::{CopyColumns, GatherRows, SampleLangevin, SampleMixture, SampleMultilevel};
use crate::nn::{ArCsm, Head, MixtureHead, ScoreNet, StepTile, Workspace};
use crate::trained::Trained;

/// Grid points that the kernel has room for; the first level takes twice [`Sampler::MultiLevel`]'s points.
const MAX_POINTS: u32 = 128;
/// Samples that share the weights of the context network they load, at most.
const MAX_SHARING: usize = 8;

/// How one dimension is drawn from its conditional.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampler {
    /// Multi-level quadrature: an inverse-CDF draw at the first level, then for each lower one a draw given the last.
    MultiLevel {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Grid points a level; the first has twice as many.
        points: u32,
    },
    /// Annealed Langevin dynamics.
    Langevin {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Steps a level.
        steps: u32,
        /// Step size e, in units of sigma^2.
        step_size: f32,
    },
    /// Exact draws from conditionals in closed form: a component by its weight, then a value by its quantile.
    Direct {
        /// Noise level of what is drawn; 0 for clean values.
        sigma: f32,
    },
}

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// How.
    pub sampler: Sampler,
    /// N
    pub count: usize,
    /// Seed; sample n is the same whatever the count, the batch and the chunking.
    pub seed: u64,
    /// Samples worked on together.
    pub batch: usize,
    /// Compute every context by a whole pass of the context network, D times over: the usual way, for comparison.
    pub full_passes: bool,
    /// At most this many dimensions (quadrature) or evaluations (Langevin) in one submission; else as many as fit the
    /// adapter's time budget.
    pub chunk: Option<u32>,
    /// What is known of the samples before they are drawn; as many as `count`.
    pub given: Option<Given>,
}

/// What was drawn.
#[derive(Debug, Clone, PartialEq)]
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
}

impl Sampler {
    /// What draws well from a model: exact draws where its conditionals are in closed form, else multi-level quadrature.
    pub fn default_of(config: &Config) -> Self {
        match config.model.head {
            HeadKind::Score => Self::multilevel_default(&config.noise, config.train.objective),
            HeadKind::Gaussian | HeadKind::Mog | HeadKind::Mol => Self::Direct { sigma: 0.0 },
        }
    }

    /// Three levels for models with noise; one grid for models without.
    pub fn multilevel_default(noise: &NoiseConfig, objective: Objective) -> Self {
        match objective {
            Objective::Csm | Objective::Dsm | Objective::Ml => {
                let top = 0.6 * noise.sigma_max;
                Self::MultiLevel { sigmas: geometric(top, (2.0 * noise.sigma_min).min(top), 3), points: 32 }
            }
            Objective::Plain | Objective::Weighted => Self::MultiLevel { sigmas: vec![0.0], points: MAX_POINTS },
        }
    }

    /// Ten levels over the whole range, 20 steps each.
    pub fn langevin_default(noise: &NoiseConfig) -> Self {
        Self::Langevin { sigmas: geometric(noise.sigma_max, noise.sigma_min, 10), steps: 20, step_size: 1.0 }
    }

    /// Evaluations of the score network for one dimension of one sample.
    pub fn evaluations(&self) -> u64 {
        match self {
            Self::MultiLevel { sigmas, points } => (sigmas.len() as u64 + 1) * u64::from(*points) + 1,
            Self::Langevin { sigmas, steps, .. } => sigmas.len() as u64 * u64::from(*steps) + 1,
            Self::Direct { .. } => 0,
        }
    }

    /// Samples of a workgroup: as few as leave every core of the adapter one, at most as many as a tile takes.
    fn group_samples(&self, gpu: &Gpu, n_samples: usize) -> usize {
        let share = n_samples.div_ceil(gpu.adapter().parallel_groups());
        let tile_rows = self.variant(gpu).tile[0] as usize;
        match self {
            Self::MultiLevel { .. } => share.next_power_of_two().min(MAX_SHARING),
            Self::Langevin { .. } => share.min(tile_rows),
            Self::Direct { .. } => tile_rows,
        }
    }

    /// Of its kernel, for an adapter.
    fn variant(&self, gpu: &Gpu) -> &'static Variant {
        gpu.variant(match self {
            Self::MultiLevel { .. } => SampleMultilevel::SPEC,
            Self::Langevin { .. } => SampleLangevin::SPEC,
            Self::Direct { .. } => SampleMixture::SPEC,
        })
    }

    fn sigmas(&self) -> &[f32] {
        match self {
            Self::MultiLevel { sigmas, .. } | Self::Langevin { sigmas, .. } => sigmas,
            Self::Direct { sigma } => std::slice::from_ref(sigma),
        }
    }

    /// Checks that the settings make sense for a model of these settings.
    ///
    /// # Errors
    /// The setting at fault, with its range.
    pub fn check_for(&self, config: &Config) -> Result<()> {
        let refuse = |problem: &str, remedy: &str| Err(Error::input("sampler", problem, remedy));
        match (self, config.model.head) {
            (Self::Direct { .. }, HeadKind::Score) => {
                refuse("a score head has no quantiles to draw from", "Use `--sampler mlq`, or `langevin`")
            }
            (Self::MultiLevel { .. } | Self::Langevin { .. }, HeadKind::Gaussian | HeadKind::Mog | HeadKind::Mol) => {
                refuse("this model's conditionals are in closed form and drawn exactly", "Use `--sampler direct`")
            }
            _ => self.check(config.train.objective),
        }
    }

    /// Checks that the settings make sense for an objective.
    ///
    /// # Errors
    /// The setting at fault, with its range.
    pub fn check(&self, objective: Objective) -> Result<()> {
        let refuse = |problem: String, remedy: &str| Err(Error::input("sampler", problem, remedy));
        if let Self::Direct { sigma } = self {
            let is_level = sigma.is_finite() && *sigma >= 0.0;
            return if is_level { Ok(()) } else { refuse(format!("level {sigma}"), "Give a level of 0 or more") };
        }
        let without_noise = matches!(objective, Objective::Plain | Objective::Weighted);
        let sigmas = self.sigmas();
        if sigmas.is_empty() || sigmas.windows(2).any(|pair| pair[0] <= pair[1]) {
            return refuse(format!("levels {sigmas:?} do not fall"), "Give falling noise levels");
        }
        if !sigmas.iter().all(|s| s.is_finite() && (*s > 0.0 || without_noise && *s == 0.0)) {
            return refuse(format!("levels {sigmas:?} are not positive"), "Give positive noise levels");
        }
        match self {
            Self::MultiLevel { points, .. } if !(8..=MAX_POINTS).contains(points) => {
                refuse(format!("{points} grid points"), &format!("Give 8 to {MAX_POINTS}"))
            }
            Self::Langevin { .. } if without_noise => {
                refuse("a model without noise levels has nothing to anneal".into(), "Use `--sampler mlq`")
            }
            Self::Langevin { steps, step_size, .. } if *steps == 0 || !(*step_size > 0.0 && step_size.is_finite()) => {
                refuse(format!("{steps} steps of size {step_size}"), "Give at least one step of positive size")
            }
            _ => Ok(()),
        }
    }
}

impl SampleRequest {
    /// `count` samples by the model's default sampler.
    pub fn new(trained: &Trained, count: usize, seed: u64) -> Self {
        let sampler = Sampler::default_of(&trained.config);
        Self { sampler, count, seed, batch: 256, full_passes: false, chunk: None, given: None }
    }
}

impl SampleRequest {
    /// Particles of each sample.
    fn particles(&self) -> usize {
        self.given.as_ref().map_or(1, |given| given.particles)
    }
}

/// `count` levels from `high` down to `low`, each the same factor below the last.
pub fn geometric(high: f32, low: f32, count: usize) -> Vec<f32> {
    let ratio = (low / high).powf(1.0 / (count.max(2) - 1) as f32);
    let mut levels: Vec<f32> = (0..count).map(|i| high * ratio.powi(i as i32)).collect();
    levels.dedup_by(|a, b| a >= b);
    levels
}

/// Draws samples. `progress` is told the share that is done.
///
/// # Errors
/// Settings that make no sense for the model, sizes over the adapter's limits, a failed adapter; something given of another
/// number of samples, or to a sampler other than multi-level quadrature.
pub fn sample(gpu: &Gpu, trained: &Trained, request: &SampleRequest, progress: &mut dyn FnMut(f64)) -> Result<Drawn> {
    request.sampler.check_for(&trained.config)?;
    if let Some(given) = &request.given {
        given.check(trained, request)?;
    }
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
    };
    while drawn.values.len() < request.count * dimensions {
        let first = drawn.values.len() / dimensions;
        let n_samples = particles * (batch / particles).clamp(1, request.count - first);
        let run = SamplerRun::fitting(gpu, trained, request, particles * first, n_samples)?;
        let n_samples = run.n_samples / particles;
        let done = |share: f64| (first as f64 + share * n_samples as f64) / request.count as f64;
        let (values, particles) = run.draw(&mut |share| progress(done(share)))?;
        drawn.values.extend(values);
        drawn.resamplings += particles.as_ref().map_or(0, Particles::resamplings);
        drawn.log_densities.extend(particles.iter().flat_map(Particles::log_densities));
    }
    drawn.seconds = start.elapsed().as_secs_f64();
    Ok(drawn)
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

/// One batch of samples on its way through the dimensions.
struct SamplerRun<'a> {
    gpu: &'a Gpu,
    trained: &'a Trained,
    request: &'a SampleRequest,
    first_sample: usize,
    n_samples: usize,
    /// Samples of a workgroup.
    group_samples: usize,
    /// Samples that a thread computes a unit of the context network for.
    samples_at_a_time: u32,
    /// Loop iterations of a thread for one dimension of the context network, at most.
    context_iterations: u64,
    /// Weights of the score network; those of the context network where the head has none.
    net: Tensor,
    context_net: Tensor,
    tables: Tensor,
    context_table: u32,
    sigma_table: u32,
    given_table: u32,
    context_at: usize,
    state: Tensor,
    /// Where rows of the state go before they come back in another order.
    spare: Option<Tensor>,
    scratch: Tensor,
    /// For full passes only.
    workspace: Option<Workspace>,
}

/// Units of work in order: dimensions, or evaluations of the Langevin chain.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u32,
    end: u32,
}

impl<'a> SamplerRun<'a> {
    /// For `n_samples`, or for so many of them that one unit of work stays within the bound of loop iterations.
    fn fitting(
        gpu: &'a Gpu,
        trained: &'a Trained,
        request: &'a SampleRequest,
        first_sample: usize,
        mut n_samples: usize,
    ) -> Result<Self, GpuError> {
        loop {
            let run = Self::new(gpu, trained, request, first_sample, n_samples)?;
            let is_bounded = gpu.adapter().software;
            if !is_bounded
                || n_samples == request.particles()
                || run.iterations(Span { first: 0, end: 1 }) <= MAX_ITERATIONS
            {
                return Ok(run);
            }
            // Only workgroups of fewer samples have shorter loops.
            n_samples = run.group_samples.div_ceil(2).next_multiple_of(request.particles());
        }
    }

    fn new(
        gpu: &'a Gpu,
        trained: &'a Trained,
        request: &'a SampleRequest,
        first_sample: usize,
        n_samples: usize,
    ) -> Result<Self, GpuError> {
        let (model, weights) = (&trained.model, &trained.weights);
        let context_weights = model.context_net.window(weights);
        let (mut words, net, stash_words) = match &model.head {
            Head::Score(net) => (net.table_words(&model.table), net.window(weights), net.stash_words()),
            Head::Mixture(_) => (Vec::new(), context_weights.clone(), 4),
        };
        let context_table = model.context_net.append_tables(&model.table, &mut words);
        let sigma_table = words.len() as u32;
        words.extend(request.sampler.sigmas().iter().map(|sigma| sigma.to_bits()));
        let given_table = words.len() as u32;
        if let Some(given) = &request.given {
            let groups = first_sample / given.particles..(first_sample + n_samples) / given.particles;
            given.append_table(&model.order, groups, &mut words);
        }
        let group_samples = request.sampler.group_samples(gpu, n_samples);
        let samples_at_a_time = group_samples.next_power_of_two().min(MAX_SHARING) as u32;
        let tile = StepTile::new(request.sampler.variant(gpu), u64::from(samples_at_a_time));
        let run = Self {
            net,
            context_net: context_weights,
            tables: gpu.upload("sampler_tables", &[words.len()], &words)?,
            state: gpu.tensor("sampler_state", &[n_samples, state_words(model)])?,
            spare: (request.particles() > 1)
                .then(|| gpu.tensor("sampler_spare", &[n_samples, state_words(model)]))
                .transpose()?,
            scratch: gpu.tensor("sampler_scratch", &[n_samples.div_ceil(group_samples), stash_words])?,
            workspace: request.full_passes.then(|| model.workspace(gpu, n_samples, 1, false)).transpose()?,
            gpu,
            trained,
            request,
            first_sample,
            n_samples,
            group_samples,
            samples_at_a_time,
            context_iterations: model.context_net.step_iterations(group_samples.min(n_samples) as u64, &tile),
            context_table,
            sigma_table,
            given_table,
            context_at: model.context_net.state_words(),
        };
        gpu.check_binding("ctx weights of the sampler", run.context_net.shape())?;
        Ok(run)
    }

    /// The samples, and of what was given the particles with their weights.
    fn draw(&self, progress: &mut dyn FnMut(f64)) -> Result<(Vec<f32>, Option<Particles>)> {
        let mut recorder = self.gpu.record("sampler_state");
        recorder.clear(&self.state);
        recorder.clear(&self.scratch);
        recorder.submit()?;
        let dimensions = self.trained.model.dimensions() as u32;
        let units = dimensions * self.units_per_dimension();
        let first_group = self.first_sample / self.request.particles();
        let mut particles = self.request.given.as_ref().map(|given| {
            Particles::new(self.request.seed, given.particles, first_group, self.n_samples / given.particles)
        });
        let mut chunk = 1;
        let mut next = 0;
        while next < units {
            // A whole pass of the context network goes before each dimension, so no chunk may cross its end.
            let limit = if self.request.full_passes {
                (next / self.units_per_dimension() + 1) * self.units_per_dimension()
            } else if self.spare.is_some() {
                // How the time falls must not change what is drawn, so weights are looked at after fixed dimensions.
                units.min((next / self.stretch() + 1) * self.stretch())
            } else {
                units
            };
            let span = Span { first: next, end: limit.min(next + chunk) };
            let started = Instant::now();
            self.submit(span)?;
            next = span.end;
            chunk = self.next_chunk(span, started.elapsed());
            if let (Some(particles), Some(spare)) = (&mut particles, &self.spare)
                && next.is_multiple_of(self.stretch())
                && next < units
            {
                self.resample(particles, spare, next)?;
            }
            progress(f64::from(next) / f64::from(units));
        }
        let values = self.read_x()?;
        let Some(mut particles) = particles else { return Ok((values, None)) };
        let chosen = particles.choose(&self.read_log_weights()?, dimensions);
        let of_chosen = chosen.iter().flat_map(|&row| &values[row * dimensions as usize..][..dimensions as usize]);
        Ok((of_chosen.copied().collect(), Some(particles)))
    }

    /// Dimensions between two looks at the weights of particles.
    fn stretch(&self) -> u32 {
        (self.trained.model.dimensions() as u32).div_ceil(128)
    }

    /// Lets particles go on in proportion to their weights, where these have become too unequal.
    fn resample(&self, particles: &mut Particles, spare: &Tensor, dimension: u32) -> Result<()> {
        let Some(resampled) = particles.resample(&self.read_log_weights()?, dimension) else { return Ok(()) };
        let columns = self.state.shape()[1] as u32;
        let origin = self.gpu.upload("origins", &[self.n_samples], &resampled.origins)?;
        let log_weights = self.gpu.upload("log_weights", &[self.n_samples, 1], &resampled.log_weights)?;
        let mut recorder = self.gpu.record("resample");
        let rows = self.n_samples as u32;
        recorder.run(&GatherRows { rows, columns, source: &self.state, origin: &origin, destination: spare })?;
        recorder.copy(spare, &self.state);
        recorder.run(&CopyColumns {
            rows,
            columns: 1,
            source_columns: 1,
            source_at: 0,
            destination_columns: columns,
            destination_at: columns - 1,
            source: &log_weights,
            destination: &self.state,
        })?;
        recorder.submit()?;
        Ok(())
    }

    fn read_log_weights(&self) -> Result<Vec<f32>> {
        let log_weights = self.gpu.tensor("log_weights", &[self.n_samples, 1])?;
        let columns = self.state.shape()[1] as u32;
        let mut recorder = self.gpu.record("read_log_weights");
        recorder.clear(&log_weights);
        recorder.run(&CopyColumns {
            rows: self.n_samples as u32,
            columns: 1,
            source_columns: columns,
            source_at: columns - 1,
            destination_columns: 1,
            destination_at: 0,
            source: &self.state,
            destination: &log_weights,
        })?;
        recorder.submit()?;
        Ok(self.gpu.read::<f32>(&log_weights)?)
    }

    /// Dimensions are the units of the quadrature, evaluations those of the chain.
    fn units_per_dimension(&self) -> u32 {
        match &self.request.sampler {
            Sampler::MultiLevel { .. } | Sampler::Direct { .. } => 1,
            Sampler::Langevin { sigmas, steps, .. } => sigmas.len() as u32 * steps + 1,
        }
    }

    /// As many units as fit the time budget at the speed just seen, within the bound of loop iterations.
    fn next_chunk(&self, span: Span, elapsed: Duration) -> u32 {
        let units = span.end - span.first;
        let affordable = self.gpu.budget().as_secs_f64() / elapsed.as_secs_f64().max(1e-9) * f64::from(units);
        // At most eightfold: the first units may have waited for the shader compiler, or flown past it.
        let mut chunk = (affordable as u32).clamp(1, 8 * units);
        while chunk > 1 && self.iterations(Span { first: 0, end: chunk }) > MAX_ITERATIONS {
            chunk /= 2;
        }
        self.request.chunk.map_or(chunk, |most| chunk.min(most.max(1)))
    }

    fn iterations(&self, span: Span) -> u64 {
        match self.request.sampler {
            Sampler::MultiLevel { .. } => self.multilevel(span).iterations(),
            Sampler::Langevin { .. } => self.langevin(span).iterations(),
            Sampler::Direct { sigma } => self.direct(span, sigma).iterations(),
        }
    }

    fn submit(&self, span: Span) -> Result<(), GpuError> {
        let mut recorder = self.gpu.record("sample");
        if let Some(workspace) = &self.workspace
            && span.first.is_multiple_of(self.units_per_dimension())
        {
            self.context_by_full_pass(&mut recorder, workspace, span.first / self.units_per_dimension())?;
        }
        match self.request.sampler {
            Sampler::MultiLevel { .. } => recorder.run(&self.multilevel(span))?,
            Sampler::Langevin { .. } => recorder.run(&self.langevin(span))?,
            Sampler::Direct { sigma } => recorder.run(&self.direct(span, sigma))?,
        }
        let submission = recorder.submit()?;
        self.gpu.wait_for(&submission)
    }

    fn score_net(&self) -> &ScoreNet {
        match &self.trained.model.head {
            Head::Score(net) => net,
            Head::Mixture(_) => unreachable!("the request was checked against the model's head"),
        }
    }

    fn mixture(&self) -> &MixtureHead {
        match &self.trained.model.head {
            Head::Mixture(head) => head,
            Head::Score(_) => unreachable!("the request was checked against the model's head"),
        }
    }

    fn direct(&self, span: Span, sigma: f32) -> SampleMixture<'_> {
        let (context_net, head) = (&self.trained.model.context_net, self.mixture());
        let constants = context_net.step_constants();
        let [bin_low, bin_high, bin_width] = head.bin_numbers();
        SampleMixture {
            family: head.family as u32,
            context_activation: constants.activation,
            is_image_net: constants.is_image_net,
            residual: constants.residual,
            gate: constants.gate,
            samples: self.group_samples as u32,
            context_iterations: self.context_iterations,
            n_samples: self.n_samples as u32,
            dimensions: context_net.dimensions() as u32,
            context_width: context_net.context() as u32,
            first_dimension: span.first,
            end_dimension: span.end,
            first_sample: self.first_sample as u32,
            seed_low: self.request.seed as u32,
            seed_high: (self.request.seed >> 32) as u32,
            n_context_layers: context_net.n_layers() as u32,
            context_table: self.context_table,
            incremental: u32::from(self.workspace.is_none()),
            context_at: self.context_at as u32,
            state_words: self.state.shape()[1] as u32,
            n_context_net: self.context_net.elements() as u32,
            n_tables: self.tables.elements() as u32,
            components: head.components as u32,
            n_logits: head.n_logits(),
            first_mean: head.first_mean,
            mean_step: head.mean_step,
            mean_unit: head.mean_unit,
            scale_unit: head.scale_unit,
            bin_low,
            bin_high,
            bin_width,
            sigma,
            context_net: &self.context_net,
            tables: &self.tables,
            state: &self.state,
        }
    }

    fn multilevel(&self, span: Span) -> SampleMultilevel<'_> {
        let (context_net, net) = (&self.trained.model.context_net, self.score_net());
        let Sampler::MultiLevel { sigmas, points } = &self.request.sampler else {
            unreachable!("called for the multi-level sampler only")
        };
        let [low, high] = self.range();
        let (constants, score) = (context_net.step_constants(), net.constants());
        SampleMultilevel {
            activation: net.activation() as u32,
            parametrisation: net.parametrisation() as u32,
            context_activation: constants.activation,
            is_image_net: constants.is_image_net,
            residual: constants.residual,
            gate: constants.gate,
            score,
            samples: self.samples_at_a_time,
            tile_iterations: net.forward_iterations(),
            context_iterations: self.context_iterations,
            n_samples: self.n_samples as u32,
            dimensions: context_net.dimensions() as u32,
            context_width: context_net.context() as u32,
            first_dimension: span.first,
            end_dimension: span.end,
            first_sample: self.first_sample as u32,
            seed_low: self.request.seed as u32,
            seed_high: (self.request.seed >> 32) as u32,
            n_context_layers: context_net.n_layers() as u32,
            context_table: self.context_table,
            sigma_table: self.sigma_table,
            n_levels: sigmas.len() as u32,
            points: *points,
            incremental: u32::from(self.workspace.is_none()),
            context_at: self.context_at as u32,
            state_words: self.state.shape()[1] as u32,
            n_groups: self.scratch.shape()[0] as u32,
            scratch_words: self.scratch.shape()[1] as u32,
            given_at: if self.request.given.is_some() { self.given_table } else { 0 },
            particles: self.request.particles() as u32,
            n_net: self.net.elements() as u32,
            n_context_net: self.context_net.elements() as u32,
            n_tables: self.tables.elements() as u32,
            mean: net.mean(),
            sd: net.sd(),
            low,
            high,
            net: &self.net,
            context_net: &self.context_net,
            tables: &self.tables,
            state: &self.state,
            scratch: &self.scratch,
        }
    }

    fn langevin(&self, span: Span) -> SampleLangevin<'_> {
        let (context_net, net) = (&self.trained.model.context_net, self.score_net());
        let Sampler::Langevin { sigmas, steps, step_size } = &self.request.sampler else {
            unreachable!("called for the Langevin sampler only")
        };
        let (constants, score) = (context_net.step_constants(), net.constants());
        SampleLangevin {
            activation: net.activation() as u32,
            parametrisation: net.parametrisation() as u32,
            context_activation: constants.activation,
            is_image_net: constants.is_image_net,
            residual: constants.residual,
            gate: constants.gate,
            score,
            samples: self.samples_at_a_time,
            tile_iterations: net.forward_iterations(),
            context_iterations: self.context_iterations,
            n_samples: self.n_samples as u32,
            dimensions: context_net.dimensions() as u32,
            context_width: context_net.context() as u32,
            first_evaluation: span.first,
            end_evaluation: span.end,
            first_sample: self.first_sample as u32,
            seed_low: self.request.seed as u32,
            seed_high: (self.request.seed >> 32) as u32,
            n_context_layers: context_net.n_layers() as u32,
            context_table: self.context_table,
            sigma_table: self.sigma_table,
            n_levels: sigmas.len() as u32,
            steps: *steps,
            incremental: u32::from(self.workspace.is_none()),
            context_at: self.context_at as u32,
            state_words: self.state.shape()[1] as u32,
            group_samples: self.group_samples as u32,
            n_groups: self.scratch.shape()[0] as u32,
            scratch_words: self.scratch.shape()[1] as u32,
            n_net: self.net.elements() as u32,
            n_context_net: self.context_net.elements() as u32,
            n_tables: self.tables.elements() as u32,
            mean: net.mean(),
            sd: net.sd(),
            step_size: *step_size,
            net: &self.net,
            context_net: &self.context_net,
            tables: &self.tables,
            state: &self.state,
            scratch: &self.scratch,
        }
    }

    /// The data's range as training saw it; without it, four standard deviations round the mean.
    fn range(&self) -> [f32; 2] {
        let net = self.score_net();
        let around_mean = [net.mean() - 4.0 * net.sd(), net.mean() + 4.0 * net.sd()];
        let [low, high] = self.trained.config.model.score.range.unwrap_or(around_mean);
        // Mass lies a little beyond what was seen in training, the more so without noise levels to reach it.
        let margin = (high - low) * if self.request.sampler.sigmas()[0] > 0.0 { 0.05 } else { 0.2 };
        [low - margin, high + margin]
    }

    fn context_by_full_pass(
        &self,
        recorder: &mut Recorder<'_>,
        workspace: &Workspace,
        dimension: u32,
    ) -> Result<(), GpuError> {
        let context_net = &self.trained.model.context_net;
        recorder.run(&self.copy_x(&workspace.x))?;
        context_net.forward(recorder, &self.trained.weights, &workspace.x, &workspace.context_net, None)?;
        let contexts = workspace.context_net.context();
        recorder.run(&CopyColumns {
            rows: self.n_samples as u32,
            columns: context_net.context() as u32,
            source_columns: contexts.shape()[1] as u32,
            source_at: dimension * context_net.context() as u32,
            destination_columns: self.state.shape()[1] as u32,
            destination_at: self.context_at as u32,
            source: contexts,
            destination: &self.state,
        })
    }

    /// From the head of each sample's state.
    fn copy_x<'t>(&'t self, x: &'t Tensor) -> CopyColumns<'t> {
        CopyColumns {
            rows: self.n_samples as u32,
            columns: x.shape()[1] as u32,
            source_columns: self.state.shape()[1] as u32,
            source_at: 0,
            destination_columns: x.shape()[1] as u32,
            destination_at: 0,
            source: &self.state,
            destination: x,
        }
    }

    fn read_x(&self) -> Result<Vec<f32>> {
        let x = self.gpu.tensor("samples", &[self.n_samples, self.trained.model.dimensions()])?;
        let mut recorder = self.gpu.record("read_samples");
        recorder.clear(&x);
        recorder.run(&self.copy_x(&x))?;
        recorder.submit()?;
        let values = self.gpu.read::<f32>(&x)?;
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite {
                what: format!(
                    "value {} of sample {}",
                    bad % self.trained.model.dimensions(),
                    bad / self.trained.model.dimensions()
                ),
                step: self.trained.step,
                remedy: "Train longer, or use fewer Langevin steps of a smaller size".into(),
            });
        }
        Ok(self.trained.model.order.to_data(&values, 1))
    }
}
