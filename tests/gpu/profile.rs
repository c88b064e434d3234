//! What a profile says of work that is known.

use arcsm::bench::trusted_clock;
use arcsm::gpu::{Clock, Gpu, GpuError, GpuOptions, Needs, Track, Tuning};
use arcsm::kernels::{AddScaled, MaskedDenseForward, SquareSum};

use crate::open;

const WORDS: usize = 4096;

/// sums = 3 terms, twice, with a clear between.
fn triple(gpu: &Gpu) -> Result<Vec<f32>, GpuError> {
    let terms = gpu.upload("terms", &[WORDS], &(0..WORDS).map(|i| i as f32).collect::<Vec<_>>())?;
    let sums = gpu.tensor("sums", &[WORDS])?;
    let kernel = AddScaled { n_values: WORDS as u32, accumulate: 0, scale: 3.0, terms: &terms, sums: &sums };
    let mut recorder = gpu.record("triple");
    recorder.run(&kernel)?;
    recorder.clear(&sums);
    recorder.run(&kernel)?;
    recorder.submit()?;
    gpu.read(&sums)
}

#[test]
fn a_profile_lists_what_was_done_by_every_clock_and_changes_nothing() {
    let Some(gpu) = &open(GpuOptions::default()) else { return };
    let trusted = trusted_clock(gpu).expect("measured");
    let mut clocks = vec![Clock::WallTime, Clock::None];
    if trusted == Clock::Timestamps {
        clocks.push(trusted);
    }
    for clock in clocks {
        let (values, profile) = gpu.profile(clock, || triple(gpu)).expect("profiled");
        assert!(values.iter().enumerate().all(|(i, &value)| value == 3.0 * i as f32), "{clock:?}");
        let launches: Vec<_> = profile.launches().collect();
        assert_eq!(launches.len(), 2, "{clock:?}: {:?}", profile.spans);
        for (span, launch) in &launches {
            assert_eq!((span.name, span.within, span.track), ("add_scaled", "triple", Track::Adapter));
            assert_eq!((launch.value("n_values"), launch.value("no such")), (WORDS as u32, 0));
            assert_eq!(f32::from_bits(launch.value("scale")), 3.0);
            assert_eq!(launch.tensor("sums").expect("an argument").shape(), [WORDS]);
            assert_eq!(span.seconds > 0.0, clock != Clock::None, "{clock:?}: {}", span.seconds);
        }
        let (first, second) = (launches[0].0, launches[1].0);
        assert!(second.start >= first.start + first.seconds, "{clock:?}: {first:?} {second:?}");
        let host = profile.spans.iter().filter(|span| span.track == Track::Host).map(|span| span.name);
        let host: Vec<_> = host.collect();
        assert!(host.contains(&"encode and submit") && host.contains(&"wait"), "{host:?}");
    }
    let nested = gpu.profile(Clock::None, || gpu.profile(Clock::None, || triple(gpu)));
    assert!(matches!(nested, Err(GpuError::Profiled)), "one at a time");
    let before = gpu.profile(Clock::None, || Ok::<(), GpuError>(())).expect("nothing").1;
    triple(gpu).expect("outside of a profile");
    assert!(before.launches().next().is_none());
}

#[test]
fn longer_kernels_take_longer_by_the_trusted_clock() {
    let Some(gpu) = &open(GpuOptions::default()) else { return };
    // One workgroup for all values: the fastest adapter takes much longer than a submission and the wait for it.
    const MOST: usize = 1 << 23;
    let values = gpu.tensor("values", &[MOST]).expect("memory");
    let sums = gpu.tensor("sums", &[1, 4]).expect("memory");
    let run = |n_values: usize| {
        let values = values.rows(0, n_values);
        let mut recorder = gpu.record("squares");
        recorder.run(&SquareSum { n_values: n_values as u32, n_groups: 1, values: &values, sums: &sums })?;
        gpu.wait_for(&recorder.submit()?)
    };
    run(64).expect("compiled");
    let clock = trusted_clock(gpu).expect("measured");
    // The least of several: other processes only ever make it longer.
    let least = |n| {
        let seconds = (0..5).map(|_| {
            let profile = gpu.profile(clock, || run(n)).expect("profiled").1;
            profile.launches().map(|(span, _)| span.seconds).sum::<f64>()
        });
        seconds.fold(f64::INFINITY, f64::min)
    };
    let (short, long) = (least(64), least(MOST));
    assert!(long > short, "{clock:?}: {short} s for 64 words, {long} s for {MOST}");
}

#[test]
fn one_rule_chooses_variants() {
    let spec = <MaskedDenseForward as arcsm::gpu::Kernel>::SPEC;
    let tuned = |needs| {
        let variants = [(spec.name.to_owned(), needs)].into_iter().collect();
        Tuning { variants, parallel_groups: Some(3) }
    };
    // An adapter without subgroups: what it does not offer has no say.
    let plain = Gpu::noop().tuned(tuned(Needs::CpuSubgroups));
    assert_eq!((plain.variant(spec).needs, plain.parallel_groups()), (Gpu::noop().variant(spec).needs, 3));
    assert!(plain.offers(plain.variant(spec).needs) && !plain.offers(Needs::CpuSubgroups));
    let Some(gpu) = open(GpuOptions::default()) else { return };
    let fastest = gpu.variant(spec).needs;
    let offered = spec.variants.iter().map(|variant| variant.needs).find(|&needs| gpu.offers(needs));
    assert_eq!(Some(fastest), offered, "the first of the list that the adapter offers");
    let gpu = gpu.tuned(tuned(Needs::Baseline));
    assert_eq!(gpu.variant(spec).needs, Needs::Baseline, "what was measured comes before the order of the list");
    let pinned = open(GpuOptions { variant: Some(Needs::Baseline), tuning: tuned(fastest), ..GpuOptions::default() });
    assert_eq!(pinned.expect("the same adapter").variant(spec).needs, Needs::Baseline, "what is pinned comes first");
}
