//! Named experiments: each trains its models within a budget of time and leaves a table and pictures in a folder.
//!
//! An experiment is one function `fn run(context: &Context) -> Result<Report>` behind a variant of [`Experiment`]. It cuts
//! its work into parts ([`Context::part`]) with shares of the budget. What a finished part gave is kept in the folder, so
//! that an experiment which was interrupted goes on with the part it was at:
//!
//! ```text
//! OUT/experiment.json      what is reproduced: name, seed, budget, data; the same when it is resumed
//! OUT/parts/NAME.json      what each finished part gave
//! OUT/models/NAME.safetensors   checkpoints, for `arcsm sample`, `evaluate` and the others
//! OUT/report.{md,json}     tables, and the pictures that they name
//! ```

mod classifier;
pub mod demo;
mod denoise;
mod images;
mod mnist;
mod ood;
mod report;
mod scaling;
mod toy_2d;
mod training;

use std::cell::{Cell as Shared, RefCell};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::report::{Cell, Report, Table};
pub use self::training::TrainedPart;
use crate::bench::Environment;
use crate::error::{Error, Result};
use crate::files;
use crate::files::lock::Lock;
use crate::gpu::Gpu;

/// What can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Experiment {
    /// Known densities in the plane: KL and total variation of every head and objective
    #[value(name = "toy-2d")]
    #[serde(rename = "toy-2d")]
    Toy2d,
    /// Images: nats, Frechet distance and speed of every head and objective, and every sampler
    Mnist,
    /// Images with noise of 0.6: one step of denoising against the causal optimum
    #[value(name = "denoise-0.6")]
    #[serde(rename = "denoise-0.6")]
    Denoise,
    /// Outliers told from images by every statistic
    Ood,
    /// The small classifier on whose features Frechet distances are taken
    Classifier,
    /// Losses of score matching as the dimension grows: value, gradient noise, time of a step
    Scaling,
}

impl Experiment {
    /// As it is typed.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Budget that gives usable numbers on two CPU cores, min.
    pub fn default_minutes(self) -> f64 {
        match self {
            Self::Toy2d => 60.0,
            Self::Mnist => 120.0,
            Self::Denoise => 15.0,
            Self::Ood => 30.0,
            Self::Classifier => 2.0,
            Self::Scaling => 10.0,
        }
    }

    /// Flags that mean something to it, of those that not all experiments have.
    fn used_flags(self) -> &'static [&'static str] {
        match self {
            Self::Toy2d => &["--only"],
            Self::Mnist => &["--data", "--features", "--only"],
            Self::Ood => &["--data", "--outliers"],
            Self::Denoise | Self::Classifier => &["--data"],
            Self::Scaling => &["--only"],
        }
    }

    fn run(self, context: &Context<'_>) -> Result<Report> {
        match self {
            Self::Toy2d => toy_2d::run(context),
            Self::Mnist => mnist::run(context),
            Self::Denoise => denoise::run(context),
            Self::Ood => ood::run(context),
            Self::Classifier => classifier::run(context),
            Self::Scaling => scaling::run(context),
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Which experiment.
    pub experiment: Experiment,
    /// Time for all of it, min: training takes what measuring leaves.
    pub minutes: f64,
    /// Seed of data, initialisation, noise and samples.
    pub seed: u64,
    /// Data SPEC, where the experiment asks for data; else the embedded digits.
    pub data: Option<String>,
    /// Data SPECs of outliers, for the experiment that finds them.
    pub outliers: Vec<String>,
    /// Classifier whose features the Frechet distance is taken of, where it is not one of the embedded ones.
    pub features: Option<PathBuf>,
    /// Models to train, where it is not all of them: each entry names those in whose name all of its words are.
    pub only: Vec<String>,
    /// The command, for the texts of pictures.
    #[serde(skip)]
    pub command: String,
}

/// What is told while an experiment runs.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Share of the budget that is used up, 0 to 1.
    pub share: f64,
    /// Time left at most, s.
    pub seconds_left: f64,
    /// The part at work.
    pub part: &'a str,
    /// What it does.
    pub doing: &'a str,
}

/// Sees progress.
pub type Observe<'a> = dyn FnMut(Progress<'_>) + 'a;

/// What an experiment works with.
pub struct Context<'a> {
    /// The adapter.
    pub gpu: &'a Gpu,
    /// What was asked for.
    pub request: &'a Request,
    /// Folder of everything that is written.
    pub out: &'a Path,
    stop: &'a AtomicBool,
    observe: RefCell<&'a mut Observe<'a>>,
    /// Share of the budget that finished parts had.
    finished: Shared<f64>,
    start: Instant,
}

/// A part of an experiment at work.
pub struct Part<'a, 'c> {
    context: &'a Context<'c>,
    name: &'a str,
    share: f64,
    start: Instant,
}

/// Runs an experiment into a folder and writes its report there.
///
/// # Errors
/// A folder that holds something else, or the same without `resume`; bad input; whatever training and sampling report;
/// [`Error::Interrupted`] once `stop` is set, with everything kept that was finished.
pub fn reproduce<'a>(
    gpu: &'a Gpu,
    request: &'a Request,
    out: &'a Path,
    resume: bool,
    stop: &'a AtomicBool,
    observe: &'a mut Observe<'a>,
) -> Result<Report> {
    let context = Context {
        gpu,
        request,
        out,
        stop,
        observe: RefCell::new(observe),
        finished: Shared::new(0.0),
        start: Instant::now(),
    };
    context.refuse_unused(request.experiment.used_flags())?;
    let _lock = open_folder(request, out, resume)?;
    let mut report = request.experiment.run(&context)?;
    report.experiment = request.experiment.name();
    report.request = Some(request.clone());
    report.environment = Some(Environment::of(gpu));
    report.seconds = context.start.elapsed().as_secs_f64();
    report.write(out)?;
    Ok(report)
}

/// Makes sure that what lies in the folder belongs to this very experiment, and that no other process works there as long as
/// the lock is held.
fn open_folder(request: &Request, out: &Path, resume: bool) -> Result<Lock> {
    let path = out.join("experiment.json");
    let subject = || out.display().to_string();
    if resume && !path.exists() {
        return Err(Error::input(subject(), "holds no experiment to go on with", "Leave --resume out"));
    }
    files::check_writable(&path)?;
    let lock = Lock::take(out)?;
    let Ok(text) = std::fs::read_to_string(&path) else {
        write_json(&path, request)?;
        return Ok(lock);
    };
    // Flags that an experiment refuses are found out when it starts, with nothing done.
    let is_begun = ["parts", "models"].iter().any(|part| out.join(part).exists());
    if !resume && !is_begun {
        write_json(&path, request)?;
        return Ok(lock);
    }
    if !resume {
        let remedy = "Go on with --resume, or give another folder";
        return Err(Error::input(subject(), "holds an experiment already", remedy));
    }
    let earlier: Option<Request> = serde_json::from_str(&text).ok();
    let same = earlier.is_some_and(|earlier| Request { command: request.command.clone(), ..earlier } == *request);
    if !same {
        let problem = "holds another experiment, or one with other settings";
        return Err(Error::input(subject(), problem, "Resume with the same flags, or give another folder"));
    }
    for part in ["", "parts", "models"] {
        files::remove_unfinished(&out.join(part))?;
    }
    Ok(lock)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    files::write_atomically(path, |file| Ok(serde_json::to_writer_pretty(file, value)?))
}

/// The words of a name with nothing in them that a file's name must not have.
fn file_stem(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

impl Context<'_> {
    /// The whole budget, s.
    pub fn seconds(&self) -> f64 {
        60.0 * self.request.minutes
    }

    /// Whether the user wants a model of this name.
    pub fn wants(&self, name: &str) -> bool {
        let has_words =
            |entry: &String| entry.split_whitespace().all(|word| name.split_whitespace().any(|w| w == word));
        self.request.only.is_empty() || self.request.only.iter().any(has_words)
    }

    /// Refuses what an experiment has no use for.
    ///
    /// # Errors
    /// Bad input: the flag that was given.
    fn refuse_unused(&self, used: &[&str]) -> Result<()> {
        let request = self.request;
        let given = [
            ("--data", request.data.is_some()),
            ("--outliers", !request.outliers.is_empty()),
            ("--features", request.features.is_some()),
            ("--only", !request.only.is_empty()),
        ];
        match given.iter().find(|(flag, given)| *given && !used.contains(flag)) {
            None => Ok(()),
            Some((flag, _)) => {
                let problem = format!("means nothing to {}", request.experiment.name());
                Err(Error::input(*flag, problem, "Leave it out"))
            }
        }
    }

    /// Ends the experiment when the user wants it to.
    ///
    /// # Errors
    /// [`Error::Interrupted`] with the hint how to go on.
    pub fn check_stop(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::Interrupted("finished parts are kept. Go on with the same command and --resume".into())),
        }
    }

    /// Does a part of the work, or takes what it gave before an interruption. `share` of the budget is for it; all parts
    /// together have 1. Names must differ.
    ///
    /// # Errors
    /// Those of `work`, [`Error::Interrupted`], and a file that cannot be written.
    pub fn part<T>(&self, name: &str, share: f64, work: impl FnOnce(&Part<'_, '_>) -> Result<T>) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let path = self.out.join("parts").join(format!("{}.json", file_stem(name)));
        let kept = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
        let result = match kept {
            Some(result) => result,
            None => {
                self.check_stop()?;
                let part = Part { context: self, name, share, start: Instant::now() };
                part.progress(0.0, "starts");
                let result = work(&part)?;
                files::write_atomically(&path, |file| Ok(serde_json::to_writer(file, &result)?))?;
                result
            }
        };
        self.finished.set(self.finished.get() + share);
        Ok(result)
    }

    /// Entries for the text chunks of a picture.
    pub fn png_text(&self) -> Vec<(&'static str, String)> {
        vec![("arcsm:command", self.request.command.clone()), ("arcsm:seed", self.request.seed.to_string())]
    }
}

impl<'c> Part<'_, 'c> {
    /// The experiment that it belongs to.
    pub fn context(&self) -> &Context<'c> {
        self.context
    }

    /// Its share of the budget, s.
    pub fn seconds(&self) -> f64 {
        self.share * self.context.seconds()
    }

    /// What is left of that, s; never negative.
    pub fn seconds_left(&self) -> f64 {
        (self.seconds() - self.start.elapsed().as_secs_f64()).max(0.0)
    }

    /// Tells that this share of the part is done.
    pub fn progress(&self, done: f64, doing: &str) {
        let share = (self.context.finished.get() + self.share * done).clamp(0.0, 1.0);
        let seconds_left = (1.0 - share) * self.context.seconds();
        (self.context.observe.borrow_mut())(Progress { share, seconds_left, part: self.name, doing });
    }
}
