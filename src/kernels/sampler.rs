//! Samplers that keep their state on the GPU and draw many dimensions in one dispatch.

use super::ScoreConstants;
use crate::kernel;

kernel! {
    /// Multi-level quadrature; see `shaders/sample/sample_multilevel.wgsl`.
    pub struct SampleMultilevel;
    variants {
        "sample/sample_multilevel": CpuPrivate, workgroup [8, 1, 1], tile [16, 32], uniforms [net];
        "sample/sample_multilevel": CpuSubgroups, workgroup [8, 1, 1], tile [16, 32];
        "sample/sample_multilevel": Workgroup, workgroup [8, 8, 1], tile [16, 8], most ["SAMPLES": 1];
        "sample/sample_multilevel": Baseline, workgroup [8, 4, 1], tile [64, 8];
    }
    constants {
        /// Activation of the score network.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// Activation of the context network.
        context_activation as "CONTEXT_ACTIVATION",
        /// 1 for masked convolutions, 0 for masked dense layers.
        is_image_net as "IS_IMAGE_NET",
        /// 1 where masked dense layers are residual.
        residual as "RESIDUAL",
        /// Activation of the first half of gates.
        gate as "GATE",
        /// Samples that a thread computes a unit of the context network for: 1, 2, 4 or 8.
        samples as "SAMPLES",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that one tile of the score network takes at most.
        tile_iterations,
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
        /// Where the noise levels start.
        sigma_table: u32,
        /// L
        n_levels: u32,
        /// Points of the first level.
        first_points: u32,
        /// Points of each of the others.
        points: u32,
        /// 1 computes contexts as dimensions become known, 0 finds them in the state.
        incremental: u32,
        /// Where a sample's context starts in its state.
        context_at: u32,
        /// Words of state a sample owns.
        state_words: u32,
        /// ceil(n_samples / samples)
        n_groups: u32,
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Where the table of what is known starts; 0 where nothing is.
        given_at: u32,
        /// Samples in a row that share what is known.
        particles: u32,
        /// Words of the score network.
        n_net: u32,
        /// Words of the context network.
        n_context_net: u32,
        /// Words of the tables.
        n_tables: u32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
        /// Lower end of the data.
        low: f32,
        /// Upper end of the data.
        high: f32,
        /// T; 1 draws from the model as it is.
        temperature: f32,
        /// First of the data's levels.
        snap_low: f32,
        /// Last of them.
        snap_high: f32,
        /// Their distance; 0 where values are on no levels.
        snap_width: f32,
    }
    read { net: (n_net), context_net: (n_context_net), tables: (n_tables) }
    write { state: (n_samples, state_words), scratch: (n_groups, scratch_words) }
    grid |tile| [n_groups, 1, 1];
    // A tile has at least two points of each of up to eight samples; three loops over the points follow.
    iterations (end_dimension - first_dimension)
        * (context_iterations
            + (first_points.div_ceil(2) + n_levels * points.div_ceil(2) + 1) * tile_iterations
            + 4 * (first_points + n_levels * points)
            + (11 * n_levels + 8) * (n_levels + 1));
}

kernel! {
    /// Annealed Langevin dynamics; see `shaders/sample/sample_langevin.wgsl`.
    pub struct SampleLangevin;
    variants {
        "sample/sample_langevin": CpuPrivate, workgroup [8, 1, 1], tile [16, 32], uniforms [net];
        "sample/sample_langevin": CpuSubgroups, workgroup [8, 1, 1], tile [16, 32];
        "sample/sample_langevin_workgroup": Workgroup, workgroup [8, 8, 1], tile [1, 8], most ["SAMPLES": 1];
        "sample/sample_langevin": Baseline, workgroup [8, 4, 1], tile [64, 8];
    }
    constants {
        /// Activation of the score network.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// Activation of the context network.
        context_activation as "CONTEXT_ACTIVATION",
        /// 1 for masked convolutions, 0 for masked dense layers.
        is_image_net as "IS_IMAGE_NET",
        /// 1 where masked dense layers are residual.
        residual as "RESIDUAL",
        /// Activation of the first half of gates.
        gate as "GATE",
        /// Samples that a thread computes a unit of the context network for: 1, 2, 4 or 8.
        samples as "SAMPLES",
        /// Samples that a thread draws: 2, or 1 where that leaves none without a thread; the second line then goes unused.
        lines as "LINES",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that one tile of the score network takes at most.
        tile_iterations,
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
        /// First evaluation of the flat sequence (dimension, step).
        first_evaluation: u32,
        /// One past the last.
        end_evaluation: u32,
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
        /// Where the noise levels start.
        sigma_table: u32,
        /// L
        n_levels: u32,
        /// T, steps a level.
        steps: u32,
        /// 1 computes contexts as dimensions become known, 0 finds them in the state.
        incremental: u32,
        /// Where a sample's context starts in its state.
        context_at: u32,
        /// Words of state a sample owns.
        state_words: u32,
        /// Samples of a workgroup, at most the lines of its tile.
        group_samples: u32,
        /// ceil(n_samples / group_samples)
        n_groups: u32,
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Words of the score network.
        n_net: u32,
        /// Words of the context network.
        n_context_net: u32,
        /// Words of the tables.
        n_tables: u32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
        /// Langevin step size e, in units of sigma^2.
        step_size: f32,
        /// T; 1 draws from the model as it is.
        temperature: f32,
        /// First of the data's levels.
        snap_low: f32,
        /// Last of them.
        snap_high: f32,
        /// Their distance; 0 where values are on no levels.
        snap_width: f32,
    }
    read { net: (n_net), context_net: (n_context_net), tables: (n_tables) }
    write { state: (n_samples, state_words), scratch: (n_groups, scratch_words) }
    grid |tile| [n_groups, 1, 1];
    // A thread owns two samples; each normal number takes the ten rounds of the generator.
    iterations (end_evaluation - first_evaluation) * (tile_iterations + context_width + 20)
        + (1 + (end_evaluation - first_evaluation) / (n_levels * steps + 1)) * (context_iterations + 20);
}

kernel! {
    /// Probability flow, or ancestral steps; see `shaders/sample/sample_ode.wgsl`.
    pub struct SampleOde;
    variants {
        "sample/sample_ode": CpuPrivate, workgroup [8, 1, 1], tile [16, 32], uniforms [net];
        "sample/sample_ode": CpuSubgroups, workgroup [8, 1, 1], tile [16, 32];
        "sample/sample_ode": Workgroup, workgroup [8, 8, 1], tile [16, 8], most ["SAMPLES": 1];
        "sample/sample_ode": Baseline, workgroup [8, 4, 1], tile [64, 8];
    }
    constants {
        /// Activation of the score network.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// Activation of the context network.
        context_activation as "CONTEXT_ACTIVATION",
        /// 1 for masked convolutions, 0 for masked dense layers.
        is_image_net as "IS_IMAGE_NET",
        /// 1 where masked dense layers are residual.
        residual as "RESIDUAL",
        /// Activation of the first half of gates.
        gate as "GATE",
        /// Samples that a thread computes a unit of the context network for: 1, 2, 4 or 8.
        samples as "SAMPLES",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that one tile of the score network takes at most.
        tile_iterations,
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
        /// Where the noise levels start.
        sigma_table: u32,
        /// Noise levels of the sampler.
        n_levels: u32,
        /// 1 computes contexts as dimensions become known, 0 finds them in the state.
        incremental: u32,
        /// Where a sample's context starts in its state.
        context_at: u32,
        /// Words of state a sample owns.
        state_words: u32,
        /// Workgroups.
        n_groups: u32,
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Words of the score network.
        n_net: u32,
        /// Words of the context network.
        n_context_net: u32,
        /// Words of the tables.
        n_tables: u32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
        /// T; 1 draws from the model as it is.
        temperature: f32,
        /// First of the data's levels.
        snap_low: f32,
        /// Last of them.
        snap_high: f32,
        /// Their distance; 0 where values are on no levels.
        snap_width: f32,
        /// G; the first level has 2 G points.
        points: u32,
        /// Lower end of the data.
        low: f32,
        /// Upper end of the data.
        high: f32,
        /// 1 draws from the posterior of a lower level, 0 follows the flow.
        ancestral: u32,
    }
    read { net: (n_net), context_net: (n_context_net), tables: (n_tables) }
    write { state: (n_samples, state_words), scratch: (n_groups, scratch_words) }
    grid |tile| [n_groups, 1, 1];
    // A tile has at least 16 of the points of up to eight samples; three loops over the points follow. Then each step takes
    // at most two tiles of its own, and ten rounds of the generator.
    iterations (end_dimension - first_dimension)
        * (context_iterations + points * (tile_iterations + 1) + 6 * points + 10
            + 2 * n_levels * (tile_iterations + 12));
}

kernel! {
    /// Metropolis-adjusted Langevin; see `shaders/sample/sample_mala.wgsl`.
    pub struct SampleMala;
    variants {
        "sample/sample_mala": CpuPrivate, workgroup [8, 1, 1], tile [16, 32], uniforms [net];
        "sample/sample_mala": CpuSubgroups, workgroup [8, 1, 1], tile [16, 32];
        "sample/sample_mala": Workgroup, workgroup [8, 8, 1], tile [4, 8], most ["SAMPLES": 1];
        "sample/sample_mala": Baseline, workgroup [8, 4, 1], tile [64, 8];
    }
    constants {
        /// Activation of the score network.
        activation as "ACTIVATION",
        /// [`Parametrisation`](crate::codes::Parametrisation) as a number.
        parametrisation as "PARAMETRISATION",
        /// Activation of the context network.
        context_activation as "CONTEXT_ACTIVATION",
        /// 1 for masked convolutions, 0 for masked dense layers.
        is_image_net as "IS_IMAGE_NET",
        /// 1 where masked dense layers are residual.
        residual as "RESIDUAL",
        /// Activation of the first half of gates.
        gate as "GATE",
        /// Samples that a thread computes a unit of the context network for: 1, 2, 4 or 8.
        samples as "SAMPLES",
    }
    shared score: ScoreConstants;
    host {
        /// Loop iterations that one tile of the score network takes at most.
        tile_iterations,
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
        /// First round of the flat sequence (dimension, round).
        first_evaluation: u32,
        /// One past the last.
        end_evaluation: u32,
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
        /// Where the noise levels start.
        sigma_table: u32,
        /// Noise levels of the sampler.
        n_levels: u32,
        /// 1 computes contexts as dimensions become known, 0 finds them in the state.
        incremental: u32,
        /// Where a sample's context starts in its state.
        context_at: u32,
        /// Words of state a sample owns.
        state_words: u32,
        /// Workgroups.
        n_groups: u32,
        /// Words of scratch a workgroup owns.
        scratch_words: u32,
        /// Words of the score network.
        n_net: u32,
        /// Words of the context network.
        n_context_net: u32,
        /// Words of the tables.
        n_tables: u32,
        /// Centre of the data.
        mean: f32,
        /// Standard deviation of the data.
        sd: f32,
        /// T; 1 draws from the model as it is.
        temperature: f32,
        /// First of the data's levels.
        snap_low: f32,
        /// Last of them.
        snap_high: f32,
        /// Their distance; 0 where values are on no levels.
        snap_width: f32,
        /// Samples of a workgroup, at most a quarter of the lines of its tile.
        group_samples: u32,
        /// T, steps a level.
        steps: u32,
        /// Langevin step size e, in units of sigma^2.
        step_size: f32,
    }
    read { net: (n_net), context_net: (n_context_net), tables: (n_tables) }
    write { state: (n_samples, state_words), accepted: (n_samples, n_levels), scratch: (n_groups, scratch_words) }
    grid |tile| [n_groups, 1, 1];
    // Each pair of random numbers takes the ten rounds of the generator.
    iterations (end_evaluation - first_evaluation) * (tile_iterations + context_width + 12)
        + (1 + (end_evaluation - first_evaluation) / (n_levels * (steps + 1))) * (context_iterations + 12);
}
