//! What the random numbers of a batch are named by.

/// Step number of the noise on held-out samples: always the same, and never that of a training step.
pub(crate) const HELD_OUT_STEP: u32 = u32::MAX;

/// What a batch of noisy rows is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Smallest level.
    pub sigma_min: f32,
    /// Largest level.
    pub sigma_max: f32,
    /// Whether there is noise at all.
    pub enabled: bool,
    /// Seed of the run.
    pub seed: u64,
    /// Step, for noise that changes with it.
    pub step: u32,
    /// Number of the first sample of the batch.
    pub first_sample: u32,
}
