//! A trained model, ready to be asked: for scores here, for samples in [`crate::ask::sample`], and by [`mod@crate::ask::denoise`],
//! [`mod@crate::ask::inpaint`] and [`crate::ask::detect`].

use crate::files::safetensors::fingerprint;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::codes::Parametrisation;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::ar_csm::ArCsm;
use crate::nn::ParamBuffer;
use crate::order::Permutation;
use crate::shape::SampleShape;
use crate::standard::Standard;

/// Samples worked on together where the caller does not say.
const BATCH: usize = 64;

/// A model with its weights on the GPU.
#[derive(Debug)]
pub struct Trained {
    /// The networks.
    pub model: ArCsm,
    /// The moving average of the weights where the checkpoint has one, else the weights; in the model's order.
    pub weights: ParamBuffer,
    /// Of models for every order: the same in the data's order, which [`Trained::in_order`] needs.
    pub stored: Option<ParamBuffer>,
    /// Settings of the run that made it.
    pub config: Config,
    /// What one sample is.
    pub shape: SampleShape,
    /// Optimiser steps that were done.
    pub step: u64,
    /// Short hash of the checkpoint file.
    pub fingerprint: String,
    /// What the user should know of the file.
    pub note: Option<String>,
}

/// Noise on one value: x~ = x + sigma eps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perturbation {
    /// Noise level.
    pub sigma: f32,
    /// Standard normal number.
    pub eps: f32,
}

/// What the model says of samples, in the data's order of dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// (N, D, K)
    pub context: Vec<f32>,
    /// (N, D)
    pub x_tilde: Vec<f32>,
    /// (N, D), s = d/dx~ log p(x~_d | x_<d)
    pub score: Vec<f32>,
    /// (N, D), ds/dx~
    pub slope: Vec<f32>,
    /// sum over d of lambda (1/2 s^2 + ds/dx~), averaged over N; lambda = sigma^2, or 1 for the `plain` parametrisation.
    pub csm_loss: f64,
    /// sum over d of 1/2 (sigma s + eps)^2, averaged over N.
    pub dsm_loss: f64,
}

/// Sees the number of a set, the place of a batch's first value, and the batch's scores and slopes.
pub type SeeScores<'a> = dyn FnMut(usize, usize, &[f32], &[f32]) + 'a;

/// The checkpoint that a path names: a file, or that of the least held-out loss of a run's folder, else its last.
///
/// # Errors
/// A folder without either.
pub fn checkpoint_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let folders = [path.join("checkpoints"), path.to_owned()];
    let files = ["best", "last"].map(|name| format!("{name}.safetensors"));
    let candidates = folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        let problem = "is a folder without checkpoints/best.safetensors or last.safetensors";
        Error::input(path.display().to_string(), problem, "Give the folder of a run, or a checkpoint's file")
    })
}

impl Trained {
    /// Loads a checkpoint, or the best of a run's folder; see [`checkpoint_file`].
    ///
    /// # Errors
    /// A file that is no checkpoint or belongs to another model; a model that does not fit the adapter.
    pub fn load(gpu: &Gpu, path: &Path) -> Result<Self> {
        let path = &checkpoint_file(path)?;
        let (checkpoint, note) = Checkpoint::load_with_note(path)?;
        checkpoint.config.check()?;
        let model = ArCsm::new(gpu, &checkpoint.config.model, checkpoint.shape)?;
        let averaged = checkpoint.tensors.keys().any(|name| name.starts_with("ema."));
        let prefix = if averaged { "ema." } else { "" };
        let stored = ParamBuffer::from_tensors(gpu, "weights", model.stored_table(), &checkpoint.tensors, prefix)?;
        Ok(Self {
            weights: model.working_weights(gpu, &stored)?,
            stored: model.any_order.is_some().then_some(stored),
            model,
            config: checkpoint.config,
            shape: checkpoint.shape,
            step: checkpoint.step,
            fingerprint: fingerprint(path)?,
            note,
        })
    }

    /// What makes of the data's units those of the model; none where they are the same.
    pub fn standard(&self) -> Option<&Standard> {
        self.config.data.standard.as_ref()
    }

    /// Samples (N, D) in the data's units as the model sees them.
    ///
    /// # Errors
    /// A value that is not finite in the model's units.
    pub fn to_model(&self, x: &[f64]) -> Result<Vec<f32>> {
        let mut seen = vec![0.0; x.len()];
        match self.standard() {
            Some(standard) => standard.to_model(x, &mut seen),
            None => x.iter().zip(&mut seen).for_each(|(&x, seen)| *seen = x as f32),
        }
        let dimensions = self.model.dimensions();
        match seen.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (row, column) = (at / dimensions + 1, at % dimensions + 1);
                let problem = format!("value {} (row {row}, column {column}) is beyond what the model can take", x[at]);
                Err(Error::input("samples", problem, "Give finite values near those that it was trained on"))
            }
            None => Ok(seen),
        }
    }

    /// What the model has as (N, D) values, in the data's units.
    pub fn to_data(&self, seen: &[f32]) -> Vec<f64> {
        match self.standard() {
            Some(standard) => standard.to_data(seen),
            None => seen.iter().map(|&value| f64::from(value)).collect(),
        }
    }

    /// The same for pictures: images in the model's own range, which is that of tones from black to white.
    pub fn for_picture(&self, seen: &[f32]) -> Vec<f64> {
        match self.shape {
            SampleShape::Vector { .. } => self.to_data(seen),
            SampleShape::Image { .. } => seen.iter().map(|&value| f64::from(value)).collect(),
        }
    }

    /// The name of each dimension, `x1`, `x2` and so on where the data have none.
    pub fn column_names(&self) -> Vec<String> {
        let of_data =
            |d: usize| self.standard()?.columns.get(d).map(|column| &column.name).filter(|name| !name.is_empty());
        (0..self.model.dimensions()).map(|d| of_data(d).cloned().unwrap_or_else(|| format!("x{}", d + 1))).collect()
    }

    /// (N): log p(x) = log p(what the model sees) + this, for samples that the model sees as these values (N, D).
    pub fn log_scale(&self, seen: &[f32]) -> Vec<f64> {
        let dimensions = self.model.dimensions();
        match self.standard() {
            Some(standard) => {
                standard.to_data(seen).chunks_exact(dimensions).map(|row| standard.log_scale(row)).collect()
            }
            None => vec![0.0; seen.len() / dimensions],
        }
    }

    /// Whether the model was trained over orders, so that [`Trained::in_order`] has it in any.
    pub fn has_any_order(&self) -> bool {
        self.stored.is_some()
    }

    /// The same model in another order of the dimensions, as an ordinary model of its own.
    ///
    /// # Errors
    /// A model that was trained in one order; an order of another number of dimensions; no memory, a failed adapter.
    pub fn in_order(&self, gpu: &Gpu, order: Permutation) -> Result<Self> {
        let stored = self.stored_for(&order)?;
        let model = ArCsm { order, ..ArCsm::new(gpu, &self.config.model, self.shape)? };
        Ok(Self {
            weights: model.working_weights(gpu, &stored)?,
            stored: Some(stored),
            model,
            config: self.config.clone(),
            shape: self.shape,
            step: self.step,
            fingerprint: self.fingerprint.clone(),
            note: self.note.clone(),
        })
    }

    /// Takes a model that was trained over orders into another one, in the memory of this.
    ///
    /// # Errors
    /// As [`Trained::in_order`].
    pub fn set_order(&mut self, gpu: &Gpu, order: Permutation) -> Result<()> {
        let stored = self.stored_for(&order)?;
        let before = std::mem::replace(&mut self.model.order, order);
        let outcome = self.model.gather_weights(gpu, &stored, &self.weights);
        if outcome.is_err() {
            self.model.order = before;
        }
        Ok(outcome?)
    }

    /// The weights for every order, where the model has them and this is one.
    fn stored_for(&self, order: &Permutation) -> Result<ParamBuffer> {
        let remedy = "Use a model trained with --order any";
        let one_order = || Error::input("order", "cannot be changed: the model was trained in one order", remedy);
        let stored = self.stored.as_ref().ok_or_else(one_order)?;
        let (found, expected) = (order.dimensions().len(), self.model.dimensions());
        if found != expected {
            let problem = format!("has {found} dimensions, the model {expected}");
            return Err(Error::input("order", problem, "Give an order of all dimensions"));
        }
        Ok(stored.clone())
    }

    /// Contexts of clean x (N, D), and scores and slopes at x~ = x + sigma eps; `at` is (N, D) too.
    ///
    /// # Errors
    /// Numbers of values that do not fit the model; a failed adapter.
    pub fn scores(&self, gpu: &Gpu, x: &[f32], at: &[Perturbation]) -> Result<Scores> {
        let dimensions = self.model.dimensions();
        if x.is_empty() || !x.len().is_multiple_of(dimensions) || x.len() != at.len() {
            let problem = format!("{} values and {} perturbations, the model has D = {dimensions}", x.len(), at.len());
            return Err(Error::input("samples", problem, "Give (N, D) of each"));
        }
        let count = x.len() / dimensions;
        let batch = self.model.fitting_batch(gpu, BATCH.min(count));
        let workspace = self.model.workspace(gpu, batch, 1, false)?;
        let mut scores = Scores::with_capacity(x.len());
        let (mut csm, mut dsm) = (0.0, 0.0);
        for (x, at) in x.chunks(batch * dimensions).zip(at.chunks(batch * dimensions)) {
            let part = self.scores_of_batch(gpu, x, at, &workspace)?;
            csm += part.csm_loss;
            dsm += part.dsm_loss;
            scores.context.extend(part.context);
            scores.x_tilde.extend(part.x_tilde);
            scores.score.extend(part.score);
            scores.slope.extend(part.slope);
        }
        scores.csm_loss = csm / count as f64;
        scores.dsm_loss = dsm / count as f64;
        Ok(scores)
    }

    /// At most one batch; the losses are sums over its samples. A last batch that is not full is filled up with zeros.
    fn scores_of_batch(
        &self,
        gpu: &Gpu,
        x: &[f32],
        at: &[Perturbation],
        workspace: &crate::models::ar_csm::Workspace,
    ) -> Result<Scores> {
        let (order, width) = (&self.model.order, self.model.context_net.context());
        let used = x.len();
        self.write_rows(gpu, x, at, workspace)?;
        let mut recorder = gpu.record("scores");
        self.model.scores_of_rows(&mut recorder, &self.weights, workspace)?;
        recorder.submit()?;
        let read = gpu.begin_read(&[&workspace.score.result, workspace.context_net.context()]);
        let mut tensors = gpu.finish_read::<f32>(read)?;
        let (context, result) = (tensors.pop().unwrap_or_default(), tensors.pop().unwrap_or_default());
        let [score, slope] = self.in_data_order(&result, used);
        self.check_finite("the score", &score)?;
        self.check_finite("the slope of the score", &slope)?;
        self.check_finite("the context", &context[..used * width])?;
        let plain = self.config.model.score.parametrisation == Parametrisation::Plain;
        let (mut csm_loss, mut dsm_loss) = (0.0, 0.0);
        for ((at, &s), &ds) in at.iter().zip(&score).zip(&slope) {
            let (s, ds, sigma) = (f64::from(s), f64::from(ds), f64::from(at.sigma));
            let lambda = if plain { 1.0 } else { sigma * sigma };
            csm_loss += lambda * (0.5 * s * s + ds);
            dsm_loss += 0.5 * (sigma * s + f64::from(at.eps)).powi(2);
        }
        Ok(Scores {
            context: order.to_data(&context[..used * width], width),
            x_tilde: x.iter().zip(at).map(|(x, p)| x + p.sigma * p.eps).collect(),
            score,
            slope,
            csm_loss,
            dsm_loss,
        })
    }

    /// Scores and slopes of samples x (N, D) at several perturbations of every value, `n_sets` of them, from contexts of
    /// the clean x that are computed once. `at(set, i)` perturbs value i of the N D; `see(set, first, scores, slopes)` is
    /// shown the results for values from `first` on, whole samples in the data's order.
    ///
    /// # Errors
    /// A number of values that does not fit the model; a failed adapter.
    pub fn visit_scores(
        &self,
        gpu: &Gpu,
        x: &[f32],
        n_sets: usize,
        at: impl Fn(usize, usize) -> Perturbation,
        see: &mut SeeScores<'_>,
    ) -> Result<()> {
        let dimensions = self.model.dimensions();
        if x.is_empty() || !x.len().is_multiple_of(dimensions) {
            let problem = format!("{} values, the model has D = {dimensions}", x.len());
            return Err(Error::input("samples", problem, "Give (N, D) of them"));
        }
        let batch = self.model.fitting_batch(gpu, BATCH.min(x.len() / dimensions));
        let workspace = self.model.workspace(gpu, batch, 1, false)?;
        for (number, x) in x.chunks(batch * dimensions).enumerate() {
            let first = number * batch * dimensions;
            for set in 0..n_sets {
                let at: Vec<Perturbation> = (first..first + x.len()).map(|i| at(set, i)).collect();
                self.write_rows(gpu, x, &at, &workspace)?;
                let mut recorder = gpu.record("scores");
                match set {
                    0 => self.model.scores_of_rows(&mut recorder, &self.weights, &workspace)?,
                    _ => {
                        let context = workspace.context_net.context();
                        self.model.head.forward(&mut recorder, &self.weights, context, &workspace.score)?;
                    }
                }
                recorder.submit()?;
                let [scores, slopes] = self.in_data_order(&gpu.read(&workspace.score.result)?, x.len());
                self.check_finite("the score", &scores)?;
                self.check_finite("the slope of the score", &slopes)?;
                see(set, first, &scores, &slopes);
            }
        }
        Ok(())
    }

    /// Refuses results (N, D ...) in the data's order that are not finite.
    pub(crate) fn check_finite(&self, what: &str, values: &[f32]) -> Result<()> {
        let Some(bad) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        Err(Error::NonFinite {
            what: format!("{what}, in place {bad} of {} values,", values.len()),
            step: self.step,
            remedy:
                "Run `arcsm doctor` to see whether the adapter is to be trusted; else train longer, or with a smaller \
                     learning rate"
                    .into(),
        })
    }

    /// Samples in the model's order and their rows, filled up with zeros to the size of the workspace.
    fn write_rows(
        &self,
        gpu: &Gpu,
        x: &[f32],
        at: &[Perturbation],
        workspace: &crate::models::ar_csm::Workspace,
    ) -> Result<(), crate::gpu::GpuError> {
        let order = &self.model.order;
        let fill = |values: Vec<f32>, filler: f32| {
            let mut values = values;
            values.resize(workspace.x.elements(), filler);
            values
        };
        let x_model = fill(order.to_model(x, 1), 0.0);
        let sigma = fill(order.to_model(&at.iter().map(|p| p.sigma).collect::<Vec<_>>(), 1), 1.0);
        let eps = fill(order.to_model(&at.iter().map(|p| p.eps).collect::<Vec<_>>(), 1), 0.0);
        let rows: Vec<u32> = (0..x_model.len())
            .flat_map(|i| {
                let x_tilde = x_model[i] + sigma[i] * eps[i];
                [i as u32, x_tilde.to_bits(), sigma[i].to_bits(), eps[i].to_bits()]
            })
            .collect();
        gpu.write(&workspace.x, &x_model)?;
        gpu.write(&workspace.score.rows, &rows)
    }

    /// Scores and slopes of the first `used` rows.
    fn in_data_order(&self, result: &[f32], used: usize) -> [Vec<f32>; 2] {
        [0, 1].map(|c| {
            let column: Vec<f32> = result.chunks_exact(4).take(used).map(|row| row[c]).collect();
            self.model.order.to_data(&column, 1)
        })
    }
}

impl Scores {
    fn with_capacity(values: usize) -> Self {
        let empty = || Vec::with_capacity(values);
        Self { context: Vec::new(), x_tilde: empty(), score: empty(), slope: empty(), csm_loss: 0.0, dsm_loss: 0.0 }
    }
}
