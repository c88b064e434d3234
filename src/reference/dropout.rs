//! Activations with dropout (Srivastava et al., JMLR 2014), where each unit's fate follows from its place.

use crate::codes::Activation;
use crate::numbers::random::{random_bits, stream, uniform};

use super::activation;

/// Which units of a layer stay in one training step: those of uniform numbers not below `rate`.
///
/// Four channels of one position share the random bits of (seed, [`stream::DROPOUT`], `first_sample` + b,
/// `first_quad` + (i w + j) ceil(C / 4) + c / 4, step), one word each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of the units that become zero, in [0, 1).
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Training step.
    pub step: u32,
    /// The sample of the first row.
    pub first_sample: u32,
    /// Where the layer's quads begin among those of all layers.
    pub first_quad: u32,
}

impl Dropout {
    /// For each unit 0 or 1 / (1 - rate): (batch positions, channels).
    pub fn scales(&self, batch: usize, positions: usize, channels: usize) -> Vec<f64> {
        let scale = |row: usize, c: usize| {
            let sample = self.first_sample + (row / positions) as u32;
            let quad = self.first_quad + (row % positions * channels.div_ceil(4) + c / 4) as u32;
            let word = random_bits(self.seed, stream::DROPOUT, sample, quad, self.step)[c % 4];
            if uniform(word) >= self.rate { (1.0 - self.rate).recip() } else { 0.0 }
        };
        (0..batch * positions).flat_map(|row| (0..channels).map(move |c| scale(row, c))).collect()
    }
}

/// phi(h) times each unit's scale: h, scales (rows, C) -> (rows, C).
pub fn dropout_forward(phi: Activation, h: &[f64], scales: &[f64]) -> Vec<f64> {
    h.iter().zip(scales).map(|(&h, scale)| activation::value(phi, h) * scale).collect()
}

/// The adjoint of h from that of the result, dt: h, scales, dt (rows, C) -> (rows, C).
pub fn dropout_backward(phi: Activation, h: &[f64], scales: &[f64], dt: &[f64]) -> Vec<f64> {
    h.iter().zip(scales).zip(dt).map(|((&h, scale), dt)| dt * activation::first(phi, h) * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, assert_close, dot, gradient};
    use super::*;

    const DROPOUT: Dropout = Dropout { rate: 0.3, seed: 9, step: 4, first_sample: 100, first_quad: 17 };

    #[test]
    fn a_unit_s_fate_follows_from_its_place() {
        let all = DROPOUT.scales(3, 4, 6);
        // Sample 2, position 3, channel 5: quad 3 * 2 + 1, word 1.
        let word = random_bits(9, 8, 102, 17 + 7, 4)[1];
        assert_eq!(all[(2 * 4 + 3) * 6 + 5], if uniform(word) >= 0.3 { 1.0 / 0.7 } else { 0.0 });
        let last = Dropout { first_sample: 102, ..DROPOUT };
        assert_eq!(last.scales(1, 4, 6), all[2 * 4 * 6..], "the cut into batches does not matter");
        for other in
            [Dropout { step: 5, ..DROPOUT }, Dropout { seed: 8, ..DROPOUT }, Dropout { first_quad: 18, ..DROPOUT }]
        {
            assert_ne!(other.scales(3, 4, 6), all);
        }
    }

    #[test]
    fn the_mean_is_kept() {
        let scales = DROPOUT.scales(100, 100, 4);
        let mean = scales.iter().sum::<f64>() / 40_000.0;
        // Each has standard deviation sqrt(0.3 / 0.7).
        assert!((mean - 1.0).abs() <= 4.5 * (0.3f64 / 0.7).sqrt() / 200.0, "mean scale {mean}");
        assert_eq!(Dropout { rate: 0.0, ..DROPOUT }.scales(2, 3, 5), [1.0; 30]);
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let mut draws = Draws::new(54);
        let (h, dt, scales) = (draws.normals(30), draws.normals(30), DROPOUT.scales(2, 3, 5));
        assert!(scales.contains(&0.0), "none is dropped");
        let want = gradient(&h, |h| dot(&dropout_forward(Activation::Silu, h, &scales), &dt));
        assert_close("dh", &dropout_backward(Activation::Silu, &h, &scales, &dt), &want, 1e-10);
    }
}
