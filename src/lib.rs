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
pub mod metrics;
pub mod nn;
pub mod picture;
pub mod plot;
pub mod random;
pub mod reference;
pub mod sample;
pub mod schedule;
pub mod train;
pub mod trained;
