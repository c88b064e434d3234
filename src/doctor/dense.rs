//! Masked dense layers and activations.

use crate::codes::Activation;
use crate::gpu::{Gpu, Kernel};
use crate::kernels::{
    ActivationBackward, ActivationForward, MaskedDenseBackwardInput, MaskedDenseBackwardWeight, MaskedDenseForward,
    MaskedHiddenBackward, MaskedHiddenForward,
};
use crate::reference::{activation, dense};

use super::trial::{Trial, roundings};
use super::{Check, Failure, fault};

pub(super) const FORWARD: Check = Check {
    kernel: MaskedDenseForward::SPEC,
    run: forward,
    faults: &[
        fault("masked_dense_forward", "inputs < vec4(visible2)", "inputs <= vec4(visible2)"),
        fault("masked_dense_forward", "(visible[last] + 3u) / 4u", "visible[last] / 4u"),
        fault("masked_dense_forward", "bias[column4 / 4u]", "bias[column0 / 4u]"),
        fault("masked_dense_forward", "columns < vec4(params.n_out)", "columns <= vec4(params.n_out)"),
        fault("masked_dense_forward_tiled", "inputs < vec4(column.seen)", "inputs <= vec4(column.seen)"),
        fault("masked_dense_forward_tiled", "visible[last_output]", "visible[first_output]"),
        fault("masked_dense_forward_tiled", "params.n_out - 1u) / 4u] + sum1_0", "params.n_out - 1u) / 4u]"),
        fault("masked_dense_forward_tiled", "next + right_quad0.term", "term + right_quad0.term"),
    ],
};

pub(super) const HIDDEN_FORWARD: Check = Check {
    kernel: MaskedHiddenForward::SPEC,
    run: hidden_forward,
    faults: &[
        fault(
            "masked_hidden_forward",
            "column / 4u] = select(vec4(0.0), value, is_unit(column))",
            "column / 4u] = value",
        ),
        fault("masked_hidden_forward", "value += x_at(at)", "value += z[at]"),
        fault("masked_hidden_forward", "finish(r, column + 32u)", "finish(r, column)"),
        fault("masked_hidden_forward", "h[at] = select(vec4(0.0), value, is_unit(column))", "h[at] = value"),
    ],
};

pub(super) const HIDDEN_BACKWARD: Check = Check {
    kernel: MaskedHiddenBackward::SPEC,
    run: hidden_backward,
    faults: &[
        fault("masked_hidden_backward", "sum += dx[at]", "sum = dx[at]"),
        fault("masked_hidden_backward", "phi_first_quad(z[at])", "phi_quad(z[at])"),
        fault("masked_hidden_backward", "finish(r, column + 32u)", "finish(r, column)"),
    ],
};

pub(super) const BACKWARD_INPUT: Check = Check {
    kernel: MaskedDenseBackwardInput::SPEC,
    run: backward_input,
    faults: &[
        fault("masked_dense_backward_input", "columns_0 < vec4(seen[1])", "columns_0 <= vec4(seen[1])"),
        fault("masked_dense_backward_input", "first_output[tile * 64u] / 4u", "(first_output[tile * 64u] + 3u) / 4u"),
        fault("masked_dense_backward_input", "sum += dx[at]", "sum = dx[at]"),
        fault("masked_dense_backward_input_tiled", "column.inputs < vec4(seen)", "column.inputs <= vec4(seen)"),
        fault(
            "masked_dense_backward_input_tiled",
            "first_output[first_input] / 4u",
            "(first_output[first_input] + 3u) / 4u",
        ),
        fault(
            "masked_dense_backward_input_tiled",
            "visible[known / 4u][known % 4u], output < params.n_out",
            "visible[known / 4u][known % 4u], true",
        ),
        fault("masked_dense_backward_input_tiled", "thread.z < 2u * half", "thread.z < half"),
    ],
};

pub(super) const BACKWARD_WEIGHT: Check = Check {
    kernel: MaskedDenseBackwardWeight::SPEC,
    run: backward_weight,
    faults: &[
        fault("masked_dense_backward_weight", "columns < vec4(visible[row])", "columns <= vec4(visible[row])"),
        fault("masked_dense_backward_weight", "min(column / 4u + 8u, in_quads - 1u)", "quad_0"),
        fault("masked_dense_backward_weight", "var first = 0u", "var first = 1u"),
        fault("masked_dense_backward_weight", "visible[last] <= tile", "visible[row] <= tile"),
        fault("masked_dense_backward_weight_tiled", "visible[last_output]", "visible[first_output]"),
        fault("masked_dense_backward_weight_tiled", "value, sample < params.batch", "value, true"),
        fault("masked_dense_backward_weight_tiled", "columns0[3]", "columns0[2]"),
        fault("masked_dense_backward_weight_tiled", "return transpose(values)", "return values"),
    ],
};

pub(super) const ACTIVATION_FORWARD: Check = Check {
    kernel: ActivationForward::SPEC,
    run: activation_forward,
    faults: &[
        fault("activation_forward", "columns < vec4(params.n_out)", "columns <= vec4(params.n_out)"),
        fault("activation_forward", "exp(-min(abs(z), 87.0))", "exp(-z)"),
        fault("activation_forward", "value += x[index]", "value += z[index]"),
    ],
};

pub(super) const ACTIVATION_BACKWARD: Check = Check {
    kernel: ActivationBackward::SPEC,
    run: activation_backward,
    faults: &[
        fault("activation_backward", "1.0 + z * finite_sigmoid(-z)", "1.0 + z * finite_sigmoid(z)"),
        fault("activation_backward", "value += dz[index]", "value = dz[index]"),
    ],
};

/// (batch, n_in, n_out): below, at and past the tiles of 64 and 128, what a thread owns of them, and single elements.
const SIZES: [[usize; 3]; 6] = [[1, 1, 1], [1, 6, 3], [9, 3, 38], [63, 130, 65], [64, 67, 127], [131, 64, 129]];

/// Roundings that a term meets on its way into a sum of `n`: products and sums of vec4s, one after another.
pub(super) fn depth(n: usize) -> f64 {
    n.div_ceil(4) as f64 + 5.0
}

fn forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [batch, n_in, n_out] in SIZES {
        let x = trial.data("x", &[batch, n_in])?;
        let weight = trial.data("weight", &[n_out, n_in])?;
        let bias = trial.data("bias", &[n_out])?;
        let visible = trial.staircase(n_out, n_in);
        let y = gpu.tensor("y", &[batch, n_out])?;
        trial.run(&MaskedDenseForward {
            batch: batch as u32,
            n_in: n_in as u32,
            n_out: n_out as u32,
            x: &x.tensor,
            weight: &weight.tensor,
            bias: &bias.tensor,
            visible: &trial.words("visible", &visible)?,
            y: &y,
        })?;
        let want = dense::masked_dense_forward(&x.values, &weight.values, &bias.values, &visible);
        trial.expect(&y, &want.value, &want.tolerance(depth(n_in)))?;
    }
    trial.verdict()
}

fn hidden_forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // A layer as wide as its input has a residual.
    let sizes = SIZES.into_iter().chain([[66, 67, 67], [3, 5, 5]]);
    for ([batch, n_in, n_out], phi) in sizes.zip(ACTIVATIONS.into_iter().cycle()) {
        let x = trial.data("x", &[batch, n_in])?;
        let weight = trial.data("weight", &[n_out, n_in])?;
        let bias = trial.data("bias", &[n_out])?;
        let visible = trial.staircase(n_out, n_in);
        let z = gpu.tensor("z", &[batch, n_out])?;
        let h = gpu.tensor("h", &[batch, n_out])?;
        trial.run(&MaskedHiddenForward {
            activation: phi as u32,
            residual: u32::from(n_in == n_out),
            batch: batch as u32,
            n_in: n_in as u32,
            n_out: n_out as u32,
            x: &x.tensor,
            weight: &weight.tensor,
            bias: &bias.tensor,
            visible: &trial.words("visible", &visible)?,
            z: &z,
            h: &h,
        })?;
        let want = dense::masked_dense_forward(&x.values, &weight.values, &bias.values, &visible);
        let tolerance = want.tolerance(depth(n_in));
        trial.expect(&z, &want.value, &tolerance)?;
        let of_unit = |(at, (&z, tolerance)): (usize, (&f64, f64))| {
            let value = activation::value(phi, z);
            let skip = if n_in == n_out { x.values[at] } else { 0.0 };
            // No activation is steeper than 1.1.
            let error = 1.1 * tolerance + elementwise_tolerance(z, value, activation::first(phi, z));
            (value + skip, error + roundings(1.0) * skip.abs())
        };
        let (want, tolerance): (Vec<f64>, Vec<f64>) = want.value.iter().zip(tolerance).enumerate().map(of_unit).unzip();
        trial.expect(&h, &want, &tolerance)?;
    }
    trial.verdict()
}

/// For each input the first output that sees it.
fn first_outputs(visible: &[u32], n_in: usize) -> Vec<u32> {
    (0..n_in as u32).map(|input| visible.partition_point(|&seen| seen <= input) as u32).collect()
}

fn hidden_backward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let sizes = SIZES.into_iter().zip([0, 1].into_iter().cycle());
    for (([batch, n_in, n_out], accumulate), phi) in sizes.zip(ACTIVATIONS.into_iter().cycle()) {
        let dy = trial.data("dy", &[batch, n_out])?;
        let weight = trial.data("weight", &[n_out, n_in])?;
        let before = trial.data("dx", &[batch, n_in])?;
        let visible = trial.staircase(n_out, n_in);
        let z = arguments(&mut trial, batch * n_in);
        let dx = if accumulate == 1 { before.tensor } else { gpu.tensor("dx", &[batch, n_in])? };
        let dz = gpu.tensor("dz", &[batch, n_in])?;
        trial.run(&MaskedHiddenBackward {
            activation: phi as u32,
            batch: batch as u32,
            n_in: n_in as u32,
            n_out: n_out as u32,
            accumulate,
            dy: &dy.tensor,
            weight: &weight.tensor,
            visible: &trial.words("visible", &visible)?,
            first_output: &trial.words("first_output", &first_outputs(&visible, n_in))?,
            z: &trial.floats("z", &[batch, n_in], &z)?,
            dx: &dx,
            dz: &dz,
        })?;
        let mut want = dense::masked_dense_backward_input(&dy.values, &weight.values, &visible);
        if accumulate == 1 {
            want.add_all(&before.values);
        }
        let tolerance = want.tolerance(depth(n_out));
        trial.expect(&dx, &want.value, &tolerance)?;
        let of_unit = |((&z, &dx), tolerance): ((&f64, &f64), f64)| {
            let first = activation::first(phi, z);
            let slope = elementwise_tolerance(z, first, activation::second(phi, z));
            (dx * first, first.abs() * tolerance + (dx.abs() + tolerance) * slope)
        };
        let (want, tolerance): (Vec<f64>, Vec<f64>) = z.iter().zip(&want.value).zip(tolerance).map(of_unit).unzip();
        trial.expect(&dz, &want, &tolerance)?;
    }
    trial.verdict()
}

fn backward_input(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for ([batch, n_in, n_out], accumulate) in SIZES.into_iter().zip([0, 1].into_iter().cycle()) {
        let dy = trial.data("dy", &[batch, n_out])?;
        let weight = trial.data("weight", &[n_out, n_in])?;
        let before = trial.data("dx", &[batch, n_in])?;
        let visible = trial.staircase(n_out, n_in);
        let dx = if accumulate == 1 { before.tensor } else { gpu.tensor("dx", &[batch, n_in])? };
        trial.run(&MaskedDenseBackwardInput {
            batch: batch as u32,
            n_in: n_in as u32,
            n_out: n_out as u32,
            accumulate,
            dy: &dy.tensor,
            weight: &weight.tensor,
            visible: &trial.words("visible", &visible)?,
            first_output: &trial.words("first_output", &first_outputs(&visible, n_in))?,
            dx: &dx,
        })?;
        let mut want = dense::masked_dense_backward_input(&dy.values, &weight.values, &visible);
        if accumulate == 1 {
            want.add_all(&before.values);
        }
        trial.expect(&dx, &want.value, &want.tolerance(depth(n_out)))?;
    }
    trial.verdict()
}

fn backward_weight(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [batch, n_in, n_out] in SIZES {
        let dy = trial.data("dy", &[batch, n_out])?;
        let x = trial.data("x", &[batch, n_in])?;
        let visible = trial.staircase(n_out, n_in);
        // Zero where the mask removes it, and nowhere else.
        let seen = |at: usize| at % n_in < visible[at / n_in] as usize;
        let before: Vec<f64> = (0..n_out * n_in).map(|at| if seen(at) { f64::NAN } else { 0.0 }).collect();
        let dweight = trial.floats("dweight", &[n_out, n_in], &before)?;
        trial.run(&MaskedDenseBackwardWeight {
            batch: batch as u32,
            n_in: n_in as u32,
            n_out: n_out as u32,
            dy: &dy.tensor,
            x: &x.tensor,
            visible: &trial.words("visible", &visible)?,
            dweight: &dweight,
        })?;
        let want = dense::masked_dense_backward_weight(&dy.values, &x.values, &visible);
        trial.expect(&dweight, &want.value, &want.tolerance(batch as f64 + 1.0))?;
    }
    trial.verdict()
}

const ACTIVATIONS: [Activation; 6] =
    [Activation::Identity, Activation::Relu, Activation::Silu, Activation::Softplus, Activation::Tanh, Activation::Elu];

/// Arguments where something changes: kinks, ends of series, limits of exp.
const CORNERS: [f64; 16] =
    [0.0, 1e-6, -1e-6, 0.2499, -0.2499, 0.2501, -0.2501, -1.0, 9.0, -9.0, 30.0, -30.0, 88.0, -88.0, 1e4, -1e4];

/// (B, out): normal numbers five times as wide, and the corners.
pub(super) fn arguments(trial: &mut Trial<'_>, count: usize) -> Vec<f64> {
    let mut z: Vec<f64> = trial.normals(count).into_iter().map(|z| f64::from(5.0 * z as f32)).collect();
    z.iter_mut().rev().zip(CORNERS).for_each(|(z, corner)| *z = f64::from(corner as f32));
    z
}

/// WGSL lets exp(z) be wrong by 3 + 2 |z| units, tanh takes exp(2 z), and a few operations follow; an error of the
/// argument shows through the derivative; below e^-87 functions are cut off.
pub(super) fn elementwise_tolerance(z: f64, value: f64, derivative: f64) -> f64 {
    roundings(16.0 + 4.0 * z.abs().min(87.0)) * (value.abs() + (z * derivative).abs()) + 1e-37 * (1.0 + z.abs())
}

fn activation_forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for (phi, residual) in ACTIVATIONS.into_iter().zip([0, 1].into_iter().cycle()) {
        for [batch, n_out] in [[1, 1], [3, 6], [2, 257]] {
            let values = arguments(&mut trial, batch * n_out);
            let n_in = if residual == 1 { n_out } else { 5 };
            let x = trial.data("x", &[batch, n_in])?;
            let h = gpu.tensor("h", &[batch, n_out])?;
            trial.run(&ActivationForward {
                activation: phi as u32,
                batch: batch as u32,
                n_in: n_in as u32,
                n_out: n_out as u32,
                residual,
                z: &trial.floats("z", &[batch, n_out], &values)?,
                x: &x.tensor,
                h: &h,
            })?;
            let (mut want, mut tolerance) = (Vec::new(), Vec::new());
            for (i, &z) in values.iter().enumerate() {
                let value = activation::value(phi, z);
                let skip = if residual == 1 { x.values[i] } else { 0.0 };
                want.push(value + skip);
                let rounding = roundings(1.0) * skip.abs();
                tolerance.push(elementwise_tolerance(z, value, activation::first(phi, z)) + rounding);
            }
            trial.expect(&h, &want, &tolerance)?;
        }
    }
    trial.verdict()
}

fn activation_backward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for phi in ACTIVATIONS {
        for [batch, n_out] in [[1, 1], [3, 6], [2, 257]] {
            let values = arguments(&mut trial, batch * n_out);
            let dh = trial.data("dh", &[batch, n_out])?;
            let before = trial.data("dz", &[batch, n_out])?;
            let accumulate = u32::from(n_out > 1);
            let dz = if accumulate == 1 { before.tensor } else { gpu.tensor("dz", &[batch, n_out])? };
            trial.run(&ActivationBackward {
                activation: phi as u32,
                batch: batch as u32,
                n_out: n_out as u32,
                accumulate,
                z: &trial.floats("z", &[batch, n_out], &values)?,
                dh: &dh.tensor,
                dz: &dz,
            })?;
            let before = before.values.iter().map(|&dz| if accumulate == 1 { dz } else { 0.0 });
            let of_element = |((&z, dh), before): ((&f64, &f64), f64)| {
                let want = dh * activation::first(phi, z) + before;
                let slope = elementwise_tolerance(z, activation::first(phi, z), activation::second(phi, z));
                (want, dh.abs() * slope + roundings(1.0) * (want.abs() + before.abs()))
            };
            let (want, tolerance): (Vec<f64>, Vec<f64>) =
                values.iter().zip(&dh.values).zip(before).map(of_element).unzip();
            trial.expect(&dz, &want, &tolerance)?;
        }
    }
    trial.verdict()
}
