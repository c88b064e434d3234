//! A small model with random weights, on the adapter and as its twin.

use crate::config::{Activation, ModelConfig, Parametrisation, ScoreConfig};
use crate::data::SampleShape;
use crate::nn::{ArCsm, ParamBuffer};
use crate::reference::dense::Layer;
use crate::reference::{made, model, score_net};

use super::Failure;
use super::trial::Trial;

/// What a check varies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) dimensions: usize,
    pub(super) context: usize,
    pub(super) made_hidden: &'static [usize],
    pub(super) made_activation: Activation,
    pub(super) residual: bool,
    pub(super) hidden: &'static [usize],
    pub(super) activation: Activation,
    pub(super) parametrisation: Parametrisation,
}

/// Centre and standard deviation of the data that the models pretend to have seen; both exact in f32.
pub(super) const MEAN: f32 = 0.25;
pub(super) const SD: f32 = 0.5;

/// A model with its weights, twice.
pub(super) struct RandomModel {
    pub(super) model: ArCsm,
    pub(super) weights: ParamBuffer,
    pub(super) twin: model::ArCsm,
}

impl RandomModel {
    /// Weights of variance 1 / in. Those that a mask removes are no zeros: nothing may read them.
    pub(super) fn new(trial: &mut Trial<'_>, shape: &Shape) -> Result<Self, Failure> {
        let config = ModelConfig {
            hidden: shape.made_hidden.to_vec(),
            residual: shape.residual,
            activation: shape.made_activation,
            context: shape.context,
            score: ScoreConfig {
                hidden: shape.hidden.to_vec(),
                activation: shape.activation,
                parametrisation: shape.parametrisation,
                mean: Some(MEAN),
                sd: Some(SD),
                range: None,
            },
            ..ModelConfig::default()
        };
        let vector = SampleShape::Vector { dimensions: shape.dimensions };
        let model = ArCsm::new(trial.gpu, &config, vector).map_err(|error| Failure::Broken(error.to_string()))?;
        let weights = ParamBuffer::zeros(trial.gpu, "weights", &model.table)?;
        let (mut made_layers, mut net_layers) = (Vec::new(), Vec::new());
        for (id, slot) in model.table.slots() {
            let scale = (*slot.shape.last().expect("a parameter has a shape") as f32).sqrt().recip();
            let values: Vec<f32> =
                trial.normals(slot.shape.iter().product()).into_iter().map(|value| scale * value as f32).collect();
            trial.gpu.write(&weights.tensor(id), &values)?;
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let layers = if slot.name.starts_with("ctx") { &mut made_layers } else { &mut net_layers };
            match layers.last_mut() {
                Some(Layer { bias, .. }) if !slot.is_matrix() => *bias = values,
                _ => layers.push(Layer { weight: values, bias: Vec::new() }),
            }
        }
        let twin = model::ArCsm {
            context: model::ContextNet::Made(made::Made {
                dimensions: shape.dimensions,
                context: shape.context,
                hidden: config.hidden,
                residual: shape.residual,
                activation: shape.made_activation,
                layers: made_layers,
            }),
            net: score_net::ScoreNet {
                context: shape.context,
                activation: shape.activation,
                parametrisation: shape.parametrisation,
                mean: f64::from(MEAN),
                sd: f64::from(SD),
                layers: net_layers,
            },
        };
        Ok(Self { model, weights, twin })
    }
}
