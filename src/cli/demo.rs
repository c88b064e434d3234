//! `arcsm demo`

use std::path::PathBuf;

use super::{Session, Task, after_help, stop_flag, train};
use crate::error::{Error, Result};
use crate::models::ar_csm::Network;
use crate::reproduce::demo::demo;

/// Learn handwritten digits, draw new ones, and remove noise from old ones
///
/// The 8x8 digits are embedded. Pictures and a report.json go to one folder.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm demo\n  \
       arcsm demo --out /tmp/digits --seconds 30\n  \
       arcsm demo --network made"
))]
pub(super) struct Demo {
    /// Folder for the pictures
    #[arg(long, value_name = "FOLDER", default_value = "demo-out")]
    out: PathBuf,
    /// Replace an earlier demo in that folder
    #[arg(long)]
    force: bool,
    /// Time for training
    #[arg(long, default_value_t = 90.0)]
    seconds: f64,
    /// Kind of the context network
    #[arg(long, value_enum, default_value = "gated")]
    network: Network,
}

impl Task for Demo {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        if self.seconds.is_nan() || self.seconds <= 0.0 {
            return Err(Error::input("--seconds", "must be positive", "Give a number of seconds"));
        }
        let gpu = session.open_gpu()?;
        let stop = stop_flag()?;
        let mut progress = session.console.progress();
        let report = demo(&gpu, &self.out, self.force, self.seconds, self.network, &stop, &mut |event| {
            train::show(&mut progress, &event);
        });
        progress.finish();
        let report = report?;
        let pictures: Vec<String> = report.pictures.iter().map(|path| path.display().to_string()).collect();
        let text = format!(
            "held-out loss {:.2}; denoising at sigma 0.6: {:.1} dB, {:.1} dB without\n\
             look at {}; then try: arcsm train --data mnist:DIR --out runs/mnist",
            report.training.held_out_loss,
            report.psnr_denoised,
            report.psnr_noisy,
            pictures.join(", "),
        );
        session.console.result(&text, &report)
    }
}
