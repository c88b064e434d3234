//! Models for every order of the dimensions: what they must not see, their gradients, and filling in by them.

use arcsm::nn::Noise;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use arcsm::ask::inpaint::{InpaintRequest, Mask, inpaint, mean_squared_error};
use arcsm::ask::trained::Trained;
use arcsm::checkpoint::Checkpoint;
use arcsm::codes::{Activation, Objective, Parametrisation};
use arcsm::config::Config;
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::{ArCsm, Batch, ModelConfig, ScoreConfig};
use arcsm::nn::ParamBuffer;
use arcsm::order::{Order, Orders, Permutation};
use arcsm::reference::dense::Layer;
use arcsm::reference::made::Made;
use arcsm::reference::order::AnyOrder;
use arcsm::reference::score_net::{Loss, ScoreNet};
use arcsm::reference::{self, model::ContextNet};
use arcsm::shape::SampleShape;
use arcsm::standard::Standardise;
use arcsm::train::train;

use crate::golden::{BACKWARD, FORWARD, assert_near};
use crate::model::{answers, normals};
use crate::shared;
use crate::training::{plan, small, trained};

const DIMENSIONS: usize = 7;
const CONTEXT: usize = 3;
/// What is missing in the order that is looked at.
const MISSING: [bool; DIMENSIONS] = [true, false, true, true, false, false, true];

fn config(hidden: &[usize], residual: bool) -> ModelConfig {
    ModelConfig {
        order: Order::Any,
        hidden: hidden.to_vec(),
        residual,
        activation: Activation::Tanh,
        context: CONTEXT,
        score: ScoreConfig {
            hidden: vec![7, 10],
            activation: Activation::Silu,
            parametrisation: Parametrisation::Edm,
            mean: Some(0.25),
            sd: Some(0.5),
            range: None,
        },
        ..ModelConfig::default()
    }
}

/// A model in an order, and stored weights of variance 1 / (2 in), those of what is seen too.
fn random_model(gpu: &Gpu, config: &ModelConfig, order: Permutation) -> (ArCsm, ParamBuffer) {
    let shape = SampleShape::Vector { dimensions: DIMENSIONS };
    let model = ArCsm { order, ..ArCsm::new(gpu, config, shape).expect("laid out") };
    let stored = ParamBuffer::zeros(gpu, "stored", model.stored_table()).expect("memory");
    for (index, (id, slot)) in model.stored_table().slots().enumerate() {
        let scale = (2.0 * *slot.shape.last().expect("a shape") as f32).sqrt().recip();
        let values = normals(slot.shape.iter().product(), 100 + index as u64);
        gpu.write(&stored.tensor(id), &values.iter().map(|value| scale * value).collect::<Vec<_>>()).expect("written");
    }
    (model, stored)
}

#[test]
fn no_bit_of_a_later_dimension_leaks_in_any_order() {
    let Some(gpu) = shared() else { return };
    let drawn = Orders::new(Order::Any, 0, SampleShape::Vector { dimensions: DIMENSIONS });
    let mut orders: Vec<Permutation> = (1..5).map(|step| drawn.of_step(step).into_owned()).collect();
    orders.push(Permutation::known_first(&MISSING));
    orders.push(Permutation::new(Order::Random, 8, 7));
    for order in orders {
        for (hidden, residual) in [(&[9][..], false), (&[12, 12], true), (&[8, 8, 16], true)] {
            let (model, stored) = random_model(gpu, &config(hidden, residual), order.clone());
            let weights = model.working_weights(gpu, &stored).expect("memory");
            // Sample 0 as it is, sample 1 + j with x_j changed.
            let workspace = model.workspace(gpu, 1 + DIMENSIONS, 1, false).expect("memory");
            let mut x = normals(DIMENSIONS, 1).repeat(1 + DIMENSIONS);
            for j in 0..DIMENSIONS {
                x[(1 + j) * DIMENSIONS + j] += 0.75;
            }
            let answers = answers(gpu, &model, &weights, &workspace, &x);
            let (original, changed) = answers.split_at(DIMENSIONS);
            let positions = order.positions();
            for (j, sample) in changed.chunks_exact(DIMENSIONS).enumerate() {
                for (i, answer) in sample.iter().enumerate() {
                    let may_depend = positions[i] > positions[j];
                    assert_eq!(answer != &original[i], may_depend, "{hidden:?} {order:?}: {i} of x_{j}");
                }
            }
        }
    }
}

/// Layers of a part of the network from values by name.
fn layers(values: &BTreeMap<String, Vec<f64>>, stem: &str) -> Vec<Layer> {
    let layer = |l: usize| {
        let part = |part: &str| values.get(&format!("{stem}.{l}.{part}")).cloned();
        Some(Layer { weight: part("weight")?, bias: part("bias")? })
    };
    (0..).map_while(layer).collect()
}

#[test]
fn gradients_by_the_stored_weights_agree_with_the_twin() {
    let Some(gpu) = shared() else { return };
    const BATCH: usize = 5;
    let config = config(&[11, 11, 6], true);
    let order = Permutation::known_first(&MISSING);
    let (model, stored) = random_model(gpu, &config, order.clone());
    let any_order = model.any_order.as_ref().expect("asked for");
    let workspace = model.workspace(gpu, BATCH, 1, true).expect("memory");
    let x = order.to_model(&normals(BATCH * DIMENSIONS, 3), 1);
    gpu.write(&workspace.x, &x).expect("written");
    let working = ParamBuffer::zeros(gpu, "working", &model.table).expect("memory");
    let working_gradient = ParamBuffer::zeros(gpu, "working_gradient", &model.table).expect("memory");
    let gradient = ParamBuffer::zeros(gpu, "gradient", model.stored_table()).expect("memory");
    let noise = Noise { sigma_min: 0.1, sigma_max: 1.0, enabled: true, seed: 5, step: 1, first_sample: 0 };
    let batch =
        Batch { objective: Objective::Csm, bounds: [0.0, 1.0], noise, context_noise: 0.0, context_dropout: 0.0 };
    any_order.set(gpu, &order).expect("written");
    let mut recorder = gpu.record("step");
    any_order.gather(&mut recorder, &stored, &working).expect("recorded");
    model.loss_and_gradient(&mut recorder, &batch, &working, &working_gradient, &workspace).expect("recorded");
    any_order.scatter(&mut recorder, &working_gradient, &gradient).expect("recorded");
    recorder.submit().expect("submitted");

    let in_f64 = |buffer: &ParamBuffer| -> BTreeMap<String, Vec<f64>> {
        let values = |id| buffer.read(gpu, id).expect("read").values.into_iter().map(f64::from).collect();
        buffer.table().slots().map(|(id, slot)| (slot.name.clone(), values(id))).collect()
    };
    let values = in_f64(&stored);
    let any = AnyOrder {
        made: Made {
            dimensions: DIMENSIONS,
            context: CONTEXT,
            hidden: config.hidden.clone(),
            residual: true,
            activation: config.activation,
            layers: layers(&values, "ctx.layers"),
        },
        seen: values["ctx.seen.weight"].clone(),
    };
    let dimension_at: Vec<u32> = order.dimensions().iter().map(|&d| d as u32).collect();
    let twin = reference::model::ArCsm {
        context: ContextNet::Made(any.in_order(&dimension_at)),
        net: ScoreNet {
            context: CONTEXT,
            activation: config.score.activation,
            parametrisation: config.score.parametrisation,
            mean: 0.25,
            sd: 0.5,
            layers: layers(&values, "net.lin"),
        },
    };
    // Rows are (index, x~, sigma, eps), in order as no row is left out.
    let rows: Vec<u32> = gpu.read(&workspace.score.rows).expect("read");
    let column = |c: usize| -> Vec<f64> { rows.chunks_exact(4).map(|row| f64::from(f32::from_bits(row[c]))).collect() };
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let loss = Loss { objective: Objective::Csm, bounds: [0.0, 1.0] };
    let want = twin.loss_and_gradients(&x, &column(2), &column(3), &loss);
    let (of_layers, of_seen) = any.gradients(&want.context, &dimension_at);

    let got: Vec<f32> = gpu.read(&workspace.score.loss).expect("read");
    assert_near("loss", &got[..1], &[want.loss], FORWARD);
    let got = in_f64(&gradient);
    let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    for (l, want) in of_layers.iter().enumerate() {
        let of = |part: &str| single(&got[&format!("ctx.layers.{l}.{part}")]);
        assert_near(&format!("dweight {l}"), &of("weight"), &masked(want, &any.made, l, &dimension_at), BACKWARD);
        assert_near(&format!("dbias {l}"), &of("bias"), &want.bias, BACKWARD);
    }
    assert_near("dseen", &single(&got["ctx.seen.weight"]), &of_seen, BACKWARD);
    for (l, want) in want.net.iter().enumerate() {
        assert_near(&format!("net {l}"), &single(&got[&format!("net.lin.{l}.weight")]), &want.weight, BACKWARD);
    }
}

/// The twin's gradients are exactly zero where the order's mask is; so must ours be. Nothing else is asked here.
fn masked(want: &Layer, made: &Made, l: usize, dimension_at: &[u32]) -> Vec<f64> {
    if l == 0 {
        let position_of = reference::order::inverse(dimension_at);
        let visible = made.visible(0);
        for (at, &value) in want.weight.iter().enumerate() {
            let is_seen = position_of[at % DIMENSIONS] < visible[at / DIMENSIONS];
            assert!(is_seen || value == 0.0, "weight {at} has a gradient");
        }
    }
    want.weight.clone()
}

#[test]
fn a_checkpoint_is_asked_in_any_order() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings = small("digits", 8);
    settings.model.order = Order::Any;
    let run = folder.path().join("run");
    let loaded = trained(gpu, &settings, &run);
    assert!(loaded.has_any_order() && loaded.model.order.is_natural());
    let missing: Vec<bool> = (0..64).map(|d| d % 3 == 0).collect();
    let order = Permutation::known_first(&missing);
    let mut again = loaded.in_order(gpu, order.clone()).expect("any");
    let words = |trained: &Trained| -> Vec<Vec<f32>> {
        trained.model.table.slots().map(|(id, _)| trained.weights.read(gpu, id).expect("read").values).collect()
    };
    let (of_order, of_natural) = (words(&again), words(&loaded));
    assert_ne!(of_order, of_natural);
    again.set_order(gpu, Permutation::natural(64)).expect("any");
    assert!(words(&again) == of_natural && again.model.order.is_natural());
    again.set_order(gpu, order).expect("any");
    assert!(words(&again) == of_order);
    assert!(words(&loaded) == of_natural, "another order must leave the model as it was");

    // What is kept serves every order: the natural one alone would have fewer weights.
    let stored = Checkpoint::load(&run.join("checkpoints/last.safetensors")).expect("own");
    assert_eq!(stored.tensors["ctx.seen.weight"].shape, [64, 24]);
    assert!(stored.tensors["ctx.seen.weight"].values.iter().any(|&w| w != 0.0), "nothing is learned of what is seen");
    let error = loaded.in_order(gpu, Permutation::natural(63)).expect_err("too few");
    assert!(error.to_string().contains("63") && error.exit_status() == 2, "{error}");
    let one_order = trained(gpu, &small("digits", 1), &folder.path().join("one"));
    let error = one_order.in_order(gpu, Permutation::natural(64)).expect_err("one order");
    assert!(error.to_string().contains("--order any") && error.exit_status() == 2, "{error}");
}

/// Four values of which each is nearly the mean of two others: whatever is missing, what is known tells it.
#[test]
fn missing_values_are_drawn_given_the_known_ones_whatever_the_mask() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.npy");
    let noise = normals(3 * 2000, 11);
    let of_sample = |n: &[f32]| [n[0], n[1], n[0] + n[1] + 0.3 * n[2], n[0] - n[1]];
    let values: Vec<f32> = noise.chunks_exact(3).flat_map(of_sample).collect();
    arcsm::files::arrays::write_npy(&file, &arcsm::files::arrays::HostTensor::new([2000, 4], values)).expect("written");
    let mut settings: Config = small(&format!("npy:{}", file.display()), 1000);
    // The model's units are to be the data's, in which values are compared below.
    settings.data.standardise = Standardise::None;
    settings.model.order = Order::Any;
    settings.model.hidden = vec![48, 48];
    (settings.noise.context, settings.noise.dropout) = (0.0, 0.0);
    settings.train.weight_decay = 0.0;
    (settings.train.batch, settings.train.row_stride, settings.train.learning_rate) = (64, 1, 5e-3);
    let run = folder.path().join("run");
    train(gpu, &plan(&settings, &run, false), &AtomicBool::new(false), &mut |_| {}).expect("training");
    let trained = Trained::load(gpu, &run.join("checkpoints/last.safetensors")).expect("own");

    let noise = normals(3 * 60, 12);
    let x: Vec<f32> = noise.chunks_exact(3).flat_map(of_sample).collect();
    // Another value is missing in each sample.
    let marks: Vec<f32> = (0..4 * 60).map(|i| f32::from(u8::from(i / 4 % 4 == i % 4))).collect();
    let mask = Mask::new(&marks, 4).expect("whole samples");
    let request = InpaintRequest { completions: 8, particles: 3, seed: 6 };
    let filled = inpaint(gpu, &trained, &x, &mask, &request, &mut |_| {}).expect("filled in");
    assert!(filled.is_direct && filled.orders == 4);
    for (i, value) in filled.values.iter().enumerate() {
        let (sample, d) = (i / 32, i % 4);
        assert_eq!(value.to_bits() == x[4 * sample + d].to_bits(), !mask.of_sample(sample)[d], "{sample}, {d}");
    }
    let again = inpaint(gpu, &trained, &x, &mask, &request, &mut |_| {}).expect("filled in");
    assert_eq!(again.values, filled.values);
    // Each alone has a variance of 1 or 2; given the others at most 0.09 and what eight draws have of it.
    let error = mean_squared_error(&x, &mask, &filled);
    println!("mean squared error {error:.4}");
    assert!(error <= 0.2, "mean squared error {error}");
}
