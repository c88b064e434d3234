//! The training engine: steps, held-out losses, pictures and checkpoints of one run in its folder.
//!
//! `RUN/config.toml`, `RUN/metrics.jsonl`, `RUN/loss.png`, `RUN/checkpoints/{last,best}.safetensors`,
//! `RUN/samples/step-N.png`. Whatever ends the process, `last` is a whole checkpoint, and going on from it gives the
//! bits of a run that was never stopped.

mod folder;
pub mod memory;
pub mod metrics;
mod prepare;
mod trainer;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::folder::RunFolder;
pub(crate) use self::prepare::complete_from_data;
use self::prepare::{changed_data, check_levels, far_held_out, standardise};
pub use self::trainer::Trainer;
use self::watch::LossWatch;
pub use self::watch::Skipped;
use crate::ask::picture::{self, Picture};
use crate::ask::sample::SampleRequest;
use crate::checkpoint::{Best, Checkpoint};
use crate::config::{Config, TrainConfig};
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::files::image_grid::tones;
use crate::files::{self, shell_word};
use crate::gpu::Gpu;
use crate::models::ar_csm::ArCsm;
use crate::train::memory::MemoryPlan;
use crate::train::metrics::Metrics;

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
