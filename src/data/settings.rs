//! `[data]`: where samples come from, and how files are read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Result, require};
use crate::files::UNPACK_LIMIT_MIB;
use crate::standard::{Standard, Standardise};

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Data SPEC: `digits`, `mnist:DIR`, `cifar10:DIR`, `images:DIR`, `idx:FILE`, `npy:FILE`, `npz:FILE`, `csv:FILE`,
    /// `toy:NAME` or `gaussian:D`.
    pub spec: String,
    /// Share of the samples kept out of training, for sets that bring no test split of their own; in (0, 0.9].
    pub held_out: f64,
    /// SPEC of data that are held out instead, of the same shape; all of `spec` is then learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_data: Option<String>,
    /// Folder that relative paths of `spec` and `held_out_data` start from; when absent, the working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Side of the images of `images:DIR`: the middle square of each is resized to it. When absent, all must have one
    /// size already. Other images must have this size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// 1 (grey) or 3 (RGB) for `images:DIR`; when absent, 3 if any file stores colour. Other images must have as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// What becomes of files of `images:DIR` that cannot be read as an image, and of rows of `csv:FILE` with holes,
    /// text or another number of fields.
    pub broken: Broken,
    /// `csv:FILE`: what stands between two fields; found from the first lines when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<Separator>,
    /// `csv:FILE`: whether the first row holds the columns' names; judged by what it holds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// `csv:FILE`: what stands before the fraction of a number; found from the numbers when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// `csv:FILE`: the columns to take, in this order, by name or by number from 1; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// `csv:FILE`: columns to leave out, by name or by number from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_columns: Option<Vec<String>>,
    /// Mirror each training image, left to right, with probability 1/2 whenever it is drawn (augmentation).
    pub flip: bool,
    /// Host memory for the samples, MiB. What goes beyond it stays on disk and is read whenever it is drawn.
    pub memory: u64,
    /// What a packed file, a pipe or a device may become, MiB: a small file can unpack to more than any disk holds.
    pub unpack_limit: u64,
    /// How the data are brought to the scale that models see. Noise levels and bounds are in that scale.
    pub standardise: Standardise,
    /// The map that training made of it; absent where the model sees the data as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard: Option<Standard>,
}

/// What becomes of broken files, and of broken rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Broken {
    /// The first one ends the work.
    Refuse,
    /// They are counted, named and left out.
    Skip,
}

/// What stands between two fields of a table. The signs themselves name them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Separator {
    /// `,`
    #[value(alias = ",")]
    #[serde(alias = ",")]
    Comma,
    /// `;`
    #[value(alias = ";")]
    #[serde(alias = ";")]
    Semicolon,
    /// A tab.
    #[value(aliases = ["\\t", "\t"])]
    #[serde(alias = "\\t", alias = "\t")]
    Tab,
    /// `|`
    #[value(aliases = ["|", "pipe"])]
    #[serde(alias = "|", alias = "pipe")]
    Bar,
    /// Any number of blanks and tabs.
    #[value(aliases = ["space", "blanks", "spaces", " "])]
    #[serde(alias = "space", alias = "blanks", alias = "spaces", alias = " ")]
    Blank,
}

/// Whether a table's first row holds the columns' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// Names, whatever they look like.
    Yes,
    /// A sample like every other row.
    No,
    /// Judged by what it holds.
    Auto,
}

/// What stands before the fraction of a number; the other one may then part thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Decimal {
    /// `1,234.5`
    Point,
    /// `1.234,5`
    Comma,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            spec: "digits".into(),
            held_out: 0.15,
            held_out_data: None,
            folder: None,
            size: None,
            channels: None,
            broken: Broken::Refuse,
            separator: None,
            header: None,
            decimal: None,
            columns: None,
            skip_columns: None,
            flip: false,
            memory: 2048,
            unpack_limit: UNPACK_LIMIT_MIB,
            standardise: Standardise::Auto,
            standard: None,
        }
    }
}

impl DataConfig {
    /// The settings given that only tables follow.
    pub(crate) fn table_keys(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("separator", self.separator.is_some()),
            ("header", self.header.is_some()),
            ("decimal", self.decimal.is_some()),
            ("columns", self.columns.is_some()),
            ("skip_columns", self.skip_columns.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }

    /// Takes how tables are read from `other` where these are settings of a table, and drops it where they are not.
    pub(crate) fn take_table_keys(&mut self, other: &Self) {
        let none = Self::default();
        let from = if self.spec.starts_with("csv:") { other } else { &none };
        (self.separator, self.header, self.decimal) = (from.separator, from.header, from.decimal);
        (self.columns, self.skip_columns) = (from.columns.clone(), from.skip_columns.clone());
    }

    /// Largest side of an image.
    pub const LARGEST_SIDE: usize = 1024;
    /// More memory than any machine has, MiB.
    pub(crate) const MOST_MEMORY: u64 = 1 << 30;

    /// Whether a file or folder is named from the working folder.
    pub fn has_relative_path(&self) -> bool {
        let is_relative = |spec: &String| match spec.split_once(':') {
            Some(("toy" | "gaussian", _)) | None => false,
            Some((_, path)) => Path::new(path).is_relative(),
        };
        [Some(&self.spec), self.held_out_data.as_ref()].into_iter().flatten().any(is_relative)
    }

    /// Checks the ranges of these settings.
    ///
    /// # Errors
    /// The first setting at fault, with its range.
    pub fn check(&self) -> Result<()> {
        require(self.held_out > 0.0 && self.held_out <= 0.9, "data.held_out", "must lie in (0, 0.9]")?;
        let side = 1..=Self::LARGEST_SIDE;
        require(self.size.is_none_or(|size| side.contains(&size)), "data.size", "must lie in 1 to 1024 (pixels)")?;
        require(self.memory <= Self::MOST_MEMORY, "data.memory", "must be at most 1073741824 (MiB)")?;
        let limit = 1..=Self::MOST_MEMORY;
        require(limit.contains(&self.unpack_limit), "data.unpack_limit", "must lie in 1 to 1073741824 (MiB)")?;
        require(matches!(self.channels, None | Some(1 | 3)), "data.channels", "must be 1 (grey) or 3 (RGB)")
    }
}
