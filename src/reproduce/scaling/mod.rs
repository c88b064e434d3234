//! `scaling`: losses of score matching on one Gaussian of growing dimension: what a step costs, how much its gradient
//! scatters, and how far an equal number of steps gets.

mod learner;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::learner::{BATCH, CONTEXT, FACTORS, Learner, Method, SIGMA, SMALL, WIDTH};
use super::{Cell, Context, Part, Report, Table};
use crate::codes::Objective;
use crate::config::TrainConfig;
use crate::data::Factors;
use crate::error::{Error, Result};
use crate::files::plot::{self, Curves};
use crate::models::score_field::losses::ScoreMatching;
use crate::nn::{GradientNoise, Scatter};

/// Half a decade apart.
const DIMENSIONS: [usize; 7] = [10, 32, 100, 316, 1000, 3162, 10_000];
/// How the budget is shared out: steps take longer as D grows.
const WEIGHTS: [f64; 7] = [1.0, 1.0, 1.5, 2.5, 4.0, 7.0, 12.0];
/// In the order of the report.
const METHODS: [Method; 6] = [
    Method::Joint(ScoreMatching::Exact),
    Method::Joint(ScoreMatching::Sliced { projections: 1 }),
    Method::Joint(ScoreMatching::SlicedVr { projections: 1 }),
    Method::Joint(ScoreMatching::Denoising { sigma: SIGMA }),
    Method::Conditional(Objective::Plain),
    Method::Conditional(Objective::Dsm),
];

/// Steps of every model, where the time allows; fewer than the least make no row.
const STEPS: u64 = 300;
const FEWEST_STEPS: u64 = 20;
/// Gradients that scatter is told from, where the time allows.
const GRADIENTS: u64 = 32;
const FEWEST_GRADIENTS: u64 = 4;

/// Shares of a part's time.
const TIMING: f64 = 0.12;
const SCATTER: f64 = 0.12;
const TRAINING: f64 = 0.5;
const _: () = assert!(TIMING + 3.0 * SCATTER + TRAINING <= 1.0);
/// A method that needs more than this share for one step is left out.
const LONGEST_STEP: f64 = 0.4;
/// Numbers of the first batch that gradients at the start and at the end are taken on; training counts from 1.
const START_BATCHES: u64 = 1 << 20;
const END_BATCHES: u64 = 2 << 20;

/// What one method came to at one D.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Outcome {
    /// Wall time of it all, s.
    seconds: f64,
    parameters: usize,
    step_seconds: Option<f64>,
    gradients: u64,
    /// At the initial weights.
    start: Option<Scatter>,
    /// The same with one batch: what the loss's own noise and directions do.
    own: Option<Scatter>,
    trained: Option<TrainedOutcome>,
    /// Why something is missing.
    missing: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TrainedOutcome {
    steps: u64,
    /// Mean and standard deviation of the loss of fresh batches.
    loss: f64,
    loss_deviation: f64,
    batches: u64,
    /// Fisher divergence from the true score, as a share of that of s = 0.
    divergence: f64,
    scatter: Scatter,
}

pub(super) fn run(context: &Context<'_>) -> Result<Report> {
    let mut report = Report::new("losses of score matching as the dimension grows");
    report.notes = notes();
    let name = |dimensions: usize, method: Method| format!("D {dimensions} {}", method.name());
    let weight_of = |(dimensions, weight): (usize, f64)| {
        METHODS.into_iter().filter(|&method| context.wants(&name(dimensions, method))).count() as f64 * weight
    };
    let mut weights_left: f64 = DIMENSIONS.into_iter().zip(WEIGHTS).map(weight_of).sum();
    if weights_left == 0.0 {
        let problem = "names no loss at any D";
        return Err(Error::input("--only", problem, "Name words such as `csm`, `sliced-vr`, or \"100 exact\""));
    }
    let mut seconds_left = context.seconds();
    let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
    for (row, (dimensions, weight)) in DIMENSIONS.into_iter().zip(WEIGHTS).enumerate() {
        let truth = Factors::new(dimensions, FACTORS, context.request.seed);
        let mut of_dimension = Vec::new();
        for (column, method) in METHODS.into_iter().enumerate() {
            let name = name(dimensions, method);
            if !context.wants(&name) {
                of_dimension.push(Outcome::default());
                continue;
            }
            let before = row.checked_sub(1).map(|row| (DIMENSIONS[row], &outcomes[row][column]));
            // What one leaves over is for those after it.
            let share = weight / weights_left * seconds_left.max(0.0) / context.seconds();
            let outcome = context.part(&name, share, |part| {
                let start = Instant::now();
                let outcome = of_method(part, method, &truth, before)?;
                Ok(Outcome { seconds: start.elapsed().as_secs_f64(), ..outcome })
            })?;
            (weights_left, seconds_left) = (weights_left - weight, seconds_left - outcome.seconds);
            of_dimension.push(outcome);
        }
        outcomes.push(of_dimension);
    }
    report.tables = vec![losses_table(context, &outcomes), scatter_table(&outcomes)];
    report.pictures.push(draw(context, &outcomes)?);
    Ok(report)
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "Data: factor analysis, x = A z + v eps with {FACTORS} factors and v in [0.5, 1), whose score, conditional \
             scores and least losses are known at every D. Fresh samples in every step, batches of {BATCH}. \
             `exact`, `sliced`, `sliced-vr` (one random direction of signs) and `denoising` (sigma {SIGMA}) learn the \
             score of the whole vector with one network D -> {WIDTH} -> {WIDTH} -> D and a diagonal; `csm` and `csm-dsm` \
             (sigma {SIGMA}) learn conditional scores with a masked dense context network {WIDTH} -> {WIDTH}, K = \
             {CONTEXT}, and a score network of one hidden layer of {SMALL} for all dimensions. All take the same number \
             of steps of Adam from the same settings, where the time allows."
        ),
        "`optimum` is the least value that the loss can have on these data. `divergence left` is the Fisher divergence \
         from the true score (of the joint density, of the conditionals; noisy for the denoising losses) as a share of \
         that of s = 0: comparable between losses, 0 at the optimum. `gradient noise` is tr Cov(g) / |E g|^2 of the \
         gradient g of one batch: as many batches as have to be averaged until scatter is as large as what they say. \
         `of the loss alone` is the same with one batch over and over: what the loss's own directions and noise do; a \
         deterministic loss has 0."
            .into(),
        "Exact score matching takes D tangents of the network, forward and backward, in every step, so its \
         time grows with D^2. It ends where one step would take more than two fifths of the time \
         of its part of the budget."
            .into(),
    ]
}

/// One method at one D; `before` is what it came to at the D before.
fn of_method(
    part: &Part<'_, '_>,
    method: Method,
    truth: &Factors,
    before: Option<(usize, &Outcome)>,
) -> Result<Outcome> {
    let dimensions = truth.dimensions();
    if let Some(reason) = too_long(part, method, dimensions, before) {
        return Ok(Outcome { missing: Some(reason), ..Outcome::default() });
    }
    let (gpu, seed) = (part.context().gpu, part.context().request.seed);
    let new = || Learner::new(gpu, method, dimensions, seed);
    let cell = CellRun { part, method, truth, seed };
    part.progress(0.0, "timing steps");
    let step_seconds = cell.time_steps(&new()?)?;
    // What was timed has moved.
    let learner = new()?;
    let parameters = learner.weights.table().count();
    let mut outcome = Outcome { parameters, step_seconds: Some(step_seconds), ..Outcome::default() };
    let fits = |share: f64| (share * part.seconds() / step_seconds) as u64;
    outcome.gradients = fits(SCATTER).min(GRADIENTS);
    if outcome.gradients >= FEWEST_GRADIENTS {
        part.progress(TIMING, "gradients at the start");
        outcome.start = Some(cell.gradients(&learner, outcome.gradients, START_BATCHES, false)?.0);
        outcome.own = Some(cell.gradients(&learner, outcome.gradients, START_BATCHES, true)?.0);
    }
    let steps = fits(TRAINING).min(STEPS);
    if steps < FEWEST_STEPS {
        outcome.missing = Some(format!("time for {steps} steps"));
        return Ok(outcome);
    }
    let trained = cell.train(&learner, steps, outcome.gradients.max(FEWEST_GRADIENTS))?;
    match trained.loss.is_finite() && trained.divergence.is_finite() {
        true => outcome.trained = Some(trained),
        false => outcome.missing = Some(format!("not finite after {steps} steps")),
    }
    Ok(outcome)
}

/// Why exact score matching would outlast its part, if it would: D tangents, each of D inputs and outputs.
fn too_long(
    part: &Part<'_, '_>,
    method: Method,
    dimensions: usize,
    before: Option<(usize, &Outcome)>,
) -> Option<String> {
    let (smaller, outcome) = before.filter(|_| method == Method::Joint(ScoreMatching::Exact))?;
    match outcome.step_seconds {
        Some(seconds) => {
            let expected = seconds * (dimensions as f64 / smaller as f64).powi(2);
            (expected > LONGEST_STEP * part.seconds()).then(|| format!("a step would take about {expected:.1} s"))
        }
        // At the D before it took too long, or was not wanted.
        None => outcome.missing.is_some().then(|| "a step would take longer still".to_owned()),
    }
}

/// What all measurements of one part share.
struct CellRun<'a, 'p, 'c> {
    part: &'a Part<'p, 'c>,
    method: Method,
    truth: &'a Factors,
    seed: u64,
}

impl CellRun<'_, '_, '_> {
    fn batch(&self, number: u64) -> Vec<f32> {
        let mut x = vec![0.0; BATCH * self.truth.dimensions()];
        self.truth.draw(self.seed, number, &mut x);
        x
    }

    /// Loss, gradient and update on one batch, s: the fastest of stretches that are long enough for the clock:
    /// whatever else the machine does makes steps longer, never shorter.
    fn time_steps(&self, learner: &Learner<'_>) -> Result<f64> {
        const STRETCH: f64 = 0.2;
        let (train, allowance) = (train_config(STEPS), TIMING * self.part.seconds());
        learner.set_batch(&self.batch(0))?;
        let clocked = |count: u64| -> Result<f64> {
            let start = Instant::now();
            for step in 1..=count {
                learner.loss_and_gradient(step)?;
                learner.update(&train, step)?;
            }
            learner.gpu.wait()?;
            Ok(start.elapsed().as_secs_f64() / count as f64)
        };
        // Kernels compile in the first one.
        clocked(1)?;
        let start = Instant::now();
        let single = clocked(1)?;
        let mut fastest = single;
        let mut stretches = 0;
        let count = (STRETCH / single.max(1e-6)).clamp(1.0, 200.0) as u64;
        while stretches < 7 && start.elapsed().as_secs_f64() < allowance {
            fastest = fastest.min(clocked(count)?);
            stretches += 1;
        }
        Ok(fastest)
    }

    /// Scatter and losses of gradients on fresh batches, or on one with fresh noise and directions.
    fn gradients(&self, learner: &Learner<'_>, count: u64, first: u64, one_batch: bool) -> Result<(Scatter, Vec<f64>)> {
        let mut noise = GradientNoise::new(learner.gpu, &learner.optimiser.gradient)?;
        let mut losses = Vec::new();
        for number in first..first + count {
            self.part.context().check_stop()?;
            if number == first || !one_batch {
                learner.set_batch(&self.batch(number))?;
            }
            learner.loss_and_gradient(number)?;
            losses.push(learner.loss()?);
            noise.add(&learner.optimiser.gradient)?;
        }
        Ok((noise.finish()?, losses))
    }

    /// Steps on fresh batches, and what they came to on so many others.
    fn train(&self, learner: &Learner<'_>, steps: u64, batches: u64) -> Result<TrainedOutcome> {
        let train = train_config(steps);
        for step in 1..=steps {
            learner.set_batch(&self.batch(step))?;
            learner.loss_and_gradient(step)?;
            learner.update(&train, step)?;
            if step % 16 == 0 {
                learner.gpu.wait()?;
                self.part.context().check_stop()?;
                let done = TIMING + 2.0 * SCATTER + TRAINING * step as f64 / steps as f64;
                self.part.progress(done, &format!("{}: step {step} of {steps}", self.method.name()));
            }
        }
        learner.gpu.wait()?;
        self.part.progress(1.0 - SCATTER, "gradients at the end");
        let (scatter, losses) = self.gradients(learner, batches, END_BATCHES, false)?;
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let squares: f64 = losses.iter().map(|l| (l - loss).powi(2)).sum();
        let loss_deviation = (squares / (losses.len() - 1) as f64).sqrt();
        Ok(TrainedOutcome { steps, loss, loss_deviation, batches, divergence: self.divergence(learner)?, scatter })
    }

    /// Share of the Fisher divergence of s = 0 that is left.
    fn divergence(&self, learner: &Learner<'_>) -> Result<f64> {
        const BATCHES: u64 = 2;
        let mut sum = 0.0;
        for number in 0..BATCHES {
            let x = self.batch(END_BATCHES + number);
            learner.set_batch(&x)?;
            learner.loss_and_gradient(END_BATCHES + number)?;
            sum += learner.divergence(self.truth, self.method, &x)?;
        }
        Ok(sum / BATCHES as f64 / (0.5 * self.method.squared_score(self.truth)))
    }
}

fn train_config(steps: u64) -> TrainConfig {
    TrainConfig { steps, batch: BATCH, learning_rate: 3e-3, warmup: 10, final_rate: 0.05, ..TrainConfig::default() }
}

/// Every method at every D that was wanted.
fn rows(outcomes: &[Vec<Outcome>]) -> impl Iterator<Item = (usize, Method, &Outcome)> {
    let every = DIMENSIONS.into_iter().zip(outcomes).flat_map(|(dimensions, row)| {
        METHODS.into_iter().zip(row).map(move |(method, outcome)| (dimensions, method, outcome))
    });
    every.filter(|(_, _, outcome)| outcome.step_seconds.is_some() || outcome.missing.is_some())
}

fn losses_table(context: &Context<'_>, outcomes: &[Vec<Outcome>]) -> Table {
    let columns =
        ["D", "loss", "parameters", "ms a step", "steps", "value", "+-", "optimum", "divergence left", "remark"];
    let mut table = Table::new("Losses and time", &columns);
    for (dimensions, method, outcome) in rows(outcomes) {
        let optimum = method.optimum(&Factors::new(dimensions, FACTORS, context.request.seed));
        let milliseconds = outcome.step_seconds.map_or(Cell::None, |seconds| Cell::Number(1e3 * seconds, 2));
        let mut row = vec![
            Cell::Count(dimensions as u64),
            Cell::text(method.name()),
            Cell::Count(outcome.parameters as u64),
            milliseconds,
        ];
        if outcome.parameters == 0 {
            row[2] = Cell::None;
        }
        row.extend(match &outcome.trained {
            None => [Cell::None, Cell::None, Cell::None, Cell::Number(optimum, 2), Cell::None],
            Some(trained) => [
                Cell::Count(trained.steps),
                Cell::Number(trained.loss, 2),
                Cell::Number(trained.loss_deviation / (trained.batches as f64).sqrt(), 2),
                Cell::Number(optimum, 2),
                Cell::Number(trained.divergence, 4),
            ],
        });
        row.push(outcome.missing.as_deref().map_or(Cell::None, Cell::text));
        table.push(row);
    }
    table
}

fn scatter_table(outcomes: &[Vec<Outcome>]) -> Table {
    let columns = [
        "D",
        "loss",
        "gradients",
        "gradient noise at the start",
        "of the loss alone",
        "gradient noise after training",
        "s.d. of a batch's loss",
    ];
    let mut table = Table::new("Gradients", &columns);
    for (dimensions, method, outcome) in rows(outcomes).filter(|(_, _, outcome)| outcome.start.is_some()) {
        let ratio = |scatter: Option<Scatter>| {
            scatter.and_then(|scatter| scatter.ratio()).map_or(Cell::None, |ratio| Cell::Number(ratio, 3))
        };
        let trained = outcome.trained.as_ref();
        table.push(vec![
            Cell::Count(dimensions as u64),
            Cell::text(method.name()),
            Cell::Count(outcome.gradients),
            ratio(outcome.start),
            ratio(own_noise(outcome)),
            ratio(trained.map(|trained| trained.scatter)),
            trained.map_or(Cell::None, |trained| Cell::Number(trained.loss_deviation, 3)),
        ]);
    }
    table
}

/// Scatter with one batch, over the mean gradient of all data.
fn own_noise(outcome: &Outcome) -> Option<Scatter> {
    Some(Scatter { variance: outcome.own?.variance, squared_mean: outcome.start?.squared_mean })
}

fn draw(context: &Context<'_>, outcomes: &[Vec<Outcome>]) -> Result<(String, String)> {
    let curves = |value: &dyn Fn(&Outcome) -> Option<f64>| -> Vec<(&'static str, Vec<(f64, f64)>)> {
        let of_method = |(column, method): (usize, Method)| {
            let points = DIMENSIONS.into_iter().zip(outcomes);
            let point = |(dimensions, row): (usize, &Vec<Outcome>)| Some((dimensions as f64, value(&row[column])?));
            (method.name(), points.filter_map(point).collect())
        };
        METHODS.into_iter().enumerate().map(of_method).collect()
    };
    let panel = |title: &str, value: &dyn Fn(&Outcome) -> Option<f64>| Curves {
        title: title.to_owned(),
        x: "D",
        curves: curves(value),
    };
    let panels = [
        panel("time of a step, ms", &|outcome| Some(1e3 * outcome.step_seconds?)),
        panel("gradient noise at the start", &|outcome| outcome.start?.ratio()),
        panel("gradient noise of the loss alone", &|outcome| own_noise(outcome)?.ratio()),
        panel("divergence left after training", &|outcome| Some(outcome.trained.as_ref()?.divergence)),
    ];
    let file = "scaling.png";
    let title = "Score matching as the dimension grows";
    plot::log_log(&context.out.join(file), &panels, title, &context.png_text())?;
    let caption = "Time of a step, gradient noise of a batch and of the loss alone (exact and csm have none there), and \
                   the share of the Fisher divergence that is left after training, over D; both axes logarithmic.";
    Ok((file.into(), caption.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_names_of_their_own() {
        let names: std::collections::HashSet<_> = METHODS.map(Method::name).into_iter().collect();
        assert_eq!(names.len(), METHODS.len());
    }
}
