//! The training engine and the samplers as a whole: known optima, same bits, and draws that nothing but the seed decides.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use arcsm::ask::sample::given::{Given, Knowledge, Weigh};
use arcsm::ask::sample::{SampleRequest, Sampler, sample};
use arcsm::ask::trained::{Perturbation, Trained};
use arcsm::checkpoint::Checkpoint;
use arcsm::codes::{Activation, Objective, Parametrisation};
use arcsm::config::Config;
use arcsm::data::{self, Density};
use arcsm::error::Error;
use arcsm::files::arrays::{HostTensor, write_npy};
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::{ConvConfig, ModelConfig, Network};
use arcsm::numbers::random::{random_bits, stream, uniform};
use arcsm::order::Order;
use arcsm::train::{Event, TrainPlan, Trainer, train};

use super::shared;

/// A model small enough for many steps.
pub(super) fn small(spec: &str, steps: u64) -> Config {
    let mut config = Config::default();
    config.data.spec = spec.into();
    config.model.hidden = vec![24, 20];
    config.model.context = 5;
    config.model.score.hidden = vec![16, 12];
    config.train.batch = 16;
    config.train.steps = steps;
    config.train.warmup = 5;
    config.train.validate_every = 1000;
    config.train.validate_samples = 20;
    config.train.checkpoint_every = 1000;
    config.noise.context = 0.05;
    config.noise.dropout = 0.1;
    config.train.weight_decay = 0.1;
    config.train.clip_norm = 5.0;
    config.train.row_stride = 3;
    config
}

/// The same with a convolutional context network, every feature in use.
pub(super) fn small_image_net(spec: &str, steps: u64, network: Network) -> Config {
    let mut config = small(spec, steps);
    config.model.network = network;
    config.model.activation = Activation::Elu;
    config.model.conv =
        ConvConfig { filters: 10, blocks: 1, first_kernel: 5, kernel: 3, downsamplings: 1, dropout: 0.2 };
    config
}

/// Random colour images, (20, 4, 6, 3).
fn colour_images(folder: &Path) -> String {
    let value = |i: u32| uniform(random_bits(5, stream::DATA, i, 0, 0)[0]) as f32;
    let path = folder.join("colour.npy");
    write_npy(&path, &HostTensor::new([20, 4, 6, 3], (0..20 * 72).map(value).collect())).expect("written");
    format!("npy:{}", path.display())
}

pub(super) fn plan(config: &Config, out: &Path, resume: bool) -> TrainPlan {
    TrainPlan {
        config: config.clone(),
        out: out.into(),
        resume,
        force: false,
        command: "test".into(),
        max_seconds: None,
    }
}

/// A small model after its first steps.
pub(super) fn trained(gpu: &Gpu, config: &Config, folder: &Path) -> Trained {
    let report = train(gpu, &plan(config, folder, false), &AtomicBool::new(false), &mut |_| {}).expect("training");
    Trained::load(gpu, &report.checkpoint).expect("own checkpoint")
}

/// J* = -1/2 sum 1 / L_dd^2 within 2 %, the true scores within 5 % of their norm.
#[test]
fn a_gaussian_is_learned_to_its_known_optimum() {
    let Some(gpu) = shared() else { return };
    let mut config = small("gaussian:8", 2000);
    config.model.activation = Activation::Silu;
    config.model.hidden = vec![48, 48];
    config.model.score.hidden = vec![32, 32];
    config.model.score.activation = Activation::Softplus;
    config.model.score.parametrisation = Parametrisation::Plain;
    config.train = arcsm::config::TrainConfig {
        objective: Objective::Plain,
        batch: 128,
        steps: 2000,
        learning_rate: 5e-3,
        validate_samples: 0,
        ..Default::default()
    };
    (config.noise.context, config.noise.dropout) = (0.0, 0.0);
    let data = data::load(&config.data, config.train.seed).expect("generated");
    let Some(Density::Gaussian(truth)) = &data.density else { panic!("gaussian:8 knows its density") };
    let mut trainer = Trainer::new(gpu, config.clone(), &data, None).expect("a small model");
    for _ in 0..config.train.steps {
        trainer.step().expect("a step");
    }
    let mut x = vec![0.0; data.held_out.len() * 8];
    data.held_out.gather(&(0..data.held_out.len()).collect::<Vec<_>>(), &mut x).expect("in memory");
    let clean = vec![Perturbation { sigma: 0.0, eps: 0.0 }; x.len()];
    let scores = trainer.trained.scores(gpu, &x, &clean).expect("scores");
    let x64: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let true_scores: Vec<f64> = x64.chunks_exact(8).flat_map(|x| truth.scores(x)).collect();
    let squared: f64 = true_scores.iter().map(|s| s * s).sum();
    let excess: f64 = true_scores.iter().zip(&scores.score).map(|(t, &s)| (t - f64::from(s)).powi(2)).sum();
    // The loss of the truth on the same samples is a control variate: it takes out what the choice of samples does.
    let optimum = truth.optimal_loss();
    let of_truth = 0.5 * squared / data.held_out.len() as f64 + 2.0 * optimum;
    let loss = optimum + scores.csm_loss - of_truth;
    let relative = (excess / squared).sqrt();
    println!("gaussian:8: J = {loss:.4}, J* = {optimum:.4}; scores off by {:.2} % of their norm", 100.0 * relative);
    assert!((loss - optimum).abs() <= 0.02 * optimum.abs(), "J = {loss}, J* = {optimum}");
    assert!(relative <= 0.05, "scores are off by {relative} of their norm");
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let Some(gpu) = shared() else { return };
    let image_net = small_image_net("digits", 20, Network::PixelCnn);
    let mut any_order = small("digits", 40);
    any_order.model.order = Order::Any;
    for config in [small("digits", 200), image_net, any_order] {
        let data = data::load(&config.data, config.train.seed).expect("embedded");
        let run = || {
            let mut trainer = Trainer::new(gpu, config.clone(), &data, None).expect("a small model");
            for _ in 0..config.train.steps {
                trainer.step().expect("a step");
            }
            trainer.checkpoint().expect("finite weights")
        };
        let first = run();
        assert!(run() == first && run() == first, "weights differ between runs of {} steps", config.train.steps);
        assert!(first.tensors.values().all(|tensor| tensor.values.iter().any(|&w| w != 0.0)));
    }
}

/// Adam's first moment after one step is a tenth of the gradient.
#[test]
fn parts_of_a_batch_give_the_gradient_of_the_whole() {
    let Some(gpu) = shared() else { return };
    let networks = [Network::Made, Network::Gated, Network::PixelCnn];
    for (network, order) in
        networks.map(|network| (network, Order::Natural)).into_iter().chain([(Network::Made, Order::Any)])
    {
        let mut config = small_image_net("digits", 1, network);
        config.model.order = order;
        // Clipping and a row choice that does not divide a part would tell the parts from the whole.
        (config.train.clip_norm, config.train.row_stride) = (0.0, 4);
        let data = data::load(&config.data, config.train.seed).expect("embedded");
        let mut step = |micro_batch| {
            config.train.micro_batch = Some(micro_batch);
            let mut trainer = Trainer::new(gpu, config.clone(), &data, None).expect("a small model");
            trainer.step().expect("a step");
            let (_, loss) = trainer.finish_oldest().expect("finite").expect("one step");
            (trainer.checkpoint().expect("finite weights"), loss)
        };
        let (whole, whole_loss) = step(16);
        let (parts, parts_loss) = step(4);
        assert!((whole_loss - parts_loss).abs() <= 1e-6 * whole_loss.abs(), "{whole_loss} and {parts_loss}");
        for (name, whole) in whole.tensors.iter().filter(|(name, _)| name.starts_with("adam.m.")) {
            let pairs = || whole.values.iter().zip(&parts.tensors[name].values);
            let error = pairs().map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            let norm = pairs().map(|(a, _)| a * a).sum::<f32>().sqrt();
            assert!(error <= 1e-5 * norm && norm > 0.0, "{network:?} {name}: {error} of {norm}");
        }
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    let Some(gpu) = shared() else { return };
    let of_network = |network| {
        let mut config = small_image_net("digits", 24, network);
        config.data.flip = true;
        config.train.micro_batch = Some(if network == Network::Made { 16 } else { 8 });
        config
    };
    let mut any_order = of_network(Network::Made);
    (any_order.model.order, any_order.train.micro_batch) = (Order::Any, Some(8));
    for config in [of_network(Network::Made), of_network(Network::Gated), of_network(Network::PixelCnn), any_order] {
        let name = format!("{:?}, {:?} order", config.model.network, config.model.order);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        train(gpu, &plan(&config, &whole, false), &AtomicBool::new(false), &mut |_| {}).expect("uninterrupted");
        for stop_after in [7, 15] {
            let stop = AtomicBool::new(false);
            let resume = stop_after != 7;
            let outcome = train(gpu, &plan(&config, &parts, resume), &stop, &mut |event| {
                if matches!(event, Event::Step { step, .. } if step >= stop_after) {
                    stop.store(true, Ordering::Relaxed);
                }
            });
            assert!(matches!(outcome, Err(Error::Interrupted(_))), "{outcome:?}");
        }
        train(gpu, &plan(&config, &parts, true), &AtomicBool::new(false), &mut |_| {}).expect("resumed");
        let bytes = |run: &Path| std::fs::read(run.join("checkpoints/last.safetensors")).expect("a checkpoint");
        assert!(bytes(&whole) == bytes(&parts), "{name}: resuming changed the weights");
        let lines = |run: &Path| std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
        assert_eq!(lines(&whole), lines(&parts));
    }
}

/// Draws do not depend on the batch or on how dimensions are cut into submissions; full passes give the same to rounding.
#[test]
fn a_draw_depends_on_its_seed_alone() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut made = small("digits", 30);
    (made.model.residual, made.model.hidden) = (true, vec![24, 24]);
    made.model.order = Order::Random;
    let mut gated = small_image_net(&colour_images(folder.path()), 10, Network::Gated);
    gated.model.order = Order::Reversed;
    let pixel_cnn =
        Config { model: ModelConfig { network: Network::PixelCnn, ..gated.model.clone() }, ..gated.clone() };
    for (name, config) in [("made", made), ("gated", gated), ("pixelcnn", pixel_cnn)] {
        draws_depend_on_the_seed_alone(gpu, &config, &trained(gpu, &config, &folder.path().join(name)));
    }
}

fn draws_depend_on_the_seed_alone(gpu: &Gpu, config: &Config, trained: &Trained) {
    let samplers = [
        Sampler::multilevel_default(config),
        Sampler::Langevin { sigmas: vec![1.0, 0.2, 0.05], steps: 3, step_size: 0.5 },
        Sampler::Ode { sigmas: vec![1.0, 0.2, 0.05], points: 16 },
        Sampler::Ancestral { sigmas: vec![1.0, 0.2, 0.05], points: 16 },
        Sampler::Mala { sigmas: vec![1.0, 0.2, 0.05], steps: 3, step_size: 0.5 },
    ];
    for sampler in samplers {
        // Rounding may turn a Metropolis decision round, and all that follows from it.
        let decides = matches!(sampler, Sampler::Mala { .. });
        let request = SampleRequest { sampler, ..SampleRequest::new(trained, 5, 9) };
        let draw = |request: &SampleRequest| sample(gpu, trained, request, &mut |_| {}).expect("samples");
        let whole = draw(&request);
        assert!(whole.values.iter().all(|v| v.is_finite()) && whole.values.iter().any(|v| v.abs() > 0.1));
        let cut = draw(&SampleRequest { batch: 2, chunk: Some(1), ..request.clone() });
        assert_eq!(whole.values, cut.values, "{:?}: batch or chunks changed the draw", request.sampler);
        let other = draw(&SampleRequest { seed: 10, ..request.clone() });
        assert_ne!(whole.values, other.values, "the seed changed nothing");
        let full = draw(&SampleRequest { full_passes: true, ..request.clone() });
        // Rounding of one dimension feeds the contexts of all later ones, and a draw near the edge of a grid cell moves.
        let distance: f32 = whole.values.iter().zip(&full.values).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        let norm = whole.values.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!(
            decides || distance <= 1e-3 * norm,
            "{:?}: full passes differ by {distance} of {norm}",
            request.sampler
        );
        let dimensions = trained.model.dimensions() as u64;
        assert_eq!(full.context_multiply_adds, dimensions * whole.context_multiply_adds);
    }
}

/// A draw that is given its own first values goes on as it did, whatever the network, the order and the batch.
#[test]
fn what_is_given_conditions_what_follows() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut made = small("digits", 10);
    made.model.order = Order::Random;
    let gated = small_image_net(&colour_images(folder.path()), 5, Network::Gated);
    for (name, config) in [("made", made), ("gated", gated)] {
        let trained = trained(gpu, &config, &folder.path().join(name));
        let dimensions = trained.model.dimensions();
        let request = SampleRequest::new(&trained, 3, 9);
        let draw = |request: &SampleRequest| sample(gpu, &trained, request, &mut |_| {}).expect("samples");
        let free = draw(&request);
        assert!(free.log_densities.is_empty());
        let mut is_given = vec![false; dimensions];
        trained.model.order.dimensions()[..dimensions / 3].iter().for_each(|&d| is_given[d] = true);
        let knowledge = free.values.iter().enumerate().map(|(i, &value)| match is_given[i % dimensions] {
            true => Knowledge::Value(value),
            false => Knowledge::Unknown,
        });
        let given = Given { knowledge: knowledge.collect(), particles: 1, weigh: Weigh::Nothing };
        let conditioned = SampleRequest { given: Some(given.clone()), ..request.clone() };
        assert_eq!(draw(&conditioned).values, free.values, "{name}");
        let cut = SampleRequest { batch: 2, chunk: Some(1), ..conditioned.clone() };
        assert_eq!(draw(&cut).values, free.values, "{name}: batch or chunks changed the draw");

        // Particles depend on their seed alone, too, and leave the given values as they are.
        let mut last_given = given;
        last_given.knowledge.chunks_exact_mut(dimensions).for_each(<[Knowledge]>::reverse);
        (last_given.particles, last_given.weigh) = (4, Weigh::AfterUnknown);
        let whole = SampleRequest { given: Some(last_given.clone()), ..request.clone() };
        let cut = SampleRequest { batch: 4, chunk: Some(1), ..whole.clone() };
        let (whole, cut) = (draw(&whole), draw(&cut));
        assert_eq!((&whole.values, &whole.log_densities), (&cut.values, &cut.log_densities), "{name}");
        for (knowledge, value) in last_given.knowledge.iter().zip(&whole.values) {
            assert!(*knowledge == Knowledge::Unknown || *knowledge == Knowledge::Value(*value), "{name}");
        }
        let short = Given { knowledge: vec![Knowledge::Unknown; 5], ..last_given };
        let refused = sample(gpu, &trained, &SampleRequest { given: Some(short), ..request }, &mut |_| {});
        assert_eq!(refused.expect_err("too few").exit_status(), 2);
    }
}

/// x_1 given x_2, which comes after it: particles against draws of x_1 that are weighed by the density of x_2.
#[test]
fn particles_draw_the_posterior() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = small("toy:moons", 150);
    (config.train.batch, config.train.row_stride, config.train.learning_rate) = (64, 1, 5e-3);
    let trained = trained(gpu, &config, &folder.path().join("moons"));
    let sampler = Sampler::multilevel(vec![0.6, 0.2], 16);
    let draw = |count: usize, particles: usize, seed: u64| {
        let knowledge = [Knowledge::Unknown, Knowledge::Value(0.9)].repeat(count);
        let given = Some(Given { knowledge, particles, weigh: Weigh::AfterUnknown });
        let request = SampleRequest { sampler: sampler.clone(), given, ..SampleRequest::new(&trained, count, seed) };
        let drawn = sample(gpu, &trained, &request, &mut |_| {}).expect("samples");
        (drawn.values.iter().step_by(2).map(|&x| f64::from(x)).collect::<Vec<_>>(), drawn.log_densities)
    };
    let (prior, log_densities) = draw(4000, 1, 1);
    let weights: Vec<f64> = log_densities.iter().map(|log| log.exp()).collect();
    let total: f64 = weights.iter().sum();
    let mean = |f: &dyn Fn(f64) -> f64| prior.iter().zip(&weights).map(|(&x, w)| w / total * f(x)).sum::<f64>();
    let effective = total * total / weights.iter().map(|w| w * w).sum::<f64>();
    let (posterior, _) = draw(400, 32, 2);
    let prior_mean = prior.iter().sum::<f64>() / 4000.0;
    for (what, f) in [("x", &(|x| x) as &dyn Fn(f64) -> f64), ("x^2", &|x| x * x)] {
        let (expected, square) = (mean(f), mean(&|x| f(x).powi(2)));
        let sd = (square - expected * expected).sqrt();
        let found = posterior.iter().map(|&x| f(x)).sum::<f64>() / 400.0;
        // Four standard errors of both, and the bias of choosing one of 32: about a 32nd of a standard deviation.
        let tolerance = sd * (4.0 * (1.0 / 400.0 + 1.0 / effective).sqrt() + 1.0 / 32.0);
        assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected} within {tolerance}");
    }
    // The test would see particles that ignore what comes after them.
    let (expected, square) = (mean(&|x| x), mean(&|x| x * x));
    let distance = (prior_mean - expected).abs() / (square - expected * expected).sqrt();
    assert!(distance > 0.3, "x_2 says too little of x_1: {distance}");
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = small("digits", 3);
    let run = folder.path().join("run");
    trained(gpu, &config, &run);
    let mut other = config.clone();
    other.model.hidden = vec![20, 20];
    let error = train(gpu, &plan(&other, &run, true), &AtomicBool::new(false), &mut |_| {}).expect_err("other sizes");
    assert_eq!(error.exit_status(), 2);
    let again =
        train(gpu, &plan(&config, &run, false), &AtomicBool::new(false), &mut |_| {}).expect_err("a run is there");
    assert!(again.to_string().contains("holds a run already"), "{again}");
    assert_eq!(Checkpoint::load(&run.join("checkpoints/last.safetensors")).expect("untouched").step, 3);
}
