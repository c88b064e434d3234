//! Samples in memory or on disk: what a file holds stays as it is until it is asked for.

use std::fmt::Debug;
use std::sync::Arc;

use super::{SPLIT_STREAM, shuffle};
use crate::error::{Error, Result};
use crate::files::arrays::Number;
use crate::files::blob::Blob;
use crate::standard::Standard;

/// Values that are read together where samples are read in their order.
const READ_TOGETHER: usize = 1 << 16;

/// N samples of D values each, as their file has them and as a model sees them. Clones share the values.
#[derive(Debug, Clone)]
pub struct Samples {
    dimensions: usize,
    source: Arc<dyn Source>,
    /// Which row of the source each sample is.
    rows: Arc<[usize]>,
    /// What makes of the data's units those of the model; none where they are the same.
    standard: Option<Arc<Standard>>,
}

/// What holds the values of samples, in rows of D.
pub(super) trait Source: Debug + Send + Sync {
    /// Writes these rows to `out` (rows, D), in that order, in the data's units.
    ///
    /// # Errors
    /// A file that cannot be read (any more), by name.
    fn read(&self, rows: &[usize], out: &mut [f64]) -> Result<()>;
}

/// Rows that are in memory as they are.
#[derive(Debug)]
struct Values<T> {
    dimensions: usize,
    values: Vec<T>,
}

impl<T: Copy + Into<f64> + Debug + Send + Sync> Source for Values<T> {
    fn read(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        for (&row, sample) in rows.iter().zip(out.chunks_exact_mut(self.dimensions)) {
            let values = &self.values[row * self.dimensions..][..self.dimensions];
            sample.iter_mut().zip(values).for_each(|(out, &value)| *out = value.into());
        }
        Ok(())
    }
}

/// Rows of numbers, one after another, as their file holds them: bytes take a quarter of the memory that they would
/// take as f32. Each is divided by the largest.
#[derive(Debug)]
struct Records {
    dimensions: usize,
    number: Number,
    largest: f64,
    data: Blob,
}

impl Source for Records {
    fn read(&self, rows: &[usize], mut out: &mut [f64]) -> Result<()> {
        let width = self.number.width();
        // A disk likes neighbours together.
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let (values, rest) = out.split_at_mut(run.len() * self.dimensions);
            let start = run[0] as u64 * (self.dimensions * width) as u64;
            self.number.decode(&self.data.read(start, values.len() * width)?, values);
            if self.largest != 1.0 {
                values.iter_mut().for_each(|value| *value /= self.largest);
            }
            out = rest;
        }
        Ok(())
    }
}

/// Mean, standard deviation and range of all values of some samples, as a model sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Mean, summed in f64.
    pub mean: f64,
    /// Standard deviation (divisor N D), summed in f64.
    pub sd: f64,
    /// Least and greatest.
    pub range: [f32; 2],
}

impl Samples {
    /// Samples of values in memory.
    ///
    /// # Panics
    /// When the values do not make rows of D.
    pub fn from_floats(dimensions: usize, values: Vec<f32>) -> Self {
        Self::new(dimensions, values.len(), Values { dimensions, values })
    }

    /// The same of float64 values.
    ///
    /// # Panics
    /// When the values do not make rows of D.
    pub fn from_doubles(dimensions: usize, values: Vec<f64>) -> Self {
        Self::new(dimensions, values.len(), Values { dimensions, values })
    }

    /// Samples of bytes in 0 to `largest`, read as values in [0, 1].
    pub(super) fn from_bytes(dimensions: usize, bytes: Blob, largest: u8) -> Self {
        Self::from_numbers(dimensions, Number::Byte, bytes, largest.into())
    }

    /// Samples of numbers, each divided by `largest`.
    pub(super) fn from_numbers(dimensions: usize, number: Number, data: Blob, largest: u16) -> Self {
        let count = data.len() as usize / number.width();
        Self::new(dimensions, count, Records { dimensions, number, largest: f64::from(largest), data })
    }

    /// Samples of a source of that many values.
    pub(super) fn new(dimensions: usize, values: usize, source: impl Source + 'static) -> Self {
        assert!(dimensions > 0 && values.is_multiple_of(dimensions), "{values} values make no rows of {dimensions}");
        Self { dimensions, source: Arc::new(source), rows: (0..values / dimensions).collect(), standard: None }
    }

    /// The same samples for a model that sees them by this map.
    #[must_use]
    pub fn standardised(&self, standard: Option<Arc<Standard>>) -> Self {
        Self { standard, ..self.clone() }
    }

    /// D.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// N.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no sample at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes sample `index` to `out` (D), as a model sees it.
    ///
    /// # Errors
    /// A file that samples are read from changed or went away.
    ///
    /// # Panics
    /// When there is no such sample or `out` has another length.
    pub fn write_sample(&self, index: usize, out: &mut [f32]) -> Result<()> {
        self.gather(&[index], out)
    }

    /// Writes the samples of `indices` (B) to `out` (B, D), in that order, as a model sees them.
    ///
    /// # Errors
    /// As [`Samples::write_sample`].
    ///
    /// # Panics
    /// As [`Samples::write_sample`].
    pub fn gather(&self, indices: &[usize], out: &mut [f32]) -> Result<()> {
        let mut values = vec![0.0; out.len()];
        self.gather_in_units(indices, &mut values)?;
        self.see(&values, out);
        Ok(())
    }

    /// Writes the samples of `indices` (B) to `out` (B, D), in that order, in the data's units.
    ///
    /// # Errors
    /// As [`Samples::write_sample`].
    ///
    /// # Panics
    /// As [`Samples::write_sample`].
    pub fn gather_in_units(&self, indices: &[usize], out: &mut [f64]) -> Result<()> {
        assert_eq!(out.len(), indices.len() * self.dimensions, "a batch needs B times D places");
        self.source.read(&indices.iter().map(|&index| self.rows[index]).collect::<Vec<_>>(), out)
    }

    /// Rows in the data's units as a model sees them.
    fn see(&self, values: &[f64], out: &mut [f32]) {
        match &self.standard {
            Some(standard) => standard.to_model(values, out),
            None => values.iter().zip(out).for_each(|(&value, out)| *out = value as f32),
        }
    }

    /// The first `count` samples, (count, D), as a model sees them.
    ///
    /// # Errors
    /// As [`Samples::write_sample`].
    ///
    /// # Panics
    /// When there are fewer.
    pub fn first(&self, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; count * self.dimensions];
        self.gather(&(0..count).collect::<Vec<_>>(), &mut values)?;
        Ok(values)
    }

    /// The first `count` samples, (count, D), in the data's units.
    ///
    /// # Errors
    /// As [`Samples::write_sample`].
    ///
    /// # Panics
    /// When there are fewer.
    pub fn first_in_units(&self, count: usize) -> Result<Vec<f64>> {
        let mut values = vec![0.0; count * self.dimensions];
        self.gather_in_units(&(0..count).collect::<Vec<_>>(), &mut values)?;
        Ok(values)
    }

    /// Statistics of all N times D values, in one pass in the order of the source.
    ///
    /// # Errors
    /// As [`Samples::write_sample`].
    pub fn statistics(&self) -> Result<Statistics> {
        let per_row = self.dimensions as f64;
        let (mut rows, mut mean, mut squares) = (0.0, 0.0, 0.0);
        let mut range = [f32::INFINITY, f32::NEG_INFINITY];
        let mut seen = vec![0.0; self.dimensions];
        self.visit(|_, row| {
            self.see(row, &mut seen);
            let row = &seen;
            // Rows are merged by their own means (Chan, Golub & LeVeque 1979): no cancellation, however far from 0.
            let row_mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / per_row;
            let row_squares: f64 = row.iter().map(|&v| (f64::from(v) - row_mean).powi(2)).sum();
            let apart = row_mean - mean;
            squares += row_squares + apart * apart * per_row * rows / (rows + 1.0);
            rows += 1.0;
            mean += apart / rows;
            range = row.iter().fold(range, |[low, high], &value| [low.min(value), high.max(value)]);
            Ok(())
        })?;
        Ok(Statistics { mean, sd: f64::sqrt(squares / (rows * per_row)), range })
    }

    /// A checksum of every sample in the data's units and its row of the source.
    ///
    /// # Errors
    /// As [`Samples::write_sample`].
    pub fn checksum(&self) -> Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        self.visit(|row, values| {
            hasher.update(&(row as u64).to_le_bytes());
            values.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
            Ok(())
        })?;
        Ok(hasher.finalize())
    }

    /// Shows every sample in the data's units with its row of the source, in the order of the source, as disks like it.
    pub(super) fn visit(&self, mut show: impl FnMut(usize, &[f64]) -> Result<()>) -> Result<()> {
        let mut rows = self.rows.to_vec();
        rows.sort_unstable();
        let mut values = Vec::new();
        for together in rows.chunks(READ_TOGETHER.div_ceil(self.dimensions)) {
            values.resize(together.len() * self.dimensions, 0.0);
            self.source.read(together, &mut values)?;
            let samples = values.chunks_exact(self.dimensions);
            together.iter().zip(samples).try_for_each(|(&row, sample)| show(row, sample))?;
        }
        Ok(())
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
        Self { rows: indices.iter().map(|&index| self.rows[index]).collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled_and_gathered_in_order() {
        let samples = Samples::from_bytes(2, Blob::from_bytes("x", vec![0, 16, 4, 8, 2, 1]), 16);
        let mut batch = [9.0; 4];
        samples.gather(&[2, 0], &mut batch).expect("in memory");
        assert_eq!(batch, [0.125, 0.0625, 0.0, 1.0]);
        assert_eq!((samples.len(), samples.dimensions(), samples.is_empty()), (3, 2, false));
    }

    #[test]
    fn statistics_match_by_hand_far_from_zero() {
        let floats = Samples::from_floats(2, vec![1e6, 1e6 + 1.0, 1e6 + 2.0, 1e6 + 5.0]);
        let Statistics { mean, sd, range } = floats.statistics().expect("in memory");
        assert!((mean - 1_000_002.0).abs() <= 1e-9 && (sd - 3.5f64.sqrt()).abs() <= 1e-9, "{mean} {sd}");
        assert_eq!(range, [1e6, 1e6 + 5.0]);
        let bytes = Samples::from_bytes(1, Blob::from_bytes("x", vec![0, 255, 255, 255]), 255);
        let Statistics { mean, sd, range } = bytes.statistics().expect("in memory");
        assert!((mean - 0.75).abs() <= 1e-12 && (sd - 0.1875f64.sqrt()).abs() <= 1e-12, "{mean} {sd}");
        assert_eq!(range, [0.0, 1.0]);
    }

    #[test]
    fn a_visit_shows_every_sample_once_in_the_order_of_the_source() {
        let dimensions = READ_TOGETHER / 4;
        let values = (0..12 * dimensions).map(|i| (i / dimensions) as f32).collect();
        let (train, held_out) = Samples::from_floats(dimensions, values).split(0.4, 2, "twelve").expect("enough");
        for samples in [train, held_out] {
            let mut seen = Vec::new();
            let visit = samples.visit(|row, sample| {
                assert!(sample.len() == dimensions && sample.iter().all(|&v| v == row as f64));
                seen.push(row);
                Ok(())
            });
            visit.expect("in memory");
            assert!(seen.is_sorted_by(|a, b| a < b) && seen.len() == samples.len(), "{seen:?}");
        }
    }

    #[test]
    fn a_split_is_a_partition() {
        let samples = Samples::from_floats(1, (0..11).map(|v| v as f32).collect());
        let (train, held_out) = samples.split(0.3, 5, "eleven").expect("enough");
        assert_eq!((train.len(), held_out.len()), (8, 3));
        let mut all = [0.0; 11];
        train.gather(&[0, 1, 2, 3, 4, 5, 6, 7], &mut all[..8]).expect("in memory");
        held_out.gather(&[0, 1, 2], &mut all[8..]).expect("in memory");
        all.sort_by(f32::total_cmp);
        assert_eq!(all.map(|v| v as usize), std::array::from_fn(|i| i));
        assert_eq!(Samples::from_floats(1, vec![1.0, 2.0]).split(0.01, 0, "two").expect("enough").1.len(), 1);
    }
}
