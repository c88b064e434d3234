//! The fused score network.

use crate::codes::{Activation, Objective, Parametrisation};
use crate::gpu::{Gpu, GpuError, Kernel, Tensor, pitch};
use crate::kernels::{ScoreForward, ScoreTrain};
use crate::reference::score_net::{Loss, Row};

use super::model::{Contexts, MEAN, RandomModel, SD, Shape};
use super::trial::{Data, Trial, relative_to_largest};
use super::{Check, Failure, fault};

pub(super) const FORWARD: Check = Check {
    kernel: ScoreForward::SPEC,
    run: forward,
    faults: &[
        fault("score_forward", "phi_first_quad(z.even) * z.odd", "phi_quad(z.odd)"),
        fault("score_forward", "select(bias, vec4(0.0), TANGENT == 1u)", "bias"),
        fault("score_forward", "net_at(layer.bias + quad)", "net_at(layer.bias)"),
        fault("score_forward", "WIDE == 1u && !is_first", "false"),
        fault("score_forward", "is_last && is_done", "is_last"),
        fault("score_forward", "vec4(quad == 1u)", "vec4(quad == 2u)"),
        fault("score_forward", "min(0u + lane, last)", "min(0u, last)"),
        fault("score_forward", "vec4(quad < n_quads)", "vec4(true)"),
        fault("score_forward", "row % params.dimensions * params.context_width", "row % params.dimensions"),
        fault("score_forward", "first += params.n_groups * ROWS_PER_TILE", "first += params.n_rows"),
    ],
};

pub(super) const TRAIN: Check = Check {
    kernel: ScoreTrain::SPEC,
    run: train,
    faults: &[
        fault("score_train", "dh.odd * phi_second_quad(at.even) * at.odd", "dh.odd * at.odd"),
        fault("score_train", "line % VIRTUAL == 0u", "true"),
        fault("score_train", "min(params.row_stride, n_all - index * params.row_stride)", "params.row_stride"),
        fault("score_train", "let quad0 = tile + local.x", "let quad0 = local.x"),
        fault("score_train", "vec3(1.0, gain, gain)", "vec3(1.0, gain, 1.0)"),
        fault("score_train", "h * score + h_slope", "h * score"),
        fault("score_train", "dh.odd * phi_second_quad(z.even) * z.odd", "dh.odd * z.odd"),
        fault("score_train", "(lane & bit) != 0u", "(lane & bit) == 0u"),
        fault("score_train", "select(dt0.low + dt0.high, vec4(0.0), TANGENT == 1u)", "vec4(0.0)"),
        fault("score_train", "keep_columns(dz, 4u * quad, layers[0].n_out)", "dz"),
        fault("score_train", "own + subgroupShuffleXor(own, 1u)", "2.0 * own"),
        // Of the variant for hardware.
        fault("score_train_workgroup", "dh.y * phi_second_2(z.x) * z.y", "dh.y * z.y"),
        fault("score_train_workgroup", "return dz.x + select(dz.y", "return dz.x + select(0.0"),
        fault("score_train_workgroup", "dot(seeds[pair1], activate_unit(z1, is_unit))", "seeds[pair1].x"),
        fault(
            "score_train_workgroup",
            "pair < PAIRS; pair++) {\n            total",
            "pair < 1u; pair++) {\n            total",
        ),
        fault("score_train_workgroup", "thread % ROWS_PER_TILE * VIRTUAL", "thread % ROWS_PER_TILE"),
        fault("score_train_workgroup", "min(first_quad + q, in_quads - 1u)", "min(q, in_quads - 1u)"),
        fault("score_train_workgroup", "ahead = own_inputs(thread, first + step)", "ahead = own_inputs(thread, first)"),
        fault("score_train_workgroup", "select(0.0, bias_of(layers[1]), share == 0u)", "bias_of(layers[1])"),
        fault("score_train_workgroup", "if turn == share", "if turn == 0u && share == 0u"),
    ],
};

/// Single precision through a net of this size: sums of up to 70 terms a layer, and exp at WGSL's accuracy. An error is
/// measured against the largest number of its kind, because every number is a sum over units that cancel.
const TOLERANCE: f64 = 2e-5;

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

/// Rows of a batch with everything that a kernel is given.
struct Rows {
    batch: usize,
    /// Which (sample * D + dimension) each row is.
    places: Vec<usize>,
    x_tilde: Vec<f64>,
    sigma: Vec<f64>,
    eps: Vec<f64>,
    context: Data,
    tensor: Tensor,
}

impl Rows {
    fn random(trial: &mut Trial<'_>, shape: &Shape, batch: usize, places: Vec<usize>) -> Result<Self, GpuError> {
        let x_tilde = trial.normals(places.len());
        let eps = trial.normals(places.len());
        let sigma: Vec<f64> = places.iter().map(|_| trial.uniform(0.1, 1.5)).collect();
        let bits = |value: f64| (value as f32).to_bits();
        let words: Vec<u32> = (0..places.len())
            .flat_map(|r| [places[r] as u32, bits(x_tilde[r]), bits(sigma[r]), bits(eps[r])])
            .collect();
        Ok(Self {
            batch,
            tensor: trial.gpu.upload("rows", &[places.len(), 4], &words)?,
            context: trial.data("context", &[batch, shape.dimensions() * shape.context])?,
            places,
            x_tilde,
            sigma,
            eps,
        })
    }

    fn context_of(&self, row: usize, width: usize) -> &[f64] {
        &self.context.values[self.places[row] * width..][..width]
    }
}

fn forward(gpu: &Gpu) -> Result<f64, Failure> {
    use Activation::{Silu, Tanh};
    use Parametrisation::{Edm, Osig, Plain};
    let mut trial = Trial::new(gpu);
    let cases = [
        (1, 1, shape(1, 1, &[1], Silu, Edm)),
        (7, 2, shape(9, 3, &[66, 35], Silu, Edm)),
        (11, 1, shape(3, 5, &[7, 130, 4], Tanh, Osig)),
        (13, 3, shape(10, 4, &[33], Activation::Softplus, Plain)),
        (32, 1, shape(2, 2, &[5, 6], Activation::Elu, Edm)),
    ];
    for (batch, n_groups, shape) in cases {
        let random = RandomModel::new(&mut trial, &shape)?;
        let net = random.score_net()?;
        let places: Vec<usize> = (0..batch * shape.dimensions()).rev().collect();
        let rows = Rows::random(&mut trial, &shape, batch, places)?;
        let n_rows = rows.places.len();
        let tables = trial.words("tables", &net.table_words(&random.model.table))?;
        let result = gpu.tensor("result", &[n_rows, 4])?;
        let window = net.window(&random.weights);
        let constants = net.constants();
        trial.run(&ScoreForward {
            activation: shape.activation as u32,
            parametrisation: shape.parametrisation as u32,
            score: constants,
            row_iterations: net.rows_iterations(),
            n_rows: n_rows as u32,
            batch: batch as u32,
            dimensions: shape.dimensions() as u32,
            context_width: shape.context as u32,
            n_net: window.words() as u32,
            n_tables: tables.words() as u32,
            n_groups,
            scratch_words: net.stash_words() as u32,
            mean: MEAN,
            sd: SD,
            context: &rows.context.tensor,
            rows: &rows.tensor,
            net: &window,
            tables: &tables,
            scratch: &gpu.tensor("scratch", &[n_groups as usize, net.stash_words()])?,
            result: &result,
        })?;
        let (scores, slopes): (Vec<f64>, Vec<f64>) = (0..n_rows)
            .map(|r| random.twin.net.evaluate(rows.context_of(r, shape.context), rows.x_tilde[r], rows.sigma[r]))
            .unzip();
        let tolerances = [relative_to_largest(&scores, TOLERANCE), relative_to_largest(&slopes, TOLERANCE)];
        let want: Vec<f64> = scores.iter().zip(&slopes).flat_map(|(&score, &slope)| [score, slope, 0.0, 0.0]).collect();
        let tolerance: Vec<f64> = (0..n_rows).flat_map(|r| [tolerances[0][r], tolerances[1][r], 0.0, 0.0]).collect();
        trial.expect(&result, &want, &tolerance)?;
    }
    trial.verdict()
}

fn train(gpu: &Gpu) -> Result<f64, Failure> {
    use Activation::{Silu, Tanh};
    use Objective::{Csm, Dsm, Plain, Weighted};
    let mut trial = Trial::new(gpu);
    let cases = [
        (1, 1, 1, Csm, shape(1, 1, &[1], Silu, Parametrisation::Edm)),
        (7, 2, 1, Csm, shape(9, 35, &[66, 37], Silu, Parametrisation::Edm)),
        (5, 1, 4, Csm, shape(7, 3, &[9], Silu, Parametrisation::Edm)),
        (9, 1, 2, Weighted, shape(7, 3, &[5, 6], Activation::Elu, Parametrisation::Plain)),
        // At most 64 units, as adapters with workgroups that share have it.
        (7, 2, 1, Csm, shape(9, 17, &[64, 37], Silu, Parametrisation::Edm)),
        (9, 2, 1, Dsm, shape(7, 13, &[41, 64], Tanh, Parametrisation::Plain)),
        (11, 3, 4, Dsm, shape(13, 5, &[7, 68, 4], Tanh, Parametrisation::Osig)),
        (11, 1, 1, Dsm, shape(5, 2, &[9, 6], Tanh, Parametrisation::Osig)),
        (13, 2, 1, Plain, shape(10, 4, &[33], Activation::Softplus, Parametrisation::Plain)),
        // Nearly as many loop iterations as a dispatch may have: the declared bound must be true.
        (620, 1, 1, Csm, shape(5, 1, &[6], Silu, Parametrisation::Edm)),
    ];
    for (batch, n_groups, row_stride, objective, shape) in cases {
        let random = RandomModel::new(&mut trial, &shape)?;
        let n_all = batch * shape.dimensions();
        let place = |first: usize| first + first * 7 % row_stride.min(n_all - first);
        let rows = Rows::random(&mut trial, &shape, batch, (0..n_all).step_by(row_stride).map(place).collect())?;
        train_case(&mut trial, &random, &rows, &shape, n_groups, row_stride, objective)?;
    }
    trial.verdict()
}

/// Ends of the support, exact in f32; some rows lie outside.
const BOUNDS: [f32; 2] = [-1.0, 1.5];

fn train_case(
    trial: &mut Trial<'_>,
    random: &RandomModel,
    rows: &Rows,
    shape: &Shape,
    n_groups: u32,
    row_stride: usize,
    objective: Objective,
) -> Result<(), Failure> {
    let (gpu, net) = (trial.gpu, random.score_net()?);
    let window = net.window(&random.weights);
    let tables = trial.words("tables", &net.table_words(&random.model.table))?;
    let scratch_words = net.stash_words() + window.words() + 4;
    let scratch = gpu.tensor("scratch", &[n_groups as usize, scratch_words])?;
    let width = shape.dimensions() * shape.context;
    let dcontext = trial.floats("dcontext", &[rows.batch, width], &vec![0.0; rows.batch * width])?;
    let constants = net.constants();
    trial.run(&ScoreTrain {
        activation: shape.activation as u32,
        parametrisation: shape.parametrisation as u32,
        objective: objective as u32,
        tangent: u32::from(objective != Objective::Dsm),
        score: constants,
        row_iterations: net.training_iterations(),
        n_rows: rows.places.len() as u32,
        batch: rows.batch as u32,
        dimensions: shape.dimensions() as u32,
        context_width: shape.context as u32,
        row_stride: row_stride as u32,
        n_net: window.words() as u32,
        n_tables: tables.words() as u32,
        n_groups,
        scratch_words: scratch_words as u32,
        gradient_at: net.stash_words() as u32,
        mean: MEAN,
        sd: SD,
        low: BOUNDS[0],
        high: BOUNDS[1],
        context: &rows.context.tensor,
        rows: &rows.tensor,
        net: &window,
        tables: &tables,
        scratch: &scratch,
        dcontext: &dcontext,
    })?;
    let loss = Loss { objective, bounds: BOUNDS.map(f64::from) };
    let twin_rows: Vec<Row> = (0..rows.places.len()).map(|r| twin_row(rows, shape, row_stride, &loss, r)).collect();
    let want = random.twin.net.loss_and_gradient(&twin_rows, &loss);

    let mut dcontexts = vec![0.0; rows.batch * width];
    for (place, gradient) in rows.places.iter().zip(want.dcontexts.chunks_exact(shape.context)) {
        dcontexts[place * shape.context..][..shape.context].copy_from_slice(gradient);
    }
    trial.expect(&dcontext, &dcontexts, &relative_to_largest(&dcontexts, TOLERANCE))?;

    let (mut gradient, mut tolerance) = (vec![0.0; window.words()], vec![0.0; window.words()]);
    let slots: Vec<_> = random.model.table.slots().filter(|(_, slot)| slot.name.starts_with("net")).collect();
    let parameters = want.layers.iter().flat_map(|layer| [&layer.weight, &layer.bias]);
    for ((_, slot), values) in slots.iter().zip(parameters) {
        let columns = *slot.shape.last().expect("a parameter has a shape");
        let at = slot.offset - slots[0].1.offset;
        let room = relative_to_largest(values, TOLERANCE)[0];
        for (row, values) in values.chunks_exact(columns).enumerate() {
            gradient[at + row * pitch(columns)..][..columns].copy_from_slice(values);
            tolerance[at + row * pitch(columns)..][..columns].fill(room);
        }
    }
    let terms = || twin_rows.iter().zip(&want.losses).map(|(row, loss)| row.weight * loss);
    gradient.push(terms().sum());
    tolerance.push(TOLERANCE * terms().map(f64::abs).sum::<f64>());

    trial.expect_intact(&scratch)?;
    let written: Vec<f32> = gpu.read(&scratch)?;
    let got: Vec<f32> = (net.stash_words()..scratch_words - 3)
        .map(|at| written.chunks_exact(scratch_words).map(|group| f64::from(group[at])).sum::<f64>() as f32)
        .collect();
    trial.expect_values(&format!("gradient and loss, {objective:?}"), &got, &gradient, &tolerance)
}

/// The twin computes x~ from x; the kernels are given x~.
fn twin_row<'a>(rows: &'a Rows, shape: &Shape, row_stride: usize, loss: &Loss, r: usize) -> Row<'a> {
    let n_all = rows.batch * shape.dimensions();
    let weight = row_stride.min(n_all - r * row_stride) as f64 / rows.batch as f64;
    let (sigma, eps) = (rows.sigma[r], rows.eps[r]);
    let mut row = Row { context: rows.context_of(r, shape.context), x: rows.x_tilde[r], sigma, eps, weight };
    row.x += rows.x_tilde[r] - loss.position(&row);
    row
}
