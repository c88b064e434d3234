//! `arcsm sample`, and `arcsm-sample`

use std::path::PathBuf;

use serde_json::json;

use super::console::duration;
use super::inputs::axes;
use super::{Session, Task, after_help, command_line};
use crate::arrays::{HostTensor, write_npy};
use crate::config::Config;
use crate::data::{self, SampleShape};
use crate::error::{Error, Result};
use crate::files::check_writable;
use crate::picture::{self, Picture};
use crate::sample::{SampleRequest, Sampler, sample};
use crate::trained::Trained;

/// Draw samples from a model into a picture or an array
///
/// Images become a grid; points of the plane stand beside their density. The picture's text chunks hold the command,
/// the seed, the sampler and the checkpoint's fingerprint. Sample n of a seed is the same, whatever the count and the
/// batch.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm sample --checkpoint runs/digits/checkpoints/best.safetensors --count 100 --out digits.png\n  \
       arcsm sample --checkpoint C --count 10000 --npy samples.npy --seed 7\n  \
       arcsm sample --checkpoint C --out a.png --levels 0.5,0.08 --points 48\n  \
       arcsm sample --checkpoint C --out b.png --sampler langevin --steps 100 --step-size 0.2"
))]
pub(super) struct Sample {
    /// Checkpoint of the model
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// How many samples
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Picture to write
    #[arg(long, value_name = "FILE.png", required_unless_present = "npy")]
    out: Option<PathBuf>,
    /// Array to write: float32, (N, D) or (N, H, W, C)
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
    /// Seed of the samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    method: Method,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampler")]
struct Method {
    /// How each value is drawn from its conditional
    /// [default: direct for heads in closed form, else mlq]
    #[arg(long, value_enum)]
    sampler: Option<Kind>,
    /// Falling noise levels [default: from the model's noise range]; direct: the noise level of what is drawn [default: 0]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    levels: Option<Vec<f32>>,
    /// mlq: grid points a level (the first has twice as many)
    #[arg(long, value_name = "G")]
    points: Option<u32>,
    /// langevin: steps a level
    #[arg(long, value_name = "T")]
    steps: Option<u32>,
    /// langevin: step size in units of sigma^2
    #[arg(long, value_name = "E")]
    step_size: Option<f32>,
    /// Compute contexts by D whole passes instead of each unit once: slow, for comparison
    #[arg(long)]
    full_passes: bool,
    /// Samples worked on together; more need more memory
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Multi-level quadrature
    Mlq,
    /// Annealed Langevin dynamics, the paper's
    Langevin,
    /// Exact draws, for heads in closed form
    Direct,
}

impl Task for Sample {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        for path in [&self.out, &self.npy].into_iter().flatten() {
            check_writable(path)?;
        }
        self.method.refuse_unused()?;
        let gpu = session.open_gpu()?;
        let trained = Trained::load(&gpu, &self.checkpoint)?;
        let sampler = self.method.sampler(&trained.config)?;
        if self.out.is_some() && !picture::can_draw(trained.shape) {
            let problem = format!("the model has {}-dimensional points, which no picture shows", trained.shape);
            return Err(Error::input("--out", problem, "Write them with --npy FILE instead"));
        }
        let request = SampleRequest {
            sampler,
            full_passes: self.method.full_passes,
            batch: self.method.batch as usize,
            ..SampleRequest::new(&trained, self.count as usize, self.seed)
        };
        let mut progress = session.console.progress();
        let drawn = sample(&gpu, &trained, &request, &mut |share| {
            progress.show((100.0 * share) as u64, 100, || "percent".into());
        });
        progress.finish();
        let drawn = drawn?;
        self.write(&trained, &request.sampler, &drawn.values)?;

        let once = trained.model.context_net.multiply_adds();
        let (incremental, full) = (2 * once, 2 * once * trained.model.dimensions() as u64);
        let used = 2 * drawn.context_multiply_adds;
        let paths: Vec<String> =
            [&self.out, &self.npy].into_iter().flatten().map(|p| p.display().to_string()).collect();
        let text = format!(
            "{} samples in {} ({:.1} a minute), {} score evaluations a value: {}\n\
             context FLOPs a sample: {incremental} each unit once, {full} by full passes; used {used}",
            self.count,
            duration(drawn.seconds),
            60.0 * f64::from(self.count) / drawn.seconds,
            drawn.score_evaluations,
            paths.join(", "),
        );
        let object = json!({
            "files": paths,
            "count": self.count,
            "seed": self.seed,
            "sampler": describe(&request.sampler),
            "checkpoint": self.checkpoint,
            "fingerprint": trained.fingerprint,
            "seconds": drawn.seconds,
            "score_evaluations_per_value": drawn.score_evaluations,
            "context_flops_per_sample": { "incremental": incremental, "full_passes": full, "used": used },
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Sample {
    fn write(&self, trained: &Trained, sampler: &Sampler, values: &[f32]) -> Result<()> {
        if let Some(path) = &self.npy {
            let mut shape = vec![self.count as usize];
            shape.extend(axes(trained.shape));
            write_npy(path, &HostTensor::new(shape, values.to_vec()))?;
        }
        if let Some(path) = &self.out {
            let text = [
                ("Software", format!("arcsm {}", super::VERSION)),
                ("arcsm:command", command_line()),
                ("arcsm:seed", self.seed.to_string()),
                ("arcsm:sampler", describe(sampler)),
                ("arcsm:checkpoint", trained.fingerprint.clone()),
                ("arcsm:step", trained.step.to_string()),
            ];
            // Points stand beside the data, where it is on this machine; images need no neighbour.
            let config = &trained.config;
            let is_plane = matches!(trained.shape, SampleShape::Vector { .. });
            let dataset = is_plane.then(|| data::load(&config.data, config.train.seed).ok());
            let picture = Picture {
                values,
                shape: trained.shape,
                beside: dataset.as_ref().and_then(Option::as_ref),
                title: &config.data.spec,
            };
            picture.write(path, &text)?;
        }
        Ok(())
    }
}

impl Method {
    /// A flag of the other sampler would be ignored silently.
    fn refuse_unused(&self) -> Result<()> {
        let unused = match self.sampler {
            Some(Kind::Langevin | Kind::Direct) if self.points.is_some() => "--points",
            None | Some(Kind::Mlq | Kind::Direct) if self.steps.is_some() => "--steps",
            None | Some(Kind::Mlq | Kind::Direct) if self.step_size.is_some() => "--step-size",
            _ => return Ok(()),
        };
        let remedy = "Leave it out, or choose --sampler mlq|langevin";
        Err(Error::input(unused, "belongs to another sampler", remedy))
    }

    /// The same for what is known with the model: direct draws have one level and no grid.
    fn refuse_unused_by_direct(&self) -> Result<()> {
        let unused = match &self.levels {
            _ if self.points.is_some() => "--points",
            Some(levels) if levels.len() != 1 => "--levels",
            _ => return Ok(()),
        };
        let problem = "means nothing to direct draws, which have no grid and at most one noise level";
        Err(Error::input(unused, problem, "Leave it out, or give one level"))
    }

    fn sampler(&self, config: &Config) -> Result<Sampler> {
        let mut sampler = match self.sampler {
            None => Sampler::default_of(config),
            Some(Kind::Mlq) => Sampler::multilevel_default(&config.noise, config.train.objective),
            Some(Kind::Langevin) => Sampler::langevin_default(&config.noise),
            Some(Kind::Direct) => Sampler::Direct { sigma: 0.0 },
        };
        match &mut sampler {
            Sampler::MultiLevel { sigmas, points } => {
                *sigmas = self.levels.clone().unwrap_or_else(|| std::mem::take(sigmas));
                *points = self.points.unwrap_or(*points);
            }
            Sampler::Langevin { sigmas, steps, step_size } => {
                *sigmas = self.levels.clone().unwrap_or_else(|| std::mem::take(sigmas));
                *steps = self.steps.unwrap_or(*steps);
                *step_size = self.step_size.unwrap_or(*step_size);
            }
            Sampler::Direct { sigma } => {
                self.refuse_unused_by_direct()?;
                *sigma = self.levels.as_ref().map_or(*sigma, |levels| levels[0]);
            }
        }
        Ok(sampler)
    }
}

/// The sampler as flags that give it again.
fn describe(sampler: &Sampler) -> String {
    let list = |sigmas: &[f32]| sigmas.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    match sampler {
        Sampler::MultiLevel { sigmas, points } => format!("mlq --levels {} --points {points}", list(sigmas)),
        Sampler::Langevin { sigmas, steps, step_size } => {
            format!("langevin --levels {} --steps {steps} --step-size {step_size}", list(sigmas))
        }
        Sampler::Direct { sigma } => format!("direct --levels {sigma}"),
    }
}
