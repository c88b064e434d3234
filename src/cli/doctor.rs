//! `arcsm doctor`

use serde_json::json;

use super::console::{self, table};
use super::{Session, Task, after_help};
use crate::doctor::{CHECKS, Injected, Outcome, examine, subjects};
use crate::error::{Error, Result};
use crate::gpu::GpuOptions;

/// Hold every kernel against its float64 reference on this adapter
///
/// A pass means that this GPU with this driver computes what the mathematics says, within a tolerance derived from the
/// data. Please attach the output of `arcsm doctor --json` to reports of wrong results.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm doctor\n  \
       arcsm doctor --adapter 1 --json > doctor.json"
))]
pub(super) struct Doctor {
    /// Plant a NaN in everything that kernels store, one after another, in five small models that train, score, evaluate and
    /// draw, and show that each is found (some minutes)
    #[arg(long)]
    inject: bool,
}

impl Task for Doctor {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        if self.inject {
            return inject_all(session);
        }
        // Poisoned memory shows kernels that read or write what they should not.
        let gpu = session.open_gpu_with(GpuOptions { poison: true, ..Default::default() })?;
        let (mut progress, mut done) = (session.console.progress(), 0);
        let outcomes = examine(&gpu, |outcome| {
            done += 1;
            progress.show(done, CHECKS.len() as u64, || outcome.kernel.to_owned());
        });
        progress.finish();
        let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
        let rows: Vec<[String; 5]> = outcomes.iter().map(verdict).collect();
        let summary = match failed {
            0 => format!("all {} checks passed on {}", outcomes.len(), gpu.adapter().name),
            _ => format!("{failed} of {} checks failed on {}", outcomes.len(), gpu.adapter().name),
        };
        let text = table(["kernel", "variant", "verdict", "error / tolerance", "message"], &rows) + &summary;
        let object = json!({
            "passed": failed == 0,
            "checks": outcomes,
            "adapter": gpu.adapter(),
            "version": super::VERSION,
        });
        session.console.result(&text, &object)?;
        match failed {
            0 => Ok(()),
            _ => Err(Error::Failed(format!("{summary}: do not trust its results; try a newer driver"))),
        }
    }
}

fn inject_all(session: &Session<'_>) -> Result<()> {
    let gpu = session.open_gpu()?;
    let mut all = Vec::new();
    for subject in subjects() {
        all.extend(subject.inject(&gpu, 1, &mut |injected| console::tell(&line_of(injected)))?);
    }
    let header = ["model", "work", "stores", "no number", "found", "no effect", "missed"];
    let rows: Vec<_> = all.iter().map(row_of).collect();
    let missed: Vec<&String> = all.iter().flat_map(|injected| &injected.missed).collect();
    let found: usize = all.iter().map(|injected| injected.found).sum();
    let summary = match missed.len() {
        0 => format!("all {found} NaN that could change a result were found on {}", gpu.adapter().name),
        n => format!("{n} NaN changed results silently on {}", gpu.adapter().name),
    };
    let text = table(header, &rows) + &summary;
    let object =
        json!({ "passed": missed.is_empty(), "injected": all, "adapter": gpu.adapter(), "version": super::VERSION });
    session.console.result(&text, &object)?;
    match missed.first() {
        None => Ok(()),
        Some(first) => Err(Error::Failed(format!("{summary}, the first after {first}: please report this"))),
    }
}

fn line_of(injected: &Injected) -> String {
    format!("{}: {}: {} stores, {} missed", injected.model, injected.work, injected.stores, injected.missed.len())
}

fn row_of(injected: &Injected) -> [String; 7] {
    let Injected { model, work, stores, without_number, found, without_effect, missed } = injected;
    let counts = [*stores, *without_number, *found, *without_effect, missed.len()].map(|count| count.to_string());
    let [stores, without_number, found, without_effect, missed] = counts;
    [(*model).to_owned(), work.clone(), stores, without_number, found, without_effect, missed]
}

fn verdict(outcome: &Outcome) -> [String; 5] {
    [
        outcome.kernel.to_owned(),
        outcome.variant.clone(),
        if outcome.passed { "pass" } else { "FAIL" }.into(),
        outcome.worst.map_or_else(String::new, |worst| format!("{worst:.3}")),
        outcome.message.clone().unwrap_or_default(),
    ]
}
