//! The masked dense layer with a staircase mask, forward and backward, with the magnitudes f32 tolerances come from.
//!
//! Units are sorted by degree, so that an output sees a *leading* part of the inputs: `visible[o]` of them. Weight
//! (o, i) counts exactly where `i < visible[o]`; masks are never stored.

/// Weight (out, in) and bias (out) of one layer, or gradients by them.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// (out, in), row-major.
    pub weight: Vec<f64>,
    /// (out)
    pub bias: Vec<f64>,
}

impl Layer {
    /// All zeros.
    pub fn zeros(outputs: usize, inputs: usize) -> Self {
        Self { weight: vec![0.0; outputs * inputs], bias: vec![0.0; outputs] }
    }

    /// Zeros in the shape of `self`.
    pub fn zeros_like(&self) -> Self {
        Self::zeros(self.outputs(), self.inputs())
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }
}

/// Sums, each with the sum of the absolute values of its terms.
#[derive(Debug, Clone)]
pub struct Approx {
    /// The sums.
    pub value: Vec<f64>,
    /// Sums of absolute values, same shape: they bound what rounding and the order of summation can do.
    pub magnitude: Vec<f64>,
}

impl Approx {
    pub(super) fn zeros(len: usize) -> Self {
        Self { value: vec![0.0; len], magnitude: vec![0.0; len] }
    }

    pub(super) fn add(&mut self, at: usize, term: f64) {
        self.value[at] += term;
        self.magnitude[at] += term.abs();
    }

    /// Adds one more term to every sum.
    pub fn add_all(&mut self, terms: &[f64]) {
        (0..terms.len()).for_each(|at| self.add(at, terms[at]));
    }

    /// Tolerances of an f32 result: `factor` roundings of every term, and the smallest normal number for sums
    /// that a flush to zero may have touched. `factor` is about the depth of the summation tree.
    pub fn tolerance(&self, factor: f64) -> Vec<f64> {
        let rounding = factor * f64::from(f32::EPSILON);
        self.magnitude.iter().map(|m| rounding * m + f64::from(f32::MIN_POSITIVE)).collect()
    }
}

/// `z[b, o] = bias[o] + sum over i < visible[o] of weight[o, i] x[b, i]`.
///
/// x (B, in), weight (out, in), bias (out), visible (out) -> (B, out).
pub fn masked_dense_forward(x: &[f64], weight: &[f64], bias: &[f64], visible: &[u32]) -> Approx {
    let outputs = visible.len();
    let inputs = weight.len() / outputs;
    let mut z = Approx::zeros(x.len() / inputs * outputs);
    for (b, x) in x.chunks_exact(inputs).enumerate() {
        for (o, &seen) in visible.iter().enumerate() {
            z.add(b * outputs + o, bias[o]);
            for (weight, x) in weight[o * inputs..][..seen as usize].iter().zip(x) {
                z.add(b * outputs + o, weight * x);
            }
        }
    }
    z
}

/// `dx[b, i] = sum over the o with i < visible[o] of weight[o, i] dz[b, o]`.
///
/// dz (B, out), weight (out, in), visible (out) -> (B, in).
pub fn masked_dense_backward_input(dz: &[f64], weight: &[f64], visible: &[u32]) -> Approx {
    let outputs = visible.len();
    let inputs = weight.len() / outputs;
    let mut dx = Approx::zeros(dz.len() / outputs * inputs);
    for (b, dz) in dz.chunks_exact(outputs).enumerate() {
        for (o, &seen) in visible.iter().enumerate() {
            for (i, weight) in weight[o * inputs..][..seen as usize].iter().enumerate() {
                dx.add(b * inputs + i, weight * dz[o]);
            }
        }
    }
    dx
}

/// `dweight[o, i] = sum over b of dz[b, o] x[b, i]` where `i < visible[o]`, exactly 0 elsewhere.
///
/// dz (B, out), x (B, in), visible (out) -> (out, in).
pub fn masked_dense_backward_weight(dz: &[f64], x: &[f64], visible: &[u32]) -> Approx {
    let outputs = visible.len();
    let inputs = x.len() * outputs / dz.len();
    let mut dweight = Approx::zeros(outputs * inputs);
    for (dz, x) in dz.chunks_exact(outputs).zip(x.chunks_exact(inputs)) {
        for (o, &seen) in visible.iter().enumerate() {
            for (i, x) in x[..seen as usize].iter().enumerate() {
                dweight.add(o * inputs + i, dz[o] * x);
            }
        }
    }
    dweight
}

/// `dbias[o] = sum over b of dz[b, o]`: dz (B, out) -> (out).
pub fn column_sum(dz: &[f64], outputs: usize) -> Approx {
    let mut dbias = Approx::zeros(outputs);
    for dz in dz.chunks_exact(outputs) {
        for (o, &dz) in dz.iter().enumerate() {
            dbias.add(o, dz);
        }
    }
    dbias
}

/// Adds element by element.
pub(super) fn add(to: &mut [f64], terms: &[f64]) {
    to.iter_mut().zip(terms).for_each(|(to, term)| *to += term);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, assert_close, dot, gradient};
    use super::*;

    const VISIBLE: [u32; 4] = [0, 2, 2, 5];
    const BATCH: usize = 3;

    #[test]
    fn forward_by_hand() {
        let weight = [1.0, 2.0, -3.0, 4.0, 5.0, -6.0];
        let z = masked_dense_forward(&[10.0, -7.0], &weight, &[0.5, -0.25, 3.0], &[1, 0, 2]);
        assert_eq!(z.value, [10.5, -0.25, 95.0]);
        assert_eq!(z.magnitude, [10.5, 0.25, 95.0]);
        let z = masked_dense_forward(&[10.0, 7.0], &weight, &[0.5, -0.25, 3.0], &[1, 2, 2]);
        assert_eq!(z.value, [10.5, -2.25, 11.0]);
        assert_eq!(z.magnitude, [10.5, 58.25, 95.0]);
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let mut draws = Draws::new(11);
        let (x, weight, bias) = (draws.normals(BATCH * 5), draws.normals(4 * 5), draws.normals(4));
        let dz = draws.normals(BATCH * 4);
        let functional = |x: &[f64], w: &[f64], b: &[f64]| dot(&masked_dense_forward(x, w, b, &VISIBLE).value, &dz);

        let dx = gradient(&x, |x| functional(x, &weight, &bias));
        assert_close("dx", &masked_dense_backward_input(&dz, &weight, &VISIBLE).value, &dx, 1e-10);
        let dweight = gradient(&weight, |w| functional(&x, w, &bias));
        let got = masked_dense_backward_weight(&dz, &x, &VISIBLE);
        assert_close("dweight", &got.value, &dweight, 1e-10);
        let dbias = gradient(&bias, |b| functional(&x, &weight, b));
        assert_close("dbias", &column_sum(&dz, 4).value, &dbias, 1e-10);

        for (o, row) in got.value.chunks(5).enumerate() {
            let seen = VISIBLE[o] as usize;
            assert!(row[seen..].iter().all(|&g| g == 0.0), "masked weights of output {o} have gradient");
            assert!(row[..seen].iter().all(|&g| g != 0.0), "visible weights of output {o} have none");
        }
    }

    #[test]
    fn magnitudes_are_the_sums_over_absolute_values() {
        let mut draws = Draws::new(12);
        let (x, weight, dz) = (draws.normals(BATCH * 5), draws.normals(4 * 5), draws.normals(BATCH * 4));
        let absolute = |v: &[f64]| v.iter().map(|v| v.abs()).collect::<Vec<_>>();
        let (ax, aweight, adz) = (absolute(&x), absolute(&weight), absolute(&dz));
        for (got, want) in [
            (
                masked_dense_forward(&x, &weight, &x[..4], &VISIBLE),
                masked_dense_forward(&ax, &aweight, &ax[..4], &VISIBLE),
            ),
            (
                masked_dense_backward_input(&dz, &weight, &VISIBLE),
                masked_dense_backward_input(&adz, &aweight, &VISIBLE),
            ),
            (masked_dense_backward_weight(&dz, &x, &VISIBLE), masked_dense_backward_weight(&adz, &ax, &VISIBLE)),
            (column_sum(&dz, 4), column_sum(&adz, 4)),
        ] {
            assert_eq!(got.magnitude, want.value);
            assert_ne!(got.value, want.value);
        }
    }
}
