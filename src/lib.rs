//! Autoregressive conditional score models (AR-CSM; Meng, Yu, Song, Song, Ermon, "Autoregressive Score Matching",
//! NeurIPS 2020) as a GPU compute engine with handwritten WGSL shaders, on any Vulkan, Metal or DX12 adapter.
//!
//! # The mathematics
//!
//! A density is a product of one-dimensional conditionals, p(x) = prod_d p(x_d | x_<d), and each is learned by its score
//!
//! ```text
//! s_d(x_<d, x_d)  ~  d/dx_d log p(x_d | x_<d)
//! J = E sum_d [ 1/2 s_d^2 + ds_d/dx_d ]                      composite score matching: no normalising constant
//! ```
//!
//! A *context network* gives c = f(x), c_d from x_<d alone: masked dense layers for any data, masked convolutions for
//! images. A small *score network* shared by all dimensions gives
//! s_d = g(c_d, x~_d, sigma) for x~_d = x_d + sigma eps. As c_d does not depend on x_d, the slope ds_d/dx~_d is that of
//! the small network alone: a tangent carried beside every value gives it for all d at once,
//!
//! ```text
//! z = W h + b,  t = W h'   ->   h = phi(z),  h' = phi'(z) t                  forward
//! dz = dh phi'(z) + dh' phi''(z) t,   dt = dh' phi'(z)                       backward
//! dW += dz h_in^T + dt h'_in^T,   dh_in = W^T dz,   dh'_in = W^T dt
//! ```
//!
//! For comparison, [`models::score_field`] has the losses that learn the score of a whole vector.
//!
//! In place of the score network, a context can hold the parameters of a mixture, whose density, score and slope are in
//! closed form at every noise level: maximum likelihood and score matching on equal terms.
//!
//! Samples are drawn dimension after dimension, each from its own conditional. Hidden units are sorted by degree, and a
//! unit of degree m is final once x_1 .. x_m are known; a convolution is computed at each position as soon as the pixels
//! before it are. All dimensions together cost one pass of the context network.
//!
//! A masked dense network can be trained over orders of the dimensions: one set of weights, from which the ordinary network
//! of any order is gathered. What is known then comes first, and what is missing is drawn given all of it ([`mod@ask::inpaint`]).
//!
//! # The house
//!
//! ```text
//! bin, cli  ->  reproduce  ->  doctor, bench  ->  train  ->  ask  ->  models  ->  nn  ->  kernels  ->  gpu     reference
//! talking       experiments    judging           loops      asking   families   layers  vocabulary  wgpu      f64 twins
//! used by all: error, host, codes, shape, order, standard, numbers, files; by those left of nn: data
//! ```
//!
//! A layer uses only what stands to its right, no two files use each other, and only [`gpu`] names wgpu and naga:
//! `tests/architecture.rs` reads the sources and holds it. `docs/architecture.md` shows the way of a batch and of a sample.
//!
//! # Ten lines
//!
//! ```no_run
//! use std::{path::Path, sync::atomic::AtomicBool};
//! use arcsm::ask::{sample, trained::Trained};
//! use arcsm::{config::Config, gpu::{Gpu, GpuOptions}, train};
//!
//! # fn main() -> arcsm::error::Result<()> {
//! let gpu = Gpu::open(GpuOptions::default())?;
//! let config = Config::from_file(Path::new("configs/digits.toml"))?;
//! let out = "runs/digits".into();
//! let plan = train::TrainPlan { config, out, resume: false, force: false, command: String::new(), max_seconds: None };
//! let report = train::train(&gpu, &plan, &AtomicBool::new(false), &mut |_| {})?;
//! let trained = Trained::load(&gpu, &report.checkpoint)?;
//! let request = sample::SampleRequest::new(&trained, 64, 0);
//! let drawn = sample::sample(&gpu, &trained, &request, &mut |_| {})?;
//! println!("{} values in {:.1} s", drawn.values.len(), drawn.seconds);
//! # Ok(())
//! # }
//! ```

// What these macros cannot write they panic about: a closed stderr or a full log would end a run.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod ask;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod codes;
pub mod config;
pub mod data;
pub mod doctor;
pub mod error;
pub mod files;
pub mod gpu;
pub mod host;
pub mod kernels;
pub mod models;
pub mod nn;
pub mod numbers;
pub mod order;
pub mod reference;
pub mod reproduce;
pub mod shape;
pub mod standard;
pub mod train;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
