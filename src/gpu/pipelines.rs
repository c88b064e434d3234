//! Making pipelines: composing, compiling, what the driver says; what a submission needs is compiled side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::guard::{self, lock};
use super::kernel::Access;
use super::pipeline::{Compile, LazyPipeline, Pipeline};
use super::source::Form;
use super::{Gpu, GpuError, KernelSpec, Variant, texture};

impl Compile for Gpu {
    fn compile(&self, spec: &'static KernelSpec, variant: &Variant, constants: &[u32]) -> Result<Pipeline, GpuError> {
        tracing::debug!(kernel = variant.name, needs = ?variant.needs, ?constants, "compiling");
        let refused = |reason: String| GpuError::Kernel { kernel: variant.name.into(), reason };
        let mut source = variant.compose(spec, constants).map_err(refused)?;
        if let Some(fault) = self.options.fault.filter(|fault| [spec.name, variant.name].contains(&fault.kernel)) {
            if source.contains(fault.from) {
                self.planted.store(true, Ordering::Relaxed);
            }
            source = source.replace(fault.from, fault.to);
        }
        self.guarded(&format!("compiling {}", variant.name), || self.make_pipeline(spec, variant, source))?
    }
}

impl Gpu {
    /// The one pipeline of a variant for a set of constants, compiled or not.
    pub(super) fn pipeline(
        &self,
        spec: &'static KernelSpec,
        variant: &'static Variant,
        constants: Vec<u32>,
    ) -> Arc<LazyPipeline> {
        let key = (variant.name, variant.needs, constants.clone());
        let new = || Arc::new(LazyPipeline::new(spec, variant, constants));
        Arc::clone(lock(&self.pipelines).entry(key).or_insert_with(new))
    }

    /// Compiles a variant and reports what the compiler or driver says.
    ///
    /// # Errors
    /// The first complaint.
    pub fn compiles(
        &self,
        spec: &'static KernelSpec,
        variant: &'static Variant,
        constants: &[u32],
    ) -> Result<(), GpuError> {
        self.pipeline(spec, variant, constants.to_vec()).compile(self)
    }

    fn make_pipeline(
        &self,
        spec: &'static KernelSpec,
        variant: &Variant,
        source: String,
    ) -> Result<Pipeline, GpuError> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let module = self.module(wgpu::ShaderModuleDescriptor {
            label: Some(variant.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let entry = |binding: u32, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        };
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let uniform = buffer(wgpu::BufferBindingType::Uniform);
        let uniforms = (!spec.params.is_empty()).then(|| entry(0, uniform));
        let bindings: Vec<_> = spec.bindings.iter().map(|binding| (binding, variant.form(binding.name))).collect();
        let tensors = bindings.iter().zip(1..).map(|((binding, form), index)| {
            let read_only = binding.access == Access::Read;
            let ty = match form {
                Form::Storage => buffer(wgpu::BufferBindingType::Storage { read_only }),
                Form::Uniform => uniform,
                Form::Texture => texture::BINDING,
            };
            entry(index, ty)
        });
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(variant.name),
            entries: &uniforms.into_iter().chain(tensors).collect::<Vec<_>>(),
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(variant.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(variant.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(variant.name),
            // Kernels initialise what they use; clearing 16 KiB by one thread is slow on several drivers.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let complaint = pollster::block_on(internal.pop()).or(pollster::block_on(validation.pop()));
        match complaint {
            Some(error) => {
                Err(GpuError::Kernel { kernel: variant.name.into(), reason: guard::one_line(&error.to_string()) })
            }
            None => Ok(Pipeline { name: variant.name, pipeline, layout, bindings }),
        }
    }

    /// A module of one of our kernels. On hardware adapters it gets no checks of indices, divisors and loops: in each loop and at
    /// each access to a workgroup's memory, they take a third of the time of the kernels that live there.
    #[allow(unsafe_code, reason = "the checks have no other switch")]
    fn module(&self, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        if self.summary.software {
            return self.device.create_shader_module(descriptor);
        }
        // SAFETY: only the kernels of this crate come here. Their loops are bounded by sizes that the host gives, they divide by
        // numbers that are not zero, and their indices into arrays follow from the declared tile; where one was wrong, the checks
        // would turn it into a wrong number, which the comparison with the twins finds on software adapters. Accesses to buffers
        // remain bounded by the device, which wgpu opens with robust buffer access.
        unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
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
