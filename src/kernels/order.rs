//! From weights in the data's order of dimensions to those of one order, and their gradients back.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// Puts blocks of columns into another order; see `shaders/order/permute_columns.wgsl`.
    pub struct PermuteColumns;
    variants { "order/permute_columns": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Rows of both.
        rows: u32,
        /// Columns of both, a multiple of `block`.
        columns: u32,
        /// Columns that stay together.
        block: u32,
    }
    read {
        source: (rows, columns),
        /// Which block of the source comes to each place.
        origin: (columns / block),
    }
    write { destination: (rows, columns) }
    grid |tile| linear_grid(rows * columns.div_ceil(4));
    iterations 0;
}

kernel! {
    /// Puts blocks of rows into another order; see `shaders/order/permute_rows.wgsl`.
    pub struct PermuteRows;
    variants { "order/permute_rows": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Rows of both, a multiple of `block`.
        rows: u32,
        /// Columns of both.
        columns: u32,
        /// Rows that stay together.
        block: u32,
    }
    read {
        source: (rows, columns),
        /// Which block of the source comes to each place.
        origin: (rows / block),
    }
    write { destination: (rows, columns) }
    grid |tile| linear_grid(rows * columns.div_ceil(4));
    iterations 0;
}

kernel! {
    /// Adds to a unit's bias a weight for every dimension that it sees; see `shaders/order/seen_bias.wgsl`.
    pub struct SeenBias;
    variants { "order/seen_bias": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    params {
        /// D
        dimensions: u32,
        /// Units of the layer.
        units: u32,
    }
    read {
        bias: (units),
        seen: (dimensions, units),
        /// Which dimension stands at each position.
        dimension_at: (dimensions),
        /// Number of leading positions that a unit sees.
        visible: (units),
    }
    write { sums: (units) }
    grid |tile| [units.next_multiple_of(4).div_ceil(tile[1]), 1, 1];
    iterations dimensions;
}

kernel! {
    /// The gradient by the weights of [`SeenBias`]; see `shaders/order/seen_bias_backward.wgsl`.
    pub struct SeenBiasBackward;
    variants { "order/seen_bias_backward": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// D
        dimensions: u32,
        /// Units of the layer.
        units: u32,
    }
    read {
        dbias: (units),
        /// At which position each dimension stands.
        position_of: (dimensions),
        /// Number of leading positions that a unit sees.
        visible: (units),
    }
    write { dseen: (dimensions, units) }
    grid |tile| linear_grid(dimensions * units.div_ceil(4));
    iterations 0;
}
