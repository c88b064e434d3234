//! Scores of whole vectors: tangents through activations, the diagonal, directions and losses.

use crate::codes::{Activation, Probes};
use crate::gpu::{Gpu, Kernel};
use crate::kernels::{
    DiagonalBackward, DiagonalForward, ProbeDirections, ResidualLoss, SlicedLoss, TangentBackward, TangentForward,
};
use crate::models::score_field::losses::{Residual, Slices};
use crate::reference::{activation, score_field};

use super::dense::{arguments, elementwise_tolerance};
use super::trial::{Trial, roundings};
use super::{Check, Failure, fault};

pub(super) const TANGENT_FORWARD: Check = Check {
    kernel: TangentForward::SPEC,
    run: tangent_forward,
    faults: &[
        fault("tangent_forward", "phi_first_quad(z[index])", "phi_second_quad(z[index])"),
        fault("tangent_forward", "slope * t[p * quads + index]", "slope * t[index]"),
        fault("tangent_forward", "group.y * 1024u + group.x", "group.x"),
    ],
};

pub(super) const TANGENT_BACKWARD: Check = Check {
    kernel: TangentBackward::SPEC,
    run: tangent_backward,
    faults: &[
        fault("tangent_backward", "sum * phi_second_quad(z[index])", "sum * slope"),
        fault("tangent_backward", "adjoint * t[p * quads + index]", "t[p * quads + index]"),
        fault("tangent_backward", "sum += adjoint", "sum = adjoint"),
        fault("tangent_backward", "total = dz[index]", "total += vec4(0.0)"),
    ],
};

pub(super) const DIAGONAL_FORWARD: Check = Check {
    kernel: DiagonalForward::SPEC,
    run: diagonal_forward,
    faults: &[
        fault("diagonal_forward", "gain[index % n_quads]", "gain[index / n_quads]"),
        fault("diagonal_forward", "y[index] += gain", "y[index] = gain"),
    ],
};

pub(super) const DIAGONAL_BACKWARD: Check = Check {
    kernel: DiagonalBackward::SPEC,
    run: diagonal_backward,
    faults: &[
        fault("diagonal_backward", "dy[row * n_quads + id.x]", "dy[id.x]"),
        fault("diagonal_backward", "var row = 0u", "var row = 1u"),
    ],
};

pub(super) const PROBE_DIRECTIONS: Check = Check {
    kernel: ProbeDirections::SPEC,
    run: probe_directions,
    faults: &[
        fault("probe_directions", "direction * n_quads + quad", "quad"),
        fault("probe_directions", "row % params.batch", "row"),
        fault("probe_directions", "columns == vec4(direction)", "columns == vec4(direction % params.dimensions)"),
        fault("probe_directions", "columns < vec4(params.dimensions)", "columns <= vec4(params.dimensions)"),
    ],
};

pub(super) const RESIDUAL_LOSS: Check = Check {
    kernel: ResidualLoss::SPEC,
    run: residual_loss,
    faults: &[
        fault("residual_loss", "noisy[k] - clean[k]", "clean[k] - noisy[k]"),
        fault("residual_loss", "params.scale / f32(params.batch)", "1.0 / f32(params.batch)"),
        fault("residual_loss", "k += 64u", "k += 65u"),
    ],
};

pub(super) const SLICED_LOSS: Check = Check {
    kernel: SlicedLoss::SPEC,
    run: sliced_loss,
    faults: &[
        fault("sliced_loss", "score[at + k]", "score[k]"),
        fault("sliced_loss", "0.5 * score_along * score_along", "0.5 * score_along"),
        fault("sliced_loss", "seed * score_along * v[row + k]", "seed * v[row + k]"),
        fault("sliced_loss", "p > 0u || params.accumulate == 1u", "params.accumulate == 1u"),
        fault("sliced_loss", "loss += slope_along", "loss = slope_along"),
        fault("sliced_loss", "sum += losses[group.x].x", "sum = losses[group.x].x"),
    ],
};

const SMOOTH: [Activation; 5] =
    [Activation::Identity, Activation::Silu, Activation::Softplus, Activation::Tanh, Activation::Elu];

/// (batch, n_out, n_directions); the last one needs more than 1024 workgroups, a two-dimensional grid.
const SIZES: [[usize; 3]; 4] = [[1, 1, 1], [3, 6, 2], [2, 257, 5], [3, 87_390, 1]];

fn tangent_forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for (phi, [batch, n_out, n_directions]) in SMOOTH.into_iter().zip(SIZES.into_iter().cycle().skip(1)) {
        let z = arguments(&mut trial, batch * n_out);
        let t = trial.data("t", &[n_directions * batch, n_out])?;
        let h_tangent = gpu.tensor("h_tangent", &[n_directions * batch, n_out])?;
        trial.run(&TangentForward {
            activation: phi as u32,
            batch: batch as u32,
            n_out: n_out as u32,
            n_directions: n_directions as u32,
            z: &trial.floats("z", &[batch, n_out], &z)?,
            t: &t.tensor,
            h_tangent: &h_tangent,
        })?;
        let want = score_field::tangent_forward(phi, &z, &t.values);
        trial.expect(&h_tangent, &want, &product_tolerance(phi, &z, &t.values))?;
    }
    trial.verdict()
}

/// Of phi'(z) times a factor, for each factor.
fn product_tolerance(phi: Activation, z: &[f64], factors: &[f64]) -> Vec<f64> {
    let of_factor = |(factor, &z): (&f64, &f64)| {
        let slope = activation::first(phi, z);
        factor.abs() * (elementwise_tolerance(z, slope, activation::second(phi, z)) + roundings(1.0) * slope.abs())
    };
    factors.iter().zip(z.iter().cycle()).map(of_factor).collect()
}

fn tangent_backward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for (run, (phi, [batch, n_out, n_directions])) in SMOOTH.into_iter().zip(SIZES.into_iter().cycle()).enumerate() {
        let z = arguments(&mut trial, batch * n_out);
        let t = trial.data("t", &[n_directions * batch, n_out])?;
        let dh = trial.data("dh_tangent", &[n_directions * batch, n_out])?;
        let before = trial.data("dz", &[batch, n_out])?;
        let accumulate = (run + 1) % 2;
        let dz = if accumulate == 1 { before.tensor } else { gpu.tensor("dz", &[batch, n_out])? };
        let dt = gpu.tensor("dt", &[n_directions * batch, n_out])?;
        trial.run(&TangentBackward {
            activation: phi as u32,
            batch: batch as u32,
            n_out: n_out as u32,
            n_directions: n_directions as u32,
            accumulate: accumulate as u32,
            z: &trial.floats("z", &[batch, n_out], &z)?,
            t: &t.tensor,
            dh_tangent: &dh.tensor,
            dt: &dt,
            dz: &dz,
        })?;
        let (want_dt, mut want) = score_field::tangent_backward(phi, &z, &t.values, &dh.values);
        trial.expect(&dt, &want_dt, &product_tolerance(phi, &z, &dh.values))?;
        // Sums of dh' t, without phi''.
        let mut products = vec![0.0; z.len()];
        for (at, (t, dh)) in t.values.iter().zip(&dh.values).enumerate() {
            products[at % z.len()] += (t * dh).abs();
        }
        let mut tolerance: Vec<f64> =
            products.iter().zip(&z).map(|(product, &z)| product * curvature_tolerance(phi, z, n_directions)).collect();
        if accumulate == 1 {
            want.add_all(&before.values);
            let rounding = roundings(1.0);
            tolerance.iter_mut().zip(&want.magnitude).for_each(|(tolerance, m)| *tolerance += rounding * m);
        }
        trial.expect(&dz, &want.value, &tolerance)?;
    }
    trial.verdict()
}

/// Of phi''(z), which is at most of size 1 and whose own slope is at most 1 near 0 and falls as phi'' does far out, with
/// the roundings of a sum over directions.
fn curvature_tolerance(phi: Activation, z: f64, n_directions: usize) -> f64 {
    let curvature = activation::second(phi, z).abs();
    let near_zero = f64::from(z.abs() < 20.0);
    let own = roundings(16.0 + 4.0 * z.abs().min(87.0)) * (curvature * (1.0 + z.abs()) + near_zero);
    own + roundings(n_directions as f64 + 2.0) * curvature + 1e-36 * (1.0 + z.abs())
}

fn diagonal_forward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [rows, columns] in [[1, 1], [5, 7], [3, 258], [1030, 257]] {
        let gain = trial.data("gain", &[columns])?;
        let x = trial.data("x", &[rows, columns])?;
        let y = trial.data("y", &[rows, columns])?;
        trial.run(&DiagonalForward {
            rows: rows as u32,
            columns: columns as u32,
            gain: &gain.tensor,
            x: &x.tensor,
            y: &y.tensor,
        })?;
        let want = score_field::diagonal_forward(&gain.values, &x.values, &y.values);
        trial.expect(&y.tensor, &want.value, &want.tolerance(2.0))?;
    }
    trial.verdict()
}

fn diagonal_backward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [rows, columns] in [[1, 1], [5, 7], [40, 258], [67, 515]] {
        let dy = trial.data("dy", &[rows, columns])?;
        let x = trial.data("x", &[rows, columns])?;
        let dgain = gpu.tensor("dgain", &[columns])?;
        trial.run(&DiagonalBackward {
            rows: rows as u32,
            columns: columns as u32,
            dy: &dy.tensor,
            x: &x.tensor,
            dgain: &dgain,
        })?;
        let want = score_field::diagonal_backward(&dy.values, &x.values, columns);
        trial.expect(&dgain, &want.value, &want.tolerance(rows as f64 + 1.0))?;
    }
    trial.verdict()
}

fn probe_directions(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let (seed, step) = (0xfedc_ba98_7654_3210, 5);
    // The unit vectors of the second and the fourth size go past the last dimension.
    for [batch, dimensions, n_directions, first] in [[1, 1, 1, 0], [3, 6, 4, 4], [2, 259, 3, 1], [2, 5, 4, 3]] {
        let tensor = gpu.tensor("v", &[n_directions * batch, dimensions])?;
        for probes in [Probes::Signs, Probes::Units] {
            trial.run(&ProbeDirections {
                probes: probes as u32,
                batch: batch as u32,
                dimensions: dimensions as u32,
                n_directions: n_directions as u32,
                first_direction: first as u32,
                seed_low: seed as u32,
                seed_high: (seed >> 32) as u32,
                step,
                v: &tensor,
            })?;
            let directions = [first, n_directions];
            let want = match probes {
                Probes::Signs => score_field::random_signs(seed, batch, dimensions, directions, step),
                Probes::Units => score_field::unit_vectors(batch, dimensions, directions),
            };
            trial.expect(&tensor, &want, &vec![0.0; want.len()])?;
        }
    }
    trial.verdict()
}

/// Roundings that a term meets in a workgroup's sum over the dimensions.
fn stride_depth(dimensions: usize) -> f64 {
    dimensions.div_ceil(256) as f64 + 14.0
}

/// Rows of four, of which the first has the number and the others nothing.
fn first_column(values: &[f64]) -> Vec<f64> {
    values.iter().flat_map(|&value| [value, 0.0, 0.0, 0.0]).collect()
}

fn residual_loss(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for ([batch, dimensions], [scale, shift]) in
        [[1, 1], [5, 7], [3, 259], [2, 1030]].into_iter().zip([[1.0, 0.0], [0.5, 2.0], [0.1, 10.0], [1.5, -0.75]])
    {
        let [score, clean, noisy] = ["score", "clean", "noisy"].map(|label| trial.data(label, &[batch, dimensions]));
        let (score, clean, noisy) = (score?, clean?, noisy?);
        let losses = gpu.tensor("losses", &[batch, 4])?;
        let dscore = gpu.tensor("dscore", &[batch, dimensions])?;
        trial.run(&ResidualLoss {
            batch: batch as u32,
            dimensions: dimensions as u32,
            scale,
            shift,
            score: &score.tensor,
            clean: &clean.tensor,
            noisy: &noisy.tensor,
            losses: &losses,
            dscore: &dscore,
        })?;
        let term = Residual { scale, shift };
        let (want, seeds) = score_field::residual_loss(term, &score.values, &clean.values, &noisy.values, dimensions);
        // A residual is a sum of three terms that may cancel.
        let [scale, shift] = [scale, shift].map(f64::from);
        let size = |at: usize| {
            (scale * score.values[at]).abs() + (shift * clean.values[at]).abs() + (shift * noisy.values[at]).abs()
        };
        let sizes: Vec<f64> = (0..seeds.len()).map(size).collect();
        let seed_tolerance: Vec<f64> =
            sizes.iter().map(|size| roundings(6.0) * scale.abs() / batch as f64 * size).collect();
        trial.expect(&dscore, &seeds, &seed_tolerance)?;
        let tolerance: Vec<f64> = sizes
            .chunks_exact(dimensions)
            .map(|sizes| roundings(stride_depth(dimensions)) * sizes.iter().map(|size| size * size).sum::<f64>())
            .collect();
        trial.expect(&losses, &first_column(&want.value), &first_column(&tolerance))?;
    }
    trial.verdict()
}

fn sliced_loss(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let sizes = [[1, 1, 1], [5, 7, 3], [3, 259, 1], [2, 1030, 2], [3, 6, 2]];
    for (run, [batch, dimensions, n_directions]) in sizes.into_iter().enumerate() {
        let (project, accumulate) = (run != 1, run % 2 == 1);
        let rows = n_directions * batch;
        let v = trial.data("v", &[rows, dimensions])?;
        let score = trial.data("score", &[batch, dimensions])?;
        let slope = trial.data("slope", &[rows, dimensions])?;
        let losses_before = trial.data("losses", &[batch, 4])?;
        let dscore_before = trial.data("dscore", &[batch, dimensions])?;
        let (losses, dscore) = match accumulate {
            true => (losses_before.tensor, dscore_before.tensor),
            false => (gpu.tensor("losses", &[batch, 4])?, gpu.tensor("dscore", &[batch, dimensions])?),
        };
        let dslope = gpu.tensor("dslope", &[rows, dimensions])?;
        let weight = 0.75;
        trial.run(&SlicedLoss {
            batch: batch as u32,
            dimensions: dimensions as u32,
            n_directions: n_directions as u32,
            weight,
            project: u32::from(project),
            accumulate: u32::from(accumulate),
            v: &v.tensor,
            score: &score.tensor,
            slope: &slope.tensor,
            losses: &losses,
            dscore: &dscore,
            dslope: &dslope,
        })?;
        let term = Slices { weight, project };
        let (mut want, mut seeds, slopes) =
            score_field::sliced_loss(term, &v.values, &score.values, &slope.values, dimensions);
        if accumulate {
            want.add_all(&losses_before.values.iter().copied().step_by(4).collect::<Vec<_>>());
            seeds.add_all(&dscore_before.values);
        }
        // The square doubles the roundings of v . s, and every direction is one more addition.
        let depth = 2.0 * stride_depth(dimensions) + n_directions as f64 + 4.0;
        trial.expect(&losses, &first_column(&want.value), &first_column(&want.tolerance(depth)))?;
        if project || accumulate {
            trial.expect(&dscore, &seeds.value, &seeds.tolerance(depth))?;
        }
        let tolerance: Vec<f64> = slopes.iter().map(|slope| roundings(3.0) * slope.abs()).collect();
        trial.expect(&dslope, &slopes, &tolerance)?;
    }
    trial.verdict()
}
