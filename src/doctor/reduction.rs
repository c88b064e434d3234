//! Sums in a fixed order, and copies.

use crate::gpu::{Gpu, Kernel};
use crate::kernels::{AddScaled, ColumnSum, CopyColumns, GatherRows, RepackRows, SquareSum, SumPartials};
use crate::reference::dense;

use super::trial::{Trial, roundings};
use super::{Check, Failure, fault};

pub(super) const COLUMN_SUM: Check = Check {
    kernel: ColumnSum::SPEC,
    run: column_sum,
    faults: &[
        fault("column_sum", "row * n_quads", "row * params.columns / 4u"),
        fault("column_sum", "row = start; row <", "row = start + 1u; row <"),
        // Of the variant that shares rows among threads.
        fault("column_sum_parallel", "start + local.y", "start"),
        fault("column_sum", "min(start + params.chunk_rows, params.rows)", "params.rows"),
        fault("column_sum_parallel", "width = GROUP_ROWS / 2u", "width = GROUP_ROWS / 4u"),
        fault("column_sum_parallel", "is_inside = k < n_quads", "is_inside = true"),
    ],
};

pub(super) const SUM_PARTIALS: Check = Check {
    kernel: SumPartials::SPEC,
    run: sum_partials,
    faults: &[
        fault("sum_partials", "group * params.words + params.offset", "group * params.words"),
        fault("sum_partials", "group * params.words", "group * params.n_sums"),
        // Of the variant that shares groups among threads.
        fault("sum_partials_parallel", "row * params.words + params.offset", "row * params.words"),
        fault("sum_partials_parallel", "row * params.words", "row * params.n_sums"),
        fault("sum_partials_parallel", "row += GROUP_ROWS", "row += 1u"),
        fault("sum_partials_parallel", "width = GROUP_ROWS / 2u", "width = GROUP_ROWS / 4u"),
        fault("sum_partials_parallel", "place + 8u * width", "place + width"),
    ],
};

pub(super) const SQUARE_SUM: Check = Check {
    kernel: SquareSum::SPEC,
    run: square_sum,
    faults: &[
        fault("square_sum", "group.x * part + local.x", "local.x"),
        fault("square_sum", "width = 32u", "width = 16u"),
    ],
};

pub(super) const COPY_COLUMNS: Check = Check {
    kernel: CopyColumns::SPEC,
    run: copy_columns,
    faults: &[
        fault("copy_columns", "params.source_at + id.x", "id.x"),
        fault("copy_columns", "(params.destination_columns + 3u) / 4u * 4u", "params.destination_columns"),
    ],
};

pub(super) const GATHER_ROWS: Check = Check {
    kernel: GatherRows::SPEC,
    run: gather_rows,
    faults: &[
        fault("gather_rows", "min(origin[id.y], params.rows - 1u)", "id.y"),
        fault("gather_rows", "(params.columns + 3u) / 4u * 4u", "params.columns"),
    ],
};

pub(super) const REPACK_ROWS: Check = Check {
    kernel: RepackRows::SPEC,
    run: repack_rows,
    faults: &[
        fault("repack_rows", "(params.source_columns + 3u) / 4u * 4u", "params.source_columns"),
        fault("repack_rows", "column + 1u < params.columns", "column + 1u <= params.columns"),
        fault("repack_rows", "row * params.columns + column", "4u * index"),
        fault("repack_rows", "group.y * 1024u + group.x", "group.x"),
    ],
};

pub(super) const ADD_SCALED: Check = Check {
    kernel: AddScaled::SPEC,
    run: add_scaled,
    faults: &[
        fault("add_scaled", "sum += sums[index]", "sum = sums[index]"),
        fault("add_scaled", "params.scale * terms[index]", "terms[index]"),
        fault("add_scaled", "params.accumulate == 1u", "true"),
        fault("add_scaled", "group.y * 1024u + group.x", "group.x"),
    ],
};

fn column_sum(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [rows, columns, chunk_rows] in [[1, 1, 1], [7, 3, 7], [70, 255, 16], [5, 256, 9], [33, 258, 11], [100, 37, 70]]
    {
        let values = trial.data("values", &[rows, columns])?;
        let n_chunks = rows.div_ceil(chunk_rows);
        let sums = gpu.tensor("sums", &[n_chunks, columns])?;
        trial.run(&ColumnSum {
            rows: rows as u32,
            columns: columns as u32,
            chunk_rows: chunk_rows as u32,
            n_chunks: n_chunks as u32,
            values: &values.tensor,
            sums: &sums,
        })?;
        let chunks = values.values.chunks(chunk_rows * columns).map(|chunk| dense::column_sum(chunk, columns));
        let (want, tolerance): (Vec<_>, Vec<_>) =
            chunks.map(|sums| (sums.value.clone(), sums.tolerance(chunk_rows as f64))).unzip();
        trial.expect(&sums, &want.concat(), &tolerance.concat())?;
    }
    trial.verdict()
}

fn sum_partials(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [n_groups, words, offset, n_sums] in [[1, 4, 0, 4], [5, 28, 8, 16], [17, 528, 260, 264], [75, 44, 4, 36]] {
        let partials = trial.data("partials", &[n_groups, words])?;
        let sums = gpu.tensor("sums", &[n_sums])?;
        trial.run(&SumPartials {
            n_groups: n_groups as u32,
            words: words as u32,
            offset: offset as u32,
            n_sums: n_sums as u32,
            partials: &partials.tensor,
            sums: &sums,
        })?;
        let window: Vec<f64> =
            partials.values.chunks_exact(words).flat_map(|group| &group[offset..offset + n_sums]).copied().collect();
        let want = dense::column_sum(&window, n_sums);
        trial.expect(&sums, &want.value, &want.tolerance(n_groups as f64))?;
    }
    trial.verdict()
}

fn square_sum(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [n_values, n_groups] in [[1, 1], [255, 2], [257, 1], [3001, 3]] {
        let values = trial.data("values", &[n_values])?;
        let sums = gpu.tensor("sums", &[n_groups, 4])?;
        trial.run(&SquareSum {
            n_values: n_values as u32,
            n_groups: n_groups as u32,
            values: &values.tensor,
            sums: &sums,
        })?;
        // Workgroups take equal parts, whole blocks of 256 words.
        let blocks = n_values.div_ceil(256).div_ceil(n_groups);
        let mut want = vec![0.0; n_groups * 4];
        for (block, values) in values.values.chunks(256).enumerate() {
            want[block / blocks * 4] += values.iter().map(|value| value * value).sum::<f64>();
        }
        // No term is negative: the sum is its own magnitude. A thread adds its vec4s, then six halvings follow.
        let depth = n_values.div_ceil(256 * n_groups) as f64 + 10.0;
        let tolerance: Vec<f64> = want.iter().map(|sum| roundings(depth) * sum).collect();
        trial.expect(&sums, &want, &tolerance)?;
    }
    trial.verdict()
}

fn copy_columns(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    let sizes = [[1, 1, 1, 0, 1, 0], [3, 5, 9, 2, 6, 1], [6, 65, 66, 1, 131, 63], [2, 64, 64, 0, 65, 1]];
    for [rows, columns, source_columns, source_at, destination_columns, destination_at] in sizes {
        let source = trial.data("source", &[rows, source_columns])?;
        let destination = trial.data("destination", &[rows, destination_columns])?;
        trial.run(&CopyColumns {
            rows: rows as u32,
            columns: columns as u32,
            source_columns: source_columns as u32,
            source_at: source_at as u32,
            destination_columns: destination_columns as u32,
            destination_at: destination_at as u32,
            source: &source.tensor,
            destination: &destination.tensor,
        })?;
        let mut want = destination.values;
        for (to, from) in want.chunks_exact_mut(destination_columns).zip(source.values.chunks_exact(source_columns)) {
            to[destination_at..][..columns].copy_from_slice(&from[source_at..][..columns]);
        }
        trial.expect(&destination.tensor, &want, &vec![0.0; want.len()])?;
    }
    trial.verdict()
}

fn gather_rows(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [rows, columns] in [[1, 1], [5, 3], [4, 66], [131, 65]] {
        let source = trial.data("source", &[rows, columns])?;
        let origin: Vec<u32> = (0..rows).map(|_| trial.uniform(0.0, rows as f64) as u32).collect();
        let destination = gpu.tensor("destination", &[rows, columns])?;
        trial.run(&GatherRows {
            rows: rows as u32,
            columns: columns as u32,
            source: &source.tensor,
            origin: &trial.words("origin", &origin)?,
            destination: &destination,
        })?;
        let of_row = |&row: &u32| &source.values[row as usize * columns..][..columns];
        let want: Vec<f64> = origin.iter().flat_map(of_row).copied().collect();
        trial.expect(&destination, &want, &vec![0.0; want.len()])?;
    }
    trial.verdict()
}

fn repack_rows(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // The last one needs more than 1024 workgroups, a two-dimensional grid.
    let sizes = [[1, 1, 1, 1], [2, 45, 30, 3], [30, 3, 2, 45], [6, 10, 15, 4], [5, 38, 19, 10], [41, 1601, 65_641, 1]];
    for [source_rows, source_columns, rows, columns] in sizes {
        let source = trial.data("source", &[source_rows, source_columns])?;
        let destination = gpu.tensor("destination", &[rows, columns])?;
        trial.run(&RepackRows {
            source_rows: source_rows as u32,
            source_columns: source_columns as u32,
            rows: rows as u32,
            columns: columns as u32,
            source: &source.tensor,
            destination: &destination,
        })?;
        trial.expect(&destination, &source.values, &vec![0.0; rows * columns])?;
    }
    trial.verdict()
}

fn add_scaled(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // The last one needs more than 1024 workgroups, a two-dimensional grid.
    for (n_values, accumulate, scale) in [(1, 1, 0.75), (255, 0, 1.5), (258, 1, 0.3f32), (262_150, 0, 3.0)] {
        let terms = trial.data("terms", &[n_values])?;
        let before = trial.data("sums", &[n_values])?;
        let sums = if accumulate == 1 { before.tensor } else { gpu.tensor("sums", &[n_values])? };
        trial.run(&AddScaled { n_values: n_values as u32, accumulate, scale, terms: &terms.tensor, sums: &sums })?;
        let of_value = |(term, before): (&f64, &f64)| {
            let (term, before) = (f64::from(scale) * term, f64::from(accumulate) * before);
            (term + before, roundings(1.0) * (term.abs() + before.abs()))
        };
        let (want, tolerance): (Vec<f64>, Vec<f64>) = terms.values.iter().zip(&before.values).map(of_value).unzip();
        trial.expect(&sums, &want, &tolerance)?;
    }
    trial.verdict()
}
