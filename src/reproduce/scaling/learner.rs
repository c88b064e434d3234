//! What learns: one method's network, loss and optimiser, and what is known of its optimum.

use crate::codes::{Activation, Objective, Parametrisation};
use crate::config::TrainConfig;
use crate::data::Factors;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::ar_csm::{ArCsm, Batch, ModelConfig, ScoreConfig, Workspace};
use crate::models::score_field::losses::ScoreMatching;
use crate::models::score_field::{FieldWorkspace, ScoreField};
use crate::nn::{Noise, Optimiser, ParamBuffer};
use crate::shape::SampleShape;

/// Samples of a batch.
pub(super) const BATCH: usize = 32;
/// Hidden factors of the data.
pub(super) const FACTORS: usize = 4;
/// Noise of the denoising losses; the data's own deviations are 0.5 to 1 given the factors.
pub(super) const SIGMA: f32 = 0.1;
/// Two hidden layers of this width, in the score network of the vector and in the context network.
pub(super) const WIDTH: usize = 128;
/// K, and the hidden layer of the small score network on it.
pub(super) const CONTEXT: usize = 4;
pub(super) const SMALL: usize = 32;
/// Tangents that exact score matching takes together.
const DIRECTIONS_TOGETHER: usize = 16;

/// A loss, and with it the kind of network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Method {
    /// One network for the score of the vector.
    Joint(ScoreMatching),
    /// Autoregressive conditional scores.
    Conditional(Objective),
}

impl Method {
    /// As the report has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Joint(ScoreMatching::Exact) => "exact",
            Self::Joint(ScoreMatching::Sliced { .. }) => "sliced",
            Self::Joint(ScoreMatching::SlicedVr { .. }) => "sliced-vr",
            Self::Joint(ScoreMatching::Denoising { .. }) => "denoising",
            Self::Conditional(Objective::Dsm) => "csm-dsm",
            Self::Conditional(_) => "csm",
        }
    }

    /// Standard deviation of the noise on the points.
    pub(super) fn sigma(self) -> f64 {
        match self {
            Self::Joint(loss) => f64::from(loss.sigma()),
            Self::Conditional(Objective::Dsm) => f64::from(SIGMA),
            Self::Conditional(_) => 0.0,
        }
    }

    /// The least value of its loss.
    pub(super) fn optimum(self, truth: &Factors) -> f64 {
        let sigma = self.sigma();
        let squares = self.squared_score(truth);
        if sigma == 0.0 {
            return -0.5 * squares;
        }
        // 1/2 E |sigma s + eps|^2 where s is the noisy density's score.
        0.5 * (truth.dimensions() as f64 - sigma * sigma * squares)
    }

    /// E |s|^2 of the true score.
    pub(super) fn squared_score(self, truth: &Factors) -> f64 {
        let sigma = self.sigma();
        match self {
            Self::Joint(_) => truth.filter(sigma).squared_score(),
            Self::Conditional(_) => {
                truth.filter(0.0).conditional_variances().iter().map(|v| 1.0 / (v + sigma * sigma)).sum()
            }
        }
    }
}

/// A network, its loss and its optimiser.
pub(super) struct Learner<'g> {
    pub(super) gpu: &'g Gpu,
    seed: u64,
    pub(super) weights: ParamBuffer,
    /// With the gradient of the last batch.
    pub(super) optimiser: Optimiser,
    model: Model,
}

enum Model {
    Joint { field: ScoreField, loss: ScoreMatching, workspace: Box<FieldWorkspace> },
    Conditional { model: Box<ArCsm>, objective: Objective, workspace: Box<Workspace> },
}

impl<'g> Learner<'g> {
    /// With initial weights.
    pub(super) fn new(gpu: &'g Gpu, method: Method, dimensions: usize, seed: u64) -> Result<Self> {
        let (model, table) = match method {
            Method::Joint(loss) => {
                let field = ScoreField::new(gpu, dimensions, &[WIDTH; 2], Activation::Silu)?;
                let workspace = Box::new(field.workspace(gpu, BATCH, loss, DIRECTIONS_TOGETHER)?);
                let table = field.table.clone();
                (Model::Joint { field, loss, workspace }, table)
            }
            Method::Conditional(objective) => {
                let config = ModelConfig {
                    hidden: vec![WIDTH; 2],
                    context: CONTEXT,
                    score: ScoreConfig {
                        hidden: vec![SMALL],
                        parametrisation: Parametrisation::Plain,
                        ..ScoreConfig::default()
                    },
                    ..ModelConfig::default()
                };
                let model = Box::new(ArCsm::new(gpu, &config, SampleShape::Vector { dimensions })?);
                let workspace = Box::new(model.workspace(gpu, BATCH, 1, true)?);
                let table = model.table.clone();
                (Model::Conditional { model, objective, workspace }, table)
            }
        };
        let weights = ParamBuffer::initial(gpu, "weights", &table, seed)?;
        let optimiser = Optimiser::new(gpu, &table, &weights)?;
        Ok(Self { gpu, seed, weights, optimiser, model })
    }

    /// x (B, D)
    pub(super) fn set_batch(&self, x: &[f32]) -> Result<()> {
        let place = match &self.model {
            Model::Joint { workspace, .. } => &workspace.clean,
            Model::Conditional { workspace, .. } => &workspace.x,
        };
        Ok(self.gpu.write(place, x)?)
    }

    /// Loss and gradient of the batch; `step` names its noise and directions.
    pub(super) fn loss_and_gradient(&self, step: u64) -> Result<()> {
        let gradient = &self.optimiser.gradient;
        let mut recorder = self.gpu.record("loss_and_gradient");
        let pieces = match &self.model {
            Model::Joint { field, loss, workspace } => {
                let place = [self.seed, step];
                field.loss_and_gradient(&mut recorder, *loss, place, &self.weights, gradient, workspace)?;
                workspace.pieces(*loss, field.dimensions())
            }
            Model::Conditional { model, objective, workspace } => {
                let noise = Noise {
                    sigma_min: SIGMA,
                    sigma_max: SIGMA,
                    enabled: *objective == Objective::Dsm,
                    seed: self.seed,
                    step: step as u32,
                    first_sample: 0,
                };
                let batch = Batch {
                    objective: *objective,
                    bounds: [0.0, 1.0],
                    noise,
                    context_noise: 0.0,
                    context_dropout: 0.0,
                };
                model.loss_and_gradient(&mut recorder, &batch, &self.weights, gradient, workspace)?;
                1
            }
        };
        recorder.submit_in_pieces(pieces)?;
        Ok(())
    }

    /// A step of Adam with the gradient.
    pub(super) fn update(&self, train: &TrainConfig, step: u64) -> Result<()> {
        let mut recorder = self.gpu.record("update");
        self.optimiser.step(&mut recorder, &train.adam(), step, &self.weights)?;
        recorder.submit()?;
        Ok(())
    }

    /// Mean loss of the batch.
    pub(super) fn loss(&self) -> Result<f64> {
        Ok(match &self.model {
            Model::Joint { workspace, .. } => {
                let losses: Vec<f32> = self.gpu.read(&workspace.losses)?;
                losses.iter().copied().step_by(4).map(f64::from).sum::<f64>() / BATCH as f64
            }
            Model::Conditional { workspace, .. } => f64::from(self.gpu.read::<f32>(&workspace.score.loss)?[0]),
        })
    }

    /// 1/2 |s - s*|^2 at the points of the last loss, x being its batch; mean over the batch.
    pub(super) fn divergence(&self, truth: &Factors, method: Method, x: &[f32]) -> Result<f64> {
        let (points, scores): (Vec<f32>, Vec<f32>) = match &self.model {
            Model::Joint { workspace, .. } => {
                (self.gpu.read(&workspace.points())?, self.gpu.read(&workspace.scores())?)
            }
            Model::Conditional { model, workspace, .. } => {
                let mut recorder = self.gpu.record("scores");
                model.scores_of_rows(&mut recorder, &self.weights, workspace)?;
                recorder.submit()?;
                let rows: Vec<u32> = self.gpu.read(&workspace.score.rows)?;
                let result: Vec<f32> = self.gpu.read(&workspace.score.result)?;
                let points = rows.chunks_exact(4).map(|row| f32::from_bits(row[1])).collect();
                (points, result.chunks_exact(4).map(|row| row[0]).collect())
            }
        };
        let (sigma, dimensions) = (method.sigma(), truth.dimensions());
        let filter = truth.filter(if matches!(method, Method::Joint(_)) { sigma } else { 0.0 });
        let doubles = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        let of_sample = |b: usize| -> f64 {
            let of = |values: &[f32]| doubles(&values[b * dimensions..][..dimensions]);
            let (point, score) = (of(&points), of(&scores));
            let true_score = match method {
                Method::Joint(_) => filter.score(&point),
                Method::Conditional(_) => {
                    let means = filter.conditional_means(&of(x));
                    let variances = filter.conditional_variances();
                    (0..dimensions).map(|d| (means[d] - point[d]) / (variances[d] + sigma * sigma)).collect()
                }
            };
            score.iter().zip(&true_score).map(|(s, t)| 0.5 * (s - t).powi(2)).sum()
        };
        Ok((0..BATCH).map(of_sample).sum::<f64>() / BATCH as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::METHODS;
    use super::*;

    #[test]
    fn optima_are_those_of_one_known_gaussian() {
        // One dimension: x is normal with variance a^2 + v^2, and every loss is that of its only conditional.
        let truth = Factors::new(1, 1, 5);
        let variance = truth.filter(0.0).conditional_variances()[0];
        let noisy = variance + f64::from(SIGMA).powi(2);
        let near = |got: f64, want: f64| assert!((got - want).abs() <= 1e-9 * want.abs(), "{got}, not {want}");
        for method in METHODS {
            let want = if method.sigma() == 0.0 { -0.5 / variance } else { 0.5 * variance / noisy };
            near(method.optimum(&truth), want);
        }
    }
}
