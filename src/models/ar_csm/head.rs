//! What stands on the context network: a score network, or a conditional density in closed form.

use crate::codes::Objective;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::models::ar_csm::{HeadKind, MixtureHead, ModelConfig, ScoreNet, ScoreWorkspace};
use crate::nn::memory::Planned;
use crate::nn::{ParamBuffer, ParamTable};

/// From the context c_d and a value to its score, slope and, where it is known, its density.
#[derive(Debug)]
pub enum Head {
    /// A network shared by all dimensions.
    Score(ScoreNet),
    /// The context holds the parameters of a mixture.
    Mixture(MixtureHead),
}

/// Calls a method that all heads have.
macro_rules! for_any {
    ($head:expr, $inner:ident => $call:expr) => {
        match $head {
            Head::Score($inner) => $call,
            Head::Mixture($inner) => $call,
        }
    };
}

impl Head {
    /// Lays the head out and adds its parameters, if it has any of its own, to the table.
    ///
    /// # Errors
    /// No memory for its tables.
    pub fn new(gpu: &Gpu, config: &ModelConfig, table: &mut ParamTable) -> Result<Self, GpuError> {
        Ok(match config.head {
            HeadKind::Score => Self::Score(ScoreNet::new(gpu, &config.score, config.context, table)?),
            HeadKind::Gaussian | HeadKind::Mog | HeadKind::Mol => Self::Mixture(MixtureHead::new(config)),
        })
    }

    /// The score network.
    ///
    /// # Errors
    /// Bad input, for another head.
    pub fn score_net(&self) -> Result<&ScoreNet> {
        match self {
            Self::Score(net) => Ok(net),
            Self::Mixture(_) => {
                let problem = "has a density in closed form and no score network";
                Err(Error::input("the model's head", problem, "Use a model with head = \"score\" for this"))
            }
        }
    }

    /// Multiply-adds of one evaluation; a mixture multiplies no matrices.
    pub fn multiply_adds(&self) -> u64 {
        match self {
            Self::Score(net) => net.multiply_adds(),
            Self::Mixture(_) => 0,
        }
    }

    /// Memory for the rows of a batch, one row out of `row_stride`.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn workspace(
        &self,
        gpu: &Gpu,
        batch: usize,
        dimensions: usize,
        row_stride: usize,
    ) -> Result<ScoreWorkspace, GpuError> {
        for_any!(self, head => head.workspace(gpu, batch, dimensions, row_stride))
    }

    /// What [`Head::workspace`] allocates: rows, result, loss and scratch.
    pub fn plan(&self, gpu: &Gpu, batch: usize, dimensions: usize, row_stride: usize) -> [Planned; 4] {
        for_any!(self, head => head.plan(gpu, batch, dimensions, row_stride))
    }

    /// Scores and slopes of `workspace.rows` into `workspace.result`, from contexts (B, D K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        context: &Tensor,
        workspace: &ScoreWorkspace,
    ) -> Result<(), GpuError> {
        match self {
            Self::Score(net) => net.forward(recorder, weights, context, workspace),
            Self::Mixture(head) => head.forward(recorder, context, workspace),
        }
    }

    /// Loss of `workspace.rows` and its gradients: `workspace.loss`, `dcontext` (B, D K), and the head's own part of
    /// `gradient`. The loss is averaged over the batch and summed over dimensions.
    ///
    /// # Errors
    /// Shapes that do not fit.
    #[allow(clippy::too_many_arguments, reason = "the mathematics has this many quantities")]
    pub fn loss_and_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        objective: Objective,
        bounds: [f32; 2],
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        context: &Tensor,
        dcontext: &Tensor,
        workspace: &ScoreWorkspace,
    ) -> Result<(), GpuError> {
        match self {
            Self::Score(net) => {
                net.loss_and_gradient(recorder, objective, bounds, weights, gradient, context, dcontext, workspace)
            }
            Self::Mixture(head) => head.loss_and_gradient(recorder, objective, bounds, context, dcontext, workspace),
        }
    }
}
