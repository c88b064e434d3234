//! One step of Adam over flat arrays, with clipping, decoupled weight decay and a moving average.

/// What one step needs beside the arrays.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay (AdamW), in units of the learning rate.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
    /// Every gradient is multiplied by this first (1 leaves it).
    pub clip_scale: f64,
    /// Decay of the moving average of the weights (0 copies them).
    pub ema_decay: f64,
}

/// Updates weights, both moments and the moving average in place; all arrays have one length.
///
/// Kingma, Ba, "Adam: a method for stochastic optimization", 2015, bias-corrected, with epsilon outside the root;
/// weight decay after Loshchilov, Hutter, "Decoupled weight decay regularization", 2019.
pub fn adam(weights: &mut [f64], gradients: &[f64], m: &mut [f64], v: &mut [f64], ema: &mut [f64], step: &AdamStep) {
    let correction1 = 1.0 - step.beta1.powf(step.step as f64);
    let correction2 = 1.0 - step.beta2.powf(step.step as f64);
    for (i, gradient) in gradients.iter().enumerate() {
        let g = gradient * step.clip_scale;
        m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g;
        v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g * g;
        let direction = (m[i] / correction1) / ((v[i] / correction2).sqrt() + step.epsilon);
        weights[i] -= step.learning_rate * (direction + step.weight_decay * weights[i]);
        ema[i] = step.ema_decay * ema[i] + (1.0 - step.ema_decay) * weights[i];
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, assert_near};
    use super::*;

    const STEP: AdamStep = AdamStep {
        learning_rate: 0.1,
        beta1: 0.8,
        beta2: 0.5,
        epsilon: 0.25,
        weight_decay: 0.3,
        step: 1,
        clip_scale: 0.5,
        ema_decay: 0.75,
    };

    #[test]
    fn two_steps_by_hand() {
        let (mut w, mut m, mut v, mut ema) = ([2.0, -1.0], [0.0; 2], [0.0; 2], [10.0, 20.0]);
        adam(&mut w, &[4.0, -0.5], &mut m, &mut v, &mut ema, &STEP);
        // g = 2, -0.25: after bias correction the moments of the first step are g and g^2.
        let first = [2.0 - 0.1 * (2.0 / 2.25 + 0.6), -1.0 - 0.1 * (-0.25 / 0.5 - 0.3)];
        assert_close("w", &w, &first, 1e-15);
        assert_close("m", &m, &[0.4, -0.05], 1e-15);
        assert_close("v", &v, &[2.0, 0.03125], 1e-15);
        assert_close("ema", &ema, &[7.5 + 0.25 * first[0], 15.0 + 0.25 * first[1]], 1e-15);
        // g = 0: the moments decay.
        adam(&mut w, &[0.0, 0.0], &mut m, &mut v, &mut ema, &AdamStep { step: 2, weight_decay: 0.0, ..STEP });
        let direction = (0.8 * 0.4 / 0.36) / ((0.5 * 2.0f64 / 0.75).sqrt() + 0.25);
        assert_near("w[0]", w[0], first[0] - 0.1 * direction, 1e-15);
    }
}
