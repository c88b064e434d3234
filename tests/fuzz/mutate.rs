//! Inputs that are nearly right: seeds with a few changes, in a frame that lets their parser look at them.

use std::io::{Cursor, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::targets::{Frame, Target};

/// Bytes that a mutated input has beyond the longest seed, at most.
const GROWTH: usize = 4096;
/// Changes to one input, at most.
const CHANGES: u64 = 6;
/// One in so many inputs is mutated without regard to its frame.
const BARE: u64 = 3;

/// Numbers that differ whenever the key does (SplitMix64; Steele, Lea & Flood 2014).
pub(crate) struct Dice(u64);

impl Dice {
    /// Those of a key.
    pub(crate) fn of(seed: u64, target: usize, execution: u64) -> Self {
        let mut dice = Self(seed ^ (target as u64) << 56);
        dice.0 = dice.next().wrapping_add(execution.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// From 0 to less than `count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count.max(1))) >> 64) as u64
    }

    fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }

    /// A place in so many bytes, and a length, mostly short, that ends inside.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.index(length + 1);
        let longest = [1, 4, 16, 256, length][self.index(5)];
        start..start + self.index((length - start).min(longest) + 1)
    }
}

/// The mutated input of one execution.
pub(crate) fn mutated(target: &Target, seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let seed = &seeds[dice.index(seeds.len())];
    let other = &seeds[dice.index(seeds.len())];
    if dice.below(BARE) > 0
        && let Some(framed) = reframed(target, seed, other, dice)
    {
        return framed;
    }
    let mut bytes = seed.clone();
    change(&mut bytes, other, target.words, dice);
    bytes
}

/// What lies in the frame mutated, and the frame put round it again; none where the seed has no frame.
fn reframed(target: &Target, seed: &[u8], other: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    match target.frame {
        Frame::None => None,
        Frame::Safetensors => {
            let (&length, rest) = seed.split_first_chunk()?;
            let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(length)).ok()?)?;
            let mut header = header.to_vec();
            change(&mut header, other, target.words, dice);
            header.resize(header.len().next_multiple_of(8), b' ');
            Some([&(header.len() as u64).to_le_bytes(), &header[..], data].concat())
        }
        Frame::Npy => {
            let (start, rest) = seed.split_at_checked(8)?;
            let (&length, rest) = rest.split_first_chunk()?;
            let (header, data) = rest.split_at_checked(usize::from(u16::from_le_bytes(length)))?;
            let mut header = header.to_vec();
            change(&mut header, other, target.words, dice);
            header.truncate(usize::from(u16::MAX));
            Some([start, &(header.len() as u16).to_le_bytes(), &header, data].concat())
        }
        Frame::Png => {
            let mut bytes = seed.to_vec();
            bytes.strip_prefix(b"\x89PNG")?;
            change(&mut bytes, other, target.words, dice);
            mend_checksums(&mut bytes);
            Some(bytes)
        }
        Frame::Gzip => {
            let mut bytes = Vec::new();
            MultiGzDecoder::new(seed).read_to_end(&mut bytes).ok()?;
            change(&mut bytes, other, target.words, dice);
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(&bytes).ok()?;
            packer.finish().ok()
        }
        Frame::Npz => {
            let mut bytes = Vec::new();
            ZipArchive::new(Cursor::new(seed)).ok()?.by_index(0).ok()?.read_to_end(&mut bytes).ok()?;
            change(&mut bytes, other, target.words, dice);
            let method = dice.one_of(&[CompressionMethod::Stored, CompressionMethod::Deflated]);
            Some(archived(&[("a.npy", &bytes)], method))
        }
    }
}

/// A zip archive of these files.
pub(crate) fn archived(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).expect("memory");
        archive.write_all(bytes).expect("memory");
    }
    archive.finish().expect("memory").into_inner()
}

/// Gives every chunk of a PNG, as far as their lengths lead, the checksum of what it holds.
pub(crate) fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).and_then(<[u8]>::first_chunk) {
        let end = (u32::from_be_bytes(*length) as usize).saturating_add(at + 8);
        let Some(chunk) = bytes.get(at + 4..end) else { return };
        let checksum = crc32fast::hash(chunk).to_be_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&checksum);
        at = end + 4;
    }
}

fn change(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], dice: &mut Dice) {
    let longest = bytes.len() + GROWTH;
    for _ in 0..=dice.below(CHANGES) {
        change_once(bytes, other, words, dice);
        bytes.truncate(longest);
    }
}

fn change_once(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], dice: &mut Dice) {
    let length = bytes.len();
    match dice.below(14) {
        0 if length > 0 => {
            let at = dice.index(length);
            bytes[at] ^= 1 << dice.below(8);
        }
        1 if length > 0 => {
            let at = dice.index(length);
            bytes[at] = dice.one_of(&[0, 1, 2, 3, 4, 8, 16, 32, 0x7f, 0x80, 0xfe, 0xff]);
        }
        2 if length > 0 => {
            let at = dice.index(length);
            bytes[at] = dice.below(256) as u8;
        }
        3 | 4 => overwrite_number(bytes, dice),
        5 => drop(bytes.drain(dice.range(length))),
        6 => bytes.truncate(dice.index(length + 1)),
        7 => {
            let piece = bytes[dice.range(length)].to_vec();
            insert(bytes, &piece, dice);
        }
        8 => {
            let piece = other[dice.range(other.len())].to_vec();
            insert(bytes, &piece, dice);
        }
        9 => {
            let piece = other[dice.range(other.len())].to_vec();
            let place = dice.range(length);
            bytes.splice(place, piece);
        }
        10 | 11 => replace_digits(bytes, dice),
        12 if !words.is_empty() => insert(bytes, dice.one_of(words).as_bytes(), dice),
        _ => {
            let piece = if words.is_empty() { &b"["[..] } else { dice.one_of(words).as_bytes() };
            let times = dice.one_of(&[2, 3, 8, 100, 2000]);
            insert(bytes, &piece.repeat(times), dice);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, piece: &[u8], dice: &mut Dice) {
    let at = dice.index(bytes.len() + 1);
    bytes.splice(at..at, piece.iter().copied());
}

/// Puts a number that is hard to count with in place of some bytes.
fn overwrite_number(bytes: &mut [u8], dice: &mut Dice) {
    let number =
        dice.one_of(&[0, 1, 2, 3, 255, 256, 1 << 15, 1 << 16, 1 << 27, 1 << 31, 1 << 32, 1 << 40, 1 << 63, u64::MAX]);
    let number = number.wrapping_sub(dice.below(3));
    let width = dice.one_of(&[1, 2, 4, 8]);
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    let number = if dice.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
    let at = dice.index(bytes.len() + 1);
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(number);
    }
}

/// Puts another number in place of one that is written in digits.
fn replace_digits(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let from = dice.index(bytes.len() + 1);
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |count| start + count);
    let number = dice.one_of(&[
        "0",
        "1",
        "-1",
        "2",
        "7",
        "255",
        "256",
        "65535",
        "65536",
        "1000000",
        "2147483647",
        "4294967295",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "1e30",
        "1e308",
        "1e-320",
        "99999999999999999999999999999999999999999",
        "nan",
        "inf",
        "-inf",
        "0.5",
        "1_000",
        "00",
    ]);
    bytes.splice(start..end, number.bytes());
}
