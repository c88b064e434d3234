//! The density of the multi-level chain ([`super::sampler::multilevel`] without its last step) and the reading of the
//! probability-flow ODE, in one dimension, from the conditional score under noise, score(y, sigma).

/// A noise level with its grid of equidistant points, moved by up to half a step so that one of them is the y asked for.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// Noise level.
    pub sigma: f64,
    /// Lower end.
    pub low: f64,
    /// Distance of the points.
    pub step: f64,
    /// Number of points.
    pub points: usize,
}

/// The density at one y, and what a grid says of itself.
#[derive(Debug, Clone)]
pub struct Reading {
    /// log p(y)
    pub log_density: f64,
    /// Integral of p: sum over all points.
    pub mass: f64,
    /// The same over every second point.
    pub mass_of_half: f64,
    /// Mass beyond the ends of the worst grid, if p goes on to fall as it does there.
    pub cut: f64,
    /// log p at every point of the last grid.
    pub log_densities: Vec<f64>,
}

/// What [`flow`] gives.
#[derive(Debug, Clone)]
pub struct FlowReading {
    /// log p(y), not normalised.
    pub log_density: f64,
    /// Where y is carried to.
    pub top: f64,
    /// log p at every point of the grid.
    pub log_densities: Vec<f64>,
}

impl Level {
    /// Which point is y.
    pub fn point_of(&self, y: f64) -> usize {
        ((y - self.low) / self.step).round().clamp(0.0, (self.points - 1) as f64) as usize
    }

    /// The points, of which one is y.
    pub fn grid(&self, y: f64) -> Vec<f64> {
        let own = self.point_of(y) as f64;
        (0..self.points).map(|p| y + (p as f64 - own) * self.step).collect()
    }

    /// Integral of the score by trapezoids, from y to every point.
    fn energies(&self, score: impl Fn(f64, f64) -> f64, y: f64) -> Vec<f64> {
        let scores: Vec<f64> = self.grid(y).into_iter().map(|place| score(place, self.sigma)).collect();
        let integral = super::sampler::cumulative_trapezoid(&scores, self.step);
        let at_own = integral[self.point_of(y)];
        integral.into_iter().map(|energy| energy - at_own).collect()
    }
}

/// p_L of the chain y_0 ~ p_sigma0, y_l ~ p_sigma_l(y) N(y_{l-1}; y, sigma_{l-1}^2 - sigma_l^2) / Z(y_{l-1}), at y.
///
/// Every integral is a sum over the points of a grid, so that each p_l has mass 1 by construction. Levels fall.
pub fn chain(score: impl Fn(f64, f64) -> f64, levels: &[Level], y: f64) -> Reading {
    let mut cut = 0.0f64;
    let mut above: Option<(Level, Vec<f64>)> = None;
    for level in levels {
        let energies = level.energies(&score, y);
        let log_densities = match &above {
            None => {
                let total = log_sum_exp(energies.iter().copied()) + level.step.ln();
                energies.iter().map(|energy| energy - total).collect()
            }
            Some((upper, log_above)) => transition(level, &energies, upper, log_above, y),
        };
        cut = cut.max(mass_beyond(&log_densities, level.step));
        above = Some((*level, log_densities));
    }
    let (last, log_densities) = above.expect("a chain has levels");
    let own = last.point_of(y);
    let share = |p: usize| log_densities[p].exp() * last.step;
    Reading {
        log_density: log_densities[own],
        mass: (0..last.points).map(share).sum(),
        mass_of_half: (own % 2..last.points).step_by(2).map(|p| 2.0 * share(p)).sum(),
        cut,
        log_densities,
    }
}

/// log p_l on its grid from log p_{l-1} on the grid above.
fn transition(level: &Level, energies: &[f64], upper: &Level, log_above: &[f64], y: f64) -> Vec<f64> {
    let half_precision = 0.5 / (upper.sigma * upper.sigma - level.sigma * level.sigma);
    let (grid, grid_above) = (level.grid(y), upper.grid(y));
    let kernel = |from: f64, to: f64| -half_precision * (from - to) * (from - to);
    let log_z = |from: f64| log_sum_exp(grid.iter().zip(energies).map(|(&to, energy)| energy + kernel(from, to)));
    let leaving: Vec<f64> = grid_above.iter().zip(log_above).map(|(&from, log_p)| log_p - log_z(from)).collect();
    let arriving = |to: f64| log_sum_exp(grid_above.iter().zip(&leaving).map(|(&from, log)| log + kernel(from, to)));
    let steps = (upper.step / level.step).ln();
    grid.iter().zip(energies).map(|(&to, energy)| energy + arriving(to) + steps).collect()
}

/// log sum of the exponentials.
fn log_sum_exp(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    top + logs.map(|log| (log - top).exp()).sum::<f64>().ln()
}

fn mass_beyond(log_densities: &[f64], step: f64) -> f64 {
    let beyond = |end: f64, inner: f64| {
        let least = 1.0 / (log_densities.len() as f64 * step);
        end.exp() / ((inner - end) / step).max(least)
    };
    let n = log_densities.len();
    beyond(log_densities[0], log_densities[1]) + beyond(log_densities[n - 1], log_densities[n - 2])
}

/// Change of variables along dy/d(log sigma) = -sigma^2 s(y, sigma) from `level` up to `top` by Heun's method, where the
/// normalised density of the score is known on a grid (linear in between). `score` gives (s, ds/dy).
pub fn flow(score: impl Fn(f64, f64) -> (f64, f64), level: &Level, top: &Level, steps: usize, y: f64) -> FlowReading {
    let log_top = chain(|y, sigma| score(y, sigma).0, &[*top], y).log_densities;
    let own_top = top.point_of(y) as f64;
    let dt = (top.sigma / level.sigma).ln() / steps as f64;
    let velocity = |y: f64, sigma: f64| {
        let (score, slope) = score(y, sigma);
        [sigma * sigma * score, sigma * sigma * slope]
    };
    let carry = |mut place: f64| {
        let mut log_slope = 0.0;
        for step in 0..steps {
            let [sigma, next] = [step, step + 1].map(|step| level.sigma * (step as f64 * dt).exp());
            let here = velocity(place, sigma);
            let there = velocity(place - dt * here[0], next);
            place -= 0.5 * dt * (here[0] + there[0]);
            log_slope -= 0.5 * dt * (here[1] + there[1]);
        }
        let index = (place - y) / top.step + own_top;
        let cell = index.floor().clamp(0.0, (top.points - 2) as f64);
        let (left, right) = (log_top[cell as usize], log_top[cell as usize + 1]);
        (left + (right - left) * (index - cell) + log_slope, place)
    };
    let own = level.point_of(y);
    let carried: Vec<(f64, f64)> = level.grid(y).into_iter().map(carry).collect();
    FlowReading {
        log_density: carried[own].0,
        top: carried[own].1,
        log_densities: carried.into_iter().map(|(density, _)| density).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Mixture, assert_near};
    use super::*;

    const TWO_MODES: Mixture = Mixture { weights: [0.35, 0.65], means: [-0.6, 0.8], sds: [0.15, 0.3] };

    fn level(sigma: f64, points: usize) -> Level {
        let (low, high) = (-1.6 - 5.0 * sigma, 2.2 + 5.0 * sigma);
        Level { sigma, low, step: (high - low) / (points - 1) as f64, points }
    }

    #[test]
    fn exact_scores_give_the_exact_density_at_every_level() {
        let levels = [level(1.0, 120), level(0.4, 140), level(0.1, 160)];
        for n in 1..=3 {
            for y in [-1.1, -0.6, 0.0, 0.31, 0.8, 1.7, 2.9] {
                let reading = chain(|y, sigma| TWO_MODES.score(y, sigma), &levels[..n], y);
                let want = TWO_MODES.log_density(y, levels[n - 1].sigma);
                // The steps of the trapezoid are a fifth of the narrowest standard deviation here.
                assert_near(&format!("level {n} at {y}"), reading.log_density, want, 2e-3);
                assert_near("mass", reading.mass, 1.0, 1e-12);
                assert_near("mass of half", reading.mass_of_half, 1.0, 1e-6);
                assert!(reading.cut <= 1e-5, "{}", reading.cut);
            }
        }
    }

    #[test]
    fn a_grid_that_cuts_off_mass_says_so() {
        let short = Level { low: 0.5, step: 0.02, points: 120, sigma: 0.4 };
        let reading = chain(|y, sigma| TWO_MODES.score(y, sigma), &[short], 0.8);
        assert!(reading.cut >= 0.1 && (reading.mass - 1.0).abs() <= 1e-12, "{reading:?}");
    }

    #[test]
    fn a_coarse_grid_is_noticed_by_its_half() {
        let coarse = Level { low: -3.0, step: 0.35, points: 22, sigma: 0.05 };
        let reading = chain(|y, sigma| TWO_MODES.score(y, sigma), &[coarse], -0.6);
        assert!((reading.mass_of_half - 1.0).abs() >= 0.05, "{}", reading.mass_of_half);
    }

    #[test]
    fn the_chain_draws_what_the_sampler_draws() {
        use super::super::sampler::{MultiLevel, multilevel};
        // A score that belongs to no density at its levels: the chain's density is that of the draws all the same.
        let score = |y: f64, sigma: f64| TWO_MODES.score(y, sigma) + 0.5 * (3.0 * y).sin();
        let settings = MultiLevel::new(vec![1.0, 0.4, 0.2], 100, [-2.0, 2.6]);
        let draws: Vec<f64> =
            (0..4000).map(|n| multilevel(score, &settings, &settings.uniforms(9, n, 1)).y_levels[2]).collect();
        let levels = [level(1.0, 150), level(0.4, 150), level(0.2, 150)];
        let reading = chain(score, &levels, 0.0);
        let cdf = |y: f64| {
            let below = levels[2].grid(0.0).into_iter().zip(&reading.log_densities).filter(|(place, _)| *place <= y);
            below.map(|(_, log)| log.exp() * levels[2].step).sum::<f64>()
        };
        super::super::testing::kolmogorov_smirnov("chain", draws, |y| {
            // Halfway through a cell.
            0.5 * (cdf(y - 0.5 * levels[2].step) + cdf(y + 0.5 * levels[2].step))
        });
    }

    #[test]
    fn the_flow_of_exact_scores_gives_the_exact_density() {
        let with_slope = |y: f64, sigma: f64| {
            let h = 1e-4;
            let slope = (TWO_MODES.score(y + h, sigma) - TWO_MODES.score(y - h, sigma)) / (2.0 * h);
            (TWO_MODES.score(y, sigma), slope)
        };
        let (bottom, top) = (level(0.2, 64), level(2.0, 512));
        for y in [-0.7, 0.1, 0.9] {
            let reading = flow(with_slope, &bottom, &top, 200, y);
            // Heun's error falls with the square of the step, 0.012 here.
            assert_near("raw", reading.log_density, TWO_MODES.log_density(y, 0.2), 3e-3);
            let mass: f64 = reading.log_densities.iter().map(|log| log.exp() * bottom.step).sum();
            assert_near("mass", mass, 1.0, 3e-3);
        }
    }
}
