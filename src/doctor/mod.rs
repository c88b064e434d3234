//! Self-test of an adapter: every kernel, on random data of awkward sizes, against its float64 twin.
//!
//! `arcsm doctor` and the tests run the same [`CHECKS`]. Each check names one-line faults that it is known to catch
//! (the tests plant them); open the adapter with [`GpuOptions::poison`](crate::gpu::GpuOptions) so that reads of what
//! nobody wrote and writes past a tensor's end show as well.

mod conv;
mod dense;
mod inject;
mod likelihood;
mod mixture;
mod model;
mod optimiser;
mod order;
mod random;
mod reduction;
mod sampler;
mod score;
mod score_field;
mod trial;

use serde::Serialize;

pub use self::inject::{Injected, Subject, subjects};

use crate::gpu::{Fault, Gpu, GpuError, KernelSpec};
use crate::reference::compare::Mismatch;

/// One kernel's test.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The kernel.
    pub kernel: &'static KernelSpec,
    /// Runs the kernel and compares; gives the largest error in units of its tolerance, at most 1.
    pub run: fn(&Gpu) -> Result<f64, Failure>,
    /// Mistakes that `run` catches in every variant, at least one.
    pub faults: &'static [Fault],
}

/// Why a check did not pass; `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The adapter or a compiler refused.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// Numbers lie outside their tolerance.
    #[error(transparent)]
    Differs(#[from] Mismatch),
    /// Something exact does not hold: equal bits, untouched words.
    #[error("{0}")]
    Broken(String),
}

/// Result of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// What the variant that this adapter runs needs: `Baseline` or something faster.
    pub variant: String,
    /// Whether it agrees with its twin.
    pub passed: bool,
    /// Largest error in units of its tolerance, where it passed.
    pub worst: Option<f64>,
    /// What went wrong, where it did not.
    pub message: Option<String>,
}

/// One check for every kernel of [`kernels::ALL`](crate::kernels::ALL).
pub const CHECKS: &[Check] = &[
    dense::FORWARD,
    dense::HIDDEN_FORWARD,
    dense::BACKWARD_INPUT,
    dense::HIDDEN_BACKWARD,
    dense::BACKWARD_WEIGHT,
    dense::ACTIVATION_FORWARD,
    dense::ACTIVATION_BACKWARD,
    conv::FORWARD,
    conv::BACKWARD_INPUT,
    conv::BACKWARD_WEIGHT,
    conv::GATE_FORWARD,
    conv::GATE_BACKWARD,
    conv::DROPOUT,
    reduction::COLUMN_SUM,
    reduction::SUM_PARTIALS,
    reduction::SQUARE_SUM,
    reduction::COPY_COLUMNS,
    reduction::GATHER_ROWS,
    reduction::REPACK_ROWS,
    reduction::ADD_SCALED,
    random::PERTURB_ROWS,
    random::CORRUPT_CONTEXT,
    random::RANDOM_WORDS,
    score::FORWARD,
    score::TRAIN,
    mixture::FORWARD,
    mixture::TRAIN,
    order::PERMUTE_COLUMNS,
    order::PERMUTE_ROWS,
    order::SEEN_BIAS,
    order::SEEN_BIAS_BACKWARD,
    optimiser::ADAM,
    optimiser::COUNT_NON_FINITE,
    optimiser::COUNT_SUBMISSION,
    sampler::MULTILEVEL,
    sampler::LANGEVIN,
    sampler::ODE,
    sampler::MALA,
    mixture::SAMPLE,
    likelihood::LEVEL,
    likelihood::FLOW,
    score_field::TANGENT_FORWARD,
    score_field::TANGENT_BACKWARD,
    score_field::DIAGONAL_FORWARD,
    score_field::DIAGONAL_BACKWARD,
    score_field::PROBE_DIRECTIONS,
    score_field::RESIDUAL_LOSS,
    score_field::SLICED_LOSS,
];

/// Runs every check; `progress` sees each outcome as soon as it is there.
pub fn examine(gpu: &Gpu, mut progress: impl FnMut(&Outcome)) -> Vec<Outcome> {
    let outcomes = CHECKS.iter().map(|check| {
        let outcome = check.outcome(gpu);
        progress(&outcome);
        outcome
    });
    outcomes.collect()
}

impl Check {
    /// Runs this check.
    pub fn outcome(&self, gpu: &Gpu) -> Outcome {
        let verdict = (self.run)(gpu);
        let variants: Vec<String> =
            gpu.variants(self.kernel).iter().map(|variant| format!("{:?}", variant.needs)).collect();
        Outcome {
            kernel: self.kernel.name,
            variant: variants.join(" "),
            passed: verdict.is_ok(),
            worst: verdict.as_ref().ok().copied(),
            message: verdict.err().map(|failure| failure.to_string()),
        }
    }
}

/// A fault, short enough for a list.
const fn fault(kernel: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { kernel, from, to }
}
