//! The command line: one file a subcommand. Each parses its flags, checks everything, and only then works.
//!
//! Results go to stdout, everything else to stderr. Failures end in one line on stderr and a documented exit status.

mod adapters;
mod bench;
mod console;
mod demo;
mod denoise;
mod detect;
mod doctor;
#[cfg(test)]
mod documents;
mod evaluate;
mod import;
mod inpaint;
mod inputs;
mod reproduce;
mod sample;
mod score;
mod settings;
mod train;

use std::error::Error as _;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use tracing_subscriber::EnvFilter;

use self::console::{Console, tell};
use crate::ask::trained::Trained;
use crate::error::{Error, Result};
use crate::files::shell_word;
use crate::files::tuning::TuningFile;
use crate::gpu::{AdapterChoice, Gpu, GpuOptions, Needs, is_device_left};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("ARCSM_COMMIT"), ")");

/// What stands below the flags of a command's help: its examples, and what its exit status says.
macro_rules! after_help {
    ($examples:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit status:\n",
            "  0  done                      3  no GPU, or it failed\n",
            "  1  failed while running      4  a number is not finite, or cannot be right\n",
            "  2  bad input                 130  interrupted; a run can be resumed"
        )
    };
}
use after_help;

/// Learn the density of images, tables or points on any GPU, and draw new ones
///
/// arcsm trains autoregressive conditional score models with handwritten WGSL shaders on any Vulkan, Metal or DX12
/// adapter; a software Vulkan driver will do. Start with `arcsm demo`.
#[derive(Debug, Parser)]
#[command(name = "arcsm", version = VERSION, after_help = after_help!(
    "  arcsm demo                                             see it work, in less than three minutes\n  \
       arcsm train --data mnist:data/mnist --out runs/mnist   learn MNIST\n  \
       arcsm sample --checkpoint runs/mnist/checkpoints/last.safetensors --count 64 --out grid.png"
))]
struct Arcsm {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Demo(demo::Demo),
    Train(Box<train::Train>),
    Sample(sample::Sample),
    Score(score::Score),
    Evaluate(evaluate::Evaluate),
    Denoise(denoise::Denoise),
    Inpaint(inpaint::Inpaint),
    Detect(detect::Detect),
    Reproduce(reproduce::Reproduce),
    Import(import::Import),
    Adapters(adapters::Adapters),
    Doctor(doctor::Doctor),
}

/// An executable with one task: `arcsm-sample`, `arcsm-bench`.
#[derive(Debug, Parser)]
#[command(version = VERSION)]
struct Single<T: clap::Args> {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    task: T,
}

/// Flags that every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Print one JSON object to stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Which GPU: its number in `arcsm adapters`, or a part of its name [default: the best one]
    #[arg(long, global = true, value_name = "NAME|INDEX", env = "WGPU_ADAPTER_NAME")]
    adapter: Option<String>,
    /// Milliseconds that one submission to the GPU should take at most; less keeps a display responsive
    #[arg(long, global = true, value_name = "MS", default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    gpu_budget_ms: u64,
    /// Run no variant of a kernel that needs more of the adapter than this [default: the fastest, see arcsm-bench --tune]
    #[arg(long, global = true, value_enum, value_name = "KIND")]
    variant: Option<VariantKind>,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// Variants of kernels, by what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VariantKind {
    /// Nothing that WebGPU does not promise
    Baseline,
    /// The same, sharing through workgroup memory: for hardware adapters
    Workgroup,
    /// A software adapter with subgroups of eight
    CpuSubgroups,
    /// The same, and matrices that are read as textures
    CpuTextures,
    /// The same, for networks that fit private memory
    #[value(alias = "cpu")]
    CpuPrivate,
}

impl VariantKind {
    fn needs(self) -> Needs {
        match self {
            Self::Baseline => Needs::Baseline,
            Self::Workgroup => Needs::Workgroup,
            Self::CpuSubgroups => Needs::CpuSubgroups,
            Self::CpuTextures => Needs::CpuTextures,
            Self::CpuPrivate => Needs::CpuPrivate,
        }
    }
}

/// One run of one command: where to talk, and which GPU.
struct Session<'a> {
    global: &'a Global,
    console: Console,
}

/// What a subcommand does.
trait Task {
    fn run(&self, session: &Session<'_>) -> Result<()>;
}

impl Task for Command {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        match self {
            Self::Demo(task) => task.run(session),
            Self::Train(task) => task.run(session),
            Self::Sample(task) => task.run(session),
            Self::Score(task) => task.run(session),
            Self::Evaluate(task) => task.run(session),
            Self::Denoise(task) => task.run(session),
            Self::Inpaint(task) => task.run(session),
            Self::Detect(task) => task.run(session),
            Self::Reproduce(task) => task.run(session),
            Self::Import(task) => task.run(session),
            Self::Adapters(task) => task.run(session),
            Self::Doctor(task) => task.run(session),
        }
    }
}

/// The executable `arcsm`.
pub fn arcsm() -> ExitCode {
    let Arcsm { global, command } = Arcsm::parse();
    run(&global, &command)
}

/// The executable `arcsm-sample`: `arcsm sample` under its own name.
pub fn arcsm_sample() -> ExitCode {
    run_single::<sample::Sample>("arcsm-sample")
}

/// The executable `arcsm-bench`.
pub fn arcsm_bench() -> ExitCode {
    run_single::<bench::Bench>("arcsm-bench")
}

fn run_single<T: clap::Args + Task>(name: &'static str) -> ExitCode {
    let matches = Single::<T>::command().name(name).get_matches();
    let Single { global, task } = Single::<T>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    run(&global, &task)
}

fn run(global: &Global, task: &impl Task) -> ExitCode {
    show_log(global.verbose);
    let session = Session { global, console: Console::new(global) };
    let status = match task.run(&session) {
        Ok(()) => 0,
        Err(error) => {
            session.console.error(&cause_chain(&error));
            error.exit_status()
        }
    };
    if is_device_left() {
        // Nobody may be listening any more, and there is no other place to say so.
        let _ = std::io::stdout().flush();
        end_at_once(status);
    }
    ExitCode::from(status)
}

/// Ends the process while a driver may be at work: for a device that was left behind, or in the middle of a command. At a usual end
/// libraries clean up, LLVM for one; a driver that compiles meanwhile would be at work on what is gone, and the status that of a
/// crash.
fn end_at_once(status: u8) -> ! {
    #[cfg(unix)]
    #[allow(unsafe_code, reason = "the standard library has no end without the clean-up of libraries")]
    // SAFETY: takes a number and does not come back; what is written is written to files under other names until it is whole.
    unsafe {
        libc::_exit(status.into())
    }
    #[cfg(not(unix))]
    std::process::exit(status.into())
}

/// Sends the log to stderr, wgpu's too: what RUST_LOG asks for, with --verbose this crate's debug messages, and where wgpu is
/// told to validate (WGPU_VALIDATION=1) what that finds.
fn show_log(verbose: bool) {
    let validates = ["WGPU_VALIDATION", "WGPU_GPU_BASED_VALIDATION"].iter().any(|name| is_on(std::env::var_os(name)));
    let default = match (verbose, validates) {
        (true, _) => "warn,arcsm=debug",
        (false, true) => "warn",
        (false, false) => "off",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // What the log cannot write it would tell by a macro that panics where stderr is at fault.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // A second call, as in tests, keeps the first.
    let _ = log.without_time().try_init();
}

/// Whether a variable switches something on, by wgpu's reading of it.
fn is_on(variable: Option<std::ffi::OsString>) -> bool {
    variable.is_some_and(|value| value != "0")
}

/// The error with those of its causes that it does not already quote.
fn cause_chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

impl Session<'_> {
    /// Loads a checkpoint or the best of a run's folder, and tells what should be known of it.
    fn load(&self, gpu: &Gpu, path: &Path) -> Result<Trained> {
        let trained = Trained::load(gpu, path)?;
        trained.note.iter().for_each(|note| self.console.warn(note));
        Ok(trained)
    }

    /// Opens the adapter and says which one it is.
    fn open_gpu(&self) -> Result<Gpu> {
        self.open_gpu_with(GpuOptions::default())
    }

    /// The same with options; adapter and time budget are always those of the flags.
    fn open_gpu_with(&self, options: GpuOptions) -> Result<Gpu> {
        let adapter = AdapterChoice::from_flag(self.global.adapter.as_deref());
        let budget = Some(Duration::from_millis(self.global.gpu_budget_ms));
        let variant = options.variant.or(self.global.variant.map(VariantKind::needs));
        let gpu = Gpu::open(GpuOptions { adapter, budget, variant, ..options })?;
        if let Some(needs) = variant.filter(|&needs| !gpu.offers(needs)) {
            let problem = format!("{} does not offer what {needs} kernels need", gpu.adapter().name);
            return Err(Error::input("--variant", problem, "Leave it out, or give `baseline`"));
        }
        let gpu = self.tuned(gpu);
        let summary = gpu.adapter();
        self.console.note(&format!("adapter: {}, {}, {}", summary.name, summary.backend, summary.driver));
        if summary.software {
            self.console.warn("this adapter computes on the CPU; `arcsm adapters` tells how to find a GPU");
        }
        if cfg!(debug_assertions) {
            self.console.warn("this is a debug build; `cargo build --release` gives a much faster one");
        }
        Ok(gpu)
    }

    /// With what is remembered of the adapter; a memory that is of no use is told of and left aside.
    fn tuned(&self, gpu: Gpu) -> Gpu {
        match TuningFile::of_user().map(|file| file.load(gpu.adapter())) {
            Some(Ok(tuning)) => gpu.tuned(tuning),
            Some(Err(error)) => {
                self.console.warn(&error.to_string());
                gpu
            }
            None => gpu,
        }
    }
}

/// A flag that the first Ctrl-C (or SIGTERM, or SIGHUP of a terminal that is closed) sets; the second one ends the program at once.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let watching = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            end_at_once(130);
        }
        tell("\nstopping after this step; Ctrl-C again stops at once");
    });
    watching.map_err(|error| Error::Failed(format!("cannot watch for Ctrl-C: {error}")))?;
    Ok(stop)
}

/// The command as it was typed, for the files that it makes; quoted so that a POSIX shell takes it back.
fn command_line() -> String {
    let mut words: Vec<String> = std::env::args_os().map(|word| shell_word(&word.to_string_lossy())).collect();
    if let Some(program) = words.first_mut()
        && let Some(stem) = std::path::Path::new(&*program).file_stem()
    {
        *program = stem.to_string_lossy().into_owned();
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_every_executable_are_consistent() {
        Arcsm::command().debug_assert();
        Single::<sample::Sample>::command().debug_assert();
        Single::<bench::Bench>::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::file("write", std::path::Path::new("a.png"), full, "Free some space");
        assert_eq!(cause_chain(&error), error.to_string());
    }
}
