//! One submission: kernels in order, with checks, labels and uniforms.

use super::counting::CountSubmission;
use super::device::{Submission, UNIFORM_ALIGNMENT};
use super::encoding::{Command, Encoding};
use super::kernel::Kernel;
use super::pipelines::compile_side_by_side;
use super::profile::{Clock, Launch, Span, Track};
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

/// Timestamps that one submission takes at most.
const MAX_TIMESTAMPS: usize = 4096;

impl Gpu {
    /// Starts a submission; the label names it in traces.
    pub fn record(&self, label: &'static str) -> Recorder<'_> {
        Recorder::new(self, label)
    }
}

impl<'g> Recorder<'g> {
    pub(super) fn new(gpu: &'g Gpu, label: &'static str) -> Self {
        Self { gpu, label, uniforms: Vec::new(), commands: Vec::new() }
    }

    /// Appends a kernel.
    ///
    /// # Errors
    /// A tensor of another shape than declared, a grid or loop bound over the limits.
    pub fn run<K: Kernel>(&mut self, kernel: &K) -> Result<(), GpuError> {
        self.append(kernel)?;
        match self.gpu.injector.take(K::SPEC, &kernel.arguments()) {
            None => Ok(()),
            Some(tensor) => {
                self.hand_over(1)?;
                self.gpu.spoil(tensor)
            }
        }
    }

    fn append<K: Kernel>(&mut self, kernel: &K) -> Result<(), GpuError> {
        let constants = kernel.constants();
        let arguments = kernel.arguments();
        let variant = self.gpu.variant_for(K::SPEC, &constants, &arguments);
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
        let tensors: Vec<Tensor> = arguments.iter().map(|argument| argument.tensor.clone()).collect();
        let uniform_bytes = words.len() as u64 * 4;
        let launch = self.gpu.profiler().clock().map(|_| {
            let constants = constants.clone();
            Box::new(Launch { spec: K::SPEC, variant, constants, words, tensors: tensors.clone(), grid })
        });
        let pipeline = self.gpu.pipeline(K::SPEC, variant, constants);
        self.commands.push(Command::Dispatch { pipeline, tensors, uniform_offset, uniform_bytes, grid, launch });
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
    /// A kernel that does not compile; whatever the adapter reports: a lost device, a time-out, a validation error.
    pub fn submit(self) -> Result<Submission, GpuError> {
        self.submit_in_pieces(1)
    }

    /// The same as several submissions of about equal numbers of commands, for adapters that end long ones.
    ///
    /// # Errors
    /// As [`Recorder::submit`].
    pub fn submit_in_pieces(mut self, pieces: usize) -> Result<Submission, GpuError> {
        self.hand_over(pieces)
    }

    fn hand_over(&mut self, pieces: usize) -> Result<Submission, GpuError> {
        let work = std::mem::take(&mut self.commands);
        self.append(&CountSubmission { counter: self.gpu.submission_counter() })?;
        let counting = std::mem::take(&mut self.commands);
        self.compile(work.iter().chain(&counting))?;
        match self.gpu.profiler().clock() {
            None => {}
            Some(Clock::Timestamps) => return self.submit_with_timestamps(&work, &counting),
            Some(Clock::WallTime) => return self.submit_one_by_one(&work, &counting),
            Some(Clock::None) => work.iter().for_each(|command| self.note(command, 0.0, 0.0)),
        }
        let length = work.len().div_ceil(pieces.clamp(1, work.len().max(1))).max(1);
        let mut last = None;
        // Without any work the count still has to agree.
        let pieces = if work.is_empty() { vec![&work[..]] } else { work.chunks(length).collect() };
        for piece in pieces {
            last = Some(self.submit_commands(true, &[piece, &counting])?);
        }
        Ok(last.expect("there is at least one piece"))
    }

    /// Compiles what no earlier submission needed, side by side.
    fn compile<'c>(&self, commands: impl Iterator<Item = &'c Command>) -> Result<(), GpuError> {
        let pipelines = commands.filter_map(|command| match command {
            Command::Dispatch { pipeline, .. } => Some(&**pipeline),
            Command::Clear(_) | Command::Copy { .. } => None,
        });
        compile_side_by_side(self.gpu, pipelines)
    }

    fn submit_commands(&self, counted: bool, parts: &[&[Command]]) -> Result<Submission, GpuError> {
        self.gpu.submit_with_uniforms(&self.uniforms, counted, |scene| {
            let mut encoding = Encoding::new(self.gpu, self.label, scene);
            parts.iter().for_each(|part| encoding.commands(part));
            encoding.encoder.finish()
        })
    }

    /// Every command alone, by the host's clock.
    fn submit_one_by_one(&self, work: &[Command], counting: &[Command]) -> Result<Submission, GpuError> {
        self.gpu.wait()?;
        let profiler = self.gpu.profiler();
        for command in work {
            let start = profiler.now();
            self.gpu.wait_for(&self.submit_commands(false, &[std::slice::from_ref(command)])?)?;
            self.note(command, start, profiler.now() - start);
        }
        self.submit_commands(true, &[counting])
    }

    /// Every dispatch between two timestamps of the adapter. Clears and copies have none.
    fn submit_with_timestamps(&self, work: &[Command], counting: &[Command]) -> Result<Submission, GpuError> {
        self.gpu.wait()?;
        let profiler = self.gpu.profiler();
        let is_kernel = |command: &&Command| matches!(command, Command::Dispatch { .. });
        for piece in work.chunks(MAX_TIMESTAMPS / 2) {
            let kernels = piece.iter().filter(is_kernel).count() as u32;
            let stamps = self.gpu.timestamps(2 * kernels.max(1))?;
            let start = profiler.now();
            let submission = self.gpu.submit_with_uniforms(&self.uniforms, false, |scene| {
                let mut encoding = Encoding::new(self.gpu, self.label, scene);
                let mut next = (0..).step_by(2);
                for command in piece {
                    let first = if is_kernel(&command) { next.next() } else { None };
                    let writes = first.map(|first| wgpu::ComputePassTimestampWrites {
                        query_set: &stamps.set,
                        beginning_of_pass_write_index: Some(first),
                        end_of_pass_write_index: Some(first + 1),
                    });
                    encoding.command(command, writes);
                }
                if kernels > 0 {
                    stamps.resolve(&mut encoding.encoder);
                }
                encoding.encoder.finish()
            })?;
            let times = stamps.read(&submission)?;
            for (command, times) in piece.iter().filter(is_kernel).zip(times.chunks_exact(2)) {
                self.note(command, start + times[0], times[1] - times[0]);
            }
        }
        self.submit_commands(true, &[counting])
    }

    fn note(&self, command: &Command, start: f64, seconds: f64) {
        let (name, launch) = match command {
            Command::Dispatch { launch, .. } => {
                (launch.as_ref().map_or("kernel", |launch| launch.spec.name), launch.as_deref().cloned())
            }
            Command::Clear(_) => ("clear", None),
            Command::Copy { .. } => ("copy", None),
        };
        let span = Span { track: Track::Adapter, name, within: self.label, start, seconds, launch };
        self.gpu.profiler().note(span);
    }
}
