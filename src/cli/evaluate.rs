//! `arcsm evaluate`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::console::{duration, table};
use super::inputs::{Asked, Part, Wanted, load};
use super::{Session, Task, after_help};
use crate::ask::closed_form::{ClosedForm, log_likelihood, natural_sigma};
use crate::ask::evaluate::{
    AtLevel, EvaluateRequest, Evaluation, Mean, OfSample, Truth, Widened, evaluate, outside_trained_range,
};
use crate::ask::likelihood;
use crate::ask::trained::Trained;
use crate::data::spec_of_file;
use crate::error::{Error, Result};
use crate::files::arrays::{HostTensor, write_npz};
use crate::files::{check_writable, write_atomically};
use crate::gpu::Gpu;
use crate::models::ar_csm::Head;

/// How far the integral of a conditional by every second grid point may be from 1 without a warning.
const INTEGRAL: f64 = 1e-3;

/// Losses and exact likelihoods of samples the model has not seen
///
/// The density is that of y = x + sigma eps given the clean values before each one. Its readings, in nats (-log p, summed over a
/// sample's values, lower is better): "chain" is the density that the default sampler draws from, exact and normalised by
/// construction; "one level" is the quadrature of the score at sigma alone, normalised too, but with arbitrary weights of
/// separated modes; "probability flow" is the ODE's change of variables, raw and divided by its integral. Bits per value of
/// images on levels (8-bit ones, for instance) bound the length of a lossless code of the clean values, as elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm evaluate --checkpoint runs/mnist/checkpoints/best.safetensors\n  \
       arcsm evaluate --checkpoint C --data mnist:data/mnist --count 1000 --json\n  \
       arcsm evaluate --checkpoint C --sigma 0.03,0.1 --csv nats.csv\n  \
       arcsm evaluate --checkpoint C --resolution 6 --flow-count 0"
))]
pub(super) struct Evaluate {
    /// Checkpoint of the model, or the folder of a run: its best
    #[arg(long, value_name = "FILE|RUN")]
    checkpoint: PathBuf,
    /// Samples, all of them in the order of their file [default: the held-out part of the data that the model was trained on]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// The same of a file: .npy, .npz, .csv, or a folder of pictures
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    input: Option<PathBuf>,
    /// Which part of them, divided as training divides them
    #[arg(long, value_enum, conflicts_with = "input")]
    part: Option<Part>,
    /// How many samples, from the first on [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Noise levels, in the model's units, to ask the density at [default: the model's least]
    #[arg(long, value_name = "S,S", value_delimiter = ',', allow_negative_numbers = true)]
    sigma: Option<Vec<f32>>,
    /// Noise levels of the chain above that [default: those of the default sampler]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', allow_negative_numbers = true)]
    levels: Option<Vec<f32>>,
    /// Grid points that stand for one noise level
    #[arg(long, value_name = "R", default_value_t = likelihood::RESOLUTION)]
    resolution: f32,
    /// Range that the grids span, beside their margins, in the model's units [default: that of all samples]
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', num_args = 1, allow_hyphen_values = true)]
    range: Option<Vec<f32>>,
    /// Samples to read by the probability-flow ODE too [default: as many as take about as long as the chain of all]
    #[arg(long, value_name = "N")]
    flow_count: Option<u32>,
    /// Heun steps of the probability-flow ODE
    #[arg(long, value_name = "T", default_value_t = 32)]
    flow_steps: u32,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on with noise levels outside the range that the model was trained on
    #[arg(long)]
    force: bool,
    /// Table to write: one row a sample and noise level
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Archive to write: nats of every sample, (levels, N)
    #[arg(long, value_name = "FILE.npz")]
    npz: Option<PathBuf>,
}

impl Task for Evaluate {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        for path in [&self.csv, &self.npz].into_iter().flatten() {
            check_writable(path)?;
        }
        let gpu = session.open_gpu()?;
        let trained = session.load(&gpu, &self.checkpoint)?;
        if let Head::Mixture(_) = trained.model.head {
            return self.closed_form(session, &gpu, &trained);
        }
        let request = self.request(&trained)?;
        request.check(&trained)?;
        self.check_range_of_noise(session, &trained, &request)?;
        let asked = self.asked(session, &trained)?;
        let started = std::time::Instant::now();
        let mut progress = session.console.progress();
        let evaluation = evaluate(&gpu, &trained, &asked.x, asked.density.as_ref(), &request, &mut |share| {
            progress.show((100.0 * share) as u64, 100, || "percent".into());
        });
        progress.finish();
        let evaluation = evaluation?;
        let seconds = started.elapsed().as_secs_f64();
        for level in &evaluation.levels {
            warn_of_grids(session, level);
            let Some((what, remedy)) = level.unsound(evaluation.dimensions) else { continue };
            let what = format!("at sigma {} {what}, which cannot be; noticed", level.sigma);
            if !self.force {
                let remedy = format!("{remedy}, or add --force to see the numbers all the same");
                return Err(Error::Unsound { what, step: trained.step, remedy });
            }
            session.console.warn(&what);
        }
        self.write(&evaluation, asked.labels.as_deref())?;
        let text = self.text(&asked.name, &evaluation, seconds);
        let files: Vec<_> = [&self.csv, &self.npz].into_iter().flatten().collect();
        let object = json!({
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "step": trained.step,
            "data": asked.name,
            "part": self.part_name(),
            "seed": self.seed,
            "seconds": seconds,
            "evaluation": evaluation,
            "files": files.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Evaluate {
    /// Heads whose density is known need no grids: one number of nats for each noise level.
    fn closed_form(&self, session: &Session<'_>, gpu: &Gpu, trained: &Trained) -> Result<()> {
        let of_grids = [
            ("--levels", self.levels.is_some()),
            ("--range", self.range.is_some()),
            ("--flow-count", self.flow_count.is_some()),
        ];
        if let Some((flag, _)) = of_grids.iter().find(|(_, is_given)| *is_given) {
            let problem = "is of models with a score head, this one's density is in closed form";
            return Err(Error::input(*flag, problem, "Leave it out"));
        }
        let asked = self.asked(session, trained)?;
        let sigmas = self.sigma.clone().unwrap_or_else(|| vec![natural_sigma(trained)]);
        let levels: Vec<ClosedForm> = sigmas
            .iter()
            .map(|&sigma| log_likelihood(gpu, trained, &asked.x, sigma, self.seed))
            .collect::<Result<_>>()?;
        let rows: Vec<_> = levels
            .iter()
            .map(|level| {
                let (sigma, nats) = (level.sigma.to_string(), format!("{:.3}", level.mean_nats));
                [sigma, nats, format!("{:.4}", level.bits_per_dimension)]
            })
            .collect();
        // Of noisy values, the data's own conditionals given clean ones are not known.
        let truth = |level: &ClosedForm| {
            let density = asked.density.as_ref().filter(|_| level.sigma == 0.0 && trained.standard().is_none())?;
            Some(Truth::of(&level.nats, &density.nats(&asked.x)))
        };
        let truths: Vec<Option<Truth>> = levels.iter().map(truth).collect();
        self.write_closed_form(&levels, trained.model.dimensions(), asked.labels.as_deref())?;
        let files: Vec<_> = [&self.csv, &self.npz].into_iter().flatten().collect();
        let samples = levels[0].nats.len();
        let mut text = format!(
            "{samples} samples of {}, D = {}, -log p in closed form\n{}",
            asked.name,
            trained.model.dimensions(),
            table(["sigma", "nats", "bits per value"], &rows),
        );
        for Truth { nats, difference } in truths.iter().flatten() {
            let (mean, error) = (difference.mean, difference.standard_error);
            text += &format!("the data's own density has {:.3} nats; the model {mean:+.4} +- {error:.4}\n", nats.mean);
        }
        let object = json!({
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "step": trained.step,
            "data": asked.name,
            "seed": self.seed,
            "samples": samples,
            "closed_form": levels,
            "truth": truths,
            "files": files.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }

    /// The columns of the other heads' table that have a meaning here, and arrays of the same names.
    fn write_closed_form(&self, levels: &[ClosedForm], dimensions: usize, labels: Option<&[String]>) -> Result<()> {
        let bits = |nats: f64| nats / (dimensions as f64 * std::f64::consts::LN_2);
        if let Some(path) = &self.csv {
            write_atomically(path, |file| {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(headings(labels, &["sigma", "nats", "bits_per_dimension"]))?;
                for level in levels {
                    for (sample, &nats) in level.nats.iter().enumerate() {
                        let numbers = [level.sigma.to_string(), nats.to_string(), bits(nats).to_string()];
                        writer.write_record(place(labels, sample).chain(numbers))?;
                    }
                }
                writer.flush()
            })?;
        }
        let Some(path) = &self.npz else { return Ok(()) };
        let array = |value: &dyn Fn(f64) -> f64| {
            let nats = levels.iter().flat_map(|level| &level.nats);
            HostTensor::new([levels.len(), levels[0].nats.len()], nats.map(|&nats| value(nats) as f32).collect())
        };
        let sigma = HostTensor::new([levels.len()], levels.iter().map(|level| level.sigma).collect());
        let (nats, bits) = (array(&|nats| nats), array(&bits));
        write_npz(path, &[("sigma", &sigma), ("nats", &nats), ("bits_per_dimension", &bits)])
    }

    fn request(&self, trained: &Trained) -> Result<EvaluateRequest> {
        let support = match self.range.as_deref() {
            None => None,
            Some(&[low, high]) => Some([low, high]),
            Some(other) => {
                return Err(Error::input("--range", format!("has {} numbers", other.len()), "Give LOW,HIGH"));
            }
        };
        let default = EvaluateRequest::new(trained);
        Ok(EvaluateRequest {
            sigmas: self.sigma.clone().unwrap_or(default.sigmas),
            levels: self.levels.clone(),
            resolution: self.resolution,
            support,
            seed: self.seed,
            flow_count: self.flow_count.map(|count| count as usize),
            flow_steps: self.flow_steps,
        })
    }

    fn check_range_of_noise(&self, session: &Session<'_>, trained: &Trained, request: &EvaluateRequest) -> Result<()> {
        let levels = request.levels.iter().flatten();
        for &sigma in request.sigmas.iter().chain(levels) {
            let Some(problem) = outside_trained_range(trained, sigma) else { continue };
            if !self.force {
                return Err(Error::input("--sigma", problem, "Stay within it, or add --force to go on all the same"));
            }
            session.console.warn(&format!("{problem}: the scores there were never learned"));
        }
        Ok(())
    }

    fn asked(&self, session: &Session<'_>, trained: &Trained) -> Result<Asked> {
        let of_file = self.input.as_deref().map(spec_of_file);
        let data = of_file.as_deref().or(self.data.as_deref());
        load(session, trained, Wanted { data, part: self.part, count: self.count, whole: self.input.is_some() })
    }

    fn part_name(&self) -> &'static str {
        match self.part {
            Some(Part::Train) => "train",
            Some(Part::HeldOut) => "held-out",
            None if self.data.is_none() && self.input.is_none() => "held-out",
            None => "all",
        }
    }

    fn write(&self, evaluation: &Evaluation, labels: Option<&[String]>) -> Result<()> {
        if let Some(path) = &self.csv {
            write_csv(path, &evaluation.levels, labels)?;
        }
        if let Some(path) = &self.npz {
            write_nats(path, evaluation)?;
        }
        Ok(())
    }

    fn text(&self, name: &str, evaluation: &Evaluation, seconds: f64) -> String {
        let part = match self.part_name() {
            "all" => String::new(),
            part => format!("{part} "),
        };
        let losses = &evaluation.losses;
        let mut text = format!(
            "{} {part}samples of {name}, D = {}, in {}\nlosses over all noise levels: csm {:.4}",
            evaluation.samples,
            evaluation.dimensions,
            duration(seconds),
            losses.csm,
        );
        if let Some(dsm) = losses.dsm {
            text += &format!(", dsm {dsm:.4}");
        }
        for level in &evaluation.levels {
            text += "\n\n";
            text += &describe(level, evaluation.dimensions);
        }
        text
    }
}

/// One noise level, for people.
fn describe(level: &AtLevel, dimensions: usize) -> String {
    let row =
        |reading: String, nats: Mean| [reading, format!("{:.3}", nats.mean), format!("{:.3}", nats.standard_error)];
    let mut rows = vec![row("chain: what the sampler draws, normalised".into(), level.nats)];
    if let Some(nats) = level.one_level {
        rows.push(row("one level: normalised, weights of modes arbitrary".into(), nats));
    }
    if let Some(flow) = &level.flow {
        let of = format!("first {}", flow.samples);
        rows.push(row(format!("probability flow, raw, mean integral {:.4} ({of})", flow.mean_mass), flow.raw));
        rows.push(row(format!("probability flow, normalised ({of})"), flow.normalised));
        rows.push(row(format!("chain ({of})"), flow.chain));
    }
    if let Some(truth) = &level.truth {
        rows.push(row("the data's own density".into(), truth.nats));
        rows.push(row("chain less that".into(), truth.difference));
    }
    let grids = level.chain.levels.iter().map(|level| format!("{:.3} ({} points)", level.sigma, level.points));
    let losses = match level.losses.dsm {
        Some(dsm) => format!("csm {:.4}, dsm {dsm:.4}", level.losses.csm),
        None => format!("csm {:.4}", level.losses.csm),
    };
    let floor = match level.sigma > 0.0 {
        true => format!("; the noise alone has {:.3}", level.noise_floor),
        false => String::new(),
    };
    format!(
        "sigma {}, added: {}; {losses}\nlevels: {}\n{}\
         {:.4} +- {:.4} bits per value: {}\n\
         nats are sums over {dimensions} values{floor}\n\
         grid error: {:+.4} nats with half the points ({:.4} for the worst sample)\n\
         integrals of the conditionals: 1 +- {:.1e}, by every second point 1 +- {:.1e}\n\
         mass that may lie beyond the grids: {:.2} % on average, {:.2} % at most; a warning says where that matters",
        level.sigma,
        level.noise,
        grids.collect::<Vec<_>>().join(", "),
        table(["reading", "nats", "+-"], &rows),
        level.bits_per_dimension.mean,
        level.bits_per_dimension.standard_error,
        level.bits_meaning,
        level.grid_error,
        level.worst_grid_error,
        level.integral_error,
        level.coarse_integral_error,
        100.0 * level.cut_off.mean.min(1.0),
        100.0 * level.cut_off.worst.min(1.0),
    )
}

/// Whatever makes the numbers less than exact is said.
fn warn_of_grids(session: &Session<'_>, level: &AtLevel) {
    let at = format!("at sigma {}", level.sigma);
    let cut = level.cut_off;
    if let Some(Widened { samples, change, range: [low, high] }) = level.widened.filter(Widened::matters) {
        session.console.warn(&format!(
            "{at} the grids cut off mass: wider ones change nats by {change:+.3} in the mean over the samples most concerned \
             ({samples}); widen all with --range {low:.3},{high:.3}",
        ));
    }
    // What is cut off shows there too.
    if level.coarse_integral_error > INTEGRAL.max(cut.worst) {
        let error = level.coarse_integral_error;
        let remedy = match level.chain.levels.iter().find(|level| level.is_full()) {
            Some(full) => format!("its grid has {} points at most: narrow it with --range LOW,HIGH", full.points),
            None => "raise --resolution".into(),
        };
        session
            .console
            .warn(&format!("{at} a conditional's integral by every second grid point is off by {error:.1e}; {remedy}"));
    }
}

/// Number of a sample, and its file where it has one of its own.
pub(super) fn place(labels: Option<&[String]>, sample: usize) -> impl Iterator<Item = String> {
    std::iter::once(sample.to_string()).chain(labels.map(|labels| labels[sample].clone()))
}

/// Headings of [`place`], and these.
pub(super) fn headings<'a>(labels: Option<&[String]>, others: &[&'a str]) -> Vec<&'a str> {
    let place: &[&str] = if labels.is_some() { &["sample", "file"] } else { &["sample"] };
    [place, others].concat()
}

fn write_csv(path: &Path, levels: &[AtLevel], labels: Option<&[String]>) -> Result<()> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    write_atomically(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        let readings = ["nats_of_half_grid", "one_level", "flow_raw", "flow_normalised", "truth"];
        writer.write_record(headings(labels, &[&["sigma", "nats", "bits_per_dimension"], &readings[..]].concat()))?;
        for level in levels {
            for (n, s) in level.of_samples.iter().enumerate() {
                let numbers = [Some(s.nats), Some(s.bits_per_dimension), Some(s.nats_of_half_grid)];
                let others = [s.one_level, s.flow_raw, s.flow_normalised, s.truth];
                let numbers = numbers.into_iter().chain(others).map(number);
                writer.write_record(place(labels, n).chain([level.sigma.to_string()]).chain(numbers))?;
            }
        }
        writer.flush()
    })
}

/// `sigma` (levels), and (levels, N) of each reading that all samples have.
fn write_nats(path: &Path, evaluation: &Evaluation) -> Result<()> {
    let shape = [evaluation.levels.len(), evaluation.samples];
    let of = |value: &dyn Fn(&OfSample) -> f64| {
        let samples = evaluation.levels.iter().flat_map(|level| &level.of_samples);
        HostTensor::new(shape, samples.map(|sample| value(sample) as f32).collect())
    };
    let sigma = HostTensor::new([shape[0]], evaluation.levels.iter().map(|level| level.sigma).collect());
    let arrays = [
        ("sigma", &sigma),
        ("nats", &of(&|s| s.nats)),
        ("bits_per_dimension", &of(&|s| s.bits_per_dimension)),
        ("one_level", &of(&|s| s.one_level.unwrap_or(s.nats))),
    ];
    write_npz(path, &arrays)
}
