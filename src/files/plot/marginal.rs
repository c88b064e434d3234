//! Samples of one column over its data.

use std::path::Path;

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::columns::{Column, HEAD, Head, NAME_FONT, legend, rows_outside};
use super::panel::{Panel, TICK_FONT, fitted, width_of, write, write_upwards};
use super::{DENSITY_COLOR, draw};
use crate::error::Result;
use crate::files::image_grid::PngText;

const SIZE: (i32, i32) = (960, 560);
const FOOT: i32 = 58;

/// Values of one column.
#[derive(Clone, Copy)]
pub struct Marginal<'a> {
    /// Of the data; may be empty.
    pub data: &'a [f64],
    /// Of the samples; may be empty.
    pub samples: &'a [f64],
    /// What the column is called.
    pub name: &'a str,
    /// Heading.
    pub title: &'a str,
    /// The density per unit that both should have, where it is known.
    pub density: Option<&'a dyn Fn(f64) -> f64>,
}

/// Draws a histogram of the data, that of the samples over it, and the density where there is one.
///
/// The axis shows what that of a [`super::pair_plot`] does, and cells are the same.
///
/// # Errors
/// As [`crate::files::image_grid::check_picture`] and [`crate::files::write_atomically`].
pub fn histogram_of_samples(path: &Path, marginal: &Marginal<'_>, text: PngText<'_>) -> Result<()> {
    let column = Column::new(marginal.name, marginal.data.to_vec(), marginal.samples.to_vec());
    let histogram = column.histogram();
    let top = match marginal.density {
        Some(density) => histogram.top().max(1.06 * peak(density, &column.span.range)),
        None => histogram.top(),
    };
    let y = Axis::new(0.0..top, 0.0, 6);
    let left = 46 + y.ticks.iter().map(|(_, label)| width_of(label, TICK_FONT)).max().unwrap_or(0);
    let frame = [left, HEAD, SIZE.0 - 24, SIZE.1 - FOOT];
    let x = column.x_axis(frame[2] - frame[0]);
    let mut legend = legend(marginal.data, marginal.samples);
    if marginal.density.is_some() {
        legend.push(("density", DENSITY_COLOR));
    }
    draw(path, (SIZE.0 as u32, SIZE.1 as u32), text, |canvas| {
        Head { title: marginal.title, suffix: "", legend: &legend, note: &rows_outside(&[&column]) }.draw(canvas)?;
        let panel = Panel { canvas, frame, x: &x, y: 0.0..top };
        histogram.draw(&panel)?;
        if let Some(density) = marginal.density {
            panel.draw_curve(density, DENSITY_COLOR)?;
        }
        panel.draw_frame()?;
        panel.draw_x_ticks()?;
        panel.draw_y_ticks(&y)?;
        let name = fitted(column.name, &x.suffix(), NAME_FONT, frame[2] - frame[0]);
        write(canvas, &name, ((frame[0] + frame[2]) / 2, frame[3] + 28), NAME_FONT, (HPos::Center, VPos::Top))?;
        let name = fitted("density", &y.suffix(), NAME_FONT, frame[3] - frame[1]);
        write_upwards(canvas, &name, (18, (frame[1] + frame[3]) / 2), NAME_FONT)
    })
}

/// The largest of some values of a density in the range.
fn peak(density: &dyn Fn(f64) -> f64, range: &std::ops::Range<f64>) -> f64 {
    let at = |i: u32| range.start + f64::from(i) / 1000.0 * (range.end - range.start);
    (0..=1000).map(|i| density(at(i))).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{count_of, hued, picture};
    use super::*;
    use crate::files::image_grid::tests::decode;

    #[test]
    fn data_samples_and_density_lie_on_each_other() {
        let uniform = |count: i32| (0..count).map(|i| f64::from(i) / f64::from(count)).collect::<Vec<_>>();
        let density = |x: f64| f64::from(u8::from((0.0..1.0).contains(&x)));
        let marginal = Marginal {
            data: &uniform(3000),
            samples: &uniform(500),
            name: "share",
            title: "uniform",
            density: Some(&density),
        };
        let (_folder, path) = picture("uniform.png");
        histogram_of_samples(&path, &marginal, &[]).expect("written");
        let (width, height, pixels) = decode(&path);
        assert_eq!((width, height), (960, 560));
        let green = |line: std::ops::Range<usize>| {
            count_of(&pixels[3 * width * line.start..3 * width * line.end], DENSITY_COLOR)
        };
        // A density of 1 where the axis ends at 1.06 times the highest cell.
        assert!(green(HEAD as usize..HEAD as usize + 110) > 700, "a line near the top");
        assert!(green(height - FOOT as usize - 60..height - FOOT as usize) > 60, "down on either side");
        let [orange, blue] = hued(&pixels, width, 100..930, 300..480);
        assert!(orange > 100_000 && blue > 400, "an area and the ends of a line: {orange} {blue}");
    }

    #[test]
    fn anything_can_be_drawn() {
        let (_folder, path) = picture("few.png");
        for values in [&[][..], &[0.0], &[1e6, 1e6 + 1e-3], &[f64::NAN, 1.0], &[f64::MAX, f64::MIN], &[7.0; 20]] {
            for density in [None, Some(&(|_| f64::INFINITY) as &dyn Fn(f64) -> f64), Some(&|x| x)] {
                let marginal = Marginal { data: values, samples: values, name: "x1", title: "few", density };
                histogram_of_samples(&path, &marginal, &[]).expect("written");
                histogram_of_samples(&path, &Marginal { data: &[], ..marginal }, &[]).expect("written");
            }
        }
    }
}
