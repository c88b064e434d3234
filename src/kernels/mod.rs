//! The vocabulary: every kernel declared once, one file a family. Declarations and grids, nothing else.

mod conv;
mod dense;
mod likelihood;
mod mixture;
mod optimiser;
mod order;
mod random;
mod reduction;
mod sampler;
mod score;
mod score_field;

pub use conv::{
    Dropout, GateBackward, GateForward, MaskedConvBackwardInput, MaskedConvBackwardWeight, MaskedConvForward,
};
pub use dense::{
    ActivationBackward, ActivationForward, MaskedDenseBackwardInput, MaskedDenseBackwardWeight, MaskedDenseForward,
    MaskedHiddenBackward, MaskedHiddenForward,
};
pub use likelihood::{LikelihoodFlow, LikelihoodLevel};
pub use mixture::{MixtureForward, MixtureTrain, SampleMixture};
pub use optimiser::{Adam, CountNonFinite};
pub use order::{PermuteColumns, PermuteRows, SeenBias, SeenBiasBackward};
pub use random::{CorruptContext, PerturbRows, RandomWords};
pub use reduction::{AddScaled, ColumnSum, CopyColumns, GatherRows, RepackRows, SquareSum, SumPartials};
pub use sampler::{SampleLangevin, SampleMala, SampleMultilevel, SampleOde};
pub use score::{ScoreConstants, ScoreForward, ScoreTrain};
pub use score_field::{
    DiagonalBackward, DiagonalForward, ProbeDirections, ResidualLoss, SlicedLoss, TangentBackward, TangentForward,
};

pub use crate::gpu::CountSubmission;
use crate::gpu::{Kernel, KernelSpec};

/// Every kernel.
pub const ALL: &[&KernelSpec] = &[
    MaskedDenseForward::SPEC,
    MaskedHiddenForward::SPEC,
    MaskedDenseBackwardInput::SPEC,
    MaskedHiddenBackward::SPEC,
    MaskedDenseBackwardWeight::SPEC,
    ActivationForward::SPEC,
    ActivationBackward::SPEC,
    MaskedConvForward::SPEC,
    MaskedConvBackwardInput::SPEC,
    MaskedConvBackwardWeight::SPEC,
    GateForward::SPEC,
    GateBackward::SPEC,
    Dropout::SPEC,
    ColumnSum::SPEC,
    SumPartials::SPEC,
    SquareSum::SPEC,
    CopyColumns::SPEC,
    GatherRows::SPEC,
    RepackRows::SPEC,
    AddScaled::SPEC,
    PerturbRows::SPEC,
    CorruptContext::SPEC,
    RandomWords::SPEC,
    ScoreForward::SPEC,
    ScoreTrain::SPEC,
    MixtureForward::SPEC,
    MixtureTrain::SPEC,
    PermuteColumns::SPEC,
    PermuteRows::SPEC,
    SeenBias::SPEC,
    SeenBiasBackward::SPEC,
    Adam::SPEC,
    CountNonFinite::SPEC,
    CountSubmission::SPEC,
    SampleMultilevel::SPEC,
    SampleLangevin::SPEC,
    SampleOde::SPEC,
    SampleMala::SPEC,
    SampleMixture::SPEC,
    LikelihoodLevel::SPEC,
    LikelihoodFlow::SPEC,
    TangentForward::SPEC,
    TangentBackward::SPEC,
    DiagonalForward::SPEC,
    DiagonalBackward::SPEC,
    ProbeDirections::SPEC,
    ResidualLoss::SPEC,
    SlicedLoss::SPEC,
];

/// Workgroups of 64 threads, one thread for each of `threads`, as the two-dimensional grid that the kernels unfold with
/// `(group.y * 1024 + group.x) * 64 + local.x`: one dimension holds 65,535 workgroups only.
fn linear_grid(threads: u32) -> [u32; 3] {
    let groups = threads.div_ceil(64);
    [groups.min(1024), groups.div_ceil(1024), 1]
}
