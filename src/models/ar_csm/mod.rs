//! The whole model: contexts from clean x, scores of noisy x~, losses and gradients.

mod any_order;
mod census;
mod context;
mod head;
mod image_nets;
mod made;
mod mixture_head;
mod score_net;
mod settings;

pub use any_order::AnyOrder;
pub use census::{check_dimensions, stored_numbers};
pub use context::{ContextNet, ContextWorkspace};
pub use head::Head;
pub(crate) use made::Ends;
pub use made::{MadeNet, MadeWorkspace};
pub use mixture_head::{Bins, MixtureHead};
pub use score_net::{ScoreNet, ScoreWorkspace};
pub use settings::{ConvConfig, HeadKind, ModelConfig, Network, NoiseConfig, ScoreConfig};

use crate::nn::Noise;
use std::sync::Arc;

use crate::codes::Objective;
use crate::error::Result;
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::CorruptContext;
use crate::nn::memory::Planned;
use crate::nn::{ParamBuffer, ParamTable};
use crate::order::{Order, Permutation};
use crate::shape::SampleShape;

/// An autoregressive conditional score model: s_d = g(c_d, x~_d, sigma), c_d = f(x_<d).
#[derive(Debug)]
pub struct ArCsm {
    /// The context network f.
    pub context_net: ContextNet,
    /// What stands on it: the score network g, or a conditional density.
    pub head: Head,
    /// Names, shapes and places of all parameters.
    pub table: Arc<ParamTable>,
    /// Order of the dimensions.
    pub order: Permutation,
    /// Of models for every order: where these parameters come from, in whatever order.
    pub any_order: Option<AnyOrder>,
}

/// All activations for one batch size.
#[derive(Debug)]
pub struct Workspace {
    /// Samples in the model's order, (B, D).
    pub x: Tensor,
    /// What the context network sees: x, or x with augmentation.
    corrupted: Option<Tensor>,
    /// Of the context network.
    pub context_net: ContextWorkspace,
    /// Of the head.
    pub score: ScoreWorkspace,
}

/// How one batch is worked on.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Loss.
    pub objective: Objective,
    /// Ends of the data's support (weighted objective).
    pub bounds: [f32; 2],
    /// Noise on x~.
    pub noise: Noise,
    /// Standard deviation of the noise on the context network's input.
    pub context_noise: f32,
    /// Share of its inputs set to zero.
    pub context_dropout: f32,
}

impl Batch {
    fn corrupts(&self) -> bool {
        self.context_noise > 0.0 || self.context_dropout > 0.0
    }
}

impl ArCsm {
    /// Lays a model out for samples of a shape.
    ///
    /// # Errors
    /// Settings that do not fit the shape; samples of too many values; no memory for its tables.
    pub fn new(gpu: &Gpu, config: &ModelConfig, shape: SampleShape) -> Result<Self> {
        check_dimensions(shape)?;
        let mut table = ParamTable::default();
        let config = &ModelConfig { context: config.context_width(), ..config.clone() };
        let context_net = ContextNet::new(gpu, config, shape, &mut table)?;
        let head = Head::new(gpu, config, &mut table)?;
        let any_order = match (&context_net, config.order) {
            (ContextNet::Made(net), Order::Any) => Some(AnyOrder::new(gpu, net, &table)?),
            _ => None,
        };
        let order = Permutation::new(config.order, config.order_seed, shape.dimensions());
        Ok(Self { context_net, head, table: Arc::new(table), order, any_order })
    }

    /// The parameters that are learned and kept: those of [`ArCsm::table`], or those that serve every order.
    pub fn stored_table(&self) -> &Arc<ParamTable> {
        self.any_order.as_ref().map_or(&self.table, |any_order| &any_order.stored)
    }

    /// The weights that the networks work with in [`ArCsm::order`], from those that are kept: the very same where the
    /// model has one order only.
    ///
    /// # Errors
    /// No memory; a failed adapter.
    pub fn working_weights(&self, gpu: &Gpu, stored: &ParamBuffer) -> Result<ParamBuffer, GpuError> {
        if self.any_order.is_none() {
            return Ok(stored.clone());
        }
        let working = ParamBuffer::zeros(gpu, "working_weights", &self.table)?;
        self.gather_weights(gpu, stored, &working)?;
        Ok(working)
    }

    /// The same into weights that are there already.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn gather_weights(&self, gpu: &Gpu, stored: &ParamBuffer, working: &ParamBuffer) -> Result<(), GpuError> {
        let Some(any_order) = &self.any_order else { return Ok(()) };
        any_order.set(gpu, &self.order)?;
        let mut recorder = gpu.record("weights_of_order");
        any_order.gather(&mut recorder, stored, working)?;
        recorder.submit().map(drop)
    }

    /// The score network.
    ///
    /// # Errors
    /// Bad input, when the model has another head.
    pub fn score_net(&self) -> Result<&ScoreNet> {
        self.head.score_net()
    }

    /// D
    pub fn dimensions(&self) -> usize {
        self.context_net.dimensions()
    }

    /// Memory for a batch; `training` for gradients too, one row out of `row_stride` for the score network.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn workspace(&self, gpu: &Gpu, batch: usize, row_stride: usize, training: bool) -> Result<Workspace, GpuError> {
        let [x, corrupted] = self.plan_of_x(batch);
        Ok(Workspace {
            x: gpu.tensor(&x.label, &x.shape)?,
            corrupted: training.then(|| gpu.tensor(&corrupted.label, &corrupted.shape)).transpose()?,
            context_net: self.context_net.workspace(gpu, batch, training)?,
            score: self.head.workspace(gpu, batch, self.dimensions(), row_stride)?,
        })
    }

    /// What [`ArCsm::workspace`] allocates.
    pub fn plan(&self, gpu: &Gpu, batch: usize, row_stride: usize, training: bool) -> Vec<Planned> {
        let x = self.plan_of_x(batch).into_iter().take(if training { 2 } else { 1 });
        let score = self.head.plan(gpu, batch, self.dimensions(), row_stride);
        x.chain(self.context_net.plan(batch, training)).chain(score).collect()
    }

    /// As many samples of `wanted` as one workspace can hold on this adapter; at least 1.
    pub fn fitting_batch(&self, gpu: &Gpu, wanted: usize) -> usize {
        let fits = |batch: usize| {
            let plan = self.plan(gpu, batch, 1, false);
            plan.iter().all(|tensor| tensor.bytes() <= gpu.adapter().max_binding_bytes)
        };
        std::iter::successors(Some(wanted), |batch| Some(batch / 2)).find(|&n| n <= 1 || fits(n)).unwrap_or(1).max(1)
    }

    fn plan_of_x(&self, batch: usize) -> [Planned; 2] {
        ["x", "x_corrupted"].map(|label| Planned::new(label, &[batch, self.dimensions()]))
    }

    /// Loss of `workspace.x` under the batch's noise, and its gradient by every parameter: `workspace.score.loss`,
    /// `gradient`. Both are overwritten.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn loss_and_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        batch: &Batch,
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        workspace: &Workspace,
    ) -> Result<(), GpuError> {
        workspace.score.perturb(recorder, &workspace.x, &batch.noise)?;
        self.loss_and_gradient_of_rows(recorder, batch, weights, gradient, workspace)
    }

    /// The same for rows that are already in `workspace.score.rows`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn loss_and_gradient_of_rows(
        &self,
        recorder: &mut Recorder<'_>,
        batch: &Batch,
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        workspace: &Workspace,
    ) -> Result<(), GpuError> {
        let input = match &workspace.corrupted {
            Some(corrupted) if batch.corrupts() => {
                recorder.run(&CorruptContext {
                    batch: workspace.x.shape()[0] as u32,
                    dimensions: self.dimensions() as u32,
                    seed_low: batch.noise.seed as u32,
                    seed_high: (batch.noise.seed >> 32) as u32,
                    step: batch.noise.step,
                    first_sample: batch.noise.first_sample,
                    noise: batch.context_noise,
                    dropout: batch.context_dropout,
                    x: &workspace.x,
                    y: corrupted,
                })?;
                corrupted
            }
            _ => &workspace.x,
        };
        let (context_net, training) = (&workspace.context_net, Some(&batch.noise));
        self.context_net.forward(recorder, weights, input, context_net, training)?;
        self.head.loss_and_gradient(
            recorder,
            batch.objective,
            batch.bounds,
            weights,
            gradient,
            context_net.context(),
            context_net.dcontext(),
            &workspace.score,
        )?;
        self.context_net.backward(recorder, weights, gradient, input, context_net, training)
    }

    /// Scores and slopes of the rows in `workspace.score.rows`, into `workspace.score.result`, with the contexts of
    /// `workspace.x`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn scores_of_rows(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &Workspace,
    ) -> Result<(), GpuError> {
        self.context_net.forward(recorder, weights, &workspace.x, &workspace.context_net, None)?;
        self.head.forward(recorder, weights, workspace.context_net.context(), &workspace.score)
    }
}
