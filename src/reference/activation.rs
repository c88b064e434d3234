//! Activation functions with two derivatives. Finite arguments of any size give neither NaN nor an infinity.

use crate::codes::Activation;

/// phi(z)
pub fn value(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::Silu => z * sigmoid(z),
        Activation::Softplus => z.max(0.0) + (-z.abs()).exp().ln_1p(),
        Activation::Tanh => z.tanh(),
        Activation::Elu => {
            if z > 0.0 {
                z
            } else {
                z.exp_m1()
            }
        }
    }
}

/// phi'(z); at the kink of `relu` the value from the left, 0.
pub fn first(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(z > 0.0),
        Activation::Silu => sigmoid(z) * (1.0 + z * sigmoid(-z)),
        Activation::Softplus => sigmoid(z),
        Activation::Tanh => z.cosh().recip().powi(2),
        Activation::Elu => z.min(0.0).exp(),
    }
}

/// phi''(z); at the kink of `elu` the value from the left, 1.
pub fn second(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity | Activation::Relu => 0.0,
        Activation::Silu => sigmoid(z) * sigmoid(-z) * (2.0 + z * (sigmoid(-z) - sigmoid(z))),
        Activation::Softplus => sigmoid(z) * sigmoid(-z),
        Activation::Tanh => -2.0 * z.tanh() * z.cosh().recip().powi(2),
        Activation::Elu => {
            if z > 0.0 {
                0.0
            } else {
                z.exp()
            }
        }
    }
}

/// 1 / (1 + e^-z). For large -z the exponential overflows to infinity and the quotient is its limit, 0.
pub fn sigmoid(z: f64) -> f64 {
    (1.0 + (-z).exp()).recip()
}

#[cfg(test)]
mod tests {
    use super::super::testing::derivative;
    use super::*;

    const ALL: [Activation; 6] = [
        Activation::Identity,
        Activation::Relu,
        Activation::Silu,
        Activation::Softplus,
        Activation::Tanh,
        Activation::Elu,
    ];

    #[test]
    fn derivatives_agree_with_finite_differences() {
        for activation in ALL {
            for z in [-30.0, -7.3, -2.1, -0.4, -0.02, 0.03, 0.7, 1.9, 6.2, 25.0] {
                let slope = derivative(|h| value(activation, z + h));
                let curvature = derivative(|h| first(activation, z + h));
                let (got1, got2) = (first(activation, z), second(activation, z));
                // Rounding of phi(z) of size |z|, divided by the step.
                let tolerance = 1e-10 * (1.0 + f64::abs(z));
                assert!((got1 - slope).abs() <= tolerance, "{activation:?}'({z}) = {got1}, differences say {slope}");
                assert!((got2 - curvature).abs() <= tolerance, "{activation:?}''({z}) = {got2}, not {curvature}");
            }
        }
    }

    #[test]
    fn closed_forms() {
        let e = std::f64::consts::E;
        for (activation, z, want) in [
            (Activation::Identity, -2.5, -2.5),
            (Activation::Relu, -2.5, 0.0),
            (Activation::Silu, -1.0, -1.0 / (1.0 + e)),
            (Activation::Softplus, 0.0, 2f64.ln()),
            (Activation::Softplus, 1.0, (1.0 + e).ln()),
            (Activation::Tanh, 1.0, (e * e - 1.0) / (e * e + 1.0)),
            (Activation::Elu, -1.0, 1.0 / e - 1.0),
            (Activation::Elu, 3.0, 3.0),
        ] {
            assert!((value(activation, z) - want).abs() <= 1e-15, "{activation:?}({z})");
        }
    }

    #[test]
    fn far_arguments_have_their_limits() {
        use Activation::{Elu, Identity, Relu, Silu, Softplus, Tanh};
        for z in [800.0, 1e4, 1e30, 1e300] {
            for (activation, left, right) in [(Silu, 0.0, z), (Softplus, 0.0, z), (Tanh, -1.0, 1.0), (Elu, -1.0, z)] {
                assert_eq!((value(activation, -z), value(activation, z)), (left, right), "{activation:?} at {z}");
                assert_eq!(first(activation, -z), 0.0, "{activation:?}' at -{z}");
                assert_eq!(first(activation, z), if activation == Tanh { 0.0 } else { 1.0 }, "{activation:?}' at {z}");
                assert_eq!((second(activation, -z), second(activation, z)), (0.0, 0.0), "{activation:?}'' at {z}");
            }
            assert_eq!((value(Relu, -z), value(Relu, z), value(Identity, -z)), (0.0, z, -z));
        }
    }
}
