//! What families of models are built of: parameters, optimiser, memory by lifetimes, and networks as lists of layers.

mod gradient_noise;
pub(crate) mod memory;
pub mod net;
mod noise;
mod optimiser;
mod params;
pub mod schedule;
mod squares;

pub use gradient_noise::{GradientNoise, Scatter};
pub use memory::Planned;
pub(crate) use noise::HELD_OUT_STEP;
pub use noise::Noise;
pub(crate) use optimiser::add_scaled;
pub use optimiser::{AdamSettings, Optimiser};
pub use params::{KernelShape, ParamBuffer, ParamTable, Slot, SlotId};
