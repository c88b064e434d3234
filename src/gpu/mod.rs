//! GPU layer: the only part of the crate that names wgpu and naga.
//!
//! [`Gpu`] is an adapter with its device and queue, [`Tensor`] a shaped buffer, [`kernel!`](crate::kernel) declares a
//! WGSL kernel once, and [`Recorder`] strings kernels together into one submission. Everything that can go wrong comes
//! back as a [`GpuError`]: a lost device, a time-out, a validation error never panic and never pass for results.

mod adapter;
mod bindings;
mod counting;
mod device;
mod encoding;
mod error;
mod guard;
mod injection;
mod kernel;
mod pipeline;
mod pipelines;
mod profile;
mod profiler;
mod recorder;
pub mod reflect;
mod source;
mod spoil;
mod tensor;
mod texture;
mod transfer;

#[doc(hidden)]
pub use glam::UVec3;

pub use adapter::{AdapterChoice, AdapterSummary, list_adapters};
pub use counting::CountSubmission;
pub use device::{Fault, Gpu, GpuOptions, Submission};
pub use error::GpuError;
pub(crate) use guard::is_device_left;
pub use injection::{Injection, Store};
pub use kernel::{Access, Argument, Binding, ConstantGroup, Kernel, KernelSpec, Needs, Scalar, Tuning, Variant};
#[doc(hidden)]
pub use kernel::{Uniform, stem};
pub use profile::{Clock, HostSpan, Launch, Profile, Span, Track};
pub use recorder::{MAX_ITERATIONS, Recorder};
pub use source::{Form, compose};
pub(crate) use tensor::WINDOW_ALIGNMENT_WORDS;
pub use tensor::{Tensor, Word, padded_bytes, pitch};
pub use transfer::PendingRead;
