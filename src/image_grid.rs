//! Pictures of many samples, as PNG files that say how they were made.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use png::{BitDepth, ColorType, EncodingError};

use crate::error::{Error, Result};
use crate::files;

/// Entries for a PNG's text chunks: key and value, such as `arcsm:seed` and `7`.
pub type PngText<'a> = &'a [(&'a str, String)];

/// Pixels between two images, and around all.
const GAP: usize = 2;
/// Grey of these pixels: told apart from black paper and from white ink.
const GAP_VALUE: u8 = 72;
/// Small images are enlarged by a whole factor until they have about this many pixels a side, but not beyond
/// [`LARGEST_SCALE`].
const COMFORTABLE_SIDE: usize = 84;
const LARGEST_SCALE: usize = 6;
/// Pixels of the largest picture; viewers give up beyond it.
const MOST_PIXELS: usize = 1 << 27;

/// Images side by side in one picture.
#[derive(Debug, Clone)]
pub struct Grid {
    width: usize,
    height: usize,
    color: ColorType,
    pixels: Vec<u8>,
}

impl Grid {
    /// Tiles `images` (B, H, W, C), row after row; values are clamped to [0, 1]. `size` is [H, W, C], C = 1 or 3.
    ///
    /// Without `columns`, as many images stand in a row as make the picture about square.
    ///
    /// # Errors
    /// Bad input, when there are so many images that the picture would be unusable.
    ///
    /// # Panics
    /// When `images` is empty or no whole number of images, or C is neither 1 nor 3.
    pub fn new(images: &[f32], size: [usize; 3], columns: Option<usize>) -> Result<Self> {
        let [height, width, channels] = size;
        assert!(matches!(channels, 1 | 3), "a PNG has 1 or 3 channels, not {channels}");
        let dimensions = height * width * channels;
        assert!(!images.is_empty() && images.len().is_multiple_of(dimensions), "{} values: no images", images.len());
        let count = images.len() / dimensions;
        let layout = Layout::new(count, height, width, columns);
        let (wide, high) = layout.picture();
        if wide.saturating_mul(high) > MOST_PIXELS {
            let problem = format!("{count} images of {height}x{width} would need a picture of {wide}x{high} pixels");
            return Err(Error::input("picture", problem, "Draw fewer, or write an .npy file"));
        }
        let mut pixels = vec![GAP_VALUE; wide * high * channels];
        for (index, image) in images.chunks_exact(dimensions).enumerate() {
            let (top, left) = layout.corner(index);
            for y in 0..height * layout.scale {
                let source = &image[y / layout.scale * width * channels..][..width * channels];
                let target = &mut pixels[((top + y) * wide + left) * channels..][..width * layout.scale * channels];
                for (x, pixel) in target.chunks_exact_mut(channels).enumerate() {
                    let from = &source[x / layout.scale * channels..][..channels];
                    pixel.iter_mut().zip(from).for_each(|(out, &value)| *out = to_byte(value));
                }
            }
        }
        let color = if channels == 1 { ColorType::Grayscale } else { ColorType::Rgb };
        Ok(Self { width: wide, height: high, color, pixels })
    }

    /// Writes the picture, atomically.
    ///
    /// # Errors
    /// As [`files::write_atomically`].
    pub fn write_png(&self, path: &Path, text: PngText<'_>) -> Result<()> {
        write_png(path, (self.width, self.height), self.color, &self.pixels, text)
    }
}

fn to_byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

struct Layout {
    columns: usize,
    rows: usize,
    scale: usize,
    cell_height: usize,
    cell_width: usize,
}

impl Layout {
    fn new(count: usize, height: usize, width: usize, columns: Option<usize>) -> Self {
        let scale = (COMFORTABLE_SIDE / height.max(width)).clamp(1, LARGEST_SCALE);
        let (cell_height, cell_width) = (height * scale + GAP, width * scale + GAP);
        let square = (count as f64 * cell_height as f64 / cell_width as f64).sqrt().round() as usize;
        let columns = columns.unwrap_or(square).clamp(1, count);
        Self { columns, rows: count.div_ceil(columns), scale, cell_height, cell_width }
    }

    fn picture(&self) -> (usize, usize) {
        (self.columns * self.cell_width + GAP, self.rows * self.cell_height + GAP)
    }

    fn corner(&self, index: usize) -> (usize, usize) {
        (index / self.columns * self.cell_height + GAP, index % self.columns * self.cell_width + GAP)
    }
}

/// Writes 8-bit pixels as PNG with text chunks, atomically. `size` is (width, height).
pub(crate) fn write_png(
    path: &Path,
    size: (usize, usize),
    color: ColorType,
    pixels: &[u8],
    text: PngText<'_>,
) -> Result<()> {
    let side = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let to_io = |error: EncodingError| match error {
        EncodingError::IoError(source) => source,
        other => io::Error::other(other),
    };
    files::write_atomically(path, |writer| {
        let mut encoder = png::Encoder::new(writer, side(size.0)?, side(size.1)?);
        encoder.set_color(color);
        encoder.set_depth(BitDepth::Eight);
        for (key, value) in text {
            // tEXt is Latin-1 and understood everywhere; iTXt takes the rest.
            let add = if value.is_ascii() { png::Encoder::add_text_chunk } else { png::Encoder::add_itxt_chunk };
            add(&mut encoder, (*key).to_owned(), value.clone()).map_err(to_io)?;
        }
        let mut image = encoder.write_header().map_err(to_io)?;
        image.write_image_data(pixels).map_err(to_io)?;
        image.finish().map_err(to_io)
    })
}

/// The text chunks of a PNG.
///
/// # Errors
/// Bad input, when the file is missing or no PNG.
pub fn read_png_text(path: &Path) -> Result<BTreeMap<String, String>> {
    let refuse = |problem: String| Error::input(path.display().to_string(), problem, "Give a PNG file");
    let file = File::open(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let reader = png::Decoder::new(BufReader::new(file)).read_info();
    let reader = reader.map_err(|error| refuse(format!("is no PNG: {error}")))?;
    let info = reader.info();
    let mut text = BTreeMap::new();
    for chunk in &info.uncompressed_latin1_text {
        text.insert(chunk.keyword.clone(), chunk.text.clone());
    }
    for chunk in &info.utf8_text {
        let value = chunk.get_text().map_err(|error| refuse(format!("has broken text: {error}")))?;
        text.insert(chunk.keyword.clone(), value);
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Width, height and pixels of a PNG.
    pub(crate) fn decode(path: &Path) -> (usize, usize, Vec<u8>) {
        let file = BufReader::new(File::open(path).expect("there"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        let info = reader.next_frame(&mut pixels).expect("whole");
        (info.width as usize, info.height as usize, pixels)
    }

    #[test]
    fn images_stand_in_reading_order_enlarged_and_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.png");
        // Three images of 1x2, all six values different; 2.0 and -1.0 are clamped, NaN becomes black.
        let images = [0.0, 0.2, 0.4, 2.0, -1.0, f32::NAN];
        Grid::new(&images, [1, 2, 1], Some(2)).expect("small").write_png(&path, &[]).expect("written");
        let (width, height, pixels) = decode(&path);
        assert_eq!((width, height), (2 + 2 * (12 + 2), 2 + 2 * (6 + 2)));
        let at = |x: usize, y: usize| pixels[y * width + x];
        assert_eq!([at(2, 2), at(7, 7), at(8, 2), at(13, 7)], [0, 0, 51, 51], "first image");
        assert_eq!([at(16, 2), at(22, 7)], [102, 255], "second image, to its right");
        assert_eq!([at(2, 10), at(8, 10)], [0, 0], "third image, below");
        assert_eq!([at(0, 0), at(14, 5), at(2, 8), at(20, 12)], [GAP_VALUE; 4], "between and behind");
    }

    #[test]
    fn colours_keep_their_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.png");
        Grid::new(&[1.0, 0.2, 0.0], [1, 1, 3], None).expect("small").write_png(&path, &[]).expect("written");
        let (width, _, pixels) = decode(&path);
        assert_eq!(pixels[(2 * width + 2) * 3..][..3], [255, 51, 0]);
    }

    #[test]
    fn pictures_are_about_square_and_scales_whole() {
        let shape = |count, height, width| {
            let layout = Layout::new(count, height, width, None);
            (layout.columns, layout.rows, layout.scale)
        };
        assert_eq!(shape(64, 8, 8), (8, 8, 6));
        assert_eq!(shape(100, 28, 28), (10, 10, 3));
        assert_eq!(shape(1, 64, 64), (1, 1, 1));
        assert_eq!(shape(10, 8, 8), (3, 4, 6));
        assert_eq!(shape(3, 200, 10), (3, 1, 1));
        assert!(Grid::new(&vec![0.0; 4_000_000], [1, 1, 1], None).is_err(), "too many");
    }

    #[test]
    fn text_survives_in_any_script() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.png");
        let text =
            [("arcsm:command", "arcsm sample --seed 7".to_owned()), ("arcsm:note", "\u{3c3} = \u{bd}".to_owned())];
        Grid::new(&[0.5], [1, 1, 1], None).expect("small").write_png(&path, &text).expect("written");
        let read = read_png_text(&path).expect("own file");
        assert_eq!(read, text.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
        std::fs::write(&path, "no picture").expect("written");
        assert_eq!(read_png_text(&path).expect_err("text").exit_status(), 2);
    }
}
