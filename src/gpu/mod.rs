//! GPU layer: the only part of the crate that names wgpu and naga.
//!
//! [`Gpu`] is an adapter with its device and queue, [`Tensor`] a shaped buffer, [`kernel!`](crate::kernel) declares a
//! WGSL kernel once, and [`Recorder`] strings kernels together into one submission. Everything that can go wrong comes
//! back as a [`GpuError`]: a lost device, a time-out, a validation error never panic and never pass for results.

mod adapter;
mod device;
mod encoding;
mod error;
mod guard;
mod injection;
mod kernel;
mod pipeline;
mod profiler;
mod recorder;
pub mod reflect;
mod source;
mod tensor;
mod texture;
mod transfer;

#[doc(hidden)]
pub use glam::UVec3;

pub use adapter::{AdapterChoice, AdapterSummary, list_adapters};
pub(crate) use device::WINDOW_ALIGNMENT_WORDS;
pub use device::{Fault, Gpu, GpuOptions};
pub use error::GpuError;
pub use injection::{Injection, Store};
pub use kernel::{Access, Argument, Binding, ConstantGroup, Form, Kernel, KernelSpec, Needs, Scalar, Tuning, Variant};
#[doc(hidden)]
pub use kernel::{Uniform, stem};
pub use profiler::{Clock, HostSpan, Launch, Profile, Span, Track};
pub use recorder::{MAX_ITERATIONS, Recorder, Submission};
pub use source::compose;
pub use tensor::{Tensor, Word, padded_bytes, pitch};
pub use transfer::PendingRead;
