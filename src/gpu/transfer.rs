//! Values on their way to the adapter and back.

use std::sync::mpsc;

use super::device::{FENCE, FENCE_WORDS, Gpu, Submission};
use super::guard::lock;
use super::tensor::{Tensor, Word, pad, padded_words, unpad};
use super::{GpuError, pitch};

/// Uploads are handed over in pieces of this size, so that staging memory stays small.
const UPLOAD_BYTES: usize = 16 << 20;

/// A copy to the host that is under way, or why it is not.
pub struct PendingRead(Result<Copying, GpuError>);

struct Copying {
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    submitted: u32,
    windows: Vec<(u64, Vec<usize>)>,
}

impl Gpu {
    /// A new tensor with these values (row-major, without padding).
    ///
    /// # Errors
    /// As [`Gpu::tensor`].
    pub fn upload<T: Word>(&self, label: &str, shape: &[usize], values: &[T]) -> Result<Tensor, GpuError> {
        let tensor = self.tensor(label, shape)?;
        self.write(&tensor, values)?;
        Ok(tensor)
    }

    /// Overwrites a tensor with values (row-major, without padding), before the next submission.
    ///
    /// # Errors
    /// A failed adapter.
    ///
    /// # Panics
    /// When the number of values is not the tensor's: a broken invariant of the caller.
    pub fn write<T: Word>(&self, tensor: &Tensor, values: &[T]) -> Result<(), GpuError> {
        assert_eq!(values.len(), tensor.elements(), "values for {} {:?}", tensor.label, tensor.shape);
        self.write_words(&tensor.buffer, tensor.offset, bytemuck::cast_slice(&pad(&tensor.shape, values)))
    }

    pub(super) fn write_words(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let _span = self.span("upload");
        for (piece, index) in bytes.chunks(UPLOAD_BYTES).zip(0_u64..) {
            let is_large = bytes.len() > UPLOAD_BYTES;
            self.guarded("uploading", || {
                self.queue.write_buffer(buffer, offset + index * UPLOAD_BYTES as u64, piece);
                if is_large {
                    self.queue.submit([]);
                }
            })?;
            if is_large {
                self.wait()?;
            }
        }
        Ok(())
    }

    /// Reads a tensor back and waits for it.
    ///
    /// # Errors
    /// A failed adapter; values that may be stale are never returned.
    pub fn read<T: Word>(&self, tensor: &Tensor) -> Result<Vec<T>, GpuError> {
        Ok(self.finish_read(self.begin_read(&[tensor]))?.swap_remove(0))
    }

    /// Starts copying tensors to the host, after everything submitted so far; [`Gpu::finish_read`] tells what failed.
    pub fn begin_read(&self, tensors: &[&Tensor]) -> PendingRead {
        PendingRead(self.guarded("reading back", || self.copy_to_host(tensors)))
    }

    fn copy_to_host(&self, tensors: &[&Tensor]) -> Copying {
        let mut windows = Vec::new();
        let mut bytes = 16;
        for tensor in tensors {
            windows.push((bytes, tensor.shape.clone()));
            bytes += tensor.bytes();
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read_back"),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read_back") });
        encoder.copy_buffer_to_buffer(&self.submission_counter().buffer, 0, &staging, 0, 16);
        for (tensor, (offset, _)) in tensors.iter().zip(&windows) {
            encoder.copy_buffer_to_buffer(&tensor.buffer, tensor.offset, &staging, *offset, tensor.bytes());
        }
        let state = lock(&self.queue_state);
        let submission = self.queue.submit([encoder.finish()]);
        Copying { staging, submission, submitted: state.submitted, windows }
    }

    /// Waits for a copy and returns the tensors without padding.
    ///
    /// # Errors
    /// A failed adapter; values that may be stale are never returned.
    pub fn finish_read<T: Word>(&self, read: PendingRead) -> Result<Vec<Vec<T>>, GpuError> {
        let read = read.0?;
        self.map(&read.staging, &read.submission)?;
        self.guarded("reading back", || self.mapped(&read))?
    }

    /// Maps a buffer as soon as a submission is done, and waits for it.
    fn map(&self, staging: &wgpu::Buffer, submission: &wgpu::SubmissionIndex) -> Result<(), GpuError> {
        let (sender, receiver) = mpsc::channel();
        self.guarded("mapping memory", || {
            staging.slice(..).map_async(wgpu::MapMode::Read, move |outcome| drop(sender.send(outcome)));
        })?;
        self.poll(Some(submission.clone()))?;
        // The copy is done, but its callback may be in the hands of another thread that polls at the same time.
        match receiver.recv_timeout(self.timeout) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                self.guarded("mapping memory", || ())?;
                Err(GpuError::Lost { doing: "mapping memory".into(), reason: "the driver gave no reason".into() })
            }
            Err(_) => Err(GpuError::Timeout { seconds: self.timeout.as_secs() }),
        }
    }

    /// What was copied, unless the adapter left out something that was submitted before.
    fn mapped<T: Word>(&self, read: &Copying) -> Result<Vec<Vec<T>>, GpuError> {
        let view = read.staging.slice(..).get_mapped_range().map_err(|e| GpuError::Reported(e.to_string()))?;
        let executed = bytemuck::pod_read_unaligned::<u32>(&view[..4]);
        if executed != read.submitted && self.summary.backend != "Noop" {
            let missing = read.submitted.wrapping_sub(executed);
            return Err(GpuError::Dropped { missing, submitted: read.submitted });
        }
        let tensors = read.windows.iter().map(|(offset, shape)| {
            let start = *offset as usize;
            unpad(shape, bytemuck::pod_collect_to_vec::<u8, T>(&view[start..start + padded_words(shape) * 4]))
        });
        let values = tensors.collect();
        drop(view);
        read.staging.unmap();
        Ok(values)
    }

    /// In poisoned mode: whether the words behind the tensor are untouched, and its padding zero.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn is_intact(&self, tensor: &Tensor) -> Result<bool, GpuError> {
        let words = tensor.words();
        let fence = if self.options.poison { FENCE_WORDS } else { 0 };
        let whole = Tensor { shape: vec![words + fence], ..tensor.clone() };
        let content: Vec<u32> = self.read(&whole)?;
        let columns = *tensor.shape.last().unwrap_or(&1);
        let padding_is_zero =
            content[..words].chunks_exact(pitch(columns)).all(|row| row[columns..].iter().all(|&word| word == 0));
        Ok(padding_is_zero && content[words..].iter().all(|&word| word == FENCE))
    }

    /// A clock of the adapter: what to write into it, and how to read it.
    pub(super) fn timestamps(&self, count: u32) -> Result<Timestamps<'_>, GpuError> {
        let size = u64::from(count) * 8;
        let buffer = |label, usage| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let ty = wgpu::QueryType::Timestamp;
        self.guarded("making a clock", || Timestamps {
            gpu: self,
            set: self.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("timestamps"), ty, count }),
            resolved: buffer("timestamps", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer("read_timestamps", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            count,
        })
    }
}

/// Times that the adapter notes while it works through one submission.
pub(super) struct Timestamps<'g> {
    gpu: &'g Gpu,
    pub(super) set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    count: u32,
}

impl Timestamps<'_> {
    /// To be encoded after the last one is written.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.set, 0..self.count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, u64::from(self.count) * 8);
    }

    /// Waits for a submission and gives its times, s, from an origin of the adapter's.
    pub(super) fn read(self, submission: &Submission) -> Result<Vec<f64>, GpuError> {
        self.gpu.map(&self.staging, &submission.0)?;
        let (ticks, period) = self.gpu.guarded("reading a clock", || {
            let view = self.staging.slice(..).get_mapped_range().map_err(|e| GpuError::Reported(e.to_string()))?;
            Ok::<_, GpuError>((bytemuck::pod_collect_to_vec::<u8, u64>(&view), self.gpu.queue.get_timestamp_period()))
        })??;
        let period = f64::from(period) * 1e-9;
        // Small numbers first: f64 has no room for nanoseconds since an adapter was started years ago.
        let first = ticks.iter().copied().min().unwrap_or(0);
        Ok(ticks.iter().map(|tick| (tick - first) as f64 * period).collect())
    }
}
