//! A small model with random weights, on the adapter and as its twin.

use crate::codes::{Activation, Parametrisation};
use crate::models::ar_csm::{ArCsm, ConvConfig, ModelConfig, Network, ScoreConfig, ScoreNet};
use crate::nn::ParamBuffer;
use crate::reference::dense::Layer;
use crate::reference::image_net::ImageNet;
use crate::reference::{made, model, score_net};
use crate::shape::SampleShape;

use super::Failure;
use super::trial::Trial;

/// What a check varies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) contexts: Contexts,
    pub(super) context: usize,
    pub(super) context_activation: Activation,
    pub(super) hidden: &'static [usize],
    pub(super) activation: Activation,
    pub(super) parametrisation: Parametrisation,
}

/// What it varies in the context network.
#[derive(Debug, Clone, Copy)]
pub(super) enum Contexts {
    /// Masked dense layers.
    Made { dimensions: usize, hidden: &'static [usize], residual: bool },
    /// Masked convolutions, `gated` or `pixelcnn`.
    Image { network: Network, height: usize, width: usize, channels: usize, filters: usize, downsamplings: usize },
}

impl Shape {
    /// D
    pub(super) fn dimensions(&self) -> usize {
        self.sample_shape().dimensions()
    }

    fn sample_shape(&self) -> SampleShape {
        match self.contexts {
            Contexts::Made { dimensions, .. } => SampleShape::Vector { dimensions },
            Contexts::Image { height, width, channels, .. } => SampleShape::Image { height, width, channels },
        }
    }

    fn config(&self) -> ModelConfig {
        let mut config = ModelConfig {
            activation: self.context_activation,
            context: self.context,
            score: ScoreConfig {
                hidden: self.hidden.to_vec(),
                activation: self.activation,
                parametrisation: self.parametrisation,
                mean: Some(MEAN),
                sd: Some(SD),
                range: None,
            },
            ..ModelConfig::default()
        };
        match self.contexts {
            Contexts::Made { hidden, residual, .. } => {
                (config.network, config.hidden, config.residual) = (Network::Made, hidden.to_vec(), residual);
            }
            Contexts::Image { network, filters, downsamplings, .. } => {
                config.network = network;
                config.conv =
                    ConvConfig { filters, blocks: 1, first_kernel: 5, kernel: 3, downsamplings, dropout: 0.0 };
            }
        }
        config
    }

    /// The context network's twin, with all weights zero or missing.
    fn twin(&self, config: &ModelConfig) -> model::ContextNet {
        let (context, activation) = (self.context, self.context_activation);
        match self.contexts {
            Contexts::Made { dimensions, residual, .. } => model::ContextNet::Made(made::Made {
                dimensions,
                context,
                hidden: config.hidden.clone(),
                residual,
                activation,
                layers: Vec::new(),
            }),
            Contexts::Image { network, height, width, channels, .. } => {
                let new = if network == Network::Gated { ImageNet::gated } else { ImageNet::two_stream };
                model::ContextNet::Image(new(&config.conv, [height, width, channels], context, activation))
            }
        }
    }
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
    pub(super) fn score_net(&self) -> Result<&ScoreNet, Failure> {
        self.model.score_net().map_err(|error| Failure::Broken(error.to_string()))
    }

    /// Weights of variance 1 / in. Those that a mask removes are no zeros: nothing may read them.
    pub(super) fn new(trial: &mut Trial<'_>, shape: &Shape) -> Result<Self, Failure> {
        let config = shape.config();
        let model =
            ArCsm::new(trial.gpu, &config, shape.sample_shape()).map_err(|error| Failure::Broken(error.to_string()))?;
        let weights = ParamBuffer::zeros(trial.gpu, "weights", &model.table)?;
        let (mut context_layers, mut net_layers) = (Vec::new(), Vec::new());
        for (id, slot) in model.table.slots() {
            let scale = (*slot.shape.last().expect("a parameter has a shape") as f32).sqrt().recip();
            let values: Vec<f32> =
                trial.normals(slot.shape.iter().product()).into_iter().map(|value| scale * value as f32).collect();
            trial.gpu.write(&weights.tensor(id), &values)?;
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let layers = if slot.name.starts_with("ctx") { &mut context_layers } else { &mut net_layers };
            match layers.last_mut() {
                Some(Layer { bias, .. }) if !slot.is_matrix() => *bias = values,
                _ => layers.push(Layer { weight: values, bias: Vec::new() }),
            }
        }
        let mut context = shape.twin(&config);
        match &mut context {
            model::ContextNet::Made(made) => made.layers = context_layers,
            model::ContextNet::Image(net) => net.layers.clone_from_slice(&context_layers),
        }
        let twin = model::ArCsm {
            context,
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
