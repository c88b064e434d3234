//! Checkpoints: safetensors files with f32 tensors, and in their metadata all that is needed to go on.

use crate::files::safetensors::{parse_safetensors, read_safetensors, write_safetensors};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::data::DataDigest;
use crate::error::{Error, Result};
use crate::files::arrays::{HostTensor, index_of};
use crate::files::{self, harmless};
use crate::models::ar_csm::{check_dimensions, stored_numbers};
use crate::shape::SampleShape;

const FORMAT: &str = "arcsm-checkpoint";
/// Raised whenever an older program could misread a newer file.
const FORMAT_VERSION: u32 = 1;
/// What the checksum of everything else stands under; older files have none.
const CHECKSUM: &str = "checksum";
/// The commit that the program was built from, where the build names it.
const COMMIT: &str = match option_env!("ARCSM_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A model as it was after some step, with the state of its training.
///
/// Weights have their plain names (`ctx.layers.0.weight`, `net.lin.0.bias`); the sets `ema.`, `adam.m.` and `adam.v.`
/// repeat these names behind their prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Settings of the run.
    pub config: Config,
    /// Optimiser steps that were done.
    pub step: u64,
    /// Samples that were drawn; [`crate::data::Shuffle::at`] goes on from here.
    pub samples_drawn: u64,
    /// What one sample is.
    pub shape: SampleShape,
    /// What the data were when it was written; older files and imported ones do not tell.
    pub data: Option<DataDigest>,
    /// Least held-out loss so far.
    pub best: Option<Best>,
    /// Every tensor by its name.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// The least held-out loss of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Its value.
    pub loss: f64,
    /// After this step.
    pub step: u64,
}

impl Checkpoint {
    /// Writes the checkpoint atomically. Equal checkpoints give equal bytes.
    ///
    /// # Errors
    /// As [`files::write_atomically`].
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_atomically(path, |writer| self.write(writer, self.metadata()))
    }

    fn write(&self, writer: &mut impl Write, mut metadata: Map<String, Value>) -> io::Result<()> {
        let entries = metadata.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        let checksum = checksum(entries.collect(), &self.tensors);
        metadata.insert(CHECKSUM.to_owned(), Value::String(checksum));
        write_safetensors(writer, &self.tensors, metadata)
    }

    /// Reads a checkpoint that [`Checkpoint::save`] wrote.
    ///
    /// # Errors
    /// Bad input, with the reason: missing, cut off, no safetensors file, not from arcsm, from a newer version, with
    /// metadata that are missing or broken, changed since it was written, with settings of a larger model than it
    /// holds, or with weights that are not finite.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(Self::load_with_note(path)?.0)
    }

    /// The same, and what the user should know of the file: that damage to it could not have been seen.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_with_note(path: &Path) -> Result<(Self, Option<String>)> {
        let subject = path.display().to_string();
        let (checkpoint, is_proven) = Self::parse(&read_safetensors(path)?, &subject)?;
        let note =
            || format!("{} has no checksum, as files of older versions: damage would not be seen", harmless(&subject));
        Ok((checkpoint, (!is_proven).then(note)))
    }

    /// The checkpoint, and whether it was held against a checksum.
    fn parse(bytes: &[u8], subject: &str) -> Result<(Self, bool)> {
        let (tensors, metadata) = parse_safetensors(bytes, subject)?;
        let entries = Entries { subject, entries: metadata.unwrap_or_default() };
        entries.check_format()?;
        let is_proven = entries.check_sum(&tensors)?;
        let config = Config::from_toml(entries.text("config")?, subject)?;
        let shape: SampleShape = entries.value("shape")?;
        // Before anything is made that these sizes decide: they may come from a stranger.
        let check_sizes = || {
            config.check()?;
            check_dimensions(shape)?;
            config.data.standard.as_ref().map_or(Ok(()), |standard| standard.check(shape.dimensions()))
        };
        check_sizes().map_err(|error| entries.in_settings(error))?;
        entries.check_holds(stored_numbers(&config.model, shape), &tensors)?;
        entries.check_finite(&tensors)?;
        let step = entries.value("step")?;
        let has = |key: &str| entries.entries.contains_key(key);
        let best = match has("best_loss") {
            // Older files do not tell the step.
            true if !has("best_step") => Some(Best { loss: entries.value("best_loss")?, step }),
            true => Some(Best { loss: entries.value("best_loss")?, step: entries.value("best_step")? }),
            false => None,
        };
        let data = if has("data") { Some(entries.value("data")?) } else { None };
        let samples_drawn = entries.value("samples_drawn")?;
        Ok((Self { config, step, samples_drawn, shape, data, best, tensors }, is_proven))
    }

    fn metadata(&self) -> Map<String, Value> {
        let mut entries = BTreeMap::from([
            ("format", FORMAT.to_owned()),
            ("format_version", FORMAT_VERSION.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", COMMIT.to_owned()),
            ("step", self.step.to_string()),
            ("samples_drawn", self.samples_drawn.to_string()),
            ("seed", self.config.train.seed.to_string()),
            ("shape", self.shape.to_string()),
            ("config", self.config.to_toml()),
        ]);
        if let Some(data) = self.data {
            entries.insert("data", data.to_string());
        }
        if let Some(Best { loss, step }) = self.best {
            entries.insert("best_loss", loss.to_string());
            entries.insert("best_step", step.to_string());
        }
        entries.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
    }
}

/// Metadata of a file that claims to be a checkpoint.
struct Entries<'a> {
    subject: &'a str,
    entries: HashMap<String, String>,
}

impl Entries<'_> {
    fn check_format(&self) -> Result<()> {
        let found = self.entries.get("format").map_or("none", String::as_str);
        if found != FORMAT {
            let problem =
                format!("is a safetensors file, but no arcsm checkpoint: format is {found}, expected {FORMAT}");
            return Err(Error::input(self.subject, problem, "`arcsm import` takes weights from other programs"));
        }
        let version: u32 = self.value("format_version")?;
        if version > FORMAT_VERSION {
            let writer = self.entries.get("version").map_or("unknown", String::as_str);
            let problem = format!("has format version {version} (arcsm {writer}), expected at most {FORMAT_VERSION}");
            return Err(Error::input(self.subject, problem, "Use that version of arcsm, or a newer one"));
        }
        Ok(())
    }

    fn text(&self, key: &str) -> Result<&str> {
        let missing = || self.damaged(format!("its metadata lacks `{key}`"));
        self.entries.get(key).map(String::as_str).ok_or_else(missing)
    }

    fn value<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse()
            .map_err(|_| self.damaged(format!("its metadata has `{key}` = `{text}`, which cannot be understood")))
    }

    /// Holds the content against its checksum; gives whether it has one.
    fn check_sum(&self, tensors: &BTreeMap<String, HostTensor>) -> Result<bool> {
        let Some(expected) = self.entries.get(CHECKSUM) else { return Ok(false) };
        let others = self.entries.iter().filter(|(key, _)| *key != CHECKSUM);
        let found = checksum(others.map(|(key, value)| (key.as_str(), value.as_str())).collect(), tensors);
        match found == *expected {
            true => Ok(true),
            false => Err(self.damaged(format!("its content has the checksum {found}, expected {expected}"))),
        }
    }

    /// Holds the size of the model that the settings describe against what is there of it.
    fn check_holds(&self, expected: u128, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
        let of_state = |name: &str| ["ema.", "adam."].iter().any(|prefix| name.starts_with(prefix));
        let weights = tensors.iter().filter(|(name, _)| !of_state(name));
        let found: u128 = weights.map(|(_, tensor)| tensor.values.len() as u128).sum();
        match found >= expected {
            true => Ok(()),
            false => Err(self.damaged(format!("its settings need {expected} weights, it holds {found}"))),
        }
    }

    /// A model of NaN has no answer to any question, and training cannot go on from it.
    fn check_finite(&self, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
        for (name, HostTensor { shape, values }) in tensors {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (value, index) = (values[at], index_of(shape, at));
                let problem = format!("tensor `{name}` holds {value} at index {index:?}; weights must be finite");
                return Err(Error::input(self.subject, problem, "Use an earlier checkpoint, or train anew"));
            }
        }
        Ok(())
    }

    /// The error of a setting as one of the file that holds it, where no flag mends it.
    fn in_settings(&self, error: Error) -> Error {
        match error {
            Error::Input { subject, problem, .. } => self.damaged(format!("in its settings, {subject} {problem}")),
            error => error,
        }
    }

    fn damaged(&self, problem: String) -> Error {
        Error::input(self.subject, problem, "The checkpoint is damaged: use another one of the run")
    }
}

/// The CRC-32 of metadata and tensors, as eight hexadecimal digits: of the content and not of the bytes, which other
/// programs may put in another order.
fn checksum(metadata: BTreeMap<&str, &str>, tensors: &BTreeMap<String, HostTensor>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    // Lengths come first, so that nothing can move from one part to the next.
    let number = |hasher: &mut crc32fast::Hasher, number: usize| hasher.update(&(number as u64).to_le_bytes());
    let text = |hasher: &mut crc32fast::Hasher, text: &str| {
        number(hasher, text.len());
        hasher.update(text.as_bytes());
    };
    for (key, value) in metadata {
        text(&mut hasher, key);
        text(&mut hasher, value);
    }
    let mut bytes = Vec::new();
    for (name, tensor) in tensors {
        text(&mut hasher, name);
        number(&mut hasher, tensor.shape.len());
        tensor.shape.iter().for_each(|&length| number(&mut hasher, length));
        for values in tensor.values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&bytes);
        }
    }
    format!("{:08x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::safetensors::fingerprint;

    fn example() -> Checkpoint {
        let mut config = Config::default();
        config.train.seed = 11;
        config.model.hidden = vec![4];
        config.model.context = 2;
        config.model.score.hidden = vec![3];
        let tensor = |shape: &[usize], offset: f32| {
            HostTensor::new(shape, (0..shape.iter().product()).map(|i: usize| i as f32 * 0.1 - offset).collect())
        };
        Checkpoint {
            config,
            step: 120,
            samples_drawn: u64::MAX - 3,
            shape: SampleShape::Image { height: 2, width: 3, channels: 1 },
            data: Some(DataDigest { train: 60_000, held_out: 10_000, checksum: 0xab }),
            best: Some(Best { loss: -0.1 - 0.2, step: 70 }),
            tensors: BTreeMap::from([
                ("ctx.layers.0.bias".into(), tensor(&[4], 0.2)),
                ("ctx.layers.0.weight".into(), tensor(&[4, 6], 0.7)),
                ("ctx.layers.1.bias".into(), tensor(&[12], 0.1)),
                ("ctx.layers.1.weight".into(), tensor(&[12, 4], 0.3)),
                ("net.lin.0.bias".into(), tensor(&[3], -3.0)),
                ("net.lin.0.weight".into(), tensor(&[3, 4], 0.5)),
                ("net.lin.1.bias".into(), tensor(&[1], 0.4)),
                ("net.lin.1.weight".into(), tensor(&[1, 3], 0.6)),
                ("adam.m.net.lin.0.bias".into(), tensor(&[3], 1e-30)),
            ]),
        }
    }

    fn bytes_of(checkpoint: &Checkpoint, change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
        let mut metadata = checkpoint.metadata();
        change(&mut metadata);
        let mut bytes = Vec::new();
        checkpoint.write(&mut bytes, metadata).expect("memory");
        bytes
    }

    #[test]
    fn a_checkpoint_survives_a_round_trip_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        let checkpoint = example();
        checkpoint.save(&first).expect("written");
        let read = Checkpoint::load(&first).expect("own file");
        assert_eq!(read, checkpoint);
        read.save(&second).expect("written");
        assert_eq!(fingerprint(&first).expect("there"), fingerprint(&second).expect("there"));
        let without_loss = Checkpoint { data: None, best: None, step: 121, ..checkpoint };
        without_loss.save(&second).expect("written");
        assert_eq!(Checkpoint::load(&second).expect("own file"), without_loss);
        assert_ne!(fingerprint(&first).expect("there"), fingerprint(&second).expect("there"));
    }

    #[test]
    fn a_cut_or_lengthened_file_is_refused_at_every_byte() {
        let whole = bytes_of(&example(), |_| ());
        Checkpoint::parse(&whole, "x").expect("whole");
        for length in 0..whole.len() {
            let error = Checkpoint::parse(&whole[..length], "x").expect_err("cut");
            assert_eq!(error.exit_status(), 2, "{length} bytes: {error}");
        }
        assert!(Checkpoint::parse(&[&whole[..], &[0]].concat(), "x").is_err(), "a byte too many");
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = Checkpoint::parse(bytes, "x").expect_err("refused");
        let text = error.to_string();
        assert!(error.exit_status() == 2 && text.starts_with("x: ") && !text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn every_changed_bit_of_the_tensors_is_found_by_the_checksum() {
        let whole = bytes_of(&example(), |_| ());
        let data: usize = example().tensors.values().map(|tensor| 4 * tensor.values.len()).sum();
        for at in whole.len() - data..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(refusal(&changed).contains("checksum"), "byte {at}");
        }
        let step = whole.windows(12).position(|window| window == b"\"step\":\"120\"").expect("in the header");
        let mut changed = whole.clone();
        changed[step + 8] = b'2';
        assert!(refusal(&changed).contains("checksum"), "another step");
    }

    #[test]
    fn a_file_without_a_checksum_is_read() {
        let (mut bytes, checkpoint) = (Vec::new(), example());
        write_safetensors(&mut bytes, &checkpoint.tensors, checkpoint.metadata()).expect("memory");
        assert_eq!(Checkpoint::parse(&bytes, "x").expect("an older file"), (checkpoint, false));
    }

    #[test]
    fn settings_of_a_larger_model_than_the_file_holds_are_refused() {
        let of = |change: fn(&mut Checkpoint)| {
            let mut checkpoint = example();
            change(&mut checkpoint);
            refusal(&bytes_of(&checkpoint, |_| ()))
        };
        let text = of(|c| c.shape = SampleShape::Image { height: 65536, width: 65536, channels: 1 });
        assert!(text.contains("65536x65536x1 has 4294967296 values, expected at most 4194304"), "{text}");
        let text = of(|c| c.shape = SampleShape::Vector { dimensions: 1_000_000 });
        assert!(text.contains("need 14000023 weights, it holds 107"), "{text}");
        let text = of(|c| c.config.model.context = usize::MAX >> 1);
        assert!(text.contains("model.context must lie in 1 to 4096"), "{text}");
        let text = of(|c| c.config.model.hidden = vec![65_536; 8]);
        assert!(text.contains("weights, it holds 107"), "{text}");
        let text = of(|c| _ = c.tensors.remove("net.lin.1.bias"));
        assert!(text.contains("need 107 weights, it holds 106"), "{text}");
    }

    #[test]
    fn a_weight_that_is_not_finite_is_named_with_its_index() {
        for (name, value) in [("net.lin.0.weight", f32::NAN), ("adam.m.net.lin.0.bias", f32::INFINITY)] {
            let mut checkpoint = example();
            let tensor = checkpoint.tensors.get_mut(name).expect("there");
            *tensor.values.last_mut().expect("values") = value;
            let index: Vec<usize> = tensor.shape.iter().map(|&length| length - 1).collect();
            let text = refusal(&bytes_of(&checkpoint, |_| ()));
            assert!(text.contains(&format!("tensor `{name}` holds {value} at index {index:?}")), "{text}");
        }
    }

    #[test]
    fn a_damaged_header_never_panics() {
        // Without a checksum, so that damage comes to what lies behind it.
        let (mut whole, checkpoint) = (Vec::new(), example());
        write_safetensors(&mut whole, &checkpoint.tensors, checkpoint.metadata()).expect("memory");
        let header = 8 + usize::from(u16::from_le_bytes([whole[0], whole[1]]));
        for at in 0..header {
            for flip in [0x01, 0x10, 0x80] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                if let Err(error) = Checkpoint::parse(&damaged, "x") {
                    assert_eq!(error.exit_status(), 2, "byte {at}: {error}");
                }
            }
        }
    }

    #[test]
    fn foreign_newer_and_incomplete_files_are_refused_with_the_reason() {
        type Change = fn(&mut Map<String, Value>);
        let cases: [(Change, &str); 6] = [
            (|m| m.clear(), "no arcsm checkpoint: format is none"),
            (|m| _ = m.insert("format".into(), "pt".into()), "format is pt"),
            (|m| _ = m.insert("format_version".into(), "2".into()), "format version 2 (arcsm "),
            (|m| _ = m.remove("samples_drawn"), "lacks `samples_drawn`"),
            (|m| _ = m.insert("shape".into(), "2x".into()), "`shape` = `2x`"),
            (|m| _ = m.insert("config".into(), "[train]\nbatch = 0".into()), "train.batch"),
        ];
        for (change, expected) in cases {
            let error = Checkpoint::parse(&bytes_of(&example(), change), "x").expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
        for other in [&b"PK\x03\x04 a zip archive"[..], b"", b"\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(Checkpoint::parse(other, "x").expect_err("no safetensors").to_string().contains("no whole"));
        }
    }
}
