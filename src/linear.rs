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
}
