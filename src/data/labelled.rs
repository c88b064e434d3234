//! Images with their classes, for the classifier whose features judge samples; nothing else here learns from labels.

use std::path::Path;

use super::spec::whole_path;
use super::{DIGITS, SampleShape, idx};
use crate::error::{Error, Result};
use crate::files;
use crate::files::blob::{Blob, Budget};

const DIGITS_LABELS: &[u8] = include_bytes!("../../assets/digits-labels-idx1-ubyte.gz");
/// Unsigned bytes, one axis.
const MAGIC: u32 = 0x0000_0801;
const HEADER: usize = 8;
/// One in so many digits is held out.
const HELD_OUT: usize = 5;

/// Images and labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelledImages {
    /// (N, D), values in [0, 1].
    pub images: Vec<f32>,
    /// (N), classes from 0.
    pub labels: Vec<u8>,
}

/// Labelled images to learn from, and others to try it on.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSet {
    /// What an image is.
    pub shape: SampleShape,
    /// To learn from.
    pub train: LabelledImages,
    /// Never learned from.
    pub held_out: LabelledImages,
}

/// Loads `digits`, or `mnist:DIR` with `train-labels-idx1-ubyte` and `t10k-labels-idx1-ubyte` (or with `.gz`) beside the images.
///
/// # Errors
/// Another SPEC, or whatever is wrong with a file.
pub fn load_labelled(spec: &str) -> Result<LabelledSet> {
    match spec.split_once(':') {
        None if spec == "digits" => digits(),
        Some(("mnist", folder)) => mnist(Path::new(&*whole_path(folder)?)),
        _ => Err(Error::input(spec, "has no labels", "Give digits, or mnist:DIR with the files of labels too")),
    }
}

fn digits() -> Result<LabelledSet> {
    let images = Blob::from_bytes("the embedded digits", files::gunzip(DIGITS, "the embedded digits")?);
    let (shape, samples) = idx::read_bytes(&images, 16)?;
    let images = samples.first(samples.len())?;
    let labels = parse_labels(&files::gunzip(DIGITS_LABELS, "the embedded labels")?, "the embedded labels")?;
    let mut set = LabelledSet { shape, train: LabelledImages::default(), held_out: LabelledImages::default() };
    for (n, (image, label)) in images.chunks_exact(shape.dimensions()).zip(labels).enumerate() {
        let part = if n % HELD_OUT == 0 { &mut set.held_out } else { &mut set.train };
        part.images.extend_from_slice(image);
        part.labels.push(label);
    }
    Ok(set)
}

fn mnist(folder: &Path) -> Result<LabelledSet> {
    let file = |name: String| {
        let plain = folder.join(&name);
        if plain.exists() { plain } else { folder.join(name + ".gz") }
    };
    let part = |stem: &str| -> Result<(SampleShape, LabelledImages)> {
        let path = file(format!("{stem}-images-idx3-ubyte"));
        let (shape, samples) = idx::read(&path, &mut Budget::of_mib(2048))?;
        let path = file(format!("{stem}-labels-idx1-ubyte"));
        let labels = parse_labels(&files::read_input(&path)?, &path.display().to_string())?;
        if labels.len() != samples.len() {
            let problem = format!("has {} labels for {} images", labels.len(), samples.len());
            return Err(Error::input(path.display().to_string(), problem, "Put files of one data set there"));
        }
        Ok((shape, LabelledImages { images: samples.first(samples.len())?, labels }))
    };
    let ((shape, train), (_, held_out)) = (part("train")?, part("t10k")?);
    Ok(LabelledSet { shape, train, held_out })
}

/// Parses an IDX file of unsigned bytes.
fn parse_labels(bytes: &[u8], subject: &str) -> Result<Vec<u8>> {
    let refuse =
        |problem: String| Err(Error::input(subject, problem, "Give an IDX file of labels, whole and undamaged"));
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let (Some(magic), Some(count)) = (word(0), word(4)) else {
        return refuse(format!("is cut off: expected a header of {HEADER} bytes, found {}", bytes.len()));
    };
    let labels = &bytes[HEADER..];
    if magic != MAGIC {
        return refuse(format!("has magic number {magic:08x}, expected {MAGIC:08x} (IDX labels)"));
    }
    if labels.len() != count as usize {
        return refuse(format!("says {count} labels, found {}", labels.len()));
    }
    Ok(labels.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_have_labels() {
        let set = load_labelled("digits").expect("embedded");
        assert_eq!((set.train.labels.len(), set.held_out.labels.len()), (1437, 360));
        assert_eq!(set.train.images.len(), 64 * 1437);
        let count = |class: u8| set.train.labels.iter().chain(&set.held_out.labels).filter(|&&l| l == class).count();
        assert_eq!([0, 1, 2, 9].map(count), [178, 182, 177, 180]);
    }

    #[test]
    fn damaged_labels_are_refused() {
        let whole = [0, 0, 8, 1, 0, 0, 0, 2, 7, 3];
        assert_eq!(parse_labels(&whole, "x").expect("whole"), [7, 3]);
        for (bytes, words) in [(&whole[..9], "2 labels, found 1"), (&whole[..6], "cut off"), (&[0; 8][..], "00000000")]
        {
            let error = parse_labels(bytes, "x").expect_err(words);
            assert!(error.to_string().contains(words) && error.exit_status() == 2, "{error}");
        }
        assert_eq!(load_labelled("toy:moons").expect_err("no labels").exit_status(), 2);
    }
}
