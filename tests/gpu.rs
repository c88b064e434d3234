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
#[path = "gpu/model.rs"]
mod model;
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
