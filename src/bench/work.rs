//! What the mathematics needs of a kernel: FLOPs, and bytes read and written.

use crate::ask::sample::MALA_LINES;
use crate::error::Result;
use crate::gpu::{Access, Gpu, Launch};
use crate::kernels::Adam;
use crate::models::ar_csm::ArCsm;

/// FLOPs and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Two for a multiply-add that the masks leave. Elsewhere one for each operation of the formula, whatever it is.
    pub flop: u64,
    /// Every number once for reading it, once for writing it.
    pub bytes: u64,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.flop += other.flop;
        self.bytes += other.bytes;
    }
}

/// Multiply-adds of a model, which the tables that its kernels read do not tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelWork {
    /// Of one evaluation of the score network.
    score: u64,
    /// Of the context network for one sample.
    context: u64,
    /// D
    dimensions: u64,
}

impl ModelWork {
    pub(super) fn of(model: &ArCsm) -> Self {
        let score = model.head.multiply_adds();
        Self { score, context: model.context_net.multiply_adds(), dimensions: model.dimensions() as u64 }
    }
}

/// Kernels that update what they write, whatever their `accumulate` says.
const UPDATES: [&str; 10] = [
    "adam",
    "dropout",
    "count_non_finite",
    "count_submission",
    "sample_multilevel",
    "sample_langevin",
    "sample_ode",
    "sample_mala",
    "sample_mixture",
    "likelihood_level",
];

/// What a dispatch needs. Masks of dense layers are read back from the adapter.
pub(super) fn of_launch(gpu: &Gpu, launch: &Launch, model: ModelWork) -> Result<Work> {
    let visible = match launch.tensor("visible") {
        Some(tensor) => Some(gpu.read::<u32>(tensor)?.into_iter().map(u64::from).sum()),
        None => None,
    };
    Ok(Work { flop: flop(launch, model, visible.unwrap_or(0)), bytes: 4 * words(launch, visible) })
}

/// Words of all arguments. Scratch is the kernel's own affair; of a masked weight only what the mask leaves counts, of
/// contexts those of the rows at hand, and of a sampler's weights and state the share of the dimensions at hand.
fn words(launch: &Launch, visible: Option<u64>) -> u64 {
    let dimensions = spanned_dimensions(launch);
    let updates = launch.value("accumulate") == 1 || UPDATES.contains(&launch.spec.name);
    let rows = u64::from(launch.value("n_rows"));
    let of_argument = |(binding, tensor): (&crate::gpu::Binding, &crate::gpu::Tensor)| {
        let all = tensor.elements() as u64;
        let needed = match (binding.name, visible) {
            ("scratch", _) => 0,
            ("weight" | "dweight", Some(visible)) => visible,
            ("context" | "dcontext", _) if rows > 0 => all.min(rows * u64::from(launch.value("context_width"))),
            ("context_net" | "state", _) => all * dimensions / u64::from(launch.value("dimensions")).max(1),
            _ => all,
        };
        let passes = if binding.access == Access::ReadWrite && updates { 2 } else { 1 };
        passes * needed
    };
    launch.spec.bindings.iter().zip(&launch.tensors).map(of_argument).sum()
}

/// Dimensions that a sampler's dispatch draws, rounded up.
fn spanned_dimensions(launch: &Launch) -> u64 {
    let value = |name: &str| u64::from(launch.value(name));
    let evaluations = value("end_evaluation").saturating_sub(value("first_evaluation"));
    let of_dimension = match launch.spec.name {
        "sample_mala" => value("n_levels") * (value("steps") + 1),
        _ => value("n_levels") * value("steps") + 1,
    };
    let of_chain = evaluations.div_ceil(of_dimension.max(1));
    value("end_dimension").saturating_sub(value("first_dimension")) + of_chain
}

fn flop(launch: &Launch, model: ModelWork, visible: u64) -> u64 {
    let value = |name: &str| u64::from(launch.value(name));
    let product = |names: &[&str]| names.iter().map(|name| value(name)).product::<u64>();
    let rows = value("n_rows");
    let spanned = spanned_dimensions(launch);
    // A sampler's contexts for some of the dimensions, each unit once.
    let contexts = match value("incremental") {
        1 => value("n_samples") * model.context * spanned / model.dimensions,
        _ => 0,
    };
    match launch.spec.name {
        "masked_dense_forward" | "masked_dense_backward_input" | "masked_dense_backward_weight" => {
            2 * value("batch") * visible
        }
        // As the activations below.
        "masked_hidden_forward" => 2 * value("batch") * visible + 4 * product(&["batch", "n_out"]),
        "masked_hidden_backward" => 2 * value("batch") * visible + 8 * product(&["batch", "n_in"]),
        "masked_conv_forward" | "masked_conv_backward_input" | "masked_conv_backward_weight" => {
            2 * product(&["batch", "out_height", "out_width"]) * convolution_weights(launch)
        }
        // exp, an addition, a division, a product; their derivative takes four more.
        "activation_forward" => 4 * product(&["batch", "n_out"]),
        "activation_backward" => 8 * product(&["batch", "n_out"]),
        // Two activations, a product, a sum.
        "gate_forward" => 10 * product(&["rows", "width"]),
        "gate_backward" => 20 * product(&["rows", "width"]),
        "dropout" => product(&["rows", "width"]),
        "column_sum" => product(&["rows", "columns"]),
        "seen_bias" => visible,
        "sum_partials" => product(&["n_groups", "n_sums"]),
        "square_sum" | "add_scaled" => 2 * value("n_values"),
        "count_non_finite" => value("n_values"),
        "adam" => 18 * value("n_blocks") * Adam::BLOCK_WORDS as u64,
        // Logarithm, root, cosine and exponential with their arguments.
        "perturb_rows" => 10 * rows,
        "corrupt_context" => 10 * product(&["batch", "dimensions"]),
        // Values and tangents; in training forward and two gradients of each.
        "tangent_forward" => 5 * product(&["batch", "n_out", "n_directions"]),
        "tangent_backward" => 12 * product(&["batch", "n_out", "n_directions"]),
        "diagonal_forward" | "diagonal_backward" => 2 * product(&["rows", "columns"]),
        "probe_directions" => product(&["batch", "dimensions", "n_directions"]),
        "residual_loss" => 5 * product(&["batch", "dimensions"]),
        "sliced_loss" => 5 * product(&["batch", "dimensions", "n_directions"]),
        "score_forward" => 2 * 2 * rows * model.score,
        "score_train" => 2 * rows * model.score * if value("TANGENT") == 1 { 6 } else { 3 },
        // Of each component a density, its score and slope.
        "mixture_forward" => 20 * rows * value("components"),
        "mixture_train" => 40 * rows * value("components"),
        "sample_multilevel" => {
            let evaluations = (value("n_levels") + 1) * value("points") + 1;
            2 * (contexts + spanned * value("n_samples") * evaluations * model.score)
        }
        "sample_langevin" => {
            let evaluations = value("end_evaluation").saturating_sub(value("first_evaluation"));
            2 * (contexts + evaluations * value("n_samples") * model.score)
        }
        // A grid, then two scores a level for the flow and one for ancestral draws.
        "sample_ode" => {
            let of_level = if value("ancestral") == 1 { 1 } else { 2 };
            let evaluations = 2 * value("points") + of_level * value("n_levels");
            2 * (contexts + spanned * value("n_samples") * evaluations * model.score)
        }
        // One score starts a level, four points of a line are a step.
        "sample_mala" => {
            let rounds = value("end_evaluation").saturating_sub(value("first_evaluation"));
            let levels = rounds.div_ceil(value("steps") + 1);
            let evaluations = rounds + (MALA_LINES as u64 - 1) * (rounds - levels);
            2 * (contexts + evaluations * value("n_samples") * model.score)
        }
        "sample_mixture" => 2 * contexts + 20 * spanned * product(&["n_samples", "components"]),
        // The grid's scores, and a sum over it for every point of the level above.
        "likelihood_level" => {
            let sums = 4 * product(&["points", "points_above"]);
            value("used_rows") * (2 * value("points") * model.score + sums)
        }
        // Heun's method takes two evaluations a step, with slopes.
        "likelihood_flow" => 2 * product(&["used_rows", "points", "n_steps"]) * 2 * 2 * model.score,
        _ => 0,
    }
}

/// Weights of a masked convolution that the mask leaves: all but those of the last tap, of which the colour groups see what
/// comes before them (as `shaders/shared/conv_taps.wgsl` has it).
fn convolution_weights(launch: &Launch) -> u64 {
    let value = |name: &str| u64::from(launch.value(name));
    let (n_in, n_out, groups) = (value("n_in"), value("n_out"), value("groups").max(1));
    let half_width = value("half_width").max(1);
    let at_last_tap = |output: u64| match value("mask") {
        0 => n_in,
        mask => (((output % half_width) * groups / half_width + mask - 1) * n_in).div_ceil(groups),
    };
    n_out * (value("n_taps").saturating_sub(1)) * n_in + (0..n_out).map(at_last_tap).sum::<u64>()
}
