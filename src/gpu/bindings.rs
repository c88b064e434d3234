//! What a submission binds: groups that are kept between steps, and what it is encoded with.

use std::collections::HashMap;

use super::texture::{Textures, Window};

/// Bind groups are kept up to this many, a multiple of what steps of training and sampling take.
const KEPT: usize = 4096;

/// Bind groups of earlier dispatches: steps repeat themselves but for the values of their uniforms, and making the groups is
/// about half of the host's work. They keep the buffers of dropped tensors, so whoever allocates a tensor forgets them before.
#[derive(Default)]
pub(super) struct BindGroups(HashMap<Bound, wgpu::BindGroup>);

/// What a group binds: uniforms from an offset on, whose size the pipeline tells, and tensors.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Bound {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) uniform_offset: u64,
    pub(super) windows: Vec<Window>,
}

impl BindGroups {
    /// The one that binds this, where it is kept.
    pub(super) fn find(&self, bound: &Bound) -> Option<&wgpu::BindGroup> {
        self.0.get(bound)
    }

    /// Drops all of them.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Keeps one, and of too many none of before.
    pub(super) fn keep(&mut self, bound: Bound, group: wgpu::BindGroup) {
        if self.0.len() >= KEPT {
            self.forget();
        }
        self.0.insert(bound, group);
    }
}

/// What a submission is encoded with, one at a time.
pub(super) struct Scene<'a> {
    pub(super) device: &'a wgpu::Device,
    /// Uniforms of all its kernels.
    pub(super) uniforms: &'a wgpu::Buffer,
    pub(super) textures: &'a mut Textures,
    pub(super) groups: &'a mut BindGroups,
}
