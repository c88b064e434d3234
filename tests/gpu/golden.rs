//! The model on the GPU against golden vectors of an independent float64 implementation.

use arcsm::nn::Noise;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arcsm::codes::Objective;
use arcsm::files::arrays::HostTensor;
use arcsm::gpu::{Gpu, Tensor};
use arcsm::kernels::Adam;
use arcsm::models::ar_csm::{ArCsm, Batch, ConvConfig, ModelConfig, Network, ScoreConfig, Workspace};
use arcsm::nn::ParamBuffer;
use arcsm::shape::SampleShape;
use serde::de::DeserializeOwned;

use crate::shared;

const FILES: [&str; 3] = ["made_d6_osig_tanh", "made_d6_plain_softplus", "conv_5x5x1_plain_softplus"];

/// Tensors and settings of one file.
struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    settings: serde_json::Value,
}

/// A golden model on the GPU, with its batch in a workspace.
struct Bench<'g> {
    gpu: &'g Gpu,
    golden: Golden,
    model: ArCsm,
    weights: ParamBuffer,
    gradient: ParamBuffer,
    workspace: Workspace,
}

impl Golden {
    /// From `assets/golden`.
    fn load(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/golden");
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).expect("the golden file is readable");
        let text = std::fs::read(folder.join(format!("{name}.json"))).expect("its settings are readable");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = tensors.iter().map(|(name, view)| {
            let values = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")));
            (name.to_owned(), (view.shape().to_vec(), values.collect()))
        });
        Self { tensors: tensors.collect(), settings: serde_json::from_slice(&text).expect("JSON") }
    }

    fn values(&self, name: &str) -> &[f64] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no tensor {name}")).1
    }

    fn setting<T: DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_value(self.settings[key].clone()).unwrap_or_else(|e| panic!("golden setting {key}: {e}"))
    }

    fn conv(&self) -> ConvConfig {
        ConvConfig {
            filters: self.setting("F"),
            blocks: self.setting("blocks"),
            first_kernel: self.setting("k1"),
            kernel: self.setting("k"),
            ..ConvConfig::default()
        }
    }

    /// Whether the objective without noise is meant.
    fn is_plain(&self) -> bool {
        !self.tensors.contains_key("sigma")
    }

    /// (row, x~, sigma, eps) of every (sample, dimension), the floats as bits.
    fn rows(&self, objective: Objective) -> Vec<u32> {
        let names = if self.is_plain() { ["dsm_sigma", "dsm_eps"] } else { ["sigma", "eps"] };
        let [sigma, eps] = names.map(|name| self.values(name));
        let scale = if objective == Objective::Plain { 0.0 } else { 1.0 };
        let row = |(r, x): (usize, &f64)| {
            let floats = [x + scale * sigma[r] * eps[r], sigma[r], eps[r]].map(|value| (value as f32).to_bits());
            [r as u32, floats[0], floats[1], floats[2]]
        };
        self.values("x").iter().enumerate().flat_map(row).collect()
    }

    fn csm(&self) -> Objective {
        if self.is_plain() { Objective::Plain } else { Objective::Csm }
    }
}

impl<'g> Bench<'g> {
    fn new(gpu: &'g Gpu, golden: Golden) -> Self {
        let is_image = golden.settings.get("k1").is_some();
        let config = ModelConfig {
            network: if is_image { Network::Gated } else { Network::Made },
            hidden: if is_image { Vec::new() } else { golden.setting("hidden") },
            conv: if is_image { golden.conv() } else { ConvConfig::default() },
            activation: golden.setting("ctx_act"),
            context: golden.setting("C"),
            score: ScoreConfig {
                hidden: golden.setting("score_hidden"),
                activation: golden.setting("score_act"),
                parametrisation: golden.setting("param"),
                mean: Some(0.25),
                sd: Some(0.5),
                range: None,
            },
            ..ModelConfig::default()
        };
        let shape = match is_image {
            true => SampleShape::Image {
                height: golden.setting("H"),
                width: golden.setting("W"),
                channels: golden.setting("nch"),
            },
            false => SampleShape::Vector { dimensions: golden.setting("D") },
        };
        let model = ArCsm::new(gpu, &config, shape).expect("laid out");
        let to_f32 = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f64>))| {
            (name.clone(), HostTensor::new(shape.clone(), values.iter().map(|&value| value as f32).collect()))
        };
        let tensors: BTreeMap<_, _> = golden.tensors.iter().map(to_f32).collect();
        let weights = ParamBuffer::from_tensors(gpu, "weights", &model.table, &tensors, "w0.").expect("all there");
        let gradient = ParamBuffer::zeros(gpu, "gradient", &model.table).expect("memory");
        let workspace = model.workspace(gpu, golden.setting("B"), 1, true).expect("memory");
        gpu.write(&workspace.x, &tensors["x"].values).expect("written");
        Self { gpu, golden, model, weights, gradient, workspace }
    }

    fn loss_and_gradient(&self, objective: Objective) {
        self.gpu.write(&self.workspace.score.rows, &self.golden.rows(objective)).expect("written");
        let noise = Noise { sigma_min: 1.0, sigma_max: 1.0, enabled: true, seed: 0, step: 0, first_sample: 0 };
        let batch = Batch { objective, bounds: [0.0, 1.0], noise, context_noise: 0.0, context_dropout: 0.0 };
        let mut recorder = self.gpu.record("golden");
        let (weights, gradient) = (&self.weights, &self.gradient);
        self.model
            .loss_and_gradient_of_rows(&mut recorder, &batch, weights, gradient, &self.workspace)
            .expect("recorded");
        recorder.submit().expect("submitted");
    }

    fn read(&self, tensor: &Tensor) -> Vec<f32> {
        self.gpu.read(tensor).expect("read")
    }

    /// Every parameter of `got` against the golden tensors whose names start with `prefix`.
    #[track_caller]
    fn assert_parameters_near(&self, got: &ParamBuffer, prefix: &str, tolerance: f64) {
        for (id, slot) in self.model.table.slots() {
            let name = format!("{prefix}.{}", slot.name);
            let got = got.read(self.gpu, id).expect("read");
            assert_near(&name, &got.values, self.golden.values(&name), tolerance);
        }
    }
}

/// |got - want| <= tolerance |want|, in the Euclidean norm.
#[track_caller]
pub(super) fn assert_near(label: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{label}");
    let norm = |terms: &mut dyn Iterator<Item = f64>| terms.map(|term| term * term).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(want).map(|(&got, want)| f64::from(got) - want));
    let size = norm(&mut want.iter().copied());
    println!("{label}: relative error {:.1e}, at most {tolerance:.0e}", error / size);
    assert!(error <= tolerance * size, "{label}: error {error:e} of {size:e}");
}

/// Single precision through at most four layers, measured against the whole tensor.
pub(super) const FORWARD: f64 = 1e-5;
/// Gradients pass all of them twice, second derivatives included.
pub(super) const BACKWARD: f64 = 1e-4;

#[test]
fn golden_contexts_scores_losses_and_gradients() {
    let Some(gpu) = shared() else { return };
    for name in FILES {
        let bench = Bench::new(gpu, Golden::load(name));
        let golden = &bench.golden;
        gpu.write(&bench.workspace.score.rows, &golden.rows(golden.csm())).expect("written");
        let mut recorder = gpu.record("scores");
        bench.model.scores_of_rows(&mut recorder, &bench.weights, &bench.workspace).expect("recorded");
        recorder.submit().expect("submitted");
        assert_near(name, &bench.read(bench.workspace.context_net.context()), golden.values("ctx"), FORWARD);
        let result = bench.read(&bench.workspace.score.result);
        for (column, name) in ["s", "ds"].into_iter().enumerate() {
            let got: Vec<f32> = result.chunks_exact(4).map(|row| row[column]).collect();
            assert_near(name, &got, golden.values(name), FORWARD);
        }
        for (prefix, objective) in [("csm", golden.csm()), ("dsm", Objective::Dsm)] {
            bench.loss_and_gradient(objective);
            let loss = format!("{prefix}_loss");
            assert_near(&loss, &bench.read(&bench.workspace.score.loss)[..1], golden.values(&loss), FORWARD);
            bench.assert_parameters_near(&bench.gradient, &format!("{prefix}_grad"), BACKWARD);
        }
    }
}

#[test]
fn golden_steps_of_adam() {
    let Some(gpu) = shared() else { return };
    for name in FILES {
        let bench = Bench::new(gpu, Golden::load(name));
        let zeros = |label: &str| ParamBuffer::zeros(gpu, label, &bench.model.table).expect("memory");
        let moments = [zeros("first_moment"), zeros("second_moment"), zeros("average")];
        let norms = gpu.upload("squared_norms", &[4], &[0.0_f32; 4]).expect("memory");
        let losses = bench.golden.values("adam_losses");
        for step in 1..=4 {
            bench.loss_and_gradient(bench.golden.csm());
            let loss = bench.read(&bench.workspace.score.loss);
            assert_near(&format!("{name} loss {step}"), &loss[..1], &losses[step - 1..step], BACKWARD);
            if step < 4 {
                adam_step(&bench, &moments, &norms, step as i32);
                bench.assert_parameters_near(&bench.weights, &format!("w{step}"), BACKWARD);
            }
        }
    }
}

fn adam_step(bench: &Bench<'_>, [first, second, average]: &[ParamBuffer; 3], health: &Tensor, step: i32) {
    let mut recorder = bench.gpu.record("adam");
    let table = Arc::clone(&bench.model.table);
    for (id, slot) in table.slots() {
        let blocks: Vec<u32> =
            slot.live_blocks(Adam::BLOCK_WORDS).into_iter().map(|block| Adam::block(block, false)).collect();
        let adam = Adam {
            n_values: slot.words() as u32,
            n_blocks: blocks.len() as u32,
            rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            correction1: 1.0 - 0.9_f32.powi(step),
            correction2: (1.0 - 0.999_f64.powi(step)) as f32,
            epsilon: 1e-8,
            decay: 0.0,
            clip_norm: 0.0,
            ema_decay: 0.0,
            gradient: &bench.gradient.words(id),
            blocks: &bench.gpu.upload("blocks", &[blocks.len()], &blocks).expect("memory"),
            value: &bench.weights.words(id),
            first_moment: &first.words(id),
            second_moment: &second.words(id),
            average: &average.words(id),
            health,
        };
        recorder.run(&adam).expect("recorded");
    }
    recorder.submit().expect("submitted");
}
