//! `arcsm-sample`: draw samples from a checkpoint into a PNG file.

use std::process::ExitCode;

fn main() -> ExitCode {
    arcsm::cli::arcsm_sample()
}
