//! One batch of samples on its way through the dimensions.

use crate::nn::net::StepTile;
use std::time::{Duration, Instant};

use super::sampler::MAX_SHARING;
use super::{SampleRequest, Sampler, lines_of_thread, state_words};
use crate::ask::sample::given::Particles;
use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuError, Kernel, MAX_ITERATIONS, Needs, Recorder, Tensor, Variant};
use crate::kernels::{CopyColumns, GatherRows, SampleLangevin, SampleMala, SampleMixture, SampleMultilevel, SampleOde};
use crate::models::ar_csm::{Head, MixtureHead, ScoreNet, Workspace};

/// A dispatch of a sampler of score heads: what all of them have, and its own fields.
macro_rules! score_sampler {
    ($run:expr, $kernel:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {{
        let (run, context_net, net) = ($run, &$run.trained.model.context_net, $run.score_net());
        let constants = context_net.step_constants();
        let [snap_low, snap_high, snap_width] = run.snap;
        $kernel {
            activation: net.activation() as u32,
            parametrisation: net.parametrisation() as u32,
            context_activation: constants.activation,
            is_image_net: constants.is_image_net,
            residual: constants.residual,
            gate: constants.gate,
            score: net.constants(),
            samples: run.samples_at_a_time,
            tile_iterations: net.forward_iterations(),
            context_iterations: run.context_iterations,
            n_samples: run.n_samples as u32,
            dimensions: context_net.dimensions() as u32,
            context_width: context_net.context() as u32,
            first_sample: run.first_sample as u32,
            seed_low: run.request.seed as u32,
            seed_high: (run.request.seed >> 32) as u32,
            n_context_layers: context_net.n_layers() as u32,
            context_table: run.context_table,
            sigma_table: run.sigma_table,
            n_levels: run.request.sampler.noise_levels().len() as u32,
            incremental: u32::from(run.workspace.is_none()),
            context_at: run.context_at as u32,
            state_words: run.state.shape()[1] as u32,
            n_groups: run.scratch.shape()[0] as u32,
            scratch_words: run.scratch.shape()[1] as u32,
            n_net: run.net.elements() as u32,
            n_context_net: run.context_net.elements() as u32,
            n_tables: run.tables.elements() as u32,
            mean: net.mean(),
            sd: net.sd(),
            temperature: run.request.temperature,
            snap_low,
            snap_high,
            snap_width,
            net: &run.net,
            context_net: &run.context_net,
            tables: &run.tables,
            state: &run.state,
            scratch: &run.scratch,
            $($field $(: $value)?,)*
        }
    }};
}

/// A batch of samples with its state.
pub(super) struct SamplerRun<'a> {
    gpu: &'a Gpu,
    trained: &'a Trained,
    request: &'a SampleRequest,
    first_sample: usize,
    pub(super) n_samples: usize,
    /// Of the sampler's kernel.
    variant: &'static Variant,
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
    /// First and last of the data's levels, and their distance; 0 where values are not snapped to them.
    snap: [f32; 3],
    state: Tensor,
    /// Where rows of the state go before they come back in another order.
    spare: Option<Tensor>,
    /// Accepted proposals, (n, L): of the Metropolis-adjusted sampler only.
    accepted: Option<Tensor>,
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
    pub(super) fn fitting(
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
        words.extend(request.sampler.noise_levels().iter().map(|sigma| sigma.to_bits()));
        let given_table = words.len() as u32;
        if let Some(given) = &request.given {
            let groups = first_sample / given.particles..(first_sample + n_samples) / given.particles;
            given.append_table(&model.order, groups, &mut words);
        }
        let variant = request.sampler.variant(gpu, model);
        let group_samples = request.sampler.group_samples(gpu, variant, n_samples);
        let samples_at_a_time = group_samples.next_power_of_two().min(MAX_SHARING) as u32;
        // In the variant for hardware, activations stay in the workgroup's memory.
        let scratch_words = if variant.needs == Needs::Workgroup { 4 } else { stash_words };
        let tile = StepTile::new(variant, u64::from(samples_at_a_time));
        let run = Self {
            net,
            context_net: context_weights,
            tables: gpu.upload("sampler_tables", &[words.len()], &words)?,
            state: gpu.tensor("sampler_state", &[n_samples, state_words(model)])?,
            spare: (request.particles() > 1)
                .then(|| gpu.tensor("sampler_spare", &[n_samples, state_words(model)]))
                .transpose()?,
            accepted: matches!(request.sampler, Sampler::Mala { .. })
                .then(|| gpu.tensor("sampler_accepted", &[n_samples, request.sampler.noise_levels().len()]))
                .transpose()?,
            scratch: gpu.tensor("sampler_scratch", &[n_samples.div_ceil(group_samples), scratch_words])?,
            workspace: request.full_passes.then(|| model.workspace(gpu, n_samples, 1, false)).transpose()?,
            gpu,
            trained,
            request,
            first_sample,
            n_samples,
            variant,
            group_samples,
            samples_at_a_time,
            context_iterations: model.context_net.step_iterations(group_samples.min(n_samples) as u64, &tile),
            context_table,
            sigma_table,
            given_table,
            context_at: model.context_net.state_words(),
            snap: request.snap_numbers(&trained.config),
        };
        gpu.check_binding("ctx weights of the sampler", run.context_net.shape())?;
        Ok(run)
    }

    /// The samples, and of what was given the particles with their weights.
    pub(super) fn draw(&self, progress: &mut dyn FnMut(f64)) -> Result<(Vec<f32>, Option<Particles>)> {
        let mut recorder = self.gpu.record("sampler_state");
        recorder.clear(&self.state);
        recorder.clear(&self.scratch);
        self.accepted.iter().for_each(|accepted| recorder.clear(accepted));
        recorder.submit()?;
        let dimensions = self.trained.model.dimensions() as u32;
        let units = dimensions * self.request.sampler.units_per_dimension();
        let first_group = self.first_sample / self.request.particles();
        let mut particles = self.request.given.as_ref().map(|given| {
            Particles::new(self.request.seed, given.particles, first_group, self.n_samples / given.particles)
        });
        let mut chunk = 1;
        let mut next = 0;
        while next < units {
            // A whole pass of the context network goes before each dimension, so no chunk may cross its end.
            let limit = if self.request.full_passes {
                (next / self.request.sampler.units_per_dimension() + 1) * self.request.sampler.units_per_dimension()
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

    /// Accepted proposals of each level, over all samples and dimensions.
    pub(super) fn accepted(&self) -> Result<Vec<u64>> {
        let Some(accepted) = &self.accepted else { return Ok(Vec::new()) };
        let counts: Vec<u32> = self.gpu.read(accepted)?;
        let n_levels = self.request.sampler.noise_levels().len();
        let of_level = |level: usize| counts.iter().skip(level).step_by(n_levels).copied().map(u64::from).sum();
        Ok((0..n_levels).map(of_level).collect())
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
        match &self.request.sampler {
            Sampler::MultiLevel { first_points, points, .. } => {
                self.multilevel(span, *first_points, *points).iterations()
            }
            Sampler::Langevin { steps, step_size, .. } => self.langevin(span, *steps, *step_size).iterations(),
            Sampler::Ode { points, .. } => self.ode(span, *points, false).iterations(),
            Sampler::Ancestral { points, .. } => self.ode(span, *points, true).iterations(),
            Sampler::Mala { steps, step_size, .. } => self.mala(span, *steps, *step_size).iterations(),
            Sampler::Direct { sigma } => self.direct(span, *sigma).iterations(),
        }
    }

    fn submit(&self, span: Span) -> Result<(), GpuError> {
        let mut recorder = self.gpu.record("sample");
        let units = self.request.sampler.units_per_dimension();
        if let Some(workspace) = &self.workspace
            && span.first.is_multiple_of(units)
        {
            self.context_by_full_pass(&mut recorder, workspace, span.first / units)?;
        }
        match &self.request.sampler {
            Sampler::MultiLevel { first_points, points, .. } => {
                recorder.run(&self.multilevel(span, *first_points, *points))?;
            }
            Sampler::Langevin { steps, step_size, .. } => recorder.run(&self.langevin(span, *steps, *step_size))?,
            Sampler::Ode { points, .. } => recorder.run(&self.ode(span, *points, false))?,
            Sampler::Ancestral { points, .. } => recorder.run(&self.ode(span, *points, true))?,
            Sampler::Mala { steps, step_size, .. } => recorder.run(&self.mala(span, *steps, *step_size))?,
            Sampler::Direct { sigma } => recorder.run(&self.direct(span, *sigma))?,
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
        // Its kernel snaps to the middles of bins; the data's levels are such middles too.
        let [bin_low, bin_high, bin_width] = match head.bins {
            Some(_) => head.bin_numbers(),
            None => self.snap,
        };
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
            temperature: self.request.temperature,
            context_net: &self.context_net,
            tables: &self.tables,
            state: &self.state,
        }
    }

    fn multilevel(&self, span: Span, first_points: u32, points: u32) -> SampleMultilevel<'_> {
        let [low, high] = self.range();
        score_sampler!(
            self,
            SampleMultilevel {
                first_dimension: span.first,
                end_dimension: span.end,
                first_points,
                points,
                given_at: if self.request.given.is_some() { self.given_table } else { 0 },
                particles: self.request.particles() as u32,
                low,
                high,
            }
        )
    }

    fn langevin(&self, span: Span, steps: u32, step_size: f32) -> SampleLangevin<'_> {
        score_sampler!(
            self,
            SampleLangevin {
                first_evaluation: span.first,
                end_evaluation: span.end,
                lines: lines_of_thread(self.group_samples, self.variant.tile[0] as usize),
                group_samples: self.group_samples as u32,
                steps,
                step_size,
            }
        )
    }

    fn ode(&self, span: Span, points: u32, ancestral: bool) -> SampleOde<'_> {
        let [low, high] = self.range();
        score_sampler!(
            self,
            SampleOde {
                first_dimension: span.first,
                end_dimension: span.end,
                points,
                low,
                high,
                ancestral: u32::from(ancestral),
            }
        )
    }

    fn mala(&self, span: Span, steps: u32, step_size: f32) -> SampleMala<'_> {
        score_sampler!(
            self,
            SampleMala {
                first_evaluation: span.first,
                end_evaluation: span.end,
                group_samples: self.group_samples as u32,
                steps,
                step_size,
                accepted: self.accepted.as_ref().expect("made for this sampler"),
            }
        )
    }

    /// The data's range as training saw it; without it, four standard deviations round the mean.
    fn range(&self) -> [f32; 2] {
        let net = self.score_net();
        let around_mean = [net.mean() - 4.0 * net.sd(), net.mean() + 4.0 * net.sd()];
        let [low, high] = self.trained.config.model.score.range.unwrap_or(around_mean);
        // Mass lies a little beyond what was seen in training, the more so without noise levels to reach it.
        let margin = (high - low) * if self.request.sampler.noise_levels()[0] > 0.0 { 0.05 } else { 0.2 };
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
            let (dimensions, step) = (self.trained.model.dimensions(), self.trained.step);
            let what = format!("value {} of sample {}", bad % dimensions, self.first_sample + bad / dimensions);
            let remedy = match self.request.sampler {
                Sampler::Langevin { .. } | Sampler::Mala { .. } => "Use fewer steps of a smaller size, or train longer",
                _ => {
                    "Train longer or with a smaller learning rate; `arcsm doctor` tells whether the adapter is at fault"
                }
            };
            return Err(Error::NonFinite { what, step, remedy: remedy.into() });
        }
        Ok(self.trained.model.order.to_data(&values, 1))
    }
}
