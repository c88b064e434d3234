//! Gated units: skip + phi(a) sigmoid(b) (van den Oord et al., "Conditional image generation with PixelCNN decoders",
//! NeurIPS 2016, with phi = tanh; PixelCNN++ has phi = identity).

use crate::codes::Activation;

use super::activation::{self, sigmoid};

/// skip + phi(a) sigmoid(b).
///
/// skip (rows, F), ab (rows, 2 F) with a in the first half of a row and b in the second -> (rows, F).
pub fn gate_forward(phi: Activation, skip: &[f64], ab: &[f64], features: usize) -> Vec<f64> {
    let gated = |(a, b): (&f64, &f64)| activation::value(phi, *a) * sigmoid(*b);
    halves(ab, features).map(gated).zip(skip).map(|(gated, skip)| skip + gated).collect()
}

/// The adjoint of ab (rows, 2 F), from that of the result, dh (rows, F), which is the adjoint of `skip` as it is.
pub fn gate_backward(phi: Activation, ab: &[f64], dh: &[f64], features: usize) -> Vec<f64> {
    let mut dab = vec![0.0; ab.len()];
    for (n, ((&a, &b), dh)) in halves(ab, features).zip(dh).enumerate() {
        let at = n / features * 2 * features + n % features;
        dab[at] = dh * activation::first(phi, a) * sigmoid(b);
        dab[at + features] = dh * activation::value(phi, a) * sigmoid(b) * sigmoid(-b);
    }
    dab
}

/// The pairs (a, b) of ab (rows, 2 F), row by row.
pub fn halves(ab: &[f64], features: usize) -> impl Iterator<Item = (&f64, &f64)> {
    ab.chunks_exact(2 * features).flat_map(move |row| row[..features].iter().zip(&row[features..]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, assert_close, assert_near, dot, gradient};
    use super::*;

    #[test]
    fn forward_by_hand() {
        let (skip, ab) = ([10.0, 20.0, 30.0, 40.0], [1.0, -2.0, 0.0, 800.0, 3.0, 4.0, -800.0, 3f64.ln()]);
        assert_eq!(gate_forward(Activation::Identity, &skip, &ab, 2), [10.5, 18.0, 30.0, 43.0]);
        let tanh = gate_forward(Activation::Tanh, &skip, &ab, 2);
        assert_near("tanh", tanh[0], 10.0 + 0.5 * 1f64.tanh(), 1e-15);
        assert_near("tanh", tanh[3], 40.0 + 0.75 * 4f64.tanh(), 1e-15);
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let mut draws = Draws::new(53);
        let (skip, ab, dh) = (draws.normals(4 * 3), draws.normals(4 * 6), draws.normals(4 * 3));
        for phi in [Activation::Tanh, Activation::Identity] {
            let want = gradient(&ab, |ab| dot(&gate_forward(phi, &skip, ab, 3), &dh));
            assert_close("dab", &gate_backward(phi, &ab, &dh, 3), &want, 1e-10);
        }
    }
}
