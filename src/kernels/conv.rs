//! Masked convolutions as implicit matrix products, gated units, and dropout. Activations are (positions of all images,
//! channels); the mask is a rule, never a buffer.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// y = bias + (weight * mask) applied to the taps of every position; see `shaders/conv/masked_conv_forward.wgsl`.
    pub struct MaskedConvForward;
    variants {
        "conv/masked_conv_forward": CpuTextures, workgroup [8, 8, 1], tile [256, 32], textures [x, weight];
        "conv/masked_conv_forward": CpuSubgroups, workgroup [8, 8, 1], tile [256, 32];
        "conv/masked_conv_forward_tiled": Workgroup, workgroup [8, 8, 4], tile [32, 32];
        "conv/masked_conv_forward": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    params {
        /// B
        batch: u32,
        /// Channels of x.
        n_in: u32,
        /// Channels of y.
        n_out: u32,
        /// Rows of positions of x.
        in_height: u32,
        /// Positions in a row of x.
        in_width: u32,
        /// Rows of positions of y.
        out_height: u32,
        /// Positions in a row of y.
        out_width: u32,
        /// Taps.
        n_taps: u32,
        /// Taps in a row.
        tap_width: u32,
        /// Rows from the first tap down to the position itself.
        above: u32,
        /// Columns from the first tap to the position itself.
        left: u32,
        /// 1, or 2 to halve the resolution.
        stride: u32,
        /// 1 repeats every position of x 2x2, 0 leaves it.
        up: u32,
        /// [`Mask`](crate::codes::Mask) of the last tap as a number.
        mask: u32,
        /// Colour channels of the image.
        groups: u32,
        /// Outputs in which the groups occur once: n_out, or half of it.
        half_width: u32,
        /// 1 adds to what is there, 0 overwrites it.
        accumulate: u32,
    }
    read { x: (batch * in_height * in_width, n_in), weight: (n_out * n_taps, n_in), bias: (n_out) }
    write { y: (batch * out_height * out_width, n_out) }
    grid |tile| [(batch * out_height * out_width).div_ceil(tile[0]), n_out.div_ceil(tile[1]), 1];
    iterations 2 * n_taps * n_in.div_ceil(4) + 4;
}

kernel! {
    /// dx: the adjoint of [`MaskedConvForward`] by x; see `shaders/conv/masked_conv_backward_input.wgsl`.
    pub struct MaskedConvBackwardInput;
    variants {
        "conv/masked_conv_backward_input": CpuTextures, workgroup [8, 8, 1], tile [256, 32], textures [dy, weight];
        "conv/masked_conv_backward_input": CpuSubgroups, workgroup [8, 8, 1], tile [256, 32];
        "conv/masked_conv_backward_input_tiled": Workgroup, workgroup [8, 8, 4], tile [32, 32];
        "conv/masked_conv_backward_input": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    params {
        /// B
        batch: u32,
        /// Channels of x.
        n_in: u32,
        /// Channels of y.
        n_out: u32,
        /// Rows of positions of x.
        in_height: u32,
        /// Positions in a row of x.
        in_width: u32,
        /// Rows of positions of y.
        out_height: u32,
        /// Positions in a row of y.
        out_width: u32,
        /// Taps.
        n_taps: u32,
        /// Taps in a row.
        tap_width: u32,
        /// Rows from the first tap down to the position itself.
        above: u32,
        /// Columns from the first tap to the position itself.
        left: u32,
        /// 1, or 2 to halve the resolution.
        stride: u32,
        /// 1 repeats every position of x 2x2, 0 leaves it.
        up: u32,
        /// [`Mask`](crate::codes::Mask) of the last tap as a number.
        mask: u32,
        /// Colour channels of the image.
        groups: u32,
        /// Outputs in which the groups occur once: n_out, or half of it.
        half_width: u32,
        /// 1 adds to what is there, 0 overwrites it.
        accumulate: u32,
    }
    read { dy: (batch * out_height * out_width, n_out), weight: (n_out * n_taps, n_in) }
    write { dx: (batch * in_height * in_width, n_in) }
    grid |tile| [(batch * in_height * in_width).div_ceil(tile[0]), n_in.div_ceil(tile[1]), 1];
    iterations 2 * (n_taps << (2 * up)) * n_out.div_ceil(4) + 4;
}

kernel! {
    /// dweight: the adjoint of [`MaskedConvForward`] by its weight, in chunks of positions that remain to be added up;
    /// see `shaders/conv/masked_conv_backward_weight.wgsl`.
    pub struct MaskedConvBackwardWeight;
    variants {
        "conv/masked_conv_backward_weight": CpuTextures, workgroup [8, 8, 1], tile [256, 32], textures [dy, x];
        "conv/masked_conv_backward_weight": CpuSubgroups, workgroup [8, 8, 1], tile [256, 32];
        "conv/masked_conv_backward_weight_tiled": Workgroup, workgroup [8, 8, 4], tile [32, 32];
        "conv/masked_conv_backward_weight": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    params {
        /// B
        batch: u32,
        /// Channels of x.
        n_in: u32,
        /// Channels of y.
        n_out: u32,
        /// Rows of positions of x.
        in_height: u32,
        /// Positions in a row of x.
        in_width: u32,
        /// Rows of positions of y.
        out_height: u32,
        /// Positions in a row of y.
        out_width: u32,
        /// Taps.
        n_taps: u32,
        /// Taps in a row.
        tap_width: u32,
        /// Rows from the first tap down to the position itself.
        above: u32,
        /// Columns from the first tap to the position itself.
        left: u32,
        /// 1, or 2 to halve the resolution.
        stride: u32,
        /// 1 repeats every position of x 2x2, 0 leaves it.
        up: u32,
        /// [`Mask`](crate::codes::Mask) of the last tap as a number.
        mask: u32,
        /// Colour channels of the image.
        groups: u32,
        /// Outputs in which the groups occur once: n_out, or half of it.
        half_width: u32,
        /// Positions a chunk.
        chunk_rows: u32,
        /// ceil(positions / chunk_rows)
        n_chunks: u32,
    }
    read { dy: (batch * out_height * out_width, n_out), x: (batch * in_height * in_width, n_in) }
    write { partials: (n_chunks * n_out * n_taps, n_in) }
    grid |tile| [n_out.div_ceil(tile[0]), (n_taps * n_in.div_ceil(4)).div_ceil(tile[1] / 4), n_chunks];
    iterations 2 * chunk_rows + 4;
}

kernel! {
    /// Gated residual unit; see `shaders/conv/gate_forward.wgsl`.
    pub struct GateForward;
    variants { "conv/gate_forward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Activation`](crate::codes::Activation) of the first half as a number.
        activation as "ACTIVATION",
    }
    params {
        /// Positions of all images.
        rows: u32,
        /// Channels of h.
        width: u32,
    }
    read { halves: (rows, 2 * width), skip: (rows, width) }
    write { h: (rows, width) }
    grid |tile| linear_grid(rows * width.div_ceil(4));
    iterations 0;
}

kernel! {
    /// The adjoint of [`GateForward`]; see `shaders/conv/gate_backward.wgsl`.
    pub struct GateBackward;
    variants { "conv/gate_backward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Activation`](crate::codes::Activation) of the first half as a number.
        activation as "ACTIVATION",
    }
    params {
        /// Positions of all images.
        rows: u32,
        /// Channels of h.
        width: u32,
        /// 1 adds to `dskip`, 0 overwrites it.
        accumulate: u32,
    }
    read { halves: (rows, 2 * width), dh: (rows, width) }
    write { dhalves: (rows, 2 * width), dskip: (rows, width) }
    grid |tile| linear_grid(rows * width.div_ceil(4));
    iterations 4;
}

kernel! {
    /// Sets a random share of the values to zero and scales the others up, in place; see `shaders/conv/dropout.wgsl`.
    pub struct Dropout;
    variants { "conv/dropout": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Positions of all images.
        rows: u32,
        /// Channels.
        width: u32,
        /// Positions of one image.
        positions: u32,
        /// Number of the first sample of the batch.
        first_sample: u32,
        /// First place in the sample's sequence of random numbers.
        first_place: u32,
        /// Low half of the seed.
        seed_low: u32,
        /// High half of the seed.
        seed_high: u32,
        /// Number of the step.
        step: u32,
        /// Share that is set to zero.
        rate: f32,
    }
    read {}
    write { values: (rows, width) }
    grid |tile| linear_grid(rows * width.div_ceil(4));
    iterations 10;
}
