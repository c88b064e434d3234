//! `arcsm inpaint`

use std::path::PathBuf;

use serde_json::json;

use super::console::duration;
use super::inputs::{Asked, Wanted, axes, load, load_file, read_finite, write_samples};
use super::{Session, Task, after_help, command_line};
use crate::ask::inpaint::{InpaintRequest, Mask, inpaint, mean_squared_error, write_picture};
use crate::ask::sample::given::Given;
use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::files::check_writable;
use crate::files::image_grid::{check_picture, tones};
use crate::shape::SampleShape;

/// Fill in missing parts of samples, several times each
///
/// Where everything missing comes last in the model's order (the lower part of an image, usually), it is drawn given the
/// rest directly. A model trained with --order any is taken in an order for which this holds, whatever the mask. With other
/// models and masks, particles are drawn side by side and weighed by the density of the known values that they come to: the
/// more --particles, the better a completion fits what comes after it. The picture has a row for each
/// sample: as it was, what is given of it (the missing part in blue), and the completions.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm inpaint --checkpoint runs/mnist/checkpoints/best.safetensors --mask bottom --out filled.png\n  \
       arcsm inpaint --checkpoint C --mask right --particles 64 --count 4 --completions 5 --out filled.png\n  \
       arcsm inpaint --checkpoint C --input x.npy --mask m.npy --npy filled.npy --completions 1"
))]
pub(super) struct Inpaint {
    /// Checkpoint of the model, or the folder of a run: its best
    #[arg(long, value_name = "FILE|RUN")]
    checkpoint: PathBuf,
    /// Samples: an array (N, D) or (N, H, W, C), or any file of `arcsm train --data`; what the mask names is not looked at
    #[arg(long, value_name = "X.npy", conflicts_with_all = ["data", "count"])]
    input: Option<PathBuf>,
    /// Data that lose a part, in the order of their file [default: the held-out part of those that the model was trained on]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// What is missing: top, bottom, left, right, middle, random:SHARE; of tables, columns by name (a,b); or an array of bool or numbers that is not zero
    /// there, of one sample's shape or of all samples'
    #[arg(long, value_name = "PART|COLUMNS|M.npy")]
    mask: String,
    /// Completions of each sample
    #[arg(long, value_name = "R", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    completions: u32,
    /// Particles of each completion, where something known comes after something missing
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=Given::MOST_PARTICLES as i64))]
    particles: u32,
    /// Seed of the completions and of a random mask
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Picture to write: .png or .jpg
    #[arg(long, value_name = "FILE", required_unless_present = "npy")]
    out: Option<PathBuf>,
    /// Array of completions to write: (N, R, D) or (N, R, H, W, C), float32, of standardised tables float64
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
}

impl Task for Inpaint {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        self.out.as_deref().map_or(Ok(()), check_picture)?;
        self.npy.as_deref().map_or(Ok(()), check_writable)?;
        let gpu = session.open_gpu()?;
        let trained = session.load(&gpu, &self.checkpoint)?;
        if let (Some(path), SampleShape::Vector { .. }) = (&self.out, trained.shape) {
            let problem = format!("shows images, the model has points of D = {}", trained.shape);
            return Err(Error::input(path.display().to_string(), problem, "Write an array with --npy FILE instead"));
        }
        let asked = self.samples(session, &trained)?;
        let (x, count) = (&asked.x, asked.count(&trained));
        let mask = self.mask(&trained, count)?;
        let (completions, particles) = (self.completions as usize, self.particles as usize);
        let request = InpaintRequest { completions, particles, seed: self.seed };
        let mut progress = session.console.progress();
        let inpainted = inpaint(&gpu, &trained, x, &mask, &request, &mut |share| {
            progress.show((100.0 * share) as u64, 100, || "percent".into());
        });
        progress.finish();
        let inpainted = inpainted?;
        if let Some(path) = &self.npy {
            let values = with_known(&asked, &mask, &trained.to_data(&inpainted.values), trained.model.dimensions());
            write_samples(path, &trained, &[count, completions], &values)?;
        }
        if let Some(path) = &self.out {
            let text = [
                ("Software", format!("arcsm {}", super::VERSION)),
                ("arcsm:command", command_line()),
                ("arcsm:seed", self.seed.to_string()),
                ("arcsm:checkpoint", trained.fingerprint.clone()),
            ];
            let range = tones(trained.config.model.score.range);
            write_picture(path, x, &mask, &inpainted, trained.shape, range, &text)?;
        }
        let paths: Vec<String> =
            [&self.out, &self.npy].into_iter().flatten().map(|p| p.display().to_string()).collect();
        let used = if inpainted.is_direct { 1 } else { particles };
        let how = match inpainted.is_direct {
            true if trained.has_any_order() => {
                format!("directly, in {} that {} what is known first", orders(inpainted.orders), has(inpainted.orders))
            }
            true => "directly, as everything missing comes last".to_owned(),
            false => format!("by {used} particles each, resampled {} times", inpainted.drawn.resamplings),
        };
        // What is missing of somebody's own samples is not known, and so is no measure.
        let error = self.input.is_none().then(|| mean_squared_error(x, &mask, &inpainted)).filter(|e| e.is_finite());
        let of_mean = error.map_or(String::new(), |error| format!(", mean squared error of their mean {error:.4}"));
        let text = format!(
            "{completions} completions of {count} samples, {:.0} % missing, {how}, in {}{of_mean}: {}",
            100.0 * mask.share(),
            duration(inpainted.drawn.seconds),
            paths.join(", "),
        );
        let object = json!({
            "files": paths,
            "count": count,
            "completions": completions,
            "missing": mask.share(),
            "direct": inpainted.is_direct,
            "orders": inpainted.orders,
            "mean_squared_error_of_their_mean": error,
            "particles": used,
            "resamplings": inpainted.drawn.resamplings,
            "log_densities_of_what_comes_after": inpainted.drawn.log_densities,
            "seed": self.seed,
            "seconds": inpainted.drawn.seconds,
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

fn orders(count: usize) -> String {
    if count == 1 { "an order".into() } else { format!("{count} orders") }
}

fn has(count: usize) -> &'static str {
    if count == 1 { "has" } else { "have" }
}

/// Completions (N, R, D) in the data's units, with everything known as the file has it, to the bit.
fn with_known(asked: &Asked, mask: &Mask, completions: &[f64], dimensions: usize) -> Vec<f64> {
    let of_sample = completions.len() / asked.in_units.len() * dimensions;
    let value = |(at, &drawn): (usize, &f64)| {
        let (n, d) = (at / of_sample, at % dimensions);
        if mask.of_sample(n)[d] { drawn } else { asked.in_units[n * dimensions + d] }
    };
    completions.iter().enumerate().map(value).collect()
}

impl Inpaint {
    fn samples(&self, session: &Session<'_>, trained: &Trained) -> Result<Asked> {
        match &self.input {
            Some(path) => load_file(session, trained, path),
            None => load(
                session,
                trained,
                Wanted { data: self.data.as_deref(), count: Some(self.count), ..Wanted::default() },
            ),
        }
    }

    fn mask(&self, trained: &Trained, count: usize) -> Result<Mask> {
        if !self.mask.ends_with(".npy") {
            let columns = match trained.shape {
                SampleShape::Vector { .. } => Mask::of_columns(&self.mask, &trained.column_names()),
                SampleShape::Image { .. } => None,
            };
            return columns.map_or_else(|| Mask::of_name(&self.mask, trained.shape, count, self.seed), Ok);
        }
        let marks = read_finite(self.mask.as_ref())?;
        // One sample's axes, with or without the channels where there is one; or those of all samples.
        let sample = axes(trained.shape);
        let all: Vec<usize> = std::iter::once(count).chain(sample.iter().copied()).collect();
        let without_channel = |shape: &[usize]| match shape.split_last() {
            Some((1, rest)) if matches!(trained.shape, SampleShape::Image { .. }) => rest.to_vec(),
            _ => shape.to_vec(),
        };
        let fitting = [without_channel(&sample), without_channel(&all), sample.clone(), all.clone()];
        if !fitting.contains(&marks.shape) {
            let problem = format!("has shape {:?}, expected {sample:?}, or {all:?} for all samples", marks.shape);
            return Err(Error::input(&self.mask, problem, "Give a mark for each value that may be missing"));
        }
        Mask::new(&marks.values, trained.model.dimensions())
    }
}
