//! Counter-based noise.

use crate::gpu::{Gpu, Kernel};
use crate::kernels::{CorruptContext, PerturbRows, RandomWords};
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};

use super::trial::{Trial, roundings};
use super::{Check, Failure, fault};

pub(super) const PERTURB_ROWS: Check = Check {
    kernel: PerturbRows::SPEC,
    run: perturb_rows,
    faults: &[
        fault("perturb_rows", "params.first_sample + sample, dimension", "sample, dimension"),
        fault("perturb_rows", "sample * pitch + dimension", "row"),
        fault("perturb_rows", "normal_pair(bits.x, bits.y).x", "normal_pair(bits.x, bits.y).y"),
        fault("perturb_rows", "params.batch * params.dimensions - first", "params.row_stride"),
    ],
};

pub(super) const CORRUPT_CONTEXT: Check = Check {
    kernel: CorruptContext::SPEC,
    run: corrupt_context,
    faults: &[
        fault("corrupt_context", "uniform_from(bits.z) >= params.dropout", "uniform_from(bits.z) < params.dropout"),
        fault("corrupt_context", "id.y, 4u * id.x + 2u, params.step", "id.y, 4u * id.x + 1u, params.step"),
        fault("corrupt_context", "params.first_sample + id.y", "id.y"),
    ],
};

pub(super) const RANDOM_WORDS: Check = Check {
    kernel: RandomWords::SPEC,
    run: random_words,
    faults: &[
        fault("random_words", "round < 10u", "round < 9u"),
        fault("random_words", "(middle_1 >> 16u) + (middle_2 >> 16u)", "(middle_1 >> 16u)"),
    ],
};

const SEED: u64 = 0x9e37_79b9_1234_5678;
const STEP: u32 = 70_001;

/// How far two normal numbers of the same bits may be apart: log is wrong by 2^-21 near 1 (WGSL's promise) and
/// by 2.4e-5 of itself on llvmpipe, cos by 1e-5 (WGSL promises only 5e-4, which no known driver needs).
fn normal_tolerance(a: u32) -> f64 {
    let square = -2.0 * uniform(a).ln();
    let error = 2.0 * 2f64.powi(-21) + 2.4e-5 * square;
    let radius_error = (square + error).sqrt() - (square - error).max(0.0).sqrt();
    radius_error + 1e-5 * square.sqrt() + 1e-6
}

fn perturb_rows(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // The last one needs more than 1024 workgroups, a two-dimensional grid.
    for [batch, dimensions, row_stride, first_sample] in [[1, 1, 1, 0], [5, 13, 4, 7], [3, 22, 1, 0], [41, 1601, 1, 9]]
    {
        let x = trial.data("x", &[batch, dimensions])?;
        let n_rows = (batch * dimensions).div_ceil(row_stride);
        let rows = gpu.tensor("rows", &[n_rows, 4])?;
        let (log_sigma_min, log_sigma_range) = (0.02f32.ln(), 50f32.ln());
        trial.run(&PerturbRows {
            n_rows: n_rows as u32,
            batch: batch as u32,
            dimensions: dimensions as u32,
            row_stride: row_stride as u32,
            seed_low: SEED as u32,
            seed_high: (SEED >> 32) as u32,
            first_sample: first_sample as u32,
            step: STEP,
            log_sigma_min,
            log_sigma_range,
            noise: 1.0,
            x: &x.tensor,
            rows: &rows,
        })?;
        trial.expect_intact(&rows)?;
        let got: Vec<u32> = gpu.read(&rows)?;
        let (mut floats, mut want, mut tolerance) = (Vec::new(), Vec::new(), Vec::new());
        for (index, got) in got.chunks_exact(4).enumerate() {
            let first = index * row_stride;
            let neighbours = row_stride.min(batch * dimensions - first) as u32;
            let number = first_sample * dimensions / row_stride + index;
            let choice = random_bits(SEED, stream::ROW_CHOICE, number as u32, 0, STEP)[0];
            let row = first + (choice % neighbours) as usize;
            if got[0] != row as u32 {
                return Err(Failure::Broken(format!("row {index} is {}, expected {row}", got[0])));
            }
            let sample = (first_sample + row / dimensions) as u32;
            let bits = random_bits(SEED, stream::ROW_NOISE, sample, (row % dimensions) as u32, STEP);
            let log_sigma = f64::from(log_sigma_min) + f64::from(log_sigma_range) * uniform(bits[2]);
            let (sigma, eps) = (log_sigma.exp(), normal_pair(bits[0], bits[1]).0);
            let sigma_tolerance = roundings(16.0 + 2.0 * log_sigma.abs()) * sigma;
            let eps_tolerance = normal_tolerance(bits[0]);
            floats.extend(got[1..].iter().map(|&word| f32::from_bits(word)));
            want.extend([x.values[row] + sigma * eps, sigma, eps]);
            let moved = sigma_tolerance * eps.abs() + sigma * eps_tolerance + roundings(2.0) * x.values[row].abs();
            tolerance.extend([moved, sigma_tolerance, eps_tolerance]);
        }
        trial.expect_values("rows", &floats, &want, &tolerance)?;
    }
    trial.verdict()
}

fn corrupt_context(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    for [batch, dimensions, first_sample] in [[1, 1, 0], [4, 7, 12], [3, 257, 5]] {
        let x = trial.data("x", &[batch, dimensions])?;
        let y = gpu.tensor("y", &[batch, dimensions])?;
        let (noise, dropout) = (0.3f32, 0.25f32);
        trial.run(&CorruptContext {
            batch: batch as u32,
            dimensions: dimensions as u32,
            seed_low: SEED as u32,
            seed_high: (SEED >> 32) as u32,
            step: STEP,
            first_sample: first_sample as u32,
            noise,
            dropout,
            x: &x.tensor,
            y: &y,
        })?;
        let (mut want, mut tolerance) = (Vec::new(), Vec::new());
        for (at, &x) in x.values.iter().enumerate() {
            let place = ((first_sample + at / dimensions) as u32, (at % dimensions) as u32);
            let bits = random_bits(SEED, stream::CONTEXT_NOISE, place.0, place.1, STEP);
            let kept = uniform(bits[2]) >= f64::from(dropout);
            want.push(if kept { x + f64::from(noise) * normal_pair(bits[0], bits[1]).0 } else { 0.0 });
            tolerance.push(f64::from(noise) * normal_tolerance(bits[0]) + roundings(2.0) * x.abs());
        }
        trial.expect(&y, &want, &tolerance)?;
    }
    trial.verdict()
}

fn random_words(gpu: &Gpu) -> Result<f64, Failure> {
    let trial = Trial::new(gpu);
    for (n, stream) in [(1, 1), (63, 2), (64, 5), (1000, 0xffff_ffff)] {
        let words = gpu.tensor("words", &[n, 4])?;
        let (first_sample, dimension) = (0xffff_fe00, 783);
        trial.run(&RandomWords {
            n: n as u32,
            seed_low: SEED as u32,
            seed_high: (SEED >> 32) as u32,
            stream,
            first_sample,
            dimension,
            step: STEP,
            words: &words,
        })?;
        let sample = |i: u32| first_sample.wrapping_add(i);
        let want: Vec<u32> =
            (0..n as u32).flat_map(|i| random_bits(SEED, stream, sample(i), dimension, STEP)).collect();
        trial.expect_words(&words, &want)?;
    }
    trial.verdict()
}
