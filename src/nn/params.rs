//! One table of parameters (name, shape, place); initialisation, optimiser, checkpoint and tests walk it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::files::arrays::HostTensor;
use crate::gpu::{Gpu, GpuError, Tensor, WINDOW_ALIGNMENT_WORDS, pitch};
use crate::numbers::random::{random_bits, stream, uniform};

/// Index of a parameter in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(usize);

/// One parameter tensor: a weight (out, in), a convolution's weight (out * taps, in), or a bias (out).
#[derive(Debug, Clone)]
pub struct Slot {
    /// Name in checkpoints, as in other frameworks: `ctx.layers.0.weight`.
    pub name: String,
    /// As the kernels see it: (out, in), (out * taps, in) or (out).
    pub shape: Vec<usize>,
    /// First word in the flat buffers.
    pub offset: usize,
    /// Inputs that each row sees, in masked weights; weights beyond are zero and stay zero.
    visible: Option<Vec<u32>>,
    /// Inputs that each row counts for its initialisation, where another number than it sees; 0 leaves it zero.
    fan_in: Option<Vec<u32>>,
    /// Of a convolution's weight.
    kernel: Option<KernelShape>,
}

/// A convolution's kernel: of `rows` x `columns` places in raster order, the first `n_taps` exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelShape {
    /// Places that have weights.
    pub n_taps: usize,
    /// Height.
    pub rows: usize,
    /// Width.
    pub columns: usize,
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

    /// Shape in checkpoints: that of the kernels, or (out, in, rows, columns) for convolutions.
    pub fn file_shape(&self) -> Vec<usize> {
        match self.kernel {
            Some(kernel) => vec![self.shape[0] / kernel.n_taps, self.shape[1], kernel.rows, kernel.columns],
            None => self.shape.clone(),
        }
    }

    /// Values in the layout of checkpoints, from that of the kernels. Taps that do not exist are zero there.
    fn to_file(&self, values: Vec<f32>) -> HostTensor {
        let Some(kernel) = self.kernel else { return HostTensor::new(self.shape.clone(), values) };
        let mut file = vec![0.0; self.file_shape().iter().product()];
        self.pair_places(kernel, |stored, in_file| file[in_file] = values[stored]);
        HostTensor::new(self.file_shape(), file)
    }

    /// The inverse; masked-out weights become zero.
    fn to_kernel_layout(&self, file: &[f32]) -> Vec<f32> {
        let mut values = file.to_vec();
        if let Some(kernel) = self.kernel {
            values = vec![0.0; self.shape.iter().product()];
            self.pair_places(kernel, |stored, in_file| values[stored] = file[in_file]);
        }
        self.mask(&mut values);
        values
    }

    /// Calls `f` with the places of every weight in both layouts.
    fn pair_places(&self, kernel: KernelShape, mut f: impl FnMut(usize, usize)) {
        let (n_in, cells) = (self.shape[1], kernel.rows * kernel.columns);
        for row in 0..self.shape[0] {
            let (output, tap) = (row / kernel.n_taps, row % kernel.n_taps);
            for input in 0..n_in {
                f(row * n_in + input, (output * n_in + input) * cells + tap);
            }
        }
    }

    /// Which blocks of so many words, counted from the slot's first one, hold more than masked-out weights and padding.
    pub fn live_blocks(&self, block_words: usize) -> Vec<u32> {
        let mut is_live = vec![self.visible.is_none(); self.words().div_ceil(block_words)];
        let row_words = pitch(*self.shape.last().expect("a parameter has a shape"));
        for (row, &visible) in self.visible.iter().flatten().enumerate().filter(|(_, visible)| **visible > 0) {
            let first = row * row_words;
            let last = first + visible as usize - 1;
            is_live[first / block_words..=last / block_words].fill(true);
        }
        (0..).zip(is_live).filter(|(_, is_live)| *is_live).map(|(block, _)| block).collect()
    }

    /// Inputs that a row sees.
    fn visible_in(&self, row: usize) -> usize {
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
        let n_taps = self.kernel.map_or(1, |kernel| kernel.n_taps);
        for (row, values) in values.chunks_exact_mut(columns).enumerate() {
            let first_tap = row / n_taps * n_taps;
            let fan_in: usize = match &self.fan_in {
                Some(fan_in) if fan_in[row] == 0 => continue,
                Some(fan_in) => fan_in[row] as usize,
                None => (first_tap..first_tap + n_taps).map(|row| self.visible_in(row)).sum(),
            };
            let bound = (3.0 / fan_in.max(1) as f64).sqrt();
            for (column, value) in values[..self.visible_in(row)].iter_mut().enumerate() {
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
                values[self.visible_in(row)..].fill(0.0);
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
        self.push(Slot { name, shape: shape.to_vec(), offset: self.words, visible, fan_in: None, kernel: None })
    }

    /// Appends a convolution's weight; `visible` has a number for each row of (out * taps, in).
    pub fn add_kernel(&mut self, name: String, n_in: usize, kernel: KernelShape, visible: Vec<u32>) -> SlotId {
        let shape = vec![visible.len(), n_in];
        let (visible, kernel) = (Some(visible), Some(kernel));
        self.push(Slot { name, shape, offset: self.words, visible, fan_in: None, kernel })
    }

    /// Appends a weight without a mask, whose rows start as if they had `fan_in` inputs, or at zero for 0.
    pub(crate) fn add_free(&mut self, name: String, shape: &[usize], fan_in: Vec<u32>) -> SlotId {
        let (shape, fan_in) = (shape.to_vec(), Some(fan_in));
        self.push(Slot { name, shape, offset: self.words, visible: None, fan_in, kernel: None })
    }

    /// The same parameters, of which some have no masks: `free` has them with the inputs that their rows count for their
    /// initialisation.
    pub(crate) fn without_masks(&self, free: Vec<(SlotId, Vec<u32>)>) -> Self {
        let mut table = self.clone();
        for (id, fan_in) in free {
            (table.slots[id.0].visible, table.slots[id.0].fan_in) = (None, Some(fan_in));
        }
        table
    }

    fn push(&mut self, slot: Slot) -> SlotId {
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

    /// Stretches of a flat buffer, as few as there are of at most so many words without cutting a parameter.
    fn stretches(&self, most_words: usize) -> Vec<Range<usize>> {
        let mut stretches: Vec<Range<usize>> = Vec::new();
        for slot in &self.slots {
            let end = slot.offset + slot.words();
            match stretches.last_mut() {
                Some(stretch) if end - stretch.start <= most_words => stretch.end = end,
                _ => stretches.push(slot.offset..end),
            }
        }
        stretches
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
    /// What bindings can hold of it.
    stretches: Vec<Range<usize>>,
}

impl ParamTable {
    /// Whether an adapter can hold a buffer of these parameters, which nothing is allocated for.
    ///
    /// # Errors
    /// A parameter that no binding can hold, or too many of them, with the numbers.
    pub fn check_for(&self, gpu: &Gpu, label: &str) -> Result<(), GpuError> {
        self.slots.iter().try_for_each(|slot| gpu.check_binding(&slot.name, &slot.shape))?;
        gpu.check_arena(label, self.words)
    }
}

impl ParamBuffer {
    /// All zeros.
    ///
    /// # Errors
    /// A parameter that no binding can hold, with the numbers; no memory.
    pub fn zeros(gpu: &Gpu, label: &str, table: &Arc<ParamTable>) -> Result<Self, GpuError> {
        table.check_for(gpu, label)?;
        let stretches = table.stretches((gpu.adapter().max_binding_bytes / 4) as usize);
        let buffer = Self { table: Arc::clone(table), arena: gpu.arena(label, table.words)?, stretches };
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
                Error::input("weights", format!("tensor `{name}` {:?} is missing", slot.file_shape()), remedy)
            })?;
            if tensor.shape != slot.file_shape() {
                let (found, expected) = (&tensor.shape, slot.file_shape());
                let problem = format!("tensor `{name}` has shape {found:?}, the model needs {expected:?}");
                return Err(Error::input("weights", problem, remedy));
            }
            gpu.write(&buffer.tensor(id), &slot.to_kernel_layout(&tensor.values))?;
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
            tensors.insert(format!("{prefix}{}", slot.name), self.read(gpu, id)?);
        }
        Ok(())
    }

    /// One parameter in the layout of checkpoints.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn read(&self, gpu: &Gpu, id: SlotId) -> Result<HostTensor, GpuError> {
        Ok(self.table.slot(id).to_file(gpu.read(&self.tensor(id))?))
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

    /// Where [`ParamBuffer::stretches`] lie.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.stretches
    }

    /// All words as flat vectors, for kernels that treat all words alike: as few as bindings allow without cutting a
    /// parameter. The paddings between parameters are zero.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = Tensor> {
        self.ranges().iter().map(|range| self.stretch(range))
    }

    /// One of them.
    pub(crate) fn stretch(&self, range: &Range<usize>) -> Tensor {
        self.range(self.arena.label(), range.clone())
    }

    /// All words from one offset to another, as a flat vector.
    pub(crate) fn range(&self, label: &str, range: Range<usize>) -> Tensor {
        self.arena.window(label, range.start, &[range.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_as_long_as_a_binding_and_cut_no_parameter() {
        let mut table = ParamTable::default();
        // 64, 128, 8 and 32 words, each behind a multiple of 64.
        for (name, shape) in [("a", &[64][..]), ("b", &[2, 64]), ("c", &[5]), ("d", &[4, 7])] {
            table.add(name.into(), shape, None);
        }
        let stretches = |most| table.stretches(most).iter().map(|range| (range.start, range.end)).collect::<Vec<_>>();
        assert_eq!(stretches(1000), [(0, 288)]);
        assert_eq!(stretches(288), [(0, 288)]);
        assert_eq!(stretches(287), [(0, 200), (256, 288)]);
        assert_eq!(stretches(150), [(0, 64), (64, 200), (256, 288)]);
        assert_eq!(stretches(64), [(0, 64), (64, 192), (192, 200), (256, 288)]);
    }

    #[test]
    fn blocks_of_masked_out_weights_are_left_out() {
        let mut table = ParamTable::default();
        // Rows of 6 words take 8; the first sees nothing, the third the most.
        let masked = table.add("masked".into(), &[4, 6], Some(vec![0, 3, 5, 6]));
        let free = table.add("free".into(), &[3, 6], None);
        let blocks = |id, words| table.slot(id).live_blocks(words);
        assert_eq!(blocks(masked, 4), [2, 4, 5, 6, 7]);
        assert_eq!(blocks(masked, 16), [0, 1]);
        assert_eq!(blocks(free, 4), [0, 1, 2, 3, 4, 5]);
        let blind = table.add("blind".into(), &[2, 6], Some(vec![0, 0]));
        assert!(table.slot(blind).live_blocks(4).is_empty());
    }
}
