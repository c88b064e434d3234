//! The fused score network: evaluation, and training with its whole backward pass.

use crate::gpu::ConstantGroup;
use crate::kernel;

/// What is compiled of the score network into the kernels that run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreConstants {
    /// Hidden layers.
    pub hidden: u32,
    /// vec4s of the first layer's inputs that a thread holds at a time.
    pub first_quads: u32,
    /// vec4s of a later layer's inputs that a thread holds at a time; even.
    pub hidden_quads: u32,
    /// 1 where a layer has more inputs than that.
    pub wide: u32,
    /// vec4s of the weights; 0 where the network is too large for private memory.
    pub net_quads: u32,
    /// vec4s of the input, and of the first [`ScoreConstants::MAX_HIDDEN`] hidden layers; those even, 0 where there are fewer.
    pub widths: [u32; 5],
}

impl ScoreConstants {
    /// Hidden layers that private memory is planned for.
    pub const MAX_HIDDEN: usize = 4;
}

impl ConstantGroup for ScoreConstants {
    const NAMES: &'static [&'static str] = &[
        "LAYERS",
        "HIDDEN",
        "QUADS_0",
        "QUADS_1",
        "WIDE",
        "NET_QUADS",
        "WIDTH_0",
        "WIDTH_1",
        "WIDTH_2",
        "WIDTH_3",
        "WIDTH_4",
    ];

    fn values(&self) -> Vec<u32> {
        let Self { hidden, first_quads, hidden_quads, wide, net_quads, widths } = *self;
        [hidden + 1, hidden, first_quads, hidden_quads, wide, net_quads].into_iter().chain(widths).collect()
    }
}

kernel! {
    /// Scores and slopes of rows; see `shaders/score_net/score_forward.wgsl`.
    pub struct ScoreForward;
    variants {
        "score_net/score_forward": CpuPrivate, workgroup [8, 1, 1], tile [16, 1], uniforms [net];
        "score_net/score_forward": CpuSubgroups, workgroup [8, 4, 1], tile [64, 1];
        "score_net/score_forward": Baseline, workgroup [8, 4, 1], tile [64, 1];
    }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that 32 rows take at most.
        row_iterations,
    }
    params {
        /// Rows.
        n_rows: u32,
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// K
        context_width: u32,
        /// Words of its weights.
        n_net: u32,
        /// Words of the layer table.
        n_tables: u32,
        /// Workgroups; each strides over the tiles.
        n_groups: u32,
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
    }
    read {
        context: (batch, dimensions * context_width),
        rows: (n_rows, 4),
        net: (n_net),
        tables: (n_tables),
    }
    write { scratch: (n_groups, scratch_words), result: (n_rows, 4) }
    grid |tile| [n_groups, 1, 1];
    iterations n_rows.div_ceil(32 * n_groups) * row_iterations;
}

kernel! {
    /// Loss, context gradient and weight gradient of rows; see `shaders/score_net/score_train.wgsl`.
    pub struct ScoreTrain;
    variants {
        "score_net/score_train_private": CpuPrivate, workgroup [8, 1, 1], tile [16, 1], uniforms [net];
        "score_net/score_train": CpuSubgroups, workgroup [8, 4, 1], tile [64, 1];
        "score_net/score_train_workgroup": Workgroup, workgroup [8, 16, 1], tile [16, 1],
            most ["HIDDEN": 2, "WIDTH_0": 8];
        "score_net/score_train": Baseline, workgroup [8, 4, 1], tile [64, 1];
    }
    constants {
        /// [`Activation`](crate::codes::Activation) as a number.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// [`Objective`](crate::codes::Objective) as a number.
        objective as "OBJECTIVE",
        /// 1 carries tangents (every objective but dsm), 0 does not.
        tangent as "TANGENT",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that 32 rows take at most.
        row_iterations,
    }
    params {
        /// Rows.
        n_rows: u32,
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// K
        context_width: u32,
        /// One row stands for this many.
        row_stride: u32,
        /// Words of its weights.
        n_net: u32,
        /// Words of the layer table.
        n_tables: u32,
        /// Workgroups; each strides over the tiles.
        n_groups: u32,
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Where its gradient starts in it.
        gradient_at: u32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
        /// Lower end of the data's support (weighted objective).
        low: f32,
        /// Upper end of the data's support.
        high: f32,
    }
    read {
        context: (batch, dimensions * context_width),
        rows: (n_rows, 4),
        net: (n_net),
        tables: (n_tables),
    }
    write { scratch: (n_groups, scratch_words), dcontext: (batch, dimensions * context_width) }
    grid |tile| [n_groups, 1, 1];
    // Each of 32 threads, or of eight with private memory, clears a vec4 in each iteration. Without tangents a tile has twice as
    // many rows, and the second term is twice the truth.
    iterations scratch_words.div_ceil(128).max(n_net.div_ceil(32) + 1) + n_rows.div_ceil(32 * n_groups) * row_iterations;
}
