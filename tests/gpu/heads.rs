//! Heads in closed form: known optima, exact draws, gradients of the whole model, and the same bits.

use std::sync::atomic::{AtomicBool, Ordering};

use arcsm::ask::closed_form::{log_densities, log_likelihood};
use arcsm::ask::sample::{SampleRequest, Sampler, sample};
use arcsm::ask::trained::{Perturbation, Trained};
use arcsm::codes::{Activation, Objective};
use arcsm::config::{Config, TrainConfig};
use arcsm::data::{self, Density};
use arcsm::error::Error;
use arcsm::gpu::Gpu;
use arcsm::models::ar_csm::{ArCsm, Head, HeadKind, Network};
use arcsm::nn::ParamBuffer;
use arcsm::order::Order;
use arcsm::reference::mixture::Mixture;
use arcsm::shape::SampleShape;
use arcsm::train::{Event, Trainer, train};
use statrs::function::erf::erf;

use super::model::normals;
use super::training::{plan, small, small_image_net, trained};
use super::{KOLMOGOROV, kolmogorov, shared};

/// A small model with a head, trained by an objective.
fn with_head(mut config: Config, head: HeadKind, objective: Objective) -> Config {
    (config.model.head, config.train.objective) = (head, objective);
    config.model.components = 4;
    config
}

/// The twin of a model's head.
fn twin(model: &ArCsm) -> Mixture {
    let Head::Mixture(head) = &model.head else { panic!("a mixture head") };
    Mixture {
        family: head.family,
        components: head.components,
        has_logits: head.has_logits,
        first_mean: f64::from(head.first_mean),
        mean_step: f64::from(head.mean_step),
        mean_unit: f64::from(head.mean_unit),
        scale_unit: f64::from(head.scale_unit),
        bins: head.bins.map(|bins| [bins.low, bins.high, bins.width()].map(f64::from)),
    }
}

/// Held-out nats of gaussian:8 by maximum likelihood on clean data, less those of the truth on the same samples: the
/// estimate of a divergence, which is 0 at the optimum.
#[test]
fn maximum_likelihood_reaches_the_entropy_of_a_gaussian() {
    let Some(gpu) = shared() else { return };
    for (head, objective, largest) in [
        (HeadKind::Gaussian, Objective::Ml, 0.02),
        (HeadKind::Mog, Objective::Ml, 0.04),
        (HeadKind::Gaussian, Objective::Csm, 0.04),
    ] {
        let mut config = with_head(small("gaussian:8", 1000), head, objective);
        (config.model.activation, config.model.hidden) = (Activation::Silu, vec![48, 48]);
        config.train = TrainConfig { objective, batch: 256, steps: 1000, learning_rate: 5e-3, ..Default::default() };
        (config.noise.context, config.noise.dropout) = (0.0, 0.0);
        config.noise.sigma_min = if objective == Objective::Ml { 0.0 } else { 0.05 };
        let data = data::load(&config.data, config.train.seed).expect("generated");
        let Some(Density::Gaussian(_)) = &data.density else { panic!("gaussian:8 knows its density") };
        let density = data.density.as_ref().expect("known");
        let mut trainer = Trainer::new(gpu, config.clone(), &data, None).expect("a small model");
        for _ in 0..config.train.steps {
            trainer.step().expect("a step");
        }
        let mut x = vec![0.0; data.held_out.len() * 8];
        data.held_out.gather(&(0..data.held_out.len()).collect::<Vec<_>>(), &mut x).expect("in memory");
        let got = log_likelihood(gpu, &trainer.trained, &x, 0.0, 0).expect("a closed form");
        let x64: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let truth = -x64.chunks_exact(8).map(|x| density.log_density(x)).sum::<f64>() / data.held_out.len() as f64;
        let excess = got.mean_nats - truth;
        println!("gaussian:8 {head:?} {objective:?}: {:.4} nats, the truth {truth:.4}: {excess:.4}", got.mean_nats);
        assert!(excess.abs() <= largest, "{head:?} {objective:?}: {excess} nats from the truth's {truth}");
    }
}

/// Kolmogorov's and Smirnov's test on 20 seeds, of dimensions whose context is the same for all samples: no distance is
/// seen by chance in more than one case of a thousand.
#[test]
fn direct_draws_follow_analytic_conditionals() {
    let Some(gpu) = shared() else { return };
    const COUNT: usize = 2000;
    for (head, sigma) in [(HeadKind::Gaussian, 0.0), (HeadKind::Mog, 0.0), (HeadKind::Mog, 0.5), (HeadKind::Mol, 0.0)] {
        let config = with_head(small("gaussian:8", 1), head, Objective::Ml);
        let shape = SampleShape::Vector { dimensions: 2 };
        let model = ArCsm::new(gpu, &config.model, shape).expect("laid out");
        let weights = ParamBuffer::zeros(gpu, "weights", &model.table).expect("memory");
        let (id, bias) = model.table.slots().last().expect("an output bias");
        let contexts = normals(bias.shape[0], 3);
        gpu.write(&weights.tensor(id), &contexts).expect("written");
        let twin = twin(&model);
        let trained =
            Trained { model, weights, stored: None, config, shape, step: 0, fingerprint: String::new(), note: None };
        let of_d = |d: usize| -> Vec<f64> {
            contexts[d * twin.context()..][..twin.context()].iter().map(|&c| f64::from(c)).collect()
        };
        for seed in 0..20 {
            let request =
                SampleRequest { sampler: Sampler::Direct { sigma }, ..SampleRequest::new(&trained, COUNT, seed) };
            let drawn = sample(gpu, &trained, &request, &mut |_| {}).expect("samples");
            for d in 0..2 {
                let parts = twin.parts(&of_d(d), f64::from(sigma));
                let cdf = |x: f64| -> f64 {
                    let of_part = |z: f64| match head {
                        HeadKind::Mol => 1.0 / (1.0 + (-z).exp()),
                        _ => 0.5 * (1.0 + erf(z / 2f64.sqrt())),
                    };
                    parts.iter().map(|part| part.weight * of_part((x - part.mean) / part.scale)).sum()
                };
                let values = drawn.values.chunks_exact(2).map(|x| f64::from(x[d])).collect();
                let statistic = kolmogorov(values, cdf);
                assert!(statistic <= KOLMOGOROV, "{head:?} sigma {sigma} seed {seed} d {d}: {statistic}");
            }
        }
    }
}

/// Along the gradient, the loss changes as the gradient says: through the head and the whole context network.
#[test]
fn the_loss_falls_as_its_gradient_says() {
    let Some(gpu) = shared() else { return };
    let digits = small_image_net("digits", 1, Network::Gated);
    let cases = [
        (small("digits", 1), HeadKind::Gaussian, Objective::Ml),
        (small("digits", 1), HeadKind::Mog, Objective::Csm),
        (small("digits", 1), HeadKind::Mol, Objective::Dsm),
        (digits, HeadKind::Mol, Objective::Ml),
    ];
    for (config, head, objective) in cases {
        let mut config = with_head(config, head, objective);
        config.model.activation = Activation::Silu;
        config.model.conv.dropout = 0.0;
        config.noise.sigma_min = 0.2;
        let shape = SampleShape::Image { height: 4, width: 4, channels: 1 };
        let model = ArCsm::new(gpu, &config.model, shape).expect("laid out");
        let workspace = model.workspace(gpu, 16, 3, true).expect("memory");
        let weights = ParamBuffer::initial(gpu, "weights", &model.table, 3).expect("memory");
        let gradient = ParamBuffer::zeros(gpu, "gradient", &model.table).expect("memory");
        gpu.write(&workspace.x, &normals(16 * 16, 5)).expect("written");
        let loss = || -> f64 {
            let batch = config.batch_of_step(4, 0);
            let mut recorder = gpu.record("loss");
            model.loss_and_gradient(&mut recorder, &batch, &weights, &gradient, &workspace).expect("recorded");
            recorder.submit().expect("submitted");
            f64::from(gpu.read::<f32>(&workspace.score.loss).expect("read")[0])
        };
        loss();
        let of = |buffer: &ParamBuffer| -> Vec<Vec<f32>> {
            model.table.slots().map(|(id, _)| gpu.read(&buffer.tensor(id)).expect("read")).collect()
        };
        let (start, slope) = (of(&weights), of(&gradient));
        let square: f64 = slope.iter().flatten().map(|&g| f64::from(g).powi(2)).sum();
        // So that the loss moves by about 1/50 either way.
        let step = (0.02 / square) as f32;
        let at = |t: f32| {
            for ((id, _), (start, slope)) in model.table.slots().zip(start.iter().zip(&slope)) {
                let moved: Vec<f32> = start.iter().zip(slope).map(|(w, g)| w + t * g).collect();
                gpu.write(&weights.tensor(id), &moved).expect("written");
            }
            loss()
        };
        let change = (at(step) - at(-step)) / (2.0 * f64::from(step));
        assert!((change - square).abs() <= 0.02 * square, "{head:?} {objective:?}: {change}, expected {square}");
    }
}

#[test]
fn runs_with_heads_are_resumed_bit_for_bit_and_their_loss_is_the_likelihood() {
    let Some(gpu) = shared() else { return };
    let cases = [
        (small("digits", 24), HeadKind::Mog, Objective::Ml, None),
        (small("digits", 24), HeadKind::Gaussian, Objective::Csm, None),
        (small_image_net("digits", 24, Network::PixelCnn), HeadKind::Mol, Objective::Ml, Some(17)),
    ];
    for (config, head, objective, bins) in cases {
        let mut config = with_head(config, head, objective);
        config.model.bins = bins;
        config.train.micro_batch = Some(8);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        let report = train(gpu, &plan(&config, &whole, false), &AtomicBool::new(false), &mut |_| {}).expect("trained");
        let stop = AtomicBool::new(false);
        let outcome = train(gpu, &plan(&config, &parts, false), &stop, &mut |event| {
            if matches!(event, Event::Step { step, .. } if step >= 9) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        assert!(matches!(outcome, Err(Error::Interrupted(_))), "{outcome:?}");
        train(gpu, &plan(&config, &parts, true), &AtomicBool::new(false), &mut |_| {}).expect("resumed");
        let bytes = |run: &std::path::Path| std::fs::read(run.join("checkpoints/last.safetensors")).expect("there");
        assert!(bytes(&whole) == bytes(&parts), "{head:?}: resuming changed the weights");
        if objective == Objective::Ml {
            let trained = Trained::load(gpu, &report.checkpoint).expect("own checkpoint");
            let data = data::load(&config.data, config.train.seed).expect("embedded");
            let mut x = vec![0.0; 20 * 64];
            data.held_out.gather(&(0..20).collect::<Vec<_>>(), &mut x).expect("in memory");
            let sigma = arcsm::ask::closed_form::natural_sigma(&trained);
            let got = log_likelihood(gpu, &trained, &x, sigma, config.train.seed).expect("a closed form");
            let error = (got.mean_nats - report.held_out_loss).abs();
            assert!(error <= 1e-9 * report.held_out_loss.abs(), "{} and {}", got.mean_nats, report.held_out_loss);
            assert_eq!(got.nats.len(), 20);
            densities_agree_with_the_twin(gpu, &trained, &x);
        }
    }
}

/// log q(y_d | x_<d) from the contexts that the adapter computed.
fn densities_agree_with_the_twin(gpu: &Gpu, trained: &Trained, x: &[f32]) {
    let sigma = arcsm::ask::closed_form::natural_sigma(trained);
    let y: Vec<f32> = x.iter().zip(normals(x.len(), 8)).map(|(x, eps)| x + sigma * eps).collect();
    let got = log_densities(gpu, trained, x, &y, sigma).expect("a closed form");
    let contexts = trained.scores(gpu, x, &vec![Perturbation { sigma, eps: 0.0 }; x.len()]).expect("scores").context;
    let twin = twin(&trained.model);
    for ((got, y), context) in got.iter().zip(&y).zip(contexts.chunks_exact(twin.context())) {
        let context: Vec<f64> = context.iter().copied().map(f64::from).collect();
        let want = twin.evaluate(&context, f64::from(*y), f64::from(sigma)).log_density;
        assert!((f64::from(*got) - want).abs() <= 2e-5 * (1.0 + want.abs()), "{got}, expected {want}");
    }
}

/// Draws do not depend on the batch or on how dimensions are cut into submissions; full passes give the same to rounding.
#[test]
fn a_direct_draw_depends_on_its_seed_alone() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut made = with_head(small("digits", 30), HeadKind::Mog, Objective::Dsm);
    (made.model.residual, made.model.hidden, made.model.order) = (true, vec![24, 24], Order::Random);
    let image_net = with_head(small_image_net("digits", 10, Network::PixelCnn), HeadKind::Mol, Objective::Ml);
    for (name, config) in [("made", made), ("pixelcnn", image_net)] {
        let trained = trained(gpu, &config, &folder.path().join(name));
        let request = SampleRequest::new(&trained, 19, 9);
        assert_eq!(request.sampler, Sampler::Direct { sigma: 0.0 });
        let draw = |request: &SampleRequest| sample(gpu, &trained, request, &mut |_| {}).expect("samples").values;
        let whole = draw(&request);
        assert!(whole.iter().all(|v| v.is_finite()) && whole.iter().any(|v| v.abs() > 0.1));
        assert_eq!(
            whole,
            draw(&SampleRequest { batch: 3, chunk: Some(1), ..request.clone() }),
            "{name}: batch or chunks"
        );
        assert_ne!(whole, draw(&SampleRequest { seed: 10, ..request.clone() }), "{name}: the seed changed nothing");
        let full = draw(&SampleRequest { full_passes: true, ..request.clone() });
        let distance: f32 = whole.iter().zip(&full).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        let norm = whole.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!(distance <= 1e-3 * norm, "{name}: full passes differ by {distance} of {norm}");
        let of_scores = SampleRequest {
            sampler: Sampler::Langevin { sigmas: vec![1.0, 0.1], steps: 3, step_size: 0.5 },
            ..request.clone()
        };
        let error = sample(gpu, &trained, &of_scores, &mut |_| {}).expect_err("a chain").to_string();
        assert!(error.contains("--sampler direct"), "{error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(gpu) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trained: Trained = trained(gpu, &small("digits", 2), &folder.path().join("run"));
    let direct = SampleRequest { sampler: Sampler::Direct { sigma: 0.0 }, ..SampleRequest::new(&trained, 2, 1) };
    let error = sample(gpu, &trained, &direct, &mut |_| {}).expect_err("no quantiles");
    assert_eq!(error.exit_status(), 2, "{error}");
    let error = log_likelihood(gpu, &trained, &[0.0; 64], 0.03, 0).expect_err("no closed form");
    assert_eq!(error.exit_status(), 2, "{error}");
    check_refusals(gpu);
}

fn check_refusals(gpu: &Gpu) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = with_head(small("digits", 2), HeadKind::Mol, Objective::Ml);
    config.model.bins = Some(256);
    let run = folder.path().join("run");
    let refused = train(gpu, &plan(&config, &run, false), &AtomicBool::new(false), &mut |_| {}).expect_err("17 levels");
    assert!(refused.to_string().contains("none of 256 levels"), "{refused}");
    config.model.bins = Some(17);
    let trained = trained(gpu, &config, &run);
    for (x, sigma) in [([0.5; 64], 0.1), ([0.51; 64], 0.0)] {
        let error = log_likelihood(gpu, &trained, &x, sigma, 0).expect_err("no level");
        assert_eq!(error.exit_status(), 2, "{error}");
    }
    let bits = log_likelihood(gpu, &trained, &[0.5; 64], 0.0, 0).expect("a level").bits_per_dimension;
    assert!(bits > 0.0, "a probability of a level is at most 1: {bits} bits");
}
