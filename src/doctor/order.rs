//! Weights of one order from those of the data's, and gradients back.

use crate::gpu::{Gpu, Kernel};
use crate::kernels::{PermuteColumns, PermuteRows, SeenBias, SeenBiasBackward};
use crate::reference::order;

use super::trial::Trial;
use super::{Check, Failure, fault};

pub(super) const PERMUTE_COLUMNS: Check = Check {
    kernel: PermuteColumns::SPEC,
    run: permute_columns,
    faults: &[
        fault("permute_columns", "min(origin[block], last)", "block"),
        fault("permute_columns", "row * 4u * n_quads", "row * params.columns"),
        fault("permute_columns", "column + 1u < params.columns", "column + 1u <= params.columns"),
        fault("permute_columns", "group.y * 1024u + group.x", "group.x"),
    ],
};

pub(super) const PERMUTE_ROWS: Check = Check {
    kernel: PermuteRows::SPEC,
    run: permute_rows,
    faults: &[
        fault("permute_rows", "row - block * params.block", "0u"),
        fault("permute_rows", "origin[block]", "block"),
        fault("permute_rows", "(params.columns + 3u) / 4u", "params.columns / 4u"),
        fault("permute_rows", "group.y * 1024u + group.x", "group.x"),
    ],
};

pub(super) const SEEN_BIAS: Check = Check {
    kernel: SeenBias::SPEC,
    run: seen_bias,
    faults: &[
        fault("seen_bias", "p < min(visible[id.x], params.dimensions)", "p <= visible[id.x]"),
        fault("seen_bias", "dimension_at[p]", "p"),
        fault("seen_bias", "* pitch + id.x", "* params.units + id.x"),
        fault("seen_bias", "var sum = bias[id.x]", "var sum = 0.0"),
    ],
};

pub(super) const SEEN_BIAS_BACKWARD: Check = Check {
    kernel: SeenBiasBackward::SPEC,
    run: seen_bias_backward,
    faults: &[
        fault("seen_bias_backward", "position_of[dimension] <", "dimension <"),
        fault("seen_bias_backward", "< visible[4u", "<= visible[4u"),
        fault("seen_bias_backward", "group.y * 1024u + group.x", "group.x"),
    ],
};

impl Trial<'_> {
    /// A random permutation.
    fn permutation(&mut self, count: usize) -> Vec<u32> {
        let mut permutation: Vec<u32> = (0..count as u32).collect();
        for i in (1..count).rev() {
            permutation.swap(i, self.uniform(0.0, (i + 1) as f64) as usize);
        }
        permutation
    }
}

/// Lines, blocks and the size of a block; the last one needs more than 1024 workgroups, a two-dimensional grid.
const SIZES: [[usize; 3]; 5] = [[1, 1, 1], [3, 7, 1], [1, 5, 6], [9, 13, 3], [257, 260, 4]];

fn permute_columns(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [rows, blocks, block] in SIZES {
        let columns = blocks * block;
        let source = trial.data("source", &[rows, columns])?;
        let origin = trial.permutation(blocks);
        let destination = gpu.tensor("destination", &[rows, columns])?;
        trial.run(&PermuteColumns {
            rows: rows as u32,
            columns: columns as u32,
            block: block as u32,
            source: &source.tensor,
            origin: &trial.words("origin", &origin)?,
            destination: &destination,
        })?;
        let want = order::permute_columns(&source.values, &origin, block);
        trial.expect(&destination, &want, &vec![0.0; want.len()])?;
    }
    trial.verdict()
}

fn permute_rows(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [columns, blocks, block] in SIZES {
        let rows = blocks * block;
        let source = trial.data("source", &[rows, columns])?;
        let origin = trial.permutation(blocks);
        let destination = gpu.tensor("destination", &[rows, columns])?;
        trial.run(&PermuteRows {
            rows: rows as u32,
            columns: columns as u32,
            block: block as u32,
            source: &source.tensor,
            origin: &trial.words("origin", &origin)?,
            destination: &destination,
        })?;
        let want = order::permute_rows(&source.values, &origin, block);
        trial.expect(&destination, &want, &vec![0.0; want.len()])?;
    }
    trial.verdict()
}

fn seen_bias(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [dimensions, units] in [[1, 1], [5, 7], [66, 130], [33, 64]] {
        let bias = trial.data("bias", &[units])?;
        let seen = trial.data("seen", &[dimensions, units])?;
        let (dimension_at, visible) = (trial.permutation(dimensions), trial.staircase(units, dimensions));
        let sums = gpu.tensor("sums", &[units])?;
        trial.run(&SeenBias {
            dimensions: dimensions as u32,
            units: units as u32,
            bias: &bias.tensor,
            seen: &seen.tensor,
            dimension_at: &trial.words("dimension_at", &dimension_at)?,
            visible: &trial.words("visible", &visible)?,
            sums: &sums,
        })?;
        let want = order::seen_bias(&bias.values, &seen.values, &dimension_at, &visible);
        trial.expect(&sums, &want.value, &want.tolerance(dimensions as f64))?;
    }
    trial.verdict()
}

fn seen_bias_backward(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // The last one needs more than 1024 workgroups, a two-dimensional grid.
    for [dimensions, units] in [[1, 1], [5, 7], [66, 130], [257, 1030]] {
        let dbias = trial.data("dbias", &[units])?;
        let (position_of, visible) = (trial.permutation(dimensions), trial.staircase(units, dimensions));
        let dseen = gpu.tensor("dseen", &[dimensions, units])?;
        trial.run(&SeenBiasBackward {
            dimensions: dimensions as u32,
            units: units as u32,
            dbias: &dbias.tensor,
            position_of: &trial.words("position_of", &position_of)?,
            visible: &trial.words("visible", &visible)?,
            dseen: &dseen,
        })?;
        let want = order::seen_bias_backward(&dbias.values, &position_of, &visible);
        trial.expect(&dseen, &want, &vec![0.0; want.len()])?;
    }
    trial.verdict()
}
