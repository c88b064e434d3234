//! Frechet distance between two sets of features, taken as Gaussians (Dowson & Landau 1982; Heusel et al. 2017 on images):
//!
//! d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^1/2 C_2 C_1^1/2)^1/2)
//!
//! The distance is biased upwards for few samples: compare sets of one size only.

use crate::numbers::linear::SymmetricEigen;

/// Mean and covariance of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    mean: Vec<f64>,
    /// (F, F), symmetric.
    covariance: Vec<f64>,
}

impl Moments {
    /// Of features (N, F).
    ///
    /// # Panics
    /// When there are fewer than two of them, or no whole number.
    pub fn of(features: &[f32], width: usize) -> Self {
        let count = features.len() / width;
        assert!(count >= 2 && features.len() == count * width, "a covariance needs two or more whole vectors");
        let mut mean = vec![0.0; width];
        for row in features.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value) / count as f64);
        }
        let mut covariance = vec![0.0; width * width];
        for row in features.chunks_exact(width) {
            let centred: Vec<f64> = row.iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean).collect();
            for (sums, a) in covariance.chunks_exact_mut(width).zip(&centred) {
                sums.iter_mut().zip(&centred).for_each(|(sum, b)| *sum += a * b / (count - 1) as f64);
            }
        }
        Self { mean, covariance }
    }

    /// d^2
    ///
    /// # Panics
    /// When the other's features have another width.
    pub fn squared_distance(&self, other: &Self) -> f64 {
        let width = self.mean.len();
        assert_eq!(width, other.mean.len(), "features of one kind");
        let means: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let trace = |matrix: &[f64]| (0..width).map(|i| matrix[i * width + i]).sum::<f64>();
        let root = SymmetricEigen::new(self.covariance.clone(), width).map(|value| value.max(0.0).sqrt());
        let product = multiply(&multiply(&root, &other.covariance, width), &root, width);
        let values = SymmetricEigen::new(product, width).values;
        let cross: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
        // Rounding must not make it negative.
        (means + trace(&self.covariance) + trace(&other.covariance) - 2.0 * cross).max(0.0)
    }
}

fn multiply(a: &[f64], b: &[f64], width: usize) -> Vec<f64> {
    let entry = |at: usize| (0..width).map(|k| a[at / width * width + k] * b[k * width + at % width]).sum();
    (0..width * width).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussians_that_commute_have_a_closed_form() {
        // Rotated by one angle: sum of (sqrt v_1 - sqrt v_2)^2, and the distance of the means.
        let (sin, cos) = 0.7f64.sin_cos();
        let moments = |mean: [f64; 2], [a, b]: [f64; 2]| Moments {
            mean: mean.to_vec(),
            covariance: vec![
                cos * cos * a + sin * sin * b,
                sin * cos * (a - b),
                sin * cos * (a - b),
                sin * sin * a + cos * cos * b,
            ],
        };
        let (p, q) = (moments([1.0, -2.0], [4.0, 0.25]), moments([0.5, 0.0], [1.0, 9.0]));
        let want = 0.25 + 4.0 + 1.0 + 2.5f64.powi(2);
        assert!((p.squared_distance(&q) - want).abs() <= 1e-12, "{}", p.squared_distance(&q));
        assert!((q.squared_distance(&p) - want).abs() <= 1e-12);
        assert!(p.squared_distance(&p) <= 1e-12);
    }

    #[test]
    fn covariances_that_do_not_commute() {
        // In two dimensions tr (A B)^1/2 = sqrt(tr AB + 2 sqrt(det A det B)).
        let p = Moments { mean: vec![0.0; 2], covariance: vec![2.0, 0.5, 0.5, 1.0] };
        let q = Moments { mean: vec![0.0; 2], covariance: vec![1.0, -0.8, -0.8, 3.0] };
        let trace_of_product = 2.0 * 1.0 + 2.0 * 0.5 * -0.8 + 1.0 * 3.0;
        let determinants: f64 = (2.0 - 0.25) * (3.0 - 0.64);
        let want = 3.0 + 4.0 - 2.0 * (trace_of_product + 2.0 * determinants.sqrt()).sqrt();
        assert!((p.squared_distance(&q) - want).abs() <= 1e-12, "{} {want}", p.squared_distance(&q));
    }

    #[test]
    fn moments_of_known_points() {
        let moments = Moments::of(&[1.0, 0.0, 3.0, 4.0, 2.0, 5.0], 2);
        assert_eq!(moments.mean, [2.0, 3.0]);
        assert_eq!(moments.covariance, [1.0, 2.0, 2.0, 7.0]);
    }
}
