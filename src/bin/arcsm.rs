//! `arcsm`: train, sample and check autoregressive conditional score models.

use std::process::ExitCode;

fn main() -> ExitCode {
    arcsm::cli::arcsm()
}
