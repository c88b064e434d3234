//! `arcsm-bench`

use serde_json::json;

use super::console::table;
use super::{Session, Task, after_help};
use crate::bench::{self, Environment, Protocol, Record, SampleCase};
use crate::config::{Config, Network, Objective};
use crate::data::SampleShape;
use crate::error::{Error, Result};
use crate::sample::Sampler;

/// Time kernels, training steps and samplers on this adapter
///
/// GFLOP/s count the operations that the mathematics needs, with masked-out weights left out, at the median time.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm-bench                                     all cases at MNIST's size\n  \
       arcsm-bench train-step --row-stride 4 -o md     a table for benches/results\n  \
       arcsm-bench gemm-forward --layer 1024 1024      one layer, with and without a mask\n  \
       arcsm-bench convolutions train-step --model mnist-gated\n  \
       arcsm-bench sample-mlq --full-passes --count 16 --model digits"
))]
pub(super) struct Bench {
    /// What to time [default: all]
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// Whose sizes and settings
    #[arg(long, value_enum, default_value = "mnist-made")]
    model: Model,
    /// Samples a step [default: the model's]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Training loss [default: the model's]
    #[arg(long)]
    objective: Option<Objective>,
    /// One row in N passes the score network in a training step [default: the model's]
    #[arg(long, value_name = "N")]
    row_stride: Option<usize>,
    /// Context width K [default: the model's]
    #[arg(long, value_name = "K")]
    context: Option<usize>,
    /// In place of the model's layers, gemm-forward times one of this size, unmasked and masked
    #[arg(long, value_names = ["IN", "OUT"], num_args = 2, value_parser = clap::value_parser!(u32).range(1..=65536))]
    layer: Option<Vec<u32>>,
    /// Evaluations of the score network for a value in sample-langevin, a multiple of its 10 noise levels; a last one that
    /// denoises comes on top [default: 200]
    #[arg(long, value_name = "N")]
    evaluations: Option<u32>,
    /// Samples drawn together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Sample with D whole passes of the context network, for comparison
    #[arg(long)]
    full_passes: bool,
    /// Timed repetitions
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Repetitions before these, which are not counted
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_up: u32,
    /// Form of the result; json is the same as --json
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// Masked dense layers, forward
    GemmForward,
    /// Masked dense layers, weight gradient
    GemmBackwardWeight,
    /// Masked convolutions, all three passes
    Convolutions,
    /// Whole training steps
    TrainStep,
    /// Multi-level quadrature
    SampleMlq,
    /// Annealed Langevin dynamics
    SampleLangevin,
    /// Quadrature at its coarsest, 17 evaluations a value: what is left is the context network's work
    SampleContexts,
}

/// Recipes of `configs/`, with the images that they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Model {
    /// 8x8
    Digits,
    /// 28x28, masked dense layers
    MnistMade,
    /// 28x28, masked convolutions
    MnistGated,
    /// 28x28, two streams of convolutions with two halvings
    MnistPixelcnn,
    /// 28x28, two streams of convolutions, 5 blocks of 40 filters
    #[value(name = "mnist-pixelcnn-5x40")]
    MnistPixelcnn5x40,
    /// 32x32x3, masked dense layers
    #[value(name = "cifar10-made")]
    CifarMade,
    /// 32x32x3, masked convolutions
    #[value(name = "cifar10-gated")]
    CifarGated,
    /// 32x32x3, two streams of convolutions
    #[value(name = "cifar10-pixelcnn")]
    CifarPixelcnn,
    /// 64x64, two streams of convolutions with two halvings
    #[value(name = "faces-64")]
    Faces,
}

impl Model {
    /// Name of the recipe, side and channels of the images.
    fn recipe(self) -> (&'static str, usize, usize) {
        match self {
            Self::Digits => ("digits", 8, 1),
            Self::MnistMade => ("mnist-made", 28, 1),
            Self::MnistGated => ("mnist-gated", 28, 1),
            Self::MnistPixelcnn => ("mnist-pixelcnn", 28, 1),
            Self::MnistPixelcnn5x40 => ("mnist-pixelcnn-5x40", 28, 1),
            Self::CifarMade => ("cifar10-made", 32, 3),
            Self::CifarGated => ("cifar10-gated", 32, 3),
            Self::CifarPixelcnn => ("cifar10-pixelcnn", 32, 3),
            Self::Faces => ("faces-64", 64, 1),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Aligned columns
    Table,
    /// One JSON object
    Json,
    /// A Markdown table
    Md,
}

impl Task for Bench {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        let (config, shape) = self.settings()?;
        let langevin = self.langevin(&config)?;
        let gpu = session.open_gpu()?;
        let every = <Case as clap::ValueEnum>::value_variants();
        let cases = if self.cases.is_empty() { every } else { &self.cases };
        let protocol = Protocol { warm_up: self.warm_up, repetitions: self.repetitions };
        let mut records = Vec::new();
        for case in cases {
            session.console.detail(&format!("timing {case:?}"));
            let sampling = |sampler| {
                let case = SampleCase { sampler, count: self.count as usize, full_passes: self.full_passes };
                bench::sampling(&gpu, &config, shape, &case, protocol)
            };
            let dimensions = shape.dimensions();
            let is_made = config.model.network == Network::Made;
            match case {
                Case::GemmForward | Case::GemmBackwardWeight if !is_made => {}
                Case::Convolutions if is_made => {}
                Case::Convolutions => records.extend(bench::convolutions(&gpu, &config, shape, protocol)?),
                Case::GemmForward => records.extend(match self.layer.as_deref() {
                    Some(&[n_in, n_out]) => {
                        bench::gemm_of_size(&gpu, config.train.batch, n_in as usize, n_out as usize, protocol)?
                    }
                    _ => bench::gemm_forward(&gpu, &config, dimensions, protocol)?,
                }),
                Case::GemmBackwardWeight => {
                    records.extend(bench::gemm_backward_weight(&gpu, &config, dimensions, protocol)?);
                }
                Case::TrainStep => records.push(bench::train_step(&gpu, &config, shape, protocol)?),
                Case::SampleMlq => {
                    records.push(sampling(Sampler::multilevel_default(&config.noise, config.train.objective))?);
                }
                Case::SampleContexts => {
                    let coarsest = Sampler::MultiLevel { sigmas: vec![config.noise.sigma_max], points: 8 };
                    records.push(sampling(coarsest)?);
                }
                Case::SampleLangevin => records.push(sampling(langevin.clone())?),
            }
        }
        let environment = Environment::of(&gpu);
        let object = json!({ "environment": environment, "records": records });
        let text = match self.output {
            Form::Json => object.to_string(),
            Form::Table => table(HEADINGS, &rows(&records)) + &headline(&environment),
            Form::Md => markdown(&environment, &rows(&records)),
        };
        session.console.result(&text, &object)
    }
}

impl Bench {
    fn settings(&self) -> Result<(Config, SampleShape)> {
        let (name, side, channels) = self.model.recipe();
        let mut config = super::settings::built_in(name).expect("every model is a recipe")?;
        config.train.batch = self.batch.unwrap_or(config.train.batch);
        config.train.objective = self.objective.unwrap_or(config.train.objective);
        config.model.context = self.context.unwrap_or(config.model.context);
        config.train.row_stride = self.row_stride.unwrap_or(config.train.row_stride);
        config.check()?;
        Ok((config, SampleShape::Image { height: side, width: side, channels }))
    }

    /// The default chain, with as many evaluations as are asked for.
    fn langevin(&self, config: &Config) -> Result<Sampler> {
        let mut sampler = Sampler::langevin_default(&config.noise);
        if let (Some(evaluations), Sampler::Langevin { sigmas, steps, .. }) = (self.evaluations, &mut sampler) {
            let levels = sigmas.len() as u32;
            if evaluations == 0 || !evaluations.is_multiple_of(levels) {
                let problem = format!("{evaluations} evaluations do not spread over {levels} noise levels");
                return Err(Error::input("--evaluations", problem, format!("Give a multiple of {levels}")));
            }
            *steps = evaluations / levels;
        }
        Ok(sampler)
    }
}

const HEADINGS: [&str; 7] = ["case", "sizes", "median ms", "min ms", "max ms", "GFLOP/s", "samples/s"];

fn rows(records: &[Record]) -> Vec<[String; 7]> {
    let milliseconds = |seconds: f64| format!("{:.3}", 1e3 * seconds);
    let row = |record: &Record| {
        [
            record.case.clone(),
            record.sizes.clone(),
            milliseconds(record.seconds.median),
            milliseconds(record.seconds.min),
            milliseconds(record.seconds.max),
            format!("{:.2}", record.gflop_per_second),
            record.samples_per_second.map_or_else(|| "-".into(), |rate| format!("{rate:.1}")),
        ]
    };
    records.iter().map(row).collect()
}

fn headline(environment: &Environment) -> String {
    let Environment { adapter, version, commit, optimised, host_threads, date } = environment;
    let build = if *optimised { "release" } else { "debug" };
    format!(
        "{}, {}, {}; {host_threads} host threads; arcsm {version} ({build}), commit {commit}; {date}",
        adapter.name, adapter.backend, adapter.driver
    )
}

fn markdown(environment: &Environment, rows: &[[String; 7]]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = "|---|---|--:|--:|--:|--:|--:|\n";
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}\n\n{}{rule}{body}", headline(environment), line(&HEADINGS.map(String::from)))
}
