//! The masked dense context network: x (B, D) -> contexts (B, D, K), where c_d depends on x_<d alone.

use crate::codes::Activation;

use super::activation;
use super::degrees::{hidden_degrees, input_degrees, output_degrees, visible_inputs};
use super::dense::{
    Layer, add, column_sum, masked_dense_backward_input, masked_dense_backward_weight, masked_dense_forward,
};

/// h_0 = x, h_l = act(W h + b) (+ h between hidden layers of equal width if `residual`), contexts = W h + b.
#[derive(Debug, Clone)]
pub struct Made {
    /// D
    pub dimensions: usize,
    /// K
    pub context: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Add a hidden layer's input to its output where both are hidden and of one width.
    pub residual: bool,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// One for each hidden layer, and the output layer with its D K units, unit d K + k for context k of d.
    pub layers: Vec<Layer>,
}

/// A forward pass with what backward needs.
#[derive(Debug, Clone)]
pub struct MadePass {
    /// (B, D, K)
    pub contexts: Vec<f64>,
    /// What each layer read, (B, in).
    inputs: Vec<Vec<f64>>,
    /// What each layer's sums were before the activation, (B, out).
    sums: Vec<Vec<f64>>,
}

impl Made {
    /// How many leading inputs each unit of layer `l` sees.
    pub fn visible(&self, l: usize) -> Vec<u32> {
        let below =
            if l == 0 { input_degrees(self.dimensions) } else { hidden_degrees(self.hidden[l - 1], self.dimensions) };
        if l < self.hidden.len() {
            visible_inputs(&hidden_degrees(self.hidden[l], self.dimensions), &below, false)
        } else {
            visible_inputs(&output_degrees(self.dimensions, self.context), &below, true)
        }
    }

    /// Whether layer `l` adds its input to its output.
    fn skips(&self, l: usize) -> bool {
        self.residual && l > 0 && l < self.hidden.len() && self.hidden[l] == self.hidden[l - 1]
    }

    /// x (B, D) -> contexts (B, D, K), with the stash of [`Made::backward`].
    pub fn forward(&self, x: &[f64]) -> MadePass {
        let (mut inputs, mut sums, mut h) = (Vec::new(), Vec::new(), x.to_vec());
        for (l, layer) in self.layers.iter().enumerate() {
            let z = masked_dense_forward(&h, &layer.weight, &layer.bias, &self.visible(l)).value;
            let mut next = z.clone();
            if l < self.hidden.len() {
                next.iter_mut().for_each(|h| *h = activation::value(self.activation, *h));
            }
            if self.skips(l) {
                add(&mut next, &h);
            }
            inputs.push(std::mem::replace(&mut h, next));
            sums.push(z);
        }
        MadePass { contexts: h, inputs, sums }
    }

    /// Gradients by every layer's weight and bias, from the adjoint of the contexts, dcontexts (B, D, K).
    pub fn backward(&self, pass: &MadePass, dcontexts: &[f64]) -> Vec<Layer> {
        let mut gradients: Vec<Layer> = self.layers.iter().map(Layer::zeros_like).collect();
        let mut dh = dcontexts.to_vec();
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let mut dz = dh.clone();
            if l < self.hidden.len() {
                let slopes = pass.sums[l].iter().map(|&z| activation::first(self.activation, z));
                dz.iter_mut().zip(slopes).for_each(|(dz, slope)| *dz *= slope);
            }
            let visible = self.visible(l);
            gradients[l].weight = masked_dense_backward_weight(&dz, &pass.inputs[l], &visible).value;
            gradients[l].bias = column_sum(&dz, layer.outputs()).value;
            let mut dinput = masked_dense_backward_input(&dz, &layer.weight, &visible).value;
            if self.skips(l) {
                add(&mut dinput, &dh);
            }
            dh = dinput;
        }
        gradients
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::ContextNet;
    use super::super::testing::{Draws, GOLDEN_MADE, Golden, assert_close, dot, gradient_by_layers, random_made};
    use super::*;

    fn made(residual: bool, activation: Activation, hidden: &[usize]) -> Made {
        random_made(&mut Draws::new(21), 4, 3, hidden, residual, activation)
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for (residual, activation, hidden) in [
            (false, Activation::Tanh, vec![5]),
            (false, Activation::Elu, vec![6, 8]),
            (true, Activation::Silu, vec![7, 7, 5, 5]),
            (true, Activation::Softplus, vec![4, 4, 4]),
        ] {
            let made = made(residual, activation, &hidden);
            let mut draws = Draws::new(22);
            let (x, dcontexts) = (draws.normals(3 * 4), draws.normals(3 * 4 * 3));
            let got = made.backward(&made.forward(&x), &dcontexts);
            let want = gradient_by_layers(&made.layers, |layers| {
                dot(&Made { layers: layers.to_vec(), ..made.clone() }.forward(&x).contexts, &dcontexts)
            });
            for (l, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!(got.weight.iter().any(|&g| g != 0.0), "layer {l} of {hidden:?} has no gradient");
                assert_close(&format!("{activation:?} {hidden:?} dweight {l}"), &got.weight, &want.weight, 1e-10);
                assert_close(&format!("{activation:?} {hidden:?} dbias {l}"), &got.bias, &want.bias, 1e-10);
            }
        }
    }

    #[test]
    fn a_context_depends_on_every_earlier_dimension_and_on_no_other() {
        let made = made(true, Activation::Silu, &[12, 12]);
        let x = Draws::new(23).normals(4);
        let before = made.forward(&x).contexts;
        for j in 0..4 {
            let mut moved = x.clone();
            moved[j] += 0.5;
            let after = made.forward(&moved).contexts;
            for d in 0..4 {
                let unchanged = before[d * 3..][..3] == after[d * 3..][..3];
                assert_eq!(unchanged, d <= j, "context of dimension {d} after a change of x_{j}");
            }
        }
    }

    #[test]
    fn the_residual_joins_hidden_layers_of_equal_width_only() {
        // With every weight 0, only biases and residuals are left: act(b), then act(b) + what came in.
        let mut made = made(true, Activation::Identity, &[4, 4, 3, 3]);
        for layer in &mut made.layers {
            *layer = layer.zeros_like();
        }
        made.layers[0].bias.fill(2.0);
        made.layers[1].bias.fill(10.0);
        made.layers[2].bias.fill(100.0);
        made.layers[3].bias.fill(1000.0);
        let pass = made.forward(&[1.0; 4]);
        assert_eq!(pass.inputs[1], [2.0; 4]);
        assert_eq!(pass.inputs[2], [12.0; 4]);
        assert_eq!(pass.inputs[3], [100.0; 3]);
        assert_eq!(pass.inputs[4], [1100.0; 3]);
        assert_eq!(pass.contexts, [0.0; 12]);
    }

    #[test]
    fn golden_masks() {
        for golden in GOLDEN_MADE.map(Golden::load) {
            let ContextNet::Made(made) = golden.model("w0").context else { panic!("masked dense layers") };
            for (l, layer) in made.layers.iter().enumerate() {
                let visible = made.visible(l);
                let inputs = layer.inputs();
                let mask = (0..layer.weight.len()).map(|at| f64::from((at % inputs) < visible[at / inputs] as usize));
                assert_eq!(mask.collect::<Vec<_>>(), golden.tensor(&format!("mask.ctx.layers.{l}.mask")), "layer {l}");
            }
        }
    }
}
