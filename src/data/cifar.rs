//! CIFAR-10 in its binary version: records of a label and three planes of 32x32 bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::samples::Source;
use super::{SampleShape, Samples};
use crate::error::{Error, Result};
use crate::files::any_kind;
use crate::files::blob::{Blob, Budget};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const SHAPE: SampleShape = SampleShape::Image { height: SIDE, width: SIDE, channels: 3 };
/// Label, red, green, blue.
const RECORD: usize = 1 + 3 * PIXELS;
const LARGEST_LABEL: u8 = 9;

/// Files of whole records, one after another.
#[derive(Debug)]
struct Batches {
    files: Vec<Blob>,
}

impl Batches {
    fn images(&self) -> usize {
        self.files.iter().map(images_in).sum()
    }

    /// File and place in it of an image.
    fn locate(&self, mut index: usize) -> (&Blob, u64) {
        for file in &self.files {
            if index < images_in(file) {
                return (file, (index * RECORD) as u64);
            }
            index -= images_in(file);
        }
        panic!("there are {} images", self.images());
    }

    fn into_samples(self) -> Samples {
        Samples::new(SHAPE.dimensions(), self.images() * SHAPE.dimensions(), self)
    }
}

impl Source for Batches {
    /// Three planes become pixels (H, W, C) with their channels side by side.
    fn read(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        for (&index, image) in rows.iter().zip(out.chunks_exact_mut(3 * PIXELS)) {
            let (file, start) = self.locate(index);
            let planes = file.read(start + 1, 3 * PIXELS)?;
            for (at, value) in image.iter_mut().enumerate() {
                *value = f64::from(planes[at % 3 * PIXELS + at / 3]) / f64::from(u8::MAX);
            }
        }
        Ok(())
    }
}

fn images_in(file: &Blob) -> usize {
    file.len() as usize / RECORD
}

/// Reads every `data_batch_*.bin` of a folder to learn from, in the order of their names, and `test_batch.bin` to be
/// held out; each as it is or with `.gz`.
pub(super) fn read(folder: &Path, budget: &mut Budget) -> Result<(SampleShape, Samples, Samples)> {
    let batches = batches_in(folder)?;
    let missing = |name: &str| {
        let remedy = "Give the folder of the binary version of CIFAR-10 (cifar-10-batches-bin)";
        Error::input(folder.display().to_string(), format!("holds no {name} (nor with .gz)"), remedy)
    };
    let train = batches.iter().filter(|(name, _)| name.starts_with("data_batch_"));
    let train = Batches { files: train.map(|(_, path)| open(path, budget)).collect::<Result<_>>()? };
    if train.files.is_empty() {
        return Err(missing("data_batch_*.bin"));
    }
    let test = batches.get("test_batch.bin").ok_or_else(|| missing("test_batch.bin"))?;
    let held_out = Batches { files: vec![open(test, budget)?] };
    Ok((SHAPE, train.into_samples(), held_out.into_samples()))
}

/// Paths by their names without `.gz`; where both are there, the one that needs no unpacking.
fn batches_in(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let unreadable = |source: std::io::Error| {
        Error::input(folder.display().to_string(), format!("cannot be read: {source}"), "Give a folder that exists")
    };
    let mut batches = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.strip_suffix(".gz") {
            Some(stem) if stem.ends_with(".bin") => _ = batches.entry(stem.to_owned()).or_insert(entry.path()),
            None if name.ends_with(".bin") => _ = batches.insert(name, entry.path()),
            _ => {}
        }
    }
    Ok(batches)
}

/// Opens one batch and checks its length and its labels.
fn open(path: &Path, budget: &mut Budget) -> Result<Blob> {
    let file = Blob::open(path, budget, &any_kind)?;
    let refuse = |problem: String| {
        let remedy = "Give a batch of the binary version of CIFAR-10, whole and undamaged";
        Err(Error::input(file.subject(), problem, remedy))
    };
    if file.len() == 0 || !file.len().is_multiple_of(RECORD as u64) {
        return refuse(format!("has {} bytes, expected a positive multiple of {RECORD}", file.len()));
    }
    for record in 0..images_in(&file) {
        let label = file.read((record * RECORD) as u64, 1)?[0];
        if label > LARGEST_LABEL {
            let problem = format!("has label {label} in record {record} of {RECORD} bytes");
            return refuse(format!("{problem}, expected 0 to {LARGEST_LABEL}"));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Value of a channel at a pixel: different for neighbours in every direction.
    fn value(image: usize, channel: usize, y: usize, x: usize) -> u8 {
        (31 * image + 80 * channel + 3 * y + x) as u8
    }

    fn batch(images: std::ops::Range<usize>) -> Vec<u8> {
        let planes = |image: usize| (0..3 * PIXELS).map(move |i| value(image, i / PIXELS, i % PIXELS / SIDE, i % SIDE));
        images.flat_map(|image| std::iter::once((image % 10) as u8).chain(planes(image))).collect()
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) {
        std::fs::write(folder.join(name), bytes).expect("written");
    }

    fn refusal(folder: &Path) -> String {
        let error = read(folder, &mut Budget::of_mib(1)).expect_err("refused");
        assert_eq!(error.exit_status(), 2);
        error.to_string()
    }

    #[test]
    fn batches_follow_their_names_and_channels_stand_side_by_side() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&batch(2..3)).expect("memory");
        write(folder.path(), "data_batch_2.bin.gz", &packer.finish().expect("memory"));
        write(folder.path(), "data_batch_1.bin", &batch(0..2));
        write(folder.path(), "data_batch_1.bin.gz", b"not read: the plain file is there");
        write(folder.path(), "test_batch.bin", &batch(3..4));
        write(folder.path(), "batches.meta.txt", b"airplane");
        for mib in [0, 1] {
            let (shape, train, held_out) = read(folder.path(), &mut Budget::of_mib(mib)).expect("whole");
            assert_eq!((shape.to_string().as_str(), train.len(), held_out.len()), ("32x32x3", 3, 1));
            let mut images = vec![0.0; 4 * 3072];
            train.gather(&[0, 1, 2], &mut images[..3 * 3072]).expect("there");
            held_out.write_sample(0, &mut images[3 * 3072..]).expect("there");
            for (at, &got) in images.iter().enumerate() {
                let (image, i) = (at / 3072, at % 3072);
                let expected = f32::from(value(image, i % 3, i / 3 / SIDE, i / 3 % SIDE)) / 255.0;
                assert_eq!(got, expected, "image {image}, value {i}");
            }
        }
    }

    #[test]
    fn faults_are_bad_input_and_say_what_was_found() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(refusal(folder.path()).contains("holds no data_batch_*.bin"));
        write(folder.path(), "data_batch_1.bin", &batch(0..2));
        assert!(refusal(folder.path()).contains("holds no test_batch.bin"));
        for (bytes, expected) in [
            (batch(0..2)[..6145].to_vec(), "has 6145 bytes, expected a positive multiple of 3073"),
            ([batch(0..2), vec![0]].concat(), "has 6147 bytes"),
            (Vec::new(), "has 0 bytes"),
            ([batch(0..1), vec![10; RECORD]].concat(), "has label 10 in record 1"),
        ] {
            write(folder.path(), "test_batch.bin", &bytes);
            assert!(refusal(folder.path()).contains(expected), "{}", refusal(folder.path()));
        }
    }
}
