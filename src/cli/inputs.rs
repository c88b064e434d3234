//! Samples that a command works on: read by one loader whatever the flag, held against the model that it asks.

use std::path::Path;

use super::Session;
use crate::ask::trained::Trained;
use crate::data::{self, DataConfig, Dataset, Density, Rows, Samples, spec_of_file};
use crate::error::{Error, Result};
use crate::files::Unfinished;
use crate::files::arrays::{HostTensor, NpyPieces, read_npy};
use crate::shape::SampleShape;
use crate::standard::Short;

/// How far beyond the range of training a value may lie without a word, in units of that range.
const FAR: f64 = 0.5;
/// Images that span a smaller share of that range are in another unit.
const NARROW: f64 = 0.1;
/// Columns that are named; more are counted.
const NAMED: usize = 3;

/// Which samples of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Those that training never sees
    HeldOut,
    /// Those that it learns from
    Train,
}

/// Which samples a command was asked about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// SPEC; none for the data that the model was trained on.
    pub(super) data: Option<&'a str>,
    /// Which part of them; none for the held-out part of the model's own data, and for all of any other.
    pub(super) part: Option<Part>,
    /// The first so many; none for all.
    pub(super) count: Option<u32>,
    /// All of the model's own data, too, where they are named.
    pub(super) whole: bool,
}

/// Samples with all that is known of them.
pub(super) struct Asked {
    /// SPEC or file.
    pub(super) name: String,
    /// (N, D), in the data's units.
    pub(super) in_units: Vec<f64>,
    /// (N, D), as the model sees them.
    pub(super) x: Vec<f32>,
    /// What each is called, where it is a file of its own.
    pub(super) labels: Option<Vec<String>>,
    /// The true density, for generated data.
    pub(super) density: Option<Density>,
}

impl Asked {
    /// N
    pub(super) fn count(&self, trained: &Trained) -> usize {
        self.x.len() / trained.model.dimensions()
    }
}

/// Loads what is wanted and says what there is to know of it.
pub(super) fn load(session: &Session<'_>, trained: &Trained, wanted: Wanted<'_>) -> Result<Asked> {
    let own = &trained.config.data;
    let is_own = wanted.data.is_none_or(|spec| spec == own.spec && !wanted.whole);
    let rows = match wanted.part.or(is_own.then_some(Part::HeldOut)) {
        Some(part) => part_of(load_data(wanted.data, trained)?, part),
        None => load_rows(session, wanted.data, trained)?,
    };
    check_shape(&rows.name, rows.shape, trained)?;
    if let Some(note) = &rows.note {
        session.console.note(note);
    }
    let count = wanted.count.map_or(rows.samples.len(), |count| rows.samples.len().min(count as usize));
    let in_units = rows.samples.first_in_units(count)?;
    let x = trained.to_model(&in_units)?;
    if let Some(warning) = far_outside(trained, &in_units) {
        session.console.warn(&format!("{}: {warning}", rows.name));
    }
    Ok(Asked { name: rows.name, in_units, x, labels: rows.labels, density: rows.density })
}

/// Loads a file of samples by the same rules.
pub(super) fn load_file(session: &Session<'_>, trained: &Trained, path: &Path) -> Result<Asked> {
    load(session, trained, Wanted { data: Some(&spec_of_file(path)), whole: true, ..Wanted::default() })
}

fn part_of(data: Dataset, part: Part) -> Rows {
    let samples: Samples = match part {
        Part::HeldOut => data.held_out,
        Part::Train => data.train,
    };
    Rows {
        name: data.name,
        shape: data.shape,
        samples,
        density: data.density,
        column_names: data.column_names,
        labels: None,
        note: data.note,
    }
}

/// How the data that a SPEC names are read: as the model's own, and cut as its images are.
fn config_of(spec: Option<&str>, trained: &Trained) -> DataConfig {
    let own = &trained.config.data;
    let Some(spec) = spec.filter(|spec| *spec != own.spec) else { return own.clone() };
    let is_folder = spec.starts_with("images:");
    let (size, channels) = match trained.shape {
        SampleShape::Image { height, width, channels } if is_folder && height == width => {
            (Some(height), Some(channels))
        }
        _ => (None, None),
    };
    let spec = spec.to_owned();
    let mut config = DataConfig { spec, size, channels, flip: false, folder: None, held_out_data: None, ..own.clone() };
    config.take_table_keys(own);
    config
}

/// Names of the columns that the model learned, where all have one.
fn names_of_columns(trained: &Trained) -> Option<Vec<String>> {
    let columns = &trained.standard()?.columns;
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    (names.len() == trained.model.dimensions() && are_names(&names)).then_some(names)
}

/// Columns without a name are called by their number.
fn are_names(names: &[String]) -> bool {
    names.iter().all(|name| !name.is_empty() && name.parse::<u32>().is_err())
}

/// All samples that a SPEC names. Of a table whose header has all of the model's columns these are taken, wherever they
/// stand; of any other the columns that the model's own data were read by.
fn load_rows(session: &Session<'_>, spec: Option<&str>, trained: &Trained) -> Result<Rows> {
    let (config, seed) = (config_of(spec, trained), trained.config.train.seed);
    let Some(names) = names_of_columns(trained).filter(|_| config.spec.starts_with("csv:")) else {
        return data::load_rows(&config, seed);
    };
    let by_name = DataConfig { columns: Some(names.clone()), skip_columns: None, ..config.clone() };
    if let Ok(rows) = data::load_rows(&by_name, seed) {
        return Ok(rows);
    }
    let rows = data::load_rows(&config, seed)?;
    if rows.column_names.as_ref().is_some_and(|found| are_names(found) && *found != names) {
        let found = rows.column_names.as_deref().unwrap_or_default().join(", ");
        let text = format!("{}: its columns are {found}; the model learned {}", rows.name, names.join(", "));
        session.console.warn(&format!("{text}: they are taken in this order"));
    }
    Ok(rows)
}

/// The data that a SPEC names, divided as the model's own; without one, the model's own.
pub(super) fn load_data(spec: Option<&str>, trained: &Trained) -> Result<Dataset> {
    let data = data::load(&config_of(spec, trained), trained.config.train.seed)?;
    check_shape(&data.name, data.shape, trained)?;
    Ok(data.standardised(trained.standard()))
}

/// Refuses samples of another size, and images of another shape with as many values.
fn check_shape(name: &str, shape: SampleShape, trained: &Trained) -> Result<()> {
    let is_image = |shape| matches!(shape, SampleShape::Image { .. });
    let is_other_image = is_image(shape) && is_image(trained.shape) && shape != trained.shape;
    if shape.dimensions() == trained.model.dimensions() && !is_other_image {
        return Ok(());
    }
    let (found, expected) = (shape.dimensions(), trained.model.dimensions());
    let problem = format!("has samples of {shape} (D = {found}), the model takes {} (D = {expected})", trained.shape);
    Err(Error::input(name, problem, "Give data like those that the model was trained on"))
}

/// Whether values (N, D) lie where training had none, as a sentence with both ranges.
fn far_outside(trained: &Trained, in_units: &[f64]) -> Option<String> {
    let dimensions = trained.model.dimensions();
    let ranges = ranges(trained)?;
    let range_of = |column: usize| if ranges.len() == 1 { &ranges[0] } else { &ranges[column] };
    let is_far = |column: usize, value: f64| {
        let (_, [low, high]) = range_of(column);
        let reach = FAR * (high - low).max(1e-6 * low.abs().max(high.abs()));
        value < low - reach || value > high + reach
    };
    let rows = in_units.chunks_exact(dimensions);
    let far_rows = rows.clone().filter(|row| row.iter().enumerate().any(|(d, &value)| is_far(d, value))).count();
    let found = |column: Option<usize>| {
        let values = in_units.iter().enumerate().filter(|(at, _)| column.is_none_or(|c| at % dimensions == c));
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], (_, &v)| [low.min(v), high.max(v)])
    };
    let whole = (ranges.len() == 1).then(|| found(None));
    if far_rows == 0 {
        let (_, [low, high]) = &ranges[0];
        let [least, most] = whole.filter(|_| matches!(trained.shape, SampleShape::Image { .. }))?;
        let is_narrow = in_units.len() > 1 && most > least && most - least < NARROW * (high - low);
        return is_narrow.then(|| {
            format!(
                "values span {} to {}, training had {} to {}: is it the same unit?",
                Short(least),
                Short(most),
                Short(*low),
                Short(*high)
            )
        });
    }
    let columns: Vec<usize> = match whole {
        Some(_) => vec![0],
        None => {
            (0..dimensions).filter(|&d| in_units.iter().skip(d).step_by(dimensions).any(|&v| is_far(d, v))).collect()
        }
    };
    let named = columns.iter().take(NAMED).map(|&column| {
        let (name, [low, high]) = range_of(column);
        let [least, most] = whole.unwrap_or_else(|| found(Some(column)));
        format!("{name} {} to {}, training had {} to {}", Short(least), Short(most), Short(*low), Short(*high))
    });
    let more = columns.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more columns") } else { String::new() };
    let of = in_units.len() / dimensions;
    Some(format!(
        "{far_rows} of {of} samples lie far outside the range of training: {}{more}",
        named.collect::<Vec<_>>().join("; ")
    ))
}

/// Name and range of the training values of each column, or of all values together.
fn ranges(trained: &Trained) -> Option<Vec<(String, [f64; 2])>> {
    let Some(standard) = trained.standard() else {
        let range = trained.config.model.score.range?;
        return Some(vec![("values".into(), range.map(f64::from))]);
    };
    let name = |at: usize, name: &str| match name {
        _ if standard.columns.len() < trained.model.dimensions() => "values".into(),
        "" => format!("column {}", at + 1),
        name => format!("`{name}`"),
    };
    let columns = standard.columns.iter().enumerate();
    Some(columns.map(|(at, column)| (name(at, &column.name), [column.low, column.high])).collect())
}

/// An array without NaN and infinities, in units of its own: noise, noise levels.
pub(super) fn read_finite(path: &Path) -> Result<HostTensor> {
    let array = read_npy(path)?;
    array.check_finite(&path.display().to_string())?;
    Ok(array)
}

/// Lengths of the axes of one sample.
pub(super) fn axes(shape: SampleShape) -> Vec<usize> {
    match shape {
        SampleShape::Image { height, width, channels } => vec![height, width, channels],
        SampleShape::Vector { dimensions } => vec![dimensions],
    }
}

/// Writes samples in the data's units to a .npy file: float64 for standardised tables, whose columns may lie far from 0,
/// else float32.
pub(super) fn write_samples(path: &Path, trained: &Trained, counts: &[usize], in_units: &[f64]) -> Result<()> {
    let shape = [counts, &axes(trained.shape)].concat();
    let mut pieces = NpyPieces::create(path, &shape, is_double(trained))?;
    pieces.write(in_units)?;
    pieces.finish()
}

/// Whether samples in the data's units are written as float64 numbers.
pub(super) fn is_double(trained: &Trained) -> bool {
    trained.standard().is_some() && matches!(trained.shape, SampleShape::Vector { .. })
}

/// A table of samples in the data's units with the names of their columns, written piece by piece.
pub(super) struct TablePieces {
    file: Unfinished,
    columns: usize,
}

impl TablePieces {
    pub(super) fn create(path: &Path, trained: &Trained) -> Result<Self> {
        let mut table = Self { file: Unfinished::create(path)?, columns: trained.model.dimensions() };
        table.records(std::iter::once(trained.column_names()))?;
        Ok(table)
    }

    pub(super) fn write(&mut self, in_units: &[f64]) -> Result<()> {
        self.records(in_units.chunks_exact(self.columns).map(|row| row.iter().map(f64::to_string).collect()))
    }

    pub(super) fn finish(self) -> Result<()> {
        self.file.finish()
    }

    fn records(&mut self, mut records: impl Iterator<Item = Vec<String>>) -> Result<()> {
        self.file.write(|file| {
            let mut writer = csv::Writer::from_writer(file);
            records.try_for_each(|record| writer.write_record(record))?;
            writer.flush()
        })
    }
}
