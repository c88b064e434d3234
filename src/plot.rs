//! Plots: loss curves, points of the plane beside their density, and histograms.

use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use png::ColorType;

use crate::error::{Error, Result};
use crate::image_grid::{PngText, write_png};

type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Plane<'a> = ChartContext<'a, BitMapBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T = ()> = Result<T, Box<dyn std::error::Error>>;

const FONT: &[u8] = include_bytes!("../assets/fonts/DejaVuSans-ascii.ttf");

const TRAIN_COLOR: RGBColor = RGBColor(31, 103, 178);
const HELD_OUT_COLOR: RGBColor = RGBColor(214, 96, 20);
const GRID_COLOR: RGBColor = RGBColor(228, 228, 228);
const AXIS_COLOR: RGBColor = RGBColor(90, 90, 90);

/// What stands beside a scatter plot.
pub enum Beside<'a> {
    /// Logarithm of the true density at a point.
    LogDensity(&'a dyn Fn([f64; 2]) -> f64),
    /// Points of the data.
    Points(&'a [[f32; 2]]),
}

/// Draws training losses, as they are (light) and smoothed, and held-out losses over the steps.
///
/// The losses' range leaves out the few largest, so that a huge first loss does not flatten the rest; values that are
/// not finite are left out. Losses may be negative.
///
/// # Errors
/// As [`crate::files::write_atomically`].
pub fn loss_curve(
    path: &Path,
    train: &[(u64, f64)],
    held_out: &[(u64, f64)],
    title: &str,
    text: PngText<'_>,
) -> Result<()> {
    let finite = |losses: &[(u64, f64)]| -> Vec<(f64, f64)> {
        losses.iter().filter(|(_, loss)| loss.is_finite()).map(|&(step, loss)| (step as f64, loss)).collect()
    };
    let (train, held_out) = (finite(train), finite(held_out));
    draw(path, (960, 560), text, |canvas| {
        let all = || train.iter().chain(&held_out);
        let last = all().map(|point| point.0).fold(1.0, f64::max);
        let range = robust_range(all().map(|point| point.1).collect());
        let mut chart = ChartBuilder::on(canvas)
            .margin(18)
            .caption(title, font(22))
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..last, range.clone())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID_COLOR)
            .axis_style(AXIS_COLOR)
            .label_style(font(14))
            .axis_desc_style(font(16))
            .x_desc("step")
            .y_desc("loss")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .draw()?;
        chart.draw_series(LineSeries::new(train.iter().copied(), TRAIN_COLOR.mix(0.25)))?;
        chart
            .draw_series(LineSeries::new(smoothed(&train, &range), TRAIN_COLOR.stroke_width(2)))?
            .label("training, smoothed")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], TRAIN_COLOR.stroke_width(2)));
        if !held_out.is_empty() {
            chart
                .draw_series(
                    LineSeries::new(held_out.iter().copied(), HELD_OUT_COLOR.filled().stroke_width(2)).point_size(3),
                )?
                .label("held out")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], HELD_OUT_COLOR.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(12)
            .legend_area_size(30)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID_COLOR)
            .label_font(font(15))
            .draw()?;
        Ok(())
    })
}

/// Draws points of the plane on the left, and on the right the density or the data that they should follow.
///
/// Both sides show the same square, which holds all but the outermost points.
///
/// # Errors
/// As [`crate::files::write_atomically`].
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

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&RGBColor(40, 40, 40))
}

/// Draws on a white canvas in memory and writes it as PNG.
fn draw(
    path: &Path,
    (width, height): (u32, u32),
    text: PngText<'_>,
    body: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Result<()> {
    register();
    let mut pixels = vec![255; (width * height * 3) as usize];
    {
        let canvas = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        body(&canvas).and_then(|()| Ok(canvas.present()?)).map_err(|e| Error::Failed(format!("cannot plot: {e}")))?;
    }
    write_png(path, (width as usize, height as usize), ColorType::Rgb, &pixels, text)
}

/// Makes the embedded font known, once.
fn register() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        assert!(register_font("sans-serif", FontStyle::Normal, FONT).is_ok(), "the embedded font must be whole");
    });
}

/// One statistic of several sets.
pub struct Histogram<'a> {
    /// Heading.
    pub title: String,
    /// Values of each set; the first one is drawn as an area, the others as lines over it.
    pub sets: Vec<(&'a str, Vec<f64>)>,
}

/// Draws histograms, four in a row, each over the range that holds all but a few values of its sets, but no more than
/// four times the width of the first set beyond it; what lies farther out counts in the outermost cells. All have the same
/// sets.
///
/// # Errors
/// As [`crate::files::write_atomically`].
pub fn histograms(path: &Path, histograms: &[Histogram<'_>], title: &str, text: PngText<'_>) -> Result<()> {
    const COLUMNS: usize = 4;
    let rows = histograms.len().div_ceil(COLUMNS);
    draw(path, (1360, 76 + 230 * rows as u32), text, |canvas| {
        let canvas = canvas.margin(6, 4, 0, 0).titled(title, font(20))?;
        let (legend, panels) = canvas.split_vertically(26);
        let names = histograms.first().map(|histogram| &histogram.sets);
        draw_legend(&legend, names.into_iter().flatten().map(|(name, _)| *name))?;
        for (panel, histogram) in panels.split_evenly((rows, COLUMNS)).iter().zip(histograms) {
            draw_histogram(panel, histogram)?;
        }
        Ok(())
    })
}

fn draw_histogram(canvas: &Canvas<'_>, histogram: &Histogram<'_>) -> Drawn {
    const CELLS: usize = 40;
    let finite = |values: &[f64]| values.iter().copied().filter(|value| value.is_finite()).collect::<Vec<_>>();
    let all = central_range(histogram.sets.iter().flat_map(|(_, values)| finite(values)).collect());
    // The first set must not shrink to a line where others reach far.
    let first = histogram.sets.first().map(|(_, values)| finite(values)).filter(|values| !values.is_empty());
    let first = first.map_or(all.clone(), central_range);
    let reach = 4.0 * (first.end - first.start).max(0.01 * (all.end - all.start));
    let range = all.start.max(first.start - reach)..all.end.min(first.end + reach);
    let width = (range.end - range.start) / CELLS as f64;
    let shares = |values: &[f64]| {
        let mut shares = [0.0; CELLS];
        for value in values.iter().filter(|value| value.is_finite()) {
            let cell = ((value - range.start) / width).clamp(0.0, (CELLS - 1) as f64) as usize;
            shares[cell] += 1.0 / values.len() as f64;
        }
        shares
    };
    let shares: Vec<[f64; CELLS]> = histogram.sets.iter().map(|(_, values)| shares(values)).collect();
    // One cell with nearly all of a set would flatten the others.
    let top = shares.iter().flatten().copied().fold(0.02, f64::max).min(0.5);
    let mut chart = ChartBuilder::on(canvas)
        .margin(6)
        .margin_right(12)
        .caption(&histogram.title, font(14))
        .x_label_area_size(22)
        .build_cartesian_2d(range.clone(), 0.0..1.05 * top)?;
    chart.configure_mesh().disable_mesh().axis_style(AXIS_COLOR).label_style(font(11)).x_labels(5).draw()?;
    for (set, shares) in shares.iter().enumerate() {
        let edge = |cell: usize| range.start + cell as f64 * width;
        if set == 0 {
            let style = set_color(0).mix(0.45).filled();
            let bars = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
            let bar = |(cell, &share): (usize, &f64)| {
                Rectangle::new([(edge(cell), 0.0), (edge(cell + 1), share.min(top))], style)
            };
            chart.draw_series(bars.map(bar))?;
        } else {
            let corners = shares
                .iter()
                .enumerate()
                .flat_map(|(cell, share)| [(edge(cell), share.min(top)), (edge(cell + 1), share.min(top))]);
            chart.draw_series(LineSeries::new(corners, set_color(set).stroke_width(2)))?;
        }
    }
    Ok(())
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
/// As [`crate::files::write_atomically`].
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

/// Curves over one positive quantity.
pub struct Curves<'a> {
    /// Heading.
    pub title: String,
    /// Name of the quantity.
    pub x: &'a str,
    /// Points of each curve; all panels have the same curves, some of which may be empty.
    pub curves: Vec<(&'a str, Vec<(f64, f64)>)>,
}

/// Draws panels of curves, two in a row, with logarithmic axes. Points that are not positive are left out.
///
/// # Errors
/// As [`crate::files::write_atomically`].
pub fn log_log(path: &Path, panels: &[Curves<'_>], title: &str, text: PngText<'_>) -> Result<()> {
    const COLUMNS: usize = 2;
    let rows = panels.len().div_ceil(COLUMNS);
    draw(path, (1120, 80 + 360 * rows as u32), text, |canvas| {
        let canvas = canvas.margin(6, 4, 0, 0).titled(title, font(20))?;
        let (legend, area) = canvas.split_vertically(26);
        let names = panels.first().map(|panel| &panel.curves);
        draw_legend(&legend, names.into_iter().flatten().map(|(name, _)| *name))?;
        for (canvas, panel) in area.split_evenly((rows, COLUMNS)).iter().zip(panels) {
            draw_log_log(canvas, panel)?;
        }
        Ok(())
    })
}

fn draw_log_log(canvas: &Canvas<'_>, panel: &Curves<'_>) -> Drawn {
    let is_shown = |&(x, y): &(f64, f64)| x > 0.0 && y > 0.0 && x.is_finite() && y.is_finite();
    let shown = || panel.curves.iter().flat_map(|(_, points)| points.iter().copied().filter(is_shown));
    let mut chart = ChartBuilder::on(canvas)
        .margin(8)
        .margin_right(16)
        .caption(&panel.title, font(16))
        .x_label_area_size(38)
        .y_label_area_size(56)
        .build_cartesian_2d(
            decades(shown().map(|point| point.0)).log_scale(),
            decades(shown().map(|point| point.1)).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID_COLOR)
        .axis_style(AXIS_COLOR)
        .label_style(font(13))
        .axis_desc_style(font(14))
        .x_desc(panel.x)
        .x_label_formatter(&|x| power(*x))
        .y_label_formatter(&|y| power(*y))
        .draw()?;
    for (number, (_, points)) in panel.curves.iter().enumerate() {
        let points: Vec<_> = points.iter().copied().filter(is_shown).collect();
        let style = set_color(number).filled().stroke_width(2);
        chart.draw_series(LineSeries::new(points, style).point_size(3))?;
    }
    Ok(())
}

/// Names beside the colours of their sets, from left to right.
fn draw_legend<'n>(canvas: &Canvas<'_>, names: impl Iterator<Item = &'n str>) -> Drawn {
    let mut left = 14;
    for (set, name) in names.enumerate() {
        canvas.draw(&Rectangle::new([(left, 6), (left + 16, 18)], set_color(set).filled()))?;
        canvas.draw(&Text::new(name.to_owned(), (left + 22, 5), font(14)))?;
        left += 44 + font(14).font.box_size(name).map_or(100, |(width, _)| width as i32);
    }
    Ok(())
}

/// Whole decades that hold all values.
fn decades(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    if high == 0.0 {
        return 1.0..10.0;
    }
    let (low, high) = ((low * 1.001).log10().floor(), (high * 0.999).log10().ceil());
    10f64.powf(low)..10f64.powf(high.max(low + 1.0))
}

/// A label of a logarithmic axis.
fn power(value: f64) -> String {
    if (0.01..1e5).contains(&value) { format!("{value}") } else { format!("{value:.0e}") }
}

fn set_color(set: usize) -> RGBColor {
    const COLORS: [RGBColor; 9] = [
        TRAIN_COLOR,
        HELD_OUT_COLOR,
        RGBColor(34, 139, 84),
        RGBColor(186, 44, 60),
        RGBColor(128, 78, 170),
        RGBColor(20, 150, 170),
        RGBColor(120, 90, 50),
        RGBColor(220, 120, 180),
        RGBColor(80, 80, 80),
    ];
    COLORS[set % COLORS.len()]
}

/// Every value but the least and the largest percent, with a margin.
fn central_range(mut values: Vec<f64>) -> Range<f64> {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0..1.0 };
    let (low, high) = (values[last / 100], values[last - last / 100]);
    let margin = (0.04 * (high - low)).max(1e-6 * (1.0 + high.abs()));
    low - margin..high + margin
}

/// A letter in white on black, (side, side) values in [0, 1]. `size` is in units of the side; `place` moves its centre
/// right and down by shares of the side.
///
/// # Errors
/// A letter that the embedded font does not have.
pub fn glyph(letter: char, side: usize, size: f64, place: [f64; 2]) -> Result<Vec<f32>> {
    register();
    let mut pixels = vec![0; side * side * 3];
    {
        let canvas = BitMapBackend::with_buffer(&mut pixels, (side as u32, side as u32)).into_drawing_area();
        let style =
            ("sans-serif", size * side as f64).into_font().color(&WHITE).pos(Pos::new(HPos::Center, VPos::Center));
        let [x, y] = place.map(|share| ((0.5 + share) * side as f64).round() as i32);
        let drawn = canvas.draw(&Text::new(letter.to_string(), (x, y), style)).map_err(|error| error.to_string());
        drawn
            .and_then(|()| canvas.present().map_err(|error| error.to_string()))
            .map_err(|error| Error::Failed(format!("cannot draw the letter {letter}: {error}")))?;
    }
    Ok(pixels.chunks_exact(3).map(|pixel| f32::from(pixel[0]) / 255.0).collect())
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

/// Means over the neighbours within a hundredth of the curve on either side, so that the curve does not lag behind.
/// Values outside of `range` count as its ends: one huge loss must not lift all means around it.
fn smoothed(losses: &[(f64, f64)], range: &Range<f64>) -> Vec<(f64, f64)> {
    let reach = losses.len() / 100;
    let mut sums = vec![0.0];
    for (_, loss) in losses {
        sums.push(sums[sums.len() - 1] + loss.clamp(range.start, range.end));
    }
    let mean = |(i, &(step, _)): (usize, &(f64, f64))| {
        let (from, to) = (i.saturating_sub(reach), (i + reach + 1).min(losses.len()));
        (step, (sums[to] - sums[from]) / (to - from) as f64)
    };
    losses.iter().enumerate().map(mean).collect()
}

/// Every finite loss but the largest 2 and the least 0.2 percent, with a margin.
fn robust_range(mut losses: Vec<f64>) -> Range<f64> {
    if losses.is_empty() {
        return 0.0..1.0;
    }
    losses.sort_by(f64::total_cmp);
    let quantile = |share: f64| losses[((losses.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (quantile(0.002), quantile(0.98));
    let margin = (0.06 * (high - low)).max(1e-3 * high.abs()).max(1e-9);
    low - margin..high + margin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data;
    use crate::image_grid::read_png_text;
    use crate::image_grid::tests::decode;

    /// A path for a picture: in a folder that stays when `ARCSM_KEEP_PICTURES` names one, to be looked at.
    fn picture(name: &str) -> (Option<tempfile::TempDir>, std::path::PathBuf) {
        match std::env::var_os("ARCSM_KEEP_PICTURES") {
            Some(folder) => (None, Path::new(&folder).join(name)),
            None => {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join(name);
                (Some(folder), path)
            }
        }
    }

    fn count_of(pixels: &[u8], color: RGBColor) -> usize {
        pixels.chunks_exact(3).filter(|pixel| *pixel == [color.0, color.1, color.2]).count()
    }

    #[test]
    fn a_loss_curve_shows_both_curves_whatever_the_losses() {
        let (_folder, path) = picture("loss.png");
        let noise = |step: u64| ((step * 7919) % 101) as f64 / 50.0 - 1.0;
        let mut train: Vec<_> =
            (0..2000).map(|s| (s, -20.0 + 60.0 * (-(s as f64) / 300.0).exp() + 3.0 * noise(s))).collect();
        train[0].1 = 1e6;
        train[7].1 = f64::NAN;
        let held_out: Vec<_> = (1..=8).map(|k| (250 * k, -18.0 + 60.0 * (-(k as f64) / 1.3).exp())).collect();
        let text = [("arcsm:seed", "7".to_owned())];
        loss_curve(&path, &train, &held_out, "digits: dsm loss", &text).expect("written");
        let (width, height, pixels) = decode(&path);
        assert_eq!((width, height), (960, 560));
        let both = [TRAIN_COLOR, HELD_OUT_COLOR].map(|color| count_of(&pixels, color));
        assert!(both.iter().all(|&count| count > 500), "{both:?} pixels of the two curves");
        assert_eq!(read_png_text(&path).expect("own file")["arcsm:seed"], "7");
    }

    #[test]
    fn histograms_show_every_set_whatever_its_values() {
        let (_folder, path) = picture("histograms.png");
        let around =
            |centre: f64| (0..200).map(|i| centre + ((i * 7919) % 101) as f64 / 50.0 - 1.0).collect::<Vec<_>>();
        let mut wild = around(1.5);
        wild[3] = 1e12;
        wild[4] = f64::NAN;
        let of = |title: &str, a: Vec<f64>, b: Vec<f64>| Histogram {
            title: title.to_owned(),
            sets: vec![("inliers", a), ("noise", b)],
        };
        let panels = [
            of("apart", around(0.0), wild),
            of("equal", vec![2.0; 9], vec![2.0; 4]),
            of("few", vec![1.0], vec![]),
            of("a", around(0.0), around(3.0)),
            of("b", around(0.0), around(-3.0)),
        ];
        histograms(&path, &panels, "statistics", &[]).expect("written");
        let (width, height, pixels) = decode(&path);
        assert_eq!((width, height), (1360, 536));
        for set in 0..2 {
            assert!(count_of(&pixels, set_color(set)) > 150, "set {set}");
        }
    }

    #[test]
    fn log_log_panels_show_every_curve_and_leave_out_what_has_no_logarithm() {
        let (_folder, path) = picture("log-log.png");
        let power = |p: f64| (1..6).map(|k| (10f64.powi(k), 3.0 * 10f64.powf(p * f64::from(k)))).collect::<Vec<_>>();
        let mut broken = power(-1.0);
        broken[2].1 = 0.0;
        broken[3].1 = f64::NAN;
        let curves = vec![("linear", power(1.0)), ("square", power(2.0)), ("inverse", broken), ("none", vec![])];
        let of = |title: &str, curves| Curves { title: title.to_owned(), x: "D", curves };
        let panels = [of("all", curves), of("none", vec![]), of("one", vec![("point", vec![(10.0, 1.0)])])];
        log_log(&path, &panels, "powers", &[]).expect("written");
        let (width, height, pixels) = decode(&path);
        assert_eq!((width, height), (1120, 800));
        for set in 0..3 {
            assert!(count_of(&pixels, set_color(set)) > 250, "curve {set}");
        }
        assert_eq!(decades([3.0, 40.0].into_iter()), 1.0..100.0);
        assert_eq!(decades([10.0].into_iter()), 10.0..100.0);
    }

    #[test]
    fn few_equal_or_no_losses_can_be_drawn() {
        let (_folder, path) = picture("few.png");
        for losses in [&[][..], &[(0, 3.0)], &[(0, 0.0), (1, 0.0)], &[(5, f64::INFINITY)]] {
            loss_curve(&path, losses, &[], "few", &[]).expect("drawn");
        }
    }

    #[test]
    fn the_range_leaves_out_a_huge_first_loss_but_no_low_one() {
        let mut losses: Vec<f64> = (0..200).map(|i| 10.0 - 0.1 * i as f64).collect();
        losses[0] = 1e9;
        let range = robust_range(losses);
        assert!(range.start < -9.9 && range.end > 9.0 && range.end < 12.0, "{range:?}");
    }

    #[test]
    fn smoothing_neither_lags_nor_follows_one_outlier() {
        let mut losses: Vec<_> = (0..500).map(|i| (f64::from(i), -0.1 * f64::from(i))).collect();
        losses[100].1 = 1e9;
        let smooth = smoothed(&losses, &(-60.0..1.0));
        assert!((smooth[300].1 + 30.0).abs() < 1e-9, "centred: {:?}", smooth[300]);
        assert!((smooth[100].1 + 9.0).abs() < 0.1, "ten of -10 and one of 1: {:?}", smooth[100]);
        assert!((smooth[499].1 + 49.65).abs() < 1e-9, "the end has the last six alone: {:?}", smooth[499]);
    }

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
