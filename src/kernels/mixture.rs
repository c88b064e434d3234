//! Mixture heads: evaluation, training with the gradient by the contexts, and exact draws.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// Scores, slopes and log densities of rows; see `shaders/mixture/mixture_forward.wgsl`.
    pub struct MixtureForward;
    variants { "mixture/mixture_forward": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    constants {
        /// 0 for Gaussians, 1 for logistics.
        family as "FAMILY",
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
        /// M
        components: u32,
        /// Logits among the K numbers: M, or 0 for a single component.
        n_logits: u32,
        /// Where the mean of component 0 is for a context of zeros.
        first_mean: f32,
        /// How far apart the means are for a context of zeros.
        mean_step: f32,
        /// Unit of the means in the context.
        mean_unit: f32,
        /// Scale for a context of zeros.
        scale_unit: f32,
        /// Middle of the first bin.
        bin_low: f32,
        /// Middle of the last bin.
        bin_high: f32,
        /// Width of a bin; 0 for densities.
        bin_width: f32,
    }
    read { context: (batch, dimensions * context_width), rows: (n_rows, 4) }
    write { result: (n_rows, 4) }
    grid |tile| linear_grid(n_rows);
    iterations 3 * components;
}

kernel! {
    /// Loss and context gradient of rows; see `shaders/mixture/mixture_train.wgsl`.
    pub struct MixtureTrain;
    variants { "mixture/mixture_train": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    constants {
        /// 0 for Gaussians, 1 for logistics.
        family as "FAMILY",
        /// [`Objective`](crate::codes::Objective) as a number.
        objective as "OBJECTIVE",
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
        /// Workgroups; each strides over the rows.
        n_groups: u32,
        /// M
        components: u32,
        /// Logits among the K numbers: M, or 0 for a single component.
        n_logits: u32,
        /// Where the mean of component 0 is for a context of zeros.
        first_mean: f32,
        /// How far apart the means are for a context of zeros.
        mean_step: f32,
        /// Unit of the means in the context.
        mean_unit: f32,
        /// Scale for a context of zeros.
        scale_unit: f32,
        /// Middle of the first bin.
        bin_low: f32,
        /// Middle of the last bin.
        bin_high: f32,
        /// Width of a bin; 0 for densities.
        bin_width: f32,
        /// Lower end of the data's support (weighted objective).
        low: f32,
        /// Upper end of the data's support.
        high: f32,
    }
    read { context: (batch, dimensions * context_width), rows: (n_rows, 4) }
    write { dcontext: (batch, dimensions * context_width), partials: (n_groups, 4) }
    grid |tile| [n_groups, 1, 1];
    iterations n_rows.div_ceil(64 * n_groups) * (3 * components + 1) + 64;
}

kernel! {
    /// Exact draws from the conditionals; see `shaders/mixture/sample_mixture.wgsl`.
    pub struct SampleMixture;
    variants {
        "mixture/sample_mixture": CpuSubgroups, workgroup [8, 1, 1], tile [8, 32];
        "mixture/sample_mixture": Workgroup, workgroup [8, 8, 1], tile [1, 8], most ["SAMPLES": 1];
        "mixture/sample_mixture": Baseline, workgroup [8, 8, 1], tile [8, 8];
    }
    constants {
        /// 0 for Gaussians, 1 for logistics.
        family as "FAMILY",
        /// Activation of the context network.
        context_activation as "CONTEXT_ACTIVATION",
        /// 1 for masked convolutions, 0 for masked dense layers.
        is_image_net as "IS_IMAGE_NET",
        /// 1 where masked dense layers are residual.
        residual as "RESIDUAL",
        /// Activation of the first half of gates.
        gate as "GATE",
        /// Samples of a workgroup, as many as its tile has rows.
        samples as "SAMPLES",
    }
    host {
        /// Loop iterations that one dimension of the context network takes at most.
        context_iterations,
    }
    params {
        /// Samples.
        n_samples: u32,
        /// D
        dimensions: u32,
        /// K
        context_width: u32,
        /// First dimension to draw.
        first_dimension: u32,
        /// One past the last dimension to draw.
        end_dimension: u32,
        /// Number of the first sample, for its random numbers.
        first_sample: u32,
        /// Low half of the seed.
        seed_low: u32,
        /// High half of the seed.
        seed_high: u32,
        /// Layers of the context network.
        n_context_layers: u32,
        /// Where its layer table starts.
        context_table: u32,
        /// 1 computes contexts as dimensions become known, 0 finds them in the state.
        incremental: u32,
        /// Where a sample's context starts in its state.
        context_at: u32,
        /// Words of state a sample owns.
        state_words: u32,
        /// Words of the context network.
        n_context_net: u32,
        /// Words of the tables.
        n_tables: u32,
        /// M
        components: u32,
        /// Logits among the K numbers: M, or 0 for a single component.
        n_logits: u32,
        /// Where the mean of component 0 is for a context of zeros.
        first_mean: f32,
        /// How far apart the means are for a context of zeros.
        mean_step: f32,
        /// Unit of the means in the context.
        mean_unit: f32,
        /// Scale for a context of zeros.
        scale_unit: f32,
        /// Middle of the first bin.
        bin_low: f32,
        /// Middle of the last bin.
        bin_high: f32,
        /// Width of a bin; 0 for densities.
        bin_width: f32,
        /// Noise level of what is drawn.
        sigma: f32,
        /// T; 1 draws from the model as it is.
        temperature: f32,
    }
    read { context_net: (n_context_net), tables: (n_tables) }
    write { state: (n_samples, state_words) }
    grid |tile| [n_samples.div_ceil(tile[0]), 1, 1];
    iterations (end_dimension - first_dimension) * (context_iterations + 3 * n_logits + 10);
}
