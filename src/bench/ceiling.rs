//! What the adapter can do at best, as far as our kernels can tell.

use serde::Serialize;

use crate::error::Result;
use crate::kernels::{AddScaled, CountSubmission};

use super::cases::{Layer, dispatch};
use super::{Bench, Bound, Protocol, Record, Timing, Work};

/// Shorter stretches than a case's: the ceiling is measured before everything.
const STRETCH: f64 = 0.05;
/// Tiny dispatches of one submission, whose cost is told apart from the submission's.
const DISPATCHES: u32 = 200;

/// Rates and costs by the least times.
#[derive(Debug, Clone, Serialize)]
pub struct Ceiling {
    /// Best rate of an unmasked dense layer, forward.
    pub gemm_gflop_per_second: f64,
    /// Its sizes.
    pub gemm_sizes: String,
    /// Bytes read plus bytes written by a kernel that copies (`add_scaled`), 10^9 a second.
    pub kernel_copy_gb_per_second: f64,
    /// The same by the adapter's own copy between buffers.
    pub buffer_copy_gb_per_second: f64,
    /// One more dispatch of a tiny kernel in a submission.
    pub dispatch_seconds: f64,
    /// A submission of one tiny kernel, and the wait for it.
    pub round_trip_seconds: f64,
    /// The measurements.
    #[serde(skip)]
    pub records: Vec<Record>,
}

impl Ceiling {
    /// Measures an adapter, in about two seconds.
    ///
    /// # Errors
    /// A failed adapter.
    pub fn measure(bench: &Bench<'_>) -> Result<Self> {
        let best = Protocol { warm_up: 0, repetitions: 3 };
        let gpu = bench.gpu;
        let mut records = Vec::new();
        for [batch, width] in [[128, 1024], [512, 1024], [512, 512]] {
            let layer = Layer { n_in: width, n_out: width, visible: vec![width as u32; width] };
            let seconds = layer.with_forward(gpu, batch, |kernel| best.time(STRETCH, |n| dispatch(gpu, n, kernel)))?;
            let sizes = format!("dense layer {width} -> {width} batch {batch}");
            records.push(bench.record("ceiling", sizes, seconds, layer.work(batch), None));
        }
        let rate = |record: &Record| record.needed_flop as f64 / record.seconds.min / 1e9;
        let fastest = records.iter().max_by(|a, b| rate(a).total_cmp(&rate(b))).expect("three were timed");
        let (gemm_gflop_per_second, gemm_sizes) = (rate(fastest), fastest.sizes.clone());

        let words = (16_usize << 20).min((gpu.adapter().max_binding_bytes / 4) as usize);
        let (source, copy) = (gpu.tensor("source", &[words])?, gpu.tensor("copy", &[words])?);
        let kernel = AddScaled { n_values: words as u32, accumulate: 0, scale: 1.0, terms: &source, sums: &copy };
        let moved = Work { flop: 0, bytes: 8 * words as u64 };
        let by_kernel = best.time(STRETCH, |n| dispatch(gpu, n, &kernel))?;
        let by_adapter = best.time(STRETCH, |n| {
            let mut recorder = gpu.record("bench");
            (0..n).for_each(|_| recorder.copy(&source, &copy));
            Ok(gpu.wait_for(&recorder.submit()?)?)
        })?;
        let copied = |by: &str, seconds| {
            bench.record("ceiling", format!("copy of {} MiB by {by}", moved.bytes >> 21), seconds, moved, None)
        };
        records.push(copied("a kernel", by_kernel));
        records.push(copied("the adapter", by_adapter));

        let counter = gpu.tensor("counter", &[4])?;
        let tiny = |dispatches| {
            best.time(STRETCH, |n| {
                (0..n).try_for_each(|_| dispatch(gpu, dispatches, &CountSubmission { counter: &counter }))
            })
        };
        let (one, many) = (tiny(1)?, tiny(DISPATCHES)?);
        let dispatch_seconds = (many.min - one.min) / f64::from(DISPATCHES - 1);
        let cost = |what: &str, seconds: Timing| bench.record("ceiling", what.into(), seconds, Work::default(), None);
        records.push(cost("submission of a tiny dispatch, and wait", one));
        records.push(cost(&format!("submission of {DISPATCHES} tiny dispatches, and wait"), many));
        Ok(Self {
            gemm_gflop_per_second,
            gemm_sizes,
            kernel_copy_gb_per_second: moved.bytes as f64 / by_kernel.min / 1e9,
            buffer_copy_gb_per_second: moved.bytes as f64 / by_adapter.min / 1e9,
            dispatch_seconds,
            round_trip_seconds: one.min,
            records,
        })
    }

    /// Bytes read plus bytes written by the faster way to copy, 10^9 a second.
    pub fn copy_gb_per_second(&self) -> f64 {
        self.kernel_copy_gb_per_second.max(self.buffer_copy_gb_per_second)
    }

    /// What bounds some work, and the time, s, that it takes at that ceiling; nothing without work.
    pub fn least_time(&self, work: Work) -> Option<(Bound, f64)> {
        let compute = work.flop as f64 / self.gemm_gflop_per_second / 1e9;
        let memory = work.bytes as f64 / self.copy_gb_per_second() / 1e9;
        match compute.max(memory) {
            0.0 => None,
            _ if compute >= memory => Some((Bound::Compute, compute)),
            _ => Some((Bound::Memory, memory)),
        }
    }

    /// One line.
    pub fn describe(&self) -> String {
        format!(
            "ceiling: {:.1} GFLOP/s ({}); {:.1} GB/s (copies: by a kernel {:.1}, by the adapter {:.1}); a dispatch {:.1} us; \
             submit and wait {:.0} us",
            self.gemm_gflop_per_second,
            self.gemm_sizes,
            self.copy_gb_per_second(),
            self.kernel_copy_gb_per_second,
            self.buffer_copy_gb_per_second,
            1e6 * self.dispatch_seconds,
            1e6 * self.round_trip_seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_flops_and_bytes_bounds() {
        let ceiling = Ceiling {
            gemm_gflop_per_second: 40.0,
            gemm_sizes: String::new(),
            kernel_copy_gb_per_second: 5.0,
            buffer_copy_gb_per_second: 20.0,
            dispatch_seconds: 0.0,
            round_trip_seconds: 0.0,
            records: Vec::new(),
        };
        let least = |flop, bytes| ceiling.least_time(Work { flop, bytes });
        assert_eq!(least(80_000_000_000, 20_000_000_000), Some((Bound::Compute, 2.0)));
        assert_eq!(least(80_000_000_000, 60_000_000_000), Some((Bound::Memory, 3.0)));
        assert_eq!(least(0, 0), None);
    }
}
