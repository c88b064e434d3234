//! A small classifier of images, on the host: its features say how far drawn images are from real ones ([`crate::numbers::frechet`]).
//!
//! Two convolutions, a dense layer whose values are the features, and a dense layer to the classes; ReLU after the first
//! two. Dense layers are convolutions whose kernel covers all there is. Those for MNIST and the digits are embedded, made by
//! `arcsm reproduce classifier`; others come from files of that command.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use crate::error::{Error, Result};
use crate::files::arrays::HostTensor;
use crate::files::safetensors::{parse_weights, read_weights, write_weights};
use crate::numbers::random::{random_bits, stream, uniform};
use crate::shape::SampleShape;

const MNIST: &[u8] = include_bytes!("../../../assets/classifiers/mnist.safetensors");
const DIGITS: &[u8] = include_bytes!("../../../assets/classifiers/digits.safetensors");

/// Width of the features.
pub const FEATURES: usize = 32;
/// In which the file has them.
const LAYERS: [&str; 4] = ["first", "second", "features", "classes"];
/// Images of a training step, and parts that are worked on side by side and added up in order.
const BATCH: usize = 64;
const PARTS: usize = 8;

/// A convolution with its weights.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    /// Height, width, channels of what it reads.
    input: [usize; 3],
    /// The same of what it gives.
    output: [usize; 3],
    kernel: usize,
    stride: usize,
    pad: usize,
    /// (kernel, kernel, channels in, channels out)
    weight: Vec<f32>,
    /// (channels out)
    bias: Vec<f32>,
}

/// The network.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    layers: Vec<Layer>,
    classes: usize,
}

/// What the network says of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// (N, [`FEATURES`])
    pub features: Vec<f32>,
    /// (N, classes)
    pub probabilities: Vec<f32>,
}

/// Images (N, D) with their classes.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// Values in [0, 1].
    pub images: &'a [f32],
    /// Classes from 0.
    pub labels: &'a [u8],
}

impl Layer {
    fn new(input: [usize; 3], filters: usize, kernel: usize, stride: usize, pad: usize) -> Self {
        let length = |n: usize| (n + 2 * pad - kernel) / stride + 1;
        let output = [length(input[0]), length(input[1]), filters];
        let weights = kernel * kernel * input[2] * filters;
        Self { input, output, kernel, stride, pad, weight: vec![0.0; weights], bias: vec![0.0; filters] }
    }

    fn outputs(&self) -> usize {
        self.output.iter().product()
    }

    /// Calls `visit` with the places of an input pixel, of its weights and of an output pixel, for all that belong together.
    fn for_taps(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let [height, width, channels] = self.input;
        let [rows, columns, filters] = self.output;
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            for (ky, kx) in (0..self.kernel).flat_map(|ky| (0..self.kernel).map(move |kx| (ky, kx))) {
                let (y, x) = (row * self.stride + ky, column * self.stride + kx);
                let inside = (self.pad..height + self.pad).contains(&y) && (self.pad..width + self.pad).contains(&x);
                if inside {
                    let pixel = ((y - self.pad) * width + x - self.pad) * channels;
                    visit(pixel, (ky * self.kernel + kx) * channels * filters, (row * columns + column) * filters);
                }
            }
        }
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (channels, filters) = (self.input[2], self.output[2]);
        let mut y = self.bias.repeat(self.outputs() / filters);
        self.for_taps(|pixel, tap, out| {
            let out = &mut y[out..][..filters];
            for (&value, weights) in x[pixel..][..channels].iter().zip(self.weight[tap..].chunks_exact(filters)) {
                // Most of an image is black, and half of what ReLU gives is 0.
                if value != 0.0 {
                    out.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
                }
            }
        });
        y
    }

    /// Adds to the gradient, and gives that by the input.
    fn backward(&self, x: &[f32], dy: &[f32], gradient: &mut Self) -> Vec<f32> {
        let (channels, filters) = (self.input[2], self.output[2]);
        let mut dx = vec![0.0; x.len()];
        for pixel in dy.chunks_exact(filters) {
            gradient.bias.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
        }
        self.for_taps(|pixel, tap, out| {
            let dy = &dy[out..][..filters];
            for c in 0..channels {
                let at = tap + c * filters;
                let value = x[pixel + c];
                if value != 0.0 {
                    let sums = &mut gradient.weight[at..][..filters];
                    sums.iter_mut().zip(dy).for_each(|(sum, d)| *sum += value * d);
                }
                dx[pixel + c] += self.weight[at..][..filters].iter().zip(dy).map(|(weight, d)| weight * d).sum::<f32>();
            }
        });
        dx
    }

    fn parameters(&mut self) -> impl Iterator<Item = &mut f32> {
        self.weight.iter_mut().chain(&mut self.bias)
    }
}

impl Classifier {
    /// With random weights (uniform, of variance 2 / inputs), for images of a shape.
    ///
    /// # Errors
    /// Samples that are no images of at least 8x8 pixels.
    pub fn new(shape: SampleShape, classes: usize, seed: u64) -> Result<Self> {
        let mut network = Self::empty(shape, classes)?;
        for (number, layer) in network.layers.iter_mut().enumerate() {
            let inputs = layer.weight.len() / layer.bias.len();
            let scale = (6.0 / inputs as f64).sqrt();
            for (index, weight) in layer.weight.iter_mut().enumerate() {
                let bits = random_bits(seed, stream::DATA, number as u32, index as u32, 0);
                *weight = (scale * (2.0 * uniform(bits[0]) - 1.0)) as f32;
            }
        }
        Ok(network)
    }

    fn empty(shape: SampleShape, classes: usize) -> Result<Self> {
        let SampleShape::Image { height, width, channels } = shape else {
            let problem = format!("of {shape} are no images, which the classifier needs");
            return Err(Error::input("samples", problem, "Give images"));
        };
        if height.min(width) < 8 || height != width {
            return Err(Error::input("images", format!("are {shape}"), "Give square images of at least 8x8 pixels"));
        }
        let input = [height, width, channels];
        // Small images have no pixels to spare.
        let (first, second) = match height < 16 {
            true => (Layer::new(input, 16, 3, 1, 1), 32),
            false => (Layer::new(input, 8, 5, 2, 2), 16),
        };
        let kernel = first.kernel;
        let second = Layer::new(first.output, second, kernel, 2, kernel / 2);
        let features = Layer::new(second.output, FEATURES, second.output[0], 1, 0);
        let last = Layer::new(features.output, classes, 1, 1, 0);
        Ok(Self { layers: vec![first, second, features, last], classes })
    }

    /// The embedded one for images of a shape, if there is one.
    ///
    /// # Errors
    /// None unless the program is damaged.
    pub fn embedded(shape: SampleShape) -> Result<Option<Self>> {
        let bytes = match shape {
            SampleShape::Image { height: 28, width: 28, channels: 1 } => MNIST,
            SampleShape::Image { height: 8, width: 8, channels: 1 } => DIGITS,
            _ => return Ok(None),
        };
        let subject = "the embedded classifier";
        Self::from_tensors(&parse_weights(bytes, subject)?, shape, subject).map(Some)
    }

    /// From a file of [`Classifier::save`].
    ///
    /// # Errors
    /// A file that is missing, damaged, no classifier, or one for other images.
    pub fn load(path: &Path, shape: SampleShape) -> Result<Self> {
        Self::from_tensors(&read_weights(path)?, shape, &path.display().to_string())
    }

    fn from_tensors(tensors: &BTreeMap<String, HostTensor>, shape: SampleShape, subject: &str) -> Result<Self> {
        let refuse = |problem: String| {
            Error::input(subject, problem, "Give a file that `arcsm reproduce classifier` made for such images")
        };
        let tensor = |name: String| tensors.get(&name).ok_or_else(|| refuse(format!("has no tensor `{name}`")));
        let mut network = Self::empty(shape, tensor("classes.bias".into())?.values.len())?;
        for (layer, name) in network.layers.iter_mut().zip(LAYERS) {
            for (values, part) in [(&mut layer.weight, "weight"), (&mut layer.bias, "bias")] {
                let found = tensor(format!("{name}.{part}"))?;
                found.check_finite(subject)?;
                if found.values.len() != values.len() {
                    let problem = format!(
                        "has {name}.{part} of shape {:?}, images of {shape} need {} values",
                        found.shape,
                        values.len()
                    );
                    return Err(refuse(problem));
                }
                values.clone_from(&found.values);
            }
        }
        Ok(network)
    }

    /// Writes the weights as safetensors.
    ///
    /// # Errors
    /// As [`crate::files::write_atomically`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (layer, name) in self.layers.iter().zip(LAYERS) {
            let shape = [layer.kernel, layer.kernel, layer.input[2], layer.output[2]];
            tensors.insert(format!("{name}.weight"), HostTensor::new(shape, layer.weight.clone()));
            tensors.insert(format!("{name}.bias"), HostTensor::new([layer.bias.len()], layer.bias.clone()));
        }
        write_weights(path, &tensors)
    }

    /// D
    pub fn dimensions(&self) -> usize {
        self.layers[0].input.iter().product()
    }

    /// Features and probabilities of images (N, D), on all processors.
    ///
    /// # Panics
    /// When the values are no whole number of images.
    pub fn read(&self, images: &[f32]) -> Reading {
        let dimensions = self.dimensions();
        assert!(images.len().is_multiple_of(dimensions), "whole images");
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = (images.len() / dimensions).div_ceil(threads).max(1) * dimensions;
        let mut reading = Reading { features: Vec::new(), probabilities: Vec::new() };
        let read = |images: &[f32]| {
            let mut reading = Reading { features: Vec::new(), probabilities: Vec::new() };
            for image in images.chunks_exact(dimensions) {
                let mut activations = self.forward(image);
                reading.probabilities.extend(softmax(&activations.pop().unwrap_or_default()));
                reading.features.extend(activations.pop().unwrap_or_default());
            }
            reading
        };
        thread::scope(|scope| {
            let workers: Vec<_> = images.chunks(share).map(|images| scope.spawn(move || read(images))).collect();
            for worker in workers {
                let part = worker.join().expect("reading images does not panic");
                reading.features.extend(part.features);
                reading.probabilities.extend(part.probabilities);
            }
        });
        reading
    }

    /// What each layer gives, ReLU included.
    fn forward(&self, image: &[f32]) -> Vec<Vec<f32>> {
        let mut activations: Vec<Vec<f32>> = Vec::with_capacity(self.layers.len());
        for (number, layer) in self.layers.iter().enumerate() {
            let mut y = layer.forward(activations.last().map_or(image, Vec::as_slice));
            if number < 2 {
                y.iter_mut().for_each(|value| *value = value.max(0.0));
            }
            activations.push(y);
        }
        activations
    }

    /// Cross-entropy of an image; its gradient is added.
    fn loss_and_gradient(&self, image: &[f32], label: u8, gradient: &mut Self) -> f32 {
        let activations = self.forward(image);
        let mut d = softmax(&activations[3]);
        let loss = -d[usize::from(label)].max(f32::MIN_POSITIVE).ln();
        d[usize::from(label)] -= 1.0;
        for number in (0..self.layers.len()).rev() {
            let x = if number == 0 { image } else { &activations[number - 1] };
            d = self.layers[number].backward(x, &d, &mut gradient.layers[number]);
            if (1..=2).contains(&number) {
                d.iter_mut().zip(x).filter(|(_, x)| **x <= 0.0).for_each(|(d, _)| *d = 0.0);
            }
        }
        loss
    }

    fn zeroed(&self) -> Self {
        let mut other = self.clone();
        other.layers.iter_mut().flat_map(Layer::parameters).for_each(|value| *value = 0.0);
        other
    }

    /// Adam over whole passes, with a learning rate that falls to 0; the result depends on the seed alone. `progress` is told
    /// the share that is done and the loss, and stops the training by giving false.
    ///
    /// # Panics
    /// When labels and images are not of one number, or a label is no class.
    pub fn train(&mut self, data: Labelled<'_>, passes: usize, seed: u64, progress: &mut dyn FnMut(f64, f64) -> bool) {
        let (dimensions, count) = (self.dimensions(), data.labels.len());
        assert_eq!(data.images.len(), count * dimensions, "a label for each image");
        assert!(data.labels.iter().all(|&label| usize::from(label) < self.classes), "labels are classes");
        let (mut first, mut second) = (self.zeroed(), self.zeroed());
        let steps = passes * count / BATCH;
        let mut order: Vec<usize> = Vec::new();
        for step in 0..steps {
            if order.len() < BATCH {
                order = (0..count).collect();
                let key = |i: &usize| random_bits(seed, stream::DATA, *i as u32, step as u32, 1)[0];
                order.sort_by_key(key);
            }
            let batch = order.split_off(order.len() - BATCH);
            let (loss, gradient) = self.gradient(data, &batch);
            let rate = 2e-3 * (1.0 - step as f32 / steps as f32);
            self.step(gradient, &mut first, &mut second, step as i32 + 1, rate);
            if !progress((step + 1) as f64 / steps as f64, f64::from(loss)) {
                return;
            }
        }
    }

    /// Mean loss of a batch and its gradient: parts side by side, added up in order.
    fn gradient(&self, data: Labelled<'_>, batch: &[usize]) -> (f32, Self) {
        let dimensions = self.dimensions();
        let of_part = |part: &[usize]| {
            let mut gradient = self.zeroed();
            let loss = |&i: &usize| {
                self.loss_and_gradient(&data.images[i * dimensions..][..dimensions], data.labels[i], &mut gradient)
            };
            let loss: f32 = part.iter().map(loss).sum();
            (loss, gradient)
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(PARTS);
        let parts: Vec<&[usize]> = batch.chunks(BATCH / PARTS).collect();
        let of_parts = |parts: &[&[usize]]| parts.iter().map(|part| of_part(part)).collect::<Vec<_>>();
        let of_parts = &of_parts;
        let results: Vec<(f32, Self)> = thread::scope(|scope| {
            let workers: Vec<_> =
                parts.chunks(PARTS.div_ceil(threads)).map(|parts| scope.spawn(move || of_parts(parts))).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("gradients do not panic")).collect()
        });
        let mut total = self.zeroed();
        let mut loss = 0.0;
        for (part_loss, mut part) in results {
            loss += part_loss / batch.len() as f32;
            let sums = total.layers.iter_mut().flat_map(Layer::parameters);
            sums.zip(part.layers.iter_mut().flat_map(Layer::parameters))
                .for_each(|(sum, g)| *sum += *g / batch.len() as f32);
        }
        (loss, total)
    }

    fn step(&mut self, mut gradient: Self, first: &mut Self, second: &mut Self, step: i32, rate: f32) {
        let corrections = [1.0 - 0.9f32.powi(step), 1.0 - 0.999f32.powi(step)];
        let weights = self.layers.iter_mut().flat_map(Layer::parameters);
        let moments = first.layers.iter_mut().flat_map(Layer::parameters);
        let squares = second.layers.iter_mut().flat_map(Layer::parameters);
        let gradients = gradient.layers.iter_mut().flat_map(Layer::parameters);
        for (((weight, moment), square), gradient) in weights.zip(moments).zip(squares).zip(gradients) {
            *moment = 0.9 * *moment + 0.1 * *gradient;
            *square = 0.999 * *square + 0.001 * *gradient * *gradient;
            *weight -= rate * (*moment / corrections[0]) / ((*square / corrections[1]).sqrt() + 1e-8);
        }
    }
}

impl Reading {
    /// Mean of the largest probability.
    pub fn confidence(&self) -> f64 {
        let classes = self.classes();
        let largest = |row: &[f32]| f64::from(row.iter().copied().fold(0.0, f32::max));
        self.probabilities.chunks_exact(classes).map(largest).sum::<f64>() / self.len() as f64
    }

    /// Share of the images whose most probable class is their label.
    pub fn accuracy(&self, labels: &[u8]) -> f64 {
        let rows = self.probabilities.chunks_exact(self.classes()).zip(labels);
        let right = rows.filter(|(row, label)| row.iter().all(|p| *p <= row[usize::from(**label)])).count();
        right as f64 / labels.len() as f64
    }

    /// N
    pub fn len(&self) -> usize {
        self.features.len() / FEATURES
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    fn classes(&self) -> usize {
        self.probabilities.len() / self.len().max(1)
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.into_iter().map(|exp| exp / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: SampleShape = SampleShape::Image { height: 8, width: 8, channels: 1 };

    /// Images whose class is the quarter that holds a bright spot.
    fn quarters(count: usize) -> (Vec<f32>, Vec<u8>) {
        let mut images = vec![0.0; 64 * count];
        let mut labels = Vec::new();
        for (n, image) in images.chunks_exact_mut(64).enumerate() {
            let bits = random_bits(5, stream::DATA, n as u32, 0, 0);
            let (y, x) = (bits[0] as usize % 8, bits[1] as usize % 8);
            image.iter_mut().enumerate().for_each(|(i, v)| *v = 0.3 * ((i * 7 + n) % 5) as f32 / 5.0);
            image[8 * y + x] = 1.0;
            labels.push((2 * (y / 4) + x / 4) as u8);
        }
        (images, labels)
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let network = Classifier::new(SHAPE, 4, 3).expect("images");
        let (images, labels) = quarters(1);
        let mut gradient = network.zeroed();
        network.loss_and_gradient(&images, labels[0], &mut gradient);
        let loss =
            |network: &Classifier| f64::from(network.loss_and_gradient(&images, labels[0], &mut network.zeroed()));
        for layer in 0..4 {
            // Along the gradient itself, as single ones drown in rounding and kinks.
            let norm = gradient.layers[layer].weight.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(norm > 1e-4, "layer {layer} has a gradient");
            let moved = |step: f32| {
                let mut other = network.clone();
                let pairs = other.layers[layer].weight.iter_mut().zip(&gradient.layers[layer].weight);
                pairs.for_each(|(weight, g)| *weight += step * g / norm);
                loss(&other)
            };
            let slope = (moved(2e-3) - moved(-2e-3)) / 4e-3;
            assert!((slope / f64::from(norm) - 1.0).abs() <= 0.02, "layer {layer}: {slope} {norm}");
        }
    }

    #[test]
    fn a_classifier_learns_and_survives_its_file() {
        let (images, labels) = quarters(600);
        let mut network = Classifier::new(SHAPE, 4, 1).expect("images");
        network.train(Labelled { images: &images[..500 * 64], labels: &labels[..500] }, 12, 1, &mut |_, _| true);
        let reading = network.read(&images[500 * 64..]);
        assert!(reading.accuracy(&labels[500..]) >= 0.9, "{}", reading.accuracy(&labels[500..]));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.safetensors");
        network.save(&path).expect("written");
        assert_eq!(Classifier::load(&path, SHAPE).expect("own file"), network);
        let other = SampleShape::Image { height: 28, width: 28, channels: 1 };
        assert_eq!(Classifier::load(&path, other).expect_err("other images").exit_status(), 2);
    }

    #[test]
    fn embedded_classifiers_are_whole() {
        for side in [8, 28] {
            let shape = SampleShape::Image { height: side, width: side, channels: 1 };
            let network = Classifier::embedded(shape).expect("whole").expect("listed");
            assert_eq!((network.dimensions(), network.classes), (side * side, 10));
        }
        assert!(Classifier::embedded(SampleShape::Vector { dimensions: 3 }).expect("none").is_none());
    }
}
