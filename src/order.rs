//! The order in which dimensions are modelled. Networks and samplers work in model positions 0, 1, 2, ...; only data on
//! its way in and out is permuted.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::numbers::random::{random_bits, stream, uniform};
use crate::shape::SampleShape;

/// Order of the dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As the data has them (raster order for images).
    Natural,
    /// Last dimension first.
    Reversed,
    /// A seeded permutation.
    Random,
    /// Another one at every training step, so that the model can be asked in any (`made`): `arcsm inpaint` draws what is
    /// missing given everything known, whatever the mask. Other commands take the natural order.
    Any,
}

/// Which dimension of the data stands at which position of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation {
    /// `dimension_at[position]`
    dimension_at: Vec<usize>,
}

/// The order of every training step: always the same one, or with [`Order::Any`] another one each time.
///
/// A quarter of the steps have the natural order. The others have a random part of the dimensions first and the rest
/// after it, both in their natural order: what filling in is asked for. Half of these parts are boxes of an image or what is
/// outside of them (halves, strips, corners, middles), the other half of them, and all of those of points, are random
/// choices of a random share. The channels of a pixel stay together.
#[derive(Debug, Clone)]
pub struct Orders {
    seed: u64,
    shape: SampleShape,
    fixed: Option<Permutation>,
}

/// Share of the steps of [`Order::Any`] that have the natural order.
const NATURAL_SHARE: f64 = 0.25;

impl Orders {
    /// As the settings ask for; the seed is that of random orders.
    pub fn new(order: Order, seed: u64, shape: SampleShape) -> Self {
        let fixed = (order != Order::Any).then(|| Permutation::new(order, seed, shape.dimensions()));
        Self { seed, shape, fixed }
    }

    /// That of a step, from 1: a pure function of the settings and the step.
    pub fn of_step(&self, step: u64) -> Cow<'_, Permutation> {
        match &self.fixed {
            Some(fixed) => Cow::Borrowed(fixed),
            None => Cow::Owned(self.drawn(step)),
        }
    }

    fn drawn(&self, step: u64) -> Permutation {
        let bits = |index: usize| {
            let of_index = random_bits(self.seed, stream::ORDERS, step as u32, index as u32, (step >> 32) as u32);
            of_index.map(uniform)
        };
        let (height, width, channels) = match self.shape {
            SampleShape::Image { height, width, channels } => (height, width, channels),
            SampleShape::Vector { dimensions } => (1, dimensions, 1),
        };
        let [natural, kind, share, inverted] = bits(0);
        if natural < NATURAL_SHARE {
            return Permutation::natural(self.shape.dimensions());
        }
        let missing: Vec<bool> = if kind < 0.5 && matches!(self.shape, SampleShape::Image { .. }) {
            let (rows, columns) = (span(height, bits(1)), span(width, bits(2)));
            let pixels = (0..height * width).map(|at| rows.contains(&(at / width)) && columns.contains(&(at % width)));
            pixels.map(|is_inside| is_inside == (inverted < 0.5)).collect()
        } else {
            (0..height * width).map(|at| bits(3 + at)[0] < share).collect()
        };
        Permutation::known_first(&missing.iter().flat_map(|&pixel| vec![pixel; channels]).collect::<Vec<_>>())
    }
}

/// All of an axis, a part at its beginning or at its end, or one in between; never nothing.
fn span(length: usize, [kind, a, b, _]: [f64; 4]) -> std::ops::Range<usize> {
    let place = |u: f64| ((u * length as f64) as usize).min(length - 1);
    let (low, high) = (place(a).min(place(b)), place(a).max(place(b)));
    match (4.0 * kind) as usize {
        0 => 0..length,
        1 => 0..place(a) + 1,
        2 => place(a)..length,
        _ => low..high + 1,
    }
}

impl Permutation {
    /// The order that the settings ask for, with the seed of random ones; the natural one for [`Order::Any`].
    pub fn new(order: Order, seed: u64, dimensions: usize) -> Self {
        let mut dimension_at: Vec<usize> = (0..dimensions).collect();
        match order {
            Order::Natural | Order::Any => {}
            Order::Reversed => dimension_at.reverse(),
            Order::Random => {
                // Fisher and Yates, from the project's own generator, so that a stored seed means the same for ever.
                for i in (1..dimensions).rev() {
                    let bits = random_bits(seed, stream::DATA, i as u32, 0, u32::MAX);
                    let word = u64::from(bits[0]) << 32 | u64::from(bits[1]);
                    dimension_at.swap(i, (word % (i as u64 + 1)) as usize);
                }
            }
        }
        Self { dimension_at }
    }

    /// That of the data.
    pub fn natural(dimensions: usize) -> Self {
        Self { dimension_at: (0..dimensions).collect() }
    }

    /// What is known first, what is missing after it, both in the data's order.
    pub fn known_first(missing: &[bool]) -> Self {
        let mut dimension_at: Vec<usize> = (0..missing.len()).collect();
        dimension_at.sort_by_key(|&dimension| missing[dimension]);
        Self { dimension_at }
    }

    /// Whether it is that of the data.
    pub fn is_natural(&self) -> bool {
        self.dimension_at.is_sorted()
    }

    /// Which dimension of the data stands at each position.
    pub fn dimensions(&self) -> &[usize] {
        &self.dimension_at
    }

    /// At which position each dimension of the data stands.
    pub fn positions(&self) -> Vec<usize> {
        let mut positions = vec![0; self.dimension_at.len()];
        self.dimension_at.iter().enumerate().for_each(|(position, &dimension)| positions[dimension] = position);
        positions
    }

    /// Rows of `width` values for each dimension, from the data's order into the model's. `values` is (B, D, width).
    pub fn to_model(&self, values: &[f32], width: usize) -> Vec<f32> {
        gather(values, width, &self.dimension_at)
    }

    /// The reverse of [`Permutation::to_model`].
    pub fn to_data(&self, values: &[f32], width: usize) -> Vec<f32> {
        gather(values, width, &self.positions())
    }
}

/// Of every sample of `values` (B, D, width) these rows, in this order.
fn gather(values: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for sample in values.chunks_exact(rows.len() * width) {
        if width == 1 {
            // Slices of one number take ten times as long, which training would feel.
            out.extend(rows.iter().map(|&row| sample[row]));
        } else {
            rows.iter().for_each(|&row| out.extend_from_slice(&sample[row * width..][..width]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_a_permutation_and_undone() {
        for order in [Order::Natural, Order::Reversed, Order::Random] {
            let permutation = Permutation::new(order, 3, 7);
            let mut sorted = permutation.dimensions().to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..7).collect::<Vec<_>>());
            let values: Vec<f32> = (0..2 * 7 * 3).map(|v| v as f32).collect();
            assert_eq!(permutation.to_data(&permutation.to_model(&values, 3), 3), values);
        }
    }

    #[test]
    fn what_is_known_comes_first_and_positions_are_the_inverse() {
        let order = Permutation::known_first(&[true, false, true, false, false]);
        assert_eq!(order.dimensions(), [1, 3, 4, 0, 2]);
        assert_eq!(order.positions(), [3, 0, 4, 1, 2]);
        assert!(!order.is_natural() && Permutation::known_first(&[false, true]).is_natural());
    }

    #[test]
    fn a_step_has_its_own_order_of_two_rising_parts_with_pixels_whole() {
        let shape = SampleShape::Image { height: 4, width: 5, channels: 3 };
        let orders = Orders::new(Order::Any, 3, shape);
        let (mut natural, mut first_shares, mut different) = (0, Vec::new(), std::collections::BTreeSet::new());
        for step in 1..=1000 {
            let order = orders.of_step(step);
            assert_eq!(order, Orders::new(Order::Any, 3, shape).of_step(step), "a pure function");
            let dimensions = order.dimensions();
            let falls: Vec<usize> = (1..60).filter(|&at| dimensions[at] < dimensions[at - 1]).collect();
            assert!(falls.len() <= 1, "{dimensions:?}");
            assert!(dimensions.chunks(3).all(|pixel| pixel[0] % 3 == 0 && pixel[2] == pixel[0] + 2), "{dimensions:?}");
            natural += usize::from(order.is_natural());
            first_shares.extend(falls.first().map(|&at| at as f64 / 60.0));
            different.insert(dimensions.to_vec());
        }
        // A quarter by choice, and parts that are all, none or a beginning.
        assert!((250..500).contains(&natural), "{natural}");
        // Random choices hardly ever repeat, boxes of a 4x5 image do.
        assert!(different.len() > 350, "{}", different.len());
        assert!(first_shares.iter().any(|&share| share < 0.15) && first_shares.iter().any(|&share| share > 0.85));
        let other = Orders::new(Order::Any, 4, shape);
        assert!((1..100).any(|step| other.of_step(step) != orders.of_step(step)));
    }

    #[test]
    fn a_fixed_order_is_that_of_every_step() {
        let orders = Orders::new(Order::Reversed, 0, SampleShape::Vector { dimensions: 4 });
        assert_eq!(orders.of_step(1), orders.of_step(2));
        assert_eq!(orders.of_step(7).dimensions(), [3, 2, 1, 0]);
    }

    #[test]
    fn reversed_reverses() {
        let permutation = Permutation::new(Order::Reversed, 0, 3);
        assert_eq!(permutation.to_model(&[1.0, 2.0, 3.0], 1), [3.0, 2.0, 1.0]);
    }
}
