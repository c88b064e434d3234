//! Arrays on the host, and NumPy's .npy and .npz files.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use ndarray_npy::{NpzWriter, WritableElement, WriteNpyError, WriteNpyExt, WriteNpzError};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::blob::{Blob, BlobReader, Budget};
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
        match self.values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(not_finite(subject, &self.shape, at, f64::from(self.values[at]))),
            None => Ok(()),
        }
    }

    fn view(&self) -> ArrayViewD<'_, f32> {
        ArrayViewD::from_shape(IxDyn(&self.shape), &self.values).expect("the shape holds every value")
    }
}

/// `value` stands at place `at` of an array, counted row by row.
pub(crate) fn not_finite(subject: &str, shape: &[usize], at: usize, value: f64) -> Error {
    let mut rest = at;
    let mut index: Vec<_> = shape.iter().rev().map(|&n| (rest % n, rest /= n).0).collect();
    index.reverse();
    let problem = format!("holds {value} at index {index:?}; every value must be finite");
    Error::input(subject, problem, "Clean or rescale the data")
}

/// Numbers as files hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// Unsigned byte, `|u1`.
    Byte,
    /// float32, `<f4`.
    Single,
    /// float32, `>f4`.
    SingleBigEndian,
    /// float64, `<f8`.
    Double,
    /// float64, `>f8`.
    DoubleBigEndian,
}

impl Number {
    fn of_dtype(dtype: &str) -> Option<Self> {
        Some(match dtype {
            "|u1" => Self::Byte,
            "<f4" => Self::Single,
            ">f4" => Self::SingleBigEndian,
            "<f8" => Self::Double,
            ">f8" => Self::DoubleBigEndian,
            _ => return None,
        })
    }

    /// Bytes of one.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Single | Self::SingleBigEndian => 4,
            Self::Double | Self::DoubleBigEndian => 8,
        }
    }

    /// Writes them to `out`, one for each [`Number::width`] of `bytes`.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f64]) {
        fn each<const N: usize>(bytes: &[u8], out: &mut [f64], decode: impl Fn([u8; N]) -> f64) {
            out.iter_mut().zip(bytes.as_chunks().0).for_each(|(value, &bytes)| *value = decode(bytes));
        }
        match self {
            Self::Byte => each(bytes, out, |[byte]| f64::from(byte)),
            Self::Single => each(bytes, out, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Self::SingleBigEndian => each(bytes, out, |bytes| f64::from(f32::from_be_bytes(bytes))),
            Self::Double => each(bytes, out, f64::from_le_bytes),
            Self::DoubleBigEndian => each(bytes, out, f64::from_be_bytes),
        }
    }
}

/// A dense array of numbers, left as its file holds it.
#[derive(Debug, Clone)]
pub(crate) struct FileArray {
    /// Length along each axis.
    pub(crate) shape: Vec<usize>,
    /// What its bytes are.
    pub(crate) number: Number,
    /// Whether the first index is the fastest, not the last.
    pub(crate) column_order: bool,
    /// As many numbers as the product of `shape`.
    pub(crate) data: Blob,
}

impl FileArray {
    /// Opens a .npy file of unsigned bytes, float32 or float64.
    ///
    /// # Errors
    /// As [`read_npy`]; a full disk.
    pub(crate) fn open(path: &Path, budget: &mut Budget) -> Result<Self> {
        Self::of(&Blob::open(path, budget)?)
    }

    /// The header is read by hand because it comes from outside: nothing is allocated before its shape has been held
    /// against the number of bytes that are really there.
    fn of(file: &Blob) -> Result<Self> {
        let subject = file.subject();
        let start = file.read(0, file.len().min(LONGEST_HEADER) as usize)?;
        let (header, data_start) = Header::of(&start, subject)?;
        let number = Number::of_dtype(&header.dtype)
            .ok_or_else(|| wrong_dtype(&header.dtype, "uint8 (|u1) for data, ", subject))?;
        let found = file.len() - data_start;
        let expected = header.shape.iter().try_fold(number.width(), |product, &n| product.checked_mul(n));
        if expected.map(|n| n as u64) != Some(found) {
            let expected = expected.map_or("more than can be addressed".into(), |n| n.to_string());
            let problem = format!("has shape {:?}, that is {expected} bytes of data, found {found}", header.shape);
            return Err(Error::input(subject, problem, "The file is cut off or damaged: write it again"));
        }
        let data = file.window(subject, data_start, found);
        Ok(Self { shape: header.shape, number, column_order: header.column_order, data })
    }

    /// All of it in memory, last index fastest; bytes become 0.0 to 255.0.
    ///
    /// # Errors
    /// The system cannot read the file (any more).
    pub(crate) fn to_values(&self) -> Result<Vec<f64>> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.number.decode(&self.data.read(0, self.data.len() as usize)?, &mut values);
        if self.column_order {
            let columns = ArrayD::from_shape_vec(IxDyn(&self.shape).f(), values).expect("the shape holds every value");
            values = columns.iter().copied().collect();
        }
        Ok(values)
    }

    /// The same as float32.
    ///
    /// # Errors
    /// As [`FileArray::to_values`].
    pub(crate) fn to_tensor(&self) -> Result<HostTensor> {
        Ok(HostTensor::new(self.shape.clone(), self.to_values()?.into_iter().map(|value| value as f32).collect()))
    }
}

/// Reads a .npy file of float32 or float64 numbers, of any rank, row or column order, either byte order; .gz as well.
///
/// # Errors
/// Bad input: a missing file, another format or dtype, or a size that does not match the header (both are named).
pub fn read_npy(path: &Path) -> Result<HostTensor> {
    parse_npy(files::read_input(path)?, &path.display().to_string())
}

/// A .npz archive, packed or not, whose arrays are read one by one.
#[derive(Debug)]
pub(crate) struct Npz {
    file: Blob,
    archive: ZipArchive<BufReader<BlobReader>>,
}

impl Npz {
    /// Opens an archive.
    ///
    /// # Errors
    /// Bad input: a missing file, or no archive.
    pub(crate) fn open(path: &Path, budget: &Budget) -> Result<Self> {
        // What counts is the one array that is read later.
        let file = Blob::open(path, &mut budget.clone())?;
        let archive = ZipArchive::new(BufReader::new(file.reader()));
        let archive = archive.map_err(|error| broken_archive(file.subject(), &error))?;
        Ok(Self { file, archive })
    }

    /// Name and shape of every array, in the order of the file.
    ///
    /// # Errors
    /// Bad input: a broken archive or header.
    pub(crate) fn shapes(&mut self) -> Result<Vec<(String, Vec<usize>)>> {
        let (mut shapes, subject) = (Vec::new(), self.file.subject());
        for index in 0..self.archive.len() {
            let entry = self.archive.by_index(index).map_err(|error| broken_archive(subject, &error))?;
            let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else { continue };
            let mut start = Vec::new();
            let read = entry.take(LONGEST_HEADER).read_to_end(&mut start);
            read.map_err(|error| broken_archive(subject, &error.into()))?;
            let (header, _) = Header::of(&start, &format!("{subject}#{name}"))?;
            shapes.push((name, header.shape));
        }
        Ok(shapes)
    }

    /// Opens the array of that name. One that is not compressed and beyond the budget stays in the archive.
    ///
    /// # Errors
    /// Bad input: no such array, or whatever [`FileArray::open`] refuses; a full disk.
    pub(crate) fn open_array(&mut self, name: &str, budget: &mut Budget) -> Result<FileArray> {
        let archive = self.file.subject();
        let subject = format!("{archive}#{name}");
        let broken = |error: ZipError| broken_archive(archive, &error);
        let mut entry = self.archive.by_name(&format!("{name}.npy")).map_err(broken)?;
        if entry.compression() != CompressionMethod::Stored || entry.size() <= budget.left() {
            return FileArray::of(&Blob::unpack(entry, &subject, budget, |error, _| broken(error.into()))?);
        }
        // Read to its end, it is held against its checksum.
        let len = io::copy(&mut entry, &mut io::sink()).map_err(|error| broken(error.into()))?;
        budget.leave(len);
        FileArray::of(&self.file.window(&subject, entry.data_start(), len))
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
    files::write_atomically(path, |writer| write_view(&tensor.view(), writer))
}

fn write_view<T: WritableElement>(view: &ArrayViewD<'_, T>, writer: impl Write) -> io::Result<()> {
    view.write_npy(writer).map_err(|error| match error {
        WriteNpyError::Io(source) => source,
        other => io::Error::other(other),
    })
}

/// Writes a .npy file of float64 numbers, atomically.
///
/// # Errors
/// As [`files::write_atomically`].
///
/// # Panics
/// When the shape does not hold every value.
pub fn write_npy_doubles(path: &Path, shape: &[usize], values: &[f64]) -> Result<()> {
    let view = ArrayViewD::from_shape(IxDyn(shape), values).expect("the shape holds every value");
    files::write_atomically(path, |writer| write_view(&view, writer))
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

fn parse_npy(bytes: Vec<u8>, subject: &str) -> Result<HostTensor> {
    let array = FileArray::of(&Blob::from_bytes(subject, bytes))?;
    if array.number == Number::Byte { Err(wrong_dtype("|u1", "", subject)) } else { array.to_tensor() }
}

fn wrong_dtype(found: &str, also: &str, subject: &str) -> Error {
    Error::input(subject, format!("has dtype {found}, expected {also}float32 (<f4) or float64 (<f8)"), SAVE)
}

const SAVE: &str = "Save it with numpy.save(file, array.astype(\"float32\"))";

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
    column_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Header of a .npy file that starts with `bytes`, and where its data start.
    fn of(bytes: &[u8], subject: &str) -> Result<(Self, u64)> {
        let refuse = |problem| Error::input(subject, problem, SAVE);
        let (text, data) =
            split_npy(bytes).ok_or_else(|| refuse("is no complete .npy file: its header is missing or cut off"))?;
        let header = Self::parse(text).ok_or_else(|| refuse("is no .npy file that can be read: odd header"))?;
        Ok((header, (bytes.len() - data.len()) as u64))
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
            column_order: value_of("fortran_order")?.starts_with("True"),
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
        let rows = parse_npy(npy(&header("<f8", "False", "(2, 3)"), &doubles), "x").expect("rows");
        assert_eq!(rows, HostTensor::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let columns = parse_npy(npy(&header("<f8", "True", "(2, 3)"), &doubles), "x").expect("columns");
        assert_eq!(columns, HostTensor::new([2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
        let big = parse_npy(npy(&header(">f4", "False", "(1,)"), &2.5f32.to_be_bytes()), "x").expect("big endian");
        assert_eq!(big.values, [2.5]);
    }

    #[test]
    fn bytes_are_understood_where_they_are_asked_for() {
        let bytes = Blob::from_bytes("x", npy(&header("|u1", "True", "(2, 3)"), &[1, 2, 3, 4, 5, 6]));
        let array = FileArray::of(&bytes).expect("columns");
        assert_eq!((array.number, array.column_order), (Number::Byte, true));
        let rows = HostTensor::new([2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(array.to_tensor().expect("in memory"), rows);
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
            for mib in [0, 1] {
                let mut budget = Budget::of_mib(mib);
                let mut npz = Npz::open(&path, &budget).expect("an archive");
                assert_eq!(npz.shapes().expect("read"), [("labels".into(), vec![5]), ("images".into(), vec![5, 1, 2])]);
                let images = npz.open_array("images", &mut budget).expect("read");
                assert_eq!(images.to_tensor().expect("there"), HostTensor::new([5, 1, 2], vec![9.0; 10]));
                let note = budget.note().unwrap_or_default();
                assert_eq!(note.contains("stay on disk"), mib == 0, "{note}");
                let is_packed = method == zip::CompressionMethod::Deflated;
                assert_eq!(note.contains("unpacked in a temporary file"), mib == 0 && is_packed, "{note}");
                for (name, problem) in [("labels", "dtype <i8"), ("faces", "no .npz archive that can be read")] {
                    let error = npz.open_array(name, &mut budget).expect_err(name);
                    assert!(error.to_string().contains(problem) && error.exit_status() == 2, "{error}");
                }
            }
        }
        let whole = std::fs::read(&path).expect("there");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            assert!(Npz::open(&path, &Budget::of_mib(1)).is_err(), "{length} of {} bytes", whole.len());
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
            let error = parse_npy(bytes, "x.npy").expect_err(expected);
            assert!(error.to_string().contains(expected), "{error} lacks {expected}");
            assert_eq!(error.exit_status(), 2);
        }
    }

    #[test]
    fn a_cut_file_never_panics() {
        let whole = npy(&header("<f4", "False", "(2, 2)"), &[1; 16]);
        for length in 0..whole.len() {
            assert!(parse_npy(whole[..length].to_vec(), "x.npy").is_err(), "{length} of {} bytes", whole.len());
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
