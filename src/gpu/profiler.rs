//! What an adapter was busy with: every kernel with its time, and what the host did meanwhile.
//!
//! Adapters differ in how far their clocks can be trusted. Timestamps around each dispatch are taken where the adapter
//! offers them and `bench::trusted_clock` found them to agree with the host's clock; elsewhere every dispatch is a submission
//! of its own that the host waits for, so that its time has a round trip in it ([`Clock::WallTime`]).

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::guard::lock;
use super::profile::{Clock, HostSpan, Profile, Running};
use super::{Gpu, GpuError};

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

    /// Keeps which clock was found to be the best; the first finding stays.
    pub(crate) fn trust(&self, clock: Clock) -> Clock {
        *self.profiler().trusted.get_or_init(|| clock)
    }

    /// The best clock that this adapter has, where that has been found out.
    pub fn known_clock(&self) -> Option<Clock> {
        self.profiler().trusted.get().copied()
    }
}
