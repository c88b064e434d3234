//! What the model promises, tested by bits.

use arcsm::codes::{Activation, Objective, Parametrisation};
use arcsm::config::Config;
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::{ArCsm, ModelConfig, ScoreConfig, Workspace};
use arcsm::nn::ParamBuffer;
use arcsm::numbers::random::{normal_pair, random_bits, stream};
use arcsm::order::Order;
use arcsm::shape::SampleShape;

use crate::shared;

pub(super) fn normals(count: usize, seed: u64) -> Vec<f32> {
    let bits = |i| random_bits(seed, stream::DATA, i as u32, 0, 0);
    (0..count).map(|i| normal_pair(bits(i)[0], bits(i)[1]).0 as f32).collect()
}

fn config(hidden: &[usize], residual: bool, order: Order) -> ModelConfig {
    ModelConfig {
        order,
        order_seed: 5,
        hidden: hidden.to_vec(),
        residual,
        activation: Activation::Tanh,
        context: 3,
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

const DIMENSIONS: usize = 7;

/// Contexts and scores of every (sample, dimension) in the data's order: rows of (K + 1) words. Each dimension is asked
/// at the same x~ and sigma whatever x is.
pub(super) fn answers(
    gpu: &Gpu,
    model: &ArCsm,
    weights: &ParamBuffer,
    workspace: &Workspace,
    x: &[f32],
) -> Vec<Vec<u32>> {
    let dimensions = model.dimensions();
    let rows: Vec<u32> = (0..x.len())
        .flat_map(|row| [row as u32, (0.1 * (row % dimensions) as f32).to_bits(), 0.3_f32.to_bits(), 0])
        .collect();
    gpu.write(&workspace.x, &model.order.to_model(x, 1)).expect("written");
    gpu.write(&workspace.score.rows, &rows).expect("written");
    let mut recorder = gpu.record("answers");
    model.scores_of_rows(&mut recorder, weights, workspace).expect("recorded");
    recorder.submit().expect("submitted");
    let contexts: Vec<f32> = gpu.read(workspace.context_net.context()).expect("read");
    let scores: Vec<f32> = gpu.read(&workspace.score.result).expect("read");
    let width = contexts.len() / x.len();
    let scores: Vec<f32> = scores.chunks_exact(4).map(|row| row[0]).collect();
    let contexts = model.order.to_data(&contexts, width);
    let scores = model.order.to_data(&scores, 1);
    let row = |(context, score): (&[f32], &f32)| context.iter().chain([score]).map(|value| value.to_bits()).collect();
    contexts.chunks_exact(width).zip(&scores).map(row).collect()
}

#[test]
fn no_bit_of_a_later_dimension_leaks() {
    let Some(gpu) = shared() else { return };
    let shapes: [&[usize]; 5] = [&[9], &[12, 12], &[12, 9], &[11, 11, 11], &[8, 8, 16, 16]];
    for hidden in shapes {
        for (residual, order) in [(false, Order::Natural), (true, Order::Reversed), (true, Order::Random)] {
            let config = config(hidden, residual, order);
            let model = ArCsm::new(gpu, &config, SampleShape::Vector { dimensions: DIMENSIONS }).expect("laid out");
            let weights = ParamBuffer::initial(gpu, "weights", &model.table, 3).expect("memory");
            // Sample 0 as it is, sample 1 + j with x_j changed.
            let workspace = model.workspace(gpu, 1 + DIMENSIONS, 1, false).expect("memory");
            let mut x = normals(DIMENSIONS, 1).repeat(1 + DIMENSIONS);
            for j in 0..DIMENSIONS {
                x[(1 + j) * DIMENSIONS + j] += 0.75;
            }
            let answers = answers(gpu, &model, &weights, &workspace, &x);
            let (original, changed) = answers.split_at(DIMENSIONS);
            let position = |d: usize| model.order.dimensions().iter().position(|&at| at == d).expect("a permutation");
            for (j, sample) in changed.chunks_exact(DIMENSIONS).enumerate() {
                for (i, answer) in sample.iter().enumerate() {
                    let depends = answer != &original[i];
                    let may_depend = position(i) > position(j);
                    assert_eq!(depends, may_depend, "{hidden:?} residual {residual} {order:?}: {i} of x_{j}");
                }
            }
        }
    }
}

#[test]
fn the_same_step_gives_the_same_bits() {
    let Some(gpu) = shared() else { return };
    for (objective, row_stride) in [(Objective::Csm, 3), (Objective::Dsm, 1)] {
        let mut settings = Config { model: config(&[12, 12], true, Order::Natural), ..Config::default() };
        settings.train.objective = objective;
        (settings.noise.context, settings.noise.dropout) = (0.1, 0.2);
        let model = ArCsm::new(gpu, &settings.model, SampleShape::Vector { dimensions: DIMENSIONS }).expect("laid out");
        let weights = ParamBuffer::initial(gpu, "weights", &model.table, 3).expect("memory");
        let run = |step: u64| -> Vec<Vec<u32>> {
            let workspace = model.workspace(gpu, 37, row_stride, true).expect("memory");
            let gradient = ParamBuffer::zeros(gpu, "gradient", &model.table).expect("memory");
            gpu.write(&workspace.x, &normals(37 * DIMENSIONS, 2)).expect("written");
            let mut recorder = gpu.record("step");
            let batch = settings.batch_of_step(step, 0);
            model.loss_and_gradient(&mut recorder, &batch, &weights, &gradient, &workspace).expect("recorded");
            recorder.submit().expect("submitted");
            assert!(gpu.is_intact(&workspace.score.loss).expect("read"));
            let gradients = model.table.slots().map(|(id, slot)| {
                let values: Vec<f32> = gpu.read(&gradient.tensor(id)).expect("read");
                assert!(values.iter().all(|value| value.is_finite()), "{}", slot.name);
                assert!(values.iter().any(|&value| value != 0.0), "{} has no gradient", slot.name);
                values.into_iter().map(f32::to_bits).collect()
            });
            gradients.chain([gpu.read(&workspace.score.loss).expect("read")]).collect()
        };
        let first = run(8);
        assert!(first == run(8), "{objective:?}: another run, other bits");
        assert!(first != run(9), "{objective:?}: the step does not matter");
    }
}
