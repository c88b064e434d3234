//! Adam, and checks on what it made.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// One Adam step on some blocks of flat buffers; see `shaders/optimiser/adam.wgsl`.
    pub struct Adam;
    variants { "optimiser/adam": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Words of every buffer.
        n_values: u32,
        /// Blocks that take part.
        n_blocks: u32,
        /// Learning rate of this step.
        rate: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// 1 - beta1^step
        correction1: f32,
        /// 1 - beta2^step
        correction2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// Decoupled weight decay, of the blocks that take part in it.
        decay: f32,
        /// Largest gradient norm; 0 for any.
        clip_norm: f32,
        /// Decay of the moving average.
        ema_decay: f32,
    }
    read {
        gradient: (n_values),
        /// As [`Adam::block`] gives them.
        blocks: (n_blocks),
    }
    write {
        value: (n_values),
        first_moment: (n_values),
        second_moment: (n_values),
        average: (n_values),
        /// The squared norm of the whole gradient in the first word; the second one grows by the number of words of the
        /// average that are not finite.
        health: (4),
    }
    grid |tile| linear_grid(n_blocks * (Adam::BLOCK_WORDS as u32 / 4));
    iterations 0;
}

impl Adam<'_> {
    /// Words of a block.
    pub const BLOCK_WORDS: usize = 64;

    /// Entry of the table of blocks for the words 64 b .. 64 b + 64, which decay or do not.
    pub const fn block(b: u32, decays: bool) -> u32 {
        2 * b + decays as u32
    }
}

kernel! {
    /// Adds the number of NaN and infinite words to a counter; see `shaders/optimiser/count_non_finite.wgsl`.
    pub struct CountNonFinite;
    variants { "optimiser/count_non_finite": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Words to look at.
        n_values: u32,
    }
    read { values: (n_values) }
    write { count: (4) }
    grid |tile| linear_grid(n_values.div_ceil(4));
    iterations 0;
}
