//! The map between the data's own units and the numbers that a model sees, column by column.
//!
//! A model sees z = T(x): standard deviations from the mean of each column of a table, or the unit range of an image's
//! values. Everything that enters or leaves the program is in the data's units: values go through T or its inverse, and a
//! density of z becomes one of x by the change of variables log p(x) = log p(z) + sum over d of log T_d'(x_d).
//!
//! Values in the data's units are f64 and values that a model sees are f32, everywhere: a column may lie a million of its
//! standard deviations away from 0, where f32 has no digits left for it.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::error::{Error, Result};

/// How the columns of tables and points are brought to one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Standardise {
    /// `moments`, but `ranks` for columns with heavy tails; images that do not lie in [0, 1]: their range becomes that
    Auto,
    /// Mean 0 and standard deviation 1
    Moments,
    /// Median 0 and, of the middle half, the spread of a standard Gaussian: blind to a few wild values
    Robust,
    /// A Gaussian shape by a smooth monotone map of the ranks, with logarithmic tails
    Ranks,
    /// As the data are: noise levels are then in their units
    None,
}

/// T of every column of a data set, made from its training rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    /// Training rows that it was made from.
    pub rows: usize,
    /// One for each dimension; a single one is for all of them (images).
    pub columns: Vec<Column>,
}

/// One column: z = (x - shift) / scale, followed by a monotone spline where there are knots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name, where the file has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Least value of the training rows, in the data's units. A column of one value only is drawn as exactly that.
    pub low: f64,
    /// Greatest value.
    pub high: f64,
    /// What becomes 0.
    pub shift: f64,
    /// What becomes 1; positive.
    pub scale: f64,
    /// Knots (u, z, dz/du) of a spline over u = (x - shift) / scale, all rising; empty for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knots: Vec<[f64; 3]>,
}

/// T and its derivatives at a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mapped {
    /// z
    pub z: f64,
    /// dz/dx, positive.
    pub slope: f64,
    /// d/dx log(dz/dx)
    pub log_slope_slope: f64,
    /// d/dx of that.
    pub log_slope_bend: f64,
}

/// A number as people write it: with four decimals, or with an exponent where it is very large or small.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Short(pub f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.0.abs();
        match size == 0.0 || (1e-3..1e7).contains(&size) {
            true => write!(f, "{}", (self.0 * 1e4).round() / 1e4),
            false => write!(f, "{:.3e}", self.0),
        }
    }
}

impl Standard {
    /// T of dimension d.
    fn column(&self, dimension: usize) -> &Column {
        if self.columns.len() == 1 { &self.columns[0] } else { &self.columns[dimension] }
    }

    /// Rows x (N, D) in the data's units as the model sees them, into `z` (N, D).
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn to_model(&self, x: &[f64], z: &mut [f32]) {
        assert_eq!(x.len(), z.len(), "a place for each value");
        let columns = self.columns.iter().cycle();
        x.iter().zip(z).zip(columns).for_each(|((&x, z), column)| *z = column.map(x).z as f32);
    }

    /// Rows z (N, D) as a model has them, in the data's units.
    pub fn to_data(&self, z: &[f32]) -> Vec<f64> {
        z.iter().zip(self.columns.iter().cycle()).map(|(&z, column)| column.invert(f64::from(z))).collect()
    }

    /// T and its derivatives at value `index` of rows x (N, D).
    pub fn map(&self, dimensions: usize, index: usize, x: f64) -> Mapped {
        self.column(index % dimensions).map(x)
    }

    /// sum over d of log T_d'(x_d) of one row: log p(x) = log p(z) + this.
    pub fn log_scale(&self, row: &[f64]) -> f64 {
        row.iter().zip(self.columns.iter().cycle()).map(|(&x, column)| column.map(x).slope.ln()).sum()
    }

    /// How far outside the range of its training values a draw of a column may lie, as a share of that range: as far as
    /// one in 15,000 draws of a Gaussian lies outside the range of so many, and a twentieth at least.
    pub fn margin(&self) -> f64 {
        let outermost = -Normal::standard().inverse_cdf(0.5 / self.rows.max(2) as f64);
        (0.5 * (FARTHEST_DRAW / outermost - 1.0)).max(TAIL)
    }

    /// Whether some value of a row, as a model has it, lies outside the range of its column's training values by more than
    /// this share of it.
    pub fn is_outside(&self, seen: &[f32], margin: f64) -> bool {
        seen.iter().zip(self.columns.iter().cycle()).any(|(&z, column)| {
            let (x, reach) = (column.invert(f64::from(z)), margin * (column.high - column.low));
            !(column.low - reach..=column.high + reach).contains(&x)
        })
    }

    /// How many of the columns have one value only.
    pub fn constants(&self) -> usize {
        self.columns.iter().filter(|column| column.is_constant()).count()
    }

    /// Refuses what no training writes: a file may have been changed.
    ///
    /// # Errors
    /// Another number of columns than 1 or D, a scale that is not positive, knots that do not rise.
    pub fn check(&self, dimensions: usize) -> Result<()> {
        let refuse = |problem: String| {
            Err(Error::input("data.standard", problem, "Take the file as it was written by `arcsm train`"))
        };
        if ![1, dimensions].contains(&self.columns.len()) {
            return refuse(format!("has {} columns, the samples have {dimensions}", self.columns.len()));
        }
        match self.columns.iter().position(|column| !column.is_sound()) {
            Some(at) => refuse(format!("column {} has no finite shift, positive scale and rising knots", at + 1)),
            None => Ok(()),
        }
    }
}

impl Column {
    /// z = (x - shift) / scale of a column with this range of training values.
    pub fn affine(name: &str, [low, high]: [f64; 2], shift: f64, scale: f64) -> Self {
        Self { name: name.into(), low, high, shift, scale, knots: Vec::new() }
    }

    /// A column of one value, which becomes 0.
    pub fn constant(name: &str, value: f64) -> Self {
        Self::affine(name, [value; 2], value, 1.0)
    }

    /// A map to the shape of a Gaussian. `sorted` are values of the column in rising order, at least two of them different;
    /// `range` are the least and the greatest of all; `shift` and `scale` bring them near 1.
    ///
    /// Knots lie at equal steps of the normal quantile; equal values share the middle of their ranks. Beyond the outermost
    /// knots z grows with the logarithm of the distance: a draw that goes on as the last ones did stays close to the
    /// data's range, and a value far beyond it still has a density.
    pub fn ranks(name: &str, sorted: &[f64], range: [f64; 2], shift: f64, scale: f64) -> Self {
        let normal = Normal::standard();
        let n = sorted.len() as f64;
        let outermost = -normal.inverse_cdf(0.5 / n);
        let count = (sorted.len() / 10).clamp(5, MOST_KNOTS);
        let mut knots: Vec<[f64; 2]> = Vec::with_capacity(count);
        for k in 0..count {
            let z = outermost * (2.0 * k as f64 / (count - 1) as f64 - 1.0);
            let x = match k {
                0 => range[0],
                _ if k + 1 == count => range[1],
                _ => quantile(sorted, normal.cdf(z)),
            };
            if knots.last().is_none_or(|last| (x - shift) / scale > last[0]) {
                knots.push([(x - shift) / scale, middle_rank(sorted, x, z, &normal)]);
            }
        }
        // Middle ranks of neighbouring blocks of equal values may nearly coincide.
        let mut rising: Vec<[f64; 2]> = Vec::with_capacity(knots.len());
        for knot in knots {
            if rising.last().is_none_or(|last| knot[1] > last[1] + LEAST_RISE) {
                rising.push(knot);
            }
        }
        let slopes = slopes(&rising);
        let knots = rising.iter().zip(slopes).map(|(&[u, z], slope)| [u, z, slope]).collect();
        Self { knots, ..Self::affine(name, range, shift, scale) }
    }

    /// Whether the training rows had one value only.
    pub fn is_constant(&self) -> bool {
        self.low == self.high
    }

    /// T and its derivatives.
    pub fn map(&self, x: f64) -> Mapped {
        let u = (x - self.shift) / self.scale;
        let of_u = match self.knots.len() {
            0 | 1 => Mapped { z: u, slope: 1.0, log_slope_slope: 0.0, log_slope_bend: 0.0 },
            _ => spline(&self.knots, u),
        };
        Mapped {
            z: of_u.z,
            slope: of_u.slope / self.scale,
            log_slope_slope: of_u.log_slope_slope / self.scale,
            log_slope_bend: of_u.log_slope_bend / self.scale / self.scale,
        }
    }

    /// T^-1
    pub fn invert(&self, z: f64) -> f64 {
        if self.is_constant() {
            return self.low;
        }
        let u = if self.knots.len() < 2 { z } else { inverse_spline(&self.knots, z) };
        self.shift + self.scale * u
    }

    fn is_sound(&self) -> bool {
        let numbers = [self.low, self.high, self.shift, self.scale];
        numbers.iter().chain(self.knots.as_flattened()).all(|value| value.is_finite())
            && self.scale > 0.0
            && self.low <= self.high
            && self.knots.len() != 1
            && self.knots.iter().all(|knot| knot[2] > 0.0)
            && self.knots.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] < pair[1][1])
    }
}

/// Knots of a map by ranks at most: bins of a tenth of the rows and more, down to a standard deviation's tenth.
const MOST_KNOTS: usize = 33;
/// Share of the column's range that a tail reaches in its first unit of z at most.
const TAIL: f64 = 0.05;
/// Knots lie at least this far apart in z.
const LEAST_RISE: f64 = 1e-3;

/// Standard deviations that one in 15,000 draws of a Gaussian lies beyond.
const FARTHEST_DRAW: f64 = 3.98;

/// The value of `sorted` with a share `p` below it, between order statistics.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = (p * sorted.len() as f64 - 0.5).clamp(0.0, (sorted.len() - 1) as f64);
    let (below, share) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + share * (sorted[above] - sorted[below])
}

/// z of a value: that of the quantile it was taken at, or of the middle of its ranks where several rows have it.
fn middle_rank(sorted: &[f64], x: f64, z: f64, normal: &Normal) -> f64 {
    let (first, end) = (sorted.partition_point(|&v| v < x), sorted.partition_point(|&v| v <= x));
    if end < first + 2 { z } else { normal.inverse_cdf(0.5 * (first + end) as f64 / sorted.len() as f64) }
}

/// Slopes dz/du at knots (u, z): geometric means of the secants on either side, weighted by the distance to the other
/// (Gregory, Delbourgo 1982), so that the spline rises everywhere.
fn slopes(knots: &[[f64; 2]]) -> Vec<f64> {
    let secant = |k: usize| (knots[k + 1][1] - knots[k][1]) / (knots[k + 1][0] - knots[k][0]);
    let (last, range) = (knots.len() - 1, knots[knots.len() - 1][0] - knots[0][0]);
    let of_tail = |secant: f64| secant.max(1.0 / (TAIL * range));
    (0..=last)
        .map(|k| match k {
            0 => of_tail(secant(0)),
            k if k == last => of_tail(secant(last - 1)),
            k => {
                let (before, after) = (knots[k][0] - knots[k - 1][0], knots[k + 1][0] - knots[k][0]);
                let weight = after / (before + after);
                (weight * secant(k - 1).ln() + (1.0 - weight) * secant(k).ln()).exp()
            }
        })
        .collect()
}

/// Monotone rational-quadratic spline with logarithmic tails at u.
fn spline(knots: &[[f64; 3]], u: f64) -> Mapped {
    let above = knots.partition_point(|knot| knot[0] < u);
    if above == 0 || above == knots.len() {
        let ([at, z, slope], side) = if above == 0 { (knots[0], -1.0) } else { (knots[above - 1], 1.0) };
        let stretched = 1.0 + slope * (u - at).abs();
        return Mapped {
            z: z + side * stretched.ln(),
            slope: slope / stretched,
            log_slope_slope: -side * slope / stretched,
            log_slope_bend: (slope / stretched).powi(2),
        };
    }
    let ([u0, z0, d0], [u1, z1, d1]) = (knots[above - 1], knots[above]);
    let (width, height) = (u1 - u0, z1 - z0);
    let (secant, share) = (height / width, (u - u0) / width);
    let (rest, bend) = (1.0 - share, d0 + d1 - 2.0 * secant);
    let below = secant + bend * share * rest;
    let top = d1 * share * share + 2.0 * secant * share * rest + d0 * rest * rest;
    let top_slope = 2.0 * (d1 * share + secant * (rest - share) - d0 * rest);
    // Of log(top) - 2 log(below), by the share.
    let (of_top, of_below) = (top_slope / top, bend * (rest - share) / below);
    let of_top_again = 2.0 * bend / top - of_top * of_top;
    let of_below_again = -2.0 * bend / below - of_below * of_below;
    Mapped {
        z: z0 + height * (secant * share * share + d0 * share * rest) / below,
        slope: secant * secant * top / (below * below),
        log_slope_slope: (of_top - 2.0 * of_below) / width,
        log_slope_bend: (of_top_again - 2.0 * of_below_again) / (width * width),
    }
}

/// The u that [`spline`] takes to z.
fn inverse_spline(knots: &[[f64; 3]], z: f64) -> f64 {
    let above = knots.partition_point(|knot| knot[1] < z);
    if above == 0 || above == knots.len() {
        let ([at, z0, slope], side) = if above == 0 { (knots[0], -1.0) } else { (knots[above - 1], 1.0) };
        return at + side * ((z - z0).abs().min(FARTHEST).exp() - 1.0) / slope;
    }
    let ([u0, z0, d0], [u1, z1, d1]) = (knots[above - 1], knots[above]);
    let (width, height, rise) = (u1 - u0, z1 - z0, z - z0);
    let (secant, bend) = (height / width, d0 + d1 - 2.0 * height / width);
    let a = height * (secant - d0) + rise * bend;
    let b = height * d0 - rise * bend;
    let c = -secant * rise;
    // The root in [0, 1], without cancellation; the discriminant is never negative but for rounding.
    let share = 2.0 * c / (-b - (b * b - 4.0 * a * c).max(0.0).sqrt());
    u0 + width * share.clamp(0.0, 1.0)
}

/// Distance in z beyond the outermost knot where tails end, so that values stay finite.
const FARTHEST: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a lognormal by their quantiles, of scale e^0.
    fn lognormal(n: usize, sd: f64) -> Vec<f64> {
        let normal = Normal::standard();
        (0..n).map(|k| (sd * normal.inverse_cdf((k as f64 + 0.5) / n as f64)).exp()).collect()
    }

    fn ranks_of(sorted: &[f64]) -> Column {
        let range = [sorted[0], sorted[sorted.len() - 1]];
        Column::ranks("x", sorted, range, sorted[sorted.len() / 2], 0.5)
    }

    fn cases() -> Vec<Column> {
        let with_block = [vec![0.0; 400], lognormal(600, 1.0)].concat();
        vec![
            Column::affine("a", [1e6, 1e6 + 5.0], 1e6 + 2.0, 1.5),
            Column::affine("b", [-1e-9, 1e-9], 1e-10, 3e-10),
            ranks_of(&lognormal(1000, 0.6)),
            ranks_of(&lognormal(50, 2.5)),
            ranks_of(&with_block),
        ]
    }

    #[test]
    fn the_inverse_undoes_the_map_inside_and_far_outside() {
        for column in cases() {
            assert!(column.is_sound(), "{column:?}");
            let range = column.high - column.low;
            for k in -40..=80 {
                let x = column.low + range * f64::from(k) / 40.0;
                let back = column.invert(column.map(x).z);
                assert!((back - x).abs() <= 1e-9 * range, "{x} became {back} in {column:?}");
            }
        }
    }

    #[test]
    fn slopes_are_positive_and_match_differences() {
        for column in cases() {
            let range = column.high - column.low;
            for k in -20..=60 {
                let x = column.low + range * (f64::from(k) + 0.37) / 40.0;
                let h = 1e-6 * range;
                let (low, at, high) = (column.map(x - h), column.map(x), column.map(x + h));
                let slope = (high.z - low.z) / (2.0 * h);
                assert!(at.slope > 0.0 && (slope / at.slope - 1.0).abs() <= 1e-4, "{slope} {at:?} at {x}");
                let bend = (high.slope.ln() - low.slope.ln()) / (2.0 * h);
                let unit = 1.0 / range;
                assert!((bend - at.log_slope_slope).abs() <= 1e-3 * (bend.abs() + unit), "{bend} {at:?} at {x}");
                let again = (high.log_slope_slope - low.log_slope_slope) / (2.0 * h);
                let scale = again.abs() + bend * bend + unit * unit;
                assert!((again - at.log_slope_bend).abs() <= 1e-3 * scale, "{again} {at:?} at {x}");
            }
        }
    }

    #[test]
    fn ranks_give_a_lognormal_the_shape_of_a_gaussian() {
        let sorted = lognormal(5000, 1.0);
        let column = ranks_of(&sorted);
        let (mut sum, mut squares, mut cubes) = (0.0, 0.0, 0.0);
        for &x in &sorted {
            let z = column.map(x).z;
            assert!((z - x.ln()).abs() <= 0.05, "{x} became {z}, its logarithm is {}", x.ln());
            (sum, squares, cubes) = (sum + z, squares + z * z, cubes + z * z * z);
        }
        let n = sorted.len() as f64;
        assert!((sum / n).abs() <= 0.01 && (squares / n - 1.0).abs() <= 0.02 && (cubes / n).abs() <= 0.05);
    }

    #[test]
    fn tails_by_ranks_stay_close_to_the_range_and_take_values_far_outside() {
        for sorted in [lognormal(2000, 1.0), lognormal(100, 3.0)] {
            let column = ranks_of(&sorted);
            let range = column.high - column.low;
            let top = column.knots[column.knots.len() - 1][1];
            assert!(column.invert(top + 0.6) <= column.high + 0.05 * range);
            assert!(column.invert(-top - 0.6) >= column.low - 0.05 * range);
            let far = column.map(column.high + 10.0 * range);
            assert!(far.z < top + 8.0 && far.slope > 0.0, "{far:?}");
            assert!(column.invert(1e30).is_finite());
        }
    }

    #[test]
    fn few_rows_leave_more_room_beyond_them() {
        let margin = |rows| Standard { rows, columns: Vec::new() }.margin();
        assert_eq!([3400, 10_000].map(margin), [0.05; 2]);
        // The outermost of 26 lie at 2.07, so that the range is 4.14 wide and 3.98 lies 1.91 beyond it.
        assert!((margin(26) - 1.91 / 4.14).abs() <= 0.01, "{}", margin(26));
        let standard = Standard { rows: 9, columns: vec![Column::affine("a", [0.0, 10.0], 0.0, 1.0)] };
        assert!(standard.is_outside(&[11.1], 0.1) && standard.is_outside(&[-1.1], 0.1));
        assert!(!standard.is_outside(&[10.9], 0.1) && standard.is_outside(&[f32::NAN], 0.1));
    }

    #[test]
    fn a_constant_column_is_exactly_what_it_was() {
        let column = Column::constant("c", 0.1);
        assert_eq!((column.map(0.1).z, column.invert(0.7), column.invert(-3.0)), (0.0, 0.1, 0.1));
        let standard = Standard { rows: 9, columns: vec![column, Column::affine("a", [0.0, 4.0], 2.0, 2.0)] };
        assert_eq!(standard.constants(), 1);
        assert_eq!(standard.to_data(&[9.0, 0.5, 1.0, -1.0]), [0.1, 3.0, 0.1, 0.0]);
        let mut z = [9.0; 4];
        standard.to_model(&[0.1, 3.0, 0.1, 0.0], &mut z);
        assert_eq!(z, [0.0, 0.5, 0.0, -1.0]);
        assert!((standard.log_scale(&[0.1, 3.0]) + 2f64.ln()).abs() <= 1e-12);
    }

    #[test]
    fn what_no_training_writes_is_refused() {
        let good = Standard { rows: 100, columns: vec![ranks_of(&lognormal(100, 1.0))] };
        good.check(3).expect("one for all");
        assert!(Standard { columns: vec![good.columns[0].clone(); 2], ..good.clone() }.check(3).is_err());
        let changes: [fn(&mut Column); 4] =
            [|c| c.scale = 0.0, |c| c.shift = f64::NAN, |c| c.knots[1][1] = 99.0, |c| c.knots.truncate(1)];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad.columns[0]);
            assert_eq!(bad.check(3).expect_err("changed").exit_status(), 2);
        }
    }

    #[test]
    fn it_survives_as_text_to_the_bit() {
        let standard = Standard { rows: 1000, columns: cases() };
        let text = toml::to_string(&standard).expect("plain numbers");
        assert_eq!(toml::from_str::<Standard>(&text).expect("own output"), standard);
    }
}
