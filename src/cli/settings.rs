//! Flags that override settings, and the settings that are built in for each kind of data.

use std::path::Path;

use crate::codes::{Activation, Objective, Parametrisation};
use crate::config::Config;
use crate::data::{Broken, Decimal, Header, Separator};
use crate::error::{Error, Result};
use crate::models::ar_csm::{HeadKind, Network};
use crate::order::Order;
use crate::standard::Standardise;

/// Recipes, by the names of their files in `configs/`.
pub(super) const BUILT_IN: [(&str, &str); 16] = [
    ("digits", include_str!("../../configs/digits.toml")),
    ("digits-made", include_str!("../../configs/digits-made.toml")),
    ("digits-any-order", include_str!("../../configs/digits-any-order.toml")),
    ("mnist-made", include_str!("../../configs/mnist-made.toml")),
    ("mnist-denoiser", include_str!("../../configs/mnist-denoiser.toml")),
    ("mnist-gated", include_str!("../../configs/mnist-gated.toml")),
    ("mnist-pixelcnn", include_str!("../../configs/mnist-pixelcnn.toml")),
    ("mnist-pixelcnn-5x40", include_str!("../../configs/mnist-pixelcnn-5x40.toml")),
    ("cifar10-made", include_str!("../../configs/cifar10-made.toml")),
    ("cifar10-gated", include_str!("../../configs/cifar10-gated.toml")),
    ("cifar10-pixelcnn", include_str!("../../configs/cifar10-pixelcnn.toml")),
    ("faces-64", include_str!("../../configs/faces-64.toml")),
    ("toy-2d", include_str!("../../configs/toy-2d.toml")),
    ("gaussian", include_str!("../../configs/gaussian.toml")),
    ("table", include_str!("../../configs/table.toml")),
    ("table-mixture", include_str!("../../configs/table-mixture.toml")),
];
/// For each kind of data the recipes to choose from, the one that is taken where nothing is said first.
const OF_DATA: [(&str, &[&str]); 6] = [
    ("digits", &["digits", "digits-made", "digits-any-order"]),
    ("mnist", &["mnist-pixelcnn", "mnist-gated", "mnist-made"]),
    ("cifar10", &["cifar10-gated", "cifar10-made", "cifar10-pixelcnn"]),
    ("images", &["faces-64"]),
    ("toy", &["toy-2d"]),
    ("gaussian", &["gaussian"]),
];

/// The settings of a file or of a recipe of that name, or those that are built in for the data and the kind of network
/// that the flags ask for, or the defaults.
pub(super) fn base(file: Option<&Path>, spec: Option<&str>, flags: &ModelFlags) -> Result<Config> {
    if let Some(file) = file {
        let name = file.to_str().filter(|_| !file.exists());
        return name.and_then(built_in).unwrap_or_else(|| Config::from_file(file));
    }
    let kind = spec.and_then(|spec| spec.split(':').next());
    let Some((_, names)) = OF_DATA.iter().find(|(of_kind, _)| Some(*of_kind) == kind) else {
        return Ok(Config::default());
    };
    let recipes = names.iter().filter_map(|name| built_in(name)).collect::<Result<Vec<Config>>>()?;
    let wanted = flags.wanted_network();
    let fitting = recipes.iter().find(|config| wanted.is_none_or(|network| config.model.network == network));
    Ok(fitting.unwrap_or(&recipes[0]).clone())
}

/// The recipe for tables and arrays of points with the head that the flags ask for, its sizes fitted to so many rows.
pub(super) fn of_table(flags: &ModelFlags, rows: usize) -> Result<Config> {
    let name = if flags.head.is_none_or(|head| head == HeadKind::Score) { "table" } else { "table-mixture" };
    let mut config = built_in(name).expect("listed")?;
    config.fit_to_rows(rows);
    Ok(config)
}

/// A recipe by its name.
pub(super) fn built_in(name: &str) -> Option<Result<Config>> {
    let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(Config::from_toml(text, &format!("the built-in recipe {name}")))
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub(super) struct DataFlags {
    /// images:DIR: resize the middle square of each image to N x N pixels
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// images:DIR: 1 (grey) or 3 (RGB) [default: 3 if any file stores colour]
    #[arg(long, value_name = "1|3")]
    channels: Option<usize>,
    /// What becomes of files of images:DIR that are no image, and of rows of csv:FILE that are no numbers
    #[arg(long)]
    broken: Option<Broken>,
    /// csv:FILE: what stands between two fields; the sign itself will do [default: found from the first lines]
    #[arg(long)]
    separator: Option<Separator>,
    /// csv:FILE: whether the first row holds the columns' names [default: auto]
    #[arg(long)]
    header: Option<Header>,
    /// csv:FILE: what stands before the fraction of a number [default: found from the numbers]
    #[arg(long)]
    decimal: Option<Decimal>,
    /// csv:FILE: the columns to take, in this order, by name or by number from 1 [default: all]
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// csv:FILE: columns to leave out, by name or by number from 1
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    skip_columns: Option<Vec<String>>,
    /// Mirror half of the training images whenever they are drawn (augmentation)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    flip: Option<bool>,
    /// Share of the samples held out of training [default: 0.15]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, conflicts_with = "held_out_data")]
    held_out: Option<f64>,
    /// Other data held out instead: a SPEC of samples of the same shape
    #[arg(long, value_name = "SPEC")]
    held_out_data: Option<String>,
    /// How the columns of tables and points are brought to one scale; noise levels are in that scale
    #[arg(long)]
    standardise: Option<Standardise>,
    /// Host memory for the samples; what goes beyond it stays on disk [default: 2048]
    #[arg(long, value_name = "MIB")]
    data_memory: Option<u64>,
    /// What a packed file, a pipe or a device may become; what goes beyond it is refused [default: 2048]
    #[arg(long, value_name = "MIB")]
    unpack_limit: Option<u64>,
}

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelFlags {
    /// Kind of the context network
    #[arg(long)]
    network: Option<Network>,
    /// made: widths of the hidden layers
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    hidden: Option<Vec<usize>>,
    /// made: add a hidden layer's input to its output where their widths agree
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    residual: Option<bool>,
    /// Activation of the context network
    #[arg(long)]
    activation: Option<Activation>,
    /// What a context becomes: a score network's input, or the parameters of a density
    #[arg(long)]
    head: Option<HeadKind>,
    /// mog, mol: components of a mixture
    #[arg(long, value_name = "M")]
    components: Option<usize>,
    /// mol: give probabilities to this many levels of the data (256 for 8-bit data) instead of a density
    #[arg(long, value_name = "LEVELS")]
    bins: Option<usize>,
    /// score: K, the width of the context of one dimension
    #[arg(long, value_name = "K")]
    context: Option<usize>,
    /// gated, pixelcnn: channels of the hidden layers
    #[arg(long, value_name = "N")]
    filters: Option<usize>,
    /// gated, pixelcnn: residual blocks (pixelcnn: at each resolution)
    #[arg(long, value_name = "N")]
    blocks: Option<usize>,
    /// gated: side of the first layer's kernel: 1, 3, 5 or 7
    #[arg(long, value_name = "SIDE")]
    first_kernel: Option<usize>,
    /// gated: side of the blocks' kernels: 1, 3, 5 or 7
    #[arg(long, value_name = "SIDE")]
    kernel: Option<usize>,
    /// pixelcnn: how often the resolution is halved
    #[arg(long, value_name = "N")]
    downsamplings: Option<usize>,
    /// gated, pixelcnn: share of the hidden units set to zero in training
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    dropout: Option<f32>,
    /// Order in which the dimensions are modelled
    #[arg(long)]
    order: Option<Order>,
    /// Seed of `--order random` and of the orders of `--order any`
    #[arg(long, value_name = "SEED")]
    order_seed: Option<u64>,
    /// Widths of the score network's hidden layers
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    score_hidden: Option<Vec<usize>>,
    /// Activation of the score network; it must be twice differentiable
    #[arg(long, value_name = "ACTIVATION")]
    score_activation: Option<Activation>,
    /// How the score network's output becomes a score
    #[arg(long)]
    parametrisation: Option<Parametrisation>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Noise")]
pub(super) struct NoiseFlags {
    /// Smallest noise level, in the units that the model sees: standard deviations of a column, or the unit range of pixels
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    sigma_min: Option<f32>,
    /// Largest noise level, in the same units
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    sigma_max: Option<f32>,
    /// Noise on the context network's input (augmentation for small data)
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    context_noise: Option<f32>,
    /// Share of the context network's inputs set to zero (the same)
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    context_dropout: Option<f32>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Training")]
pub(super) struct TrainingFlags {
    /// Steps in all
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Samples a step
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Samples worked on together, a divisor of the batch [default: as many as fit]
    #[arg(long, value_name = "N")]
    micro_batch: Option<usize>,
    /// MiB that training may take on the adapter; larger batches are worked on in parts
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Seed of initialisation, shuffling and noise
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Loss that is minimised
    #[arg(long)]
    objective: Option<Objective>,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f32>,
    /// Steps of linear warm-up
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// Let one (sample, dimension) row in N pass the score network: less work, the same gradient on average
    #[arg(long, value_name = "N")]
    row_stride: Option<usize>,
    /// Decoupled weight decay of matrices
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    weight_decay: Option<f32>,
    /// Clip the gradient's global norm; 0 turns it off
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    clip_norm: Option<f32>,
    /// Decay of the moving average of the weights; 0 turns it off
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    ema: Option<f32>,
    /// Steps between two held-out losses [default: by the size of the data, about an epoch]
    #[arg(long, value_name = "N")]
    validate_every: Option<u64>,
    /// End training after so many held-out losses in a row that are no better than the least; 0 goes on to the last step
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// Steps between two checkpoints; 0 saves by the clock: every half a minute, or less often where saving takes long
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Steps between two pictures of samples; 0 draws one at the end only
    #[arg(long, value_name = "N")]
    sample_every: Option<u64>,
}

impl DataFlags {
    pub(super) fn apply(&self, config: &mut Config) {
        let data = &mut config.data;
        data.size = self.size.or(data.size);
        data.channels = self.channels.or(data.channels);
        set(&mut data.broken, &self.broken);
        data.separator = self.separator.or(data.separator);
        data.header = self.header.or(data.header);
        data.decimal = self.decimal.or(data.decimal);
        data.columns = self.columns.clone().or(data.columns.take());
        data.skip_columns = self.skip_columns.clone().or(data.skip_columns.take());
        set(&mut data.flip, &self.flip);
        set(&mut data.held_out, &self.held_out);
        data.held_out_data = self.held_out_data.clone().or(data.held_out_data.take());
        set(&mut data.standardise, &self.standardise);
        set(&mut data.memory, &self.data_memory);
        set(&mut data.unpack_limit, &self.unpack_limit);
    }
}

impl ModelFlags {
    /// The kind of context network that the flags name or imply.
    fn wanted_network(&self) -> Option<Network> {
        self.network.or_else(|| self.dense_flag().map(|_| Network::Made))
    }

    /// A given flag that only masked dense layers have.
    fn dense_flag(&self) -> Option<&'static str> {
        let given = [("--hidden", self.hidden.is_some()), ("--residual", self.residual.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// A given flag that only convolutions have.
    fn conv_flag(&self) -> Option<&'static str> {
        let given = [
            ("--filters", self.filters.is_some()),
            ("--blocks", self.blocks.is_some()),
            ("--first-kernel", self.first_kernel.is_some()),
            ("--kernel", self.kernel.is_some()),
            ("--downsamplings", self.downsamplings.is_some()),
            ("--dropout", self.dropout.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// A given flag that the head has no use for.
    fn flag_of_another_head(&self, head: HeadKind) -> Option<&'static str> {
        let of_score = [
            ("--context", self.context.is_some()),
            ("--score-hidden", self.score_hidden.is_some()),
            ("--score-activation", self.score_activation.is_some()),
            ("--parametrisation", self.parametrisation.is_some()),
        ];
        let given = of_score.map(|(flag, given)| (flag, given && head != HeadKind::Score)).into_iter().chain([
            ("--components", self.components.is_some() && !matches!(head, HeadKind::Mog | HeadKind::Mol)),
            ("--bins", self.bins.is_some() && head != HeadKind::Mol),
        ]);
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// Overrides the model's settings.
    ///
    /// # Errors
    /// A flag that the kind of network or the head has no use for.
    pub(super) fn apply(&self, config: &mut Config) -> Result<()> {
        set(&mut config.model.network, &self.wanted_network());
        let model = &mut config.model;
        let network = format!("{:?}", model.network).to_lowercase();
        let unused = if model.network == Network::Made { self.conv_flag() } else { self.dense_flag() };
        if let Some(flag) = unused {
            let problem = format!("means nothing to the context network `{network}`");
            return Err(Error::input(flag, problem, "Leave it out, or choose another --network"));
        }
        set(&mut model.head, &self.head);
        if let Some(flag) = self.flag_of_another_head(model.head) {
            let problem = format!("means nothing to the head `{:?}`", model.head).to_lowercase();
            return Err(Error::input(flag, problem, "Leave it out, or choose another --head"));
        }
        set(&mut model.components, &self.components);
        model.bins = self.bins.or(model.bins);
        set(&mut model.score.hidden, &self.score_hidden);
        set(&mut model.score.activation, &self.score_activation);
        set(&mut model.score.parametrisation, &self.parametrisation);
        set(&mut model.hidden, &self.hidden);
        set(&mut model.residual, &self.residual);
        set(&mut model.activation, &self.activation);
        set(&mut model.context, &self.context);
        set(&mut model.conv.filters, &self.filters);
        set(&mut model.conv.blocks, &self.blocks);
        set(&mut model.conv.first_kernel, &self.first_kernel);
        set(&mut model.conv.kernel, &self.kernel);
        set(&mut model.conv.downsamplings, &self.downsamplings);
        set(&mut model.conv.dropout, &self.dropout);
        set(&mut model.order, &self.order);
        set(&mut model.order_seed, &self.order_seed);
        Ok(())
    }
}

impl NoiseFlags {
    pub(super) fn apply(&self, config: &mut Config) {
        let noise = &mut config.noise;
        set(&mut noise.sigma_min, &self.sigma_min);
        set(&mut noise.sigma_max, &self.sigma_max);
        set(&mut noise.context, &self.context_noise);
        set(&mut noise.dropout, &self.context_dropout);
    }
}

impl TrainingFlags {
    pub(super) fn apply(&self, config: &mut Config) {
        let train = &mut config.train;
        set(&mut train.steps, &self.steps);
        set(&mut train.batch, &self.batch);
        train.micro_batch = self.micro_batch.or(train.micro_batch);
        train.memory = self.memory.or(train.memory);
        set(&mut train.seed, &self.seed);
        set(&mut train.objective, &self.objective);
        set(&mut train.learning_rate, &self.learning_rate);
        set(&mut train.warmup, &self.warmup);
        set(&mut train.row_stride, &self.row_stride);
        set(&mut train.weight_decay, &self.weight_decay);
        set(&mut train.clip_norm, &self.clip_norm);
        set(&mut train.ema, &self.ema);
        set(&mut train.validate_every, &self.validate_every);
        set(&mut train.patience, &self.patience);
        set(&mut train.checkpoint_every, &self.checkpoint_every);
        set(&mut train.sample_every, &self.sample_every);
    }
}

/// Overwrites a setting where the flag is given.
fn set<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        setting.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_usable_and_belong_to_their_data() {
        for (name, _) in BUILT_IN {
            built_in(name).expect("listed").expect("well-formed").check().expect("usable");
        }
        let base_of = |spec: &str, flags: &ModelFlags| base(None, Some(spec), flags).expect("well-formed");
        for (kind, names) in OF_DATA {
            assert!(names.iter().all(|name| built_in(name).is_some()), "{names:?}");
            let config = base_of(&format!("{kind}:x"), &ModelFlags::default());
            assert_eq!(config.data.spec.split(':').next(), Some(kind));
        }
        assert_eq!(base_of("npy:x.npy", &ModelFlags::default()), Config::default());
        let named = |name: &str| base(Some(Path::new(name)), None, &ModelFlags::default());
        assert_eq!(named("mnist-made").expect("a recipe").model.hidden, [512, 512]);
        assert!(named("mnist-maid").is_err());
    }

    #[test]
    fn flags_choose_the_recipe_and_must_mean_something_to_it() {
        let dense = ModelFlags { hidden: Some(vec![7]), ..ModelFlags::default() };
        let mut config = base(None, Some("mnist:x"), &dense).expect("well-formed");
        assert_eq!(config, built_in("mnist-made").expect("listed").expect("well-formed"));
        dense.apply(&mut config).expect("made has hidden layers");
        assert_eq!((config.model.network, config.model.hidden), (Network::Made, vec![7]));
        let both = ModelFlags { network: Some(Network::Gated), ..dense };
        let error = both.apply(&mut Config::default()).expect_err("gated has no hidden widths");
        assert!(error.to_string().contains("--hidden") && error.exit_status() == 2, "{error}");
        let filters = ModelFlags { filters: Some(3), ..ModelFlags::default() };
        assert!(filters.apply(&mut Config::default()).is_err(), "made has no filters");
    }

    #[test]
    fn every_file_of_configs_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        for entry in std::fs::read_dir(folder).expect("configs are there") {
            let path = entry.expect("readable").path();
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
            assert!(BUILT_IN.contains(&(stem, text.as_str())), "{stem}");
        }
    }
}
