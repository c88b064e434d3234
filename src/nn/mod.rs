//! The model as the mathematics has it: parameters, context network, score network, and both together.

mod degrees;
mod made;
mod model;
mod optimiser;
mod order;
mod params;
mod score_net;

pub use degrees::Degrees;
pub use made::{MadeNet, MadeWorkspace};
pub use model::{ArCsm, Batch, Workspace};
pub use optimiser::Optimiser;
pub use order::Permutation;
pub use params::{ParamBuffer, ParamTable, Slot, SlotId};
pub use score_net::{Noise, ScoreNet, ScoreWorkspace};
