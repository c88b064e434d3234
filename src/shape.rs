//! What one sample is.

use std::fmt;
use std::str::FromStr;

/// What one sample of D values is. As text: `28x28x1` (height, width, channels) or `5` (dimensions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleShape {
    /// An image; rows from the top, pixels from the left, the channels of a pixel side by side.
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// 1 (grey) or 3 (RGB).
        channels: usize,
    },
    /// A point without neighbourhood: a table's row, for one.
    Vector {
        /// D.
        dimensions: usize,
    },
}

impl SampleShape {
    /// Most values of a sample that a model is made for: more than an image of 1024 x 1024 in colour has.
    pub const MOST_DIMENSIONS: usize = 1 << 22;

    /// D: how many values one sample has.
    pub fn dimensions(self) -> usize {
        match self {
            Self::Image { height, width, channels } => height * width * channels,
            Self::Vector { dimensions } => dimensions,
        }
    }

    /// Mirrors an image (H, W, C), left to right; a vector stays as it is.
    ///
    /// # Panics
    /// When `sample` is no whole number of rows.
    pub fn mirror(self, sample: &mut [f32]) {
        let Self::Image { width, channels, .. } = self else { return };
        assert!(sample.len().is_multiple_of(width * channels), "an image has whole rows");
        for row in sample.chunks_exact_mut(width * channels) {
            // Reversing the row reverses the channels of every pixel too: that is undone.
            row.reverse();
            row.chunks_exact_mut(channels).for_each(<[f32]>::reverse);
        }
    }
}

impl fmt::Display for SampleShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { height, width, channels } => write!(f, "{height}x{width}x{channels}"),
            Self::Vector { dimensions } => write!(f, "{dimensions}"),
        }
    }
}

impl FromStr for SampleShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lengths: Option<Vec<usize>> = text.split('x').map(|n| n.parse().ok().filter(|&n| n > 0)).collect();
        let shape = match lengths.as_deref() {
            Some(&[dimensions]) => Some(Self::Vector { dimensions }),
            Some(&[height, width, channels]) => height
                .checked_mul(width)
                .and_then(|pixels| pixels.checked_mul(channels))
                .map(|_| Self::Image { height, width, channels }),
            _ => None,
        };
        shape.ok_or_else(|| format!("shape `{text}` is neither HEIGHTxWIDTHxCHANNELS nor a number of dimensions"))
    }
}
