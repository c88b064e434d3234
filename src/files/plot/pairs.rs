//! Samples over data, whatever the number of columns: every pair of columns, and each column alone.

use std::path::Path;

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::columns::{Column, HEAD, Head, NAME_FONT, legend, rows_outside};
use super::panel::{Dots, Panel, TICK_FONT, fitted, width_of, write, write_upwards};
use super::{Canvas, DATA_COLOR, Drawn, SAMPLES_COLOR, draw};
use crate::error::Result;
use crate::files::image_grid::PngText;

/// More columns than this have no room.
const MOST_COLUMNS: usize = 8;
/// More dots of a set change nothing but the time it takes.
const MOST_DOTS: usize = 10_000;
/// How much of the data samples may hide.
const SAMPLES_COVER: f32 = 0.68;
/// Widths of all panels together, and of one where there are few.
const ALL_PANELS: i32 = 1160;
const LARGEST_PANEL: i32 = 300;
const GAP: i32 = 8;
/// Room for ticks and names below.
const FOOT: i32 = 52;

/// Samples of a model, and the data that they should look like.
#[derive(Debug, Clone, Copy)]
pub struct PairPlot<'a> {
    /// Rows of data, (N, D); may be empty.
    pub data: &'a [f64],
    /// Rows of samples, (M, D); may be empty.
    pub samples: &'a [f64],
    /// Name of each column, D of them.
    pub names: &'a [String],
    /// Heading.
    pub title: &'a str,
}

/// Draws samples over data for every pair of the first eight columns, and histograms of each of these columns alone.
///
/// An axis shows 99 percent of the data with a margin, or of the samples where there are no data; how many rows lie
/// outside is written above. Where a column's values lie on levels, such as whole numbers, each has a cell of the
/// histogram. At most 10,000 rows of each become dots, while histograms and numbers are of all.
///
/// # Errors
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
///
/// # Panics
/// When there is no column, or the values are no whole rows.
pub fn pair_plot(path: &Path, plot: &PairPlot<'_>, text: PngText<'_>) -> Result<()> {
    let dimensions = plot.names.len();
    assert!(dimensions > 0, "a table has columns");
    for set in [plot.data, plot.samples] {
        assert!(set.len().is_multiple_of(dimensions), "{} values make no rows of {dimensions}", set.len());
    }
    let shown = dimensions.min(MOST_COLUMNS);
    let side = (ALL_PANELS / shown as i32 - GAP).min(LARGEST_PANEL);
    let cells: Vec<Cell<'_>> = plot.names[..shown]
        .iter()
        .enumerate()
        .map(|(d, name)| {
            let values = |set: &[f64]| set.iter().copied().skip(d).step_by(dimensions).collect();
            Cell::new(Column::new(name, values(plot.data), values(plot.samples)), side)
        })
        .collect();
    let columns: Vec<&Column<'_>> = cells.iter().map(|cell| &cell.column).collect();
    let head = Head {
        title: plot.title,
        suffix: &if shown < dimensions { format!(": first {shown} of {dimensions} columns") } else { String::new() },
        legend: &legend(plot.data, plot.samples),
        note: &rows_outside(&columns),
    };
    let labels = cells.iter().skip(1).flat_map(|cell| &cell.y.ticks).map(|(_, label)| width_of(label, TICK_FONT));
    let left = 46 + labels.max().unwrap_or(0);
    let panels = shown as i32 * (side + GAP);
    // A single panel may be too narrow for what stands above it.
    let size = ((left + panels + 14).max(head.width()) as u32, (HEAD + panels + FOOT) as u32);
    draw(path, size, text, |canvas| {
        head.draw(canvas)?;
        for (row, below) in cells.iter().enumerate() {
            for (column, across) in cells[..=row].iter().enumerate() {
                let [x, y] = [left + column as i32 * (side + GAP), HEAD + row as i32 * (side + GAP)];
                draw_cell(canvas, across, below, [x, y, x + side, y + side], [column == 0, row + 1 == shown])?;
            }
        }
        Ok(())
    })
}

/// One column with its axes on a panel.
struct Cell<'a> {
    column: Column<'a>,
    x: Axis,
    y: Axis,
}

impl<'a> Cell<'a> {
    fn new(column: Column<'a>, side: i32) -> Self {
        Self { x: column.x_axis(side), y: column.y_axis(side), column }
    }
}

/// A histogram where both columns are the same one, else a scatter plot; with names and ticks where it is the leftmost
/// or the lowest.
fn draw_cell(
    canvas: &Canvas<'_>,
    across: &Cell<'_>,
    below: &Cell<'_>,
    frame: [i32; 4],
    [is_leftmost, is_lowest]: [bool; 2],
) -> Drawn {
    let [left, top, right, bottom] = frame;
    let is_single = std::ptr::eq(across, below);
    if is_single {
        let histogram = across.column.histogram();
        let panel = Panel { canvas, frame, x: &across.x, y: 0.0..histogram.top() };
        histogram.draw(&panel)?;
        panel.draw_frame()?;
    } else {
        let panel = Panel { canvas, frame, x: &across.x, y: below.y.range.clone() };
        scatter(&panel, &across.column, &below.column)?;
        panel.draw_frame()?;
        if is_leftmost {
            panel.draw_y_ticks(&below.y)?;
            let name = fitted(below.column.name, &below.y.suffix(), NAME_FONT, bottom - top);
            write_upwards(canvas, &name, (18, (top + bottom) / 2), NAME_FONT)?;
        }
    }
    if is_lowest {
        Panel { canvas, frame, x: &across.x, y: 0.0..1.0 }.draw_x_ticks()?;
        let name = fitted(across.column.name, &across.x.suffix(), NAME_FONT, right - left);
        write(canvas, &name, ((left + right) / 2, bottom + 26), NAME_FONT, (HPos::Center, VPos::Top))?;
    }
    Ok(())
}

/// Dots of the data, and of the samples over them.
fn scatter(panel: &Panel<'_, '_>, across: &Column<'_>, below: &Column<'_>) -> Drawn {
    let points =
        |x: &[f64], y: &[f64]| x.iter().copied().zip(y.iter().copied()).take(MOST_DOTS).map(|(x, y)| [x, y]).collect();
    let (data, samples): (Vec<_>, Vec<_>) =
        (points(&across.data, &below.data), points(&across.samples, &below.samples));
    let cover = if data.is_empty() { 1.0 } else { SAMPLES_COVER };
    panel.draw_dots(&[
        Dots { points: &data, color: DATA_COLOR, cover: 1.0 },
        Dots { points: &samples, color: SAMPLES_COLOR, cover },
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hued, picture};
    use super::*;
    use crate::files::image_grid::tests::decode;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|d| format!("column {d}")).collect()
    }

    /// Rows of numbers without pattern in [-1, 1], in units of their own.
    fn rows(count: usize, dimensions: usize, unit: impl Fn(usize, f64) -> f64) -> Vec<f64> {
        let value = |i: usize| ((i * 7919 + i * i * 104_729) % 10_007) as f64 / 5003.5 - 1.0;
        (0..count * dimensions).map(|i| unit(i % dimensions, value(i))).collect()
    }

    /// Draws, and gives the size with the numbers of orange and blue pixels in the panel of (row, column).
    fn drawn(plot: &PairPlot<'_>) -> ((usize, usize), impl Fn(usize, usize) -> [usize; 2] + use<>) {
        let (_folder, path) = picture(&format!("{}.png", plot.title));
        pair_plot(&path, plot, &[]).expect("written");
        let (width, height, pixels) = decode(&path);
        let shown = plot.names.len().min(MOST_COLUMNS);
        let side = (ALL_PANELS / shown as i32 - GAP).min(LARGEST_PANEL) as usize;
        let pitch = side + GAP as usize;
        let count = move |row: usize, column: usize| {
            let left = width - 14 - (shown - column) * pitch;
            let top = HEAD as usize + row * pitch;
            hued(&pixels, width, left..left + side, top..top + side)
        };
        ((width, height), count)
    }

    #[test]
    fn every_pair_and_column_shows_data_and_samples() {
        for dimensions in [3, 13] {
            let (data, samples) = (rows(400, dimensions, |_, v| v), rows(300, dimensions, |_, v| 0.8 * v));
            let names = names(dimensions);
            let title = &format!("pairs {dimensions}");
            let (size, count) = drawn(&PairPlot { data: &data, samples: &samples, names: &names, title });
            let shown = dimensions.min(8);
            assert!(size.0 > 900 && size.1 > 900 && size.0.max(size.1) < 1400, "{size:?}");
            for (row, column) in (0..shown).flat_map(|row| (0..shown).map(move |column| (row, column))) {
                let [orange, blue] = count(row, column);
                let is_drawn = column <= row;
                assert_eq!([orange > 80, blue > 80], [is_drawn; 2], "{row} {column}: {orange} {blue}");
            }
        }
    }

    #[test]
    fn samples_beyond_the_data_are_left_out() {
        let data = rows(400, 2, |_, v| v);
        let far = PairPlot { data: &data, samples: &rows(400, 2, |_, v| 40.0 + v), names: &names(2), title: "far" };
        let (_, count) = drawn(&far);
        let [orange, blue] = count(1, 0);
        assert!(orange > 400 && blue == 0, "{orange} {blue}");
        let alone = PairPlot { data: &[], ..far };
        let [orange, blue] = drawn(&alone).1(1, 0);
        assert!(orange == 0 && blue > 400, "the samples' own axes where there are no data: {orange} {blue}");
    }

    #[test]
    fn any_units_can_be_drawn() {
        let unit = |d: usize, v: f64| match d {
            0 => 1e6 + v,
            1 => 1e-9 * v,
            2 => -1e9 * v,
            3 => 273.15,
            4 => f64::from(u8::from(v > 0.5)),
            5 => 1e300 * v,
            6 => 0.0,
            _ => (20.0 * v).round(),
        };
        let (data, samples) = (rows(300, 8, unit), rows(200, 8, unit));
        let (_, count) = drawn(&PairPlot { data: &data, samples: &samples, names: &names(8), title: "units" });
        for (row, column) in (0..8).flat_map(|row| (0..=row).map(move |column| (row, column))) {
            let [orange, blue] = count(row, column);
            assert!(orange + blue > 0, "{row} {column} is empty");
        }
    }

    #[test]
    fn one_row_or_none_and_long_names_can_be_drawn() {
        let (_folder, path) = picture("one-row.png");
        let long = "\u{3c3} of a column with a name that is longer than its panel is wide".repeat(4);
        let (short, long) = (names(3), [long]);
        for row in [[f64::NAN; 3], [f64::INFINITY, 0.0, f64::MAX], [5.0, f64::MIN_POSITIVE, f64::MIN], [1.0, 2.0, 3.0]]
        {
            for (data, samples) in [(&row[..], &row[..]), (&row[..], &[][..]), (&[][..], &row[..]), (&[][..], &[][..])]
            {
                for names in [&short[..], &long[..]] {
                    pair_plot(&path, &PairPlot { data, samples, names, title: &long[0] }, &[]).expect("written");
                }
            }
        }
        let (width, height, _) = decode(&path);
        assert!(width < 700 && height < 500, "a note, and one panel: {width} x {height}");
    }
}
