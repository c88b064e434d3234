//! `arcsm denoise`

use std::path::PathBuf;

use serde_json::json;

use super::console::duration;
use super::inputs::{axes, check_fits, load_data, read_finite};
use super::{Session, Task, after_help, command_line};
use crate::arrays::{HostTensor, write_npy};
use crate::denoise::{
    DenoiseRequest, Filter, Method, add_noise, check_sigma, denoise, mse, psnr, psnr_clipped, write_rows,
};
use crate::error::{Error, Result};
use crate::files::check_writable;
use crate::image_grid::{check_picture, tones};
use crate::trained::Trained;

/// Remove noise of a known level from samples
///
/// Takes noisy samples (--input), or clean ones to which it adds the noise itself (--data, or the model's own held-out
/// data). Where the clean samples are known, it reports mean squared errors and peak signal-to-noise ratios (values
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
    /// Checkpoint of the model
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Noisy samples: float array, (N, D) or (N, H, W, C)
    #[arg(long, value_name = "NOISY.npy", conflicts_with_all = ["data", "count"])]
    input: Option<PathBuf>,
    /// The clean samples of --input, for errors and the picture
    #[arg(long, value_name = "CLEAN.npy", requires = "input")]
    clean: Option<PathBuf>,
    /// Data whose held-out samples get the noise [default: the data that the model was trained on]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Standard deviation of the noise
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
    /// Array of denoised samples to write: float32, (N, D) or (N, H, W, C)
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
        let trained = Trained::load(&gpu, &self.checkpoint)?;
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
        let job = self.job(&trained)?;
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
            text = format!(
                "PSNR {} dB; noisy {} dB, clipped {} dB; best linear estimate that sees no more {} dB\n\
                 mean squared error {:.5}, noisy {:.5}\n{text}",
                number("psnr_denoised"),
                number("psnr_noisy"),
                number("psnr_noisy_clipped"),
                number("psnr_linear_causal"),
                quality["mse_denoised"].as_f64().unwrap_or(f64::NAN),
                quality["mse_noisy"].as_f64().unwrap_or(f64::NAN),
            );
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
            "checkpoint": self.checkpoint,
            "fingerprint": trained.fingerprint,
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Denoise {
    fn job(&self, trained: &Trained) -> Result<Job> {
        let Some(path) = &self.input else {
            let data = load_data(self.data.as_deref(), trained)?;
            let clean = data.held_out.first(data.held_out.len().min(self.count as usize))?;
            let noisy = add_noise(&clean, trained.model.dimensions(), self.sigma, self.seed);
            let filter = Filter::new(&data.train, &trained.model.order, self.sigma)?;
            let filtered = filter.map(|filter| filter.apply(&noisy));
            return Ok(Job { clean: Some(clean), noisy, filtered });
        };
        let noisy = read_finite(path)?;
        let count = check_fits(&noisy, path, trained)?;
        let clean = self.clean.as_ref().map(|path| -> Result<_> {
            let clean = read_finite(path)?;
            let found = check_fits(&clean, path, trained)?;
            if found != count {
                let problem = format!("holds {found} samples, {} of them are noisy", count);
                return Err(Error::input(path.display().to_string(), problem, "Give the clean samples of --input"));
            }
            Ok(clean.values)
        });
        Ok(Job { clean: clean.transpose()?, noisy: noisy.values, filtered: None })
    }

    fn write(&self, trained: &Trained, job: &Job, denoised: &[f32]) -> Result<()> {
        if let Some(path) = &self.npy {
            let mut shape = vec![denoised.len() / trained.model.dimensions()];
            shape.extend(axes(trained.shape));
            write_npy(path, &HostTensor::new(shape, denoised.to_vec()))?;
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
