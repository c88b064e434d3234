//! Exact likelihoods of models whose conditionals are in closed form: no grid, no approximation.
//!
//! Of which density, the model says: values on levels have probabilities (`bins`); else the conditionals are densities at
//! x_d + sigma eps given the clean x_<d, or at the clean x for sigma = 0. Heads of Gaussians have one density that is
//! right at every sigma; those of logistics have the logistic of the right variance (see [`crate::models::ar_csm::MixtureHead`]).

use crate::nn::Noise;
use std::f64::consts::LN_2;

use serde::Serialize;

use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::ar_csm::{Head, Workspace};
use crate::nn::HELD_OUT_STEP;

/// Samples worked on together.
const BATCH: usize = 256;

/// Negative log-likelihoods of samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClosedForm {
    /// -log p of each sample in the data's units, summed over its dimensions, nats.
    pub nats: Vec<f64>,
    /// Their mean.
    pub mean_nats: f64,
    /// The mean in bits by the number of dimensions: of levels where there are bins, else of the density in the data's
    /// own unit.
    pub bits_per_dimension: f64,
    /// Standard deviation of the noise on the values whose likelihood it is.
    pub sigma: f32,
    /// Levels that have probabilities, where values are binned.
    pub bins: Option<usize>,
}

/// Noise level at which a model's likelihood is comparable with others' of the same data: that of its training, sigma_min;
/// 0 for binned values.
pub fn natural_sigma(trained: &Trained) -> f32 {
    if trained.config.model.bins.is_some() { 0.0 } else { trained.config.noise.sigma_min }
}

/// Likelihoods of samples x (N, D), as the model sees them, in the data's order of dimensions. The noise is that of held-out losses in training
/// with this seed, so the same samples give the same numbers.
///
/// # Errors
/// A score head, whose likelihood is no closed form; noise on binned values; values that do not fit the model or are no
/// levels; a failed adapter, or a likelihood that is not finite.
pub fn log_likelihood(gpu: &Gpu, trained: &Trained, x: &[f32], sigma: f32, seed: u64) -> Result<ClosedForm> {
    check(trained, x, sigma)?;
    let enabled = sigma > 0.0;
    let level = if enabled { sigma } else { 1.0 };
    let noise = Noise { sigma_min: level, sigma_max: level, enabled, seed, step: HELD_OUT_STEP, first_sample: 0 };
    let Rows { densities, y } = of_batches(gpu, trained, x, &mut |recorder, workspace, first_sample| {
        let noise = Noise { first_sample: first_sample as u32, ..noise };
        Ok(workspace.score.perturb(recorder, &workspace.x, &noise)?)
    })?;
    let (order, dimensions) = (&trained.model.order, trained.model.dimensions());
    let log_scale = match trained.config.model.bins {
        // Probabilities have no unit.
        Some(_) => vec![0.0; x.len() / dimensions],
        None => trained.log_scale(&order.to_data(&y, 1)),
    };
    let of_sample = |densities: &[f32]| densities.iter().copied().map(f64::from).sum::<f64>();
    let samples = densities.chunks_exact(dimensions).zip(log_scale);
    let nats: Vec<f64> = samples.map(|(densities, scale)| -of_sample(densities) - scale).collect();
    let mean_nats = nats.iter().sum::<f64>() / nats.len() as f64;
    let bits_per_dimension = mean_nats / (dimensions as f64 * LN_2);
    Ok(ClosedForm { nats, mean_nats, bits_per_dimension, sigma, bins: trained.config.model.bins })
}

/// log q(y_d | x_<d) under noise sigma, for every sample and dimension: x, y and the result are (N, D), in the data's
/// order and as the model sees them. For noise of the caller's own; with y = x and sigma = 0, of clean values.
///
/// # Errors
/// As [`log_likelihood`].
pub fn log_densities(gpu: &Gpu, trained: &Trained, x: &[f32], y: &[f32], sigma: f32) -> Result<Vec<f32>> {
    check(trained, x, sigma)?;
    if x.len() != y.len() {
        let problem = format!("{} clean and {} noisy values", x.len(), y.len());
        return Err(Error::input("samples", problem, "Give as many of each"));
    }
    let (order, dimensions) = (&trained.model.order, trained.model.dimensions());
    let Rows { densities, .. } = of_batches(gpu, trained, x, &mut |_, workspace, first_sample| {
        let rest = &y[first_sample * dimensions..];
        let mut values = order.to_model(&rest[..rest.len().min(workspace.x.elements())], 1);
        values.resize(workspace.x.elements(), 0.0);
        let rows = values.iter().zip(0..).flat_map(|(y, row)| [row, y.to_bits(), sigma.to_bits(), 0]);
        Ok(gpu.write(&workspace.score.rows, &rows.collect::<Vec<u32>>())?)
    })?;
    Ok(order.to_data(&densities, 1))
}

/// Makes the rows of a batch that starts with this sample.
type MakeRows<'a> = dyn FnMut(&mut Recorder<'_>, &Workspace, usize) -> Result<()> + 'a;

/// What was asked, and the answer; (N, D) in the model's order.
struct Rows {
    y: Vec<f32>,
    densities: Vec<f32>,
}

/// Log densities of the rows that `make_rows` gives. The last batch is filled up with zeros.
fn of_batches(gpu: &Gpu, trained: &Trained, x: &[f32], make_rows: &mut MakeRows<'_>) -> Result<Rows> {
    let model = &trained.model;
    let dimensions = model.dimensions();
    let batch = model.fitting_batch(gpu, BATCH.min(x.len() / dimensions));
    let workspace = model.workspace(gpu, batch, 1, false)?;
    let (mut densities, mut y) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for x in x.chunks(batch * dimensions) {
        let mut values = model.order.to_model(x, 1);
        values.resize(workspace.x.elements(), 0.0);
        gpu.write(&workspace.x, &values)?;
        let mut recorder = gpu.record("likelihood");
        make_rows(&mut recorder, &workspace, densities.len() / dimensions)?;
        model.scores_of_rows(&mut recorder, &trained.weights, &workspace)?;
        recorder.submit()?;
        let read = gpu.begin_read(&[&workspace.score.rows, &workspace.score.result]);
        let words = gpu.finish_read::<u32>(read)?;
        y.extend(words[0].chunks_exact(4).take(x.len()).map(|row| f32::from_bits(row[1])));
        densities.extend(words[1].chunks_exact(4).take(x.len()).map(|row| f32::from_bits(row[2])));
    }
    if densities.iter().all(|density| density.is_finite()) {
        return Ok(Rows { y, densities });
    }
    let remedy = "Train longer, or with a smaller learning rate".into();
    Err(Error::NonFinite { what: "a likelihood".into(), step: trained.step, remedy })
}

fn check(trained: &Trained, x: &[f32], sigma: f32) -> Result<()> {
    let dimensions = trained.model.dimensions();
    let Head::Mixture(head) = &trained.model.head else {
        let problem = "a score head has no likelihood in closed form";
        return Err(Error::input("the model's head", problem, "Use a model with head = gaussian, mog or mol"));
    };
    if x.is_empty() || !x.len().is_multiple_of(dimensions) {
        let problem = format!("{} values, the model has D = {dimensions}", x.len());
        return Err(Error::input("samples", problem, "Give (N, D)"));
    }
    if !(sigma >= 0.0 && sigma.is_finite()) {
        return Err(Error::input("sigma", format!("is {sigma}"), "Give a noise level of 0 or more"));
    }
    let Some(bins) = head.bins else { return Ok(()) };
    if sigma > 0.0 {
        let problem = format!("is {sigma}, and the model gives probabilities to {} levels", bins.count);
        return Err(Error::input("sigma", problem, "Use 0"));
    }
    bins.check("samples", x)
}
