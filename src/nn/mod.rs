//! The model as the mathematics has it: parameters, context network, score network, and both together.

mod any_order;
mod census;
mod context;
mod degrees;
mod gradient_noise;
mod head;
mod image;
mod made;
mod memory;
mod mixture_head;
mod model;
mod optimiser;
mod order;
mod params;
mod score_field;
mod score_net;
mod squares;

pub use any_order::AnyOrder;
pub(crate) use any_order::Ends;
pub use census::{check_dimensions, stored_numbers};
pub(crate) use context::StepTile;
pub use context::{ContextNet, ContextWorkspace};
pub use degrees::Degrees;
pub use gradient_noise::{GradientNoise, Scatter};
pub use head::Head;
pub use image::{ConvPass, ConvSizes, ImageNet, ImageWorkspace, Mask, Scale, Taps};
pub use made::{MadeNet, MadeWorkspace};
pub use memory::Planned;
pub use mixture_head::{Bins, MixtureHead};
pub use model::{ArCsm, Batch, Workspace};
pub use optimiser::Optimiser;
pub(crate) use optimiser::add_scaled;
pub use order::{Orders, Permutation};
pub use params::{KernelShape, ParamBuffer, ParamTable, Slot, SlotId};
pub use score_field::{FieldWorkspace, Probes, ScoreField};
pub use score_net::{Noise, ScoreNet, ScoreWorkspace};
