//! Small files that are right, to be mutated: made here, so that none has to be kept.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use arcsm::checkpoint::{Best, Checkpoint};
use arcsm::codes::Objective;
use arcsm::config::Config;
use arcsm::data::{DataDigest, Dataset, Samples};
use arcsm::files::arrays::HostTensor;
use arcsm::files::safetensors::write_weights;
use arcsm::models::ar_csm::{ArCsm, HeadKind, Network};
use arcsm::order::Order;
use arcsm::standard::Standardise;
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use zip::CompressionMethod;

use super::mutate::{archived, mend_checksums};
use super::targets::{folder, gpu};

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let text = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "checkpoint" => checkpoints(),
        "weights" => weights(),
        "name_map" => text(&[
            "\"ctx.layers.0.weight\" = { name = \"w\", transpose = true }\n\"ctx.layers.0.bias\" = \"b\"\n",
            "ctx.layers.0.weight = { name = \"w\", transpose = true }\n[ctx.layers.0.bias]\nname = \"b\"\n",
        ]),
        "config" => configs().iter().map(|config| config.to_toml().into_bytes()).chain(recipes()).collect(),
        "npy" => arrays(),
        "npz" => arrays()
            .iter()
            .zip([CompressionMethod::Stored, CompressionMethod::Deflated].into_iter().cycle())
            .map(|(array, method)| archived(&[("a.npy", array), ("b.npy", array), ("c.txt", b"x")], method))
            .collect(),
        "idx" => idx(),
        "cifar" => vec![(0..2 * 3073).map(|i| if i % 3073 == 0 { 3 } else { (i * 7) as u8 }).collect()],
        "labels" => vec![vec![0, 0, 8, 1, 0, 0, 0, 2, 7, 3]],
        "csv" => tables(),
        "image" => images(),
        "gzip" => idx()
            .iter()
            .chain(&arrays()[..2])
            .chain(&tables()[..3])
            .chain(&checkpoints()[..1])
            .map(|bytes| packed(bytes))
            .collect(),
        "spec" => text(&[
            "digits",
            "npz:x.npz#images",
            "csv:a.csv",
            "images:photos",
            "toy:moons",
            "gaussian:2",
            "28x28x1",
            "5",
        ]),
        unknown => panic!("give the target {unknown} seeds"),
    }
}

/// What a trained checkpoint of each kind of model has in it, and the same as older programs wrote it.
fn checkpoints() -> Vec<Vec<u8>> {
    let shapes = ["3", "2", "4x4x1", "4x4x3", "3"];
    let mut files: Vec<Vec<u8>> =
        configs().into_iter().zip(shapes).map(|(config, shape)| checkpoint(config, shape)).collect();
    let older: Vec<_> = files.iter().map(|file| without_checksum(file)).collect();
    files.extend(older);
    files
}

fn configs() -> Vec<Config> {
    let mut tiny = Config::default();
    tiny.model.hidden = vec![4, 4];
    tiny.model.score.hidden = vec![4];
    tiny.model.context = 2;
    tiny.model.components = 2;
    tiny.model.conv.filters = 3;
    tiny.model.conv.blocks = 1;
    tiny.model.score.range = Some([0.0, 1.0]);
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = tiny.clone();
        change(&mut config);
        config
    };
    vec![
        with(&|config| config.data.standard = standard(3, Standardise::Ranks)),
        with(&|config| {
            (config.model.head, config.train.objective) = (HeadKind::Mog, Objective::Ml);
            config.data.standard = standard(2, Standardise::Moments);
        }),
        with(&|config| config.model.network = Network::Gated),
        with(&|config| {
            (config.model.network, config.model.conv.downsamplings) = (Network::PixelCnn, 1);
            (config.model.head, config.train.objective, config.model.bins) = (HeadKind::Mol, Objective::Ml, Some(16));
        }),
        with(&|config| (config.model.order, config.model.residual) = (Order::Any, true)),
    ]
}

fn standard(dimensions: usize, how: Standardise) -> Option<arcsm::standard::Standard> {
    let values: Vec<f64> = (0..40 * dimensions).map(|i| ((i * i * 7) % 23) as f64).collect();
    let (train, held_out) =
        (Samples::from_doubles(dimensions, values.clone()), Samples::from_doubles(dimensions, values));
    let shape = dimensions.to_string().parse().expect("a shape");
    Dataset::new("seeds", shape, train, held_out).fit_standard(how).expect("40 samples will do").0
}

fn checkpoint(config: Config, shape: &str) -> Vec<u8> {
    let shape = shape.parse().expect("a shape");
    let model = ArCsm::new(gpu(), &config.model, shape).expect("small");
    let mut tensors = BTreeMap::new();
    for (_, slot) in model.stored_table().slots() {
        let shape = slot.file_shape();
        let tensor =
            HostTensor::new(&shape[..], (0..shape.iter().product()).map(|i: usize| (i % 5) as f32 * 0.1).collect());
        tensors.insert(format!("ema.{}", slot.name), tensor.clone());
        tensors.insert(slot.name.clone(), tensor);
    }
    let best = Some(Best { loss: 1.5, step: 3 });
    let path = folder().join("seed");
    let data = Some(DataDigest { train: 40, held_out: 4, checksum: 7 });
    Checkpoint { config, step: 7, samples_drawn: 99, shape, data, best, tensors }.save(&path).expect("written");
    fs::read(path).expect("written")
}

fn without_checksum(file: &[u8]) -> Vec<u8> {
    let (&length, rest) = file.split_first_chunk().expect("a checkpoint");
    let (header, data) = rest.split_at(u64::from_le_bytes(length) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).expect("JSON");
    header["__metadata__"].as_object_mut().expect("metadata").remove("checksum").expect("it was there");
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn weights() -> Vec<Vec<u8>> {
    let tensor = |shape: &[usize]| HostTensor::new(shape, vec![0.25; shape.iter().product()]);
    let of = |prefix: &str| {
        let names = [("ctx.layers.0.weight", &[2, 3][..]), ("ctx.layers.0.bias", &[2]), ("other", &[])];
        let tensors = names.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), tensor(shape))).collect();
        let path = folder().join("seed");
        write_weights(&path, &tensors).expect("written");
        fs::read(path).expect("written")
    };
    let data = [0u8; 19];
    let header = serde_json::json!({
        "h": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        "i": {"dtype": "I64", "shape": [1], "data_offsets": [4, 12]},
        "b": {"dtype": "BF16", "shape": [3, 1], "data_offsets": [12, 18]},
        "t": {"dtype": "BOOL", "shape": [], "data_offsets": [18, 19]},
    });
    let header = header.to_string();
    vec![of(""), of("p."), [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()]
}

fn recipes() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("there").map(|entry| entry.expect("there").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("there")).collect()
}

fn arrays() -> Vec<Vec<u8>> {
    let kinds = [
        ("|u1", "(3, 4, 4)", false, 48),
        ("<f4", "(6, 2)", false, 48),
        (">f8", "(3, 2)", true, 48),
        ("<f2", "(24,)", false, 48),
        ("|b1", "(4, 2, 2, 3)", true, 48),
        ("<i8", "(6,)", false, 48),
        (">u2", "(2, 12)", false, 48),
    ];
    let of = |(dtype, shape, columns, bytes): (&str, &str, bool, usize)| {
        let order = if columns { "True" } else { "False" };
        let header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        let data: Vec<u8> = (0..bytes).map(|i| (i % 3 * 16) as u8).collect();
        [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), &data].concat()
    };
    kinds.map(of).into()
}

fn idx() -> Vec<Vec<u8>> {
    let numbers = |count: usize| (0..count).map(|i| (i * 5) as u8).collect::<Vec<u8>>();
    vec![
        [&[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4][..], &numbers(24)].concat(),
        [&[0, 0, 0x0d, 2, 0, 0, 0, 3, 0, 0, 0, 2][..], &numbers(24)].concat(),
        [&[0, 0, 0x0b, 1, 0, 0, 0, 4][..], &numbers(8)].concat(),
        [&[0, 0, 8, 4, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &numbers(24)].concat(),
    ]
}

fn tables() -> Vec<Vec<u8>> {
    let texts = [
        "a,b\n1,2\n3.5,4\n-1e3,5\n2,2\n",
        "a;b\n1,5;2\n3,25;4\n0,5;1\n",
        "# x y\n1.0e+00 2.0\n 3 4\n5 6\n",
        "\"name, of\",\"b \"\"c\"\"\"\n\"1\",2\n3,\"4\"\n5,6\n",
        ",a,b\n0,1,2\n1,3,4\n2,5,6\n",
        "a\tb\n1\t\n2\t3\n4\t5\n",
        "sep=;\na;b\n1;2\n3;4\n",
        "id,share,yes\n1,50%,true\n2,7%,false\n3,8%,true\n",
        "a|b\r1|2\r3|4\r5|6\r",
        "x\n1,234.5\n2,345.5\n3\n",
        "1;2\n3;4\n5;6\n\u{a0};\u{2212}7\n",
    ];
    let wide = "\u{feff}a,b\n1,2\n3,4\n5,7\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    texts
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .chain([wide, "größe,b\n1,2\n3,4\n".chars().map(|c| c as u8).collect()])
        .collect()
}

fn images() -> Vec<Vec<u8>> {
    let picture = RgbaImage::from_fn(9, 6, |x, y| Rgba([(x * 20) as u8, (y * 30) as u8, 90, (x * y * 5) as u8]));
    let picture = DynamicImage::from(picture);
    let kinds = [
        picture.to_rgb8().into(),
        picture.to_luma8().into(),
        picture.to_luma16().into(),
        picture.to_rgba16().into(),
        picture,
    ];
    let formats =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif];
    let encoded = |image: &DynamicImage, format: ImageFormat| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).ok().map(|()| bytes.into_inner())
    };
    let mut files: Vec<Vec<u8>> =
        formats.iter().flat_map(|&format| kinds.iter().filter_map(move |image| encoded(image, format))).collect();
    files.push(png_with_texts(&files[0]));
    files
}

/// A PNG with a chunk of each kind that is packed for itself: text, international text, a profile; and with EXIF data.
fn png_with_texts(png: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&[b'x'; 300]).expect("memory");
    let packed = packer.finish().expect("memory");
    let chunk = |kind: &[u8; 4], data: &[u8]| [&(data.len() as u32).to_be_bytes(), &kind[..], data, &[0; 4]].concat();
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let chunks = [
        chunk(b"iCCP", &[&b"p\0\0"[..], &packed].concat()),
        chunk(b"zTXt", &[&b"key\0\0"[..], &packed].concat()),
        chunk(b"iTXt", &[&b"key\0\x01\0\0\0"[..], &packed].concat()),
        chunk(b"tEXt", b"seed\x007"),
        chunk(b"eXIf", exif),
    ];
    let (start, rest) = png.split_at(33);
    let mut bytes = [start, &chunks.concat(), rest].concat();
    mend_checksums(&mut bytes);
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).expect("memory");
    packer.finish().expect("memory")
}
