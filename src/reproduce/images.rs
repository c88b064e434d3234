//! What the experiments on images share: the data, and settings that suit them.

use super::Context;
use crate::config::{Config, TrainConfig};
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::shape::SampleShape;

const DIGITS_MADE: &str = include_str!("../../configs/digits-made.toml");
const DIGITS_CONV: &str = include_str!("../../configs/digits.toml");
const MNIST_MADE: &str = include_str!("../../configs/mnist-made.toml");
const MNIST_CONV: &str = include_str!("../../configs/mnist-pixelcnn.toml");
const MNIST_DENOISER: &str = include_str!("../../configs/mnist-denoiser.toml");
/// Images of as many values or fewer are learned by the settings for digits.
const SMALL: usize = 256;

/// Images to learn, with settings.
pub(super) struct Images {
    pub(super) data: Dataset,
    /// Masked dense layers.
    pub(super) made: Config,
    /// Masked convolutions.
    pub(super) conv: Config,
    /// One noise level, noisy contexts.
    pub(super) denoiser: Config,
}

impl Images {
    /// Those that `--data` names, else the digits.
    pub(super) fn load(context: &Context<'_>) -> Result<Self> {
        let spec = context.request.data.as_deref().unwrap_or("digits");
        let parse = |text: &str| -> Result<Config> {
            let mut config = Config::from_toml(text, "a built-in recipe")?;
            config.data.spec = spec.into();
            config.train.seed = context.request.seed;
            // As many as the time allows.
            config.train.steps = TrainConfig::MOST_STEPS;
            Ok(config)
        };
        let made = parse(MNIST_MADE)?;
        let data = data::load(&made.data, context.request.seed)?;
        let SampleShape::Image { .. } = data.shape else {
            let problem = format!("has samples of {}, and this experiment is about images", data.shape);
            return Err(Error::input(spec, problem, "Give images, such as mnist:DIR"));
        };
        if data.shape.dimensions() > SMALL {
            return Ok(Self { data, made, conv: parse(MNIST_CONV)?, denoiser: parse(MNIST_DENOISER)? });
        }
        let made = parse(DIGITS_MADE)?;
        let mut denoiser = made.clone();
        let of_mnist = parse(MNIST_DENOISER)?;
        denoiser.noise = of_mnist.noise;
        Ok(Self { data, made, conv: parse(DIGITS_CONV)?, denoiser })
    }

    /// D
    pub(super) fn dimensions(&self) -> usize {
        self.data.shape.dimensions()
    }

    /// The name of the data without folders.
    pub(super) fn name(&self) -> &str {
        self.data.name.split(':').next().unwrap_or_default()
    }

    /// So many samples for each minute of the budget, fewer where they are larger; within bounds.
    pub(super) fn count(&self, context: &Context<'_>, a_minute: f64, [least, most]: [usize; 2]) -> usize {
        let smaller = 784.0 / self.dimensions() as f64;
        ((context.request.minutes * a_minute * smaller) as usize).clamp(least, most)
    }
}
