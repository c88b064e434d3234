//! Axes for values in any units: a range that outliers do not stretch, few ticks with short labels, cells of histograms.

use std::ops::Range;

/// Room that an axis leaves beyond the values that it must show, as a share of their span.
const MARGIN: f64 = 0.08;
/// Columns with at most this many levels are shown from the first to the last, however rare those are.
const FEW_LEVELS: f64 = 40.0;
/// A span below this share of the values themselves is rounding: f64 has no digits left for ticks.
const RESOLUTION: f64 = 1e-12;
/// Beyond this and below its inverse, spans and their powers of ten overflow.
const HUGE: f64 = 1e305;
/// Labels with more digits than this beside a point become distances from an offset.
const MOST_DIGITS: i32 = 4;
/// Pixels by which a label may stick out over the end of its axis, and that must lie between two labels.
const OVERHANG: f64 = 2.0;
const SPACE: f64 = 8.0;

/// A range of values with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// Least and greatest value shown.
    pub(super) range: Range<f64>,
    /// Values with their labels.
    pub(super) ticks: Vec<(f64, String)>,
    /// How a label becomes a value: `x1e-9`, `+1e6`, both, or nothing where it is the value.
    pub(super) unit: String,
}

impl Axis {
    /// At most `most` ticks, at least `least_step` apart; at least two are allowed for.
    pub(super) fn new(range: Range<f64>, least_step: f64, most: usize) -> Self {
        let (digit, exponent) = step_of(&range, least_step, most.max(2));
        let step = scaled(digit, exponent);
        // Ticks are whole numbers of 10^exponent, so that labels have no rounding error of their own.
        let first = (range.start / step - 1e-9).ceil();
        let count = ((range.end / step + 1e-9).floor() - first).max(-1.0) as usize + 1;
        let whole: Vec<f64> = (0..count).map(|i| (first + i as f64) * digit).collect();
        let largest = |offset: f64| whole.iter().map(|tick| (tick - offset).abs()).fold(0.0, f64::max);

        let digits = largest(0.0).max(1.0).log10().floor() as i32 + 1;
        let offset = if digits > MOST_DIGITS + i32::from(exponent >= 0) {
            // The nearest number that is round in units of the span.
            let round = 10f64.powi((range.end - range.start).log10().ceil() as i32 - exponent);
            (0.5 * (range.start + range.end) / scaled(round, exponent)).round() * round
        } else {
            0.0
        };
        let order = largest(offset).max(1.0).log10().floor() as i32 + exponent;
        let factor = if (-2..5).contains(&order) { 0 } else { order };
        let decimals = (factor - exponent).max(0) as usize;
        let label = |tick: f64| {
            let text = format!("{:.decimals$}", scaled(tick - offset, exponent - factor));
            if text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.')) { "0".to_owned() } else { text }
        };
        let ticks = whole.iter().map(|&tick| (scaled(tick, exponent), label(tick))).collect();
        let mut unit = Vec::new();
        if factor != 0 {
            unit.push(format!("x1e{factor}"));
        }
        if offset != 0.0 {
            let sign = if offset < 0.0 { '-' } else { '+' };
            unit.push(format!("{sign}{}", short(scaled(offset.abs(), exponent))));
        }
        Self { range, ticks, unit: unit.join(" ") }
    }

    /// As many ticks, up to `most`, as have room on `pixels` for their labels, of which each takes `extent(label)` pixels.
    /// None reaches beyond the axis, where a neighbour's may begin.
    pub(super) fn on(span: &Span, pixels: i32, most: usize, extent: impl Fn(&str) -> i32) -> Self {
        let level = span.level.unwrap_or(0.0);
        let place = |value: f64| (value - span.range.start) / (span.range.end - span.range.start) * f64::from(pixels);
        let reach = |label: &str| 0.5 * f64::from(extent(label));
        let axes = (2..=most).rev().map(|most| {
            let mut axis = Self::new(span.range.clone(), level, most);
            let inside = -OVERHANG..=f64::from(pixels) + OVERHANG;
            axis.ticks.retain(|(value, label)| {
                [-1.0, 1.0].iter().all(|side| inside.contains(&(place(*value) + side * reach(label))))
            });
            axis
        });
        let is_readable = |axis: &Self| {
            let apart = |pair: &[(f64, String)]| {
                place(pair[1].0) - place(pair[0].0) >= reach(&pair[0].1) + reach(&pair[1].1) + SPACE
            };
            axis.ticks.len() >= 2 && axis.ticks.windows(2).all(apart)
        };
        axes.into_iter().find(is_readable).unwrap_or_else(|| Self::new(span.range.clone(), level, 2))
    }

    /// What follows the name of the axis.
    pub(super) fn suffix(&self) -> String {
        if self.unit.is_empty() { String::new() } else { format!(" ({})", self.unit) }
    }
}

/// `value` times 10^`exponent`, by a division where that is exact.
fn scaled(value: f64, exponent: i32) -> f64 {
    if exponent < 0 { value / 10f64.powi(-exponent) } else { value * 10f64.powi(exponent) }
}

/// The shorter way to write a number.
fn short(value: f64) -> String {
    let (plain, power) = (format!("{value}"), format!("{value:e}"));
    if plain.len() <= power.len() { plain } else { power }
}

/// The least step of 1, 2 or 5 times a power of ten that has at most `most` multiples in the range.
fn step_of(range: &Range<f64>, least: f64, most: usize) -> (f64, i32) {
    let span = range.end - range.start;
    let start = (span / most as f64).max(least).log10().floor() as i32;
    let steps = (start..).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| (digit, exponent)));
    let fits = |&(digit, exponent): &(f64, i32)| {
        let step = scaled(digit, exponent);
        let ticks = (range.end / step + 1e-9).floor() - (range.start / step - 1e-9).ceil() + 1.0;
        step >= 0.999 * least && ticks <= most as f64
    };
    steps.into_iter().find(fits).expect("a large step has one multiple in any range")
}

/// One column of a table as an axis shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    /// What is shown.
    pub(super) range: Range<f64>,
    /// The distance of levels, where all values lie on some: 1 for whole numbers.
    pub(super) level: Option<f64>,
}

impl Span {
    /// Holds 99 percent of the values in the middle with a margin, or every level where there are few. Values that are
    /// not finite do not count.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> =
            values.filter(|value| value.is_finite()).map(|value| value.clamp(-HUGE, HUGE)).collect();
        values.sort_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { return Self { range: 0.0..1.0, level: None } };
        let quantile = |share: f64| values[(share * last as f64).round() as usize];
        let (mut low, mut high) = (quantile(0.005), quantile(0.995));
        if low == high {
            // Nearly always the same value: the others are all there is to see.
            (low, high) = (values[0], values[last]);
        }
        let largest = low.abs().max(high.abs());
        if high - low <= (RESOLUTION * largest).max(1.0 / HUGE) {
            let reach = if largest <= 1.0 / HUGE { 1.0 } else { 0.05 * largest };
            return Self { range: low - reach..high + reach, level: None };
        }
        let level = level_of(&values);
        if let Some(level) = level.filter(|level| values[last] - values[0] <= FEW_LEVELS * level) {
            return Self { range: values[0] - 0.75 * level..values[last] + 0.75 * level, level: Some(level) };
        }
        let margin = MARGIN * (high - low);
        Self { range: low - margin..high + margin, level }
    }

    /// Whether a value is shown.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.range.start..=self.range.end).contains(&value)
    }
}

/// The largest power of ten of which all values are multiples, but for the rounding of f32.
fn level_of(values: &[f64]) -> Option<f64> {
    // Where f32 has no digits left to tell, a value must be an exact multiple.
    let rounding = |levels: f64| if levels.abs() < 1e5 { 2e-7 * levels.abs() } else { 0.0 };
    let is_multiple = |levels: f64| (levels - levels.round()).abs() <= rounding(levels);
    let powers = (-6..=3).rev().map(|exponent| scaled(1.0, exponent));
    powers.into_iter().find(|level| values.iter().all(|value| is_multiple(value / level)))
}

/// Cells of equal width for a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bins {
    start: f64,
    width: f64,
    count: usize,
}

impl Bins {
    /// Over all of the span, about as many as `values` numbers fill. Where values lie on levels, each cell has the same
    /// number of them, and edges lie between two.
    pub(super) fn over(span: &Span, values: usize) -> Self {
        let most = (2.0 * (values as f64).cbrt()).clamp(8.0, FEW_LEVELS);
        let Range { start, end } = span.range;
        let Some(level) = span.level else {
            // An odd number: what is constant stands in the middle of the middle one.
            let count = most.round() as usize | 1;
            return Self { start, width: (end - start) / count as f64, count };
        };
        let (first, last) = ((start / level).ceil(), (end / level).floor());
        let levels = last - first + 1.0;
        let together = if levels <= FEW_LEVELS + 1.0 { 1.0 } else { (levels / most).ceil() };
        let count = (levels / together).ceil() as usize;
        Self { start: (first - 0.5) * level, width: together * level, count }
    }

    /// Edges of a cell.
    pub(super) fn edges(&self, cell: usize) -> Range<f64> {
        let edge = |cell: usize| self.start + cell as f64 * self.width;
        edge(cell)..edge(cell + 1)
    }

    /// The density of values in each cell: shares of all of them, per unit. Values beyond the cells count in none.
    pub(super) fn densities(&self, values: impl ExactSizeIterator<Item = f64>) -> Vec<f64> {
        let each = 1.0 / (values.len().max(1) as f64 * self.width);
        let mut densities = vec![0.0; self.count];
        for value in values {
            let cell = ((value - self.start) / self.width).floor();
            if (0.0..self.count as f64).contains(&cell) {
                densities[cell as usize] += each;
            }
        }
        densities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: Range<f64>, most: usize) -> (Vec<String>, String) {
        let axis = Axis::new(range, 0.0, most);
        (axis.ticks.into_iter().map(|(_, label)| label).collect(), axis.unit)
    }

    #[test]
    fn labels_are_short_in_any_units() {
        for (range, expected, unit) in [
            (-3.2..3.1, &["-2", "0", "2"][..], ""),
            (0.0..1.0, &["0", "0.5", "1.0"], ""),
            (12_000.0..31_000.0, &["15000", "20000", "25000", "30000"], ""),
            (12_341.0..12_346.5, &["12342", "12344", "12346"], ""),
            (1.2e5..4.1e5, &["2", "3", "4"], "x1e5"),
            (-3e-9..2.5e-9, &["-2", "0", "2"], "x1e-9"),
            (996.0..1003.0, &["996", "998", "1000", "1002"], ""),
            (1e6 - 3.0..1e6 + 3.0, &["-2", "0", "2"], "+1e6"),
            (-1e6 - 0.3..-1e6 + 0.3, &["-0.2", "0", "0.2"], "-1e6"),
            (5.0 - 2.5e-9..5.0 + 2.5e-9, &["-2", "0", "2"], "x1e-9 +5"),
            (1e9 - 6e3..1e9 + 6e3, &["-5000", "0", "5000"], "+1e9"),
            (-4e9..9e9, &["0", "5"], "x1e9"),
        ] {
            assert_eq!(labels(range.clone(), 4), (expected.iter().map(|&l| l.to_owned()).collect(), unit.to_owned()));
        }
    }

    #[test]
    fn a_label_with_its_unit_is_the_value() {
        for centre in [0.0, 1.0, -77.7, 1e6, 123_456.789, -3e12, 4e-7] {
            for reach in [1e-9, 3e-4, 0.7, 25.0, 1e4, 6e9] {
                let span = Span::of([centre - reach, centre + reach].into_iter());
                let axis = Axis::new(span.range.clone(), 0.0, 5);
                let (mut factor, mut offset) = (1.0, 0.0);
                for part in axis.unit.split_whitespace() {
                    match part.strip_prefix('x') {
                        Some(power) => factor = power.parse().expect("a number"),
                        None => offset = part.parse().expect("a number"),
                    }
                }
                assert!((1..=5).contains(&axis.ticks.len()), "{centre} {reach}: {axis:?}");
                let span = span.range.end - span.range.start;
                for (value, label) in &axis.ticks {
                    assert!(label.len() <= 7 && axis.range.contains(value), "{centre} {reach}: {axis:?}");
                    let told = offset + factor * label.parse::<f64>().expect("a number");
                    let rounding = 4.0 * f64::EPSILON * value.abs();
                    assert!((told - value).abs() <= 1e-9 * span + rounding, "{told} for {value}: {axis:?}");
                }
            }
        }
    }

    #[test]
    fn ticks_of_whole_numbers_are_whole_and_labels_do_not_touch() {
        let on = |range: Range<f64>, level, pixels| {
            Axis::on(&Span { range, level }, pixels, 9, |label| 8 * label.len() as i32).ticks
        };
        assert_eq!(on(-0.75..1.75, Some(1.0), 140), [(0.0, "0".to_owned()), (1.0, "1".to_owned())]);
        let labels = |range: Range<f64>, pixels| on(range, None, pixels).into_iter().map(|(_, label)| label);
        assert!(labels(10_000.0..80_000.0, 900).eq(["20000", "30000", "40000", "50000", "60000", "70000"]));
        assert!(labels(10_000.0..80_000.0, 170).eq(["20000", "40000", "60000"]));
        assert!(labels(-3.1..3.1, 140).eq(["-2", "0", "2"]));
    }

    #[test]
    fn spans_leave_out_outliers_but_no_level() {
        let mut values: Vec<f64> = (0..1000).map(|i| f64::from(i) / 999.0 + 0.000_123).collect();
        (values[3], values[4], values[5]) = (1e12, f64::NAN, f64::NEG_INFINITY);
        let span = Span::of(values.into_iter());
        assert!(span.range.start > -0.1 && span.range.start < 0.0 && span.range.end < 1.1, "{span:?}");
        assert!(span.holds(0.5) && !span.holds(1e12) && !span.holds(f64::NAN));

        let rare = Span::of((0..1000).map(|i| if i == 7 { 3.0 } else { 0.0 }));
        assert_eq!(rare, Span { range: -0.75..3.75, level: Some(1.0) });
        assert_eq!(Span::of([7.0; 9].into_iter()).range, 6.65..7.35);
        assert_eq!(Span::of([0.0].into_iter()).range, -1.0..1.0);
        assert_eq!(Span::of([f64::NAN].into_iter()).range, 0.0..1.0);
        let extreme = Span::of([f64::MAX, f64::MIN, 0.0].into_iter()).range;
        assert!((extreme.end - extreme.start).is_finite(), "{extreme:?}");
    }

    #[test]
    fn levels_are_found_through_the_rounding_of_f32() {
        let of = |values: &[f32]| Span::of(values.iter().map(|&value| f64::from(value))).level;
        assert_eq!(of(&[3.25, 3.26, 3.41, 2.9]), Some(0.01));
        assert_eq!(of(&[71.0, 4.0, -3.0]), Some(1.0));
        assert_eq!(of(&[1_234_561.0, 1_234_562.0]), Some(1.0));
        assert_eq!(of(&[0.123_456, 0.3, 17.654_321]), None);
        assert_eq!(of(&[1e-9, 3e-9]), None);
        assert_eq!(of(&[1.1]), None);
    }

    #[test]
    fn cells_of_whole_numbers_lie_around_them() {
        let whole = Span::of([0.0, 1.0, 1.0, 4.0].into_iter());
        let bins = Bins::over(&whole, 4);
        assert_eq!(bins, Bins { start: -0.5, width: 1.0, count: 5 });
        assert_eq!(bins.edges(4), 3.5..4.5);
        assert_eq!(bins.densities([0.0, 1.0, 1.0, 4.0, 9.0].into_iter()), [0.2, 0.4, 0.0, 0.0, 0.2]);
        let many = Span::of((0..1000).map(|i| f64::from(i % 100)));
        let bins = Bins::over(&many, 1000);
        assert!(bins.width.fract() == 0.0 && (bins.start - 0.5).fract() == 0.0 && bins.width > 1.0, "{bins:?}");
        let real = Span { range: 2.0..6.0, level: None };
        let bins = Bins::over(&real, 1000);
        assert!(bins.count == 21 && bins.edges(0).start == 2.0 && (bins.edges(20).end - 6.0).abs() < 1e-12);
        let half = bins.densities([2.1, 5.9, 7.0, f64::NAN].into_iter());
        assert!((half.iter().sum::<f64>() * bins.width - 0.5).abs() < 1e-12, "two of four: {half:?}");
    }
}
