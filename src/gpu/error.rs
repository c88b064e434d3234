//! What can go wrong between the host and the adapter.

/// Failures of the GPU layer; `Display` is one line that ends with the remedy.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// No adapter at all.
    #[error(
        "no GPU adapter was found, not even a software one. Install a Vulkan driver (on Debian or Ubuntu: \
         apt-get install mesa-vulkan-drivers), or unset VK_DRIVER_FILES and WGPU_BACKEND"
    )]
    NoAdapter,
    /// The adapter that was asked for is not there.
    #[error("no adapter matches `{wanted}`. Known adapters: {known}")]
    UnknownAdapter {
        /// The name or index that was asked for.
        wanted: String,
        /// What is there.
        known: String,
    },
    /// The driver would not open the adapter.
    #[error("adapter {adapter} could not be opened: {reason}. Try another one (`arcsm adapters` lists them)")]
    Device {
        /// Adapter name.
        adapter: String,
        /// The driver's word.
        reason: String,
    },
    /// A buffer does not fit the adapter's limits.
    #[error(
        "{label} needs {bytes} bytes, but {adapter} allows {limit} bytes in one {what}. \
         Use smaller sizes (hidden widths, context, batch) or an adapter with a larger limit"
    )]
    TooLarge {
        /// The tensor.
        label: String,
        /// Bytes it needs.
        bytes: u64,
        /// The adapter's limit.
        limit: u64,
        /// `"buffer"` or `"binding"`.
        what: &'static str,
        /// Adapter name.
        adapter: String,
    },
    /// The adapter, or the host for its driver, has no memory left.
    #[error(
        "out of GPU memory while {doing}. Use a smaller batch or model, or end other programs that use the adapter"
    )]
    OutOfMemory {
        /// What was being done, with the bytes where they are known.
        doing: String,
    },
    /// A kernel does not compile or its pipeline cannot be made.
    #[error("kernel {kernel} was refused: {reason}. This is a bug in arcsm or the driver: please report it")]
    Kernel {
        /// Kernel name.
        kernel: String,
        /// Compiler or validator output.
        reason: String,
    },
    /// Tensors do not match what a kernel declares.
    #[error("kernel {kernel}: {argument} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Kernel name.
        kernel: &'static str,
        /// Argument name.
        argument: &'static str,
        /// Shape of the tensor.
        found: Vec<usize>,
        /// Shape the declaration asks for.
        expected: Vec<usize>,
    },
    /// A dispatch would exceed a limit of the adapter or of the shader compiler.
    #[error("kernel {kernel}: {problem}. Use a smaller batch or smaller chunks")]
    Dispatch {
        /// Kernel name.
        kernel: &'static str,
        /// The number and its limit.
        problem: String,
    },
    /// The driver reset or removed the device.
    #[error(
        "the GPU device was lost while {doing}: {reason}. Nothing after the last checkpoint is kept; resume from it, \
         with a smaller --gpu-budget-ms if the driver ends long work"
    )]
    Lost {
        /// What was being done.
        doing: String,
        /// The driver's word.
        reason: String,
    },
    /// wgpu panicked, because the driver failed where it must not.
    #[error("the GPU layer broke down while {doing}: {reason}. Try again, and update the driver if it happens again")]
    Broken {
        /// What was being done.
        doing: String,
        /// What it panicked about.
        reason: String,
    },
    /// The adapter did not finish in time.
    #[error("the GPU did not finish within {seconds} s. Set ARCSM_GPU_TIMEOUT (seconds) higher if it is only slow")]
    Timeout {
        /// The limit in force.
        seconds: u64,
    },
    /// A submission was dropped by the driver without an error.
    #[error(
        "{missing} of {submitted} submissions were not executed by the driver, so results would be stale. \
         Resume from the last checkpoint, with a smaller --gpu-budget-ms"
    )]
    Dropped {
        /// Submissions that left no trace.
        missing: u32,
        /// Submissions made.
        submitted: u32,
    },
    /// Two profiles at a time.
    #[error("a profile of this adapter is being taken already. Take one after the other")]
    Profiled,
    /// wgpu reported an error outside any scope.
    #[error("the GPU layer reported: {0}. This is a bug in arcsm or the driver: please report it")]
    Reported(String),
}
