//! Histograms of several sets, panel beside panel.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::{AXIS_COLOR, Canvas, Drawn, draw, draw_legend, font, set_color};
use crate::error::Result;
use crate::files::image_grid::PngText;

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
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
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

/// Every value but the least and the largest percent, with a margin.
fn central_range(mut values: Vec<f64>) -> Range<f64> {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0..1.0 };
    let (low, high) = (values[last / 100], values[last - last / 100]);
    let margin = (0.04 * (high - low)).max(1e-6 * (1.0 + high.abs()));
    low - margin..high + margin
}

#[cfg(test)]
mod tests {
    use super::super::tests::{count_of, picture};
    use super::*;
    use crate::files::image_grid::tests::decode;

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
}
