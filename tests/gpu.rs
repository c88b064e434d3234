//! Every kernel and the model on a real adapter (a software one will do).
//!
//! Without any adapter the tests say so aloud and pass, unless `ARCSM_REQUIRE_GPU=1` forbids skipping.

#[path = "gpu/checks.rs"]
mod checks;
#[path = "gpu/failures.rs"]
mod failures;
#[path = "gpu/golden.rs"]
mod golden;
#[path = "gpu/heads.rs"]
mod heads;
#[path = "gpu/images.rs"]
mod images;
#[path = "gpu/likelihood.rs"]
mod likelihood;
#[path = "gpu/losses.rs"]
mod losses;
#[path = "gpu/model.rs"]
mod model;
#[path = "gpu/orders.rs"]
mod orders;
#[path = "gpu/profile.rs"]
mod profile;
#[path = "gpu/samplers.rs"]
mod samplers;
#[path = "gpu/textures.rs"]
mod textures;
#[path = "gpu/training.rs"]
mod training;

use std::io::Write;
use std::sync::OnceLock;

use arcsm::gpu::{Gpu, GpuError, GpuOptions};

/// Opens an adapter of a test's own, poisoned; `None`, said aloud, where there is none.
fn open(options: GpuOptions) -> Option<Gpu> {
    match Gpu::open(GpuOptions { poison: true, ..options }) {
        Ok(gpu) => Some(gpu),
        Err(GpuError::NoAdapter) => {
            let required = std::env::var_os("ARCSM_REQUIRE_GPU").is_some_and(|value| value == "1");
            assert!(!required, "there is no GPU adapter and ARCSM_REQUIRE_GPU=1 forbids skipping");
            // Straight to the stream: what a passing test prints would be swallowed.
            writeln!(std::io::stderr(), "SKIPPED: no GPU adapter").expect("stderr is open");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The adapter that tests share which leave it as it was.
fn shared() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| open(GpuOptions::default())).as_ref()
}

/// The statistic of Kolmogorov and Smirnov, sqrt(n) times the largest distance of distribution functions: above
/// [`KOLMOGOROV`] by chance in one case of a thousand.
fn kolmogorov(mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let gap = |(i, &x): (usize, &f64)| (cdf(x) - i as f64 / n).abs().max(((i + 1) as f64 / n - cdf(x)).abs());
    values.iter().enumerate().map(gap).fold(0.0, f64::max) * n.sqrt()
}

/// Its quantile at p = 1e-3.
const KOLMOGOROV: f64 = 1.95;
