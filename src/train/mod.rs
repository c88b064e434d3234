//! The training engine: steps, held-out losses, pictures and checkpoints of one run in its folder.
//!
//! `RUN/config.toml`, `RUN/metrics.jsonl`, `RUN/loss.png`, `RUN/checkpoints/{last,best}.safetensors`,
//! `RUN/samples/step-N.png`. Whatever ends the process, `last` is a whole checkpoint, and going on from it gives the
//! bits of a run that was never stopped.

mod folder;
pub mod memory;
pub mod metrics;
mod watch;

use crate::nn::HELD_OUT_STEP;
use crate::nn::Noise;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::folder::RunFolder;
use self::watch::LossWatch;
pub use self::watch::Skipped;
use crate::ask::picture::{self, Picture};
use crate::ask::sample::SampleRequest;
use crate::ask::trained::Trained;
use crate::checkpoint::{Best, Checkpoint};
use crate::codes::Objective;
use crate::config::{Config, TrainConfig};
use crate::data::{self, Batches, DataDigest, Dataset, Loader, Samples, Statistics};
use crate::error::{Error, Result};
use crate::files::arrays::HostTensor;
use crate::files::image_grid::tones;
use crate::files::{self, shell_word};
use crate::gpu::{Gpu, PendingRead, Recorder, Tensor};
use crate::host;
use crate::models::ar_csm::{ArCsm, MixtureHead, Workspace};
use crate::nn::{Optimiser, ParamBuffer, add_scaled};
use crate::order::Orders;
use crate::shape::SampleShape;
use crate::standard::Standardise;
use crate::train::memory::MemoryPlan;
use crate::train::metrics::Metrics;

/// Losses are read this many steps late, so that the adapter never waits for the host.
const READ_DELAY: usize = 2;

/// How far from the middle, in units of the middle's width, samples are looked for where columns are standardised robustly.
const ROBUST_REACH: f32 = 12.0;
/// How far beyond the range of the training rows a held-out one may lie without a word, in units of that range.
const FAR: f64 = 0.5;
/// Fewer training samples than these are told.
const FEW: usize = 20;
/// Steps between two held-out losses at least and at most where the data decide.
const LEAST_BETWEEN_VALIDATIONS: u64 = 20;
const MOST_BETWEEN_VALIDATIONS: u64 = 500;

/// Whether a held-out loss is worse than the least by more than the chance of a few steps: a fiftieth, or a hundredth of a
/// nat for each dimension.
fn is_overfit(last: f64, least: f64, dimensions: usize) -> bool {
    last - least > (0.02 * least.abs()).max(0.01 * dimensions as f64)
}

/// What to train, and where.
#[derive(Debug, Clone)]
pub struct TrainPlan {
    /// Settings.
    pub config: Config,
    /// Folder of the run.
    pub out: PathBuf,
    /// Go on from the folder's last checkpoint.
    pub resume: bool,
    /// Start afresh in a folder that holds a run already.
    pub force: bool,
    /// The command, for pictures' text and the hint how to go on.
    pub command: String,
    /// End the run when its steps have taken this long, s, even if the last one is not reached.
    pub max_seconds: Option<f64>,
}

/// What happens during a run.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The data were read, and there is something to know about that.
    Note {
        /// One sentence.
        text: &'a str,
    },
    /// Everything is allocated.
    Started {
        /// Weights and biases that the masks leave.
        parameters: usize,
        /// Training samples.
        train_samples: usize,
        /// Held-out samples.
        held_out_samples: usize,
        /// Steps that are done already.
        step: u64,
    },
    /// A step is done; its loss comes a little late.
    Step {
        /// Number of the step, from 1.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Its loss.
        loss: f64,
        /// Training speed since the start.
        samples_per_second: f64,
        /// At that speed.
        seconds_left: f64,
    },
    /// A held-out loss was taken.
    Validated {
        /// After this step.
        step: u64,
        /// Its value.
        loss: f64,
        /// Whether it is the least so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// After this step.
        step: u64,
        /// Its file.
        path: &'a Path,
    },
    /// A picture was written.
    Picture {
        /// Its file.
        path: &'a Path,
    },
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct TrainReport {
    /// Steps that were done.
    pub steps: u64,
    /// Mean training loss of the last hundred steps.
    pub train_loss: f64,
    /// Held-out loss at the end: dsm where the objective is csm or dsm, else the objective itself; nats for maximum likelihood.
    pub held_out_loss: f64,
    /// Least held-out loss.
    pub best_held_out_loss: f64,
    /// The step that it was taken after.
    pub best_step: u64,
    /// Whether the last held-out loss is clearly worse than the least: training samples are learned by heart.
    pub overfit: bool,
    /// Whether training ended before its last step, as the held-out loss got no better.
    pub stopped_early: bool,
    /// Steps of this session that changed nothing, as their gradient was not finite.
    pub skipped_steps: u64,
    /// Wall time of this session, s.
    pub seconds: f64,
    /// Wall time of one step, pictures and held-out losses left out, s.
    pub seconds_per_step: f64,
    /// Last checkpoint.
    #[serde(serialize_with = "files::lossy")]
    pub checkpoint: PathBuf,
    /// The weights of the least held-out loss.
    #[serde(serialize_with = "files::lossy")]
    pub best_checkpoint: PathBuf,
    /// Pictures of this session.
    #[serde(serialize_with = "files::lossy_each")]
    pub pictures: Vec<PathBuf>,
}

/// Trains until the last step or until `stop` is set.
///
/// # Errors
/// Bad settings or data, a folder that holds a run already, sizes over the adapter's limits, a failed adapter, a loss
/// that is not finite, a full disk; [`Error::Interrupted`] with the hint how to go on when `stop` was set.
pub fn train(
    gpu: &Gpu,
    plan: &TrainPlan,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<TrainReport> {
    plan.config.check()?;
    let folder = RunFolder::open(plan)?;
    let data = data::load(&plan.config.data, plan.config.train.seed)?;
    train_in(gpu, plan, folder, data, stop, observe)
}

/// The same with data in hand, in their own units; `plan.config.data` is kept as the name for them.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    gpu: &Gpu,
    plan: &TrainPlan,
    data: Dataset,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<TrainReport> {
    plan.config.check()?;
    train_in(gpu, plan, RunFolder::open(plan)?, data, stop, observe)
}

/// The same in a folder that was found fit.
fn train_in(
    gpu: &Gpu,
    plan: &TrainPlan,
    mut folder: RunFolder,
    data: Dataset,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<TrainReport> {
    let mut config = plan.config.clone();
    // A run that was killed before its first checkpoint has nothing to go on from.
    let (last, unproven) = match plan.resume && folder.last().exists() {
        true => Checkpoint::load_with_note(&folder.last()).map(|(last, note)| (Some(last), note))?,
        false => (None, None),
    };
    let (data, notes) = match &last {
        // What the model saw decides, whatever the settings say by now.
        Some(last) => {
            config.data.standard.clone_from(&last.config.data.standard);
            (data.standardised(config.data.standard.as_ref()), Vec::new())
        }
        None => standardise(&mut config, data)?,
    };
    complete_from_data(&mut config, &data.train)?;
    let far = far_held_out(&config, &data)?;
    let anew = (plan.resume && last.is_none()).then(|| "the run has no checkpoint yet: it starts anew".to_owned());
    let few = (data.train.len() < FEW).then(|| {
        format!("only {} samples to learn from: what is learned of them says little of others", data.train.len())
    });
    for text in data.note.iter().chain(&notes).chain(&few).chain(&far).chain(&anew).chain(&unproven) {
        observe(Event::Note { text });
    }
    check_levels(&config, &data)?;
    let checkpoint = last.map(|last| folder.check_belongs(last, &config, data.shape)).transpose()?;
    let mut trainer = Trainer::new(gpu, config, &data, checkpoint.as_ref())?;
    let changed = checkpoint.as_ref().and_then(|last| changed_data(last.data?, trainer.digest));
    for text in folder.take(plan)?.iter().chain(&changed) {
        observe(Event::Note { text });
    }
    if plan.force && !plan.resume {
        folder.remove_run()?;
    }
    for part in ["", "checkpoints", "samples"] {
        files::remove_unfinished(&folder.root.join(part))?;
    }
    folder.write_config(&trainer.trained.config)?;
    let metrics = Metrics::open(&folder.root.join("metrics.jsonl"), trainer.trained.step)?;
    let watch = LossWatch::new(metrics.first_train_loss());
    let session = Session {
        plan,
        folder,
        data: &data,
        metrics,
        pictures: Vec::new(),
        clock: Clock::start(),
        saves: Saves::start(),
        watch,
        best: None,
    };
    session.run(&mut trainer, stop, observe)
}

/// What training with these settings will take on the adapter.
///
/// # Errors
/// Bad settings or data; a model too large for the adapter, with the numbers.
pub fn memory_plan(gpu: &Gpu, config: &Config) -> Result<MemoryPlan> {
    config.check()?;
    let data = data::load(&config.data, config.train.seed)?;
    MemoryPlan::of(gpu, &ArCsm::new(gpu, &config.model, data.shape)?, config)
}

/// What there is to say of held-out rows of a table that no training row resembles: their losses say nothing of the model.
fn far_held_out(config: &Config, data: &Dataset) -> Result<Option<String>> {
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
fn changed_data(then: DataDigest, now: DataDigest) -> Option<String> {
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
fn standardise(config: &mut Config, data: Dataset) -> Result<(Dataset, Vec<String>)> {
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
fn standardisation(config: &Config, shape: SampleShape) -> Standardise {
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
fn check_levels(config: &Config, data: &Dataset) -> Result<()> {
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

/// Model, optimiser and place in the data: what a checkpoint holds.
pub struct Trainer<'g> {
    gpu: &'g Gpu,
    /// The model with the moving average of its weights.
    pub trained: Trained,
    weights: ParamBuffer,
    optimiser: Optimiser,
    /// Of models for every order.
    orders: Option<StepOrders>,
    /// For as many samples as are worked on together, as the validation's.
    workspace: Workspace,
    validation: Workspace,
    parts: Option<Parts>,
    loader: Loader,
    digest: DataDigest,
    best: Option<Best>,
    pending: VecDeque<(u64, PendingRead)>,
    skipped: Skipped,
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
    let wanted = data::Wanted { size: config.train.batch, seed: config.train.seed, mirrored: config.data.flip };
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

/// When the last checkpoint was written, and how long that took.
struct Saves {
    last: Instant,
    took: Duration,
}

impl Saves {
    /// By the clock, this much work may be lost.
    const INTERVAL: Duration = Duration::from_secs(30);
    /// By the clock, training takes this many times as long as saving, so that it loses a fiftieth of its time at most.
    const TIMES_AS_LONG: u32 = 50;

    fn start() -> Self {
        Self { last: Instant::now(), took: Duration::ZERO }
    }

    /// Whether a checkpoint is to follow this step.
    fn is_due(&self, step: u64, every: u64) -> bool {
        match every {
            0 => self.last.elapsed() >= Self::INTERVAL.max(Self::TIMES_AS_LONG * self.took),
            every => step.is_multiple_of(every),
        }
    }
}

/// Time spent on steps, apart from what interrupts them.
struct Clock {
    start: Instant,
    paused: f64,
    steps: u64,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), paused: 0.0, steps: 0 }
    }

    /// Runs something that is not training.
    fn pause<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.paused += start.elapsed().as_secs_f64();
        result
    }

    /// Time of all steps so far.
    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64() - self.paused
    }

    fn seconds_per_step(&self) -> f64 {
        self.seconds() / self.steps.max(1) as f64
    }
}

/// One call of [`train`]: the loop and what it leaves in the folder.
struct Session<'a> {
    plan: &'a TrainPlan,
    folder: RunFolder,
    data: &'a Dataset,
    metrics: Metrics,
    pictures: Vec<PathBuf>,
    clock: Clock,
    saves: Saves,
    watch: LossWatch,
    /// The averaged weights of the least held-out loss, until the next checkpoint is written.
    best: Option<Checkpoint>,
}

impl Session<'_> {
    fn run(
        mut self,
        trainer: &mut Trainer<'_>,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<TrainReport> {
        let report = self.steps(trainer, stop, observe);
        if report.is_err() {
            // The best weights so far survive a loss that is not finite. Where they cannot be written, the first error says more.
            self.folder.save_best(self.best.take()).ok();
        }
        report
    }

    fn steps(
        &mut self,
        trainer: &mut Trainer<'_>,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<TrainReport> {
        let train = trainer.trained.config.train.clone();
        observe(Event::Started {
            parameters: trainer.weights.table().count(),
            train_samples: self.data.train.len(),
            held_out_samples: self.data.held_out.len(),
            step: trainer.trained.step,
        });
        let due = |step: u64, every: u64| every > 0 && step.is_multiple_of(every);
        let validate_every = self.validate_every(&train);
        let mut stopped_early = false;
        while trainer.trained.step < train.steps
            && !stop.load(Ordering::Relaxed)
            && !self.is_out_of_time()
            && !stopped_early
        {
            let loss = trainer.step()?;
            self.note(trainer, loss, observe)?;
            let step = trainer.trained.step;
            if due(step, validate_every) && step < train.steps {
                self.validate(trainer, observe)?;
                stopped_early = self.has_no_patience_left(trainer, validate_every, observe);
            }
            if self.saves.is_due(step, train.checkpoint_every) && step < train.steps {
                self.drain(trainer, observe)?;
                // What may be lost already must not replace the last good checkpoint.
                if !self.watch.is_suspicious() {
                    self.save(trainer, observe)?;
                }
            }
            if due(step, train.sample_every) && step < train.steps {
                self.draw(trainer, observe)?;
            }
        }
        self.drain(trainer, observe)?;
        if trainer.trained.step < train.steps && !stopped_early && stop.load(Ordering::Relaxed) {
            self.save(trainer, observe)?;
            let out = shell_word(&self.plan.out.to_string_lossy());
            let hint = format!("step {} is saved. Go on with: arcsm train --resume {out}", trainer.trained.step);
            return Err(Error::Interrupted(hint));
        }
        let held_out_loss = self.validate(trainer, observe)?;
        self.save(trainer, observe)?;
        self.draw(trainer, observe)?;
        let best = trainer.best.unwrap_or(Best { loss: held_out_loss, step: trainer.trained.step });
        Ok(TrainReport {
            steps: trainer.trained.step,
            train_loss: self.metrics.recent_train_loss(),
            held_out_loss,
            best_held_out_loss: best.loss,
            best_step: best.step,
            overfit: is_overfit(held_out_loss, best.loss, self.data.shape.dimensions()),
            stopped_early,
            skipped_steps: trainer.skipped.steps,
            seconds: self.clock.start.elapsed().as_secs_f64(),
            seconds_per_step: self.clock.seconds_per_step(),
            checkpoint: self.folder.last(),
            best_checkpoint: self.folder.best(),
            pictures: std::mem::take(&mut self.pictures),
        })
    }

    fn note(
        &mut self,
        trainer: &Trainer<'_>,
        loss: Option<(u64, f64)>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let Some((step, loss)) = loss else { return Ok(()) };
        self.clock.steps += 1;
        self.metrics.train(step, loss)?;
        self.watch.take(step, loss)?;
        if let Some(text) = trainer.skipped.note(step) {
            observe(Event::Note { text: &text });
        }
        let train = &trainer.trained.config.train;
        let seconds_per_step = self.clock.seconds_per_step();
        observe(Event::Step {
            step,
            steps: train.steps,
            loss,
            samples_per_second: train.batch as f64 / seconds_per_step,
            seconds_left: (train.steps - step) as f64 * seconds_per_step,
        });
        Ok(())
    }

    /// Steps between two held-out losses. One of them takes about as long as a forward pass of its samples, which is a third
    /// of what a step takes for each of its own.
    fn validate_every(&self, train: &TrainConfig) -> u64 {
        if train.validate_every > 0 {
            return train.validate_every;
        }
        let held_out = match train.validate_samples {
            0 => self.data.held_out.len(),
            most => most.min(self.data.held_out.len()),
        };
        let epoch = self.data.train.len().div_ceil(train.batch);
        let affordable = (20 * held_out.max(train.batch)).div_ceil(3 * train.batch);
        (epoch.max(affordable) as u64).clamp(LEAST_BETWEEN_VALIDATIONS, MOST_BETWEEN_VALIDATIONS)
    }

    /// Whether the last held-out losses were all no better than the least; then it is said.
    fn has_no_patience_left(
        &self,
        trainer: &Trainer<'_>,
        validate_every: u64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let (patience, step) = (trainer.trained.config.train.patience, trainer.trained.step);
        let Some(best) =
            trainer.best.filter(|best| patience > 0 && step - best.step >= patience.saturating_mul(validate_every))
        else {
            return false;
        };
        let text = format!(
            "training ends early: no held-out loss since step {} was below its {:.4} (--patience {patience})",
            best.step, best.loss
        );
        observe(Event::Note { text: &text });
        true
    }

    fn is_out_of_time(&self) -> bool {
        self.plan.max_seconds.is_some_and(|most| self.clock.seconds() >= most)
    }

    /// Waits for the losses of all steps made so far.
    fn drain(&mut self, trainer: &mut Trainer<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        while !trainer.pending.is_empty() {
            let loss = trainer.finish_oldest()?;
            self.note(trainer, loss, observe)?;
        }
        Ok(())
    }

    fn validate(&mut self, trainer: &mut Trainer<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<f64> {
        self.drain(trainer, observe)?;
        let loss = self.clock.pause(|| trainer.held_out_loss(&self.data.held_out))?;
        let step = trainer.trained.step;
        let best = trainer.best.is_none_or(|best| loss < best.loss);
        self.metrics.held_out(step, loss)?;
        observe(Event::Validated { step, loss, best });
        if best {
            trainer.best = Some(Best { loss, step });
            self.best = Some(self.clock.pause(|| trainer.averaged_checkpoint())?);
        }
        Ok(loss)
    }

    /// Writes the best weights, where there are new ones, and what is needed to go on. In this order, as the latter holds the
    /// least loss: after a crash between the two, a resumed run comes to these weights again.
    fn save(&mut self, trainer: &mut Trainer<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.drain(trainer, observe)?;
        self.metrics.flush()?;
        let is_lost = !self.folder.holds_run();
        let path = self.folder.last();
        let started = Instant::now();
        self.clock.pause(|| {
            self.folder.save_best(self.best.take())?;
            trainer.checkpoint()?.save(&path)
        })?;
        if is_lost {
            self.folder.write_config(&trainer.trained.config)?;
            let out = self.plan.out.display();
            let text = format!(
                "the folder {out} was removed while it was trained in; step {} is saved in a new one, the losses before \
                                it are lost. Go on with: arcsm train --resume {}",
                trainer.trained.step,
                shell_word(&out.to_string())
            );
            return Err(Error::Failed(text));
        }
        self.saves = Saves { last: Instant::now(), took: started.elapsed() };
        observe(Event::Saved { step: trainer.trained.step, path: &path });
        Ok(())
    }

    /// A picture of samples, and the loss curve so far.
    fn draw(&mut self, trainer: &mut Trainer<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        self.drain(trainer, observe)?;
        let step = trainer.trained.step;
        let samples = self.folder.root.join(format!("samples/step-{step}.png"));
        let curve = self.folder.root.join("loss.png");
        let text = [("arcsm:command", self.plan.command.clone()), ("arcsm:step", step.to_string())];
        let (data, gpu) = (self.data, trainer.gpu);
        trainer.refresh()?;
        let mut written = Vec::new();
        let started = Instant::now();
        if picture::can_draw(data.shape) {
            let request = SampleRequest::new(
                &trainer.trained,
                picture::natural_count(data.shape),
                trainer.trained.config.train.seed,
            );
            let drawn = crate::ask::sample::sample(gpu, &trainer.trained, &request, &mut |_| {})?;
            let picture = Picture {
                values: &trainer.trained.for_picture(&drawn.values),
                shape: data.shape,
                beside: Some(data),
                names: Some(&trainer.trained.column_names()),
                range: tones(trainer.trained.config.model.score.range),
                title: &data.name,
            };
            picture.write(&samples, &text)?;
            written.push(samples);
        }
        self.metrics.plot(&curve, &data.name, &text)?;
        written.push(curve);
        self.clock.paused += started.elapsed().as_secs_f64();
        for path in written {
            observe(Event::Picture { path: &path });
            if !self.pictures.contains(&path) {
                self.pictures.push(path);
            }
        }
        Ok(())
    }
}
