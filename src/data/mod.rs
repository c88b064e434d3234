//! Data sets: embedded, read from files, or generated; all as samples of f32 values in their natural order.

mod cifar;
mod factors;
mod folder;
mod gaussian;
mod idx;
mod images;
mod labelled;
mod loader;
mod samples;
mod settings;
mod shuffle;
mod spec;
mod standardise;
mod table;
mod toy;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng;
use rand_pcg::Pcg64;

pub use self::factors::{Factors, Filter};
pub use self::gaussian::Gaussian;
pub use self::labelled::{LabelledImages, LabelledSet, load_labelled};
pub(crate) use self::loader::WAITING;
pub use self::loader::{BatchSettings, Batches, Loader};
pub use self::samples::{Samples, Statistics};
pub use self::settings::{Broken, DataConfig, Decimal, Header, Separator};
pub use self::shuffle::{Shuffle, is_mirrored};
pub use self::spec::of_file as spec_of_file;
pub use self::toy::Density;
use crate::error::{Error, Result};
use crate::files::arrays::{FileArray, Npz, not_finite};
use crate::files::blob::{Blob, Budget};
use crate::shape::SampleShape;
use crate::standard::{Standard, Standardise};

/// Samples for training and for validation, and what is known about them.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The SPEC that it was loaded by.
    pub name: String,
    /// What one sample is.
    pub shape: SampleShape,
    /// Samples to learn from.
    pub train: Samples,
    /// Samples that training never sees.
    pub held_out: Samples,
    /// The true density, for generated data, in their units.
    pub density: Option<Density>,
    /// Source and licence, for embedded data.
    pub credit: Option<&'static str>,
    /// What the user should know of how it was read: files that were left out, data that stay on disk.
    pub note: Option<String>,
    /// The name of each dimension, for tables: the header's, or the column's number in the file.
    pub column_names: Option<Vec<String>>,
}

/// What data are told from others by: how many samples there are, and a checksum of them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataDigest {
    /// Samples to learn from.
    pub train: u64,
    /// Samples that training never sees.
    pub held_out: u64,
    /// Of all values.
    pub checksum: u32,
}

impl std::fmt::Display for DataDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:08x}", self.train, self.held_out, self.checksum)
    }
}

impl std::str::FromStr for DataDigest {
    type Err = ();

    /// As [`Display`](std::fmt::Display) writes it.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let [train, held_out, checksum] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(()) };
        let count = |text: &str| text.parse().map_err(|_| ());
        let checksum = u32::from_str_radix(checksum, 16).map_err(|_| ())?;
        Ok(Self { train: count(train)?, held_out: count(held_out)?, checksum })
    }
}

impl Dataset {
    /// Samples of which nothing else is known; both parts must have this shape.
    pub fn new(name: impl Into<String>, shape: SampleShape, train: Samples, held_out: Samples) -> Self {
        Self { name: name.into(), shape, train, held_out, density: None, column_names: None, credit: None, note: None }
    }

    /// What these data are told from others by.
    ///
    /// # Errors
    /// Samples that cannot be read.
    pub fn digest(&self) -> Result<DataDigest> {
        let checksums = [self.train.checksum()?, self.held_out.checksum()?].map(u32::to_le_bytes);
        let checksum = crc32fast::hash(checksums.as_flattened());
        Ok(DataDigest { train: self.train.len() as u64, held_out: self.held_out.len() as u64, checksum })
    }

    /// The map to a model's units that the training samples ask for, None where a model sees them as they are, and what
    /// the user should know of it.
    ///
    /// # Errors
    /// A file that cannot be read (any more); a way that is not for this kind of samples.
    pub fn fit_standard(&self, how: Standardise) -> Result<(Option<Standard>, Vec<String>)> {
        standardise::fit(&self.train, self.shape, self.column_names.as_deref().unwrap_or_default(), how)
    }

    /// The same data for a model that sees them by this map.
    #[must_use]
    pub fn standardised(self, standard: Option<&Standard>) -> Self {
        let standard = standard.cloned().map(Arc::new);
        Self {
            train: self.train.standardised(standard.clone()),
            held_out: self.held_out.standardised(standard),
            ..self
        }
    }
}

/// Samples in the order of their file, and what is known about them.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The SPEC that they were loaded by.
    pub name: String,
    /// What one sample is.
    pub shape: SampleShape,
    /// All of them.
    pub samples: Samples,
    /// The true density, for generated data, in their units.
    pub density: Option<Density>,
    /// The name of each dimension, for tables: the header's, or the column's number in the file.
    pub column_names: Option<Vec<String>>,
    /// What each sample is called, where it is a file of its own.
    pub labels: Option<Vec<String>>,
    /// What the user should know of how they were read.
    pub note: Option<String>,
}

impl Rows {
    fn new(name: &str, (shape, samples): (SampleShape, Samples)) -> Self {
        Self { name: name.into(), shape, samples, density: None, column_names: None, labels: None, note: None }
    }
}

/// What a SPEC names: samples, and those to be held out where the data come in two parts.
struct Parts {
    rows: Rows,
    held_out: Option<Samples>,
}

const DIGITS: &[u8] = include_bytes!("../../assets/digits-images-idx3-ubyte.gz");
const DIGITS_CREDIT: &str = "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI 1998, CC BY 4.0";

/// Points of a generated data set.
const GENERATED_TRAIN: usize = 50_000;
const GENERATED_HELD_OUT: usize = 5_000;

/// Streams of random numbers on the host; see [`host_rng`].
const SPLIT_STREAM: u64 = 1 << 40;
const TRAIN_STREAM: u64 = 2 << 40;
const HELD_OUT_STREAM: u64 = 3 << 40;
const TRUTH_STREAM: u64 = 4 << 40;

/// Loads the data set that `config.spec` names.
///
/// | SPEC | samples | held-out part |
/// |---|---|---|
/// | `digits` | 1,797 embedded 8x8 images of handwritten digits | share `held_out` |
/// | `mnist:DIR` | `DIR/train-images-idx3-ubyte` (or with `.gz`), values / 255 | `DIR/t10k-images-idx3-ubyte` |
/// | `cifar10:DIR` | `DIR/data_batch_*.bin` (or with `.gz`), the binary version of CIFAR-10, values / 255 | `DIR/test_batch.bin` |
/// | `images:DIR` | PNG, JPEG, TIFF, WebP, BMP and GIF files of a folder and the folders in it, values / 255 (TIFF of 16 bits: / 65535); `size`, `channels`, `broken` | share `held_out` |
/// | `idx:FILE` | numbers in IDX form, of the same shapes as arrays | share `held_out` |
/// | `npy:FILE` | array (N) or (N, D), or images (N, H, W) or (N, H, W, C); unsigned bytes of images / 255, other numbers as they are | share `held_out` |
/// | `npz:FILE#NAME` | such an array of an archive; without `#NAME` the only one with 2 to 4 axes, or the only one with 1 | share `held_out` |
/// | `csv:FILE` | one sample a row of a table as text; `separator`, `header`, `decimal`, `columns`, `skip_columns`, `broken` | share `held_out` |
/// | `toy:NAME` | 50,000 points in the plane, see [`Density::TOYS`] | 5,000 more |
/// | `gaussian:D` | 50,000 points of a correlated Gaussian, see [`Gaussian`] | 5,000 more |
///
/// The same `seed` splits and generates the same. Colours are (R, G, B), the channels of a pixel side by side.
///
/// Samples take at most `memory` MiB of the host: what goes beyond stays in its files and is read whenever it is drawn,
/// with the same bits. Packed data (gzip, compressed archives) and tables are then unpacked to a temporary file first.
/// Generated points and arrays in column order always stand in memory. `~` at the start of a path is the home folder.
///
/// # Errors
/// Bad input: an unknown SPEC (the nearest one is named), settings out of range or unfit for the data, or whatever is
/// wrong with the file.
pub fn load(config: &DataConfig, seed: u64) -> Result<Dataset> {
    let mut budget = Budget::of_mib(config.memory).unpacking(config.unpack_limit);
    let Parts { rows, held_out } = read_checked(config, seed, &mut budget)?;
    let (train, held_out) = match (&config.held_out_data, held_out) {
        (Some(spec), _) => {
            let mut other = DataConfig { spec: spec.clone(), held_out_data: None, ..config.clone() };
            other.take_table_keys(config);
            let held_out = read_checked(&other, seed, &mut budget)?.into_rows();
            if held_out.shape != rows.shape {
                let problem = format!("has samples of {}, {} has {}", held_out.shape, config.spec, rows.shape);
                return Err(Error::input(spec, problem, "Give held-out data of the same shape"));
            }
            (rows.samples, held_out.samples)
        }
        (None, Some(held_out)) => (rows.samples, held_out),
        (None, None) => rows.samples.split(config.held_out, seed, &config.spec)?,
    };
    let note = join_notes([rows.note, budget.note()]);
    let credit = (config.spec == "digits").then_some(DIGITS_CREDIT);
    let (density, column_names) = (rows.density, rows.column_names);
    Ok(Dataset { density, column_names, credit, note, ..Dataset::new(rows.name, rows.shape, train, held_out) })
}

/// All samples that `config.spec` names, in the order of their file; of data that come in two parts those to be held out.
///
/// # Errors
/// As [`load`]; one sample is enough.
pub fn load_rows(config: &DataConfig, seed: u64) -> Result<Rows> {
    let mut budget = Budget::of_mib(config.memory).unpacking(config.unpack_limit);
    let rows = read_checked(config, seed, &mut budget)?.into_rows();
    Ok(Rows { note: join_notes([rows.note, budget.note()]), ..rows })
}

fn join_notes(notes: [Option<String>; 2]) -> Option<String> {
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

impl Parts {
    /// Those to be held out where there are such, else all.
    fn into_rows(self) -> Rows {
        match self.held_out {
            Some(samples) => Rows { samples, ..self.rows },
            None => self.rows,
        }
    }
}

fn read_checked(config: &DataConfig, seed: u64, budget: &mut Budget) -> Result<Parts> {
    config.check()?;
    spec::parts(&config.spec)?;
    if let Some(key) = config.table_keys().next().filter(|_| !config.spec.starts_with("csv:")) {
        let problem = format!("is for tables, and {} is none", config.spec);
        return Err(Error::input(format!("data.{key}"), problem, "Leave it out, or give csv:FILE"));
    }
    let parts = read(config, seed, budget).map_err(|error| spec::explain(&config.spec, error))?;
    check_settings_fit(config, parts.rows.shape)?;
    Ok(parts)
}

/// A path of a SPEC, seen from the folder that the settings name. Where nothing is there, from the working folder: a run may
/// have been moved together with its data.
fn located(config: &DataConfig, path: &str) -> String {
    let Some(folder) = config.folder.as_ref().filter(|_| Path::new(path).is_relative()) else { return path.into() };
    let there = folder.join(path);
    let file = |path: &Path| path.to_string_lossy().rsplit_once('#').map(|(file, _)| PathBuf::from(file));
    let exists = |path: &Path| path.exists() || file(path).is_some_and(|file| file.exists());
    match exists(&there) || !exists(Path::new(path)) {
        true => there.to_string_lossy().into_owned(),
        false => path.into(),
    }
}

fn read(config: &DataConfig, seed: u64, budget: &mut Budget) -> Result<Parts> {
    let spec = config.spec.as_str();
    let (kind, argument) = spec::parts(spec)?;
    let located = located(config, &argument);
    let argument = &*argument;
    let path = Path::new(&located);
    let whole = |samples: (SampleShape, Samples)| Parts { rows: Rows::new(spec, samples), held_out: None };
    let divided = |shape: SampleShape, train: Samples, held_out: Samples| Parts {
        rows: Rows::new(spec, (shape, train)),
        held_out: Some(held_out),
    };
    Ok(match kind {
        "digits" => {
            let subject = "the embedded digits";
            let images = Blob::from_bytes(subject, crate::files::gunzip(DIGITS, subject)?);
            whole(idx::read_bytes(&images, 16)?)
        }
        "mnist" => {
            let (shape, train, held_out) = mnist(path, budget)?;
            divided(shape, train, held_out)
        }
        "cifar10" => {
            let (shape, train, held_out) = cifar::read(path, budget)?;
            divided(shape, train, held_out)
        }
        "images" => {
            let images::Images { samples, labels, note } = images::read(path, config, budget)?;
            let Parts { rows, held_out } = whole(samples);
            Parts { rows: Rows { note, labels: Some(labels), ..rows }, held_out }
        }
        "idx" => whole(idx::read(path, budget)?),
        "npy" => whole(samples_of(&FileArray::open(path, budget)?, budget)?),
        "npz" => whole(read_npz(&located, budget)?),
        "csv" => {
            let table = table::read(path, config, budget)?;
            let shape = SampleShape::Vector { dimensions: table.samples.dimensions() };
            let note = (!table.notes.is_empty()).then(|| table.notes.join("; "));
            let rows = Rows::new(spec, (shape, table.samples));
            Parts { rows: Rows { note, column_names: Some(table.names), ..rows }, held_out: None }
        }
        "toy" => generated(spec, Density::toy(argument)?, seed),
        "gaussian" => generated(spec, Density::Gaussian(Gaussian::from_text(argument, seed)?), seed),
        _ => unreachable!("SPECS lists every kind"),
    })
}

/// A setting that the data do not follow would be ignored silently.
fn check_settings_fit(config: &DataConfig, shape: SampleShape) -> Result<()> {
    let refuse = |key: &str, problem: String| Err(Error::input(key, problem, "Leave it out, or give other data"));
    let SampleShape::Image { height, width, channels } = shape else {
        let given = [("flip", config.flip), ("size", config.size.is_some()), ("channels", config.channels.is_some())];
        return match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => refuse(&format!("data.{key}"), format!("is for images, and {} has none", config.spec)),
            None => Ok(()),
        };
    };
    if let Some(size) = config.size.filter(|&size| [height, width] != [size; 2]) {
        return refuse("data.size", format!("is {size}, the images are {shape}; only images:DIR is resized"));
    }
    if let Some(wanted) = config.channels.filter(|&wanted| wanted != channels) {
        return refuse("data.channels", format!("is {wanted}, the images are {shape}; only images:DIR is converted"));
    }
    Ok(())
}

/// The random numbers of one purpose: equal for equal (seed, stream), unrelated otherwise.
fn host_rng(seed: u64, stream: u64) -> Pcg64 {
    // Weyl steps by the golden ratio keep the keys of all streams of one seed apart; seeding then mixes every bit.
    Pcg64::seed_from_u64(seed.wrapping_add(stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mnist(folder: &Path, budget: &mut Budget) -> Result<(SampleShape, Samples, Samples)> {
    let mut part = |stem: &str| {
        let plain = folder.join(format!("{stem}-images-idx3-ubyte"));
        let packed = folder.join(format!("{stem}-images-idx3-ubyte.gz"));
        idx::read(if plain.exists() { &plain } else { &packed }, budget)
    };
    let ((shape, train), (held_out_shape, held_out)) = (part("train")?, part("t10k")?);
    if shape != held_out_shape {
        let problem = format!("training images are {shape}, t10k images are {held_out_shape}");
        return Err(Error::input(folder.display().to_string(), problem, "Put two parts of one data set there"));
    }
    Ok((shape, train, held_out))
}

/// `FILE`, or `FILE#NAME` where no file has that name as a whole.
fn read_npz(argument: &str, budget: &mut Budget) -> Result<(SampleShape, Samples)> {
    let (file, name) = match argument.rsplit_once('#') {
        Some((file, name)) if !Path::new(argument).exists() => (file, Some(name)),
        _ => (argument, None),
    };
    let mut archive = Npz::open(Path::new(file), budget)?;
    let arrays = archive.shapes()?;
    let of_axes = |axes: RangeInclusive<usize>| arrays.iter().filter(move |(_, shape)| axes.contains(&shape.len()));
    let fitting: Vec<_> = match name {
        Some(name) => arrays.iter().filter(|(array, _)| array == name).collect(),
        // Beside samples, numbers of one axis are their labels as a rule.
        None if of_axes(2..=4).next().is_some() => of_axes(2..=4).collect(),
        None => of_axes(1..=1).collect(),
    };
    let [(name, _)] = fitting[..] else {
        let list: Vec<_> = arrays.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
        let list = if list.is_empty() { "none".into() } else { list.join(", ") };
        let problem = match name {
            Some(name) => format!("has no array `{name}`; it has {list}"),
            None => format!("leaves open which array is meant: one alone must have 2 to 4 axes; it has {list}"),
        };
        return Err(Error::input(file, problem, format!("Name one: npz:{file}#NAME")));
    };
    samples_of(&archive.open_array(name, budget)?, budget)
}

fn samples_of(array: &FileArray, budget: &mut Budget) -> Result<(SampleShape, Samples)> {
    let subject = array.data.subject();
    let shape = shape_of(array)?;
    refuse_empty(array.data.len(), subject)?;
    let (dimensions, number) = (shape.dimensions(), array.number);
    let data = if array.column_order { turned(array, budget)? } else { array.data.clone() };
    // Bytes are shares of 255 where they are pixels; columns of a table have units of their own.
    let largest = if matches!(shape, SampleShape::Image { .. }) { number.largest() } else { 1 };
    let samples = Samples::from_numbers(dimensions, number, data, largest);
    if number.is_float() {
        samples.visit(|row, sample| match sample.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(not_finite(subject, &array.shape, row * dimensions + at, sample[at])),
            None => Ok(()),
        })?;
    }
    Ok((shape, samples))
}

/// What the samples of an array are; its first axis counts them.
fn shape_of(array: &FileArray) -> Result<SampleShape> {
    Ok(match array.shape[..] {
        [_] => SampleShape::Vector { dimensions: 1 },
        [_, dimensions] => SampleShape::Vector { dimensions },
        [_, height, width] => SampleShape::Image { height, width, channels: 1 },
        [_, height, width, channels @ (1 | 3)] => SampleShape::Image { height, width, channels },
        _ => {
            let problem =
                format!("has shape {:?}, expected (N), (N, D), (N, H, W) or (N, H, W, C) with C = 1 or 3", array.shape);
            let remedy = "Reshape the array so that its first axis counts the samples";
            return Err(Error::input(array.data.subject(), problem, remedy));
        }
    })
}

/// An array in column order has the values of a sample far apart, so they are put together in memory.
fn turned(array: &FileArray, budget: &mut Budget) -> Result<Blob> {
    if !budget.take(array.data.len()) {
        let problem = "is in column (Fortran) order, which must fit into data.memory twice";
        let remedy = "Save numpy.ascontiguousarray(array) instead, or allow more --data-memory";
        return Err(Error::input(array.data.subject(), problem, remedy));
    }
    Ok(Blob::from_bytes(array.data.subject(), array.in_rows()?))
}

fn refuse_empty(bytes: u64, subject: &str) -> Result<()> {
    if bytes > 0 { Ok(()) } else { Err(Error::input(subject, "holds no values", "Give at least 2 samples")) }
}

fn generated(spec: &str, density: Density, seed: u64) -> Parts {
    let dimensions = density.dimensions();
    let draw = |count: usize, stream: u64| {
        let mut rng = host_rng(seed, stream);
        let mut values = vec![0.0; count * dimensions];
        values.chunks_exact_mut(dimensions).for_each(|sample| density.sample(&mut rng, sample));
        Samples::from_floats(dimensions, values)
    };
    let (train, held_out) = (draw(GENERATED_TRAIN, TRAIN_STREAM), draw(GENERATED_HELD_OUT, HELD_OUT_STREAM));
    let rows = Rows::new(spec, (SampleShape::Vector { dimensions }, train));
    Parts { rows: Rows { density: Some(density), ..rows }, held_out: Some(held_out) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::Header;
    use crate::files::arrays::{self, HostTensor};
    use std::io::Write;

    /// A file or folder beside the checkout, seen from the folder of real data, or None, aloud.
    pub(crate) fn shared(name: &str) -> Option<PathBuf> {
        let root = std::env::var_os("ARCSM_SHARED")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
        let folder = root.join("data").join(name);
        if folder.exists() {
            return Some(folder);
        }
        assert!(std::env::var_os("ARCSM_REQUIRE_SHARED").is_none_or(|v| v != "1"), "{} is missing", folder.display());
        println!("SKIPPED: {} is missing", folder.display());
        None
    }

    fn of(spec: &str) -> DataConfig {
        DataConfig { spec: spec.into(), ..Default::default() }
    }

    fn load(spec: &str, held_out: f64, seed: u64) -> Result<Dataset> {
        super::load(&DataConfig { held_out, ..of(spec) }, seed)
    }

    fn values(samples: &Samples) -> Vec<f32> {
        let mut values = vec![0.0; samples.len() * samples.dimensions()];
        samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut values).expect("there");
        values
    }

    fn refusal(spec: &str) -> String {
        refusal_of(&of(spec))
    }

    fn refusal_of(config: &DataConfig) -> String {
        let error = super::load(config, 0).map(|dataset| dataset.name).expect_err(&config.spec);
        assert_eq!(error.exit_status(), 2, "{error}");
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text
    }

    #[test]
    fn embedded_digits_have_the_known_moments() {
        let digits = load("digits", 0.15, 3).expect("embedded");
        assert_eq!(digits.shape, SampleShape::Image { height: 8, width: 8, channels: 1 });
        assert_eq!((digits.train.len(), digits.held_out.len()), (1527, 270));
        let Statistics { mean, sd, range } = digits.train.statistics().expect("in memory");
        assert_eq!(range, [0.0, 1.0]);
        assert!((mean - 0.305).abs() < 0.005 && (sd - 0.376).abs() < 0.005, "{mean} {sd}");
        assert!(digits.credit.is_some());
    }

    #[test]
    fn the_split_depends_on_the_seed_alone_and_loses_nothing() {
        let sum = |samples: &Samples| samples.statistics().expect("in memory").mean * samples.len() as f64;
        let [a, again, b] = [7, 7, 8].map(|seed| load("digits", 0.3, seed).expect("embedded"));
        let mut first = [[0.0; 64]; 3];
        for (sample, set) in first.iter_mut().zip([&a, &again, &b]) {
            set.held_out.write_sample(0, sample).expect("in memory");
        }
        assert_eq!(first[0], first[1]);
        assert_ne!(first[0], first[2]);
        let (whole, other) = (sum(&a.train) + sum(&a.held_out), sum(&b.train) + sum(&b.held_out));
        assert!((whole - other).abs() < 1e-6, "{whole} {other}");
    }

    #[test]
    fn real_mnist_has_the_published_size_and_moments() {
        let Some(folder) = shared("mnist") else { return };
        let mnist = load(&format!("mnist:{}", folder.display()), 0.1, 0).expect("complete");
        assert_eq!((mnist.train.len(), mnist.held_out.len(), mnist.shape.dimensions()), (60_000, 10_000, 784));
        let Statistics { mean, sd, .. } = mnist.train.statistics().expect("there");
        assert!((mean - 0.1307).abs() < 1e-4 && (sd - 0.3081).abs() < 1e-4, "{mean} {sd}");
    }

    #[test]
    fn a_single_idx_file_is_split() {
        let Some(folder) = shared("fashion-mnist") else { return };
        let file = folder.join("t10k-images-idx3-ubyte.gz");
        let clothes = load(&format!("idx:{}", file.display()), 0.25, 0).expect("complete");
        assert_eq!((clothes.train.len(), clothes.held_out.len()), (7500, 2500));
    }

    #[test]
    fn real_cifar_has_the_published_size_and_colours() {
        let Some(folder) = shared("cifar-10-batches-bin") else { return };
        let cifar = super::load(&DataConfig { flip: true, ..of(&format!("cifar10:{}", folder.display())) }, 0);
        let cifar = cifar.expect("complete");
        assert_eq!(cifar.shape, SampleShape::Image { height: 32, width: 32, channels: 3 });
        assert_eq!(cifar.held_out.len(), 10_000);
        assert!(cifar.train.len().is_multiple_of(10_000), "{}", cifar.train.len());
        let (mut sums, mut image) = ([0.0f64; 3], vec![0.0; 3072]);
        for index in 0..cifar.held_out.len() {
            cifar.held_out.write_sample(index, &mut image).expect("there");
            for pixel in image.as_chunks::<3>().0 {
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        // Means of the whole training set; those of the test batch differ by less than 0.005.
        for (sum, published) in sums.iter().zip([0.4914, 0.4822, 0.4465]) {
            let mean = sum / (10_000.0 * 1024.0);
            assert!((mean - published).abs() <= 0.005, "{mean} {published}");
        }
    }

    #[test]
    fn real_faces_are_the_only_array_of_images() {
        let Some(folder) = shared("olivetti") else { return };
        let file = folder.join("olivetti_64x64_uint8.npz");
        for name in ["", "#images"] {
            let faces = super::load(&DataConfig { size: Some(64), ..of(&format!("npz:{}{name}", file.display())) }, 0);
            let faces = faces.expect("complete");
            assert_eq!(
                (faces.shape.to_string().as_str(), faces.train.len(), faces.held_out.len()),
                ("64x64x1", 340, 60)
            );
            let [low, high] = faces.train.statistics().expect("in memory").range;
            assert!(low >= 0.0 && (0.8..=242.0 / 255.0).contains(&high), "{low} {high}");
        }
        let labels = load(&format!("npz:{}#labels", file.display()), 0.1, 0).expect("numbers");
        assert_eq!((labels.shape.to_string().as_str(), labels.train.len()), ("1", 360));
        assert!(refusal(&format!("npz:{}#faces", file.display())).contains("has no array `faces`"));
    }

    #[test]
    fn an_archive_with_two_arrays_asks_which() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x#1.npz");
        let spec = format!("npz:{}", file.display());
        let array = |shape: &[usize]| HostTensor::new(shape, (0..shape.iter().product()).map(|i| i as f32).collect());
        arrays::write_npz(&file, &[("a", &array(&[4, 2])), ("b", &array(&[4, 1, 3])), ("c", &array(&[4]))])
            .expect("written");
        let problem = refusal(&spec);
        assert!(problem.contains("a [4, 2], b [4, 1, 3], c [4]") && problem.contains("#NAME"), "{problem}");
        assert_eq!(load(&format!("{spec}#a"), 0.5, 0).expect("named").shape.to_string(), "2");
        assert_eq!(load(&format!("{spec}#b"), 0.5, 0).expect("named").shape.to_string(), "1x3x1");
        assert_eq!(load(&format!("{spec}#c"), 0.5, 0).expect("named").shape.to_string(), "1");
        arrays::write_npz(&file, &[("c", &array(&[4]))]).expect("written");
        assert_eq!(load(&spec, 0.5, 0).expect("the only one").shape.to_string(), "1");
        arrays::write_npz(&file, &[]).expect("written");
        assert!(refusal(&spec).contains("it has none"));
        std::fs::write(&file, "text").expect("written");
        assert!(refusal(&spec).contains("no .npz archive"));
    }

    #[test]
    fn bytes_of_an_array_are_read_as_shares_of_255() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.npy");
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 2), }\n";
        let bytes =
            [&b"\x93NUMPY\x01\x00"[..], &[header.len() as u8, 0], header.as_bytes(), &[51, 51, 51, 51]].concat();
        std::fs::write(&file, bytes).expect("written");
        let images = load(&format!("npy:{}", file.display()), 0.5, 0).expect("fine");
        let range = images.train.statistics().expect("in memory").range;
        assert_eq!((images.shape.to_string().as_str(), range), ("1x2x1", [0.2, 0.2]));
    }

    #[test]
    fn other_numbers_of_an_array_are_taken_as_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.npy");
        let halves = [0x3c00u16, 0x7e00].map(u16::to_le_bytes).concat();
        let write = |dtype: &str, bytes: &[u8]| {
            let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (2,), }}\n");
            let start = [&b"\x93NUMPY\x01\x00"[..], &[header.len() as u8, 0]].concat();
            std::fs::write(&file, [&start, header.as_bytes(), bytes].concat()).expect("written");
        };
        let spec = format!("npy:{}", file.display());
        for (dtype, bytes, expected) in [
            ("|b1", &[0, 1][..], [0.0, 1.0]),
            ("|i1", &[200, 7], [-56.0, 7.0]),
            (">u2", &[1, 0, 0, 9], [256.0, 9.0]),
            ("<i8", &[3, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255], [3.0, -1.0]),
            ("<f2", &[0, 0x3c, 0, 0xc0], [1.0, -2.0]),
        ] {
            write(dtype, bytes);
            let data = load_rows(&of(&spec), 0).expect(dtype);
            assert_eq!(data.samples.first_in_units(2).expect("there"), expected, "{dtype}");
        }
        write("<f2", &halves);
        assert!(refusal(&spec).contains("holds NaN at index [1]"), "{}", refusal(&spec));
    }

    #[test]
    fn hostile_and_odd_files_of_other_people_are_refused_or_read_rightly() {
        let Some(trials) = shared("../trials") else { return };
        let spec = |kind: &str, file: &str| format!("{kind}:{}", trials.join(file).display());
        assert!(refusal(&spec("npy", "hostile/npy-fortran-empty-huge.npy")).contains("more than can be addressed"));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(trials.join("hostile/png-11585x11585-16bit-rgba-72bytes.png"), folder.path().join("a.png"))
            .expect("copied");
        let images = DataConfig { size: Some(8), ..of(&format!("images:{}", folder.path().display())) };
        assert!(refusal_of(&images).contains("bytes cannot hold 11585 x 11585 pixels"), "{}", refusal_of(&images));
        let bytes = load(&spec("npy", "arrays/u8images.npy"), 0.5, 0).expect("images");
        assert_eq!(bytes.shape.to_string(), "8x8x1");
        assert!(bytes.train.statistics().expect("in memory").range[1] <= 1.0);
        let mask = arrays::read_npy(&trials.join("arrays/mask-bool.npy")).expect("bool");
        assert!(mask.shape == [2] && mask.values.iter().all(|&value| value == 0.0 || value == 1.0), "{mask:?}");
        let meant = refusal(&spec("CSV", "tables/unit.csv"));
        assert!(meant.ends_with(&format!("Did you mean `{}`?", spec("csv", "tables/unit.csv"))), "{meant}");
    }

    /// A folder with every form of data that can stay on disk, and the SPECs of them.
    fn every_form() -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        };
        let noise = |count: usize| (0..count).map(|i| ((i * i * 7) >> 4) as u8).collect::<Vec<_>>();
        let gzip = |bytes: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).expect("memory");
            packer.finish().expect("memory")
        };
        let mut batch = noise(5 * 3073);
        batch.iter_mut().step_by(3073).for_each(|label| *label %= 10);
        put("cifar/data_batch_1.bin", &batch);
        put("cifar/data_batch_2.bin.gz", &gzip(&batch[3073..]));
        put("cifar/test_batch.bin", &batch[..2 * 3073]);
        let idx = [&[0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 3][..], &noise(54)].concat();
        put("plain.idx", &idx);
        put("packed.idx.gz", &gzip(&idx));
        let header = |dtype: &str| {
            let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (9, 2, 3), }}\n");
            [&b"\x93NUMPY\x01\x00"[..], &[text.len() as u8, 0], text.as_bytes()].concat()
        };
        put("bytes.npy", &[header("|u1"), noise(54)].concat());
        let doubles = noise(54).into_iter().flat_map(|byte| (f64::from(byte) / 3.0).to_be_bytes());
        put("doubles.npy", &[header(">f8"), doubles.collect()].concat());
        let floats = HostTensor::new([9, 2, 3], noise(54).into_iter().map(|byte| f32::from(byte) * 0.1).collect());
        arrays::write_npz(&folder.path().join("stored.npz"), &[("a", &floats)]).expect("written");
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        archive.start_file("a.npy", zip::write::SimpleFileOptions::default()).expect("begun");
        archive.write_all(&[header("|u1"), noise(54)].concat()).expect("memory");
        put("packed.npz", archive.finish().expect("memory").get_ref());
        put("table.csv", b"1,2.5\n3.5,-4\n5,6e-3\n7,8\n");
        std::fs::create_dir(folder.path().join("pictures")).expect("made");
        for index in 0..5 {
            let picture = image::RgbImage::from_fn(5, 4, |x, y| image::Rgb([40 * index, 9 * x as u8, 7 * y as u8]));
            picture.save(folder.path().join(format!("pictures/{index}.png"))).expect("written");
        }
        let specs = [
            "cifar10:cifar",
            "idx:plain.idx",
            "idx:packed.idx.gz",
            "npy:bytes.npy",
            "npy:doubles.npy",
            "npz:stored.npz",
            "npz:packed.npz",
            "csv:table.csv",
            "images:pictures",
        ];
        let specs = specs.map(|spec| spec.replacen(':', &format!(":{}/", folder.path().display()), 1));
        (folder, specs.into())
    }

    #[test]
    fn data_on_disk_give_the_same_bits_as_data_in_memory() {
        let (_folder, specs) = every_form();
        for spec in specs {
            let [in_memory, on_disk] = [1, 0].map(|memory| {
                let config = DataConfig { memory, held_out: 0.4, ..of(&spec) };
                super::load(&config, 3).expect(&spec)
            });
            assert_eq!(in_memory.note, None, "{spec}");
            let note = on_disk.note.expect("it says so");
            assert!(note.contains("stay on disk, as data.memory is 0 MiB"), "{spec}: {note}");
            let unpacks = ["gz", "packed", "csv", "cifar"].iter().any(|word| spec.contains(word));
            assert_eq!(note.contains("unpacked in a temporary file"), unpacks, "{spec}: {note}");
            for (a, b) in [(&in_memory.train, &on_disk.train), (&in_memory.held_out, &on_disk.held_out)] {
                assert!(a.len() >= 2 && values(a) == values(b), "{spec}");
                assert_eq!(a.statistics().expect("there"), b.statistics().expect("there"), "{spec}");
            }
        }
    }

    #[test]
    fn bombs_are_refused_by_their_start_their_header_or_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let npy = [&b"\x93NUMPY\x01\x00\x3e\0"[..], b"{'descr': '|u1', 'fortran_order': False, 'shape': (7, 3), }  \n"];
        for (kind, start, expected) in [
            ("idx", &[][..], "magic number 00000000"),
            ("npy", &[], "its header is missing"),
            ("npz", &[], "must start with PK"),
            ("csv", &[], "zero bytes"),
            ("idx", &[0, 0, 8, 2, 0, 0, 0, 7, 0, 0, 0, 3], "goes on after the 33 bytes"),
            ("idx", &[0, 0, 8, 2, 0, 0, 255, 0, 0, 0, 255, 0], "--unpack-limit"),
            ("npy", &npy.concat(), "goes on after the 93 bytes"),
            ("npz", b"PK\x03\x04", "--unpack-limit"),
        ] {
            let path = folder.path().join("x.gz");
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(start).and_then(|()| packer.write_all(&[0; 3 << 20])).expect("memory");
            std::fs::write(&path, packer.finish().expect("memory")).expect("written");
            let config = DataConfig { unpack_limit: 1, ..of(&format!("{kind}:{}", path.display())) };
            let text = refusal_of(&config);
            assert!(text.contains(expected), "{kind}: {text}");
        }
        let path = folder.path().join("rows.csv.gz");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&b"1,2\n".repeat(300_000)).expect("memory");
        std::fs::write(&path, packer.finish().expect("memory")).expect("written");
        let rows = |unpack_limit| DataConfig { unpack_limit, ..of(&format!("csv:{}", path.display())) };
        assert!(refusal_of(&rows(1)).contains("more than the 1 MiB"));
        assert_eq!(super::load_rows(&rows(2), 0).expect("it fits").samples.len(), 300_000);
    }

    #[test]
    fn an_array_in_column_order_must_fit_into_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.npy");
        let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n";
        let bytes = [&b"\x93NUMPY\x01\x00"[..], &[text.len() as u8, 0], text.as_bytes(), &[0, 51, 102, 153, 204, 255]];
        std::fs::write(&file, bytes.concat()).expect("written");
        let spec = format!("npy:{}", file.display());
        assert!(refusal_of(&DataConfig { memory: 0, ..of(&spec) }).contains("numpy.ascontiguousarray"));
        let rows = load(&spec, 0.5, 0).expect("small");
        let [mut first, mut second] = [values(&rows.train), values(&rows.held_out)];
        if first[0] > second[0] {
            std::mem::swap(&mut first, &mut second);
        }
        assert_eq!([first, second], [[0.0, 102.0, 204.0], [51.0, 153.0, 255.0]]);
    }

    #[test]
    fn settings_that_the_data_do_not_follow_are_refused() {
        for (config, expected) in [
            (DataConfig { flip: true, ..of("toy:moons") }, "data.flip: is for images"),
            (DataConfig { size: Some(8), ..of("gaussian:2") }, "data.size: is for images"),
            (DataConfig { size: Some(16), ..of("digits") }, "data.size: is 16, the images are 8x8x1"),
            (DataConfig { channels: Some(3), ..of("digits") }, "data.channels: is 3, the images are 8x8x1"),
            (DataConfig { size: Some(0), ..of("digits") }, "data.size: must lie in"),
            (DataConfig { header: Some(Header::Auto), ..of("digits") }, "data.header: is for tables"),
            (DataConfig { columns: Some(vec!["a".into()]), ..of("npy:x.npy") }, "data.columns: is for tables"),
        ] {
            assert!(refusal_of(&config).contains(expected), "{}", refusal_of(&config));
        }
        let followed = DataConfig { size: Some(8), channels: Some(1), flip: true, ..of("digits") };
        super::load(&followed, 0).expect("true of the digits");
    }

    #[test]
    fn mirrored_images_keep_their_rows_and_colours() {
        let mut image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0];
        let shape = SampleShape::Image { height: 2, width: 2, channels: 3 };
        shape.mirror(&mut image);
        assert_eq!(image, [4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 14.0, 15.0, 16.0, 11.0, 12.0, 13.0]);
        SampleShape::Image { height: 3, width: 4, channels: 1 }.mirror(&mut image);
        assert_eq!(image[..4], [1.0, 6.0, 5.0, 4.0]);
        let unmoved = image;
        SampleShape::Vector { dimensions: 12 }.mirror(&mut image);
        assert_eq!(image, unmoved);
    }

    #[test]
    fn arrays_become_vectors_or_images() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.npy");
        let spec = format!("npy:{}", file.display());
        let shapes = [(vec![10], "1"), (vec![10, 6], "6"), (vec![10, 2, 3], "2x3x1"), (vec![4, 1, 5, 3], "1x5x3")];
        for (array, shape) in shapes {
            let values = (0..array.iter().product::<usize>()).map(|i| i as f32).collect();
            arrays::write_npy(&file, &HostTensor::new(array, values)).expect("written");
            assert_eq!(load(&spec, 0.5, 0).expect("fine").shape.to_string(), shape);
        }
        let faults = [
            (vec![], vec![0.0], "has shape []"),
            (vec![1, 1, 1, 1, 1], vec![0.0], "has shape [1, 1, 1, 1, 1]"),
            (vec![2, 1, 1, 2], vec![0.0; 4], "C = 1 or 3"),
            (vec![0, 4], vec![], "holds no values"),
            (vec![1, 4], vec![0.0; 4], "1 sample"),
            (vec![2, 2], vec![0.0, 0.0, f32::NAN, 0.0], "NaN at index [1, 0]"),
        ];
        for (array, values, expected) in faults {
            arrays::write_npy(&file, &HostTensor::new(array, values)).expect("written");
            assert!(refusal(&spec).contains(expected), "{}", refusal(&spec));
        }
    }

    #[test]
    fn generated_sets_repeat_with_their_seed() {
        for spec in ["toy:moons", "gaussian:3"] {
            let [a, again, b] = [1, 1, 2].map(|seed| load(spec, 0.1, seed).expect("generated"));
            assert_eq!((a.train.len(), a.held_out.len()), (50_000, 5_000));
            assert!(values(&a.train) == values(&again.train));
            assert!(values(&a.train) != values(&b.train));
            let first = |samples: &Samples| values(samples)[..a.shape.dimensions()].to_vec();
            assert_ne!(first(&a.train), first(&a.held_out), "training and held-out points must differ");
        }
    }

    #[test]
    fn an_unknown_spec_names_the_nearest() {
        for (spec, meant) in [
            ("digit", "`digits`"),
            ("mnits:here", "`mnist:here`"),
            ("toy:spiral", "`toy:spirals`"),
            ("spirals", "`toy:spirals`"),
            ("Cargo.toml", "Did you mean"),
            ("toy", "Write toy:NAME"),
            ("toy:", "Write toy:NAME"),
            ("digits:8", "Write digits"),
            ("", "is no data SPEC"),
            ("gaussian:0", "1 to 1024"),
            ("gaussian:many", "1 to 1024"),
            ("mnist:/nowhere", "cannot be read"),
            ("csv:/nowhere.csv", "cannot be read"),
            ("cifar10:/nowhere", "cannot be read"),
            ("images:/nowhere", "cannot be read"),
            ("npz:/nowhere.npz", "cannot be read"),
            ("images", "Write images:DIR"),
            ("cifar:here", "`cifar10:here`"),
        ] {
            assert!(refusal(spec).contains(meant), "{}", refusal(spec));
        }
        assert_eq!(load("digits", f64::NAN, 0).expect_err("NaN").exit_status(), 2);
    }

    #[test]
    fn shapes_survive_as_text() {
        for shape in [SampleShape::Image { height: 2, width: 3, channels: 1 }, SampleShape::Vector { dimensions: 9 }] {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        for text in ["", "2x3", "0", "axb", "99999999999x99999999999x3", "1x2x3x4"] {
            assert!(text.parse::<SampleShape>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_shipped_config_is_valid_and_its_spec_known() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).expect("shipped") {
            let path = entry.expect("an entry").path();
            let config = Config::from_file(&path).expect("parses");
            config.check().expect("makes sense");
            let spec = &config.data.spec;
            assert!(spec::SPECS.iter().any(|(kind, _)| spec.split(':').next() == Some(kind)), "{spec}");
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
        names.sort();
        let images = ["mnist-denoiser", "mnist-gated", "mnist-made", "mnist-pixelcnn", "mnist-pixelcnn-5x40"];
        let colour = ["cifar10-gated", "cifar10-made", "cifar10-pixelcnn"];
        let others = ["digits", "digits-any-order", "digits-made", "faces-64", "gaussian"];
        assert_eq!(names, [&colour[..], &others, &images, &["table", "table-mixture", "toy-2d"]].concat());
    }
}
