//! A masked autoencoder whose weights serve every order of the dimensions (order-agnostic training with connectivity
//! weights: Germain et al., "MADE", 2015, sections 4.2 and 4.3), and the kernels that take its weights into one order.
//!
//! `dimension_at[p]` is the dimension at position p, `position_of` its inverse.

use super::dense::{Approx, Layer};
use super::made::Made;

/// The inverse of a permutation.
pub fn inverse(permutation: &[u32]) -> Vec<u32> {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().zip(0..).for_each(|(&to, from)| inverse[to as usize] = from);
    inverse
}

/// `to[r, c] = from[r, origin[c / block] block + c % block]`: from (rows, columns), origin (columns / block).
pub fn permute_columns(from: &[f64], origin: &[u32], block: usize) -> Vec<f64> {
    let columns = origin.len() * block;
    let places = || origin.iter().flat_map(|&origin| (0..block).map(move |at| origin as usize * block + at));
    from.chunks_exact(columns).flat_map(|row| places().map(|place| row[place])).collect()
}

/// `to[r, c] = from[origin[r / block] block + r % block, c]`: from (rows, columns), origin (rows / block).
pub fn permute_rows(from: &[f64], origin: &[u32], block: usize) -> Vec<f64> {
    let words = from.len() / origin.len();
    assert!(words.is_multiple_of(block), "a block has whole rows");
    origin.iter().flat_map(|&origin| &from[origin as usize * words..][..words]).copied().collect()
}

/// `sums[k] = bias[k] + sum over p < visible[k] of seen[dimension_at[p], k]`: bias (units), seen (D, units).
pub fn seen_bias(bias: &[f64], seen: &[f64], dimension_at: &[u32], visible: &[u32]) -> Approx {
    let units = bias.len();
    let mut sums = Approx::zeros(units);
    for k in 0..units {
        sums.add(k, bias[k]);
        for &dimension in &dimension_at[..visible[k] as usize] {
            sums.add(k, seen[dimension as usize * units + k]);
        }
    }
    sums
}

/// `dseen[d, k] = dbias[k]` where `position_of[d] < visible[k]`, and 0 elsewhere.
pub fn seen_bias_backward(dbias: &[f64], position_of: &[u32], visible: &[u32]) -> Vec<f64> {
    let row = |&position: &u32| {
        let units = dbias.iter().zip(visible);
        units.map(move |(&dbias, &visible)| if position < visible { dbias } else { 0.0 })
    };
    position_of.iter().flat_map(row).collect()
}

/// Weights in the data's order of dimensions.
#[derive(Debug, Clone)]
pub struct AnyOrder {
    /// Sizes; first and last layer without masks, their inputs and outputs in the data's order.
    pub made: Made,
    /// (D, units of the first layer)
    pub seen: Vec<f64>,
}

impl AnyOrder {
    /// The ordinary network of one order.
    pub fn in_order(&self, dimension_at: &[u32]) -> Made {
        let (mut made, visible) = (self.made.clone(), self.made.visible(0));
        let (block, n) = (made.context, made.layers.len());
        let first = &mut made.layers[0];
        first.weight = permute_columns(&first.weight, dimension_at, 1);
        first.bias = seen_bias(&first.bias, &self.seen, dimension_at, &visible).value;
        let last = &mut made.layers[n - 1];
        last.weight = permute_rows(&last.weight, dimension_at, block);
        last.bias = permute_columns(&last.bias, dimension_at, block);
        made
    }

    /// Gradients by the layers and by `seen`, from those of [`AnyOrder::in_order`]'s layers.
    pub fn gradients(&self, of_order: &[Layer], dimension_at: &[u32]) -> (Vec<Layer>, Vec<f64>) {
        let (mut layers, position_of) = (of_order.to_vec(), inverse(dimension_at));
        let (block, n) = (self.made.context, layers.len());
        let dseen = seen_bias_backward(&layers[0].bias, &position_of, &self.made.visible(0));
        layers[0].weight = permute_columns(&layers[0].weight, &position_of, 1);
        layers[n - 1].weight = permute_rows(&layers[n - 1].weight, &position_of, block);
        layers[n - 1].bias = permute_columns(&layers[n - 1].bias, &position_of, block);
        (layers, dseen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, assert_close, dot, gradient, gradient_by_layers, random_made};
    use super::*;
    use crate::codes::Activation;

    #[test]
    fn permutations_by_hand() {
        assert_eq!(inverse(&[2, 0, 1]), [1, 2, 0]);
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(permute_columns(&rows, &[1, 0], 2), [3.0, 4.0, 1.0, 2.0, 7.0, 8.0, 5.0, 6.0]);
        assert_eq!(permute_columns(&rows, &[2, 0, 3, 1], 1), [3.0, 1.0, 4.0, 2.0, 7.0, 5.0, 8.0, 6.0]);
        assert_eq!(permute_rows(&rows, &[1, 0], 2), [5.0, 6.0, 7.0, 8.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(seen_bias(&[0.5, 0.25], &[1.0, 2.0, 4.0, 8.0], &[1, 0], &[1, 2]).value, [4.5, 10.25]);
        assert_eq!(seen_bias_backward(&[3.0, 5.0], &[1, 0], &[1, 2]), [0.0, 5.0, 3.0, 5.0]);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut draws = Draws::new(31);
        let made = random_made(&mut draws, 4, 3, &[6, 6], true, Activation::Tanh);
        let any = AnyOrder { seen: draws.normals(4 * 6), made };
        let order = [2, 0, 3, 1];
        let (x, dcontexts) = (draws.normals(3 * 4), draws.normals(3 * 4 * 3));
        let value = |any: &AnyOrder| dot(&any.in_order(&order).forward(&x).contexts, &dcontexts);
        let working = any.in_order(&order);
        let (layers, dseen) = any.gradients(&working.backward(&working.forward(&x), &dcontexts), &order);
        let of_layers = |layers: &[Layer]| {
            let made = Made { layers: layers.to_vec(), ..any.made.clone() };
            value(&AnyOrder { made, seen: any.seen.clone() })
        };
        for (l, (got, want)) in layers.iter().zip(gradient_by_layers(&any.made.layers, of_layers)).enumerate() {
            assert_close(&format!("dweight {l}"), &got.weight, &want.weight, 1e-10);
            assert_close(&format!("dbias {l}"), &got.bias, &want.bias, 1e-10);
        }
        let of_seen = |seen: &[f64]| value(&AnyOrder { made: any.made.clone(), seen: seen.to_vec() });
        assert_close("dseen", &dseen, &gradient(&any.seen, of_seen), 1e-10);
        assert!(dseen.contains(&0.0) && dseen.iter().any(|&d| d != 0.0), "{dseen:?}");
    }
}
