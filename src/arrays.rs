//! Arrays on the host, and NumPy's .npy and .npz files.

use std::io::{self, Read, Write};
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use ndarray_npy::{NpzWriter, WriteNpyError, WriteNpyExt, WriteNpzError};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::{Error, Result};
use crate::files;

/// A dense f32 array, last index fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Length along each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// Puts values into a shape.
    ///
    /// # Panics
    /// When the shape does not hold exactly that many values: a fault of the caller, not of a user's file.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} must hold every value");
        Self { shape, values }
    }

    /// Refuses NaN and infinities; `subject` names the array.
    ///
    /// # Errors
    /// Bad input, with the index of the first value at fault.
    pub fn check_finite(&self, subject: &str) -> Result<()> {
        let Some(at) = self.values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let mut rest = at;
        let mut index: Vec<_> = self.shape.iter().rev().map(|&n| (rest % n, rest /= n).0).collect();
        index.reverse();
        Err(Error::input(
            subject,
            format!("holds {} at index {index:?}; every value must be finite in float32", self.values[at]),
            "Clean or rescale the data",
        ))
    }

    fn view(&self) -> ArrayViewD<'_, f32> {
        ArrayViewD::from_shape(IxDyn(&self.shape), &self.values).expect("the shape holds every value")
    }
}

/// A dense array as a file holds it, last index fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct FileArray {
    /// Length along each axis.
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`.
    pub values: ArrayValues,
}

/// Values of a [`FileArray`].
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayValues {
    /// Of dtype uint8.
    Bytes(Vec<u8>),
    /// Of dtype float32 or float64, as f32.
    Floats(Vec<f32>),
}

/// Reads a .npy file of float32 or float64 numbers, of any rank, row or column order, either byte order; .gz as well.
///
/// # Errors
/// Bad input: a missing file, another format or dtype, or a size that does not match the header (both are named).
pub fn read_npy(path: &Path) -> Result<HostTensor> {
    parse_npy(&files::read_input(path)?, &path.display().to_string())
}

/// As [`read_npy`], and unsigned bytes too.
///
/// # Errors
/// As [`read_npy`].
pub fn read_npy_or_bytes(path: &Path) -> Result<FileArray> {
    parse_array(&files::read_input(path)?, &path.display().to_string())
}

/// A .npz archive, packed or not, whose arrays are read one by one.
#[derive(Debug)]
pub struct Npz {
    subject: String,
    archive: ZipArchive<io::Cursor<Vec<u8>>>,
}

impl Npz {
    /// Opens an archive.
    ///
    /// # Errors
    /// Bad input: a missing file, or no archive.
    pub fn open(path: &Path) -> Result<Self> {
        let subject = path.display().to_string();
        let bytes = files::read_input(path)?;
        let archive = ZipArchive::new(io::Cursor::new(bytes)).map_err(|error| broken_archive(&subject, &error))?;
        Ok(Self { subject, archive })
    }

    /// Name and shape of every array, in the order of the file.
    ///
    /// # Errors
    /// Bad input: a broken archive or header.
    pub fn shapes(&mut self) -> Result<Vec<(String, Vec<usize>)>> {
        let mut shapes = Vec::new();
        for index in 0..self.archive.len() {
            let entry = self.archive.by_index(index).map_err(|error| broken_archive(&self.subject, &error))?;
            let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else { continue };
            let mut start = Vec::new();
            let read = entry.take(LONGEST_HEADER).read_to_end(&mut start);
            read.map_err(|error| broken_archive(&self.subject, &error.into()))?;
            let (header, _) = Header::of(&start, &format!("{}#{name}", self.subject))?;
            shapes.push((name, header.shape));
        }
        Ok(shapes)
    }

    /// Reads the array of that name.
    ///
    /// # Errors
    /// Bad input: no such array, or whatever [`read_npy_or_bytes`] refuses.
    pub fn read(&mut self, name: &str) -> Result<FileArray> {
        let mut bytes = Vec::new();
        let entry = self.archive.by_name(&format!("{name}.npy"));
        entry
            .and_then(|mut entry| Ok(entry.read_to_end(&mut bytes)?))
            .map_err(|error| broken_archive(&self.subject, &error))?;
        parse_array(&bytes, &format!("{}#{name}", self.subject))
    }
}

/// Bytes that hold the header of any array of numbers.
const LONGEST_HEADER: u64 = 1 << 17;

fn broken_archive(subject: &str, error: &ZipError) -> Error {
    let problem = format!("is no .npz archive that can be read: {error}");
    Error::input(subject, problem, "Save it with numpy.savez(file, images=array)")
}

/// Writes a .npy file of float32 numbers, atomically.
///
/// # Errors
/// As [`files::write_atomically`].
pub fn write_npy(path: &Path, tensor: &HostTensor) -> Result<()> {
    files::write_atomically(path, |writer| {
        tensor.view().write_npy(writer).map_err(|error| match error {
            WriteNpyError::Io(source) => source,
            other => io::Error::other(other),
        })
    })
}

/// Writes a .npz archive of named float32 arrays, uncompressed and atomically.
///
/// # Errors
/// As [`files::write_atomically`].
pub fn write_npz(path: &Path, arrays: &[(&str, &HostTensor)]) -> Result<()> {
    let to_io = |error: WriteNpzError| match error {
        WriteNpzError::Zip(error) => io::Error::from(error),
        WriteNpzError::Npy(WriteNpyError::Io(source)) => source,
        WriteNpzError::Npy(other) => io::Error::other(other),
    };
    files::write_atomically(path, |writer| {
        // In memory first: a writer of archives that is dropped on a full disk prints to stderr.
        let mut archive = NpzWriter::new(io::Cursor::new(Vec::new()));
        for (name, tensor) in arrays {
            archive.add_array(*name, &tensor.view()).map_err(to_io)?;
        }
        writer.write_all(archive.finish().map_err(to_io)?.get_ref())
    })
}

fn parse_npy(bytes: &[u8], subject: &str) -> Result<HostTensor> {
    match parse_array(bytes, subject)? {
        FileArray { shape, values: ArrayValues::Floats(values) } => Ok(HostTensor::new(shape, values)),
        FileArray { values: ArrayValues::Bytes(_), .. } => Err(wrong_dtype("|u1", "", subject)),
    }
}

fn wrong_dtype(found: &str, also: &str, subject: &str) -> Error {
    Error::input(subject, format!("has dtype {found}, expected {also}float32 (<f4) or float64 (<f8)"), SAVE)
}

const SAVE: &str = "Save it with numpy.save(file, array.astype(\"float32\"))";

/// The header is read by hand because it comes from outside: nothing is allocated before its shape has been held
/// against the number of bytes that are really there.
fn parse_array(bytes: &[u8], subject: &str) -> Result<FileArray> {
    let (header, data) = Header::of(bytes, subject)?;
    let width = match header.dtype.as_str() {
        "|u1" => 1,
        "<f4" | ">f4" => 4,
        "<f8" | ">f8" => 8,
        other => return Err(wrong_dtype(other, "uint8 (|u1) for data, ", subject)),
    };
    let expected = header.shape.iter().try_fold(width, |product: usize, &n| product.checked_mul(n));
    if expected != Some(data.len()) {
        let expected = expected.map_or("more than can be addressed".into(), |n| n.to_string());
        let problem = format!("has shape {:?}, that is {expected} bytes of data, found {}", header.shape, data.len());
        return Err(Error::input(subject, problem, "The file is cut off or damaged: write it again"));
    }
    let values = match header.dtype.as_str() {
        "|u1" => ArrayValues::Bytes(header.in_row_order(data.to_vec())),
        "<f4" => header.floats(data, f32::from_le_bytes),
        ">f4" => header.floats(data, f32::from_be_bytes),
        "<f8" => header.floats(data, |bytes| f64::from_le_bytes(bytes) as f32),
        _ => header.floats(data, |bytes| f64::from_be_bytes(bytes) as f32),
    };
    Ok(FileArray { shape: header.shape, values })
}

/// Header text and data of a .npy file, version 1 to 3 (NumPy Enhancement Proposal 1).
fn split_npy(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (&[major, _minor], rest) = rest.split_first_chunk()?;
    let (length, rest) = if major == 1 {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

struct Header {
    dtype: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Header and data of a .npy file.
    fn of<'a>(bytes: &'a [u8], subject: &str) -> Result<(Self, &'a [u8])> {
        let refuse = |problem| Error::input(subject, problem, SAVE);
        let (text, data) =
            split_npy(bytes).ok_or_else(|| refuse("is no complete .npy file: its header is missing or cut off"))?;
        let header = Self::parse(text).ok_or_else(|| refuse("is no .npy file that can be read: odd header"))?;
        Ok((header, data))
    }

    fn floats<const N: usize>(&self, data: &[u8], decode: impl Fn([u8; N]) -> f32) -> ArrayValues {
        ArrayValues::Floats(self.in_row_order(data.as_chunks().0.iter().map(|&bytes| decode(bytes)).collect()))
    }

    fn in_row_order<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if !self.fortran_order {
            return values;
        }
        let columns_first = ArrayD::from_shape_vec(IxDyn(&self.shape).f(), values);
        columns_first.expect("the shape holds every value").iter().copied().collect()
    }

    /// The header is a Python dict literal with exactly three keys, as NumPy prints it.
    fn parse(text: &str) -> Option<Self> {
        let value_of = |key: &str| {
            let (_, after) = text.split_once(&format!("'{key}'"))?;
            Some(after.trim_start().strip_prefix(':')?.trim_start())
        };
        let dtype = value_of("descr")?.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        let shape = value_of("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let lengths = shape.split(',').map(str::trim).filter(|length| !length.is_empty());
        Some(Self {
            // A record dtype is a list of pairs; it is shown as found and refused by the caller.
            dtype: dtype.unwrap_or("of records").to_owned(),
            fortran_order: value_of("fortran_order")?.starts_with("True"),
            shape: lengths.map(|length| length.parse().ok()).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).expect("short").to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    }

    fn header(dtype: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}  \n")
    }

    #[test]
    fn npy_survives_a_round_trip_at_every_rank() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.npy");
        for shape in [vec![], vec![6], vec![2, 3], vec![1, 2, 3], vec![3, 1, 2, 2], vec![0, 4]] {
            let count: usize = shape.iter().product();
            let tensor = HostTensor::new(shape, (0..count).map(|i| i as f32 * 0.37 - 1.0).collect());
            write_npy(&path, &tensor).expect("written");
            assert_eq!(read_npy(&path).expect("own file"), tensor);
        }
    }

    #[test]
    fn npz_holds_every_array_under_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.npz");
        let (a, b) = (HostTensor::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), HostTensor::new([1], vec![7.5]));
        write_npz(&path, &[("score", &a), ("slope", &b)]).expect("written");
        let mut archive = ndarray_npy::NpzReader::new(std::fs::File::open(&path).expect("there")).expect("a zip");
        assert_eq!(archive.by_name::<ndarray::OwnedRepr<f32>, IxDyn>("score").expect("named"), a.view());
        assert_eq!(archive.by_name::<ndarray::OwnedRepr<f32>, IxDyn>("slope").expect("named"), b.view());
    }

    #[test]
    fn doubles_column_order_and_big_endian_are_understood() {
        let doubles: Vec<u8> = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let rows = parse_npy(&npy(&header("<f8", "False", "(2, 3)"), &doubles), "x").expect("rows");
        assert_eq!(rows, HostTensor::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let columns = parse_npy(&npy(&header("<f8", "True", "(2, 3)"), &doubles), "x").expect("columns");
        assert_eq!(columns, HostTensor::new([2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
        let big = parse_npy(&npy(&header(">f4", "False", "(1,)"), &2.5f32.to_be_bytes()), "x").expect("big endian");
        assert_eq!(big.values, [2.5]);
    }

    #[test]
    fn bytes_stay_bytes() {
        let array = parse_array(&npy(&header("|u1", "True", "(2, 3)"), &[1, 2, 3, 4, 5, 6]), "x").expect("columns");
        assert_eq!(array, FileArray { shape: vec![2, 3], values: ArrayValues::Bytes(vec![1, 3, 5, 2, 4, 6]) });
    }

    #[test]
    fn archives_tell_shapes_and_give_arrays_packed_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.npz");
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("created"));
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            let images = npy(&header("|u1", "False", "(5, 1, 2)"), &[9; 10]);
            let parts = [("labels.npy", npy(&header("<i8", "False", "(5,)"), &[0; 40])), ("images.npy", images)];
            for (name, bytes) in parts.iter().chain(&[("notes.txt", b"text".to_vec())]) {
                archive.start_file(*name, options).expect("begun");
                archive.write_all(bytes).expect("written");
            }
            archive.finish().expect("written");
            let mut npz = Npz::open(&path).expect("an archive");
            assert_eq!(npz.shapes().expect("read"), [("labels".into(), vec![5]), ("images".into(), vec![5, 1, 2])]);
            assert_eq!(npz.read("images").expect("read").values, ArrayValues::Bytes(vec![9; 10]));
            for (name, problem) in [("labels", "dtype <i8"), ("faces", "no .npz archive that can be read")] {
                let error = npz.read(name).expect_err(name);
                assert!(error.to_string().contains(problem) && error.exit_status() == 2, "{error}");
            }
        }
        let whole = std::fs::read(&path).expect("there");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            assert!(Npz::open(&path).is_err(), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn faults_are_bad_input_and_say_what_was_found() {
        let cases = [
            (npy(&header("|u1", "False", "(4,)"), &[0; 4]), "dtype |u1"),
            (npy(&header("<i8", "False", "(1,)"), &[0; 8]), "dtype <i8"),
            (npy(&header("<f4", "False", "(2, 3)"), &[0; 20]), "24 bytes of data, found 20"),
            (npy(&header("<f4", "False", "(99999999999, 99999999999)"), &[0; 4]), "more than can be addressed"),
            (npy(&header("<f4", "False", "(-1,)"), &[0; 4]), "odd header"),
            (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]), "of records"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "cut off"),
            (b"PK\x03\x04".to_vec(), "no complete .npy"),
            (Vec::new(), "no complete .npy"),
        ];
        for (bytes, expected) in cases {
            let error = parse_npy(&bytes, "x.npy").expect_err(expected);
            assert!(error.to_string().contains(expected), "{error} lacks {expected}");
            assert_eq!(error.exit_status(), 2);
        }
    }

    #[test]
    fn a_cut_file_never_panics() {
        let whole = npy(&header("<f4", "False", "(2, 2)"), &[1; 16]);
        for length in 0..whole.len() {
            assert!(parse_npy(&whole[..length], "x.npy").is_err(), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn the_index_of_a_nan_is_named() {
        let mut tensor = HostTensor::new([2, 3], vec![0.0; 6]);
        tensor.check_finite("x").expect("zeros");
        tensor.values[5] = f32::NAN;
        let error = tensor.check_finite("x").expect_err("NaN").to_string();
        assert!(error.contains("NaN at index [1, 2]"), "{error}");
    }
}
