//! Densities on grids, level after level, and along the probability flow.

use crate::codes::{Activation, Parametrisation};
use crate::gpu::{Gpu, GpuError, Kernel, Tensor};
use crate::kernels::{LikelihoodFlow, LikelihoodLevel, ScoreConstants};
use crate::reference::likelihood::{Level, Reading, chain, flow as flow_twin};

use super::model::{Contexts, MEAN, RandomModel, SD, Shape};
use super::trial::{Data, Trial};
use super::{Check, Failure, fault};

pub(super) const LEVEL: Check = Check {
    kernel: LikelihoodLevel::SPEC,
    run: level,
    faults: &[
        fault(
            "likelihood_level",
            "densities[words + params.above_at + p] - log_z",
            "densities[words + params.above_at + p]",
        ),
        fault("likelihood_level", "energy -= 0.5", "energy += 0.5"),
        fault("likelihood_level", "logs[first + p] = LOWEST", "logs[first + p] = 0.0"),
        fault("likelihood_level", "p % 2u == own % 2u", "p % 2u == 0u"),
        fault("likelihood_level", "cut = max(cut, readings[row].w)", "cut += 0.0"),
        fault("likelihood_level", "params.first_row + row, base", "row, base"),
        fault("likelihood_level", "row += params.n_groups", "row += params.used_rows"),
        fault("likelihood_level", "clamp(round((y - low) / step)", "clamp(floor((y - low) / step)"),
    ],
};

pub(super) const FLOW: Check = Check {
    kernel: LikelihoodFlow::SPEC,
    run: flow,
    faults: &[
        fault("likelihood_flow", "y - dt * here.x, next_sigma", "y, next_sigma"),
        fault("likelihood_flow", "+ gain * f.y", "+ f.y"),
        fault("likelihood_flow", "place - cell)", "0.0)"),
        fault("likelihood_flow", "item % n_tiles * THREADS + thread", "thread"),
        fault("likelihood_flow", "tangent[1] = input_scale(sigma, params.sd)", "tangent[1] = 1.0"),
    ],
};

const fn shape(
    dimensions: usize,
    context: usize,
    hidden: &'static [usize],
    activation: Activation,
    parametrisation: Parametrisation,
) -> Shape {
    let contexts = Contexts::Made { dimensions, hidden: &[1], residual: false };
    Shape { contexts, context, context_activation: Activation::Relu, hidden, activation, parametrisation }
}

/// A network, contexts of a batch, and values that some of its rows are asked at.
struct Setup {
    shape: Shape,
    random: RandomModel,
    batch: usize,
    context: Data,
    net: Tensor,
    tables: Tensor,
    /// Which row of the batch the first target belongs to.
    first_row: usize,
    targets: Data,
    used_rows: usize,
    density_words: usize,
    /// Of the score network: words of scratch, loop iterations of a tile, layers.
    scratch_words: usize,
    tile_iterations: u64,
    score: ScoreConstants,
}

impl Setup {
    fn new(trial: &mut Trial<'_>, shape: Shape, batch: usize, most_points: usize) -> Result<Self, Failure> {
        let random = RandomModel::new(trial, &shape)?;
        let first_row = shape.dimensions() - 1;
        let used_rows = batch * shape.dimensions() - first_row;
        // Room for one row more than is used, which must be left alone.
        let targets = trial.data("targets", &[used_rows + 1])?;
        let net = random.score_net()?;
        Ok(Self {
            context: trial.data("context", &[batch, shape.dimensions() * shape.context])?,
            net: net.window(&random.weights),
            tables: trial.words("tables", &net.table_words(&random.model.table))?,
            scratch_words: net.stash_words(),
            tile_iterations: net.forward_iterations(),
            score: net.constants(),
            density_words: 2 * most_points.next_multiple_of(4),
            shape,
            random,
            batch,
            first_row,
            targets,
            used_rows,
        })
    }

    /// (score, slope) of one row.
    fn score(&self, row: usize) -> impl Fn(f64, f64) -> (f64, f64) {
        let width = self.shape.context;
        let context = &self.context.values[(self.first_row + row) * width..][..width];
        move |y, sigma| self.random.twin.net.evaluate(context, y, sigma)
    }

    fn densities(&self, trial: &Trial<'_>) -> Result<Tensor, GpuError> {
        trial.floats(
            "densities",
            &[self.used_rows + 1, self.density_words],
            &vec![0.0; (self.used_rows + 1) * self.density_words],
        )
    }

    fn readings(&self, trial: &Trial<'_>) -> Result<Tensor, GpuError> {
        trial.floats("readings", &[self.used_rows + 1, 4], &vec![7.0; 4 * (self.used_rows + 1)])
    }

    /// The levels one after another, whose densities take the two halves of the row in turn.
    fn run_levels(
        &self,
        trial: &Trial<'_>,
        levels: &[Level],
        n_groups: usize,
        densities: &Tensor,
        readings: &Tensor,
    ) -> Result<(), GpuError> {
        let scratch = trial.gpu.tensor("scratch", &[n_groups, self.scratch_words])?;
        for (index, level) in levels.iter().enumerate() {
            let above = index.checked_sub(1).map(|index| levels[index]);
            let half = |index: usize| (index % 2 * self.density_words / 2) as u32;
            trial.run(&LikelihoodLevel {
                activation: self.shape.activation as u32,
                parametrisation: self.shape.parametrisation as u32,
                score: self.score,
                tile_iterations: self.tile_iterations,
                n_rows: self.used_rows as u32 + 1,
                used_rows: self.used_rows as u32,
                first_row: self.first_row as u32,
                n_groups: n_groups as u32,
                batch: self.batch as u32,
                dimensions: self.shape.dimensions() as u32,
                context_width: self.shape.context as u32,
                n_net: self.net.words() as u32,
                n_tables: self.tables.words() as u32,
                scratch_words: self.scratch_words as u32,
                density_words: self.density_words as u32,
                density_at: half(index),
                above_at: half(index + 1),
                points: level.points as u32,
                points_above: above.map_or(0, |above| above.points as u32),
                sigma: level.sigma as f32,
                low: level.low as f32,
                step: level.step as f32,
                low_above: above.map_or(0.0, |above| above.low as f32),
                step_above: above.map_or(1.0, |above| above.step as f32),
                half_precision: above
                    .map_or(0.0, |above| (0.5 / (above.sigma * above.sigma - level.sigma * level.sigma)) as f32),
                mean: MEAN,
                sd: SD,
                context: &self.context.tensor,
                targets: &self.targets.tensor,
                net: &self.net,
                tables: &self.tables,
                densities,
                readings,
                scratch: &scratch,
            })?;
        }
        Ok(())
    }

    /// Log densities of the used rows' last grid, which begins at `at`, with tolerances.
    fn expect_densities(
        &self,
        trial: &mut Trial<'_>,
        densities: &Tensor,
        at: usize,
        want: &[&[f64]],
        tolerance: f64,
    ) -> Result<(), Failure> {
        trial.expect_intact(densities)?;
        let words: Vec<f32> = trial.gpu.read(densities)?;
        let rows = words.chunks_exact(self.density_words);
        let got: Vec<f32> = rows.zip(want).flat_map(|(row, want)| &row[at..at + want.len()]).copied().collect();
        let want = want.concat();
        let tolerances: Vec<f64> = want.iter().map(|log| tolerance * (1.0 + log.abs())).collect();
        trial.expect_values("log densities", &got, &want, &tolerances)
    }
}

/// Scores are right to 1e-5 of the largest at worst; their integral reaches over some units of y, and the sums of 1,000
/// shares add their roundings.
const TOLERANCE: f64 = 2e-5;

/// Exact in f32.
fn grid(sigma: f64, points: usize) -> Level {
    let step = f64::from((8.0 / points as f64) as f32);
    Level { sigma, low: -3.5, step, points }
}

fn level(gpu: &Gpu) -> Result<f64, Failure> {
    use Activation::{Silu, Tanh};
    use Parametrisation::{Edm, Osig};
    let mut trial = Trial::new(gpu);
    // The last has as many points as a workgroup's memory holds, and nearly as many loop iterations as a dispatch may have.
    let cases: [(Shape, usize, usize, &[Level]); 4] = [
        (shape(3, 5, &[10, 37], Silu, Edm), 3, 3, &[grid(1.0, 70), grid(0.375, 129), grid(0.125, 61)]),
        (shape(2, 3, &[12], Tanh, Osig), 2, 1, &[grid(1.0, 33), grid(0.5, 90)]),
        (shape(4, 4, &[66, 9], Silu, Edm), 1, 1, &[grid(0.25, 64)]),
        (shape(1, 2, &[8], Silu, Edm), 1, 1, &[grid(1.0, 1024), grid(0.25, 1023)]),
    ];
    for (shape, batch, n_groups, levels) in cases {
        let most = levels.iter().map(|level| level.points).max().unwrap_or(0);
        let setup = Setup::new(&mut trial, shape, batch, most)?;
        let (densities, readings) = (setup.densities(&trial)?, setup.readings(&trial)?);
        setup.run_levels(&trial, levels, n_groups, &densities, &readings)?;
        let twins: Vec<Reading> = (0..setup.used_rows)
            .map(|row| chain(|y, sigma| setup.score(row)(y, sigma).0, levels, setup.targets.values[row]))
            .collect();
        let want: Vec<&[f64]> = twins.iter().map(|twin| &twin.log_densities[..]).collect();
        let at = (levels.len() - 1) % 2 * setup.density_words / 2;
        setup.expect_densities(&mut trial, &densities, at, &want, TOLERANCE)?;
        let want: Vec<f64> =
            twins.iter().flat_map(|twin| [twin.log_density, twin.mass, twin.mass_of_half, twin.cut]).collect();
        // Masses are exponentials of what the densities may be wrong by; the cut is the exponential of a tail.
        let mut tolerance: Vec<f64> = want
            .chunks_exact(4)
            .flat_map(|reading| [TOLERANCE * (1.0 + reading[0].abs()), TOLERANCE, TOLERANCE, 1e-2 * reading[3] + 1e-30])
            .collect();
        tolerance.extend([0.0; 4]);
        trial.expect(&readings, &[&want[..], &[7.0; 4]].concat(), &tolerance)?;
    }
    trial.verdict()
}

fn flow(gpu: &Gpu) -> Result<f64, Failure> {
    use Activation::{Silu, Tanh};
    use Parametrisation::{Edm, Osig};
    let mut trial = Trial::new(gpu);
    let cases = [
        (shape(3, 5, &[10, 37], Silu, Edm), 2, 3, grid(0.125, 70), grid(1.0, 90), 4),
        (shape(2, 4, &[12], Tanh, Osig), 1, 1, grid(0.25, 32), grid(0.5, 33), 1),
        (shape(4, 3, &[66], Silu, Edm), 1, 2, grid(0.5, 20), grid(1.0, 40), 7),
    ];
    for (shape, batch, n_groups, bottom, top, steps) in cases {
        let setup = Setup::new(&mut trial, shape, batch, top.points.max(bottom.points))?;
        let (densities, readings) = (setup.densities(&trial)?, setup.readings(&trial)?);
        setup.run_levels(&trial, &[top], n_groups, &densities, &readings)?;
        trial.run(&LikelihoodFlow {
            activation: setup.shape.activation as u32,
            parametrisation: setup.shape.parametrisation as u32,
            score: setup.score,
            tile_iterations: setup.tile_iterations,
            n_rows: setup.used_rows as u32 + 1,
            used_rows: setup.used_rows as u32,
            first_row: setup.first_row as u32,
            n_groups: n_groups as u32,
            batch: setup.batch as u32,
            dimensions: setup.shape.dimensions() as u32,
            context_width: setup.shape.context as u32,
            n_net: setup.net.words() as u32,
            n_tables: setup.tables.words() as u32,
            scratch_words: setup.scratch_words as u32,
            density_words: setup.density_words as u32,
            density_at: setup.density_words as u32 / 2,
            above_at: 0,
            points: bottom.points as u32,
            points_above: top.points as u32,
            n_steps: steps as u32,
            sigma: bottom.sigma as f32,
            sigma_top: top.sigma as f32,
            low: bottom.low as f32,
            step: bottom.step as f32,
            low_above: top.low as f32,
            step_above: top.step as f32,
            mean: MEAN,
            sd: SD,
            context: &setup.context.tensor,
            targets: &setup.targets.tensor,
            net: &setup.net,
            tables: &setup.tables,
            densities: &densities,
            readings: &readings,
            scratch: &gpu.tensor("scratch", &[n_groups, setup.scratch_words])?,
        })?;
        let twins: Vec<_> = (0..setup.used_rows)
            .map(|row| flow_twin(setup.score(row), &bottom, &top, steps, setup.targets.values[row]))
            .collect();
        let want: Vec<&[f64]> = twins.iter().map(|twin| &twin.log_densities[..]).collect();
        setup.expect_densities(&mut trial, &densities, setup.density_words / 2, &want, TOLERANCE)?;
        let mut want: Vec<f64> = twins.iter().flat_map(|twin| [twin.log_density, twin.top, 0.0, 0.0]).collect();
        want.extend([7.0; 4]);
        let tolerance: Vec<f64> = want.iter().map(|value| TOLERANCE * (1.0 + value.abs())).collect();
        trial.expect(&readings, &want, &tolerance)?;
    }
    trial.verdict()
}
