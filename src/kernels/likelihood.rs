//! Exact log densities of one dimension given those before it, for all (sample, dimension) rows at once.

use super::ScoreConstants;
use crate::kernel;

kernel! {
    /// One level of the multi-level chain's density; see `shaders/likelihood/likelihood_level.wgsl`.
    pub struct LikelihoodLevel;
    variants {
        "likelihood/likelihood_level": CpuPrivate, workgroup [8, 4, 1], tile [64, 1], uniforms [net];
        "likelihood/likelihood_level": CpuSubgroups, workgroup [8, 4, 1], tile [64, 1];
        "likelihood/likelihood_level": Baseline, workgroup [8, 4, 1], tile [64, 1];
    }
    constants {
        /// Activation of the score network.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that one tile of the score network takes at most.
        tile_iterations,
    }
    params {
        /// Rows that the tensors have room for.
        n_rows: u32,
        /// Rows that are worked on.
        used_rows: u32,
        /// Which row (sample * D + dimension) of the batch the first of them is.
        first_row: u32,
        /// Workgroups; each strides over the rows.
        n_groups: u32,
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
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Words of log densities a row owns.
        density_words: u32,
        /// Where this level's start in them.
        density_at: u32,
        /// Where those of the level above start.
        above_at: u32,
        /// Grid points of this level, at most 1,024.
        points: u32,
        /// Grid points of the level above; 0 where there is none.
        points_above: u32,
        /// Noise level.
        sigma: f32,
        /// Lower end of the grid, up to half a step.
        low: f32,
        /// Distance of its points.
        step: f32,
        /// Lower end of the grid above.
        low_above: f32,
        /// Distance of its points.
        step_above: f32,
        /// 1 / (2 tau^2) of the step between the levels.
        half_precision: f32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
    }
    read {
        context: (batch, dimensions * context_width),
        targets: (n_rows),
        net: (n_net),
        tables: (n_tables),
    }
    write { densities: (n_rows, density_words), readings: (n_rows, 4), scratch: (n_groups, scratch_words) }
    grid |tile| [n_groups, 1, 1];
    // A sum over a grid passes it twice, four points at a time.
    iterations used_rows.div_ceil(n_groups) * (1 + points.div_ceil(64) * tile_iterations + 2 * points + 6
        + (points.div_ceil(32) + 1) * (2 * points_above.div_ceil(4) + 3)
        + (points_above.div_ceil(32) + 1) * (2 * points.div_ceil(4) + 3));
}

kernel! {
    /// The probability-flow reading of a density; see `shaders/likelihood/likelihood_flow.wgsl`.
    pub struct LikelihoodFlow;
    variants {
        "likelihood/likelihood_flow": CpuPrivate, workgroup [8, 1, 1], tile [16, 1], uniforms [net];
        "likelihood/likelihood_flow": CpuSubgroups, workgroup [8, 1, 1], tile [16, 1];
        "likelihood/likelihood_flow": Baseline, workgroup [8, 4, 1], tile [64, 1];
    }
    constants {
        /// Activation of the score network.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that one tile of the score network takes at most.
        tile_iterations,
    }
    params {
        /// Rows that the tensors have room for.
        n_rows: u32,
        /// Rows that are worked on.
        used_rows: u32,
        /// Which row (sample * D + dimension) of the batch the first of them is.
        first_row: u32,
        /// Workgroups; each strides over (row, points of a tile).
        n_groups: u32,
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
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Words of log densities a row owns.
        density_words: u32,
        /// Where those that are written start in them.
        density_at: u32,
        /// Where those at the highest noise level start.
        above_at: u32,
        /// Grid points at the lowest level.
        points: u32,
        /// Grid points at the highest level.
        points_above: u32,
        /// Steps from the lowest level to the highest.
        n_steps: u32,
        /// Lowest noise level.
        sigma: f32,
        /// Highest noise level.
        sigma_top: f32,
        /// Lower end of the grid, up to half a step.
        low: f32,
        /// Distance of its points.
        step: f32,
        /// Lower end of the grid at the highest level.
        low_above: f32,
        /// Distance of its points.
        step_above: f32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
    }
    read {
        context: (batch, dimensions * context_width),
        targets: (n_rows),
        net: (n_net),
        tables: (n_tables),
    }
    write { densities: (n_rows, density_words), readings: (n_rows, 4), scratch: (n_groups, scratch_words) }
    grid |tile| [n_groups, 1, 1];
    iterations (used_rows * points.div_ceil(8)).div_ceil(n_groups) * (1 + n_steps * (2 * tile_iterations + 1));
}
