//! Score matching of a whole vector: losses whose minimiser is s(x) = grad log p(x), and what each of them costs.
//!
//! Hyvarinen ("Estimation of non-normalized statistical models by score matching", 2005) brought the Fisher divergence
//! 1/2 E |s - grad log p|^2 into a form without the density; the others are cheaper forms of it:
//!
//! ```text
//! exact      E [ 1/2 |s|^2 + tr(ds/dx) ]                              tr by D slopes: along every unit vector
//! sliced     E [ 1/2 (v . s)^2 + v . (ds/dx) v ]                      v random with E v v^T = I
//! sliced-vr  E [ 1/2 |s|^2     + v . (ds/dx) v ]                      the square's mean over v is known: less variance
//! denoising  E [ 1/2 |sigma s(x + sigma eps) + eps|^2 ]               no slope; learns the score of the noisy density
//! ```
//!
//! (Song, Garg, Shi, Ermon, "Sliced score matching", 2019; Vincent, "A connection between score matching and denoising
//! autoencoders", 2011.) The first three have one expectation, their least value is -1/2 E |grad log p|^2. Composite score
//! matching, which the rest of this library is about, needs D slopes too, but all of them come from one tangent of a small
//! network, and nothing in it is random: see [`crate::models::ar_csm::ArCsm`] and [`crate::models::score_field::ScoreField`].

use serde::Serialize;

/// A loss for scores of whole vectors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreMatching {
    /// Slopes along all D unit vectors.
    Exact,
    /// Slope and square along random directions, their mean.
    Sliced {
        /// Directions of every sample; at least 1.
        projections: u32,
    },
    /// Slope along random directions, their mean; the square as a whole.
    SlicedVr {
        /// Directions of every sample; at least 1.
        projections: u32,
    },
    /// No slope; noise on the points.
    Denoising {
        /// Standard deviation of the noise; positive.
        sigma: f32,
    },
}

/// What a loss is made of, for a sample x, a point y that is x or x with noise, and directions v:
///
/// ```text
/// 1/2 |scale s(y) + shift (y - x)|^2  +  weight sum over v of [ v . (ds/dx) v + project/2 (v . s)^2 ]
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// The first term.
    pub residual: Option<Residual>,
    /// The second term.
    pub slices: Option<Slices>,
}

/// 1/2 |scale s + shift (y - x)|^2
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// Factor of the score.
    pub scale: f32,
    /// Factor of the noise y - x.
    pub shift: f32,
}

/// weight times a sum over directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slices {
    /// Factor of the sum.
    pub weight: f32,
    /// Whether the square along each direction belongs to it.
    pub project: bool,
}

impl ScoreMatching {
    /// What it is made of.
    pub fn terms(self) -> Terms {
        let square = Some(Residual { scale: 1.0, shift: 0.0 });
        let mean_of = |n: u32, project| Some(Slices { weight: 1.0 / n as f32, project });
        match self {
            Self::Exact => Terms { residual: square, slices: mean_of(1, false) },
            Self::Sliced { projections } => Terms { residual: None, slices: mean_of(projections, true) },
            Self::SlicedVr { projections } => Terms { residual: square, slices: mean_of(projections, false) },
            Self::Denoising { sigma } => {
                Terms { residual: Some(Residual { scale: sigma, shift: 1.0 / sigma }), slices: None }
            }
        }
    }

    /// Directions in which every sample's slope is taken.
    pub fn directions(self, dimensions: usize) -> usize {
        match self {
            Self::Exact => dimensions,
            Self::Sliced { projections } | Self::SlicedVr { projections } => projections as usize,
            Self::Denoising { .. } => 0,
        }
    }

    /// Standard deviation of the noise on the points; 0 where they are clean.
    pub fn sigma(self) -> f32 {
        match self {
            Self::Denoising { sigma } => sigma,
            _ => 0.0,
        }
    }
}
