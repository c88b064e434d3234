//! The model of arcsm in Burn: a masked dense context network and a score network shared by all dimensions.
//!
//! Letters: B batch, D dimensions, K context width, N = B * D rows of the score network. The slope of the score is carried
//! forward beside its value, by hand; Burn differentiates the loss backward. Weights are stored (in, out), as Burn likes
//! them best; masked-out ones are zero from the start, and their gradients are multiplied by the mask.

use burn::module::Param;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use burn::tensor::Distribution;
use burn::tensor::activation::{elu, relu, sigmoid, softplus, tanh};

/// Sizes and forms, by the names of arcsm's configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub dimensions: usize,
    pub hidden: Vec<usize>,
    pub context: usize,
    pub activation: String,
    pub score_hidden: Vec<usize>,
    pub score_activation: String,
    pub parametrisation: String,
    pub mean: f64,
    pub sd: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    Csm,
    Dsm,
}

/// y = x W + b
#[derive(Module, Debug)]
pub struct Dense {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
pub struct Networks {
    /// Of the context network.
    pub layers: Vec<Dense>,
    /// Of the score network.
    pub net: Vec<Dense>,
}

pub struct ArCsm {
    pub settings: Settings,
    pub networks: Networks,
    /// (in, out) for each layer of the context network.
    pub masks: Vec<Tensor<2>>,
}

/// Clean samples and their noise, (B, D) each.
#[derive(Clone)]
pub struct Batch {
    pub x: Tensor<2>,
    pub sigma: Tensor<2>,
    pub eps: Tensor<2>,
}

impl Dense {
    /// Uniform on +-1/sqrt(in), zero where a mask forbids.
    fn random(n_in: usize, n_out: usize, mask: Option<&Tensor<2>>, device: &Device) -> Self {
        let bound = (n_in as f64).powf(-0.5);
        let weight = Tensor::random([n_in, n_out], Distribution::Uniform(-bound, bound), device);
        let weight = mask.map_or(weight.clone(), |mask| weight * mask.clone());
        Self { weight: Param::from_tensor(weight), bias: Param::from_tensor(Tensor::zeros([n_out], device)) }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val()) + self.bias.val().unsqueeze()
    }
}

/// h = phi(z) and its tangent h' = phi'(z) t; `t` may be one row for all.
fn activate(name: &str, z: Tensor<2>, t: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    match name {
        "silu" => {
            let s = sigmoid(z.clone());
            let h = z * s.clone();
            let slope = s.clone() + h.clone() * (s.neg() + 1.0);
            (h, slope * t)
        }
        "softplus" => (softplus(z.clone(), 1.0), sigmoid(z) * t),
        "tanh" => {
            let h = tanh(z);
            (h.clone(), (h.square().neg() + 1.0) * t)
        }
        _ => panic!("activation {name}: expected silu, softplus or tanh"),
    }
}

/// (in, out): 1 where the degree of the output is greater, or as great in hidden layers.
fn mask(low: &[usize], high: &[usize], is_last: bool, device: &Device) -> Tensor<2> {
    let sees = |from: usize, to: usize| if is_last { to > from } else { to >= from };
    let values = low.iter().flat_map(|&from| high.iter().map(move |&to| f32::from(u8::from(sees(from, to)))));
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), [low.len(), high.len()]), device)
}

impl ArCsm {
    pub fn new(settings: Settings, device: &Device) -> Self {
        let d = settings.dimensions;
        let mut degrees: Vec<Vec<usize>> = vec![(1..=d).collect()];
        for &width in &settings.hidden {
            degrees.push((0..width).map(|unit| unit * (d - 1).max(1) / width + 1).collect());
        }
        degrees.push((1..=d).flat_map(|degree| std::iter::repeat_n(degree, settings.context)).collect());
        let last = degrees.len() - 2;
        let masks: Vec<Tensor<2>> =
            (0..=last).map(|i| mask(&degrees[i], &degrees[i + 1], i == last, &device.clone().inner())).collect();
        let layer = |(pair, mask): (&[Vec<usize>], &Tensor<2>)| {
            let mask = Tensor::from_data(mask.to_data(), device);
            Dense::random(pair[0].len(), pair[1].len(), Some(&mask), device)
        };
        let layers = degrees.windows(2).zip(&masks).map(layer).collect();
        let n_in = settings.context + if settings.parametrisation == "plain" { 1 } else { 2 };
        let widths: Vec<usize> = [&[n_in], &settings.score_hidden[..], &[1]].concat();
        let net = widths.windows(2).map(|pair| Dense::random(pair[0], pair[1], None, device)).collect();
        Self { settings, networks: Networks { layers, net }, masks }
    }

    /// (B, D) -> (B * D, K); c_d depends on x_<d alone.
    pub fn contexts(&self, x: Tensor<2>) -> Tensor<2> {
        let (last, hidden) = self.networks.layers.split_last().expect("there is an output layer");
        let activation = |h| if self.settings.activation == "elu" { elu(h, 1.0) } else { relu(h) };
        let h = hidden.iter().fold(x, |h, layer| activation(layer.forward(h)));
        let c = last.forward(h);
        let rows = c.dims()[0] * self.settings.dimensions;
        c.reshape([rows, self.settings.context])
    }

    /// Scores and slopes (N, 1) at x~, with sigma (N, 1) each.
    pub fn scores(
        &self,
        c: Tensor<2>,
        x: Tensor<2>,
        sigma: Tensor<2>,
        with_slope: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let Settings { context, mean, sd, .. } = self.settings;
        let noise = || sigma.clone().log() * 0.5;
        // s = scale f + drift (x - mean), and du/dx = seed.
        let centred = || x.clone() - mean;
        let (inputs, scale, seed, drift) = match self.settings.parametrisation.as_str() {
            "plain" => (vec![c, x.clone()], None, None, None),
            "osig" => (vec![c, centred(), noise()], Some(sigma.clone().recip()), None, None),
            _ => {
                let variance = sigma.clone().square() + sd * sd;
                let seed = variance.clone().sqrt().recip();
                let scale = seed.clone() * sd / sigma.clone();
                (vec![c, centred() * seed.clone(), noise()], Some(scale), Some(seed), Some(variance.recip().neg()))
            }
        };
        let (last, hidden) = self.networks.net.split_last().expect("there is an output layer");
        let mut h = Tensor::cat(inputs, 1);
        let mut tangent: Option<Tensor<2>> = None;
        for layer in hidden {
            let z = layer.forward(h);
            if with_slope {
                let t = match tangent {
                    None => layer.weight.val().narrow(0, context, 1),
                    Some(tangent) => tangent.matmul(layer.weight.val()),
                };
                let (value, along) = activate(&self.settings.score_activation, z, t);
                (h, tangent) = (value, Some(along));
            } else {
                h = match self.settings.score_activation.as_str() {
                    "silu" => z.clone() * sigmoid(z),
                    "softplus" => softplus(z, 1.0),
                    _ => tanh(z),
                };
            }
        }
        let mut s = last.forward(h);
        let mut ds = tangent.map(|tangent| tangent.matmul(last.weight.val()));
        if let Some(scale) = scale {
            s = s * scale.clone();
            ds = ds.map(|ds| ds * scale);
        }
        if let (Some(seed), Some(drift)) = (seed, drift) {
            s = s + centred() * drift.clone();
            ds = ds.map(|ds| ds * seed + drift);
        }
        (s, ds)
    }

    /// Mean over the batch, sum over the dimensions.
    pub fn loss(&self, objective: Objective, batch: Batch) -> Tensor<1> {
        let [n_samples, dimensions] = batch.x.dims();
        let rows = |tensor: Tensor<2>| tensor.reshape([n_samples * dimensions, 1]);
        let c = self.contexts(batch.x.clone());
        let (x, sigma, eps) = (rows(batch.x), rows(batch.sigma), rows(batch.eps));
        let is_plain = self.settings.parametrisation == "plain";
        let x_tilde = if is_plain && objective == Objective::Csm { x } else { x + sigma.clone() * eps.clone() };
        let (s, ds) = self.scores(c, x_tilde, sigma.clone(), objective == Objective::Csm);
        let each = match ds {
            None => (sigma * s + eps).square() * 0.5,
            Some(ds) if is_plain => s.square() * 0.5 + ds,
            Some(ds) => sigma.square() * (s.square() * 0.5 + ds),
        };
        each.sum() / n_samples as f64
    }

    /// Gradients with those of masked-out weights zeroed.
    fn masked(&self, loss: &Tensor<1>) -> GradientsParams {
        let mut gradients = GradientsParams::from_grads(loss.backward(), &self.networks);
        for (layer, mask) in self.networks.layers.iter().zip(&self.masks) {
            let gradient: Tensor<2> = gradients.remove(layer.weight.id).expect("every layer takes part in the loss");
            gradients.register(layer.weight.id, gradient * mask.clone());
        }
        gradients
    }
}

pub struct Trainer {
    pub model: ArCsm,
    adam: ModuleOptimizer,
    learning_rate: f64,
}

impl Trainer {
    pub fn new(model: ArCsm, beta_2: f32, learning_rate: f64) -> Self {
        let adam = AdamConfig::new().with_beta_2(beta_2).with_epsilon(1e-8).init();
        Self { model, adam, learning_rate }
    }

    /// One step; the loss before it stays on the device.
    pub fn step(&mut self, objective: Objective, batch: Batch) -> Tensor<1> {
        let loss = self.model.loss(objective, batch);
        let gradients = self.model.masked(&loss);
        self.model.networks = self.adam.step(self.learning_rate, self.model.networks.clone(), gradients);
        loss.detach()
    }
}
