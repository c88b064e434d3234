//! Adam over a parameter table, with the moving average of the weights beside it.

use std::ops::Range;
use std::sync::Arc;

use super::squares::Squares;
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::{Adam, AddScaled, SumPartials};
use crate::nn::schedule::{ema_decay, learning_rate};
use crate::nn::{ParamBuffer, ParamTable, Slot};

/// Settings of Adam, of its learning rate over a run and of the moving average. All rates are per step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Steps in all, at whose end the cosine ends.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// The cosine ends at this share of the peak.
    pub final_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled decay of matrices (not of biases).
    pub weight_decay: f32,
    /// The gradient's global norm is clipped to this; 0 turns clipping off.
    pub clip_norm: f32,
    /// Decay of the moving average of the weights; 0 turns it off.
    pub ema: f32,
}

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
    /// Of every stretch of the buffers the blocks that Adam has to look at; none where all of its weights are masked out.
    blocks: Vec<Option<Tensor>>,
    /// Partial sums of the squared gradient norm.
    squares: Squares,
    /// Their sum, and what Adam counts.
    health: Tensor,
}

impl Optimiser {
    /// Zero moments; the average starts at the weights.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn new(gpu: &Gpu, table: &Arc<ParamTable>, weights: &ParamBuffer) -> Result<Self, GpuError> {
        let upload = |stretch: &Range<usize>| {
            let blocks = live_blocks(table, stretch);
            (!blocks.is_empty()).then(|| gpu.upload("blocks", &[blocks.len()], &blocks)).transpose()
        };
        let optimiser = Self {
            blocks: weights.ranges().iter().map(upload).collect::<Result<_, _>>()?,
            gradient: ParamBuffer::zeros(gpu, "gradient", table)?,
            first_moment: ParamBuffer::zeros(gpu, "first_moment", table)?,
            second_moment: ParamBuffer::zeros(gpu, "second_moment", table)?,
            average: ParamBuffer::zeros(gpu, "average", table)?,
            squares: Squares::new(gpu, weights)?,
            health: gpu.tensor("health", &[4])?,
        };
        let mut recorder = gpu.record("optimiser");
        weights.stretches().zip(optimiser.average.stretches()).for_each(|(from, to)| recorder.copy(&from, &to));
        recorder.submit()?;
        Ok(optimiser)
    }

    /// (4): of the last step the squared norm of the gradient, and as a word the number of weights, moments or averages that
    /// were not finite. Where the norm is not finite, that step changed nothing.
    pub fn health(&self) -> &Tensor {
        &self.health
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
        for (part, whole) in part.stretches().zip(self.gradient.stretches()) {
            add_scaled(recorder, &part, parts, first, &whole)?;
        }
        Ok(())
    }

    /// Step number `step` (from 1) on `weights`, with the gradient as it is by then. A gradient whose squared norm is not
    /// finite changes nothing; [`Optimiser::health`] tells.
    ///
    /// # Errors
    /// A dispatch over the limits.
    pub fn step(
        &self,
        recorder: &mut Recorder<'_>,
        settings: &AdamSettings,
        step: u64,
        weights: &ParamBuffer,
    ) -> Result<(), GpuError> {
        self.squares.add_up(recorder, &self.gradient)?;
        recorder.run(&SumPartials {
            n_groups: self.squares.sums.shape()[0] as u32,
            words: 4,
            offset: 0,
            n_sums: 4,
            partials: &self.squares.sums,
            sums: &self.health,
        })?;
        let (beta1, beta2) = (f64::from(settings.beta1), f64::from(settings.beta2));
        let peak = f64::from(settings.learning_rate);
        let rate = learning_rate(step, settings.steps, peak, settings.warmup, f64::from(settings.final_rate));
        for (range, blocks) in weights.ranges().iter().zip(&self.blocks) {
            let Some(blocks) = blocks else { continue };
            let window = |buffer: &ParamBuffer| buffer.stretch(range);
            recorder.run(&Adam {
                n_values: range.len() as u32,
                n_blocks: blocks.elements() as u32,
                rate: rate as f32,
                beta1: settings.beta1,
                beta2: settings.beta2,
                correction1: (1.0 - beta1.powf(step as f64)) as f32,
                correction2: (1.0 - beta2.powf(step as f64)) as f32,
                epsilon: settings.epsilon,
                decay: settings.weight_decay,
                clip_norm: settings.clip_norm,
                ema_decay: ema_decay(step, f64::from(settings.ema)) as f32,
                gradient: &window(&self.gradient),
                blocks,
                value: &window(weights),
                first_moment: &window(&self.first_moment),
                second_moment: &window(&self.second_moment),
                average: &window(&self.average),
                health: &self.health,
            })?;
        }
        Ok(())
    }
}

/// The blocks of a stretch that hold more than masked-out weights and padding, as Adam wants them: only matrices decay. Every
/// parameter starts with a block of its own.
fn live_blocks(table: &ParamTable, stretch: &Range<usize>) -> Vec<u32> {
    let slots = table.slots().map(|(_, slot)| slot).filter(|slot| stretch.contains(&slot.offset));
    let of_slot = |slot: &Slot| {
        let (first, decays) = (((slot.offset - stretch.start) / Adam::BLOCK_WORDS) as u32, slot.is_matrix());
        slot.live_blocks(Adam::BLOCK_WORDS).into_iter().map(move |block| Adam::block(first + block, decays))
    };
    slots.flat_map(of_slot).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_from_their_stretch_and_only_those_of_matrices_decay() {
        let mut table = ParamTable::default();
        // Two blocks; two of which the mask leaves the second; one.
        table.add("whole".into(), &[2, 64], None);
        table.add("masked".into(), &[2, 64], Some(vec![0, 3]));
        table.add("bias".into(), &[5], None);
        let block = Adam::block;
        assert_eq!(live_blocks(&table, &(0..264)), [block(0, true), block(1, true), block(3, true), block(4, false)]);
        assert_eq!(live_blocks(&table, &(128..264)), [block(1, true), block(2, false)]);
    }
}
