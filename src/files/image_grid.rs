//! Pictures of many samples, and how every picture is written: as PNG or JPEG that says how it was made.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use png::{BitDepth, ColorType, EncodingError};

use crate::error::{Error, Result};
use crate::files;

/// Entries for a PNG's text chunks, or a JPEG's comment: key and value, such as `arcsm:seed` and `7`.
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
/// Of 100: what is lost cannot be seen in images that were enlarged by whole factors.
const JPEG_QUALITY: u8 = 92;

/// The range of images that are read from bytes: black and white.
pub const UNIT: [f64; 2] = [0.0, 1.0];

/// The values to be drawn black and white, for data of this range.
///
/// Data within [0, 1] are taken for images of that range even where none is quite black or white, so that they keep their
/// tones; but not where all would be dark.
pub fn tones(range: Option<[f32; 2]>) -> [f64; 2] {
    match range.map(|range| range.map(f64::from)) {
        Some([low, high]) if low < 0.0 || !(0.5..=1.0).contains(&high) => [low, high],
        _ => UNIT,
    }
}

/// Images side by side in one picture.
#[derive(Debug, Clone)]
pub struct Grid {
    width: usize,
    height: usize,
    color: ColorType,
    pixels: Vec<u8>,
}

impl Grid {
    /// Tiles `images` (B, H, W, C), row after row; `range` is drawn from black to white, and values beyond it are clamped.
    /// `size` is [H, W, C], C = 1 or 3.
    ///
    /// Without `columns`, as many images stand in a row as make the picture about square.
    ///
    /// # Errors
    /// Bad input, when there are so many images that the picture would be unusable.
    ///
    /// # Panics
    /// When `images` is empty or no whole number of images, or C is neither 1 nor 3.
    pub fn new<T: Copy + Into<f64>>(
        images: &[T],
        size: [usize; 3],
        range: [f64; 2],
        columns: Option<usize>,
    ) -> Result<Self> {
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
                    pixel.iter_mut().zip(from).for_each(|(out, &value)| *out = to_byte(value.into(), range));
                }
            }
        }
        let color = if channels == 1 { ColorType::Grayscale } else { ColorType::Rgb };
        Ok(Self { width: wide, height: high, color, pixels })
    }

    /// Writes the picture as PNG or JPEG, by its file's name, atomically.
    ///
    /// # Errors
    /// As [`check_picture`] and [`files::write_atomically`].
    pub fn write(&self, path: &Path, text: PngText<'_>) -> Result<()> {
        write_pixels(path, (self.width, self.height), self.color, &self.pixels, text)
    }
}

fn to_byte(value: f64, [low, high]: [f64; 2]) -> u8 {
    // Images of one tone are black: none of their values is above the least.
    let share = (value - low) / (high - low).max(f64::MIN_POSITIVE);
    // In f32, as ever: halves between two greys must not fall to another side.
    ((share as f32).clamp(0.0, 1.0) * 255.0).round() as u8
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

/// What a picture is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
}

impl Format {
    /// By the end of its file's name.
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "png" => return Ok(Self::Png),
            "jpg" | "jpeg" => return Ok(Self::Jpeg),
            _ => (),
        }
        let found = if extension.is_empty() { "has no ending".into() } else { format!("ends with .{extension}") };
        let problem = format!("{found}, expected a picture's: .png, .jpg or .jpeg");
        Err(Error::input(path.display().to_string(), problem, "Give it one of these"))
    }
}

/// Makes sure that a picture can be written at `path` later on, before the work that it shall show.
///
/// # Errors
/// Bad input: `path` ends neither with .png nor with .jpg or .jpeg, or as [`files::check_writable`].
pub fn check_picture(path: &Path) -> Result<()> {
    files::check_writable(path)?;
    Format::of(path).map(|_| ())
}

/// Writes 8-bit pixels as PNG with text chunks or as JPEG with a comment, by the file's name, atomically. All pictures come
/// this way. `size` is (width, height), `color` grey or RGB.
pub(crate) fn write_pixels(
    path: &Path,
    size: (usize, usize),
    color: ColorType,
    pixels: &[u8],
    text: PngText<'_>,
) -> Result<()> {
    let format = Format::of(path)?;
    if format == Format::Jpeg && size.0.max(size.1) > usize::from(u16::MAX) {
        let problem = format!("has {} x {} pixels, a JPEG has at most {} a side", size.0, size.1, u16::MAX);
        return Err(Error::input(path.display().to_string(), problem, "Name it .png, or draw fewer"));
    }
    files::write_atomically(path, |writer| {
        let side = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let size = [side(size.0)?, side(size.1)?];
        match format {
            Format::Png => write_png(writer, size, color, pixels, text),
            Format::Jpeg => write_jpeg(writer, size, color, pixels, text),
        }
    })
}

fn write_png(
    writer: &mut impl Write,
    size: [u32; 2],
    color: ColorType,
    pixels: &[u8],
    text: PngText<'_>,
) -> io::Result<()> {
    let to_io = |error: EncodingError| match error {
        EncodingError::IoError(source) => source,
        other => io::Error::other(other),
    };
    let mut encoder = png::Encoder::new(writer, size[0], size[1]);
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
}

fn write_jpeg(
    writer: &mut impl Write,
    size: [u32; 2],
    color: ColorType,
    pixels: &[u8],
    text: PngText<'_>,
) -> io::Result<()> {
    let color = if color == ColorType::Grayscale { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY);
    encoder.encode(pixels, size[0], size[1], color).map_err(io::Error::other)?;
    // The encoder knows no comments. One may stand after the header that JFIF wants first: a marker of two bytes for the
    // file's start, one for the header, and then the header's length.
    let (header, image) = jpeg.split_at(4 + usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]])));
    let lines: String = text.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    let comment = &lines.as_bytes()[..lines.len().min(usize::from(u16::MAX) - 2)];
    writer.write_all(header)?;
    if !comment.is_empty() {
        writer.write_all(&[0xff, 0xfe])?;
        writer.write_all(&(comment.len() as u16 + 2).to_be_bytes())?;
        writer.write_all(comment)?;
    }
    writer.write_all(image)
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
        Grid::new(&images, [1, 2, 1], UNIT, Some(2)).expect("small").write(&path, &[]).expect("written");
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
        Grid::new(&[1.0, 0.2, 0.0], [1, 1, 3], UNIT, None).expect("small").write(&path, &[]).expect("written");
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
        assert!(Grid::new(&vec![0.0; 4_000_000], [1, 1, 1], UNIT, None).is_err(), "too many");
    }

    #[test]
    fn text_survives_in_any_script() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.png");
        let text =
            [("arcsm:command", "arcsm sample --seed 7".to_owned()), ("arcsm:note", "\u{3c3} = \u{bd}".to_owned())];
        Grid::new(&[0.5], [1, 1, 1], UNIT, None).expect("small").write(&path, &text).expect("written");
        let read = read_png_text(&path).expect("own file");
        assert_eq!(read, text.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
        std::fs::write(&path, "no picture").expect("written");
        assert_eq!(read_png_text(&path).expect_err("text").exit_status(), 2);
    }

    #[test]
    fn the_range_is_black_to_white_and_that_of_bytes_keeps_its_greys() {
        assert_eq!([-5.0, -1.0, 0.0, 1.0, 3.0].map(|value| to_byte(value, [-1.0, 1.0])), [0, 0, 128, 255, 255]);
        assert_eq!([7.0, 7.5].map(|value| to_byte(value, [7.0, 7.0])), [0, 255], "one tone");
        for i in 0..=100_000 {
            let value = i as f32 / 100_000.0;
            let as_ever = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
            assert_eq!(to_byte(f64::from(value), UNIT), as_ever, "{value}");
        }
        assert_eq!(tones(None), UNIT);
        assert_eq!(tones(Some([0.1, 0.9])), UNIT, "nothing quite black or white");
        assert_eq!(tones(Some([0.0, 16.0])), [0.0, 16.0]);
        assert_eq!(tones(Some([-1.0, 1.0])), [-1.0, 1.0]);
        assert_eq!(tones(Some([0.0, 0.25])), [0.0, 0.25], "dark");
    }

    #[test]
    fn a_jpeg_has_the_greys_and_a_comment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.JPG");
        let text = [("arcsm:seed", "7".to_owned()), ("arcsm:note", "\u{3c3}".to_owned())];
        for channels in [1, 3] {
            let images = vec![0.75; 64 * channels];
            Grid::new(&images, [8, 8, channels], UNIT, None).expect("small").write(&path, &text).expect("written");
            let image = image::open(&path).expect("a JPEG").to_luma8();
            assert_eq!(image.dimensions(), (52, 52));
            let grey = i32::from(image.get_pixel(26, 26).0[0]);
            assert!((grey - 191).abs() <= 2, "{grey}");
            let bytes = std::fs::read(&path).expect("there");
            let comment = "arcsm:seed: 7\narcsm:note: \u{3c3}\n".as_bytes();
            assert!(bytes.windows(comment.len()).any(|window| window == comment));
        }
        Grid::new(&[0.5], [1, 1, 1], UNIT, None).expect("small").write(&path, &[]).expect("no comment");
        image::open(&path).expect("a JPEG");
        let wide = Grid::new(&vec![0.5; 8200], [1, 1, 1], UNIT, Some(8200)).expect("small");
        assert!(wide.write(&path, &[]).expect_err("too wide").to_string().contains("65535"));
    }

    #[test]
    fn other_endings_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, found) in [("a.gif", "ends with .gif"), ("a", "has no ending"), ("a.png.gz", "ends with .gz")] {
            let path = folder.path().join(name);
            let error = check_picture(&path).expect_err(name);
            assert!(error.to_string().contains(found) && error.exit_status() == 2, "{error}");
            let grid = Grid::new(&[0.5], [1, 1, 1], UNIT, None).expect("small");
            assert!(grid.write(&path, &[]).is_err() && !path.exists());
        }
        for name in ["a.png", "b.PNG", "c.jpg", "d.jpeg"] {
            check_picture(&folder.path().join(name)).expect(name);
        }
        assert!(check_picture(folder.path()).is_err(), "a folder");
    }
}
