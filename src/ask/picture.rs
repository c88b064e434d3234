//! Pictures of samples: a grid of images, points of the plane beside their density, or columns over those of the data.

use std::path::Path;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::image_grid::{Grid, PngText};
use crate::files::plot::{self, Beside, Marginal, PairPlot};
use crate::shape::SampleShape;

/// Samples to draw.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    /// (N, D), in the data's own units and order of dimensions.
    pub values: &'a [f64],
    /// What one sample is.
    pub shape: SampleShape,
    /// The data they should look like, and the density where it is known; images stand alone.
    pub beside: Option<&'a Dataset>,
    /// Name of each dimension; `x1`, `x2` and so on without.
    pub names: Option<&'a [String]>,
    /// Values of images that are drawn black and white, see [`crate::files::image_grid::tones`].
    pub range: [f64; 2],
    /// Heading of a plot.
    pub title: &'a str,
}

/// Whether samples of this shape can be drawn: grey and colour images, and points of any number of dimensions.
pub fn can_draw(shape: SampleShape) -> bool {
    match shape {
        SampleShape::Image { channels, .. } => matches!(channels, 1 | 3),
        SampleShape::Vector { dimensions } => dimensions > 0,
    }
}

/// How many samples make a good picture in reasonable time.
pub fn natural_count(shape: SampleShape) -> usize {
    match shape {
        // Every dimension takes its time to draw, and small panels need fewer points.
        SampleShape::Vector { dimensions } => (16_000 / dimensions).clamp(500, 4000),
        SampleShape::Image { .. } if shape.dimensions() <= 256 => 100,
        SampleShape::Image { .. } => 36,
    }
}

/// Values as [`Picture`] takes them.
pub fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

impl Picture<'_> {
    /// Writes the picture as PNG or JPEG, by its file's name, with text that says how it was made.
    ///
    /// # Errors
    /// Samples that [`can_draw`] excludes; a file that cannot be written, as for [`crate::files::image_grid::check_picture`].
    ///
    /// # Panics
    /// When the values are no whole samples, or there are names but not D of them.
    pub fn write(&self, path: &Path, text: PngText<'_>) -> Result<()> {
        if !can_draw(self.shape) {
            let problem = format!("samples of {} are neither grey or colour images nor points", self.shape);
            return Err(Error::input(path.display().to_string(), problem, "Write them with --npy FILE instead"));
        }
        match self.shape {
            SampleShape::Image { height, width, channels } => {
                Grid::new(self.values, [height, width, channels], self.range, None)?.write(path, text)
            }
            SampleShape::Vector { dimensions } => self.plot(dimensions, path, text),
        }
    }

    fn plot(&self, dimensions: usize, path: &Path, text: PngText<'_>) -> Result<()> {
        let numbered: Vec<String>;
        let names = match self.names {
            Some(names) => names,
            None => {
                numbered = (1..=dimensions).map(|d| format!("x{d}")).collect();
                &numbered
            }
        };
        assert_eq!(names.len(), dimensions, "each dimension needs a name");
        let (title, samples) = (self.title, self.values);
        let density = self.beside.and_then(|data| data.density.as_ref());
        let log_density = |x: &[f64]| density.map_or(f64::NEG_INFINITY, |density| density.log_density(x));
        let data = match self.beside {
            Some(data) if dimensions != 2 || density.is_none() => some_rows(data, samples.len() / dimensions)?,
            _ => Vec::new(),
        };
        match dimensions {
            1 => {
                let of_one = |x: f64| log_density(&[x]).exp();
                let density = density.is_some().then_some(&of_one as &dyn Fn(f64) -> f64);
                let marginal = Marginal { data: &data, samples, name: &names[0], title, density };
                plot::histogram_of_samples(path, &marginal, text)
            }
            2 if self.beside.is_some() => {
                let of_two = |x: [f64; 2]| log_density(&x);
                let data = to_points(&data);
                let beside = if density.is_some() { Beside::LogDensity(&of_two) } else { Beside::Points(&data) };
                let names = [&*names[0], &*names[1]];
                plot::scatter_beside_density(path, &to_points(samples), &beside, names, title, text)
            }
            _ => plot::pair_plot(path, &PairPlot { data: &data, samples, names, title }, text),
        }
    }
}

/// Rows of the data, at most that many: the first that are held out, and where they are too few, some that are not.
fn some_rows(data: &Dataset, most: usize) -> Result<Vec<f64>> {
    let held_out = data.held_out.len().min(most);
    let mut rows = data.held_out.first_in_units(held_out)?;
    rows.extend(data.train.first_in_units(data.train.len().min(most - held_out))?);
    Ok(rows)
}

fn to_points(values: &[f64]) -> Vec<[f64; 2]> {
    values.chunks_exact(2).map(|point| [point[0], point[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, DataConfig, Samples};
    use crate::files::image_grid::UNIT;
    use crate::files::image_grid::tests::decode;

    fn size_of(values: &[f64], shape: SampleShape, beside: Option<&Dataset>) -> (usize, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        let picture = Picture { values, shape, beside, names: None, range: UNIT, title: "picture" };
        picture.write(&path, &[]).expect("written");
        let (width, height, pixels) = decode(&path);
        assert!(pixels.iter().any(|&value| value != pixels[0]), "{shape} is empty");
        (width, height)
    }

    #[test]
    fn every_shape_has_a_picture() {
        let vector = |dimensions| SampleShape::Vector { dimensions };
        let values = |count: usize| (0..count).map(|i| (i as f64 * 0.7).sin()).collect::<Vec<_>>();
        for dimensions in [1, 2, 3, 13] {
            let shape = vector(dimensions);
            assert!(can_draw(shape) && (500..=4000).contains(&natural_count(shape)));
            let table = |rows| Samples::from_floats(dimensions, vec![0.5; rows * dimensions]);
            let data = Dataset::new("table", shape, table(9), table(3));
            let sizes = [None, Some(&data)].map(|beside| size_of(&values(40 * dimensions), shape, beside));
            match dimensions {
                1 => assert_eq!(sizes, [(960, 560); 2], "a histogram"),
                2 => assert!(sizes[0].0 < 900 && sizes[1] == (1000, 566), "beside the data, {sizes:?}"),
                _ => assert!(sizes.iter().all(|&(width, height)| width > 900 && height > 900), "pairs, {sizes:?}"),
            }
        }
        for spec in ["gaussian:1", "gaussian:2", "gaussian:4"] {
            let data = data::load(&DataConfig { spec: spec.into(), ..Default::default() }, 1).expect("known");
            size_of(&values(20 * data.shape.dimensions()), data.shape, Some(&data));
        }
        let image = SampleShape::Image { height: 4, width: 3, channels: 3 };
        assert_eq!(size_of(&values(2 * 36), image, None), (42, 28), "two side by side");
        assert!(!can_draw(SampleShape::Image { height: 4, width: 3, channels: 2 }));
    }

    #[test]
    fn held_out_rows_come_first_and_others_fill_up() {
        let one = |values: &[f32]| Samples::from_floats(1, values.to_vec());
        let data =
            Dataset::new("table", SampleShape::Vector { dimensions: 1 }, one(&[1.0, 2.0, 3.0]), one(&[8.0, 9.0]));
        assert_eq!(some_rows(&data, 1).expect("in memory"), [8.0]);
        assert_eq!(some_rows(&data, 4).expect("in memory"), [8.0, 9.0, 1.0, 2.0]);
        assert_eq!(some_rows(&data, 40).expect("in memory"), [8.0, 9.0, 1.0, 2.0, 3.0]);
    }
}
