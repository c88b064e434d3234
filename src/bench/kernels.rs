//! Every kernel where it is used: profiles of training steps, samplers and evaluations, added up kernel by kernel.

use std::path::Path;

use serde_json::{Value, json};

use crate::ask::evaluate::{EvaluateRequest, evaluate};
use crate::ask::sample::{SampleRequest, Sampler, sample};
use crate::codes::{Activation, Objective};
use crate::config::Config;
use crate::error::Result;
use crate::files;
use crate::gpu::{Gpu, Launch, Profile, Track};
use crate::kernels::{CopyColumns, CountNonFinite, CountSubmission, GatherRows, RandomWords, RepackRows};
use crate::models::ar_csm::HeadKind;
use crate::models::score_field::ScoreField;
use crate::models::score_field::losses::ScoreMatching;
use crate::nn::ParamBuffer;
use crate::order::Order;
use crate::shape::SampleShape;
use crate::train::Trainer;

use super::cases::{random_data, untrained, with_moments};
use super::work::{ModelWork, of_launch};
use super::{Bench, Part, Record, Timing, Work};

/// The models that together use every kernel.
#[derive(Debug, Clone)]
pub struct Tour {
    /// With masked dense layers.
    pub dense: (Config, SampleShape),
    /// With masked convolutions.
    pub image: (Config, SampleShape),
    /// Samples that are drawn, and read for their densities.
    pub count: usize,
}

/// Some work that profiles are taken of.
struct Stop {
    name: &'static str,
    config: Config,
    shape: SampleShape,
    task: Task,
}

enum Task {
    /// A training step.
    Train,
    /// The held-out loss of a batch.
    HeldOut,
    /// Samples.
    Sample { sampler: Sampler, count: usize },
    /// Exact densities of so many samples, one of them by the probability flow.
    Densities { count: usize },
    /// Score matching of whole vectors.
    Vectors,
    /// Kernels that stand alone.
    Helpers,
}

/// A kernel with one set of constants in the profiles of a stop.
struct Group {
    name: &'static str,
    /// The first dispatch with the largest tensor.
    launch: Option<Launch>,
    work: Work,
    calls: u32,
    /// Of each repetition.
    seconds: Vec<f64>,
}

/// What a stop's profiles say.
struct Visit {
    name: &'static str,
    groups: Vec<Group>,
}

/// Kernels of a training step, a held-out loss and the default sampler of one model, a record each.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn kernels_of_model(bench: &Bench<'_>, config: &Config, shape: SampleShape, count: usize) -> Result<Vec<Record>> {
    let sampler = Sampler::default_of(config);
    let stop = |name, task| Stop { name, config: config.clone(), shape, task };
    let stops = [
        stop("train", Task::Train),
        stop("held-out loss", Task::HeldOut),
        stop("sample", Task::Sample { sampler, count }),
    ];
    records(bench, &stops)
}

/// Every kernel at least once, a record each.
///
/// # Errors
/// As [`kernels_of_model`].
pub fn every_kernel(bench: &Bench<'_>, tour: &Tour) -> Result<Vec<Record>> {
    records(bench, &tour.stops())
}

/// Writes the WGSL of every kernel that a tour meets, in all variants and with the constants that it meets, and
/// `kernels.json` with what each needs; gives the number of shaders. The adapter may be [`Gpu::noop`].
///
/// # Errors
/// A folder that cannot be written to.
pub fn write_shaders(gpu: &Gpu, tour: &Tour, folder: &Path) -> Result<usize> {
    let bench = Bench::new(gpu, super::Protocol { warm_up: 0, repetitions: 1 }, false);
    let mut rows = Vec::new();
    let mut written = std::collections::BTreeSet::new();
    for stop in tour.stops() {
        let visit = stop.visit(&bench)?;
        for group in visit.groups {
            let Some(launch) = &group.launch else { continue };
            let shaders = compose_variants(launch, folder, &mut written)?;
            rows.push(json!({
                "kernel": group.name,
                "where": visit.name,
                "sizes": sizes(launch),
                "calls": group.calls,
                "flop": group.work.flop,
                "bytes": group.work.bytes,
                "shaders": shaders,
            }));
        }
    }
    let text = serde_json::to_string_pretty(&rows).expect("plain data");
    write(&folder.join("kernels.json"), &text)?;
    Ok(written.len())
}

/// One file a variant, `KERNEL.VARIANT[.CONSTANTS].wgsl`; gives their names.
fn compose_variants(launch: &Launch, folder: &Path, written: &mut std::collections::BTreeSet<String>) -> Result<Value> {
    let mut names = serde_json::Map::new();
    for variant in launch.spec.variants {
        let mut stem = format!("{}.{}", variant.name, variant.needs);
        if !launch.constants.is_empty() {
            let values: Vec<String> = launch.constants.iter().map(u32::to_string).collect();
            stem = format!("{stem}.{}", values.join("-"));
        }
        let name = format!("{stem}.wgsl");
        let text = variant.compose(launch.spec, &launch.constants).map_err(crate::error::Error::Failed)?;
        if written.insert(name.clone()) {
            write(&folder.join(&name), &text)?;
        }
        names.insert(variant.needs.to_string(), name.into());
    }
    Ok(names.into())
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    files::write_atomically(path, |file| file.write_all(text.as_bytes()))
}

impl Tour {
    fn stops(&self) -> Vec<Stop> {
        let Self { dense, image, count } = self;
        let stop = |name, (config, shape): &(Config, SampleShape), task| Stop {
            name,
            config: config.clone(),
            shape: *shape,
            task,
        };
        // In two parts, and with noise on what the context network sees.
        let mut in_parts = dense.clone();
        in_parts.0.train.batch = dense.0.train.batch.next_multiple_of(2);
        in_parts.0.train.micro_batch = Some(in_parts.0.train.batch / 2);
        in_parts.0.noise.context = 0.1;
        let mut mixture = dense.clone();
        mixture.0.model.head = HeadKind::Mog;
        mixture.0.train.objective = Objective::Ml;
        let mut any_order = dense.clone();
        any_order.0.model.order = Order::Any;
        let mut dropping = image.clone();
        dropping.0.model.conv.dropout = 0.5;
        let noise = &dense.0.noise;
        let multilevel = Sampler::multilevel_default(&dense.0);
        let drawn = |sampler| Task::Sample { sampler, count: *count };
        vec![
            stop("dense: train", &in_parts, Task::Train),
            stop("dense: held-out loss", dense, Task::HeldOut),
            stop("dense: sample-mlq", dense, drawn(multilevel.clone())),
            stop("dense: sample-langevin", dense, drawn(Sampler::langevin_default(noise))),
            stop("dense: sample-ode", dense, drawn(Sampler::ode_default(noise))),
            stop("dense: sample-mala", dense, drawn(Sampler::mala_default(noise))),
            stop("dense: densities", dense, Task::Densities { count: *count }),
            stop("any order: train", &any_order, Task::Train),
            stop("mixture: train", &mixture, Task::Train),
            stop("mixture: held-out loss", &mixture, Task::HeldOut),
            stop("mixture: sample-direct", &mixture, drawn(Sampler::Direct { sigma: 0.0 })),
            stop("image: train", &dropping, Task::Train),
            stop("image: sample-mlq", image, drawn(multilevel)),
            stop("vectors", dense, Task::Vectors),
            stop("helpers", dense, Task::Helpers),
        ]
    }
}

impl Stop {
    /// Warms up, and takes as many profiles as the protocol says.
    fn visit(&self, bench: &Bench<'_>) -> Result<Visit> {
        let gpu = bench.gpu;
        let mut config = with_moments(&self.config);
        config.train.validate_samples = config.train.batch;
        let model = ModelWork::of(&untrained(gpu, &config, self.shape)?.model);
        let profiles = match &self.task {
            Task::Train | Task::HeldOut => {
                let data = random_data(self.shape);
                let mut trainer = Trainer::new(gpu, config, &data, None)?;
                let trains = matches!(self.task, Task::Train);
                profiles(bench, || match trains {
                    true => {
                        trainer.step()?;
                        trainer.finish_oldest().map(drop)
                    }
                    false => trainer.held_out_loss(&data.held_out).map(drop),
                })?
            }
            Task::Sample { sampler, count } => {
                let trained = untrained(gpu, &config, self.shape)?;
                let request = SampleRequest { sampler: sampler.clone(), ..SampleRequest::new(&trained, *count, 0) };
                profiles(bench, || sample(gpu, &trained, &request, &mut |_| {}).map(drop))?
            }
            Task::Densities { count } => {
                let trained = untrained(gpu, &config, self.shape)?;
                let mut x = vec![0.0; count * self.shape.dimensions()];
                random_data(self.shape).held_out.gather(&(0..*count).collect::<Vec<_>>(), &mut x)?;
                let request = EvaluateRequest { flow_count: Some(1), ..EvaluateRequest::new(&trained) };
                profiles(bench, || evaluate(gpu, &trained, &x, None, &request, &mut |_| {}).map(drop))?
            }
            Task::Vectors => profiles(bench, || vectors(gpu, &config, self.shape.dimensions()))?,
            Task::Helpers => profiles(bench, || helpers(gpu))?,
        };
        let groups = groups(gpu, model, &profiles)?;
        if let Some(profile) = profiles.into_iter().next_back() {
            bench.keep(self.name, profile);
        }
        Ok(Visit { name: self.name, groups })
    }
}

fn profiles(bench: &Bench<'_>, mut work: impl FnMut() -> Result<()>) -> Result<Vec<Profile>> {
    let clock = super::trusted_clock(bench.gpu)?;
    work()?;
    (0..bench.protocol.repetitions).map(|_| Ok(bench.gpu.profile(clock, &mut work)?.1)).collect()
}

/// The losses of vectors that together use every kernel: one with slopes, one with noise.
fn vectors(gpu: &Gpu, config: &Config, dimensions: usize) -> Result<()> {
    let field = ScoreField::new(gpu, dimensions, &config.model.hidden, Activation::Silu)?;
    let weights = ParamBuffer::initial(gpu, "weights", &field.table, config.train.seed)?;
    let gradient = ParamBuffer::zeros(gpu, "gradient", &field.table)?;
    for loss in [ScoreMatching::Sliced { projections: 1 }, ScoreMatching::Denoising { sigma: 0.1 }] {
        let workspace = field.workspace(gpu, config.train.batch.next_multiple_of(16), loss, 1)?;
        let mut recorder = gpu.record("vectors");
        field.loss_and_gradient(&mut recorder, loss, [config.train.seed, 0], &weights, &gradient, &workspace)?;
        gpu.wait_for(&recorder.submit()?)?;
    }
    Ok(())
}

/// Kernels that no stop before met, at a size at which their time shows.
fn helpers(gpu: &Gpu) -> Result<()> {
    const ROWS: usize = 512;
    const COLUMNS: usize = 2000;
    let (rows, columns) = (ROWS as u32, COLUMNS as u32);
    let source = gpu.tensor("source", &[ROWS, COLUMNS])?;
    let destination = gpu.tensor("destination", &[ROWS, COLUMNS])?;
    let repacked = gpu.tensor("repacked", &[COLUMNS, ROWS])?;
    let flat = gpu.tensor("flat", &[ROWS * COLUMNS])?;
    let origin = gpu.upload("origin", &[ROWS], &(0..rows).rev().collect::<Vec<_>>())?;
    let words = gpu.tensor("words", &[ROWS * 64, 4])?;
    let count = gpu.tensor("count", &[4])?;
    let mut recorder = gpu.record("helpers");
    recorder.run(&GatherRows { rows, columns, source: &source, origin: &origin, destination: &destination })?;
    recorder.run(&CopyColumns {
        rows,
        columns,
        source_columns: columns,
        source_at: 0,
        destination_columns: columns,
        destination_at: 0,
        source: &source,
        destination: &destination,
    })?;
    recorder.run(&RepackRows {
        source_rows: rows,
        source_columns: columns,
        rows: columns,
        columns: rows,
        source: &source,
        destination: &repacked,
    })?;
    recorder.run(&RandomWords {
        n: rows * 64,
        seed_low: 1,
        seed_high: 2,
        stream: 0,
        first_sample: 0,
        dimension: 0,
        step: 0,
        words: &words,
    })?;
    recorder.run(&CountNonFinite { n_values: rows * columns, values: &flat, count: &count })?;
    recorder.run(&CountSubmission { counter: &count })?;
    Ok(gpu.wait_for(&recorder.submit()?)?)
}

/// Adds up what profiles of the same work say, in the order of first appearance.
fn groups(gpu: &Gpu, model: ModelWork, profiles: &[Profile]) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, profile) in profiles.iter().enumerate() {
        for span in profile.spans.iter().filter(|span| span.track == Track::Adapter) {
            let constants = |launch: &Option<Launch>| launch.as_ref().map(|launch| launch.constants.clone());
            let same = |group: &Group| group.name == span.name && constants(&group.launch) == constants(&span.launch);
            let at = groups.iter().position(same).unwrap_or_else(|| {
                let seconds = vec![0.0; profiles.len()];
                groups.push(Group { name: span.name, launch: None, work: Work::default(), calls: 0, seconds });
                groups.len() - 1
            });
            let group = &mut groups[at];
            group.seconds[index] += span.seconds;
            let larger = |launch: &Launch| largest(launch).map_or(0, |(_, tensor)| tensor.elements());
            if span.launch.as_ref().map(larger) > group.launch.as_ref().map(larger) {
                group.launch.clone_from(&span.launch);
            }
            // The same in every repetition, but for the chunks that a sampler's work is cut into.
            if index == 0 {
                group.calls += 1;
                if let Some(launch) = &span.launch {
                    group.work += of_launch(gpu, launch, model)?;
                }
            }
        }
    }
    Ok(groups)
}

fn largest(launch: &Launch) -> Option<(&'static str, &crate::gpu::Tensor)> {
    let named = launch.spec.bindings.iter().map(|binding| binding.name).zip(&launch.tensors);
    named.filter(|(name, _)| *name != "scratch").max_by_key(|(_, tensor)| tensor.elements())
}

fn sizes(launch: &Launch) -> String {
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    largest(launch).map_or_else(String::new, |(name, tensor)| format!("{name} {}", shape(tensor.shape())))
}

fn records(bench: &Bench<'_>, stops: &[Stop]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for stop in stops {
        let visit = stop.visit(bench)?;
        let total: f64 = visit.groups.iter().flat_map(|group| &group.seconds).sum();
        for group in visit.groups {
            let share = group.seconds.iter().sum::<f64>() / total.max(f64::MIN_POSITIVE);
            let sizes = group.launch.as_ref().map_or_else(String::new, sizes);
            let variant = group.launch.as_ref().map_or_else(String::new, |launch| launch.variant.needs.to_string());
            let seconds = Timing::of(group.seconds, 1);
            let record = bench.record(&format!("{}: {}", visit.name, group.name), sizes, seconds, group.work, None);
            records.push(Record { part: Some(Part { calls: group.calls, variant, share }), ..record });
        }
    }
    Ok(records)
}
