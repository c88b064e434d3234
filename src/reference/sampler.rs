//! The samplers of one dimension, from its conditional score under noise, score(y, sigma).
//!
//! A draw is a pure function of the score and of the numbers handed in, so that a kernel can be compared with it
//! number by number; [`MultiLevel::uniforms`], [`Langevin::normals`] and the like give the numbers of the project's contract.

use crate::numbers::random::{normal_pair, random_bits, stream, uniform};

/// Half-width of the first grid beyond the data's range, in units of the first noise level.
const OUTER_MARGIN: f64 = 4.0;
/// Half-width of a local grid, in units of the noise added between two levels.
const LOCAL_MARGIN: f64 = 3.5;

/// Multi-level quadrature: an inverse-CDF draw at the highest noise level, then at each lower level a draw from
/// p_sigma'(y') N(y; y', sigma^2 - sigma'^2) on a local grid, at last the denoising step.
#[derive(Debug, Clone)]
pub struct MultiLevel {
    /// Noise levels, descending.
    pub sigmas: Vec<f64>,
    /// Points of the first grid.
    pub first_points: usize,
    /// Points of a local grid.
    pub points: usize,
    /// Lower end of the data's range.
    pub low: f64,
    /// Upper end of the data's range.
    pub high: f64,
    /// T: the density of every level is taken to the power 1/T.
    pub temperature: f64,
}

/// What is known of a value before it is drawn, and which random numbers that takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Given {
    /// x itself.
    Known(f64),
    /// y of the first level.
    Noisy(f64),
}

/// What a multi-level draw gives.
#[derive(Debug, Clone)]
pub struct MultiLevelDraw {
    /// The sample: y_L + sigma_L^2 score(y_L, sigma_L).
    pub x: f64,
    /// The noisy sample of each level.
    pub y_levels: Vec<f64>,
}

/// Annealed Langevin dynamics (Song, Ermon, "Generative modeling by estimating gradients of the data distribution",
/// 2019) with step lengths in proportion to sigma^2, and the denoising step at the end.
#[derive(Debug, Clone)]
pub struct Langevin {
    /// Noise levels, descending.
    pub sigmas: Vec<f64>,
    /// Steps at each level.
    pub steps: usize,
    /// e: y += e/2 sigma^2 score + sqrt(e) sigma z.
    pub step_size: f64,
    /// Mean of the data: the centre of the start.
    pub mean: f64,
    /// Standard deviation of the data: with sigma_0, the spread of the start.
    pub sd: f64,
    /// T: both noises have T times their variance.
    pub temperature: f64,
}

/// From an inverse-CDF draw at the highest noise level down the ladder of levels, and the denoising step at the end.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Noise levels, descending.
    pub sigmas: Vec<f64>,
    /// Half of the points of the first level's grid.
    pub points: usize,
    /// Lower end of the data's range.
    pub low: f64,
    /// Upper end of the data's range.
    pub high: f64,
    /// Draws from p(y' | y, x) at the denoised mean x, instead of Heun steps of the probability-flow ODE.
    pub ancestral: bool,
    /// T: the first level's density is taken to the power 1/T, and noise has T times its variance.
    pub temperature: f64,
}

/// What a Metropolis-adjusted draw gives.
#[derive(Debug, Clone)]
pub struct MalaDraw {
    /// The sample.
    pub x: f64,
    /// Accepted proposals of each level.
    pub accepted: Vec<u32>,
    /// How near a decision came to going the other way: the least distance of log u from the log of the ratio.
    pub margin: f64,
}

/// The levels that values are on.
#[derive(Debug, Clone, Copy)]
pub struct DataLevels {
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// Their distance.
    pub width: f64,
}

impl DataLevels {
    /// The nearest level, and how far x is from the place where that changes.
    pub fn snap(&self, x: f64) -> (f64, f64) {
        let place = (x.clamp(self.low, self.high) - self.low) / self.width;
        (self.low + place.round_ties_even() * self.width, (0.5 - (place - place.round()).abs()) * self.width)
    }
}

/// Equidistant points.
struct Grid {
    start: f64,
    spacing: f64,
    points: usize,
}

impl Grid {
    fn new(low: f64, high: f64, points: usize) -> Self {
        Self { start: low, spacing: (high - low) / (points - 1) as f64, points }
    }

    /// The place of a point, or between two points for a fractional index.
    fn at(&self, index: f64) -> f64 {
        self.start + index * self.spacing
    }

    fn iter(&self) -> impl Iterator<Item = f64> {
        (0..self.points).map(|i| self.at(i as f64))
    }
}

impl MultiLevel {
    /// At temperature 1, with twice as many points on the first grid as on the others.
    pub fn new(sigmas: Vec<f64>, points: usize, [low, high]: [f64; 2]) -> Self {
        Self { sigmas, first_points: 2 * points, points, low, high, temperature: 1.0 }
    }

    /// Of the grids' margins, so that they hold what a temperature above 1 spreads.
    fn widening(&self) -> f64 {
        self.temperature.max(1.0).sqrt()
    }

    /// The uniform number of each level for (sample, dimension).
    pub fn uniforms(&self, seed: u64, sample: u32, dimension: u32) -> Vec<f64> {
        let bits = |level| random_bits(seed, stream::MULTILEVEL, sample, dimension, level as u32);
        (0..self.sigmas.len()).map(|level| uniform(bits(level)[0])).collect()
    }

    /// The normal number of each level but the last, for the random walk upwards from a known value.
    pub fn normals(&self, seed: u64, sample: u32, dimension: u32) -> Vec<f64> {
        let bits = |level| random_bits(seed, stream::GIVEN, sample, dimension, level as u32);
        (1..self.sigmas.len()).map(|level| normal_pair(bits(level)[0], bits(level)[1]).0).collect()
    }
}

/// One draw; `uniforms` has one number in [0, 1] for each level.
pub fn multilevel(score: impl Fn(f64, f64) -> f64, settings: &MultiLevel, uniforms: &[f64]) -> MultiLevelDraw {
    let sigmas = &settings.sigmas;
    assert_eq!(uniforms.len(), sigmas.len(), "one uniform number a level");
    let mut y = outer_draw(&score, settings, uniforms[0]);
    let mut y_levels = vec![y];
    for (pair, &u) in sigmas.windows(2).zip(&uniforms[1..]) {
        y = local_draw(&score, y, [pair[0], pair[1]], settings, u);
        y_levels.push(y);
    }
    let sigma = sigmas[sigmas.len() - 1];
    MultiLevelDraw { x: y + sigma * sigma * score(y, sigma), y_levels }
}

/// One draw given something, and the log weight of that: of a noisy value log p(y_0); of a known x an estimate of the
/// log of the chain's density of y_L = x, from a random walk upwards by `normals` (one for each level but the last). The
/// exponential of the estimate has that density as its mean.
pub fn multilevel_given(
    score: impl Fn(f64, f64) -> f64,
    settings: &MultiLevel,
    given: Given,
    uniforms: &[f64],
    normals: &[f64],
) -> (f64, f64) {
    let sigmas = &settings.sigmas;
    let outer = |y: f64| {
        let (grid, log_density) = outer_density(&score, settings);
        log_height(&grid, &log_density, y)
    };
    match given {
        Given::Noisy(y_0) => {
            let mut y = y_0;
            for (pair, &u) in sigmas.windows(2).zip(&uniforms[1..]) {
                y = local_draw(&score, y, [pair[0], pair[1]], settings, u);
            }
            let sigma = sigmas[sigmas.len() - 1];
            (y + sigma * sigma * score(y, sigma), outer(y_0))
        }
        Given::Known(x) => {
            let mut path = vec![x];
            for (pair, z) in sigmas.windows(2).zip(normals).rev() {
                path.push(path[path.len() - 1] + (pair[0] * pair[0] - pair[1] * pair[1]).sqrt() * z);
            }
            path.reverse();
            let steps = path.windows(2).zip(sigmas.windows(2)).map(|(y, sigma)| {
                let variance = sigma[0] * sigma[0] - sigma[1] * sigma[1];
                let (grid, log_density) = local_density(&score, y[0], [sigma[0], sigma[1]], settings);
                let log_walk = -0.5 * ((y[1] - y[0]).powi(2) / variance + (std::f64::consts::TAU * variance).ln());
                log_height(&grid, &log_density, y[1]) - log_walk
            });
            (x, outer(path[0]) + steps.sum::<f64>())
        }
    }
}

/// From p_sigma over the whole range.
fn outer_draw(score: impl Fn(f64, f64) -> f64, settings: &MultiLevel, u: f64) -> f64 {
    let (grid, log_density) = outer_density(score, settings);
    grid.at(inverse_cdf(&log_density, u))
}

fn outer_density(score: impl Fn(f64, f64) -> f64, settings: &MultiLevel) -> (Grid, Vec<f64>) {
    let sigma = settings.sigmas[0];
    let margin = OUTER_MARGIN * settings.widening() * sigma;
    let grid = Grid::new(settings.low - margin, settings.high + margin, settings.first_points);
    let scores: Vec<f64> = grid.iter().map(|y| score(y, sigma)).collect();
    let mut log_density = cumulative_trapezoid(&scores, grid.spacing);
    log_density.iter_mut().for_each(|log_density| *log_density /= settings.temperature);
    (grid, log_density)
}

/// From p_lower(y') N(above; y', upper^2 - lower^2) over y', near `above`, the sample of the level above.
fn local_draw(
    score: impl Fn(f64, f64) -> f64,
    above: f64,
    [upper, lower]: [f64; 2],
    settings: &MultiLevel,
    u: f64,
) -> f64 {
    let (grid, log_density) = local_density(score, above, [upper, lower], settings);
    grid.at(inverse_cdf(&log_density, u))
}

fn local_density(
    score: impl Fn(f64, f64) -> f64,
    above: f64,
    [upper, lower]: [f64; 2],
    settings: &MultiLevel,
) -> (Grid, Vec<f64>) {
    let variance = upper * upper - lower * lower;
    let margin = LOCAL_MARGIN * settings.widening() * variance.sqrt();
    let grid = Grid::new(above - margin, above + margin, settings.points);
    let scores: Vec<f64> = grid.iter().map(|y| score(y, lower)).collect();
    let mut log_density = cumulative_trapezoid(&scores, grid.spacing);
    for (log_density, y) in log_density.iter_mut().zip(grid.iter()) {
        *log_density = (*log_density - (y - above) * (y - above) / (2.0 * variance)) / settings.temperature;
    }
    (grid, log_density)
}

/// Log of the normalised, piecewise linear density exp(log_density) at y; beyond the grid, that of its end.
fn log_height(grid: &Grid, log_density: &[f64], y: f64) -> f64 {
    let largest = log_density.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // As in f32, where smaller numbers vanish.
    let density: Vec<f64> = log_density.iter().map(|l| (l - largest).max(-87.0).exp()).collect();
    let mass = density.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).sum::<f64>() * grid.spacing;
    let place = ((y - grid.start) / grid.spacing).clamp(0.0, (grid.points - 1) as f64);
    let cell = (place as usize).min(grid.points - 2);
    let height = density[cell] + (density[cell + 1] - density[cell]) * (place - cell as f64);
    height.max(1e-37).ln() - mass.ln()
}

/// The integral of the score from the first point to each: log densities up to a constant.
pub fn cumulative_trapezoid(scores: &[f64], spacing: f64) -> Vec<f64> {
    let mut integral = 0.0;
    let steps = scores.windows(2).map(|pair| {
        integral += 0.5 * (pair[0] + pair[1]) * spacing;
        integral
    });
    std::iter::once(0.0).chain(steps).collect()
}

/// Where the distribution function of the piecewise linear density exp(log_density) reaches `u`, in units of the
/// spacing from the first point. log_density (n), up to a constant; u in [0, 1].
pub fn inverse_cdf(log_density: &[f64], u: f64) -> f64 {
    let largest = log_density.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let density: Vec<f64> = log_density.iter().map(|l| (l - largest).exp()).collect();
    let mass = |cell: usize| 0.5 * (density[cell] + density[cell + 1]);
    let last = density.len() - 2;
    let wanted = u * (0..=last).map(mass).sum::<f64>();

    let (mut cell, mut below) = (0, 0.0);
    while cell < last && below + mass(cell) <= wanted {
        below += mass(cell);
        cell += 1;
    }
    cell as f64 + share_of_cell(density[cell], density[cell + 1], wanted - below)
}

/// The t in [0, 1] with p0 t + (p1 - p0) t^2 / 2 = mass, in the form of the quadratic's root that keeps its digits.
fn share_of_cell(p0: f64, p1: f64, mass: f64) -> f64 {
    let root = (p0 * p0 + 2.0 * (p1 - p0) * mass).max(0.0).sqrt();
    (2.0 * mass / (p0 + root).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
}

impl Langevin {
    /// How many normal numbers a draw takes: one for the start and one for each step.
    pub fn normal_count(&self) -> usize {
        1 + self.sigmas.len() * self.steps
    }

    /// The normal numbers for (sample, dimension): number n is the first of the pair at step n.
    pub fn normals(&self, seed: u64, sample: u32, dimension: u32) -> Vec<f64> {
        let bits = |n| random_bits(seed, stream::LANGEVIN, sample, dimension, n as u32);
        (0..self.normal_count()).map(|n| normal_pair(bits(n)[0], bits(n)[1]).0).collect()
    }

    fn start(&self, normal: f64) -> f64 {
        let variance = self.sd * self.sd + self.sigmas[0] * self.sigmas[0];
        self.mean + (self.temperature * variance).sqrt() * normal
    }

    /// How many pairs of a normal and a uniform number a Metropolis-adjusted draw takes: one for the start, and of each
    /// level one that is not used and one for each step.
    pub fn pair_count(&self) -> usize {
        1 + self.sigmas.len() * (self.steps + 1)
    }

    /// These pairs for (sample, dimension).
    pub fn pairs(&self, seed: u64, sample: u32, dimension: u32) -> Vec<(f64, f64)> {
        let bits = |n| random_bits(seed, stream::MALA, sample, dimension, n as u32);
        (0..self.pair_count()).map(|n| (normal_pair(bits(n)[0], bits(n)[1]).0, uniform(bits(n)[2]))).collect()
    }
}

impl Flow {
    /// The uniform number of the start and the normal number of each step for (sample, dimension).
    pub fn numbers(&self, seed: u64, sample: u32, dimension: u32) -> (f64, Vec<f64>) {
        let bits = |n| random_bits(seed, stream::FLOW, sample, dimension, n as u32);
        let normals = (1..self.sigmas.len()).map(|n| normal_pair(bits(n)[0], bits(n)[1]).0);
        (uniform(bits(0)[0]), normals.collect())
    }
}

/// One draw; `normals` has [`Langevin::normal_count`] numbers.
pub fn langevin(score: impl Fn(f64, f64) -> f64, settings: &Langevin, normals: &[f64]) -> f64 {
    assert_eq!(normals.len(), settings.normal_count(), "one normal number for the start and one a step");
    let e = settings.step_size;
    let mut y = settings.start(normals[0]);
    for (&sigma, normals) in settings.sigmas.iter().zip(normals[1..].chunks_exact(settings.steps)) {
        for z in normals {
            y += 0.5 * e * sigma * sigma * score(y, sigma) + (e * settings.temperature).sqrt() * sigma * z;
        }
    }
    let sigma = settings.sigmas[settings.sigmas.len() - 1];
    y + sigma * sigma * score(y, sigma)
}

/// One draw by the probability-flow ODE or by ancestral steps; `normals` has a number for each level but the first.
pub fn flow(score: impl Fn(f64, f64) -> f64, settings: &Flow, u: f64, normals: &[f64]) -> f64 {
    let top = MultiLevel {
        temperature: settings.temperature,
        ..MultiLevel::new(settings.sigmas.clone(), settings.points, [settings.low, settings.high])
    };
    let mut y = outer_draw(&score, &top, u);
    for (pair, z) in settings.sigmas.windows(2).zip(normals) {
        let (sigma, lower) = (pair[0], pair[1]);
        let s = score(y, sigma);
        y = if settings.ancestral {
            let variance = sigma * sigma - lower * lower;
            y + variance * s + lower / sigma * (settings.temperature * variance).sqrt() * z
        } else {
            let predicted = y + (sigma - lower) * sigma * s;
            y + 0.5 * (sigma - lower) * (sigma * s + lower * score(predicted, lower))
        };
    }
    let sigma = settings.sigmas[settings.sigmas.len() - 1];
    y + sigma * sigma * score(y, sigma)
}

/// The integral of f from a to b by the rule of Gauss and Lobatto with five nodes.
pub fn lobatto(f: impl Fn(f64) -> f64, a: f64, b: f64) -> f64 {
    let (centre, half) = (0.5 * (a + b), 0.5 * (b - a));
    let pair = |place: f64| f(centre - half * place) + f(centre + half * place);
    half * (pair(1.0) / 10.0 + 49.0 / 90.0 * pair((3.0f64 / 7.0).sqrt()) + 32.0 / 45.0 * f(centre))
}

/// One draw by annealed Metropolis-adjusted Langevin dynamics; `pairs` has [`Langevin::pair_count`] of a normal and a
/// uniform number.
pub fn mala(score: impl Fn(f64, f64) -> f64, settings: &Langevin, pairs: &[(f64, f64)]) -> MalaDraw {
    assert_eq!(pairs.len(), settings.pair_count(), "numbers for the start and each step");
    let temperature = settings.temperature;
    let mut draw = MalaDraw { x: 0.0, accepted: vec![0; settings.sigmas.len()], margin: f64::INFINITY };
    let mut y = settings.start(pairs[0].0);
    let of_levels = pairs[1..].chunks_exact(settings.steps + 1).zip(&mut draw.accepted);
    for (&sigma, (pairs, accepted)) in settings.sigmas.iter().zip(of_levels) {
        let half = 0.5 * settings.step_size * sigma * sigma;
        let spread = (settings.step_size * temperature).sqrt() * sigma;
        for &(z, u) in &pairs[1..] {
            let proposal = y + half * score(y, sigma) + spread * z;
            let back = (proposal + half * score(proposal, sigma) - y) / spread;
            let energy = lobatto(|y| score(y, sigma), y, proposal);
            let log_ratio = energy / temperature + 0.5 * (z * z - back * back);
            draw.margin = draw.margin.min((u.ln() - log_ratio).abs() / (1.0 + log_ratio.abs()));
            if u.ln() < log_ratio {
                y = proposal;
                *accepted += 1;
            }
        }
    }
    let sigma = settings.sigmas[settings.sigmas.len() - 1];
    draw.x = y + sigma * sigma * score(y, sigma);
    draw
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, Mixture, assert_close, assert_near, kolmogorov_smirnov};
    use super::*;

    const GAUSSIAN: Mixture = Mixture { weights: [1.0, 0.0], means: [0.4, 0.0], sds: [0.3, 1.0] };
    const TWO_MODES: Mixture = Mixture { weights: [0.35, 0.65], means: [-0.6, 0.8], sds: [0.25, 0.35] };

    /// The law of a Gaussian of variance v under temperature T.
    fn tempered(variance: f64) -> impl Fn(f64) -> f64 {
        let law = Mixture { weights: [1.0, 0.0], means: [0.4, 0.0], sds: [variance.sqrt(), 1.0] };
        move |x| law.cdf(x, 0.0)
    }

    #[test]
    fn a_temperature_scales_the_variance_of_a_gaussian() {
        // Of y at the last level T v, whatever the levels before; the denoising step shrinks it.
        let (temperature, sigma) = (0.5, 0.2f64);
        let v = 0.09 + sigma * sigma;
        let variance = temperature * v * (0.09 / v) * (0.09 / v);
        let score = |y: f64, sigma: f64| GAUSSIAN.score(y, sigma);
        let settings = MultiLevel { temperature, ..MultiLevel::new(vec![1.0, 0.5, sigma], 48, [-0.6, 1.4]) };
        let draw = |n| multilevel(score, &settings, &settings.uniforms(1, n, 2)).x;
        kolmogorov_smirnov("mlq", (0..4000).map(draw).collect(), tempered(variance));
        let sigmas: Vec<f64> = (0..30).map(|i| (sigma.ln() * f64::from(i) / 29.0).exp()).collect();
        let settings = Flow { sigmas, points: 48, low: -0.6, high: 1.4, ancestral: false, temperature };
        let draw = |n| {
            let (u, normals) = settings.numbers(1, n, 2);
            flow(score, &settings, u, &normals)
        };
        kolmogorov_smirnov("flow", (0..4000).map(draw).collect(), tempered(variance));
        let settings = Langevin { sigmas: vec![sigma], steps: 40, step_size: 1.5, mean: 0.4, sd: 0.3, temperature };
        let draw = |n| mala(score, &settings, &settings.pairs(1, n, 2)).x;
        kolmogorov_smirnov("mala", (0..4000).map(draw).collect(), tempered(variance));
    }

    #[test]
    fn flow_and_ancestral_steps_find_both_modes() {
        let sigmas: Vec<f64> = (0..60).map(|i| 1.5 * (0.03f64 / 1.5).powf(f64::from(i) / 59.0)).collect();
        for ancestral in [false, true] {
            let settings =
                Flow { sigmas: sigmas.clone(), points: 64, low: -1.6, high: 2.2, ancestral, temperature: 1.0 };
            let draw = |n| {
                let (u, normals) = settings.numbers(8, n, 3);
                flow(|y, sigma| TWO_MODES.score(y, sigma), &settings, u, &normals)
            };
            kolmogorov_smirnov("draws", (0..3000).map(draw).collect(), |x| TWO_MODES.cdf(x, 0.0));
        }
    }

    #[test]
    fn an_ancestral_step_is_the_posterior_at_the_denoised_mean() {
        let settings =
            Flow { sigmas: vec![0.8, 0.5], points: 32, low: -1.0, high: 2.0, ancestral: true, temperature: 1.0 };
        let draw = |z: f64| flow(|y, _| -y, &settings, 0.7, &[z]);
        // The last step takes y to (1 - 0.25) y; y' = y - 0.39 y + 0.5 / 0.8 sqrt(0.39) z.
        let (still, moved) = (draw(0.0), draw(2.0));
        assert_near("noise", moved - still, 0.75 * 2.0 * 0.5 / 0.8 * 0.39f64.sqrt(), 1e-12);
        let start = outer_draw(|y, _| -y, &MultiLevel::new(vec![0.8], 32, [-1.0, 2.0]), 0.7);
        assert_near("mean", still, 0.75 * 0.61 * start, 1e-12);
    }

    #[test]
    fn five_nodes_integrate_degree_seven_and_the_scores_of_modes() {
        let f = |x: f64| 8.0 * x.powi(7) - 3.0 * x * x + 0.5;
        let integral = |x: f64| x.powi(8) - x.powi(3) + 0.5 * x;
        assert_near("degree 7", lobatto(f, -0.4, 1.1), integral(1.1) - integral(-0.4), 1e-12);
        // Most proposals of a step size of 1 go at most two noise levels far; hardly any goes three.
        let log_density = |y: f64, sigma: f64| {
            let h = 1e-5;
            ((TWO_MODES.cdf(y + h, sigma) - TWO_MODES.cdf(y - h, sigma)) / (2.0 * h)).ln()
        };
        for sigma in [1.0, 0.3, 0.1, 0.03] {
            for k in 0..60 {
                let y = -1.2 + 2.6 * f64::from(k) / 59.0;
                for (jump, tolerance) in
                    [(1.0, 1e-4), (-1.0, 1e-4), (2.0, 2e-3), (-2.0, 2e-3), (3.0, 2e-2), (-3.0, 2e-2)]
                {
                    let to = y + jump * sigma;
                    let want = log_density(to, sigma) - log_density(y, sigma);
                    assert_near("energy", lobatto(|y| TWO_MODES.score(y, sigma), y, to), want, tolerance);
                }
            }
        }
    }

    #[test]
    fn a_metropolis_step_has_no_bias_where_langevin_has() {
        let (sigma, step_size) = (0.4f64, 2.5);
        let v = 0.09 + sigma * sigma;
        let settings = Langevin { sigmas: vec![sigma], steps: 60, step_size, mean: 0.4, sd: 0.3, temperature: 1.0 };
        let score = |y: f64, sigma: f64| GAUSSIAN.score(y, sigma);
        let draws: Vec<MalaDraw> = (0..4000).map(|n| mala(score, &settings, &settings.pairs(2, n, 5))).collect();
        let exact = tempered(0.09 * 0.09 / v);
        kolmogorov_smirnov("mala", draws.iter().map(|draw| draw.x).collect(), &exact);
        let accepted: u32 = draws.iter().map(|draw| draw.accepted[0]).sum();
        assert!((0.3..0.95).contains(&(f64::from(accepted) / 240_000.0)), "{accepted}");
        let plain = (0..4000).map(|n| langevin(score, &settings, &settings.normals(2, n, 5))).collect();
        let refused = std::panic::catch_unwind(|| kolmogorov_smirnov("langevin", plain, &exact));
        assert!(refused.is_err(), "the bias of plain Langevin does not show");
    }

    #[test]
    fn snapping_takes_the_nearest_level() {
        let levels = DataLevels { low: -1.0, high: 1.0, width: 0.25 };
        for (x, want, margin) in [(0.3, 0.25, 0.075), (-0.13, -0.25, 0.005), (5.0, 1.0, 0.125), (-1.2, -1.0, 0.125)] {
            let (snapped, left) = levels.snap(x);
            assert_near("level", snapped, want, 1e-12);
            assert_near("margin", left, margin, 1e-12);
        }
    }

    #[test]
    fn inverse_cdf_of_a_ramp_is_a_root() {
        // Density proportional to 1, 3 over one cell: F(t) = (t + t^2) / 2.
        let ramp = [0.0, 3f64.ln()];
        for t in [0.0, 0.1, 0.5, 0.9, 1.0] {
            assert_near("up", inverse_cdf(&ramp, 0.5 * (t + t * t)), t, 1e-14);
            assert_near("down", inverse_cdf(&[ramp[1], ramp[0]], 1.0 - 0.5 * (t + t * t)), 1.0 - t, 1e-14);
        }
        // Densities 1, 1, 0, 4 have masses 1, 1/2, 2.
        let steps = [0.0, 0.0, f64::NEG_INFINITY, 4f64.ln()];
        for (u, want) in
            [(0.0, 0.0), (0.5 / 3.5, 0.5), (1.0 / 3.5, 1.0), (1.5 / 3.5, 2.0), (2.0 / 3.5, 2.5), (1.0, 3.0)]
        {
            assert_near("steps", inverse_cdf(&steps, u), want, 1e-7);
        }
    }

    #[test]
    fn inverse_cdf_bears_any_scale_and_both_ends() {
        let far = [-1e5, -2e4, 0.0, -3e4, -1e5];
        assert_near("middle", inverse_cdf(&far, 0.5), 2.0, 1e-12);
        assert_close("shifted", &[inverse_cdf(&[1e4, 1e4 + 1.0], 0.3)], &[inverse_cdf(&[0.0, 1.0], 0.3)], 1e-12);
        for u in [0.0, 1.0] {
            assert!((0.0..=4.0).contains(&inverse_cdf(&far, u)));
        }
    }

    #[test]
    fn trapezoids_integrate_a_linear_score_exactly() {
        let scores: Vec<f64> = (0..5).map(|i| 1.0 - 2.0 * f64::from(i) * 0.25).collect();
        let want: Vec<f64> = (0..5).map(|i| f64::from(i) * 0.25).map(|y| y - y * y).collect();
        assert_close("integral", &cumulative_trapezoid(&scores, 0.25), &want, 1e-15);
    }

    #[test]
    fn grids_reach_four_noise_levels_out_and_then_three_and_a_half() {
        let settings = MultiLevel::new(vec![0.5, 0.3], 9, [-1.0, 2.0]);
        for (u, outer, side) in [(0.0, -3.0, -1.0), (1.0, 4.0, 1.0)] {
            let evaluations = std::cell::Cell::new(0);
            let flat = |_, _| {
                evaluations.set(evaluations.get() + 1);
                0.0
            };
            let draw = multilevel(flat, &settings, &[u, u]);
            assert_close("ends", &draw.y_levels, &[outer, outer + side * 3.5 * 0.4], 1e-12);
            assert_eq!(evaluations.get(), 2 * 9 + 9 + 1);
        }
    }

    #[test]
    fn the_first_level_has_the_quantiles_of_the_noisy_density() {
        for (mixture, sigma) in [(GAUSSIAN, 0.2), (TWO_MODES, 0.1), (TWO_MODES, 0.6)] {
            let settings = MultiLevel::new(vec![sigma], 128, [-1.6, 2.2]);
            for k in 0..200 {
                let u = (f64::from(k) + 0.5) / 200.0;
                let draw = multilevel(|y, sigma| mixture.score(y, sigma), &settings, &[u]);
                // The piecewise linear density is wide by h^2/6, here a 500th of the variance at most.
                assert!((mixture.cdf(draw.y_levels[0], sigma) - u).abs() <= 1e-3, "quantile {u} at sigma {sigma}");
            }
        }
    }

    #[test]
    fn a_lower_level_has_the_quantiles_of_the_gaussian_conditional() {
        let (upper, lower, above) = (0.5f64, 0.2f64, 0.7);
        let (prior, added) = (0.3f64.powi(2) + lower.powi(2), upper.powi(2) - lower.powi(2));
        let variance = prior * added / (prior + added);
        let mean = variance * (0.4 / prior + above / added);
        let settings = MultiLevel::new(vec![], 128, [0.0, 1.0]);
        let conditional = Mixture { weights: [1.0, 0.0], means: [mean, 0.0], sds: [variance.sqrt(), 1.0] };
        for k in 0..200 {
            let u = (f64::from(k) + 0.5) / 200.0;
            let y = local_draw(|y, sigma| GAUSSIAN.score(y, sigma), above, [upper, lower], &settings, u);
            assert!((conditional.cdf(y, 0.0) - u).abs() <= 1e-3, "quantile {u}");
        }
    }

    #[test]
    fn every_level_of_a_chain_has_its_noisy_density() {
        let settings = MultiLevel::new(vec![1.0, 0.3, 0.06], 48, [-1.6, 2.2]);
        let draws: Vec<_> = (0..4000)
            .map(|n| multilevel(|y, sigma| TWO_MODES.score(y, sigma), &settings, &settings.uniforms(5, n, 17)))
            .collect();
        for (level, &sigma) in settings.sigmas.iter().enumerate() {
            let samples = draws.iter().map(|draw| draw.y_levels[level]).collect();
            kolmogorov_smirnov(&format!("level {level}"), samples, |y| TWO_MODES.cdf(y, sigma));
        }
        for draw in &draws {
            let y = draw.y_levels[2];
            assert_near("denoised", draw.x, y + 0.0036 * TWO_MODES.score(y, 0.06), 1e-14);
        }
    }

    #[test]
    fn weights_of_known_values_average_to_the_noisy_density() {
        let settings = MultiLevel::new(vec![1.0, 0.3, 0.06], 256, [-1.6, 2.2]);
        let score = |y: f64, sigma: f64| TWO_MODES.score(y, sigma);
        let density = |y: f64, sigma: f64| {
            let h = 1e-4;
            (TWO_MODES.cdf(y + h, sigma) - TWO_MODES.cdf(y - h, sigma)) / (2.0 * h)
        };
        for x in [-0.7, 0.1, 0.9, 1.8] {
            let weights: Vec<f64> = (0..4000)
                .map(|n| {
                    let normals = settings.normals(7, n, 3);
                    let (same, log_weight) = multilevel_given(score, &settings, Given::Known(x), &[0.5; 3], &normals);
                    assert_eq!(same, x);
                    log_weight.exp()
                })
                .collect();
            let mean = weights.iter().sum::<f64>() / 4000.0;
            let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 3999.0;
            // Four standard errors, and the piecewise linear densities, too high where they are convex: by h^2/12 p''/p,
            // at most 0.2 % a level here.
            let tolerance = 4.0 * (variance / 4000.0).sqrt() + 0.01 * mean;
            assert_near("density of y_L", mean, density(x, 0.06), tolerance);
        }
        let (_, log_weight) = multilevel_given(score, &settings, Given::Noisy(0.4), &[0.5; 3], &[]);
        assert_near("density of y_0", log_weight, density(0.4, 1.0).ln(), 1e-3);
    }

    #[test]
    fn uniforms_and_normals_follow_the_contract() {
        let settings = MultiLevel::new(vec![1.0, 0.3], 8, [0.0, 1.0]);
        let seed = 0x1_0000_0002;
        let bits = |stream, step| random_bits(seed, stream, 11, 13, step);
        let want: Vec<f64> = (0..2).map(|level| uniform(bits(stream::MULTILEVEL, level)[0])).collect();
        assert_eq!(settings.uniforms(seed, 11, 13), want);
        let settings =
            Langevin { sigmas: vec![1.0, 0.3], steps: 2, step_size: 1.0, mean: 0.0, sd: 1.0, temperature: 1.0 };
        let pair = |n| bits(stream::LANGEVIN, n);
        let want: Vec<f64> = (0..5).map(|n| normal_pair(pair(n)[0], pair(n)[1]).0).collect();
        assert_eq!(settings.normals(seed, 11, 13), want);
    }

    #[test]
    fn langevin_by_hand() {
        let settings =
            Langevin { sigmas: vec![2.0, 0.5], steps: 2, step_size: 0.25, mean: 3.0, sd: 1.5, temperature: 1.0 };
        let score = |y: f64, sigma: f64| y + 10.0 * sigma;
        // Start 3 + 2.5 z; a step adds sigma^2/8 (y + 10 sigma) + sigma/2 z; the end adds (y + 5) / 4.
        let mut y = 3.0 + 2.5 * 0.4;
        y += 0.5 * (y + 20.0) - 1.0;
        y += 0.5 * (y + 20.0) + 2.0;
        y += (y + 5.0) / 32.0 + 0.25 * 3.0;
        y += (y + 5.0) / 32.0 + 0.25 * -4.0;
        assert_near("x", langevin(score, &settings, &[0.4, -1.0, 2.0, 3.0, -4.0]), y + 0.25 * (y + 5.0), 1e-14);
    }

    #[test]
    fn langevin_has_its_known_bias_of_the_variance() {
        // Gaussian data of variance v with the noise: the stationary variance of y is v / (1 - a / 2v), where a is the
        // factor of the score. x is linear in the numbers drawn, so its variance is the sum of squared coefficients.
        let (sigma, step_size) = (0.4f64, 1.5);
        let settings = Langevin { sigmas: vec![sigma], steps: 200, step_size, mean: 0.4, sd: 0.3, temperature: 1.0 };
        let draw = |normals: &[f64]| langevin(|y, sigma| GAUSSIAN.score(y, sigma), &settings, normals);
        let centre = draw(&[0.0; 201]);
        let coefficient = |n: usize| {
            let mut normals = [0.0; 201];
            normals[n] = 1.0;
            draw(&normals) - centre
        };
        let variance: f64 = (0..201).map(|n| coefficient(n).powi(2)).sum();
        let (v, a) = (0.09 + sigma * sigma, 0.5 * step_size * sigma * sigma);
        let shrinkage = 0.09 / v;
        assert_near("mean", centre, 0.4, 1e-12);
        assert_near("variance", variance, shrinkage * shrinkage * v / (1.0 - a / (2.0 * v)), 1e-12);
    }

    #[test]
    fn annealed_langevin_finds_both_modes() {
        let sigmas: Vec<f64> = (0..8).map(|i| 1.2 * (0.04f64 / 1.2).powf(f64::from(i) / 7.0)).collect();
        let settings = Langevin { sigmas, steps: 60, step_size: 0.4, mean: 0.31, sd: 0.74, temperature: 1.0 };
        let draw = |n| langevin(|y, sigma| TWO_MODES.score(y, sigma), &settings, &settings.normals(6, n, 3));
        // sigma_L is a sixth of the narrower mode: what noise and denoising leave of it is below the test's reach.
        kolmogorov_smirnov("langevin", (0..3000).map(draw).collect(), |x| TWO_MODES.cdf(x, 0.0));
    }

    #[test]
    fn the_statistic_refuses_a_shift_of_a_tenth() {
        let mut draws = Draws::new(51);
        let shifted = (0..3000).map(|_| 0.5 + 0.3 * draws.normal()).collect();
        let refused = std::panic::catch_unwind(|| kolmogorov_smirnov("shifted", shifted, |x| GAUSSIAN.cdf(x, 0.0)));
        assert!(refused.is_err());
    }
}
