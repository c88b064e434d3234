//! The map from the data's units to those of a model, made from training rows.

use super::{SampleShape, Samples};
use crate::error::{Error, Result};
use crate::standard::{Column, Short, Standard, Standardise};

/// Values of all columns together that are kept for quantiles: every so many rows, evenly spread.
const KEPT_VALUES: usize = 1 << 22;
/// Fewest rows of one column that are kept, whatever D.
const FEWEST_KEPT: usize = 1024;
/// Images whose values lie in [0, 1] and spread this far at least are taken as they are.
const UNIT_SPREAD: f64 = 0.25;
/// A column has heavy tails where its skewness or excess kurtosis are larger: an exponential's are 2 and 6.
const HEAVY_SKEWNESS: f64 = 1.75;
const HEAVY_KURTOSIS: f64 = 5.0;
/// Fewest different values among those kept whose ranks say something.
const FEWEST_FOR_RANKS: usize = 50;
/// Interquartile range of a standard Gaussian.
const GAUSSIAN_IQR: f64 = 1.348_979_500_392_164;
/// Columns that are named in a note; more are counted.
const NAMED: usize = 5;

/// T of some training samples, None where the model sees them as they are, and what the user should know of it.
///
/// # Errors
/// A file that cannot be read (any more); for images a way that is made for columns; a column whose spread is not finite.
pub(super) fn fit(
    samples: &Samples,
    shape: SampleShape,
    names: &[String],
    how: Standardise,
) -> Result<(Option<Standard>, Vec<String>)> {
    match (shape, how) {
        (_, Standardise::None) => Ok((None, Vec::new())),
        (SampleShape::Image { .. }, Standardise::Auto) => fit_image(samples),
        (SampleShape::Image { .. }, _) => {
            let problem = "is for the columns of tables and points, images have one range for all values";
            Err(Error::input("data.standardise", problem, "Leave it at `auto`, or give `none`"))
        }
        (SampleShape::Vector { .. }, _) => fit_columns(samples, names, how),
    }
}

/// One affine map of the range onto [0, 1], unless the values have that range already.
fn fit_image(samples: &Samples) -> Result<(Option<Standard>, Vec<String>)> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    samples.visit(|_, row| {
        (low, high) = row.iter().fold((low, high), |(low, high), &value| (low.min(value), high.max(value)));
        Ok(())
    })?;
    if low >= 0.0 && high <= 1.0 && high - low >= UNIT_SPREAD {
        return Ok((None, Vec::new()));
    }
    let column = match high - low {
        spread if spread > 0.0 => Column::affine("", [low, high], low, spread),
        _ => Column::constant("", low),
    };
    let note = format!("values of {} to {} are brought to 0 to 1", Short(low), Short(high));
    Ok((Some(Standard { rows: samples.len(), columns: vec![column] }), vec![note]))
}

/// Central moments of one column, by updates that do not cancel however far from 0 (Pebay 2008).
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    second: f64,
    third: f64,
    fourth: f64,
    low: f64,
    high: f64,
}

impl Moments {
    const NONE: Self = Self {
        count: 0.0,
        mean: 0.0,
        second: 0.0,
        third: 0.0,
        fourth: 0.0,
        low: f64::INFINITY,
        high: f64::NEG_INFINITY,
    };

    fn add(&mut self, value: f64) {
        let before = self.count;
        self.count += 1.0;
        let n = self.count;
        let apart = value - self.mean;
        let step = apart / n;
        let term = apart * step * before;
        self.mean += step;
        self.fourth +=
            term * step * step * (n * n - 3.0 * n + 3.0) + 6.0 * step * step * self.second - 4.0 * step * self.third;
        self.third += term * step * (n - 2.0) - 3.0 * step * self.second;
        self.second += term;
        (self.low, self.high) = (self.low.min(value), self.high.max(value));
    }

    fn sd(&self) -> f64 {
        (self.second / self.count).sqrt()
    }

    fn has_heavy_tails(&self) -> bool {
        let variance = self.second / self.count;
        let skewness = self.third / self.count / variance.powf(1.5);
        let kurtosis = self.fourth / self.count / (variance * variance) - 3.0;
        skewness.abs() > HEAVY_SKEWNESS || kurtosis > HEAVY_KURTOSIS
    }

    /// One value only, or a spread that is lost among the digits of the values.
    fn is_constant(&self) -> bool {
        self.high - self.low <= 4.0 * f64::EPSILON * self.largest()
    }

    fn largest(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// Mean and standard deviation. Where the squares of the values are beyond float64, those of the values kept, in units
    /// of the largest.
    fn mean_and_sd(&self, kept: &[f64]) -> (f64, f64) {
        if self.sd().is_normal() {
            return (self.mean, self.sd());
        }
        let unit = self.largest();
        let mut of_kept = Self::NONE;
        kept.iter().for_each(|value| of_kept.add(value / unit));
        (of_kept.mean * unit, of_kept.sd() * unit)
    }
}

fn fit_columns(samples: &Samples, names: &[String], how: Standardise) -> Result<(Option<Standard>, Vec<String>)> {
    let dimensions = samples.dimensions();
    let kept_rows = (KEPT_VALUES / dimensions).max(FEWEST_KEPT);
    let every = samples.len().div_ceil(kept_rows);
    let mut moments = vec![Moments::NONE; dimensions];
    let mut kept: Vec<Vec<f64>> = vec![Vec::new(); dimensions];
    let mut seen = 0usize;
    samples.visit(|_, row| {
        moments.iter_mut().zip(row).for_each(|(moments, &value)| moments.add(value));
        if seen.is_multiple_of(every) {
            kept.iter_mut().zip(row).for_each(|(kept, &value)| kept.push(value));
        }
        seen += 1;
        Ok(())
    })?;
    let (mut columns, mut notes) = (Vec::with_capacity(dimensions), Notes::default());
    for (at, (moments, mut kept)) in moments.iter().zip(kept).enumerate() {
        kept.sort_unstable_by(f64::total_cmp);
        let name = names.get(at).map_or("", String::as_str);
        let shown = if name.is_empty() { format!("column {}", at + 1) } else { format!("`{name}`") };
        let column = fit_column(name, moments, &kept, how);
        if !(column.shift.is_finite() && column.scale.is_normal()) {
            let size = if column.shift.is_finite() && column.scale.is_finite() { "less" } else { "more" };
            let problem =
                format!("{shown} spans {:e} to {:e}, {size} than float64 can work with", moments.low, moments.high);
            return Err(Error::input("data", problem, "Rescale it, or leave it out with --skip-columns"));
        }
        notes.see(&shown, &column, &kept);
        columns.push(column);
    }
    Ok((Some(Standard { rows: samples.len(), columns }), notes.sentences(how)))
}

fn fit_column(name: &str, moments: &Moments, sorted: &[f64], how: Standardise) -> Column {
    let range = [moments.low, moments.high];
    if moments.is_constant() {
        return Column::constant(name, moments.low);
    }
    let different = 1 + sorted.windows(2).filter(|pair| pair[0] < pair[1]).count();
    let has_ranks = different >= FEWEST_FOR_RANKS;
    let (mean, sd) = moments.mean_and_sd(sorted);
    match how {
        Standardise::Ranks if different > 2 => Column::ranks(name, sorted, range, mean, sd),
        Standardise::Auto if has_ranks && moments.has_heavy_tails() => Column::ranks(name, sorted, range, mean, sd),
        Standardise::Robust => {
            let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
            match (at(0.75) - at(0.25)) / GAUSSIAN_IQR {
                scale if scale.is_normal() => Column::affine(name, range, at(0.5), scale),
                // More than half of the rows are alike: there is no middle half to go by.
                _ => Column::affine(name, range, at(0.5), sd),
            }
        }
        _ => Column::affine(name, range, mean, sd),
    }
}

/// Columns by what there is to say of them.
#[derive(Default)]
struct Notes {
    constant: Vec<String>,
    by_ranks: Vec<String>,
    merged: Vec<String>,
}

impl Notes {
    fn see(&mut self, shown: &str, column: &Column, sorted: &[f64]) {
        if column.is_constant() {
            self.constant.push(shown.into());
        } else if !column.knots.is_empty() {
            self.by_ranks.push(shown.into());
        }
        let different = sorted.windows(2).filter(|pair| pair[0] < pair[1]);
        let merge = |pair: &&[f64]| column.map(pair[0]).z as f32 == column.map(pair[1]).z as f32;
        let merged = different.filter(merge).count();
        if merged > 0 && !column.is_constant() {
            self.merged.push(format!("{shown} ({merged} of {})", sorted.len()));
        }
    }

    fn sentences(self, how: Standardise) -> Vec<String> {
        let list = |columns: &[String]| {
            let more =
                if columns.len() > NAMED { format!(" and {} more", columns.len() - NAMED) } else { String::new() };
            format!("{}{more}", columns[..columns.len().min(NAMED)].join(", "))
        };
        let mut sentences = Vec::new();
        if !self.constant.is_empty() {
            sentences.push(format!("one value only, which draws repeat exactly: {}", list(&self.constant)));
        }
        if !self.by_ranks.is_empty() {
            let why = if how == Standardise::Ranks { "" } else { "heavy tails, " };
            sentences.push(format!("{why}standardised by ranks: {}", list(&self.by_ranks)));
        }
        if !self.merged.is_empty() {
            sentences.push(format!(
                "different values that are equal to the model, whose numbers have 24 bits: {}",
                list(&self.merged)
            ));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    const PLANE: SampleShape = SampleShape::Vector { dimensions: 2 };
    const IMAGE: SampleShape = SampleShape::Image { height: 1, width: 2, channels: 1 };

    fn gaussian(n: usize) -> Vec<f64> {
        let mut rng = crate::data::host_rng(3, 9);
        (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
    }

    fn fit(values: Vec<f64>, how: Standardise) -> (Standard, Vec<String>) {
        let samples = Samples::from_doubles(2, values);
        let names = ["first".to_owned(), String::new()];
        let (standard, notes) = super::fit(&samples, PLANE, &names, how).expect("in memory");
        (standard.expect("a map"), notes)
    }

    #[test]
    fn columns_of_any_unit_have_mean_0_and_deviation_1() {
        let z = gaussian(4000);
        for (offset, scale) in [(0.0, 1.0), (1e6, 1.0), (-3e-3, 1e-9), (1e15, 1e9), (0.0, 1e-300), (0.0, 1e300)] {
            let values = z.iter().flat_map(|z| [offset + scale * z, 4.0 * z - 1.0]).collect();
            let (standard, notes) = fit(values, Standardise::Auto);
            assert!(notes.is_empty() && standard.columns.iter().all(|column| column.knots.is_empty()), "{notes:?}");
            assert_eq!((standard.columns[0].name.as_str(), standard.columns[1].name.as_str()), ("first", ""));
            let mut seen = vec![0.0; 2 * z.len()];
            let rows: Vec<f64> = z.iter().flat_map(|z| [offset + scale * z, 4.0 * z - 1.0]).collect();
            standard.to_model(&rows, &mut seen);
            for d in 0..2 {
                let column = || seen.iter().skip(d).step_by(2).map(|&z| f64::from(z));
                let n = z.len() as f64;
                let mean = column().sum::<f64>() / n;
                let variance = column().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
                assert!(mean.abs() <= 1e-5 && (variance - 1.0).abs() <= 1e-5, "{mean} {variance} for {offset} {scale}");
            }
            for (at, (back, row)) in standard.to_data(&seen).iter().zip(&rows).enumerate() {
                let unit = if at % 2 == 0 { scale } else { 4.0 };
                assert!((back - row).abs() <= 1e-5 * unit, "{row} came back as {back}");
            }
        }
    }

    #[test]
    fn heavy_tails_go_by_ranks_and_constants_are_told() {
        let values = gaussian(2000).iter().flat_map(|z| [z.exp(), 7.0]).collect();
        let (standard, notes) = fit(values, Standardise::Auto);
        assert!(!standard.columns[0].knots.is_empty() && standard.columns[1].is_constant());
        let notes = notes.join("; ");
        assert!(notes.contains("by ranks: `first`") && notes.contains("exactly: column 2"), "{notes}");
        // Counts have no ranks worth the name, whatever their tails.
        let counts = gaussian(2000).iter().flat_map(|z| [(2.0 * z).exp().floor().min(30.0), *z]).collect();
        assert!(fit(counts, Standardise::Auto).0.columns[0].knots.is_empty());
    }

    #[test]
    fn a_few_wild_values_do_not_move_the_robust_map() {
        let mut values: Vec<f64> = gaussian(2000).iter().flat_map(|z| [10.0 + 2.0 * z, *z]).collect();
        values[0] = 1e9;
        let (standard, _) = fit(values, Standardise::Robust);
        let column = &standard.columns[0];
        assert!((column.shift - 10.0).abs() <= 0.2 && (column.scale - 2.0).abs() <= 0.2, "{column:?}");
    }

    #[test]
    fn values_that_merge_in_the_model_are_told() {
        let (_, notes) = fit(
            (0..400).flat_map(|k| [f64::from(k % 2) * 1e-9 + f64::from(k / 200), 0.5]).collect(),
            Standardise::Moments,
        );
        assert!(notes.iter().any(|note| note.contains("24 bits: `first` (2 of 400)")), "{notes:?}");
    }

    #[test]
    fn images_keep_the_unit_range_or_are_brought_to_it() {
        let map = |values: Vec<f64>| {
            let samples = Samples::from_doubles(2, values);
            super::fit(&samples, IMAGE, &[], Standardise::Auto).expect("in memory").0
        };
        assert_eq!(map(vec![0.0, 0.25, 1.0, 0.5]), None);
        for (low, high) in [(0.0, 16.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 1e-3), (900.0, 901.0)] {
            let standard = map(vec![low, low, 0.5 * (low + high), high]).expect("another range");
            let mut seen = [9.0; 3];
            standard.to_model(&[low, 0.5 * (low + high), high], &mut seen);
            assert_eq!(seen, [0.0, 0.5, 1.0], "{low} to {high}");
        }
        let constant = map(vec![3.0; 4]).expect("another value");
        assert_eq!(constant.to_data(&[0.3, 0.9]), [3.0, 3.0]);
        let samples = Samples::from_doubles(2, vec![0.0; 4]);
        assert!(super::fit(&samples, IMAGE, &[], Standardise::Ranks).is_err());
        assert_eq!(super::fit(&samples, PLANE, &[], Standardise::None).expect("nothing to do").0, None);
    }
}
