//! `arcsm adapters`

use serde_json::json;

use super::console::table;
use super::{Session, Task, after_help};
use crate::error::Result;
use crate::gpu::{AdapterChoice, AdapterSummary, Gpu, GpuError, GpuOptions, list_adapters};

const SOFTWARE_ONLY: &str = "\
only a software adapter is there. If the machine has a GPU, install its Vulkan driver; in a container, NVIDIA needs
`--gpus all` and NVIDIA_DRIVER_CAPABILITIES=all (or with `graphics`), AMD and Intel need `--device /dev/dri`";

/// List the GPUs of this machine, and say which one is used
///
/// WGPU_BACKEND=vulkan|metal|dx12 limits the list.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help!(
    "  arcsm adapters\n  \
       arcsm adapters --json\n  \
       arcsm train --adapter 1 ...        use the second one\n  \
       arcsm train --adapter radeon ...   use the first with this in its name"
))]
pub(super) struct Adapters {}

impl Task for Adapters {
    fn run(&self, session: &Session<'_>) -> Result<()> {
        let adapters = list_adapters();
        if adapters.is_empty() {
            return Err(GpuError::NoAdapter.into());
        }
        let choice = AdapterChoice::from_flag(session.global.adapter.as_deref());
        let opened = Gpu::open(GpuOptions { adapter: choice, ..Default::default() })?;
        let same = |a: &AdapterSummary| {
            let used = opened.adapter();
            (&a.name, &a.backend, &a.driver) == (&used.name, &used.backend, &used.driver)
        };
        let used = adapters.iter().position(same);
        let rows: Vec<[String; 8]> = adapters.iter().map(|adapter| row(adapter, Some(adapter.index) == used)).collect();
        let headings = ["#", "used", "name", "backend", "kind", "binding MiB", "buffer MiB", "driver"];
        let text = table(headings, &rows);
        session.console.result(&text, &json!({ "adapters": adapters, "used": used }))?;
        if adapters.iter().all(|adapter| adapter.software) {
            session.console.note(SOFTWARE_ONLY);
        }
        Ok(())
    }
}

fn row(adapter: &AdapterSummary, used: bool) -> [String; 8] {
    [
        adapter.index.to_string(),
        if used { "*" } else { "" }.into(),
        adapter.name.clone(),
        adapter.backend.clone(),
        adapter.kind.clone(),
        (adapter.max_binding_bytes >> 20).to_string(),
        (adapter.max_buffer_bytes >> 20).to_string(),
        adapter.driver.clone(),
    ]
}
