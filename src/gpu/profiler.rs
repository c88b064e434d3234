//! What an adapter was busy with: every kernel with its time, and what the host did meanwhile.
//!
//! Adapters differ in how far their clocks can be trusted. Timestamps around each dispatch are taken where the adapter
//! offers them and [`Gpu::trusted_clock`] found them to agree with the host's clock; elsewhere every dispatch is a submission
//! of its own that the host waits for, so that its time has a round trip in it ([`Clock::WallTime`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use glam::UVec3;
use serde::Serialize;

use super::device::lock;
use super::kernel::{KernelSpec, Variant};
use super::{Gpu, GpuError, Tensor};
use crate::kernels::AddScaled;

/// How kernels are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The adapter's own timestamps at the beginning and the end of each dispatch.
    Timestamps,
    /// The host's clock around a submission of one dispatch and the wait for it.
    WallTime,
    /// Not at all: dispatches are listed, their times are 0.
    None,
}

/// Whose time a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Work of the host, or its waiting.
    Host,
    /// Work of the adapter.
    Adapter,
}

/// A kernel as it was dispatched.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its declaration.
    pub spec: &'static KernelSpec,
    /// The variant that ran.
    pub variant: &'static Variant,
    /// Values of its constants.
    pub constants: Vec<u32>,
    /// Uniforms as words.
    pub words: Vec<u32>,
    /// Tensors in the order of its bindings.
    pub tensors: Vec<Tensor>,
    /// Workgroups.
    pub grid: UVec3,
}

/// A stretch of time with a name.
#[derive(Debug, Clone)]
pub struct Span {
    /// Whose.
    pub track: Track,
    /// Of the kernel, copy, clear or stage of work.
    pub name: &'static str,
    /// Label of the submission that it belongs to; empty for the host's.
    pub within: &'static str,
    /// Since the profile began, s.
    pub start: f64,
    /// Length, s.
    pub seconds: f64,
    /// For kernels.
    pub launch: Option<Launch>,
}

/// All that happened between the two ends of [`Gpu::profile`].
#[derive(Debug, Clone)]
pub struct Profile {
    /// How kernels were timed.
    pub clock: Clock,
    /// In the order of their ends.
    pub spans: Vec<Span>,
}

impl Launch {
    /// A uniform's word, or a constant's value, by its name in the declaration; 0 where there is none.
    pub fn value(&self, name: &str) -> u32 {
        let params = self.spec.params.iter().map(|(param, _)| *param).zip(&self.words);
        let constants = self.spec.constant_names().zip(&self.constants);
        params.chain(constants).find(|(known, _)| *known == name).map_or(0, |(_, &word)| word)
    }

    /// The tensor of a binding.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.spec.bindings.iter().zip(&self.tensors).find(|(binding, _)| binding.name == name).map(|(_, tensor)| tensor)
    }
}

impl Profile {
    /// Kernels alone.
    pub fn launches(&self) -> impl Iterator<Item = (&Span, &Launch)> {
        self.spans.iter().filter_map(|span| Some((span, span.launch.as_ref()?)))
    }
}

/// Where spans are collected while a profile is taken; costs one look at a flag otherwise.
#[derive(Debug, Default)]
pub(super) struct Profiler {
    is_on: AtomicBool,
    running: Mutex<Option<Running>>,
    trusted: OnceLock<Clock>,
}

#[derive(Debug)]
struct Running {
    clock: Clock,
    began: Instant,
    spans: Vec<Span>,
}

impl Profiler {
    /// How kernels are to be timed, while a profile is taken.
    pub(super) fn clock(&self) -> Option<Clock> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.running).as_ref().map(|running| running.clock)
    }

    /// Seconds since the profile began.
    pub(super) fn now(&self) -> f64 {
        lock(&self.running).as_ref().map_or(0.0, |running| running.began.elapsed().as_secs_f64())
    }

    pub(super) fn note(&self, span: Span) {
        if let Some(running) = lock(&self.running).as_mut() {
            running.spans.push(span);
        }
    }
}

/// Ends a span of the host where it goes out of scope.
pub struct HostSpan<'g> {
    profiler: Option<&'g Profiler>,
    name: &'static str,
    start: f64,
}

impl Drop for HostSpan<'_> {
    fn drop(&mut self) {
        if let Some(profiler) = self.profiler {
            let (name, start) = (self.name, self.start);
            let seconds = profiler.now() - start;
            profiler.note(Span { track: Track::Host, name, within: "", start, seconds, launch: None });
        }
    }
}

impl Gpu {
    /// Names what the host does from here to the end of the scope, for a profile.
    #[must_use]
    pub fn span(&self, name: &'static str) -> HostSpan<'_> {
        let profiler = self.profiler();
        let is_on = profiler.is_on.load(Ordering::Relaxed);
        HostSpan { profiler: is_on.then_some(profiler), name, start: if is_on { profiler.now() } else { 0.0 } }
    }

    /// Does some work and tells what it consisted of. Kernels that follow each other without a wait otherwise are timed one
    /// by one here, so that the whole takes longer than the work alone. What other threads do meanwhile is in it too.
    ///
    /// # Errors
    /// Those of the work, a failed adapter, and [`GpuError::Profiled`] where another profile is not finished.
    pub fn profile<T, E: From<GpuError>>(
        &self,
        clock: Clock,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Profile), E> {
        self.wait()?;
        let profiler = self.profiler();
        {
            let mut running = lock(&profiler.running);
            if running.is_some() {
                return Err(GpuError::Profiled.into());
            }
            *running = Some(Running { clock, began: Instant::now(), spans: Vec::new() });
            profiler.is_on.store(true, Ordering::Relaxed);
        }
        let outcome = work();
        profiler.is_on.store(false, Ordering::Relaxed);
        let spans = lock(&profiler.running).take().map_or_else(Vec::new, |running| running.spans);
        Ok((outcome?, Profile { clock, spans }))
    }

    /// The best clock that this adapter has. Timestamps are trusted if, in one of three submissions of at least 20 ms (or of
    /// 1,024 dispatches), all durations are positive and add up to between half of the wall time and 1.05 of it.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn trusted_clock(&self) -> Result<Clock, GpuError> {
        if let Some(&clock) = self.profiler().trusted.get() {
            return Ok(clock);
        }
        let trusted = self.has_timestamps() && self.timestamps_agree()?;
        let clock = match (self.adapter().backend.as_str(), trusted) {
            ("Noop", _) => Clock::None,
            (_, true) => Clock::Timestamps,
            (_, false) => Clock::WallTime,
        };
        tracing::debug!(?clock, "kernels are timed by");
        Ok(*self.profiler().trusted.get_or_init(|| clock))
    }

    /// The same, where it has been asked for before.
    pub fn known_clock(&self) -> Option<Clock> {
        self.profiler().trusted.get().copied()
    }

    fn timestamps_agree(&self) -> Result<bool, GpuError> {
        const LONG: f64 = 0.02;
        const MOST: u32 = 1024;
        // A dispatch must take long next to the pause after it, which is in the wall time alone. Hardware copies 4 MiB in less
        // than its pause of several us, 64 MiB in more than ten times that; software takes about 1 ms for the former.
        let wanted = if self.adapter().software { 4 << 20 } else { 64 << 20 };
        let words = (wanted.min(self.adapter().max_binding_bytes) / 4) as usize;
        let (terms, sums) = (self.tensor("terms", &[words])?, self.tensor("sums", &[words])?);
        let copy = AddScaled { n_values: words as u32, accumulate: 0, scale: 1.0, terms: &terms, sums: &sums };
        let (mut dispatches, mut rounds) = (1, 0);
        // Other processes may come between once or twice. The first round compiles.
        while rounds <= 3 {
            let ((), profile) = self.profile(Clock::Timestamps, || -> Result<(), GpuError> {
                let mut recorder = self.record("calibration");
                (0..dispatches).try_for_each(|_| recorder.run(&copy))?;
                let _span = self.span("calibration");
                recorder.submit().map(drop)
            })?;
            let wall: f64 = profile.spans.iter().filter(|s| s.name == "calibration").map(|s| s.seconds).sum();
            if rounds == 0 || wall < LONG && dispatches < MOST {
                rounds = 1;
                dispatches = (4 * dispatches).min(MOST);
                continue;
            }
            let stamped: f64 = profile.launches().map(|(span, _)| span.seconds).sum();
            let all_positive = profile.launches().all(|(span, _)| span.seconds > 0.0);
            tracing::debug!(dispatches, wall, stamped, all_positive, "timestamps");
            if all_positive && stamped >= 0.5 * wall && stamped <= 1.05 * wall {
                return Ok(true);
            }
            rounds += 1;
        }
        Ok(false)
    }
}
