//! A folder of image files: PNG, JPEG, TIFF, WebP, BMP and GIF.

use std::io::Cursor;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::folder::image_files;
use super::samples::Source;
use super::{SampleShape, Samples};
use crate::data::{Broken, DataConfig};
use crate::error::{Error, Result};
use crate::files::arrays::Number;
use crate::files::blob::{Blob, Budget, unreadable};

const FORMATS: &str = "PNG, JPEG, TIFF, WebP, BMP or GIF";
/// Largest image that is decoded; a file of a few bytes may claim any size.
const MOST_PIXELS: u64 = 1 << 27;
/// Memory for decoding it at 16 bits a channel, and the longest file that is read.
const MOST_BYTES: u64 = 8 * MOST_PIXELS;
/// Images of more bytes than this are decoded one at a time, or threads would multiply the memory.
const LARGE: u64 = MOST_BYTES / 16;
static ALONE: Mutex<()> = Mutex::new(());
/// Bytes that deflate gets at most out of one (zlib's own figure for its ratio).
const DEFLATED: u64 = 1032;
/// Files that are decoded together, and threads that do so.
const DECODED_TOGETHER: usize = 2 * MOST_THREADS;
const MOST_THREADS: usize = 8;
/// Broken files that are named; more are counted.
const NAMED: usize = 5;

/// What a folder holds.
pub(super) struct Images {
    pub(super) samples: (SampleShape, Samples),
    /// The file of each, seen from the folder.
    pub(super) labels: Vec<String>,
    pub(super) note: Option<String>,
}

/// Reads every image of a folder and of the folders in it, sorted by path, and says which files were left out.
///
/// Whatever else lies there is passed over and counted, see [`image_files`]. Of files that hold several pictures the
/// first is read. Pictures are turned as their EXIF data say; transparent parts are laid over black; 16 bits are kept
/// of TIFF, and become 8 elsewhere. Where the images are more than the budget allows, each is read again whenever it
/// is asked for.
pub(super) fn read(folder: &Path, config: &DataConfig, budget: &mut Budget) -> Result<Images> {
    let (files, passed_over) = image_files(folder)?;
    let (mut stack, mut broken, mut labels) = (Stack::new(config, budget.left()), Vec::new(), Vec::new());
    let opened = files.chunks(DECODED_TOGETHER).flat_map(|files| in_parallel(files, |file| open(file, config.size)));
    for (file, image) in files.iter().zip(opened) {
        match image {
            Ok(image) => {
                stack.push(image, file)?;
                labels.push(file.strip_prefix(folder).unwrap_or(file).to_string_lossy().into_owned());
            }
            Err(problem) if config.broken == Broken::Skip => broken.push(format!("{} {problem}", file.display())),
            Err(problem) => {
                let remedy = "Mend or remove it, or leave such files out: --broken skip";
                return Err(Error::input(file.display().to_string(), problem, remedy));
            }
        }
    }
    let note = (!broken.is_empty()).then(|| {
        let more = if broken.len() > NAMED { "; ..." } else { "" };
        let named = broken[..broken.len().min(NAMED)].join("; ");
        format!("{} of {} image files are left out: {named}{more}", broken.len(), files.len())
    });
    let note: Vec<_> = note.into_iter().chain(passed_over.note()).collect();
    let note = note.join("; ");
    match stack.into_samples(budget) {
        Some(samples) => Ok(Images { samples, labels, note: (!note.is_empty()).then_some(note) }),
        None => {
            let problem = format!("holds no image that can be read: {note}");
            Err(Error::input(folder.display().to_string(), problem, "Give a folder with image files"))
        }
    }
}

/// Images of one size, grey until the first one in colour comes, unless the settings say which.
struct Stack<'a> {
    config: &'a DataConfig,
    /// Size of the images.
    size: Option<[u32; 2]>,
    channels: usize,
    /// Whether any of them has 16 bits a channel; then all are kept so.
    deep: bool,
    /// (N, H, W, C), while they are at most `most` bytes.
    pixels: Option<Vec<u8>>,
    most: u64,
    files: Vec<PathBuf>,
}

impl<'a> Stack<'a> {
    fn new(config: &'a DataConfig, most: u64) -> Self {
        let channels = config.channels.unwrap_or(1);
        Self { config, size: None, channels, deep: false, pixels: Some(Vec::new()), most, files: Vec::new() }
    }

    fn push(&mut self, picture: Picture, file: &Path) -> Result<()> {
        self.check_size(picture.size, file)?;
        if self.config.channels.is_none() && self.channels == 1 && picture.image.color().has_color() {
            self.channels = 3;
            let width = number_of(self.deep).width();
            self.pixels = self.pixels.take().map(|pixels| tripled(&pixels, width));
        }
        if picture.deep && !self.deep {
            self.deep = true;
            self.pixels = self.pixels.take().map(|pixels| deepened(&pixels));
        }
        if let Some(pixels) = &mut self.pixels {
            pixels.extend(pixels_of(picture, self.channels, self.deep));
        }
        self.pixels.take_if(|pixels| pixels.len() as u64 > self.most);
        self.files.push(file.to_owned());
        Ok(())
    }

    /// An image of another size than the first, or of one that no model takes, is refused, broken or not.
    fn check_size(&mut self, size: [u32; 2], file: &Path) -> Result<()> {
        let [height, width] = size;
        let refuse = |problem| {
            let remedy = "Give a size to bring all images to: --size 64";
            Err(Error::input(file.display().to_string(), problem, remedy))
        };
        if height.max(width) as usize > DataConfig::LARGEST_SIDE {
            let largest = DataConfig::LARGEST_SIDE;
            return refuse(format!("has {width} x {height} pixels, images to learn from at most {largest} a side"));
        }
        match self.size {
            Some([rows, columns]) if [rows, columns] != size => {
                let first = self.files[0].display();
                refuse(format!("has {width} x {height} pixels, {first} has {columns} x {rows}"))
            }
            _ => {
                self.size = Some(size);
                Ok(())
            }
        }
    }

    fn into_samples(self, budget: &mut Budget) -> Option<(SampleShape, Samples)> {
        let size @ [height, width] = self.size?;
        let shape = SampleShape::Image { height: height as usize, width: width as usize, channels: self.channels };
        let (dimensions, number) = (shape.dimensions(), number_of(self.deep));
        let samples = match self.pixels {
            Some(pixels) => {
                budget.take(pixels.len() as u64);
                Samples::from_numbers(dimensions, number, Blob::from_bytes("images", pixels), largest(self.deep))
            }
            None => {
                let values = self.files.len() * dimensions;
                budget.leave((values * number.width()) as u64);
                let (resize, channels, deep) = (self.config.size, self.channels, self.deep);
                let files = Files { files: self.files, resize, size, channels, deep };
                Samples::new(dimensions, values, files)
            }
        };
        Some((shape, samples))
    }
}

/// Image files that were checked and are decoded whenever they are asked for.
#[derive(Debug)]
struct Files {
    files: Vec<PathBuf>,
    resize: Option<usize>,
    /// Height and width of every image.
    size: [u32; 2],
    channels: usize,
    deep: bool,
}

impl Source for Files {
    fn read(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        let dimensions = (self.size[0] * self.size[1]) as usize * self.channels;
        for (rows, out) in rows.chunks(DECODED_TOGETHER).zip(out.chunks_mut(DECODED_TOGETHER * dimensions)) {
            let images = in_parallel(rows, |&row| self.decode(row));
            for (pixels, image) in images.into_iter().zip(out.chunks_exact_mut(dimensions)) {
                number_of(self.deep).decode(&pixels?, image);
                image.iter_mut().for_each(|value| *value /= f64::from(largest(self.deep)));
            }
        }
        Ok(())
    }
}

impl Files {
    fn decode(&self, row: usize) -> Result<Vec<u8>> {
        let file = &self.files[row];
        let changed = |problem: String| unreadable(&file.display().to_string(), std::io::Error::other(problem));
        let picture = open(file, self.resize).map_err(changed)?;
        if picture.size != self.size {
            return Err(changed("the image has another size than before".into()));
        }
        Ok(pixels_of(picture, self.channels, self.deep))
    }
}

/// Does work on every item, on some threads; the results stand in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let (work, share) = (&work, items.len().div_ceil(threads).max(1));
    scope(|scope| {
        let parts = items.chunks(share).map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<R>>()));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// What a channel of a pixel is: 16 bits or 8.
fn number_of(deep: bool) -> Number {
    if deep { Number::UnsignedShort } else { Number::Byte }
}

/// White.
fn largest(deep: bool) -> u16 {
    if deep { u16::MAX } else { u16::from(u8::MAX) }
}

/// The bytes of pixels (H, W, C) of 16 or 8 bits a channel; a grey image has equal channels.
fn pixels_of(picture: Picture, channels: usize, deep: bool) -> Vec<u8> {
    let Picture { image, deep: has_deep, .. } = picture;
    let has_color = image.color().has_color();
    if deep && has_deep {
        let bytes = |pixels: Vec<u16>| pixels.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        return match channels {
            1 => bytes(image.into_luma16().into_raw()),
            _ if has_color => bytes(image.into_rgb16().into_raw()),
            _ => tripled(&bytes(image.into_luma16().into_raw()), 2),
        };
    }
    let pixels = match channels {
        1 => image.into_luma8().into_raw(),
        _ if has_color => image.into_rgb8().into_raw(),
        _ => tripled(image.into_luma8().as_raw(), 1),
    };
    if deep { deepened(&pixels) } else { pixels }
}

/// Every number of `width` bytes three times.
fn tripled(grey: &[u8], width: usize) -> Vec<u8> {
    grey.chunks_exact(width).flat_map(|value| std::iter::repeat_n(value, 3).flatten().copied()).collect()
}

/// Bytes as numbers of 16 bits: 257 times as large, so that the same share of the largest has the same bits.
fn deepened(pixels: &[u8]) -> Vec<u8> {
    pixels.iter().flat_map(|&byte| [byte; 2]).collect()
}

/// A decoded image, opaque.
struct Picture {
    /// Height and width.
    size: [u32; 2],
    /// Nothing of an image that no model takes.
    image: DynamicImage,
    /// Whether it has 16 bits a channel that are kept.
    deep: bool,
}

/// The square in the middle, as large as it can be, resized: what resizing the shorter side and then cropping gives,
/// without an image that is as long as the longer side may be.
fn middle_square(image: &DynamicImage, size: u32) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    image.crop_imm((width - side) / 2, (height - side) / 2, side, side).resize_exact(size, size, FilterType::Lanczos3)
}

/// Reads one file as an opaque image, its middle square resized where that is asked for; the error says what is wrong
/// with it.
fn open(path: &Path, resize: Option<usize>) -> Result<Picture, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MOST_BYTES {
        return Err(format!("has {length} bytes, expected at most {MOST_BYTES}"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let format = match image::guess_format(&bytes) {
        Ok(format) if is_read(format) => format,
        Ok(other) => return Err(format!("is a file of type {other:?}, expected {FORMATS}")),
        Err(_) => return Err(format!("is no {FORMATS} file: it starts with {}", start_of(&bytes))),
    };
    if format == ImageFormat::Jpeg && !is_whole_jpeg(&bytes) {
        return Err("is cut off: the end marker of JPEG is missing".into());
    }
    // WebP's fifth to eighth byte say how many come after them; decoders fill up what is missing.
    let claimed = bytes.get(4..8).map_or(0, |size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    if format == ImageFormat::WebP && bytes.len() as u64 - 8 < u64::from(claimed) {
        return Err(format!("is cut off: it says that it has {} bytes, found {}", u64::from(claimed) + 8, bytes.len()));
    }
    decode(&bytes, format, resize)
}

/// Whether a file that starts so is an image of a format that is read.
pub(super) fn is_image(start: &[u8]) -> bool {
    image::guess_format(start).is_ok_and(is_read)
}

fn is_read(format: ImageFormat) -> bool {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    matches!(format, Png | Jpeg | Tiff | WebP | Bmp | Gif)
}

fn start_of(bytes: &[u8]) -> String {
    let start: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    if start.is_empty() { "nothing".into() } else { start }
}

fn decode(bytes: &[u8], format: ImageFormat, resize: Option<usize>) -> Result<Picture, String> {
    let refuse = |error: ImageError| {
        let words: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
        let kind = match error {
            ImageError::Unsupported(_) => format!("is a {format:?} file of a kind that is not read"),
            _ => format!("is a broken {format:?} file"),
        };
        format!("{kind}: {}", words.join(" "))
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(memory_for(bytes, format));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    check_claims(&decoder, format, bytes.len() as u64)?;
    let (width, height) = decoder.dimensions();
    if resize.is_none() && width.max(height) as usize > DataConfig::LARGEST_SIDE {
        return Ok(Picture { size: [height, width], image: DynamicImage::default(), deep: false });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let _alone = (decoder.total_bytes() > LARGE).then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    let mut image = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    image.apply_orientation(orientation);
    let color = image.color();
    let deep = format == ImageFormat::Tiff && color.bytes_per_pixel() > color.channel_count();
    let mut image = over_black(image, deep);
    // These formats have no grey of their own.
    if matches!(format, ImageFormat::Gif | ImageFormat::WebP | ImageFormat::Bmp) && is_grey(&image) {
        image = image.into_luma8().into();
    }
    if let Some(size) = resize {
        image = middle_square(&image, size as u32);
    }
    Ok(Picture { size: [image.height(), image.width()], image, deep })
}

/// Bytes of pixels, as they are stored, that a file of that length may claim: what deflate can make of it, or eight
/// times as much where other means of packing have no such bound. Images without detail may be [`LARGE`] in any case.
fn most_for(length: u64, format: ImageFormat) -> u64 {
    let is_deflated = matches!(format, ImageFormat::Png | ImageFormat::Tiff);
    let ratio = if is_deflated { DEFLATED } else { 8 * DEFLATED };
    ratio.saturating_mul(length).saturating_add(LARGE)
}

/// Memory that a decoder may take. A PNG, whose size stands in its first chunk, gets no more for packed profiles and
/// texts than [`LARGE`], whatever they unpack to.
fn memory_for(bytes: &[u8], format: ImageFormat) -> u64 {
    let side =
        |at: usize| bytes.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |&side| u32::from_be_bytes(side));
    let pixels = u64::from(side(16)) * u64::from(side(20));
    let most = if format == ImageFormat::Png {
        pixels.saturating_mul(8).saturating_add(LARGE)
    } else {
        most_for(bytes.len() as u64, format)
    };
    MOST_BYTES.min(most)
}

/// Holds what the header says against what is possible, before memory is taken for it.
fn check_claims(decoder: &impl ImageDecoder, format: ImageFormat, length: u64) -> Result<(), String> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("has {width} x {height} pixels, expected at least one"));
    }
    if pixels > MOST_PIXELS {
        return Err(format!("has {width} x {height} pixels, expected at most {MOST_PIXELS}"));
    }
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err("holds floating-point numbers, expected 8 or 16 bits a channel".into());
    }
    if decoder.total_bytes() > MOST_BYTES {
        return Err(format!("takes {} bytes, expected at most {MOST_BYTES}", decoder.total_bytes()));
    }
    let bits = u64::from(decoder.original_color_type().bits_per_pixel());
    if pixels * bits / 8 > most_for(length, format) {
        return Err(format!("is a broken {format:?} file: {length} bytes cannot hold {width} x {height} pixels"));
    }
    Ok(())
}

fn is_grey(image: &DynamicImage) -> bool {
    image.as_rgb8().is_some_and(|pixels| pixels.pixels().all(|&image::Rgb([r, g, b])| r == g && g == b))
}

/// Lays transparent parts over black.
fn over_black(image: DynamicImage, deep: bool) -> DynamicImage {
    if !image.has_alpha() {
        return image;
    }
    let has_color = image.color().has_color();
    if deep {
        let mut pixels = image.into_rgba16();
        for [color @ .., alpha] in pixels.as_chunks_mut::<4>().0 {
            let share = |value: u16| (u32::from(value) * u32::from(*alpha) + 32767) / 65535;
            color.iter_mut().for_each(|value| *value = share(*value) as u16);
        }
        let opaque = DynamicImage::ImageRgba16(pixels);
        return if has_color { opaque.into_rgb16().into() } else { opaque.into_luma16().into() };
    }
    let mut pixels = image.into_rgba8();
    for [color @ .., alpha] in pixels.as_chunks_mut::<4>().0 {
        color.iter_mut().for_each(|value| *value = ((u16::from(*value) * u16::from(*alpha) + 127) / 255) as u8);
    }
    let opaque = DynamicImage::ImageRgba8(pixels);
    if has_color { opaque.into_rgb8().into() } else { opaque.into_luma8().into() }
}

/// Whether the segments of a JPEG file lead to its end marker (ITU-T T.81, annex B). Decoders fill up what is missing
/// with grey and say nothing.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    /// Escaped 0xff in coded data, fill bytes, and the markers without a segment: TEM and RST0 to RST7.
    fn has_no_segment(code: u8) -> bool {
        matches!(code, 0x00 | 0x01 | 0xff | 0xd0..=0xd7)
    }
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let marker = rest.windows(2).position(|pair| pair[0] == 0xff && !has_no_segment(pair[1]));
        let Some(at) = marker else { return false };
        if rest[at + 1] == END {
            return true;
        }
        // A segment's length counts its own two bytes; what it holds is not searched, as it may be a thumbnail.
        let segment = &rest[at + 2..];
        let Some(length) = segment.first_chunk().map(|&length| usize::from(u16::from_be_bytes(length))) else {
            return false;
        };
        rest = segment.get(length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba};
    use tempfile::TempDir;

    use super::*;

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn grey(value: u8) -> DynamicImage {
        GrayImage::from_fn(4, 2, |x, y| Luma([value + 10 * x as u8 + y as u8])).into()
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        // GIF's encoder takes no grey.
        let image = if format == ImageFormat::Gif { &image.to_rgb8().into() } else { image };
        image.write_to(&mut bytes, format).expect("encoded");
        bytes.into_inner()
    }

    fn put(folder: &TempDir, name: &str, image: impl Into<DynamicImage>, format: ImageFormat) {
        fs::write(folder.path().join(name), encoded(&image.into(), format)).expect("written");
    }

    /// Shape, images and note, which must be the same from memory and from disk.
    fn load(folder: &TempDir, config: &DataConfig) -> (String, Vec<Vec<u8>>, Option<String>) {
        let [in_memory, on_disk] = [1, 0].map(|mib| {
            let mut budget = Budget::of_mib(mib);
            let Images { samples: (shape, samples), note, .. } =
                read(folder.path(), config, &mut budget).expect("images");
            assert_eq!(budget.note().is_some(), mib == 0);
            let mut row = vec![0.0; shape.dimensions()];
            let image = |index| {
                samples.write_sample(index, &mut row).expect("there");
                row.iter().map(|value| (value * 255.0).round() as u8).collect()
            };
            (shape.to_string(), (0..samples.len()).map(image).collect(), note)
        });
        assert_eq!(in_memory, on_disk);
        in_memory
    }

    fn refusal(folder: &TempDir, config: &DataConfig) -> String {
        let error = read(folder.path(), config, &mut Budget::of_mib(1)).map(|images| images.samples.0);
        let error = error.expect_err("refused");
        assert_eq!(error.exit_status(), 2);
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }

    /// A PNG whose header claims a size that its data do not have; `kind` is its bits a channel and its colour type.
    fn png_of(side: u32, kind: [u8; 2]) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &kind, &[0, 0, 0]].concat();
        for (kind, data) in [(b"IHDR", header), (b"IDAT", vec![0x78, 0x9c, 3, 0, 0, 0, 0, 1]), (b"IEND", Vec::new())] {
            let chunk = [&kind[..], &data].concat();
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(&chunk);
            bytes.extend(crc32fast::hash(&chunk).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn files_are_sorted_and_their_content_decides() {
        let folder = folder();
        fs::create_dir(folder.path().join("b")).expect("made");
        put(&folder, "c.JPG", grey(2), ImageFormat::Png);
        put(&folder, "b/z.png", grey(1), ImageFormat::Png);
        put(&folder, "a.jpeg", grey(0), ImageFormat::Png);
        put(&folder, ".hidden.png", grey(9), ImageFormat::Png);
        fs::write(folder.path().join("notes.txt"), "no image").expect("written");
        let (shape, images, note) = load(&folder, &DataConfig::default());
        assert_eq!((shape.as_str(), note.as_deref()), ("2x4x1", Some("passed over: 1 .txt, 1 dot-file")));
        let expected = |v: u8| vec![v, v + 10, v + 20, v + 30, v + 1, v + 11, v + 21, v + 31];
        assert_eq!(images, [expected(0), expected(1), expected(2)]);
    }

    #[test]
    fn one_file_in_colour_makes_all_of_them_so_unless_the_settings_say_otherwise() {
        let folder = folder();
        put(&folder, "a.png", GrayImage::from_pixel(1, 1, Luma([7])), ImageFormat::Png);
        put(&folder, "b.png", RgbImage::from_pixel(1, 1, Rgb([10, 200, 30])), ImageFormat::Png);
        put(&folder, "c.png", GrayImage::from_pixel(1, 1, Luma([9])), ImageFormat::Png);
        let (shape, images, _) = load(&folder, &DataConfig::default());
        assert_eq!((shape.as_str(), images), ("1x1x3", vec![vec![7; 3], vec![10, 200, 30], vec![9; 3]]));
        let (shape, images, _) = load(&folder, &DataConfig { channels: Some(1), ..Default::default() });
        assert_eq!((shape.as_str(), &images[0], &images[2]), ("1x1x1", &vec![7], &vec![9]));
        // Luma by ITU-R BT.709: 0.2126 R + 0.7152 G + 0.0722 B = 147.3.
        assert!(images[1][0].abs_diff(147) <= 1, "{images:?}");
        fs::remove_file(folder.path().join("b.png")).expect("there");
        let (shape, images, _) = load(&folder, &DataConfig { channels: Some(3), ..Default::default() });
        assert_eq!((shape.as_str(), images), ("1x1x3", vec![vec![7; 3], vec![9; 3]]));
    }

    #[test]
    fn jpeg_is_read_to_its_own_accuracy() {
        let folder = folder();
        put(&folder, "a.jpg", RgbImage::from_pixel(16, 16, Rgb([200, 40, 90])), ImageFormat::Jpeg);
        put(&folder, "b.jpg", GrayImage::from_pixel(16, 16, Luma([120])), ImageFormat::Jpeg);
        let (shape, images, _) = load(&folder, &DataConfig::default());
        assert_eq!(shape, "16x16x3");
        for (image, color) in images.iter().zip([[200, 40, 90], [120; 3]]) {
            let far = image.as_chunks::<3>().0.iter().flatten().zip(color.iter().cycle()).map(|(a, b)| a.abs_diff(*b));
            assert!(far.max().is_some_and(|far| far <= 6), "{:?} {color:?}", &image[..3]);
        }
    }

    #[test]
    fn every_format_without_loss_gives_the_same_pixels() {
        use ImageFormat::{Bmp, Gif, Png, Tiff, WebP};
        let color = RgbImage::from_fn(5, 3, |x, y| Rgb([40 * x as u8, 100 * y as u8, 7 * (x + y) as u8]));
        let [grey_folder, color_folder] = [folder(), folder()];
        for (name, format) in [("a.png", Png), ("b.tif", Tiff), ("c.webp", WebP), ("d.bmp", Bmp), ("e.gif", Gif)] {
            put(&grey_folder, name, grey(3), format);
            put(&color_folder, name, color.clone(), format);
        }
        let (shape, images, note) = load(&grey_folder, &DataConfig::default());
        assert_eq!((shape.as_str(), note), ("2x4x1", None));
        assert_eq!(images, vec![vec![3, 13, 23, 33, 4, 14, 24, 34]; 5]);
        let (shape, images, _) = load(&color_folder, &DataConfig::default());
        assert_eq!((shape.as_str(), images), ("3x5x3", vec![color.into_raw(); 5]));
    }

    #[test]
    fn an_image_without_pixels_is_refused() {
        let folder = folder();
        // A screen of 0 x 6, a colour table, a picture of 1 x 1 on it.
        let bytes = b"GIF89a\0\0\x06\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
        fs::write(folder.path().join("a.gif"), bytes).expect("written");
        let read = read(folder.path(), &DataConfig::default(), &mut Budget::of_mib(1));
        let error = read.err().expect("refused").to_string();
        assert!(error.contains("a.gif") && error.contains("0 x 6 pixels, expected at least one"), "{error}");
    }

    #[test]
    fn the_first_picture_of_a_gif_is_read() {
        let folder = folder();
        let mut bytes = Vec::new();
        let frames = [[9, 9, 9, 255], [200, 0, 0, 255]].map(|pixel| image::RgbaImage::from_pixel(3, 2, Rgba(pixel)));
        let encoded = image::codecs::gif::GifEncoder::new(&mut bytes).encode_frames(frames.map(image::Frame::new));
        encoded.expect("encoded");
        fs::write(folder.path().join("a.gif"), bytes).expect("written");
        let (shape, images, _) = load(&folder, &DataConfig::default());
        assert_eq!((shape.as_str(), images), ("2x3x1", vec![vec![9; 6]]));
    }

    /// All values, which must be the same from memory and from disk.
    fn values(folder: &TempDir, config: &DataConfig) -> (String, Vec<f32>) {
        let [in_memory, on_disk] = [1, 0].map(|mib| {
            let (shape, samples) = read(folder.path(), config, &mut Budget::of_mib(mib)).expect("images").samples;
            (shape.to_string(), samples.first(samples.len()).expect("there"))
        });
        assert_eq!(in_memory, on_disk);
        in_memory
    }

    #[test]
    fn tiff_keeps_16_bits_and_changes_no_bit_of_its_neighbours() {
        let folder = folder();
        let bytes: Vec<u8> = (0..=255).collect();
        let all = || GrayImage::from_raw(256, 1, bytes.clone()).expect("fits");
        put(&folder, "a.png", all(), ImageFormat::Png);
        let (_, alone) = values(&folder, &DataConfig::default());
        let deep = |x: u32| (257 * x + 3 * (x % 2)) as u16;
        let image: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_fn(256, 1, |x, _| Luma([deep(x)]));
        put(&folder, "b.tiff", image, ImageFormat::Tiff);
        put(&folder, "c.png", all(), ImageFormat::Png);
        let (shape, together) = values(&folder, &DataConfig::default());
        assert_eq!((shape.as_str(), &together[..256], &together[512..]), ("1x256x1", &alone[..], &alone[..]));
        let expected: Vec<f32> = (0..256).map(|x| (f64::from(deep(x)) / 65535.0) as f32).collect();
        assert_eq!(together[256..512], expected);
        // In colour, with alpha, and after an image that was stacked as 8 bits of grey.
        let clear: ImageBuffer<Rgba<u16>, _> = ImageBuffer::from_pixel(256, 1, Rgba([1000, 2000, 65535, 32768]));
        put(&folder, "d.tiff", clear, ImageFormat::Tiff);
        let (shape, together) = values(&folder, &DataConfig::default());
        assert_eq!((shape.as_str(), together.len()), ("1x256x3", 4 * 768));
        assert!(together[..768].as_chunks::<3>().0.iter().zip(&alone).all(|(rgb, grey)| *rgb == [*grey; 3]));
        assert!(together[768..1536].as_chunks::<3>().0.iter().zip(&expected).all(|(rgb, grey)| *rgb == [*grey; 3]));
        assert_eq!(together[3 * 768..3 * 768 + 3], [500.0, 1000.0, 32768.0].map(|v: f32| v / 65535.0));
    }

    #[test]
    fn floats_and_other_odd_tiffs_are_told() {
        let folder = folder();
        let floats: ImageBuffer<Rgb<f32>, _> = ImageBuffer::from_pixel(2, 2, Rgb([0.5, 1.5, -1.0]));
        put(&folder, "a.tif", floats, ImageFormat::Tiff);
        let problem = refusal(&folder, &DataConfig::default());
        assert!(problem.contains("a.tif: holds floating-point numbers, expected 8 or 16 bits"), "{problem}");
        // A grey image of 4 bits: entry BitsPerSample (258) of the directory says so.
        let mut bytes = encoded(&grey(0), ImageFormat::Tiff);
        let at = bytes.windows(4).position(|entry| entry == [2, 1, 3, 0]).expect("little endian");
        bytes[at + 8] = 4;
        fs::write(folder.path().join("a.tif"), bytes).expect("written");
        let problem = refusal(&folder, &DataConfig::default());
        assert!(problem.contains("a.tif: is a Tiff file of a kind that is not read"), "{problem}");
    }

    #[test]
    fn an_image_that_no_model_takes_is_refused_before_it_is_decoded() {
        let folder = folder();
        // With what could hold so many pixels behind its end.
        let bytes = [png_of(1100, [1, 0]), vec![0; 200]].concat();
        fs::write(folder.path().join("a.png"), bytes).expect("written");
        let config = DataConfig::default();
        assert!(refusal(&folder, &config).contains("has 1100 x 1100 pixels, images to learn from at most 1024 a side"));
        assert!(refusal(&folder, &DataConfig { size: Some(8), ..config }).contains("is a broken Png file"));
    }

    #[test]
    fn the_middle_square_is_resized() {
        let folder = folder();
        // Three squares side by side, or one above the other: black, grey 100, white.
        let value = |along: u32| Luma([[0, 100, 255][along as usize / 8]]);
        put(&folder, "a.png", GrayImage::from_fn(24, 8, |x, _| value(x)), ImageFormat::Png);
        put(&folder, "b.png", GrayImage::from_fn(8, 24, |_, y| value(y)), ImageFormat::Png);
        // Left half darker: its order survives.
        let halves = GrayImage::from_fn(8, 8, |x, _| Luma([if x < 4 { 50 } else { 150 }]));
        put(&folder, "c.png", halves, ImageFormat::Png);
        let (shape, images, _) = load(&folder, &DataConfig { size: Some(4), ..Default::default() });
        assert_eq!(shape, "4x4x1");
        assert_eq!(images[..2], [vec![100; 16], vec![100; 16]]);
        for row in images[2].as_chunks::<4>().0 {
            assert!(row[0].abs_diff(50) <= 3 && row[3].abs_diff(150) <= 3 && row[1] < row[2], "{row:?}");
        }
    }

    #[test]
    fn transparent_parts_become_black_and_16_bits_become_8() {
        let folder = folder();
        put(&folder, "a.png", image::RgbaImage::from_pixel(1, 1, Rgba([200, 100, 50, 51])), ImageFormat::Png);
        let deep: ImageBuffer<LumaA<u16>, _> = ImageBuffer::from_pixel(1, 1, LumaA([257 * 80, u16::MAX]));
        put(&folder, "b.png", deep, ImageFormat::Png);
        let (_, images, _) = load(&folder, &DataConfig::default());
        assert_eq!(images, [vec![40, 20, 10], vec![80; 3]]);
    }

    #[test]
    fn broken_files_are_named_and_refused_or_skipped() {
        let (png, jpeg) = (encoded(&grey(5), ImageFormat::Png), encoded(&grey(5), ImageFormat::Jpeg));
        let skip = DataConfig { broken: Broken::Skip, ..Default::default() };
        for (name, bytes, expected) in [
            ("m.png", b"no picture".to_vec(), "is no PNG, JPEG, TIFF, WebP, BMP or GIF file: it starts with 6e6f2070"),
            ("m.png", Vec::new(), "it starts with nothing"),
            ("m.png", b"GIF89a and so on".to_vec(), "has 24864 x 25710 pixels, expected at most"),
            ("m.png", b"qoif and so on".to_vec(), "is a file of type Qoi, expected PNG, JPEG, TIFF, WebP, BMP or GIF"),
            ("m.png", png_of(11585, [16, 6]), "bytes cannot hold 11585 x 11585 pixels"),
            ("m.png", png[..png.len() / 2].to_vec(), "is a broken Png file"),
            ("m.png", png_of(100_000, [8, 2]), "pixels"),
            ("m.jpg", jpeg[..jpeg.len() - 2].to_vec(), "is cut off: the end marker"),
            ("m.jpg", jpeg[..jpeg.len() / 2].to_vec(), "is cut off: the end marker"),
        ] {
            let folder = folder();
            put(&folder, "a.png", grey(0), ImageFormat::Png);
            put(&folder, "z.png", grey(1), ImageFormat::Png);
            fs::write(folder.path().join(name), &bytes).expect("written");
            let problem = refusal(&folder, &DataConfig::default());
            assert!(problem.contains(name) && problem.contains(expected), "{problem} lacks {expected}");
            let (_, images, note) = load(&folder, &skip);
            let note = note.expect("a file was skipped");
            assert_eq!(images.len(), 2);
            assert!(note.contains("1 of 3 image files") && note.contains(name) && note.contains(expected), "{note}");
            fs::remove_file(folder.path().join("a.png")).expect("there");
            fs::remove_file(folder.path().join("z.png")).expect("there");
            assert!(refusal(&folder, &skip).contains("holds no image that can be read: 1 of 1"));
        }
    }

    #[test]
    fn a_few_bytes_may_not_claim_a_large_image_in_any_format() {
        let claiming = |format, place: &[u8], size: &[u8]| {
            let mut bytes = encoded(&grey(5), format);
            let at = bytes.windows(place.len()).position(|part| part == place).expect("there") + place.len();
            bytes[at..][..size.len()].copy_from_slice(size);
            bytes
        };
        let four = |n: u32| n.to_le_bytes();
        for (format, bytes) in [
            (ImageFormat::Tiff, claiming(ImageFormat::Tiff, &[0, 1, 4, 0, 1, 0, 0, 0], &four(0x03ff_ffff))),
            (ImageFormat::Gif, claiming(ImageFormat::Gif, b"GIF89a", &[0xff, 0xff, 0xd0, 7])),
            (ImageFormat::Bmp, claiming(ImageFormat::Bmp, &four(40), &[four(11_585), four(11_585)].concat())),
        ] {
            let problem = decode(&bytes, format, Some(8)).map(|picture| picture.size).expect_err("refused");
            assert!(problem.contains("bytes cannot hold"), "{problem}");
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_in_use_is_named() {
        let folder = folder();
        put(&folder, "a.png", grey(0), ImageFormat::Png);
        put(&folder, "b.png", grey(1), ImageFormat::Png);
        let images = read(folder.path(), &DataConfig::default(), &mut Budget::of_mib(0)).expect("images");
        let (_, samples) = images.samples;
        put(&folder, "b.png", GrayImage::new(5, 2), ImageFormat::Png);
        samples.write_sample(0, &mut [0.0; 8]).expect("unchanged");
        for (change, expected) in [("another size", "has another size"), ("gone", "cannot be read")] {
            let error = samples.write_sample(1, &mut [0.0; 8]).expect_err(change);
            assert_eq!(error.exit_status(), 1);
            assert!(error.to_string().contains("b.png") && error.to_string().contains(expected), "{error}");
            fs::remove_file(folder.path().join("b.png")).ok();
        }
    }

    #[test]
    fn every_cut_of_a_file_is_noticed() {
        let folder = folder();
        // The last 12 bytes of a PNG and the last one of a GIF say only that it ends.
        let needless = [0, 12, 0, 0, 0, 1];
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
        for (format, needless) in [Jpeg, Png, Tiff, WebP, Bmp, Gif].into_iter().zip(needless) {
            let whole = encoded(&grey(3), format);
            let path = folder.path().join("x.png");
            for length in 0..whole.len() - needless {
                fs::write(&path, &whole[..length]).expect("written");
                assert!(open(&path, None).is_err(), "{length} of {} bytes of {format:?}", whole.len());
            }
            fs::write(&path, &whole).expect("written");
            open(&path, None).expect("whole");
        }
    }

    #[test]
    fn folders_without_images_and_sizes_that_differ_are_refused() {
        let folder = folder();
        let config = DataConfig::default();
        assert!(refusal(&folder, &config).contains("holds no file named .png"));
        fs::write(folder.path().join("table.csv"), "1,2").expect("written");
        assert!(refusal(&folder, &config).contains("holds no file named .png"));
        put(&folder, "a.png", grey(0), ImageFormat::Png);
        put(&folder, "b.png", GrayImage::new(5, 2), ImageFormat::Png);
        let problem = refusal(&folder, &config);
        assert!(problem.contains("b.png: has 5 x 2 pixels") && problem.contains("a.png has 4 x 2"), "{problem}");
        assert!(problem.contains("--size"), "{problem}");
        put(&folder, "a.png", GrayImage::new(1025, 1), ImageFormat::Png);
        assert!(refusal(&folder, &config).contains("has 1025 x 1 pixels, images to learn from at most 1024 a side"));
    }
}
