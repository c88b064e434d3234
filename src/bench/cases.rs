//! What is timed as a whole: dense layers, convolutions, training steps, samplers.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::ask::sample::{SampleRequest, Sampler, sample};
use crate::ask::trained::Trained;
use crate::codes::Objective;
use crate::config::Config;
use crate::data::{Dataset, Samples};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, Recorder};
use crate::kernels::{MaskedDenseBackwardWeight, MaskedDenseForward};
use crate::models::ar_csm::{ArCsm, ContextNet};
use crate::nn::ParamBuffer;
use crate::nn::net::{ConvPass, Degrees};
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};
use crate::shape::SampleShape;
use crate::train::memory::MemoryPlan;
use crate::train::{TrainPlan, Trainer, train};

use super::{Bench, Record, Timing, Work};

/// Samples of the random training set.
const TRAINING_SAMPLES: usize = 2048;
/// Words of a parameter's numbers that a training step moves at least: read by the forward and the backward pass, the
/// gradient written, and by Adam gradient, value, two moments and average read, the last four written.
const WORDS_OF_PARAMETER: u64 = 12;

/// What a sampler is timed on.
#[derive(Debug, Clone)]
pub struct SampleCase {
    /// How values are drawn.
    pub sampler: Sampler,
    /// Samples drawn together.
    pub count: usize,
    /// Contexts by D whole passes.
    pub full_passes: bool,
}

/// Forward pass of every layer of the context network.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn gemm_forward(bench: &Bench<'_>, config: &Config, dimensions: usize) -> Result<Vec<Record>> {
    let batch = config.train.batch;
    let time_layer = |(l, layer): (usize, Layer)| time_forward(bench, batch, &layer, layer.sizes(l, batch));
    layers(config, dimensions).into_iter().enumerate().map(time_layer).collect()
}

/// Forward pass of one dense layer, n_in -> n_out: unmasked, and masked as between hidden layers, where half is left.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn gemm_of_size(bench: &Bench<'_>, batch: usize, n_in: usize, n_out: usize) -> Result<Vec<Record>> {
    let sizes = |kind| format!("{kind}: {n_in} -> {n_out} batch {batch}");
    let unmasked = Layer { n_in, n_out, visible: vec![n_in as u32; n_out] };
    // Degrees 1 to n_in, spread over the outputs.
    let visible = Degrees::hidden(n_out, n_in + 1).visible(&Degrees::inputs(n_in));
    let masked = Layer { n_in, n_out, visible };
    [("unmasked", unmasked), ("masked", masked)]
        .map(|(kind, layer)| time_forward(bench, batch, &layer, sizes(kind)))
        .into_iter()
        .collect()
}

fn time_forward(bench: &Bench<'_>, batch: usize, layer: &Layer, sizes: String) -> Result<Record> {
    let seconds = layer
        .with_forward(bench.gpu, batch, |kernel| bench.time("gemm-forward", |n| dispatch(bench.gpu, n, kernel)))?;
    Ok(bench.record("gemm-forward", sizes, seconds, layer.work(batch), None))
}

/// A kernel n times over in one submission, and the wait for it.
pub(super) fn dispatch(gpu: &Gpu, n: u32, kernel: &impl Kernel) -> Result<()> {
    let mut recorder = gpu.record("bench");
    (0..n).try_for_each(|_| recorder.run(kernel))?;
    Ok(gpu.wait_for(&recorder.submit()?)?)
}

/// Weight gradient of every layer of the context network.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn gemm_backward_weight(bench: &Bench<'_>, config: &Config, dimensions: usize) -> Result<Vec<Record>> {
    let (gpu, batch) = (bench.gpu, config.train.batch);
    let time_layer = |(l, layer): (usize, Layer)| {
        let x = gpu.upload("x", &[batch, layer.n_in], &normals(0, batch * layer.n_in))?;
        let dy = gpu.upload("dy", &[batch, layer.n_out], &normals(1, batch * layer.n_out))?;
        let visible = gpu.upload("visible", &[layer.n_out], &layer.visible)?;
        let dweight = gpu.tensor("dweight", &[layer.n_out, layer.n_in])?;
        let kernel = MaskedDenseBackwardWeight {
            batch: batch as u32,
            n_in: layer.n_in as u32,
            n_out: layer.n_out as u32,
            dy: &dy,
            x: &x,
            visible: &visible,
            dweight: &dweight,
        };
        let seconds = bench.time("gemm-backward-weight", |n| dispatch(gpu, n, &kernel))?;
        Ok(bench.record("gemm-backward-weight", layer.sizes(l, batch), seconds, layer.work(batch), None))
    };
    layers(config, dimensions).into_iter().enumerate().map(time_layer).collect()
}

/// All passes of one convolution of each size in the context network.
///
/// # Errors
/// Settings without convolutions, sizes over the adapter's limits, a failed adapter.
pub fn convolutions(bench: &Bench<'_>, config: &Config, shape: SampleShape) -> Result<Vec<Record>> {
    let gpu = bench.gpu;
    let model = ArCsm::new(gpu, &config.model, shape)?;
    let ContextNet::Image(net) = &model.context_net else {
        return Err(Error::input("model.network", "has no convolutions", "Use `gated` or `pixelcnn`"));
    };
    let plan = MemoryPlan::of(gpu, &model, config)?;
    let workspace = net.workspace(gpu, plan.micro_batch, true)?;
    let weights = ParamBuffer::initial(gpu, "weights", &model.table, config.train.seed)?;
    let gradient = ParamBuffer::zeros(gpu, "gradient", &model.table)?;
    let mut records = Vec::new();
    for conv in net.convolution_sizes() {
        let passes = [
            ("conv-forward", ConvPass::Forward),
            ("conv-backward-input", ConvPass::BackwardInput),
            ("conv-backward-weight", ConvPass::BackwardWeight),
        ];
        for (name, pass) in passes {
            if conv.reads_image && pass == ConvPass::BackwardInput {
                continue;
            }
            let seconds = bench.time(name, |n| {
                let mut recorder = gpu.record("bench");
                let record = |recorder: &mut Recorder<'_>| {
                    net.record_convolution(recorder, conv.index, pass, &weights, &gradient, &workspace)
                };
                (0..n).try_for_each(|_| record(&mut recorder))?;
                Ok(gpu.wait_for(&recorder.submit()?)?)
            })?;
            let sizes = format!("{} batch {}", conv.sizes, plan.micro_batch);
            let batch = plan.micro_batch as u64;
            let work = Work { flop: 2 * batch * conv.multiply_adds, bytes: 4 * (batch * conv.values + conv.weights) };
            records.push(bench.record(name, sizes, seconds, work, None));
        }
    }
    Ok(records)
}

/// Whole training steps as `arcsm train` makes them: data, forward, backward, optimiser; and the host's part of one.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter, a loss that is not finite.
pub fn train_step(bench: &Bench<'_>, config: &Config, shape: SampleShape) -> Result<Vec<Record>> {
    let (data, config) = (random_data(shape), with_moments(config));
    let mut trainer = Trainer::new(bench.gpu, config.clone(), &data, None)?;
    let work = work_of_step(bench.gpu, &trainer.trained.model, &config)?;
    let seconds = bench.time("train-step", |n| {
        (0..n).try_for_each(|_| trainer.step().map(drop))?;
        while trainer.finish_oldest()?.is_some() {}
        Ok(())
    })?;
    let train = &config.train;
    let sizes = format!("{shape} batch {} {:?} 1/{} of rows", train.batch, train.objective, train.row_stride);
    let host = host_times(bench, &config, &data)?;
    Ok(vec![
        bench.record("train-step", sizes.to_lowercase(), seconds, work, Some(train.batch)),
        bench.record_times("train-step, host alone", &sizes.to_lowercase(), host),
    ])
}

/// How long the host takes to prepare and submit a step to a device that checks everything and does nothing: what is left
/// of a step however fast the adapter is, but for its driver.
fn host_times(bench: &Bench<'_>, config: &Config, data: &Dataset) -> Result<Vec<f64>> {
    const STEPS: u32 = 10;
    let nothing = Gpu::noop();
    let mut trainer = Trainer::new(&nothing, config.clone(), data, None)?;
    trainer.step()?;
    let mut steps = |_| {
        let start = Instant::now();
        (0..STEPS).try_for_each(|_| trainer.step().map(drop))?;
        Ok(start.elapsed().as_secs_f64() / f64::from(STEPS))
    };
    (0..bench.protocol.repetitions.max(1)).map(&mut steps).collect()
}

/// What a training step needs: of bytes, every activation and its gradient written once and read once, and
/// [`WORDS_OF_PARAMETER`].
fn work_of_step(gpu: &Gpu, model: &ArCsm, config: &Config) -> Result<Work> {
    let train = &config.train;
    // Forward, weight gradient, and the input gradient of all layers but the first.
    let context_net = &model.context_net;
    let context = train.batch as u64 * (3 * context_net.multiply_adds() - context_net.first_multiply_adds());
    let rows = (train.batch * model.dimensions()).div_ceil(train.row_stride) as u64;
    // The same three for values, and again for tangents where the loss holds the slope.
    let passes = if train.objective == Objective::Dsm { 3 } else { 6 };
    let plan = MemoryPlan::of(gpu, model, config)?;
    let activations = plan.training.iter().filter(|tensor| !tensor.label.contains("scratch"));
    let activation_bytes = plan.parts as u64 * activations.map(|tensor| tensor.bytes()).sum::<u64>();
    Ok(Work {
        flop: 2 * (context + rows * passes * model.head.multiply_adds()),
        bytes: 2 * activation_bytes + 4 * WORDS_OF_PARAMETER * model.table.words() as u64,
    })
}

/// What happens between the start of a process and the end of its first training step: opening the adapter is the caller's.
///
/// # Errors
/// As [`train_step`].
pub fn first_step(bench: &Bench<'_>, config: &Config, shape: SampleShape) -> Result<Vec<Record>> {
    let (data, config) = (random_data(shape), with_moments(config));
    let once = |case: &str, start: Instant| {
        let seconds = Timing::of(vec![start.elapsed().as_secs_f64()], 1);
        bench.record(case, format!("{shape} batch {}", config.train.batch), seconds, Work::default(), None)
    };
    let start = Instant::now();
    let mut trainer = Trainer::new(bench.gpu, config.clone(), &data, None)?;
    let made = once("model and memory", start);
    let start = Instant::now();
    trainer.step()?;
    let submitted = once("first step: pipelines and submission", start);
    let start = Instant::now();
    trainer.finish_oldest()?;
    Ok(vec![made, submitted, once("first step: until its loss is there", start)])
}

/// A run of 20 steps on the embedded digits with all that belongs to one, in a folder that is removed again.
///
/// # Errors
/// A failed adapter, no room for temporary files.
pub fn end_to_end(bench: &Bench<'_>, mut config: Config) -> Result<Record> {
    config.data.spec = "digits".into();
    config.train.steps = 20;
    let folder = tempfile::tempdir().map_err(|error| Error::Failed(format!("no temporary folder: {error}")))?;
    let plan = TrainPlan {
        out: folder.path().join("run"),
        resume: false,
        force: true,
        command: "arcsm-bench".into(),
        max_seconds: None,
        config,
    };
    let seconds = bench.time("end-to-end", |n| {
        (0..n).try_for_each(|_| train(bench.gpu, &plan, &AtomicBool::new(false), &mut |_| {}).map(drop))
    })?;
    let train = &plan.config.train;
    let sizes = format!("digits, {} steps of {}, checkpoint, picture", train.steps, train.batch);
    Ok(bench.record("end-to-end", sizes, seconds, Work::default(), Some(train.batch * train.steps as usize)))
}

/// Drawing a batch of samples with random weights, which takes as long as with trained ones.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn sampling(bench: &Bench<'_>, config: &Config, shape: SampleShape, case: &SampleCase) -> Result<Record> {
    let gpu = bench.gpu;
    let trained = untrained(gpu, config, shape)?;
    let request = SampleRequest {
        sampler: case.sampler.clone(),
        full_passes: case.full_passes,
        batch: case.count,
        ..SampleRequest::new(&trained, case.count, 0)
    };
    let mut context_multiply_adds = 0;
    let name = format!("sample-{}{}", case.sampler.name(), if case.full_passes { ", full passes" } else { "" });
    let seconds = bench.time(&name, |n| {
        (0..n).try_for_each(|_| {
            context_multiply_adds = sample(gpu, &trained, &request, &mut |_| {})?.context_multiply_adds;
            Ok(())
        })
    })?;
    let evaluations = request.sampler.evaluations() * shape.dimensions() as u64;
    let work = Work {
        flop: 2 * case.count as u64 * (context_multiply_adds + evaluations * trained.model.head.multiply_adds()),
        bytes: 4 * (trained.model.table.words() + case.count * shape.dimensions()) as u64,
    };
    let sizes = format!("{shape} batch {} {} evaluations", case.count, request.sampler.evaluations());
    Ok(bench.record(&name, sizes, seconds, work, Some(case.count)))
}

/// A model with random weights.
pub(super) fn untrained(gpu: &Gpu, config: &Config, shape: SampleShape) -> Result<Trained> {
    let config = with_moments(config);
    let model = ArCsm::new(gpu, &config.model, shape)?;
    let weights = ParamBuffer::initial(gpu, "weights", &model.table, config.train.seed)?;
    Ok(Trained { model, weights, stored: None, config, shape, step: 0, fingerprint: String::new(), note: None })
}

/// One layer of the context network.
pub(super) struct Layer {
    pub(super) n_in: usize,
    pub(super) n_out: usize,
    pub(super) visible: Vec<u32>,
}

impl Layer {
    fn multiply_adds(&self) -> u64 {
        self.visible.iter().map(|&n| u64::from(n)).sum()
    }

    /// Of each of the three passes: inputs, outputs and the weights that the mask leaves, each once.
    pub(super) fn work(&self, batch: usize) -> Work {
        let values = batch * (self.n_in + self.n_out);
        Work { flop: 2 * batch as u64 * self.multiply_adds(), bytes: 4 * (values as u64 + self.multiply_adds()) }
    }

    /// Lends its forward pass on random data to `work`.
    pub(super) fn with_forward<T>(
        &self,
        gpu: &Gpu,
        batch: usize,
        work: impl FnOnce(&MaskedDenseForward<'_>) -> Result<T>,
    ) -> Result<T> {
        let x = gpu.upload("x", &[batch, self.n_in], &normals(0, batch * self.n_in))?;
        let weight = gpu.upload("weight", &[self.n_out, self.n_in], &self.weights())?;
        let bias = gpu.upload("bias", &[self.n_out], &normals(2, self.n_out))?;
        let visible = gpu.upload("visible", &[self.n_out], &self.visible)?;
        let y = gpu.tensor("y", &[batch, self.n_out])?;
        work(&MaskedDenseForward {
            batch: batch as u32,
            n_in: self.n_in as u32,
            n_out: self.n_out as u32,
            x: &x,
            weight: &weight,
            bias: &bias,
            visible: &visible,
            y: &y,
        })
    }

    /// Random, zero where the mask forbids.
    fn weights(&self) -> Vec<f32> {
        let mut weights = normals(1, self.n_in * self.n_out);
        for (row, &visible) in weights.chunks_exact_mut(self.n_in).zip(&self.visible) {
            row[visible as usize..].fill(0.0);
        }
        weights
    }

    fn sizes(&self, index: usize, batch: usize) -> String {
        format!("layer {index}: {} -> {} batch {batch}", self.n_in, self.n_out)
    }
}

fn layers(config: &Config, dimensions: usize) -> Vec<Layer> {
    let mut degrees = vec![Degrees::inputs(dimensions)];
    degrees.extend(config.model.hidden.iter().map(|&width| Degrees::hidden(width, dimensions)));
    degrees.push(Degrees::outputs(dimensions, config.model.context_width()));
    let layer =
        |pair: &[Degrees]| Layer { n_in: pair[0].len(), n_out: pair[1].len(), visible: pair[1].visible(&pair[0]) };
    degrees.windows(2).map(layer).collect()
}

/// What training would take from the data: here uniform on [0, 1].
pub(super) fn with_moments(config: &Config) -> Config {
    let mut config = config.clone();
    let score = &mut config.model.score;
    (score.mean, score.sd, score.range) = (Some(0.5), Some((1.0f32 / 12.0).sqrt()), Some([0.0, 1.0]));
    config
}

pub(super) fn random_data(shape: SampleShape) -> Dataset {
    let dimensions = shape.dimensions();
    let values = words(3, TRAINING_SAMPLES * dimensions).map(|bits| uniform(bits[0]) as f32).collect();
    let train = Samples::from_floats(dimensions, values);
    Dataset::new("random", shape, train.clone(), train)
}

pub(super) fn normals(sample: u32, count: usize) -> Vec<f32> {
    words(sample, count).map(|bits| normal_pair(bits[0], bits[1]).0 as f32).collect()
}

pub(super) fn words(sample: u32, count: usize) -> impl Iterator<Item = [u32; 4]> {
    (0..count as u32).map(move |index| random_bits(0, stream::DATA, sample, index, 0))
}
