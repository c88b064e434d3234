//! `arcsm sample`, and `arcsm-sample`

use std::path::PathBuf;

use serde_json::json;

use super::console::duration;
use super::inputs::{TablePieces, axes, is_double};
use super::{Session, Task, after_help, command_line};
use crate::ask::picture::{self, Picture};
use crate::ask::sample::{Drawn, SampleRequest, Sampler, geometric, sample};
use crate::ask::trained::Trained;
use crate::config::Config;
use crate::data;
use crate::error::{Error, Result};
use crate::files::arrays::NpyPieces;
use crate::files::check_writable;
use crate::files::image_grid::{check_picture, tones};
use crate::gpu::Gpu;
use crate::host;
use crate::shape::SampleShape;

/// Draw samples from a model into a picture or an array
///
/// Images become a grid; points of the plane stand beside their density or data; tables become a scatter plot of every two
/// columns over the data's, with histograms. The picture's text holds the command, the seed, the sampler and the
/// checkpoint's fingerprint. Sample n of a seed is the same, whatever the count and the batch.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm sample --checkpoint runs/digits/checkpoints/best.safetensors --count 100 --out digits.png\n  \
       arcsm sample --checkpoint C --count 10000 --npy samples.npy --seed 7\n  \
       arcsm sample --checkpoint C --out a.png --levels 0.5,0.08 --points 48\n  \
       arcsm sample --checkpoint C --out b.png --sampler langevin --steps 100 --step-size 0.2\n  \
       arcsm sample --checkpoint C --out c.png --sampler ode --steps 24 --temperature 0.8 --snap 256"
))]
pub(super) struct Sample {
    /// Checkpoint of the model, or the folder of a run: its best
    #[arg(long, value_name = "FILE|RUN")]
    checkpoint: PathBuf,
    /// How many samples
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Picture to write: .png or .jpg
    #[arg(long, value_name = "FILE", required_unless_present_any = ["npy", "csv"])]
    out: Option<PathBuf>,
    /// Array to write, in the data's units: (N, D) or (N, H, W, C), float32, of standardised tables float64
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
    /// Table to write, in the data's units: one row a sample, with the names of the columns
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
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
    /// mlq: grid points a level; ode, ancestral: half of the points of the first level
    #[arg(long, value_name = "G")]
    points: Option<u32>,
    /// mlq: grid points of the first level [default: 2 G, or as many as suit the data's range]
    #[arg(long, value_name = "N")]
    first_points: Option<u32>,
    /// langevin, mala: steps a level; ode, ancestral: steps from the highest level to the lowest, in place of --levels
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// langevin, mala: step size in units of sigma^2
    #[arg(long, value_name = "E")]
    step_size: Option<f32>,
    /// Below 1 sharpens, above 1 blurs: conditionals that are Gaussian get T times the variance
    ///
    /// mlq: the density on every level's grid to the power 1/T. mala: the law of every level to the power 1/T; langevin: the
    /// same, as far as its steps are small (noise of T times the variance). ode: the density of the first level to the power
    /// 1/T; ancestral: that, and noise of T times the variance. direct: every Gaussian component with its weight to the power
    /// 1/T, exact as far as components do not overlap; refused for logistics.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Snap every value to the nearest of N equidistant levels of the data's range (256 for 8-bit images, 17 for digits)
    /// before the next one is drawn given it
    #[arg(long, value_name = "N")]
    snap: Option<u32>,
    /// Keep rows of a table that lie outside the range of the training rows by more than a twentieth of it (more, where there
    /// were few rows); else they are drawn again, and their number is said
    #[arg(long)]
    keep_outliers: bool,
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
    /// Annealed Langevin dynamics, the paper's: biased by its step size
    Langevin,
    /// Annealed Langevin dynamics with a Metropolis decision a step: without that bias
    Mala,
    /// The probability-flow ODE, by Heun steps
    Ode,
    /// Draws from the posterior of each lower level at the denoised mean
    Ancestral,
    /// Exact draws, for heads in closed form
    Direct,
}

impl Task for Sample {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        self.out.as_deref().map_or(Ok(()), check_picture)?;
        for path in [&self.npy, &self.csv].into_iter().flatten() {
            check_writable(path)?;
        }
        self.method.refuse_unused()?;
        let gpu = session.open_gpu()?;
        let trained = session.load(&gpu, &self.checkpoint)?;
        let sampler = self.method.sampler(&trained.config)?;
        if self.out.is_some() && !picture::can_draw(trained.shape) {
            let problem = format!("the model's samples are {}, which no picture shows", trained.shape);
            return Err(Error::input("--out", problem, "Write them with --npy FILE instead"));
        }
        let request = SampleRequest {
            sampler,
            full_passes: self.method.full_passes,
            temperature: self.method.temperature,
            snap: self.method.snap,
            keep_outliers: self.method.keep_outliers,
            batch: self.method.batch as usize,
            ..SampleRequest::new(&trained, self.count as usize, self.seed)
        };
        check_pieces(&trained, &request)?;
        let numbers = [request.count, trained.model.dimensions()];
        for path in [&self.npy, &self.csv].into_iter().flatten() {
            host::check_disk(path, if is_double(&trained) { 8 } else { 4 }, &numbers)?;
        }
        if self.out.is_some() {
            let numbers = [request.count.min(shown_of(trained.shape)), trained.model.dimensions()];
            host::check_fits(
                "--out",
                "its picture",
                32,
                &numbers,
                "Draw fewer, or write them with --npy FILE instead",
            )?;
        }
        let drawn = self.draw(session, &gpu, &trained, &request)?;
        let once = trained.model.context_net.multiply_adds();
        let (incremental, full) = (2 * once, 2 * once * trained.model.dimensions() as u64);
        let used = 2 * drawn.context_multiply_adds;
        let paths: Vec<String> =
            [&self.out, &self.npy, &self.csv].into_iter().flatten().map(|p| p.display().to_string()).collect();
        let cost = request.sampler.cost();
        let mut text = format!(
            "{} samples in {} ({:.1} a minute), {} score evaluations a value in {} rounds: {}\n\
             context FLOPs a sample: {incremental} each unit once, {full} by full passes; used {used}",
            self.count,
            duration(drawn.seconds),
            60.0 * f64::from(self.count) / drawn.seconds,
            cost.evaluations,
            cost.rounds,
            paths.join(", "),
        );
        if drawn.redrawn > 0 {
            let rows = if drawn.redrawn == 1 { "row" } else { "rows" };
            text += &format!("\n{} {rows} beyond the range of the training rows drawn again", drawn.redrawn);
        }
        if drawn.outside > 0 {
            session.console.warn(&format!(
                "{} samples lie outside the range of the training rows however often they are drawn: train longer, or with \
                 more data",
                drawn.outside
            ));
        }
        if !drawn.acceptance.is_empty() {
            let rates = drawn.acceptance.iter().map(|level| format!("{:.3} at {:.3}", level.rate, level.sigma));
            text += &format!("\naccepted proposals by noise level: {}", rates.collect::<Vec<_>>().join(", "));
        }
        let object = json!({
            "files": paths,
            "count": self.count,
            "seed": self.seed,
            "sampler": describe(&request),
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "seconds": drawn.seconds,
            "score_evaluations_per_value": cost.evaluations,
            "rounds_per_value": cost.rounds,
            "acceptance": drawn.acceptance,
            "drawn_again": drawn.redrawn,
            "outside": drawn.outside,
            "context_flops_per_sample": { "incremental": incremental, "full_passes": full, "used": used },
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Sample {
    /// Draws and writes piece by piece, so that memory holds for any count. Gives the numbers of all pieces, with the values
    /// of none.
    fn draw(&self, session: &Session<'_>, gpu: &Gpu, trained: &Trained, request: &SampleRequest) -> Result<Drawn> {
        let shape = [&[request.count], &axes(trained.shape)[..]].concat();
        let mut npy = self.npy.as_ref().map(|path| NpyPieces::create(path, &shape, is_double(trained))).transpose()?;
        let mut csv = self.csv.as_ref().map(|path| TablePieces::create(path, trained)).transpose()?;
        let (piece, dimensions) = (piece_of(trained, request), trained.model.dimensions());
        let shown = if self.out.is_some() { shown_of(trained.shape).min(request.count) } else { 0 };
        let mut whole = Drawn::default();
        let mut progress = session.console.progress();
        for first in (0..request.count).step_by(piece) {
            let request = SampleRequest { first, count: piece.min(request.count - first), ..request.clone() };
            let done = |share: f64| (first as f64 + share * request.count as f64) / f64::from(self.count);
            let drawn = sample(gpu, trained, &request, &mut |share| {
                progress.show((100.0 * done(share)) as u64, 100, || "percent".into());
            })?;
            let in_units = trained.to_data(&drawn.values);
            npy.as_mut().map_or(Ok(()), |npy| npy.write(&in_units))?;
            csv.as_mut().map_or(Ok(()), |csv| csv.write(&in_units))?;
            let kept = (shown.saturating_sub(first) * dimensions).min(drawn.values.len());
            whole.values.extend_from_slice(&drawn.values[..kept]);
            whole.add(&drawn, request.count as f64 / f64::from(self.count));
        }
        progress.finish();
        npy.map_or(Ok(()), NpyPieces::finish)?;
        csv.map_or(Ok(()), TablePieces::finish)?;
        self.draw_picture(trained, &describe(request), &whole.values)?;
        Ok(whole)
    }

    fn draw_picture(&self, trained: &Trained, sampler: &str, values: &[f32]) -> Result<()> {
        if let Some(path) = &self.out {
            let text = [
                ("Software", format!("arcsm {}", super::VERSION)),
                ("arcsm:command", command_line()),
                ("arcsm:seed", self.seed.to_string()),
                ("arcsm:sampler", sampler.into()),
                ("arcsm:checkpoint", trained.fingerprint.clone()),
                ("arcsm:step", trained.step.to_string()),
            ];
            // Points stand beside the data, where it is on this machine; images need no neighbour.
            let config = &trained.config;
            let is_vector = matches!(trained.shape, SampleShape::Vector { .. });
            let dataset = is_vector.then(|| data::load(&config.data, config.train.seed).ok());
            let picture = Picture {
                values: &trained.for_picture(values),
                shape: trained.shape,
                beside: dataset.as_ref().and_then(Option::as_ref),
                names: Some(&trained.column_names()),
                range: tones(config.model.score.range),
                title: &config.data.spec,
            };
            picture.write(path, &text)?;
        }
        Ok(())
    }
}

impl Method {
    /// A flag of another sampler would be ignored silently.
    fn refuse_unused(&self) -> Result<()> {
        let kind = self.sampler.unwrap_or(Kind::Mlq);
        let has_grid = matches!(kind, Kind::Mlq | Kind::Ode | Kind::Ancestral);
        let is_chain = matches!(kind, Kind::Langevin | Kind::Mala);
        let is_ladder = matches!(kind, Kind::Ode | Kind::Ancestral);
        let unused = if self.points.is_some() && !has_grid {
            "--points"
        } else if self.first_points.is_some() && !matches!(kind, Kind::Mlq) {
            "--first-points"
        } else if self.steps.is_some() && !is_chain && !is_ladder {
            "--steps"
        } else if self.step_size.is_some() && !is_chain {
            "--step-size"
        } else if self.steps.is_some() && self.levels.is_some() && is_ladder {
            return Err(Error::input("--steps", "and --levels say two things of one ladder", "Give one of them"));
        } else {
            return Ok(());
        };
        let remedy = "Leave it out, or choose the --sampler that its help names";
        Err(Error::input(unused, "belongs to another sampler", remedy))
    }

    /// The same for what is known with the model: direct draws have one level and no grid.
    fn refuse_unused_by_direct(&self) -> Result<()> {
        let unused = match &self.levels {
            _ if self.points.is_some() => "--points",
            _ if self.first_points.is_some() => "--first-points",
            Some(levels) if levels.len() != 1 => "--levels",
            _ => return Ok(()),
        };
        let problem = "means nothing to direct draws, which have no grid and at most one noise level";
        Err(Error::input(unused, problem, "Leave it out, or give one level"))
    }

    fn sampler(&self, config: &Config) -> Result<Sampler> {
        let noise = &config.noise;
        let mut sampler = match self.sampler {
            None => Sampler::default_of(config),
            Some(Kind::Mlq) => Sampler::multilevel_default(config),
            Some(Kind::Langevin) => Sampler::langevin_default(noise),
            Some(Kind::Mala) => Sampler::mala_default(noise),
            Some(Kind::Ode) => Sampler::ode_default(noise),
            Some(Kind::Ancestral) => Sampler::ancestral_default(noise),
            Some(Kind::Direct) => Sampler::Direct { sigma: 0.0 },
        };
        match &mut sampler {
            Sampler::MultiLevel { sigmas, first_points, points } => {
                *sigmas = self.levels.clone().unwrap_or_else(|| std::mem::take(sigmas));
                *first_points =
                    self.first_points.or(self.points.map(|points| points.saturating_mul(2))).unwrap_or(*first_points);
                *points = self.points.unwrap_or(*points);
            }
            Sampler::Ode { sigmas, points } | Sampler::Ancestral { sigmas, points } => {
                if let Some(steps) = self.steps {
                    *sigmas = geometric(noise.sigma_max, noise.sigma_min, steps as usize + 1);
                }
                *sigmas = self.levels.clone().unwrap_or_else(|| std::mem::take(sigmas));
                *points = self.points.unwrap_or(*points);
            }
            Sampler::Langevin { sigmas, steps, step_size } | Sampler::Mala { sigmas, steps, step_size } => {
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

/// Values that are drawn before they are written.
const PIECE_VALUES: usize = 1 << 22;

/// Samples that are drawn before they are written: whole batches, where these are smaller.
fn piece_of(trained: &Trained, request: &SampleRequest) -> usize {
    let most = (PIECE_VALUES / trained.model.dimensions()).max(1);
    if most > request.batch { most / request.batch * request.batch } else { most }
}

/// Samples that a picture shows at most: all images, as many points as can be told apart.
fn shown_of(shape: SampleShape) -> usize {
    match shape {
        SampleShape::Image { .. } => usize::MAX,
        SampleShape::Vector { .. } => 20_000,
    }
}

/// Checks what every piece asks for, and the last number of a sample.
fn check_pieces(trained: &Trained, request: &SampleRequest) -> Result<()> {
    let piece = piece_of(trained, request).min(request.count);
    SampleRequest { first: request.count - piece, count: piece, ..request.clone() }.check(trained)
}

/// The sampler as flags that give it again.
fn describe(request: &SampleRequest) -> String {
    let mut flags = request.sampler.flags();
    if request.temperature != 1.0 {
        flags += &format!(" --temperature {}", request.temperature);
    }
    if let Some(count) = request.snap {
        flags += &format!(" --snap {count}");
    }
    flags
}
