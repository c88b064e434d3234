//! The little linear algebra that covariances need, in float64.

/// The lower triangle L of A = L L^T, row-major with D values a row.
#[derive(Debug, Clone)]
pub(crate) struct Cholesky {
    size: usize,
    factor: Vec<f64>,
}

impl Cholesky {
    /// Of a symmetric, positive definite matrix (D, D), of which only the lower triangle is read.
    pub(crate) fn new(mut matrix: Vec<f64>, size: usize) -> Self {
        for i in 0..size {
            let (above, rest) = matrix.split_at_mut(i * size);
            let row = &mut rest[..size];
            for j in 0..i {
                let other = &above[j * size..][..=j];
                row[j] = (row[j] - dot(&row[..j], other)) / other[j];
            }
            row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
        }
        Self { size, factor: matrix }
    }

    /// L_dd
    pub(crate) fn diagonal(&self, d: usize) -> f64 {
        self.factor[d * self.size + d]
    }

    /// L^-1 x: as uncorrelated as numbers of unit variance where x has the covariance A.
    pub(crate) fn whiten(&self, x: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut white = Vec::with_capacity(self.size);
        for (d, x) in x.enumerate() {
            let row = &self.factor[d * self.size..][..=d];
            white.push((x - dot(row, &white)) / row[d]);
        }
        white
    }
}

/// A = V diag(values) V^T of a symmetric matrix, by Jacobi rotations (Golub & Van Loan, "Matrix Computations", 8.5).
#[derive(Debug, Clone)]
pub(crate) struct SymmetricEigen {
    size: usize,
    /// In no order.
    pub(crate) values: Vec<f64>,
    /// (D, D); column k belongs to value k.
    vectors: Vec<f64>,
}

impl SymmetricEigen {
    /// Sweeps until no rotation is left to do; ten are many.
    const MOST_SWEEPS: usize = 60;

    /// Of a symmetric matrix (D, D).
    pub(crate) fn new(mut a: Vec<f64>, size: usize) -> Self {
        let mut vectors = vec![0.0; size * size];
        (0..size).for_each(|i| vectors[i * size + i] = 1.0);
        for _ in 0..Self::MOST_SWEEPS {
            let mut rotated = false;
            for (p, q) in (0..size).flat_map(|p| (p + 1..size).map(move |q| (p, q))) {
                let off = a[p * size + q];
                let (low, high) = (a[p * size + p], a[q * size + q]);
                if off.abs() <= f64::EPSILON * (low.abs() * high.abs()).sqrt() || off.abs() < f64::MIN_POSITIVE {
                    continue;
                }
                rotated = true;
                let theta = (high - low) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let turn = |m: &mut [f64], i: usize, j: usize| {
                    let (x, y) = (m[i], m[j]);
                    (m[i], m[j]) = (c * x - t * c * y, t * c * x + c * y);
                };
                (0..size).for_each(|k| turn(&mut a, k * size + p, k * size + q));
                (0..size).for_each(|k| turn(&mut a, p * size + k, q * size + k));
                (0..size).for_each(|k| turn(&mut vectors, k * size + p, k * size + q));
            }
            if !rotated {
                break;
            }
        }
        Self { size, values: (0..size).map(|i| a[i * size + i]).collect(), vectors }
    }

    /// V diag(f(values)) V^T
    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let size = self.size;
        let scaled: Vec<f64> = self.values.iter().map(|&value| f(value)).collect();
        let vector = |row: usize, k: usize| self.vectors[row * size + k];
        let entry = |at: usize| (0..size).map(|k| vector(at / size, k) * scaled[k] * vector(at % size, k)).sum();
        (0..size * size).map(entry).collect()
    }
}

/// Over as many terms as the shorter has.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitening_undoes_a_known_factor() {
        // L = [[2, 0, 0], [-1, 3, 0], [0.5, 4, 1]], A = L L^T; above the diagonal stands what must not be read.
        let cholesky = Cholesky::new(vec![4.0, f64::NAN, f64::NAN, -2.0, 10.0, f64::NAN, 1.0, 11.5, 17.25], 3);
        assert_eq!([0, 1, 2].map(|d| cholesky.diagonal(d)), [2.0, 3.0, 1.0]);
        // L (1, -2, 3)^T
        assert_eq!(cholesky.whiten([2.0, -7.0, -4.5].into_iter()), [1.0, -2.0, 3.0]);
    }

    #[test]
    fn eigenvalues_of_a_known_matrix_put_it_together_again() {
        // Eigenvalues 2 - sqrt(2), 2, 2 + sqrt(2); the last one, zero, is of a matrix of lower rank.
        let matrix = vec![2.0, -1.0, 0.0, 0.0, -1.0, 2.0, -1.0, 0.0, 0.0, -1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let eigen = SymmetricEigen::new(matrix.clone(), 4);
        let mut values = eigen.values.clone();
        values.sort_by(f64::total_cmp);
        let want = [0.0, 2.0 - 2f64.sqrt(), 2.0, 2.0 + 2f64.sqrt()];
        assert!(values.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-12), "{values:?}");
        assert!(eigen.map(|value| value).iter().zip(&matrix).all(|(a, b)| (a - b).abs() <= 1e-12));
        let root = eigen.map(|value| value.max(0.0).sqrt());
        let square = |at: usize| (0..4).map(|k| root[at / 4 * 4 + k] * root[k * 4 + at % 4]).sum::<f64>();
        assert!((0..16).all(|at| (square(at) - matrix[at]).abs() <= 1e-12));
    }
}
