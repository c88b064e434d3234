//! `arcsm denoise`

use std::path::PathBuf;

use serde_json::json;

use super::console::duration;
use super::inputs::{Wanted, load, load_data, load_file, write_samples};
use super::{Session, Task, after_help, command_line};
use crate::ask::denoise::{
    DenoiseRequest, Filter, Method, add_noise, check_sigma, denoise, mse, psnr, psnr_clipped, write_rows,
};
use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::files::check_writable;
use crate::files::image_grid::{check_picture, tones};
use crate::shape::SampleShape;

/// Remove noise of a known level from samples
///
/// Takes noisy samples (--input), or clean ones to which it adds the noise itself (--data, or the model's own held-out
/// data). Errors are measured in the model's units, samples are written in the data's. Where the clean samples are known, it reports mean squared errors and peak signal-to-noise ratios (values
/// clipped to [0, 1], the range of images), beside what the best linear filter reaches that sees no more than the model.
/// The picture has three rows: clean, noisy, denoised.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm train --config mnist-denoiser --data mnist:data/mnist --out runs/denoiser\n  \
       arcsm denoise --checkpoint runs/denoiser/checkpoints/best.safetensors --sigma 0.6 --out denoised.png\n  \
       arcsm denoise --checkpoint C --input noisy.npy --clean clean.npy --sigma 0.3 --npy denoised.npy\n  \
       arcsm denoise --checkpoint C --sigma 0.3 --method draw --particles 32 --count 8 --out drawn.png"
))]
pub(super) struct Denoise {
    /// Checkpoint of the model, or the folder of a run: its best
    #[arg(long, value_name = "FILE|RUN")]
    checkpoint: PathBuf,
    /// Noisy samples: an array (N, D) or (N, H, W, C), or any file of `arcsm train --data`
    #[arg(long, value_name = "NOISY.npy", conflicts_with_all = ["data", "count"])]
    input: Option<PathBuf>,
    /// The clean samples of --input, for errors and the picture
    #[arg(long, value_name = "CLEAN.npy", requires = "input")]
    clean: Option<PathBuf>,
    /// Data that get the noise, in the order of their file [default: the held-out part of those that the model was trained on]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Standard deviation of the noise, in the model's units: standard deviations of a column, shares of the pixels' range
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    sigma: f32,
    /// Go on with a noise level that the model was not trained on
    #[arg(long)]
    force: bool,
    /// How clean values are estimated
    #[arg(long, value_enum, default_value = "step")]
    method: Method,
    /// draw: draws that are averaged
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    draws: u32,
    /// draw: particles of each draw; more of them weigh in what comes after a value
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    particles: u32,
    /// Seed of the noise and of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Picture to write: .png or .jpg
    #[arg(long, value_name = "FILE", required_unless_present = "npy")]
    out: Option<PathBuf>,
    /// Array of denoised samples to write: (N, D) or (N, H, W, C), float32, of standardised tables float64
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
}

/// Samples to work on.
struct Job {
    clean: Option<Vec<f32>>,
    noisy: Vec<f32>,
    /// The best linear causal estimate of the clean samples.
    filtered: Option<Vec<f32>>,
}

impl Task for Denoise {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        self.out.as_deref().map_or(Ok(()), check_picture)?;
        self.npy.as_deref().map_or(Ok(()), check_writable)?;
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(Error::input("--sigma", format!("is {}", self.sigma), "Give a positive noise level"));
        }
        let gpu = session.open_gpu()?;
        let trained = session.load(&gpu, &self.checkpoint)?;
        if let (Some(path), SampleShape::Vector { dimensions }) = (&self.out, trained.shape) {
            let problem = format!("samples of D = {dimensions} are no images");
            return Err(Error::input(path.display().to_string(), problem, "Write them with --npy FILE instead"));
        }
        match check_sigma(&trained, self.sigma) {
            Err(error) if self.force => session.console.warn(&error.to_string()),
            outcome => outcome?,
        }
        let request = DenoiseRequest {
            sigma: self.sigma,
            method: self.method,
            draws: self.draws as usize,
            particles: self.particles as usize,
            seed: self.seed,
        };
        if let Some(mismatch) = request.mismatch(&trained) {
            session.console.warn(&mismatch);
        }
        let job = self.job(session, &trained)?;
        let mut progress = session.console.progress();
        let denoised = denoise(&gpu, &trained, &job.noisy, &request, &mut |share| {
            progress.show((100.0 * share) as u64, 100, || "percent".into());
        });
        progress.finish();
        let denoised = denoised?;
        self.write(&trained, &job, &denoised.values)?;

        let count = job.noisy.len() / trained.model.dimensions();
        let paths: Vec<String> =
            [&self.out, &self.npy].into_iter().flatten().map(|p| p.display().to_string()).collect();
        let quality = job.clean.as_ref().map(|clean| {
            json!({
                "mse_noisy": mse(clean, &job.noisy),
                "mse_denoised": mse(clean, &denoised.values),
                "psnr_noisy": psnr(clean, &job.noisy),
                "psnr_noisy_clipped": psnr_clipped(clean, &job.noisy),
                "psnr_denoised": psnr_clipped(clean, &denoised.values),
                "psnr_linear_causal": job.filtered.as_ref().map(|filtered| psnr_clipped(clean, filtered)),
            })
        });
        let mut text = format!("{count} samples in {}: {}", duration(denoised.seconds), paths.join(", "));
        if let Some(quality) = &quality {
            let number = |key: &str| quality[key].as_f64().map_or_else(|| "-".into(), |value| format!("{value:.2}"));
            let errors =
                [quality["mse_denoised"].as_f64(), quality["mse_noisy"].as_f64()].map(|e| e.unwrap_or(f64::NAN));
            // Values of tables have no peak that a ratio could be of.
            text = match trained.shape {
                SampleShape::Vector { .. } => {
                    format!("mean squared error {:.5}, noisy {:.5}, in the model's units\n{text}", errors[0], errors[1])
                }
                SampleShape::Image { .. } => format!(
                    "PSNR {} dB; noisy {} dB, clipped {} dB; best linear estimate that sees no more {} dB\n\
                 mean squared error {:.5}, noisy {:.5}\n{text}",
                    number("psnr_denoised"),
                    number("psnr_noisy"),
                    number("psnr_noisy_clipped"),
                    number("psnr_linear_causal"),
                    errors[0],
                    errors[1],
                ),
            };
        }
        let object = json!({
            "files": paths,
            "count": count,
            "sigma": self.sigma,
            "method": format!("{:?}", self.method).to_lowercase(),
            "draws": self.draws,
            "particles": self.particles,
            "seed": self.seed,
            "quality": quality,
            "mse_expected_by_the_model": denoised.expected_mse,
            "seconds": denoised.seconds,
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Denoise {
    fn job(&self, session: &Session<'_>, trained: &Trained) -> Result<Job> {
        let Some(path) = &self.input else {
            let wanted = Wanted { data: self.data.as_deref(), count: Some(self.count), ..Wanted::default() };
            let clean = load(session, trained, wanted)?.x;
            let noisy = add_noise(&clean, trained.model.dimensions(), self.sigma, self.seed);
            // Where the training data are elsewhere by now, there is one comparison less.
            let own = load_data(None, trained).ok();
            let filter =
                own.map(|own| Filter::new(&own.train, &trained.model.order, self.sigma)).transpose()?.flatten();
            let filtered = filter.map(|filter| filter.apply(&noisy));
            return Ok(Job { clean: Some(clean), noisy, filtered });
        };
        let noisy = load_file(session, trained, path)?.x;
        let clean = self.clean.as_ref().map(|path| -> Result<_> {
            let clean = load_file(session, trained, path)?.x;
            if clean.len() == noisy.len() {
                return Ok(clean);
            }
            let [found, expected] = [clean.len(), noisy.len()].map(|values| values / trained.model.dimensions());
            let problem = format!("holds {found} samples, {expected} of them are noisy");
            Err(Error::input(path.display().to_string(), problem, "Give the clean samples of --input"))
        });
        Ok(Job { clean: clean.transpose()?, noisy, filtered: None })
    }

    fn write(&self, trained: &Trained, job: &Job, denoised: &[f32]) -> Result<()> {
        if let Some(path) = &self.npy {
            let count = denoised.len() / trained.model.dimensions();
            write_samples(path, trained, &[count], &trained.to_data(denoised))?;
        }
        let Some(path) = &self.out else { return Ok(()) };
        let text = [
            ("Software", format!("arcsm {}", super::VERSION)),
            ("arcsm:command", command_line()),
            ("arcsm:seed", self.seed.to_string()),
            ("arcsm:checkpoint", trained.fingerprint.clone()),
        ];
        let rows: Vec<&[f32]> = job.clean.as_deref().into_iter().chain([&job.noisy[..], denoised]).collect();
        write_rows(path, &rows, trained.shape, tones(trained.config.model.score.range), &text)
    }
}
