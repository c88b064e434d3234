//! Degrees of units, sorted, and the staircase masks that follow from them (Germain et al., "MADE", 2015).
//!
//! Input d has degree d = 1 .. D. Unit k of a hidden layer of H has degree floor(k max(1, D - 1) / H) + 1, and a unit
//! sees those inputs of its layer whose degree is at most (hidden layers) or below (output layer) its own. As both sides
//! are sorted, what a unit sees is always a leading part of its inputs: one number says it.

/// Degrees of the units of one layer, never falling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degrees(Vec<u32>);

impl Degrees {
    /// 1 .. D, of the inputs.
    pub fn inputs(dimensions: usize) -> Self {
        Self((1..=dimensions as u32).collect())
    }

    /// Of a hidden layer: spread evenly over 1 .. max(1, D - 1).
    pub fn hidden(width: usize, dimensions: usize) -> Self {
        let spread = dimensions.saturating_sub(1).max(1);
        Self((0..width).map(|k| (k * spread / width) as u32 + 1).collect())
    }

    /// Of the output layer as a hidden-like layer: unit (d, k) has degree d - 1, so that "at most" reads "below d".
    pub fn outputs(dimensions: usize, context: usize) -> Self {
        Self((0..dimensions * context).map(|unit| (unit / context) as u32).collect())
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Index of the first unit of at least this degree; the number of units where there is none.
    pub fn first_of(&self, degree: u32) -> u32 {
        self.0.partition_point(|&own| own < degree) as u32
    }

    /// For each unit, how many leading inputs of the layer below it sees.
    pub fn visible(&self, below: &Self) -> Vec<u32> {
        self.0.iter().map(|&degree| below.first_of(degree + 1)).collect()
    }

    /// For each unit, the first unit of the layer above that sees it; the number of those where none does.
    pub fn first_output(&self, above: &Self) -> Vec<u32> {
        self.0.iter().map(|&degree| above.first_of(degree)).collect()
    }

    /// Index of the first unit of degree m or more, for m = 0 .. D + 1.
    pub fn starts(&self, dimensions: usize) -> Vec<u32> {
        (0..=dimensions as u32 + 1).map(|degree| self.first_of(degree)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staircases_equal_the_comparison_of_degrees() {
        for (dimensions, below, above, context) in [(6, 9, 11, 4), (1, 3, 5, 2), (8, 5, 3, 1), (2, 128, 64, 3)] {
            let layers =
                [Degrees::inputs(dimensions), Degrees::hidden(below, dimensions), Degrees::hidden(above, dimensions)];
            for pair in layers.windows(2) {
                let (visible, first_output) = (pair[1].visible(&pair[0]), pair[0].first_output(&pair[1]));
                for (o, out_degree) in pair[1].0.iter().enumerate() {
                    for (i, in_degree) in pair[0].0.iter().enumerate() {
                        assert_eq!((i as u32) < visible[o], out_degree >= in_degree);
                        assert_eq!(o as u32 >= first_output[i], out_degree >= in_degree);
                    }
                }
            }
            let outputs = Degrees::outputs(dimensions, context);
            for (o, &visible) in outputs.visible(&layers[2]).iter().enumerate() {
                let strictly_below = layers[2].0.iter().filter(|&&degree| (o / context) as u32 + 1 > degree).count();
                assert_eq!(visible as usize, strictly_below);
            }
        }
    }
}
