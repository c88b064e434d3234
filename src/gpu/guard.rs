//! Calls into wgpu that panic where a driver fails, and what its errors are called.
//!
//! wgpu returns most faults through error scopes and callbacks, but unwraps some: in the making of a queue, in submissions, in
//! waiting, in dropping a device whose pipelines failed. Everything that touches a device goes through [`guarded`], so that a
//! driver's fault is an error of one line and no panic's text.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::GpuError;

thread_local! {
    /// Whether this thread is within [`guarded`], where a panic is told by the error that it becomes.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs calls into wgpu; a panic of theirs becomes an error.
///
/// # Errors
/// What the panic said.
pub(super) fn guarded<T>(calls: impl FnOnce() -> T) -> Result<T, GpuError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                others(info);
            }
        }));
    });
    let outer = IS_GUARDED.replace(true);
    // What is left half-done belongs to a device that is given up.
    let outcome = panic::catch_unwind(AssertUnwindSafe(calls));
    IS_GUARDED.set(outer);
    outcome.map_err(|payload| {
        let words = payload.downcast_ref::<String>().map(String::as_str);
        from_words(words.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked"))
    })
}

/// The error that a fault of wgpu is.
pub(super) fn from_wgpu(error: &wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::Exhausted("an allocation failed".into()),
        other => from_words(&other.to_string()),
    }
}

/// The same by its words, which are all that some faults leave.
pub(super) fn from_words(words: &str) -> GpuError {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = line.to_lowercase();
    if ["outofmemory", "out of memory", "not enough memory"].iter().any(|name| lower.contains(name)) {
        return GpuError::Exhausted(line);
    }
    match lower.contains("lost") {
        true => GpuError::Lost(line),
        false => GpuError::Reported(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_that_are_called_what_they_are() {
        assert_eq!(guarded(|| 7).expect("no panic"), 7);
        let of = |words: &'static str| guarded(|| -> () { panic!("{words}") }).expect_err("a panic");
        assert!(matches!(of("called `Result::unwrap()` on an `Err` value: OutOfMemory"), GpuError::Exhausted(_)));
        assert!(matches!(of("Error in Device::poll: Validation Error\n\nParent device is lost\n"), GpuError::Lost(_)));
        let other = of("buckets\n are not empty");
        assert!(matches!(&other, GpuError::Reported(words) if words == "buckets are not empty"), "{other:?}");
        // A panic elsewhere is a panic.
        assert!(panic::catch_unwind(|| guarded(|| panic!("inside")).map_err(|_| panic!("outside")).is_ok()).is_err());
    }
}
