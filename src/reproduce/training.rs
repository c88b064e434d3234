//! Models of an experiment: as many steps as a time allows, kept as checkpoints, gone on with after an interruption.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Part, file_stem};
use crate::ask::trained::Trained;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::data::Dataset;
use crate::error::Result;
use crate::train::{Trainer, complete_from_data};

/// Steps in which kernels compile, and then those of a first timing.
const WARM_UP: u64 = 2;
/// Steps that are timed, up to four times over, where they are quick; the fastest stretch counts.
const STRETCH: u64 = 8;
const STRETCHES: u64 = 4;
/// Share of the time that timing may take before it is cut short, and that held-out losses and checkpoints take.
const OVERHEAD: f64 = 0.05;
/// Time between two checkpoints to go on from, s.
const SAVE_EVERY: f64 = 120.0;
/// Fewest steps of a model.
const FEWEST_STEPS: u64 = 10;

/// How a model was trained; the model itself lies in its checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainedPart {
    /// Checkpoint with the moving average of the weights, relative to the experiment's folder.
    pub checkpoint: PathBuf,
    /// Optimiser steps.
    pub steps: u64,
    /// Wall time of all steps, s.
    pub seconds: f64,
    /// As in [`crate::train::TrainReport`].
    pub held_out_loss: f64,
    /// Weights and biases that the masks leave.
    pub parameters: usize,
}

impl Part<'_, '_> {
    /// Trains for about `seconds`, as many steps as were measured to fit (at most those of the settings), and keeps the
    /// model under `models/NAME.safetensors`. Interrupted, it keeps what is needed to go on.
    ///
    /// # Errors
    /// Bad settings, sizes over the adapter's limits, a failed adapter, a loss that is not finite, a full disk;
    /// [`crate::error::Error::Interrupted`].
    pub fn train(&self, name: &str, mut config: Config, data: &Dataset, seconds: f64) -> Result<TrainedPart> {
        config.check()?;
        complete_from_data(&mut config, &data.train)?;
        let context = self.context();
        let stem = file_stem(name);
        let checkpoint = PathBuf::from("models").join(format!("{stem}.safetensors"));
        let unfinished = context.out.join(format!("models/{stem}.unfinished.safetensors"));
        let kept = match unfinished.exists() {
            true => Some(Checkpoint::load(&unfinished)?),
            false => None,
        };
        let config = match &kept {
            Some(kept) => kept.config.clone(),
            None => Config { train: self.steps_that_fit(config.clone(), data, seconds)?, ..config },
        };
        let steps = config.train.steps;
        let mut trainer = Trainer::new(context.gpu, config, data, kept.as_ref())?;
        let first = trainer.trained.step;
        let (start, mut saved) = (Instant::now(), Instant::now());
        while trainer.trained.step < steps {
            let loss = trainer.step()?;
            let done = trainer.trained.step;
            if let Some((step, loss)) = loss {
                let share = step as f64 / steps as f64;
                self.progress(
                    share * seconds / self.seconds(),
                    &format!("{name}: step {step} of {steps}, loss {loss:.3}"),
                );
            }
            let stops = context.check_stop();
            if done < steps && (stops.is_err() || saved.elapsed().as_secs_f64() > SAVE_EVERY) {
                while trainer.finish_oldest()?.is_some() {}
                trainer.checkpoint()?.save(&unfinished)?;
                saved = Instant::now();
            }
            stops?;
            // The adapter may have slowed down since its speed was measured.
            if first == 0 && start.elapsed().as_secs_f64() > 1.5 * seconds {
                break;
            }
        }
        while trainer.finish_oldest()?.is_some() {}
        context.gpu.wait()?;
        let of_session = start.elapsed().as_secs_f64();
        let done = trainer.trained.step;
        let held_out_loss = trainer.held_out_loss(&data.held_out)?;
        trainer.averaged_checkpoint()?.save(&context.out.join(&checkpoint))?;
        if kept.is_some() || unfinished.exists() {
            // It has served; a failure to remove it harms nothing.
            let _ = std::fs::remove_file(&unfinished);
        }
        Ok(TrainedPart {
            checkpoint,
            steps: done,
            seconds: of_session * done as f64 / (done - first).max(1) as f64,
            held_out_loss,
            parameters: trainer.trained.model.table.count(),
        })
    }

    /// The model of an earlier [`Part::train`].
    ///
    /// # Errors
    /// As [`Trained::load`].
    pub fn load(&self, trained: &TrainedPart) -> Result<Trained> {
        Trained::load(self.context().gpu, &self.context().out.join(&trained.checkpoint))
    }

    /// The settings with as many steps as the time allows at the best speed that this adapter shows.
    fn steps_that_fit(&self, config: Config, data: &Dataset, seconds: f64) -> Result<crate::config::TrainConfig> {
        let mut train = config.train.clone();
        let mut trainer = Trainer::new(self.context().gpu, config, data, None)?;
        let start = Instant::now();
        let mut seconds_per_step = |steps: u64| -> Result<f64> {
            let start = Instant::now();
            for _ in 0..steps {
                trainer.step()?;
            }
            self.context().gpu.wait()?;
            Ok(start.elapsed().as_secs_f64() / steps as f64)
        };
        seconds_per_step(WARM_UP)?;
        let mut best = seconds_per_step(WARM_UP)?;
        for _ in 0..STRETCHES {
            if start.elapsed().as_secs_f64() < OVERHEAD * seconds {
                best = best.min(seconds_per_step(STRETCH)?);
            }
        }
        let most = ((1.0 - OVERHEAD) * seconds / best) as u64;
        train.steps = most.clamp(FEWEST_STEPS, train.steps.max(FEWEST_STEPS));
        Ok(train)
    }
}
