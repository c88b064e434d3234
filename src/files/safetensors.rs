//! Safetensors files, with tensors of f32 in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::files;
use crate::files::arrays::{HostTensor, half};

/// Bytes of the longest header of a safetensors file that is read.
const LONGEST_HEADER: u64 = 100_000_000;

/// Tensors of another program's file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForeignTensors {
    /// Those of floats, by their names.
    pub tensors: BTreeMap<String, HostTensor>,
    /// The types of all others (integers, bool), by their names: buffers, as a rule, that no model needs.
    pub others: BTreeMap<String, String>,
}

/// Reads a safetensors file of another program: floats of 16, 32 or 64 bits, and the names of everything else.
///
/// # Errors
/// Bad input: missing, cut off, or no safetensors file.
pub fn read_foreign(path: &Path) -> Result<ForeignTensors> {
    let (bytes, subject) = (read_safetensors(path)?, path.display().to_string());
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&bytes, &subject, &error))?;
    let mut foreign = ForeignTensors::default();
    for (name, view) in file.iter() {
        match floats(&view) {
            Some(values) => _ = foreign.tensors.insert(name.to_owned(), HostTensor::new(view.shape(), values)),
            None => _ = foreign.others.insert(name.to_owned(), format!("{:?}", view.dtype())),
        }
    }
    Ok(foreign)
}

/// Reads the tensors of any safetensors file with floats of 16, 32 or 64 bits.
///
/// # Errors
/// Bad input: missing, cut off, no safetensors file, or a tensor of another type (named).
pub fn read_weights(path: &Path) -> Result<BTreeMap<String, HostTensor>> {
    Ok(parse_safetensors(&read_safetensors(path)?, &path.display().to_string())?.0)
}

/// The same of bytes in memory; `subject` names them in errors.
///
/// # Errors
/// As [`read_weights`].
pub fn parse_weights(bytes: &[u8], subject: &str) -> Result<BTreeMap<String, HostTensor>> {
    Ok(parse_safetensors(bytes, subject)?.0)
}

/// Writes tensors as a safetensors file that [`read_weights`] reads.
///
/// # Errors
/// As [`files::write_atomically`].
pub fn write_weights(path: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
    files::write_atomically(path, |writer| write_safetensors(writer, tensors, Map::new()))
}

/// A short name for a file's content: its CRC-32 as eight hexadecimal digits.
///
/// # Errors
/// Bad input, when the file cannot be read.
pub fn fingerprint(path: &Path) -> Result<String> {
    let unreadable = |source: io::Error| {
        let problem = format!("cannot be read: {source}");
        Error::input(path.display().to_string(), problem, "Give a file that exists and may be read")
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut hasher, mut block) = (crc32fast::Hasher::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => return Ok(format!("{:08x}", hasher.finalize())),
            count => hasher.update(&block[..count]),
        }
    }
}

/// Header and tensors, in order of their names. Written here and not by the safetensors crate, because that keeps the
/// metadata in a hash map: equal checkpoints would differ in their bytes, and so in their fingerprints.
pub(crate) fn write_safetensors(
    writer: &mut impl Write,
    tensors: &BTreeMap<String, HostTensor>,
    metadata: Map<String, Value>,
) -> io::Result<()> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(metadata))]);
    let mut end = 0;
    for (name, tensor) in tensors {
        let begin = end;
        end += size_of_val(tensor.values.as_slice());
        header.insert(name.clone(), json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}));
    }
    let mut header = Value::Object(header).to_string();
    // Spaces up to a multiple of eight keep the data aligned, as the format asks.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    for value in tensors.values().flat_map(|tensor| &tensor.values) {
        writer.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// The bytes of a file that starts as safetensors do: with the length of its header, which is JSON.
pub(crate) fn read_safetensors(path: &Path) -> Result<Vec<u8>> {
    files::read_input_of(path, &|start, subject| {
        told_by_header(start).ok_or_else(|| {
            let problem = "is no whole safetensors file: it must start with the length of its header and with that";
            Error::input(subject, problem, "It is cut off, damaged, or of another kind: use another file")
        })
    })
}

/// How many bytes a file that starts so has at most, where its header lies in them; none for another kind of file.
fn told_by_header(start: &[u8]) -> Option<Option<u64>> {
    let (&length, rest) = start.split_first_chunk()?;
    let length = Some(u64::from_le_bytes(length)).filter(|&length| length <= LONGEST_HEADER)?;
    rest.starts_with(b"{").then_some(())?;
    let Some(header) = rest.get(..length as usize) else {
        return (start.len() == files::START).then_some(None);
    };
    let header: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    let ends = tensors.filter_map(|(_, tensor)| tensor.get("data_offsets")?.get(1)?.as_u64());
    Some(ends.max().unwrap_or(0).checked_add(size_of_val(&length) as u64 + length))
}

type Parsed = (BTreeMap<String, HostTensor>, Option<HashMap<String, String>>);

fn damaged(bytes: &[u8], subject: &str, error: &safetensors::SafeTensorError) -> Error {
    let problem = format!("is no whole safetensors file of {} bytes: {error}", bytes.len());
    Error::input(subject, problem, "It is cut off, damaged, or of another kind: use another file")
}

pub(crate) fn parse_safetensors(bytes: &[u8], subject: &str) -> Result<Parsed> {
    let damaged = |error: safetensors::SafeTensorError| damaged(bytes, subject, &error);
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let tensors = file.iter().map(|(name, view)| Ok((name.to_owned(), to_host(name, &view, subject)?)));
    Ok((tensors.collect::<Result<_>>()?, header.metadata().clone()))
}

fn to_host(name: &str, view: &TensorView<'_>, subject: &str) -> Result<HostTensor> {
    let Some(values) = floats(view) else {
        let problem = format!("tensor `{name}` has type {:?}, expected F16, BF16, F32 or F64", view.dtype());
        return Err(Error::input(subject, problem, "Convert the weights to float32"));
    };
    Ok(HostTensor::new(view.shape(), values))
}

/// Its values, if they are floats.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        Some(bytes.as_chunks().0.iter().map(|&bytes| decode(bytes)).collect())
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F16 => each(bytes, |bytes| half(u16::from_le_bytes(bytes)) as f32),
        // The upper half of a float32.
        Dtype::BF16 => each(bytes, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)),
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_other_programs_are_read_as_f32() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.safetensors");
        let doubles: Vec<u8> = [0.1f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let write = |dtype, shape: Vec<usize>| {
            let view = TensorView::new(dtype, shape, &doubles).expect("sizes fit");
            std::fs::write(&path, safetensors::serialize([("w", view)], None).expect("serialised")).expect("written");
        };
        write(Dtype::F64, vec![2, 1]);
        assert_eq!(read_weights(&path).expect("doubles")["w"], HostTensor::new([2, 1], vec![0.1, -2.0]));
        let bits = [0x3f80u16, 0x0001, 0xff80, 0x3dcd].map(u16::to_le_bytes).concat();
        let wide = |dtype| TensorView::new(dtype, vec![4], &bits).expect("sizes fit");
        let parts = [("b", wide(Dtype::BF16)), ("h", wide(Dtype::F16)), ("i", wide(Dtype::I16))];
        std::fs::write(&path, safetensors::serialize(parts, None).expect("serialised")).expect("written");
        let ForeignTensors { tensors, others } = read_foreign(&path).expect("whole");
        // Subnormal numbers too: the least bfloat16 is 2^-133, the least float16 2^-24.
        assert_eq!(tensors["b"].values, [1.0, 2f32.powi(-133), f32::NEG_INFINITY, 205.0 / 2048.0]);
        assert_eq!(tensors["h"].values[..2], [1.875, 2f32.powi(-24)]);
        assert!(tensors["h"].values[2].is_nan());
        assert_eq!(others, BTreeMap::from([("i".into(), "I16".into())]));
        assert!(read_weights(&path).expect_err("integers").to_string().contains("tensor `i` has type I16"));
        write(Dtype::I32, vec![4]);
        let error = read_weights(&path).expect_err("integers").to_string();
        assert!(error.contains("tensor `w` has type I32"), "{error}");
    }
}
