//! Autoregressive conditional score models on any GPU.

pub mod config;
pub mod error;
pub mod gpu;
pub mod reference;
