//! Mixture heads: evaluation, training and exact draws.

use crate::codes::{Activation, Family, Objective, Parametrisation};
use crate::gpu::{Gpu, GpuError, Kernel, Tensor, pitch};
use crate::kernels::{MixtureForward, MixtureTrain, SampleMixture};
use crate::models::ar_csm::{Bins, MixtureHead, Network};
use crate::nn::net::StepTile;
use crate::reference::mixture::Mixture;
use crate::reference::score_net::{Loss, Row};

use super::model::{Contexts, RandomModel, Shape};
use super::trial::{Data, Trial, relative_to_largest};
use super::{Check, Failure, fault};

pub(super) const FORWARD: Check = Check {
    kernel: MixtureForward::SPEC,
    run: forward,
    faults: &[
        fault("mixture_forward", "f.z + (f.y - score) * (f.y - score)", "f.z + f.y * f.y"),
        fault("mixture_forward", "select(1.0, LOGISTIC_NOISE_SHARE, FAMILY == 1u)", "1.0"),
        fault("mixture_forward", "totals.x - totals.y", "totals.x"),
        fault("mixture_forward", "f32(index) * params.mean_step", "params.mean_step"),
        fault("mixture_forward", "x > params.bin_high - 0.5 * params.bin_width", "x > params.bin_high"),
    ],
};

pub(super) const TRAIN: Check = Check {
    kernel: MixtureTrain::SPEC,
    run: train,
    faults: &[
        fault("mixture_train", "select(0.0, share * share, abs(b) < LARGEST_LOG_SCALE)", "share * share"),
        fault("mixture_train", "weight * (prior - share)", "-weight * share"),
        fault("mixture_train", "2.0 * f.z + u * f.w", "2.0 * f.z"),
        fault("mixture_train", "terms.y + 2.0 * terms.z * ahead", "terms.y"),
        fault("mixture_train", "lower * below", "below"),
        fault("mixture_train", "-width * exp(-min(width, 87.0)) / inside", "0.0"),
        fault("mixture_train", "min(params.row_stride, n_all - index * params.row_stride)", "params.row_stride"),
        fault("mixture_train", "params.n_groups * 64u", "params.n_rows"),
        fault("mixture_train", "h * score + h_slope", "h * score"),
    ],
};

pub(super) const SAMPLE: Check = Check {
    kernel: SampleMixture::SPEC,
    run: sample,
    faults: &[
        fault("sample_mixture", "rest < 0.0", "rest < -0.5"),
        fault("sample_mixture", "u / (1.0 - u)", "u"),
        fault("sample_mixture", "params.first_sample + sample, d, 0u", "sample, d, 0u"),
        fault("sample_mixture", "params.incremental == 1u", "true"),
        fault("sample_mixture", "c.mean + c.scale * sqrt", "c.mean + sqrt"),
        fault("sample_mixture", "(1.0 - share) * log", "0.0 * log"),
        fault("sample_mixture", "round((inside", "floor((inside"),
        fault("sample_mixture", "index > 0u && layer.n_in == layer.n_out", "layer.n_in == layer.n_out"),
        fault("sample_mixture", "(group + mask - 1u) * n_in", "(group + 1u) * n_in"),
    ],
};

/// Sums of up to ten positive terms, exp and log at WGSL's accuracy; z = (x - m) / t of up to a hundred loses two digits.
const TOLERANCE: f64 = 2e-5;
/// Ends of the support, exact in f32; some rows lie outside.
const BOUNDS: [f32; 2] = [-1.0, 1.5];

/// Everything but the parameters, exact in f32.
fn head(family: Family, components: usize, has_logits: bool, bins: Option<usize>) -> MixtureHead {
    MixtureHead {
        family,
        components,
        has_logits,
        first_mean: -0.5,
        mean_step: 0.25,
        mean_unit: 0.5,
        scale_unit: 0.375,
        bins: bins.map(|count| Bins { low: -1.0, high: 1.0, count }),
    }
}

fn twin(head: &MixtureHead) -> Mixture {
    Mixture {
        family: head.family,
        components: head.components,
        has_logits: head.has_logits,
        first_mean: f64::from(head.first_mean),
        mean_step: f64::from(head.mean_step),
        mean_unit: f64::from(head.mean_unit),
        scale_unit: f64::from(head.scale_unit),
        bins: head.bins.map(|_| head.bin_numbers().map(f64::from)),
    }
}

/// Rows of a batch, one out of `row_stride`, with everything that a kernel is given.
struct Rows {
    batch: usize,
    dimensions: usize,
    row_stride: usize,
    /// Which (sample * D + dimension) each row is.
    places: Vec<usize>,
    x: Vec<f64>,
    sigma: Vec<f64>,
    eps: Vec<f64>,
    context: Data,
    tensor: Tensor,
}

impl Rows {
    /// Noise on all rows but every third; with bins, levels without noise. One log scale of the first rows lies beyond
    /// each bound.
    fn random(
        trial: &mut Trial<'_>,
        head: &MixtureHead,
        [batch, dimensions, row_stride]: [usize; 3],
    ) -> Result<Self, GpuError> {
        let n_all = batch * dimensions;
        let place = |first: usize| first + first * 7 % row_stride.min(n_all - first);
        let places: Vec<usize> = (0..n_all).step_by(row_stride).map(place).collect();
        let count = places.len();
        let (mut x, eps) = (trial.normals(count), trial.normals(count));
        let mut sigma: Vec<f64> = (0..count).map(|r| if r % 3 == 2 { 0.0 } else { trial.uniform(0.1, 1.5) }).collect();
        if let Some(bins) = head.bins {
            let width = f64::from(bins.width());
            x.iter_mut().for_each(|x| *x = ((*x).clamp(-1.0, 1.0) / width).round() * width);
            sigma.fill(0.0);
        }
        let mut context = trial.normals(n_all * head.context());
        if head.components > 1 {
            let width = head.context();
            context[places[0] * width + width - 1] = 7.5;
            // Sharp logistics give bins probabilities below the least number.
            let sharp = if head.bins.is_some() { 0.0 } else { -8.0 };
            context[places[1 % count] * width + width - 2] = sharp;
        }
        let bits = |value: f64| (value as f32).to_bits();
        let words: Vec<u32> =
            (0..count).flat_map(|r| [places[r] as u32, bits(x[r]), bits(sigma[r]), bits(eps[r])]).collect();
        let tensor = trial.floats("context", &[batch, dimensions * head.context()], &context)?;
        Ok(Self {
            batch,
            dimensions,
            row_stride,
            tensor: trial.gpu.upload("rows", &[count, 4], &words)?,
            context: Data { tensor, values: context },
            places,
            x,
            sigma,
            eps,
        })
    }

    fn context_of(&self, row: usize, width: usize) -> &[f64] {
        &self.context.values[self.places[row] * width..][..width]
    }
}

fn forward(gpu: &Gpu) -> Result<f64, Failure> {
    use Family::{Gaussian, Logistic};
    let mut trial = Trial::new(gpu);
    let cases = [
        (1, 1, head(Gaussian, 1, false, None)),
        (9, 7, head(Gaussian, 3, true, None)),
        (11, 6, head(Gaussian, 10, true, None)),
        (13, 5, head(Logistic, 1, true, None)),
        (7, 10, head(Logistic, 10, true, None)),
        (9, 9, head(Logistic, 3, true, Some(17))),
        (8, 8, head(Logistic, 5, true, Some(2))),
    ];
    for (batch, dimensions, head) in cases {
        let rows = Rows::random(&mut trial, &head, [batch, dimensions, 1])?;
        let n_rows = rows.places.len();
        let result = gpu.tensor("result", &[n_rows, 4])?;
        let [bin_low, bin_high, bin_width] = head.bin_numbers();
        trial.run(&MixtureForward {
            family: head.family as u32,
            n_rows: n_rows as u32,
            batch: batch as u32,
            dimensions: dimensions as u32,
            context_width: head.context() as u32,
            components: head.components as u32,
            n_logits: head.n_logits(),
            first_mean: head.first_mean,
            mean_step: head.mean_step,
            mean_unit: head.mean_unit,
            scale_unit: head.scale_unit,
            bin_low,
            bin_high,
            bin_width,
            context: &rows.context.tensor,
            rows: &rows.tensor,
            result: &result,
        })?;
        let twin = twin(&head);
        let at: Vec<_> =
            (0..n_rows).map(|r| twin.evaluate(rows.context_of(r, head.context()), rows.x[r], rows.sigma[r])).collect();
        let want: Vec<f64> = at.iter().flat_map(|at| [at.score, at.slope, at.log_density, 0.0]).collect();
        let tolerance: Vec<f64> = at
            .iter()
            .flat_map(|at| {
                // A sharp component's score and slope go like 1/t and 1/t^2, the more the farther out.
                let score = TOLERANCE * (1.0 + at.score.abs());
                let slope = TOLERANCE * (1.0 + at.slope.abs() + at.score * at.score);
                [score, slope, TOLERANCE * (1.0 + at.log_density.abs()), 0.0]
            })
            .collect();
        trial.expect(&result, &want, &tolerance)?;
    }
    trial.verdict()
}

fn train(gpu: &Gpu) -> Result<f64, Failure> {
    use Family::{Gaussian, Logistic};
    use Objective::{Csm, Dsm, Ml, Plain, Weighted};
    let mut trial = Trial::new(gpu);
    let cases = [
        ([1, 1, 1], 1, Ml, head(Gaussian, 1, false, None)),
        ([11, 9, 4], 1, Ml, head(Gaussian, 5, true, None)),
        ([9, 30, 1], 2, Ml, head(Logistic, 10, true, None)),
        ([9, 16, 1], 2, Ml, head(Logistic, 4, true, Some(17))),
        ([5, 7, 3], 1, Ml, head(Logistic, 3, true, Some(2))),
        ([11, 9, 4], 1, Csm, head(Gaussian, 5, true, None)),
        ([10, 17, 1], 2, Csm, head(Logistic, 3, true, None)),
        ([10, 9, 1], 1, Dsm, head(Logistic, 10, true, None)),
        ([7, 5, 2], 1, Dsm, head(Gaussian, 1, false, None)),
        ([9, 7, 1], 1, Plain, head(Gaussian, 3, true, None)),
        ([7, 9, 2], 2, Weighted, head(Gaussian, 4, true, None)),
        // Nearly as many loop iterations as a dispatch may have: the declared bound must be true.
        ([40, 200, 1], 1, Dsm, head(Gaussian, 155, true, None)),
    ];
    for (sizes, n_groups, objective, head) in cases {
        let rows = Rows::random(&mut trial, &head, sizes)?;
        train_case(&mut trial, &head, &rows, n_groups, objective)?;
    }
    trial.verdict()
}

fn train_case(
    trial: &mut Trial<'_>,
    head: &MixtureHead,
    rows: &Rows,
    n_groups: u32,
    objective: Objective,
) -> Result<(), Failure> {
    let (gpu, width) = (trial.gpu, head.context());
    let all = [rows.batch, rows.dimensions * width];
    let dcontext = trial.floats("dcontext", &all, &vec![0.0; all[0] * all[1]])?;
    let partials = gpu.tensor("partials", &[n_groups as usize, 4])?;
    let [bin_low, bin_high, bin_width] = head.bin_numbers();
    trial.run(&MixtureTrain {
        family: head.family as u32,
        objective: objective as u32,
        n_rows: rows.places.len() as u32,
        batch: rows.batch as u32,
        dimensions: rows.dimensions as u32,
        context_width: width as u32,
        row_stride: rows.row_stride as u32,
        n_groups,
        components: head.components as u32,
        n_logits: head.n_logits(),
        first_mean: head.first_mean,
        mean_step: head.mean_step,
        mean_unit: head.mean_unit,
        scale_unit: head.scale_unit,
        bin_low,
        bin_high,
        bin_width,
        low: BOUNDS[0],
        high: BOUNDS[1],
        context: &rows.context.tensor,
        rows: &rows.tensor,
        dcontext: &dcontext,
        partials: &partials,
    })?;
    let loss = Loss { objective, bounds: BOUNDS.map(f64::from) };
    let n_all = rows.batch * rows.dimensions;
    // The twin computes x~ from x; the kernels are given x~.
    let row = |r: usize| {
        let weight = rows.row_stride.min(n_all - r * rows.row_stride) as f64 / rows.batch as f64;
        let (sigma, eps) = (rows.sigma[r], rows.eps[r]);
        let mut row = Row { context: rows.context_of(r, width), x: rows.x[r], sigma, eps, weight };
        row.x += rows.x[r] - loss.position(&row);
        row
    };
    let twin_rows: Vec<Row> = (0..rows.places.len()).map(row).collect();
    let want = twin(head).loss_and_gradient(&twin_rows, &loss);

    let (mut dcontexts, mut tolerance) = (vec![0.0; n_all * width], vec![0.0; n_all * width]);
    for (place, gradient) in rows.places.iter().zip(want.dcontexts.chunks_exact(width)) {
        dcontexts[place * width..][..width].copy_from_slice(gradient);
        // Sharp components make large gradients in their own rows only.
        let floor = TOLERANCE / rows.batch as f64;
        let room = relative_to_largest(gradient, TOLERANCE);
        tolerance[place * width..][..width].iter_mut().zip(room).for_each(|(to, room)| *to = room.max(floor));
    }
    trial.expect(&dcontext, &dcontexts, &tolerance)?;

    let terms = || twin_rows.iter().zip(&want.losses).map(|(row, loss)| row.weight * loss);
    trial.expect_intact(&partials)?;
    let written: Vec<f32> = gpu.read(&partials)?;
    let got: f64 = written.chunks_exact(4).map(|group| f64::from(group[0])).sum();
    let room = TOLERANCE * terms().map(f64::abs).sum::<f64>();
    trial.expect_values(&format!("loss, {objective:?}"), &[got as f32], &[terms().sum()], &[room])
}

const SEED: u64 = 0x0fed_cba9_8765_4321;
const FIRST_SAMPLE: u32 = 11;
/// Room for a draw, whose scale may be e^2 times the unit and its quantile up to four scales out.
const DRAW_TOLERANCE: f64 = 2e-4;

/// Context networks of each kind, as wide as a mixture of three needs; their score networks stand idle.
const SHAPES: [Shape; 3] = [
    Shape {
        contexts: Contexts::Made { dimensions: 5, hidden: &[5, 5], residual: true },
        context: 9,
        context_activation: Activation::Relu,
        hidden: &[4],
        activation: Activation::Silu,
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
        context: 9,
        context_activation: Activation::Elu,
        hidden: &[4],
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
        hidden: &[4],
        activation: Activation::Silu,
        parametrisation: Parametrisation::Edm,
    },
];

fn sample(gpu: &Gpu) -> Result<f64, Failure> {
    use Family::{Gaussian, Logistic};
    let mut trial = Trial::new(gpu);
    // The first has more samples than a workgroup owns.
    let cases = [
        (SHAPES[0], head(Gaussian, 3, true, None), 0.5, 0.25, 19),
        (SHAPES[0], head(Logistic, 3, true, None), 0.0, 1.0, 16),
        (SHAPES[0], head(Logistic, 3, true, Some(5)), 0.0, 1.0, 5),
        (SHAPES[1], head(Logistic, 3, true, None), 0.25, 1.0, 3),
        (SHAPES[2], head(Gaussian, 1, false, None), 0.0, 1.0, 2),
    ];
    for (shape, head, sigma, temperature, n_samples) in cases {
        let setup = Setup { temperature, ..Setup::new(&mut trial, &shape, head, sigma)? };
        let end = shape.dimensions();
        let (whole, cut) = (setup.state(gpu, n_samples)?, setup.state(gpu, n_samples)?);
        setup.run(&trial, &shape, true, &whole, &[0, end.div_ceil(2), end])?;
        setup.expect(&mut trial, &whole)?;
        setup.run(&trial, &shape, true, &cut, &[0, 1, end.div_ceil(2) + 1, end])?;
        setup.expect_same(&trial, &whole, &cut)?;
        setup.expect_of_given_context(&mut trial, &shape)?;
    }
    trial.verdict()
}

/// What a dispatch is given, beside the head.
struct Setup {
    random: RandomModel,
    head: MixtureHead,
    twin: Mixture,
    sigma: f32,
    temperature: f32,
    context_net: Tensor,
    tables: Tensor,
    context_table: u32,
    context_at: usize,
    state_words: usize,
}

impl Setup {
    fn new(trial: &mut Trial<'_>, shape: &Shape, head: MixtureHead, sigma: f32) -> Result<Self, Failure> {
        let random = RandomModel::new(trial, shape)?;
        let model = &random.model;
        let mut tables = vec![u32::MAX; 3];
        let context_table = model.context_net.append_tables(&model.table, &mut tables);
        let context_at = model.context_net.state_words();
        Ok(Self {
            context_net: model.context_net.window(&random.weights),
            tables: trial.words("tables", &tables)?,
            context_table,
            context_at,
            state_words: context_at + pitch(shape.context) + 4,
            twin: twin(&head),
            head,
            sigma,
            temperature: 1.0,
            random,
        })
    }

    /// Poisoned, or zero.
    fn state(&self, gpu: &Gpu, n_samples: usize) -> Result<Tensor, GpuError> {
        gpu.tensor("state", &[n_samples, self.state_words])
    }

    /// Draws in dispatches that end at each of `cuts`, starting at the first.
    fn run(
        &self,
        trial: &Trial<'_>,
        shape: &Shape,
        incremental: bool,
        state: &Tensor,
        cuts: &[usize],
    ) -> Result<(), GpuError> {
        let context_net = &self.random.model.context_net;
        let constants = context_net.step_constants();
        let [bin_low, bin_high, bin_width] = self.head.bin_numbers();
        let variant = trial.gpu.variant(SampleMixture::SPEC);
        let group_samples = u64::from(variant.tile[0]);
        let tile = StepTile::new(variant, group_samples);
        for range in cuts.windows(2) {
            trial.run(&SampleMixture {
                family: self.head.family as u32,
                context_activation: constants.activation,
                is_image_net: constants.is_image_net,
                residual: constants.residual,
                gate: constants.gate,
                samples: group_samples as u32,
                context_iterations: context_net.step_iterations(group_samples, &tile),
                n_samples: state.shape()[0] as u32,
                dimensions: shape.dimensions() as u32,
                context_width: shape.context as u32,
                first_dimension: range[0] as u32,
                end_dimension: range[1] as u32,
                first_sample: FIRST_SAMPLE,
                seed_low: SEED as u32,
                seed_high: (SEED >> 32) as u32,
                n_context_layers: context_net.n_layers() as u32,
                context_table: self.context_table,
                incremental: u32::from(incremental),
                context_at: self.context_at as u32,
                state_words: self.state_words as u32,
                n_context_net: self.context_net.words() as u32,
                n_tables: self.tables.shape()[0] as u32,
                components: self.head.components as u32,
                n_logits: self.head.n_logits(),
                first_mean: self.head.first_mean,
                mean_step: self.head.mean_step,
                mean_unit: self.head.mean_unit,
                scale_unit: self.head.scale_unit,
                bin_low,
                bin_high,
                bin_width,
                sigma: self.sigma,
                temperature: self.temperature,
                context_net: &self.context_net,
                tables: &self.tables,
                state,
            })?;
        }
        Ok(())
    }

    fn draw(&self, context: &[f64], sample: usize, d: usize) -> f64 {
        let bits = Mixture::bits(SEED, FIRST_SAMPLE + sample as u32, d as u32);
        self.twin.draw(context, f64::from(self.sigma), f64::from(self.temperature), bits)
    }

    /// Holds every drawn dimension against the twin's draw, given the dimensions before it as the adapter drew them.
    fn expect(&self, trial: &mut Trial<'_>, state: &Tensor) -> Result<(), Failure> {
        let got = self.drawn(trial.gpu, state)?;
        let net = &self.random.twin.context;
        let mut want = Vec::with_capacity(got.len());
        for (sample, x) in got.chunks_exact(net.dimensions()).enumerate() {
            let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
            let contexts = net.contexts(&x);
            want.extend(contexts.chunks_exact(net.width()).enumerate().map(|(d, c)| self.draw(c, sample, d)));
        }
        let tolerance: Vec<f64> = want.iter().map(|x| DRAW_TOLERANCE * (1.0 + x.abs())).collect();
        trial.expect_values("samples", &got, &want, &tolerance)
    }

    /// One dimension from a random context, as another kind of network would leave it.
    fn expect_of_given_context(&self, trial: &mut Trial<'_>, shape: &Shape) -> Result<(), Failure> {
        let context = trial.normals(shape.context);
        let mut words = vec![0.0; self.state_words];
        words[self.context_at..][..shape.context].copy_from_slice(&context);
        let state = trial.floats("state", &[1, self.state_words], &words)?;
        self.run(trial, shape, false, &state, &[2, 3])?;
        let (got, want) = (self.drawn(trial.gpu, &state)?, self.draw(&context, 0, 2));
        trial.expect_values("given context", &got[2..=2], &[want], &[DRAW_TOLERANCE * (1.0 + want.abs())])
    }

    /// The samples in a state, (n, D).
    fn drawn(&self, gpu: &Gpu, state: &Tensor) -> Result<Vec<f32>, GpuError> {
        let words: Vec<f32> = gpu.read(state)?;
        let dimensions = self.random.model.dimensions();
        Ok(words.chunks_exact(self.state_words).flat_map(|state| &state[..dimensions]).copied().collect())
    }

    fn expect_same(&self, trial: &Trial<'_>, whole: &Tensor, cut: &Tensor) -> Result<(), Failure> {
        trial.expect_intact(cut)?;
        trial.expect_same_draws(&self.drawn(trial.gpu, whole)?, &self.drawn(trial.gpu, cut)?)
    }
}
