//! `arcsm train`

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;

use super::console::{Progress, duration, table};
use super::settings::{self, DataFlags, ModelFlags, NoiseFlags, TrainingFlags};
use super::{Session, Task, after_help, command_line, stop_flag};
use crate::config::Config;
use crate::data::{self, DataConfig, Dataset};
use crate::error::{Error, Result};
use crate::files::shell_word;
use crate::nn::Planned;
use crate::shape::SampleShape;
use crate::train::memory::MemoryPlan;
use crate::train::{Event, TrainPlan, TrainReport, memory_plan, train, train_on};

/// Learn a model from data
///
/// Settings come from the flags, else from --config, else from what is built in for the data; --print-config shows the
/// outcome. The run folder gets config.toml, metrics.jsonl, checkpoints/ (last and best), samples/ and a loss curve.
/// Ctrl-C finishes the step, saves, and prints the command that goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm train --data digits --out runs/digits\n  \
       arcsm train --data mnist:data/mnist --out runs/mnist --steps 8000 --row-stride 4\n  \
       arcsm train --data images:photos --size 32 --flip --broken skip --out runs/photos\n  \
       arcsm train --data toy:spirals --out runs/spirals --objective csm\n  \
       arcsm train --config mnist-pixelcnn --data mnist:data/mnist --plan\n  \
       arcsm train --data csv:table.csv --print-config > table.toml\n  \
       arcsm train --resume runs/mnist"
))]
pub(super) struct Train {
    /// Data: digits, mnist:DIR, cifar10:DIR, images:DIR, idx:FILE, npy:FILE, npz:FILE[#NAME], csv:FILE,
    /// toy:NAME or gaussian:D
    #[arg(long, value_name = "SPEC", required_unless_present_any = ["config", "resume", "print_config"])]
    data: Option<String>,
    /// Folder of the new run
    #[arg(long, value_name = "RUN", required_unless_present_any = ["resume", "print_config", "plan"], conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Settings in TOML form, or the name of a recipe: digits, digits-made, digits-any-order, mnist-made, mnist-denoiser, mnist-gated,
    /// mnist-pixelcnn, mnist-pixelcnn-5x40, cifar10-made, cifar10-gated, cifar10-pixelcnn, faces-64, toy-2d, gaussian, table, table-mixture
    #[arg(long, value_name = "FILE.toml|NAME", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with this run from its last checkpoint, bit for bit
    #[arg(long, value_name = "RUN", conflicts_with = "force")]
    resume: Option<PathBuf>,
    /// Replace the run in an existing folder
    #[arg(long)]
    force: bool,
    /// Print the settings in TOML form and do nothing
    #[arg(long)]
    print_config: bool,
    /// Print what training would take on the adapter, tensor by tensor, and do nothing
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    reading: DataFlags,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    noise: NoiseFlags,
    #[command(flatten)]
    training: TrainingFlags,
}

impl Task for Train {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        let (config, data) = self.settings()?;
        if self.print_config {
            return session.console.result(&config.to_toml(), &config);
        }
        if self.plan {
            let plan = memory_plan(&session.open_gpu()?, &config)?;
            return session.console.result(&plan_text(&plan), &plan);
        }
        let plan = TrainPlan {
            config,
            out: self.resume.clone().or_else(|| self.out.clone()).unwrap_or_default(),
            resume: self.resume.is_some(),
            force: self.force,
            command: command_line(),
            max_seconds: None,
        };
        let gpu = session.open_gpu()?;
        let stop = stop_flag()?;
        let mut progress = session.console.progress();
        let mut show = |event: Event<'_>| show(&mut progress, &event);
        let report = match data {
            Some(data) => train_on(&gpu, &plan, data, &stop, &mut show),
            None => train(&gpu, &plan, &stop, &mut show),
        };
        progress.finish();
        let report = report?;
        if report.overfit {
            session.console.warn(&format!(
                "the held-out loss rose from {:.4} after step {} to {:.4}: training samples were learned by heart; use the \
                 checkpoint `best`, which is from before that",
                report.best_held_out_loss, report.best_step, report.held_out_loss
            ));
        }
        session.console.result(&summary(&report), &report)
    }
}

impl Train {
    /// The settings, and the data where these had to be read for them.
    fn settings(&self) -> Result<(Config, Option<Dataset>)> {
        let mut config = match &self.resume {
            Some(run) => saved_settings(run)?,
            None => settings::base(self.config.as_deref(), self.data.as_deref(), &self.model)?,
        };
        let saved = config.clone();
        if let Some(spec) = self.data.as_ref().filter(|spec| **spec != config.data.spec) {
            config.data = DataConfig { spec: spec.clone(), folder: None, standard: None, ..config.data };
            if saved.data.standard.is_some() {
                // They were made of other data, as the map was.
                (config.model.score.mean, config.model.score.sd, config.model.score.range) = (None, None, None);
            }
        }
        self.reading.apply(&mut config);
        if self.resume.is_none() && config.data.folder.is_none() && config.data.has_relative_path() {
            // Settings are text, which some names of folders are not.
            config.data.folder = std::env::current_dir().ok().filter(|folder| folder.to_str().is_some());
        }
        let data = self.data_for_settings(&mut config)?;
        self.model.apply(&mut config)?;
        self.noise.apply(&mut config);
        self.training.apply(&mut config);
        config.check()?;
        let kept = |config: &Config| {
            let Config { model, train, data, .. } = config.clone();
            (model, train.seed, train.batch, data.standardise)
        };
        if self.resume.is_some() && kept(&config) != kept(&saved) {
            let problem = "a resumed run keeps its model, seed, batch size and standardisation";
            return Err(Error::input("--resume", problem, "Leave these flags out, or start a new run with --out"));
        }
        Ok((config, data))
    }

    /// Arrays tell only when they are read whether they are tables, and the recipe for tables asks for their rows.
    fn data_for_settings(&self, config: &mut Config) -> Result<Option<Dataset>> {
        let kind = self.data.as_deref().and_then(|spec| spec.split(':').next());
        if self.config.is_some() || !matches!(kind, Some("csv" | "npy" | "npz")) {
            return Ok(None);
        }
        let seed = self.training.seed.unwrap_or(config.train.seed);
        let data = match data::load(&config.data, seed) {
            // Settings can be looked at before the data are there.
            Err(_) if self.print_config => return Ok(None),
            data => data?,
        };
        if let SampleShape::Vector { .. } = data.shape {
            *config = Config { data: config.data.clone(), ..settings::of_table(&self.model, data.train.len())? };
        }
        Ok(Some(data))
    }
}

fn summary(report: &TrainReport) -> String {
    let best = shell_word(&report.best_checkpoint.to_string_lossy());
    format!(
        "{} steps in {}, training loss {:.4}, held-out loss {:.4} (best {:.4}, after step {})\n\
         checkpoints: {best} and last.safetensors beside it\n\
         draw samples: arcsm sample --checkpoint {best} --count 64 --out samples.png",
        report.steps,
        duration(report.seconds),
        report.train_loss,
        report.held_out_loss,
        report.best_held_out_loss,
        report.best_step,
    )
}

fn plan_text(plan: &MemoryPlan) -> String {
    let row = |part: &str, tensor: &Planned| {
        let shape = format!("{:?}", tensor.shape);
        [part.to_owned(), tensor.label.clone(), shape, HumanBytes(tensor.bytes()).to_string()]
    };
    let mut rows = vec![[
        "weights".to_owned(),
        "weights, gradients, moments, averages".into(),
        String::new(),
        HumanBytes(plan.weight_bytes).to_string(),
    ]];
    rows.extend(plan.training.iter().map(|tensor| row("training", tensor)));
    rows.extend(plan.validation.iter().map(|tensor| row("held-out", tensor)));
    format!(
        "{}{} in all; {} part{} of {} samples a step; a tensor may take {}",
        table(["part", "tensor", "shape", "size"], &rows),
        HumanBytes(plan.total_bytes),
        plan.parts,
        if plan.parts == 1 { "" } else { "s" },
        plan.micro_batch,
        HumanBytes(plan.largest_tensor_allowed),
    )
}

fn saved_settings(run: &Path) -> Result<Config> {
    let file = run.join("config.toml");
    if !file.is_file() {
        let problem = format!("is no run folder: it has no {}", file.display());
        return Err(Error::input(run.display().to_string(), problem, "Give the --out of an earlier `arcsm train`"));
    }
    Config::from_file(&file)
}

/// Tells an event of the training loop; `arcsm demo` shows them too.
pub(super) fn show(progress: &mut Progress, event: &Event<'_>) {
    match event {
        Event::Step { step, steps, loss, samples_per_second, seconds_left } => progress.show(*step, *steps, || {
            let left = duration(*seconds_left);
            format!("loss {loss:.4}  {samples_per_second:.0} samples/s  {left} left")
        }),
        Event::Validated { step, loss, best } => {
            let best = if *best { "  best so far" } else { "" };
            progress.note(&format!("step {step}: held-out loss {loss:.4}{best}"));
        }
        Event::Note { text } => progress.note(text),
        Event::Picture { path } => progress.note(&format!("picture: {}", path.display())),
        Event::Started { parameters, train_samples, held_out_samples, step } => progress.note(&format!(
            "{parameters} parameters, {train_samples} samples to learn from, {held_out_samples} held out, {step} steps done"
        )),
        Event::Saved { .. } => {}
    }
}
