//! Sums in a fixed order, and copies between shapes.

use super::linear_grid;
use crate::kernel;

kernel! {
    /// Sum over the rows of every column, in chunks of rows; see `shaders/reduction/column_sum.wgsl`.
    pub struct ColumnSum;
    variants {
        "reduction/column_sum": CpuTextures, workgroup [64, 1, 1], tile [1, 256], textures [values];
        "reduction/column_sum_parallel": Workgroup, workgroup [8, 32, 1], tile [1, 32];
        "reduction/column_sum": Baseline, workgroup [64, 1, 1], tile [1, 256];
    }
    params {
        /// Rows to add up.
        rows: u32,
        /// Columns.
        columns: u32,
        /// Rows a chunk.
        chunk_rows: u32,
        /// ceil(rows / chunk_rows)
        n_chunks: u32,
    }
    read { values: (rows, columns) }
    write { sums: (n_chunks, columns) }
    grid |tile| [columns.div_ceil(tile[1]), n_chunks, 1];
    iterations chunk_rows.max(6);
}

kernel! {
    /// Adds up what workgroups left behind, in order; see `shaders/reduction/sum_partials.wgsl`.
    pub struct SumPartials;
    variants {
        "reduction/sum_partials_parallel": Workgroup, workgroup [8, 32, 1], tile [1, 32];
        "reduction/sum_partials": Baseline, workgroup [64, 1, 1], tile [1, 256];
    }
    params {
        /// Workgroups that wrote.
        n_groups: u32,
        /// Words a workgroup owns.
        words: u32,
        /// Where the sums start among them, a multiple of 4.
        offset: u32,
        /// Number of sums, a multiple of 4.
        n_sums: u32,
    }
    read { partials: (n_groups, words) }
    write { sums: (n_sums) }
    grid |tile| [n_sums.div_ceil(tile[1]), 1, 1];
    iterations n_groups.max(6);
}

kernel! {
    /// Partial sums of squares in the first column of `sums`; see `shaders/reduction/square_sum.wgsl`.
    pub struct SquareSum;
    variants {
        "reduction/square_sum": CpuTextures, workgroup [64, 1, 1], tile [1, 256], textures [values];
        "reduction/square_sum": Baseline, workgroup [64, 1, 1], tile [1, 256];
    }
    params {
        /// Values.
        n_values: u32,
        /// Workgroups, and so partial sums.
        n_groups: u32,
    }
    read { values: (n_values) }
    write { sums: (n_groups, 4) }
    grid |tile| [n_groups, 1, 1];
    iterations n_values.div_ceil(n_groups * 256) + 6;
}

kernel! {
    /// Copies some columns of every row into columns of another tensor; see `shaders/reduction/copy_columns.wgsl`.
    pub struct CopyColumns;
    variants { "reduction/copy_columns": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    params {
        /// Rows of both.
        rows: u32,
        /// Columns to copy.
        columns: u32,
        /// Columns of the source.
        source_columns: u32,
        /// First column in the source.
        source_at: u32,
        /// Columns of the destination.
        destination_columns: u32,
        /// First column in the destination.
        destination_at: u32,
    }
    read { source: (rows, source_columns) }
    write { destination: (rows, destination_columns) }
    grid |tile| [columns.div_ceil(tile[1]), rows, 1];
    iterations 0;
}

kernel! {
    /// Copies whole rows, each from where `origin` says; see `shaders/reduction/gather_rows.wgsl`.
    pub struct GatherRows;
    variants { "reduction/gather_rows": Baseline, workgroup [64, 1, 1], tile [1, 64]; }
    params {
        /// Rows of both.
        rows: u32,
        /// Columns of both.
        columns: u32,
    }
    read { source: (rows, columns), origin: (rows) }
    write { destination: (rows, columns) }
    grid |tile| [columns.next_multiple_of(4).div_ceil(tile[1]), rows, 1];
    iterations 0;
}

kernel! {
    /// The same numbers in rows of another length; see `shaders/reduction/repack_rows.wgsl`.
    pub struct RepackRows;
    variants { "reduction/repack_rows": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Rows of the source.
        source_rows: u32,
        /// Columns of the source.
        source_columns: u32,
        /// Rows of the destination.
        rows: u32,
        /// Columns of the destination; as many numbers in all.
        columns: u32,
    }
    read { source: (source_rows, source_columns) }
    write { destination: (rows, columns) }
    grid |tile| linear_grid(rows * columns.div_ceil(4));
    iterations 0;
}

kernel! {
    /// sums = scale * terms, or added to what is there; see `shaders/reduction/add_scaled.wgsl`.
    pub struct AddScaled;
    variants { "reduction/add_scaled": Baseline, workgroup [64, 1, 1], tile [1, 256]; }
    params {
        /// Words of both.
        n_values: u32,
        /// 1 adds to `sums`, 0 overwrites it.
        accumulate: u32,
        /// Factor of the terms.
        scale: f32,
    }
    read { terms: (n_values) }
    write { sums: (n_values) }
    grid |tile| linear_grid(n_values.div_ceil(4));
    iterations 0;
}
