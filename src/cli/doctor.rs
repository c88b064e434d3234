//! `arcsm doctor`

use serde_json::json;

use super::console::table;
use super::{Session, Task, after_help};
use crate::doctor::{CHECKS, Outcome, examine};
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
pub(super) struct Doctor {}

impl Task for Doctor {
    fn run(&self, session: &Session<'_>) -> Result<()> {
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

fn verdict(outcome: &Outcome) -> [String; 5] {
    [
        outcome.kernel.to_owned(),
        outcome.variant.clone(),
        if outcome.passed { "pass" } else { "FAIL" }.into(),
        outcome.worst.map_or_else(String::new, |worst| format!("{worst:.3}")),
        outcome.message.clone().unwrap_or_default(),
    ]
}
