//! The text of a table, line by line: encodings, line ends, and what is no text of a table at all.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};

use encoding_rs::{Decoder, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::error::{Error, Result};
use crate::files::blob::{Blob, BlobReader, unreadable};

/// Bytes that are read together.
const CHUNK: usize = 1 << 18;
/// Bytes by which a file is told from other kinds of files.
const START: usize = 1 << 12;
/// No row of a table is longer.
const MAX_LINE: usize = 1 << 28;

/// How the bytes of a file are letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, or one byte a letter where that fails (see [`decoded`]); after so many bytes of mark.
    Bytes(u64),
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
}

impl Encoding {
    /// Tells by the first bytes, or by the zero bytes that UTF-16 has beside plain letters.
    ///
    /// # Errors
    /// Bad input: what is no table, by the name of what it is.
    pub(super) fn of(text: &Blob) -> Result<Self> {
        Self::of_start(&text.read(0, text.len().min(START as u64) as usize)?, text.subject())
    }

    /// The same of the start of a file of that name.
    ///
    /// # Errors
    /// As [`Encoding::of`].
    pub(super) fn of_start(start: &[u8], subject: &str) -> Result<Self> {
        let start = &start[..start.len().min(START)];
        refuse_other_formats(start, subject)?;
        let zeros = |from: usize| start.iter().skip(from).step_by(2).filter(|&&byte| byte == 0).count();
        let (even, odd) = (zeros(0), zeros(1));
        let plenty = (start.len() / 4).max(1);
        let remedy = "Save the table as text, in UTF-8";
        match start {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(Error::input(subject, "is UTF-32", remedy)),
            [0xef, 0xbb, 0xbf, ..] => Ok(Self::Bytes(3)),
            [0xff, 0xfe, ..] => Ok(Self::Utf16Le),
            [0xfe, 0xff, ..] => Ok(Self::Utf16Be),
            _ if odd > plenty && even == 0 => Ok(Self::Utf16Le),
            _ if even > plenty && odd == 0 => Ok(Self::Utf16Be),
            _ if even + odd > 0 => {
                Err(Error::input(subject, "is no text: it has zero bytes, as binary files have", remedy))
            }
            _ => Ok(Self::Bytes(0)),
        }
    }
}

/// Names what is often given in place of a table.
fn refuse_other_formats(start: &[u8], subject: &str) -> Result<()> {
    const EXPORT: &str = "Save it as CSV by the program that made it";
    const UNPACK: &str = "Unpack it first (only gzip is unpacked here)";
    let magic: [(&[u8], &str, &str); 20] = [
        (b"PK\x03\x04", "is a zip archive (.xlsx and .ods are, too)", EXPORT),
        (
            b"PAR1",
            "is a Parquet file",
            "Save it as CSV, for one by pandas.read_parquet(file).to_csv(other, index=False)",
        ),
        (b"ARROW1", "is an Arrow file", EXPORT),
        (b"FEA1", "is a Feather file", EXPORT),
        (b"\xd0\xcf\x11\xe0", "is an old Excel workbook (.xls)", EXPORT),
        (b"\x89HDF", "is an HDF5 file", EXPORT),
        (b"SQLite format 3", "is an SQLite database", EXPORT),
        (b"\x93NUMPY", "is a NumPy array", "Name it by npy:FILE"),
        (b"%PDF", "is a PDF", EXPORT),
        (b"{\\rtf", "is a document (RTF)", EXPORT),
        (b"\x89PNG", "is a picture (PNG)", "Name a folder of pictures by images:DIR"),
        (b"\xff\xd8\xff", "is a picture (JPEG)", "Name a folder of pictures by images:DIR"),
        (b"\x80\x04\x95", "is a Python pickle", EXPORT),
        (b"RDX", "is an R data file", "Save it by write.csv(table, file, row.names = FALSE)"),
        (b"BZh", "is packed by bzip2", UNPACK),
        (b"\xfd7zXZ", "is packed by xz", UNPACK),
        (b"\x28\xb5\x2f\xfd", "is packed by zstd", UNPACK),
        (b"7z\xbc\xaf", "is a 7z archive", UNPACK),
        (b"\x1f\x8b", "is packed by gzip twice", UNPACK),
        (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "Fetch it by `git lfs pull`"),
    ];
    if let Some((_, problem, remedy)) = magic.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return Err(Error::input(subject, *problem, *remedy));
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let next = |from: usize| text.get(from..).unwrap_or_default().trim_ascii_start().first().copied();
    let (problem, remedy) = match text.first() {
        _ if start.is_empty() => ("is empty: it holds no values", "Give a table with at least 2 rows"),
        Some(b'<') => ("is HTML or XML, no table", "Fetch the table itself: this is a page, maybe of an error"),
        Some(b'{') => {
            ("is JSON, no table", "Save it as CSV, for one by pandas.read_json(file, lines=True).to_csv(other)")
        }
        Some(b'[') if matches!(next(1), Some(b'[' | b'{' | b'"' | b'-' | b'0'..=b'9')) => {
            ("is JSON, no table", "Save it as CSV, one sample a row, without brackets")
        }
        Some(b'@' | b'%') if is_arff(text) => {
            ("is ARFF, no plain table", "Keep what follows @data, with the names of the attributes as its first row")
        }
        _ => return Ok(()),
    };
    Err(Error::input(subject, problem, remedy))
}

/// Whether the first line that is no comment, which % begins, names a relation.
fn is_arff(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && line[0] != b'%').unwrap_or_default();
    first.len() > 9 && first[..9].eq_ignore_ascii_case(b"@relation")
}

/// Text of a cell: UTF-8, or Windows-1252 (Latin-1 with its gaps filled), which Excel writes and every byte string is.
pub(super) fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// A line's place in [`Text::bytes`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) end: usize,
    /// Where the next line starts.
    pub(super) next: usize,
    pub(super) has_quotes: bool,
}

/// Lines one after another, of which only a window is in memory.
pub(super) struct Text {
    subject: String,
    source: BlobReader,
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    window: Vec<u8>,
    start: usize,
}

impl Text {
    /// From the first line.
    ///
    /// # Errors
    /// The file cannot be read (any more).
    pub(super) fn open(text: &Blob, encoding: Encoding) -> Result<Self> {
        let (skipped, decoder) = match encoding {
            Encoding::Bytes(mark) => (mark, None),
            Encoding::Utf16Le => (0, Some(UTF_16LE.new_decoder_with_bom_removal())),
            Encoding::Utf16Be => (0, Some(UTF_16BE.new_decoder_with_bom_removal())),
        };
        let source = text.window(text.subject(), skipped, text.len() - skipped).reader();
        let subject = text.subject().to_owned();
        Ok(Self { subject, source, decoder, raw: Vec::new(), window: Vec::new(), start: 0 })
    }

    /// What is in memory from the current place on.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.window[self.start..]
    }

    /// Goes on by so many bytes.
    pub(super) fn advance(&mut self, count: usize) {
        self.start += count;
    }

    /// The line that starts `from` bytes after the current place, without its end, which is \n, \r\n or \r.
    ///
    /// # Errors
    /// The file cannot be read (any more), or the line is too long for a table's.
    pub(super) fn line(&mut self, from: usize) -> Result<Option<Line>> {
        let (mut scanned, mut has_quotes) = (from, false);
        loop {
            let here = &self.window[self.start..];
            let found = match has_quotes {
                false => memchr::memchr3(b'\n', b'\r', b'"', &here[scanned..]),
                true => memchr::memchr2(b'\n', b'\r', &here[scanned..]),
            };
            let length = here.len();
            match found.map(|at| (scanned + at, here[scanned + at], here.get(scanned + at + 1).copied())) {
                Some((at, b'"', _)) => (scanned, has_quotes) = (at + 1, true),
                Some((end, b'\n', _)) => return Ok(Some(Line { end, next: end + 1, has_quotes })),
                Some((end, _, Some(byte))) => {
                    let next = end + 1 + usize::from(byte == b'\n');
                    return Ok(Some(Line { end, next, has_quotes }));
                }
                // \n may follow.
                Some((end, _, None)) => {
                    scanned = end;
                    if !self.fill()? {
                        return Ok(Some(Line { end, next: end + 1, has_quotes }));
                    }
                }
                None => {
                    scanned = length;
                    if scanned - from > MAX_LINE {
                        let problem = format!("has a line of more than {} MiB", MAX_LINE >> 20);
                        return Err(Error::input(&self.subject, problem, "Give a table, one sample a line"));
                    }
                    if !self.fill()? {
                        let last = Line { end: scanned, next: scanned, has_quotes };
                        return Ok((scanned > from).then_some(last));
                    }
                }
            }
        }
    }

    /// Reads on; false at the end.
    fn fill(&mut self) -> Result<bool> {
        self.window.drain(..self.start);
        self.start = 0;
        let before = self.window.len();
        while self.window.len() == before {
            let Some(decoder) = &mut self.decoder else {
                self.window.resize(before + CHUNK, 0);
                let count = read(&mut self.source, &mut self.window[before..], &self.subject)?;
                self.window.truncate(before + count);
                return Ok(count > 0);
            };
            self.raw.resize(CHUNK, 0);
            let count = read(&mut self.source, &mut self.raw, &self.subject)?;
            let needed = decoder.max_utf8_buffer_length(count).expect("a chunk is small");
            self.window.resize(before + needed, 0);
            let (.., written, _) = decoder.decode_to_utf8(&self.raw[..count], &mut self.window[before..], false);
            self.window.truncate(before + written);
            if count == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn read(source: &mut BlobReader, out: &mut [u8], subject: &str) -> Result<usize> {
    loop {
        match source.read(out) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(subject, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: Vec<u8>) -> Vec<String> {
        let blob = Blob::from_bytes("x.csv", bytes);
        let mut text = Text::open(&blob, Encoding::of(&blob).expect("text")).expect("opened");
        let mut lines = Vec::new();
        while let Some(line) = text.line(0).expect("read") {
            lines.push(decoded(&text.bytes()[..line.end]).into_owned());
            text.advance(line.next);
        }
        lines
    }

    #[test]
    fn every_line_end_and_encoding_gives_the_same_lines() {
        // Long enough for several chunks, with line ends at every place relative to them.
        let rows: Vec<String> = (0..60_000).map(|row| format!("{row},é{}", "7".repeat(row % 13))).collect();
        for end in ["\n", "\r\n", "\r"] {
            let text = rows.join(end);
            let utf16 = |encode: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(encode).collect::<Vec<u8>>();
            let latin = text.chars().map(|letter| letter as u8).collect();
            let marked = ["\u{feff}", &text].concat().into_bytes();
            for bytes in [text.clone().into_bytes(), marked, latin, utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
                assert!(lines(bytes) == rows, "{end:?}");
            }
        }
        assert_eq!(lines(b"\xff\xfea\0\n\0b\0".to_vec()), ["a", "b"]);
        assert_eq!(lines(b"a\n\n\r\rb\r\n".to_vec()), ["a", "", "", "", "b"]);
    }

    #[test]
    fn what_is_no_table_is_named_as_what_it_is() {
        let faults: [(&[u8], &str); 15] = [
            (b"", "is empty"),
            (b"<!DOCTYPE html>", "is HTML"),
            (b"\xef\xbb\xbf \n<html>", "is HTML"),
            (b"{\"a\":1}\n", "is JSON"),
            (b"[[1, 2], [3, 4]]", "is JSON"),
            (b"PK\x03\x04\x14\0", ".xlsx"),
            (b"PAR1\x15\0", "Parquet"),
            (b"\x93NUMPY\x01\0", "npy:FILE"),
            (b"%PDF-1.4\n", "PDF"),
            (b"@RELATION iris\n", "ARFF"),
            (b"% about\n\n@relation iris\n", "ARFF"),
            (b"1,2\n\0\0\x01\x02\x03,4\n", "zero bytes"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"\x1f\x8b\x08\0", "gzip twice"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ];
        for (bytes, expected) in faults {
            let error = Encoding::of(&Blob::from_bytes("x.csv", bytes.to_vec())).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
