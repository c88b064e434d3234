//! One submission: kernels in order, with checks, labels and uniforms.

use std::sync::Arc;

use glam::UVec3;

use super::device::{Pipeline, UNIFORM_ALIGNMENT};
use super::kernel::Kernel;
use super::{Gpu, GpuError, Tensor};

/// llvmpipe ends all loops of an invocation after 65,535 iterations without an error. Hardware has no such bound.
pub const MAX_ITERATIONS: u64 = 60_000;

/// Collects kernels, copies and clears; [`Recorder::submit`] hands them to the adapter as one submission.
///
/// Order is execution order; wgpu places the barriers between dispatches that share tensors.
pub struct Recorder<'g> {
    gpu: &'g Gpu,
    label: &'static str,
    uniforms: Vec<u8>,
    commands: Vec<Command>,
}

/// A submission that was made; wait for it with [`Gpu::wait_for`].
#[derive(Debug, Clone)]
pub struct Submission(pub(super) wgpu::SubmissionIndex);

enum Command {
    Dispatch { pipeline: Arc<Pipeline>, tensors: Vec<Tensor>, uniform_offset: u64, uniform_bytes: u64, grid: UVec3 },
    Clear(Tensor),
    Copy { source: Tensor, destination: Tensor },
}

impl<'g> Recorder<'g> {
    pub(super) fn new(gpu: &'g Gpu, label: &'static str) -> Self {
        Self { gpu, label, uniforms: Vec::new(), commands: Vec::new() }
    }

    /// Appends a kernel.
    ///
    /// # Errors
    /// A tensor of another shape than declared, a grid or loop bound over the limits, a kernel that does not compile.
    pub fn run<K: Kernel>(&mut self, kernel: &K) -> Result<(), GpuError> {
        let constants = kernel.constants();
        let variant = self.gpu.variant_for(K::SPEC, &constants);
        let arguments = kernel.arguments();
        for argument in &arguments {
            if argument.tensor.shape != argument.expected {
                return Err(GpuError::Shape {
                    kernel: K::SPEC.name,
                    argument: argument.name,
                    found: argument.tensor.shape.clone(),
                    expected: argument.expected.clone(),
                });
            }
        }
        let grid = kernel.grid(variant.tile);
        let limit = self.gpu.limits().max_compute_workgroups_per_dimension;
        if grid.max_element() > limit {
            let problem = format!("{grid} workgroups, at most {limit} in each direction");
            return Err(GpuError::Dispatch { kernel: K::SPEC.name, problem });
        }
        let iterations = kernel.iterations();
        if iterations > MAX_ITERATIONS && self.gpu.adapter().software {
            let problem = format!("{iterations} loop iterations an invocation, at most {MAX_ITERATIONS}");
            return Err(GpuError::Dispatch { kernel: K::SPEC.name, problem });
        }
        if grid.min_element() == 0 {
            return Ok(());
        }
        let words = kernel.words();
        let uniform_offset = self.uniforms.len() as u64;
        self.uniforms.extend_from_slice(bytemuck::cast_slice(&words));
        self.uniforms.resize(self.uniforms.len().next_multiple_of(UNIFORM_ALIGNMENT as usize), 0);
        self.commands.push(Command::Dispatch {
            pipeline: self.gpu.pipeline(K::SPEC, variant, constants)?,
            tensors: arguments.iter().map(|argument| argument.tensor.clone()).collect(),
            uniform_offset,
            uniform_bytes: words.len() as u64 * 4,
            grid,
        });
        Ok(())
    }

    /// Appends: set every word of a tensor to zero.
    pub fn clear(&mut self, tensor: &Tensor) {
        self.commands.push(Command::Clear(tensor.clone()));
    }

    /// Appends: copy a tensor into another of equal padded size.
    pub fn copy(&mut self, source: &Tensor, destination: &Tensor) {
        debug_assert_eq!(source.words(), destination.words());
        self.commands.push(Command::Copy { source: source.clone(), destination: destination.clone() });
    }

    /// Hands everything to the adapter. At most a few submissions are in flight: this may wait for an older one.
    ///
    /// # Errors
    /// Whatever the adapter reports: a lost device, a time-out, a validation error.
    pub fn submit(self) -> Result<Submission, GpuError> {
        self.submit_in_pieces(1)
    }

    /// The same as several submissions of about equal numbers of commands, for adapters that end long ones.
    ///
    /// # Errors
    /// As [`Recorder::submit`].
    pub fn submit_in_pieces(mut self, pieces: usize) -> Result<Submission, GpuError> {
        let work = std::mem::take(&mut self.commands);
        self.run(&crate::kernels::CountSubmission { counter: self.gpu.submission_counter() })?;
        let counting = std::mem::take(&mut self.commands);
        let length = work.len().div_ceil(pieces.clamp(1, work.len().max(1))).max(1);
        let mut last = None;
        // Without any work the count still has to agree.
        let pieces = if work.is_empty() { vec![&work[..]] } else { work.chunks(length).collect() };
        for piece in pieces {
            last = Some(self.gpu.submit_with_uniforms(&self.uniforms, |device, arena| {
                let mut encoder =
                    device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(self.label) });
                self.encode(device, arena, &mut encoder, piece);
                self.encode(device, arena, &mut encoder, &counting);
                encoder.finish()
            })?);
        }
        Ok(last.expect("there is at least one piece"))
    }

    fn encode(
        &self,
        device: &wgpu::Device,
        arena: &wgpu::Buffer,
        encoder: &mut wgpu::CommandEncoder,
        commands: &[Command],
    ) {
        let mut rest = commands;
        while let Some(command) = rest.first() {
            let length = match command {
                Command::Clear(tensor) => {
                    encoder.clear_buffer(&tensor.buffer, tensor.offset, Some(tensor.bytes()));
                    1
                }
                Command::Copy { source: from, destination: to } => {
                    encoder.copy_buffer_to_buffer(&from.buffer, from.offset, &to.buffer, to.offset, from.bytes());
                    1
                }
                Command::Dispatch { .. } => {
                    let length = rest.iter().take_while(|c| matches!(c, Command::Dispatch { .. })).count();
                    self.encode_pass(device, arena, encoder, &rest[..length]);
                    length
                }
            };
            rest = &rest[length..];
        }
    }

    fn encode_pass(
        &self,
        device: &wgpu::Device,
        arena: &wgpu::Buffer,
        encoder: &mut wgpu::CommandEncoder,
        dispatches: &[Command],
    ) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some(self.label), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        for command in dispatches {
            let Command::Dispatch { pipeline, tensors, uniform_offset, uniform_bytes, grid } = command else {
                continue;
            };
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &self.bind(device, arena, pipeline, tensors, *uniform_offset, *uniform_bytes), &[]);
            pass.dispatch_workgroups(grid.x, grid.y, grid.z);
        }
    }

    fn bind(
        &self,
        device: &wgpu::Device,
        arena: &wgpu::Buffer,
        pipeline: &Pipeline,
        tensors: &[Tensor],
        uniform_offset: u64,
        uniform_bytes: u64,
    ) -> wgpu::BindGroup {
        let window = |buffer, offset, bytes| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: std::num::NonZeroU64::new(bytes),
            })
        };
        let uniforms = (uniform_bytes > 0)
            .then(|| wgpu::BindGroupEntry { binding: 0, resource: window(arena, uniform_offset, uniform_bytes) });
        let tensors = tensors.iter().zip(1..).map(|(tensor, binding)| wgpu::BindGroupEntry {
            binding,
            resource: window(&tensor.buffer, tensor.offset, self.gpu.binding_bytes(tensor)),
        });
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&pipeline.name),
            layout: &pipeline.layout,
            entries: &uniforms.into_iter().chain(tensors).collect::<Vec<_>>(),
        })
    }
}
