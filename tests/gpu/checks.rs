//! The self-test passes, and sees every fault that is planted.

use arcsm::doctor::{self, CHECKS, Check, Failure};
use arcsm::gpu::{GpuError, GpuOptions, Needs};

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
    assert_faults_are_caught(false);
}

#[test]
fn a_fault_in_a_baseline_kernel_is_caught() {
    assert_faults_are_caught(true);
}

/// Plants faults, one adapter each: all of them in the variants that the adapter prefers, or one in each baseline that
/// it would not run otherwise. Variants share their source, so that one shows that the check sees this one too.
fn assert_faults_are_caught(baseline_only: bool) {
    let mut missed = Vec::new();
    for check in CHECKS.iter().filter(|check| !baseline_only || check.kernel.variants.len() > 1) {
        let faults = if baseline_only { &check.faults[..1] } else { check.faults };
        for &fault in faults {
            let variant = baseline_only.then_some(Needs::Baseline);
            let Some(gpu) = open(GpuOptions { fault: Some(fault), variant, ..GpuOptions::default() }) else {
                return;
            };
            match (check.run)(&gpu) {
                Ok(worst) => missed.push(format!("{fault:?} passes ({worst})")),
                // The counter of submissions is itself a kernel.
                Err(Failure::Gpu(GpuError::Dropped { .. })) if fault.kernel == "count_submission" => {}
                Err(Failure::Gpu(error)) => missed.push(format!("{fault:?} does not run: {error}")),
                Err(Failure::Differs(_) | Failure::Broken(_)) => {}
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
