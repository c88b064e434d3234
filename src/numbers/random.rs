//! Random numbers as a pure function of their place: Philox4x32-10 and the project's contract on its counter.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Nothing is stored between
//! draws, so a number does not depend on batch size, chunking or dispatch shape.

use std::f64::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// What a random number is for. Two purposes never share a counter.
pub mod stream {
    /// Which (sample, dimension) rows pass the score network in a training step.
    pub const ROW_CHOICE: u32 = 1;
    /// sigma and eps of a row in a training step.
    pub const ROW_NOISE: u32 = 2;
    /// Noise and dropout on the context network's input.
    pub const CONTEXT_NOISE: u32 = 3;
    /// Start and steps of the Langevin sampler.
    pub const LANGEVIN: u32 = 4;
    /// The uniform number of each level of the multi-level sampler.
    pub const MULTILEVEL: u32 = 5;
    /// Initial weights.
    pub const INITIALISATION: u32 = 6;
    /// Shuffling, splitting and synthetic data.
    pub const DATA: u32 = 7;
    /// Dropout of hidden units in a training step.
    pub const DROPOUT: u32 = 8;
    /// The noise of each level on values that are known, in the multi-level sampler.
    pub const GIVEN: u32 = 9;
    /// Which particles go on.
    pub const RESAMPLING: u32 = 10;
    /// Start and steps of the probability-flow and ancestral samplers.
    pub const FLOW: u32 = 11;
    /// Start, proposals and decisions of the Metropolis-adjusted Langevin sampler.
    pub const MALA: u32 = 12;
    /// Orders of the dimensions in training.
    pub const ORDERS: u32 = 13;
    /// Seeds of rows that are drawn again.
    pub const REDRAWS: u32 = 14;
    /// Draws from the conditionals of mixture heads.
    pub const MIXTURE: u32 = 16;
    /// Directions in which the slope of a score is taken.
    pub const PROBES: u32 = 24;
}

/// Ten rounds of Philox4x32: a bijection of the counter for every key.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..ROUNDS {
        let (high0, low0) = wide_product(MULTIPLIERS[0], c[0]);
        let (high1, low1) = wide_product(MULTIPLIERS[1], c[2]);
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

/// (high, low) words of a 32 x 32 bit product.
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// The project's contract: the 128 random bits that belong to (seed, stream, sample, dimension, step).
///
/// Key: the low and the high half of `seed`. Counter: (sample, dimension, step, stream).
pub fn random_bits(seed: u64, stream: u32, sample: u32, dimension: u32, step: u32) -> [u32; 4] {
    philox4x32_10([sample, dimension, step, stream], [seed as u32, (seed >> 32) as u32])
}

/// A uniform number from the upper 23 bits: the midpoints of 2^23 equal cells, so never 0 nor 1, and exact in f32.
pub fn uniform(bits: u32) -> f64 {
    (f64::from(bits >> 9) + 0.5) * 2f64.powi(-23)
}

/// Two independent standard normal numbers by Box and Muller: radius from `a`, angle from `b`.
pub fn normal_pair(a: u32, b: u32) -> (f64, f64) {
    let radius = (-2.0 * uniform(a).ln()).sqrt();
    let (sin, cos) = (TAU * uniform(b)).sin_cos();
    (radius * cos, radius * sin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let digits_of_pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox4x32_10(digits_of_pi, [0xa409_3822, 0x299f_31d0]), answer);
    }

    #[test]
    fn every_part_of_a_place_has_its_word() {
        let bits = random_bits(0x0000_0009_0000_0005, 4, 1, 2, 3);
        assert_eq!(bits, philox4x32_10([1, 2, 3, 4], [5, 9]));
    }

    #[test]
    fn uniform_stays_inside_the_unit_interval() {
        assert_eq!(uniform(0), 2f64.powi(-24));
        assert_eq!(uniform(u32::MAX), 1.0 - 2f64.powi(-24));
        assert_eq!(uniform(0x8000_01FF), 0.5 + 2f64.powi(-24));
    }

    /// Mean of `f` over the draws of 200 samples x 200 dimensions.
    fn mean(f: impl Fn([u32; 4]) -> f64) -> f64 {
        let draws = (0..40_000).map(|n| random_bits(7, stream::DATA, n % 200, n / 200, 3));
        draws.map(f).sum::<f64>() / 40_000.0
    }

    /// The mean of 40,000 draws of standard deviation `sd` is within 4.5 standard errors of `want`.
    fn assert_moment(got: f64, want: f64, sd: f64) {
        assert!((got - want).abs() <= 4.5 * sd / 200.0, "moment {got}, expected {want}");
    }

    #[test]
    fn uniform_moments() {
        for word in 0..4 {
            let u = |bits: [u32; 4]| uniform(bits[word]) - 0.5;
            assert_moment(mean(u), 0.0, (1f64 / 12.0).sqrt());
            assert_moment(mean(|bits| u(bits).powi(2)), 1.0 / 12.0, (1f64 / 180.0).sqrt());
            assert_moment(mean(|bits| u(bits) * (uniform(bits[(word + 1) % 4]) - 0.5)), 0.0, 1.0 / 12.0);
        }
    }

    #[test]
    fn normal_moments() {
        let pair = |bits: [u32; 4]| normal_pair(bits[0], bits[1]);
        assert_moment(mean(|b| pair(b).0), 0.0, 1.0);
        assert_moment(mean(|b| pair(b).1), 0.0, 1.0);
        assert_moment(mean(|b| pair(b).0.powi(2)), 1.0, 2f64.sqrt());
        assert_moment(mean(|b| pair(b).1.powi(2)), 1.0, 2f64.sqrt());
        assert_moment(mean(|b| pair(b).0 * pair(b).1), 0.0, 1.0);
        assert_moment(mean(|b| pair(b).0.powi(4)), 3.0, 96f64.sqrt());
    }
}
