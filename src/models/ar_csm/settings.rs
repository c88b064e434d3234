//! `[model]` and `[noise]` of autoregressive conditional score models.

use serde::{Deserialize, Serialize};

use crate::codes::{Activation, Objective, Parametrisation};
use crate::error::{Result, require};
use crate::order::Order;

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Order in which the dimensions are modelled.
    pub order: Order,
    /// Seed of `order = "random"` and of the orders of `order = "any"`.
    pub order_seed: u64,
    /// Kind of the context network.
    pub network: Network,
    /// `made`: widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// `made`: add a hidden layer's input to its output where their widths agree.
    pub residual: bool,
    /// Activation of the context network.
    pub activation: Activation,
    /// What a context becomes: a conditional score, or the parameters of a conditional density.
    pub head: HeadKind,
    /// K of the score head: width of the context of one dimension. Other heads need as many numbers as they have parameters.
    pub context: usize,
    /// `mog` and `mol`: components of a mixture.
    pub components: usize,
    /// `mol`: give probabilities to this many equidistant levels of the data's range (256 for 8-bit data, discretised
    /// as in PixelCNN++) instead of a density.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
    /// `gated` and `pixelcnn`: sizes of the convolutions.
    pub conv: ConvConfig,
    /// The score network shared by all dimensions.
    pub score: ScoreConfig,
}

/// What stands on the context network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// A score network shared by all dimensions: no normalising constant, any shape.
    Score,
    /// A Gaussian for each dimension.
    Gaussian,
    /// A mixture of Gaussians.
    Mog,
    /// A mixture of logistics, discretised with `bins`.
    Mol,
}

/// Kinds of context networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Masked autoencoder (Germain et al. 2015): masked dense layers, for any data.
    Made,
    /// Masked convolutions with gated residual blocks (van den Oord et al. 2016), for images.
    Gated,
    /// Two streams of shifted convolutions without a blind spot (Salimans et al., "PixelCNN++", 2017), for images.
    #[value(name = "pixelcnn")]
    PixelCnn,
}

/// `[model.conv]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvConfig {
    /// Channels of the hidden layers.
    pub filters: usize,
    /// Gated residual blocks; in `pixelcnn` at each resolution.
    pub blocks: usize,
    /// `gated`: side of the first layer's kernel; 1, 3, 5 or 7.
    pub first_kernel: usize,
    /// `gated`: side of the blocks' kernels; 1, 3, 5 or 7.
    pub kernel: usize,
    /// `pixelcnn`: how often the resolution is halved, and doubled again with shortcuts.
    pub downsamplings: usize,
    /// Share of the hidden units set to zero in training, in every block; in [0, 1).
    pub dropout: f32,
}

/// `[model.score]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Activation; it must be twice differentiable, so `relu` is refused here.
    pub activation: Activation,
    /// How the network's output becomes a score.
    pub parametrisation: Parametrisation,
    /// Centre of the data as the network sees it; from the training data when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f32>,
    /// Standard deviation of the data (`edm`); from the training data when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<f32>,
    /// Least and greatest value of the data, which the sampler's grid spans; from the training data when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
}

/// `[noise]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// Smallest noise level.
    pub sigma_min: f32,
    /// Largest noise level. Levels are drawn log-uniformly, each (sample, dimension) its own.
    pub sigma_max: f32,
    /// Standard deviation of the noise on the context network's input (augmentation).
    pub context: f32,
    /// Share of the context network's inputs set to zero (augmentation); in [0, 1).
    pub dropout: f32,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            order: Order::Natural,
            order_seed: 0,
            network: Network::Made,
            hidden: vec![512, 512],
            residual: false,
            activation: Activation::Relu,
            head: HeadKind::Score,
            context: 16,
            components: 10,
            bins: None,
            conv: ConvConfig::default(),
            score: ScoreConfig::default(),
        }
    }
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self { filters: 40, blocks: 5, first_kernel: 7, kernel: 3, downsamplings: 0, dropout: 0.0 }
    }
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64],
            activation: Activation::Silu,
            parametrisation: Parametrisation::Edm,
            mean: None,
            sd: None,
            range: None,
        }
    }
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self { sigma_min: 0.03, sigma_max: 1.0, context: 0.0, dropout: 0.0 }
    }
}

impl ModelConfig {
    /// K: numbers that the context network gives for each dimension.
    pub fn context_width(&self) -> usize {
        match self.head {
            HeadKind::Score => self.context,
            HeadKind::Gaussian => 2,
            HeadKind::Mog | HeadKind::Mol => 3 * self.components,
        }
    }

    pub(crate) fn check_head(&self, objective: Objective) -> Result<()> {
        require((1..=256).contains(&self.components), "model.components", "must lie in 1 to 256")?;
        require(self.bins.is_none_or(|n| (2..=65_536).contains(&n)), "model.bins", "must lie in 2 to 65536")?;
        require(
            self.bins.is_none() || (self.head == HeadKind::Mol && objective == Objective::Ml),
            "model.bins",
            "needs model.head = \"mol\" and train.objective = \"ml\"",
        )?;
        require(
            self.head != HeadKind::Score || objective != Objective::Ml,
            "train.objective",
            "must not be \"ml\" for the score head, whose density has no closed form (model.head = \"gaussian\", \"mog\" and \"mol\" have one)",
        )
    }

    pub(crate) fn check_conv(&self) -> Result<()> {
        let conv = &self.conv;
        let odd = |kernel: usize| matches!(kernel, 1 | 3 | 5 | 7);
        require((1..=4096).contains(&conv.filters), "model.conv.filters", "must lie in 1 to 4096")?;
        require((1..=64).contains(&conv.blocks), "model.conv.blocks", "must lie in 1 to 64")?;
        require(odd(conv.first_kernel), "model.conv.first_kernel", "must be 1, 3, 5 or 7")?;
        require(odd(conv.kernel), "model.conv.kernel", "must be 1, 3, 5 or 7")?;
        require(conv.downsamplings <= 6, "model.conv.downsamplings", "must be at most 6")?;
        require((0.0..1.0).contains(&conv.dropout), "model.conv.dropout", "must lie in [0, 1)")?;
        require(
            self.network == Network::Made || !matches!(self.order, Order::Random | Order::Any),
            "model.order",
            "must be \"natural\" or \"reversed\" for the convolutional networks, which need neighbours",
        )
    }
}
