//! Shaped buffers.

use std::borrow::Cow;
use std::sync::Arc;

/// Storage windows start at multiples of this many words on every adapter.
pub(crate) const WINDOW_ALIGNMENT_WORDS: usize = 64;

/// Four-byte values that tensors hold.
pub trait Word: bytemuck::Pod {}
impl Word for f32 {}
impl Word for u32 {}

/// Words from one row to the next: the row length rounded up to whole vec4s.
pub fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(4)
}

/// A buffer, or a window of one, with a shape and a label.
///
/// Row-major, four bytes an element. **Every row starts at a multiple of four words; the words between a row's end and
/// the next row are zero, and kernels that write a tensor keep them zero.** So kernels load whole vec4s without
/// guarding the ragged edge. Cloning copies the handle, not the contents.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) label: Arc<str>,
    pub(super) shape: Vec<usize>,
}

impl Tensor {
    /// Rows before columns; the last entry is the row length without padding.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Name in errors and traces.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Elements without padding.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Words in the buffer, with padding.
    pub fn words(&self) -> usize {
        padded_words(&self.shape)
    }

    /// Bytes in the buffer, with padding.
    pub fn bytes(&self) -> u64 {
        self.words() as u64 * 4
    }

    /// The same words under another shape with as many padded words.
    ///
    /// # Panics
    /// When the padded sizes differ: a broken invariant of the caller.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        assert_eq!(padded_words(shape), self.words(), "reshaping {} {:?} to {shape:?}", self.label, self.shape);
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Rows `first` .. `first + rows`, which must start at a multiple of 64 words (the alignment of bindings).
    ///
    /// # Panics
    /// When there are fewer or they start elsewhere: a broken invariant of the caller.
    pub fn rows(&self, first: usize, rows: usize) -> Self {
        let row_words = self.words() / self.shape[0];
        assert!(first + rows <= self.shape[0], "{} has {:?}, asked for rows {first}+{rows}", self.label, self.shape);
        assert!((first * row_words).is_multiple_of(WINDOW_ALIGNMENT_WORDS), "{}: row {first} is unaligned", self.label);
        let mut shape = self.shape.clone();
        shape[0] = rows;
        self.window(&self.label, first * row_words, &shape)
    }

    /// A window that starts `offset_words` in; the offset must satisfy the adapter's binding alignment.
    pub(crate) fn window(&self, label: &str, offset_words: usize, shape: &[usize]) -> Self {
        debug_assert!(offset_words + padded_words(shape) <= self.words());
        Self {
            buffer: self.buffer.clone(),
            offset: self.offset + offset_words as u64 * 4,
            label: label.into(),
            shape: shape.to_vec(),
        }
    }
}

/// Bytes of a tensor of this shape, with padding.
pub fn padded_bytes(shape: &[usize]) -> u64 {
    padded_words(shape) as u64 * 4
}

pub(super) fn padded_words(shape: &[usize]) -> usize {
    let (columns, rows) = shape.split_last().expect("a tensor has at least one dimension");
    rows.iter().product::<usize>() * pitch(*columns)
}

/// Inserts the padding of every row.
pub(super) fn pad<'a, T: Word>(shape: &[usize], values: &'a [T]) -> Cow<'a, [T]> {
    let columns = *shape.last().expect("a tensor has at least one dimension");
    if pitch(columns) == columns {
        return values.into();
    }
    let mut padded = vec![T::zeroed(); padded_words(shape)];
    for (row, source) in padded.chunks_exact_mut(pitch(columns)).zip(values.chunks_exact(columns)) {
        row[..columns].copy_from_slice(source);
    }
    padded.into()
}

/// Removes the padding of every row.
pub(super) fn unpad<T: Word>(shape: &[usize], padded: Vec<T>) -> Vec<T> {
    let columns = *shape.last().expect("a tensor has at least one dimension");
    if pitch(columns) == columns {
        return padded;
    }
    padded.chunks_exact(pitch(columns)).flat_map(|row| &row[..columns]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_inserted_and_removed() {
        let values = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let padded = pad(&[2, 3], &values);
        assert_eq!(*padded, [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0]);
        assert_eq!(unpad(&[2, 3], padded.into_owned()), values);
        assert_eq!(unpad(&[1, 4], vec![1, 2, 3, 4]), [1, 2, 3, 4]);
    }
}
