//! What is known of samples before they are drawn, and particles that follow it.
//!
//! The samplers go through the dimensions in the model's order. What precedes a value conditions it for free; what comes
//! after it does not. Therefore several particles of a sample are drawn side by side, each weighed by the conditional
//! density of every known value that it comes to, and where the weights have become too unequal, particles go on in
//! proportion to them (sequential Monte Carlo with systematic resampling; Doucet, Johansen, "A tutorial on particle
//! filtering and smoothing", 2009). With many particles the one that is chosen at the end has the posterior's distribution.

use std::ops::Range;

use crate::ask::sample::{SampleRequest, Sampler};
use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::numbers::random::{random_bits, stream, uniform};
use crate::order::Permutation;

/// Kinds of words in the samplers' table; bits as in `shaders/shared/given.wgsl`.
const KNOWN: u32 = 1;
const NOISY: u32 = 2;
const WEIGHED: u32 = 4;
/// Step of the random number that chooses the particle at the end; resampling takes the dimensions before it.
const CHOICE_STEP: u32 = 1;

/// Memory of a value that is drawn where something is given: what is known of it, and what is drawn.
pub(crate) const KNOWLEDGE_BYTES: u64 = std::mem::size_of::<Knowledge>() as u64 + 4;

/// What is known of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Knowledge {
    /// Nothing.
    Unknown,
    /// The value itself.
    Value(f32),
    /// The value with normal noise of the sampler's first level.
    Noisy(f32),
}

/// Which known values weigh the particles, and count in [`Drawn::log_densities`](crate::ask::sample::Drawn::log_densities).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weigh {
    /// None: what is known takes its place, and conditions only what comes after it.
    Nothing,
    /// Those that a drawn value precedes: enough for the posterior, as the others weigh all particles alike.
    AfterUnknown,
    /// All: the log density is that of everything known.
    Everything,
}

/// What is known of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// (N, D), in the data's order of dimensions.
    pub knowledge: Vec<Knowledge>,
    /// Particles of each sample, of which one is chosen by its weight; 1 draws each value from its conditional given
    /// only what precedes it.
    pub particles: usize,
    /// What weighs them.
    pub weigh: Weigh,
}

impl Given {
    /// Most particles of one sample.
    pub const MOST_PARTICLES: usize = 4096;

    pub(crate) fn check(&self, trained: &Trained, request: &SampleRequest) -> Result<()> {
        let dimensions = trained.model.dimensions();
        if self.knowledge.len() != request.count * dimensions {
            let problem =
                format!("of {} values, for {} samples of D = {dimensions}", self.knowledge.len(), request.count);
            return Err(Error::input("given", problem, "Say of every value what is known"));
        }
        if !(1..=Self::MOST_PARTICLES).contains(&self.particles) {
            let problem = format!("{} particles", self.particles);
            return Err(Error::input("particles", problem, format!("Give 1 to {}", Self::MOST_PARTICLES)));
        }
        if !matches!(request.sampler, Sampler::MultiLevel { .. }) {
            return Err(Error::input("sampler", "cannot use what is known of samples", "Use multi-level quadrature"));
        }
        Ok(())
    }

    /// Appends kind and value of every dimension of some samples, in the model's order.
    pub(crate) fn append_table(&self, order: &Permutation, samples: Range<usize>, words: &mut Vec<u32>) {
        let dimensions = order.dimensions().len();
        for sample in self.knowledge.chunks_exact(dimensions).skip(samples.start).take(samples.len()) {
            let mut is_drawn = self.weigh == Weigh::Everything;
            for &dimension in order.dimensions() {
                let knowledge = sample[dimension];
                // A noisy value leaves its clean one to be drawn; its own weight is the same for all particles only before.
                let weighed = if self.weigh != Weigh::Nothing && is_drawn { WEIGHED } else { 0 };
                words.extend(match knowledge {
                    Knowledge::Unknown => [0, 0],
                    Knowledge::Value(x) => [KNOWN | weighed, x.to_bits()],
                    Knowledge::Noisy(y) => [NOISY | weighed, y.to_bits()],
                });
                is_drawn |= !matches!(knowledge, Knowledge::Value(_));
            }
        }
    }
}

/// The weights of the particles of some samples.
#[derive(Debug, Clone)]
pub(crate) struct Particles {
    seed: u64,
    particles: usize,
    first_sample: usize,
    log_densities: Vec<f64>,
    resamplings: u64,
}

/// Where each particle goes on from, and its log weight then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resampled {
    pub(crate) origins: Vec<u32>,
    pub(crate) log_weights: Vec<f32>,
}

impl Particles {
    pub(crate) fn new(seed: u64, particles: usize, first_sample: usize, samples: usize) -> Self {
        Self { seed, particles, first_sample, log_densities: vec![0.0; samples], resamplings: 0 }
    }

    /// Log density of what was weighed, of each sample.
    pub(crate) fn log_densities(&self) -> impl Iterator<Item = f64> {
        self.log_densities.iter().copied()
    }

    pub(crate) fn resamplings(&self) -> u64 {
        self.resamplings
    }

    /// Draws the particles of a sample anew where at most half of them carry its weight; None where all may stay.
    pub(crate) fn resample(&mut self, log_weights: &[f32], dimension: u32) -> Option<Resampled> {
        let mut resampled =
            Resampled { origins: (0..log_weights.len() as u32).collect(), log_weights: log_weights.to_vec() };
        let before = self.resamplings;
        for sample in 0..self.log_densities.len() {
            let rows = sample * self.particles..(sample + 1) * self.particles;
            let (weights, log_mean) = normalised(&log_weights[rows.clone()]);
            let effective = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
            if effective > 0.5 * self.particles as f64 {
                continue;
            }
            let chosen = systematic(&weights, self.uniform(sample, dimension, 0));
            for (row, origin) in rows.clone().zip(chosen) {
                resampled.origins[row] = (rows.start + origin) as u32;
                resampled.log_weights[row] = 0.0;
            }
            self.log_densities[sample] += log_mean;
            self.resamplings += 1;
        }
        (self.resamplings > before).then_some(resampled)
    }

    /// One particle of each sample, with a probability in proportion to its weight.
    pub(crate) fn choose(&mut self, log_weights: &[f32], dimensions: u32) -> Vec<usize> {
        let particles = self.particles;
        let choose = |(sample, log_weights): (usize, &[f32])| {
            let (weights, log_mean) = normalised(log_weights);
            self.log_densities[sample] += log_mean;
            let mut rest = self.uniform(sample, dimensions, CHOICE_STEP);
            let chosen = weights.iter().position(|weight| {
                rest -= weight;
                rest < 0.0
            });
            sample * particles + chosen.unwrap_or(particles - 1)
        };
        log_weights.chunks_exact(particles).enumerate().map(choose).collect()
    }

    fn uniform(&self, sample: usize, dimension: u32, step: u32) -> f64 {
        uniform(random_bits(self.seed, stream::RESAMPLING, (self.first_sample + sample) as u32, dimension, step)[0])
    }
}

/// Weights that add up to 1, and the logarithm of the mean of what they were.
fn normalised(log_weights: &[f32]) -> (Vec<f64>, f64) {
    let largest = f64::from(log_weights.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weights: Vec<f64> = log_weights.iter().map(|&w| (f64::from(w) - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    (weights.iter().map(|w| w / sum).collect(), largest + (sum / weights.len() as f64).ln())
}

/// Systematic resampling: particle i goes on n w_i times, rounded up or down so that the mean is exact. u in [0, 1).
fn systematic(weights: &[f64], u: f64) -> Vec<usize> {
    let count = weights.len();
    let (mut origin, mut below) = (0, 0.0);
    let places = (0..count).map(|k| (k as f64 + u) / count as f64);
    places
        .map(|place| {
            while origin + 1 < count && below + weights[origin] <= place {
                below += weights[origin];
                origin += 1;
            }
            origin
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Order;

    #[test]
    fn systematic_resampling_keeps_shares_exactly_in_the_mean() {
        let weights = [0.1, 0.45, 0.05, 0.4];
        let mut counts = [0.0; 4];
        for k in 0..1000 {
            let origins = systematic(&weights, (f64::from(k) + 0.5) / 1000.0);
            assert!(origins.is_sorted() && origins.len() == 4);
            for (i, weight) in weights.iter().enumerate() {
                let times = origins.iter().filter(|&&origin| origin == i).count() as f64;
                assert!((times - 4.0 * weight).abs() < 1.0, "{i} goes on {times} times");
                counts[i] += times / 4000.0;
            }
        }
        for (count, weight) in counts.iter().zip(weights) {
            assert!((count - weight).abs() <= 1e-3, "{counts:?}");
        }
        assert_eq!(systematic(&[0.0, 1.0, 0.0], 0.999), [1, 1, 1]);
    }

    #[test]
    fn only_unequal_weights_are_resampled_and_densities_add_up() {
        let mut particles = Particles::new(5, 2, 3, 2);
        // Of the first sample one particle carries all; of the second both do.
        let resampled = particles.resample(&[-900.0, 2.0, 1.0, 1.5], 7).expect("unequal");
        assert_eq!(resampled, Resampled { origins: vec![1, 1, 2, 3], log_weights: vec![0.0, 0.0, 1.0, 1.5] });
        assert_eq!(particles.resample(&resampled.log_weights, 8), None);
        let chosen = particles.choose(&[-900.0, 0.5, 1.0, -900.0], 9);
        assert_eq!(chosen, [1, 2]);
        let half = 0.5f64.ln();
        let densities: Vec<f64> = particles.log_densities().collect();
        assert!((densities[0] - (2.0 + half + 0.5 + half)).abs() <= 1e-12, "{densities:?}");
        assert!((densities[1] - (1.0 + half)).abs() <= 1e-12, "{densities:?}");
        assert_eq!(particles.resamplings(), 1);
    }

    #[test]
    fn tables_follow_the_models_order_and_weigh_what_comes_after() {
        let order = Permutation::new(Order::Reversed, 0, 4);
        use Knowledge::{Noisy, Unknown, Value};
        let knowledge = vec![Value(9.0); 4].into_iter().chain([Value(1.0), Noisy(2.0), Unknown, Value(3.0)]).collect();
        let mut given = Given { knowledge, particles: 1, weigh: Weigh::AfterUnknown };
        let kinds = |given: &Given| {
            let mut words = Vec::new();
            given.append_table(&order, 1..2, &mut words);
            let kinds: Vec<u32> = words.iter().step_by(2).copied().collect();
            assert_eq!([words[1], words[5], words[7]], [3.0f32, 2.0, 1.0].map(f32::to_bits));
            kinds
        };
        assert_eq!(kinds(&given), [KNOWN, 0, NOISY | WEIGHED, KNOWN | WEIGHED]);
        given.weigh = Weigh::Nothing;
        assert_eq!(kinds(&given), [KNOWN, 0, NOISY, KNOWN]);
        given.weigh = Weigh::Everything;
        assert_eq!(kinds(&given), [KNOWN | WEIGHED, 0, NOISY | WEIGHED, KNOWN | WEIGHED]);
    }
}
