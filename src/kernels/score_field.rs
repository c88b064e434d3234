//! The score of a whole vector: tangents through activations, the diagonal beside the dense layers, losses and their seeds.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// h' = phi'(z) t in several directions; see `shaders/score_field/tangent_forward.wgsl`.
    pub struct TangentForward;
    variants { "score_field/tangent_forward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
    }
    params {
        /// B
        batch: u32,
        /// Width of all three.
        n_out: u32,
        /// Tangents of every sample.
        n_directions: u32,
    }
    read { z: (batch, n_out), t: (n_directions * batch, n_out) }
    write { h_tangent: (n_directions * batch, n_out) }
    grid |tile| linear_grid(batch * n_out.div_ceil(4));
    iterations n_directions;
}

kernel! {
    /// dt = dh' phi'(z), dz = sum over directions of dh' phi''(z) t; see `shaders/score_field/tangent_backward.wgsl`.
    pub struct TangentBackward;
    variants { "score_field/tangent_backward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
    }
    params {
        /// B
        batch: u32,
        /// Width of all five.
        n_out: u32,
        /// Tangents of every sample.
        n_directions: u32,
        /// 1 adds to `dz`, 0 overwrites it.
        accumulate: u32,
    }
    read {
        z: (batch, n_out),
        t: (n_directions * batch, n_out),
        dh_tangent: (n_directions * batch, n_out),
    }
    write { dt: (n_directions * batch, n_out), dz: (batch, n_out) }
    grid |tile| linear_grid(batch * n_out.div_ceil(4));
    iterations n_directions;
}

kernel! {
    /// y += gain x, a gain for each column; see `shaders/score_field/diagonal_forward.wgsl`.
    pub struct DiagonalForward;
    variants { "score_field/diagonal_forward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Rows of x and y.
        rows: u32,
        /// Columns of all.
        columns: u32,
    }
    read { gain: (columns), x: (rows, columns) }
    write { y: (rows, columns) }
    grid |tile| linear_grid(rows * columns.div_ceil(4));
    iterations 0;
}

kernel! {
    /// dgain = sum over rows of dy x; see `shaders/score_field/diagonal_backward.wgsl`.
    pub struct DiagonalBackward;
    variants { "score_field/diagonal_backward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Rows of dy and x.
        rows: u32,
        /// Columns of all.
        columns: u32,
    }
    read { dy: (rows, columns), x: (rows, columns) }
    write { dgain: (columns) }
    grid |tile| [columns.div_ceil(tile[1]), 1, 1];
    iterations rows;
}

kernel! {
    /// Random signs or unit vectors; see `shaders/score_field/probe_directions.wgsl`.
    pub struct ProbeDirections;
    variants { "score_field/probe_directions": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Probes`](crate::codes::Probes) as a number.
        probes as "PROBES",
    }
    params {
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// Directions of every sample.
        n_directions: u32,
        /// Number of the first one.
        first_direction: u32,
        /// Low half of the seed.
        seed_low: u32,
        /// High half of the seed.
        seed_high: u32,
        /// Number of the step.
        step: u32,
    }
    read {}
    write { v: (n_directions * batch, dimensions) }
    grid |tile| linear_grid(n_directions * batch * dimensions.div_ceil(4));
    iterations 10;
}

kernel! {
    /// 1/2 |scale s + shift (noisy - clean)|^2 of every sample, in the first column, and its gradient; see `shaders/score_field/residual_loss.wgsl`.
    pub struct ResidualLoss;
    variants { "score_field/residual_loss": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// Factor of the score.
        scale: f32,
        /// Factor of the noise.
        shift: f32,
    }
    read { score: (batch, dimensions), clean: (batch, dimensions), noisy: (batch, dimensions) }
    write { losses: (batch, 4), dscore: (batch, dimensions) }
    grid |tile| [batch, 1, 1];
    iterations dimensions.div_ceil(256) + 6;
}

kernel! {
    /// Slopes, and squares of the score, along directions; see `shaders/score_field/sliced_loss.wgsl`.
    pub struct SlicedLoss;
    variants { "score_field/sliced_loss": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// Directions of every sample.
        n_directions: u32,
        /// Weight of one direction.
        weight: f32,
        /// 1 takes the score's square along the directions, 0 leaves it out.
        project: u32,
        /// 1 adds to `losses` and `dscore`, 0 overwrites them.
        accumulate: u32,
    }
    read {
        v: (n_directions * batch, dimensions),
        score: (batch, dimensions),
        slope: (n_directions * batch, dimensions),
    }
    write { losses: (batch, 4), dscore: (batch, dimensions), dslope: (n_directions * batch, dimensions) }
    grid |tile| [batch, 1, 1];
    iterations n_directions * (2 * dimensions.div_ceil(256) + 7);
}
