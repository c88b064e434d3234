//! GPU layer: the only part of the crate that names wgpu.

/// What can go wrong between the host and the adapter.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GpuError(String);
