//! The main job in one call: learn handwritten digits, draw new ones, remove noise from old ones.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::ask::denoise::{DenoiseRequest, add_noise, denoise, psnr_clipped, write_rows};
use crate::ask::picture::{Picture, widened};
use crate::ask::sample::{SampleRequest, sample};
use crate::ask::trained::Trained;
use crate::config::Config;
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::files;
use crate::files::image_grid::UNIT;
use crate::gpu::Gpu;
use crate::models::ar_csm::Network;
use crate::train::{Event, TrainPlan, TrainReport, Trainer, train};

/// Masked convolutions; the recipe of the other convolutional network, too, but for its kind.
const CONFIG: &str = include_str!("../../configs/digits.toml");
/// Masked dense layers.
const MADE_CONFIG: &str = include_str!("../../configs/digits-made.toml");
/// Noise level of the denoising, in units of the pixel range (Meng et al. 2020, section 5.3).
const SIGMA: f32 = 0.6;
/// Share of the time that the generative model gets; the denoiser gets the rest.
const GENERATIVE_SHARE: f64 = 0.86;
/// The speed of the adapter is that of the best of some stretches of steps.
const STRETCH: u64 = 8;
const STRETCHES: u64 = 4;
/// Digits that are drawn.
const DRAWN: usize = 100;
/// Of these, those that are drawn together.
const PIECE: usize = 25;

/// What the demo came to; `report.json` holds the same.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    /// Adapter and driver.
    pub adapter: String,
    /// Training of the generative model.
    pub training: TrainReport,
    /// Training of the denoiser, of masked dense layers, with noisy contexts and sigma = 0.6 only.
    pub denoiser_training: TrainReport,
    /// Wall time of all training steps, s.
    pub training_seconds: f64,
    /// Wall time of drawing, s.
    pub sampling_seconds: f64,
    /// Peak signal-to-noise ratio of held-out digits with noise, clipped to [0, 1], dB.
    pub psnr_noisy: f64,
    /// The same after one step of denoising, dB.
    pub psnr_denoised: f64,
    /// Pictures.
    #[serde(serialize_with = "files::lossy_each")]
    pub pictures: Vec<PathBuf>,
    /// Wall time of everything, s.
    pub seconds: f64,
}

/// Trains a model with a context network of the given kind for about `seconds`, then draws samples, the loss curve and denoised digits into `out`.
///
/// # Errors
/// A folder that holds a demo already (without `force`) or cannot be written, and whatever [`train`] reports.
pub fn demo(
    gpu: &Gpu,
    out: &Path,
    force: bool,
    seconds: f64,
    network: Network,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<DemoReport> {
    let start = Instant::now();
    let config = recipe(network)?;
    let data = data::load(&config.data, config.train.seed)?;
    let plan = |name: &str, config: Config, seconds: f64| TrainPlan {
        config,
        out: out.join(name),
        resume: false,
        force,
        command: "arcsm demo".into(),
        max_seconds: Some(seconds),
    };
    let for_model = seconds * GENERATIVE_SHARE;
    let generative = fit_to_time(gpu, config, &data, for_model, stop)?;
    let training = train(gpu, &plan("run", generative, for_model), stop, observe)?;
    let for_denoiser = seconds - for_model;
    let denoiser = fit_to_time(gpu, denoiser_config(recipe(Network::Made)?), &data, for_denoiser, stop)?;
    let denoiser_training = train(gpu, &plan("denoiser", denoiser, for_denoiser), stop, observe)?;

    let trained = Trained::load(gpu, &training.checkpoint)?;
    let sampling = Instant::now();
    let drawn = draw(gpu, &trained, stop)?;
    let sampling_seconds = sampling.elapsed().as_secs_f64();
    let (samples, loss, denoised) = (out.join("samples.png"), out.join("loss.png"), out.join("denoised.png"));
    let text = [("arcsm:command", "arcsm demo".to_owned()), ("arcsm:checkpoint", trained.fingerprint.clone())];
    let values = &widened(&drawn);
    Picture { values, shape: data.shape, beside: None, names: None, range: UNIT, title: "digits" }
        .write(&samples, &text)?;
    copy(&out.join("run/loss.png"), &loss)?;
    let denoiser = Trained::load(gpu, &denoiser_training.checkpoint)?;
    let clean = data.held_out.first(data.held_out.len())?;
    let noisy = add_noise(&clean, data.shape.dimensions(), SIGMA, 0);
    let denoising = denoise(gpu, &denoiser, &noisy, &DenoiseRequest::new(SIGMA), &mut |_| {})?;
    write_rows(&denoised, &[&clean, &noisy, &denoising.values], data.shape, UNIT, &text)?;
    let report = DemoReport {
        adapter: format!("{} ({})", gpu.adapter().name, gpu.adapter().driver),
        training_seconds: step_seconds(&training) + step_seconds(&denoiser_training),
        training,
        denoiser_training,
        sampling_seconds,
        psnr_noisy: psnr_clipped(&clean, &noisy),
        psnr_denoised: psnr_clipped(&clean, &denoising.values),
        pictures: vec![samples, loss, denoised],
        seconds: start.elapsed().as_secs_f64(),
    };
    write_report(&out.join("report.json"), &report)?;
    Ok(report)
}

/// Drawn in pieces, so that a stop is heard.
fn draw(gpu: &Gpu, trained: &Trained, stop: &AtomicBool) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    for first in (0..DRAWN).step_by(PIECE) {
        check_stop(stop)?;
        let request = SampleRequest { first, ..SampleRequest::new(trained, PIECE.min(DRAWN - first), 1) };
        values.extend(sample(gpu, trained, &request, &mut |_| {})?.values);
    }
    check_stop(stop)?;
    Ok(values)
}

fn check_stop(stop: &AtomicBool) -> Result<()> {
    if !stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err(Error::Interrupted("start again with: arcsm demo --force".into()))
}

fn recipe(network: Network) -> Result<Config> {
    if network == Network::Made {
        return Config::from_toml(MADE_CONFIG, "configs/digits-made.toml");
    }
    let mut config = Config::from_toml(CONFIG, "configs/digits.toml")?;
    config.model.network = network;
    Ok(config)
}

fn step_seconds(report: &TrainReport) -> f64 {
    report.steps as f64 * report.seconds_per_step
}

/// Dense layers see the whole image at once, which helps most when little of it can be trusted. Trained on noisy contexts
/// at one level: then x~ + sigma^2 s estimates E[x_d | x~_1 .. x~_d].
fn denoiser_config(mut config: Config) -> Config {
    config.noise.sigma_min = SIGMA;
    config.noise.sigma_max = SIGMA;
    config.noise.context = SIGMA;
    config.noise.dropout = 0.0;
    config
}

/// As many steps as the time allows at the best speed that this adapter shows, at most those of the settings. Should it
/// slow down later, [`TrainPlan::max_seconds`] ends the run.
fn fit_to_time(gpu: &Gpu, mut config: Config, data: &Dataset, seconds: f64, stop: &AtomicBool) -> Result<Config> {
    let mut trial = config.clone();
    let statistics = data.train.statistics()?;
    (trial.model.score.mean, trial.model.score.sd) = (Some(statistics.mean as f32), Some(statistics.sd as f32));
    let mut trainer = Trainer::new(gpu, trial, data, None)?;
    let mut seconds_per_step = |steps: u64| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..steps {
            check_stop(stop)?;
            trainer.step()?;
        }
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64() / steps as f64)
    };
    // Kernels compile in the first steps.
    seconds_per_step(STRETCH)?;
    let mut best = f64::INFINITY;
    for _ in 0..STRETCHES {
        best = best.min(seconds_per_step(STRETCH)?);
    }
    // Recording losses and waiting for the last steps takes a little too.
    config.train.steps = ((0.96 * seconds / best) as u64).clamp(20, config.train.steps);
    config.train.validate_every = config.train.steps.div_ceil(8);
    config.train.checkpoint_every = config.train.steps.div_ceil(4);
    config.train.sample_every = 0;
    Ok(config)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    use std::io::Write;
    let bytes = std::fs::read(from).map_err(|e| Error::file("read", from, e, "Run the demo again"))?;
    files::write_atomically(to, |file| file.write_all(&bytes))
}

fn write_report(path: &Path, report: &DemoReport) -> Result<()> {
    files::write_atomically(path, |file| Ok(serde_json::to_writer_pretty(file, report)?))
}
