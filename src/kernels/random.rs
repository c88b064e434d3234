//! Counter-based noise.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// Noisy rows for the score network; see `shaders/random/perturb_rows.wgsl`.
    pub struct PerturbRows;
    variants { "random/perturb_rows": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    params {
        /// ceil(batch * dimensions / row_stride)
        n_rows: u32,
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// One row out of this many is taken.
        row_stride: u32,
        /// Low half of the seed.
        seed_low: u32,
        /// High half of the seed.
        seed_high: u32,
        /// Number of the first sample of the batch, for noise that belongs to samples.
        first_sample: u32,
        /// Number of the step, for noise that belongs to steps.
        step: u32,
        /// log(sigma_min)
        log_sigma_min: f32,
        /// log(sigma_max / sigma_min)
        log_sigma_range: f32,
        /// 1 adds noise, 0 makes sigma = 0.
        noise: f32,
    }
    read { x: (batch, dimensions) }
    write { rows: (n_rows, 4) }
    grid |tile| linear_grid(n_rows);
    iterations 20;
}

kernel! {
    /// Augmentation of the context network's input; see `shaders/random/corrupt_context.wgsl`.
    pub struct CorruptContext;
    variants { "random/corrupt_context": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// B
        batch: u32,
        /// D
        dimensions: u32,
        /// Low half of the seed.
        seed_low: u32,
        /// High half of the seed.
        seed_high: u32,
        /// Number of the step.
        step: u32,
        /// Number of the first sample of the batch.
        first_sample: u32,
        /// Standard deviation of the noise.
        noise: f32,
        /// Share of inputs set to zero.
        dropout: f32,
    }
    read { x: (batch, dimensions) }
    write { y: (batch, dimensions) }
    grid |tile| [dimensions.div_ceil(tile[1]), batch, 1];
    iterations 40;
}

kernel! {
    /// The random number generator itself; see `shaders/random/random_words.wgsl`.
    pub struct RandomWords;
    variants { "random/random_words": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    params {
        /// Counters.
        n: u32,
        /// Low half of the seed.
        seed_low: u32,
        /// High half of the seed.
        seed_high: u32,
        /// Stream.
        stream: u32,
        /// Sample of the first counter.
        first_sample: u32,
        /// Dimension.
        dimension: u32,
        /// Step.
        step: u32,
    }
    read {}
    write { words: (n, 4) }
    grid |tile| [n.div_ceil(tile[1]), 1, 1];
    iterations 10;
}
