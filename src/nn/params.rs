//! One table of parameters (name, shape, place); initialisation, optimiser, checkpoint and tests walk it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::arrays::HostTensor;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuError, Tensor, WINDOW_ALIGNMENT_WORDS, pitch};
use crate::random::{random_bits, stream, uniform};

/// Index of a parameter in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(usize);

/// One parameter tensor: a weight (out, in) or a bias (out).
#[derive(Debug, Clone)]
pub struct Slot {
    /// Name in checkpoints, as in other frameworks: `ctx.layers.0.weight`.
    pub name: String,
    /// (out, in) or (out).
    pub shape: Vec<usize>,
    /// First word in the flat buffers.
    pub offset: usize,
    /// Inputs that each output sees, in masked weights; weights beyond are zero and stay zero.
    visible: Option<Vec<u32>>,
}

impl Slot {
    /// Whether it is a weight matrix rather than a bias.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }

    /// Words it takes with its padding.
    pub fn words(&self) -> usize {
        let (columns, rows) = self.shape.split_last().expect("a parameter has a shape");
        rows.iter().product::<usize>() * pitch(*columns)
    }

    /// Inputs that output `row` sees.
    fn fan_in(&self, row: usize) -> usize {
        self.visible.as_ref().map_or(self.shape[1], |visible| visible[row] as usize)
    }

    /// LeCun's uniform initialisation, U(-a, a) with a = sqrt(3 / fan-in), where the fan-in counts what the mask leaves;
    /// biases are zero. Every number belongs to its place, whatever else the model holds.
    fn initial(&self, seed: u64, index: u32) -> Vec<f32> {
        if !self.is_matrix() {
            return vec![0.0; self.shape[0]];
        }
        let columns = self.shape[1];
        let mut values = vec![0.0; self.shape[0] * columns];
        for (row, values) in values.chunks_exact_mut(columns).enumerate() {
            let fan_in = self.fan_in(row);
            let bound = (3.0 / fan_in.max(1) as f64).sqrt();
            for (column, value) in values[..fan_in].iter_mut().enumerate() {
                let bits = random_bits(seed, stream::INITIALISATION, row as u32, column as u32, index);
                *value = (bound * (2.0 * uniform(bits[0]) - 1.0)) as f32;
            }
        }
        values
    }

    /// Sets masked-out weights to zero.
    fn mask(&self, values: &mut [f32]) {
        if self.visible.is_some() {
            for (row, values) in values.chunks_exact_mut(self.shape[1]).enumerate() {
                values[self.fan_in(row)..].fill(0.0);
            }
        }
    }
}

/// Names, shapes and places of all parameters of a model.
#[derive(Debug, Clone, Default)]
pub struct ParamTable {
    slots: Vec<Slot>,
    words: usize,
}

impl ParamTable {
    /// Appends a parameter; `visible` is given for masked weights.
    pub fn add(&mut self, name: String, shape: &[usize], visible: Option<Vec<u32>>) -> SlotId {
        let slot = Slot { name, shape: shape.to_vec(), offset: self.words, visible };
        self.words += slot.words().next_multiple_of(WINDOW_ALIGNMENT_WORDS);
        self.slots.push(slot);
        SlotId(self.slots.len() - 1)
    }

    /// All parameters in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().enumerate().map(|(index, slot)| (SlotId(index), slot))
    }

    /// One parameter.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }

    /// Words of a flat buffer, paddings between parameters included.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Number of weights and biases, without paddings and masked-out weights.
    pub fn count(&self) -> usize {
        let free = |slot: &Slot| match &slot.visible {
            Some(visible) => visible.iter().map(|&n| n as usize).sum::<usize>(),
            None => slot.shape.iter().product::<usize>(),
        };
        self.slots.iter().map(free).sum()
    }
}

/// One flat buffer with a number for every parameter: the weights, their gradient, a moment or an average.
#[derive(Debug, Clone)]
pub struct ParamBuffer {
    table: Arc<ParamTable>,
    arena: Tensor,
}

impl ParamBuffer {
    /// All zeros.
    ///
    /// # Errors
    /// A parameter that no binding can hold, with the numbers; no memory.
    pub fn zeros(gpu: &Gpu, label: &str, table: &Arc<ParamTable>) -> Result<Self, GpuError> {
        for slot in &table.slots {
            gpu.check_binding(&slot.name, &slot.shape)?;
        }
        let buffer = Self { table: Arc::clone(table), arena: gpu.arena(label, table.words)? };
        let mut recorder = gpu.record("zeros");
        recorder.clear(&buffer.arena);
        recorder.submit()?;
        Ok(buffer)
    }

    /// The seeded initialisation of every parameter.
    ///
    /// # Errors
    /// As [`ParamBuffer::zeros`].
    pub fn initial(gpu: &Gpu, label: &str, table: &Arc<ParamTable>, seed: u64) -> Result<Self, GpuError> {
        let buffer = Self::zeros(gpu, label, table)?;
        for (id, slot) in table.slots() {
            gpu.write(&buffer.tensor(id), &slot.initial(seed, id.0 as u32))?;
        }
        Ok(buffer)
    }

    /// Values by name, each name with `prefix` before it. Masked-out weights become zero whatever the values say.
    ///
    /// # Errors
    /// A missing tensor or one of another shape, named with what was expected.
    pub fn from_tensors(
        gpu: &Gpu,
        label: &str,
        table: &Arc<ParamTable>,
        tensors: &BTreeMap<String, HostTensor>,
        prefix: &str,
    ) -> Result<Self> {
        let buffer = Self::zeros(gpu, label, table)?;
        for (id, slot) in table.slots() {
            let name = format!("{prefix}{}", slot.name);
            let remedy = "Give the weights of a model with these settings, and the prefix of its names";
            let tensor = tensors.get(&name).ok_or_else(|| {
                Error::input("weights", format!("tensor `{name}` {:?} is missing", slot.shape), remedy)
            })?;
            if tensor.shape != slot.shape {
                let problem = format!("tensor `{name}` has shape {:?}, the model needs {:?}", tensor.shape, slot.shape);
                return Err(Error::input("weights", problem, remedy));
            }
            let mut values = tensor.values.clone();
            slot.mask(&mut values);
            gpu.write(&buffer.tensor(id), &values)?;
        }
        Ok(buffer)
    }

    /// Values by name, with `prefix` before each, added to `tensors`.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn save_into(
        &self,
        gpu: &Gpu,
        prefix: &str,
        tensors: &mut BTreeMap<String, HostTensor>,
    ) -> Result<(), GpuError> {
        for (id, slot) in self.table.slots() {
            let values = gpu.read(&self.tensor(id))?;
            tensors.insert(format!("{prefix}{}", slot.name), HostTensor::new(slot.shape.clone(), values));
        }
        Ok(())
    }

    /// The table this buffer is laid out by.
    pub fn table(&self) -> &Arc<ParamTable> {
        &self.table
    }

    /// One parameter.
    pub fn tensor(&self, id: SlotId) -> Tensor {
        let slot = self.table.slot(id);
        self.arena.window(&slot.name, slot.offset, &slot.shape)
    }

    /// One parameter with its padding as a flat vector, for kernels that treat all words alike.
    pub fn words(&self, id: SlotId) -> Tensor {
        let slot = self.table.slot(id);
        self.arena.window(&slot.name, slot.offset, &[slot.words()])
    }

    /// All words from one offset to another, as a flat vector.
    pub(super) fn range(&self, label: &str, range: std::ops::Range<usize>) -> Tensor {
        self.arena.window(label, range.start, &[range.len()])
    }
}
