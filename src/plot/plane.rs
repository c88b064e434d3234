//! Points of the plane beside their density or data, and densities side by side.

use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;

use super::{AXIS_COLOR, Canvas, Drawn, TRAIN_COLOR, draw, font};
use crate::error::Result;
use crate::image_grid::PngText;

type Plane<'a> = ChartContext<'a, BitMapBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What stands beside a scatter plot.
pub enum Beside<'a> {
    /// Logarithm of the true density at a point.
    LogDensity(&'a dyn Fn([f64; 2]) -> f64),
    /// Points of the data.
    Points(&'a [[f32; 2]]),
}

/// Draws points of the plane on the left, and on the right the density or the data that they should follow.
///
/// Both sides show the same square, which holds all but the outermost points.
///
/// # Errors
/// As [`crate::image_grid::check_picture`] and [`crate::files::write_atomically`].
pub fn scatter_beside_density(
    path: &Path,
    samples: &[[f32; 2]],
    beside: &Beside<'_>,
    title: &str,
    text: PngText<'_>,
) -> Result<()> {
    let reach = match beside {
        Beside::LogDensity(_) => half_side(samples),
        Beside::Points(points) => half_side(samples).max(half_side(points)),
    };
    draw(path, (1000, 560), text, |canvas| {
        let canvas = canvas.margin(8, 4, 0, 0).titled(title, font(22))?;
        let (left, right) = canvas.split_horizontally(500);
        scatter(&left, samples, reach, "samples")?;
        match beside {
            Beside::LogDensity(log_density) => heat_map(&right, log_density, reach),
            Beside::Points(points) => scatter(&right, points, reach, "data"),
        }
    })
}

/// A square part of the plane around the origin.
fn plane<'a>(canvas: &Canvas<'a>, reach: f64, caption: &str) -> Drawn<Plane<'a>> {
    let mut chart = ChartBuilder::on(canvas)
        .margin(10)
        .margin_right(18)
        .caption(caption, font(17))
        .x_label_area_size(30)
        .y_label_area_size(36)
        .build_cartesian_2d(-reach..reach, -reach..reach)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(AXIS_COLOR)
        .label_style(font(14))
        .x_labels(7)
        .y_labels(7)
        .draw()?;
    Ok(chart)
}

fn scatter(canvas: &Canvas<'_>, points: &[[f32; 2]], reach: f64, caption: &str) -> Drawn {
    let mut chart = plane(canvas, reach, caption)?;
    let shown = points.iter().map(|point| point.map(f64::from)).filter(|point| point.iter().all(|v| v.abs() < reach));
    // The more points there are, the fainter each: dense parts stay darker than thin ones.
    let opacity = (1000.0 / points.len() as f64).clamp(0.1, 0.7);
    let style = TRAIN_COLOR.mix(opacity).filled();
    chart.draw_series(shown.map(|[x, y]| Circle::new((x, y), 2, style)))?;
    Ok(())
}

fn heat_map(canvas: &Canvas<'_>, log_density: impl Fn([f64; 2]) -> f64, reach: f64) -> Drawn {
    const CELLS: usize = 220;
    let mut chart = plane(canvas, reach, "density")?;
    let edge = |i: usize| reach * (2.0 * i as f64 / CELLS as f64 - 1.0);
    let middle = |i: usize| 0.5 * (edge(i) + edge(i + 1));
    let cells = || (0..CELLS).flat_map(|i| (0..CELLS).map(move |j| (i, j)));
    let densities: Vec<f64> = cells().map(|(i, j)| log_density([middle(i), middle(j)]).exp()).collect();
    let largest = densities.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    chart.draw_series(cells().zip(&densities).map(|((i, j), density)| {
        // The square root keeps thin parts visible beside sharp peaks.
        let color = ViridisRGB.get_color((density / largest).sqrt());
        Rectangle::new([(edge(i), edge(j)), (edge(i + 1), edge(j + 1))], color.filled())
    }))?;
    Ok(())
}

/// Half the side of a square around the origin that holds 99.9 percent of the coordinates, with a margin.
fn half_side(points: &[[f32; 2]]) -> f64 {
    let mut sizes: Vec<f32> = points.iter().flatten().map(|v| v.abs()).filter(|v| v.is_finite()).collect();
    sizes.sort_by(f32::total_cmp);
    let Some(last) = sizes.len().checked_sub(1) else { return 1.0 };
    (1.08 * f64::from(sizes[last * 999 / 1000])).max(1e-6)
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
/// As [`crate::image_grid::check_picture`] and [`crate::files::write_atomically`].
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

    use super::super::tests::picture;
    use crate::config::DataConfig;
    use crate::data;
    use crate::image_grid::tests::decode;

    #[test]
    fn points_are_drawn_beside_their_density_or_data() {
        for name in data::Density::TOYS {
            let toy = data::load(&DataConfig { spec: format!("toy:{name}"), ..Default::default() }, 4).expect("known");
            let mut points = vec![[0.0; 2]; 4000];
            let indices: Vec<usize> = (0..4000).collect();
            toy.train.gather(&indices, points.as_flattened_mut()).expect("in memory");
            let density = toy.density.expect("generated");
            let (_folder, path) = picture(&format!("{name}.png"));
            let beside = Beside::LogDensity(&|x| density.log_density(&x));
            scatter_beside_density(&path, &points, &beside, &format!("toy:{name}"), &[]).expect("written");
            let (width, _, pixels) = decode(&path);
            let inked = |side: Range<usize>| {
                let colored = |p: &[u8]| p.iter().max() > p.iter().min();
                pixels.chunks_exact(3).enumerate().filter(|(i, p)| side.contains(&(i % width)) && colored(p)).count()
            };
            assert!(inked(0..500) > 3000, "{name}: points");
            assert!(inked(500..1000) > 150_000, "{name}: density");
        }
        let (_folder, path) = picture("data.png");
        let (few, one) = ([[0.5, 0.5], [f32::NAN, 1.0], [-3.0, 2.0]], [[1.0, -1.0]]);
        scatter_beside_density(&path, &few, &Beside::Points(&one), "points", &[]).expect("written");
        scatter_beside_density(&path, &[], &Beside::Points(&[]), "nothing", &[]).expect("written");
    }
}
