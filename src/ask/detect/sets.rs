//! Outliers that need no data of their own: made of the inliers, or of nothing.

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::files::plot::glyph;
use crate::numbers::random::{random_bits, stream, uniform};
use crate::shape::SampleShape;

/// Where the random numbers of these sets start, so that they share none with the measures' noise.
const FIRST_STEP: u32 = 1 << 20;

/// Outliers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Synthetic {
    /// Every value uniform over the data's range
    Noise,
    /// Samples of one value, uniform over the data's range
    Constants,
    /// Every value the least of the data
    Black,
    /// Inliers with low and high exchanged
    Inverted,
    /// Inliers with rows and columns exchanged (square images)
    Transposed,
    /// Inliers with their dimensions in another order, the same for all
    Permuted,
    /// Letters from A to z, of changing size and place (images)
    Letters,
}

impl Synthetic {
    /// The set of a name, if it is one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }

    /// As many samples as there are inliers (N, D). `range` holds the least and the greatest value of the data.
    ///
    /// # Errors
    /// Samples of which there is no such version.
    pub fn of_inliers(self, inliers: &[f32], shape: SampleShape, range: [f32; 2], seed: u64) -> Result<Vec<f32>> {
        let [low, high] = range;
        let dimensions = shape.dimensions();
        let share = |sample: usize, dimension: usize, step: u32| {
            uniform(random_bits(seed, stream::DATA, sample as u32, dimension as u32, FIRST_STEP + step)[0]) as f32
        };
        let values = inliers.iter().enumerate();
        Ok(match self {
            Self::Noise => values.map(|(i, _)| low + (high - low) * share(i / dimensions, i % dimensions, 0)).collect(),
            Self::Constants => values.map(|(i, _)| low + (high - low) * share(i / dimensions, 0, 1)).collect(),
            Self::Black => vec![low; inliers.len()],
            Self::Inverted => inliers.iter().map(|x| low + high - x).collect(),
            Self::Permuted => {
                let mut order: Vec<usize> = (0..dimensions).collect();
                order.sort_by(|&a, &b| share(0, a, 2).total_cmp(&share(0, b, 2)));
                inliers.chunks_exact(dimensions).flat_map(|sample| order.iter().map(|&d| sample[d])).collect()
            }
            Self::Transposed => {
                let [side, channels] = square(shape)?;
                let pixel = |y: usize, x: usize| (y * side + x) * channels;
                let places: Vec<usize> =
                    (0..dimensions).map(|d| pixel(d / channels % side, d / channels / side) + d % channels).collect();
                inliers.chunks_exact(dimensions).flat_map(|sample| places.iter().map(|&d| sample[d])).collect()
            }
            Self::Letters => {
                let [side, channels] = square(shape)?;
                let count = inliers.len() / dimensions;
                let mut values = Vec::with_capacity(inliers.len());
                for n in 0..count {
                    let letter = b"ABCDEFGHJKLMNPQRTUVWXYZabdefghkmnpqrtwxy"[n % 40] as char;
                    let between = |step: u32, from: f32, to: f32| f64::from(from + (to - from) * share(n, 0, step));
                    let place = [between(4, -0.07, 0.07), between(5, -0.07, 0.07)];
                    let drawn = glyph(letter, side, between(3, 0.85, 1.1), place)?;
                    let of_pixel = |ink: &f32| std::iter::repeat_n(low + (high - low) * ink, channels);
                    values.extend(drawn.iter().flat_map(of_pixel));
                }
                values
            }
        })
    }
}

/// Side and channels of square images.
fn square(shape: SampleShape) -> Result<[usize; 2]> {
    match shape {
        SampleShape::Image { height, width, channels } if height == width => Ok([height, channels]),
        _ => Err(Error::input("--outliers", format!("needs square images, the samples are {shape}"), "Leave it out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: SampleShape = SampleShape::Image { height: 2, width: 2, channels: 3 };

    fn made(set: Synthetic) -> Vec<f32> {
        let inliers: Vec<f32> = (0..24).map(|i| i as f32 / 23.0).collect();
        set.of_inliers(&inliers, SHAPE, [0.0, 1.0], 3).expect("square images")
    }

    #[test]
    fn made_of_inliers() {
        let inliers: Vec<f32> = (0..24).map(|i| i as f32 / 23.0).collect();
        let transposed = made(Synthetic::Transposed);
        assert_eq!(transposed[..6], [&inliers[..3], &inliers[6..9]].concat());
        assert_eq!(transposed[12..18], [&inliers[12..15], &inliers[18..21]].concat());
        assert_eq!(made(Synthetic::Inverted)[..2], [1.0, 1.0 - inliers[1]]);
        let permuted = made(Synthetic::Permuted);
        assert_ne!(permuted, inliers);
        let mut sorted = permuted[..12].to_vec();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted, inliers[..12]);
        let place = |d: usize| permuted[12..].iter().position(|&x| x == inliers[12 + d]);
        assert!((0..12).all(|d| place(d) == permuted[..12].iter().position(|&x| x == inliers[d])), "one order for all");
    }

    #[test]
    fn made_of_nothing() {
        assert_eq!(made(Synthetic::Black), [0.0; 24]);
        let constants = made(Synthetic::Constants);
        assert!(constants[..12].iter().all(|&x| x == constants[0]) && constants[12] != constants[0]);
        let noise = made(Synthetic::Noise);
        assert!(noise.iter().all(|x| (0.0..=1.0).contains(x)) && noise.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn letters_are_drawn_light_on_dark_and_differ() {
        let shape = SampleShape::Image { height: 28, width: 28, channels: 1 };
        let letters = Synthetic::Letters.of_inliers(&[0.0; 1568], shape, [0.0, 1.0], 3).expect("images");
        for letter in letters.chunks_exact(784) {
            let ink = letter.iter().sum::<f32>() / 784.0;
            assert!((0.05..0.5).contains(&ink), "{ink}");
        }
        assert_ne!(letters[..784], letters[784..]);
        let points = SampleShape::Vector { dimensions: 4 };
        let error = Synthetic::Letters.of_inliers(&[0.0; 4], points, [0.0, 1.0], 3).expect_err("no images");
        assert_eq!(error.exit_status(), 2);
    }
}
