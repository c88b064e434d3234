//! What kernels stored, and which of it is to be spoiled.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::guard::lock;
use super::kernel::{Access, Argument, KernelSpec};
use super::tensor::Tensor;

/// A tensor that a kernel of a recording wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Name of the tensor among its arguments.
    pub tensor: &'static str,
}

/// What happened between [`Gpu::begin_injection`](super::Gpu::begin_injection) and [`Gpu::end_injection`](super::Gpu::end_injection).
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
    pub(super) is_on: AtomicBool,
    pub(super) state: Mutex<(Option<usize>, Injection)>,
}

impl Injector {
    /// Takes the stores of a kernel that was recorded; gives the tensor to be spoiled, if it is among them.
    pub(super) fn take<'a>(&self, spec: &'static KernelSpec, arguments: &[Argument<'a>]) -> Option<&'a Tensor> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = lock(&self.state);
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
