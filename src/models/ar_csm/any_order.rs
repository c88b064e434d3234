//! One set of weights for every order of the dimensions (order-agnostic training with connectivity weights: Germain et al.,
//! "MADE", 2015, sections 4.2 and 4.3).
//!
//! The stored weights are in the data's order: the first layer has a column, the last one K rows for every dimension, and
//! neither has a mask. In an order, these columns and rows go to the positions of their dimensions, and the network is an
//! ordinary [`MadeNet`] with its masks. A unit that sees the first m positions must know *which* dimensions these are (a seen
//! 0 is no unseen value): `ctx.seen.weight` (D, units) has a weight for each, added to the unit's bias where it is seen.
//! Therefore samplers, likelihoods and everything else meet an ordinary network.

use crate::models::ar_csm::Ends;
use std::sync::Arc;

use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::{PermuteColumns, PermuteRows, SeenBias, SeenBiasBackward};
use crate::models::ar_csm::MadeNet;
use crate::nn::{ParamBuffer, ParamTable, SlotId};
use crate::order::Permutation;

/// The table of the stored weights, and what takes them into an order.
#[derive(Debug)]
pub struct AnyOrder {
    /// Names, shapes and places of the stored weights.
    pub stored: Arc<ParamTable>,
    seen: SlotId,
    ends: Ends,
    dimensions: u32,
    context: u32,
    /// Which dimension stands at each position, (D).
    dimension_at: Tensor,
    /// At which position each dimension stands, (D).
    position_of: Tensor,
}

impl AnyOrder {
    /// For a network and the table of its model's working weights.
    ///
    /// # Errors
    /// No memory for the order.
    pub fn new(gpu: &Gpu, net: &MadeNet, working: &ParamTable) -> Result<Self, GpuError> {
        let ends = net.ends();
        let [rows, inputs] = [0, 1].map(|axis| working.slot(ends.last_weight).shape[axis]);
        // A row of the last layer serves every position: on average it sees half of its inputs.
        let half = vec![inputs.div_ceil(2) as u32; rows];
        let mut stored =
            working.without_masks(vec![(ends.first_weight, ends.first_visible.clone()), (ends.last_weight, half)]);
        let (dimensions, units) = (net.dimensions(), ends.first_visible.len());
        let seen = stored.add_free("ctx.seen.weight".into(), &[dimensions, units], vec![0; dimensions]);
        Ok(Self {
            stored: Arc::new(stored),
            seen,
            ends,
            dimensions: dimensions as u32,
            context: net.context() as u32,
            dimension_at: gpu.tensor("dimension_at", &[dimensions])?,
            position_of: gpu.tensor("position_of", &[dimensions])?,
        })
    }

    /// The order that [`AnyOrder::gather`] and [`AnyOrder::scatter`] of later submissions work in.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn set(&self, gpu: &Gpu, order: &Permutation) -> Result<(), GpuError> {
        let words = |values: &[usize]| values.iter().map(|&value| value as u32).collect::<Vec<_>>();
        gpu.write(&self.dimension_at, &words(order.dimensions()))?;
        gpu.write(&self.position_of, &words(&order.positions()))
    }

    /// The ordinary network's weights in the order that was set, from the stored ones. Weights that its masks remove are
    /// not zero; nothing reads them.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn gather(
        &self,
        recorder: &mut Recorder<'_>,
        stored: &ParamBuffer,
        working: &ParamBuffer,
    ) -> Result<(), GpuError> {
        self.permute(recorder, stored, working, &self.dimension_at)?;
        recorder.run(&SeenBias {
            dimensions: self.dimensions,
            units: self.ends.first_visible.len() as u32,
            bias: &stored.tensor(self.ends.first_bias),
            seen: &stored.tensor(self.seen),
            dimension_at: &self.dimension_at,
            visible: &self.ends.visible,
            sums: &working.tensor(self.ends.first_bias),
        })
    }

    /// The gradient by the stored weights, from that by the ordinary network's. Overwrites `stored`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn scatter(
        &self,
        recorder: &mut Recorder<'_>,
        working: &ParamBuffer,
        stored: &ParamBuffer,
    ) -> Result<(), GpuError> {
        self.permute(recorder, working, stored, &self.position_of)?;
        recorder.copy(&working.words(self.ends.first_bias), &stored.words(self.ends.first_bias));
        recorder.run(&SeenBiasBackward {
            dimensions: self.dimensions,
            units: self.ends.first_visible.len() as u32,
            dbias: &working.tensor(self.ends.first_bias),
            position_of: &self.position_of,
            visible: &self.ends.visible,
            dseen: &stored.tensor(self.seen),
        })
    }

    /// First and last weights permuted, everything else but the first bias as it is.
    fn permute(
        &self,
        recorder: &mut Recorder<'_>,
        from: &ParamBuffer,
        to: &ParamBuffer,
        origin: &Tensor,
    ) -> Result<(), GpuError> {
        let Ends { first_weight, first_bias, last_weight, last_bias, .. } = self.ends;
        for (id, slot) in self.stored.slots().filter(|(id, _)| *id != self.seen && *id != first_bias) {
            let size = |axis: usize| slot.shape[axis] as u32;
            if id == first_weight {
                let (source, destination) = (&from.tensor(id), &to.tensor(id));
                let (rows, columns) = (size(0), size(1));
                recorder.run(&PermuteColumns { rows, columns, block: 1, source, origin, destination })?;
            } else if id == last_weight {
                let (source, destination) = (&from.tensor(id), &to.tensor(id));
                let (rows, columns) = (size(0), size(1));
                recorder.run(&PermuteRows { rows, columns, block: self.context, source, origin, destination })?;
            } else if id == last_bias {
                let row = |buffer: &ParamBuffer| buffer.tensor(id).reshaped(&[1, slot.shape[0]]);
                let (source, destination) = (&row(from), &row(to));
                let (rows, columns) = (1, size(0));
                recorder.run(&PermuteColumns { rows, columns, block: self.context, source, origin, destination })?;
            } else {
                recorder.copy(&from.words(id), &to.words(id));
            }
        }
        Ok(())
    }
}
