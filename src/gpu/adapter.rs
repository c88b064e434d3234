//! Which GPUs are there, and which one is used.

use std::sync::OnceLock;

use serde::Serialize;

use super::{GpuError, guard};

/// What a person needs to know of an adapter.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterSummary {
    /// Position in [`list_adapters`], usable as `--adapter INDEX`.
    pub index: usize,
    /// Name given by the driver.
    pub name: String,
    /// `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub kind: String,
    /// Driver and its version.
    pub driver: String,
    /// Whether a CPU does the work.
    pub software: bool,
    /// Largest buffer that one kernel argument may have, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Smallest and largest subgroup; 0 where unknown.
    pub subgroup: [u32; 2],
}

/// Which adapter to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// `WGPU_ADAPTER_NAME` where set, else the best hardware adapter, else a software one.
    #[default]
    Best,
    /// By position in the list, or by a part of the name in any case.
    Named(String),
}

impl AdapterChoice {
    /// From a flag's value; the environment decides when it is absent.
    pub fn from_flag(flag: Option<&str>) -> Self {
        let wanted = flag.map(str::to_owned).or_else(|| std::env::var("WGPU_ADAPTER_NAME").ok());
        wanted.filter(|name| !name.is_empty()).map_or(Self::Best, Self::Named)
    }
}

/// All adapters of Vulkan, Metal and DX12 (or of `WGPU_BACKEND`), best first; none where a driver fails at that.
pub fn list_adapters() -> Vec<AdapterSummary> {
    enumerate().unwrap_or_default().iter().enumerate().map(|(i, a)| summarise(i, a)).collect()
}

/// One for the whole process: some drivers keep what an instance opened.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        // OpenGL lists the same devices again and complains on headless machines.
        descriptor.backends &= wgpu::Backends::PRIMARY;
        wgpu::Instance::new(descriptor)
    })
}

/// The adapter of a choice, with its index in [`list_adapters`].
pub(super) fn choose(choice: &AdapterChoice) -> Result<(usize, wgpu::Adapter), GpuError> {
    let mut adapters = enumerate()?;
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let AdapterChoice::Named(wanted) = choice else { return Ok((0, adapters.swap_remove(0))) };
    let by_index = wanted.parse::<usize>().ok().filter(|&i| i < adapters.len());
    let by_name = || {
        let wanted = wanted.to_lowercase();
        adapters.iter().position(|a| a.get_info().name.to_lowercase().contains(&wanted))
    };
    match by_index.or_else(by_name) {
        Some(index) => Ok((index, adapters.swap_remove(index))),
        None => {
            let names = adapters.iter().enumerate().map(|(i, a)| format!("{i}: {}", a.get_info().name));
            Err(GpuError::UnknownAdapter { wanted: wanted.clone(), known: names.collect::<Vec<_>>().join(", ") })
        }
    }
}

pub(super) fn summarise(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    AdapterSummary {
        index,
        backend: format!("{:?}", info.backend),
        kind: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software: info.device_type == wgpu::DeviceType::Cpu,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        subgroup: [info.subgroup_min_size, info.subgroup_max_size],
        name: info.name,
    }
}

/// Hardware before software, discrete before integrated; the order of the driver otherwise.
fn enumerate() -> Result<Vec<wgpu::Adapter>, GpuError> {
    let listed = guard::caught(|| pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY)));
    let broken = |reason| GpuError::Broken { doing: "looking for adapters".into(), reason };
    let mut adapters = listed.map_err(broken)?;
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::VirtualGpu => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    Ok(adapters)
}
