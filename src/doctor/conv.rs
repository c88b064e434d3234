//! Masked convolutions, gated units, dropout.

use crate::codes::Activation;
use crate::gpu::{Gpu, Kernel};
use crate::kernels::{
    Dropout, GateBackward, GateForward, MaskedConvBackwardInput, MaskedConvBackwardWeight, MaskedConvForward,
};
use crate::reference::conv::{ConvShape, Mask, Taps};
use crate::reference::{activation, conv, dropout, gate};

use super::dense::{arguments, depth, elementwise_tolerance};
use super::trial::{Trial, roundings};
use super::{Check, Failure, fault};

pub(super) const FORWARD: Check = Check {
    kernel: MaskedConvForward::SPEC,
    run: forward,
    faults: &[
        fault("masked_conv_forward", "channels < vec4(visible0_2)", "channels <= vec4(visible0_2)"),
        fault("masked_conv_forward", "group = quotient(place * params.groups", "group = quotient(o * params.groups"),
        fault("masked_conv_forward", "+ params.mask - 1u", "+ 1u"),
        fault("masked_conv_forward", "params.mask == 0u", "params.mask != 2u"),
        fault("masked_conv_forward", "any(at < vec2(0))", "at.x < 0"),
        fault("masked_conv_forward", "any(at >= extent)", "at.x >= extent.x"),
        fault("masked_conv_forward", "i32(j * params.stride)", "i32(j)"),
        fault("masked_conv_forward", "u32(at.x >> params.up)", "u32(at.x)"),
        fault("masked_conv_forward", "i32(params.in_width << params.up)", "i32(params.in_width)"),
        fault("masked_conv_forward", "sum += y[at]", "sum = y[at]"),
        fault("masked_conv_forward", "column + 3u) < vec4(params.n_out)", "column + 3u) <= vec4(params.n_out)"),
        fault("masked_conv_forward_tiled", "channels < vec4(column.visible)", "channels <= vec4(column.visible)"),
        fault("masked_conv_forward_tiled", "4u * (params.n_taps - 1u)", "4u * params.n_taps"),
        fault("masked_conv_forward_tiled", "bias[column / 4u] + value", "value"),
    ],
};

pub(super) const BACKWARD_INPUT: Check = Check {
    kernel: MaskedConvBackwardInput::SPEC,
    run: backward_input,
    faults: &[
        fault("masked_conv_backward_input", "columns0 < vec4(visible1)", "columns0 <= vec4(visible1)"),
        fault("masked_conv_backward_input", "o - params.half_width, o >= params.half_width", "o, false"),
        fault("masked_conv_backward_input", "tap + 1u == params.n_taps", "tap == params.n_taps"),
        fault("masked_conv_backward_input", "if between || any(at < vec2(0))", "if any(at < vec2(0))"),
        fault("masked_conv_backward_input", "between || any(at < vec2(0))", "between || at.x < 0"),
        fault("masked_conv_backward_input", "repetition % 2u", "repetition / 2u"),
        fault("masked_conv_backward_input", "(i << params.up)", "i"),
        fault("masked_conv_backward_input", "sum += dx[at]", "sum = dx[at]"),
        fault(
            "masked_conv_backward_input_tiled",
            "column.channels < vec4(visible)",
            "column.channels <= vec4(visible)",
        ),
        fault("masked_conv_backward_input_tiled", "at_tap, turn.tap < params.n_taps", "at_tap, true"),
        fault("masked_conv_backward_input_tiled", "turn.output + term % 4u", "turn.output"),
    ],
};

pub(super) const BACKWARD_WEIGHT: Check = Check {
    kernel: MaskedConvBackwardWeight::SPEC,
    run: backward_weight,
    faults: &[
        fault("masked_conv_backward_weight", "channels < vec4(visible)", "channels <= vec4(visible)"),
        fault("masked_conv_backward_weight", "o - params.half_width, o >= params.half_width", "o, false"),
        fault("masked_conv_backward_weight", "+ params.mask - 1u", ""),
        fault("masked_conv_backward_weight", "any(at >= extent)", "at.x >= extent.x"),
        fault("masked_conv_backward_weight", "i32(place.j * params.stride)", "i32(place.j)"),
        fault("masked_conv_backward_weight", "u32(at.y >> params.up)", "u32(at.y)"),
        fault("masked_conv_backward_weight", "start_row % params.out_height", "0u"),
        fault("masked_conv_backward_weight", "min(start + params.chunk_rows, n_rows)", "start + params.chunk_rows"),
        fault("masked_conv_backward_weight", "own1 < end", "own1 < n_rows"),
        fault("masked_conv_backward_weight_tiled", "line.quad], row < end", "line.quad], true"),
        fault("masked_conv_backward_weight_tiled", "next + left_quad0.term", "term + left_quad0.term"),
        fault("masked_conv_backward_weight_tiled", "Column(tap_step(tap),", "Column(tap_step(0u),"),
    ],
};

pub(super) const GATE_FORWARD: Check = Check {
    kernel: GateForward::SPEC,
    run: gate_forward,
    faults: &[
        fault("gate_forward", "at + params.width + 2u", "at + 2u"),
        fault("gate_forward", "phi(ACTIVATION, halves[at + 1u])", "halves[at + 1u]"),
        fault("gate_forward", "column + 3u < params.width", "column + 3u <= params.width"),
        fault("gate_forward", "(2u * params.width + 3u) / 4u * 4u", "2u * params.width"),
        fault("gate_forward", "group.y * 1024u + group.x", "group.x"),
    ],
};

pub(super) const GATE_BACKWARD: Check = Check {
    kernel: GateBackward::SPEC,
    run: gate_backward,
    faults: &[
        fault("gate_backward", "open1 * sigmoid(-b1)", "open1"),
        fault("gate_backward", "phi_first(ACTIVATION, a0)", "phi(ACTIVATION, a0)"),
        fault("gate_backward", "column + 4u >= params.width", "column + 4u > params.width + 1u"),
        fault("gate_backward", "dskip[index] += adjoint", "dskip[index] = adjoint"),
        fault("gate_backward", "group.y * 1024u + group.x", "group.x"),
    ],
};

pub(super) const DROPOUT: Check = Check {
    kernel: Dropout::SPEC,
    run: dropout,
    faults: &[
        fault("dropout", "params.first_place + index % quads_of_sample", "index % quads_of_sample"),
        fault("dropout", "params.first_place + index % quads_of_sample", "params.first_place + index"),
        fault("dropout", "params.first_sample + index / quads_of_sample", "params.first_sample"),
        fault("dropout", "values[index] / (1.0 - params.rate)", "values[index]"),
        fault("dropout", "u >= vec4(params.rate)", "u < vec4(params.rate)"),
        fault("dropout", "seed, STREAM_DROPOUT", "seed, STREAM_CONTEXT_NOISE"),
        fault("dropout", "group.y * 1024u + group.x", "group.x"),
    ],
};

// ---- convolutions ---------------------------------------------------------------------------------------------

/// Images, and what is done to them.
type Case = (usize, ConvShape);

/// Every kind of taps, mask and resolution; fewer channels and positions than a tile of 32 to 256 has, and more; groups
/// that divide no number of channels.
fn cases() -> [Case; 12] {
    let case = |batch, [in_height, in_width]: [usize; 2], [n_in, n_out, half]: [usize; 3], groups, taps| {
        (batch, ConvShape { taps, n_in, n_out, half, groups, in_height, in_width })
    };
    let point = Taps::square(1, Mask::A);
    [
        case(1, [1, 1], [1, 1, 1], 1, Taps::point(Mask::B)),
        case(3, [5, 4], [1, 5, 5], 1, Taps::square(3, Mask::A)),
        case(2, [3, 7], [5, 38, 19], 3, Taps::square(5, Mask::B)),
        case(1, [5, 4], [3, 67, 67], 3, Taps::square(7, Mask::A)),
        case(2, [5, 4], [129, 6, 6], 3, point),
        case(1, [6, 6], [38, 5, 5], 3, Taps::point(Mask::None)),
        case(8, [6, 6], [38, 67, 67], 3, Taps::down()),
        case(2, [6, 6], [3, 5, 5], 3, Taps::first_down()),
        case(4, [3, 7], [5, 262, 131], 3, Taps::right()),
        case(3, [6, 4], [67, 129, 129], 3, Taps::right().halving()),
        case(2, [2, 6], [5, 3, 3], 3, Taps::down().halving()),
        case(4, [3, 7], [3, 38, 19], 3, Taps::right().doubling()),
    ]
}

/// Fills in the geometry that the three kernels share.
macro_rules! conv_kernel {
    ($Kernel:ident, $batch:expr, $shape:expr, { $($field:ident: $value:expr),* $(,)? }) => {{
        let shape: &ConvShape = $shape;
        $Kernel {
            batch: $batch as u32,
            n_in: shape.n_in as u32,
            n_out: shape.n_out as u32,
            in_height: shape.in_height as u32,
            in_width: shape.in_width as u32,
            out_height: shape.out_height() as u32,
            out_width: shape.out_width() as u32,
            n_taps: shape.taps.count as u32,
            tap_width: shape.taps.width as u32,
            above: shape.taps.above as u32,
            left: shape.taps.left as u32,
            stride: shape.taps.stride as u32,
            up: shape.taps.up as u32,
            mask: shape.taps.mask as u32,
            groups: shape.groups as u32,
            half_width: shape.half as u32,
            $($field: $value),*
        }
    }};
}

/// Shapes of x, the weight and y.
fn extents((batch, shape): &Case) -> [[usize; 2]; 3] {
    let (inputs, outputs) = (shape.in_height * shape.in_width, shape.out_height() * shape.out_width());
    [[batch * inputs, shape.n_in], [shape.n_out * shape.taps.count, shape.n_in], [batch * outputs, shape.n_out]]
}

fn forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for (case, accumulate) in cases().iter().zip([1, 0].into_iter().cycle()) {
        let ((batch, shape), [of_x, of_weight, of_y]) = (case, extents(case));
        let x = trial.data("x", &of_x)?;
        let weight = trial.data("weight", &of_weight)?;
        let bias = trial.data("bias", &[shape.n_out])?;
        let before = trial.data("y", &of_y)?;
        let y = if accumulate == 1 { before.tensor } else { gpu.tensor("y", &of_y)? };
        trial.run(&conv_kernel!(MaskedConvForward, *batch, shape, {
            accumulate: accumulate,
            x: &x.tensor,
            weight: &weight.tensor,
            bias: &bias.tensor,
            y: &y,
        }))?;
        let mut want = conv::masked_conv_forward(shape, &x.values, &weight.values, &bias.values);
        if accumulate == 1 {
            want.add_all(&before.values);
        }
        trial.expect(&y, &want.value, &want.tolerance(shape.taps.count as f64 * depth(shape.n_in)))?;
    }
    trial.verdict()
}

fn backward_input(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for (case, accumulate) in cases().iter().zip([1, 0].into_iter().cycle()) {
        let ((batch, shape), [of_x, of_weight, of_y]) = (case, extents(case));
        let dy = trial.data("dy", &of_y)?;
        let weight = trial.data("weight", &of_weight)?;
        let before = trial.data("dx", &of_x)?;
        let dx = if accumulate == 1 { before.tensor } else { gpu.tensor("dx", &of_x)? };
        trial.run(&conv_kernel!(MaskedConvBackwardInput, *batch, shape, {
            accumulate: accumulate,
            dy: &dy.tensor,
            weight: &weight.tensor,
            dx: &dx,
        }))?;
        let mut want = conv::masked_conv_backward_input(shape, &dy.values, &weight.values);
        if accumulate == 1 {
            want.add_all(&before.values);
        }
        let terms = (shape.taps.count << (2 * shape.taps.up)) as f64;
        trial.expect(&dx, &want.value, &want.tolerance(terms * depth(shape.n_out)))?;
    }
    trial.verdict()
}

fn backward_weight(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // Chunks that end within an image, and within a row of it; one that holds everything.
    for (case, chunk_rows) in cases().iter().zip([1000, 17, 9].into_iter().cycle()) {
        let ((batch, shape), [of_x, of_weight, of_y]) = (case, extents(case));
        let dy = trial.data("dy", &of_y)?;
        let x = trial.data("x", &of_x)?;
        let n_chunks = of_y[0].div_ceil(chunk_rows);
        let partials = gpu.tensor("partials", &[n_chunks * of_weight[0], shape.n_in])?;
        trial.run(&conv_kernel!(MaskedConvBackwardWeight, *batch, shape, {
            chunk_rows: chunk_rows as u32,
            n_chunks: n_chunks as u32,
            dy: &dy.tensor,
            x: &x.tensor,
            partials: &partials,
        }))?;
        // A chunk is the whole batch with the other positions' dy taken away.
        let (mut want, mut tolerance) = (Vec::new(), Vec::new());
        for chunk in 0..n_chunks {
            let rows = chunk * chunk_rows * shape.n_out..((chunk + 1) * chunk_rows * shape.n_out).min(dy.values.len());
            let mut of_chunk = vec![0.0; dy.values.len()];
            of_chunk[rows.clone()].copy_from_slice(&dy.values[rows]);
            let sums = conv::masked_conv_backward_weight(shape, &of_chunk, &x.values);
            want.extend_from_slice(&sums.value);
            tolerance.extend(sums.tolerance(chunk_rows as f64 + 1.0));
        }
        trial.expect(&partials, &want, &tolerance)?;
    }
    trial.verdict()
}

// ---- gated units ----------------------------------------------------------------------------------------------

/// Activation, positions, channels: one and both halves whole vec4s or not; the last one needs more than 1024 workgroups,
/// a two-dimensional grid.
const GATES: [(Activation, usize, usize); 5] = [
    (Activation::Tanh, 1, 1),
    (Activation::Identity, 7, 6),
    (Activation::Tanh, 9, 67),
    (Activation::Identity, 5, 129),
    (Activation::Tanh, 65_641, 1),
];

/// A number and how far an adapter's may be from it.
type Known = (f64, f64);

fn known_value(phi: Activation, z: f64) -> Known {
    let value = activation::value(phi, z);
    (value, elementwise_tolerance(z, value, activation::first(phi, z)))
}

fn known_slope(phi: Activation, z: f64) -> Known {
    let slope = activation::first(phi, z);
    (slope, elementwise_tolerance(z, slope, activation::second(phi, z)))
}

fn known_sigmoid(z: f64) -> Known {
    let open = activation::sigmoid(z);
    (open, elementwise_tolerance(z, open, open * activation::sigmoid(-z)))
}

/// How far a product may be off.
fn tolerance_of_product(factors: &[Known]) -> f64 {
    let times = |(p, dp): Known, &(q, dq): &Known| {
        (p * q, p.abs() * dq + q.abs() * dp + dp * dq + roundings(1.0) * (p * q).abs())
    };
    factors.iter().fold((1.0, 0.0), times).1
}

fn gate_forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for (phi, rows, width) in GATES {
        let ab = arguments(&mut trial, rows * 2 * width);
        let skip = trial.data("skip", &[rows, width])?;
        let h = gpu.tensor("h", &[rows, width])?;
        trial.run(&GateForward {
            activation: phi as u32,
            rows: rows as u32,
            width: width as u32,
            halves: &trial.floats("halves", &[rows, 2 * width], &ab)?,
            skip: &skip.tensor,
            h: &h,
        })?;
        let want = gate::gate_forward(phi, &skip.values, &ab, width);
        let of_element = |(((&a, &b), skip), want): (((&f64, &f64), &f64), &f64)| {
            let product = tolerance_of_product(&[known_value(phi, a), known_sigmoid(b)]);
            product + roundings(1.0) * (skip.abs() + want.abs())
        };
        let tolerance: Vec<f64> = gate::halves(&ab, width).zip(&skip.values).zip(&want).map(of_element).collect();
        trial.expect(&h, &want, &tolerance)?;
    }
    trial.verdict()
}

fn gate_backward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for ((phi, rows, width), accumulate) in GATES.into_iter().zip([0, 1].into_iter().cycle()) {
        let ab = arguments(&mut trial, rows * 2 * width);
        let dh = trial.data("dh", &[rows, width])?;
        let before = trial.data("dskip", &[rows, width])?;
        let dskip = if accumulate == 1 { before.tensor } else { gpu.tensor("dskip", &[rows, width])? };
        let dhalves = gpu.tensor("dhalves", &[rows, 2 * width])?;
        trial.run(&GateBackward {
            activation: phi as u32,
            rows: rows as u32,
            width: width as u32,
            accumulate,
            halves: &trial.floats("halves", &[rows, 2 * width], &ab)?,
            dh: &dh.tensor,
            dhalves: &dhalves,
            dskip: &dskip,
        })?;
        let want = gate::gate_backward(phi, &ab, &dh.values, width);
        let mut tolerance = vec![0.0; want.len()];
        for (n, ((&a, &b), &dh)) in gate::halves(&ab, width).zip(&dh.values).enumerate() {
            let at = n / width * 2 * width + n % width;
            let (dh, open, shut) = ((dh, 0.0), known_sigmoid(b), known_sigmoid(-b));
            tolerance[at] = tolerance_of_product(&[dh, known_slope(phi, a), open]);
            tolerance[at + width] = tolerance_of_product(&[dh, known_value(phi, a), open, shut]);
        }
        trial.expect(&dhalves, &want, &tolerance)?;
        let sums = dh.values.iter().zip(&before.values).map(|(dh, before)| dh + f64::from(accumulate) * before);
        let (want, tolerance): (Vec<f64>, Vec<f64>) = sums.map(|sum| (sum, roundings(1.0) * sum.abs())).unzip();
        trial.expect(&dskip, &want, &tolerance)?;
    }
    trial.verdict()
}

// ---- dropout --------------------------------------------------------------------------------------------------

fn dropout(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // Samples, positions, channels; the last one needs more than 1024 workgroups, a two-dimensional grid.
    for (batch, positions, width, rate) in
        [(1, 1, 1, 0.5), (3, 20, 5, 0.25), (5, 6, 38, 0.7f32), (2, 4, 129, 0.1), (41, 1601, 1, 0.25)]
    {
        let (seed, step, first_sample, first_quad) = (0x9e37_79b9_1234_5678, 70_001, 11, 77);
        let values = trial.data("values", &[batch * positions, width])?;
        trial.run(&Dropout {
            rows: (batch * positions) as u32,
            width: width as u32,
            positions: positions as u32,
            first_sample,
            first_place: first_quad,
            seed_low: seed as u32,
            seed_high: (seed >> 32) as u32,
            step,
            rate,
            values: &values.tensor,
        })?;
        let places = dropout::Dropout { rate: f64::from(rate), seed, step, first_sample, first_quad };
        let scales = places.scales(batch, positions, width);
        let want: Vec<f64> = values.values.iter().zip(&scales).map(|(value, scale)| value * scale).collect();
        // A difference and a quotient, which WGSL lets be wrong by 2.5 units.
        let tolerance: Vec<f64> = want.iter().map(|value| roundings(4.0) * value.abs()).collect();
        trial.expect(&values.tensor, &want, &tolerance)?;
    }
    trial.verdict()
}
