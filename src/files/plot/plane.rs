//! Points of the plane beside their density or data, and densities side by side.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Span};
use super::columns::{Column, HEAD, Head, NAME_FONT, rows_outside};
use super::panel::{Dots, Panel, TICK_FONT, fitted, width_of, write, write_upwards};
use super::{Canvas, DATA_COLOR, Drawn, SAMPLES_COLOR, draw, font};
use crate::error::Result;
use crate::files::image_grid::PngText;

/// What stands beside a scatter plot.
pub enum Beside<'a> {
    /// Logarithm of the true density at a point.
    LogDensity(&'a dyn Fn([f64; 2]) -> f64),
    /// Points of the data.
    Points(&'a [[f64; 2]]),
}

const SIZE: (i32, i32) = (1000, 566);
/// Pixels of a side of either panel.
const SIDE: i32 = 404;
const CAPTION_FONT: u32 = 16;
/// Axes whose spans differ by less than this factor show the same span, so that circles stay round.
const MOST_ASPECT: f64 = 2.5;

/// Draws points of the plane on the left, and on the right the density or the data that they should follow.
///
/// Both sides show the same: beside a density a square around the origin that holds all but the outermost points; beside
/// data 99 percent of theirs with a margin, on axes in the units of each column. How many rows lie outside is written above.
///
/// # Errors
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
pub fn scatter_beside_density(
    path: &Path,
    samples: &[[f64; 2]],
    beside: &Beside<'_>,
    names: [&str; 2],
    title: &str,
    text: PngText<'_>,
) -> Result<()> {
    let data = if let Beside::Points(points) = beside { points } else { &[][..] };
    let mut columns = [0, 1].map(|d| {
        let values = |points: &[[f64; 2]]| points.iter().map(|point| point[d]).collect();
        Column::new(names[d], values(data), values(samples))
    });
    if matches!(beside, Beside::LogDensity(_)) {
        let reach = half_side(samples);
        columns.iter_mut().for_each(|column| column.span = Span { range: -reach..reach, level: None });
    } else {
        even_out(&mut columns);
    }
    let note = rows_outside(&[&columns[0], &columns[1]]);
    let axes = [columns[0].x_axis(SIDE), columns[1].y_axis(SIDE)];
    draw(path, (SIZE.0 as u32, SIZE.1 as u32), text, |canvas| {
        Head { title, suffix: "", legend: &[], note: &note }.draw(canvas)?;
        plane(canvas, 0, &axes, names, "samples", |panel| {
            panel.draw_dots(&[Dots { points: samples, color: SAMPLES_COLOR, cover: 1.0 }])
        })?;
        match beside {
            Beside::LogDensity(log_density) => {
                plane(canvas, 1, &axes, names, "density", |panel| heat_map(panel, log_density))
            }
            Beside::Points(points) => plane(canvas, 1, &axes, names, "data", |panel| {
                panel.draw_dots(&[Dots { points, color: DATA_COLOR, cover: 1.0 }])
            }),
        }
    })
}

/// Widens the smaller of two spans of about the same size.
fn even_out(columns: &mut [Column<'_>; 2]) {
    let lengths = [0, 1].map(|d| columns[d].span.range.end - columns[d].span.range.start);
    let longest = lengths[0].max(lengths[1]);
    if longest <= MOST_ASPECT * lengths[0].min(lengths[1]) {
        for (column, length) in columns.iter_mut().zip(lengths) {
            let range = &mut column.span.range;
            *range = range.start - 0.5 * (longest - length)..range.end + 0.5 * (longest - length);
        }
    }
}

/// A part of the plane with its axes, the left or the right one.
fn plane(
    canvas: &Canvas<'_>,
    number: i32,
    axes: &[Axis; 2],
    names: [&str; 2],
    caption: &str,
    body: impl FnOnce(&Panel<'_, '_>) -> Drawn,
) -> Drawn {
    let [x, y] = axes;
    let right = (number + 1) * SIZE.0 / 2 - 18;
    let (left, top) = (right - SIDE, HEAD + 24);
    let panel = Panel { canvas, frame: [left, top, right, top + SIDE], x, y: y.range.clone() };
    let (middle, height) = ((left + right) / 2, top + SIDE / 2);
    body(&panel)?;
    panel.draw_frame()?;
    panel.draw_x_ticks()?;
    panel.draw_y_ticks(y)?;
    write(canvas, caption, (middle, top - 8), CAPTION_FONT, (HPos::Center, VPos::Bottom))?;
    let [across, up] = [(x, names[0]), (y, names[1])].map(|(axis, name)| fitted(name, &axis.suffix(), NAME_FONT, SIDE));
    write(canvas, &across, (middle, top + SIDE + 28), NAME_FONT, (HPos::Center, VPos::Top))?;
    let labels = y.ticks.iter().map(|(_, label)| width_of(label, TICK_FONT)).max().unwrap_or(0);
    write_upwards(canvas, &up, (left - 24 - labels, height), NAME_FONT)
}

fn heat_map(panel: &Panel<'_, '_>, log_density: impl Fn([f64; 2]) -> f64) -> Drawn {
    /// Pixels of a side of a cell.
    const CELL: i32 = 2;
    let [left, top, ..] = panel.frame;
    let cells = SIDE / CELL;
    let share = |cell: i32| (f64::from(cell) + 0.5) / f64::from(cells);
    let x = |column: i32| panel.x.range.start + share(column) * (panel.x.range.end - panel.x.range.start);
    let y = |row: i32| panel.y.end - share(row) * (panel.y.end - panel.y.start);
    let places = || (0..cells).flat_map(|row| (0..cells).map(move |column| (row, column)));
    let densities: Vec<f64> = places().map(|(row, column)| log_density([x(column), y(row)]).exp()).collect();
    let largest = densities.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    for ((row, column), density) in places().zip(&densities) {
        // The square root keeps thin parts visible beside sharp peaks.
        let color = ViridisRGB.get_color((density / largest).sqrt());
        let corner = (left + CELL * column, top + CELL * row);
        panel.canvas.draw(&Rectangle::new([corner, (corner.0 + CELL, corner.1 + CELL)], color.filled()))?;
    }
    Ok(())
}

/// Half the side of a square around the origin that holds 99.9 percent of the coordinates, with a margin.
fn half_side(points: &[[f64; 2]]) -> f64 {
    let mut sizes: Vec<f64> = points.iter().flatten().map(|v| v.abs()).filter(|v| v.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    let Some(last) = sizes.len().checked_sub(1) else { return 1.0 };
    (1.08 * sizes[last * 999 / 1000]).max(1e-6)
}

/// A density on square cells.
pub struct HeatMap<'a> {
    /// Heading.
    pub title: String,
    /// Cells on a side.
    pub side: usize,
    /// (columns, rows) from the lower left: 0 for nothing, 255 for the most.
    pub greys: &'a [u8],
}

/// Draws densities side by side, four in a row, all in the same colours.
///
/// # Errors
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
pub fn heat_maps(path: &Path, maps: &[HeatMap<'_>], title: &str, text: PngText<'_>) -> Result<()> {
    const COLUMNS: usize = 4;
    const PIXELS: u32 = 240;
    let rows = maps.len().div_ceil(COLUMNS) as u32;
    let heading = 26;
    draw(path, (COLUMNS as u32 * (PIXELS + 12) + 12, 44 + rows * (PIXELS + heading + 8)), text, |canvas| {
        canvas.draw(&Text::new(title.to_owned(), (14, 12), font(20)))?;
        for (number, map) in maps.iter().enumerate() {
            let left = 12 + (number % COLUMNS) as i32 * (PIXELS as i32 + 12);
            let top = 44 + (number / COLUMNS) as i32 * (PIXELS + heading + 8) as i32;
            canvas.draw(&Text::new(map.title.clone(), (left, top + 4), font(15)))?;
            let cell = |pixel: u32| pixel as usize * map.side / PIXELS as usize;
            for (x, y) in (0..PIXELS).flat_map(|x| (0..PIXELS).map(move |y| (x, y))) {
                let grey = map.greys[cell(x) * map.side + cell(PIXELS - 1 - y)];
                let color = ViridisRGB.get_color(f64::from(grey) / 255.0);
                canvas.draw_pixel((left + x as i32, top + heading as i32 + y as i32), &color)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    use super::super::tests::{hued, picture};
    use crate::data;
    use crate::data::DataConfig;
    use crate::files::image_grid::tests::decode;

    #[test]
    fn points_are_drawn_beside_their_density_or_data() {
        for name in data::Density::TOYS {
            let toy = data::load(&DataConfig { spec: format!("toy:{name}"), ..Default::default() }, 4).expect("known");
            let values = toy.train.first(4000).expect("in memory");
            let points: Vec<[f64; 2]> =
                values.as_chunks().0.iter().map(|point: &[f32; 2]| point.map(f64::from)).collect();
            let density = toy.density.expect("generated");
            let (_folder, path) = picture(&format!("{name}.png"));
            let beside = Beside::LogDensity(&|x| density.log_density(&x));
            scatter_beside_density(&path, &points, &beside, ["x1", "x2"], &format!("toy:{name}"), &[])
                .expect("written");
            let (width, _, pixels) = decode(&path);
            let inked = |side: Range<usize>| {
                let colored = |p: &[u8]| p.iter().max() > p.iter().min();
                pixels.chunks_exact(3).enumerate().filter(|(i, p)| side.contains(&(i % width)) && colored(p)).count()
            };
            assert!(inked(0..500) > 3000, "{name}: points");
            assert!(inked(500..1000) > 150_000, "{name}: density");
        }
    }

    #[test]
    fn points_and_data_have_axes_in_their_own_units() {
        let (_folder, path) = picture("data.png");
        let mut data: Vec<[f64; 2]> = (0..900).map(|i| f64::from(i) * 0.1).map(|t| [t.cos(), t.sin()]).collect();
        let draw = |samples: &[[f64; 2]], data: &[[f64; 2]]| {
            scatter_beside_density(&path, samples, &Beside::Points(data), ["length", "width"], "points", &[])
                .expect("written");
            let (width, height, pixels) = decode(&path);
            [0..500, 500..1000].map(|side| hued(&pixels, width, side, 0..height))
        };
        let [[orange, samples], [shown, blue]] = draw(&data[..300], &data);
        assert!(samples > 500 && shown > 1000 && orange == 0 && blue == 0, "samples left, data right");
        data.iter_mut().for_each(|point| *point = [1e6 + point[0], 1e-9 * point[1]]);
        let [[_, samples], [shown, _]] = draw(&data, &data);
        assert!(samples > 1000 && shown > 1000, "the same in other units");
        assert_eq!(draw(&[[0.0; 2]], &data)[0], [0, 0], "far outside");
        draw(&[[0.5, 0.5], [f64::NAN, 1.0], [-3.0, 2.0]], &[[1.0, -1.0]]);
        draw(&[], &[]);
    }

    #[test]
    fn spans_of_about_the_same_size_become_equal() {
        let column = |end: f64| Column::new("x", vec![0.003_217, end], vec![]);
        let mut near = [column(1.0), column(2.0)];
        even_out(&mut near);
        let lengths = near.map(|column| column.span.range.end - column.span.range.start);
        assert!((lengths[0] - lengths[1]).abs() < 1e-12, "{lengths:?}");
        let mut apart = [column(1.0), column(9.0)];
        even_out(&mut apart);
        assert_eq!(apart[0].span, column(1.0).span);
    }
}
