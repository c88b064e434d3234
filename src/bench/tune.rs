//! Choosing between variants and settings by measuring them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ask::sample::Sampler;
use crate::error::Result;
use crate::gpu::{Gpu, Needs, Tuning};

use super::{Bench, Protocol, Record, SampleCase, Tour, every_kernel, sampling};

/// A kernel or setting with its candidates.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Kernel, or name of the setting.
    pub what: String,
    /// Each candidate with its time, s.
    pub seconds: Vec<(String, f64)>,
    /// The fastest one.
    pub chosen: String,
}

/// A candidate takes the place of the first one where it takes this share of its time at most: clocks and other processes
/// make up for less.
const CLEARLY_FASTER: f64 = 0.9;

/// The fastest of candidates with their times; the first one unless another is clearly faster.
fn fastest<T: Copy>(times: &[(T, f64)]) -> T {
    let (first, limit) = (times[0].0, CLEARLY_FASTER * times[0].1);
    let faster = times.iter().filter(|(_, seconds)| *seconds <= limit);
    faster.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(first, |(candidate, _)| *candidate)
}

/// Measures every kernel in every variant that the adapter offers, and then how many workgroups samplers should share their
/// work among. `open` opens the adapter with a pinned variant, or with a tuning.
///
/// # Errors
/// Sizes over the adapter's limits, a failed adapter.
pub fn tune(
    open: &dyn Fn(Option<Needs>, Tuning) -> Result<Gpu>,
    tour: &Tour,
    protocol: Protocol,
) -> Result<(Tuning, Vec<Candidate>)> {
    let mut times: BTreeMap<&'static str, Vec<(Needs, f64)>> = BTreeMap::new();
    for needs in Needs::ALL {
        let gpu = open(Some(needs), Tuning::default())?;
        if !gpu.offers(needs) {
            continue;
        }
        let records = every_kernel(&Bench::new(&gpu, protocol, false), tour)?;
        for spec in crate::kernels::ALL.iter().filter(|spec| spec.variants.iter().any(|v| v.needs == needs)) {
            let of_kernel = |record: &&Record| record.case.ends_with(&format!(": {}", spec.name));
            let seconds = records.iter().filter(of_kernel).map(|record| record.seconds.median).sum();
            times.entry(spec.name).or_default().push((needs, seconds));
        }
    }
    let mut tuning = Tuning::default();
    let mut candidates = Vec::new();
    for (kernel, times) in times.into_iter().filter(|(_, times)| times.len() > 1) {
        let chosen = fastest(&times);
        tuning.variants.insert(kernel.into(), chosen);
        let seconds = times.iter().map(|(needs, seconds)| (needs.to_string(), *seconds)).collect();
        candidates.push(Candidate { what: kernel.into(), seconds, chosen: chosen.to_string() });
    }
    let (groups, candidate) = tune_groups(open, &tuning, tour, protocol)?;
    tuning.parallel_groups = Some(groups);
    candidates.push(candidate);
    Ok((tuning, candidates))
}

/// Times the default sampler with once, twice and four times as many workgroups as are assumed.
fn tune_groups(
    open: &dyn Fn(Option<Needs>, Tuning) -> Result<Gpu>,
    tuning: &Tuning,
    tour: &Tour,
    protocol: Protocol,
) -> Result<(usize, Candidate)> {
    let (config, shape) = &tour.dense;
    let sampler = Sampler::multilevel_default(config);
    let assumed = open(None, tuning.clone())?.parallel_groups();
    let mut times = Vec::new();
    for groups in [assumed, 2 * assumed, 4 * assumed] {
        let gpu = open(None, Tuning { parallel_groups: Some(groups), ..tuning.clone() })?;
        let case = SampleCase { sampler: sampler.clone(), count: 16 * assumed, full_passes: false };
        let record = sampling(&Bench::new(&gpu, protocol, false), config, *shape, &case)?;
        times.push((groups, record.seconds.median));
    }
    let chosen = fastest(&times);
    let seconds = times.iter().map(|(groups, seconds)| (groups.to_string(), *seconds)).collect();
    Ok((chosen, Candidate { what: "workgroups of samplers".into(), seconds, chosen: chosen.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::fastest;

    #[test]
    fn only_a_clearly_faster_candidate_is_chosen() {
        assert_eq!(fastest(&[('a', 1.0), ('b', 0.95), ('c', 2.0)]), 'a');
        assert_eq!(fastest(&[('a', 1.0), ('b', 0.85), ('c', 0.8)]), 'c');
    }
}
