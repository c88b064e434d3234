//! Samples in memory: bytes stay bytes until they are asked for.

use super::{SPLIT_STREAM, shuffle};
use crate::error::{Error, Result};

/// N samples of D values each.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    dimensions: usize,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// Read as byte / largest: a quarter of the memory that MNIST would take as f32.
    Bytes {
        bytes: Vec<u8>,
        largest: u8,
    },
    Floats(Vec<f32>),
}

impl Samples {
    /// Samples of bytes in 0 to `largest`, read as values in [0, 1].
    pub(super) fn from_bytes(dimensions: usize, bytes: Vec<u8>, largest: u8) -> Self {
        Self::new(dimensions, bytes.len(), Values::Bytes { bytes, largest })
    }

    /// Samples of values that are used as they are.
    pub fn from_floats(dimensions: usize, values: Vec<f32>) -> Self {
        Self::new(dimensions, values.len(), Values::Floats(values))
    }

    fn new(dimensions: usize, count: usize, values: Values) -> Self {
        assert!(dimensions > 0 && count.is_multiple_of(dimensions), "{count} values do not make rows of {dimensions}");
        Self { dimensions, values }
    }

    /// D.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// N.
    pub fn len(&self) -> usize {
        let values = match &self.values {
            Values::Bytes { bytes, .. } => bytes.len(),
            Values::Floats(values) => values.len(),
        };
        values / self.dimensions
    }

    /// Whether there is no sample at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes sample `index` to `out` (D).
    ///
    /// # Panics
    /// When there is no such sample or `out` has another length.
    pub fn write_sample(&self, index: usize, out: &mut [f32]) {
        let range = index * self.dimensions..(index + 1) * self.dimensions;
        match &self.values {
            Values::Bytes { bytes, largest } => {
                assert_eq!(out.len(), self.dimensions, "a sample needs D places");
                for (value, &byte) in out.iter_mut().zip(&bytes[range]) {
                    *value = f32::from(byte) / f32::from(*largest);
                }
            }
            Values::Floats(values) => out.copy_from_slice(&values[range]),
        }
    }

    /// Writes the samples of `indices` (B) to `out` (B, D), in that order.
    ///
    /// # Panics
    /// As [`Samples::write_sample`].
    pub fn gather(&self, indices: &[usize], out: &mut [f32]) {
        assert_eq!(out.len(), indices.len() * self.dimensions, "a batch needs B times D places");
        for (&index, row) in indices.iter().zip(out.chunks_exact_mut(self.dimensions)) {
            self.write_sample(index, row);
        }
    }

    /// Mean and standard deviation of all N times D values (divisor N D), summed in f64.
    pub fn mean_and_sd(&self) -> (f64, f64) {
        let moments = |values: &mut dyn Iterator<Item = f64>| {
            // Welford's update: no cancellation, however far the mean is from 0.
            let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
            for value in values {
                count += 1.0;
                let before = value - mean;
                mean += before / count;
                squares += before * (value - mean);
            }
            (mean, f64::sqrt(squares / count))
        };
        match &self.values {
            Values::Bytes { bytes, largest } => moments(&mut bytes.iter().map(|&b| f64::from(b) / f64::from(*largest))),
            Values::Floats(values) => moments(&mut values.iter().map(|&v| f64::from(v))),
        }
    }

    /// Least and greatest of all values.
    pub fn range(&self) -> [f32; 2] {
        let (mut row, mut range) = (vec![0.0; self.dimensions], [f32::INFINITY, f32::NEG_INFINITY]);
        for index in 0..self.len() {
            self.write_sample(index, &mut row);
            range = row.iter().fold(range, |[low, high], &value| [low.min(value), high.max(value)]);
        }
        range
    }

    /// Splits off the share `held_out` by a seeded shuffle into (train, held out), both with at least one sample.
    /// `subject` names the set in errors.
    pub(super) fn split(&self, held_out: f64, seed: u64, subject: &str) -> Result<(Self, Self)> {
        let count = self.len();
        if count < 2 {
            let problem = format!("holds {count} sample{}", if count == 1 { "" } else { "s" });
            return Err(Error::input(subject, problem, "Give at least 2: one to learn from and one held out"));
        }
        let kept_out = ((count as f64 * held_out).round() as usize).clamp(1, count - 1);
        let order = shuffle::permutation(count, seed, SPLIT_STREAM);
        let (held_out, train) = order.split_at(kept_out);
        Ok((self.select(train), self.select(held_out)))
    }

    fn select(&self, indices: &[usize]) -> Self {
        fn rows<T: Copy>(values: &[T], indices: &[usize], width: usize) -> Vec<T> {
            indices.iter().flat_map(|&index| &values[index * width..(index + 1) * width]).copied().collect()
        }
        let values = match &self.values {
            Values::Bytes { bytes, largest } => {
                Values::Bytes { bytes: rows(bytes, indices, self.dimensions), largest: *largest }
            }
            Values::Floats(values) => Values::Floats(rows(values, indices, self.dimensions)),
        };
        Self { dimensions: self.dimensions, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled_and_gathered_in_order() {
        let samples = Samples::from_bytes(2, vec![0, 16, 4, 8, 2, 1], 16);
        let mut batch = [9.0; 4];
        samples.gather(&[2, 0], &mut batch);
        assert_eq!(batch, [0.125, 0.0625, 0.0, 1.0]);
        assert_eq!((samples.len(), samples.dimensions(), samples.is_empty()), (3, 2, false));
    }

    #[test]
    fn moments_match_by_hand_far_from_zero() {
        let (mean, sd) = Samples::from_floats(2, vec![1e6, 1e6 + 1.0, 1e6 + 2.0, 1e6 + 5.0]).mean_and_sd();
        assert!((mean - 1_000_002.0).abs() <= 1e-9 && (sd - 3.5f64.sqrt()).abs() <= 1e-9, "{mean} {sd}");
        let (mean, sd) = Samples::from_bytes(1, vec![0, 255, 255, 255], 255).mean_and_sd();
        assert!((mean - 0.75).abs() <= 1e-12 && (sd - 0.1875f64.sqrt()).abs() <= 1e-12, "{mean} {sd}");
    }

    #[test]
    fn a_split_is_a_partition() {
        let samples = Samples::from_floats(1, (0..11).map(|v| v as f32).collect());
        let (train, held_out) = samples.split(0.3, 5, "eleven").expect("enough");
        assert_eq!((train.len(), held_out.len()), (8, 3));
        let mut all = [0.0; 11];
        train.gather(&[0, 1, 2, 3, 4, 5, 6, 7], &mut all[..8]);
        held_out.gather(&[0, 1, 2], &mut all[8..]);
        all.sort_by(f32::total_cmp);
        assert_eq!(all.map(|v| v as usize), std::array::from_fn(|i| i));
        assert_eq!(Samples::from_floats(1, vec![1.0, 2.0]).split(0.01, 0, "two").expect("enough").1.len(), 1);
    }
}
