//! What the tests of the references share: difference quotients, random networks, golden files, distributions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use statrs::function::erf::erf;

use crate::codes::{Activation, Objective, Parametrisation};
use crate::models::ar_csm::ConvConfig;

use super::dense::Layer;
use super::image_net::ImageNet;
use super::made::Made;
use super::model::{ArCsm, ContextNet};
use super::score_net::ScoreNet;
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};

/// f'(0) by a fourth-order central difference: the step makes truncation and rounding both about 1e-12 of f.
pub(super) fn derivative(f: impl Fn(f64) -> f64) -> f64 {
    let h = 1e-3;
    (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
}

/// Every partial derivative of f at `at`.
pub(super) fn gradient(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let moved = |i: usize, h: f64| {
        let mut x = at.to_vec();
        x[i] += h;
        f(&x)
    };
    (0..at.len()).map(|i| derivative(|h| moved(i, h))).collect()
}

/// Every partial derivative of f by the layers' weights and biases.
pub(super) fn gradient_by_layers(layers: &[Layer], f: impl Fn(&[Layer]) -> f64) -> Vec<Layer> {
    let with = |l: usize, layer: Layer| {
        let mut layers = layers.to_vec();
        layers[l] = layer;
        f(&layers)
    };
    let of = |l: usize| {
        let Layer { weight, bias } = &layers[l];
        Layer {
            weight: gradient(weight, |w| with(l, Layer { weight: w.to_vec(), bias: bias.clone() })),
            bias: gradient(bias, |b| with(l, Layer { weight: weight.clone(), bias: b.to_vec() })),
        }
    };
    (0..layers.len()).map(of).collect()
}

/// Integral of f by the midpoint rule with 20,000 cells.
pub(super) fn integral(low: f64, high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let width = (high - low) / 20_000.0;
    (0..20_000).map(|i| f(low + (f64::from(i) + 0.5) * width)).sum::<f64>() * width
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// |got - want| <= tolerance (1 + |want|).
#[track_caller]
pub(super) fn assert_near(label: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{label}: got {got:e}, expected {want:e}");
}

/// Every |got - want| <= tolerance times the largest |want|.
#[track_caller]
pub(super) fn assert_close(label: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{label}: lengths");
    let largest = want.iter().fold(0.0, |largest: f64, want| largest.max(want.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * largest, "{label}[{i}]: got {got:e}, expected {want:e}");
    }
}

/// Random numbers in a row, by the project's generator.
pub(super) struct Draws {
    seed: u64,
    next: u32,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    fn bits(&mut self) -> [u32; 4] {
        self.next += 1;
        random_bits(self.seed, stream::DATA, self.next, 0, 0)
    }

    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * uniform(self.bits()[0])
    }

    pub(super) fn normal(&mut self) -> f64 {
        let bits = self.bits();
        normal_pair(bits[0], bits[1]).0
    }

    pub(super) fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }

    /// Weights of variance 1 / in, biases of standard deviation 0.3.
    fn layer(&mut self, outputs: usize, inputs: usize) -> Layer {
        let scale = (inputs as f64).sqrt().recip();
        Layer {
            weight: (0..outputs * inputs).map(|_| scale * self.normal()).collect(),
            bias: (0..outputs).map(|_| 0.3 * self.normal()).collect(),
        }
    }

    /// Layers from each width to the next.
    pub(super) fn layers(&mut self, widths: &[usize]) -> Vec<Layer> {
        widths.windows(2).map(|pair| self.layer(pair[1], pair[0])).collect()
    }

    /// Gives every layer random weights; those that a mask removes are no zeros: nothing may read them.
    pub(super) fn image_net(&mut self, mut net: ImageNet) -> ImageNet {
        net.layers.iter_mut().for_each(|layer| *layer = self.layer(layer.outputs(), layer.inputs()));
        net
    }
}

pub(super) fn random_made(
    draws: &mut Draws,
    dimensions: usize,
    context: usize,
    hidden: &[usize],
    residual: bool,
    activation: Activation,
) -> Made {
    let widths = [&[dimensions], hidden, &[dimensions * context]].concat();
    Made { dimensions, context, hidden: hidden.to_vec(), residual, activation, layers: draws.layers(&widths) }
}

pub(super) fn random_score_net(
    draws: &mut Draws,
    context: usize,
    hidden: &[usize],
    activation: Activation,
    parametrisation: Parametrisation,
) -> ScoreNet {
    let mut net = ScoreNet { context, activation, parametrisation, mean: 0.25, sd: 0.5, layers: vec![] };
    net.layers = draws.layers(&[&[net.input_width()], hidden, &[1]].concat());
    net
}

/// The golden files with a masked dense context network.
pub(super) const GOLDEN_MADE: [&str; 2] = ["made_d6_osig_tanh", "made_d6_plain_softplus"];

/// The golden file with a masked convolutional context network.
pub(super) const GOLDEN_CONV: &str = "conv_5x5x1_plain_softplus";

/// All golden files.
pub(super) const GOLDEN: [&str; 3] = [GOLDEN_MADE[0], GOLDEN_MADE[1], GOLDEN_CONV];

/// One golden file: tensors by name, and its settings.
pub(super) struct Golden {
    tensors: BTreeMap<String, Vec<f64>>,
    settings: serde_json::Value,
}

impl Golden {
    /// Reads `assets/golden/NAME`.
    pub(super) fn load(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/golden");
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).expect("the golden file is readable");
        let text = std::fs::read(folder.join(format!("{name}.json"))).expect("its settings are readable");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = tensors.iter().map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F64, "{name}");
            let values = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")));
            (name.to_owned(), values.collect())
        });
        Self { tensors: tensors.collect(), settings: serde_json::from_slice(&text).expect("JSON") }
    }

    pub(super) fn tensor(&self, name: &str) -> &[f64] {
        self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no tensor {name}"))
    }

    fn setting<T: serde::de::DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_value(self.settings[key].clone()).unwrap_or_else(|e| panic!("golden setting {key}: {e}"))
    }

    fn layers(&self, prefix: &str, count: usize) -> Vec<Layer> {
        let part = |l: usize, part: &str| self.tensor(&format!("{prefix}.{l}.{part}")).to_vec();
        (0..count).map(|l| Layer { weight: part(l, "weight"), bias: part(l, "bias") }).collect()
    }

    /// The model with the weights `w0`, `w1` ...
    pub(super) fn model(&self, weights: &str) -> ArCsm {
        let score_hidden: Vec<usize> = self.setting("score_hidden");
        let context = match self.setting::<String>("context").as_str() {
            "MADE" => ContextNet::Made(self.made(weights)),
            _ => ContextNet::Image(self.gated(weights)),
        };
        let net = ScoreNet {
            context: context.width(),
            activation: self.setting("score_act"),
            parametrisation: self.setting("param"),
            mean: 0.25,
            sd: 0.5,
            layers: self.layers(&format!("{weights}.net.lin"), score_hidden.len() + 1),
        };
        ArCsm { context, net }
    }

    fn made(&self, weights: &str) -> Made {
        let hidden: Vec<usize> = self.setting("hidden");
        let layers = self.layers(&format!("{weights}.ctx.layers"), hidden.len() + 1);
        Made {
            dimensions: self.setting("D"),
            context: self.setting("C"),
            hidden,
            residual: false,
            activation: self.setting("ctx_act"),
            layers,
        }
    }

    fn gated(&self, weights: &str) -> ImageNet {
        let config = ConvConfig {
            filters: self.setting("F"),
            blocks: self.setting("blocks"),
            first_kernel: self.setting("k1"),
            kernel: self.setting("k"),
            ..ConvConfig::default()
        };
        let image = ["H", "W", "nch"].map(|key| self.setting(key));
        let mut net = ImageNet::gated(&config, image, self.setting("C"), self.setting("ctx_act"));
        for ((name, shape), layer) in net.convolutions.iter().zip(&mut net.layers) {
            layer.weight = shape.from_file_layout(self.tensor(&format!("{weights}.{name}.weight")));
            layer.bias = self.tensor(&format!("{weights}.{name}.bias")).to_vec();
        }
        net
    }

    /// Objective, sigma and eps of `csm_loss`; at the clean x, noise is not looked at.
    pub(super) fn csm(&self) -> (Objective, &[f64], &[f64]) {
        match self.tensors.get("sigma") {
            Some(sigma) => (Objective::Csm, sigma, self.tensor("eps")),
            None => (Objective::Plain, self.tensor("dsm_sigma"), self.tensor("dsm_eps")),
        }
    }

    /// Objective, sigma and eps of `dsm_loss`.
    pub(super) fn dsm(&self) -> (Objective, &[f64], &[f64]) {
        let (_, sigma, eps) = self.csm();
        (Objective::Dsm, sigma, eps)
    }
}

/// A mixture of two Gaussians, whose noisy score and distribution function are known.
pub(super) struct Mixture {
    pub(super) weights: [f64; 2],
    pub(super) means: [f64; 2],
    pub(super) sds: [f64; 2],
}

impl Mixture {
    /// (weight, mean, standard deviation) of each part under noise.
    fn parts(&self, sigma: f64) -> [(f64, f64, f64); 2] {
        [0, 1].map(|i| (self.weights[i], self.means[i], self.sds[i].hypot(sigma)))
    }

    pub(super) fn cdf(&self, y: f64, sigma: f64) -> f64 {
        let of_part = |(weight, mean, sd): (f64, f64, f64)| weight * 0.5 * (1.0 + erf((y - mean) / (sd * 2f64.sqrt())));
        self.parts(sigma).map(of_part).iter().sum()
    }

    /// log p_sigma(y)
    pub(super) fn log_density(&self, y: f64, sigma: f64) -> f64 {
        let of_part = |(weight, mean, sd): (f64, f64, f64)| {
            weight * (-0.5 * ((y - mean) / sd).powi(2)).exp() / (sd * std::f64::consts::TAU.sqrt())
        };
        self.parts(sigma).map(of_part).iter().sum::<f64>().ln()
    }

    /// d/dy log p_sigma(y), from logarithms so that it holds far out.
    pub(super) fn score(&self, y: f64, sigma: f64) -> f64 {
        let parts = self.parts(sigma);
        let logs = parts.map(|(weight, mean, sd)| (weight / sd).ln() - 0.5 * ((y - mean) / sd).powi(2));
        let largest = logs[0].max(logs[1]);
        let shares = logs.map(|log| (log - largest).exp());
        let slopes = parts.map(|(_, mean, sd)| (mean - y) / (sd * sd));
        dot(&shares, &slopes) / (shares[0] + shares[1])
    }
}

/// Kolmogorov's and Smirnov's test: the empirical distribution is as near to `cdf` as in 99.9 % of cases.
#[track_caller]
pub(super) fn kolmogorov_smirnov(label: &str, mut samples: Vec<f64>, cdf: impl Fn(f64) -> f64) {
    samples.sort_by(f64::total_cmp);
    let n = samples.len() as f64;
    for (i, &x) in samples.iter().enumerate() {
        let (below, here) = (i as f64 / n, cdf(x));
        let gap = (here - below).abs().max((below + 1.0 / n - here).abs());
        assert!(gap * n.sqrt() <= 1.95, "{label}: distance {gap} at {x}, of {n} samples");
    }
}
