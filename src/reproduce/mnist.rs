//! `mnist`: likelihood, quality and speed of samples by every head and objective, with one context network and in equal
//! time; and every sampler on one model.

use serde::{Deserialize, Serialize};

use super::images::Images;
use super::{Cell, Context, Part, Report, Table, TrainedPart, file_stem};
use crate::ask::closed_form;
use crate::ask::denoise::write_rows;
use crate::ask::evaluate::{EvaluateRequest, evaluate};
use crate::ask::sample::{Drawn, SampleRequest, Sampler, sample};
use crate::ask::trained::Trained;
use crate::codes::Objective;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::arrays::{HostTensor, read_npy, write_npy};
use crate::files::image_grid::UNIT;
use crate::models::ar_csm::HeadKind;
use crate::models::classifier::{Classifier, FEATURES, Reading};
use crate::numbers::frechet::Moments;

/// Of each context network.
const MODELS: [(HeadKind, Objective); 6] = [
    (HeadKind::Score, Objective::Dsm),
    (HeadKind::Score, Objective::Csm),
    (HeadKind::Gaussian, Objective::Ml),
    (HeadKind::Mog, Objective::Ml),
    (HeadKind::Mog, Objective::Dsm),
    (HeadKind::Mol, Objective::Ml),
];
/// Least budget for convolutions on images larger than digits, min.
const MINUTES_FOR_CONV: f64 = 60.0;
/// Shares of the budget: a convolutional network needs more of it than a dense one, all samplers together less.
const WEIGHT_OF_CONV: f64 = 2.5;
const WEIGHT_OF_SAMPLERS: f64 = 1.5;
/// What training takes of the time of a model.
const TRAINING_SHARE: f64 = 0.75;
/// Images of each model in the picture.
const SHOWN: usize = 16;
/// Samples that are drawn together.
const TOGETHER: usize = 128;

/// What a model came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    training: TrainedPart,
    /// Nats of held-out images with their standard error.
    nats: [f64; 2],
    dsm_loss: Option<f64>,
    drawn: Quality,
}

/// How samples look, and what they cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Quality {
    frechet: Option<f64>,
    confidence: Option<f64>,
    seconds_per_image: f64,
    evaluations: u64,
}

/// Judge of samples, where there is a classifier for such images.
struct Judge {
    classifier: Option<Classifier>,
    real: Option<Moments>,
    /// Distance between two halves of the real images that are as large as a set of samples, and their confidence.
    floor: Option<(f64, f64)>,
    count: usize,
}

pub(super) fn run(context: &Context<'_>) -> Result<Report> {
    let images = Images::load(context)?;
    let judge = Judge::new(context, &images)?;
    let convolves = images.dimensions() <= 256 || context.request.minutes >= MINUTES_FOR_CONV;
    let networks: Vec<(&str, &Config, f64)> = match convolves {
        true => vec![("made", &images.made, 1.0), ("conv", &images.conv, WEIGHT_OF_CONV)],
        false => vec![("made", &images.made, 1.0)],
    };
    let wanted = |network: &str| -> Vec<(HeadKind, Objective)> {
        MODELS.into_iter().filter(|&(head, objective)| context.wants(&model_name(network, head, objective))).collect()
    };
    let weights: f64 = networks.iter().map(|(network, _, weight)| weight * wanted(network).len() as f64).sum();
    if weights == 0.0 {
        let problem = "names no model";
        return Err(Error::input("--only", problem, "Name words such as `made`, `mog`, `dsm`, or \"conv score dsm\""));
    }
    let unit = 1.0 / (weights + WEIGHT_OF_SAMPLERS);
    let mut report = Report::new(format!("heads, objectives and samplers on {}", images.name()));
    report.notes = notes(context, &images, &judge);
    let mut table = Table::new(
        "Models",
        &[
            "network",
            "head",
            "objective",
            "nats",
            "+-",
            "dsm loss",
            "FD",
            "confidence",
            "ms an image",
            "steps",
            "training, s",
        ],
    );
    for &(network, config, weight) in &networks {
        for (head, objective) in wanted(network) {
            let name = model_name(network, head, objective);
            let mut config = config.clone();
            (config.model.head, config.train.objective) = (head, objective);
            let outcome = context.part(&name, weight * unit, |part| of_model(part, &name, config, &images, &judge))?;
            table.push(row_of_model(network, head, objective, &outcome));
        }
    }
    if let Some((floor, confidence)) = judge.floor {
        let mut row = vec![Cell::text("(held-out images)"), Cell::text(""), Cell::text("")];
        row.extend([Cell::None, Cell::None, Cell::None, Cell::Number(floor, 2), Cell::Number(confidence, 3)]);
        row.extend([Cell::None, Cell::None, Cell::None]);
        table.push(row);
    }
    let samplers = context.part("samplers", WEIGHT_OF_SAMPLERS * unit, |part| of_samplers(part, &images, &judge))?;
    report.tables = vec![table, table_of_samplers(&samplers)];
    for &(network, _, _) in &networks {
        let models = wanted(network);
        if !models.is_empty() {
            report.pictures.push(draw(context, &images, network, &models)?);
        }
    }
    Ok(report)
}

fn notes(context: &Context<'_>, images: &Images, judge: &Judge) -> Vec<String> {
    let sigma = images.made.noise.sigma_min;
    let likelihood = format!(
        "Nats are the mean of -log p(x + {sigma} eps | clean values before) over {} held-out images: exact for mixtures, by \
         the multi-level chain for the free score. Every model of a network has the same context network but for its last \
         layer, and equal time.",
        likelihood_count(context, images)
    );
    let quality = match judge.classifier {
        Some(_) => format!(
            "FD is the squared Frechet distance of {} samples from held-out images on {FEATURES} features of a small \
             classifier, whose mean largest probability is the confidence; the last row has other held-out images in place \
             of samples, as many of them. Scores are sampled by the default sampler, mixtures exactly.",
            judge.count
        ),
        None => "There is no classifier for such images: give one by --features FILE for Frechet distances.".into(),
    };
    vec![likelihood, quality]
}

fn model_name(network: &str, head: HeadKind, objective: Objective) -> String {
    format!("{network} {head:?} {objective:?}").to_lowercase()
}

/// Held-out images whose likelihood is taken.
fn likelihood_count(context: &Context<'_>, images: &Images) -> usize {
    images.count(context, 0.5, [4, 256]).min(images.data.held_out.len())
}

fn of_model(part: &Part<'_, '_>, name: &str, config: Config, images: &Images, judge: &Judge) -> Result<Outcome> {
    let (context, gpu) = (part.context(), part.context().gpu);
    let training = part.train(name, config, &images.data, TRAINING_SHARE * part.seconds())?;
    let trained = part.load(&training)?;
    part.progress(TRAINING_SHARE, "likelihoods");
    let held_out = images.data.held_out.first(likelihood_count(context, images))?;
    let (nats, dsm_loss) = match trained.config.model.head {
        HeadKind::Score => {
            let request =
                EvaluateRequest { flow_count: Some(0), seed: context.request.seed, ..EvaluateRequest::new(&trained) };
            let evaluation = evaluate(gpu, &trained, &held_out, None, &request, &mut |_| {})?;
            (of_samples(evaluation.levels[0].of_samples.iter().map(|sample| sample.nats)), evaluation.losses.dsm)
        }
        HeadKind::Gaussian | HeadKind::Mog | HeadKind::Mol => {
            let sigma = closed_form::natural_sigma(&trained);
            let likelihood = closed_form::log_likelihood(gpu, &trained, &held_out, sigma, context.request.seed)?;
            let is_dsm = trained.config.train.objective == Objective::Dsm;
            (of_samples(likelihood.nats.into_iter()), is_dsm.then_some(training.held_out_loss))
        }
    };
    context.check_stop()?;
    part.progress(0.5 * (1.0 + TRAINING_SHARE), "samples");
    let (drawn, quality) = judge.draw_and_judge(part, &trained, Sampler::default_of(&trained.config), judge.count)?;
    let shown = SHOWN * images.dimensions();
    let values = HostTensor::new([SHOWN, images.dimensions()], drawn.values[..shown].to_vec());
    write_npy(&samples_path(context, name), &values)?;
    Ok(Outcome { training, nats, dsm_loss, drawn: quality })
}

fn samples_path(context: &Context<'_>, name: &str) -> std::path::PathBuf {
    context.out.join("parts").join(format!("{}.npy", file_stem(name)))
}

/// Mean and standard error.
fn of_samples(nats: impl ExactSizeIterator<Item = f64> + Clone) -> [f64; 2] {
    let count = nats.len() as f64;
    let mean = nats.clone().sum::<f64>() / count;
    let squares: f64 = nats.map(|value| (value - mean).powi(2)).sum();
    [mean, (squares / (count - 1.0).max(1.0) / count).sqrt()]
}

impl Judge {
    fn new(context: &Context<'_>, images: &Images) -> Result<Self> {
        let count = images.count(context, 5.0, [2 * SHOWN, 2000]).min(images.data.held_out.len() / 2).max(SHOWN);
        let classifier = match &context.request.features {
            Some(path) => Some(Classifier::load(path, images.data.shape)?),
            None => embedded_for(images)?,
        };
        let (mut real, mut floor) = (None, None);
        if let Some(classifier) = &classifier {
            // The last images are not those that likelihoods are taken of.
            let all = images.data.held_out.first(images.data.held_out.len())?;
            if all.len() < 3 * count * images.dimensions() / 2 {
                let problem =
                    format!("has {} held-out images, too few for a Frechet distance", images.data.held_out.len());
                return Err(Error::input(images.data.name.clone(), problem, "Give more images"));
            }
            let (rest, as_samples) = all.split_at(all.len() - count * images.dimensions());
            let real_moments = Moments::of(&classifier.read(rest).features, FEATURES);
            let reading = classifier.read(as_samples);
            let distance = Moments::of(&reading.features, FEATURES).squared_distance(&real_moments);
            floor = Some((distance, reading.confidence()));
            real = Some(real_moments);
        }
        Ok(Self { classifier, real, floor, count })
    }

    fn draw_and_judge(
        &self,
        part: &Part<'_, '_>,
        trained: &Trained,
        sampler: Sampler,
        count: usize,
    ) -> Result<(Drawn, Quality)> {
        let context = part.context();
        let request =
            SampleRequest { sampler, batch: TOGETHER, ..SampleRequest::new(trained, count, context.request.seed) };
        let mut drawn = sample(context.gpu, trained, &request, &mut |_| {})?;
        let shown: Vec<f32> = drawn.values.iter().map(|value| value.clamp(0.0, 1.0)).collect();
        drawn.values = shown;
        let reading: Option<Reading> = self.classifier.as_ref().map(|classifier| classifier.read(&drawn.values));
        let distance =
            |(reading, real): (&Reading, &Moments)| Moments::of(&reading.features, FEATURES).squared_distance(real);
        let quality = Quality {
            frechet: reading.as_ref().zip(self.real.as_ref()).map(distance),
            confidence: reading.as_ref().map(Reading::confidence),
            seconds_per_image: drawn.seconds / count as f64,
            evaluations: drawn.score_evaluations,
        };
        Ok((drawn, quality))
    }
}

/// The embedded classifiers know digits; other images of their size are none of theirs.
fn embedded_for(images: &Images) -> Result<Option<Classifier>> {
    match images.name() {
        "digits" | "mnist" => Classifier::embedded(images.data.shape),
        _ => Ok(None),
    }
}

fn row_of_model(network: &str, head: HeadKind, objective: Objective, outcome: &Outcome) -> Vec<Cell> {
    let number = |value: Option<f64>, decimals| value.map_or(Cell::None, |value| Cell::Number(value, decimals));
    vec![
        Cell::text(network),
        Cell::text(format!("{head:?}").to_lowercase()),
        Cell::text(format!("{objective:?}").to_lowercase()),
        Cell::Number(outcome.nats[0], 1),
        Cell::Number(outcome.nats[1], 1),
        number(outcome.dsm_loss, 2),
        number(outcome.drawn.frechet, 2),
        number(outcome.drawn.confidence, 3),
        Cell::Number(1e3 * outcome.drawn.seconds_per_image, 1),
        Cell::Count(outcome.training.steps),
        Cell::Number(outcome.training.seconds, 0),
    ]
}

/// A sampler with its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OfSampler {
    name: String,
    levels: String,
    rounds: u64,
    quality: Quality,
}

/// Every sampler, on the score head of the dense network by dsm; exact draws on the mixture by dsm.
fn of_samplers(part: &Part<'_, '_>, images: &Images, judge: &Judge) -> Result<Vec<OfSampler>> {
    let context = part.context();
    let mut models = Vec::new();
    for (head, objective) in [(HeadKind::Score, Objective::Dsm), (HeadKind::Mog, Objective::Dsm)] {
        let name = model_name("made", head, objective);
        if context.wants(&name) {
            let path = context.out.join(format!("models/{}.safetensors", file_stem(&name)));
            models.push(Trained::load(context.gpu, &path)?);
        }
    }
    let mut samplers: Vec<(&Trained, Sampler)> = Vec::new();
    for trained in &models {
        samplers.extend(Sampler::presets(&trained.config).into_iter().map(|sampler| (trained, sampler)));
    }
    let count = (judge.count / 2).max(SHOWN);
    let mut results = Vec::new();
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for (number, (trained, sampler)) in samplers.iter().enumerate() {
        context.check_stop()?;
        part.progress(number as f64 / samplers.len() as f64, sampler.name());
        let (drawn, quality) = judge.draw_and_judge(part, trained, sampler.clone(), count)?;
        rows.push(drawn.values[..SHOWN * images.dimensions()].to_vec());
        let levels = sampler.noise_levels().iter().map(|sigma| format!("{sigma:.2}")).collect::<Vec<_>>();
        let levels = match levels.len() {
            0..=4 => levels.join(", "),
            n => format!("{} .. {}, {n}", levels[0], levels[n - 1]),
        };
        let name = sampler.name().to_owned();
        results.push(OfSampler { name, levels, rounds: sampler.rounds(), quality });
    }
    if !rows.is_empty() {
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        write_rows(&context.out.join("samplers.png"), &rows, images.data.shape, UNIT, &context.png_text())?;
    }
    Ok(results)
}

fn table_of_samplers(samplers: &[OfSampler]) -> Table {
    let mut table = Table::new(
        "Samplers (dense network; rows of samplers.png in this order)",
        &[
            "sampler",
            "noise levels",
            "evaluations a value",
            "rounds in sequence",
            "FD",
            "confidence",
            "images a second",
        ],
    );
    for sampler in samplers {
        let number = |value: Option<f64>, decimals| value.map_or(Cell::None, |value| Cell::Number(value, decimals));
        table.push(vec![
            Cell::text(sampler.name.clone()),
            Cell::text(sampler.levels.clone()),
            Cell::Count(sampler.quality.evaluations),
            Cell::Count(sampler.rounds),
            number(sampler.quality.frechet, 2),
            number(sampler.quality.confidence, 3),
            Cell::Number(1.0 / sampler.quality.seconds_per_image, 2),
        ]);
    }
    table
}

/// Held-out images above samples of every model.
fn draw(
    context: &Context<'_>,
    images: &Images,
    network: &str,
    models: &[(HeadKind, Objective)],
) -> Result<(String, String)> {
    let mut rows = vec![images.data.held_out.first(SHOWN.min(images.data.held_out.len()))?];
    let mut names = vec!["held-out images".to_owned()];
    for &(head, objective) in models {
        let name = model_name(network, head, objective);
        rows.push(read_npy(&samples_path(context, &name))?.values);
        names.push(name);
    }
    let file = format!("samples-{network}.png");
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    write_rows(&context.out.join(&file), &rows, images.data.shape, UNIT, &context.png_text())?;
    Ok((file, format!("From the top: {}", names.join("; "))))
}
