//! The order in which dimensions are modelled. Networks and samplers work in model positions 0, 1, 2, ...; only data on
//! its way in and out is permuted.

use crate::config::{ModelConfig, Order};
use crate::random::{random_bits, stream};

/// Which dimension of the data stands at which position of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation {
    /// `dimension_at[position]`
    dimension_at: Vec<usize>,
}

impl Permutation {
    /// The order that the settings ask for.
    pub fn new(config: &ModelConfig, dimensions: usize) -> Self {
        let mut dimension_at: Vec<usize> = (0..dimensions).collect();
        match config.order {
            Order::Natural => {}
            Order::Reversed => dimension_at.reverse(),
            Order::Random => {
                // Fisher and Yates, from the project's own generator, so that a stored seed means the same for ever.
                for i in (1..dimensions).rev() {
                    let bits = random_bits(config.order_seed, stream::DATA, i as u32, 0, u32::MAX);
                    let word = u64::from(bits[0]) << 32 | u64::from(bits[1]);
                    dimension_at.swap(i, (word % (i as u64 + 1)) as usize);
                }
            }
        }
        Self { dimension_at }
    }

    /// Which dimension of the data stands at each position.
    pub fn dimensions(&self) -> &[usize] {
        &self.dimension_at
    }

    /// Rows of `width` values for each dimension, from the data's order into the model's. `values` is (B, D, width).
    pub fn to_model(&self, values: &[f32], width: usize) -> Vec<f32> {
        self.permute(values, width, |out, sample, position, dimension| {
            out[position * width..][..width].copy_from_slice(&sample[dimension * width..][..width]);
        })
    }

    /// The reverse of [`Permutation::to_model`].
    pub fn to_data(&self, values: &[f32], width: usize) -> Vec<f32> {
        self.permute(values, width, |out, sample, position, dimension| {
            out[dimension * width..][..width].copy_from_slice(&sample[position * width..][..width]);
        })
    }

    fn permute(&self, values: &[f32], width: usize, place: impl Fn(&mut [f32], &[f32], usize, usize)) -> Vec<f32> {
        let row = self.dimension_at.len() * width;
        let mut out = vec![0.0; values.len()];
        for (out, sample) in out.chunks_exact_mut(row).zip(values.chunks_exact(row)) {
            for (position, &dimension) in self.dimension_at.iter().enumerate() {
                place(out, sample, position, dimension);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_a_permutation_and_undone() {
        for order in [Order::Natural, Order::Reversed, Order::Random] {
            let permutation = Permutation::new(&ModelConfig { order, order_seed: 3, ..Default::default() }, 7);
            let mut sorted = permutation.dimensions().to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..7).collect::<Vec<_>>());
            let values: Vec<f32> = (0..2 * 7 * 3).map(|v| v as f32).collect();
            assert_eq!(permutation.to_data(&permutation.to_model(&values, 3), 3), values);
        }
    }

    #[test]
    fn reversed_reverses() {
        let permutation = Permutation::new(&ModelConfig { order: Order::Reversed, ..Default::default() }, 3);
        assert_eq!(permutation.to_model(&[1.0, 2.0, 3.0], 1), [3.0, 2.0, 1.0]);
    }
}
