//! `arcsm-bench`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::console::table;
use super::{Session, Task, after_help};
use crate::ask::sample::Sampler;
use crate::bench::{self, Ceiling, Environment, Protocol, Record, SampleCase, Tour};
use crate::codes::Objective;
use crate::config::Config;
use crate::doctor;
use crate::error::{Error, Result};
use crate::files;
use crate::files::tuning::TuningFile;
use crate::gpu::{AdapterChoice, Clock, Gpu, GpuOptions, Needs, Tuning};
use crate::models::ar_csm::{HeadKind, Network};
use crate::shape::SampleShape;

/// Time kernels, training steps and samplers on this adapter
///
/// GFLOP/s and GB/s count what the mathematics needs, with masked-out weights left out, at the median time; `of ceiling` is the
/// least time that the adapter's best rates allow, by the median time. Those are measured first: the fastest unmasked
/// dense layer, and the fastest copy.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm-bench                                     all cases at MNIST's size\n  \
       arcsm-bench --case train-step --model mnist-made --batch 32,64,128\n  \
       arcsm-bench train-step --dimensions 256,512,1024,2048,4096 -o csv\n  \
       arcsm-bench train-step --row-stride 4 -o md     a table for benches/results\n  \
       arcsm-bench gemm-forward --layer 1024 1024      one layer, with and without a mask\n  \
       arcsm-bench convolutions train-step --model mnist-gated\n  \
       arcsm-bench kernels --profile trace.json        what a step consists of, for chrome://tracing or Perfetto\n  \
       arcsm-bench sample-mlq --full-passes --count 16 --model digits\n  \
       arcsm-bench --tune                              find the fastest variants for this adapter, and remember them"
))]
pub(super) struct Bench {
    /// What to time [default: all but every-kernel and start-up]
    #[arg(value_enum, value_name = "CASE")]
    cases: Vec<Case>,
    /// The same as a flag
    #[arg(long = "case", value_enum, value_name = "CASE,CASE", value_delimiter = ',')]
    more_cases: Vec<Case>,
    /// Whose sizes and settings
    #[arg(long, value_enum, default_value = "mnist-made", value_delimiter = ',', value_name = "MODEL,MODEL")]
    model: Vec<Model>,
    /// Samples a step, each in turn [default: the model's]
    #[arg(long, value_name = "B,B", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,
    /// Values a sample in place of the model's images, each in turn; for masked dense layers
    #[arg(long, value_name = "D,D", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    dimensions: Vec<u32>,
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
    /// Leave out what the adapter can do at best, and comparisons with it
    #[arg(long)]
    no_ceiling: bool,
    /// First hold every kernel against its float64 twin, and time nothing if one fails
    #[arg(long)]
    check: bool,
    /// Write one more unit of every case as a trace for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE.json")]
    profile: Option<PathBuf>,
    /// Measure the variants of every kernel on this adapter and remember the fastest, for all commands. Results may change
    /// within rounding, so that a run that was begun before is not resumed bit for bit
    #[arg(long, conflicts_with_all = ["cases", "more_cases", "profile"])]
    tune: bool,
    /// Write the composed WGSL of every kernel and variant, and kernels.json with what each needs; takes no adapter
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cases", "more_cases", "profile", "tune"])]
    dump_shaders: Option<PathBuf>,
    /// Form of the result; json is the same as --json
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// What the adapter can do at best
    Ceiling,
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
    /// Exact draws, of the same model with a mixture in place of the score network
    SampleDirect,
    /// Quadrature at its coarsest, 17 evaluations a value: what is left is the context network's work
    SampleContexts,
    /// A short run on the embedded digits: data, 20 steps, held-out loss, checkpoint, picture
    EndToEnd,
    /// Kernel by kernel: a training step, a held-out loss and the default sampler
    Kernels,
    /// Kernel by kernel: enough work to meet every kernel once
    EveryKernel,
    /// From the start of a process to the end of its first training step
    StartUp,
    /// What start-up starts
    #[value(hide = true)]
    FirstStep,
}

impl Case {
    /// What is timed where nothing is asked for.
    const USUAL: [Self; 11] = [
        Self::Ceiling,
        Self::GemmForward,
        Self::GemmBackwardWeight,
        Self::Convolutions,
        Self::TrainStep,
        Self::SampleMlq,
        Self::SampleLangevin,
        Self::SampleDirect,
        Self::SampleContexts,
        Self::EndToEnd,
        Self::Kernels,
    ];

    /// Whether its work depends on the size of batches.
    fn has_batches(self) -> bool {
        matches!(
            self,
            Self::GemmForward
                | Self::GemmBackwardWeight
                | Self::Convolutions
                | Self::TrainStep
                | Self::Kernels
                | Self::FirstStep
        )
    }
}

/// Recipes of `configs/`, with the images that they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Model {
    /// 8x8, masked convolutions
    Digits,
    /// 8x8, masked dense layers
    DigitsMade,
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
            Self::DigitsMade => ("digits-made", 8, 1),
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
    /// One JSON object a line and measurement
    Jsonl,
    /// Comma-separated values
    Csv,
    /// A Markdown table
    Md,
}

impl Task for Bench {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        if let Some(folder) = &self.dump_shaders {
            return self.write_shaders(session, folder);
        }
        let sizes = self.sizes()?;
        if let Some(path) = &self.profile {
            files::check_writable(path)?;
        }
        for (config, _) in &sizes {
            self.langevin(config)?;
        }
        let gpu = session.open_gpu()?;
        if self.check {
            check(session, &gpu)?;
        }
        if self.tune {
            return self.tune(session, &gpu);
        }
        let mut bench = bench::Bench::new(&gpu, self.protocol(), self.profile.is_some());
        let cases = self.cases();
        if !self.no_ceiling && cases != [Case::FirstStep] {
            session.console.detail("measuring the adapter");
            bench.ceiling = Some(Ceiling::measure(&bench)?);
        }
        let mut records = Vec::new();
        for &case in &cases {
            let distinct = if case.has_batches() { 1 } else { self.batch.len().max(1) };
            for (config, shape) in sizes.iter().step_by(distinct) {
                session.console.detail(&format!("timing {case:?}"));
                records.extend(self.time(session, &bench, case, config, *shape)?);
            }
        }
        let environment = bench.environment();
        if let Some(path) = &self.profile {
            let trace = bench::trace_json(&environment, &bench.into_profiles());
            files::write_atomically(path, |file| file.write_all(trace.to_string().as_bytes()))?;
            session.console.note(&format!("{}: open it in chrome://tracing or ui.perfetto.dev", path.display()));
        }
        let object = json!({ "environment": environment, "records": records });
        let text = match self.output {
            Form::Json => object.to_string(),
            Form::Jsonl => lines(&environment, &records),
            Form::Csv => comma_separated(&environment, &records)?,
            Form::Table => tables(&environment, &records),
            Form::Md => markdown(&environment, &records),
        };
        session.console.result(&text, &object)
    }
}

/// The doctor's checks on an adapter of its own, whose memory is poisoned.
fn check(session: &Session<'_>, gpu: &Gpu) -> Result<()> {
    session.console.note("holding every kernel against its twin");
    let poisoned = session.open_gpu_with(GpuOptions { poison: true, ..GpuOptions::default() })?;
    let failed: Vec<String> = doctor::examine(&poisoned, |_| {})
        .into_iter()
        .filter(|outcome| !outcome.passed)
        .map(|outcome| outcome.kernel.to_owned())
        .collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::Failed(format!(
            "nothing was timed, as {} computes wrong results in {}; `arcsm doctor` says more",
            gpu.adapter().name,
            failed.join(", ")
        ))),
    }
}

impl Bench {
    fn protocol(&self) -> Protocol {
        Protocol { warm_up: self.warm_up, repetitions: self.repetitions }
    }

    fn cases(&self) -> Vec<Case> {
        let cases: Vec<Case> = self.cases.iter().chain(&self.more_cases).copied().collect();
        if cases.is_empty() { Case::USUAL.to_vec() } else { cases }
    }

    /// Settings of every model in every number of dimensions, with every size of batches; the last changes first.
    fn sizes(&self) -> Result<Vec<(Config, SampleShape)>> {
        let mut sizes = Vec::new();
        for &model in &self.model {
            let (config, image) = self.settings(model)?;
            let mut shapes = vec![image];
            if !self.dimensions.is_empty() {
                if config.model.network != Network::Made {
                    let remedy = "Give a model of masked dense layers, such as mnist-made";
                    return Err(Error::input("--dimensions", "convolutions need images", remedy));
                }
                let vector = |&dimensions: &u32| SampleShape::Vector { dimensions: dimensions as usize };
                shapes = self.dimensions.iter().map(vector).collect();
            }
            for shape in shapes {
                let batches = if self.batch.is_empty() { vec![config.train.batch as u32] } else { self.batch.clone() };
                for batch in batches {
                    let mut config = config.clone();
                    config.train.batch = batch as usize;
                    config.check()?;
                    sizes.push((config, shape));
                }
            }
        }
        Ok(sizes)
    }

    fn settings(&self, model: Model) -> Result<(Config, SampleShape)> {
        let (name, side, channels) = model.recipe();
        let mut config = super::settings::built_in(name).expect("every model is a recipe")?;
        config.train.objective = self.objective.unwrap_or(config.train.objective);
        config.model.context = self.context.unwrap_or(config.model.context);
        config.train.row_stride = self.row_stride.unwrap_or(config.train.row_stride);
        config.check()?;
        Ok((config, SampleShape::Image { height: side, width: side, channels }))
    }

    /// The models that meet every kernel: the chosen one, or that of masked dense layers of its size, and one of convolutions.
    fn tour(&self, count: usize) -> Result<Tour> {
        let chosen = self.model[0];
        let (dense, image) = match chosen.recipe() {
            (_, 8, _) => (Model::DigitsMade, Model::Digits),
            (_, 32, _) => (Model::CifarMade, Model::CifarGated),
            _ => (Model::MnistMade, Model::MnistPixelcnn),
        };
        Ok(Tour { dense: self.settings(dense)?, image: self.settings(image)?, count })
    }

    fn time(
        &self,
        session: &Session<'_>,
        bench: &bench::Bench<'_>,
        case: Case,
        config: &Config,
        shape: SampleShape,
    ) -> Result<Vec<Record>> {
        let count = self.count as usize;
        let sampling = |config: &Config, sampler| {
            let case = SampleCase { sampler, count, full_passes: self.full_passes };
            Ok(vec![bench::sampling(bench, config, shape, &case)?])
        };
        let is_made = config.model.network == Network::Made;
        match case {
            Case::GemmForward | Case::GemmBackwardWeight if !is_made => Ok(Vec::new()),
            Case::Convolutions if is_made => Ok(Vec::new()),
            Case::Ceiling => Ok(bench.ceiling.as_ref().map_or_else(Vec::new, |ceiling| ceiling.records.clone())),
            Case::Convolutions => bench::convolutions(bench, config, shape),
            Case::GemmForward => match self.layer.as_deref() {
                Some(&[n_in, n_out]) => bench::gemm_of_size(bench, config.train.batch, n_in as usize, n_out as usize),
                _ => bench::gemm_forward(bench, config, shape.dimensions()),
            },
            Case::GemmBackwardWeight => bench::gemm_backward_weight(bench, config, shape.dimensions()),
            Case::TrainStep => bench::train_step(bench, config, shape),
            Case::SampleMlq => sampling(config, Sampler::multilevel_default(config)),
            Case::SampleContexts => sampling(config, Sampler::multilevel(vec![config.noise.sigma_max], 8)),
            Case::SampleLangevin => sampling(config, self.langevin(config)?),
            Case::SampleDirect => {
                let mut mixture = config.clone();
                (mixture.model.head, mixture.train.objective) = (HeadKind::Mog, Objective::Ml);
                sampling(&mixture, Sampler::Direct { sigma: 0.0 })
            }
            Case::EndToEnd => Ok(vec![bench::end_to_end(bench, self.settings(Model::Digits)?.0)?]),
            Case::Kernels => bench::kernels_of_model(bench, config, shape, count),
            Case::EveryKernel => bench::every_kernel(bench, &self.tour(count)?),
            Case::FirstStep => bench::first_step(bench, config, shape),
            Case::StartUp => self.start_up(session, bench, config.train.batch),
        }
    }

    /// Starts processes that make one training step each. The first one may find no shaders in the driver's cache.
    fn start_up(&self, session: &Session<'_>, bench: &bench::Bench<'_>, batch: usize) -> Result<Vec<Record>> {
        let program = std::env::current_exe().map_err(|e| Error::Failed(format!("cannot find this program: {e}")))?;
        let model = clap::ValueEnum::to_possible_value(&self.model[0]).expect("every model has a name");
        let mut stages: Vec<(String, String, Vec<f64>)> = Vec::new();
        for _ in 0..=self.repetitions {
            let start = Instant::now();
            let mut command = Command::new(&program);
            command.args([
                "first-step",
                "--json",
                "--quiet",
                "--model",
                model.get_name(),
                "--batch",
                &batch.to_string(),
            ]);
            if let Some(adapter) = &session.global.adapter {
                command.args(["--adapter", adapter]);
            }
            let output = command.stderr(Stdio::inherit()).output();
            let seconds = start.elapsed().as_secs_f64();
            let output = output.map_err(|error| Error::Failed(format!("cannot start this program again: {error}")))?;
            let found: Value = serde_json::from_slice(&output.stdout)
                .map_err(|_| Error::Failed("a process that was to make one training step failed".into()))?;
            let parts = found["records"].as_array().into_iter().flatten().filter_map(|record| {
                let text = |key: &str| record[key].as_str().map(str::to_owned);
                Some((text("case")?, text("sizes")?, record["seconds"]["median"].as_f64()?))
            });
            let parts: Vec<_> = parts.collect();
            let sizes = parts.first().map_or_else(String::new, |(_, sizes, _)| sizes.clone());
            let known: f64 = parts.iter().map(|(_, _, seconds)| seconds).sum();
            let whole = [
                ("whole process".to_owned(), sizes.clone(), seconds),
                ("loading, adapter, end".into(), sizes, seconds - known),
            ];
            for (at, (case, sizes, seconds)) in whole.into_iter().chain(parts).enumerate() {
                match stages.get_mut(at) {
                    Some((_, _, times)) => times.push(seconds),
                    None => stages.push((case, sizes, vec![seconds])),
                }
            }
        }
        let mut records = Vec::new();
        for (case, sizes, times) in stages {
            records.push(bench.record_times(&format!("start-up, first process: {case}"), &sizes, times[..1].to_vec()));
            records.push(bench.record_times(&format!("start-up: {case}"), &sizes, times[1..].to_vec()));
        }
        Ok(records)
    }

    fn tune(&self, session: &Session<'_>, gpu: &Gpu) -> Result<()> {
        let Some(file) = TuningFile::of_user() else {
            let remedy = "Unset it, or name a file";
            return Err(Error::input("ARCSM_TUNING", "says that nothing is to be remembered", remedy));
        };
        let adapter = AdapterChoice::Named(gpu.adapter().index.to_string());
        let open = |variant: Option<Needs>, tuning: Tuning| {
            Ok(Gpu::open(GpuOptions { adapter: adapter.clone(), variant, ..GpuOptions::default() })?.tuned(tuning))
        };
        session.console.note("measuring every kernel in every variant");
        let (tuning, candidates) = bench::tune(&open, &self.tour(16)?, self.protocol())?;
        file.save(gpu.adapter(), &tuning)?;
        let cells = |candidate: &bench::Candidate| {
            let times = candidate.seconds.iter().map(|(name, seconds)| format!("{name} {:.3}", 1e3 * seconds));
            [candidate.what.clone(), times.collect::<Vec<_>>().join(", "), candidate.chosen.clone()]
        };
        let rows: Vec<[String; 3]> = candidates.iter().map(cells).collect();
        let remembered = format!("remembered in {} for {}", file.path().display(), gpu.adapter().name);
        let text = table(["what", "ms", "chosen"], &rows) + &remembered;
        let object =
            json!({ "adapter": gpu.adapter(), "file": file.path(), "tuning": tuning, "candidates": candidates });
        session.console.result(&text, &object)
    }

    fn write_shaders(&self, session: &Session<'_>, folder: &Path) -> Result<()> {
        let shaders = bench::write_shaders(&Gpu::noop(), &self.tour(self.count as usize)?, folder)?;
        let text = format!("{shaders} shaders and kernels.json in {}", folder.display());
        session.console.result(&text, &json!({ "folder": folder, "shaders": shaders }))
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

const HEADINGS: [&str; 11] = [
    "case",
    "sizes",
    "median ms",
    "min ms",
    "max ms",
    "spread %",
    "GFLOP/s",
    "GB/s",
    "bound",
    "% of ceiling",
    "samples/s",
];
const PART_HEADINGS: [&str; 10] =
    ["kernel", "largest", "variant", "calls", "median ms", "share %", "GFLOP/s", "GB/s", "bound", "% of ceiling"];

fn row(record: &Record) -> [String; 11] {
    let rate = |rate: f64| if rate > 0.0 { format!("{rate:.2}") } else { "-".into() };
    [
        record.case.clone(),
        record.sizes.clone(),
        milliseconds(record.seconds.median),
        milliseconds(record.seconds.min),
        milliseconds(record.seconds.max),
        format!("{:.1}", 100.0 * record.seconds.spread),
        rate(record.gflop_per_second),
        rate(record.gb_per_second),
        bound(record),
        record.fraction_of_ceiling.map_or_else(|| "-".into(), |share| format!("{:.1}", 100.0 * share)),
        record.samples_per_second.map_or_else(|| "-".into(), |rate| format!("{rate:.1}")),
    ]
}

/// Of a kernel as a part of a whole.
fn part_row(record: &Record) -> Option<[String; 10]> {
    let part = record.part.as_ref()?;
    let [case, sizes, median, _, _, _, flops, bytes, bound, ceiling, _] = row(record);
    let share = format!("{:.1}", 100.0 * part.share);
    Some([case, sizes, part.variant.clone(), part.calls.to_string(), median, share, flops, bytes, bound, ceiling])
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", 1e3 * seconds)
}

fn bound(record: &Record) -> String {
    record.bound.map_or_else(|| "-".into(), |bound| format!("{bound:?}").to_lowercase())
}

/// Cases as a whole, and kernels.
fn split(records: &[Record]) -> (Vec<[String; 11]>, Vec<[String; 10]>) {
    let whole = records.iter().filter(|record| record.part.is_none()).map(row).collect();
    (whole, records.iter().filter_map(part_row).collect())
}

fn tables(environment: &Environment, records: &[Record]) -> String {
    let (whole, parts) = split(records);
    let mut text = String::new();
    if !whole.is_empty() {
        text += &(table(HEADINGS, &whole) + "\n");
    }
    if !parts.is_empty() {
        text += &(table(PART_HEADINGS, &parts) + "\n");
    }
    text + &headline(environment)
}

fn headline(environment: &Environment) -> String {
    let Environment { adapter, version, commit, optimised, host_threads, date, kernel_clock, ceiling } = environment;
    let build = if *optimised { "release" } else { "debug" };
    let mut text = format!(
        "{}, {}, {}; {host_threads} host threads; arcsm {version} ({build}), commit {commit}; {date}",
        adapter.name, adapter.backend, adapter.driver
    );
    if let Some(clock) = kernel_clock {
        text += match clock {
            Clock::Timestamps => "\nkernels: by the adapter's timestamps",
            Clock::WallTime => "\nkernels: each in a submission of its own, by the host's clock with the wait",
            Clock::None => "",
        };
    }
    if let Some(ceiling) = ceiling {
        text += &format!("\n{}", ceiling.describe());
    }
    text
}

fn markdown(environment: &Environment, records: &[Record]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heading = |names: &[&str], words: &[usize]| {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let rules: Vec<&str> = (0..names.len()).map(|at| if words.contains(&at) { "---" } else { "--:" }).collect();
        format!("{}|{}|\n", line(&names), rules.join("|"))
    };
    let (whole, parts) = split(records);
    let mut text = format!("{}\n", headline(environment).replace('\n', "\n\n"));
    if !whole.is_empty() {
        let body: String = whole.iter().map(|row| line(row)).collect();
        text += &format!("\n{}{body}", heading(&HEADINGS, &[0, 1, 8]));
    }
    if !parts.is_empty() {
        let body: String = parts.iter().map(|row| line(row)).collect();
        text += &format!("\n{}{body}", heading(&PART_HEADINGS, &[0, 1, 2, 8]));
    }
    text
}

/// What is said with each measurement where it stands alone.
fn origin(environment: &Environment) -> [(&'static str, String); 5] {
    [
        ("adapter", environment.adapter.name.clone()),
        ("backend", environment.adapter.backend.clone()),
        ("driver", environment.adapter.driver.clone()),
        ("commit", environment.commit.into()),
        ("date", environment.date.clone()),
    ]
}

fn lines(environment: &Environment, records: &[Record]) -> String {
    let line = |record: &Record| {
        let mut object = json!(record);
        origin(environment).into_iter().for_each(|(key, value)| object[key] = value.into());
        format!("{object}\n")
    };
    records.iter().map(line).collect()
}

fn comma_separated(environment: &Environment, records: &[Record]) -> Result<String> {
    let failed = |error: csv::Error| Error::Failed(format!("the result cannot be written as CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let origin = origin(environment);
    let headings = [
        "case",
        "sizes",
        "median_s",
        "min_s",
        "max_s",
        "spread",
        "repetitions",
        "units",
        "flop",
        "bytes",
        "gflop_per_s",
        "gb_per_s",
        "bound",
        "fraction_of_ceiling",
        "samples_per_s",
        "calls",
        "variant",
        "share",
    ];
    writer.write_record(headings.into_iter().chain(origin.iter().map(|(key, _)| *key))).map_err(failed)?;
    for record in records {
        let Record { seconds, part, .. } = record;
        let or_nothing = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let cells = [
            record.case.clone(),
            record.sizes.clone(),
            seconds.median.to_string(),
            seconds.min.to_string(),
            seconds.max.to_string(),
            seconds.spread.to_string(),
            seconds.repetitions.to_string(),
            seconds.units.to_string(),
            record.needed_flop.to_string(),
            record.needed_bytes.to_string(),
            record.gflop_per_second.to_string(),
            record.gb_per_second.to_string(),
            record.bound.map_or_else(String::new, |_| bound(record)),
            or_nothing(record.fraction_of_ceiling),
            or_nothing(record.samples_per_second),
            part.as_ref().map_or_else(String::new, |part| part.calls.to_string()),
            part.as_ref().map_or_else(String::new, |part| part.variant.clone()),
            or_nothing(part.as_ref().map(|part| part.share)),
        ];
        writer.write_record(cells.iter().chain(origin.iter().map(|(_, value)| value))).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::Failed(format!("the result is no CSV: {error}")))?;
    String::from_utf8(bytes).map_err(|error| Error::Failed(format!("the result is no text: {error}")))
}
