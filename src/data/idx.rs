//! IDX, the file form of MNIST: a magic number, the sizes, then the bytes.

use std::path::Path;

use super::{SampleShape, Samples, refuse_empty};
use crate::blob::{Blob, Budget};
use crate::error::{Error, Result};

/// Unsigned bytes, three axes: images, rows, columns.
const MAGIC: u32 = 0x0000_0803;
const HEADER: u64 = 16;

/// Reads images of unsigned bytes, as they are or gzipped; 255 becomes 1.
pub(super) fn read(path: &Path, budget: &mut Budget) -> Result<(SampleShape, Samples)> {
    parse(&Blob::open(path, budget)?, u8::MAX)
}

/// Parses an IDX file; the value `largest` becomes 1, and larger ones are refused.
pub(super) fn parse(file: &Blob, largest: u8) -> Result<(SampleShape, Samples)> {
    let subject = file.subject();
    let damaged = |problem: String| {
        Error::input(subject, problem, "Give an IDX file of unsigned-byte images, whole and undamaged")
    };
    let Some(found) = file.len().checked_sub(HEADER) else {
        return Err(damaged(format!("is cut off: expected a header of {HEADER} bytes, found {}", file.len())));
    };
    let header = file.read(0, HEADER as usize)?;
    let word = |i: usize| u32::from_be_bytes([header[4 * i], header[4 * i + 1], header[4 * i + 2], header[4 * i + 3]]);
    if word(0) != MAGIC {
        return Err(damaged(format!("has magic number {:08x}, expected {MAGIC:08x} (IDX images of bytes)", word(0))));
    }
    let [count, height, width] = [word(1) as usize, word(2) as usize, word(3) as usize];
    // In u128, as three 32-bit sizes may overflow 64 bits.
    let expected = [count, height, width].iter().map(|&n| n as u128).product::<u128>();
    if expected != u128::from(found) {
        let problem = format!("says {count} images of {height}x{width}, {expected} bytes, found {found}");
        return Err(damaged(problem));
    }
    refuse_empty(found, subject)?;
    let pixels = file.window(subject, HEADER, found);
    if largest < u8::MAX {
        let pixels = pixels.read(0, found as usize)?;
        if let Some(at) = pixels.iter().position(|&byte| byte > largest) {
            return Err(damaged(format!("holds {} at byte {at}, expected at most {largest}", pixels[at])));
        }
    }
    let shape = SampleShape::Image { height, width, channels: 1 };
    Ok((shape, Samples::from_bytes(shape.dimensions(), pixels, largest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(magic: u32, sizes: [u32; 3], pixels: &[u8]) -> Blob {
        let words = [magic, sizes[0], sizes[1], sizes[2]];
        let bytes = words.iter().flat_map(|word| word.to_be_bytes()).chain(pixels.iter().copied());
        Blob::from_bytes("x", bytes.collect())
    }

    #[test]
    fn images_are_read_row_by_row() {
        let (shape, samples) = parse(&idx(MAGIC, [2, 1, 3], &[0, 51, 255, 102, 0, 204]), 255).expect("whole");
        assert_eq!(shape.to_string(), "1x3x1");
        let mut second = [0.0; 3];
        samples.write_sample(1, &mut second).expect("in memory");
        assert_eq!(second, [0.4, 0.0, 0.8]);
    }

    #[test]
    fn faults_are_bad_input_and_say_what_was_found() {
        for (bytes, expected) in [
            (idx(MAGIC, [2, 1, 3], &[0; 5]), "6 bytes, found 5"),
            (idx(MAGIC, [2, 1, 3], &[0; 7]), "6 bytes, found 7"),
            (idx(0x801, [2, 1, 3], &[0; 6]), "magic number 00000801, expected 00000803"),
            (idx(MAGIC, [u32::MAX; 3], &[0; 6]), "79228162458924105385300197375 bytes, found 6"),
            (idx(MAGIC, [0, 28, 28], &[]), "holds no values"),
            (idx(MAGIC, [1, 0, 28], &[]), "holds no values"),
            (idx(MAGIC, [1, 1, 2], &[16, 17]), "holds 17 at byte 1"),
            (Blob::from_bytes("x", vec![0, 0, 8]), "expected a header of 16 bytes, found 3"),
        ] {
            let error = parse(&bytes, 16).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
    }
}
