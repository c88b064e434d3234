//! Masked dense layers: y = (W * mask) x + b with degree-sorted units, and activations.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// y = bias + (weight * mask) x for every sample; see `shaders/dense/masked_dense_forward.wgsl`.
    pub struct MaskedDenseForward;
    variants {
        "dense/masked_dense_forward": CpuTextures, workgroup [8, 4, 1], tile [128, 64], textures [x, weight];
        "dense/masked_dense_forward": CpuSubgroups, workgroup [8, 4, 1], tile [128, 64];
        "dense/masked_dense_forward_tiled": Workgroup, workgroup [8, 8, 4], tile [32, 32];
        "dense/masked_dense_forward": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    params {
        /// B
        batch: u32,
        /// Inputs of the layer.
        n_in: u32,
        /// Outputs of the layer.
        n_out: u32,
    }
    read {
        x: (batch, n_in),
        weight: (n_out, n_in),
        bias: (n_out),
        /// Number of leading inputs that an output may see; never falls.
        visible: (n_out),
    }
    write { y: (batch, n_out) }
    grid |tile| [batch.div_ceil(tile[0]), n_out.div_ceil(tile[1]), 1];
    iterations 2 * n_in.div_ceil(4) + 36;
}

kernel! {
    /// z = bias + (weight * mask) x and h = phi(z), plus x in a residual layer, for every sample: a hidden layer; see
    /// `shaders/dense/masked_hidden_forward.wgsl`.
    pub struct MaskedHiddenForward;
    variants {
        "dense/masked_hidden_forward": CpuTextures, workgroup [8, 4, 1], tile [128, 64], textures [x, weight];
        "dense/masked_hidden_forward": CpuSubgroups, workgroup [8, 4, 1], tile [128, 64];
        "dense/masked_hidden_forward_tiled": Workgroup, workgroup [8, 8, 4], tile [32, 32];
        "dense/masked_hidden_forward": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
        /// 1 adds x (n_in = n_out then).
        residual as "RESIDUAL",
    }
    params {
        /// B
        batch: u32,
        /// Inputs of the layer.
        n_in: u32,
        /// Outputs of the layer.
        n_out: u32,
    }
    read {
        x: (batch, n_in),
        weight: (n_out, n_in),
        bias: (n_out),
        /// Number of leading inputs that an output may see; never falls.
        visible: (n_out),
    }
    write { z: (batch, n_out), h: (batch, n_out) }
    grid |tile| [batch.div_ceil(tile[0]), n_out.div_ceil(tile[1]), 1];
    iterations 2 * n_in.div_ceil(4) + 36;
}

kernel! {
    /// dx = (weight * mask)^T dy for every sample; see `shaders/dense/masked_dense_backward_input.wgsl`.
    pub struct MaskedDenseBackwardInput;
    variants {
        "dense/masked_dense_backward_input": CpuTextures, workgroup [8, 4, 1], tile [128, 64], textures [dy, weight];
        "dense/masked_dense_backward_input": CpuSubgroups, workgroup [8, 4, 1], tile [128, 64];
        "dense/masked_dense_backward_input_tiled": Workgroup, workgroup [4, 4, 16], tile [16, 16];
        "dense/masked_dense_backward_input": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    params {
        /// B
        batch: u32,
        /// Inputs of the layer.
        n_in: u32,
        /// Outputs of the layer.
        n_out: u32,
        /// 1 adds to `dx`, 0 overwrites it.
        accumulate: u32,
    }
    read {
        dy: (batch, n_out),
        weight: (n_out, n_in),
        /// Number of leading inputs that an output may see; never falls.
        visible: (n_out),
        /// First output that sees an input; n_out where none does.
        first_output: (n_in),
    }
    write { dx: (batch, n_in) }
    grid |tile| [batch.div_ceil(tile[0]), n_in.div_ceil(tile[1]), 1];
    iterations 2 * n_out.div_ceil(4) + 36;
}

kernel! {
    /// dx = (weight * mask)^T dy and dz = dx phi'(z) for every sample, where the layer's input is h = phi(z) of a hidden layer; see
    /// `shaders/dense/masked_hidden_backward.wgsl`.
    pub struct MaskedHiddenBackward;
    variants {
        "dense/masked_hidden_backward": CpuTextures, workgroup [8, 4, 1], tile [128, 64], textures [dy, weight];
        "dense/masked_hidden_backward": CpuSubgroups, workgroup [8, 4, 1], tile [128, 64];
        "dense/masked_hidden_backward_tiled": Workgroup, workgroup [4, 4, 16], tile [16, 16];
        "dense/masked_hidden_backward": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    constants {
        /// [`Activation`](crate::codes::Activation) of the hidden layer as a number.
        activation as "ACTIVATION",
    }
    params {
        /// B
        batch: u32,
        /// Inputs of the layer.
        n_in: u32,
        /// Outputs of the layer.
        n_out: u32,
        /// 1 adds to `dx`, 0 overwrites it.
        accumulate: u32,
    }
    read {
        dy: (batch, n_out),
        weight: (n_out, n_in),
        /// Number of leading inputs that an output may see; never falls.
        visible: (n_out),
        /// First output that sees an input; n_out where none does.
        first_output: (n_in),
        z: (batch, n_in),
    }
    write { dx: (batch, n_in), dz: (batch, n_in) }
    grid |tile| [batch.div_ceil(tile[0]), n_in.div_ceil(tile[1]), 1];
    iterations 2 * n_out.div_ceil(4) + 36;
}

kernel! {
    /// dweight = mask * (dy^T x), summed over the batch; see `shaders/dense/masked_dense_backward_weight.wgsl`. What the mask removes
    /// must be zero before, as in a gradient that began as zeros: most of it is not written.
    pub struct MaskedDenseBackwardWeight;
    variants {
        "dense/masked_dense_backward_weight": CpuTextures, workgroup [8, 4, 1], tile [128, 64], textures [dy, x];
        "dense/masked_dense_backward_weight": CpuSubgroups, workgroup [8, 4, 1], tile [128, 64];
        "dense/masked_dense_backward_weight_tiled": Workgroup, workgroup [8, 16, 2], tile [64, 64];
        "dense/masked_dense_backward_weight": Baseline, workgroup [8, 8, 1], tile [64, 64];
    }
    params {
        /// B
        batch: u32,
        /// Inputs of the layer.
        n_in: u32,
        /// Outputs of the layer.
        n_out: u32,
    }
    read {
        dy: (batch, n_out),
        x: (batch, n_in),
        /// Number of leading inputs that an output may see; never falls.
        visible: (n_out),
    }
    write { dweight: (n_out, n_in) }
    grid |tile| [n_out.div_ceil(tile[0]), n_in.div_ceil(tile[1]), 1];
    iterations 2 * batch + 4;
}

kernel! {
    /// h = phi(z), plus x in a residual layer; see `shaders/activation/activation_forward.wgsl`.
    pub struct ActivationForward;
    variants { "activation/activation_forward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
    }
    params {
        /// B
        batch: u32,
        /// Width of x.
        n_in: u32,
        /// Width of z and h.
        n_out: u32,
        /// 1 adds x (n_in = n_out then).
        residual: u32,
    }
    read { z: (batch, n_out), x: (batch, n_in) }
    write { h: (batch, n_out) }
    grid |tile| linear_grid(batch * n_out.div_ceil(4));
    iterations 0;
}

kernel! {
    /// dz = dh phi'(z); see `shaders/activation/activation_backward.wgsl`.
    pub struct ActivationBackward;
    variants { "activation/activation_backward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
    }
    params {
        /// B
        batch: u32,
        /// Width of all three.
        n_out: u32,
        /// 1 adds to `dz`, 0 overwrites it.
        accumulate: u32,
    }
    read { z: (batch, n_out), dh: (batch, n_out) }
    write { dz: (batch, n_out) }
    grid |tile| linear_grid(batch * n_out.div_ceil(4));
    iterations 0;
}
