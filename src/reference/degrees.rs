//! Degrees of units, and the staircase masks that follow from them (Germain, Gregor, Murray, Larochelle, "MADE:
//! masked autoencoder for distribution estimation", ICML 2015; degrees sorted, names as in `assets/golden/LAYOUT.md`).
//!
//! A unit of degree m may depend on x_1 .. x_m. Input d (1-based) has degree d; output k of dimension d too, but it
//! must see *smaller* degrees only.

/// Degrees of a hidden layer of `width` units: floor(k max(1, D-1) / width) + 1, ascending, in 1 ..= max(1, D-1).
pub fn hidden_degrees(width: usize, dimensions: usize) -> Vec<u32> {
    let largest = dimensions.saturating_sub(1).max(1);
    (0..width).map(|k| (k * largest / width + 1) as u32).collect()
}

/// Degrees of the inputs: 1 ..= D.
pub fn input_degrees(dimensions: usize) -> Vec<u32> {
    (1..=dimensions as u32).collect()
}

/// Degrees of the output units, K for each dimension: unit d K + k has degree d + 1.
pub fn output_degrees(dimensions: usize, context: usize) -> Vec<u32> {
    (0..dimensions * context).map(|unit| (unit / context + 1) as u32).collect()
}

/// For each output, how many of the inputs (degrees ascending) it sees: those of a degree not above its own, or below
/// its own when `strict`.
pub fn visible_inputs(out_degrees: &[u32], in_degrees: &[u32], strict: bool) -> Vec<u32> {
    let seen = |out: u32| in_degrees.partition_point(|&degree| if strict { degree < out } else { degree <= out });
    out_degrees.iter().map(|&out| seen(out) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_degrees_are_sorted_and_spread_over_all_but_the_last_dimension() {
        assert_eq!(hidden_degrees(9, 6), [1, 1, 2, 2, 3, 3, 4, 4, 5]);
        assert_eq!(hidden_degrees(3, 1), [1, 1, 1]);
        assert_eq!(hidden_degrees(4, 2), [1, 1, 1, 1]);
        assert_eq!(hidden_degrees(2, 6), [1, 3]);
    }

    #[test]
    fn visible_inputs_by_hand() {
        assert_eq!(visible_inputs(&[1, 2, 5], &[1, 1, 2, 4, 4], false), [2, 3, 5]);
        assert_eq!(visible_inputs(&[1, 2, 5], &[1, 1, 2, 4, 4], true), [0, 2, 5]);
        assert_eq!(visible_inputs(&output_degrees(3, 2), &input_degrees(3), true), [0, 0, 1, 1, 2, 2]);
    }
}
