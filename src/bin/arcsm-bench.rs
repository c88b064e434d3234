//! `arcsm-bench`: how fast kernels, training steps and samplers are on this adapter.

use std::process::ExitCode;

fn main() -> ExitCode {
    arcsm::cli::arcsm_bench()
}
