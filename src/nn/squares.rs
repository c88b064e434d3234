//! Squared norms of all parameters' numbers.

use super::ParamBuffer;
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::SquareSum;

/// Workgroups for each stretch of a buffer, and so partial sums.
const GROUPS: usize = 256;

/// Partial sums of the squares of a [`ParamBuffer`].
#[derive(Debug)]
pub(super) struct Squares {
    /// (groups of all stretches, 4), in the first column.
    pub(super) sums: Tensor,
}

impl Squares {
    /// For buffers laid out as this one.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn new(gpu: &Gpu, buffer: &ParamBuffer) -> Result<Self, GpuError> {
        Ok(Self { sums: gpu.tensor("squares", &[buffer.ranges().len() * GROUPS, 4])? })
    }

    /// Appends: partial sums over a buffer.
    ///
    /// # Errors
    /// A dispatch over the limits.
    pub(super) fn add_up(&self, recorder: &mut Recorder<'_>, buffer: &ParamBuffer) -> Result<(), GpuError> {
        for (index, values) in buffer.stretches().enumerate() {
            recorder.run(&SquareSum {
                n_values: values.words() as u32,
                n_groups: GROUPS as u32,
                values: &values,
                sums: &self.sums.rows(index * GROUPS, GROUPS),
            })?;
        }
        Ok(())
    }
}
