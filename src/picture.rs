//! Pictures of samples: a grid of images, or points of the plane beside the data's density.

use std::path::Path;

use crate::data::{Dataset, SampleShape};
use crate::error::{Error, Result};
use crate::image_grid::{Grid, PngText};
use crate::plot::{self, Beside};

/// Samples to draw.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    /// (N, D), in the data's order of dimensions.
    pub values: &'a [f32],
    /// What one sample is.
    pub shape: SampleShape,
    /// Values of images that are drawn black and white, see [`crate::image_grid::tones`].
    pub range: [f64; 2],
    /// The data they should look like; points are drawn beside its density.
    pub beside: Option<&'a Dataset>,
    /// Heading of a plot.
    pub title: &'a str,
}

/// Whether samples of this shape can be drawn: images, and points of the plane.
pub fn can_draw(shape: SampleShape) -> bool {
    matches!(shape, SampleShape::Image { .. }) || shape.dimensions() == 2
}

/// How many samples make a good picture in reasonable time.
pub fn natural_count(shape: SampleShape) -> usize {
    match shape {
        SampleShape::Vector { .. } => 4000,
        SampleShape::Image { .. } if shape.dimensions() <= 256 => 100,
        SampleShape::Image { .. } => 36,
    }
}

impl Picture<'_> {
    /// Writes the picture as PNG or JPEG, by its file's name, with text that says how it was made.
    ///
    /// # Errors
    /// Samples that are neither images nor points of the plane; a file that cannot be written.
    pub fn write(&self, path: &Path, text: PngText<'_>) -> Result<()> {
        match self.shape {
            SampleShape::Image { height, width, channels } => {
                Grid::new(self.values, [height, width, channels], self.range, None)?.write(path, text)
            }
            SampleShape::Vector { dimensions: 2 } => self.scatter(path, text),
            SampleShape::Vector { dimensions } => Err(Error::input(
                path.display().to_string(),
                format!("samples of D = {dimensions} are neither images nor points of the plane"),
                "Write them with `--npy FILE` instead",
            )),
        }
    }

    fn scatter(&self, path: &Path, text: PngText<'_>) -> Result<()> {
        let points = to_points(self.values);
        let density = self.beside.and_then(|data| data.density.as_ref());
        let log_density = |x: [f64; 2]| density.map_or(f64::NEG_INFINITY, |density| density.log_density(&x));
        let data = match self.beside {
            Some(data) if density.is_none() => Some(held_out_points(data, points.len())?),
            _ => None,
        };
        let beside = match &data {
            Some(data) => Beside::Points(data),
            None if density.is_some() => Beside::LogDensity(&log_density),
            None => Beside::Points(&points),
        };
        plot::scatter_beside_density(path, &points, &beside, self.title, text)
    }
}

/// The first held-out points, at most that many.
fn held_out_points(data: &Dataset, most: usize) -> Result<Vec<[f32; 2]>> {
    let count = data.held_out.len().min(most);
    let mut values = vec![0.0; 2 * count];
    data.held_out.gather(&(0..count).collect::<Vec<_>>(), &mut values)?;
    Ok(to_points(&values))
}

fn to_points(values: &[f32]) -> Vec<[f32; 2]> {
    values.chunks_exact(2).map(|point| [point[0], point[1]]).collect()
}
