//! Arrays on the host, and NumPy's .npy and .npz files.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use ndarray_npy::{NpzWriter, WritableElement, WriteNpyError, WriteNpyExt, WriteNpzError};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{Error, Result};
use crate::files;
use crate::files::blob::{Blob, BlobReader, Budget};

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
    let problem = format!("holds {value} at index {:?}; every value must be finite", index_of(shape, at));
    Error::input(subject, problem, "Clean or rescale the data")
}

/// The index of place `at` of an array, counted row by row.
pub(crate) fn index_of(shape: &[usize], at: usize) -> Vec<usize> {
    let mut rest = at;
    let mut index: Vec<_> = shape.iter().rev().map(|&n| (rest % n, rest /= n).0).collect();
    index.reverse();
    index
}

/// Makes [`Number`] from one line a type: its names, what NumPy calls it, its bytes, and what reads them.
macro_rules! numbers {
    (
        bytes { $($byte:ident $one:literal $of_byte:expr;)* }
        words { $($little:ident $big:ident $name:literal $width:literal $word:ty, $of_word:expr;)* }
    ) => {
        /// Numbers as files hold them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Number {
            $(#[doc = concat!("`|", $one, "`")] $byte,)*
            $(#[doc = concat!("`<", $name, "`")] $little, #[doc = concat!("`>", $name, "`")] $big,)*
        }

        impl Number {
            fn of_dtype(dtype: &str) -> Option<Self> {
                let (order, name) = dtype.split_at_checked(1)?;
                match (order, name) {
                    $(("|" | "<" | ">", $one) => Some(Self::$byte),)*
                    $(("<", $name) => Some(Self::$little), (">", $name) => Some(Self::$big),)*
                    _ => None,
                }
            }

            /// Bytes of one.
            pub(crate) fn width(self) -> usize {
                match self {
                    $(Self::$byte => 1,)*
                    $(Self::$little | Self::$big => $width,)*
                }
            }

            /// Writes them to `out`, one for each [`Number::width`] of `bytes`. Integers beyond 2^53 are rounded.
            pub(crate) fn decode(self, bytes: &[u8], out: &mut [f64]) {
                fn each<const N: usize>(bytes: &[u8], out: &mut [f64], decode: impl Fn([u8; N]) -> f64) {
                    out.iter_mut().zip(bytes.as_chunks().0).for_each(|(value, &bytes)| *value = decode(bytes));
                }
                match self {
                    $(Self::$byte => each(bytes, out, |[byte]| $of_byte(byte)),)*
                    $(
                        Self::$little => each(bytes, out, |bytes| $of_word(<$word>::from_le_bytes(bytes))),
                        Self::$big => each(bytes, out, |bytes| $of_word(<$word>::from_be_bytes(bytes))),
                    )*
                }
            }
        }
    };
}

numbers! {
    bytes {
        Bool "b1" |byte| f64::from(byte != 0);
        Byte "u1" f64::from;
        SignedByte "i1" |byte: u8| f64::from(byte.cast_signed());
    }
    words {
        Short ShortBigEndian "i2" 2 i16, f64::from;
        UnsignedShort UnsignedShortBigEndian "u2" 2 u16, f64::from;
        Int IntBigEndian "i4" 4 i32, f64::from;
        UnsignedInt UnsignedIntBigEndian "u4" 4 u32, f64::from;
        Long LongBigEndian "i8" 8 i64, |long| long as f64;
        UnsignedLong UnsignedLongBigEndian "u8" 8 u64, |long| long as f64;
        Half HalfBigEndian "f2" 2 u16, half;
        Single SingleBigEndian "f4" 4 f32, f64::from;
        Double DoubleBigEndian "f8" 8 f64, |double| double;
    }
}

impl Number {
    /// Whether it may be NaN, infinite, or beyond float32.
    pub(crate) fn is_float(self) -> bool {
        use Number::{Double, DoubleBigEndian, Half, HalfBigEndian, Single, SingleBigEndian};
        matches!(self, Half | HalfBigEndian | Single | SingleBigEndian | Double | DoubleBigEndian)
    }

    /// What becomes 1 in images: 255 of unsigned bytes. Other numbers are taken as they are.
    pub(crate) fn largest(self) -> u16 {
        if self == Self::Byte { u16::from(u8::MAX) } else { 1 }
    }
}

/// The value of a float16 (IEEE 754 binary16), exactly.
pub(crate) fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
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
    /// Opens a .npy file of numbers: bool, integers, or floats of 16, 32 or 64 bits.
    ///
    /// # Errors
    /// As [`read_npy`]; a full disk.
    pub(crate) fn open(path: &Path, budget: &mut Budget) -> Result<Self> {
        Self::of(&Blob::open(path, budget, &told_by_header)?)
    }

    /// The header is read by hand because it comes from outside: nothing is allocated before its shape has been held
    /// against the number of bytes that are really there.
    fn of(file: &Blob) -> Result<Self> {
        let subject = file.subject();
        let start = file.read(0, file.len().min(LONGEST_HEADER) as usize)?;
        let (header, data_start) = Header::of(&start, subject)?;
        let number = Number::of_dtype(&header.dtype).ok_or_else(|| wrong_dtype(&header.dtype, subject))?;
        let found = file.len() - data_start;
        let refuse = |expected: &str| {
            let problem = format!("has shape {:?}, that is {expected} of data, found {found}", header.shape);
            Err(Error::input(subject, problem, "The file is cut off or damaged: write it again"))
        };
        if !header.is_addressable(number) {
            return refuse("more than can be addressed");
        }
        let expected = header.shape.iter().product::<usize>() * number.width();
        if expected as u64 != found {
            return refuse(&format!("{expected} bytes"));
        }
        let data = file.window(subject, data_start, found);
        Ok(Self { shape: header.shape, number, column_order: header.column_order, data })
    }

    /// All of its bytes, the last index fastest.
    ///
    /// # Errors
    /// The system cannot read the file (any more).
    pub(crate) fn in_rows(&self) -> Result<Vec<u8>> {
        fn turned<const N: usize>(shape: &[usize], bytes: &[u8]) -> Vec<u8> {
            let numbers = bytes.as_chunks::<N>().0.to_vec();
            let columns = ArrayD::from_shape_vec(IxDyn(shape).f(), numbers).expect("the shape holds every value");
            columns.iter().copied().flatten().collect()
        }
        let bytes = self.data.read(0, self.data.len() as usize)?;
        Ok(match self.number.width() {
            _ if !self.column_order => bytes.into_owned(),
            1 => turned::<1>(&self.shape, &bytes),
            2 => turned::<2>(&self.shape, &bytes),
            4 => turned::<4>(&self.shape, &bytes),
            _ => turned::<8>(&self.shape, &bytes),
        })
    }

    /// All of it in memory, every number as it is, rounded to float32.
    ///
    /// # Errors
    /// The system cannot read the file (any more).
    fn to_tensor(&self) -> Result<HostTensor> {
        let bytes = self.in_rows()?;
        let mut values = vec![0.0; bytes.len() / self.number.width()];
        self.number.decode(&bytes, &mut values);
        Ok(HostTensor::new(self.shape.clone(), values.into_iter().map(|value| value as f32).collect()))
    }
}

/// Reads a .npy file of numbers as they are, of any rank, row or column order, either byte order; .gz as well. Bool is
/// 0 or 1; integers and float64 are rounded to float32. Images divide unsigned bytes by 255, see [`crate::data::load`].
///
/// # Errors
/// Bad input: a missing file, another format or dtype, or a size that does not match the header (both are named).
pub fn read_npy(path: &Path) -> Result<HostTensor> {
    parse_npy(files::read_input_of(path, &told_by_header)?, &path.display().to_string())?.to_tensor()
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
        let is_archive = |start: &[u8], subject: &str| match start.starts_with(b"PK") {
            true => Ok(None),
            false => Err(broken_archive(subject, &ZipError::InvalidArchive("it must start with PK".into()))),
        };
        let file = Blob::open(path, &mut budget.clone(), &is_archive)?;
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
            let told = Some(entry.size());
            return FileArray::of(&Blob::unpack(entry, &subject, told, budget, |error, _| broken(error.into()))?);
        }
        // Read to its end, it is held against its checksum.
        let len = io::copy(&mut entry, &mut io::sink()).map_err(|error| broken(error.into()))?;
        budget.leave(len);
        FileArray::of(&self.file.window(&subject, entry.data_start(), len))
    }
}

/// Bytes that hold the header of any array of numbers.
const LONGEST_HEADER: u64 = files::START as u64;

/// How many bytes a .npy file that starts so has at most.
fn told_by_header(start: &[u8], subject: &str) -> Result<Option<u64>> {
    let (header, data_start) = Header::of(start, subject)?;
    let number = Number::of_dtype(&header.dtype).ok_or_else(|| wrong_dtype(&header.dtype, subject))?;
    // What cannot be addressed is refused where it is taken apart.
    let data = if header.is_addressable(number) { header.shape.iter().product::<usize>() * number.width() } else { 0 };
    Ok(Some(data_start + data as u64))
}

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

/// A .npy file of numbers that come piece by piece, written as [`files::Unfinished`].
pub struct NpyPieces {
    file: files::Unfinished,
    is_double: bool,
}

impl NpyPieces {
    /// For an array of this shape, of float64 or float32 numbers.
    ///
    /// # Errors
    /// As [`files::write_atomically`].
    pub fn create(path: &Path, shape: &[usize], is_double: bool) -> Result<Self> {
        let mut file = files::Unfinished::create(path)?;
        let axes: String = shape.iter().map(|axis| format!("{axis}, ")).collect();
        let axes = if shape.len() == 1 { axes.trim_end() } else { axes.trim_end_matches(", ") };
        let kind = if is_double { "<f8" } else { "<f4" };
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({axes}), }}");
        // Ten bytes come before it, and numbers start at a multiple of 64 (numpy.lib.format, version 1.0).
        let padded = (header.len() + 11).next_multiple_of(64) - 11;
        header.extend(std::iter::repeat_n(' ', padded - header.len()));
        header.push('\n');
        file.write(|writer| {
            writer.write_all(b"\x93NUMPY\x01\x00")?;
            writer.write_all(&(header.len() as u16).to_le_bytes())?;
            writer.write_all(header.as_bytes())
        })?;
        Ok(Self { file, is_double })
    }

    /// The next numbers.
    ///
    /// # Errors
    /// As [`files::write_atomically`].
    pub fn write(&mut self, values: &[f64]) -> Result<()> {
        let is_double = self.is_double;
        self.file.write(|writer| {
            values.iter().try_for_each(|&value| match is_double {
                true => writer.write_all(&value.to_le_bytes()),
                false => writer.write_all(&(value as f32).to_le_bytes()),
            })
        })
    }

    /// The file is whole.
    ///
    /// # Errors
    /// As [`files::write_atomically`].
    pub fn finish(self) -> Result<()> {
        self.file.finish()
    }
}

/// Writes a .npz archive of named float32 arrays, uncompressed and atomically.
///
/// # Errors
/// As [`files::write_atomically`].
pub fn write_npz(path: &Path, arrays: &[(&str, &HostTensor)]) -> Result<()> {
    write_archive(path, |archive| arrays.iter().try_for_each(|(name, tensor)| archive.add_array(*name, &tensor.view())))
}

/// The same of float64 arrays: name, shape and values of each.
///
/// # Errors
/// As [`files::write_atomically`].
///
/// # Panics
/// When a shape does not hold every value.
pub fn write_npz_doubles(path: &Path, arrays: &[(&str, &[usize], &[f64])]) -> Result<()> {
    write_archive(path, |archive| {
        arrays.iter().try_for_each(|(name, shape, values)| {
            let view = ArrayViewD::from_shape(IxDyn(shape), values).expect("the shape holds every value");
            archive.add_array(*name, &view)
        })
    })
}

/// In memory first: a writer of archives that is dropped on a full disk prints to stderr.
type Archive = NpzWriter<io::Cursor<Vec<u8>>>;

fn write_archive(path: &Path, add: impl FnOnce(&mut Archive) -> std::result::Result<(), WriteNpzError>) -> Result<()> {
    let to_io = |error: WriteNpzError| match error {
        WriteNpzError::Zip(error) => io::Error::from(error),
        WriteNpzError::Npy(WriteNpyError::Io(source)) => source,
        WriteNpzError::Npy(other) => io::Error::other(other),
    };
    files::write_atomically(path, |writer| {
        let mut archive = Archive::new(io::Cursor::new(Vec::new()));
        add(&mut archive).map_err(to_io)?;
        writer.write_all(archive.finish().map_err(to_io)?.get_ref())
    })
}

fn parse_npy(bytes: Vec<u8>, subject: &str) -> Result<FileArray> {
    FileArray::of(&Blob::from_bytes(subject, bytes))
}

fn wrong_dtype(found: &str, subject: &str) -> Error {
    let (kind, remedy) = match found.trim_start_matches(['<', '>', '=', '|']).as_bytes() {
        [b'c', ..] => ("complex numbers", "Save its real part, or array.view(\"float64\") with both parts in a row"),
        [b'U' | b'S' | b'a' | b'T', ..] => ("text", SAVE),
        [b'O', ..] => ("Python objects", SAVE),
        [b'M' | b'm', ..] => ("times", SAVE),
        [b'f', ..] => ("floats of another width", SAVE),
        _ if found == RECORDS => ("fields side by side", "Save one field of it, array[\"name\"], with numpy.save"),
        _ => ("no numbers", SAVE),
    };
    let problem =
        format!("has dtype {found} ({kind}), expected bool, integers of 8 to 64 bits, or floats of 16, 32 or 64 bits");
    Error::input(subject, problem, remedy)
}

const SAVE: &str = "Save it with numpy.save(file, array.astype(\"float32\"))";
/// What stands for the dtype of a structured array.
const RECORDS: &str = "of records";

/// Header text and data of a .npy file, version 1 to 3 (NumPy Enhancement Proposal 1).
fn split_npy(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (&[major, _minor], rest) = rest.split_first_chunk()?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
        }
        _ => return None,
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
    /// Whether memory could hold the array. Lengths of 0 must not hide others that none can: (0, 2^40, 2^40).
    fn is_addressable(&self, number: Number) -> bool {
        let most = self.shape.iter().try_fold(number.width(), |product, &n| product.checked_mul(n.max(1)));
        most.is_some_and(|bytes| isize::try_from(bytes).is_ok())
    }

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
            dtype: dtype.unwrap_or(RECORDS).to_owned(),
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

    fn tensor(bytes: Vec<u8>) -> HostTensor {
        parse_npy(bytes, "x").expect("whole").to_tensor().expect("in memory")
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
        let rows = tensor(npy(&header("<f8", "False", "(2, 3)"), &doubles));
        assert_eq!(rows, HostTensor::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let columns = tensor(npy(&header("<f8", "True", "(2, 3)"), &doubles));
        assert_eq!(columns, HostTensor::new([2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
        let big = tensor(npy(&header(">f4", "False", "(1,)"), &2.5f32.to_be_bytes()));
        assert_eq!(big.values, [2.5]);
    }

    #[test]
    fn every_dtype_is_read_in_both_byte_orders() {
        fn both(dtype: &str, little: [&[u8]; 3], expected: [f32; 3]) {
            let reversed = little.map(|bytes| bytes.iter().rev().copied().collect::<Vec<_>>()).concat();
            for (order, bytes) in [("<", little.concat()), (">", reversed)] {
                let found = tensor(npy(&header(&format!("{order}{dtype}"), "False", "(3,)"), &bytes));
                assert_eq!(found.values, expected, "{order}{dtype}");
            }
        }
        macro_rules! numbers {
            ($dtype:literal, $kind:ty, $values:expr, $expected:expr) => {{
                let values: [$kind; 3] = $values;
                let [a, b, c] = values.map(<$kind>::to_le_bytes);
                both($dtype, [&a, &b, &c], $expected);
            }};
        }
        numbers!("i2", i16, [-32768, 258, 7], [-32768.0, 258.0, 7.0]);
        numbers!("u2", u16, [65535, 258, 7], [65535.0, 258.0, 7.0]);
        numbers!("i4", i32, [i32::MIN, 65536, 7], [-2147483648.0, 65536.0, 7.0]);
        numbers!("u4", u32, [1 << 31, 65536, 7], [2147483648.0, 65536.0, 7.0]);
        numbers!("i8", i64, [i64::MIN, 1 << 40, -7], [-9223372036854775808.0, 1099511627776.0, -7.0]);
        numbers!("u8", u64, [1 << 63, 1 << 40, 7], [9223372036854775808.0, 1099511627776.0, 7.0]);
        numbers!("f2", u16, [0x3c00, 0xc100, 0x2e66], [1.0, -2.5, 0.099975586]);
        numbers!("f4", f32, [0.1, -2.5, 7.0], [0.1, -2.5, 7.0]);
        numbers!("f8", f64, [0.1, -2.5, 7.0], [0.1, -2.5, 7.0]);
        let of_bytes = |dtype: &str| tensor(npy(&header(dtype, "False", "(3,)"), &[0, 1, 200])).values;
        assert_eq!(["|b1", "|u1", "|i1"].map(of_bytes), [[0.0, 1.0, 1.0], [0.0, 1.0, 200.0], [0.0, 1.0, -56.0]]);
    }

    #[test]
    fn halves_are_exact() {
        // Every finite one is a whole multiple of 2^-24, and each is greater than the one before it.
        let whole = |bits: u16| half(bits) * 2f64.powi(24);
        assert!((0..0x7c00).all(|bits| whole(bits).fract() == 0.0 && half(bits) == -half(bits | 0x8000)));
        assert!((1..0x7c00).all(|bits| half(bits - 1) < half(bits)));
        let known = [(0x0001, 2f64.powi(-24)), (0x03ff, 1023.0 * 2f64.powi(-24)), (0x0400, 2f64.powi(-14))];
        for (bits, value) in known.into_iter().chain([(0x3555, 0.333_251_953_125), (0x7bff, 65504.0), (0, 0.0)]) {
            assert_eq!(half(bits), value, "{bits:04x}");
        }
        assert_eq!([0x7c00, 0xfc00].map(half), [f64::INFINITY, f64::NEG_INFINITY]);
        assert!((0x7c01..=0x7fff).all(|bits| half(bits).is_nan()) && half(0x8000).is_sign_negative());
    }

    #[test]
    fn a_mask_of_bytes_in_column_order_is_read_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.npy");
        std::fs::write(&path, npy(&header("|u1", "True", "(2, 3)"), &[1, 2, 3, 4, 5, 6])).expect("written");
        let rows = HostTensor::new([2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(read_npy(&path).expect("columns"), rows);
    }

    #[test]
    fn headers_of_versions_2_and_3_are_read_and_others_are_not() {
        let text = header("<f4", "False", "(1,)");
        let file = |major: u8| {
            let length = (text.len() as u32).to_le_bytes();
            [b"\x93NUMPY", &[major, 0][..], &length, text.as_bytes(), &0.5f32.to_le_bytes()].concat()
        };
        for major in [2, 3] {
            assert_eq!(tensor(file(major)).values, [0.5]);
        }
        for major in [0, 4] {
            let error = parse_npy(file(major), "x").expect_err("unknown").to_string();
            assert!(error.contains("no complete .npy file"), "{error}");
        }
    }

    #[test]
    fn archives_tell_shapes_and_give_arrays_packed_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.npz");
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).expect("created"));
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            let images = npy(&header("|u1", "False", "(5, 1, 2)"), &[9; 10]);
            let parts = [("labels.npy", npy(&header("<c8", "False", "(5,)"), &[0; 40])), ("images.npy", images)];
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
                for (name, problem) in [("labels", "dtype <c8"), ("faces", "no .npz archive that can be read")] {
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
            (npy(&header("<c16", "False", "(1,)"), &[0; 16]), "dtype <c16 (complex numbers)"),
            (npy(&header("<U3", "False", "(1,)"), &[0; 12]), "dtype <U3 (text)"),
            (npy(&header("|S3", "False", "(4,)"), &[0; 12]), "dtype |S3 (text)"),
            (npy(&header("|O", "False", "(1,)"), &[0; 8]), "dtype |O (Python objects)"),
            (npy(&header("<M8[ns]", "False", "(1,)"), &[0; 8]), "dtype <M8[ns] (times)"),
            (npy(&header("<f16", "False", "(1,)"), &[0; 16]), "dtype <f16 (floats of another width)"),
            (npy(&header("|V3", "False", "(1,)"), &[0; 3]), "dtype |V3 (no numbers)"),
            (npy(&header("", "False", "(1,)"), &[0; 3]), "has dtype  (no numbers)"),
            (npy(&header("<f4", "False", "(2, 3)"), &[0; 20]), "24 bytes of data, found 20"),
            (npy(&header("<f4", "False", "(99999999999, 99999999999)"), &[0; 4]), "more than can be addressed"),
            (npy(&header("<f4", "True", "(0, 1099511627776, 1099511627776)"), &[]), "more than can be addressed"),
            (npy(&header("|u1", "True", "(1099511627776, 8388608, 0)"), &[]), "more than can be addressed"),
            (npy(&header("<f4", "False", "(-1,)"), &[0; 4]), "odd header"),
            (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]), "of records"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "cut off"),
            (b"PK\x03\x04".to_vec(), "no complete .npy"),
            (Vec::new(), "no complete .npy"),
        ];
        for (bytes, expected) in cases {
            let error = parse_npy(bytes, "x.npy").map(|array| array.shape).expect_err(expected);
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

    #[test]
    fn arrays_that_come_in_pieces_are_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.npy");
        for shape in [&[6][..], &[3, 2], &[1, 2, 3, 1]] {
            for is_double in [false, true] {
                let mut pieces = NpyPieces::create(&path, shape, is_double).expect("created");
                pieces.write(&[0.1, 1.0]).expect("written");
                pieces.write(&[2.0, 3.0, 4.0, 1e-40]).expect("written");
                pieces.finish().expect("whole");
                let array = read_npy(&path).expect("read");
                assert_eq!(array.shape, shape);
                assert_eq!(array.values, [0.1, 1.0, 2.0, 3.0, 4.0, 1e-40]);
                let bytes = std::fs::read(&path).expect("there");
                assert_eq!(bytes.len() - 6 * if is_double { 8 } else { 4 }, bytes.len() / 64 * 64);
            }
        }
    }
}
