//! The fused score network: evaluation, and training with its whole backward pass.

use crate::kernel;

kernel! {
    /// Scores and slopes of rows; see `shaders/score_forward.wgsl`.
    pub struct ScoreForward;
    variants {
        "score_forward": CpuSubgroups, workgroup [8, 4, 1], tile [64, 1];
        "score_forward": Baseline, workgroup [8, 4, 1], tile [64, 1];
    }
    constants {
        /// [`Activation`](crate::config::Activation) as a number.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::config::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// vec4s of the first layer's inputs that a thread holds at a time.
        first_quads as "QUADS_0",
        /// vec4s of a later layer's inputs that a thread holds at a time; even.
        hidden_quads as "QUADS_1",
        /// 1 where a layer has more inputs than that.
        wide as "WIDE",
    }
    host {
        /// Loop iterations that one tile takes at most.
        tile_iterations,
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
        /// Layers of the score network, the output layer included.
        n_layers: u32,
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
    iterations n_rows.div_ceil(32 * n_groups) * tile_iterations;
}

kernel! {
    /// Loss, context gradient and weight gradient of rows; see `shaders/score_train.wgsl`.
    pub struct ScoreTrain;
    variants {
        "score_train": CpuSubgroups, workgroup [8, 4, 1], tile [64, 1];
        "score_train": Baseline, workgroup [8, 4, 1], tile [64, 1];
    }
    constants {
        /// [`Activation`](crate::config::Activation) as a number.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::config::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// [`Objective`](crate::config::Objective) as a number.
        objective as "OBJECTIVE",
        /// 1 carries tangents (every objective but dsm), 0 does not.
        tangent as "TANGENT",
        /// vec4s of the first layer's inputs that a thread holds at a time.
        first_quads as "QUADS_0",
        /// vec4s of a later layer's inputs that a thread holds at a time; even.
        hidden_quads as "QUADS_1",
        /// 1 where a layer has more inputs than that.
        wide as "WIDE",
    }
    host {
        /// Loop iterations that one tile takes at most.
        tile_iterations,
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
        /// Layers of the score network, the output layer included.
        n_layers: u32,
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
    // Each of 32 threads clears a vec4 in each iteration. Without tangents a tile has 64 rows and the second term is twice
    // the truth.
    iterations scratch_words.div_ceil(128) + n_rows.div_ceil(32 * n_groups) * tile_iterations;
}
