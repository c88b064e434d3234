//! The self-test passes, and sees every fault that is planted.

use arcsm::doctor::{self, CHECKS, Check, Failure};
use arcsm::gpu::{Fault, GpuError, GpuOptions, Needs};

use crate::{open, shared};

#[test]
fn every_kernel_agrees_with_its_twin() {
    let Some(gpu) = shared() else { return };
    let outcomes = doctor::examine(gpu, |outcome| {
        let worst = outcome.worst.map(|worst| format!("{worst:.3}"));
        println!(
            "{} {}: {}",
            outcome.kernel,
            outcome.variant,
            outcome.message.as_ref().or(worst.as_ref()).expect("one of them")
        );
    });
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_variant_agrees_with_its_twin() {
    for needs in Needs::ALL {
        let Some(gpu) = open(GpuOptions { variant: Some(needs), ..GpuOptions::default() }) else { return };
        let has_it = |check: &&Check| check.kernel.variants.iter().any(|variant| variant.needs == needs);
        // Where it is the fastest, every_kernel_agrees_with_its_twin runs it.
        let is_slower = |check: &&Check| check.kernel.variants[0].needs != needs;
        for check in CHECKS.iter().filter(has_it).filter(is_slower).filter(|_| gpu.offers(needs)) {
            let outcome = check.outcome(&gpu);
            assert!(outcome.variant.contains(&format!("{needs:?}")), "{outcome:#?}");
            assert!(outcome.passed, "{outcome:#?}");
        }
    }
}

#[test]
fn every_fault_is_caught() {
    assert_faults_are_caught(None);
}

#[test]
fn a_fault_in_a_baseline_kernel_is_caught() {
    assert_faults_are_caught(Some(Needs::Baseline));
}

#[test]
fn a_fault_in_a_kernel_with_workgroup_memory_is_caught() {
    assert_faults_are_caught(Some(Needs::Workgroup));
}

#[test]
fn a_nan_is_found_wherever_a_kernel_stores_it() {
    let Some(gpu) = open(GpuOptions::default()) else { return };
    for subject in doctor::subjects() {
        let all = subject.inject(&gpu, 5, &mut |_| {}).expect("it works with nothing planted");
        let missed: Vec<_> = all.iter().flat_map(|injected| &injected.missed).collect();
        assert!(missed.is_empty(), "{}: {missed:?}", subject.name);
        assert!(all.iter().map(|injected| injected.found).sum::<usize>() >= 2, "{all:#?}");
    }
}

#[test]
fn an_activation_that_hides_a_nan_is_seen_as_one() {
    let fault = Fault { kernel: "masked_hidden_forward", from: "kept(z, max(z, 0.0))", to: "max(z, 0.0)" };
    let Some(gpu) = open(GpuOptions { fault: Some(fault), ..GpuOptions::default() }) else { return };
    let all = doctor::subjects()[0].inject(&gpu, 1, &mut |_| {}).expect("it works with nothing planted");
    assert!(all.iter().any(|injected| !injected.missed.is_empty()), "{all:#?}");
}

/// Plants faults, one adapter each: in the variants that the adapter prefers, or in those of a kind that it would not run
/// otherwise. Of these, variants that share their source with others get one fault, which shows that the check sees them too.
fn assert_faults_are_caught(pinned: Option<Needs>) {
    let mut missed = Vec::new();
    for check in CHECKS.iter().filter(|check| pinned.is_none() || check.kernel.variants.len() > 1) {
        let Some(gpu) = open(GpuOptions { variant: pinned, ..GpuOptions::default() }) else { return };
        let runs: Vec<_> = gpu.variants(check.kernel).iter().map(|variant| (variant.name, variant.needs)).collect();
        if pinned.is_some_and(|pinned| runs.iter().all(|(_, needs)| *needs != pinned)) {
            continue;
        }
        let (own, common): (Vec<Fault>, Vec<Fault>) =
            check.faults.iter().copied().partition(|fault| fault.kernel != check.kernel.name);
        let own: Vec<_> = own.into_iter().filter(|fault| runs.iter().any(|(name, _)| *name == fault.kernel)).collect();
        // Where every workgroup has one sample, its place among several cannot be wrong.
        let is_seen = |fault: &Fault| gpu.adapter().software || !fault.from.contains("* SAMPLES");
        let common: Vec<_> = common.into_iter().filter(is_seen).collect();
        let (faults, enough) = match pinned {
            None => (own.into_iter().chain(common).collect::<Vec<_>>(), usize::MAX),
            Some(_) if own.is_empty() => (common, 1),
            Some(_) => (own, usize::MAX),
        };
        let mut planted = 0;
        for fault in faults {
            match outcome_with(check, fault, pinned) {
                Some(Ok(worst)) => missed.push(format!("{fault:?} passes ({worst})")),
                // The counter of submissions is itself a kernel.
                Some(Err(Failure::Gpu(GpuError::Dropped { .. }))) if fault.kernel == "count_submission" => {}
                Some(Err(Failure::Gpu(error))) => missed.push(format!("{fault:?} does not run: {error}")),
                Some(Err(Failure::Differs(_) | Failure::Broken(_))) => {}
                // Some faults are those of other variants alone.
                None if pinned.is_none() && occurs_in_some_variant(check, fault) => continue,
                None if pinned.is_some() && fault.kernel == check.kernel.name => continue,
                None => missed.push(format!("{fault:?} occurs nowhere")),
            }
            planted += 1;
            if planted == enough {
                break;
            }
        }
        if planted == 0 {
            missed.push(format!("{}: no fault occurs in {pinned:?}", check.kernel.name));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// What a check says of a fault; None where the kernels that it compiles have no such text.
fn outcome_with(check: &Check, fault: Fault, pinned: Option<Needs>) -> Option<Result<f64, Failure>> {
    let gpu = open(GpuOptions { fault: Some(fault), variant: pinned, ..GpuOptions::default() })?;
    let outcome = (check.run)(&gpu);
    gpu.fault_was_planted().then_some(outcome)
}

/// Software adapters offer every kind of variant; of the others it is not asked.
fn occurs_in_some_variant(check: &Check, fault: Fault) -> bool {
    let occurs = |needs| outcome_with(check, fault, Some(needs)).is_some();
    shared().is_none_or(|gpu| !gpu.adapter().software) || check.kernel.variants.iter().any(|v| occurs(v.needs))
}
