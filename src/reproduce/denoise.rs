//! `denoise-0.6`: noise of standard deviation 0.6 removed in one step (Meng et al. 2020, section 5.3), beside the best linear
//! estimate that sees as much.

use serde::{Deserialize, Serialize};

use super::images::Images;
use super::{Cell, Context, Part, Report, Table};
use crate::ask::denoise::{DenoiseRequest, Filter, add_noise, denoise, psnr, psnr_clipped, write_rows};
use crate::codes::Objective;
use crate::error::Result;
use crate::files::image_grid::UNIT;

/// Of the paper.
const SIGMA: f32 = 0.6;
/// The paper's loss, and the denoising form of it.
const OBJECTIVES: [Objective; 2] = [Objective::Dsm, Objective::Csm];
/// What training takes of the time of a model.
const TRAINING_SHARE: f64 = 0.9;
/// Share of the budget for the linear estimate.
const FILTER_SHARE: f64 = 0.06;
/// Held-out images that are denoised, at most.
const MOST_IMAGES: usize = 512;

/// How near estimates come to the clean images, dB.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    psnr: f64,
    psnr_clipped: f64,
    /// What the model itself expects.
    expected: Option<f64>,
    /// Of training, where there was any.
    steps: Option<u64>,
    training_seconds: Option<f64>,
    /// Images of the picture.
    shown: Vec<f32>,
}

pub(super) fn run(context: &Context<'_>) -> Result<Report> {
    let images = Images::load(context)?;
    let count = images.data.held_out.len().min(MOST_IMAGES);
    let clean = images.data.held_out.first(count)?;
    let noisy = add_noise(&clean, images.dimensions(), SIGMA, context.request.seed);
    let mut outcomes = Vec::new();
    for objective in OBJECTIVES {
        let name = format!("denoiser {objective:?}").to_lowercase();
        let share = (1.0 - FILTER_SHARE) / OBJECTIVES.len() as f64;
        let outcome = context.part(&name, share, |part| of_model(part, &name, objective, &images, [&clean, &noisy]))?;
        outcomes.push((format!("one step, {objective:?}").to_lowercase(), outcome));
    }
    let order = crate::order::Permutation::new(
        images.denoiser.model.order,
        images.denoiser.model.order_seed,
        images.dimensions(),
    );
    let linear = context.part("linear", FILTER_SHARE, |_| {
        let Some(filter) = Filter::new(&images.data.train, &order, SIGMA)? else { return Ok(None) };
        Ok(Some(Outcome::of(&clean, &filter.apply(&noisy), images.dimensions())))
    })?;
    let mut table = Table::new(
        "Peak signal-to-noise ratio, dB",
        &["estimate", "PSNR", "clipped", "the model expects", "steps", "training, s"],
    );
    let mut row = |name: &str, outcome: &Outcome| {
        table.push(vec![
            Cell::text(name),
            Cell::Number(outcome.psnr, 2),
            Cell::Number(outcome.psnr_clipped, 2),
            outcome.expected.map_or(Cell::None, |expected| Cell::Number(expected, 2)),
            outcome.steps.map_or(Cell::None, Cell::Count),
            outcome.training_seconds.map_or(Cell::None, |seconds| Cell::Number(seconds, 0)),
        ]);
    };
    let untouched = Outcome::of(&clean, &noisy, images.dimensions());
    row("noisy", &untouched);
    outcomes.iter().for_each(|(name, outcome)| row(name, outcome));
    if let Some(linear) = &linear {
        row("best linear estimate from x~_1 .. x~_d", linear);
    }
    let clean_shown = shown(&clean, images.dimensions());
    let mut rows = vec![clean_shown.as_slice(), &untouched.shown];
    rows.extend(outcomes.iter().map(|(_, outcome)| outcome.shown.as_slice()));
    rows.extend(linear.as_ref().map(|linear| linear.shown.as_slice()));
    write_rows(&context.out.join("denoised.png"), &rows, images.data.shape, UNIT, &context.png_text())?;
    let mut report = Report::new(format!("noise of {SIGMA} removed from {} in one step", images.name()));
    report.notes.push(format!(
        "{count} held-out images. One step x~ + sigma^2 s with contexts of the noisy image estimates E[x_d | x~_1 .. x~_d]: \
         the causal optimum, as the model has it. What the model expects is the PSNR of its own posterior variance, sigma^2 \
         (1 + sigma^2 ds_d/dx~_d): an estimate of the best that any causal estimate can do. The linear estimate has the \
         covariance of the training images and sees the same values; a filter that looks ahead can beat all of these."
    ));
    report.tables.push(table);
    let mut names = vec!["clean", "noisy"];
    names.extend(outcomes.iter().map(|(name, _)| name.as_str()));
    names.extend(linear.as_ref().map(|_| "linear"));
    report.pictures.push(("denoised.png".into(), format!("From the top: {}", names.join("; "))));
    Ok(report)
}

fn of_model(
    part: &Part<'_, '_>,
    name: &str,
    objective: Objective,
    images: &Images,
    [clean, noisy]: [&[f32]; 2],
) -> Result<Outcome> {
    let mut config = images.denoiser.clone();
    config.train.objective = objective;
    let training = part.train(name, config, &images.data, TRAINING_SHARE * part.seconds())?;
    let trained = part.load(&training)?;
    part.progress(TRAINING_SHARE, "denoising");
    let denoised = denoise(part.context().gpu, &trained, noisy, &DenoiseRequest::new(SIGMA), &mut |_| {})?;
    Ok(Outcome {
        expected: denoised.expected_mse.map(|mse| -10.0 * mse.log10()),
        steps: Some(training.steps),
        training_seconds: Some(training.seconds),
        ..Outcome::of(clean, &denoised.values, images.dimensions())
    })
}

impl Outcome {
    fn of(clean: &[f32], estimate: &[f32], dimensions: usize) -> Self {
        Self {
            psnr: psnr(clean, estimate),
            psnr_clipped: psnr_clipped(clean, estimate),
            expected: None,
            steps: None,
            training_seconds: None,
            shown: shown(estimate, dimensions),
        }
    }
}

/// As many images as a row of the picture has.
fn shown(values: &[f32], dimensions: usize) -> Vec<f32> {
    values[..values.len().min(16 * dimensions)].to_vec()
}
