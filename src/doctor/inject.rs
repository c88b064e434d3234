//! One NaN planted in what a kernel stores, store after store: what comes of it must be an error, or the very same results.
//!
//! A number may be masked out or overwritten before anybody reads it; then no bit of the results changes and there is
//! nothing to find. Whatever changes a result without an error is missed.

use serde::Serialize;

use crate::ask::closed_form::log_densities;
use crate::ask::evaluate::{EvaluateRequest, evaluate};
use crate::ask::sample::{SampleRequest, Sampler, sample};
use crate::ask::trained::{Perturbation, Trained};
use crate::codes::{Activation, Objective, Parametrisation};
use crate::config::Config;
use crate::data::{Dataset, Samples};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Injection};
use crate::models::ar_csm::{ConvConfig, Head, HeadKind, Network};
use crate::numbers::random::{normal_pair, random_bits, stream, uniform};
use crate::order::Order;
use crate::shape::SampleShape;
use crate::train::{Trainer, complete_from_data};

/// Steps before the one that is spoiled, and those after it within which it has to be found.
const STEPS_BEFORE: u64 = 2;
const STEPS_AFTER: u64 = 2;
/// Samples to draw and to evaluate.
const COUNT: usize = 3;

/// What came of a NaN in each store of one kind of work of one model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Injected {
    /// The model.
    pub model: &'static str,
    /// The work: training steps, a held-out loss, scores, a density, draws by a sampler.
    pub work: String,
    /// Stores of kernels that were looked at.
    pub stores: usize,
    /// Of these, those that hold no number: counts, zeros.
    pub without_number: usize,
    /// Those whose NaN ended in an error.
    pub found: usize,
    /// Those whose NaN changed no bit of the results.
    pub without_effect: usize,
    /// Those whose NaN changed the results without an error: kernel and tensor.
    pub missed: Vec<String>,
}

/// The results as bytes, or the error; and what was injected.
type Outcome = (Injection, Result<Vec<u8>>);

/// Runs work once as it is, and once for each store.
fn examine(
    model: &'static str,
    work: &str,
    stride: usize,
    run: &mut dyn FnMut(Option<usize>) -> Result<Outcome>,
) -> Result<Injected> {
    let (injection, expected) = run(None)?;
    let expected = expected?;
    let mut injected = Injected { model, work: work.to_owned(), ..Injected::default() };
    for (number, store) in injection.stores.iter().enumerate().step_by(stride) {
        let (injection, outcome) = run(Some(number))?;
        injected.stores += 1;
        match outcome {
            _ if injection.word.is_none() => injected.without_number += 1,
            Err(Error::NonFinite { .. }) => injected.found += 1,
            Ok(bytes) if bytes == expected => injected.without_effect += 1,
            Ok(_) => injected.missed.push(format!("{}.{} (store {number})", store.kernel, store.tensor)),
            Err(other) => return Err(other),
        }
    }
    Ok(injected)
}

/// Work from its first kernel to its last.
fn watched(gpu: &Gpu, wanted: Option<usize>, work: impl FnOnce() -> Result<Vec<u8>>) -> Outcome {
    gpu.begin_injection(wanted);
    let outcome = work();
    (gpu.end_injection(), outcome)
}

/// A small model that everything is done with, and data of its shape.
pub struct Subject {
    /// Networks, activation, head and objective.
    pub name: &'static str,
    shape: SampleShape,
    config: Config,
}

/// Heads, context networks, orders, activations and objectives, each in one of them.
pub fn subjects() -> [Subject; 5] {
    let vector = SampleShape::Vector { dimensions: 5 };
    let image = SampleShape::Image { height: 4, width: 4, channels: 1 };
    let conv = ConvConfig { filters: 6, blocks: 1, first_kernel: 3, kernel: 3, downsamplings: 0, dropout: 0.2 };
    let subject = |name, shape, change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        config.model.hidden = vec![12, 12];
        config.model.context = 4;
        config.model.score.hidden = vec![8, 8];
        config.train.batch = 8;
        config.train.steps = 1000;
        change(&mut config);
        Subject { name, shape, config }
    };
    [
        subject("made, relu, score by csm", vector, &|config| {
            config.model.activation = Activation::Relu;
            config.train.objective = Objective::Csm;
            config.train.row_stride = 2;
            (config.noise.context, config.noise.dropout) = (0.05, 0.1);
        }),
        subject("made for any order, tanh, score by dsm in parts", vector, &|config| {
            (config.model.order, config.model.residual) = (Order::Any, true);
            config.model.activation = Activation::Tanh;
            config.model.score.activation = Activation::Softplus;
            config.model.score.parametrisation = Parametrisation::Edm;
            config.train.objective = Objective::Dsm;
            (config.train.micro_batch, config.train.clip_norm) = (Some(4), 1.0);
        }),
        subject("made, elu, mixture of Gaussians by likelihood", vector, &|config| {
            config.model.activation = Activation::Elu;
            (config.model.head, config.model.components) = (HeadKind::Mog, 3);
            config.train.objective = Objective::Ml;
        }),
        subject("gated, softplus, score by dsm", image, &|config| {
            (config.model.network, config.model.conv) = (Network::Gated, conv.clone());
            config.model.activation = Activation::Softplus;
            config.model.score.activation = Activation::Elu;
            config.train.objective = Objective::Dsm;
        }),
        subject("pixelcnn, silu, binned mixture of logistics by likelihood", image, &|config| {
            (config.model.network, config.model.conv) =
                (Network::PixelCnn, ConvConfig { downsamplings: 1, ..conv.clone() });
            config.model.activation = Activation::Silu;
            (config.model.head, config.model.components, config.model.bins) = (HeadKind::Mol, 3, Some(17));
            config.train.objective = Objective::Ml;
        }),
    ]
}

impl Subject {
    /// Plants a NaN in every `stride`-th store of each kind of work. `progress` sees what came of each.
    ///
    /// # Errors
    /// A failed adapter, or work that fails with nothing planted.
    pub fn inject(&self, gpu: &Gpu, stride: usize, progress: &mut dyn FnMut(&Injected)) -> Result<Vec<Injected>> {
        let (mut trainer, trained, held_out) = (self.trainer(gpu)?, self.trained(gpu)?, self.data().held_out);
        let mut all = Vec::new();
        let mut note = |work: &str, run: &mut dyn FnMut(Option<usize>) -> Result<Outcome>| -> Result<()> {
            all.push(examine(self.name, work, stride, run)?);
            all.iter().last().into_iter().for_each(&mut *progress);
            Ok(())
        };
        note("training", &mut |wanted| self.train(gpu, wanted))?;
        note("held-out loss", &mut |wanted| {
            Ok(watched(gpu, wanted, || Ok(trainer.held_out_loss(&held_out)?.to_le_bytes().into())))
        })?;
        note("scores", &mut |wanted| Ok(watched(gpu, wanted, || self.scores(gpu, &trained))))?;
        note("density", &mut |wanted| Ok(watched(gpu, wanted, || self.density(gpu, &trained))))?;
        for sampler in Sampler::presets(&trained.config) {
            let work = format!("draws by {}", sampler.name());
            note(&work, &mut |wanted| Ok(watched(gpu, wanted, || draws(gpu, &trained, &sampler))))?;
        }
        Ok(all)
    }

    /// 40 samples: correlated normals, or images on 17 levels.
    fn data(&self) -> Dataset {
        let dimensions = self.shape.dimensions();
        let of_sample = |sample: u32| {
            let mut before = 0.0;
            (0..dimensions as u32).map(move |d| {
                let bits = random_bits(11, stream::DATA, sample, d, 0);
                before = 0.6 * before + normal_pair(bits[0], bits[1]).0;
                match self.shape {
                    SampleShape::Vector { .. } => before as f32,
                    SampleShape::Image { .. } => ((16.0 * uniform(bits[2])).round() / 16.0) as f32,
                }
            })
        };
        let samples = |rows: std::ops::Range<u32>| Samples::from_floats(dimensions, rows.flat_map(of_sample).collect());
        Dataset::new(self.name, self.shape, samples(0..32), samples(32..40))
    }

    /// After its first steps.
    fn trainer<'g>(&self, gpu: &'g Gpu) -> Result<Trainer<'g>> {
        let (mut config, data) = (self.config.clone(), self.data());
        complete_from_data(&mut config, &data.train)?;
        let mut trainer = Trainer::new(gpu, config, &data, None)?;
        for _ in 0..STEPS_BEFORE {
            trainer.step()?;
        }
        Ok(trainer)
    }

    fn trained(&self, gpu: &Gpu) -> Result<Trained> {
        let trainer = self.trainer(gpu)?;
        trainer.refresh()?;
        Ok(trainer.trained)
    }

    /// A step with a NaN and those after it: all that a run would go on from.
    fn train(&self, gpu: &Gpu, wanted: Option<usize>) -> Result<Outcome> {
        let mut trainer = self.trainer(gpu)?;
        gpu.begin_injection(wanted);
        let step = trainer.step();
        let injection = gpu.end_injection();
        Ok((injection, step.and_then(|_| go_on(&mut trainer))))
    }

    fn scores(&self, gpu: &Gpu, trained: &Trained) -> Result<Vec<u8>> {
        let x = self.some_values();
        let sigma = if trained.config.train.objective == Objective::Ml { 0.0 } else { 0.1 };
        let scores = trained.scores(gpu, &x, &vec![Perturbation { sigma, eps: 0.5 }; x.len()])?;
        Ok(format!("{scores:?}").into_bytes())
    }

    fn density(&self, gpu: &Gpu, trained: &Trained) -> Result<Vec<u8>> {
        if matches!(trained.model.head, Head::Mixture(_)) {
            let x = self.some_values();
            return Ok(format!("{:?}", log_densities(gpu, trained, &x, &x, 0.0)?).into_bytes());
        }
        let request = EvaluateRequest { flow_count: Some(1), flow_steps: 2, ..EvaluateRequest::new(trained) };
        let evaluation = evaluate(gpu, trained, &self.some_values(), None, &request, &mut |_| {})?;
        Ok(format!("{evaluation:?}").into_bytes())
    }

    fn some_values(&self) -> Vec<f32> {
        let mut x = vec![0.0; COUNT * self.shape.dimensions()];
        let indices: Vec<usize> = (0..COUNT).collect();
        self.data().held_out.gather(&indices, &mut x).expect("samples in memory");
        x
    }
}

fn go_on(trainer: &mut Trainer<'_>) -> Result<Vec<u8>> {
    for _ in 0..STEPS_AFTER {
        trainer.step()?;
    }
    let mut losses = Vec::new();
    while let Some((_, loss)) = trainer.finish_oldest()? {
        losses.push(loss);
    }
    if trainer.skipped().steps > 0 {
        let what = "a gradient".into();
        return Err(Error::NonFinite { what, step: trainer.trained.step, remedy: "It was skipped".into() });
    }
    Ok(format!("{losses:?} {:?}", trainer.unchecked_tensors()?).into_bytes())
}

fn draws(gpu: &Gpu, trained: &Trained, sampler: &Sampler) -> Result<Vec<u8>> {
    let request = SampleRequest { sampler: sampler.clone(), ..SampleRequest::new(trained, COUNT, 3) };
    let drawn = sample(gpu, trained, &request, &mut |_| {})?;
    Ok(format!("{:?} {:?}", drawn.values, drawn.acceptance).into_bytes())
}
