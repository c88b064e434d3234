//! A folder of PNG and JPEG files.

use std::fmt::Display;
use std::io::Cursor;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{available_parallelism, scope};

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::samples::Source;
use super::{SampleShape, Samples};
use crate::blob::{Blob, Budget, unreadable};
use crate::config::{Broken, DataConfig};
use crate::error::{Error, Result};

/// Ends of the names of files that are read; their content then decides which of the two formats they have.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Largest image that is decoded; a file of a few bytes may claim any size.
const MOST_PIXELS: u64 = 1 << 27;
/// Memory for decoding it at 16 bits a channel.
const MOST_BYTES: u64 = 8 * MOST_PIXELS;
/// Files that are decoded together, and threads that do so.
const DECODED_TOGETHER: usize = 2 * MOST_THREADS;
const MOST_THREADS: usize = 8;
/// Broken files that are named; more are counted.
const NAMED: usize = 5;

/// Reads every image of a folder and of the folders in it, sorted by path, and says which files were left out.
///
/// Names that start with a dot are passed over, as are links to folders. Pictures are turned as their EXIF data say;
/// transparent parts are laid over black; 16 bits become 8. Where the images are more than the budget allows, each is
/// read again whenever it is asked for.
pub(super) fn read(
    folder: &Path,
    config: &DataConfig,
    budget: &mut Budget,
) -> Result<((SampleShape, Samples), Option<String>)> {
    let files = image_files(folder)?;
    let (mut stack, mut broken) = (Stack::new(config, budget.left()), Vec::new());
    let opened = files.chunks(DECODED_TOGETHER).flat_map(|files| in_parallel(files, |file| open(file, config.size)));
    for (file, image) in files.iter().zip(opened) {
        match image {
            Ok(image) => stack.push(image, file)?,
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
    match (stack.into_samples(budget), note) {
        (Some(samples), note) => Ok((samples, note)),
        (None, note) => {
            let problem = format!("holds no image that can be read: {}", note.unwrap_or_default());
            Err(Error::input(folder.display().to_string(), problem, "Give a folder with PNG or JPEG files"))
        }
    }
}

/// Files that are named like images, sorted.
fn image_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let unreadable = |source: std::io::Error| {
            let problem = format!("cannot be read: {source}");
            Error::input(folder.display().to_string(), problem, "Give a folder that exists and may be read")
        };
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // The type is that of a link itself, so a link to a folder above cannot lead in circles.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(path);
            } else if is_named_like_image(&path) {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        let problem = "holds no file named .png, .jpg or .jpeg";
        return Err(Error::input(folder.display().to_string(), problem, "Give a folder with PNG or JPEG files"));
    }
    files.sort();
    Ok(files)
}

fn is_named_like_image(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Images of one size, grey until the first one in colour comes, unless the settings say which.
struct Stack<'a> {
    config: &'a DataConfig,
    /// Size of the images.
    size: Option<[u32; 2]>,
    channels: usize,
    /// (N, H, W, C), while they are at most `most` bytes.
    pixels: Option<Vec<u8>>,
    most: u64,
    files: Vec<PathBuf>,
}

impl<'a> Stack<'a> {
    fn new(config: &'a DataConfig, most: u64) -> Self {
        let channels = config.channels.unwrap_or(1);
        Self { config, size: None, channels, pixels: Some(Vec::new()), most, files: Vec::new() }
    }

    fn push(&mut self, image: DynamicImage, file: &Path) -> Result<()> {
        self.check_size([image.height(), image.width()], file)?;
        if self.config.channels.is_none() && self.channels == 1 && image.color().has_color() {
            self.channels = 3;
            self.pixels = self.pixels.take().map(tripled);
        }
        if let Some(pixels) = &mut self.pixels {
            pixels.extend(pixels_of(image, self.channels));
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
        let dimensions = shape.dimensions();
        let samples = match self.pixels {
            Some(pixels) => {
                budget.take(pixels.len() as u64);
                Samples::from_bytes(dimensions, Blob::from_bytes("images", pixels), u8::MAX)
            }
            None => {
                let values = self.files.len() * dimensions;
                budget.leave(values as u64);
                let files = Files { files: self.files, resize: self.config.size, size, channels: self.channels };
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
}

impl Source for Files {
    fn read(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        let dimensions = (self.size[0] * self.size[1]) as usize * self.channels;
        for (rows, out) in rows.chunks(DECODED_TOGETHER).zip(out.chunks_mut(DECODED_TOGETHER * dimensions)) {
            let images = in_parallel(rows, |&row| self.decode(row));
            for (pixels, image) in images.into_iter().zip(out.chunks_exact_mut(dimensions)) {
                image.iter_mut().zip(pixels?).for_each(|(value, byte)| *value = f64::from(byte) / f64::from(u8::MAX));
            }
        }
        Ok(())
    }
}

impl Files {
    fn decode(&self, row: usize) -> Result<Vec<u8>> {
        let file = &self.files[row];
        let changed = |problem: String| unreadable(&file.display().to_string(), std::io::Error::other(problem));
        let image = open(file, self.resize).map_err(changed)?;
        if [image.height(), image.width()] != self.size {
            return Err(changed("the image has another size than before".into()));
        }
        Ok(pixels_of(image, self.channels))
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

/// Pixels (H, W, C) of 8 bits; a grey image has equal channels.
fn pixels_of(image: DynamicImage, channels: usize) -> Vec<u8> {
    match channels {
        1 => image.into_luma8().into_raw(),
        _ if image.color().has_color() => image.into_rgb8().into_raw(),
        _ => tripled(image.into_luma8().into_raw()),
    }
}

fn tripled(grey: Vec<u8>) -> Vec<u8> {
    grey.iter().flat_map(|&grey| [grey; 3]).collect()
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
fn open(path: &Path, resize: Option<usize>) -> Result<DynamicImage, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        Ok(other) => return Err(format!("is a file of type {other:?}, expected PNG or JPEG")),
        Err(_) => return Err(format!("is no PNG or JPEG file: it starts with {}", start_of(&bytes))),
    };
    if format == ImageFormat::Jpeg && !is_whole_jpeg(&bytes) {
        return Err("is cut off: the end marker of JPEG is missing".into());
    }
    let image = decode(&bytes, format)?;
    Ok(match resize {
        Some(size) => middle_square(&image, size as u32),
        None => image,
    })
}

fn start_of(bytes: &[u8]) -> String {
    let start: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    if start.is_empty() { "nothing".into() } else { start }
}

fn decode(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, String> {
    let broken = |error: &dyn Display| {
        let words: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
        format!("is a broken {format:?} file: {}", words.join(" "))
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| broken(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("has {width} x {height} pixels, expected at most {MOST_PIXELS}"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| broken(&error))?;
    image.apply_orientation(orientation);
    Ok(over_black(image))
}

/// Lays transparent parts over black.
fn over_black(image: DynamicImage) -> DynamicImage {
    if !image.has_alpha() {
        return image;
    }
    let has_color = image.color().has_color();
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
            let ((shape, samples), note) = read(folder.path(), config, &mut budget).expect("images");
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
        let error = read(folder.path(), config, &mut Budget::of_mib(1)).map(|((shape, _), _)| shape);
        let error = error.expect_err("refused");
        assert_eq!(error.exit_status(), 2);
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }

    /// A PNG whose header claims a size that its data do not have.
    fn vast_png(side: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
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
        assert_eq!((shape.as_str(), note), ("2x4x1", None));
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
            ("m.png", b"no picture".to_vec(), "is no PNG or JPEG file: it starts with 6e6f2070"),
            ("m.png", Vec::new(), "it starts with nothing"),
            ("m.png", b"GIF89a and so on".to_vec(), "is a file of type Gif, expected PNG or JPEG"),
            ("m.png", png[..png.len() / 2].to_vec(), "is a broken Png file"),
            ("m.png", vast_png(100_000), "pixels"),
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
    fn a_file_that_changes_while_it_is_in_use_is_named() {
        let folder = folder();
        put(&folder, "a.png", grey(0), ImageFormat::Png);
        put(&folder, "b.png", grey(1), ImageFormat::Png);
        let ((_, samples), _) = read(folder.path(), &DataConfig::default(), &mut Budget::of_mib(0)).expect("images");
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
        for (format, needless) in [(ImageFormat::Jpeg, 0), (ImageFormat::Png, 12)] {
            // The last 12 bytes of a PNG say only that it ends.
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
