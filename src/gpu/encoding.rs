//! A submission in the making: passes, bind groups, copies.

use std::sync::Arc;

use glam::UVec3;

use super::bindings::{Bound, Scene};
use super::kernel::Access;
use super::pipeline::{LazyPipeline, Pipeline};
use super::profile::Launch;
use super::source::Form;
use super::texture::Window;
use super::{Gpu, Tensor};

/// A step of a submission.
pub(super) enum Command {
    Dispatch {
        pipeline: Arc<LazyPipeline>,
        tensors: Vec<Tensor>,
        uniform_offset: u64,
        uniform_bytes: u64,
        grid: UVec3,
        /// While a profile is taken.
        launch: Option<Box<Launch>>,
    },
    Clear(Tensor),
    Copy {
        source: Tensor,
        destination: Tensor,
    },
}

/// A submission in the making.
pub(super) struct Encoding<'a> {
    gpu: &'a Gpu,
    label: &'static str,
    scene: Scene<'a>,
    pub(super) encoder: wgpu::CommandEncoder,
}

impl<'a> Encoding<'a> {
    pub(super) fn new(gpu: &'a Gpu, label: &'static str, scene: Scene<'a>) -> Self {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
        let encoder = scene.device.create_command_encoder(&descriptor);
        Self { gpu, label, scene, encoder }
    }

    /// Appends commands in order.
    pub(super) fn commands(&mut self, commands: &[Command]) {
        let mut rest = commands;
        while !rest.is_empty() {
            let encoded = match &rest[0] {
                Command::Dispatch { .. } => self.pass(rest, None),
                other => self.command(other, None),
            };
            rest = &rest[encoded..];
        }
    }

    /// Appends one command, a dispatch in a pass of its own.
    pub(super) fn command(
        &mut self,
        command: &Command,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> usize {
        match command {
            Command::Clear(tensor) => {
                self.encoder.clear_buffer(&tensor.buffer, tensor.offset, Some(tensor.bytes()));
                self.scene.textures.wrote(tensor);
            }
            Command::Copy { source: from, destination: to } => {
                self.encoder.copy_buffer_to_buffer(&from.buffer, from.offset, &to.buffer, to.offset, from.bytes());
                self.scene.textures.wrote(to);
            }
            Command::Dispatch { .. } => return self.pass(std::slice::from_ref(command), timestamp_writes),
        }
        1
    }

    /// As many dispatches as one pass can hold, and their number: nothing can be copied within a pass, so a dispatch that needs
    /// a tensor in a texture begins one.
    fn pass(&mut self, commands: &[Command], timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>) -> usize {
        let mut dispatches = Vec::new();
        for command in commands {
            let Command::Dispatch { pipeline, tensors, uniform_offset, uniform_bytes, grid, .. } = command else {
                break;
            };
            let pipeline = pipeline.compiled();
            let windows: Vec<_> = self.texture_windows(pipeline, tensors).collect();
            for window in windows {
                if self.scene.textures.find(&window).is_some() {
                    continue;
                }
                if !dispatches.is_empty() {
                    return self.dispatch(&dispatches, timestamp_writes);
                }
                self.scene.textures.copy(self.scene.device, &mut self.encoder, window);
            }
            dispatches.push((pipeline, self.bind(pipeline, tensors, *uniform_offset, *uniform_bytes), grid));
            let written =
                pipeline.bindings.iter().zip(tensors).filter(|((binding, _), _)| binding.access != Access::Read);
            written.for_each(|(_, tensor)| self.scene.textures.wrote(tensor));
        }
        self.dispatch(&dispatches, timestamp_writes)
    }

    fn dispatch(
        &mut self,
        dispatches: &[(&Pipeline, wgpu::BindGroup, &UVec3)],
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> usize {
        let descriptor = wgpu::ComputePassDescriptor { label: Some(self.label), timestamp_writes };
        let mut pass = self.encoder.begin_compute_pass(&descriptor);
        for (pipeline, group, grid) in dispatches {
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(grid.x, grid.y, grid.z);
        }
        dispatches.len()
    }

    /// What a kernel reads as textures.
    fn texture_windows(&self, pipeline: &Pipeline, tensors: &[Tensor]) -> impl Iterator<Item = Window> {
        let textures = pipeline.bindings.iter().zip(tensors).filter(|((_, form), _)| *form == Form::Texture);
        textures.map(|(_, tensor)| self.gpu.window(tensor))
    }

    /// A bind group, made or kept. Textures hold one tensor now and another then: groups with textures are not kept.
    fn bind(
        &mut self,
        pipeline: &Pipeline,
        tensors: &[Tensor],
        uniform_offset: u64,
        uniform_bytes: u64,
    ) -> wgpu::BindGroup {
        let windows: Vec<_> = tensors.iter().map(|tensor| self.gpu.window(tensor)).collect();
        let bound = Bound { pipeline: pipeline.pipeline.clone(), uniform_offset, windows };
        if let Some(group) = self.scene.groups.find(&bound) {
            return group.clone();
        }
        let group = self.new_group(pipeline, &bound, uniform_bytes);
        if pipeline.bindings.iter().all(|(_, form)| *form != Form::Texture) {
            self.scene.groups.keep(bound, group.clone());
        }
        group
    }

    fn new_group(&mut self, pipeline: &Pipeline, bound: &Bound, uniform_bytes: u64) -> wgpu::BindGroup {
        let buffer = |buffer, offset, bytes| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: std::num::NonZeroU64::new(bytes),
            })
        };
        let view = |((_, form), window): (&(_, Form), &Window)| match form {
            Form::Texture => Some(self.scene.textures.find(window).expect("it was copied before")),
            Form::Storage | Form::Uniform => None,
        };
        let views: Vec<_> = pipeline.bindings.iter().zip(&bound.windows).map(view).collect();
        let uniforms = (uniform_bytes > 0).then(|| wgpu::BindGroupEntry {
            binding: 0,
            resource: buffer(self.scene.uniforms, bound.uniform_offset, uniform_bytes),
        });
        let tensors = bound.windows.iter().zip(&views).zip(1..).map(|((window, view), binding)| {
            let whole = || buffer(&window.buffer, window.offset, window.bytes);
            let resource = view.as_ref().map_or_else(whole, wgpu::BindingResource::TextureView);
            wgpu::BindGroupEntry { binding, resource }
        });
        self.scene.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(pipeline.name),
            layout: &pipeline.layout,
            entries: &uniforms.into_iter().chain(tensors).collect::<Vec<_>>(),
        })
    }
}
