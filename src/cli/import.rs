//! `arcsm import`

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::{Session, Task, after_help};
use crate::ask::import::{ForeignWeights, NameMap, Taken};
use crate::checkpoint::Checkpoint;
use crate::codes::Parametrisation;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::arrays::HostTensor;
use crate::files::check_writable;
use crate::models::ar_csm::{ArCsm, HeadKind, Network};
use crate::nn::ParamBuffer;
use crate::shape::SampleShape;

/// The tensor that tells D: the context network's first layer sees every dimension.
const FIRST_WEIGHT: &str = "ctx.layers.0.weight";

/// Tensors that are not used and are named; `--json` has all of them.
const NAMED: usize = 8;

/// Take the weights of another implementation as a checkpoint
///
/// The safetensors file holds floats of 16, 32 or 64 bits: `ctx.layers.N.weight` (out, in), `ctx.layers.N.bias`,
/// `net.lin.N.weight` and `net.lin.N.bias`. Hidden unit k of a context layer of H units must have the degree
/// floor(k max(1, D-1) / H) + 1. The gated network has `ctx.first`, `ctx.blk.N` and `ctx.out`, weights (out, in, rows,
/// columns); with it, --shape is needed. A model with order = "any" has `ctx.seen.weight` (D, units) too. Weights that
/// the masks forbid become zero. The config file's [model] says the rest. Where the other implementation has other
/// names, --map names a file with a line for each: "ctx.layers.0.weight" = "fc1.weight", or, for a matrix (in, out),
/// "ctx.layers.0.weight" = { name = "fc1.kernel", transpose = true }. Tensors that are left over are named.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm import --weights model.safetensors --config model.toml --out model.ckpt\n  \
       arcsm import --weights golden.safetensors --prefix w0. --config m.toml --out golden.ckpt\n  \
       arcsm import --weights made.safetensors --map names.toml --config m.toml --out made.ckpt\n  \
       arcsm import --weights mnist.safetensors --shape 28x28x1 --config m.toml --out mnist.ckpt"
))]
pub(super) struct Import {
    /// Weights of the other implementation
    #[arg(long, value_name = "W.safetensors")]
    weights: PathBuf,
    /// Settings; [model] must describe the weights, with score.mean and score.sd where its parametrisation uses them
    #[arg(long, value_name = "M.toml")]
    config: PathBuf,
    /// Checkpoint to write
    #[arg(long, value_name = "CKPT")]
    out: PathBuf,
    /// What stands before each tensor's name
    #[arg(long, value_name = "P", default_value = "")]
    prefix: String,
    /// Which of the file's tensors are ours, where they have other names: "our name" = "their name", in full
    #[arg(long, value_name = "N.toml")]
    map: Option<PathBuf>,
    /// What a sample is, HEIGHTxWIDTHxCHANNELS or D [default: D, from the weights]
    #[arg(long, value_name = "28x28x1", value_parser = |text: &str| text.parse::<SampleShape>())]
    shape: Option<SampleShape>,
}

impl Task for Import {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        check_writable(&self.out)?;
        let config = Config::from_file(&self.config)?;
        config.check()?;
        self.check_constants(&config)?;
        let map = self.map.as_deref().map(NameMap::from_file).transpose()?.unwrap_or_default();
        let foreign = ForeignWeights::open(&self.weights, &self.prefix, map)?;
        let shape = self.shape(&config, &foreign)?;
        let gpu = session.open_gpu()?;
        let model = ArCsm::new(&gpu, &config.model, shape)?;
        let Taken { tensors, unused } = foreign.take(model.stored_table())?;
        let weights = ParamBuffer::from_tensors(&gpu, "weights", model.stored_table(), &tensors, "")?;
        let mut checkpoint =
            Checkpoint { config, step: 0, samples_drawn: 0, shape, data: None, best: None, tensors: BTreeMap::new() };
        weights.save_into(&gpu, "", &mut checkpoint.tensors)?;
        checkpoint.save(&self.out)?;
        let cleared = cleared(&tensors, &checkpoint.tensors);
        if !unused.is_empty() {
            session.console.warn(&format!("{} does not use {}", self.out.display(), listed(&unused)));
        }
        if cleared > 0 {
            let text = "weights lie where the model's masks forbid them, and became zero: its degrees must be yours";
            session.console.note(&format!("{cleared} {text}"));
        }
        let (count, parameters) = (checkpoint.tensors.len(), weights.table().count());
        let text = format!("{count} tensors, {parameters} parameters, samples of {shape}: {}", self.out.display());
        let object = json!({
            "out": self.out.to_string_lossy(),
            "tensors": count,
            "parameters": parameters,
            "dimensions": shape.dimensions(),
            "shape": shape.to_string(),
            "unused": unused,
            "masked_out": cleared,
        });
        session.console.result(&text, &object)
    }
}

impl Import {
    /// Training takes these from the data; here only the other implementation knows them.
    fn check_constants(&self, config: &Config) -> Result<()> {
        let score = &config.model.score;
        let is_mixture = config.model.head != HeadKind::Score;
        let missing = match score.parametrisation {
            _ if is_mixture && score.mean.is_none() => "model.score.mean",
            _ if is_mixture && score.sd.is_none() => "model.score.sd",
            _ if is_mixture && score.range.is_none() => "model.score.range",
            _ if is_mixture => return Ok(()),
            Parametrisation::Osig | Parametrisation::Edm if score.mean.is_none() => "model.score.mean",
            Parametrisation::Edm if score.sd.is_none() => "model.score.sd",
            _ => return Ok(()),
        };
        let problem = format!("`{missing}` is missing, and the weights were trained with one");
        Err(Error::input(self.config.display().to_string(), problem, "Add the value that the other program used"))
    }

    fn shape(&self, config: &Config, weights: &ForeignWeights) -> Result<SampleShape> {
        if config.model.network != Network::Made {
            let missing = || {
                let problem = "is missing, and convolutions do not tell the size of their images";
                Error::input("--shape", problem, "Give --shape HEIGHTxWIDTHxCHANNELS")
            };
            return self.shape.ok_or_else(missing);
        }
        let dimensions = match weights.shape_of(FIRST_WEIGHT).as_deref() {
            // A transposed one is refused, with the remedy, where it is taken.
            Some(&[rows, columns]) if config.model.hidden[0] == columns && columns != rows => rows,
            Some(&[_, dimensions]) => dimensions,
            _ => return self.shape.ok_or_else(|| weights.missing(&[(FIRST_WEIGHT, vec![config.model.hidden[0], 0])])),
        };
        let shape = self.shape.unwrap_or(SampleShape::Vector { dimensions });
        if shape.dimensions() == dimensions {
            return Ok(shape);
        }
        let problem = format!(
            "`{}{FIRST_WEIGHT}` takes {dimensions} inputs, --shape {shape} has {}",
            self.prefix,
            shape.dimensions()
        );
        Err(Error::input(self.weights.display().to_string(), problem, "Correct --shape"))
    }
}

/// How many weights became zero on their way into the model.
fn cleared(given: &BTreeMap<String, HostTensor>, kept: &BTreeMap<String, HostTensor>) -> usize {
    let of_one = |(name, given): (&String, &HostTensor)| {
        given.values.iter().zip(&kept[name].values).filter(|(given, kept)| **given != 0.0 && **kept == 0.0).count()
    };
    given.iter().map(of_one).sum()
}

/// The first few names, and how many there are.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let these = if names.len() == 1 { "1 tensor".into() } else { format!("{} tensors", names.len()) };
    format!("{these} of the file: {}{more}", names[..names.len().min(NAMED)].join(", "))
}
