//! `arcsm detect`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::console::table;
use super::evaluate::{headings, place};
use super::inputs::{Wanted, load, load_data};
use super::{Session, Task, after_help, command_line};
use crate::ask::denoise::check_sigma;
use crate::ask::detect::{DetectRequest, Detector, Measures, Synthetic, auroc, false_positive_rate, measure};
use crate::ask::trained::Trained;
use crate::data::{Dataset, spec_of_file};
use crate::error::{Error, Result};
use crate::files::image_grid::check_picture;
use crate::files::plot::{Histogram, histograms};
use crate::files::{check_writable, write_atomically};
use crate::gpu::Gpu;

/// Samples of a set that are told from others at least.
const FEWEST_COUNT: u32 = 8;
/// Held-out inliers that are needed at least: half of them to learn what inliers have, half to be told from outliers.
const FEWEST_INLIERS: usize = 16;
/// Samples of each set, unless the user says.
const SAMPLES: u32 = 256;
/// Samples like those of training that say what is usual, and those that say where the threshold lies: at most and at least.
const MOST_USUAL: usize = 2000;
const FEWEST_USUAL: usize = 100;
/// Samples of a ranking that are shown.
const SHOWN: usize = 10;
/// Share of the inliers that pass where the false positive rate is taken.
const KEPT: f64 = 0.95;

/// Rank samples by how unusual they are, or say how well outliers of a known kind are told from inliers
///
/// With --data or --input each sample gets a score, and a threshold that the given share of the held-out samples of the
/// training data stays below.
///
/// With --outliers one half of the inliers' held-out samples says what inliers have, the other half is to be told from the outliers.
/// AUROC is the probability that an outlier scores above an inlier; FPR@95 the share of outliers that pass for inliers
/// where 95 % of the inliers pass. Statistics of one side only fail on outliers that are smoother than any inlier:
/// `typicality` and the distances are two-sided; `distance, levels and parts` combines them all and is the one to use where
/// the outliers are not known.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm detect --checkpoint runs/table --data csv:new.csv --csv scores.csv\n  \
       arcsm detect --checkpoint runs/mnist --outliers idx:fashion/t10k-images-idx3-ubyte.gz\n  \
       arcsm detect --checkpoint C --outliers noise --outliers black --outliers transposed --out h.png --csv values.csv\n  \
       arcsm detect --checkpoint C --inliers npy:good.npy --outliers npy:odd.npy --count 1000 --json"
))]
pub(super) struct Detect {
    /// Checkpoint of the model, or the folder of a run: its best
    #[arg(long, value_name = "FILE|RUN")]
    checkpoint: PathBuf,
    /// Samples to rank, all of them in the order of their file
    #[arg(long, value_name = "SPEC", conflicts_with = "outliers")]
    data: Option<String>,
    /// The same of a file: .npy, .npz, .csv, or a folder of pictures
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "outliers"])]
    input: Option<PathBuf>,
    /// Share of the held-out samples that stay below the threshold
    #[arg(long, value_name = "Q", default_value_t = 0.99)]
    quantile: f64,
    /// Data of the kind that the model was trained on [default: the data that it was trained on]
    #[arg(long, value_name = "SPEC")]
    inliers: Option<String>,
    /// Outliers, as often as you like: a data SPEC, or noise, constants, black, inverted, transposed, permuted, letters
    #[arg(long, value_name = "SPEC|NAME")]
    outliers: Vec<String>,
    /// Samples of each set [default: 256; of --data and --input all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Noise levels at which scores are taken [default: five of the model's range]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', allow_negative_numbers = true)]
    sigma: Option<Vec<f32>>,
    /// Go on with noise levels that the model was not trained on
    #[arg(long)]
    force: bool,
    /// Falling noise levels of the likelihood [default: those of the sampler]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    levels: Option<Vec<f32>>,
    /// Grid points that stand for one noise level of the likelihood [default: 3]
    #[arg(long, value_name = "R")]
    resolution: Option<f32>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Histograms to write: .png or .jpg
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Statistics of every sample to write
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
}

/// A named set with its samples or its statistics.
struct Set<T> {
    name: String,
    content: T,
}

impl Task for Detect {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        self.out.as_deref().map_or(Ok(()), check_picture)?;
        self.csv.as_deref().map_or(Ok(()), check_writable)?;
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            let problem = format!("is {}, which is no share between 0 and 1", self.quantile);
            return Err(Error::input("--quantile", problem, "Give 0.99, for instance"));
        }
        let ranks = self.data.is_some() || self.input.is_some();
        if self.outliers.is_empty() && !ranks {
            let remedy = "Give samples to rank with --data SPEC, or known outliers with --outliers SPEC";
            return Err(Error::input("--data", "is missing, there is nothing to detect", remedy));
        }
        let gpu = session.open_gpu()?;
        let trained = session.load(&gpu, &self.checkpoint)?;
        let request = self.request(session, &trained)?;
        if ranks {
            return self.rank(session, &gpu, &trained, &request);
        }
        let sets = self.sets(session, &trained)?;
        let measured = measure_sets(session, &gpu, &trained, &request, sets)?;
        let mut measured = measured.into_iter();
        let reference = measured.next().expect("the inliers are the first two sets");
        let detector = Detector::new(&request.sigmas, &reference.content);
        let sets: Vec<Set<Vec<Vec<f64>>>> =
            measured.map(|set| Set { content: detector.statistics(&set.content), name: set.name }).collect();
        self.write(&trained, &detector.names(), &sets)?;
        let (text, statistics) = report(&detector.names(), &sets);
        let files: Vec<_> = [&self.out, &self.csv].into_iter().flatten().collect();
        let counts = sets.iter().map(|set| (set.name.clone(), json!(set.content.len())));
        let object = json!({
            "statistics": statistics,
            "sets": counts.collect::<serde_json::Map<_, _>>(),
            "reference": reference.content.len(),
            "sigma": request.sigmas,
            "levels": request.levels,
            "resolution": request.resolution,
            "seed": self.seed,
            "files": files,
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }
}

impl Detect {
    fn request(&self, session: &Session<'_>, trained: &Trained) -> Result<DetectRequest> {
        let mut request = DetectRequest { seed: self.seed, ..DetectRequest::new(trained)? };
        if let Some(sigmas) = &self.sigma {
            if sigmas.is_empty() || !sigmas.iter().all(|sigma| sigma.is_finite() && *sigma > 0.0) {
                return Err(Error::input("--sigma", format!("holds {sigmas:?}"), "Give positive noise levels"));
            }
            request.sigmas.clone_from(sigmas);
            request.sigmas.sort_by(f32::total_cmp);
            request.sigmas.dedup();
        }
        for &sigma in &request.sigmas {
            match check_sigma(trained, sigma) {
                Err(error) if self.force => session.console.warn(&error.to_string()),
                outcome => outcome?,
            }
        }
        request.levels = self.levels.clone().unwrap_or(request.levels);
        request.resolution = self.resolution.unwrap_or(request.resolution);
        Ok(request)
    }

    /// Scores of samples that nobody has judged, with the threshold that the held-out samples give.
    fn rank(&self, session: &Session<'_>, gpu: &Gpu, trained: &Trained, request: &DetectRequest) -> Result<()> {
        let of_file = self.input.as_deref().map(spec_of_file);
        let data = of_file.as_deref().or(self.data.as_deref());
        let asked = load(session, trained, Wanted { data, count: self.count, whole: true, ..Wanted::default() })?;
        let [reference, usual] = usual_samples(&load_data(self.inliers.as_deref(), trained)?)?;
        let names = ["reference", "usual", &asked.name];
        let sets = names.into_iter().zip([reference, usual, asked.x.clone()]);
        let sets = sets.map(|(name, content)| Set { name: name.into(), content }).collect();
        let measured = measure_sets(session, gpu, trained, request, sets)?;
        let detector = Detector::new(&request.sigmas, &measured[0].content);
        let [usual, ranked] = [1, 2].map(|set: usize| detector.statistics(&measured[set].content));
        let score = detector.combined();
        let threshold = quantile(usual.iter().map(|row| row[score]).collect(), self.quantile);
        let labels = asked.labels.as_deref();
        if let Some(path) = &self.csv {
            write_ranks(path, &detector.names(), labels, &ranked, threshold)?;
        }
        if let Some(path) = &self.out {
            let sets = [("usual", &usual), (short(&asked.name), &ranked)];
            let sets = sets.map(|(name, rows)| Set { name: name.into(), content: rows.clone() });
            self.draw(path, trained, &detector.names(), &sets)?;
        }
        let mut order: Vec<usize> = (0..ranked.len()).collect();
        order.sort_by(|&a, &b| ranked[b][score].total_cmp(&ranked[a][score]));
        let above = ranked.iter().filter(|row| row[score] > threshold).count();
        let rows: Vec<_> = order
            .iter()
            .take(SHOWN)
            .map(|&n| {
                let verdict = if ranked[n][score] > threshold { "outlier" } else { "" };
                [place(labels, n).collect::<Vec<_>>().join(" "), format!("{:.3}", ranked[n][score]), verdict.into()]
            })
            .collect();
        let text = format!(
            "{above} of {} samples of {} score above {threshold:.3}, which {} of the held-out samples of the training data stay \
             below\nscore: {}; the first {} of the ranking:\n{}",
            ranked.len(),
            asked.name,
            format_args!("{} %", 100.0 * self.quantile),
            detector.names()[score],
            rows.len(),
            table(["sample", "score", ""], &rows),
        );
        let files: Vec<_> = [&self.out, &self.csv].into_iter().flatten().collect();
        let object = json!({
            "data": asked.name,
            "samples": ranked.len(),
            "statistic": detector.names()[score],
            "quantile": self.quantile,
            "threshold": threshold,
            "outliers": above,
            "scores": ranked.iter().map(|row| row[score]).collect::<Vec<_>>(),
            "ranking": order,
            "files": files,
            "seed": self.seed,
            "checkpoint": self.checkpoint.to_string_lossy(),
            "fingerprint": trained.fingerprint,
            "adapter": gpu.adapter(),
        });
        session.console.result(&text, &object)
    }

    /// The inliers that say what inliers have, those that are told from outliers, and the sets of outliers.
    fn sets(&self, session: &Session<'_>, trained: &Trained) -> Result<Vec<Set<Vec<f32>>>> {
        let data = load_data(self.inliers.as_deref(), trained)?;
        if data.held_out.len() < FEWEST_INLIERS {
            let problem = format!("has {} held-out samples, at least {FEWEST_INLIERS} are needed", data.held_out.len());
            return Err(Error::input(data.name, problem, "Give more inliers"));
        }
        let wanted = self.count.unwrap_or(SAMPLES);
        if wanted < FEWEST_COUNT {
            let problem = format!("is {wanted}, sets of fewer than {FEWEST_COUNT} say nothing of each other");
            return Err(Error::input("--count", problem, "Give more, or rank samples by --data or --input"));
        }
        let count = (wanted as usize).min(data.held_out.len() / 2);
        let mut reference = data.held_out.first(2 * count)?;
        let inliers = reference.split_off(count * data.shape.dimensions());
        let mut sets = vec![Set { name: "reference".into(), content: reference }];
        sets.push(Set { name: data.name.clone(), content: inliers });
        for name in &self.outliers {
            let content = match Synthetic::of_name(name) {
                Some(synthetic) => {
                    let range = trained.config.model.score.range.unwrap_or([0.0, 1.0]);
                    synthetic.of_inliers(&sets[1].content, data.shape, range, self.seed)?
                }
                None => {
                    load(session, trained, Wanted { data: Some(name), count: Some(wanted), ..Wanted::default() })?.x
                }
            };
            sets.push(Set { name: name.clone(), content });
        }
        Ok(sets)
    }

    fn write(&self, trained: &Trained, names: &[String], sets: &[Set<Vec<Vec<f64>>>]) -> Result<()> {
        if let Some(path) = &self.csv {
            write_csv(path, names, sets)?;
        }
        self.out.as_ref().map_or(Ok(()), |path| self.draw(path, trained, names, sets))
    }

    fn draw(&self, path: &Path, trained: &Trained, names: &[String], sets: &[Set<Vec<Vec<f64>>>]) -> Result<()> {
        let panels: Vec<Histogram<'_>> = names
            .iter()
            .enumerate()
            .map(|(at, name)| Histogram {
                title: name.clone(),
                sets: sets.iter().map(|set| (short(&set.name), column(set, at))).collect(),
            })
            .collect();
        let text = [
            ("Software", format!("arcsm {}", super::VERSION)),
            ("arcsm:command", command_line()),
            ("arcsm:seed", self.seed.to_string()),
            ("arcsm:checkpoint", trained.fingerprint.clone()),
        ];
        histograms(path, &panels, "statistics of inliers (area) and outliers (lines)", &text)
    }
}

/// Measures all sets as one: full batches are what costs least.
fn measure_sets(
    session: &Session<'_>,
    gpu: &Gpu,
    trained: &Trained,
    request: &DetectRequest,
    sets: Vec<Set<Vec<f32>>>,
) -> Result<Vec<Set<Measures>>> {
    let together: Vec<f32> = sets.iter().flat_map(|set| &set.content).copied().collect();
    let mut progress = session.console.progress();
    let measured = measure(gpu, trained, &together, request, &mut |share| {
        progress.show((100.0 * share) as u64, 100, || "percent".into());
    });
    progress.finish();
    let mut rest = measured?;
    let of_set = |set: Set<Vec<f32>>| Set {
        content: rest.split_front(set.content.len() / trained.model.dimensions()),
        name: set.name,
    };
    Ok(sets.into_iter().map(of_set).collect())
}

/// Two sets of samples like those of training: the held-out ones, one half each, filled up with training samples where
/// there are few.
fn usual_samples(data: &Dataset) -> Result<[Vec<f32>; 2]> {
    let half = (data.held_out.len() / 2).min(MOST_USUAL);
    let mut reference = data.held_out.first(2 * half)?;
    let mut usual = reference.split_off(half * data.shape.dimensions());
    let missing = (FEWEST_USUAL.saturating_sub(half)).min(data.train.len() / 2);
    if missing > 0 {
        let mut more = data.train.first(2 * missing)?;
        usual.extend(more.split_off(missing * data.shape.dimensions()));
        reference.extend(more);
    }
    Ok([reference, usual])
}

/// The value that a share of the others stays below, between order statistics.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = share * (values.len() - 1) as f64;
    let (below, rest) = (values[at.floor() as usize], at.fract());
    below + rest * (values[at.ceil() as usize] - below)
}

fn write_ranks(
    path: &Path,
    names: &[String],
    labels: Option<&[String]>,
    ranked: &[Vec<f64>],
    threshold: f64,
) -> Result<()> {
    let score = names.len() - 1;
    let names: Vec<&str> = ["score", "outlier"].into_iter().chain(names[..score].iter().map(String::as_str)).collect();
    write_atomically(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(headings(labels, &names))?;
        for (n, row) in ranked.iter().enumerate() {
            let verdict = [row[score].to_string(), u8::from(row[score] > threshold).to_string()];
            writer.write_record(place(labels, n).chain(verdict).chain(row[..score].iter().map(f64::to_string)))?;
        }
        writer.flush()
    })
}

fn column(set: &Set<Vec<Vec<f64>>>, at: usize) -> Vec<f64> {
    set.content.iter().map(|row| row[at]).collect()
}

/// The name without folders: `idx:a/b/c` becomes `c`.
fn short(name: &str) -> &str {
    let last = name.rsplit(['/', ':']).next().unwrap_or(name);
    if last.is_empty() { name } else { last }
}

fn write_csv(path: &Path, names: &[String], sets: &[Set<Vec<Vec<f64>>>]) -> Result<()> {
    write_atomically(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(["set", "sample"].into_iter().chain(names.iter().map(String::as_str)))?;
        for set in sets {
            for (number, row) in set.content.iter().enumerate() {
                let cells = [set.name.clone(), number.to_string()].into_iter();
                writer.write_record(cells.chain(row.iter().map(f64::to_string)))?;
            }
        }
        writer.flush()
    })
}

/// A table for people, and for programs a list with AUROC and FPR@95 of every statistic for every set of outliers.
fn report(names: &[String], sets: &[Set<Vec<Vec<f64>>>]) -> (String, Vec<Value>) {
    let (inliers, outliers) = sets.split_first().expect("there are inliers");
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let of_inliers = column(inliers, at);
        let of_set = |set: &Set<Vec<Vec<f64>>>| {
            let values = column(set, at);
            (auroc(&of_inliers, &values), false_positive_rate(&of_inliers, &values, KEPT))
        };
        let results: Vec<(f64, f64)> = outliers.iter().map(of_set).collect();
        let worst = results.iter().map(|(area, _)| *area).fold(f64::INFINITY, f64::min);
        let cells = results.iter().map(|(area, rate)| format!("{area:>8.3} {rate:>6.3}"));
        rows.push(format!("{name:<26}{}  {worst:.3}", cells.collect::<Vec<_>>().join("  ")));
        let by_set = outliers
            .iter()
            .zip(&results)
            .map(|(set, (area, rate))| (set.name.clone(), json!({ "auroc": area, "fpr_at_95": rate })));
        objects.push(json!({
            "name": name,
            "worst_auroc": worst,
            "sets": by_set.collect::<serde_json::Map<_, _>>(),
        }));
    }
    let headings = outliers.iter().map(|set| format!("{:>15.15}", short(&set.name)));
    let heading = format!("{:<26}{}  worst", "AUROC, FPR@95", headings.collect::<Vec<_>>().join("  "));
    (std::iter::once(heading).chain(rows).collect::<Vec<_>>().join("\n"), objects)
}
