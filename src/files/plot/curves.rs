//! Losses over the steps of a run, and curves over one positive quantity.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::{AXIS_COLOR, Canvas, Drawn, GRID_COLOR, HELD_OUT_COLOR, TRAIN_COLOR, draw, draw_legend, font, set_color};
use crate::error::Result;
use crate::files::image_grid::PngText;

/// Draws training losses, as they are (light) and smoothed, and held-out losses over the steps.
///
/// The losses' range leaves out the few largest, so that a huge first loss does not flatten the rest; values that are
/// not finite are left out. Losses may be negative.
///
/// # Errors
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
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
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
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

#[cfg(test)]
mod tests {
    use super::super::tests::{count_of, picture};
    use super::*;
    use crate::files::image_grid::read_png_text;
    use crate::files::image_grid::tests::decode;

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
}
