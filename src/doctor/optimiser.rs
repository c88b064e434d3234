//! Adam, and the counters.

use crate::gpu::{Gpu, Kernel, Tensor};
use crate::kernels::{Adam, CountNonFinite, CountSubmission};
use crate::reference::adam::{AdamStep, adam as adam_twin};

use super::trial::{Data, Trial, roundings};
use super::{Check, Failure, fault};

pub(super) const ADAM: Check = Check {
    kernel: Adam::SPEC,
    run: adam,
    faults: &[
        fault("adam", "v / params.correction2", "v"),
        fault("adam", "decay * value[k]", "decay"),
        fault("adam", "entry % 2u == 1u", "true"),
        fault("adam", "norm > params.clip_norm)", "norm < params.clip_norm)"),
        fault("adam", ">= 0x7f800000u", "> 0x7f800000u"),
        fault("adam", "group.y * 1024u + group.x", "group.x"),
        fault("adam", "16u * (entry / 2u) + place % 16u", "place"),
        fault("adam", "any(bad)", "all(bad)"),
        fault("adam", ">= vec4(0x7f800000u)", "> vec4(0x7f800000u)"),
    ],
};

pub(super) const COUNT_NON_FINITE: Check = Check {
    kernel: CountNonFinite::SPEC,
    run: count_non_finite,
    faults: &[
        fault("count_non_finite", ">= vec4(0x7f800000u)", "> vec4(0x7f800000u)"),
        fault("count_non_finite", "& vec4(0x7fffffffu)", "& vec4(0xffffffffu)"),
    ],
};

pub(super) const COUNT_SUBMISSION: Check = Check {
    kernel: CountSubmission::SPEC,
    run: count_submission,
    faults: &[fault("count_submission", "counter[0] += 1u", "counter[0] = 1u")],
};

const SETTINGS: AdamStep = AdamStep {
    learning_rate: 0.05,
    beta1: 0.875,
    beta2: 0.96875,
    epsilon: 1e-3,
    weight_decay: 0.25,
    step: 3,
    clip_scale: 1.0,
    ema_decay: 0.75,
};

/// The four arrays that a step changes, and its counter.
struct State {
    value: Data,
    first_moment: Data,
    second_moment: Data,
    average: Data,
    non_finite: Tensor,
}

impl State {
    fn random(trial: &mut Trial<'_>, n: usize) -> Result<Self, Failure> {
        let squares: Vec<f64> = trial.normals(n).iter().map(|m| f64::from((m * m) as f32)).collect();
        Ok(Self {
            value: trial.data("value", &[n])?,
            first_moment: trial.data("first_moment", &[n])?,
            second_moment: Data { tensor: trial.floats("second_moment", &[n], &squares)?, values: squares },
            average: trial.data("average", &[n])?,
            non_finite: trial.words("non_finite", &[3, 1, 2, 3])?,
        })
    }

    /// On these blocks.
    fn step(
        &self,
        trial: &Trial<'_>,
        blocks: &[u32],
        gradient: &Tensor,
        squared_norm: f64,
        clip_norm: f32,
    ) -> Result<(), Failure> {
        let settings = SETTINGS;
        let entries: Vec<u32> = blocks.iter().map(|&block| Adam::block(block, decays(block))).collect();
        let correction = |beta: f64| (1.0 - beta.powf(settings.step as f64)) as f32;
        Ok(trial.run(&Adam {
            n_values: gradient.shape()[0] as u32,
            n_blocks: blocks.len() as u32,
            rate: settings.learning_rate as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            correction1: correction(settings.beta1),
            correction2: correction(settings.beta2),
            epsilon: settings.epsilon as f32,
            decay: settings.weight_decay as f32,
            clip_norm,
            ema_decay: settings.ema_decay as f32,
            gradient,
            squared_norms: &trial.floats("squared_norms", &[4], &[squared_norm, 1.0, 2.0, 3.0])?,
            blocks: &trial.words("blocks", &entries)?,
            value: &self.value.tensor,
            first_moment: &self.first_moment.tensor,
            second_moment: &self.second_moment.tensor,
            average: &self.average.tensor,
            non_finite: &self.non_finite,
        })?)
    }
}

/// Whether the weights of a block decay.
fn decays(block: u32) -> bool {
    block % 3 != 1
}

fn adam(gpu: &Gpu) -> Result<f64, Failure> {
    let mut trial = Trial::new(gpu);
    // The last size needs more than 1024 workgroups, a two-dimensional grid.
    for (n, squared_norm, clip_norm) in [(1, 25.0, 0.0), (255, 25.0, 2.0), (257, 12.25, 100.0), (330_000, 25.0, 4.0)] {
        let mut state = State::random(&mut trial, n)?;
        let gradient = trial.data("gradient", &[n])?;
        let n_blocks = n.div_ceil(Adam::BLOCK_WORDS) as u32;
        let blocks: Vec<u32> = (0..n_blocks).filter(|block| block % 5 != 2).collect();
        state.step(&trial, &blocks, &gradient.tensor, squared_norm, clip_norm)?;
        let norm = squared_norm.sqrt();
        let clip_norm = f64::from(clip_norm);
        let clip_scale = if clip_norm > 0.0 && norm > clip_norm { clip_norm / norm } else { 1.0 };
        expect_step(&mut trial, &blocks, &mut state, &gradient.values, clip_scale)?;
        trial.expect_words(&state.non_finite, &[3, 1, 2, 3])?;
    }
    let state = State::random(&mut trial, 9)?;
    let gradient = trial.data("gradient", &[9])?;
    for bad in [f64::INFINITY, f64::NAN] {
        state.step(&trial, &[0], &gradient.tensor, bad, 1.0)?;
        for data in [&state.value, &state.first_moment, &state.second_moment, &state.average] {
            trial.expect(&data.tensor, &data.values, &[0.0; 9])?;
        }
    }
    expect_count(&mut trial)?;
    trial.verdict()
}

/// A step on averages of which some are not finite counts these, and no others.
fn expect_count(trial: &mut Trial<'_>) -> Result<(), Failure> {
    let mut state = State::random(trial, 300)?;
    let (bad, n_bad) = ([(5, f64::NAN), (64, f64::INFINITY), (65, f64::NEG_INFINITY), (299, f64::NAN)], 4);
    for (place, value) in bad {
        state.average.values[place] = value;
    }
    state.average.tensor = trial.floats("average", &[300], &state.average.values)?;
    let gradient = trial.data("gradient", &[300])?;
    state.step(trial, &[0, 1, 2, 3, 4], &gradient.tensor, 25.0, 0.0)?;
    trial.expect_words(&state.non_finite, &[3 + n_bad, 1, 2, 3])
}

/// Compares after one step on some blocks; tolerances are 16 roundings of everything that entered a number, and none where
/// nothing may change.
fn expect_step(
    trial: &mut Trial<'_>,
    blocks: &[u32],
    state: &mut State,
    gradient: &[f64],
    clip_scale: f64,
) -> Result<(), Failure> {
    let rounding = roundings(16.0);
    let State { value, first_moment, second_moment, average, .. } = state;
    let mut arrays = [value, first_moment, second_moment, average];
    let before = arrays.each_ref().map(|data| data.values.clone());
    let mut tolerances = before.each_ref().map(|before| vec![0.0; before.len()]);
    for &block in blocks {
        let weight_decay = if decays(block) { SETTINGS.weight_decay } else { 0.0 };
        let settings = AdamStep { clip_scale, weight_decay, ..SETTINGS };
        let correction = |beta: f64| 1.0 - beta.powf(settings.step as f64);
        let first = block as usize * Adam::BLOCK_WORDS;
        let words = first..(first + Adam::BLOCK_WORDS).min(gradient.len());
        let [w, m, v, ema] = arrays.each_mut().map(|data| &mut data.values[words.clone()]);
        adam_twin(w, &gradient[words.clone()], m, v, ema, &settings);
        for i in words {
            let v = arrays[2].values[i];
            let m_size =
                settings.beta1 * before[1][i].abs() + (1.0 - settings.beta1) * (clip_scale * gradient[i]).abs();
            let root = (v / correction(settings.beta2)).sqrt() + settings.epsilon;
            let step = m_size / correction(settings.beta1) / root + settings.weight_decay * before[0][i].abs();
            let w_size = before[0][i].abs() + settings.learning_rate * step;
            let average_size = settings.ema_decay * before[3][i].abs() + (1.0 - settings.ema_decay) * w_size;
            for (tolerance, size) in tolerances.iter_mut().zip([w_size, m_size, v, average_size]) {
                tolerance[i] = rounding * size;
            }
        }
    }
    for (data, tolerance) in arrays.into_iter().zip(&tolerances) {
        trial.expect(&data.tensor, &data.values, tolerance)?;
    }
    Ok(())
}

fn count_non_finite(gpu: &Gpu) -> Result<f64, Failure> {
    let trial = Trial::new(gpu);
    let bad = [f32::NAN.to_bits(), f32::INFINITY.to_bits(), f32::NEG_INFINITY.to_bits(), 0xffff_ffff, 0x7f80_0001];
    let good = [0, 0x8000_0000, f32::MAX.to_bits(), f32::MIN.to_bits(), 1, 0x3f80_0000];
    let count = trial.words("count", &[5, 1, 2, 3])?;
    let mut found = 5;
    for n in [1, 6, 257, 262_150] {
        let words: Vec<u32> = (0..n).map(|i| if i % 7 == 5 { bad[i % 5] } else { good[i % 6] }).collect();
        found += words.iter().filter(|word| bad.contains(word)).count() as u32;
        trial.run(&CountNonFinite { n_values: n as u32, values: &trial.words("values", &words)?, count: &count })?;
    }
    trial.expect_words(&count, &[found, 1, 2, 3])?;
    trial.verdict()
}

fn count_submission(gpu: &Gpu) -> Result<f64, Failure> {
    let trial = Trial::new(gpu);
    let counter = trial.words("counter", &[40, 1, 2, 3])?;
    for _ in 0..3 {
        trial.run(&CountSubmission { counter: &counter })?;
    }
    trial.expect_words(&counter, &[43, 1, 2, 3])?;
    trial.verdict()
}
