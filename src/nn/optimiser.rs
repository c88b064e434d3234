//! Adam over a parameter table, with the moving average of the weights beside it.

use std::sync::Arc;

use crate::config::TrainConfig;
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::{Adam, AddScaled, SquareSum, SumPartials};
use crate::nn::{ParamBuffer, ParamTable, Slot};
use crate::schedule::{ema_decay, learning_rate};

/// Partial sums that each parameter adds to the squared gradient norm.
const NORM_GROUPS: usize = 64;

/// Gradient, moments and moving average; one step of them all is one submission's part.
#[derive(Debug)]
pub struct Optimiser {
    /// Where the model writes dJ/dw.
    pub gradient: ParamBuffer,
    /// Adam's first moment.
    pub first_moment: ParamBuffer,
    /// Adam's second moment.
    pub second_moment: ParamBuffer,
    /// Moving average of the weights: what samples and held-out losses are taken with.
    pub average: ParamBuffer,
    /// Of every parameter the blocks that Adam has to look at; none where all of its weights are masked out.
    blocks: Vec<Option<Tensor>>,
    /// Partial sums of the squared gradient norm, in the first column.
    norms: Tensor,
    /// Their sum, in the first word.
    squared_norm: Tensor,
}

impl Optimiser {
    /// Zero moments; the average starts at the weights.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn new(gpu: &Gpu, table: &Arc<ParamTable>, weights: &ParamBuffer) -> Result<Self, GpuError> {
        let upload = |slot: &Slot| {
            let blocks = slot.live_blocks(Adam::BLOCK_WORDS);
            (!blocks.is_empty())
                .then(|| gpu.upload(&format!("{}.blocks", slot.name), &[blocks.len()], &blocks))
                .transpose()
        };
        let optimiser = Self {
            blocks: table.slots().map(|(_, slot)| upload(slot)).collect::<Result<_, _>>()?,
            gradient: ParamBuffer::zeros(gpu, "gradient", table)?,
            first_moment: ParamBuffer::zeros(gpu, "first_moment", table)?,
            second_moment: ParamBuffer::zeros(gpu, "second_moment", table)?,
            average: ParamBuffer::zeros(gpu, "average", table)?,
            norms: gpu.tensor("gradient_norms", &[table.slots().count() * NORM_GROUPS, 4])?,
            squared_norm: gpu.tensor("squared_norm", &[4])?,
        };
        let mut recorder = gpu.record("optimiser");
        for (id, _) in table.slots() {
            recorder.copy(&weights.words(id), &optimiser.average.words(id));
        }
        recorder.submit()?;
        Ok(optimiser)
    }

    /// Takes the gradient of one of `parts` equal parts of a batch into that of the whole; the `first` one overwrites it.
    ///
    /// # Errors
    /// A dispatch over the limits.
    pub fn add_part(
        &self,
        recorder: &mut Recorder<'_>,
        part: &ParamBuffer,
        parts: usize,
        first: bool,
    ) -> Result<(), GpuError> {
        for (id, _) in part.table().slots() {
            add_scaled(recorder, &part.words(id), parts, first, &self.gradient.words(id))?;
        }
        Ok(())
    }

    /// Step number `step` (from 1) on `weights`, with the gradient as it is by then. A gradient that is not finite
    /// changes nothing.
    ///
    /// # Errors
    /// A dispatch over the limits.
    pub fn step(
        &self,
        recorder: &mut Recorder<'_>,
        config: &TrainConfig,
        step: u64,
        weights: &ParamBuffer,
    ) -> Result<(), GpuError> {
        let table = weights.table();
        for (index, (id, slot)) in table.slots().enumerate() {
            recorder.run(&SquareSum {
                n_values: slot.words() as u32,
                n_groups: NORM_GROUPS as u32,
                values: &self.gradient.words(id),
                sums: &self.norms.rows(index * NORM_GROUPS, NORM_GROUPS),
            })?;
        }
        recorder.run(&SumPartials {
            n_groups: self.norms.shape()[0] as u32,
            words: 4,
            offset: 0,
            n_sums: 4,
            partials: &self.norms,
            sums: &self.squared_norm,
        })?;
        let (beta1, beta2) = (f64::from(config.beta1), f64::from(config.beta2));
        let peak = f64::from(config.learning_rate);
        let rate = learning_rate(step, config.steps, peak, config.warmup, f64::from(config.final_rate));
        for ((id, slot), blocks) in table.slots().zip(&self.blocks) {
            let Some(blocks) = blocks else { continue };
            recorder.run(&Adam {
                n_values: slot.words() as u32,
                n_blocks: blocks.elements() as u32,
                rate: rate as f32,
                beta1: config.beta1,
                beta2: config.beta2,
                correction1: (1.0 - beta1.powf(step as f64)) as f32,
                correction2: (1.0 - beta2.powf(step as f64)) as f32,
                epsilon: config.epsilon,
                decay: if slot.is_matrix() { config.weight_decay } else { 0.0 },
                clip_norm: config.clip_norm,
                ema_decay: ema_decay(step, f64::from(config.ema)) as f32,
                gradient: &self.gradient.words(id),
                squared_norms: &self.squared_norm,
                blocks,
                value: &weights.words(id),
                first_moment: &self.first_moment.words(id),
                second_moment: &self.second_moment.words(id),
                average: &self.average.words(id),
            })?;
        }
        Ok(())
    }
}

/// sums = terms / parts, or added to what is there; both flat.
///
/// # Errors
/// A dispatch over the limits.
pub(crate) fn add_scaled(
    recorder: &mut Recorder<'_>,
    terms: &Tensor,
    parts: usize,
    first: bool,
    sums: &Tensor,
) -> Result<(), GpuError> {
    recorder.run(&AddScaled {
        n_values: sums.words() as u32,
        accumulate: u32::from(!first),
        scale: 1.0 / parts as f32,
        terms,
        sums,
    })
}
