//! What one execution took: a panic, memory, time. An execution that does not end ends the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use super::targets::{Target, folder};

/// No execution may take longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);

/// Counts what all threads hold of the system's memory.
pub(crate) struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    MOST.fetch_max(HELD.fetch_add(bytes, Relaxed).wrapping_add(bytes), Relaxed);
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its signature; each call goes to the system's as it came")]
// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is moved both are there.
        grow(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes that are held now.
pub(crate) fn held() -> usize {
    HELD.load(Relaxed)
}

/// What an execution took.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether the input was taken; else the words of a panic.
    pub(crate) taken: Result<bool, String>,
    /// Most bytes beyond what was held before.
    pub(crate) memory: usize,
    pub(crate) time: Duration,
}

impl Outcome {
    /// What is wrong with it, if anything is.
    pub(crate) fn fault(&self, target: &Target, length: usize) -> Option<String> {
        let most = target.most_memory + target.memory_of_a_byte * length;
        match &self.taken {
            Err(panic) => Some(format!("panics: {panic}")),
            Ok(_) if self.memory > most => {
                Some(format!("takes {} KiB for {length} bytes, at most {}", self.memory >> 10, most >> 10))
            }
            Ok(_) if self.time > LONGEST => Some(format!("takes {:.1} s", self.time.as_secs_f64())),
            Ok(_) => None,
        }
    }
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a target. Its input lies in [`last_input`] meanwhile, for executions that take the process with them.
pub(crate) fn execute(target: &Target, bytes: &[u8]) -> Outcome {
    // Memory is counted for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if watched().is_some() {
                PANIC.with_borrow_mut(|text| *text = panic.to_string().replace('\n', " "));
            } else {
                usual(panic);
            }
        }));
        std::thread::spawn(watch);
    });
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::write(last_input(), bytes).expect("there is room for a small file");
    let before = held();
    MOST.store(before, Relaxed);
    let start = Instant::now();
    SINCE.store(now(), Relaxed);
    let taken = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    SINCE.store(0, Relaxed);
    let (time, memory) = (start.elapsed(), MOST.load(Relaxed).saturating_sub(before));
    Outcome { taken: taken.map_err(|_| PANIC.with_borrow_mut(std::mem::take)), memory, time }
}

/// Where the input of the execution at hand lies.
pub(crate) fn last_input() -> PathBuf {
    folder().join("last-input")
}

/// When the execution at hand began, in milliseconds; 0 between two.
static SINCE: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    1 + START.elapsed().as_millis() as u64
}

fn watched() -> Option<u64> {
    Some(SINCE.load(Relaxed)).filter(|&since| since > 0)
}

/// Ends the process when an execution does not end by itself: there is no other way to stop it.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        if watched().is_some_and(|since| now().saturating_sub(since) > 4 * LONGEST.as_millis() as u64) {
            eprintln!("fuzz: an execution hangs; its input lies in {}", last_input().display());
            std::process::abort();
        }
    }
}
