//! Likelihoods: a model whose density is known, and what must not change a bit.

use arcsm::ask::evaluate::{EvaluateRequest, evaluate};
use arcsm::ask::likelihood::{
    Chain, Flow, Level, Noisy, chain_log_densities, flow_log_densities, levels_down_to, support,
};
use arcsm::ask::trained::Trained;
use arcsm::codes::{Activation, Objective, Parametrisation};
use arcsm::config::Config;
use arcsm::data::{Density, Gaussian};
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::{ArCsm, ConvConfig, ModelConfig, Network, ScoreConfig};
use arcsm::nn::ParamBuffer;
use arcsm::shape::SampleShape;

use crate::model::normals;
use crate::shared;

fn trained(config: Config, model: ArCsm, weights: ParamBuffer, shape: SampleShape) -> Trained {
    Trained { model, weights, stored: None, config, shape, step: 0, fingerprint: String::new(), note: None }
}

/// x = L z, row by row.
fn samples(gaussian: &Gaussian, count: usize) -> Vec<f32> {
    let dimensions = gaussian.dimensions();
    let sample = |z: &[f32]| -> Vec<f32> {
        let value = |row: &[f64]| row.iter().zip(z).map(|(l, &z)| l * f64::from(z)).sum::<f64>() as f32;
        gaussian.factor().chunks_exact(dimensions).map(value).collect()
    };
    normals(count * dimensions, 31).chunks_exact(dimensions).flat_map(sample).collect()
}

/// The means of the conditionals as linear functions of x, (D, D): L_strict L^-1.
fn regression(gaussian: &Gaussian) -> Vec<f64> {
    let (dimensions, factor) = (gaussian.dimensions(), gaussian.factor());
    let mut means = vec![0.0; dimensions * dimensions];
    for j in 0..dimensions {
        let mut white: Vec<f64> = Vec::new();
        for d in 0..dimensions {
            let row = &factor[d * dimensions..][..dimensions];
            let known: f64 = row.iter().zip(&white).map(|(l, z)| l * z).sum();
            means[d * dimensions + j] = known;
            white.push((f64::from(u8::from(d == j)) - known) / row[d]);
        }
    }
    means
}

/// A model whose scores are exactly -(x_d - m_d) / L_dd^2. Contexts are m_d and which d it is; of the hidden units
/// softplus(+-(x_d - m_d)), whose difference is linear, all pairs are shut off but the one that has this d's factor.
pub(super) fn exact_model(gpu: &Gpu, gaussian: &Gaussian) -> Trained {
    let dimensions = gaussian.dimensions();
    let width = dimensions + 1;
    let shut = 60.0;
    let mut config = Config {
        model: ModelConfig {
            hidden: vec![dimensions - 1],
            activation: Activation::Identity,
            context: width,
            score: ScoreConfig {
                hidden: vec![2 * dimensions],
                activation: Activation::Softplus,
                parametrisation: Parametrisation::Plain,
                range: Some([-6.0, 6.0]),
                ..ScoreConfig::default()
            },
            ..ModelConfig::default()
        },
        ..Config::default()
    };
    config.train.objective = Objective::Plain;
    let shape = SampleShape::Vector { dimensions };
    let model = ArCsm::new(gpu, &config.model, shape).expect("laid out");
    let weights = ParamBuffer::zeros(gpu, "weights", &model.table).expect("memory");
    let means = regression(gaussian);
    for (id, slot) in model.table.slots() {
        let columns = *slot.shape.last().expect("a shape");
        let mut values = vec![0.0f32; slot.shape.iter().product()];
        let mut set = |row: usize, column: usize, value: f64| values[row * columns + column] = value as f32;
        for d in 0..dimensions {
            let variance = gaussian.factor()[d * dimensions + d].powi(2);
            match slot.name.as_str() {
                // Hidden unit k is x_k.
                "ctx.layers.0.weight" if d + 1 < dimensions => set(d, d, 1.0),
                "ctx.layers.1.weight" => (0..d).for_each(|j| set(d * width, j, means[d * dimensions + j])),
                "ctx.layers.1.bias" => set(0, d * width + 1 + d, 1.0),
                "net.lin.0.weight" => {
                    for (unit, sign) in [(2 * d, 1.0), (2 * d + 1, -1.0)] {
                        set(unit, 0, -sign);
                        set(unit, 1 + d, shut);
                        set(unit, width, sign);
                    }
                }
                "net.lin.0.bias" => (0..2).for_each(|half| set(0, 2 * d + half, -shut)),
                "net.lin.1.weight" => {
                    set(0, 2 * d, -1.0 / variance);
                    set(0, 2 * d + 1, 1.0 / variance);
                }
                _ => {}
            }
        }
        gpu.write(&weights.tensor(id), &values).expect("written");
    }
    trained(config, model, weights, shape)
}

#[test]
fn a_gaussian_in_32_dimensions_has_its_exact_likelihood() {
    let Some(gpu) = shared() else { return };
    let gaussian = Gaussian::new(32, 5);
    let model = exact_model(gpu, &gaussian);
    let x = samples(&gaussian, 12);
    let density = Density::Gaussian(gaussian);
    let request = EvaluateRequest::new(&model);
    let evaluation = evaluate(gpu, &model, &x, Some(&density), &request, &mut |_| {}).expect("evaluated");
    let level = &evaluation.levels[0];
    for (n, sample) in level.of_samples.iter().enumerate() {
        let truth = sample.truth.expect("known");
        assert!((sample.nats - truth).abs() <= 0.02, "sample {n}: {} nats, in truth {truth}", sample.nats);
        assert!((sample.nats_of_half_grid - truth).abs() <= 0.02, "half the grid: {}", sample.nats_of_half_grid);
    }
    assert!(level.integral_error <= 1e-4 && level.coarse_integral_error <= 1e-3, "{level:?}");
    assert!(level.cut_off.worst <= 1e-3 && level.noise == "nothing" && level.flow.is_none(), "{level:?}");
    // The loss of the exact scores has an expectation of -1/2 sum 1 / L_dd^2; the request has no noise levels.
    assert!(evaluation.losses.dsm.is_none() && evaluation.losses.csm < 0.0, "{:?}", evaluation.losses);
}

#[test]
fn a_range_that_is_too_narrow_is_noticed() {
    let Some(gpu) = shared() else { return };
    let gaussian = Gaussian::new(32, 5);
    let model = exact_model(gpu, &gaussian);
    let x = samples(&gaussian, 2);
    let request = EvaluateRequest { support: Some([-0.2, 0.3]), ..EvaluateRequest::new(&model) };
    let evaluation = evaluate(gpu, &model, &x, None, &request, &mut |_| {}).expect("evaluated");
    let level = &evaluation.levels[0];
    assert!(level.cut_off.worst >= 0.1 && level.cut_off.notable >= 32, "{:?}", level.cut_off);
    assert!(level.integral_error <= 1e-4 && level.truth.is_none(), "{level:?}");
}

/// Random weights, as training begins with them.
fn random_model(gpu: &Gpu, network: Network) -> Trained {
    let shape = SampleShape::Image { height: 4, width: 4, channels: 3 };
    let config = Config {
        model: ModelConfig {
            network,
            hidden: vec![20],
            context: 3,
            conv: ConvConfig { filters: 5, blocks: 1, first_kernel: 3, kernel: 3, downsamplings: 0, dropout: 0.0 },
            activation: Activation::Elu,
            score: ScoreConfig {
                hidden: vec![9, 12],
                mean: Some(0.25),
                sd: Some(0.5),
                range: Some([0.0, 1.0]),
                ..ScoreConfig::default()
            },
            ..ModelConfig::default()
        },
        ..Config::default()
    };
    let model = ArCsm::new(gpu, &config.model, shape).expect("laid out");
    let weights = ParamBuffer::initial(gpu, "weights", &model.table, 3).expect("memory");
    trained(config, model, weights, shape)
}

#[test]
fn densities_of_every_network_depend_on_earlier_values_and_on_nothing_else() {
    let Some(gpu) = shared() else { return };
    for network in [Network::Made, Network::Gated, Network::PixelCnn] {
        let model = random_model(gpu, network);
        let dimensions = model.model.dimensions();
        let x: Vec<f32> = normals(19 * dimensions, 7).iter().map(|z| 0.5 + 0.2 * z).collect();
        let y: Vec<f32> = x.iter().zip(normals(x.len(), 8)).map(|(x, eps)| x + 0.1 * eps).collect();
        let chain = Chain::new(&levels_down_to(&model, 0.1), [-2.5, 3.0], 2.0);
        assert!(chain.levels.len() >= 2, "{chain:?}");
        let bits_of = |x: &[f32], y: &[f32]| -> Vec<u32> {
            let densities = chain_log_densities(gpu, &model, Noisy { x, y }, &chain, &mut |_| {}).expect("there");
            assert!(densities.integral_error <= 1e-4 && densities.coarse_integral_error <= 1e-3, "{network:?}");
            densities.log_density.into_iter().map(f32::to_bits).collect()
        };
        let all = bits_of(&x, &y);
        let last = 18 * dimensions;
        assert!(all[last..] == bits_of(&x[last..], &y[last..]), "{network:?}: the batch matters");
        let (mut x, changed) = (x, 17 * dimensions + 20);
        x[changed] += 0.3;
        let other = bits_of(&x, &y);
        let differ: Vec<usize> = (0..all.len()).filter(|&i| all[i] != other[i]).collect();
        let later = |i: &usize| (changed + 1..last).contains(i);
        assert!(!differ.is_empty() && differ.iter().all(later), "{network:?}: {differ:?}");
    }
}

#[test]
fn readings_of_a_broad_conditional_agree() {
    let Some(gpu) = shared() else { return };
    // Random scores are nearly those of the one Gaussian that the parametrisation is centred at, where all readings agree.
    let model = random_model(gpu, Network::Made);
    let x: Vec<f32> = normals(2 * model.model.dimensions(), 9).iter().map(|z| 0.25 + 0.3 * z).collect();
    let noisy = Noisy { x: &x, y: &x };
    let (range, sigma) = (support(&model, &x), 0.3);
    let chain = Chain::new(&[0.8, sigma], range, 4.0);
    let one = Chain { levels: vec![chain.last()] };
    let [chain, one] = [chain, one]
        .map(|chain| chain_log_densities(gpu, &model, noisy, &chain, &mut |_| {}).expect("there").log_density);
    let flow = Flow { bottom: Level::new(sigma, range, 4.0), top: Level::new(1.0, range, 40.0), steps: 16 };
    let flow = flow_log_densities(gpu, &model, noisy, &flow, &mut |_| {}).expect("there");
    for (i, (chain, one)) in chain.iter().zip(&one).enumerate() {
        let normalised = flow.raw[i] - flow.mass[i].ln();
        assert!((flow.mass[i] - 1.0).abs() <= 0.05, "mass {}", flow.mass[i]);
        assert!((chain - one).abs() <= 0.5 && (chain - normalised).abs() <= 0.5, "{i}: {chain} {one} {normalised}");
    }
}
