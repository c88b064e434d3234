//! Settings of a run: a TOML file, overridden by flags, checked as a whole before any work, saved beside the run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codes::{Activation, Objective, Parametrisation};
use crate::data::{DataConfig, Decimal, Header, Separator};
use crate::error::{Error, Result, nearest, require};
use crate::files::read_text;
use crate::models::ar_csm::{Batch, HeadKind, ModelConfig, NoiseConfig};
use crate::nn::{AdamSettings, Noise};
use crate::standard::Standard;

/// Everything that decides what a run computes. Two runs with equal settings on one adapter give equal bits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the samples come from.
    pub data: DataConfig,
    /// Context network and score network.
    pub model: ModelConfig,
    /// Noise levels and augmentation.
    pub noise: NoiseConfig,
    /// Objective and optimiser.
    pub train: TrainConfig,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Loss that is minimised.
    pub objective: Objective,
    /// Ends of the data's support, for `objective = "weighted"`.
    pub bounds: [f32; 2],
    /// Samples a step.
    pub batch: usize,
    /// Samples worked on together, a divisor of `batch`: gradients of the parts are added up. When absent, as many as
    /// the adapter's limits and `memory` allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// MiB that training may take on the adapter; when absent, only its limits count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Steps in all.
    pub steps: u64,
    /// One (sample, dimension) row out of this many passes the score network in a step; 1 takes all.
    /// The choice is uniform, so the gradient stays unbiased.
    pub row_stride: usize,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// The cosine ends at this share of the peak.
    pub final_rate: f32,
    /// Adam's decay of the first moment.
    pub beta1: f32,
    /// Adam's decay of the second moment.
    pub beta2: f32,
    /// Adam's epsilon.
    pub epsilon: f32,
    /// Decoupled weight decay of matrices (not of biases).
    pub weight_decay: f32,
    /// The gradient's global norm is clipped to this; 0 turns clipping off.
    pub clip_norm: f32,
    /// Decay of the moving average of the weights, with a ramp (1 + n) / (10 + n); 0 turns it off.
    pub ema: f32,
    /// Seed of initialisation, shuffling and noise.
    pub seed: u64,
    /// Steps between two held-out losses; 0 chooses by the data: about an epoch, at most 500, and never so few that
    /// they take more than about a twentieth of the time.
    pub validate_every: u64,
    /// Held-out losses in a row that are no better than the least one before training ends early; 0 goes on to the last
    /// step.
    pub patience: u64,
    /// Held-out samples used for them; 0 takes all.
    pub validate_samples: usize,
    /// Steps between two checkpoints; 0 saves by the clock: every half a minute, or less often where saving takes long.
    pub checkpoint_every: u64,
    /// Steps between two sample pictures; 0 draws one at the end only.
    pub sample_every: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            objective: Objective::Dsm,
            bounds: [0.0, 1.0],
            batch: 128,
            micro_batch: None,
            memory: None,
            steps: 4000,
            row_stride: 1,
            learning_rate: 2e-3,
            warmup: 50,
            final_rate: 0.02,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 0.0,
            ema: 0.998,
            seed: 0,
            validate_every: 0,
            patience: 0,
            validate_samples: 1000,
            checkpoint_every: 0,
            sample_every: 1000,
        }
    }
}

impl TrainConfig {
    /// What the optimiser takes of it.
    pub fn adam(&self) -> AdamSettings {
        AdamSettings {
            steps: self.steps,
            learning_rate: self.learning_rate,
            warmup: self.warmup,
            final_rate: self.final_rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip_norm: self.clip_norm,
            ema: self.ema,
        }
    }

    /// Samples of a batch at most: what counts them in kernels and random streams has 32 bits.
    const MOST_BATCH: usize = 1 << 24;
    /// Steps at most, for the same reason; the last number stands for held-out samples.
    pub(crate) const MOST_STEPS: u64 = u32::MAX as u64 - 1;

    fn check_sizes(&self) -> Result<()> {
        require((1..=Self::MOST_BATCH).contains(&self.batch), "train.batch", "must lie in 1 to 16777216")?;
        let limit = 1..=DataConfig::MOST_MEMORY;
        require(self.memory.is_none_or(|n| limit.contains(&n)), "train.memory", "must lie in 1 to 1073741824 (MiB)")?;
        require((1..=Self::MOST_STEPS).contains(&self.steps), "train.steps", "must lie in 1 to 4294967294")?;
        require((1..=65_536).contains(&self.row_stride), "train.row_stride", "must lie in 1 to 65536")
    }
}

impl Config {
    /// Most hidden layers of a network.
    const MOST_LAYERS: usize = 256;

    /// Reads a TOML file. Absent keys take their defaults.
    ///
    /// # Errors
    /// A missing file, broken TOML, a wrong type, or an unknown key (named, with the nearest known one).
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_toml(&read_text(path, "an existing TOML file")?, &path.display().to_string())
    }

    /// Parses TOML text; `subject` names it in errors.
    ///
    /// # Errors
    /// As [`Config::from_file`].
    pub fn from_toml(text: &str, subject: &str) -> Result<Self> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            Error::input(subject, format!("is not TOML: {}", one_line(&e)), "Mend that line")
        })?;
        refuse_unknown_keys(&table, &Self::every_key(), "", subject)?;
        table.try_into().map_err(|e: toml::de::Error| {
            Error::input(subject, one_line(&e), "`arcsm train --print-config` shows every key with its default")
        })
    }

    /// Fits the sizes of a recipe for tables to the number of rows to learn from: few rows get narrow layers and few
    /// components, strongly decayed, on noisy contexts, as they are soon known by heart; many get more steps.
    pub fn fit_to_rows(&mut self, rows: usize) {
        let (width, components, decay, noise) = match rows {
            // Mixtures begin as wide as the data's range and have to narrow before the rows are known by heart.
            0..200 if self.model.head != HeadKind::Score => {
                self.train.learning_rate *= 0.25;
                (16, 4, 3.0, 0.3)
            }
            0..200 => (16, 4, 1.0, 0.1),
            200..1000 => (32, 4, 1.0, 0.1),
            1000..3000 => (64, 8, 0.5, 0.05),
            _ => return self.steps_for_rows(rows),
        };
        self.model.hidden.fill(width);
        self.model.components = components;
        self.noise.context = noise;
        self.train.weight_decay = decay;
        self.train.batch = self.train.batch.min(128);
        self.steps_for_rows(rows);
    }

    /// Twenty passes over the rows, within bounds.
    fn steps_for_rows(&mut self, rows: usize) {
        let passes = 20 * rows as u64 / self.train.batch as u64;
        self.train.steps = passes.clamp(self.train.steps, 10 * self.train.steps);
    }

    /// The training noise of one step. Maximum likelihood has one level, sigma_min, or none.
    pub fn noise_of_step(&self, step: u64) -> Noise {
        let NoiseConfig { sigma_min, sigma_max, .. } = self.noise;
        let none = Noise {
            sigma_min: 1.0,
            sigma_max: 1.0,
            enabled: false,
            seed: self.train.seed,
            step: step as u32,
            first_sample: 0,
        };
        match self.train.objective {
            Objective::Csm | Objective::Dsm => Noise { sigma_min, sigma_max, enabled: true, ..none },
            Objective::Ml if sigma_min > 0.0 && self.model.bins.is_none() => {
                Noise { sigma_min, sigma_max: sigma_min, enabled: true, ..none }
            }
            Objective::Ml | Objective::Plain | Objective::Weighted => none,
        }
    }

    /// The batch of one training step, or the part of it that begins with sample `first_sample`.
    pub fn batch_of_step(&self, step: u64, first_sample: usize) -> Batch {
        let noise = self.noise_of_step(step);
        Batch {
            objective: self.train.objective,
            bounds: self.train.bounds,
            noise: Noise { first_sample: first_sample as u32, ..noise },
            context_noise: self.noise.context,
            context_dropout: self.noise.dropout,
        }
    }

    /// The settings as TOML text, which [`Config::from_toml`] reads back to equal settings.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("plain tables, numbers and strings always serialise")
    }

    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// The first setting at fault, with its range.
    pub fn check(&self) -> Result<()> {
        let (model, noise, train) = (&self.model, &self.noise, &self.train);
        let layers = 1..=Self::MOST_LAYERS;
        let widths_are_positive = |w: &[usize]| w.iter().all(|&n| (1..=65_536).contains(&n));
        let positive = |v: f32| v.is_finite() && v > 0.0;
        require((1..=4096).contains(&model.context), "model.context", "must lie in 1 to 4096")?;
        model.check_head(train.objective)?;
        require(layers.contains(&model.hidden.len()), "model.hidden", "needs 1 to 256 layers")?;
        require(widths_are_positive(&model.hidden), "model.hidden", "has a width outside 1 to 65536")?;
        require(layers.contains(&model.score.hidden.len()), "model.score.hidden", "needs 1 to 256 layers")?;
        self.model.check_conv()?;
        require(widths_are_positive(&model.score.hidden), "model.score.hidden", "has a width outside 1 to 65536")?;
        require(
            !matches!(model.score.activation, Activation::Relu | Activation::Identity),
            "model.score.activation",
            "must be twice differentiable: silu, softplus, tanh or elu",
        )?;
        require(model.score.sd.is_none_or(positive), "model.score.sd", "must be positive")?;
        require(
            model.score.range.is_none_or(|[low, high]| low < high),
            "model.score.range",
            "must be [low, high] with low < high",
        )?;
        let may_be_zero = train.objective == Objective::Ml && noise.sigma_min == 0.0;
        require(
            positive(noise.sigma_min) || may_be_zero,
            "noise.sigma_min",
            "must be positive (or 0 for train.objective = \"ml\")",
        )?;
        require(
            noise.sigma_max.is_finite() && noise.sigma_max >= noise.sigma_min,
            "noise.sigma_max",
            "must be at least sigma_min",
        )?;
        require(noise.context >= 0.0 && noise.context.is_finite(), "noise.context", "must not be negative")?;
        require((0.0..1.0).contains(&noise.dropout), "noise.dropout", "must lie in [0, 1)")?;
        self.data.check()?;
        train.check_sizes()?;
        require(train.micro_batch.is_none_or(|n| n >= 1), "train.micro_batch", "must be at least 1")?;
        require(positive(train.learning_rate), "train.learning_rate", "must be positive")?;
        require((0.0..=1.0).contains(&train.final_rate), "train.final_rate", "must lie in [0, 1]")?;
        require((0.0..1.0).contains(&train.beta1), "train.beta1", "must lie in [0, 1)")?;
        require((0.0..1.0).contains(&train.beta2), "train.beta2", "must lie in [0, 1)")?;
        require(positive(train.epsilon), "train.epsilon", "must be positive")?;
        require(train.weight_decay >= 0.0, "train.weight_decay", "must not be negative")?;
        require(train.clip_norm >= 0.0, "train.clip_norm", "must not be negative (0 turns it off)")?;
        require((0.0..1.0).contains(&train.ema), "train.ema", "must lie in [0, 1)")?;
        require(train.bounds[0] < train.bounds[1], "train.bounds", "must be [low, high] with low < high")?;
        let without_noise = matches!(train.objective, Objective::Plain | Objective::Weighted);
        require(
            !without_noise || model.head != HeadKind::Score || model.score.parametrisation == Parametrisation::Plain,
            "model.score.parametrisation",
            "must be \"plain\" for the objectives without noise (plain, weighted)",
        )
    }

    /// A table with every key that exists, optional ones too.
    fn every_key() -> toml::Table {
        let mut config = Self::default();
        config.data.size = Some(64);
        config.data.channels = Some(1);
        config.data.held_out_data = Some(String::new());
        config.data.folder = Some(PathBuf::new());
        config.data.standard = Some(Standard { rows: 2, columns: Vec::new() });
        config.data.separator = Some(Separator::Comma);
        config.data.header = Some(Header::Auto);
        config.data.decimal = Some(Decimal::Point);
        config.data.columns = Some(Vec::new());
        config.data.skip_columns = Some(Vec::new());
        config.model.bins = Some(256);
        config.train.micro_batch = Some(1);
        config.train.memory = Some(1);
        config.model.score.mean = Some(0.0);
        config.model.score.sd = Some(1.0);
        config.model.score.range = Some([0.0, 1.0]);
        toml::Table::try_from(config).expect("plain tables, numbers and strings always serialise")
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn refuse_unknown_keys(found: &toml::Table, known: &toml::Table, prefix: &str, subject: &str) -> Result<()> {
    for (key, value) in found {
        match (known.get(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(table)) => {
                refuse_unknown_keys(table, inner, &format!("{prefix}{key}."), subject)?;
            }
            (Some(_), _) => {}
            (None, _) => {
                let nearest = nearest(key, known.keys().map(String::as_str));
                return Err(Error::input(
                    subject,
                    format!("unknown key `{prefix}{key}`"),
                    format!("Did you mean `{prefix}{nearest}`?"),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_a_round_trip() {
        let config = Config::default();
        config.check().expect("defaults must be usable");
        assert_eq!(Config::from_toml(&config.to_toml(), "text").expect("own output"), config);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_nearest_neighbour() {
        let error = Config::from_toml("[train]\nlearning_rat = 1.0", "run.toml").expect_err("a typo");
        assert_eq!(
            error.to_string(),
            "run.toml: unknown key `train.learning_rat`. Did you mean `train.learning_rate`?"
        );
        assert_eq!(error.exit_status(), 2);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for text in [
            "[data]\nsize = 0",
            "[data]\nsize = 1000000",
            "[data]\nchannels = 2",
            "[data]\nmemory = 9000000000000000000",
            "[data]\nunpack_limit = 0",
            "[data]\nunpack_limit = 9000000000000000000",
            "[model]\ncontext = 0",
            "[model]\ncontext = 2147483648",
            "[model]\nhidden = []",
            "[model]\nhidden = [70000]",
            "[noise]\nsigma_min = -1.0",
            "[model.score]\nactivation = \"relu\"",
            "[train]\nobjective = \"plain\"",
            "[train]\nobjective = \"ml\"",
            "[model]\nhead = \"mog\"\ncomponents = 0",
            "[model]\nhead = \"mog\"\nbins = 256\n[train]\nobjective = \"ml\"",
            "[model]\nhead = \"mol\"\nbins = 256",
            "[model]\nhead = \"mog\"\n[noise]\nsigma_min = 0.0",
        ] {
            let config = Config::from_toml(text, "text").expect("well-formed");
            assert_eq!(config.check().expect_err(text).exit_status(), 2);
        }
    }
}
