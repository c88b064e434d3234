//! CIFAR-10 in its binary version: records of a label and three planes of 32x32 bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{SampleShape, Samples};
use crate::error::{Error, Result};
use crate::files;

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const SHAPE: SampleShape = SampleShape::Image { height: SIDE, width: SIDE, channels: 3 };
/// Label, red, green, blue.
const RECORD: usize = 1 + 3 * PIXELS;
const LARGEST_LABEL: u8 = 9;

/// Reads every `data_batch_*.bin` of a folder to learn from, in the order of their names, and `test_batch.bin` to be
/// held out; each as it is or with `.gz`.
pub(super) fn read(folder: &Path) -> Result<(SampleShape, Samples, Samples)> {
    let batches = batches_in(folder)?;
    let missing = |name: &str| {
        let remedy = "Give the folder of the binary version of CIFAR-10 (cifar-10-batches-bin)";
        Error::input(folder.display().to_string(), format!("holds no {name} (nor with .gz)"), remedy)
    };
    let mut train = Vec::new();
    for (_, path) in batches.iter().filter(|(name, _)| name.starts_with("data_batch_")) {
        parse(&files::read_input(path)?, &path.display().to_string(), &mut train)?;
    }
    if train.is_empty() {
        return Err(missing("data_batch_*.bin"));
    }
    let mut held_out = Vec::new();
    let test = batches.get("test_batch.bin").ok_or_else(|| missing("test_batch.bin"))?;
    parse(&files::read_input(test)?, &test.display().to_string(), &mut held_out)?;
    let samples = |bytes| Samples::from_bytes(SHAPE.dimensions(), bytes, u8::MAX);
    Ok((SHAPE, samples(train), samples(held_out)))
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

/// Appends the images of one batch to `images` (N, H, W, C): three planes become pixels with their channels side by
/// side.
fn parse(bytes: &[u8], subject: &str, images: &mut Vec<u8>) -> Result<()> {
    let refuse = |problem: String| {
        let remedy = "Give a batch of the binary version of CIFAR-10, whole and undamaged";
        Err(Error::input(subject, problem, remedy))
    };
    let (records, rest) = bytes.as_chunks::<RECORD>();
    if records.is_empty() || !rest.is_empty() {
        return refuse(format!("has {} bytes, expected a positive multiple of {RECORD}", bytes.len()));
    }
    if let Some(at) = records.iter().position(|record| record[0] > LARGEST_LABEL) {
        let label = records[at][0];
        return refuse(format!("has label {label} in record {at} of {RECORD} bytes, expected 0 to {LARGEST_LABEL}"));
    }
    images.reserve(records.len() * 3 * PIXELS);
    for [_label, planes @ ..] in records {
        images.extend((0..PIXELS).flat_map(|pixel| [0, 1, 2].map(|channel| planes[channel * PIXELS + pixel])));
    }
    Ok(())
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
        let error = read(folder).expect_err("refused");
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
        let (shape, train, held_out) = read(folder.path()).expect("whole");
        assert_eq!((shape.to_string().as_str(), train.len(), held_out.len()), ("32x32x3", 3, 1));
        let mut sample = vec![0.0; 3072];
        for image in 0..4 {
            if image < 3 {
                train.write_sample(image, &mut sample)
            } else {
                held_out.write_sample(0, &mut sample)
            }
            for (i, &got) in sample.iter().enumerate() {
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
