//! Conditionals in closed form: mixtures of Gaussians or logistics whose parameters are the context.
//!
//! A context is [logits (M, none for a single component without weights) | means (M) | log scales (M)], in the units of
//! [`Mixture`]. Under noise sigma, scales grow: sqrt(s^2 + sigma^2) for Gaussians, exactly; sqrt(s^2 + 3 sigma^2 / pi^2)
//! for logistics, which has the right variance and is off by at most 0.055 of the mass. Textbook formulas; the kernel has forms that keep their digits in f32.

use std::f64::consts::{PI, TAU};

use crate::codes::{Family, Objective};
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};

use super::score_net::{Loss, Row};

/// Log scales are cut off here, on both sides.
const LARGEST_LOG_SCALE: f64 = 7.0;

/// Everything of a mixture that is no parameter.
#[derive(Debug, Clone, Copy)]
pub struct Mixture {
    /// What the components are.
    pub family: Family,
    /// M
    pub components: usize,
    /// Whether the context has logits.
    pub has_logits: bool,
    /// Mean of component i for a context of zeros: first_mean + i mean_step.
    pub first_mean: f64,
    /// See `first_mean`.
    pub mean_step: f64,
    /// Unit of the means in the context.
    pub mean_unit: f64,
    /// Scale for a context of zeros.
    pub scale_unit: f64,
    /// Lowest and highest level and the width of a bin, where values are discretised.
    pub bins: Option<[f64; 3]>,
}

/// One component under noise.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its share of the mass.
    pub weight: f64,
    /// m
    pub mean: f64,
    /// t: its scale, noise included.
    pub scale: f64,
    /// d log t / d (log scale in the context).
    gain: f64,
}

/// What a conditional says of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// d/dx log q
    pub score: f64,
    /// d^2/dx^2 log q
    pub slope: f64,
    /// log q(x), or of discretised values the log of the bin's probability.
    pub log_density: f64,
}

/// Losses and gradients of some rows.
#[derive(Debug, Clone)]
pub struct MixtureGradient {
    /// Loss of each row, without its weight.
    pub losses: Vec<f64>,
    /// (rows, K), with the rows' weights.
    pub dcontexts: Vec<f64>,
}

impl Mixture {
    /// K
    pub fn context(&self) -> usize {
        self.n_logits() + 2 * self.components
    }

    fn n_logits(&self) -> usize {
        if self.has_logits { self.components } else { 0 }
    }

    /// The components under noise sigma. context (K).
    pub fn parts(&self, context: &[f64], sigma: f64) -> Vec<Part> {
        let (logits, rest) = context.split_at(self.n_logits());
        let (means, log_scales) = rest.split_at(self.components);
        let total = log_sum_exp(logits);
        let noise_share = match self.family {
            Family::Gaussian => 1.0,
            Family::Logistic => 3.0 / (PI * PI),
        };
        let part = |i: usize| {
            let scale = self.scale_unit * log_scales[i].clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE).exp();
            let variance = scale * scale + noise_share * sigma * sigma;
            let is_free = log_scales[i].abs() < LARGEST_LOG_SCALE;
            Part {
                weight: if self.has_logits { (logits[i] - total).exp() } else { 1.0 },
                mean: self.first_mean + i as f64 * self.mean_step + self.mean_unit * means[i],
                scale: variance.sqrt(),
                gain: if is_free { scale * scale / variance } else { 0.0 },
            }
        };
        (0..self.components).map(part).collect()
    }

    /// Score, slope and log density at x under noise sigma. context (K).
    pub fn evaluate(&self, context: &[f64], x: f64, sigma: f64) -> Evaluation {
        let parts = self.parts(context, sigma);
        let derivatives: Vec<[f64; 4]> = parts.iter().map(|part| self.log_density_of(part, x)).collect();
        let joints: Vec<f64> = parts.iter().zip(&derivatives).map(|(part, f)| part.weight.ln() + f[0]).collect();
        let total = log_sum_exp(&joints);
        let mean_of = |value: &dyn Fn(&[f64; 4]) -> f64| -> f64 {
            joints.iter().zip(&derivatives).map(|(joint, f)| (joint - total).exp() * value(f)).sum()
        };
        let score = mean_of(&|f| f[1]);
        let log_density = match self.bins {
            None => total,
            Some(bins) => log_sum_exp(
                &parts.iter().map(|part| part.weight.ln() + log_mass_of(part, x, bins)[0]).collect::<Vec<_>>(),
            ),
        };
        Evaluation { score, slope: mean_of(&|f| f[2] + f[1] * f[1]) - score * score, log_density }
    }

    /// Losses of the rows, and the gradient of their weighted sum by the contexts.
    pub fn loss_and_gradient(&self, rows: &[Row], loss: &Loss) -> MixtureGradient {
        let mut result = MixtureGradient { losses: Vec::new(), dcontexts: Vec::new() };
        for row in rows {
            let x = loss.position(row);
            let at = self.evaluate(row.context, x, row.sigma);
            let (value, gradient) = match loss.objective {
                Objective::Ml => (-at.log_density, self.likelihood_gradient(row, x)),
                _ => (loss.value(row, at.score, at.slope), self.score_gradient(row, x, &at, loss)),
            };
            result.losses.push(value);
            result.dcontexts.extend(gradient.iter().map(|g| row.weight * g));
        }
        result
    }

    /// Of -log q. With r the responsibilities: dlogit = weight - r, and each component's own derivatives times -r.
    fn likelihood_gradient(&self, row: &Row, x: f64) -> Vec<f64> {
        let parts = self.parts(row.context, row.sigma);
        let log_and_derivatives: Vec<[f64; 3]> = parts
            .iter()
            .map(|part| match self.bins {
                Some(bins) => log_mass_of(part, x, bins),
                None => {
                    let f = self.log_density_of(part, x);
                    [f[0], -f[1], -1.0 - (x - part.mean) * f[1]]
                }
            })
            .collect();
        let joints: Vec<f64> =
            parts.iter().zip(&log_and_derivatives).map(|(part, f)| part.weight.ln() + f[0]).collect();
        let total = log_sum_exp(&joints);
        let mut gradient = Gradient::new(self);
        for (i, (part, f)) in parts.iter().zip(&log_and_derivatives).enumerate() {
            let share = (joints[i] - total).exp();
            gradient.set(i, part, [part.weight - share, -share * f[1], -share * f[2]]);
        }
        gradient.values
    }

    /// Of a loss of score and slope, from the derivatives of s = sum r g and s' = sum r (h + g^2) - s^2 by every
    /// component's log density f, and g = f', h = f''; those move with the mean as -d/dx, and with the scale.
    fn score_gradient(&self, row: &Row, x: f64, at: &Evaluation, loss: &Loss) -> Vec<f64> {
        let c = loss.coefficients(row);
        let (by_score, by_slope) = (c.square * at.score + c.linear, c.slope);
        let parts = self.parts(row.context, row.sigma);
        let derivatives: Vec<[f64; 4]> = parts.iter().map(|part| self.log_density_of(part, x)).collect();
        let joints: Vec<f64> = parts.iter().zip(&derivatives).map(|(part, f)| part.weight.ln() + f[0]).collect();
        let total = log_sum_exp(&joints);
        let second_moment = at.slope + at.score * at.score;
        let mut gradient = Gradient::new(self);
        for (i, (part, &[_, g, h, k])) in parts.iter().zip(&derivatives).enumerate() {
            let share = (joints[i] - total).exp();
            let ds = share * (g - at.score);
            let dslope = share * (h + g * g - second_moment) - 2.0 * at.score * ds;
            let by_f = by_score * ds + by_slope * dslope;
            let by_g = share * (by_score + by_slope * (2.0 * g - 2.0 * at.score));
            let by_h = share * by_slope;
            let u = x - part.mean;
            let by_mean = -(by_f * g + by_g * h + by_h * k);
            let by_log_scale = -by_f * (1.0 + u * g) - by_g * (g + u * h) - by_h * (2.0 * h + u * k);
            gradient.set(i, part, [by_f, by_mean, by_log_scale]);
        }
        gradient.values
    }

    /// log q_i(x) and its first three derivatives by x.
    fn log_density_of(&self, part: &Part, x: f64) -> [f64; 4] {
        let (z, t) = ((x - part.mean) / part.scale, part.scale);
        let f = match self.family {
            Family::Gaussian => [-0.5 * z * z - 0.5 * TAU.ln(), -z, -1.0, 0.0],
            Family::Logistic => {
                let (below, above) = (sigmoid(z), sigmoid(-z));
                let first = above - below;
                let second = -2.0 * below * above;
                [below.ln() + above.ln(), first, second, second * first]
            }
        };
        [f[0] - t.ln(), f[1] / t, f[2] / (t * t), f[3] / (t * t * t)]
    }

    /// One draw from random bits, as [`Mixture::bits`] gives them: the component from the first word, the value from the
    /// next, or the next two. context (K). A temperature T takes every component with its weight to the power 1/T: for
    /// Gaussians.
    pub fn draw(&self, context: &[f64], sigma: f64, temperature: f64, bits: [u32; 4]) -> f64 {
        let parts = self.parts(context, sigma);
        let share = 1.0 / temperature;
        let weights: Vec<f64> =
            parts.iter().map(|part| part.weight.powf(share) * part.scale.powf(1.0 - share)).collect();
        let mut rest = uniform(bits[0]) * weights.iter().sum::<f64>();
        let chosen = weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        let part = &parts[chosen.unwrap_or(parts.len() - 1)];
        let z = match self.family {
            Family::Gaussian => normal_pair(bits[1], bits[2]).0,
            Family::Logistic => (uniform(bits[1]) / (1.0 - uniform(bits[1]))).ln(),
        };
        let x = part.mean + part.scale * temperature.sqrt() * z;
        match self.bins {
            Some([low, high, width]) => low + ((x.clamp(low, high) - low) / width).round() * width,
            None => x,
        }
    }

    /// The random bits of a draw.
    pub fn bits(seed: u64, sample: u32, dimension: u32) -> [u32; 4] {
        random_bits(seed, stream::MIXTURE, sample, dimension, 0)
    }
}

/// A gradient by a context in the making.
struct Gradient {
    n_logits: usize,
    components: usize,
    mean_unit: f64,
    values: Vec<f64>,
}

impl Gradient {
    fn new(mixture: &Mixture) -> Self {
        Self {
            n_logits: mixture.n_logits(),
            components: mixture.components,
            mean_unit: mixture.mean_unit,
            values: vec![0.0; mixture.context()],
        }
    }

    /// From the derivatives by component i's logit, mean and log t.
    fn set(&mut self, i: usize, part: &Part, [logit, mean, log_scale]: [f64; 3]) {
        if self.n_logits > 0 {
            self.values[i] = logit;
        }
        self.values[self.n_logits + i] = self.mean_unit * mean;
        self.values[self.n_logits + self.components + i] = part.gain * log_scale;
    }
}

/// log of the logistic mass of the bin around x, and its derivatives by mean and log scale. The outer bins reach to
/// infinity.
fn log_mass_of(part: &Part, x: f64, [low, high, width]: [f64; 3]) -> [f64; 3] {
    let lower = if x < low + 0.5 * width { f64::NEG_INFINITY } else { x - 0.5 * width };
    let upper = if x > high - 0.5 * width { f64::INFINITY } else { x + 0.5 * width };
    let (a, b) = ((lower - part.mean) / part.scale, (upper - part.mean) / part.scale);
    // On the side where both are small: the difference keeps its digits.
    let mass = if a > 0.0 { sigmoid(-a) - sigmoid(-b) } else { sigmoid(b) - sigmoid(a) };
    let density = |z: f64| sigmoid(z) * sigmoid(-z);
    let moment = |z: f64| if z.is_finite() { z * density(z) } else { 0.0 };
    [mass.ln(), (density(a) - density(b)) / (part.scale * mass), (moment(a) - moment(b)) / mass]
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use statrs::function::erf::erf;

    use super::super::testing::{Draws, assert_close, assert_near, derivative, gradient, integral, kolmogorov_smirnov};
    use super::*;

    const SINGLE: Mixture = Mixture {
        family: Family::Gaussian,
        components: 1,
        has_logits: false,
        first_mean: 0.3,
        mean_step: 0.0,
        mean_unit: 0.4,
        scale_unit: 0.5,
        bins: None,
    };
    const GAUSSIANS: Mixture = Mixture { components: 4, has_logits: true, mean_step: 0.25, ..SINGLE };
    const LOGISTICS: Mixture = Mixture { family: Family::Logistic, ..GAUSSIANS };
    const BINNED: Mixture = Mixture { bins: Some([0.0, 1.0, 0.125]), ..LOGISTICS };
    const ALL: [Mixture; 4] = [SINGLE, GAUSSIANS, LOGISTICS, BINNED];

    fn cdf(mixture: &Mixture, context: &[f64], x: f64, sigma: f64) -> f64 {
        let of_part = |part: &Part| {
            let z = (x - part.mean) / part.scale;
            part.weight
                * match mixture.family {
                    Family::Gaussian => 0.5 * (1.0 + erf(z / 2f64.sqrt())),
                    Family::Logistic => sigmoid(z),
                }
        };
        mixture.parts(context, sigma).iter().map(of_part).sum()
    }

    #[test]
    fn scores_and_slopes_are_derivatives_of_a_normalised_density() {
        let mut draws = Draws::new(61);
        for mixture in [SINGLE, GAUSSIANS, LOGISTICS] {
            for sigma in [0.0, 0.7] {
                let context = draws.normals(mixture.context());
                let log_density = |x: f64| mixture.evaluate(&context, x, sigma).log_density;
                for x in [-1.3, 0.2, 2.1] {
                    let at = mixture.evaluate(&context, x, sigma);
                    assert_near("score", at.score, derivative(|h| log_density(x + h)), 1e-9);
                    let score = |h: f64| mixture.evaluate(&context, x + h, sigma).score;
                    assert_near("slope", at.slope, derivative(score), 1e-9);
                    let mass = integral(-150.0, x, |x| log_density(x).exp());
                    assert_near("mass", mass, cdf(&mixture, &context, x, sigma), 1e-6);
                }
            }
        }
    }

    #[test]
    fn probabilities_of_bins_are_those_of_the_distribution_function_and_add_up_to_one() {
        let context = Draws::new(62).normals(BINNED.context());
        let probabilities = (0..9).map(|k| {
            let x = f64::from(k) * 0.125;
            let below = if k == 0 { 0.0 } else { cdf(&BINNED, &context, x - 0.0625, 0.0) };
            let up_to = if k == 8 { 1.0 } else { cdf(&BINNED, &context, x + 0.0625, 0.0) };
            let got = BINNED.evaluate(&context, x, 0.0).log_density.exp();
            assert_near("bin", got, up_to - below, 1e-12);
            got
        });
        assert_near("sum", probabilities.sum(), 1.0, 1e-12);
    }

    /// Exactly for Gaussians. A logistic convolved with a Gaussian is no logistic; of the same variance, the two differ by
    /// at most 0.055 of the mass (total variation), where the noise is much wider than the logistic.
    #[test]
    fn noise_is_a_convolution() {
        let one = |family| Mixture { family, components: 1, ..SINGLE };
        let convolved = |mixture: &Mixture, x: f64, sigma: f64| {
            integral(-12.0 * sigma, 12.0 * sigma, |y| {
                let clean = mixture.evaluate(&[0.0, 0.0], x - y, 0.0).log_density;
                (clean - 0.5 * (y / sigma).powi(2) - sigma.ln() - 0.5 * TAU.ln()).exp()
            })
        };
        for x in [-0.4, 0.3, 1.9] {
            let got = one(Family::Gaussian).evaluate(&[0.0, 0.0], x, 0.8).log_density.exp();
            assert_near("Gaussian", got, convolved(&one(Family::Gaussian), x, 0.8), 1e-9);
        }
        for (sigma, largest) in [(0.05, 4e-4), (0.5, 0.024), (5.0, 0.056)] {
            let logistic = one(Family::Logistic);
            let step = (sigma + 0.5) / 10.0;
            let points = (-150..150).map(|i| (f64::from(i) + 0.5) * step);
            let differences = points.map(|x| {
                (convolved(&logistic, x, sigma) - logistic.evaluate(&[0.0, 0.0], x, sigma).log_density.exp()).abs()
            });
            let distance = 0.5 * step * differences.sum::<f64>();
            assert!(distance <= largest, "total variation {distance} at sigma = {sigma}");
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        use Objective::{Csm, Dsm, Ml, Plain, Weighted};
        let mut draws = Draws::new(63);
        for mixture in ALL {
            for objective in [Ml, Csm, Dsm, Plain, Weighted] {
                let loss = Loss { objective, bounds: [-1.0, 1.5] };
                for x in [-0.4, 0.25, 0.5, 1.3] {
                    let context = draws.normals(mixture.context());
                    // Bins of noisy values would end elsewhere.
                    let (sigma, eps) = if mixture.bins.is_some() { (0.0, 0.0) } else { (0.6, draws.normal()) };
                    let of = |context: &[f64]| {
                        mixture.loss_and_gradient(&[Row { context, x, sigma, eps, weight: 0.7 }], &loss)
                    };
                    let got = of(&context);
                    let want = gradient(&context, |context| 0.7 * of(context).losses[0]);
                    if mixture.bins.is_some() && matches!(objective, Csm | Dsm) {
                        continue;
                    }
                    assert!(got.dcontexts.iter().any(|&g| g != 0.0), "{objective:?}");
                    assert_close(&format!("{objective:?}"), &got.dcontexts, &want, 1e-8);
                }
            }
        }
    }

    #[test]
    fn scales_are_cut_off_with_their_gradient() {
        let loss = Loss { objective: Objective::Ml, bounds: [0.0, 1.0] };
        let at = |log_scale: f64| {
            let row = Row { context: &[0.2, log_scale], x: 0.4, sigma: 0.1, eps: 0.0, weight: 1.0 };
            SINGLE.loss_and_gradient(&[row], &loss)
        };
        assert_eq!(at(-7.0).losses, at(-9.0).losses);
        assert_eq!(at(8.0).dcontexts[1], 0.0);
        assert!(at(6.5).dcontexts[1] != 0.0);
    }

    #[test]
    fn draws_follow_the_distribution_function() {
        for (seed, mixture) in [SINGLE, GAUSSIANS, LOGISTICS].into_iter().enumerate() {
            let context = Draws::new(64 + seed as u64).normals(mixture.context());
            for sigma in [0.0, 0.5] {
                let draw = |sample| mixture.draw(&context, sigma, 1.0, Mixture::bits(5, sample, 3));
                let samples: Vec<f64> = (0..5000).map(draw).collect();
                kolmogorov_smirnov("draws", samples, |x| cdf(&mixture, &context, x, sigma));
            }
        }
    }

    #[test]
    fn binned_draws_have_the_probabilities_of_their_bins() {
        let context = Draws::new(68).normals(BINNED.context());
        let mut counts = [0u32; 9];
        for sample in 0..20_000 {
            let x = BINNED.draw(&context, 0.0, 1.0, Mixture::bits(6, sample, 0));
            counts[(x * 8.0).round() as usize] += 1;
        }
        for (k, &count) in counts.iter().enumerate() {
            let p = BINNED.evaluate(&context, k as f64 * 0.125, 0.0).log_density.exp();
            let error = f64::from(count) / 20_000.0 - p;
            assert!(error.abs() <= 4.5 * (p * (1.0 - p) / 20_000.0).sqrt(), "bin {k}: {error} of {p}");
        }
    }
}
