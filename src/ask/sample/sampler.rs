//! The samplers: their settings, what they cost, and what models they suit.

use serde::Serialize;

use crate::codes::Objective;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, Needs, Variant};
use crate::kernels::{SampleLangevin, SampleMala, SampleMixture, SampleMultilevel, SampleOde};
use crate::models::ar_csm::{ArCsm, Head, HeadKind, NoiseConfig};

/// Half of the grid points that the kernels have room for.
const MAX_POINTS: u32 = 128;
/// Points of a grid by [`Sampler::multilevel_default`], seven of the spread that it is to resolve across; the first grid is
/// as fine, in its sigma, with so many points at least and at most.
const DEFAULT_POINTS: (u32, [f32; 2]) = (12, [16.0, 64.0]);
/// The same for tables, which have few dimensions, of which each one counts: with the grids of images the mean of a column
/// that was nearly given by others was off by a tenth of its standard deviation.
const TABLE_POINTS: (u32, [f32; 2]) = (32, [32.0, 128.0]);
/// Samples that share the weights of the context network they load, at most.
pub(super) const MAX_SHARING: usize = 8;
/// Lines of the score network's tile that a sample takes at least where its points lie on a grid.
pub(crate) const GRID_LINES: usize = 2;
/// Lines of the score network's tile that a sample of the Metropolis-adjusted sampler takes.
pub(crate) const MALA_LINES: usize = 4;

/// Samples that a workgroup of a variant owns at most, where each takes so many lines of its tile: on hardware adapters one. So
/// all samples have the same pipeline, however many are drawn; compilers of hardware round otherwise for another number.
pub(crate) fn most_samples(gpu: &Gpu, variant: &Variant, lines: usize) -> usize {
    if variant.needs == Needs::Workgroup || !gpu.adapter().software {
        return 1;
    }
    variant.tile[0] as usize / lines
}

/// Samples that each thread of a tile of so many lines draws, where a group has so many of them.
pub(crate) fn lines_of_thread(group_samples: usize, lines_of_tile: usize) -> u32 {
    if group_samples <= lines_of_tile / 2 { 1 } else { 2 }
}

/// How one dimension is drawn from its conditional.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampler {
    /// Multi-level quadrature: an inverse-CDF draw at the first level, then for each lower one a draw given the last.
    MultiLevel {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Grid points of the first level.
        first_points: u32,
        /// Grid points of each of the others.
        points: u32,
    },
    /// Annealed Langevin dynamics. Its law is biased by the step size: for a Gaussian of variance v (noise included) it is
    /// v / (1 - a / 2v), a = e sigma^2 / 2.
    Langevin {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Steps a level.
        steps: u32,
        /// Step size e, in units of sigma^2.
        step_size: f32,
    },
    /// The probability-flow ODE: an inverse-CDF draw at the first level, then a Heun step to each lower one.
    Ode {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Half of the grid points of the first level.
        points: u32,
    },
    /// An inverse-CDF draw at the first level, then for each lower one a draw given the last and the denoised mean, as if
    /// the clean value were known to be that.
    Ancestral {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Half of the grid points of the first level.
        points: u32,
    },
    /// Annealed Langevin dynamics whose steps are proposals, accepted by Metropolis and Hastings: without the bias of plain
    /// Langevin. The energies are integrals of the score along the proposals (Gauss-Lobatto, five nodes).
    Mala {
        /// Noise levels, falling.
        sigmas: Vec<f32>,
        /// Steps a level.
        steps: u32,
        /// Step size e, in units of sigma^2.
        step_size: f32,
    },
    /// Exact draws from conditionals in closed form: a component by its weight, then a value by its quantile.
    Direct {
        /// Noise level of what is drawn; 0 for clean values.
        sigma: f32,
    },
}

/// What one dimension of one sample costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SamplerCost {
    /// Evaluations of the score network.
    pub evaluations: u64,
    /// Rounds of them in sequence: those of a round are independent and run side by side.
    pub rounds: u64,
}

impl Sampler {
    /// What draws well from a model: exact draws where its conditionals are in closed form, else multi-level quadrature.
    pub fn default_of(config: &Config) -> Self {
        match config.model.head {
            HeadKind::Score => Self::multilevel_default(config),
            HeadKind::Gaussian | HeadKind::Mog | HeadKind::Mol => Self::Direct { sigma: 0.0 },
        }
    }

    /// Every sampler that draws from a model of these settings, the default first; of multi-level quadrature also two levels and
    /// one. For tables that compare them.
    pub fn presets(config: &Config) -> Vec<Self> {
        let noise = &config.noise;
        let others = [
            Self::multilevel(geometric(0.6 * noise.sigma_max, 2.0 * noise.sigma_min, 2), 64),
            Self::multilevel(vec![noise.sigma_min], 64),
            Self::ode_default(noise),
            Self::ancestral_default(noise),
            Self::langevin_default(noise),
            Self::mala_default(noise),
        ];
        // Without noise levels there is one grid, and the settings of the noise mean nothing.
        let has_levels = !matches!(config.train.objective, Objective::Plain | Objective::Weighted);
        let suits = |sampler: &Self| has_levels && sampler.check_for(config).is_ok();
        std::iter::once(Self::default_of(config)).chain(others.into_iter().filter(suits)).collect()
    }

    /// Multi-level quadrature whose first level has twice the points of the others.
    pub fn multilevel(sigmas: Vec<f32>, points: u32) -> Self {
        Self::MultiLevel { sigmas, first_points: 2 * points, points }
    }

    /// Three levels for models with noise, for standardised tables four, down to the least; one grid for models without.
    ///
    /// All grids have steps of about 0.6 of the spread that they resolve, noise or the step down in noise. On digits and MNIST
    /// the exact likelihood of what is drawn changes by less than 0.02 % from grids three times as fine.
    pub fn multilevel_default(config: &Config) -> Self {
        match config.train.objective {
            Objective::Csm | Objective::Dsm | Objective::Ml => {
                let noise = &config.noise;
                let top = 0.6 * noise.sigma_max;
                let [low, high] = config.model.score.range.unwrap_or([0.0, 1.0]);
                let is_table = config.data.standard.as_ref().is_some_and(|standard| standard.columns.len() > 1);
                let (points, [fewest, most]) = if is_table { TABLE_POINTS } else { DEFAULT_POINTS };
                let step = 7.0 / (points - 1) as f32 * top;
                let wanted = (1.1 * (high - low) + 8.0 * top) / step;
                let first_points = (wanted.clamp(fewest, most) as u32).next_multiple_of(4);
                let sigmas = match is_table {
                    true => geometric(top, noise.sigma_min.min(top), 4),
                    false => geometric(top, (2.0 * noise.sigma_min).min(top), 3),
                };
                Self::MultiLevel { sigmas, first_points, points }
            }
            Objective::Plain | Objective::Weighted => Self::multilevel(vec![0.0], MAX_POINTS),
        }
    }

    /// Ten levels over the whole range, 20 steps each.
    pub fn langevin_default(noise: &NoiseConfig) -> Self {
        Self::Langevin { sigmas: geometric(noise.sigma_max, noise.sigma_min, 10), steps: 20, step_size: 1.0 }
    }

    /// Twelve Heun steps over the whole range.
    pub fn ode_default(noise: &NoiseConfig) -> Self {
        Self::Ode { sigmas: geometric(noise.sigma_max, noise.sigma_min, 13), points: 24 }
    }

    /// 40 steps over the whole range.
    pub fn ancestral_default(noise: &NoiseConfig) -> Self {
        Self::Ancestral { sigmas: geometric(noise.sigma_max, noise.sigma_min, 41), points: 24 }
    }

    /// As [`Sampler::langevin_default`].
    pub fn mala_default(noise: &NoiseConfig) -> Self {
        Self::Mala { sigmas: geometric(noise.sigma_max, noise.sigma_min, 10), steps: 20, step_size: 1.0 }
    }

    /// As the flag `--sampler` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MultiLevel { .. } => "mlq",
            Self::Langevin { .. } => "langevin",
            Self::Ode { .. } => "ode",
            Self::Ancestral { .. } => "ancestral",
            Self::Mala { .. } => "mala",
            Self::Direct { .. } => "direct",
        }
    }

    /// As flags of `arcsm sample` that give it again, without `--sampler`.
    pub fn flags(&self) -> String {
        let list = |sigmas: &[f32]| sigmas.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        let levels = list(self.noise_levels());
        match self {
            Self::MultiLevel { first_points, points, .. } if *first_points != 2 * points => {
                format!("{} --levels {levels} --points {points} --first-points {first_points}", self.name())
            }
            Self::MultiLevel { points, .. } | Self::Ode { points, .. } | Self::Ancestral { points, .. } => {
                format!("{} --levels {levels} --points {points}", self.name())
            }
            Self::Langevin { steps, step_size, .. } | Self::Mala { steps, step_size, .. } => {
                format!("{} --levels {levels} --steps {steps} --step-size {step_size}", self.name())
            }
            Self::Direct { .. } => format!("direct --levels {levels}"),
        }
    }

    /// Evaluations of the score network for one dimension of one sample.
    pub fn evaluations(&self) -> u64 {
        self.cost().evaluations
    }

    /// Rounds of evaluations that wait for each other, for one dimension.
    pub fn rounds(&self) -> u64 {
        self.cost().rounds
    }

    /// Evaluations of the score network, in all and in sequence, for one dimension of one sample.
    pub fn cost(&self) -> SamplerCost {
        let n_levels = self.noise_levels().len() as u64;
        let (evaluations, rounds) = match self {
            Self::MultiLevel { first_points, points, .. } => {
                (u64::from(*first_points) + (n_levels - 1) * u64::from(*points) + 1, n_levels + 1)
            }
            Self::Langevin { steps, .. } => {
                let steps = n_levels * u64::from(*steps) + 1;
                (steps, steps)
            }
            Self::Ode { points, .. } => (2 * u64::from(*points) + 2 * n_levels - 1, 2 * n_levels),
            Self::Ancestral { points, .. } => (2 * u64::from(*points) + n_levels, n_levels + 1),
            Self::Mala { steps, .. } => {
                let steps = u64::from(*steps);
                (n_levels * (MALA_LINES as u64 * steps + 1), n_levels * (steps + 1))
            }
            Self::Direct { .. } => (0, 1),
        };
        SamplerCost { evaluations, rounds }
    }

    /// Samples of a workgroup: as few as leave every core of the adapter one, at most as many as a tile takes.
    pub(super) fn group_samples(&self, gpu: &Gpu, variant: &Variant, n_samples: usize) -> usize {
        let share = n_samples.div_ceil(gpu.parallel_groups());
        match self {
            Self::MultiLevel { .. } | Self::Ode { .. } | Self::Ancestral { .. } => {
                share.next_power_of_two().min(MAX_SHARING).min(most_samples(gpu, variant, GRID_LINES))
            }
            Self::Langevin { .. } => share.min(most_samples(gpu, variant, 1)),
            Self::Mala { .. } => share.min(most_samples(gpu, variant, MALA_LINES)),
            Self::Direct { .. } => variant.tile[0] as usize,
        }
    }

    /// Of its kernel, for an adapter and a model.
    pub(super) fn variant(&self, gpu: &Gpu, model: &ArCsm) -> &'static Variant {
        let spec = match self {
            Self::MultiLevel { .. } => SampleMultilevel::SPEC,
            Self::Langevin { .. } => SampleLangevin::SPEC,
            Self::Ode { .. } | Self::Ancestral { .. } => SampleOde::SPEC,
            Self::Mala { .. } => SampleMala::SPEC,
            Self::Direct { .. } => SampleMixture::SPEC,
        };
        gpu.variant_for_net(spec, matches!(&model.head, Head::Score(net) if net.is_small()))
    }

    /// Its units of work in one dimension: whole dimensions, or rounds of a chain.
    pub(super) fn units_per_dimension(&self) -> u32 {
        match self {
            Self::MultiLevel { .. } | Self::Ode { .. } | Self::Ancestral { .. } | Self::Direct { .. } => 1,
            Self::Langevin { .. } | Self::Mala { .. } => self.cost().rounds as u32,
        }
    }

    /// Its noise levels, falling.
    pub fn noise_levels(&self) -> &[f32] {
        match self {
            Self::MultiLevel { sigmas, .. }
            | Self::Langevin { sigmas, .. }
            | Self::Ode { sigmas, .. }
            | Self::Ancestral { sigmas, .. }
            | Self::Mala { sigmas, .. } => sigmas,
            Self::Direct { sigma } => std::slice::from_ref(sigma),
        }
    }

    /// Checks that the settings make sense for a model of these settings.
    ///
    /// # Errors
    /// The setting at fault, with its range.
    pub fn check_for(&self, config: &Config) -> Result<()> {
        let refuse = |problem: &str, remedy: &str| Err(Error::input("sampler", problem, remedy));
        match (self, config.model.head) {
            (Self::Direct { .. }, HeadKind::Score) => {
                refuse("a score head has no quantiles to draw from", "Use `--sampler mlq`, or `langevin`")
            }
            (Self::Direct { .. }, _) | (_, HeadKind::Score) => self.check(config.train.objective),
            _ => refuse("this model's conditionals are in closed form and drawn exactly", "Use `--sampler direct`"),
        }
    }

    /// Checks that the settings make sense for an objective.
    ///
    /// # Errors
    /// The setting at fault, with its range.
    pub fn check(&self, objective: Objective) -> Result<()> {
        let refuse = |problem: String, remedy: &str| Err(Error::input("sampler", problem, remedy));
        if let Self::Direct { sigma } = self {
            let is_level = sigma.is_finite() && *sigma >= 0.0;
            return if is_level { Ok(()) } else { refuse(format!("level {sigma}"), "Give a level of 0 or more") };
        }
        let without_noise = matches!(objective, Objective::Plain | Objective::Weighted);
        let sigmas = self.noise_levels();
        if sigmas.is_empty() || sigmas.windows(2).any(|pair| pair[0] <= pair[1]) {
            return refuse(format!("levels {sigmas:?} do not fall"), "Give falling noise levels");
        }
        if !sigmas.iter().all(|s| s.is_finite() && (*s > 0.0 || without_noise && *s == 0.0)) {
            return refuse(format!("levels {sigmas:?} are not positive"), "Give positive noise levels");
        }
        if without_noise && !matches!(self, Self::MultiLevel { .. }) {
            return refuse("a model without noise levels has nothing to anneal".into(), "Use `--sampler mlq`");
        }
        match self {
            Self::MultiLevel { first_points, .. } if !(8..=2 * MAX_POINTS).contains(first_points) => refuse(
                format!("{first_points} grid points of the first level"),
                &format!("Give 8 to {}", 2 * MAX_POINTS),
            ),
            Self::MultiLevel { points, .. } | Self::Ode { points, .. } | Self::Ancestral { points, .. }
                if !(8..=MAX_POINTS).contains(points) =>
            {
                refuse(format!("{points} grid points"), &format!("Give 8 to {MAX_POINTS}"))
            }
            Self::Langevin { steps, step_size, .. } | Self::Mala { steps, step_size, .. }
                if *steps == 0 || !(*step_size > 0.0 && step_size.is_finite()) =>
            {
                refuse(format!("{steps} steps of size {step_size}"), "Give at least one step of positive size")
            }
            _ => Ok(()),
        }
    }
}

/// `count` levels from `high` down to `low`, each the same factor below the last.
pub fn geometric(high: f32, low: f32, count: usize) -> Vec<f32> {
    let ratio = (low / high).powf(1.0 / (count.max(2) - 1) as f32);
    let mut levels: Vec<f32> = (0..count).map(|i| high * ratio.powi(i as i32)).collect();
    levels.dedup_by(|a, b| a >= b);
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_count_evaluations_and_rounds() {
        let sigmas = vec![1.0, 0.5, 0.25];
        let cost = |sampler: Sampler| (sampler.cost().evaluations, sampler.cost().rounds);
        assert_eq!(cost(Sampler::multilevel(sigmas.clone(), 32)), (129, 4));
        assert_eq!(cost(Sampler::Langevin { sigmas: sigmas.clone(), steps: 10, step_size: 1.0 }), (31, 31));
        assert_eq!(cost(Sampler::Ode { sigmas: sigmas.clone(), points: 16 }), (32 + 4 + 1, 1 + 4 + 1));
        assert_eq!(cost(Sampler::Ancestral { sigmas: sigmas.clone(), points: 16 }), (32 + 2 + 1, 1 + 2 + 1));
        assert_eq!(cost(Sampler::Mala { sigmas, steps: 10, step_size: 1.0 }), (3 * 41, 3 * 11));
        assert_eq!(cost(Sampler::Direct { sigma: 0.0 }), (0, 1));
    }

    #[test]
    fn every_default_suits_the_model_it_is_for() {
        let names = |config: &Config| Sampler::presets(config).iter().map(Sampler::name).collect::<Vec<_>>();
        let mut config = Config::default();
        assert_eq!(names(&config), ["mlq", "mlq", "mlq", "ode", "ancestral", "langevin", "mala"]);
        config.train.objective = Objective::Plain;
        assert_eq!(names(&config), ["mlq"]);
        config.model.head = HeadKind::Mog;
        assert_eq!(names(&config), ["direct"]);
    }

    #[test]
    fn wide_data_get_more_points() {
        let first_points = |range: [f32; 2]| {
            let mut config = Config::default();
            (config.noise.sigma_max, config.model.score.range) = (1.0, Some(range));
            match Sampler::multilevel_default(&config) {
                Sampler::MultiLevel { first_points, .. } => first_points,
                other => panic!("{}", other.name()),
            }
        };
        let ranges = [[0.0, 1.0], [-4.0, 4.0], [-100.0, 100.0]];
        assert_eq!(ranges.map(first_points), [16, 36, 64]);
    }
}
