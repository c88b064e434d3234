//! Settings of a run: a TOML file, overridden by flags, checked as a whole before any work, saved beside the run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{UNPACK_LIMIT_MIB, read_text};
use crate::standard::{Standard, Standardise};

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

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Data SPEC: `digits`, `mnist:DIR`, `cifar10:DIR`, `images:DIR`, `idx:FILE`, `npy:FILE`, `npz:FILE`, `csv:FILE`,
    /// `toy:NAME` or `gaussian:D`.
    pub spec: String,
    /// Share of the samples kept out of training, for sets that bring no test split of their own; in (0, 0.9].
    pub held_out: f64,
    /// SPEC of data that are held out instead, of the same shape; all of `spec` is then learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_data: Option<String>,
    /// Folder that relative paths of `spec` and `held_out_data` start from; when absent, the working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Side of the images of `images:DIR`: the middle square of each is resized to it. When absent, all must have one
    /// size already. Other images must have this size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// 1 (grey) or 3 (RGB) for `images:DIR`; when absent, 3 if any file stores colour. Other images must have as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// What becomes of files of `images:DIR` that cannot be read as an image, and of rows of `csv:FILE` with holes,
    /// text or another number of fields.
    pub broken: Broken,
    /// `csv:FILE`: what stands between two fields; found from the first lines when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<Separator>,
    /// `csv:FILE`: whether the first row holds the columns' names; judged by what it holds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// `csv:FILE`: what stands before the fraction of a number; found from the numbers when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// `csv:FILE`: the columns to take, in this order, by name or by number from 1; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// `csv:FILE`: columns to leave out, by name or by number from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_columns: Option<Vec<String>>,
    /// Mirror each training image, left to right, with probability 1/2 whenever it is drawn (augmentation).
    pub flip: bool,
    /// Host memory for the samples, MiB. What goes beyond it stays on disk and is read whenever it is drawn.
    pub memory: u64,
    /// What a packed file, a pipe or a device may become, MiB: a small file can unpack to more than any disk holds.
    pub unpack_limit: u64,
    /// How the data are brought to the scale that models see. Noise levels and bounds are in that scale.
    pub standardise: Standardise,
    /// The map that training made of it; absent where the model sees the data as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard: Option<Standard>,
}

/// What becomes of broken files, and of broken rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Broken {
    /// The first one ends the work.
    Refuse,
    /// They are counted, named and left out.
    Skip,
}

/// What stands between two fields of a table. The signs themselves name them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Separator {
    /// `,`
    #[value(alias = ",")]
    #[serde(alias = ",")]
    Comma,
    /// `;`
    #[value(alias = ";")]
    #[serde(alias = ";")]
    Semicolon,
    /// A tab.
    #[value(aliases = ["\\t", "\t"])]
    #[serde(alias = "\\t", alias = "\t")]
    Tab,
    /// `|`
    #[value(aliases = ["|", "pipe"])]
    #[serde(alias = "|", alias = "pipe")]
    Bar,
    /// Any number of blanks and tabs.
    #[value(aliases = ["space", "blanks", "spaces", " "])]
    #[serde(alias = "space", alias = "blanks", alias = "spaces", alias = " ")]
    Blank,
}

/// Whether a table's first row holds the columns' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// Names, whatever they look like.
    Yes,
    /// A sample like every other row.
    No,
    /// Judged by what it holds.
    Auto,
}

/// What stands before the fraction of a number; the other one may then part thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Decimal {
    /// `1,234.5`
    Point,
    /// `1.234,5`
    Comma,
}

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

/// What the components of a mixture are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// exp(-z^2 / 2) / sqrt(2 pi)
    Gaussian = 0,
    /// e^-z / (1 + e^-z)^2
    Logistic = 1,
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

/// Order of the dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As the data has them (raster order for images).
    Natural,
    /// Last dimension first.
    Reversed,
    /// A seeded permutation.
    Random,
    /// Another one at every training step, so that the model can be asked in any (`made`): `arcsm inpaint` draws what is
    /// missing given everything known, whatever the mask. Other commands take the natural order.
    Any,
}

/// Activation functions phi, all safe at any argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Activation {
    /// z
    Identity = 0,
    /// max(z, 0); context network only, its second derivative vanishes.
    Relu = 1,
    /// z sigmoid(z)
    Silu = 2,
    /// log(1 + e^z)
    Softplus = 3,
    /// tanh z
    Tanh = 4,
    /// z for z > 0, e^z - 1 otherwise
    Elu = 5,
}

/// How the score network's output f becomes the score s of x~ = x + sigma eps (`assets/golden/LAYOUT.md` has the same names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Parametrisation {
    /// Input x~, s = f; the network does not see sigma.
    Plain = 0,
    /// Inputs x~ - mean and log(sigma)/2, s = f / sigma.
    Osig = 1,
    /// With v = sd^2 + sigma^2: inputs (x~ - mean)/sqrt(v) and log(sigma)/2, s = -(x~ - mean)/v + sd f / (sigma sqrt(v))
    /// (preconditioning after Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022).
    Edm = 2,
}

/// Training losses; J is averaged over the batch and summed over dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Objective {
    /// sigma^2 (1/2 s^2 + ds/dx~) at x~: the composite score matching of Meng et al. 2020 under noise.
    Csm = 0,
    /// 1/2 (sigma s + eps)^2: the denoising form, with the same minimiser.
    Dsm = 1,
    /// 1/2 s^2 + ds/dx at the clean x: continuous data without noise.
    Plain = 2,
    /// 1/2 h s^2 + h ds/dx + h' s at the clean x, h = distance to the nearer bound: data on an interval.
    Weighted = 3,
    /// -log q at x + sigma_min eps, or at the clean x where sigma_min is 0 or values are binned: maximum likelihood, for
    /// heads whose density is known.
    Ml = 4,
}

impl DataConfig {
    /// The settings given that only tables follow.
    pub(crate) fn table_keys(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("separator", self.separator.is_some()),
            ("header", self.header.is_some()),
            ("decimal", self.decimal.is_some()),
            ("columns", self.columns.is_some()),
            ("skip_columns", self.skip_columns.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }

    /// Takes how tables are read from `other` where these are settings of a table, and drops it where they are not.
    pub(crate) fn take_table_keys(&mut self, other: &Self) {
        let none = Self::default();
        let from = if self.spec.starts_with("csv:") { other } else { &none };
        (self.separator, self.header, self.decimal) = (from.separator, from.header, from.decimal);
        (self.columns, self.skip_columns) = (from.columns.clone(), from.skip_columns.clone());
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            spec: "digits".into(),
            held_out: 0.15,
            held_out_data: None,
            folder: None,
            size: None,
            channels: None,
            broken: Broken::Refuse,
            separator: None,
            header: None,
            decimal: None,
            columns: None,
            skip_columns: None,
            flip: false,
            memory: 2048,
            unpack_limit: UNPACK_LIMIT_MIB,
            standardise: Standardise::Auto,
            standard: None,
        }
    }
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

impl DataConfig {
    /// Largest side of an image.
    pub const LARGEST_SIDE: usize = 1024;
    /// More memory than any machine has, MiB.
    const MOST_MEMORY: u64 = 1 << 30;

    /// Whether a file or folder is named from the working folder.
    pub fn has_relative_path(&self) -> bool {
        let is_relative = |spec: &String| match spec.split_once(':') {
            Some(("toy" | "gaussian", _)) | None => false,
            Some((_, path)) => Path::new(path).is_relative(),
        };
        [Some(&self.spec), self.held_out_data.as_ref()].into_iter().flatten().any(is_relative)
    }

    /// Checks the ranges of these settings.
    ///
    /// # Errors
    /// The first setting at fault, with its range.
    pub fn check(&self) -> Result<()> {
        require(self.held_out > 0.0 && self.held_out <= 0.9, "data.held_out", "must lie in (0, 0.9]")?;
        let side = 1..=Self::LARGEST_SIDE;
        require(self.size.is_none_or(|size| side.contains(&size)), "data.size", "must lie in 1 to 1024 (pixels)")?;
        require(self.memory <= Self::MOST_MEMORY, "data.memory", "must be at most 1073741824 (MiB)")?;
        let limit = 1..=Self::MOST_MEMORY;
        require(limit.contains(&self.unpack_limit), "data.unpack_limit", "must lie in 1 to 1073741824 (MiB)")?;
        require(matches!(self.channels, None | Some(1 | 3)), "data.channels", "must be 1 (grey) or 3 (RGB)")
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

    fn check_head(&self, objective: Objective) -> Result<()> {
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

    fn check_conv(&self) -> Result<()> {
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

impl TrainConfig {
    /// Samples of a batch at most: what counts them in kernels and random streams has 32 bits.
    const MOST_BATCH: usize = 1 << 24;
    /// Steps at most, for the same reason; the last number stands for held-out samples.
    const MOST_STEPS: u64 = u32::MAX as u64 - 1;

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

fn require(holds: bool, key: &str, problem: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(key, problem, "Change it in the config file or by its flag")) }
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
                let nearest = known
                    .keys()
                    .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)))
                    .expect("every table has keys");
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
