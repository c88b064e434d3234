//! One column of data and of samples, and what all plots of both have in common.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Bins, Span};
use super::panel::{Panel, TICK_FONT, fitted, width_of, write};
use super::{Canvas, DATA_COLOR, Drawn, SAMPLES_COLOR};

/// Height of title, legend and note.
pub(super) const HEAD: i32 = 72;
/// Size of the names of axes.
pub(super) const NAME_FONT: u32 = 14;
const TITLE_FONT: u32 = 20;
/// More labels than this are no easier to read off.
const MOST_TICKS: usize = 6;
/// Pixels of a label of the vertical axis.
const LABEL_HEIGHT: i32 = 14;

/// Values of one column.
pub(super) struct Column<'a> {
    /// What it is called.
    pub(super) name: &'a str,
    /// Of the data; may be empty.
    pub(super) data: Vec<f64>,
    /// Of the samples.
    pub(super) samples: Vec<f64>,
    /// What is shown of it.
    pub(super) span: Span,
}

impl<'a> Column<'a> {
    /// The span is that of the data, or of the samples where there are none.
    pub(super) fn new(name: &'a str, data: Vec<f64>, samples: Vec<f64>) -> Self {
        let span = Span::of(if data.is_empty() { &samples } else { &data }.iter().copied());
        Self { name, data, samples, span }
    }

    /// An axis from left to right.
    pub(super) fn x_axis(&self, pixels: i32) -> Axis {
        Axis::on(&self.span, pixels, MOST_TICKS, |label| width_of(label, TICK_FONT))
    }

    /// An axis from the bottom up.
    pub(super) fn y_axis(&self, pixels: i32) -> Axis {
        Axis::on(&self.span, pixels, MOST_TICKS, |_| LABEL_HEIGHT)
    }

    /// Its histograms, ready to be drawn.
    pub(super) fn histogram(&self) -> Histogram {
        let fewest = [&self.data, &self.samples].map(Vec::len).into_iter().filter(|&count| count > 0).min();
        let bins = Bins::over(&self.span, fewest.unwrap_or(0));
        let densities = |values: &[f64]| (!values.is_empty()).then(|| bins.densities(values.iter().copied()));
        Histogram { bins, data: densities(&self.data), samples: densities(&self.samples) }
    }
}

/// Densities of a column, cell by cell.
pub(super) struct Histogram {
    bins: Bins,
    data: Option<Vec<f64>>,
    samples: Option<Vec<f64>>,
}

impl Histogram {
    /// The density at the upper end of the frame. Samples that all fall on one place must not flatten the data.
    pub(super) fn top(&self) -> f64 {
        let peak = |densities: &Option<Vec<f64>>| densities.iter().flatten().copied().fold(0.0, f64::max);
        let (data, samples) = (peak(&self.data), peak(&self.samples));
        let top = if data > 0.0 { samples.clamp(data, 3.0 * data) } else { samples };
        if top > 0.0 { 1.06 * top } else { 1.0 }
    }

    /// Data as an area, and the samples as a line over it.
    pub(super) fn draw(&self, panel: &Panel<'_, '_>) -> Drawn {
        if let Some(data) = &self.data {
            panel.draw_bars(&self.bins, data, DATA_COLOR)?;
        }
        if let Some(samples) = &self.samples {
            panel.draw_steps(&self.bins, samples, SAMPLES_COLOR)?;
        }
        Ok(())
    }
}

/// What stands above the panels: a title and a legend, and how many rows the panels leave out.
pub(super) struct Head<'a> {
    /// Heading; cut where it is too long.
    pub(super) title: &'a str,
    /// The end of the heading, never cut.
    pub(super) suffix: &'a str,
    /// Names of what is shown and their colours.
    pub(super) legend: &'a [(&'a str, RGBColor)],
    /// One sentence, or nothing.
    pub(super) note: &'a str,
}

impl Head<'_> {
    /// The width that legend and note need.
    pub(super) fn width(&self) -> i32 {
        let names = self.legend.iter().map(|(name, _)| 40 + width_of(name, NAME_FONT));
        36 + names.sum::<i32>() + width_of(self.note, NAME_FONT)
    }

    /// Draws it over all of the canvas' width.
    pub(super) fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        let width = canvas.dim_in_pixel().0 as i32 - 32;
        let title = fitted(self.title, self.suffix, TITLE_FONT, width);
        write(canvas, &title, (16, 12), TITLE_FONT, (HPos::Left, VPos::Top))?;
        let mut left = 16;
        for (name, color) in self.legend {
            canvas.draw(&Rectangle::new([(left, 45), (left + 14, 57)], color.filled()))?;
            write(canvas, name, (left + 20, 51), NAME_FONT, (HPos::Left, VPos::Center))?;
            left += 40 + width_of(name, NAME_FONT);
        }
        let note = fitted(self.note, "", NAME_FONT, width + 16 - left);
        write(canvas, &note, (left + 4, 51), NAME_FONT, (HPos::Left, VPos::Center))
    }
}

/// What is drawn, and its colours.
pub(super) fn legend(data: &[f64], samples: &[f64]) -> Vec<(&'static str, RGBColor)> {
    let entries = [("data", DATA_COLOR, data), ("samples", SAMPLES_COLOR, samples)];
    entries.into_iter().filter(|(.., values)| !values.is_empty()).map(|(name, color, _)| (name, color)).collect()
}

/// How many rows have a value that the columns' axes do not show; nothing where there are none.
pub(super) fn rows_outside(columns: &[&Column<'_>]) -> String {
    let count = |values: &dyn for<'c> Fn(&'c Column<'_>) -> &'c [f64]| {
        let rows = columns.first().map_or(0, |column| values(column).len());
        let is_outside = |row: &usize| columns.iter().any(|column| !column.span.holds(values(column)[*row]));
        ((0..rows).filter(is_outside).count(), rows)
    };
    let ((data, data_rows), (samples, sample_rows)) = (count(&|c| &c.data), count(&|c| &c.samples));
    match (data, samples) {
        (0, 0) => String::new(),
        (0, _) => format!("{samples} of {sample_rows} samples lie outside the frame"),
        (_, 0) => format!("{data} of {data_rows} rows of data lie outside the frame"),
        _ => format!("{samples} of {sample_rows} samples and {data} of {data_rows} rows of data lie outside the frame"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_outside_are_counted_once() {
        let line = |count: usize| (0..count).map(|i| i as f64 / 8.0 + 0.001_234_5).collect::<Vec<_>>();
        let (mut first, mut second) = (line(100), line(100));
        (first[3], second[3], first[5], second[9]) = (1e6, -1e6, f64::NAN, 1e6);
        let columns = [Column::new("a", line(100), first), Column::new("b", line(100), second)];
        let of = |columns: &[&Column<'_>]| rows_outside(columns);
        assert_eq!(of(&[&columns[0], &columns[1]]), "3 of 100 samples lie outside the frame");
        assert_eq!(of(&[&columns[0]]), "2 of 100 samples lie outside the frame");
        let mut data = line(1000);
        (data[1], data[2]) = (1e6, 1e6);
        let column = Column::new("a", data, line(10));
        assert_eq!(of(&[&column]), "2 of 1000 rows of data lie outside the frame");
        assert_eq!(of(&[&Column::new("a", line(10), line(10))]), "");
    }

    #[test]
    fn a_spike_of_samples_does_not_flatten_the_data() {
        let data: Vec<f64> = (0..1000).map(|i| f64::from(i) * 0.001_003).collect();
        let column = Column::new("a", data, vec![0.5; 1000]);
        let top = column.histogram().top();
        assert!((3.0..3.6).contains(&top), "about three times the density of 1: {top}");
    }
}
