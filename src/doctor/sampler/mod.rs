//! The samplers, dimension after dimension.
//!
//! Each dimension is compared given the dimensions before it as the adapter drew them, so that errors do not add up.
//! How the work is cut into dispatches must not change a bit.

use crate::ask::sample::{GRID_LINES, most_samples};
use crate::codes::{Activation, Parametrisation};
use crate::gpu::{Gpu, GpuError, Kernel, KernelSpec, Tensor, Variant, pitch};
use crate::kernels::{SampleMultilevel, ScoreConstants};
use crate::models::ar_csm::Network;
use crate::nn::net::StepTile;
use crate::reference::sampler::{DataLevels, Given, MultiLevel, multilevel as multilevel_twin, multilevel_given};

use super::model::{Contexts, MEAN, RandomModel, SD, Shape};
use super::trial::Trial;
use super::{Check, Failure, fault};

pub(in crate::doctor) const MULTILEVEL: Check = Check {
    kernel: SampleMultilevel::SPEC,
    run: multilevel,
    faults: &[
        fault("sample_multilevel", "energy - 0.5 * offset * offset * inverse_variance", "energy"),
        fault("sample_multilevel", "index > 0u && layer.n_in == layer.n_out", "layer.n_in == layer.n_out"),
        fault(
            "sample_multilevel",
            "let own_base = (first + min(sample + thread % LANES,",
            "let own_base = (first + min(sample,",
        ),
        fault("sample_multilevel", "tables[tables[t + 6u] + d + 1u]", "tables[tables[t + 6u] + d]"),
        fault("sample_multilevel", "y + sigma * sigma * points_of[at]", "y"),
        fault("sample_multilevel", "params.incremental == 1u", "true"),
        fault("sample_multilevel", "cell + 2u < n_points", "cell + 66u < n_points"),
        fault("sample_multilevel", "inverse_variance) / params.temperature", "inverse_variance)"),
        fault("sample_multilevel", "round(inside", "floor(inside"),
        fault("sample_multilevel", "vec2(f32(even), f32(odd))", "vec2(f32(even), f32(even))"),
        fault("sample_multilevel", "vec4(quad == n_fixed)", "vec4(quad == 0u)"),
        fault("sample_multilevel", "context = (sample * params.state_words", "context = (0u"),
        // Of what is known.
        fault("sample_multilevel", "sample / params.particles * params.dimensions", "sample * params.dimensions"),
        fault("sample_multilevel", "k > level; k--", "k > 0u; k--"),
        fault("sample_multilevel", "log(total * step)", "log(total)"),
        fault("sample_multilevel", "if inverse_variance > 0.0", "if false"),
        fault(
            "sample_multilevel",
            "n_points, y, centre, inverse_variance, total",
            "n_points, y, y, inverse_variance, total",
        ),
        fault("sample_multilevel", "&& level == 0u)", "&& level == 1u)"),
        // Of the image networks.
        fault("sample_multilevel", "(group + mask - 1u) * n_in", "(group + 1u) * n_in"),
        fault("sample_multilevel", "let i = row >> level", "let i = row"),
        fault("sample_multilevel", "j * place.column + i * place.row", "j * place.column"),
        fault("sample_multilevel", "due.half_width - due.width", "0u"),
        fault("sample_multilevel", "tables[t + 25u] == 1u", "false"),
        fault("sample_multilevel", "(first + min(sample", "(min(sample"),
    ],
};

const SEED: u64 = 0x0fed_cba9_8765_4321;
const FIRST_SAMPLE: u32 = 11;
/// Exact in f32, descending.
const SIGMAS: [f64; 3] = [1.0, 0.375, 0.125];
const RANGE: [f32; 2] = [-0.75, 1.25];
/// Of the levels that one case of each sampler snaps to.
const SNAP_WIDTH: f32 = 0.25;
/// Share of the draws that may be too near to a rounding or a decision to be compared.
const UNDECIDED: f64 = 0.2;

const SHAPES: [Shape; 4] = [
    Shape {
        contexts: Contexts::Made { dimensions: 5, hidden: &[5, 5], residual: true },
        context: 3,
        context_activation: Activation::Relu,
        hidden: &[10, 37],
        activation: Activation::Silu,
        parametrisation: Parametrisation::Edm,
    },
    Shape {
        contexts: Contexts::Made { dimensions: 5, hidden: &[6, 70], residual: false },
        context: 4,
        context_activation: Activation::Elu,
        hidden: &[12],
        activation: Activation::Tanh,
        parametrisation: Parametrisation::Edm,
    },
    Shape {
        contexts: Contexts::Image {
            network: Network::Gated,
            height: 4,
            width: 3,
            channels: 3,
            filters: 5,
            downsamplings: 0,
        },
        context: 3,
        context_activation: Activation::Elu,
        hidden: &[12],
        activation: Activation::Silu,
        parametrisation: Parametrisation::Edm,
    },
    Shape {
        contexts: Contexts::Image {
            network: Network::PixelCnn,
            height: 4,
            width: 4,
            channels: 3,
            filters: 5,
            downsamplings: 1,
        },
        context: 2,
        context_activation: Activation::Silu,
        hidden: &[12],
        activation: Activation::Silu,
        parametrisation: Parametrisation::Edm,
    },
];

/// A twin's draw from (score, sample, dimension); none where rounding decides which way it goes.
type Draw<'a> = dyn Fn(&dyn Fn(f64, f64) -> f64, u32, u32) -> Option<f64> + 'a;

/// How work is cut: into workgroups of so many samples, and into dispatches that end at each of `ends`, starting at the first.
#[derive(Debug, Clone, Copy)]
struct Cut<'a> {
    samples: usize,
    ends: &'a [usize],
}

impl Cut<'_> {
    /// With at most as many samples in a workgroup as a variant of the kernel takes, where each has so many lines.
    fn on(self, gpu: &Gpu, variant: &Variant, lines: usize) -> Self {
        Self { samples: self.samples.min(most_samples(gpu, variant, lines)), ..self }
    }
}

/// What a sampler's dispatch is given, beside its settings.
struct Setup {
    random: RandomModel,
    net: Tensor,
    context_net: Tensor,
    tables: Tensor,
    context_table: u32,
    sigma_table: u32,
    context_at: usize,
    state_words: usize,
    /// Of the score network: words of scratch, loop iterations of a tile, layers.
    stash_words: usize,
    tile_iterations: u64,
    score: ScoreConstants,
    /// Where the table of what is known starts, and how many samples in a row share it.
    given: Option<(u32, u32)>,
    temperature: f32,
    /// Distance of the levels that values are snapped to; 0 for none.
    snap_width: f32,
}

/// A dispatch of a sampler: what all of them have, and its own fields.
macro_rules! score_sampler {
    ($trial:expr, $setup:expr, $shape:expr, $incremental:expr, $state:expr, $scratch:expr, $group:expr,
     $kernel:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {{
        let (setup, shape, state, scratch): (&Setup, &Shape, &Tensor, &Tensor) = ($setup, $shape, $state, $scratch);
        let model = &setup.random.model;
        let constants = model.context_net.step_constants();
        let (group, n_samples): ([usize; 2], usize) = ($group, state.shape()[0]);
        let tile = StepTile::new(setup.variant($trial.gpu, $kernel::SPEC), group[1] as u64);
        $kernel {
            activation: shape.activation as u32,
            parametrisation: shape.parametrisation as u32,
            context_activation: constants.activation,
            is_image_net: constants.is_image_net,
            gate: constants.gate,
            residual: constants.residual,
            score: setup.score,
            samples: group[1] as u32,
            tile_iterations: setup.tile_iterations,
            context_iterations: model.context_net.step_iterations(group[0].min(n_samples) as u64, &tile),
            n_samples: n_samples as u32,
            dimensions: shape.dimensions() as u32,
            context_width: shape.context as u32,
            first_sample: FIRST_SAMPLE,
            seed_low: SEED as u32,
            seed_high: (SEED >> 32) as u32,
            n_context_layers: model.context_net.n_layers() as u32,
            context_table: setup.context_table,
            sigma_table: setup.sigma_table,
            n_levels: SIGMAS.len() as u32,
            incremental: u32::from($incremental),
            context_at: setup.context_at as u32,
            state_words: setup.state_words as u32,
            n_groups: scratch.shape()[0] as u32,
            scratch_words: scratch.shape()[1] as u32,
            n_net: setup.net.words() as u32,
            n_context_net: setup.context_net.words() as u32,
            n_tables: setup.tables.shape()[0] as u32,
            mean: MEAN,
            sd: SD,
            temperature: setup.temperature,
            snap_low: RANGE[0],
            snap_high: RANGE[1],
            snap_width: setup.snap_width,
            net: &setup.net,
            context_net: &setup.context_net,
            tables: &setup.tables,
            state,
            scratch,
            $($field $(: $value)?,)*
        }
    }};
}

mod chains;

pub(in crate::doctor) use chains::{LANGEVIN, MALA, ODE};

impl Setup {
    fn new(trial: &mut Trial<'_>, shape: &Shape) -> Result<Self, Failure> {
        let random = RandomModel::new(trial, shape)?;
        let model = &random.model;
        let net = random.score_net()?;
        let mut tables = net.table_words(&model.table);
        let context_table = model.context_net.append_tables(&model.table, &mut tables);
        let sigma_table = tables.len() as u32;
        tables.extend(SIGMAS.map(|sigma| (sigma as f32).to_bits()));
        let context_at = model.context_net.state_words();
        Ok(Self {
            net: net.window(&random.weights),
            context_net: model.context_net.window(&random.weights),
            tables: trial.words("tables", &tables)?,
            context_table,
            sigma_table,
            context_at,
            state_words: context_at + pitch(shape.context) + 4,
            stash_words: net.stash_words(),
            tile_iterations: net.forward_iterations(),
            score: net.constants(),
            given: None,
            temperature: 1.0,
            snap_width: 0.0,
            random,
        })
    }

    /// With a temperature other than 1, or with values snapped to levels.
    fn special(trial: &mut Trial<'_>, shape: &Shape, is_tempered: bool, is_snapped: bool) -> Result<Self, Failure> {
        let (temperature, snap_width) =
            (if is_tempered { 0.5 } else { 1.0 }, if is_snapped { SNAP_WIDTH } else { 0.0 });
        Ok(Self { temperature, snap_width, ..Self::new(trial, shape)? })
    }

    /// Poisoned, or zero.
    fn state(&self, gpu: &Gpu, n_samples: usize) -> Result<Tensor, GpuError> {
        gpu.tensor("state", &[n_samples, self.state_words])
    }

    /// The score of one dimension as a function of (y, sigma), given its context.
    fn score(&self, context: Vec<f64>) -> impl Fn(f64, f64) -> f64 {
        move |y, sigma| self.random.twin.net.evaluate(&context, y, sigma).0
    }

    /// Holds every drawn dimension against `draw(score, sample, dimension)`.
    fn expect(&self, trial: &mut Trial<'_>, state: &Tensor, tolerance: f64, draw: &Draw<'_>) -> Result<(), Failure> {
        let got = self.drawn(trial.gpu, state)?;
        let mut want = Vec::with_capacity(got.len());
        let mut undecided = 0;
        let net = &self.random.twin.context;
        for (sample, x) in got.chunks_exact(net.dimensions()).enumerate() {
            let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
            for (d, context) in net.contexts(&x).chunks_exact(net.width()).enumerate() {
                let drawn = draw(&self.score(context.to_vec()), FIRST_SAMPLE + sample as u32, d as u32);
                undecided += usize::from(drawn.is_none());
                want.push(drawn.and_then(|x| self.snapped(x, tolerance)).unwrap_or(x[d]));
            }
        }
        if undecided as f64 > UNDECIDED * want.len() as f64 {
            return Err(Failure::Broken(format!("{undecided} of {} draws cannot be compared", want.len())));
        }
        trial.expect_values("samples", &got, &want, &vec![tolerance; want.len()])
    }

    /// As the data's levels have it, where values are snapped; none where the tolerance decides between two.
    fn snapped(&self, x: f64, tolerance: f64) -> Option<f64> {
        if self.snap_width == 0.0 {
            return Some(x);
        }
        let levels =
            DataLevels { low: f64::from(RANGE[0]), high: f64::from(RANGE[1]), width: f64::from(self.snap_width) };
        let (snapped, margin) = levels.snap(x);
        (margin > tolerance).then_some(snapped)
    }

    /// Lets `run` draw one dimension of a state with random contexts, as a network of another kind would leave them.
    fn expect_of_given_context(
        &self,
        trial: &mut Trial<'_>,
        tolerance: f64,
        draw: &Draw<'_>,
        run: impl FnOnce(&Trial<'_>, &Tensor, usize) -> Result<(), GpuError>,
    ) -> Result<(), Failure> {
        let (d, width) = (2, self.random.twin.context.width());
        let context = trial.normals(width);
        let mut words = vec![0.0; self.state_words];
        words[self.context_at..][..width].copy_from_slice(&context);
        let state = trial.floats("state", &[1, self.state_words], &words)?;
        run(trial, &state, d)?;
        let got = self.drawn(trial.gpu, &state)?[d];
        let want = draw(&self.score(context), FIRST_SAMPLE, d as u32).and_then(|x| self.snapped(x, tolerance));
        trial.expect_values("given context", &[got], &[want.unwrap_or(f64::from(got))], &[tolerance])
    }

    /// The samples in a state, (n, D).
    fn drawn(&self, gpu: &Gpu, state: &Tensor) -> Result<Vec<f32>, GpuError> {
        let words: Vec<f32> = gpu.read(state)?;
        let dimensions = self.random.model.dimensions();
        Ok(words.chunks_exact(self.state_words).flat_map(|state| &state[..dimensions]).copied().collect())
    }

    /// Of a sampler's kernel, for this network.
    fn variant(&self, gpu: &Gpu, spec: &'static KernelSpec) -> &'static Variant {
        gpu.variant_for_net(spec, self.score.net_quads > 0)
    }

    /// Of as many workgroups as a cut has.
    fn scratch(&self, trial: &Trial<'_>, state: &Tensor, cut: Cut<'_>) -> Result<Tensor, GpuError> {
        trial.gpu.tensor("scratch", &[state.shape()[0].div_ceil(cut.samples), self.stash_words])
    }

    fn expect_same(&self, trial: &Trial<'_>, whole: &Tensor, cut: &Tensor) -> Result<(), Failure> {
        trial.expect_intact(cut)?;
        trial.expect_same_draws(&self.drawn(trial.gpu, whole)?, &self.drawn(trial.gpu, cut)?)
    }
}

/// An error of the score moves a quantile by the error of the distribution function over the density; a draw in a thin
/// tail costs digits. Steps of the grids are about 0.1 sigma.
const MULTILEVEL_TOLERANCE: f64 = 1e-4;

fn multilevel(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // The second has as many points as a workgroup's memory holds.
    let cases = [(SHAPES[0], 40, 3, 2), (SHAPES[1], 128, 2, 1), (SHAPES[2], 24, 3, 2), (SHAPES[3], 24, 9, 8)];
    for (shape, points, n_samples, samples) in cases {
        let end = shape.dimensions();
        let setup = Setup::special(&mut trial, &shape, n_samples == 2, n_samples == 9)?;
        let settings = quadrature(&setup, points);
        let draw = |score: &dyn Fn(f64, f64) -> f64, sample, d| {
            Some(multilevel_twin(score, &settings, &settings.uniforms(SEED, sample, d)).x)
        };
        let (whole, cut) = (setup.state(gpu, n_samples)?, setup.state(gpu, n_samples)?);
        // Software adapters bound the loops of one dispatch.
        let middle = end.div_ceil(2);
        run_multilevel(&trial, &setup, &shape, points, true, &whole, Cut { samples, ends: &[0, middle, end] })?;
        setup.expect(&mut trial, &whole, MULTILEVEL_TOLERANCE, &draw)?;
        let otherwise = Cut { samples: 4, ends: &[0, 1, middle + 1, end] };
        run_multilevel(&trial, &setup, &shape, points, true, &cut, otherwise)?;
        setup.expect_same(&trial, &whole, &cut)?;
        setup.expect_of_given_context(&mut trial, MULTILEVEL_TOLERANCE, &draw, |trial, state, d| {
            run_multilevel(trial, &setup, &shape, points, false, state, Cut { samples: 1, ends: &[d, d + 1] })
        })?;
    }
    weighed(&mut trial)?;
    trial.verdict()
}

/// Not twice as many, but for what a workgroup's memory holds.
fn first_points(points: usize) -> usize {
    if points == 128 { 256 } else { points + 21 }
}

fn quadrature(setup: &Setup, points: usize) -> MultiLevel {
    let [low, high] = RANGE.map(f64::from);
    MultiLevel {
        sigmas: SIGMAS.to_vec(),
        first_points: first_points(points),
        points,
        low,
        high,
        temperature: f64::from(setup.temperature),
    }
}

/// Errors of a log weight add up over the levels of the known dimensions.
const WEIGHT_TOLERANCE: f64 = 5e-4;

/// Particles of two groups, each with known, noisy and unknown values.
fn weighed(trial: &mut Trial<'_>) -> Result<(), Failure> {
    let (shape, points, n_groups, particles) = (SHAPES[0], 24, 2, 2);
    let mut setup = Setup::new(trial, &shape)?;
    let end = shape.dimensions();
    let settings = quadrature(&setup, points);
    // Known and weighed; noisy and weighed; unknown; known and not weighed; noisy and not weighed: by turns.
    let kinds: [u32; 5] = [1 | 4, 2 | 4, 0, 1, 2];
    let kind_of = |group: usize, d: usize| kinds[(2 * group + d) % kinds.len()];
    let values: Vec<f64> = (0..n_groups * end).map(|_| trial.uniform(-0.5, 1.0)).collect();
    let mut tables: Vec<u32> = trial.gpu.read(&setup.tables)?;
    setup.given = Some((tables.len() as u32, particles as u32));
    for (at, value) in values.iter().enumerate() {
        tables.extend([kind_of(at / end, at % end), (*value as f32).to_bits()]);
    }
    setup.tables = trial.words("tables", &tables)?;
    let n_samples = n_groups * particles;
    // The log weights start from something.
    let mut words = vec![0.0; n_samples * setup.state_words];
    words.chunks_exact_mut(setup.state_words).for_each(|state| state[setup.state_words - 1] = 0.5);
    let state = trial.floats("state", &[n_samples, setup.state_words], &words)?;
    run_multilevel(trial, &setup, &shape, points, true, &state, Cut { samples: 4, ends: &[0, 2, end] })?;

    let got = setup.drawn(trial.gpu, &state)?;
    let (mut want, mut log_weights) = (Vec::new(), vec![0.5; n_samples]);
    let net = &setup.random.twin.context;
    for (sample, x) in got.chunks_exact(end).enumerate() {
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        for (d, context) in net.contexts(&x).chunks_exact(net.width()).enumerate() {
            let (group, number) = (sample / particles, FIRST_SAMPLE + sample as u32);
            let (kind, value) = (kind_of(group, d), values[group * end + d]);
            let (uniforms, normals) =
                (settings.uniforms(SEED, number, d as u32), settings.normals(SEED, number, d as u32));
            let score = setup.score(context.to_vec());
            let given = match kind & 3 {
                0 => {
                    want.push(multilevel_twin(score, &settings, &uniforms).x);
                    continue;
                }
                1 => Given::Known(value),
                _ => Given::Noisy(value),
            };
            let (x, log_weight) = multilevel_given(score, &settings, given, &uniforms, &normals);
            want.push(x);
            log_weights[sample] += if kind & 4 == 4 { log_weight } else { 0.0 };
        }
    }
    trial.expect_values("given samples", &got, &want, &vec![MULTILEVEL_TOLERANCE; want.len()])?;
    let words: Vec<f32> = trial.gpu.read(&state)?;
    let got: Vec<f32> = words.chunks_exact(setup.state_words).map(|state| state[setup.state_words - 1]).collect();
    trial.expect_values("log weights", &got, &log_weights, &vec![WEIGHT_TOLERANCE; n_samples])
}

fn run_multilevel(
    trial: &Trial<'_>,
    setup: &Setup,
    shape: &Shape,
    points: usize,
    incremental: bool,
    state: &Tensor,
    cut: Cut<'_>,
) -> Result<(), GpuError> {
    let cut = cut.on(trial.gpu, setup.variant(trial.gpu, SampleMultilevel::SPEC), GRID_LINES);
    let scratch = setup.scratch(trial, state, cut)?;
    for range in cut.ends.windows(2) {
        trial.run(&score_sampler!(
            trial,
            setup,
            shape,
            incremental,
            state,
            &scratch,
            [cut.samples; 2],
            SampleMultilevel {
                first_dimension: range[0] as u32,
                end_dimension: range[1] as u32,
                first_points: first_points(points) as u32,
                points: points as u32,
                given_at: setup.given.map_or(0, |given| given.0),
                particles: setup.given.map_or(1, |given| given.1),
                low: RANGE[0],
                high: RANGE[1],
            }
        ))?;
    }
    Ok(())
}
