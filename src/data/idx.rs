//! IDX, the file form of MNIST: a magic number, the sizes, then the numbers, most significant byte first.

use std::path::Path;

use super::{SampleShape, Samples, refuse_empty, samples_of, shape_of};
use crate::error::{Error, Result};
use crate::files::arrays::{FileArray, Number};
use crate::files::blob::{Blob, Budget};

/// Most axes of samples: images, rows, columns, channels.
const MOST_AXES: usize = 4;

/// Reads samples of any type of numbers and of 1 to 4 axes, as they are or gzipped. Unsigned bytes of
/// images are divided by 255, as in arrays; other numbers are taken as they are.
pub(super) fn read(path: &Path, budget: &mut Budget) -> Result<(SampleShape, Samples)> {
    let told = |start: &[u8], subject: &str| Ok(u64::try_from(Header::of(start, subject)?.bytes()).ok());
    samples_of(&parse(&Blob::open(path, budget, &told)?)?, budget)
}

/// Samples of unsigned bytes of which the value `largest` becomes 1, and larger ones are refused.
pub(super) fn read_bytes(file: &Blob, largest: u8) -> Result<(SampleShape, Samples)> {
    let (array, subject) = (parse(file)?, file.subject());
    if array.number != Number::Byte {
        return Err(damaged(subject, "holds no unsigned bytes".into()));
    }
    let shape = shape_of(&array)?;
    refuse_empty(array.data.len(), subject)?;
    let bytes = array.data.read(0, array.data.len() as usize)?;
    if let Some(at) = bytes.iter().position(|&byte| byte > largest) {
        return Err(damaged(subject, format!("holds {} at byte {at}, expected at most {largest}", bytes[at])));
    }
    Ok((shape, Samples::from_bytes(shape.dimensions(), array.data.clone(), largest)))
}

fn damaged(subject: &str, problem: String) -> Error {
    Error::input(subject, problem, "Give an IDX file of 1 to 4 axes, whole and undamaged")
}

/// What an IDX file starts with.
struct Header {
    number: Number,
    shape: Vec<usize>,
}

impl Header {
    /// Of a file that starts with these bytes.
    fn of(start: &[u8], subject: &str) -> Result<Self> {
        let cut = |header: usize| {
            damaged(subject, format!("is cut off: expected a header of {header} bytes, found {}", start.len()))
        };
        let (&magic, sizes) = start.split_first_chunk().ok_or_else(|| cut(4))?;
        let (number, axes) = match magic {
            [0, 0, code, axes @ 1..=4] => (number_of(code), usize::from(axes)),
            _ => (None, 0),
        };
        let number = number.ok_or_else(|| {
            let found = u32::from_be_bytes(magic);
            let expected = "000008NN, 09, 0b, 0c, 0d or 0e for the type of numbers and 01 to 04 for the axes";
            damaged(subject, format!("has magic number {found:08x}, expected {expected}"))
        })?;
        let sizes = sizes.as_chunks().0.get(..axes).ok_or_else(|| cut(4 + 4 * axes))?;
        Ok(Self { number, shape: sizes.iter().map(|&size| u32::from_be_bytes(size) as usize).collect() })
    }

    /// Its own bytes.
    fn len(&self) -> usize {
        4 + 4 * self.shape.len()
    }

    /// Bytes of the numbers behind it. In u128 and saturating, as four 32-bit sizes may overflow 64 and 128 bits.
    fn data_bytes(&self) -> u128 {
        self.shape.iter().fold(self.number.width() as u128, |product, &n| product.saturating_mul(n as u128))
    }

    /// Bytes of the whole file.
    fn bytes(&self) -> u128 {
        self.data_bytes().saturating_add(self.len() as u128)
    }
}

/// Parses the header of an IDX file and holds it against the number of bytes that are there.
fn parse(file: &Blob) -> Result<FileArray> {
    let subject = file.subject();
    let header = Header::of(&file.read(0, file.len().min(4 + 4 * MOST_AXES as u64) as usize)?, subject)?;
    let (start, expected) = (header.len() as u64, header.data_bytes());
    let Header { number, shape } = header;
    let found = file.len() - start;
    if expected != u128::from(found) {
        let problem = format!("says {} samples of shape {:?}, {expected} bytes, found {found}", shape[0], &shape[1..]);
        return Err(damaged(subject, problem));
    }
    Ok(FileArray { shape, number, column_order: false, data: file.window(subject, start, found) })
}

/// The third byte of the magic number.
fn number_of(code: u8) -> Option<Number> {
    Some(match code {
        0x08 => Number::Byte,
        0x09 => Number::SignedByte,
        0x0b => Number::ShortBigEndian,
        0x0c => Number::IntBigEndian,
        0x0d => Number::SingleBigEndian,
        0x0e => Number::DoubleBigEndian,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(code: u8, sizes: &[u32], data: &[u8]) -> Blob {
        let magic = [0, 0, code, sizes.len() as u8];
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        Blob::from_bytes("x", magic.into_iter().chain(sizes).chain(data.iter().copied()).collect())
    }

    /// Shape and values of a whole file.
    fn values(file: &Blob) -> (String, Vec<f32>) {
        let array = parse(file).expect("whole");
        let (shape, samples) = samples_of(&array, &mut Budget::of_mib(1)).expect("samples");
        (shape.to_string(), samples.first(samples.len()).expect("in memory"))
    }

    #[test]
    fn images_are_read_row_by_row() {
        let (shape, found) = values(&idx(8, &[2, 1, 3], &[0, 51, 255, 102, 0, 204]));
        assert_eq!((shape.as_str(), found), ("1x3x1", vec![0.0, 0.2, 1.0, 0.4, 0.0, 0.8]));
        let (shape, samples) = read_bytes(&idx(8, &[2, 1, 2], &[0, 4, 16, 8]), 16).expect("whole");
        assert_eq!(
            (shape.to_string().as_str(), samples.first(2).expect("there")),
            ("1x2x1", vec![0.0, 0.25, 1.0, 0.5])
        );
    }

    #[test]
    fn every_type_of_numbers_is_read() {
        let doubles = [2.5f64, -1e9].map(f64::to_be_bytes).concat();
        for (code, data, expected) in [
            (0x08, vec![255, 51], [255.0, 51.0]),
            (0x09, vec![0x80, 127], [-128.0, 127.0]),
            (0x0b, [-300i16, 7].map(i16::to_be_bytes).concat(), [-300.0, 7.0]),
            (0x0c, [70_000i32, -70_000].map(i32::to_be_bytes).concat(), [70_000.0, -70_000.0]),
            (0x0d, [0.1f32, -3e30].map(f32::to_be_bytes).concat(), [0.1, -3e30]),
            (0x0e, doubles, [2.5, -1e9]),
        ] {
            assert_eq!(values(&idx(code, &[2], &data)), ("1".into(), expected.to_vec()), "{code:02x}");
        }
    }

    #[test]
    fn axes_say_what_a_sample_is() {
        let data: Vec<u8> = (0..12).collect();
        for (sizes, shape) in [
            (&[12][..], "1"),
            (&[4, 3], "3"),
            (&[2, 3, 2], "3x2x1"),
            (&[2, 1, 2, 3], "1x2x3"),
            (&[2, 3, 2, 1], "3x2x1"),
        ] {
            let (found, values) = values(&idx(0x09, sizes, &data));
            assert_eq!((found.as_str(), values), (shape, (0..12u8).map(f32::from).collect()), "{sizes:?}");
        }
    }

    #[test]
    fn faults_are_bad_input_and_say_what_was_found() {
        for (bytes, expected) in [
            (idx(8, &[2, 1, 3], &[0; 5]), "6 bytes, found 5"),
            (idx(8, &[2, 1, 3], &[0; 7]), "6 bytes, found 7"),
            (idx(0x0e, &[1, 2], &[0; 15]), "16 bytes, found 15"),
            (idx(0x0a, &[2, 1, 3], &[0; 6]), "magic number 00000a03, expected"),
            (idx(8, &[1; 5], &[0; 6]), "magic number 00000805, expected"),
            (idx(8, &[], &[0; 6]), "magic number 00000800, expected"),
            (idx(8, &[u32::MAX; 3], &[0; 6]), "79228162458924105385300197375 bytes, found 6"),
            (idx(14, &[u32::MAX; 4], &[0; 6]), "bytes, found 6"),
            (idx(8, &[0, 28, 28], &[]), "holds no values"),
            (idx(8, &[1, 0, 28], &[]), "holds no values"),
            (idx(8, &[1, 1, 1, 2], &[0; 2]), "C = 1 or 3"),
            (idx(8, &[1, 1, 2], &[16, 17]), "holds 17 at byte 1"),
            (idx(9, &[1, 2], &[1, 2]), "holds no unsigned bytes"),
            (Blob::from_bytes("x", vec![0, 0, 8]), "expected a header of 4 bytes, found 3"),
            (Blob::from_bytes("x", vec![0, 0, 8, 2, 0, 0, 0, 1, 0]), "expected a header of 12 bytes, found 9"),
        ] {
            let error = read_bytes(&bytes, 16).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
        let nan = parse(&idx(0x0d, &[1, 2], &[0, 0, 0, 0, 0x7f, 0xc0, 0, 0])).expect("whole");
        let error = samples_of(&nan, &mut Budget::of_mib(1)).expect_err("NaN").to_string();
        assert!(error.contains("x: holds NaN at index [0, 1]"), "{error}");
    }
}
