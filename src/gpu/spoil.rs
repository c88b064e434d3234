//! Spoiling one number that a kernel stored, to see whether somebody notices.

use std::sync::atomic::Ordering;

use super::guard::lock;
use super::injection::Injection;
use super::{Gpu, GpuError, Tensor};

/// The NaN that is planted.
const PLANTED: u32 = 0x7fc0_0bad;

impl Gpu {
    /// From now on, counts what kernels store; a number of store `wanted` becomes NaN as soon as it is there. For tests.
    pub fn begin_injection(&self, wanted: Option<usize>) {
        *lock(&self.injector.state) = (wanted, Injection::default());
        self.injector.is_on.store(true, Ordering::Relaxed);
    }

    /// Ends it and gives what was seen.
    pub fn end_injection(&self) -> Injection {
        self.injector.is_on.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.injector.state)).1
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
        lock(&self.injector.state).1.word = Some(word);
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
