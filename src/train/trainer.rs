//! Steps of training: batches, losses, gradients, the optimiser and what is kept of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::watch::Skipped;
use crate::ask::trained::Trained;
use crate::checkpoint::{Best, Checkpoint};
use crate::codes::Objective;
use crate::config::Config;
use crate::data::{self, Batches, DataDigest, Dataset, Loader, Samples};
use crate::error::{Error, Result};
use crate::files::arrays::HostTensor;
use crate::gpu::{Gpu, PendingRead, Recorder, Tensor};
use crate::host;
use crate::models::ar_csm::{ArCsm, Workspace};
use crate::nn::{HELD_OUT_STEP, Noise, Optimiser, ParamBuffer, add_scaled};
use crate::order::Orders;
use crate::shape::SampleShape;
use crate::train::memory::MemoryPlan;

/// Losses are read this many steps late, so that the adapter never waits for the host.
const READ_DELAY: usize = 2;

/// Model, optimiser and place in the data: what a checkpoint holds.
pub struct Trainer<'g> {
    pub(super) gpu: &'g Gpu,
    /// The model with the moving average of its weights.
    pub trained: Trained,
    pub(super) weights: ParamBuffer,
    optimiser: Optimiser,
    /// Of models for every order.
    orders: Option<StepOrders>,
    /// For as many samples as are worked on together, as the validation's.
    workspace: Workspace,
    validation: Workspace,
    parts: Option<Parts>,
    loader: Loader,
    pub(super) digest: DataDigest,
    pub(super) best: Option<Best>,
    pub(super) pending: VecDeque<(u64, PendingRead)>,
    pub(super) skipped: Skipped,
    batch: Vec<f32>,
    pace: Pace,
}

/// What a step needs that has an order of its own.
struct StepOrders {
    orders: Orders,
    /// In the step's order.
    weights: ParamBuffer,
    gradient: ParamBuffer,
}

impl StepOrders {
    fn new(gpu: &Gpu, model: &ArCsm, config: &Config, shape: SampleShape) -> Result<Self> {
        Ok(Self {
            orders: Orders::new(config.model.order, config.model.order_seed, shape),
            weights: ParamBuffer::zeros(gpu, "step_weights", &model.table)?,
            gradient: ParamBuffer::zeros(gpu, "step_gradient", &model.table)?,
        })
    }
}

/// What a batch needs that is worked on in parts.
struct Parts {
    count: usize,
    /// Gradient of the part at work.
    gradient: ParamBuffer,
    /// (4): the loss of the whole batch in the first word.
    loss: Tensor,
}

/// How long a step takes, so that a slow adapter gets it in several submissions.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    steps: u32,
    seconds: f64,
}

impl Pace {
    /// Until the queue is full the host runs ahead of the adapter, and kernels still compile.
    const UNSETTLED: u32 = 8;

    /// Steps follow each other as fast as the adapter works, so the time between two of them is the time of one. Pictures
    /// and held-out losses come between some: their weight is small.
    fn tick(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let seconds = (now - last).as_secs_f64();
            self.steps += 1;
            self.seconds = match self.steps {
                ..=Self::UNSETTLED => seconds,
                _ => 0.9 * self.seconds + 0.1 * seconds.min(4.0 * self.seconds),
            };
        }
    }

    /// Submissions of about `budget` each; one until the pace is known.
    fn pieces(&self, budget: Duration) -> usize {
        if self.steps > Self::UNSETTLED { (self.seconds / budget.as_secs_f64()).ceil() as usize } else { 1 }
    }
}

/// The batches that the settings ask for, after so many samples.
fn batches(data: &Dataset, config: &Config, drawn: u64) -> Batches {
    let orders = Orders::new(config.model.order, config.model.order_seed, data.shape);
    let wanted = data::BatchSettings { size: config.train.batch, seed: config.train.seed, mirrored: config.data.flip };
    Batches::at(data, orders, wanted, drawn)
}

impl<'g> Trainer<'g> {
    /// Allocates everything that training needs, from scratch or from a checkpoint.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; a checkpoint of another model.
    pub fn new(gpu: &'g Gpu, config: Config, data: &Dataset, checkpoint: Option<&Checkpoint>) -> Result<Self> {
        let seed = config.train.seed;
        let prepared = [data::WAITING + 2, config.train.batch, data.shape.dimensions()];
        host::check_fits("train.batch", "the batches in waiting", 4, &prepared, "Use smaller batches")?;
        let model = ArCsm::new(gpu, &config.model, data.shape)?;
        let MemoryPlan { micro_batch, parts, .. } = MemoryPlan::of(gpu, &model, &config)?;
        let new_parts = || -> Result<Parts> {
            let gradient = ParamBuffer::zeros(gpu, "part_gradient", model.stored_table())?;
            Ok(Parts { count: parts, gradient, loss: gpu.tensor("batch_loss", &[4])? })
        };
        let load = |label: &str, prefix: &str, from: &Checkpoint| {
            ParamBuffer::from_tensors(gpu, label, model.stored_table(), &from.tensors, prefix)
        };
        let weights = match checkpoint {
            Some(checkpoint) => load("weights", "", checkpoint)?,
            None => ParamBuffer::initial(gpu, "weights", model.stored_table(), seed)?,
        };
        let mut optimiser = Optimiser::new(gpu, model.stored_table(), &weights)?;
        if let Some(checkpoint) = checkpoint {
            optimiser.first_moment = load("first_moment", "adam.m.", checkpoint)?;
            optimiser.second_moment = load("second_moment", "adam.v.", checkpoint)?;
            optimiser.average = load("average", "ema.", checkpoint)?;
        }
        let drawn = checkpoint.map_or(0, |checkpoint| checkpoint.samples_drawn);
        Ok(Self {
            gpu,
            workspace: model.workspace(gpu, micro_batch, config.train.row_stride, true)?,
            validation: model.workspace(gpu, micro_batch, 1, false)?,
            parts: if parts > 1 { Some(new_parts()?) } else { None },
            digest: data.digest()?,
            loader: Loader::start(batches(data, &config, drawn))?,
            orders: match &model.any_order {
                Some(_) => Some(StepOrders::new(gpu, &model, &config, data.shape)?),
                None => None,
            },
            best: checkpoint.and_then(|checkpoint| checkpoint.best),
            pending: VecDeque::new(),
            skipped: Skipped::default(),
            batch: vec![0.0; micro_batch * data.shape.dimensions()],
            pace: Pace::default(),
            trained: Trained {
                weights: model.working_weights(gpu, &optimiser.average)?,
                stored: model.any_order.is_some().then(|| optimiser.average.clone()),
                shape: data.shape,
                step: checkpoint.map_or(0, |checkpoint| checkpoint.step),
                fingerprint: String::new(),
                note: None,
                model,
                config,
            },
            weights,
            optimiser,
        })
    }

    /// Submits the next step. Gives an earlier step's number and loss once it is known.
    ///
    /// # Errors
    /// A failed adapter; a loss, a weight or several gradients in a row that are not finite; data that cannot be read any more.
    pub fn step(&mut self) -> Result<Option<(u64, f64)>> {
        let step = self.trained.step + 1;
        let batch = self.loader.next_batch()?;
        let loss = match &self.parts {
            None => {
                let recorder = self.record_part(step, 0, &batch, &self.optimiser.gradient)?;
                self.submit_step(step, recorder)?;
                &self.workspace.score.loss
            }
            Some(parts) => {
                self.step_in_parts(step, &batch, parts)?;
                &parts.loss
            }
        };
        let read = self.gpu.begin_read(&[loss, self.optimiser.health()]);
        self.pending.push_back((step, read));
        self.pace.tick();
        self.trained.step = step;
        if self.pending.len() > READ_DELAY { self.finish_oldest() } else { Ok(None) }
    }

    /// The gradient of the samples from `first_sample` on, as many as the workspace holds.
    fn record_part(&self, step: u64, first_sample: usize, x: &[f32], gradient: &ParamBuffer) -> Result<Recorder<'g>> {
        self.gpu.write(&self.workspace.x, x)?;
        let batch = self.trained.config.batch_of_step(step, first_sample);
        let mut recorder = self.gpu.record("training_step");
        let model = &self.trained.model;
        match (&model.any_order, &self.orders) {
            (Some(any_order), Some(StepOrders { orders, weights, gradient: of_order })) => {
                any_order.set(self.gpu, &orders.of_step(step))?;
                any_order.gather(&mut recorder, &self.weights, weights)?;
                model.loss_and_gradient(&mut recorder, &batch, weights, of_order, &self.workspace)?;
                any_order.scatter(&mut recorder, of_order, gradient)?;
            }
            _ => model.loss_and_gradient(&mut recorder, &batch, &self.weights, gradient, &self.workspace)?,
        }
        Ok(recorder)
    }

    /// A step whose batch is worked on part by part; the parts' gradients are added up in order.
    fn step_in_parts(&self, step: u64, batch: &[f32], parts: &Parts) -> Result<()> {
        let part_values = self.workspace.x.elements();
        for (part, x) in batch.chunks(part_values).enumerate() {
            let first_sample = part * self.workspace.x.shape()[0];
            let mut recorder = self.record_part(step, first_sample, x, &parts.gradient)?;
            self.optimiser.add_part(&mut recorder, &parts.gradient, parts.count, part == 0)?;
            add_scaled(&mut recorder, &self.workspace.score.loss, parts.count, part == 0, &parts.loss)?;
            if part + 1 == parts.count {
                self.submit_step(step, recorder)?;
            } else {
                recorder.submit_in_pieces(self.pace.pieces(self.gpu.budget()))?;
            }
        }
        Ok(())
    }

    /// Appends the optimiser's step and submits.
    fn submit_step(&self, step: u64, mut recorder: Recorder<'g>) -> Result<()> {
        self.optimiser.step(&mut recorder, &self.trained.config.train.adam(), step, &self.weights)?;
        recorder.submit_in_pieces(self.pace.pieces(self.gpu.budget()))?;
        Ok(())
    }

    /// Waits for the loss of the oldest step that is still under way.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn finish_oldest(&mut self) -> Result<Option<(u64, f64)>> {
        let Some((step, read)) = self.pending.pop_front() else { return Ok(None) };
        let words = self.gpu.finish_read::<u32>(read)?;
        let [loss, squared_norm] = [&words[0], &words[1]].map(|words| f32::from_bits(words[0]));
        let not_finite = |what: String| {
            let remedy =
                "The last checkpoint is kept; resume it with a smaller learning rate or with clip_norm = 1".into();
            Error::NonFinite { what, step, remedy }
        };
        if !loss.is_finite() {
            return Err(not_finite("the training loss".into()));
        }
        if words[1][1] > 0 {
            return Err(not_finite("a weight, its average or one of its moments".into()));
        }
        self.skipped.take(step, squared_norm)?;
        Ok(Some((step, f64::from(loss))))
    }

    /// Steps of this session that changed nothing, as their gradient was not finite.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Takes the averaged weights as they are by now into [`Trainer::trained`]. Only models for every order need it: the
    /// others share them.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn refresh(&self) -> Result<()> {
        Ok(self.trained.model.gather_weights(self.gpu, &self.optimiser.average, &self.trained.weights)?)
    }

    /// Loss of held-out samples under noise that is always the same: dsm for csm and dsm, else the objective itself. Models
    /// for every order are asked in the natural one.
    ///
    /// # Errors
    /// A failed adapter, or a loss that is not finite.
    pub fn held_out_loss(&mut self, samples: &Samples) -> Result<f64> {
        self.refresh()?;
        let config = &self.trained.config;
        let count = match config.train.validate_samples {
            0 => samples.len(),
            limit => limit.min(samples.len()),
        };
        let mut sum = 0.0;
        let batch = self.validation.x.shape()[0];
        for first in (0..count).step_by(batch) {
            let used = batch.min(count - first);
            // The last batch is filled up with its first sample, which is not counted again.
            let indices: Vec<usize> = (0..batch).map(|i| first + if i < used { i } else { 0 }).collect();
            samples.gather(&indices, &mut self.batch)?;
            sum += self.held_out_batch(first as u32, used)?;
        }
        let loss = sum / count as f64;
        if !loss.is_finite() {
            let remedy = "The last checkpoint is kept; resume it with a smaller learning rate".into();
            return Err(Error::NonFinite { what: "the held-out loss".into(), step: self.trained.step, remedy });
        }
        Ok(loss)
    }

    fn held_out_batch(&self, first_sample: u32, used: usize) -> Result<f64> {
        let (config, model, workspace) = (&self.trained.config, &self.trained.model, &self.validation);
        self.gpu.write(&workspace.x, &model.order.to_model(&self.batch, 1))?;
        let noise = Noise { step: HELD_OUT_STEP, first_sample, ..config.noise_of_step(0) };
        let mut recorder = self.gpu.record("held_out_loss");
        workspace.score.perturb(&mut recorder, &workspace.x, &noise)?;
        model.scores_of_rows(&mut recorder, &self.trained.weights, workspace)?;
        recorder.submit()?;
        let read = self.gpu.begin_read(&[&workspace.score.rows, &workspace.score.result]);
        let words = self.gpu.finish_read::<u32>(read)?;
        let rows = words[0].chunks_exact(4).zip(words[1].chunks_exact(4)).take(used * model.dimensions());
        Ok(rows.map(|(row, result)| row_loss(config, row, result)).sum())
    }

    /// Everything that is needed to go on.
    ///
    /// # Errors
    /// A failed adapter, or weights that are not finite.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let tensors = self.unchecked_tensors()?;
        if let Some((name, _)) = tensors.iter().find(|(_, tensor)| tensor.values.iter().any(|v| !v.is_finite())) {
            let remedy = "The last checkpoint is kept; resume it with a smaller learning rate".into();
            return Err(Error::NonFinite { what: format!("tensor {name}"), step: self.trained.step, remedy });
        }
        Ok(self.checkpoint_of(tensors))
    }

    /// Weights, averages and moments as they are.
    pub(crate) fn unchecked_tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut tensors = BTreeMap::new();
        self.weights.save_into(self.gpu, "", &mut tensors)?;
        self.optimiser.average.save_into(self.gpu, "ema.", &mut tensors)?;
        self.optimiser.first_moment.save_into(self.gpu, "adam.m.", &mut tensors)?;
        self.optimiser.second_moment.save_into(self.gpu, "adam.v.", &mut tensors)?;
        Ok(tensors)
    }

    /// The moving average alone, under the weights' plain names.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn averaged_checkpoint(&self) -> Result<Checkpoint> {
        let mut tensors = BTreeMap::new();
        self.optimiser.average.save_into(self.gpu, "", &mut tensors)?;
        Ok(self.checkpoint_of(tensors))
    }

    fn checkpoint_of(&self, tensors: BTreeMap<String, HostTensor>) -> Checkpoint {
        Checkpoint {
            config: self.trained.config.clone(),
            step: self.trained.step,
            samples_drawn: self.loader.position(),
            shape: self.trained.shape,
            data: Some(self.digest),
            best: self.best,
            tensors,
        }
    }
}

/// Loss of one row from the words of (index, x~, sigma, eps) and (score, slope, log density), in f64.
fn row_loss(config: &Config, row: &[u32], result: &[u32]) -> f64 {
    let float = |word: u32| f64::from(f32::from_bits(word));
    let (x, sigma, eps) = (float(row[1]), float(row[2]), float(row[3]));
    let (score, slope) = (float(result[0]), float(result[1]));
    match config.train.objective {
        Objective::Csm | Objective::Dsm => 0.5 * (sigma * score + eps).powi(2),
        Objective::Plain => 0.5 * score * score + slope,
        Objective::Weighted => {
            let [low, high] = config.train.bounds.map(f64::from);
            let centre = 0.5 * (low + high);
            let (weight, weight_slope) = (0.5 * (high - low) - (x - centre).abs(), -(x - centre).signum());
            weight * (0.5 * score * score + slope) + weight_slope * score
        }
        Objective::Ml => -float(result[2]),
    }
}
