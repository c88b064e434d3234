//! Exact log densities of noisy values y_d = x_d + sigma eps given the clean values before them, by three readings of one
//! model: the multi-level chain, one level, and the probability-flow ODE.
//!
//! The chain is the density that the default sampler draws from: y_0 by inverse CDF of the score at the first level, then
//! y_l from p_sigma_l(y) N(y_{l-1}; y, sigma_{l-1}^2 - sigma_l^2) / Z(y_{l-1}). All of it happens in one dimension, so its
//! marginal is a sum over grids, with mass 1 by construction. One level is the chain's first step alone: normalised too, but
//! the weights of separated modes are arbitrary, as score matching does not see the mass between them. The flow carries y
//! to the highest level; its steps do not conserve mass exactly.
//!
//! Contexts come from one pass of the context network; then all (sample, dimension) rows are independent.

use std::time::Instant;

use serde::Serialize;

use crate::ask::sample::Sampler;
use crate::ask::trained::Trained;
use crate::codes::Objective;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, MAX_ITERATIONS, Recorder, Tensor, pitch};
use crate::kernels::{LikelihoodFlow, LikelihoodLevel};
use crate::models::ar_csm::ScoreNet;

/// Grid points of one level at most: as many as the kernel has room for.
pub const MOST_POINTS: u32 = 1024;
/// Grid points that stand for one noise level, unless the caller says.
pub const RESOLUTION: f32 = 3.0;
/// Grid points over the data's range for models without noise, in units of the resolution.
const POINTS_WITHOUT_NOISE: f32 = 128.0;
/// How far a grid reaches beyond the data's range, in units of its noise level.
const MARGIN: f32 = 5.0;
/// Samples whose contexts are computed together.
const BATCH: usize = 16;
/// Rows whose densities stand in memory together.
const ROWS: usize = 4096;
/// Words of log densities that stand in memory together.
const DENSITY_WORDS: usize = 1 << 22;

/// One noise level with its grid of equidistant points. Each row moves it by at most half a step, so that the value it is
/// asked at is one of the points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Level {
    /// Noise level.
    pub sigma: f32,
    /// Lower end.
    pub low: f32,
    /// Distance of the points.
    pub step: f32,
    /// Number of points.
    pub points: u32,
}

/// Falling noise levels with their grids.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chain {
    /// First the one that is normalised as a whole; the density is that of the last.
    pub levels: Vec<Level>,
}

/// How the probability-flow ODE is followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flow {
    /// Where the density is asked.
    pub bottom: Level,
    /// Where the density of the score is normalised on the grid.
    pub top: Level,
    /// Heun steps in log sigma.
    pub steps: u32,
}

/// Clean samples and what the density is asked at, both (N, D) in the data's order.
#[derive(Debug, Clone, Copy)]
pub struct Noisy<'a> {
    /// Clean: the contexts are theirs.
    pub x: &'a [f32],
    /// y = x + sigma eps
    pub y: &'a [f32],
}

/// What a chain says, with how far it may be trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainDensities {
    /// log p(y_d | x_<d), (N, D), in the data's order.
    pub log_density: Vec<f32>,
    /// Largest |1 - integral| of a conditional over all grid points: rounding alone, as the chain has mass 1 by construction.
    pub integral_error: f64,
    /// The same by every second point: whether the grid is fine enough for the density on it.
    pub coarse_integral_error: f64,
    /// Mass of each conditional that may lie beyond the ends of its worst grid, (N, D), in the data's order.
    pub cut_off: Vec<f32>,
}

/// What the flow says.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowDensities {
    /// log p(y_d | x_<d) as the ODE has it, (N, D), in the data's order.
    pub raw: Vec<f32>,
    /// Integral of each conditional over the grid, (N, D), in the data's order. `raw` minus its logarithm is normalised.
    pub mass: Vec<f32>,
}

impl Level {
    /// A grid over the support and five noise levels on either side, with `resolution` points a noise level; without
    /// noise with 128 times as many in all. Where that were more than [`MOST_POINTS`], it is coarser.
    pub fn new(sigma: f32, [low, high]: [f32; 2], resolution: f32) -> Self {
        let (low, high) = (low - MARGIN * sigma, high + MARGIN * sigma);
        let wanted = match sigma > 0.0 {
            true => resolution * (high - low) / sigma,
            false => resolution * POINTS_WITHOUT_NOISE,
        };
        let points = (wanted.ceil() as u32).saturating_add(1).clamp(16, MOST_POINTS);
        Self { sigma, low, step: (high - low) / (points - 1) as f32, points }
    }

    /// The same range with half as many points.
    #[must_use]
    pub fn coarser(self) -> Self {
        let points = self.points.div_ceil(2);
        let range = self.step * (self.points - 1) as f32;
        Self { points, step: range / (points - 1) as f32, ..self }
    }

    /// Whether there are too few points for the resolution that was asked for.
    pub fn is_full(&self) -> bool {
        self.points == MOST_POINTS
    }
}

impl Chain {
    /// These falling noise levels over a support.
    pub fn new(sigmas: &[f32], support: [f32; 2], resolution: f32) -> Self {
        Self { levels: sigmas.iter().map(|&sigma| Level::new(sigma, support, resolution)).collect() }
    }

    /// The same levels with half as many points each.
    #[must_use]
    pub fn coarser(&self) -> Self {
        Self { levels: self.levels.iter().map(|level| level.coarser()).collect() }
    }

    /// Where the density is asked.
    pub fn last(&self) -> Level {
        *self.levels.last().expect("a chain has levels")
    }
}

/// The levels of the model's default sampler that lie clearly above `sigma`, and then `sigma`.
pub fn levels_down_to(trained: &Trained, sigma: f32) -> Vec<f32> {
    let above = match Sampler::multilevel_default(&trained.config) {
        Sampler::MultiLevel { sigmas, .. } => sigmas,
        _ => Vec::new(),
    };
    above.into_iter().filter(|&level| level > 1.25 * sigma).chain([sigma]).collect()
}

/// Whether the model was trained with noise levels.
pub fn has_noise(trained: &Trained) -> bool {
    match trained.config.train.objective {
        Objective::Csm | Objective::Dsm => true,
        Objective::Ml => trained.config.noise.sigma_min > 0.0,
        Objective::Plain | Objective::Weighted => false,
    }
}

/// What the grids must span: the range of the training data and of these samples, with a margin.
pub fn support(trained: &Trained, x: &[f32]) -> [f32; 2] {
    let score = &trained.config.model.score;
    let (mean, sd) = (score.mean.unwrap_or(0.0), score.sd.unwrap_or(1.0));
    let seen = score.range.unwrap_or([mean - 4.0 * sd, mean + 4.0 * sd]);
    let [low, high] = x.iter().fold(seen, |[low, high], &value| [low.min(value), high.max(value)]);
    // As the sampler has it: without noise levels to reach it, more mass may lie beyond what was seen.
    let margin = (high - low) * if has_noise(trained) { 0.05 } else { 0.2 };
    [low - margin, high + margin]
}

/// log p(y_d | x_<d) under a chain, for every sample and dimension. `progress` is told the share that is done.
///
/// # Errors
/// Numbers of values that do not fit the model, sizes over the adapter's limits, a failed adapter, a density that is not
/// finite.
pub fn chain_log_densities(
    gpu: &Gpu,
    trained: &Trained,
    noisy: Noisy<'_>,
    chain: &Chain,
    progress: &mut dyn FnMut(f64),
) -> Result<ChainDensities> {
    let most = chain.levels.iter().map(|level| level.points).max().unwrap_or(0) as usize;
    let mut result = ChainDensities {
        log_density: Vec::new(),
        integral_error: 0.0,
        coarse_integral_error: 0.0,
        cut_off: Vec::new(),
    };
    let densities = Densities::new(gpu, trained, noisy, 2 * pitch(most))?;
    densities.for_all_rows(
        &|part| (0..chain.levels.len()).map(|index| part.level(chain, index).iterations()).max().unwrap_or(0),
        &|part, recorder| {
            for index in 0..chain.levels.len() {
                recorder.run(&part.level(chain, index))?;
            }
            Ok(())
        },
        &mut |part| {
            let readings: Vec<f32> = gpu.read(&part.run.readings)?;
            for reading in readings.chunks_exact(4).take(part.used_rows) {
                let off = |mass: f32| (1.0 - f64::from(mass)).abs();
                result.log_density.push(reading[0]);
                result.integral_error = result.integral_error.max(off(reading[1]));
                result.coarse_integral_error = result.coarse_integral_error.max(off(reading[2]));
                result.cut_off.push(reading[3]);
            }
            Ok(())
        },
        progress,
    )?;
    check_finite(trained, &result.log_density)?;
    result.log_density = trained.model.order.to_data(&result.log_density, 1);
    result.cut_off = trained.model.order.to_data(&result.cut_off, 1);
    Ok(result)
}

/// log p(y_d | x_<d) under a chain at every point of its last grid, for the contexts of samples x (N, D): (N, D, points), in
/// the data's order of dimensions. Point p is `low + p step` of [`Chain::last`], to rounding.
///
/// # Errors
/// As [`chain_log_densities`].
pub fn chain_grids(
    gpu: &Gpu,
    trained: &Trained,
    x: &[f32],
    chain: &Chain,
    progress: &mut dyn FnMut(f64),
) -> Result<Vec<f32>> {
    let most = chain.levels.iter().map(|level| level.points).max().unwrap_or(0) as usize;
    let (words, last) = (2 * pitch(most), chain.last());
    let (half, points) = ((chain.levels.len() + 1) % 2 * words / 2, last.points as usize);
    // Grids are moved to have this value among their points, which it is: they stay where they are.
    let middle = last.low + (last.points / 2) as f32 * last.step;
    let y = vec![middle; x.len()];
    let mut grids = Vec::with_capacity(x.len() * points);
    let densities = Densities::new(gpu, trained, Noisy { x, y: &y }, words)?;
    densities.for_all_rows(
        &|part| (0..chain.levels.len()).map(|index| part.level(chain, index).iterations()).max().unwrap_or(0),
        &|part, recorder| {
            for index in 0..chain.levels.len() {
                recorder.run(&part.level(chain, index))?;
            }
            Ok(())
        },
        &mut |part| {
            let densities: Vec<f32> = gpu.read(&part.run.densities)?;
            for row in densities.chunks_exact(words).take(part.used_rows) {
                grids.extend_from_slice(&row[half..][..points]);
            }
            Ok(())
        },
        progress,
    )?;
    check_finite(trained, &grids)?;
    Ok(trained.model.order.to_data(&grids, points))
}

/// log p(y_d | x_<d) by the probability-flow ODE, for every sample and dimension. `progress` is told the share that is done.
///
/// # Errors
/// As [`chain_log_densities`].
pub fn flow_log_densities(
    gpu: &Gpu,
    trained: &Trained,
    noisy: Noisy<'_>,
    flow: &Flow,
    progress: &mut dyn FnMut(f64),
) -> Result<FlowDensities> {
    let words = pitch(flow.top.points as usize) + pitch(flow.bottom.points as usize);
    let top = Chain { levels: vec![flow.top] };
    let (mut raw, mut mass) = (Vec::new(), Vec::new());
    let densities = Densities::new(gpu, trained, noisy, words)?;
    densities.for_all_rows(
        &|part| part.level(&top, 0).iterations().max(part.flow(flow).iterations()),
        &|part, recorder| {
            recorder.run(&part.level(&top, 0))?;
            recorder.run(&part.flow(flow))?;
            Ok(())
        },
        &mut |part| {
            let read = gpu.begin_read(&[&part.run.readings, &part.run.densities]);
            let tensors = gpu.finish_read::<f32>(read)?;
            let at = pitch(flow.top.points as usize);
            let rows = tensors[0].chunks_exact(4).zip(tensors[1].chunks_exact(words)).take(part.used_rows);
            for (reading, densities) in rows {
                let grid = &densities[at..][..flow.bottom.points as usize];
                let sum: f64 = grid.iter().map(|&log| f64::from(log).exp()).sum();
                raw.push(reading[0]);
                mass.push((sum * f64::from(flow.bottom.step)) as f32);
            }
            Ok(())
        },
        progress,
    )?;
    check_finite(trained, &raw)?;
    check_finite(trained, &mass)?;
    let order = &trained.model.order;
    Ok(FlowDensities { raw: order.to_data(&raw, 1), mass: order.to_data(&mass, 1) })
}

fn check_finite(trained: &Trained, values: &[f32]) -> Result<()> {
    let dimensions = trained.model.dimensions();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(bad) => Err(Error::NonFinite {
            what: format!("the log density of value {} of sample {}", bad % dimensions, bad / dimensions),
            step: trained.step,
            remedy: "Train longer, or evaluate at a larger noise level".into(),
        }),
    }
}

/// A run over all rows: the tensors that its parts share.
struct Densities<'a> {
    gpu: &'a Gpu,
    trained: &'a Trained,
    score_net: &'a ScoreNet,
    /// In the model's order.
    x: Vec<f32>,
    y: Vec<f32>,
    batch: usize,
    capacity: usize,
    density_words: usize,
    net: Tensor,
    tables: Tensor,
    targets: Tensor,
    densities: Tensor,
    readings: Tensor,
    scratch: Tensor,
}

/// Rows that go through the kernels together.
struct Part<'a> {
    run: &'a Densities<'a>,
    /// (B, D K)
    context: &'a Tensor,
    first_row: usize,
    used_rows: usize,
}

impl<'a> Densities<'a> {
    fn new(gpu: &'a Gpu, trained: &'a Trained, noisy: Noisy<'_>, density_words: usize) -> Result<Self> {
        let (model, dimensions) = (&trained.model, trained.model.dimensions());
        let score_net = model.head.score_net()?;
        if noisy.x.is_empty() || !noisy.x.len().is_multiple_of(dimensions) || noisy.x.len() != noisy.y.len() {
            let problem =
                format!("{} clean and {} noisy values, the model has D = {dimensions}", noisy.x.len(), noisy.y.len());
            return Err(Error::input("samples", problem, "Give (N, D) of each, N at least 1"));
        }
        let count = noisy.x.len() / dimensions;
        let batch = model.fitting_batch(gpu, BATCH.min(count));
        let capacity = (batch * dimensions).min(ROWS).min(DENSITY_WORDS / density_words).max(1);
        // The flow's groups share the points of a row, too: a few rows of many points are not left to a few of them.
        let groups = if gpu.adapter().software { 16 } else { 1024usize.min(16 * capacity) };
        let words = score_net.table_words(&model.table);
        Ok(Self {
            gpu,
            trained,
            x: model.order.to_model(noisy.x, 1),
            y: model.order.to_model(noisy.y, 1),
            batch,
            capacity,
            density_words,
            score_net,
            net: score_net.window(&trained.weights),
            tables: gpu.upload("score_layers", &[words.len()], &words)?,
            targets: gpu.tensor("targets", &[capacity])?,
            densities: gpu.tensor("densities", &[capacity, density_words])?,
            readings: gpu.tensor("readings", &[capacity, 4])?,
            scratch: gpu.tensor("likelihood_scratch", &[groups, score_net.stash_words()])?,
        })
    }

    /// Lets `record` work on part after part of the rows, as many at once as fit the time budget and the bound of loop
    /// iterations, and shows each finished one to `take`, in order.
    fn for_all_rows(
        &self,
        iterations: &dyn Fn(&Part<'_>) -> u64,
        record: &dyn Fn(&Part<'_>, &mut Recorder<'_>) -> Result<()>,
        take: &mut dyn FnMut(&Part<'_>) -> Result<()>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<()> {
        let dimensions = self.trained.model.dimensions();
        let context_net = &self.trained.model.context_net;
        let workspace = context_net.workspace(self.gpu, self.batch, false)?;
        let x = self.gpu.tensor("x", &[self.batch, dimensions])?;
        let mut rows = self.scratch.shape()[0];
        for (index, batch) in self.x.chunks(self.batch * dimensions).enumerate() {
            let mut values = batch.to_vec();
            values.resize(self.batch * dimensions, 0.0);
            self.gpu.write(&x, &values)?;
            let mut recorder = self.gpu.record("contexts");
            context_net.forward(&mut recorder, &self.trained.weights, &x, &workspace, None)?;
            recorder.submit_in_pieces(self.batch)?;
            self.gpu.wait()?;
            let start = index * self.batch * dimensions;
            let mut first_row = 0;
            while first_row < batch.len() {
                let of = |used_rows| Part { run: self, context: workspace.context(), first_row, used_rows };
                rows = rows.min(self.capacity);
                while rows > 1 && self.gpu.adapter().software && iterations(&of(rows)) > MAX_ITERATIONS {
                    rows /= 2;
                }
                let part = of(rows.min(batch.len() - first_row));
                let mut targets = self.y[start + first_row..][..part.used_rows].to_vec();
                targets.resize(self.capacity, 0.0);
                self.gpu.write(&self.targets, &targets)?;
                let started = Instant::now();
                let mut recorder = self.gpu.record("log_densities");
                record(&part, &mut recorder)?;
                self.gpu.wait_for(&recorder.submit()?)?;
                let share = self.gpu.budget().as_secs_f64() / started.elapsed().as_secs_f64().max(1e-9);
                // At most eightfold: the first rows may have waited for the shader compiler.
                rows = ((share * part.used_rows as f64) as usize).clamp(1, 8 * rows);
                take(&part)?;
                first_row += part.used_rows;
                progress((start + first_row) as f64 / self.x.len() as f64);
            }
        }
        Ok(())
    }
}

impl Part<'_> {
    fn n_groups(&self) -> u32 {
        self.run.scratch.shape()[0] as u32
    }

    /// Densities of a chain's levels stand in the two halves of a row in turn.
    fn level(&self, chain: &Chain, index: usize) -> LikelihoodLevel<'_> {
        let (run, net) = (self.run, self.run.score_net);
        let constants = net.constants();
        let level = chain.levels[index];
        let above = index.checked_sub(1).map(|index| chain.levels[index]);
        let half = |index: usize| (index % 2 * run.density_words / 2) as u32;
        let squared = |sigma: f32| f64::from(sigma) * f64::from(sigma);
        LikelihoodLevel {
            activation: net.activation() as u32,
            parametrisation: net.parametrisation() as u32,
            score: constants,
            tile_iterations: net.forward_iterations(),
            n_rows: run.capacity as u32,
            used_rows: self.used_rows as u32,
            first_row: self.first_row as u32,
            n_groups: self.n_groups(),
            batch: run.batch as u32,
            dimensions: run.trained.model.dimensions() as u32,
            context_width: run.trained.model.context_net.context() as u32,
            n_net: run.net.elements() as u32,
            n_tables: run.tables.elements() as u32,
            scratch_words: run.scratch.shape()[1] as u32,
            density_words: run.density_words as u32,
            density_at: half(index),
            above_at: half(index + 1),
            points: level.points,
            points_above: above.map_or(0, |above| above.points),
            sigma: level.sigma,
            low: level.low,
            step: level.step,
            low_above: above.map_or(0.0, |above| above.low),
            step_above: above.map_or(1.0, |above| above.step),
            half_precision: above.map_or(0.0, |above| (0.5 / (squared(above.sigma) - squared(level.sigma))) as f32),
            mean: net.mean(),
            sd: net.sd(),
            context: self.context,
            targets: &run.targets,
            net: &run.net,
            tables: &run.tables,
            densities: &run.densities,
            readings: &run.readings,
            scratch: &run.scratch,
        }
    }

    fn flow(&self, flow: &Flow) -> LikelihoodFlow<'_> {
        let (run, net) = (self.run, self.run.score_net);
        let constants = net.constants();
        LikelihoodFlow {
            activation: net.activation() as u32,
            parametrisation: net.parametrisation() as u32,
            score: constants,
            tile_iterations: net.forward_iterations(),
            n_rows: run.capacity as u32,
            used_rows: self.used_rows as u32,
            first_row: self.first_row as u32,
            n_groups: self.n_groups(),
            batch: run.batch as u32,
            dimensions: run.trained.model.dimensions() as u32,
            context_width: run.trained.model.context_net.context() as u32,
            n_net: run.net.elements() as u32,
            n_tables: run.tables.elements() as u32,
            scratch_words: run.scratch.shape()[1] as u32,
            density_words: run.density_words as u32,
            density_at: pitch(flow.top.points as usize) as u32,
            above_at: 0,
            points: flow.bottom.points,
            points_above: flow.top.points,
            n_steps: flow.steps,
            sigma: flow.bottom.sigma,
            sigma_top: flow.top.sigma,
            low: flow.bottom.low,
            step: flow.bottom.step,
            low_above: flow.top.low,
            step_above: flow.top.step,
            mean: net.mean(),
            sd: net.sd(),
            context: self.context,
            targets: &run.targets,
            net: &run.net,
            tables: &run.tables,
            densities: &run.densities,
            readings: &run.readings,
            scratch: &run.scratch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_span_the_support_and_halve() {
        let level = Level::new(0.1, [-0.5, 1.5], 2.0);
        let near = |a: f32, b: f32| (a - b).abs() <= 1e-5;
        assert_eq!(level.points, 61);
        assert!(near(level.low, -1.0) && near(level.low + 60.0 * level.step, 2.0), "{level:?}");
        let half = level.coarser();
        assert_eq!(half.points, 31);
        assert!(near(half.low + 30.0 * half.step, 2.0), "{half:?}");
        assert!(Level::new(1e-3, [0.0, 10.0], 2.0).is_full());
        assert_eq!(Level::new(0.0, [0.0, 10.0], 2.0).points, 257);
    }
}
