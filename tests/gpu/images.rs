//! The convolutional context networks: what they must not see, by bits, and their gradients against the twins'.

use arcsm::nn::Noise;
use std::collections::BTreeMap;

use arcsm::codes::{Activation, Objective, Parametrisation};
use arcsm::config::Config;
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::{ArCsm, Batch, ConvConfig, ModelConfig, Network, ScoreConfig};
use arcsm::nn::ParamBuffer;
use arcsm::numbers::random::{random_bits, stream, uniform};
use arcsm::reference::dense::Layer;
use arcsm::reference::dropout::Dropout;
use arcsm::reference::image_net::ImageNet;
use arcsm::reference::score_net::{Loss, ScoreNet};
use arcsm::reference::{self, model::ContextNet};
use arcsm::shape::SampleShape;

use crate::golden::{BACKWARD, FORWARD, assert_near};
use crate::model::{answers, normals};
use crate::shared;

/// A network for images of (rows, columns, colours). 5 filters fall into 3 colour groups unevenly.
#[derive(Debug, Clone, Copy)]
struct Case {
    network: Network,
    size: [usize; 3],
    context: usize,
    blocks: usize,
    first_kernel: usize,
    downsamplings: usize,
}

/// With contexts that fill whole vec4s of a position, and others.
const GATED: Case =
    Case { network: Network::Gated, size: [6, 4, 3], context: 3, blocks: 2, first_kernel: 5, downsamplings: 0 };
const TWO_STREAMS: Case = Case { network: Network::PixelCnn, context: 4, blocks: 3, ..GATED };
const HALVED: Case = Case { network: Network::PixelCnn, downsamplings: 1, ..GATED };
const QUARTERED: Case = Case { size: [4, 8, 3], blocks: 1, downsamplings: 2, ..HALVED };

impl Case {
    fn config(&self, dropout: f32) -> ModelConfig {
        let Self { network, context, blocks, first_kernel, downsamplings, .. } = *self;
        ModelConfig {
            network,
            context,
            conv: ConvConfig { filters: 5, blocks, first_kernel, kernel: 3, downsamplings, dropout },
            activation: Activation::Silu,
            score: ScoreConfig {
                hidden: vec![7, 10],
                activation: Activation::Tanh,
                parametrisation: Parametrisation::Edm,
                mean: Some(0.25),
                sd: Some(0.5),
                range: None,
            },
            ..ModelConfig::default()
        }
    }

    fn model(&self, gpu: &Gpu, dropout: f32) -> ArCsm {
        let [height, width, channels] = self.size;
        ArCsm::new(gpu, &self.config(dropout), SampleShape::Image { height, width, channels }).expect("laid out")
    }

    /// The twin with the same weights.
    fn twin(&self, gpu: &Gpu, model: &ArCsm, weights: &ParamBuffer, dropout: Dropout) -> reference::model::ArCsm {
        let config = self.config(0.0);
        let new = if self.network == Network::Gated { ImageNet::gated } else { ImageNet::two_stream };
        let mut net = new(&config.conv, self.size, self.context, config.activation);
        net.dropout = Some(dropout);
        let values = in_files(gpu, model, weights);
        for (layer, (name, shape)) in net.layers.iter_mut().zip(&net.convolutions) {
            let [weight, bias] = ["weight", "bias"].map(|part| &values[&format!("{name}.{part}")]);
            *layer = Layer { weight: shape.from_file_layout(weight), bias: bias.clone() };
        }
        let names = model.table.slots().map(|(_, slot)| slot.name.as_str()).filter(|name| !name.starts_with("ctx."));
        let layers = names.filter_map(|name| name.strip_suffix(".weight")).map(|name| {
            let [weight, bias] = ["weight", "bias"].map(|part| values[&format!("{name}.{part}")].clone());
            Layer { weight, bias }
        });
        let score = &config.score;
        let net_of_scores = ScoreNet {
            context: self.context,
            activation: score.activation,
            parametrisation: score.parametrisation,
            mean: 0.25,
            sd: 0.5,
            layers: layers.collect(),
        };
        reference::model::ArCsm { context: ContextNet::Image(net), net: net_of_scores }
    }
}

/// Weights of variance 1 / (2 in), biases too. Those that a mask removes are no zeros: nothing may read them.
fn random_weights(gpu: &Gpu, model: &ArCsm) -> ParamBuffer {
    let weights = ParamBuffer::zeros(gpu, "weights", &model.table).expect("memory");
    for (index, (id, slot)) in model.table.slots().enumerate() {
        let n_in = slot.shape.last().expect("a parameter has a shape");
        let scale = (2.0 * *n_in as f32).sqrt().recip();
        let values = normals(slot.shape.iter().product(), 100 + index as u64);
        gpu.write(&weights.tensor(id), &values.iter().map(|value| scale * value).collect::<Vec<_>>()).expect("written");
    }
    weights
}

/// Every parameter as files have it.
fn in_files(gpu: &Gpu, model: &ArCsm, parameters: &ParamBuffer) -> BTreeMap<String, Vec<f64>> {
    let values = |id| parameters.read(gpu, id).expect("read").values.into_iter().map(f64::from).collect();
    model.table.slots().map(|(id, slot)| (slot.name.clone(), values(id))).collect()
}

#[test]
fn no_bit_of_a_later_colour_or_pixel_leaks() {
    let Some(gpu) = shared() else { return };
    let odd = |case| Case { size: [6, 5, 3], ..case };
    for case in [GATED, odd(GATED), TWO_STREAMS, odd(TWO_STREAMS), HALVED, QUARTERED] {
        let model = case.model(gpu, 0.0);
        let weights = random_weights(gpu, &model);
        let dimensions = model.dimensions();
        // Sample 0 as it is, sample 1 + j with x_j changed.
        let workspace = model.workspace(gpu, 1 + dimensions, 1, false).expect("memory");
        let mut x = normals(dimensions, 1).repeat(1 + dimensions);
        for j in 0..dimensions {
            x[(1 + j) * dimensions + j] += 0.75;
        }
        let answers = answers(gpu, &model, &weights, &workspace, &x);
        let (original, changed) = answers.split_at(dimensions);
        let [_, width, channels] = case.size;
        let near = |i: usize, j: usize| {
            let [at, from] = [i, j].map(|dimension| [dimension / channels / width, dimension / channels % width]);
            at[0] - from[0] <= 2 && at[1].abs_diff(from[1]) <= 2
        };
        let mut seen = 0;
        for (j, sample) in changed.chunks_exact(dimensions).enumerate() {
            for (i, answer) in sample.iter().enumerate() {
                let depends = answer != &original[i];
                seen += usize::from(depends);
                assert!(!depends || i > j, "{case:?}: {i} sees x_{j}");
                assert!(depends || i <= j || !near(i, j), "{case:?}: {i} does not see x_{j}");
            }
        }
        let all = dimensions * (dimensions - 1) / 2;
        println!("{case:?}: {seen} of {all} pairs depend, none of {} others", dimensions * dimensions - all);
    }
}

const BATCH: usize = 16;
const NOISE: Noise = Noise { sigma_min: 0.1, sigma_max: 1.0, enabled: true, seed: 77, step: 3, first_sample: 5 };

/// (x, sigma, eps) of every (sample, dimension).
fn noisy_samples(dimensions: usize) -> [Vec<f64>; 3] {
    let count = BATCH * dimensions;
    let level = |r| uniform(random_bits(4, stream::DATA, r as u32, 1, 0)[0]);
    let sigma: Vec<f32> = (0..count).map(|r| (0.2 + 0.8 * level(r)) as f32).collect();
    [normals(count, 2), sigma, normals(count, 3)].map(|values| values.into_iter().map(f64::from).collect())
}

#[test]
fn contexts_and_gradients_agree_with_the_twins() {
    let Some(gpu) = shared() else { return };
    let grey = Case { size: [6, 4, 1], ..GATED };
    // The last two have groups that say all or nothing, and then no tap at all.
    let cases = [GATED, TWO_STREAMS, HALVED, QUARTERED, grey, Case { first_kernel: 1, ..grey }];
    for case in cases {
        let rate = 0.3_f32;
        let model = case.model(gpu, rate);
        let weights = random_weights(gpu, &model);
        let gradient = ParamBuffer::zeros(gpu, "gradient", &model.table).expect("memory");
        let workspace = model.workspace(gpu, BATCH, 1, true).expect("memory");
        let [x, sigma, eps] = noisy_samples(model.dimensions());
        let bits = |value: f64| (value as f32).to_bits();
        let row = |r: usize| [r as u32, bits(x[r] + sigma[r] * eps[r]), bits(sigma[r]), bits(eps[r])];
        let rows: Vec<u32> = (0..x.len()).flat_map(row).collect();
        let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        gpu.write(&workspace.x, &narrow).expect("written");

        let Noise { seed, step, first_sample, .. } = NOISE;
        let dropout = Dropout { rate: f64::from(rate), seed, step, first_sample, first_quad: 0 };
        let in_training = case.twin(gpu, &model, &weights, dropout);
        let outside = case.twin(gpu, &model, &weights, Dropout { rate: 0.0, ..dropout });

        gpu.write(&workspace.score.rows, &rows).expect("written");
        let mut recorder = gpu.record("scores");
        model.scores_of_rows(&mut recorder, &weights, &workspace).expect("recorded");
        recorder.submit().expect("submitted");
        let got: Vec<f32> = gpu.read(workspace.context_net.context()).expect("read");
        assert_near(&format!("{case:?} contexts"), &got, &outside.context.contexts(&x), FORWARD);

        for objective in [Objective::Csm, Objective::Dsm] {
            let batch = Batch { objective, bounds: [0.0, 1.0], noise: NOISE, context_noise: 0.0, context_dropout: 0.0 };
            let mut recorder = gpu.record("gradient");
            model.loss_and_gradient_of_rows(&mut recorder, &batch, &weights, &gradient, &workspace).expect("recorded");
            recorder.submit().expect("submitted");
            let got: Vec<f32> = gpu.read(workspace.context_net.context()).expect("read");
            let contexts = in_training.context.contexts(&x);
            assert_near(&format!("{case:?} contexts in training"), &got, &contexts, FORWARD);
            let want = in_training.loss_and_gradients(&x, &sigma, &eps, &Loss { objective, bounds: [0.0, 1.0] });
            let loss: Vec<f32> = gpu.read(&workspace.score.loss).expect("read");
            assert_near(&format!("{case:?} {objective:?} loss"), &loss[..1], &[want.loss], BACKWARD);
            let ContextNet::Image(net) = &in_training.context else { unreachable!("an image network") };
            let of_contexts = want
                .context
                .iter()
                .zip(&net.convolutions)
                .flat_map(|(layer, (_, shape))| [shape.to_file_layout(&layer.weight), layer.bias.clone()]);
            let of_scores = want.net.iter().flat_map(|layer| [layer.weight.clone(), layer.bias.clone()]);
            let wants: Vec<Vec<f64>> = of_contexts.chain(of_scores).collect();
            assert_eq!(wants.len(), model.table.slots().count(), "{case:?}");
            for ((id, slot), want) in model.table.slots().zip(&wants) {
                let (name, got) = (&slot.name, gradient.read(gpu, id).expect("read").values);
                assert_near(&format!("{case:?} {objective:?} {name}"), &got, want, BACKWARD);
                // What the mask removes, and what dropout took from every sample.
                let stray = got.iter().zip(want).filter(|&(&got, &want)| want == 0.0 && got != 0.0).count();
                assert_eq!(stray, 0, "{case:?} {objective:?}: hidden weights of {name} have gradients");
            }
        }
    }
}

#[test]
fn the_same_step_on_images_gives_the_same_bits() {
    let Some(gpu) = shared() else { return };
    for (case, objective, row_stride) in [(GATED, Objective::Csm, 3), (HALVED, Objective::Dsm, 1)] {
        let mut settings = Config { model: case.config(0.25), ..Config::default() };
        settings.train.objective = objective;
        (settings.noise.context, settings.noise.dropout) = (0.1, 0.2);
        let model = case.model(gpu, 0.25);
        let weights = random_weights(gpu, &model);
        let run = |step: u64| -> Vec<Vec<u32>> {
            let workspace = model.workspace(gpu, BATCH, row_stride, true).expect("memory");
            let gradient = ParamBuffer::zeros(gpu, "gradient", &model.table).expect("memory");
            gpu.write(&workspace.x, &normals(BATCH * model.dimensions(), 2)).expect("written");
            let mut recorder = gpu.record("step");
            let batch = settings.batch_of_step(step, 0);
            model.loss_and_gradient(&mut recorder, &batch, &weights, &gradient, &workspace).expect("recorded");
            recorder.submit().expect("submitted");
            let gradients = model.table.slots().map(|(id, slot)| {
                let values: Vec<f32> = gpu.read(&gradient.tensor(id)).expect("read");
                assert!(values.iter().all(|value| value.is_finite()), "{}", slot.name);
                assert!(values.iter().any(|&value| value != 0.0), "{} has no gradient", slot.name);
                values.into_iter().map(f32::to_bits).collect()
            });
            gradients.chain([gpu.read(&workspace.score.loss).expect("read")]).collect()
        };
        let first = run(8);
        assert!(first == run(8), "{case:?}: another run, other bits");
        assert!(first != run(9), "{case:?}: the step does not matter");
    }
}
