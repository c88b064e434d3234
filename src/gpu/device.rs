//! An adapter with its device and queue: memory, pipelines, submissions, waiting and reading back.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::GpuError;
use super::adapter::{self, AdapterChoice, AdapterSummary};
use super::bindings::{BindGroups, Scene};
use super::guard::{self, Faults, Held, lock};
use super::injection::Injector;
use super::kernel::{Argument, KernelSpec, Needs, Tuning, Variant};
use super::pipeline::LazyPipeline;
use super::profile::Profiler;
use super::source::Form;
use super::tensor::{Tensor, padded_words};
use super::texture::{Textures, Window};

/// Default minimum alignment of uniform and storage windows in WebGPU.
pub(super) const UNIFORM_ALIGNMENT: u64 = 256;
/// Features that are asked for where the adapter has them; some variants of kernels need one.
const USED_FEATURES: wgpu::Features =
    wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64).union(wgpu::Features::TIMESTAMP_QUERY);
/// More submissions than this are never in flight.
const IN_FLIGHT: usize = 3;
/// Words behind each tensor that no kernel may touch, in poisoned mode.
pub(super) const FENCE_WORDS: usize = 64;
pub(super) const FENCE: u32 = 0xfe9c_efe9;
/// A NaN that shows up wherever a kernel reads what nobody wrote.
const POISON: u32 = 0x7fc0_dead;

/// A mistake to be planted in one kernel, so that a test can be seen to fail. For tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Kernel in whose variants it is planted, wherever the text occurs; or the file stem of one of them.
    pub kernel: &'static str,
    /// Text of the composed WGSL.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

/// How to open an adapter.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// No variant that needs more than this.
    pub variant: Option<Needs>,
    /// What was measured to be fastest on this adapter.
    pub tuning: Tuning,
    /// New tensors are filled with NaN and fenced, to catch kernels that read or write what they should not.
    pub poison: bool,
    /// Longest time that one submission should take: drivers end long ones. 80 ms where absent.
    pub budget: Option<Duration>,
    /// A mistake in one kernel, for tests of the tests.
    pub fault: Option<Fault>,
}

/// An open adapter.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) summary: AdapterSummary,
    limits: wgpu::Limits,
    pub(super) options: GpuOptions,
    faults: Arc<Faults>,
    /// Whether the mistake of the options stands in a kernel that was compiled.
    pub(super) planted: AtomicBool,
    pub(super) timeout: Duration,
    pub(super) pipelines: Mutex<HashMap<PipelineKey, Arc<LazyPipeline>>>,
    pub(super) queue_state: Mutex<QueueState>,
    submission_counter: Tensor,
    profiler: Profiler,
    pub(super) injector: Injector,
    /// Fields are dropped in their order: this one at last.
    _held: Held,
}

/// Name and needs of a variant, and values of the constants.
type PipelineKey = (&'static str, Needs, Vec<u32>);

/// What submissions share.
pub(super) struct QueueState {
    uniform_arena: wgpu::Buffer,
    textures: Textures,
    groups: BindGroups,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    pub(super) submitted: u32,
}

/// A submission that was made; wait for it with [`Gpu::wait_for`].
#[derive(Debug, Clone)]
pub struct Submission(pub(super) wgpu::SubmissionIndex);

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// No adapter, no adapter of that name, or a driver that refuses.
    pub fn open(options: GpuOptions) -> Result<Self, GpuError> {
        let (index, adapter) = adapter::choose(&options.adapter)?;
        let summary = adapter::summarise(index, &adapter);
        let name = summary.name.clone();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("arcsm"),
            required_features: adapter.features() & USED_FEATURES,
            required_limits: limits_of(&adapter.limits()),
            ..Default::default()
        };
        let opened = guard::caught(|| {
            let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| e.to_string())?;
            Ok(Self::with_device(device, queue, summary, options))
        });
        let gave_up = |words| Err(format!("the driver refused a call, and wgpu gave up ({words})"));
        let gpu = opened.unwrap_or_else(gave_up).map_err(|reason| guard::not_opened(&name, &reason))?;
        gpu.guarded(&format!("opening {name}"), || ())?;
        Ok(gpu)
    }

    /// A device that validates everything and executes nothing, for tests without an adapter.
    pub fn noop() -> Self {
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let summary = AdapterSummary {
            index: 0,
            name: "noop".into(),
            backend: "Noop".into(),
            kind: "Other".into(),
            driver: String::new(),
            software: false,
            max_binding_bytes: device.limits().max_storage_buffer_binding_size,
            max_buffer_bytes: device.limits().max_buffer_size,
            subgroup: [0, 0],
        };
        Self::with_device(device, queue, summary, GpuOptions::default())
    }

    fn with_device(device: wgpu::Device, queue: wgpu::Queue, summary: AdapterSummary, options: GpuOptions) -> Self {
        let faults = Faults::of(&device);
        let seconds = std::env::var("ARCSM_GPU_TIMEOUT").ok().and_then(|s| s.parse().ok()).unwrap_or(120);
        let storage = |label: &'static str, bytes, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        };
        let submission_counter = Tensor {
            buffer: storage("submission_counter", 16, STORAGE),
            offset: 0,
            label: "submission_counter".into(),
            shape: vec![4],
        };
        let uniform_arena = storage("uniform_arena", 64 * UNIFORM_ALIGNMENT, UNIFORM);
        Self {
            limits: device.limits(),
            queue_state: Mutex::new(QueueState {
                uniform_arena,
                textures: Textures::default(),
                groups: BindGroups::default(),
                in_flight: VecDeque::new(),
                submitted: 0,
            }),
            pipelines: Mutex::default(),
            timeout: Duration::from_secs(seconds),
            _held: Held { handles: Some((device.clone(), queue.clone())), faults: Arc::clone(&faults) },
            device,
            queue,
            summary,
            options,
            faults,
            planted: AtomicBool::new(false),
            submission_counter,
            profiler: Profiler::default(),
            injector: Injector::default(),
        }
    }

    /// Takes up what was measured to be fastest on this adapter, before its first use.
    #[must_use]
    pub fn tuned(mut self, tuning: Tuning) -> Self {
        self.options.tuning = tuning;
        self
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.summary
    }

    /// Longest time that one submission should take.
    pub fn budget(&self) -> Duration {
        self.options.budget.unwrap_or(Duration::from_millis(80))
    }

    pub(super) fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    pub(super) fn submission_counter(&self) -> &Tensor {
        &self.submission_counter
    }

    pub(super) fn profiler(&self) -> &Profiler {
        &self.profiler
    }

    pub(crate) fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    // ---- memory -----------------------------------------------------------------------------------------------

    /// A new tensor, zero (or NaN in poisoned mode).
    ///
    /// # Errors
    /// A size over the adapter's limits, with the numbers; no memory left.
    pub fn tensor(&self, label: &str, shape: &[usize]) -> Result<Tensor, GpuError> {
        self.check_size(label, padded_words(shape) as u64 * 4, self.limits.max_storage_buffer_binding_size, "binding")?;
        self.allocate(label, shape)
    }

    /// A new tensor that is only bound in windows, so that it may be larger than one binding.
    pub(crate) fn arena(&self, label: &str, words: usize) -> Result<Tensor, GpuError> {
        self.allocate(label, &[words])
    }

    /// Refuses what no single kernel argument could hold.
    pub(crate) fn check_binding(&self, label: &str, shape: &[usize]) -> Result<(), GpuError> {
        self.check_size(label, padded_words(shape) as u64 * 4, self.limits.max_storage_buffer_binding_size, "binding")
    }

    /// Refuses what [`Gpu::arena`] could not hold.
    pub(crate) fn check_arena(&self, label: &str, words: usize) -> Result<(), GpuError> {
        self.check_size(label, words as u64 * 4, self.limits.max_buffer_size, "buffer")
    }

    fn check_size(&self, label: &str, bytes: u64, limit: u64, what: &'static str) -> Result<(), GpuError> {
        if bytes <= limit {
            return Ok(());
        }
        Err(GpuError::TooLarge { label: label.into(), bytes, limit, what, adapter: self.summary.name.clone() })
    }

    fn allocate(&self, label: &str, shape: &[usize]) -> Result<Tensor, GpuError> {
        let words = padded_words(shape);
        let fence = if self.options.poison { FENCE_WORDS } else { 0 };
        let bytes = ((words + fence) as u64 * 4).max(16);
        self.check_size(label, bytes, self.limits.max_buffer_size, "buffer")?;
        tracing::debug!(label, ?shape, bytes, "allocating");
        lock(&self.queue_state).groups.forget();
        let doing = format!("allocating {bytes} bytes for {label}");
        let (buffer, refusal) = self.guarded(&doing, || {
            let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let descriptor =
                wgpu::BufferDescriptor { label: Some(label), size: bytes, usage: STORAGE, mapped_at_creation: false };
            let buffer = self.device.create_buffer(&descriptor);
            (buffer, pollster::block_on(scope.pop()))
        })?;
        if refusal.is_some() {
            return Err(GpuError::OutOfMemory { doing });
        }
        let tensor = Tensor { buffer, offset: 0, label: label.into(), shape: shape.to_vec() };
        if self.options.poison {
            let mut content = vec![POISON; words];
            content.extend([FENCE; FENCE_WORDS]);
            self.write_words(&tensor.buffer, 0, bytemuck::cast_slice(&content))?;
        }
        Ok(tensor)
    }

    /// What a kernel sees of a tensor: in poisoned mode the fence too, so that overruns show.
    pub(super) fn window(&self, tensor: &Tensor) -> Window {
        let fence = if self.options.poison { FENCE_WORDS as u64 * 4 } else { 0 };
        let bytes = (tensor.bytes() + fence).min(tensor.buffer.size() - tensor.offset);
        Window { buffer: tensor.buffer.clone(), offset: tensor.offset, bytes }
    }

    // ---- kernels ----------------------------------------------------------------------------------------------

    /// Whether the adapter has what a variant needs.
    pub fn offers(&self, needs: Needs) -> bool {
        match needs {
            Needs::Baseline => true,
            Needs::Workgroup => !self.summary.software || self.options.variant == Some(needs),
            Needs::CpuSubgroups | Needs::CpuTextures => {
                let has_subgroups = self.device.features().contains(wgpu::Features::SUBGROUP);
                has_subgroups && self.summary.software && self.summary.subgroup == [8, 8]
            }
            Needs::CpuPrivate => {
                self.offers(Needs::CpuTextures) && self.device.features().contains(wgpu::Features::SHADER_INT64)
            }
        }
    }

    /// The variant of a kernel that this adapter runs whatever the values of the constants.
    pub fn variant(&self, spec: &'static KernelSpec) -> &'static Variant {
        self.variant_for_net(spec, false)
    }

    /// The same where it is known whether the score network is small (see [`Variant::wants_small_net`]).
    pub fn variant_for_net(&self, spec: &'static KernelSpec, is_small: bool) -> &'static Variant {
        self.choose(spec, |variant| is_small || !variant.wants_small_net(spec))
    }

    /// The variants that this adapter runs, each for some values of the constants.
    pub fn variants(&self, spec: &'static KernelSpec) -> &'static [Variant] {
        let place = |chosen: &Variant| spec.variants.iter().position(|variant| variant.needs == chosen.needs);
        let place = |chosen| place(chosen).expect("it is one of them");
        &spec.variants[place(self.choose(spec, |_| true))..=place(self.variant(spec))]
    }

    /// The variant of a kernel that this adapter runs with these values of the constants and these tensors: networks that are
    /// not small fit no thread's own memory, and the largest tensors do not fit textures.
    pub(super) fn variant_for(
        &self,
        spec: &'static KernelSpec,
        constants: &[u32],
        arguments: &[Argument<'_>],
    ) -> &'static Variant {
        self.choose(spec, |variant| {
            let mut in_textures = arguments.iter().filter(|argument| variant.form(argument.name) == Form::Texture);
            let fit = in_textures.all(|argument| self.window(argument.tensor).fits_texture());
            variant.serves(spec, constants) && fit
        })
    }

    /// The rule: of the variants that serve, that the adapter offers and that need no more than the pinned one, the one that was
    /// measured to be the fastest, else the first of the list.
    fn choose(&self, spec: &'static KernelSpec, serves: impl Fn(&Variant) -> bool) -> &'static Variant {
        let most = self.options.variant.unwrap_or(Needs::ALL[0]);
        let is_usable = |variant: &&Variant| serves(variant) && variant.needs <= most && self.offers(variant.needs);
        let usable = || spec.variants.iter().filter(is_usable);
        let measured = self.options.tuning.variants.get(spec.name);
        let measured = measured.and_then(|&needs| usable().find(|variant| variant.needs == needs));
        measured.or_else(|| usable().next()).expect("every kernel has a baseline variant")
    }

    /// Workgroups that keep all of the adapter's cores busy, as measured; else roughly: one a core where a CPU does the work.
    pub fn parallel_groups(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let assumed = || if self.summary.software { cores() } else { 64 };
        self.options.tuning.parallel_groups.unwrap_or_else(assumed).max(1)
    }

    // ---- submissions ------------------------------------------------------------------------------------------

    /// Writes the uniforms and submits what `encode` makes, as one atomic step; `counted` where that ends with the kernel that
    /// counts submissions.
    pub(super) fn submit_with_uniforms(
        &self,
        uniforms: &[u8],
        counted: bool,
        encode: impl FnOnce(Scene<'_>) -> wgpu::CommandBuffer,
    ) -> Result<Submission, GpuError> {
        let span = self.span("encode and submit");
        let mut state = lock(&self.queue_state);
        let index = self.guarded("encoding and submitting work", || {
            let QueueState { uniform_arena, textures, groups, .. } = &mut *state;
            if (uniforms.len() as u64) > uniform_arena.size() {
                groups.forget();
                *uniform_arena = self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("uniform_arena"),
                    size: (uniforms.len() as u64).next_power_of_two(),
                    usage: UNIFORM,
                    mapped_at_creation: false,
                });
            }
            self.queue.write_buffer(uniform_arena, 0, uniforms);
            let commands = encode(Scene { device: &self.device, uniforms: uniform_arena, textures, groups });
            textures.forget();
            self.queue.submit([commands])
        })?;
        state.submitted = state.submitted.wrapping_add(u32::from(counted));
        state.in_flight.push_back(index.clone());
        let oldest = if state.in_flight.len() > IN_FLIGHT { state.in_flight.pop_front() } else { None };
        drop(state);
        drop(span);
        if let Some(oldest) = oldest {
            self.poll(Some(oldest))?;
        }
        Ok(Submission(index))
    }

    /// Waits until a submission is done.
    ///
    /// # Errors
    /// A failed adapter or a time-out.
    pub fn wait_for(&self, submission: &Submission) -> Result<(), GpuError> {
        self.poll(Some(submission.0.clone()))
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// A failed adapter or a time-out.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(None)
    }

    /// The only place that polls, and so the one where callbacks tell what happened.
    pub(super) fn poll(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let _span = self.span("wait");
        let wait = wgpu::PollType::Wait { submission_index, timeout: Some(self.timeout) };
        let outcome = self.guarded("waiting for work", || self.device.poll(wait))?;
        outcome.map(drop).map_err(|_| GpuError::Timeout { seconds: self.timeout.as_secs() })
    }

    /// Makes calls of wgpu, none of which may be made elsewhere once a device is open, and looks at what became of it.
    pub(super) fn guarded<T>(&self, doing: &str, calls: impl FnOnce() -> T) -> Result<T, GpuError> {
        self.faults.guarded(doing, calls)
    }

    /// Whether the mistake of [`GpuOptions::fault`] stands in a kernel that was compiled; for tests.
    pub fn fault_was_planted(&self) -> bool {
        self.planted.load(Ordering::Relaxed)
    }

    /// Gives the device up, as a driver reset would; for tests of what happens then.
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

const STORAGE: wgpu::BufferUsages =
    // Small networks' weights are read as uniforms.
    wgpu::BufferUsages::STORAGE.union(UNIFORM).union(wgpu::BufferUsages::COPY_SRC);
const UNIFORM: wgpu::BufferUsages = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);

/// WebGPU's defaults, with the sizes of memory raised to what the adapter has, field by field.
fn limits_of(adapter: &wgpu::Limits) -> wgpu::Limits {
    wgpu::Limits {
        max_buffer_size: adapter.max_buffer_size,
        max_storage_buffer_binding_size: adapter.max_storage_buffer_binding_size,
        ..wgpu::Limits::default()
    }
}
