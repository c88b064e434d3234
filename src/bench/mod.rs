//! Speed on the adapter at hand: kernels, training steps and samplers, with all that a number needs to be believed.
//!
//! Inputs are random. Every case warms up, then repeats a stretch of work that is long enough for the clock; a record
//! has the median, least and greatest time of one unit of work, and the rate from the FLOPs that the mathematics needs
//! (two for a multiply-add that the masks leave), whatever the kernels really do. `arcsm doctor` checks that they do it right.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::config::{Config, Objective};
use crate::data::{Dataset, SampleShape, Samples};
use crate::error::{Error, Result};
use crate::gpu::{AdapterSummary, Gpu, Recorder};
use crate::kernels::{MaskedDenseBackwardWeight, MaskedDenseForward};
use crate::memory::MemoryPlan;
use crate::nn::{ArCsm, ContextNet, ConvPass, Degrees, ParamBuffer};
use crate::random::{normal_pair, random_bits, stream, uniform};
use crate::sample::{SampleRequest, Sampler, sample};
use crate::train::Trainer;
use crate::trained::Trained;

/// A repetition lasts at least about this long, s.
const STRETCH: f64 = 0.2;
/// Samples of the random training set.
const TRAINING_SAMPLES: usize = 2048;

/// How often work is timed.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Stretches that are not counted: shaders compile, clocks rise.
    pub warm_up: u32,
    /// Stretches that are; at least 1.
    pub repetitions: u32,
}

/// Times of one unit of work, s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// The middle one of all repetitions.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many.
    pub repetitions: u32,
    /// Units of work in each.
    pub units: u32,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// What was timed.
    pub case: String,
    /// Its sizes.
    pub sizes: String,
    /// Time of one unit: a dispatch, a step, a batch of samples.
    pub seconds: Timing,
    /// FLOPs that one unit needs.
    pub needed_flop: u64,
    /// Needed FLOPs by the median time.
    pub gflop_per_second: f64,
    /// Samples by the median time, where samples are what is made or learned.
    pub samples_per_second: Option<f64>,
}

/// Where and when it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// Adapter, backend and driver.
    pub adapter: AdapterSummary,
    /// Version of the program.
    pub version: &'static str,
    /// Commit that it was built from.
    pub commit: &'static str,
    /// Whether the compiler optimised the host code.
    pub optimised: bool,
    /// Logical processors of the host.
    pub host_threads: usize,
    /// Day, UTC.
    pub date: String,
}

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

impl Environment {
    /// Of this program, now.
    pub fn of(gpu: &Gpu) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (year, month, day) = civil_date(seconds / 86_400);
        Self {
            adapter: gpu.adapter().clone(),
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("ARCSM_COMMIT"),
            optimised: !cfg!(debug_assertions),
            host_threads: std::thread::available_parallelism().map_or(1, usize::from),
            date: format!("{year:04}-{month:02}-{day:02}"),
        }
    }
}

/// Forward pass of every layer of the context network.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn gemm_forward(gpu: &Gpu, config: &Config, dimensions: usize, protocol: Protocol) -> Result<Vec<Record>> {
    let batch = config.train.batch;
    let time_layer = |(l, layer): (usize, Layer)| time_forward(gpu, batch, &layer, layer.sizes(l, batch), protocol);
    layers(config, dimensions).into_iter().enumerate().map(time_layer).collect()
}

/// Forward pass of one dense layer, n_in -> n_out: unmasked, and masked as between hidden layers, where half is left.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn gemm_of_size(gpu: &Gpu, batch: usize, n_in: usize, n_out: usize, protocol: Protocol) -> Result<Vec<Record>> {
    let sizes = |kind| format!("{kind}: {n_in} -> {n_out} batch {batch}");
    let unmasked = Layer { n_in, n_out, visible: vec![n_in as u32; n_out] };
    // Degrees 1 to n_in, spread over the outputs.
    let visible = Degrees::hidden(n_out, n_in + 1).visible(&Degrees::inputs(n_in));
    let masked = Layer { n_in, n_out, visible };
    [("unmasked", unmasked), ("masked", masked)]
        .map(|(kind, layer)| time_forward(gpu, batch, &layer, sizes(kind), protocol))
        .into_iter()
        .collect()
}

fn time_forward(gpu: &Gpu, batch: usize, layer: &Layer, sizes: String, protocol: Protocol) -> Result<Record> {
    let x = gpu.upload("x", &[batch, layer.n_in], &normals(0, batch * layer.n_in))?;
    let weight = gpu.upload("weight", &[layer.n_out, layer.n_in], &layer.weights())?;
    let bias = gpu.upload("bias", &[layer.n_out], &normals(2, layer.n_out))?;
    let visible = gpu.upload("visible", &[layer.n_out], &layer.visible)?;
    let y = gpu.tensor("y", &[batch, layer.n_out])?;
    let kernel = MaskedDenseForward {
        batch: batch as u32,
        n_in: layer.n_in as u32,
        n_out: layer.n_out as u32,
        x: &x,
        weight: &weight,
        bias: &bias,
        visible: &visible,
        y: &y,
    };
    let seconds = protocol.time(|n| {
        let mut recorder = gpu.record("bench");
        (0..n).try_for_each(|_| recorder.run(&kernel))?;
        Ok(gpu.wait_for(&recorder.submit()?)?)
    })?;
    Ok(Record::new("gemm-forward", sizes, seconds, layer.flop(batch), None))
}

/// Weight gradient of every layer of the context network.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn gemm_backward_weight(gpu: &Gpu, config: &Config, dimensions: usize, protocol: Protocol) -> Result<Vec<Record>> {
    let batch = config.train.batch;
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
        let seconds = protocol.time(|n| {
            let mut recorder = gpu.record("bench");
            (0..n).try_for_each(|_| recorder.run(&kernel))?;
            Ok(gpu.wait_for(&recorder.submit()?)?)
        })?;
        Ok(Record::new("gemm-backward-weight", layer.sizes(l, batch), seconds, layer.flop(batch), None))
    };
    layers(config, dimensions).into_iter().enumerate().map(time_layer).collect()
}

/// All passes of one convolution of each size in the context network.
///
/// # Errors
/// Settings without convolutions, sizes over the adapter's limits, a failed adapter.
pub fn convolutions(gpu: &Gpu, config: &Config, shape: SampleShape, protocol: Protocol) -> Result<Vec<Record>> {
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
            let seconds = protocol.time(|n| {
                let mut recorder = gpu.record("bench");
                let record = |recorder: &mut Recorder<'_>| {
                    net.record_convolution(recorder, conv.index, pass, &weights, &gradient, &workspace)
                };
                (0..n).try_for_each(|_| record(&mut recorder))?;
                Ok(gpu.wait_for(&recorder.submit()?)?)
            })?;
            let sizes = format!("{} batch {}", conv.sizes, plan.micro_batch);
            let flop = 2 * plan.micro_batch as u64 * conv.multiply_adds;
            records.push(Record::new(name, sizes, seconds, flop, None));
        }
    }
    Ok(records)
}

/// Whole training steps as `arcsm train` makes them: data, forward, backward, optimiser.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter, a loss that is not finite.
pub fn train_step(gpu: &Gpu, config: &Config, shape: SampleShape, protocol: Protocol) -> Result<Record> {
    let (data, config) = (random_data(shape), with_moments(config));
    let mut trainer = Trainer::new(gpu, config.clone(), &data, None)?;
    let seconds = protocol.time(|n| {
        (0..n).try_for_each(|_| trainer.step().map(drop))?;
        while trainer.finish_oldest()?.is_some() {}
        Ok(())
    })?;
    let train = &config.train;
    let model = &trainer.trained.model;
    // Forward, weight gradient, and the input gradient of all layers but the first.
    let context_net = &model.context_net;
    let context = train.batch as u64 * (3 * context_net.multiply_adds() - context_net.first_multiply_adds());
    let rows = (train.batch * shape.dimensions()).div_ceil(train.row_stride) as u64;
    // The same three for values, and again for tangents where the loss holds the slope.
    let passes = if train.objective == Objective::Dsm { 3 } else { 6 };
    let flop = 2 * (context + rows * passes * model.head.multiply_adds());
    let sizes = format!("{shape} batch {} {:?} 1/{} of rows", train.batch, train.objective, train.row_stride);
    Ok(Record::new("train-step", sizes.to_lowercase(), seconds, flop, Some(train.batch)))
}

/// Drawing a batch of samples with random weights, which takes as long as with trained ones.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn sampling(
    gpu: &Gpu,
    config: &Config,
    shape: SampleShape,
    case: &SampleCase,
    protocol: Protocol,
) -> Result<Record> {
    let config = with_moments(config);
    let model = ArCsm::new(gpu, &config.model, shape)?;
    let weights = ParamBuffer::initial(gpu, "weights", &model.table, config.train.seed)?;
    let trained = Trained { model, weights, config, shape, step: 0, fingerprint: String::new() };
    let request = SampleRequest {
        sampler: case.sampler.clone(),
        full_passes: case.full_passes,
        batch: case.count,
        ..SampleRequest::new(&trained, case.count, 0)
    };
    let mut context_multiply_adds = 0;
    let seconds = protocol.time(|n| {
        (0..n).try_for_each(|_| {
            context_multiply_adds = sample(gpu, &trained, &request, &mut |_| {})?.context_multiply_adds;
            Ok(())
        })
    })?;
    let evaluations = request.sampler.evaluations() * shape.dimensions() as u64;
    let flop = 2 * case.count as u64 * (context_multiply_adds + evaluations * trained.model.head.multiply_adds());
    let name = format!("sample-{}{}", case.sampler.name(), if case.full_passes { ", full passes" } else { "" });
    let sizes = format!("{shape} batch {} {} evaluations", case.count, request.sampler.evaluations());
    Ok(Record::new(&name, sizes, seconds, flop, Some(case.count)))
}

impl Protocol {
    /// Times `work(n)`, which does n units and waits for them.
    fn time(self, mut work: impl FnMut(u32) -> Result<()>) -> Result<Timing> {
        let mut clocked = |units: u32| -> Result<f64> {
            let start = Instant::now();
            work(units)?;
            Ok(start.elapsed().as_secs_f64() / f64::from(units))
        };
        // Shaders compile in the first unit. One that takes this long all the same fills a stretch, and needs no second look.
        let is_long = clocked(1)? > 10.0 * STRETCH;
        let units = if is_long { 1 } else { (STRETCH / clocked(1)?.max(1e-6)).clamp(1.0, 1000.0) as u32 };
        for _ in 0..self.warm_up {
            clocked(units)?;
        }
        let mut times = (0..self.repetitions.max(1)).map(|_| clocked(units)).collect::<Result<Vec<f64>>>()?;
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        let median = if times.len() % 2 == 1 { times[middle] } else { 0.5 * (times[middle - 1] + times[middle]) };
        Ok(Timing { median, min: times[0], max: times[times.len() - 1], repetitions: times.len() as u32, units })
    }
}

impl Record {
    fn new(case: &str, sizes: String, seconds: Timing, needed_flop: u64, samples: Option<usize>) -> Self {
        Self {
            case: case.into(),
            sizes,
            needed_flop,
            gflop_per_second: needed_flop as f64 / seconds.median / 1e9,
            samples_per_second: samples.map(|samples| samples as f64 / seconds.median),
            seconds,
        }
    }
}

/// One layer of the context network.
struct Layer {
    n_in: usize,
    n_out: usize,
    visible: Vec<u32>,
}

impl Layer {
    fn multiply_adds(&self) -> u64 {
        self.visible.iter().map(|&n| u64::from(n)).sum()
    }

    fn flop(&self, batch: usize) -> u64 {
        2 * batch as u64 * self.multiply_adds()
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
fn with_moments(config: &Config) -> Config {
    let mut config = config.clone();
    let score = &mut config.model.score;
    (score.mean, score.sd, score.range) = (Some(0.5), Some((1.0f32 / 12.0).sqrt()), Some([0.0, 1.0]));
    config
}

fn random_data(shape: SampleShape) -> Dataset {
    let dimensions = shape.dimensions();
    let values = words(3, TRAINING_SAMPLES * dimensions).map(|bits| uniform(bits[0]) as f32).collect();
    let train = Samples::from_floats(dimensions, values);
    Dataset::new("random", shape, train.clone(), train)
}

fn normals(sample: u32, count: usize) -> Vec<f32> {
    words(sample, count).map(|bits| normal_pair(bits[0], bits[1]).0 as f32).collect()
}

fn words(sample: u32, count: usize) -> impl Iterator<Item = [u32; 4]> {
    (0..count as u32).map(move |index| random_bits(0, stream::DATA, sample, index, 0))
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // H. Hinnant, "chrono-compatible low-level date algorithms": years start in March, eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_new_years() {
        let known = [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (11_017, (2000, 3, 1)), (20_453, (2025, 12, 31))];
        for (days, date) in known {
            assert_eq!(civil_date(days), date);
        }
    }

    #[test]
    fn timing_counts_units_and_orders_times() {
        let mut done = 0;
        let timing = Protocol { warm_up: 1, repetitions: 4 }.time(|n| {
            done += n;
            std::thread::sleep(std::time::Duration::from_millis(2 * u64::from(n)));
            Ok(())
        });
        let timing = timing.expect("nothing can fail");
        assert_eq!(done, 2 + 5 * timing.units);
        assert!(timing.min <= timing.median && timing.median <= timing.max);
        assert!(timing.min >= 0.002, "{timing:?}");
    }
}
