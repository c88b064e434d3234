//! Holding f32 results of an adapter against f64 references, so that NaN fails and a failure can be acted on.

use std::fmt;

/// The element that was nearest to its tolerance, or farthest outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// |got - want| / tolerance; at most 1 if all is well, infinite for NaN.
    pub worst_ratio: f64,
    /// Its flat index.
    pub index: usize,
    /// What the adapter computed.
    pub got: f32,
    /// What the reference computed.
    pub want: f64,
    /// How far they may be apart.
    pub tolerance: f64,
}

/// Why two arrays do not agree; `Display` is one line.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// Arrays that cannot be compared, or nothing to compare.
    Lengths {
        /// What was compared.
        label: String,
        /// Lengths of `got`, `want` and `tolerance`.
        lengths: [usize; 3],
    },
    /// Some elements lie outside their tolerance.
    Values {
        /// What was compared.
        label: String,
        /// The one farthest outside.
        worst: Comparison,
        /// How many lie outside.
        outside: usize,
        /// How many there are.
        count: usize,
    },
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lengths { label, lengths: [got, want, tolerance] } => {
                write!(f, "{label}: {got} elements against {want} expected, with {tolerance} tolerances")
            }
            Self::Values { label, worst: w, outside, count } => write!(
                f,
                "{label}: {outside} of {count} elements outside their tolerance, worst at {}: \
                 got {:e}, expected {:e} within {:.2e} ({:.1} times that)",
                w.index, w.got, w.want, w.tolerance, w.worst_ratio
            ),
        }
    }
}

/// Compares element by element; equal lengths, at least one element.
///
/// # Errors
/// [`Mismatch`] when any |got - want| is not at most its tolerance; a NaN on either side never is.
pub fn compare(label: &str, got: &[f32], want: &[f64], tolerance: &[f64]) -> Result<Comparison, Mismatch> {
    let lengths = [got.len(), want.len(), tolerance.len()];
    let differing = || Mismatch::Lengths { label: label.into(), lengths };
    if lengths != [got.len(); 3] {
        return Err(differing());
    }
    let elements = || {
        (0..got.len()).map(|index| Comparison {
            worst_ratio: ratio(f64::from(got[index]) - want[index], tolerance[index]),
            index,
            got: got[index],
            want: want[index],
            tolerance: tolerance[index],
        })
    };
    let worst = elements().max_by(|a, b| a.worst_ratio.total_cmp(&b.worst_ratio)).ok_or_else(differing)?;
    if worst.worst_ratio <= 1.0 {
        return Ok(worst);
    }
    let outside = elements().filter(|element| element.worst_ratio > 1.0).count();
    Err(Mismatch::Values { label: label.into(), worst, outside, count: got.len() })
}

/// |error| / tolerance, where no error is 0 even without tolerance, and what cannot be compared is infinitely wrong.
fn ratio(error: f64, tolerance: f64) -> f64 {
    let ratio = if error == 0.0 { 0.0 } else { error.abs() / tolerance };
    if ratio >= 0.0 && tolerance >= 0.0 { ratio } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_reports_the_element_nearest_to_its_tolerance() {
        let worst = compare("x", &[1.0, 2.0, 3.0], &[1.0, 2.25, 3.5], &[0.0, 0.5, 2.0]).expect("all within");
        assert_eq!((worst.index, worst.worst_ratio), (1, 0.5));
    }

    #[test]
    fn a_failure_names_the_worst_element() {
        let error = compare("dz", &[1.0, 2.0, 8.0], &[1.5, 2.0, 4.0], &[0.25, 0.0, 0.5]).expect_err("two outside");
        let line = "dz: 2 of 3 elements outside their tolerance, worst at 2: got 8e0, expected 4e0 within 5.00e-1 (8.0 times that)";
        assert_eq!(error.to_string(), line);
    }

    #[test]
    fn what_is_not_a_number_fails() {
        for (got, want, tolerance) in [
            (f32::NAN, 1.0, 1e9),
            (1.0, f64::NAN, 1e9),
            (1.0, 1.0, f64::NAN),
            (1.0, 1.0, -1.0),
            (f32::INFINITY, 1.0, 1e9),
            (f32::INFINITY, f64::INFINITY, 1e9),
        ] {
            let error = compare("x", &[0.0, got], &[0.0, want], &[1.0, tolerance]).expect_err("not comparable");
            assert!(
                matches!(error, Mismatch::Values { worst: Comparison { index: 1, .. }, outside: 1, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn lengths_must_agree_and_nothing_is_no_agreement() {
        for (got, want, tolerance) in [(1, 2, 2), (2, 2, 1), (0, 0, 0)] {
            let error = compare("x", &vec![0.0; got], &vec![0.0; want], &vec![1.0; tolerance]).expect_err("lengths");
            assert_eq!(error, Mismatch::Lengths { label: "x".into(), lengths: [got, want, tolerance] });
        }
    }
}
