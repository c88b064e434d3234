//! `toy-2d`: densities in the plane that are known, learned by every head and objective with one context network and in
//! equal time; Kullback-Leibler divergence and total variation by sums over a grid.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::{Cell, Context, Part, Report, Table};
use crate::ask::closed_form;
use crate::ask::likelihood::{Chain, Level, chain_grids};
use crate::ask::sample::geometric;
use crate::ask::trained::Trained;
use crate::codes::Objective;
use crate::config::{Config, TrainConfig};
use crate::data::{self, Dataset, Density};
use crate::error::{Error, Result};
use crate::files::plot::{self, HeatMap};
use crate::gpu::Gpu;
use crate::models::ar_csm::HeadKind;

const CONFIG: &str = include_str!("../../configs/toy-2d.toml");
/// In the order of the report.
const TOYS: [&str; 5] = ["8gaussians", "spirals", "checkerboard", "pinwheel", "moons"];
/// Every head with every objective that it has.
const MODELS: [(HeadKind, Objective); 11] = [
    (HeadKind::Score, Objective::Dsm),
    (HeadKind::Score, Objective::Csm),
    (HeadKind::Gaussian, Objective::Ml),
    (HeadKind::Gaussian, Objective::Dsm),
    (HeadKind::Gaussian, Objective::Csm),
    (HeadKind::Mog, Objective::Ml),
    (HeadKind::Mog, Objective::Dsm),
    (HeadKind::Mog, Objective::Csm),
    (HeadKind::Mol, Objective::Ml),
    (HeadKind::Mol, Objective::Dsm),
    (HeadKind::Mol, Objective::Csm),
];

/// Noise level of the densities that are compared, and the lowest one of the training.
const SIGMA: f32 = 0.05;
/// Highest noise level of the training: modes as far apart as the ring is wide overlap under it, so that scores tell their
/// weights; more would take time from the fine levels.
const SIGMA_MAX: f32 = 2.0;
/// Levels of the chain from the highest one down to [`SIGMA`].
const LEVELS: usize = 5;
/// Half the side of the square that is integrated over; every toy has less than 1e-4 of its mass beyond it.
const REACH: f64 = 5.0;
/// Cells on a side: their width is 0.6 of the noise level, so that sums over cells are as good as integrals.
const CELLS: usize = 320;
/// Cells by which a chain's last grid reaches beyond the square on either side, so that what lies there is not pressed into it.
const BEYOND: usize = 48;
/// Cells on a side of a picture.
const PICTURE: usize = 160;
/// What training leaves of the time of a model.
const TRAINING_SHARE: f64 = 0.85;
/// The integral of a conditional is looked at where its context has at least this density.
const NOTABLE: f64 = 1e-4;
/// Conditionals in closed form may have mass beyond the square, above all where contexts are rare. At every so many-th column
/// they are integrated over so many times its side; while the integral is off by more than [`SMALL`], over twice as much
/// again, by cells twice as wide, up to [`WIDEST`] sides.
const WIDE_STRIDE: usize = 8;
const WIDE: usize = 8;
const WIDEST: usize = 16_384;
const SMALL: f64 = 5e-4;

/// What a model came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    steps: u64,
    training_seconds: f64,
    parameters: usize,
    kl: f64,
    total_variation: f64,
    /// Largest |1 - integral| of a conditional over all of its grid, or eight times the square's side.
    integral_error: f64,
    /// (columns, rows) of [`PICTURE`] on a side: greys of the square root of the density.
    picture: Vec<u8>,
}

/// A head, an objective, and what they came to.
type Learned = (HeadKind, Objective, Outcome);

/// A density on the cells of the square: p(y_1) of every column, and p(y_2 | y_1) of every cell (column, row).
struct OnGrid {
    first: Vec<f64>,
    second: Vec<f64>,
}

/// Centre of a cell.
fn centre(cell: usize) -> f64 {
    REACH * ((2 * cell + 1) as f64 / CELLS as f64 - 1.0)
}

const WIDTH: f64 = 2.0 * REACH / CELLS as f64;

pub(super) fn run(context: &Context<'_>) -> Result<Report> {
    let mut report = Report::new("known densities in the plane by every head and objective");
    report.notes = notes();
    let wanted = |toy: &str| -> Vec<(HeadKind, Objective)> {
        MODELS.into_iter().filter(|&(head, objective)| context.wants(&model_name(toy, head, objective))).collect()
    };
    let n_models: usize = TOYS.iter().map(|toy| wanted(toy).len()).sum();
    if n_models == 0 {
        let problem = "names no model";
        return Err(Error::input("--only", problem, "Name words such as `spirals`, `mog`, `dsm`, or \"moons mog ml\""));
    }
    let share = 1.0 / n_models as f64;
    let mut summary = Table::new(
        "Best of each kind: KL, nats",
        &["density", "maximum likelihood", "score matching", "free score", "gap", "gap of the free score"],
    );
    let mut details = Vec::new();
    for toy in TOYS.into_iter().filter(|toy| !wanted(toy).is_empty()) {
        let mut config = Config::from_toml(CONFIG, "configs/toy-2d.toml")?;
        config.data.spec = format!("toy:{toy}");
        config.train.seed = context.request.seed;
        let data = data::load(&config.data, context.request.seed)?;
        let density = Density::toy(toy)?;
        let truth = OnGrid::of_density(&density);
        let mut outcomes = Vec::new();
        for (head, objective) in wanted(toy) {
            let name = model_name(toy, head, objective);
            let settings = settings(config.clone(), head, objective);
            let outcome = context.part(&name, share, |part| of_model(part, &name, settings, &data, &truth))?;
            outcomes.push((head, objective, outcome));
        }
        report.pictures.push(draw(context, toy, &truth, &outcomes)?);
        summary.push(summary_of(toy, &outcomes));
        details.push(details_of(toy, &density, &truth, &outcomes));
    }
    report.tables = vec![summary];
    report.tables.extend(details);
    Ok(report)
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "Compared are densities on the plane at the noise level {SIGMA}: p(y1) p(y2 | x1 = y1), the conditionals of y_d = \
             x_d + {SIGMA} eps given the clean value before it. The truth's are integrals over its density; a mixture's are \
             in closed form; those of the free score are the multi-level chain of {LEVELS} levels from {SIGMA_MAX} down to \
             {SIGMA}, which is what the sampler draws. All of them are normalised densities; KL(truth, model) and total \
             variation are sums over {CELLS} x {CELLS} cells of [-{REACH}, {REACH}]^2. `KL of the noise` is KL(clean truth, \
             noisy truth): what the level hides."
        ),
        format!(
            "All models have one context network (masked dense, 2 x 128, residual) and equal time; each is given as many \
             steps as fit it. Score matching is dsm or csm over noise levels {SIGMA} to {SIGMA_MAX}, whatever the head; \
             maximum likelihood takes x + {SIGMA} eps. `integral off` is the largest |1 - integral| of a conditional whose \
             context has a density of {NOTABLE} or more, over {WIDE} times the square's side, or up to {WIDEST} times while it \
             is over {SMALL}; of the free score, over the chain's grid."
        ),
    ]
}

fn model_name(toy: &str, head: HeadKind, objective: Objective) -> String {
    format!("{toy} {}", name_of(head, objective))
}

fn name_of(head: HeadKind, objective: Objective) -> String {
    format!("{head:?} {objective:?}").to_lowercase()
}

fn settings(mut config: Config, head: HeadKind, objective: Objective) -> Config {
    config.model.head = head;
    config.train.objective = objective;
    (config.noise.sigma_min, config.noise.sigma_max) = (SIGMA, SIGMA_MAX);
    // A lone Gaussian's csm has steep first steps, after which its scale would never come back.
    config.train.clip_norm = 1.0;
    // As many as the time allows.
    config.train.steps = TrainConfig::MOST_STEPS;
    config
}

fn of_model(part: &Part<'_, '_>, name: &str, config: Config, data: &Dataset, truth: &OnGrid) -> Result<Outcome> {
    let training = part.train(name, config, data, TRAINING_SHARE * part.seconds())?;
    part.progress(TRAINING_SHARE, "density on the grid");
    let trained = part.load(&training)?;
    let (model, integral_error) = OnGrid::of_model(part, &trained, truth)?;
    Ok(Outcome {
        steps: training.steps,
        training_seconds: training.seconds,
        parameters: training.parameters,
        kl: truth.divergence(&model),
        total_variation: truth.total_variation(&model),
        integral_error,
        picture: model.picture(truth),
    })
}

impl OnGrid {
    /// The noisy truth by the midpoint rule.
    fn of_density(density: &Density) -> Self {
        let fine = 2 * CELLS;
        let fine_width = WIDTH / 2.0;
        let fine_centre = |i: usize| REACH * ((2 * i + 1) as f64 / fine as f64 - 1.0);
        let mut marginal = vec![0.0; CELLS];
        let mut second = Vec::with_capacity(CELLS * CELLS);
        for (column, marginal) in marginal.iter_mut().enumerate() {
            let logs: Vec<f64> =
                (0..fine).map(|i| density.log_density(&[clamped(density, centre(column)), fine_centre(i)])).collect();
            let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let masses: Vec<f64> = logs.iter().map(|log| (log - top).exp() * fine_width).collect();
            let total: f64 = masses.iter().sum();
            *marginal = if clamped(density, centre(column)) == centre(column) { total * top.exp() } else { 0.0 };
            let of_cell = |cell: usize| smoothed(&masses, fine_width, &fine_centre, centre(cell)) / total;
            second.extend((0..CELLS).map(of_cell));
        }
        let masses: Vec<f64> = marginal.iter().map(|density| density * WIDTH).collect();
        let first = (0..CELLS).map(|column| smoothed(&masses, WIDTH, &centre, centre(column))).collect();
        Self { first, second }
    }

    /// A model's, and how far the integral of its worst conditional is from 1.
    fn of_model(part: &Part<'_, '_>, trained: &Trained, truth: &Self) -> Result<(Self, f64)> {
        let gpu = part.context().gpu;
        match trained.config.model.head {
            HeadKind::Score => Self::of_chain(gpu, trained, truth),
            _ => Ok((Self::of_closed_form(gpu, trained)?, integral_of_closed_form(gpu, trained, truth)?)),
        }
    }

    fn of_chain(gpu: &Gpu, trained: &Trained, truth: &Self) -> Result<(Self, f64)> {
        // Twice as fine as the cells, whose centres are every second point.
        let bottom = Level {
            sigma: SIGMA,
            low: (centre(0) - BEYOND as f64 * WIDTH) as f32,
            step: (WIDTH / 2.0) as f32,
            points: 2 * (CELLS + 2 * BEYOND) as u32,
        };
        let support = [-REACH as f32, REACH as f32];
        let mut chain = Chain::new(&geometric(SIGMA_MAX, SIGMA, LEVELS), support, crate::ask::likelihood::RESOLUTION);
        *chain.levels.last_mut().expect("a chain has levels") = bottom;
        let contexts: Vec<f32> = (0..CELLS).flat_map(|column| [centre(column) as f32, 0.0]).collect();
        let grids = chain_grids(gpu, trained, &contexts, &chain, &mut |_| {})?;
        let at_cells = |grid: &[f32]| -> Vec<f64> {
            let of_square = grid.iter().step_by(2).skip(BEYOND).take(CELLS);
            of_square.map(|&log| f64::from(log).exp()).collect()
        };
        let off = |grid: &[f32]| (1.0 - grid.iter().map(|&log| f64::from(log).exp()).sum::<f64>() * WIDTH / 2.0).abs();
        let points = bottom.points as usize;
        let pairs = || grids.chunks_exact(2 * points);
        let notable = pairs().zip(&truth.first).filter(|(_, p)| **p > NOTABLE);
        let worst = notable.map(|(pair, _)| off(&pair[points..])).fold(off(&grids[..points]), f64::max);
        let second = pairs().flat_map(|pair| at_cells(&pair[points..])).collect();
        Ok((Self { first: at_cells(&grids[..points]), second }, worst))
    }

    fn of_closed_form(gpu: &Gpu, trained: &Trained) -> Result<Self> {
        let cells = || (0..CELLS).flat_map(|column| (0..CELLS).map(move |row| (column, row)));
        let y: Vec<f32> = cells().flat_map(|(column, row)| [centre(column) as f32, centre(row) as f32]).collect();
        let logs = closed_form::log_densities(gpu, trained, &y, &y, SIGMA)?;
        let density = |log: f32| f64::from(log).exp();
        Ok(Self {
            first: logs.chunks_exact(2 * CELLS).map(|column| density(column[0])).collect(),
            second: logs.chunks_exact(2).map(|pair| density(pair[1])).collect(),
        })
    }

    fn joint(&self) -> impl Iterator<Item = f64> {
        self.second.iter().enumerate().map(|(cell, second)| self.first[cell / CELLS] * second)
    }

    /// KL(self, other), nats.
    fn divergence(&self, other: &Self) -> f64 {
        let term = |(p, q): (f64, f64)| if p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 };
        self.joint().zip(other.joint()).map(term).sum::<f64>() * WIDTH * WIDTH
    }

    /// Half the integral of |self - other|; what lies beyond the square counts as different.
    fn total_variation(&self, other: &Self) -> f64 {
        let inside: f64 = self.joint().zip(other.joint()).map(|(p, q)| (p - q).abs() * WIDTH * WIDTH).sum();
        let beyond = |density: &Self| (1.0 - density.joint().sum::<f64>() * WIDTH * WIDTH).max(0.0);
        0.5 * (inside + beyond(self) + beyond(other))
    }

    /// Greys of the square root of the density, which keeps thin parts visible; white is the truth's highest.
    fn picture(&self, truth: &Self) -> Vec<u8> {
        let highest = truth.joint().fold(f64::MIN_POSITIVE, f64::max);
        let joint: Vec<f64> = self.joint().collect();
        let cell = |i: usize| i * CELLS / PICTURE;
        let of_pixel = |i: usize| joint[cell(i / PICTURE) * CELLS + cell(i % PICTURE)];
        (0..PICTURE * PICTURE).map(|i| (255.0 * (of_pixel(i) / highest).sqrt().min(1.0)) as u8).collect()
    }
}

/// Largest |1 - integral| of a model's conditionals, each over as wide a range as its mass takes.
fn integral_of_closed_form(gpu: &Gpu, trained: &Trained, truth: &OnGrid) -> Result<f64> {
    let notable = (0..CELLS).step_by(WIDE_STRIDE).filter(|&column| truth.first[column] > NOTABLE);
    let mut integrals: Vec<(usize, [f64; 2])> = notable.map(|column| (column, [0.0; 2])).collect();
    let off = |integral: &[f64; 2]| integral.iter().map(|value| (1.0 - value).abs()).fold(0.0, f64::max);
    let mut worst = 0.0_f64;
    let half = (WIDE * CELLS / 2) as i64;
    let (mut inner, mut width, mut times) = (0, WIDTH, WIDE);
    while !integrals.is_empty() {
        let columns: Vec<usize> = integrals.iter().map(|(column, _)| *column).collect();
        let ring: Vec<i64> = (-half..-inner).chain(inner..half).collect();
        let masses = masses_of_conditionals(gpu, trained, &columns, &ring, width)?;
        for ((_, integral), masses) in integrals.iter_mut().zip(masses) {
            (0..2).for_each(|d| integral[d] += masses[d]);
        }
        integrals.retain(|(_, integral)| {
            let is_done = times >= WIDEST || off(integral) <= SMALL;
            worst = if is_done { worst.max(off(integral)) } else { worst };
            !is_done
        });
        (inner, width, times) = (half / 2, 2.0 * width, 2 * times);
    }
    Ok(worst)
}

/// Mass that q(y1) and q(y2 | x1 in a column) have in cells of a width, counted from the centre of the square.
fn masses_of_conditionals(
    gpu: &Gpu,
    trained: &Trained,
    columns: &[usize],
    cells: &[i64],
    width: f64,
) -> Result<Vec<[f64; 2]>> {
    let place = |cell: i64| (width * (cell as f64 + 0.5)) as f32;
    let points = columns.iter().flat_map(|&column| cells.iter().map(move |&cell| (centre(column) as f32, cell)));
    let (x, y): (Vec<[f32; 2]>, Vec<[f32; 2]>) = points.map(|(x1, cell)| ([x1, 0.0], [place(cell); 2])).unzip();
    let logs = closed_form::log_densities(gpu, trained, x.as_flattened(), y.as_flattened(), SIGMA)?;
    let mass = |logs: &[f32], d: usize| logs.iter().skip(d).step_by(2).map(|&log| f64::from(log).exp()).sum::<f64>();
    Ok(logs.chunks_exact(2 * cells.len()).map(|logs| [0, 1].map(|d| width * mass(logs, d))).collect())
}

/// Beyond the board there is nothing that a conditional could be of: it is that of the nearest column.
fn clamped(density: &Density, x: f64) -> f64 {
    match density {
        Density::Checkerboard => x.clamp(-4.0 + 1e-9, 4.0 - 1e-9),
        _ => x,
    }
}

/// Density at y of masses at places with Gaussian noise of [`SIGMA`].
fn smoothed(masses: &[f64], width: f64, place: &dyn Fn(usize) -> f64, y: f64) -> f64 {
    let sigma = f64::from(SIGMA);
    let reach = 7.0 * sigma;
    let index = |at: f64| ((at + REACH) / width).clamp(0.0, masses.len() as f64) as usize;
    let near = index(y - reach)..(index(y + reach) + 1).min(masses.len());
    let normal = |x: f64| (-0.5 * (x / sigma).powi(2)).exp() / (sigma * TAU.sqrt());
    near.map(|i| masses[i] * normal(y - place(i))).sum()
}

/// KL of the clean truth and the noisy one: what the level hides, nats.
fn divergence_of_noise(density: &Density, truth: &OnGrid) -> f64 {
    let clean = (0..CELLS * CELLS).map(|cell| density.log_density(&[centre(cell / CELLS), centre(cell % CELLS)]));
    let term =
        |(log, q): (f64, f64)| if log.is_finite() { log.exp() * (log - q.max(f64::MIN_POSITIVE).ln()) } else { 0.0 };
    clean.zip(truth.joint()).map(term).sum::<f64>() * WIDTH * WIDTH
}

/// Least KL of the models that are of a kind.
fn best(outcomes: &[Learned], of_kind: impl Fn(HeadKind, Objective) -> bool) -> f64 {
    let models = outcomes.iter().filter(|(head, objective, _)| of_kind(*head, *objective));
    models.map(|(_, _, outcome)| outcome.kl).fold(f64::INFINITY, f64::min)
}

fn summary_of(toy: &str, outcomes: &[Learned]) -> Vec<Cell> {
    let likelihood = best(outcomes, |_, objective| objective == Objective::Ml);
    let matched = best(outcomes, |_, objective| objective != Objective::Ml);
    let free = best(outcomes, |head, _| head == HeadKind::Score);
    // Infinite where `--only` left no model of a kind.
    let kl = |value: f64| if value.is_finite() { Cell::Number(value, 3) } else { Cell::None };
    vec![Cell::text(toy), kl(likelihood), kl(matched), kl(free), kl(matched - likelihood), kl(free - likelihood)]
}

fn details_of(toy: &str, density: &Density, truth: &OnGrid, outcomes: &[Learned]) -> Table {
    let hidden = divergence_of_noise(density, truth);
    let mut table = Table::new(
        format!("{toy} (KL of the noise: {hidden:.3})"),
        &["head", "objective", "KL, nats", "total variation", "integral off", "steps", "training, s", "parameters"],
    );
    for (head, objective, outcome) in outcomes {
        table.push(vec![
            Cell::text(format!("{head:?}").to_lowercase()),
            Cell::text(format!("{objective:?}").to_lowercase()),
            Cell::Number(outcome.kl, 3),
            Cell::Number(outcome.total_variation, 3),
            Cell::Small(outcome.integral_error),
            Cell::Count(outcome.steps),
            Cell::Number(outcome.training_seconds, 1),
            Cell::Count(outcome.parameters as u64),
        ]);
    }
    table
}

/// The truth and the model densities side by side.
fn draw(context: &Context<'_>, toy: &str, truth: &OnGrid, outcomes: &[Learned]) -> Result<(String, String)> {
    let own = truth.picture(truth);
    let mut maps = vec![HeatMap { title: "truth".into(), side: PICTURE, greys: &own }];
    for (head, objective, outcome) in outcomes {
        let title = format!("{}: {:.3}", name_of(*head, *objective), outcome.kl);
        maps.push(HeatMap { title, side: PICTURE, greys: &outcome.picture });
    }
    let file = format!("{toy}.png");
    plot::heat_maps(
        &context.out.join(&file),
        &maps,
        &format!("{toy}: densities, and KL in nats"),
        &context.png_text(),
    )?;
    Ok((file, format!("{toy}: the true density and the models', with KL in nats")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noisy_truth_of_a_mixture_is_a_mixture() {
        let centres = vec![[-1.0, 0.5], [1.5, -2.0]];
        let density = Density::Mixture { centres: centres.clone(), sd: 0.3 };
        let truth = OnGrid::of_density(&density);
        let normal = |x: f64, variance: f64| (-0.5 * x * x / variance).exp() / (TAU * variance).sqrt();
        let noisy = 0.09 + f64::from(SIGMA).powi(2);
        for (column, row) in [(100, 160), (131, 180), (200, 90), (160, 140)] {
            let [y1, y2] = [column, row].map(centre);
            let first = centres.iter().map(|c| normal(y1 - c[0], noisy)).sum::<f64>() / 2.0;
            let weights = centres.iter().map(|c| normal(y1 - c[0], 0.09)).sum::<f64>();
            let second =
                centres.iter().map(|c| normal(y1 - c[0], 0.09) * normal(y2 - c[1], noisy)).sum::<f64>() / weights;
            assert!((truth.first[column] - first).abs() <= 1e-9, "{} {first}", truth.first[column]);
            assert!((truth.second[column * CELLS + row] - second).abs() <= 1e-9 * (1.0 + second), "{second}");
        }
    }

    #[test]
    fn divergences_are_zero_for_equals_and_known_for_others() {
        let at = |mean: f64| OnGrid::of_density(&Density::Mixture { centres: vec![[mean, 0.0]], sd: 0.5 });
        let (p, q) = (at(0.0), at(0.3));
        assert!(p.divergence(&p).abs() <= 1e-12 && p.total_variation(&p) <= 1e-9);
        let variance = 0.25 + f64::from(SIGMA).powi(2);
        assert!((p.divergence(&q) - 0.045 / variance).abs() <= 1e-6, "{}", p.divergence(&q));
        // 2 Phi(d / 2) - 1 for a distance of d standard deviations.
        let d = 0.3 / variance.sqrt();
        let want = 2.0 * normal_cdf(d / 2.0) - 1.0;
        assert!((p.total_variation(&q) - want).abs() <= 1e-4, "{} {want}", p.total_variation(&q));
    }

    /// By the trapezoid rule.
    fn normal_cdf(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / TAU.sqrt();
        let steps = 1000;
        let h = x / f64::from(steps);
        0.5 + h * (0..steps).map(|i| 0.5 * (density(f64::from(i) * h) + density(f64::from(i + 1) * h))).sum::<f64>()
    }

    #[test]
    fn toys_lie_within_the_square() {
        for toy in TOYS {
            let truth = OnGrid::of_density(&Density::toy(toy).expect("listed"));
            let mass = truth.joint().sum::<f64>() * WIDTH * WIDTH;
            assert!((mass - 1.0).abs() <= 1e-3, "{toy}: {mass}");
        }
    }
}
