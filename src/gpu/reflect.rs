//! What naga says of the WGSL.
