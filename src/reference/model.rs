//! The whole model: contexts from the clean x, the shared score network on every (sample, dimension), and the loss
//! J = 1/B sum over samples and dimensions; and Gaussian oracles whose optimum is known in closed form.

use super::dense::Layer;
use super::image_net::ImageNet;
use super::made::Made;
use super::score_net::{Loss, Row, ScoreNet};

/// x (B, D) -> contexts (B, D, K), where c_d depends on x_<d alone.
#[derive(Debug, Clone)]
pub enum ContextNet {
    /// Masked dense layers.
    Made(Made),
    /// Masked convolutions.
    Image(ImageNet),
}

/// An autoregressive conditional score model.
#[derive(Debug, Clone)]
pub struct ArCsm {
    /// x (B, D) -> contexts (B, D, K).
    pub context: ContextNet,
    /// (c_d, x~_d, sigma) -> score.
    pub net: ScoreNet,
}

/// J and its gradients.
#[derive(Debug, Clone)]
pub struct ModelGradient {
    /// Mean over the batch of the sum over dimensions.
    pub loss: f64,
    /// By the context network's layers.
    pub context: Vec<Layer>,
    /// By the score network's layers.
    pub net: Vec<Layer>,
}

impl ContextNet {
    /// D
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Made(made) => made.dimensions,
            Self::Image(net) => net.image.iter().product(),
        }
    }

    /// K
    pub fn width(&self) -> usize {
        match self {
            Self::Made(made) => made.context,
            Self::Image(net) => net.context,
        }
    }

    /// Weights and biases in the order of [`ContextNet::names`].
    pub fn layers(&self) -> &[Layer] {
        match self {
            Self::Made(made) => &made.layers,
            Self::Image(net) => &net.layers,
        }
    }

    /// The same, to change them.
    pub fn layers_mut(&mut self) -> &mut [Layer] {
        match self {
            Self::Made(made) => &mut made.layers,
            Self::Image(net) => &mut net.layers,
        }
    }

    /// What the layers are called in checkpoints, without `.weight` and `.bias`.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Made(made) => (0..made.layers.len()).map(|l| format!("ctx.layers.{l}")).collect(),
            Self::Image(net) => net.convolutions.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// x (B, D) -> (B, D, K)
    pub fn contexts(&self, x: &[f64]) -> Vec<f64> {
        match self {
            Self::Made(made) => made.forward(x).contexts,
            Self::Image(net) => net.forward(x).contexts().to_vec(),
        }
    }

    /// Gradients by the layers at x (B, D), from the adjoint of the contexts, dcontexts (B, D, K).
    pub fn gradients(&self, x: &[f64], dcontexts: &[f64]) -> Vec<Layer> {
        match self {
            Self::Made(made) => made.backward(&made.forward(x), dcontexts),
            Self::Image(net) => net.backward(&net.forward(x), dcontexts),
        }
    }
}

impl ArCsm {
    /// Scores and slopes at x~, with contexts from the clean x: all (B, D).
    pub fn scores(&self, x: &[f64], x_tilde: &[f64], sigma: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let contexts = self.context.contexts(x);
        let contexts = contexts.chunks_exact(self.context.width());
        let points = x_tilde.iter().zip(sigma);
        contexts.zip(points).map(|(context, (&x_tilde, &sigma))| self.net.evaluate(context, x_tilde, sigma)).unzip()
    }

    /// J and its gradients; x, sigma, eps (B, D). The context is always computed from the clean x.
    pub fn loss_and_gradients(&self, x: &[f64], sigma: &[f64], eps: &[f64], loss: &Loss) -> ModelGradient {
        let weight = self.context.dimensions() as f64 / x.len() as f64;
        let contexts = self.context.contexts(x);
        let rows: Vec<Row> = contexts
            .chunks_exact(self.context.width())
            .enumerate()
            .map(|(r, context)| Row { context, x: x[r], sigma: sigma[r], eps: eps[r], weight })
            .collect();
        let of_net = self.net.loss_and_gradient(&rows, loss);
        ModelGradient {
            loss: weight * of_net.losses.iter().sum::<f64>(),
            context: self.context.gradients(x, &of_net.dcontexts),
            net: of_net.layers,
        }
    }
}

/// Smallest J of the plain objective for data from N(0, L L^T): -1/2 sum over d of 1 / L_dd^2. l_diagonal (D).
pub fn gaussian_optimum(l_diagonal: &[f64]) -> f64 {
    -0.5 * l_diagonal.iter().map(|l| 1.0 / (l * l)).sum::<f64>()
}

/// Exact conditional scores of N(0, L L^T): s_d = -(L^-1 x)_d / L_dd. L (D, D) lower triangular, x (B, D) -> (B, D).
pub fn gaussian_scores(l: &[f64], x: &[f64]) -> Vec<f64> {
    let dimensions = l.len().isqrt();
    let mut scores = Vec::with_capacity(x.len());
    for x in x.chunks_exact(dimensions) {
        let mut white: Vec<f64> = Vec::with_capacity(dimensions);
        for (row, x) in l.chunks_exact(dimensions).zip(x) {
            let diagonal = row[white.len()];
            let known: f64 = row.iter().zip(&white).map(|(l, white)| l * white).sum();
            white.push((x - known) / diagonal);
            scores.push((known - x) / (diagonal * diagonal));
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::super::adam::{AdamStep, adam};
    use super::super::sampler::cumulative_trapezoid;
    use super::super::testing::{
        Draws, GOLDEN, Golden, assert_close, assert_near, gradient_by_layers, random_made, random_score_net,
    };
    use super::*;
    use crate::codes::{Activation, Objective, Parametrisation};
    use crate::nn::schedule::learning_rate;

    /// Adam's moments for every tensor of a model, in the order of its layers.
    struct Moments(Vec<Layer>, Vec<Layer>);

    impl Moments {
        fn new(model: &ArCsm) -> Self {
            let layers = model.context.layers().iter().chain(&model.net.layers);
            let zeros: Vec<Layer> = layers.map(Layer::zeros_like).collect();
            Self(zeros.clone(), zeros)
        }

        fn update(&mut self, model: &mut ArCsm, gradient: &ModelGradient, step: &AdamStep) {
            let layers = model.context.layers_mut().iter_mut().chain(&mut model.net.layers);
            let gradients = gradient.context.iter().chain(&gradient.net);
            for (((layer, gradient), m), v) in layers.zip(gradients).zip(&mut self.0).zip(&mut self.1) {
                for (weights, gradient, m, v) in [
                    (&mut layer.weight, &gradient.weight, &mut m.weight, &mut v.weight),
                    (&mut layer.bias, &gradient.bias, &mut m.bias, &mut v.bias),
                ] {
                    adam(weights, gradient, m, v, &mut vec![0.0; gradient.len()], step);
                }
            }
        }
    }

    fn plain_adam(learning_rate: f64, step: u64) -> AdamStep {
        AdamStep {
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step,
            clip_scale: 1.0,
            ema_decay: 0.0,
        }
    }

    fn loss(objective: Objective) -> Loss {
        Loss { objective, bounds: [0.0, 1.0] }
    }

    /// Holds layers of the context network and of the score network against `PREFIX.NAME.weight` and `.bias`.
    fn assert_layers(golden: &Golden, prefix: &str, model: &ArCsm, context: &[Layer], net: &[Layer]) {
        let in_file = |l: usize, weight: &[f64]| match &model.context {
            ContextNet::Image(net) => net.convolutions[l].1.to_file_layout(weight),
            ContextNet::Made(_) => weight.to_vec(),
        };
        let contexts = model.context.names().into_iter().zip(context).enumerate();
        let contexts = contexts.map(|(l, (name, layer))| (name, in_file(l, &layer.weight), &layer.bias));
        let nets =
            net.iter().enumerate().map(|(l, Layer { weight, bias })| (format!("net.lin.{l}"), weight.clone(), bias));
        for (layer, weight, bias) in contexts.chain(nets) {
            for (part, got) in [("weight", &weight), ("bias", bias)] {
                let name = format!("{prefix}.{layer}.{part}");
                assert_close(&name, got, golden.tensor(&name), 1e-9);
            }
        }
    }

    #[test]
    fn golden_contexts_and_scores() {
        for golden in GOLDEN.map(Golden::load) {
            let (model, x) = (golden.model("w0"), golden.tensor("x"));
            assert_close("ctx", &model.context.contexts(x), golden.tensor("ctx"), 1e-9);
            let (sigma, x_tilde) = match model.net.parametrisation {
                Parametrisation::Plain => (vec![f64::NAN; x.len()], x.to_vec()),
                _ => {
                    let (sigma, eps) = (golden.tensor("sigma"), golden.tensor("eps"));
                    (sigma.to_vec(), x.iter().zip(sigma).zip(eps).map(|((x, sigma), eps)| x + sigma * eps).collect())
                }
            };
            let (s, ds) = model.scores(x, &x_tilde, &sigma);
            assert_close("s", &s, golden.tensor("s"), 1e-9);
            assert_close("ds", &ds, golden.tensor("ds"), 1e-9);
        }
    }

    #[test]
    fn golden_losses_and_gradients() {
        for golden in GOLDEN.map(Golden::load) {
            let (model, x) = (golden.model("w0"), golden.tensor("x"));
            for (name, (objective, sigma, eps)) in [("csm", golden.csm()), ("dsm", golden.dsm())] {
                let got = model.loss_and_gradients(x, sigma, eps, &loss(objective));
                assert_close(name, &[got.loss], golden.tensor(&format!("{name}_loss")), 1e-9);
                assert_layers(&golden, &format!("{name}_grad"), &model, &got.context, &got.net);
            }
        }
    }

    #[test]
    fn golden_adam_steps() {
        for golden in GOLDEN.map(Golden::load) {
            let (mut model, x) = (golden.model("w0"), golden.tensor("x"));
            let (objective, sigma, eps) = golden.csm();
            let mut moments = Moments::new(&model);
            let mut losses = vec![];
            for step in 1..=3 {
                let gradient = model.loss_and_gradients(x, sigma, eps, &loss(objective));
                moments.update(&mut model, &gradient, &plain_adam(0.01, step));
                losses.push(gradient.loss);
                assert_layers(&golden, &format!("w{step}"), &model, model.context.layers(), &model.net.layers);
            }
            losses.push(model.loss_and_gradients(x, sigma, eps, &loss(objective)).loss);
            assert_close("adam_losses", &losses, golden.tensor("adam_losses"), 1e-9);
        }
    }

    #[test]
    fn golden_log_densities_on_a_grid() {
        for golden in GOLDEN.map(Golden::load) {
            let (model, grid) = (golden.model("w0"), golden.tensor("grid"));
            let rows = &golden.tensor("x")[..2 * model.context.dimensions()];
            let contexts = model.context.contexts(rows);
            let mut got = vec![];
            for context in contexts.chunks_exact(model.context.width()) {
                let scores: Vec<f64> = grid.iter().map(|&y| model.net.evaluate(context, y, 0.2).0).collect();
                let spacing = grid[1] - grid[0];
                let e = cumulative_trapezoid(&scores, spacing);
                let mass: f64 = e.windows(2).map(|e| 0.5 * spacing * (e[0].exp() + e[1].exp())).sum();
                got.extend(e.iter().map(|e| e - mass.ln()));
            }
            assert_close("grid_logp", &got, golden.tensor("grid_logp"), 1e-9);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences_through_both_networks() {
        let mut draws = Draws::new(41);
        let context = ContextNet::Made(random_made(&mut draws, 3, 2, &[5, 5], true, Activation::Tanh));
        let net = random_score_net(&mut draws, 2, &[4, 6], Activation::Silu, Parametrisation::Edm);
        let model = ArCsm { context, net };
        let (x, eps) = (draws.normals(12), draws.normals(12));
        let sigma: Vec<f64> = (0..12).map(|_| draws.uniform(0.2, 1.1)).collect();
        let loss = loss(Objective::Csm);
        let got = model.loss_and_gradients(&x, &sigma, &eps, &loss);
        let value = |model: &ArCsm| model.loss_and_gradients(&x, &sigma, &eps, &loss).loss;
        let context = gradient_by_layers(model.context.layers(), |layers| {
            let mut model = model.clone();
            model.context.layers_mut().clone_from_slice(layers);
            value(&model)
        });
        let net = gradient_by_layers(&model.net.layers, |layers| {
            value(&ArCsm { net: ScoreNet { layers: layers.to_vec(), ..model.net.clone() }, ..model.clone() })
        });
        for (got, want) in got.context.iter().chain(&got.net).zip(context.iter().chain(&net)) {
            assert!(got.weight.iter().any(|&g| g != 0.0));
            assert_close("dweight", &got.weight, &want.weight, 1e-9);
            assert_close("dbias", &got.bias, &want.bias, 1e-9);
        }
    }

    /// Lower triangular, (3, 3).
    const L: [f64; 9] = [1.3, 0.0, 0.0, -0.8, 0.6, 0.0, 0.5, 0.9, 0.7];

    /// x = L z, (B, 3).
    fn gaussian_data(draws: &mut Draws, batch: usize) -> Vec<f64> {
        let white = draws.normals(3 * batch);
        let times_l = |z: &[f64]| [0, 1, 2].map(|d| (0..=d).map(|j| L[3 * d + j] * z[j]).sum::<f64>());
        white.chunks_exact(3).flat_map(times_l).collect()
    }

    #[test]
    fn gaussian_scores_agree_with_the_precision_of_the_leading_block() {
        // s_d = -(C^-1 x)_d for C the covariance of x_1 .. x_d: C times the vector whose last entry is known gives x.
        let x = [0.4, -1.1, 0.9];
        let covariance = |i: usize, j: usize| (0..3).map(|k| L[3 * i + k] * L[3 * j + k]).sum::<f64>();
        let (c00, c01, c11) = (covariance(0, 0), covariance(0, 1), covariance(1, 1));
        let (c02, c12, c22) = (covariance(0, 2), covariance(1, 2), covariance(2, 2));
        let det2 = c00 * c11 - c01 * c01;
        let slope = [(c02 * c11 - c12 * c01) / det2, (c12 * c00 - c02 * c01) / det2];
        let variance = c22 - slope[0] * c02 - slope[1] * c12;
        let want = [
            -x[0] / c00,
            -(x[1] - c01 / c00 * x[0]) / (c11 - c01 * c01 / c00),
            -(x[2] - slope[0] * x[0] - slope[1] * x[1]) / variance,
        ];
        assert_close("scores", &gaussian_scores(&L, &x), &want, 1e-13);
    }

    #[test]
    fn gaussian_optimum_is_the_loss_of_the_exact_scores() {
        let optimum = gaussian_optimum(&[1.3, 0.6, 0.7]);
        let slopes: f64 = [1.3f64, 0.6, 0.7].iter().map(|l| -1.0 / (l * l)).sum();
        let scores = gaussian_scores(&L, &gaussian_data(&mut Draws::new(42), 20_000));
        let loss = 0.5 * scores.iter().map(|s| s * s).sum::<f64>() / 20_000.0 + slopes;
        // 1/2 s_d^2 has variance 1 / (2 L_dd^4), in sum 4.8; 4 standard errors.
        assert!((loss - optimum).abs() <= 4.0 * (4.8f64 / 20_000.0).sqrt(), "{loss}, optimum {optimum}");
    }

    #[test]
    fn training_reaches_the_gaussian_optimum() {
        let mut draws = Draws::new(43);
        let context = ContextNet::Made(random_made(&mut draws, 3, 3, &[12], false, Activation::Tanh));
        let net = random_score_net(&mut draws, 3, &[12], Activation::Silu, Parametrisation::Plain);
        let mut model = ArCsm { context, net };
        let mut moments = Moments::new(&model);
        for step in 1..=1500 {
            let x = gaussian_data(&mut draws, 128);
            let unused = vec![f64::NAN; x.len()];
            let gradient = model.loss_and_gradients(&x, &unused, &unused, &loss(Objective::Plain));
            moments.update(&mut model, &gradient, &plain_adam(learning_rate(step, 1500, 0.02, 50, 0.01), step));
        }
        let x = gaussian_data(&mut draws, 4000);
        let (scores, _) = model.scores(&x, &x, &vec![f64::NAN; x.len()]);
        let errors = scores.iter().zip(gaussian_scores(&L, &x)).map(|(got, want)| 0.5 * (got - want).powi(2));
        let divergence = errors.sum::<f64>() / 4000.0;
        let optimum = gaussian_optimum(&[1.3, 0.6, 0.7]);
        // J - J* is this divergence: 3 % of |J*| is left to the finite net and batch.
        assert!(divergence <= 0.03 * optimum.abs(), "Fisher divergence {divergence} at J* = {optimum}");
        assert_near("J*", optimum, -0.5 * (1.0 / 1.69 + 1.0 / 0.36 + 1.0 / 0.49), 1e-14);
    }
}
