//! The context network, of whatever kind: x (B, D) to contexts (B, D, K), c_d from x_<d.

use super::image_nets::image_net;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::models::ar_csm::{MadeNet, MadeWorkspace, ModelConfig, Network};
use crate::nn::memory::Planned;
use crate::nn::net::{ImageNet, ImageWorkspace, StepTile};
use crate::nn::{Noise, ParamBuffer, ParamTable};
use crate::shape::SampleShape;

/// One of the kinds of context networks.
#[derive(Debug)]
pub enum ContextNet {
    /// Masked dense layers.
    Made(MadeNet),
    /// Masked convolutions.
    Image(ImageNet),
}

/// Its activations and their gradients for one batch size.
#[derive(Debug)]
pub enum ContextWorkspace {
    /// Of masked dense layers.
    Made(MadeWorkspace),
    /// Of masked convolutions.
    Image(ImageWorkspace),
}

/// Calls a method that all kinds have.
macro_rules! for_any {
    ($net:expr, $inner:ident => $call:expr) => {
        match $net {
            ContextNet::Made($inner) => $call,
            ContextNet::Image($inner) => $call,
        }
    };
}

impl ContextNet {
    /// Lays the network out and adds its parameters, all named `ctx.`, to the table, which must be empty.
    ///
    /// # Errors
    /// Settings that do not fit samples of this shape; no memory for its tables.
    pub fn new(gpu: &Gpu, config: &ModelConfig, shape: SampleShape, table: &mut ParamTable) -> Result<Self> {
        if config.network == Network::Made {
            return Ok(Self::Made(MadeNet::new(gpu, config, shape.dimensions(), table)?));
        }
        let SampleShape::Image { height, width, channels } = shape else {
            let problem = format!("{:?} needs images, the samples are {shape}", config.network).to_lowercase();
            return Err(Error::input("model.network", problem, "Use `network = \"made\"`, or give images"));
        };
        if config.network == Network::PixelCnn {
            check_halvings(config.conv.downsamplings, [height, width])?;
        }
        Ok(Self::Image(image_net(gpu, config, [height, width, channels], table)))
    }

    /// D
    pub fn dimensions(&self) -> usize {
        for_any!(self, net => net.dimensions())
    }

    /// K
    pub fn context(&self) -> usize {
        for_any!(self, net => net.context())
    }

    /// Multiply-adds of one sample that the masks leave, in a pass that computes every unit once.
    pub fn multiply_adds(&self) -> u64 {
        for_any!(self, net => net.multiply_adds())
    }

    /// Those of them that read x itself: no gradient is taken through them.
    pub fn first_multiply_adds(&self) -> u64 {
        for_any!(self, net => net.first_multiply_adds())
    }

    /// All its weights as one flat vector, for the samplers.
    pub(crate) fn window(&self, weights: &ParamBuffer) -> Tensor {
        for_any!(self, net => net.window(weights))
    }

    /// What a workspace for a batch takes; with `training`, for gradients too.
    pub fn plan(&self, batch: usize, training: bool) -> Vec<Planned> {
        for_any!(self, net => net.plan(batch, training))
    }

    /// Memory for a batch; with `training`, for gradients too.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn workspace(&self, gpu: &Gpu, batch: usize, training: bool) -> Result<ContextWorkspace, GpuError> {
        Ok(match self {
            Self::Made(net) => ContextWorkspace::Made(net.workspace(gpu, batch, training)?),
            Self::Image(net) => ContextWorkspace::Image(net.workspace(gpu, batch, training)?),
        })
    }

    /// Contexts of x (B, D), into [`ContextWorkspace::context`]; `training` names the noise that dropout belongs to, and
    /// none is dropped without.
    ///
    /// # Errors
    /// Shapes that do not fit.
    ///
    /// # Panics
    /// When the workspace belongs to another kind: a broken invariant of the caller.
    pub fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        x: &Tensor,
        workspace: &ContextWorkspace,
        training: Option<&Noise>,
    ) -> Result<(), GpuError> {
        match (self, workspace) {
            (Self::Made(net), ContextWorkspace::Made(workspace)) => net.forward(recorder, weights, x, workspace),
            (Self::Image(net), ContextWorkspace::Image(workspace)) => {
                net.forward(recorder, weights, x, workspace, training)
            }
            _ => unreachable!("a network is given its own workspace"),
        }
    }

    /// Weight gradients from [`ContextWorkspace::dcontext`], after [`ContextNet::forward`] on the same x and `training`.
    /// Overwrites `gradient`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    ///
    /// # Panics
    /// As [`ContextNet::forward`].
    pub fn backward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        x: &Tensor,
        workspace: &ContextWorkspace,
        training: Option<&Noise>,
    ) -> Result<(), GpuError> {
        match (self, workspace) {
            (Self::Made(net), ContextWorkspace::Made(workspace)) => {
                net.backward(recorder, weights, gradient, x, workspace)
            }
            (Self::Image(net), ContextWorkspace::Image(workspace)) => {
                net.backward(recorder, weights, gradient, workspace, training)
            }
            _ => unreachable!("a network is given its own workspace"),
        }
    }
}

/// What is compiled into the samplers, as numbers of their kernels' constants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepConstants {
    pub(crate) activation: u32,
    pub(crate) is_image_net: u32,
    pub(crate) residual: u32,
    pub(crate) gate: u32,
}

/// One dimension at a time, for the samplers.
impl ContextNet {
    pub(crate) fn step_constants(&self) -> StepConstants {
        match self {
            Self::Made(net) => StepConstants {
                activation: net.activation() as u32,
                residual: u32::from(net.is_residual()),
                ..StepConstants::default()
            },
            Self::Image(net) => {
                let [activation, gate] = net.activations();
                StepConstants { activation, gate, is_image_net: 1, residual: 0 }
            }
        }
    }

    /// Number of layers.
    pub(crate) fn n_layers(&self) -> usize {
        for_any!(self, net => net.n_layers())
    }

    /// Words of a sample's state before its context: x and what the network keeps.
    pub(crate) fn state_words(&self) -> usize {
        for_any!(self, net => net.state_words())
    }

    /// The layer table, appended to `tables`; gives its place.
    pub(crate) fn append_tables(&self, table: &ParamTable, tables: &mut Vec<u32>) -> u32 {
        for_any!(self, net => net.append_tables(table, tables))
    }

    /// Loop iterations of one thread for one dimension of `n_samples` samples of a workgroup, at most.
    pub(crate) fn step_iterations(&self, n_samples: u64, tile: &StepTile) -> u64 {
        for_any!(self, net => net.step_iterations(n_samples, tile))
    }
}

impl ContextWorkspace {
    /// (B, D K)
    pub fn context(&self) -> &Tensor {
        match self {
            Self::Made(workspace) => &workspace.context,
            Self::Image(workspace) => &workspace.context,
        }
    }

    /// The gradient by it, (B, D K).
    pub fn dcontext(&self) -> &Tensor {
        match self {
            Self::Made(workspace) => &workspace.dcontext,
            Self::Image(workspace) => &workspace.dcontext,
        }
    }
}

fn check_halvings(halvings: usize, [height, width]: [usize; 2]) -> Result<()> {
    if [height, width].iter().all(|side| side.is_multiple_of(1 << halvings)) {
        return Ok(());
    }
    let most = height.trailing_zeros().min(width.trailing_zeros());
    let problem = format!("{halvings} halvings do not divide {height}x{width} images");
    Err(Error::input("model.conv.downsamplings", problem, format!("Use at most {most} for these images")))
}
