//! `arcsm reproduce`

use std::path::PathBuf;

use super::console::duration;
use super::{Session, Task, after_help, command_line, stop_flag};
use crate::error::{Error, Result};
use crate::reproduce::{Experiment, Request, reproduce};

/// Run a named experiment: train, measure, and write tables and pictures
///
/// The folder gets report.md, report.json, pictures, and the checkpoints of all models. Training takes as many steps as fit
/// the budget at the measured speed of the adapter. Ctrl-C keeps every finished part, and the model at work; the same
/// command with --resume goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm reproduce toy-2d --out toys\n  \
       arcsm reproduce mnist --data mnist:data/mnist --out mnist --budget 120\n  \
       arcsm reproduce ood --data mnist:data/mnist --outliers idx:data/fashion/t10k-images-idx3-ubyte.gz --out ood\n  \
       arcsm reproduce scaling --out scaling\n  \
       arcsm reproduce toy-2d --out toys --resume"
))]
pub(super) struct Reproduce {
    /// Which experiment
    #[arg(value_enum, value_name = "NAME")]
    experiment: Experiment,
    /// Folder for tables, pictures and models
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Minutes for all of it [default: what gives usable numbers on two CPU cores]
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true)]
    budget: Option<f64>,
    /// Seed of data, initialisation, noise and samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images to learn, for the experiments that learn images: mnist:DIR or any data SPEC [default: digits]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// ood: data SPEC of more outliers, as often as you like
    #[arg(long, value_name = "SPEC")]
    outliers: Vec<String>,
    /// mnist: classifier whose features the Frechet distance is taken of [default: embedded, for digits and MNIST]
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// toy-2d, mnist, scaling: train only the models in whose name these words are, as often as you like: `spirals`, "made
    /// mog dsm", "100 csm"
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// Go on with the experiment in that folder
    #[arg(long)]
    resume: bool,
}

impl Task for Reproduce {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        let minutes = self.budget.unwrap_or_else(|| self.experiment.default_minutes());
        if !(minutes > 0.0 && minutes.is_finite()) {
            return Err(Error::input("--budget", format!("is {minutes}"), "Give a positive number of minutes"));
        }
        let request = Request {
            experiment: self.experiment,
            minutes,
            seed: self.seed,
            data: self.data.clone(),
            outliers: self.outliers.clone(),
            features: self.features.clone(),
            only: self.only.clone(),
            command: command_line(),
        };
        let gpu = session.open_gpu()?;
        session.console.note(&format!("budget: {}", duration(60.0 * minutes)));
        let stop = stop_flag()?;
        let mut progress = session.console.progress();
        let mut part = String::new();
        let mut observe = |now: crate::reproduce::Progress<'_>| {
            if part != now.part {
                now.part.clone_into(&mut part);
                progress.note(&format!("{part}, {} left", duration(now.seconds_left)));
            }
            progress.show((1000.0 * now.share) as u64, 1001, || {
                format!("{}  {} left", now.doing, duration(now.seconds_left))
            });
        };
        let report = reproduce(&gpu, &request, &self.out, self.resume, &stop, &mut observe);
        progress.finish();
        let report = report?;
        let text = format!("{}\nwritten to {}", report.to_markdown(), self.out.join("report.md").display());
        session.console.result(&text, &report)
    }
}
