//! The score of a whole vector with its slopes along directions, the losses of score matching, and all gradients.

use crate::codes::Activation;
use crate::models::score_field::losses::{Residual, Slices, Terms};
use crate::numbers::random::{random_bits, stream};

use super::activation;
use super::dense::{
    Approx, Layer, add, column_sum, masked_dense_backward_input, masked_dense_backward_weight, masked_dense_forward,
};

/// s(x) = f(x) + gain * x, f a dense network D -> widths -> D with an activation after every layer but the last.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreField {
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// One for each hidden layer, and the output layer.
    pub layers: Vec<Layer>,
    /// (D)
    pub gain: Vec<f64>,
}

/// What every layer read, and its sums before the activation: of values (B rows) or of tangents (P B rows).
struct Pass {
    inputs: Vec<Vec<f64>>,
    sums: Vec<Vec<f64>>,
    /// s or s'.
    output: Vec<f64>,
}

/// `h'[p B + b] = phi'(z[b]) t[p B + b]`: z (B, n), t (P B, n) -> (P B, n).
pub fn tangent_forward(phi: Activation, z: &[f64], t: &[f64]) -> Vec<f64> {
    t.iter().zip(z.iter().cycle()).map(|(t, &z)| activation::first(phi, z) * t).collect()
}

/// dt (P B, n) and dz (B, n) from z (B, n), t and dh' (P B, n):
/// `dt = dh' phi'(z)`, `dz[b] = sum over p of dh'[p B + b] phi''(z[b]) t[p B + b]`.
pub fn tangent_backward(phi: Activation, z: &[f64], t: &[f64], dh_tangent: &[f64]) -> (Vec<f64>, Approx) {
    let mut dz = Approx::zeros(z.len());
    for (at, (t, dh)) in t.iter().zip(dh_tangent).enumerate() {
        let b = at % z.len();
        dz.add(b, dh * activation::second(phi, z[b]) * t);
    }
    (tangent_forward(phi, z, dh_tangent), dz)
}

/// `y[r, c] + gain[c] x[r, c]`: y, x (rows, C), gain (C).
pub fn diagonal_forward(gain: &[f64], x: &[f64], y: &[f64]) -> Approx {
    let mut sums = Approx::zeros(y.len());
    sums.add_all(y);
    for (at, x) in x.iter().enumerate() {
        sums.add(at, gain[at % gain.len()] * x);
    }
    sums
}

/// `dgain[c] = sum over r of dy[r, c] x[r, c]`: dy, x (rows, C) -> (C).
pub fn diagonal_backward(dy: &[f64], x: &[f64], columns: usize) -> Approx {
    let mut dgain = Approx::zeros(columns);
    for (at, (dy, x)) in dy.iter().zip(x).enumerate() {
        dgain.add(at % columns, dy * x);
    }
    dgain
}

/// Random signs (P B, D), those of directions `first` .. `first` + P.
pub fn random_signs(seed: u64, batch: usize, dimensions: usize, directions: [usize; 2], step: u32) -> Vec<f64> {
    let [first, count] = directions;
    let quads = dimensions.div_ceil(4);
    let sign = |row: usize, d: usize| {
        let (sample, direction) = (row % batch, first + row / batch);
        let bits = random_bits(seed, stream::PROBES, sample as u32, (direction * quads + d / 4) as u32, step);
        if bits[d % 4] < 1 << 31 { 1.0 } else { -1.0 }
    };
    (0..count * batch).flat_map(|row| (0..dimensions).map(move |d| sign(row, d))).collect()
}

/// Unit vectors (P B, D) of the dimensions `first` .. `first` + P; zeros past the last one.
pub fn unit_vectors(batch: usize, dimensions: usize, [first, count]: [usize; 2]) -> Vec<f64> {
    let row = |row: usize| (0..dimensions).map(move |d| f64::from(d == first + row / batch));
    (0..count * batch).flat_map(row).collect()
}

/// Losses (B) and ds (B, D) of 1/2 |scale s + shift (noisy - clean)|^2, the seeds divided by B.
pub fn residual_loss(
    term: Residual,
    score: &[f64],
    clean: &[f64],
    noisy: &[f64],
    dimensions: usize,
) -> (Approx, Vec<f64>) {
    let (scale, shift) = (f64::from(term.scale), f64::from(term.shift));
    let batch = score.len() / dimensions;
    let (mut losses, mut dscore) = (Approx::zeros(batch), Vec::new());
    for (at, s) in score.iter().enumerate() {
        let residual = scale * s + shift * (noisy[at] - clean[at]);
        losses.add(at / dimensions, 0.5 * residual * residual);
        dscore.push(scale * residual / batch as f64);
    }
    (losses, dscore)
}

/// Losses (B), ds (B, D; zero without projection) and ds' (P B, D) of
/// weight sum over p of [ v . s' + project/2 (v . s)^2 ], the seeds divided by B. v and s' are (P B, D).
pub fn sliced_loss(
    term: Slices,
    v: &[f64],
    score: &[f64],
    slope: &[f64],
    dimensions: usize,
) -> (Approx, Approx, Vec<f64>) {
    let batch = score.len() / dimensions;
    let seed = f64::from(term.weight) / batch as f64;
    let (mut losses, mut dscore) = (Approx::zeros(batch), Approx::zeros(score.len()));
    for (row, (v, slope)) in v.chunks_exact(dimensions).zip(slope.chunks_exact(dimensions)).enumerate() {
        let b = row % batch;
        let score = &score[b * dimensions..][..dimensions];
        v.iter().zip(slope).for_each(|(v, slope)| losses.add(b, f64::from(term.weight) * v * slope));
        if term.project {
            let along: f64 = v.iter().zip(score).map(|(v, s)| v * s).sum();
            let magnitude: f64 = v.iter().zip(score).map(|(v, s)| (v * s).abs()).sum();
            losses.value[b] += 0.5 * f64::from(term.weight) * along * along;
            losses.magnitude[b] += 0.5 * f64::from(term.weight) * magnitude * magnitude;
            for (d, v) in v.iter().enumerate() {
                dscore.value[b * dimensions + d] += seed * along * v;
                dscore.magnitude[b * dimensions + d] += seed * magnitude * v.abs();
            }
        }
    }
    (losses, dscore, v.iter().map(|v| seed * v).collect())
}

impl ScoreField {
    /// D
    pub fn dimensions(&self) -> usize {
        self.gain.len()
    }

    /// s at x (B, D).
    pub fn scores(&self, x: &[f64]) -> Vec<f64> {
        self.forward(x).output
    }

    /// s' = (ds/dx) v at x (B, D) along v (P B, D): (P B, D).
    pub fn slopes(&self, x: &[f64], v: &[f64]) -> Vec<f64> {
        self.push(&self.forward(x), v).output
    }

    /// Loss of every sample (B), and the gradient of their mean by every weight, laid out as the weights. The score is
    /// taken at `noisy` (B, D), the slopes along `v` (P B, D).
    pub fn loss_and_gradient(&self, terms: Terms, clean: &[f64], noisy: &[f64], v: &[f64]) -> (Vec<f64>, Self) {
        let dimensions = self.dimensions();
        let (values, mut losses) = (self.forward(noisy), vec![0.0; clean.len() / dimensions]);
        let mut dscore = vec![0.0; clean.len()];
        if let Some(residual) = terms.residual {
            let (own, seeds) = residual_loss(residual, &values.output, clean, noisy, dimensions);
            add(&mut losses, &own.value);
            add(&mut dscore, &seeds);
        }
        let Some(slices) = terms.slices else { return (losses, self.backward(&values, &dscore, None)) };
        let tangents = self.push(&values, v);
        let (own, seeds, dslope) = sliced_loss(slices, v, &values.output, &tangents.output, dimensions);
        add(&mut losses, &own.value);
        add(&mut dscore, &seeds.value);
        (losses, self.backward(&values, &dscore, Some((&tangents, &dslope))))
    }

    fn forward(&self, x: &[f64]) -> Pass {
        self.pass(x, true, |_, sums| sums.iter().map(|&z| activation::value(self.activation, z)).collect())
    }

    fn push(&self, values: &Pass, v: &[f64]) -> Pass {
        self.pass(v, false, |l, t| tangent_forward(self.activation, &values.sums[l], t))
    }

    /// Layer by layer; tangents have no biases.
    fn pass(&self, x: &[f64], biased: bool, activate: impl Fn(usize, &[f64]) -> Vec<f64>) -> Pass {
        let (mut inputs, mut sums, mut h) = (Vec::new(), Vec::new(), x.to_vec());
        for (l, layer) in self.layers.iter().enumerate() {
            let zeros = vec![0.0; layer.outputs()];
            let bias = if biased { &layer.bias } else { &zeros };
            let z = masked_dense_forward(&h, &layer.weight, bias, &every_input(layer)).value;
            let next = if l + 1 < self.layers.len() { activate(l, &z) } else { z.clone() };
            inputs.push(std::mem::replace(&mut h, next));
            sums.push(z);
        }
        Pass { output: diagonal_forward(&self.gain, x, &h).value, inputs, sums }
    }

    /// The gradient by every weight from ds (B, D), and from ds' (P B, D) of the tangents.
    fn backward(&self, values: &Pass, dscore: &[f64], tangents: Option<(&Pass, &[f64])>) -> Self {
        let dimensions = self.dimensions();
        let mut dgain = diagonal_backward(dscore, &values.inputs[0], dimensions).value;
        let mut layers: Vec<Layer> = self.layers.iter().map(Layer::zeros_like).collect();
        // What the slopes' dependence on z adds to dz of every hidden layer.
        let mut curvature: Vec<Vec<f64>> = values.sums.iter().map(|z| vec![0.0; z.len()]).collect();
        if let Some((tangents, dslope)) = tangents {
            add(&mut dgain, &diagonal_backward(dslope, &tangents.inputs[0], dimensions).value);
            let mut dt = dslope.to_vec();
            for (l, layer) in self.layers.iter().enumerate().rev() {
                let visible = every_input(layer);
                add(&mut layers[l].weight, &masked_dense_backward_weight(&dt, &tangents.inputs[l], &visible).value);
                if l > 0 {
                    let dh = masked_dense_backward_input(&dt, &layer.weight, &visible).value;
                    let (z, t) = (&values.sums[l - 1], &tangents.sums[l - 1]);
                    let (before, dz) = tangent_backward(self.activation, z, t, &dh);
                    (dt, curvature[l - 1]) = (before, dz.value);
                }
            }
        }
        let mut dz = dscore.to_vec();
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let visible = every_input(layer);
            add(&mut layers[l].weight, &masked_dense_backward_weight(&dz, &values.inputs[l], &visible).value);
            layers[l].bias = column_sum(&dz, layer.outputs()).value;
            if l > 0 {
                let dh = masked_dense_backward_input(&dz, &layer.weight, &visible).value;
                let of_unit = |(dh, &z): (&f64, &f64)| dh * activation::first(self.activation, z);
                dz = dh.iter().zip(&values.sums[l - 1]).map(of_unit).collect();
                add(&mut dz, &curvature[l - 1]);
            }
        }
        Self { activation: self.activation, layers, gain: dgain }
    }
}

fn every_input(layer: &Layer) -> Vec<u32> {
    vec![layer.inputs() as u32; layer.outputs()]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, assert_close, assert_near, derivative, dot, gradient, gradient_by_layers};
    use super::*;
    use crate::models::score_field::losses::ScoreMatching;

    const D: usize = 3;
    const B: usize = 2;

    const LOSSES: [ScoreMatching; 4] = [
        ScoreMatching::Exact,
        ScoreMatching::Sliced { projections: 2 },
        ScoreMatching::SlicedVr { projections: 3 },
        ScoreMatching::Denoising { sigma: 0.5 },
    ];

    fn field(activation: Activation) -> ScoreField {
        let mut draws = Draws::new(61);
        ScoreField { activation, layers: draws.layers(&[D, 5, 4, D]), gain: draws.normals(D) }
    }

    /// Directions as each loss wants them.
    fn probes(loss: ScoreMatching, batch: usize, dimensions: usize) -> Vec<f64> {
        let directions = [0, loss.directions(dimensions)];
        match loss {
            ScoreMatching::Exact => unit_vectors(batch, dimensions, directions),
            _ => random_signs(9, batch, dimensions, directions, 4),
        }
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn slopes_are_derivatives_along_directions() {
        let (field, mut draws) = (field(Activation::Silu), Draws::new(62));
        let (x, v) = (draws.normals(B * D), draws.normals(2 * B * D));
        let slopes = field.slopes(&x, &v);
        for (row, (v, slopes)) in v.chunks_exact(D).zip(slopes.chunks_exact(D)).enumerate() {
            let x = &x[row % B * D..][..D];
            for (d, &slope) in slopes.iter().enumerate() {
                let along = |h: f64| {
                    let moved: Vec<f64> = x.iter().zip(v).map(|(x, v)| x + h * v).collect();
                    field.scores(&moved)[d]
                };
                assert_near("slope", slope, derivative(along), 1e-10);
            }
        }
    }

    #[test]
    fn gradients_of_every_loss_agree_with_finite_differences() {
        for (activation, loss) in
            [Activation::Silu, Activation::Softplus, Activation::Tanh, Activation::Silu].into_iter().zip(LOSSES)
        {
            let (field, mut draws) = (field(activation), Draws::new(63));
            let (clean, noise) = (draws.normals(B * D), draws.normals(B * D));
            let sigma = f64::from(loss.sigma());
            let noisy: Vec<f64> = clean.iter().zip(&noise).map(|(x, eps)| x + sigma * eps).collect();
            let v = probes(loss, B, D);
            let value = |field: &ScoreField| mean(&field.loss_and_gradient(loss.terms(), &clean, &noisy, &v).0);
            let (_, got) = field.loss_and_gradient(loss.terms(), &clean, &noisy, &v);
            let by_layers = gradient_by_layers(&field.layers, |layers| {
                value(&ScoreField { layers: layers.to_vec(), ..field.clone() })
            });
            for (l, (got, want)) in got.layers.iter().zip(&by_layers).enumerate() {
                assert!(got.weight.iter().all(|&g| g != 0.0), "{loss:?}: layer {l} has no gradient");
                assert_close(&format!("{loss:?} dweight {l}"), &got.weight, &want.weight, 1e-9);
                assert_close(&format!("{loss:?} dbias {l}"), &got.bias, &want.bias, 1e-9);
            }
            let by_gain = gradient(&field.gain, |gain| value(&ScoreField { gain: gain.to_vec(), ..field.clone() }));
            assert_close(&format!("{loss:?} dgain"), &got.gain, &by_gain, 1e-9);
        }
    }

    /// All 2^D directions of signs for one sample.
    fn every_sign() -> Vec<f64> {
        (0..1 << D).flat_map(|k: usize| (0..D).map(move |d| if k >> d & 1 == 1 { 1.0 } else { -1.0 })).collect()
    }

    #[test]
    fn sliced_losses_and_gradients_average_to_the_exact_one() {
        let (field, x) = (field(Activation::Softplus), Draws::new(64).normals(D));
        let exact = ScoreMatching::Exact;
        let (want, want_gradient) = field.loss_and_gradient(exact.terms(), &x, &x, &probes(exact, 1, D));
        let projections = 1 << D as u32;
        for loss in [ScoreMatching::Sliced { projections }, ScoreMatching::SlicedVr { projections }] {
            let (got, got_gradient) = field.loss_and_gradient(loss.terms(), &x, &x, &every_sign());
            assert_near(&format!("{loss:?}"), got[0], want[0], 1e-12);
            for (got, want) in got_gradient.layers.iter().zip(&want_gradient.layers) {
                assert_close(&format!("{loss:?}"), &got.weight, &want.weight, 1e-12);
            }
        }
    }

    /// s(x) = -P x as two dense layers without activation and a diagonal; P is not symmetric, no part of it vanishes.
    fn linear(draws: &mut Draws) -> (ScoreField, Vec<f64>) {
        let mut layers = draws.layers(&[D, 4, D]);
        layers.iter_mut().for_each(|layer| layer.bias.fill(0.0));
        let gain = draws.normals(D);
        let product = |i: usize, j: usize| {
            let inner: f64 = (0..4).map(|k| layers[1].weight[i * 4 + k] * layers[0].weight[k * D + j]).sum();
            -(inner + if i == j { gain[i] } else { 0.0 })
        };
        let p = (0..D * D).map(|at| product(at / D, at % D)).collect();
        (ScoreField { activation: Activation::Identity, layers, gain }, p)
    }

    /// Of Gaussian data with covariance L L^T, the expectation of anything quadratic is its mean over these 2 D points.
    fn cubature(factor: &[f64], size: usize) -> Vec<f64> {
        let root = (size as f64).sqrt();
        let point = |k: usize, sign: f64| (0..size).map(move |d| sign * root * factor[d * size + k]);
        (0..size).flat_map(|k| point(k, 1.0).chain(point(k, -1.0)).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn losses_of_a_linear_score_on_gaussian_data_are_in_closed_form() {
        let mut draws = Draws::new(65);
        let (field, p) = linear(&mut draws);
        let factor: Vec<f64> = draws.normals(D * D);
        let entry = |a: &[f64], i: usize, j: usize| a[i * D + j];
        let covariance = |i: usize, j: usize| (0..D).map(|k| entry(&factor, i, k) * entry(&factor, j, k)).sum::<f64>();
        let pairs = || (0..D).flat_map(|i| (0..D).map(move |j| (i, j)));
        let trace: f64 = (0..D).map(|i| entry(&p, i, i)).sum();
        // tr(P A P^T)
        let square_under = |a: &dyn Fn(usize, usize) -> f64| -> f64 {
            (0..D).map(|d| pairs().map(|(i, j)| entry(&p, d, i) * a(i, j) * entry(&p, d, j)).sum::<f64>()).sum()
        };

        let want = 0.5 * square_under(&covariance) - trace;
        let x = cubature(&factor, D);
        let projections = 1 << D as u32;
        let signs: Vec<f64> = every_sign().chunks_exact(D).flat_map(|v| v.repeat(x.len() / D)).collect();
        for (loss, v) in [
            (ScoreMatching::Exact, unit_vectors(x.len() / D, D, [0, D])),
            (ScoreMatching::Sliced { projections }, signs.clone()),
            (ScoreMatching::SlicedVr { projections }, signs),
        ] {
            let (losses, _) = field.loss_and_gradient(loss.terms(), &x, &x, &v);
            assert_near(&format!("{loss:?}"), mean(&losses), want, 1e-12);
        }

        // (x, eps) is Gaussian in 2 D dimensions.
        let sigma = 0.5;
        let mut joint = vec![0.0; 4 * D * D];
        for (i, j) in pairs() {
            joint[i * 2 * D + j] = entry(&factor, i, j);
            joint[(D + i) * 2 * D + D + j] = f64::from(i == j);
        }
        let points = cubature(&joint, 2 * D);
        let clean: Vec<f64> = points.chunks_exact(2 * D).flat_map(|point| &point[..D]).copied().collect();
        let noisy: Vec<f64> =
            points.chunks_exact(2 * D).flat_map(|point| (0..D).map(|d| point[d] + sigma * point[D + d])).collect();
        let noisy_covariance = |i: usize, j: usize| covariance(i, j) + if i == j { sigma * sigma } else { 0.0 };
        let want = 0.5 * (sigma * sigma * (square_under(&noisy_covariance) - 2.0 * trace) + D as f64);
        let terms = ScoreMatching::Denoising { sigma: sigma as f32 }.terms();
        let (losses, _) = field.loss_and_gradient(terms, &clean, &noisy, &[]);
        assert_near("denoising", mean(&losses), want, 1e-12);
    }

    #[test]
    fn random_signs_are_balanced_and_belong_to_their_place() {
        let all = random_signs(3, 50, 40, [0, 4], 7);
        // 8,000 signs: the sum has standard deviation 89.
        assert!(all.iter().sum::<f64>().abs() <= 400.0);
        let along: f64 = dot(&all[..2000], &all[2000..4000]);
        assert!(along.abs() <= 220.0, "directions must not repeat: {along}");
        assert_eq!(random_signs(3, 50, 40, [2, 2], 7), all[2 * 50 * 40..], "direction 2 is the same in any chunk");
        assert_ne!(random_signs(3, 50, 40, [0, 4], 8), all, "another step");
    }
}
