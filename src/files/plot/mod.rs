//! Plots: loss curves, samples over data or beside their density, and histograms.

mod axis;
mod columns;
mod curves;
mod histograms;
mod marginal;
mod pairs;
mod panel;
mod plane;

use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use png::ColorType;

pub use self::curves::{Curves, log_log, loss_curve};
pub use self::histograms::{Histogram, histograms};
pub use self::marginal::{Marginal, histogram_of_samples};
pub use self::pairs::{PairPlot, pair_plot};
pub use self::plane::{Beside, HeatMap, heat_maps, scatter_beside_density};
use crate::error::{Error, Result};
use crate::files::image_grid::{PngText, write_pixels};

type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Drawn<T = ()> = Result<T, Box<dyn std::error::Error>>;

const FONT: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-ascii.ttf");

const TRAIN_COLOR: RGBColor = RGBColor(31, 103, 178);
const HELD_OUT_COLOR: RGBColor = RGBColor(214, 96, 20);
/// Samples of a model, the data they should look like, and the density of both.
const SAMPLES_COLOR: RGBColor = TRAIN_COLOR;
const DATA_COLOR: RGBColor = HELD_OUT_COLOR;
const DENSITY_COLOR: RGBColor = RGBColor(30, 120, 60);
const GRID_COLOR: RGBColor = RGBColor(228, 228, 228);
const AXIS_COLOR: RGBColor = RGBColor(90, 90, 90);

fn font(size: u32) -> TextStyle<'static> {
    register();
    ("sans-serif", size).into_font().color(&RGBColor(40, 40, 40))
}

/// Draws on a white canvas in memory and writes it.
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
    write_pixels(path, (width as usize, height as usize), ColorType::Rgb, &pixels, text)
}

/// Makes the embedded font known, once.
fn register() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        assert!(register_font("sans-serif", FontStyle::Normal, FONT).is_ok(), "the embedded font must be whole");
    });
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

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// A path for a picture: in a folder that stays when `ARCSM_KEEP_PICTURES` names one, to be looked at.
    pub(super) fn picture(name: &str) -> (Option<tempfile::TempDir>, std::path::PathBuf) {
        match std::env::var_os("ARCSM_KEEP_PICTURES") {
            Some(folder) => (None, Path::new(&folder).join(name)),
            None => {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join(name);
                (Some(folder), path)
            }
        }
    }

    pub(super) fn count_of(pixels: &[u8], color: RGBColor) -> usize {
        pixels.chunks_exact(3).filter(|pixel| *pixel == [color.0, color.1, color.2]).count()
    }

    /// Orange and blue pixels, of any strength, in a part of an RGB picture.
    pub(super) fn hued(pixels: &[u8], width: usize, across: Range<usize>, down: Range<usize>) -> [usize; 2] {
        let places = down.flat_map(|y| across.clone().map(move |x| y * width + x));
        places.fold([0, 0], |[orange, blue], place| {
            let [red, blueness] = [pixels[3 * place], pixels[3 * place + 2]].map(i32::from);
            [orange + usize::from(red - blueness > 25), blue + usize::from(blueness - red > 25)]
        })
    }
}
