//! Spoiling one number that a kernel stored, to see whether somebody notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::kernel::{Access, Argument, KernelSpec};
use super::{Gpu, GpuError, Tensor};

/// The NaN that is planted.
const PLANTED: u32 = 0x7fc0_0bad;

/// A tensor that a kernel of a recording wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Name of the tensor among its arguments.
    pub tensor: &'static str,
}

/// What happened between [`Gpu::begin_injection`] and [`Gpu::end_injection`].
#[derive(Debug, Default)]
pub struct Injection {
    /// Everything that kernels stored, in order.
    pub stores: Vec<Store>,
    /// The word that became NaN, where the wanted store held a number that could.
    pub word: Option<usize>,
}

/// Counts stores, and says which one is to be spoiled.
#[derive(Debug, Default)]
pub(super) struct Injector {
    /// So that recording costs nothing where nothing is injected.
    is_on: AtomicBool,
    state: Mutex<(Option<usize>, Injection)>,
}

impl Injector {
    /// Takes the stores of a kernel that was recorded; gives the tensor to be spoiled, if it is among them.
    pub(super) fn take<'a>(&self, spec: &'static KernelSpec, arguments: &[Argument<'a>]) -> Option<&'a Tensor> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, Injection { stores, .. }) = &mut *state;
        let mut found = None;
        for (binding, argument) in spec.bindings.iter().zip(arguments) {
            if binding.access == Access::ReadWrite {
                if *wanted == Some(stores.len()) {
                    found = Some(argument.tensor);
                }
                stores.push(Store { kernel: spec.name, tensor: binding.name });
            }
        }
        found
    }
}

impl Gpu {
    /// From now on, counts what kernels store; a number of store `wanted` becomes NaN as soon as it is there. For tests.
    pub fn begin_injection(&self, wanted: Option<usize>) {
        *self.injector.state.lock().unwrap_or_else(PoisonError::into_inner) = (wanted, Injection::default());
        self.injector.is_on.store(true, Ordering::Relaxed);
    }

    /// Ends it and gives what was seen.
    pub fn end_injection(&self) -> Injection {
        self.injector.is_on.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.injector.state.lock().unwrap_or_else(PoisonError::into_inner)).1
    }

    /// Makes a number of a tensor NaN, from its middle on the first that is one: words may be indices, and zeros may be
    /// padding or masked out.
    pub(super) fn spoil(&self, tensor: &Tensor) -> Result<(), GpuError> {
        let flat = tensor.reshaped(&[tensor.words()]);
        let mut words: Vec<u32> = self.read(&flat)?;
        let middle = words.len() / 2;
        let Some(word) = (middle..words.len()).chain(0..middle).find(|&word| is_number(words[word])) else {
            return Ok(());
        };
        words[word] = PLANTED;
        self.write(&flat, &words)?;
        self.injector.state.lock().unwrap_or_else(PoisonError::into_inner).1.word = Some(word);
        Ok(())
    }
}

/// Whether a word looks like a float of a size that people compute with, not like an index or a count.
fn is_number(word: u32) -> bool {
    (32..224).contains(&(word >> 23 & 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_what_is_not_finite_are_no_numbers() {
        assert!([1.0_f32, -3e-20, 1e20].iter().all(|x| is_number(x.to_bits())));
        assert!([0.0_f32, -0.0, f32::NAN, f32::INFINITY].iter().all(|x| !is_number(x.to_bits())));
        assert!([1_u32, 4096, 100_000_000].iter().all(|&count| !is_number(count)));
    }
}
