//! Speed on the adapter at hand: kernels, training steps and samplers, with all that a number needs to be believed.
//!
//! Inputs are random. Every case warms up, then repeats a stretch of work that is long enough for the clock; a record
//! has the median, spread and extremes of the time of one unit of work, and the rates from what the mathematics needs:
//! two FLOPs for a multiply-add that the masks leave, and every number read or written once, whatever the kernels really
//! do. What the adapter can do at best is measured first ([`Ceiling`]); a rate by that is how much of it is used. `arcsm
//! doctor` checks that the kernels do it right.

mod cases;
mod ceiling;
mod clock;
mod kernels;
mod trace;
mod tune;
mod work;

use std::cell::RefCell;
use std::time::Instant;

use serde::Serialize;

pub use self::clock::trusted_clock;
use crate::error::Result;
use crate::gpu::{AdapterSummary, Clock, Gpu, Profile};

pub use cases::{
    SampleCase, convolutions, end_to_end, first_step, gemm_backward_weight, gemm_forward, gemm_of_size, sampling,
    train_step,
};
pub use ceiling::Ceiling;
pub use kernels::{Tour, every_kernel, kernels_of_model, write_shaders};
pub use trace::trace_json;
pub use tune::{Candidate, tune};
pub use work::Work;

/// A repetition lasts at least about this long, s.
const STRETCH: f64 = 0.2;

/// How often work is timed.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Stretches that are not counted: shaders compile, clocks rise.
    pub warm_up: u32,
    /// Stretches that are; at least 1.
    pub repetitions: u32,
}

/// Times of one unit of work, s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// The middle one of all repetitions.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Distance of the quartiles, as a share of the median.
    pub spread: f64,
    /// How many.
    pub repetitions: u32,
    /// Units of work in each.
    pub units: u32,
}

/// What a case cannot do without on this adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Its FLOPs take longer than its bytes.
    Compute,
    /// Its bytes take longer than its FLOPs.
    Memory,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// What was timed.
    pub case: String,
    /// Its sizes.
    pub sizes: String,
    /// Time of one unit: a dispatch, a step, a batch of samples; of a kernel, all its dispatches in one.
    pub seconds: Timing,
    /// FLOPs that one unit needs.
    pub needed_flop: u64,
    /// Bytes that it needs to read and to write.
    pub needed_bytes: u64,
    /// Needed FLOPs by the median time.
    pub gflop_per_second: f64,
    /// Needed bytes by the median time.
    pub gb_per_second: f64,
    /// What bounds it, if the ceiling is known.
    pub bound: Option<Bound>,
    /// The least time that this bound allows, by the median time.
    pub fraction_of_ceiling: Option<f64>,
    /// Samples by the median time, where samples are what is made or learned.
    pub samples_per_second: Option<f64>,
    /// Of a kernel in a whole: how often it ran, in which variant, and its share of the adapter's time.
    pub part: Option<Part>,
}

/// A kernel as a part of a whole.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Dispatches in one unit.
    pub calls: u32,
    /// What the variant needs that ran: `Baseline` or something faster.
    pub variant: String,
    /// Of the time of all kernels, copies and clears of one unit.
    pub share: f64,
}

/// Where and when it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// Adapter, backend and driver.
    pub adapter: AdapterSummary,
    /// Version of the program.
    pub version: &'static str,
    /// Commit that it was built from.
    pub commit: &'static str,
    /// Whether the compiler optimised the host code.
    pub optimised: bool,
    /// Logical processors of the host.
    pub host_threads: usize,
    /// Day, UTC.
    pub date: String,
    /// How kernels were timed, where they were.
    pub kernel_clock: Option<Clock>,
    /// What the adapter can do at best, where that was measured.
    pub ceiling: Option<Ceiling>,
}

/// A bench on one adapter: how it measures, and what it knows of the adapter.
pub struct Bench<'g> {
    /// Where it runs.
    pub gpu: &'g Gpu,
    /// How often.
    pub protocol: Protocol,
    /// What records are compared with.
    pub ceiling: Option<Ceiling>,
    /// One more unit of each case, to be looked at in a trace viewer.
    profiles: Option<RefCell<Vec<(String, Profile)>>>,
}

impl Environment {
    /// Of this program, now.
    pub fn of(gpu: &Gpu) -> Self {
        Self {
            adapter: gpu.adapter().clone(),
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("ARCSM_COMMIT"),
            optimised: !cfg!(debug_assertions),
            host_threads: std::thread::available_parallelism().map_or(1, usize::from),
            date: crate::host::today(),
            kernel_clock: gpu.known_clock(),
            ceiling: None,
        }
    }
}

impl<'g> Bench<'g> {
    /// A bench that compares with nothing yet. `profiled` keeps a profile of each case for [`Bench::into_profiles`].
    pub fn new(gpu: &'g Gpu, protocol: Protocol, profiled: bool) -> Self {
        Self { gpu, protocol, ceiling: None, profiles: profiled.then(RefCell::default) }
    }

    /// Where and when it measures, with the ceilings that it compares with.
    pub fn environment(&self) -> Environment {
        Environment { ceiling: self.ceiling.clone(), ..Environment::of(self.gpu) }
    }

    /// The profiles that were kept, each with the name of its case.
    pub fn into_profiles(self) -> Vec<(String, Profile)> {
        self.profiles.map(RefCell::into_inner).unwrap_or_default()
    }

    /// Times `work(n)`, which does n units and waits for them.
    fn time(&self, name: &str, mut work: impl FnMut(u32) -> Result<()>) -> Result<Timing> {
        let timing = self.protocol.time(STRETCH, &mut work)?;
        if self.profiles.is_some() {
            self.keep(name, self.gpu.profile(trusted_clock(self.gpu)?, || work(1))?.1);
        }
        Ok(timing)
    }

    /// Keeps a profile where they are wanted.
    fn keep(&self, name: &str, profile: Profile) {
        if let Some(profiles) = &self.profiles {
            profiles.borrow_mut().push((name.to_owned(), profile));
        }
    }

    /// Times of something without FLOPs, at least one.
    pub fn record_times(&self, case: &str, sizes: &str, times: Vec<f64>) -> Record {
        self.record(case, sizes.into(), Timing::of(times, 1), Work::default(), None)
    }

    fn record(&self, case: &str, sizes: String, seconds: Timing, work: Work, samples: Option<usize>) -> Record {
        let rate = |count: f64| if seconds.median > 0.0 { count / seconds.median } else { 0.0 };
        let least = self.ceiling.as_ref().and_then(|ceiling| ceiling.least_time(work));
        Record {
            case: case.into(),
            sizes,
            needed_flop: work.flop,
            needed_bytes: work.bytes,
            gflop_per_second: rate(work.flop as f64) / 1e9,
            gb_per_second: rate(work.bytes as f64) / 1e9,
            bound: least.map(|(bound, _)| bound),
            fraction_of_ceiling: least.map(|(_, least)| rate(least)),
            samples_per_second: samples.map(|samples| rate(samples as f64)),
            part: None,
            seconds,
        }
    }
}

impl Protocol {
    /// Times `work(n)`, which does n units and waits for them, in stretches of so many seconds.
    fn time(self, stretch: f64, mut work: impl FnMut(u32) -> Result<()>) -> Result<Timing> {
        let mut clocked = |units: u32| -> Result<f64> {
            let start = Instant::now();
            work(units)?;
            Ok(start.elapsed().as_secs_f64() / f64::from(units))
        };
        // Shaders compile in the first unit. One that takes this long all the same fills a stretch, and needs no second look.
        let is_long = clocked(1)? > 10.0 * stretch;
        let units = if is_long { 1 } else { (stretch / clocked(1)?.max(1e-6)).clamp(1.0, 1000.0) as u32 };
        for _ in 0..self.warm_up {
            clocked(units)?;
        }
        let times = (0..self.repetitions.max(1)).map(|_| clocked(units)).collect::<Result<Vec<f64>>>()?;
        Ok(Timing::of(times, units))
    }
}

impl Timing {
    /// Of at least one repetition.
    fn of(mut times: Vec<f64>, units: u32) -> Self {
        times.sort_by(f64::total_cmp);
        let last = times.len() - 1;
        // Linear between the two nearest, as is usual.
        let quantile = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (times[place.floor() as usize], times[place.ceil() as usize]);
            below + place.fract() * (above - below)
        };
        let median = quantile(0.5);
        Self {
            median,
            min: times[0],
            max: times[last],
            spread: (quantile(0.75) - quantile(0.25)) / median,
            repetitions: times.len() as u32,
            units,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_counts_units_and_orders_times() {
        let mut done = 0;
        let timing = Protocol { warm_up: 1, repetitions: 4 }.time(STRETCH, |n| {
            done += n;
            std::thread::sleep(std::time::Duration::from_millis(2 * u64::from(n)));
            Ok(())
        });
        let timing = timing.expect("nothing can fail");
        assert_eq!(done, 2 + 5 * timing.units);
        assert!(timing.min <= timing.median && timing.median <= timing.max);
        assert!(timing.min >= 0.002, "{timing:?}");
    }

    #[test]
    fn quartiles_lie_between_repetitions() {
        let timing = Timing::of(vec![4.0, 1.0, 2.0, 8.0], 3);
        assert_eq!((timing.median, timing.min, timing.max), (3.0, 1.0, 8.0));
        // Quartiles of 1, 2, 4, 8 are 1.75 and 5.
        assert!((timing.spread - 3.25 / 3.0).abs() <= 1e-12, "{timing:?}");
        assert_eq!(Timing::of(vec![2.0], 1).spread, 0.0);
    }
}
