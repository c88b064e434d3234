//! Which clock of an adapter can be trusted.

use crate::gpu::{Clock, Gpu, GpuError};
use crate::kernels::AddScaled;

/// The best clock that this adapter has. Timestamps are trusted if, in one of three submissions of at least 20 ms (or of
/// 1,024 dispatches), all durations are positive and add up to between half of the wall time and 1.05 of it.
///
/// # Errors
/// A failed adapter.
pub fn trusted_clock(gpu: &Gpu) -> Result<Clock, GpuError> {
    if let Some(clock) = gpu.known_clock() {
        return Ok(clock);
    }
    let trusted = gpu.has_timestamps() && timestamps_agree(gpu)?;
    let clock = match (gpu.adapter().backend.as_str(), trusted) {
        ("Noop", _) => Clock::None,
        (_, true) => Clock::Timestamps,
        (_, false) => Clock::WallTime,
    };
    tracing::debug!(?clock, "kernels are timed by");
    Ok(gpu.trust(clock))
}

/// Whether timestamps of long dispatches add up to what the host measures.
fn timestamps_agree(gpu: &Gpu) -> Result<bool, GpuError> {
    const LONG: f64 = 0.02;
    const MOST: u32 = 1024;
    // A dispatch must take long next to the pause after it, which is in the wall time alone. Hardware copies 4 MiB in less
    // than its pause of several us, 64 MiB in more than ten times that; software takes about 1 ms for the former.
    let wanted = if gpu.adapter().software { 4 << 20 } else { 64 << 20 };
    let words = (wanted.min(gpu.adapter().max_binding_bytes) / 4) as usize;
    let (terms, sums) = (gpu.tensor("terms", &[words])?, gpu.tensor("sums", &[words])?);
    let copy = AddScaled { n_values: words as u32, accumulate: 0, scale: 1.0, terms: &terms, sums: &sums };
    let (mut dispatches, mut rounds) = (1, 0);
    // Other processes may come between once or twice. The first round compiles.
    while rounds <= 3 {
        let ((), profile) = gpu.profile(Clock::Timestamps, || -> Result<(), GpuError> {
            let mut recorder = gpu.record("calibration");
            (0..dispatches).try_for_each(|_| recorder.run(&copy))?;
            let _span = gpu.span("calibration");
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
