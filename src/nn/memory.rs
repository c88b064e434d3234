//! What a workspace will allocate, known before anything is.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::gpu::{Gpu, GpuError, Tensor, padded_bytes};

/// A tensor to be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Planned {
    /// Name of the tensor.
    pub label: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Planned {
    /// A tensor of this name and shape.
    pub fn new(label: impl Into<String>, shape: &[usize]) -> Self {
        Self { label: label.into(), shape: shape.to_vec() }
    }

    /// Bytes with padding.
    pub fn bytes(&self) -> u64 {
        padded_bytes(&self.shape)
    }
}

/// Allocates what was planned, in order.
///
/// # Errors
/// Sizes over the adapter's limits, with the numbers; no memory.
pub(crate) fn allocate(gpu: &Gpu, plan: &[Planned]) -> Result<std::vec::IntoIter<Tensor>, GpuError> {
    let tensors = plan.iter().map(|planned| gpu.tensor(&planned.label, &planned.shape));
    Ok(tensors.collect::<Result<Vec<_>, _>>()?.into_iter())
}

/// Something that needs a buffer of some kind from its first to its last step.
#[derive(Debug, Clone)]
pub(super) struct Lifetime {
    /// Only equal kinds may share: for instance the shape of one sample's part.
    pub(super) kind: (usize, usize),
    /// First and last step.
    pub(super) steps: RangeInclusive<usize>,
}

/// For each lifetime the number of its buffer, so that no two that overlap share one; and the kind of every buffer.
pub(super) fn share(lifetimes: &[Lifetime]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&index| *lifetimes[index].steps.start());
    let (mut buffers, mut assigned) = (Vec::new(), vec![0; lifetimes.len()]);
    // Of each buffer, the last step that needs it.
    let mut busy: HashMap<usize, usize> = HashMap::new();
    for index in order {
        let Lifetime { kind, steps } = &lifetimes[index];
        let free = (0..buffers.len()).find(|buffer| buffers[*buffer] == *kind && busy[buffer] < *steps.start());
        let buffer = free.unwrap_or_else(|| {
            buffers.push(*kind);
            buffers.len() - 1
        });
        busy.insert(buffer, *steps.end());
        assigned[index] = buffer;
    }
    (assigned, buffers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_shared_by_what_never_overlaps_and_is_of_one_kind() {
        let lifetime = |kind, steps| Lifetime { kind: (kind, 1), steps };
        let chain =
            [lifetime(7, 0..=1), lifetime(7, 1..=2), lifetime(7, 2..=5), lifetime(9, 3..=3), lifetime(7, 3..=4)];
        let (assigned, buffers) = share(&chain);
        assert_eq!(assigned, [0, 1, 0, 2, 1]);
        assert_eq!(buffers, [(7, 1), (7, 1), (9, 1)]);
    }
}
