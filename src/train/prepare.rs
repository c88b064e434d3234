//! What is settled before the first step: standardisation, what the settings leave to the data, what is told of them.

use crate::codes::Objective;
use crate::config::Config;
use crate::data::{DataDigest, Dataset, Samples, Statistics};
use crate::error::{Error, Result};
use crate::models::ar_csm::MixtureHead;
use crate::shape::SampleShape;
use crate::standard::Standardise;

/// How far from the middle, in units of the middle's width, samples are looked for where columns are standardised robustly.
const ROBUST_REACH: f32 = 12.0;
/// How far beyond the range of the training rows a held-out one may lie without a word, in units of that range.
const FAR: f64 = 0.5;

/// What there is to say of held-out rows of a table that no training row resembles: their losses say nothing of the model.
pub(super) fn far_held_out(config: &Config, data: &Dataset) -> Result<Option<String>> {
    let dimensions = data.shape.dimensions();
    let Some(standard) = config.data.standard.as_ref().filter(|standard| standard.columns.len() == dimensions) else {
        return Ok(None);
    };
    let mut row = vec![0.0; dimensions];
    let mut far = 0;
    for index in 0..data.held_out.len() {
        data.held_out.gather(&[index], &mut row)?;
        far += usize::from(standard.is_outside(&row, FAR));
    }
    Ok((far > 0).then(|| {
        let of = data.held_out.len();
        format!("{far} of {of} held-out rows lie far outside the range of the training rows: their losses say little of others")
    }))
}

/// What there is to say of data that are others than a run began with.
pub(super) fn changed_data(then: DataDigest, now: DataDigest) -> Option<String> {
    let how = match (then.train, then.held_out) == (now.train, now.held_out) {
        true if then.checksum == now.checksum => return None,
        true => "other values".to_owned(),
        false => {
            format!("{} samples and {} held out, now {} and {}", then.train, then.held_out, now.train, now.held_out)
        }
    };
    Some(format!("the data have changed since the last checkpoint ({how}): losses before and after do not compare"))
}

/// The data as a new model is to see them, and what there is to say about that.
pub(super) fn standardise(config: &mut Config, data: Dataset) -> Result<(Dataset, Vec<String>)> {
    let mut notes = Vec::new();
    if config.data.standard.is_none() {
        (config.data.standard, notes) = data.fit_standard(standardisation(config, data.shape))?;
    }
    if let Some(standard) = &config.data.standard {
        standard.check(data.shape.dimensions())?;
    }
    Ok((data.standardised(config.data.standard.as_ref()), notes))
}

/// How the data are to be standardised. Bounds and levels are those of all columns, in the data's units, so that these stay
/// as they are unless the settings say otherwise.
pub(super) fn standardisation(config: &Config, shape: SampleShape) -> Standardise {
    let has_ends = config.train.objective == Objective::Weighted || config.model.bins.is_some();
    match config.data.standardise {
        Standardise::Auto if has_ends && matches!(shape, SampleShape::Vector { .. }) => Standardise::None,
        how => how,
    }
}

/// Mean, standard deviation and range of the training data, where the settings leave them open.
pub(crate) fn complete_from_data(config: &mut Config, samples: &Samples) -> Result<()> {
    let score = &mut config.model.score;
    if score.mean.is_none() || score.sd.is_none() || score.range.is_none() {
        let Statistics { mean, sd, range: [low, high] } = samples.statistics()?;
        if !(sd.is_finite() && low.is_finite() && high.is_finite()) {
            let problem = "holds values that float32 cannot, or whose squares it cannot";
            return Err(Error::input(&config.data.spec, problem, "Let it be standardised, or rescale it"));
        }
        // Columns that were standardised by their middle have the scale of that: wild values must not set another.
        let robust = config.data.standard.is_some() && config.data.standardise == Standardise::Robust;
        let (mean, sd) = if robust { (0.0, 1.0) } else { (mean as f32, (sd as f32).max(1e-6)) };
        let [low, high] = if robust { [low.max(-ROBUST_REACH), high.min(ROBUST_REACH)] } else { [low, high] };
        score.mean.get_or_insert(mean);
        score.sd.get_or_insert(sd);
        score.range.get_or_insert([low, high.max(low + 1e-6)]);
    }
    Ok(())
}

/// Values to be binned must be levels; some samples of both sets are looked at.
pub(super) fn check_levels(config: &Config, data: &Dataset) -> Result<()> {
    if config.model.bins.is_none() {
        return Ok(());
    }
    let Some(bins) = MixtureHead::new(&config.model).bins else { return Ok(()) };
    for samples in [&data.train, &data.held_out] {
        let indices: Vec<usize> = (0..samples.len().min(256)).collect();
        let mut values = vec![0.0; indices.len() * data.shape.dimensions()];
        samples.gather(&indices, &mut values)?;
        bins.check(&data.name, &values)?;
    }
    Ok(())
}
