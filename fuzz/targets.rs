//! Everything that reads what a stranger may have made, as plain functions of bytes.
//!
//! cargo-fuzz calls them (`fuzz_targets`), and so does the stable test (`tests/fuzz.rs`). They tell whether the input
//! was taken; whatever it holds, they must not panic, and an error must be bad input in one line. Parsers that take a
//! path get a file in memory where the system has such a place, so that what is read is what a user's command reads.

#![allow(dead_code, reason = "each target of cargo-fuzz is a program of its own, and calls one of them")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use arcsm::ask::import::{ForeignWeights, NameMap};
use arcsm::ask::trained::Trained;
use arcsm::checkpoint::Checkpoint;
use arcsm::config::Config;
use arcsm::data::{self, Broken, DataConfig, Decimal, Header, Separator, load_labelled, spec_of_file};
use arcsm::error::Error;
use arcsm::files::arrays::read_npy;
use arcsm::files::image_grid::read_png_text;
use arcsm::files::read_input;
use arcsm::files::safetensors::{parse_weights, read_foreign};
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::stored_numbers;
use arcsm::nn::ParamTable;
use arcsm::shape::SampleShape;
use arcsm::standard::Standardise;

const MIB: usize = 1 << 20;

/// A function of bytes, and how its inputs are to be mutated and judged.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// As cargo-fuzz calls it.
    pub(crate) name: &'static str,
    /// Tells whether the input was taken.
    pub(crate) run: fn(&[u8]) -> bool,
    /// What lies round the part that is worth mutating.
    pub(crate) frame: Frame,
    /// Words that its parser knows.
    pub(crate) words: &'static [&'static str],
    /// Bytes that it may take from the allocator at one time, beyond so many for each byte of the input.
    pub(crate) most_memory: usize,
    /// The latter.
    pub(crate) memory_of_a_byte: usize,
}

/// What a mutated input must be wrapped in for its parser to look at it at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Nothing.
    None,
    /// The length of a header of JSON.
    Safetensors,
    /// The length of a header of text.
    Npy,
    /// The checksum of each chunk.
    Png,
    /// Gzip.
    Gzip,
    /// An archive with one array.
    Npz,
}

/// All of them.
pub(crate) const TARGETS: [Target; 13] = [
    target("checkpoint", checkpoint, Frame::Safetensors, SAFETENSORS, [64, 64]),
    target("weights", weights, Frame::Safetensors, SAFETENSORS, [4, 64]),
    target("name_map", name_map, Frame::None, TOML, [4, 512]),
    target("config", config, Frame::None, TOML, [4, 512]),
    target("npy", npy, Frame::Npy, NPY, [4, 64]),
    target("npz", npz, Frame::Npz, NPY, [16, 1100]),
    target("idx", idx, Frame::None, &[], [4, 64]),
    target("cifar", cifar, Frame::None, &[], [4, 64]),
    target("labels", labels, Frame::None, &[], [4, 64]),
    target("csv", csv, Frame::None, CSV, [8, 512]),
    target("image", image, Frame::Png, IMAGE, [286, 1100]),
    target("gzip", gzip, Frame::Gzip, CSV, [8, 4096]),
    target("spec", spec, Frame::None, SPEC, [64, 64]),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]) -> bool,
    frame: Frame,
    words: &'static [&'static str],
    [most_mib, memory_of_a_byte]: [usize; 2],
) -> Target {
    Target { name, run, frame, words, most_memory: most_mib * MIB, memory_of_a_byte }
}

const SAFETENSORS: &[&str] = &[
    "\"__metadata__\":{",
    "\"dtype\":\"F64\"",
    "\"BF16\"",
    "\"shape\":[0,4294967296]",
    "\"shape\":[]",
    "\"data_offsets\":[0,0]",
    "ema.",
    "adam.m.",
    "\\n[model]\\nnetwork = \\\"gated\\\"",
    "\\norder = \\\"any\\\"",
    "\\nhead = \\\"mol\\\"",
    "\\nbins = 65536",
    "65536x65536x3",
    "4194304",
    "NaN",
    "\\u0000",
    "[model.conv]",
    "first_kernel = 7",
    "downsamplings = 6",
    "[[data.standard.columns]]",
];
const TOML: &[&str] = &[
    "[model]\n",
    "[train]\n",
    "[[data.standard.columns]]\n",
    "hidden = [",
    "{ name = \"",
    "transpose = true",
    "'''",
    "\"\"\"",
    "nan",
    "-inf",
    "0x",
    "1979-05-27T07:32:00Z",
    "[",
    "]",
    "=",
    ".",
    "a.b.c = ",
    "\\u0000",
    "\u{feff}",
];
const NPY: &[&str] = &[
    "'descr'",
    "'fortran_order': True",
    "'shape': (",
    "(0, 1099511627776, 1099511627776)",
    "'<f2'",
    "'>i8'",
    "'|O'",
    ",",
];
const CSV: &[&str] = &[
    "\"",
    "\"\"",
    "\n",
    "\r\n",
    "\r",
    "\t",
    ";",
    "|",
    ",",
    " ",
    "#",
    "%",
    "//",
    "sep=;\n",
    "NaN",
    "inf",
    "1e999",
    "-",
    "−",
    "\u{a0}",
    "50%",
    "true",
    "1.234.567,8",
    "1,234,567.8",
    "0x1p3",
    "2024-01-02",
    "\u{feff}",
    "\u{1a}",
];
const IMAGE: &[&str] =
    &["zTXt", "iTXt", "iCCP", "eXIf", "acTL", "fcTL", "PLTE", "tRNS", "VP8X", "VP8L", "ANIM", "ALPH", "Exif\0\0"];
const SPEC: &[&str] = &[
    "digits",
    "mnist:",
    "cifar10:",
    "images:",
    "idx:",
    "npy:",
    "npz:",
    "csv:",
    "toy:moons",
    "gaussian:",
    "#",
    ":",
    "~",
    ".",
];

/// A folder for the files that parsers are given, of this process alone.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = place.join(format!("arcsm-fuzz-{}", std::process::id()));
        fs::create_dir_all(folder.join("empty")).expect("a folder for temporary files");
        folder
    });
    &FOLDER
}

/// A file that holds these bytes, in place of what it held before.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).expect("there is room for a small file");
    path
}

/// The same in a folder of its own.
fn file_in(subfolder: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let folder = folder().join(subfolder);
    let path = folder.join(name);
    if fs::write(&path, bytes).is_err() {
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        fs::write(&path, bytes).expect("there is room for a small file");
    }
    folder
}

/// Whether there is a value; an error must be bad input, and its text one line.
fn taken<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(error.exit_status() == 2, "status {} of: {text}", error.exit_status());
            assert!(!text.contains('\n'), "more than one line: {text:?}");
            None
        }
    }
}

/// A device that takes everything and computes nothing.
pub(crate) fn gpu() -> &'static Gpu {
    static NOOP: OnceLock<Gpu> = OnceLock::new();
    NOOP.get_or_init(Gpu::noop)
}

/// Small inputs choose among the ways in which one parser can be asked, so that each is equally often.
fn variant(bytes: &[u8], ways: usize) -> usize {
    bytes.iter().fold(bytes.len(), |sum, &byte| sum.wrapping_add(usize::from(byte))) % ways
}

/// A checkpoint, up to a model that could be asked.
pub(crate) fn checkpoint(bytes: &[u8]) -> bool {
    let path = file("checkpoint", bytes);
    let Some(checkpoint) = taken(Checkpoint::load(&path)) else { return false };
    assert!(checkpoint.tensors.values().all(|tensor| tensor.values.iter().all(|value| value.is_finite())));
    let Some(trained) = taken(Trained::load(gpu(), &path)) else { return false };
    let dimensions = trained.model.dimensions();
    for value in [0.0, 1.5, -1e30] {
        trained.to_data(&vec![value; dimensions]);
        trained.log_scale(&vec![value; dimensions]);
        taken(trained.to_model(&vec![f64::from(value); dimensions]));
    }
    trained.column_names().len() == dimensions
}

/// The table of a model of two tensors.
fn table() -> ParamTable {
    let mut table = ParamTable::default();
    table.add("ctx.layers.0.weight".into(), &[2, 3], None);
    table.add("ctx.layers.0.bias".into(), &[2], None);
    table
}

/// The weights of another program.
pub(crate) fn weights(bytes: &[u8]) -> bool {
    let parsed = taken(parse_weights(bytes, "weights"));
    let path = file("weights", bytes);
    let Some(foreign) = taken(read_foreign(&path)) else { return false };
    assert!(parsed.is_none_or(|parsed| parsed.len() == foreign.tensors.len()), "all floats, or refused");
    let opened = taken(ForeignWeights::open(&path, ["", "p."][variant(bytes, 2)], NameMap::default()));
    opened.is_some_and(|weights| taken(weights.take(&table())).is_some())
}

/// Which tensor is which, of weights that are whole.
pub(crate) fn name_map(bytes: &[u8]) -> bool {
    static WEIGHTS: LazyLock<PathBuf> = LazyLock::new(|| {
        let tensor = |shape: &[usize]| arcsm::files::arrays::HostTensor::new(shape, vec![0.5; shape.iter().product()]);
        let tensors = [("w", tensor(&[3, 2])), ("b", tensor(&[2])), ("ctx.layers.0.bias", tensor(&[2]))];
        let path = folder().join("whole");
        let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        arcsm::files::safetensors::write_weights(&path, &tensors).expect("written");
        path
    });
    let Some(map) = std::str::from_utf8(bytes).ok().and_then(|text| taken(NameMap::from_toml(text, "map"))) else {
        return false;
    };
    let weights = ForeignWeights::open(&WEIGHTS, "", map).expect("whole");
    taken(weights.take(&table())).is_some()
}

/// The settings of a run.
pub(crate) fn config(bytes: &[u8]) -> bool {
    let Some(config) = std::str::from_utf8(bytes).ok().and_then(|text| taken(Config::from_toml(text, "config"))) else {
        return false;
    };
    let text = config.to_toml();
    let again = taken(Config::from_toml(&text, "its own text")).expect("what is written can be read");
    assert_eq!(again.to_toml(), text, "settings survive being written");
    if taken(config.check()).is_none() {
        return false;
    }
    for shape in ["7", "8x4x1", "4x4x3"] {
        stored_numbers(&config.model, shape.parse().expect("a shape"));
    }
    true
}

/// Samples as training and as questions read them, up to the map to a model's units.
fn samples(config: &DataConfig) -> bool {
    taken(data::load_rows(config, 0));
    let Some(data) = taken(data::load(config, 0)) else { return false };
    assert!(!data.train.is_empty() && !data.held_out.is_empty(), "both parts hold samples");
    let Some((standard, _)) = taken(data.fit_standard(Standardise::Auto)) else { return false };
    let data = data.standardised(standard.as_ref());
    let statistics = [&data.train, &data.held_out].map(|samples| samples.statistics().expect("it was read before"));
    statistics.iter().all(|statistics| statistics.mean.is_finite())
}

fn of(kind: &str, path: &Path) -> DataConfig {
    DataConfig { spec: format!("{kind}:{}", path.display()), ..DataConfig::default() }
}

/// An array.
pub(crate) fn npy(bytes: &[u8]) -> bool {
    let path = file("npy", bytes);
    taken(read_npy(&path));
    samples(&of("npy", &path))
}

/// An archive of arrays.
pub(crate) fn npz(bytes: &[u8]) -> bool {
    let path = file("npz", bytes);
    let named = DataConfig { spec: format!("npz:{}#a", path.display()), ..DataConfig::default() };
    samples(&if variant(bytes, 2) == 0 { named } else { of("npz", &path) })
}

/// Numbers in the form of MNIST.
pub(crate) fn idx(bytes: &[u8]) -> bool {
    samples(&of("idx", &file("idx", bytes)))
}

/// A batch of CIFAR-10.
pub(crate) fn cifar(bytes: &[u8]) -> bool {
    file_in("cifar", "test_batch.bin", bytes);
    samples(&of("cifar10", &file_in("cifar", "data_batch_1.bin", bytes)))
}

/// Labels in the form of MNIST, of two images.
pub(crate) fn labels(bytes: &[u8]) -> bool {
    let images = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 9];
    file_in("labels", "train-images-idx3-ubyte", &images);
    file_in("labels", "t10k-images-idx3-ubyte", &images);
    file_in("labels", "t10k-labels-idx1-ubyte", bytes);
    let folder = file_in("labels", "train-labels-idx1-ubyte", bytes);
    taken(load_labelled(&format!("mnist:{}", folder.display()))).is_some()
}

/// A table.
pub(crate) fn csv(bytes: &[u8]) -> bool {
    let config = of("csv", &file("csv", bytes));
    samples(&match variant(bytes, 8) {
        0 => DataConfig { separator: Some(Separator::Comma), decimal: Some(Decimal::Point), ..config },
        1 => DataConfig { separator: Some(Separator::Semicolon), decimal: Some(Decimal::Comma), ..config },
        2 => DataConfig { separator: Some(Separator::Blank), header: Some(Header::No), ..config },
        3 => DataConfig { header: Some(Header::Yes), skip_columns: Some(vec!["1".into()]), ..config },
        4 => DataConfig { columns: Some(vec!["2".into(), "a".into()]), ..config },
        5 => DataConfig { broken: Broken::Skip, ..config },
        _ => config,
    })
}

/// An image in a folder, and the texts of a PNG.
pub(crate) fn image(bytes: &[u8]) -> bool {
    let folder = file_in("images", "a.png", bytes);
    if bytes.starts_with(b"\x89PNG") {
        taken(read_png_text(&folder.join("a.png")));
    }
    let config = of("images", &folder);
    let rows = taken(data::load_rows(&DataConfig { size: [None, Some(8)][variant(bytes, 2)], ..config }, 0));
    rows.is_some_and(|rows| rows.samples.statistics().expect("it was read before").sd.is_finite())
}

/// Anything packed.
pub(crate) fn gzip(bytes: &[u8]) -> bool {
    let path = file("gzip", bytes);
    taken(read_input(&path));
    match variant(bytes, 4) {
        0 => samples(&of("idx", &path)),
        1 => samples(&of("npy", &path)),
        2 => taken(Checkpoint::load(&path)).is_some(),
        _ => samples(&of("csv", &path)),
    }
}

/// The SPEC of data, and other words of flags. Paths lead nowhere, and what would take long to draw is not drawn.
pub(crate) fn spec(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let is_shape = text.parse::<SampleShape>().is_ok_and(|shape| shape.dimensions() > 0);
    let spec = text.replace(['/', '\\', '~'], "_").replace("..", "_");
    spec_of_file(&folder().join("empty").join(spec.replace('\0', "_")));
    if spec.strip_prefix("gaussian:").is_some_and(|d| d.trim().parse().is_ok_and(|d: usize| d > 8)) {
        return is_shape;
    }
    let config = DataConfig { spec, folder: Some(folder().join("empty")), ..DataConfig::default() };
    taken(data::load_rows(&config, 0)).is_some() || is_shape
}
