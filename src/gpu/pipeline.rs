//! Pipelines, made when the first submission needs them.

use std::sync::OnceLock;

use super::{Binding, Form, GpuError, KernelSpec, Variant};

/// A variant for some values of the constants, compiled once.
pub(super) struct LazyPipeline {
    spec: &'static KernelSpec,
    variant: &'static Variant,
    constants: Vec<u32>,
    outcome: OnceLock<Result<Pipeline, GpuError>>,
}

/// A compiled variant.
pub(super) struct Pipeline {
    pub(super) name: &'static str,
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    /// Tensors in order, each with the form in which it is bound.
    pub(super) bindings: Vec<(&'static Binding, Form)>,
}

/// What compiles a variant for some values of the constants: a device.
pub(super) trait Compile {
    fn compile(&self, spec: &'static KernelSpec, variant: &Variant, constants: &[u32]) -> Result<Pipeline, GpuError>;
}

impl LazyPipeline {
    pub(super) fn new(spec: &'static KernelSpec, variant: &'static Variant, constants: Vec<u32>) -> Self {
        Self { spec, variant, constants, outcome: OnceLock::new() }
    }

    /// Has it compiled, unless that was done.
    pub(super) fn compile(&self, compiler: &impl Compile) -> Result<(), GpuError> {
        let outcome = self.outcome.get_or_init(|| compiler.compile(self.spec, self.variant, &self.constants));
        outcome.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    pub(super) fn is_compiled(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// What [`LazyPipeline::compile`] made.
    pub(super) fn compiled(&self) -> &Pipeline {
        let outcome = self.outcome.get().expect("a submission compiles its kernels first");
        outcome.as_ref().expect("a submission with a kernel that does not compile is refused")
    }
}
