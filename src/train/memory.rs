//! What training takes on the adapter, known before the first step, and into how many parts a batch has to be cut for it.

use indicatif::HumanBytes;
use serde::Serialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::host::free_memory;
use crate::models::ar_csm::ArCsm;
use crate::nn::Planned;

/// Copies of the weights in training: themselves, gradient, two moments, moving average.
const WEIGHT_COPIES: u64 = 5;

/// A batch is cut into this many times as many parts as are needed, at most, so that they are equal.
const MOST_ADDED_PARTS: usize = 4;

/// Samples worked on together at most: grids have 65,535 workgroups in a direction, some of which own 4 samples each.
const MOST_TOGETHER: usize = 1 << 18;

/// The plan of one training run.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryPlan {
    /// Samples worked on together.
    pub micro_batch: usize,
    /// Parts of a batch, whose gradients are added up.
    pub parts: usize,
    /// Bytes of the weights, their gradients, moments and averages.
    pub weight_bytes: u64,
    /// Activations and their gradients.
    pub training: Vec<Planned>,
    /// Activations for held-out losses.
    pub validation: Vec<Planned>,
    /// Of everything.
    pub total_bytes: u64,
    /// The adapter's limit for a single tensor.
    pub largest_tensor_allowed: u64,
}

impl MemoryPlan {
    /// The plan with the fewest parts that fits the adapter's limits and `train.memory`; of `train.micro_batch` samples
    /// each where that is set.
    ///
    /// # Errors
    /// A micro-batch that does not divide the batch, a batch that cannot be divided well; a model too large even for single samples, with the numbers.
    pub fn of(gpu: &Gpu, model: &ArCsm, config: &Config) -> Result<Self> {
        let batch = config.train.batch;
        model.stored_table().check_for(gpu, "weights")?;
        if let Some(micro_batch) = config.train.micro_batch {
            if !batch.is_multiple_of(micro_batch) {
                let problem = format!("{micro_batch} does not divide the batch of {batch}");
                return Err(Error::input("train.micro_batch", problem, "Use a divisor of train.batch"));
            }
            return Self::with_parts(gpu, model, config, micro_batch).check(gpu, config);
        }
        let plan = |parts: usize| Self::with_parts(gpu, model, config, batch.div_ceil(parts));
        let fits = |parts: usize| plan(parts).check(gpu, config).is_ok();
        // The fewest parts of about equal size that fit; smaller parts need less.
        let fewest = first_that_holds(batch, fits);
        let Some(fewest) = fewest else { return plan(batch).check(gpu, config) };
        let divisor = (fewest..=batch).find(|parts| batch.is_multiple_of(*parts)).unwrap_or(batch);
        if divisor > MOST_ADDED_PARTS * fewest {
            let near = batch.div_ceil(fewest) * fewest;
            let problem = format!(
                "{batch} samples do not fit {} at once, and {batch} has no divisor that cuts them into equal parts of a good \
                 size (at most {})",
                gpu.adapter().name,
                batch.div_ceil(fewest)
            );
            return Err(Error::input("train.batch", problem, format!("Use {near}, or smaller batches")));
        }
        Self::with_parts(gpu, model, config, batch / divisor).check(gpu, config)
    }

    fn with_parts(gpu: &Gpu, model: &ArCsm, config: &Config, micro_batch: usize) -> Self {
        let parts = config.train.batch.div_ceil(micro_batch);
        let training = model.plan(gpu, micro_batch, config.train.row_stride, true);
        let validation = model.plan(gpu, micro_batch, 1, false);
        let stored = (WEIGHT_COPIES + u64::from(parts > 1)) * model.stored_table().words() as u64;
        // In every order: weights and gradient of the step's order, and the average in the natural one.
        let working = if model.any_order.is_some() { 3 * model.table.words() as u64 } else { 0 };
        let weight_bytes = 4 * (stored + working);
        let activations: u64 = training.iter().chain(&validation).map(Planned::bytes).sum();
        Self {
            micro_batch,
            parts,
            weight_bytes,
            total_bytes: weight_bytes + activations,
            training,
            validation,
            largest_tensor_allowed: gpu.adapter().max_binding_bytes,
        }
    }

    fn check(self, gpu: &Gpu, config: &Config) -> Result<Self> {
        let of = |what: &str| format!("{what}, with {} of {} samples at a time", self.micro_batch, config.train.batch);
        if self.micro_batch > MOST_TOGETHER {
            let problem = of(&format!("the grids of kernels have places for {MOST_TOGETHER}"));
            return Err(Error::input("train.batch", problem, "Use smaller batches or a smaller train.micro_batch"));
        }
        let tensors = self.training.iter().chain(&self.validation);
        let largest = tensors.max_by_key(|tensor| tensor.bytes()).expect("a plan has tensors");
        if largest.bytes() > self.largest_tensor_allowed {
            let problem = of(&format!(
                "tensor `{}` {:?} takes {}, {} allows {}",
                largest.label,
                largest.shape,
                HumanBytes(largest.bytes()),
                gpu.adapter().name,
                HumanBytes(self.largest_tensor_allowed)
            ));
            return Err(Error::input("train.batch", problem, "Use smaller batches or a smaller model"));
        }
        // Software adapters compute in the memory of this machine.
        let host = gpu.adapter().software.then(|| free_memory() / 5 * 4);
        if let Some(limit) = host.filter(|limit| self.total_bytes > *limit) {
            let problem = of(&format!(
                "training takes {}, {} of memory are free for this software adapter",
                HumanBytes(self.total_bytes),
                HumanBytes(limit)
            ));
            return Err(Error::input("train.batch", problem, "Use smaller batches or a smaller model"));
        }
        let limit = config.train.memory.map(|mebibytes| mebibytes << 20);
        if limit.is_some_and(|limit| self.total_bytes > limit) {
            let problem = of(&format!(
                "training takes {}, {} allowed",
                HumanBytes(self.total_bytes),
                HumanBytes(limit.unwrap_or_default())
            ));
            return Err(Error::input("train.memory", problem, "Allow more, or use a smaller model"));
        }
        Ok(self)
    }
}

/// The least number up to `most` for which something holds that goes on to hold for all larger ones.
fn first_that_holds(most: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low + (high - low) / 2;
        (low, high) = if holds(middle) { (low, middle) } else { (middle + 1, high) };
    }
    holds(low).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_all_that_hold_is_found() {
        assert_eq!(first_that_holds(100, |n| n >= 37), Some(37));
        assert_eq!((first_that_holds(100, |_| true), first_that_holds(100, |_| false)), (Some(1), None));
        assert_eq!((first_that_holds(1, |n| n == 1), first_that_holds(7, |n| n == 7)), (Some(1), Some(7)));
    }
}
