//! The score network shared by all dimensions: value, slope, losses and their gradients, one row at a time.
//!
//! A row is one (sample, dimension). The net reads [c_0 .. c_{K-1}, u, (e)], where u is the scaled x~ and
//! e = log(sigma)/2 (absent for `plain`), and its output f becomes the score s = offset + gain f
//! ([`Parametrisation`]). The slope ds/dx~ comes from a tangent carried beside every value, and the gradient of a loss
//! of both from one backward pass with two adjoints, dz and dt:
//!
//! ```text
//! z = W h + b   t = W h'    h = phi(z)   h' = phi'(z) t          seed: u has tangent du/dx~, all else 0
//! dz = dh phi'(z) + dh' phi''(z) t       dt = dh' phi'(z)
//! dW += dz h_in^T + dt h'_in^T           db += dz           dh_in = W^T dz    dh'_in = W^T dt
//! ```

use crate::codes::{Activation, Objective, Parametrisation};

use super::activation;
use super::dense::Layer;

/// A dense net to one output, with the scaling that makes it a score.
#[derive(Debug, Clone)]
pub struct ScoreNet {
    /// K
    pub context: usize,
    /// Activation of the hidden layers; twice differentiable if a loss with the slope is to train.
    pub activation: Activation,
    /// How f becomes a score.
    pub parametrisation: Parametrisation,
    /// Centre of the data (`osig`, `edm`).
    pub mean: f64,
    /// Standard deviation of the data (`edm`).
    pub sd: f64,
    /// The first reads [`ScoreNet::input_width`] values, the last has one output.
    pub layers: Vec<Layer>,
}

/// One (sample, dimension) of a training batch.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// (K)
    pub context: &'a [f64],
    /// The clean x_d.
    pub x: f64,
    /// Noise level.
    pub sigma: f64,
    /// The noise in units of sigma.
    pub eps: f64,
    /// Weight of this row's loss in the gradients, 1/B for the mean over a batch of the sum over dimensions.
    pub weight: f64,
}

/// An objective with what it needs beside the row.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// Which loss.
    pub objective: Objective,
    /// Ends of the data's support, for [`Objective::Weighted`].
    pub bounds: [f64; 2],
}

/// Every objective is one form: square/2 s^2 + slope ds/dx~ + linear s + constant, with these coefficients.
pub(super) struct Coefficients {
    pub(super) square: f64,
    pub(super) slope: f64,
    pub(super) linear: f64,
    constant: f64,
}

/// Losses and gradients of some rows.
#[derive(Debug, Clone)]
pub struct ScoreGradient {
    /// Loss of each row, without its weight.
    pub losses: Vec<f64>,
    /// (rows, K), with the rows' weights.
    pub dcontexts: Vec<f64>,
    /// Sums over the rows, with their weights.
    pub layers: Vec<Layer>,
}

/// u with its derivative by x~, and s = offset + gain f with the offset's derivative.
struct Scaling {
    u: f64,
    du: f64,
    offset: f64,
    doffset: f64,
    gain: f64,
}

/// A vector and its derivative by x~.
struct Dual {
    value: Vec<f64>,
    tangent: Vec<f64>,
}

/// What each layer read, and its sums before the activation.
struct Trace {
    inputs: Vec<Dual>,
    sums: Vec<Dual>,
}

impl Loss {
    /// Where the score is taken: x + sigma eps, or the clean x for the objectives without noise.
    pub fn position(&self, row: &Row) -> f64 {
        match self.objective {
            Objective::Csm | Objective::Dsm | Objective::Ml => row.x + row.sigma * row.eps,
            Objective::Plain | Objective::Weighted => row.x,
        }
    }

    /// The loss of one row, given score and slope at [`Loss::position`].
    pub fn value(&self, row: &Row, score: f64, slope: f64) -> f64 {
        let c = self.coefficients(row);
        0.5 * c.square * score * score + c.slope * slope + c.linear * score + c.constant
    }

    pub(super) fn coefficients(&self, row: &Row) -> Coefficients {
        let variance = row.sigma * row.sigma;
        let (square, slope, linear, constant) = match self.objective {
            Objective::Csm => (variance, variance, 0.0, 0.0),
            Objective::Dsm => (variance, 0.0, row.sigma * row.eps, 0.5 * row.eps * row.eps),
            Objective::Plain => (1.0, 1.0, 0.0, 0.0),
            Objective::Weighted => {
                let (h, dh) = self.distance_to_bound(row.x);
                (h, h, dh, 0.0)
            }
            Objective::Ml => panic!("maximum likelihood is no loss of scores"),
        };
        Coefficients { square, slope, linear, constant }
    }

    /// Distance to the nearer bound and its derivative, which is 0 in the middle.
    fn distance_to_bound(&self, x: f64) -> (f64, f64) {
        let [low, high] = self.bounds;
        let from_middle = x - 0.5 * (low + high);
        let sign = f64::from(from_middle > 0.0) - f64::from(from_middle < 0.0);
        (0.5 * (high - low) - from_middle.abs(), -sign)
    }
}

impl ScoreNet {
    /// Number of inputs: the context, u and, unless `plain`, e.
    pub fn input_width(&self) -> usize {
        self.context + if self.parametrisation == Parametrisation::Plain { 1 } else { 2 }
    }

    /// (score, slope) at x~; the slope is the total derivative of the score by x~. context (K).
    pub fn evaluate(&self, context: &[f64], x_tilde: f64, sigma: f64) -> (f64, f64) {
        let scaling = self.scaling(x_tilde, sigma);
        scaling.score(&self.trace(context, sigma, &scaling))
    }

    /// Losses of the rows, and the gradients of their weighted sum.
    pub fn loss_and_gradient(&self, rows: &[Row], loss: &Loss) -> ScoreGradient {
        let mut result = ScoreGradient {
            losses: Vec::with_capacity(rows.len()),
            dcontexts: Vec::with_capacity(rows.len() * self.context),
            layers: self.layers.iter().map(Layer::zeros_like).collect(),
        };
        for row in rows {
            let scaling = self.scaling(loss.position(row), row.sigma);
            let trace = self.trace(row.context, row.sigma, &scaling);
            let (score, slope) = scaling.score(&trace);
            let c = loss.coefficients(row);
            let gain = row.weight * scaling.gain;
            let seed = Dual { value: vec![gain * (c.square * score + c.linear)], tangent: vec![gain * c.slope] };
            let dinput = self.backward(&trace, seed, &mut result.layers);
            result.losses.push(loss.value(row, score, slope));
            result.dcontexts.extend(&dinput[..self.context]);
        }
        result
    }

    fn scaling(&self, x_tilde: f64, sigma: f64) -> Scaling {
        let centred = x_tilde - self.mean;
        match self.parametrisation {
            Parametrisation::Plain => Scaling { u: x_tilde, du: 1.0, offset: 0.0, doffset: 0.0, gain: 1.0 },
            Parametrisation::Osig => Scaling { u: centred, du: 1.0, offset: 0.0, doffset: 0.0, gain: 1.0 / sigma },
            Parametrisation::Edm => {
                let v = self.sd * self.sd + sigma * sigma;
                let root = v.sqrt();
                Scaling {
                    u: centred / root,
                    du: 1.0 / root,
                    offset: -centred / v,
                    doffset: -1.0 / v,
                    gain: self.sd / (sigma * root),
                }
            }
        }
    }

    fn trace(&self, context: &[f64], sigma: f64, scaling: &Scaling) -> Trace {
        let mut h = Dual { value: context.to_vec(), tangent: vec![0.0; self.input_width()] };
        h.value.push(scaling.u);
        h.tangent[self.context] = scaling.du;
        if self.parametrisation != Parametrisation::Plain {
            h.value.push(0.5 * sigma.ln());
        }
        let mut trace = Trace { inputs: vec![], sums: vec![] };
        for layer in &self.layers {
            let mut z = Dual { value: product(layer, &h.value), tangent: product(layer, &h.tangent) };
            z.value.iter_mut().zip(&layer.bias).for_each(|(z, bias)| *z += bias);
            trace.inputs.push(std::mem::replace(&mut h, self.activate(&z)));
            trace.sums.push(z);
        }
        trace
    }

    fn activate(&self, z: &Dual) -> Dual {
        let slopes = z.value.iter().map(|&z| activation::first(self.activation, z));
        Dual {
            value: z.value.iter().map(|&z| activation::value(self.activation, z)).collect(),
            tangent: slopes.zip(&z.tangent).map(|(slope, t)| slope * t).collect(),
        }
    }

    /// From the adjoint of (f, df/dx~): adds to the layers' gradients and gives the adjoint of the net's input.
    fn backward(&self, trace: &Trace, seed: Dual, gradients: &mut [Layer]) -> Vec<f64> {
        let mut dz = seed;
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let (input, inputs) = (&trace.inputs[l], layer.inputs());
            for (o, (value, tangent)) in dz.value.iter().zip(&dz.tangent).enumerate() {
                gradients[l].bias[o] += value;
                for i in 0..inputs {
                    gradients[l].weight[o * inputs + i] += value * input.value[i] + tangent * input.tangent[i];
                }
            }
            let dh =
                Dual { value: transposed_product(layer, &dz.value), tangent: transposed_product(layer, &dz.tangent) };
            if l == 0 {
                return dh.value;
            }
            dz = self.activate_backward(&trace.sums[l - 1], &dh);
        }
        unreachable!("a score network has at least one layer")
    }

    fn activate_backward(&self, z: &Dual, dh: &Dual) -> Dual {
        let mut dz = Dual { value: vec![], tangent: vec![] };
        for (o, &sum) in z.value.iter().enumerate() {
            let (first, second) = (activation::first(self.activation, sum), activation::second(self.activation, sum));
            dz.value.push(dh.value[o] * first + dh.tangent[o] * second * z.tangent[o]);
            dz.tangent.push(dh.tangent[o] * first);
        }
        dz
    }
}

impl Scaling {
    /// (score, slope), from the last layer's sums.
    fn score(&self, trace: &Trace) -> (f64, f64) {
        let f = trace.sums.last().expect("a score network has at least one layer");
        (self.offset + self.gain * f.value[0], self.doffset + self.gain * f.tangent[0])
    }
}

/// W h
fn product(layer: &Layer, h: &[f64]) -> Vec<f64> {
    layer.weight.chunks_exact(layer.inputs()).map(|row| row.iter().zip(h).map(|(w, h)| w * h).sum()).collect()
}

/// W^T dz
fn transposed_product(layer: &Layer, dz: &[f64]) -> Vec<f64> {
    let mut dh = vec![0.0; layer.inputs()];
    for (row, dz) in layer.weight.chunks_exact(layer.inputs()).zip(dz) {
        dh.iter_mut().zip(row).for_each(|(dh, w)| *dh += w * dz);
    }
    dh
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Draws, assert_close, assert_near, derivative, gradient, gradient_by_layers, integral, random_score_net,
    };
    use super::*;

    const OBJECTIVES: [Objective; 4] = [Objective::Csm, Objective::Dsm, Objective::Plain, Objective::Weighted];
    const PARAMETRISATIONS: [Parametrisation; 3] =
        [Parametrisation::Plain, Parametrisation::Osig, Parametrisation::Edm];
    const ACTIVATIONS: [Activation; 4] = [Activation::Silu, Activation::Softplus, Activation::Tanh, Activation::Elu];
    const CONTEXT: usize = 3;
    const ROWS: usize = 4;

    /// Every parametrisation and activation with one, two and three hidden layers.
    fn nets() -> impl Iterator<Item = ScoreNet> {
        let depths: [&[usize]; 3] = [&[5], &[6, 4], &[4, 7, 3]];
        PARAMETRISATIONS.into_iter().flat_map(move |parametrisation| {
            ACTIVATIONS.into_iter().flat_map(move |activation| {
                depths.into_iter().map(move |hidden| {
                    random_score_net(&mut Draws::new(31), CONTEXT, hidden, activation, parametrisation)
                })
            })
        })
    }

    fn loss(objective: Objective) -> Loss {
        Loss { objective, bounds: [-1.5, 2.0] }
    }

    /// contexts (ROWS, CONTEXT), and (x, sigma, eps, weight) of each row, all different.
    struct Batch {
        contexts: Vec<f64>,
        scalars: Vec<[f64; 4]>,
    }

    impl Batch {
        fn new(seed: u64) -> Self {
            let mut draws = Draws::new(seed);
            let contexts = draws.normals(ROWS * CONTEXT);
            let scalar =
                |_| [draws.uniform(-1.4, 1.9), draws.uniform(0.3, 1.2), draws.normal(), draws.uniform(0.2, 0.9)];
            Self { contexts, scalars: (0..ROWS).map(scalar).collect() }
        }

        /// A batch where no hidden unit is so close to 0 that a difference quotient would step over a kink of `elu`.
        fn clear_of_kinks(net: &ScoreNet, loss: &Loss) -> Self {
            let clear = |batch: &Self| {
                batch.rows().iter().all(|row| {
                    let trace = net.trace(row.context, row.sigma, &net.scaling(loss.position(row), row.sigma));
                    trace.sums.iter().flat_map(|z| &z.value).all(|z| z.abs() > 0.01)
                })
            };
            (32..).map(Self::new).find(clear).expect("some seed")
        }

        fn rows(&self) -> Vec<Row<'_>> {
            let contexts = self.contexts.chunks_exact(CONTEXT);
            let row = |(context, &[x, sigma, eps, weight]): (_, &[f64; 4])| Row { context, x, sigma, eps, weight };
            contexts.zip(&self.scalars).map(row).collect()
        }

        fn with_contexts(&self, contexts: &[f64]) -> Self {
            Self { contexts: contexts.to_vec(), scalars: self.scalars.clone() }
        }
    }

    fn weighted_loss(net: &ScoreNet, batch: &Batch, loss: &Loss) -> f64 {
        let of_row = |row: &Row| {
            let (score, slope) = net.evaluate(row.context, loss.position(row), row.sigma);
            row.weight * loss.value(row, score, slope)
        };
        batch.rows().iter().map(of_row).sum()
    }

    #[test]
    fn slope_agrees_with_finite_differences_of_the_score() {
        for net in nets() {
            for row in Batch::clear_of_kinks(&net, &loss(Objective::Plain)).rows() {
                let (_, slope) = net.evaluate(row.context, row.x, row.sigma);
                let want = derivative(|h| net.evaluate(row.context, row.x + h, row.sigma).0);
                assert_near(&format!("slope {:?} {:?}", net.parametrisation, net.activation), slope, want, 1e-9);
            }
        }
    }

    #[test]
    fn gradients_of_all_objectives_agree_with_finite_differences() {
        for (net, objective) in nets().flat_map(|net| OBJECTIVES.map(|objective| (net.clone(), objective))) {
            let loss = loss(objective);
            let batch = Batch::clear_of_kinks(&net, &loss);
            let got = net.loss_and_gradient(&batch.rows(), &loss);
            let label = format!("{objective:?} {:?} {:?}", net.parametrisation, net.activation);

            let total: f64 = got.losses.iter().zip(batch.rows()).map(|(loss, row)| loss * row.weight).sum();
            assert_near(&label, total, weighted_loss(&net, &batch, &loss), 1e-14);

            let dcontexts = gradient(&batch.contexts, |c| weighted_loss(&net, &batch.with_contexts(c), &loss));
            assert_close(&format!("{label} dcontexts"), &got.dcontexts, &dcontexts, 1e-9);
            let want = gradient_by_layers(&net.layers, |layers| {
                weighted_loss(&ScoreNet { layers: layers.to_vec(), ..net.clone() }, &batch, &loss)
            });
            for (l, (got, want)) in got.layers.iter().zip(&want).enumerate() {
                assert!(got.weight.iter().all(|&g| g != 0.0), "{label}: a weight of layer {l} has no gradient");
                assert_close(&format!("{label} dweight {l}"), &got.weight, &want.weight, 1e-9);
                assert_close(&format!("{label} dbias {l}"), &got.bias, &want.bias, 1e-9);
            }
        }
    }

    #[test]
    fn scores_by_hand() {
        // f = 2 u + 3 c + (5 e) + 7
        let net = |parametrisation, weight: &[f64]| ScoreNet {
            context: 1,
            activation: Activation::Silu,
            parametrisation,
            mean: 0.25,
            sd: 0.5,
            layers: vec![Layer { weight: weight.to_vec(), bias: vec![7.0] }],
        };
        let (c, x, sigma) = (-0.5, 0.75, 0.2f64);
        let (score, slope) = net(Parametrisation::Plain, &[3.0, 2.0]).evaluate(&[c], x, sigma);
        assert_eq!((score, slope), (7.0, 2.0));
        let with_noise = [3.0, 2.0, 5.0];
        let (score, slope) = net(Parametrisation::Osig, &with_noise).evaluate(&[c], x, sigma);
        assert_near("osig", score, (2.0 * 0.5 - 1.5 + 2.5 * sigma.ln() + 7.0) / sigma, 1e-14);
        assert_near("osig slope", slope, 10.0, 1e-14);
        let (score, slope) = net(Parametrisation::Edm, &with_noise).evaluate(&[c], x, sigma);
        let v = 0.29f64;
        let gain = 0.5 / (0.2 * v.sqrt());
        let f = 2.0 * 0.5 / v.sqrt() - 1.5 + 2.5 * sigma.ln() + 7.0;
        assert_near("edm", score, -0.5 / v + gain * f, 1e-14);
        assert_near("edm slope", slope, -1.0 / v + gain * 2.0 / v.sqrt(), 1e-14);
    }

    #[test]
    fn csm_and_dsm_differ_by_a_constant_under_the_noise() {
        // A point mass at 0.3 and any score: E csm + 1/2 = E dsm by Stein's identity.
        let sigma = 0.7;
        let (score, slope) = (|y: f64| (2.0 * y).sin() - y, |y: f64| 2.0 * (2.0 * y).cos() - 1.0);
        let expected = |objective| {
            integral(-12.0, 12.0, |eps| {
                let row = Row { context: &[], x: 0.3, sigma, eps, weight: 1.0 };
                let y = loss(objective).position(&row);
                (-0.5 * eps * eps).exp() / std::f64::consts::TAU.sqrt()
                    * loss(objective).value(&row, score(y), slope(y))
            })
        };
        assert_near("dsm - csm", expected(Objective::Dsm) - expected(Objective::Csm), 0.5, 1e-9);
    }

    #[test]
    fn weighted_loss_is_a_fisher_divergence_on_an_interval() {
        // Density 2 (1 + x) / 3 on [0, 1]: J(s) - J(s*) = 1/2 E h (s - s*)^2, though the density is not 0 at the ends.
        let loss = Loss { objective: Objective::Weighted, bounds: [0.0, 1.0] };
        let density = |x: f64| 2.0 * (1.0 + x) / 3.0;
        let truth = (|x: f64| 1.0 / (1.0 + x), |x: f64| -1.0 / (1.0 + x).powi(2));
        let other = (|x: f64| (3.0 * x).sin() - 0.4, |x: f64| 3.0 * (3.0 * x).cos());
        let halves = |f: &dyn Fn(f64) -> f64| integral(0.0, 0.5, f) + integral(0.5, 1.0, f);
        let expected = |(score, slope): (&dyn Fn(f64) -> f64, &dyn Fn(f64) -> f64)| {
            halves(&|x| {
                let row = Row { context: &[], x, sigma: 0.0, eps: 0.0, weight: 1.0 };
                density(x) * loss.value(&row, score(x), slope(x))
            })
        };
        let divergence = halves(&|x| 0.5 * density(x) * (0.5 - (x - 0.5).abs()) * (other.0(x) - truth.0(x)).powi(2));
        let difference = expected((&other.0, &other.1)) - expected((&truth.0, &truth.1));
        assert!(divergence > 0.01);
        assert_near("divergence", difference, divergence, 1e-7);
        assert_eq!(loss.distance_to_bound(0.5), (0.5, 0.0));
    }
}
