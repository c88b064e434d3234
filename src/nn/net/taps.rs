//! Which positions and channels a masked convolution sees: rules, from which kernels, initialisation and counts follow.

use crate::codes::Mask;
use crate::nn::params::KernelShape;

/// The causal part of a kernel: the first `n_taps` places, in raster order, of a rectangle whose corner lies `above` rows
/// and `left` columns before the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taps {
    /// The rectangle and how much of it exists.
    pub kernel: KernelShape,
    /// Rows from the first tap down to the position.
    pub above: usize,
    /// Columns from the first tap to the position.
    pub left: usize,
    /// Of the last tap.
    pub mask: Mask,
    /// From the resolution of the input to that of the output.
    pub scale: Scale,
}

/// How a convolution changes the resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Not at all.
    Same,
    /// Every second row and column.
    Halve,
    /// Every position repeated 2x2 before the taps look at it.
    Double,
}

impl Taps {
    /// A k x k kernel round the position, cut off after it.
    pub fn square(side: usize, mask: Mask) -> Self {
        let kernel = KernelShape { n_taps: side * (side / 2) + side / 2 + 1, rows: side, columns: side };
        Self { kernel, above: side / 2, left: side / 2, mask, scale: Scale::Same }
    }

    /// 2 x 3: the position and its neighbours to the left and right, and the three above these: for values that see only
    /// the rows above their own.
    pub fn down() -> Self {
        let kernel = KernelShape { n_taps: 6, rows: 2, columns: 3 };
        Self { kernel, above: 1, left: 1, mask: Mask::None, scale: Scale::Same }
    }

    /// 2 x 3, moved one row up: the first layer of the stream that sees only rows above.
    pub fn first_down() -> Self {
        Self { above: 2, ..Self::down() }
    }

    /// 2 x 2: the position, the one to its left, and the two above these.
    pub fn right() -> Self {
        let kernel = KernelShape { n_taps: 4, rows: 2, columns: 2 };
        Self { kernel, above: 1, left: 1, mask: Mask::B, scale: Scale::Same }
    }

    /// The position alone.
    pub fn point(mask: Mask) -> Self {
        let kernel = KernelShape { n_taps: 1, rows: 1, columns: 1 };
        Self { kernel, above: 0, left: 0, mask, scale: Scale::Same }
    }

    /// The same taps with a change of resolution.
    pub fn scaled(self, scale: Scale) -> Self {
        Self { scale, ..self }
    }

    /// Columns to the right of the position that it sees in the position's own row.
    pub(super) fn reach(&self) -> usize {
        let last = self.kernel.n_taps - 1;
        match last / self.kernel.columns == self.above {
            true => (last % self.kernel.columns).saturating_sub(self.left),
            false => 0,
        }
    }

    /// For images of one colour channel the groups say all or nothing: no mask is left, or one tap fewer (unless it is the
    /// only one).
    pub(super) fn simplified(mut self, groups: usize) -> Self {
        match self.mask {
            Mask::B if groups == 1 => self.mask = Mask::None,
            Mask::A if groups == 1 && self.kernel.n_taps > 1 => {
                self.kernel.n_taps -= 1;
                self.mask = Mask::None;
            }
            _ => {}
        }
        self
    }

    /// For each row (output, tap) of the weight, the leading input channels that are seen. The colour groups occur once
    /// in every `half_width` outputs.
    pub(super) fn visible(&self, n_in: usize, n_out: usize, half_width: usize, groups: usize) -> Vec<u32> {
        let of_row = |row: usize| {
            let (output, tap) = (row / self.kernel.n_taps, row % self.kernel.n_taps);
            if self.mask == Mask::None || tap + 1 < self.kernel.n_taps {
                return n_in as u32;
            }
            let group = output % half_width * groups / half_width;
            let groups_seen = group + usize::from(self.mask == Mask::B);
            (groups_seen * n_in).div_ceil(groups) as u32
        };
        (0..n_out * self.kernel.n_taps).map(of_row).collect()
    }
}
