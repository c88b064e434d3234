//! Autoregressive conditional score models on any GPU.

pub mod arrays;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod error;
pub mod files;
pub mod gpu;
pub mod image_grid;
pub mod kernels;
pub mod nn;
pub mod plot;
pub mod random;
pub mod reference;
