//! Samples that a command works on, held against the model that it asks.

use std::path::Path;

use crate::arrays::{HostTensor, read_npy};
use crate::config::DataConfig;
use crate::data::{self, Dataset, SampleShape};
use crate::error::{Error, Result};
use crate::trained::Trained;

/// An array without NaN and infinities.
pub(super) fn read_finite(path: &Path) -> Result<HostTensor> {
    let array = read_npy(path)?;
    array.check_finite(&path.display().to_string())?;
    Ok(array)
}

/// Refuses an array that holds no samples of the model's shape; gives their number.
pub(super) fn check_fits(array: &HostTensor, path: &Path, trained: &Trained) -> Result<usize> {
    let dimensions = trained.model.dimensions();
    let count = array.shape.first().copied().unwrap_or(0);
    let fits = match (&array.shape[..], trained.shape) {
        ([_, height, width, rest @ ..], SampleShape::Image { height: rows, width: columns, channels }) => {
            (*height, *width, rest.iter().product::<usize>()) == (rows, columns, channels)
        }
        _ => array.values.len() == count * dimensions,
    };
    if count > 0 && fits {
        return Ok(count);
    }
    let problem = format!("has shape {:?}, the model takes (N, {dimensions}): {}", array.shape, trained.shape);
    Err(Error::input(path.display().to_string(), problem, "Give samples of the model's data"))
}

/// The data that a SPEC names, cut and split as the model's own; without one, the model's own.
pub(super) fn load_data(spec: Option<&str>, trained: &Trained) -> Result<Dataset> {
    let own = &trained.config.data;
    let config = match spec {
        None => own.clone(),
        Some(spec) if spec == own.spec => own.clone(),
        Some(spec) => {
            let mut config = DataConfig { spec: spec.into(), held_out: own.held_out, ..DataConfig::default() };
            if let (SampleShape::Image { height, channels, .. }, true) = (trained.shape, spec.starts_with("images:")) {
                (config.size, config.channels) = (Some(height), Some(channels));
            }
            config.take_table_keys(own);
            config
        }
    };
    let data = data::load(&config, trained.config.train.seed)?;
    if data.shape.dimensions() != trained.model.dimensions() || is_other_image(data.shape, trained.shape) {
        let problem = format!("has samples of {}, the model takes {}", data.shape, trained.shape);
        return Err(Error::input(config.spec, problem, "Give data like those that the model was trained on"));
    }
    Ok(data)
}

/// Whether both are images, of different shapes.
fn is_other_image(a: SampleShape, b: SampleShape) -> bool {
    let is_image = |shape| matches!(shape, SampleShape::Image { .. });
    is_image(a) && is_image(b) && a != b
}

/// Lengths of the axes of one sample.
pub(super) fn axes(shape: SampleShape) -> Vec<usize> {
    match shape {
        SampleShape::Image { height, width, channels } => vec![height, width, channels],
        SampleShape::Vector { dimensions } => vec![dimensions],
    }
}
