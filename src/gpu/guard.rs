//! Calls of wgpu where a driver may fail: none of them panics through us, and none fails unnoticed.
//!
//! wgpu tells of failures in four ways. Some calls return them; most leave them to callbacks of the device
//! ([`Faults`]); where a device is lost some calls do nothing and say nothing, so that the callbacks have to be looked
//! at after each; and some panic: while wgpu waits, where a command buffer cannot be begun, where a device that is half
//! made is torn down.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use super::GpuError;

/// How a call of wgpu ended that did not return.
#[derive(Debug, Default)]
enum Guard {
    /// No guarded call is under way.
    #[default]
    Off,
    /// One is.
    On,
    /// It panicked, with these words.
    Said(String),
}

thread_local! {
    static GUARD: Cell<Guard> = const { Cell::new(Guard::Off) };
}

/// Makes calls of wgpu; where it panics in them, gives what it said and prints nothing. Our own mistakes panic as they
/// always do, aloud and on.
pub(super) fn caught<T>(calls: impl FnOnce() -> T) -> Result<T, String> {
    hush();
    let before = GUARD.replace(Guard::On);
    let outcome = panic::catch_unwind(AssertUnwindSafe(calls));
    match (outcome, GUARD.replace(before)) {
        (Ok(value), _) => Ok(value),
        (Err(_), Guard::Said(words)) => Err(words),
        (Err(payload), Guard::Off | Guard::On) => panic::resume_unwind(payload),
    }
}

/// Sees to it, once, that panics in guarded calls are not printed.
fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match GUARD.replace(Guard::Off) {
            Guard::On if !is_ours(panic) => {
                GUARD.set(Guard::Said(one_line(panic.payload_as_str().unwrap_or("no reason given"))));
            }
            // A second panic while the first is unwound: the first one is the cause.
            Guard::Said(words) => GUARD.set(Guard::Said(words)),
            guard => {
                GUARD.set(guard);
                usual(panic);
            }
        }));
    });
}

/// Whether a panic began in this crate, and not in one that it calls.
fn is_ours(panic: &PanicHookInfo<'_>) -> bool {
    let sources = Path::new(file!()).ancestors().nth(2);
    panic.location().zip(sources).is_some_and(|(place, sources)| Path::new(place.file()).starts_with(sources))
}

/// Reports of wgpu have many lines; ours have one.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What went wrong with a device. The first failure is the cause of all that follow, and is told again each time.
#[derive(Debug, Default)]
pub(super) struct Faults {
    lost: Mutex<Option<String>>,
    reported: Mutex<Option<String>>,
    broken: Mutex<Option<String>>,
    told: Mutex<Option<GpuError>>,
}

impl Faults {
    /// Listens to a device.
    pub(super) fn of(device: &wgpu::Device) -> Arc<Self> {
        let faults = Arc::new(Self::default());
        let on_error = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error.report(&error)));
        let on_lost = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            let reason = format!("{reason:?}");
            on_lost.lose(if message.is_empty() { &reason } else { &message });
        });
        faults
    }

    /// Takes an error outside any scope.
    fn report(&self, error: &wgpu::Error) {
        let words = match error {
            wgpu::Error::OutOfMemory { .. } => "out of memory".to_owned(),
            other => one_line(&other.to_string()),
        };
        lock(&self.reported).get_or_insert(words);
    }

    fn lose(&self, reason: &str) {
        lock(&self.lost).get_or_insert_with(|| one_line(reason));
    }

    /// The device's failure, if it has one; what is being done now is what failed, where nobody asked before.
    pub(super) fn seen(&self, doing: &str) -> Option<GpuError> {
        let mut told = lock(&self.told);
        if told.is_none() {
            *told = self.first(doing);
        }
        told.clone()
    }

    fn first(&self, doing: &str) -> Option<GpuError> {
        let doing = || doing.to_owned();
        // A device is lost, then calls fail because of it, then wgpu panics because of those.
        let lost = || lock(&self.lost).clone().map(|reason| GpuError::Lost { doing: doing(), reason });
        let reported = || lock(&self.reported).clone().map(GpuError::Reported);
        let broken = || lock(&self.broken).clone().map(|reason| GpuError::Broken { doing: doing(), reason });
        let first = lost().or_else(reported).or_else(broken)?;
        // Where memory is short wgpu loses the device or panics, and says why in words alone.
        let (GpuError::Lost { reason, .. } | GpuError::Broken { reason, .. } | GpuError::Reported(reason)) = &first
        else {
            return Some(first);
        };
        Some(if is_out_of_memory(reason) { GpuError::OutOfMemory { doing: doing() } } else { first })
    }

    /// Makes calls of wgpu and looks at what became of the device.
    ///
    /// # Errors
    /// A panic of wgpu, and whatever the device has failed by, now or before.
    pub(super) fn guarded<T>(&self, doing: &str, calls: impl FnOnce() -> T) -> Result<T, GpuError> {
        let outcome = caught(calls).map_err(|words| {
            lock(&self.broken).get_or_insert(words);
        });
        match (self.seen(doing), outcome) {
            (Some(error), _) => Err(error),
            (None, Ok(value)) => Ok(value),
            (None, Err(())) => unreachable!("what was caught is seen"),
        }
    }
}

/// Why a device could not be opened, from wgpu's words.
pub(super) fn not_opened(adapter: &str, reason: &str) -> GpuError {
    let reason = one_line(reason).trim_end_matches('.').to_owned();
    match is_out_of_memory(&reason) {
        true => GpuError::OutOfMemory { doing: format!("opening {adapter}") },
        false => GpuError::Device { adapter: adapter.into(), reason },
    }
}

/// Whether words of wgpu's own errors, its panics or Vulkan's say that memory is short.
fn is_out_of_memory(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["out of memory", "not enough memory", "outofmemory", "out_of_host_memory", "out_of_device_memory"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Whether a device that failed was left to the end of the process.
static IS_LEFT: AtomicBool = AtomicBool::new(false);

/// Whether a device that failed was left to the end of the process: its driver may still be at work on what was submitted, on
/// threads that nothing can wait for.
pub(crate) fn is_device_left() -> bool {
    IS_LEFT.load(Ordering::Relaxed)
}

/// Holds a device and its queue until everything made of them is gone.
pub(super) struct Held {
    pub(super) handles: Option<(wgpu::Device, wgpu::Queue)>,
    pub(super) faults: Arc<Faults>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let handles = self.handles.take();
        match self.faults.seen("closing the device") {
            // wgpu panics where it waits for a device that failed to become idle. What little such a device still holds
            // is left to the end of the process.
            Some(_) => {
                IS_LEFT.store(true, Ordering::Relaxed);
                std::mem::forget(handles);
            }
            // All that was asked for is there already: a failure now concerns nobody.
            None => drop(caught(|| drop(handles))),
        }
    }
}

/// A panic elsewhere does not make plain data unusable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two scopes closed in the wrong order: wgpu panics.
    fn misuse(device: &wgpu::Device) {
        let [outer, inner] = [wgpu::ErrorFilter::Validation; 2].map(|filter| device.push_error_scope(filter));
        drop(pollster::block_on(outer.pop()));
        drop(inner);
    }

    #[test]
    fn a_panic_of_wgpu_becomes_what_it_said() {
        let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let words = caught(|| misuse(&device)).expect_err("a panic");
        assert!(words.contains("reverse order"), "{words}");
        assert_eq!(caught(|| 7), Ok(7), "the next call is not concerned");
        let faults = Faults::default();
        let error = faults.guarded("testing", || misuse(&device)).expect_err("a panic");
        assert!(matches!(&error, GpuError::Broken { doing, .. } if doing == "testing"), "{error}");
        let again = faults.guarded("something else", || 7).expect_err("a device that failed stays failed");
        assert_eq!(again.to_string(), error.to_string());
    }

    #[test]
    fn our_own_panics_go_on() {
        let outcome = panic::catch_unwind(|| caught(|| std::panic::panic_any(5_u8)));
        assert_eq!(outcome.expect_err("it panics").downcast_ref(), Some(&5_u8));
        assert!(matches!(GUARD.replace(Guard::Off), Guard::Off), "no guard is left behind");
    }

    #[test]
    fn failures_are_called_what_they_are() {
        let of = |lost: &[&str]| {
            let faults = Faults::default();
            lost.iter().for_each(|reason| faults.lose(reason));
            faults.guarded("waiting", || ()).expect_err("it failed")
        };
        for reason in ["Out of memory", "Not enough memory left.", "ERROR_OUT_OF_DEVICE_MEMORY"] {
            let error = of(&[reason, "Device is lost"]);
            assert!(matches!(&error, GpuError::OutOfMemory { doing } if doing == "waiting"), "{reason}: {error}");
        }
        let error = of(&["Device is lost", "Out of memory"]).to_string();
        assert!(error.starts_with("the GPU device was lost while waiting: Device is lost. "), "{error}");
        let faults = Faults { broken: Mutex::new(Some("unwrap on OutOfMemory".into())), ..Faults::default() };
        assert!(matches!(faults.seen("drawing"), Some(GpuError::OutOfMemory { doing }) if doing == "drawing"));
        let refused =
            [("Not enough memory left.", "out of GPU memory while opening A."), ("No.", "A could not be opened: No.")];
        for (reason, expected) in refused {
            let error = not_opened("A", reason).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn reports_have_one_line_and_a_loss_goes_before_them() {
        let source = || Box::<dyn std::error::Error + Send + Sync>::from("inner");
        let report = |error: wgpu::Error, reason: Option<&str>| {
            let faults = Faults::default();
            faults.report(&error);
            reason.into_iter().for_each(|reason| faults.lose(reason));
            faults.seen("working").expect("it failed").to_string()
        };
        let validation = || wgpu::Error::Validation { source: source(), description: "first\n  second\n".into() };
        let text = report(validation(), None);
        assert!(text.contains("first second") && !text.contains('\n'), "{text}");
        assert!(report(validation(), Some("Device is lost")).contains("was lost while working"));
        assert!(
            report(wgpu::Error::OutOfMemory { source: source() }, None).starts_with("out of GPU memory while working")
        );
    }
}
