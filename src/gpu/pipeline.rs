//! Pipelines, made when the first submission needs them: what it needs is compiled side by side.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Binding, Form, Gpu, GpuError, KernelSpec, Variant};

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

impl LazyPipeline {
    pub(super) fn new(spec: &'static KernelSpec, variant: &'static Variant, constants: Vec<u32>) -> Self {
        Self { spec, variant, constants, outcome: OnceLock::new() }
    }

    /// Compiles it, unless that was done.
    pub(super) fn compile(&self, gpu: &Gpu) -> Result<(), GpuError> {
        let outcome = self.outcome.get_or_init(|| gpu.compile(self.spec, self.variant, &self.constants));
        outcome.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn is_compiled(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// What [`LazyPipeline::compile`] made.
    pub(super) fn compiled(&self) -> &Pipeline {
        let outcome = self.outcome.get().expect("a submission compiles its kernels first");
        outcome.as_ref().expect("a submission with a kernel that does not compile is refused")
    }
}

/// Compiles what is not compiled yet on as many threads as the host has: a driver takes milliseconds to seconds for each.
///
/// # Errors
/// The complaint about the first that does not compile.
pub(super) fn compile_side_by_side<'p>(
    gpu: &Gpu,
    pipelines: impl Iterator<Item = &'p LazyPipeline>,
) -> Result<(), GpuError> {
    let mut missing: Vec<&LazyPipeline> = Vec::new();
    for pipeline in pipelines {
        if pipeline.is_compiled() {
            pipeline.compile(gpu)?;
        } else if !missing.iter().any(|other| std::ptr::eq(*other, pipeline)) {
            missing.push(pipeline);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let _span = gpu.span("make pipelines");
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(pipeline) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Kept in the pipeline, and looked at below.
                    let _ = pipeline.compile(gpu);
                }
            });
        }
    });
    missing.iter().try_for_each(|pipeline| pipeline.compile(gpu))
}
