//! `arcsm score`

use std::path::PathBuf;

use serde_json::json;

use super::inputs::{load_file, read_finite};
use super::{Session, Task, after_help};
use crate::ask::trained::{Perturbation, Scores, Trained};
use crate::codes::Objective;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::arrays::{HostTensor, write_npz, write_npz_doubles};
use crate::files::check_writable;
use crate::numbers::random::{normal_pair, random_bits, stream};
use crate::standard::{Mapped, Standard};

/// Write contexts, scores and slopes of samples, to hold them against any other implementation
///
/// Contexts are computed from the clean samples x; scores and slopes ds/dx~ are taken at x~ = x + sigma eps. The output
/// has `context` (N, D, K), and `x_tilde`, `score` and `slope` (N, D), in the data's units. Noise levels are in standard
/// deviations of a column, or in shares of the pixels' range, as in training; so are the losses, averaged over N and summed
/// over D: csm = sigma^2 (1/2 s^2 + ds/dx~), without the factor sigma^2 for the plain parametrisation; dsm = 1/2 (sigma s +
/// eps)^2.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm score --checkpoint C --input x.npy --out scores.npz\n  \
       arcsm score --checkpoint C --input x.npy --sigma 0.1 --seed 3 --out scores.npz\n  \
       arcsm score --checkpoint C --input x.npy --sigma sigma.npy --noise eps.npy --out scores.npz"
))]
pub(super) struct Score {
    /// Checkpoint of the model, or the folder of a run: its best
    #[arg(long, value_name = "FILE|RUN")]
    checkpoint: PathBuf,
    /// Samples: an array (N, D) or (N, H, W, C), or any file of `arcsm train --data`
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Noise level in the model's units: a number, or an array like the samples [default: the geometric mean of the model's range; 0 where
    /// it was trained without noise]
    #[arg(long, value_name = "VALUE|S.npy", allow_negative_numbers = true)]
    sigma: Option<String>,
    /// Standard normal noise eps, an array like the samples
    #[arg(long, value_name = "E.npy", conflicts_with = "seed")]
    noise: Option<PathBuf>,
    /// Seed of the noise where --noise is not given
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Archive to write
    #[arg(long, value_name = "S.npz")]
    out: PathBuf,
}

impl Task for Score {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        check_writable(&self.out)?;
        let gpu = session.open_gpu()?;
        let trained = session.load(&gpu, &self.checkpoint)?;
        let asked = load_file(session, &trained, &self.input)?;
        let (dimensions, count, x) = (trained.model.dimensions(), asked.count(&trained), &asked.x);
        let shape = [count, x.len()];
        let sigma = self.sigma.as_deref().map(|text| self.parse_sigma(text, shape)).transpose()?;
        let noise = self.noise.as_ref().map(|path| read_like(path, shape)).transpose()?;
        let sigma = sigma.unwrap_or_else(|| Sigma::Same(default_sigma(&trained.config)));
        let at: Vec<Perturbation> = (0..x.len())
            .map(|i| Perturbation {
                sigma: sigma.at(i),
                eps: noise.as_ref().map_or_else(|| normal(self.seed, i, dimensions), |noise| noise.values[i]),
            })
            .collect();
        let scores = trained.scores(&gpu, x, &at)?;
        let (csm_loss, dsm_loss) = (scores.csm_loss, scores.dsm_loss);
        let context = trained.model.context_net.context();
        self.write(&trained, scores, [count, dimensions, context])?;
        let text = format!("csm loss {csm_loss:.9}\ndsm loss {dsm_loss:.9}\n{}", self.out.display());
        let object = json!({
            "csm_loss": csm_loss,
            "dsm_loss": dsm_loss,
            "samples": count,
            "dimensions": dimensions,
            "context_width": context,
            "out": self.out.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Score {
    /// Float32 arrays as the model has them; of standardised data float64, in their units.
    fn write(&self, trained: &Trained, scores: Scores, [count, dimensions, context]: [usize; 3]) -> Result<()> {
        let (of_contexts, of_values) = ([count, dimensions, context], [count, dimensions]);
        if let Some(standard) = trained.standard() {
            let contexts: Vec<f64> = scores.context.iter().map(|&value| value.into()).collect();
            let [x_tilde, score, slope] = in_units(standard, trained.model.dimensions(), &scores);
            return write_npz_doubles(
                &self.out,
                &[
                    ("context", &of_contexts, &contexts),
                    ("x_tilde", &of_values, &x_tilde),
                    ("score", &of_values, &score),
                    ("slope", &of_values, &slope),
                ],
            );
        }
        let context = HostTensor::new(of_contexts, scores.context);
        let [x_tilde, score, slope] =
            [scores.x_tilde, scores.score, scores.slope].map(|values| HostTensor::new(of_values, values));
        write_npz(&self.out, &[("context", &context), ("x_tilde", &x_tilde), ("score", &score), ("slope", &slope)])
    }
}

/// Values, scores and slopes in the data's units: with z = T(x), the score of x is s T' + (log T')'.
fn in_units(standard: &Standard, dimensions: usize, scores: &Scores) -> [Vec<f64>; 3] {
    let x_tilde = standard.to_data(&scores.x_tilde);
    let at = |(at, &x): (usize, &f64)| {
        let Mapped { slope, log_slope_slope, log_slope_bend, .. } = standard.map(dimensions, at, x);
        let (score, bend) = (f64::from(scores.score[at]), f64::from(scores.slope[at]));
        let in_x = bend * slope * slope + score * slope * log_slope_slope + log_slope_bend;
        (score * slope + log_slope_slope, in_x)
    };
    let (score, slope) = x_tilde.iter().enumerate().map(at).unzip();
    [x_tilde, score, slope]
}

/// The noise level of every value.
enum Sigma {
    Same(f32),
    Each(Vec<f32>),
}

impl Sigma {
    fn at(&self, index: usize) -> f32 {
        match self {
            Self::Same(sigma) => *sigma,
            Self::Each(sigmas) => sigmas[index],
        }
    }
}

impl Score {
    fn parse_sigma(&self, text: &str, shape: [usize; 2]) -> Result<Sigma> {
        let (sigma, least) = match text.parse::<f32>() {
            Ok(value) => (Sigma::Same(value), value),
            Err(_) => {
                let sigmas = read_like(text.as_ref(), shape)?.values;
                let least = sigmas.iter().copied().fold(f32::INFINITY, f32::min);
                (Sigma::Each(sigmas), least)
            }
        };
        if least >= 0.0 && least.is_finite() {
            return Ok(sigma);
        }
        Err(Error::input("--sigma", format!("holds {least}; noise levels are not negative"), "Give levels such as 0.1"))
    }
}

/// An array with so many values for so many samples.
fn read_like(path: &std::path::Path, [count, values]: [usize; 2]) -> Result<HostTensor> {
    let array = read_finite(path)?;
    if array.values.len() == values && array.shape.first() == Some(&count) {
        return Ok(array);
    }
    let problem = format!("has shape {:?}, there are {count} samples of {} values", array.shape, values / count);
    Err(Error::input(path.display().to_string(), problem, "Give one value for each value of --input"))
}

fn default_sigma(config: &Config) -> f32 {
    match config.train.objective {
        Objective::Plain | Objective::Weighted => 0.0,
        Objective::Ml => config.noise.sigma_min,
        Objective::Csm | Objective::Dsm => (config.noise.sigma_min * config.noise.sigma_max).sqrt(),
    }
}

/// The standard normal number that belongs to value `index` of a seed.
fn normal(seed: u64, index: usize, dimensions: usize) -> f32 {
    let (sample, dimension) = (index / dimensions, index % dimensions);
    let bits = random_bits(seed, stream::ROW_NOISE, sample as u32, dimension as u32, 0);
    normal_pair(bits[0], bits[1]).0 as f32
}
