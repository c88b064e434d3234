//! Densities that are known in closed form: they generate data and judge what was learned from it.

use std::f64::consts::{PI, TAU};

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::Gaussian;
use crate::error::{Error, Result, nearest};

/// A density that can be drawn from and evaluated exactly.
#[derive(Debug, Clone)]
pub enum Density {
    /// Equal parts of round Gaussians of one width: `8gaussians`, and curves of close centres (`spirals`, `moons`).
    Mixture {
        /// Centres of the parts.
        centres: Vec<[f64; 2]>,
        /// Standard deviation of every part.
        sd: f64,
    },
    /// Uniform on every second unit square of [-4, 4]^2.
    Checkerboard,
    /// Three circles with Gaussian radius.
    Rings,
    /// Five Gaussian arms, twisted by an angle that grows with the radius (a map that keeps areas).
    Pinwheel,
    /// A correlated Gaussian in any dimension.
    Gaussian(Gaussian),
}

const RING_RADII: [f64; 3] = [1.0, 2.0, 3.0];
const RING_SD: f64 = 0.1;

const ARMS: usize = 5;
const ARM_SCALE: f64 = 2.0;
const ARM_LENGTH_SD: f64 = 0.3;
const ARM_WIDTH_SD: f64 = 0.1;

impl Density {
    /// Names of the densities in the plane.
    pub const TOYS: [&str; 6] = ["checkerboard", "rings", "spirals", "moons", "pinwheel", "8gaussians"];

    /// The density in the plane with that name; all of them lie in about [-4, 4]^2.
    ///
    /// # Errors
    /// Bad input, with the nearest known name.
    pub fn toy(name: &str) -> Result<Self> {
        Ok(match name {
            "checkerboard" => Self::Checkerboard,
            "rings" => Self::Rings,
            "pinwheel" => Self::Pinwheel,
            "8gaussians" => {
                let centre = |k: usize| [3.0 * (TAU * k as f64 / 8.0).cos(), 3.0 * (TAU * k as f64 / 8.0).sin()];
                Self::Mixture { centres: (0..8).map(centre).collect(), sd: 0.25 }
            }
            "spirals" => Self::Mixture { centres: spiral_centres(), sd: 0.09 },
            "moons" => Self::Mixture { centres: moon_centres(), sd: 0.15 },
            unknown => {
                return Err(Error::input(
                    format!("toy:{unknown}"),
                    format!("is unknown; there are {}", Self::TOYS.join(", ")),
                    format!("Did you mean `toy:{}`?", nearest(unknown, Self::TOYS)),
                ));
            }
        })
    }

    /// D.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Gaussian(gaussian) => gaussian.dimensions(),
            _ => 2,
        }
    }

    /// Draws one point to `out` (D).
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn sample(&self, rng: &mut impl Rng, out: &mut [f32]) {
        let mut normal = || rng.sample::<f64, _>(StandardNormal);
        let point = match self {
            Self::Gaussian(gaussian) => return gaussian.sample(rng, out),
            Self::Mixture { centres, sd } => {
                let noise = [normal(), normal()];
                let centre = centres[rng.random_range(0..centres.len())];
                [centre[0] + sd * noise[0], centre[1] + sd * noise[1]]
            }
            Self::Checkerboard => {
                let x: f64 = rng.random_range(-4.0..4.0);
                let pair = f64::from(rng.random_range(-2..2));
                [x, 2.0 * pair + x.floor().rem_euclid(2.0) + rng.random::<f64>()]
            }
            Self::Rings => {
                let radius = RING_SD * normal() + RING_RADII[rng.random_range(0..RING_RADII.len())];
                let angle = rng.random_range(0.0..TAU);
                [radius * angle.cos(), radius * angle.sin()]
            }
            Self::Pinwheel => {
                let (along, across) = (1.0 + ARM_LENGTH_SD * normal(), ARM_WIDTH_SD * normal());
                let arm = rng.random_range(0..ARMS);
                rotate([along, across], arm_angle(arm, along.hypot(across))).map(|v| ARM_SCALE * v)
            }
        };
        out.copy_from_slice(&point.map(|v| v as f32));
    }

    /// -log p of every one of the points x (N, D).
    pub fn nats(&self, x: &[f32]) -> Vec<f64> {
        let double = |x: &[f32]| x.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        x.chunks_exact(self.dimensions()).map(|x| -self.log_density(&double(x))).collect()
    }

    /// Natural logarithm of the density at `x` (D); minus infinity where there is none.
    ///
    /// # Panics
    /// When `x` has another length.
    pub fn log_density(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.dimensions(), "a point needs D coordinates");
        match self {
            Self::Gaussian(gaussian) => gaussian.log_density(x),
            Self::Mixture { centres, sd } => {
                let exponent = |c: &[f64; 2]| -((x[0] - c[0]).powi(2) + (x[1] - c[1]).powi(2)) / (2.0 * sd * sd);
                log_mean_exp(centres.iter().map(exponent)) - (TAU * sd * sd).ln()
            }
            Self::Checkerboard => {
                let inside = x.iter().all(|v| (-4.0..4.0).contains(v));
                let occupied = inside && (x[0].floor() + x[1].floor()).rem_euclid(2.0) == 0.0;
                if occupied { -f64::ln(32.0) } else { f64::NEG_INFINITY }
            }
            Self::Rings => {
                // A negative radius, ten standard deviations away, is left out: its mass is below 1e-23.
                let radius = x[0].hypot(x[1]).max(1e-12);
                log_mean_exp(RING_RADII.iter().map(|&mean| log_normal(radius, mean, RING_SD))) - (TAU * radius).ln()
            }
            Self::Pinwheel => {
                let y = [x[0] / ARM_SCALE, x[1] / ARM_SCALE];
                let radius = y[0].hypot(y[1]);
                let arm = |arm| {
                    let [along, across] = rotate(y, -arm_angle(arm, radius));
                    log_normal(along, 1.0, ARM_LENGTH_SD) + log_normal(across, 0.0, ARM_WIDTH_SD)
                };
                log_mean_exp((0..ARMS).map(arm)) - 2.0 * ARM_SCALE.ln()
            }
        }
    }
}

/// Two arms; in t the arc is passed at a speed that grows like the radius, so equal steps of t^2 are equal steps on it.
/// Formula of the arms: Durkan & Nash, "Autoregressive Energy Machines" (2019).
fn spiral_centres() -> Vec<[f64; 2]> {
    const STEPS: usize = 500;
    let on_arm = |i: usize| {
        let t = 5.0 * PI * ((i as f64 + 0.5) / STEPS as f64).sqrt();
        [-0.7 * t.cos() * t / 3.0, 0.7 * t.sin() * t / 3.0]
    };
    (0..STEPS).map(on_arm).flat_map(|[x, y]| [[x, y], [-x, -y]]).collect()
}

/// Two interleaved half circles of radius 2.
fn moon_centres() -> Vec<[f64; 2]> {
    const STEPS: usize = 200;
    let on_arc = |i: usize| {
        let angle = PI * (i as f64 + 0.5) / STEPS as f64;
        [2.0 * angle.cos() - 1.0, 2.0 * angle.sin() - 0.5]
    };
    (0..STEPS).map(on_arc).flat_map(|[x, y]| [[x, y], [-x, -y]]).collect()
}

fn arm_angle(arm: usize, radius: f64) -> f64 {
    TAU * arm as f64 / ARMS as f64 + 0.25 * radius.exp()
}

fn rotate([x, y]: [f64; 2], angle: f64) -> [f64; 2] {
    let (sin, cos) = angle.sin_cos();
    [cos * x - sin * y, sin * x + cos * y]
}

fn log_normal(x: f64, mean: f64, sd: f64) -> f64 {
    -0.5 * ((x - mean) / sd).powi(2) - 0.5 * TAU.ln() - sd.ln()
}

/// log of the mean of exp, safe for any finite terms.
fn log_mean_exp(terms: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = terms.len() as f64;
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + (terms.map(|term| (term - largest).exp()).sum::<f64>() / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::host_rng;

    /// Mass and mean log density by the midpoint rule; its error is negligible as 0.05 is fine against every width.
    fn mass_and_mean_log(density: &Density) -> (f64, f64) {
        let (mut mass, mut mean) = (0.0, 0.0);
        let at = |i: usize| -6.0 + 0.05 * (i as f64 + 0.5);
        for (i, j) in (0..240).flat_map(|i| (0..240).map(move |j| (i, j))) {
            let log = density.log_density(&[at(i), at(j)]);
            let cell = log.exp() * 0.05 * 0.05;
            mass += cell;
            mean += if cell > 0.0 { cell * log } else { 0.0 };
        }
        (mass, mean)
    }

    #[test]
    fn every_density_has_mass_one_and_fits_its_samples() {
        for name in Density::TOYS {
            let density = Density::toy(name).expect("listed");
            let (mass, expected) = mass_and_mean_log(&density);
            assert!((mass - 1.0).abs() <= 1e-4, "{name}: mass {mass}");
            let mut rng = host_rng(1, 2);
            let mut point = [0.0f32; 2];
            let logs: Vec<f64> = (0..20_000)
                .map(|_| {
                    density.sample(&mut rng, &mut point);
                    density.log_density(&point.map(f64::from))
                })
                .collect();
            let mean = logs.iter().sum::<f64>() / 20_000.0;
            let sd = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / 20_000.0).sqrt();
            // Five standard errors of the sample mean, and the rule's own error for the jumps of the board.
            let tolerance = 5.0 * sd / 20_000f64.sqrt() + 1e-3;
            assert!((mean - expected).abs() <= tolerance, "{name}: samples {mean}, density {expected} +- {tolerance}");
        }
    }

    #[test]
    fn far_points_have_a_finite_log_density() {
        for name in ["rings", "spirals", "moons", "pinwheel", "8gaussians"] {
            let log = Density::toy(name).expect("listed").log_density(&[40.0, -3.0]);
            assert!(log.is_finite() && log < -1000.0, "{name}: {log}");
        }
    }
}
