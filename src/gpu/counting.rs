//! The one kernel of this layer: submissions count themselves, so that work which a driver dropped shows.

use crate::kernel;

kernel! {
    /// Counts executed submissions; see `shaders/gpu/count_submission.wgsl`.
    pub struct CountSubmission;
    variants { "gpu/count_submission": Baseline, workgroup [1, 1, 1], tile [1, 1]; }
    params {}
    read {}
    write { counter: (4) }
    grid |tile| [1, 1, 1];
    iterations 0;
}
