//! What a profile consists of, and where it is collected.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use glam::UVec3;
use serde::Serialize;

use super::guard::lock;
use super::kernel::{KernelSpec, Variant};
use super::tensor::Tensor;

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

/// All that happened between the two ends of [`Gpu::profile`](super::Gpu::profile).
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
    pub(super) is_on: AtomicBool,
    pub(super) running: Mutex<Option<Running>>,
    pub(super) trusted: OnceLock<Clock>,
}

/// A profile in the making.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) clock: Clock,
    pub(super) began: Instant,
    pub(super) spans: Vec<Span>,
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
    pub(super) profiler: Option<&'g Profiler>,
    pub(super) name: &'static str,
    pub(super) start: f64,
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
