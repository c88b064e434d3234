//! Conditionals in closed form, as in MADE and PixelCNN++: the context of a dimension holds the parameters of a Gaussian
//! or of a mixture, so the context network is the whole model.
//!
//! ```text
//! q(x_d | c_d) = sum_i w_i q_i((x_d - m_i) / s_i) / s_i      w = softmax(logits), K = 3 M (2 for a single Gaussian)
//! under noise sigma:  t_i = sqrt(s_i^2 + sigma^2) for Gaussians: exact;
//!                     t_i = sqrt(s_i^2 + 3 sigma^2 / pi^2) for logistics: the logistic of the same variance
//! ```
//!
//! So one set of parameters has a normalised density, a score and a slope at every noise level, and is trained by maximum
//! likelihood or by score matching over all of them.

use crate::codes::{Family, Objective};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::{MixtureForward, MixtureTrain, SumPartials};
use crate::models::ar_csm::{HeadKind, ModelConfig, ScoreWorkspace};
use crate::nn::memory::{Planned, allocate};

/// Threads of a workgroup.
const THREADS: usize = 64;
/// Loop iterations of one dispatch stay below this where the number of workgroups can see to it.
const ITERATIONS: u64 = 40_000;

/// The levels of discretised data: each has all that is nearer to it than to the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bins {
    /// Lowest level.
    pub low: f32,
    /// Highest level.
    pub high: f32,
    /// How many; at least 2.
    pub count: usize,
}

impl Bins {
    /// From one level to the next.
    pub fn width(&self) -> f32 {
        (self.high - self.low) / (self.count - 1) as f32
    }

    /// Checks that values are levels, to a thousandth of the width; `subject` names them.
    ///
    /// # Errors
    /// Bad input, with the first value that is none.
    pub fn check(&self, subject: &str, values: &[f32]) -> Result<()> {
        let (low, high, count, width) = (self.low, self.high, self.count, self.width());
        let is_level = |x: f32| {
            let index = (x - low) / width;
            (-0.001..=(count - 1) as f32 + 0.001).contains(&index) && (index - index.round()).abs() <= 0.001
        };
        let Some(stray) = values.iter().copied().find(|&x| !is_level(x)) else { return Ok(()) };
        let problem = format!("holds {stray}, which is none of {count} levels from {low} to {high}");
        Err(Error::input(subject, problem, "Give `bins` the number of levels of the data, or leave it out"))
    }
}

/// A mixture for each dimension; it has no parameters of its own.
#[derive(Debug, Clone)]
pub struct MixtureHead {
    /// What its components are.
    pub family: Family,
    /// M
    pub components: usize,
    /// Whether there are weights: a single Gaussian has none.
    pub has_logits: bool,
    /// Where component 0 is for a context of zeros.
    pub first_mean: f32,
    /// How far apart components are then.
    pub mean_step: f32,
    /// Unit of the means in the context.
    pub mean_unit: f32,
    /// Scale for a context of zeros.
    pub scale_unit: f32,
    /// Levels, where values have probabilities instead of a density.
    pub bins: Option<Bins>,
}

impl MixtureHead {
    /// Contexts of zeros give the data's mean and standard deviation, or components spread evenly over its range:
    /// those of the settings, or 0 and 1, and four standard deviations round the mean.
    ///
    /// # Panics
    /// For the score head: a broken invariant of the caller.
    pub fn new(config: &ModelConfig) -> Self {
        let (mean, sd) = (config.score.mean.unwrap_or(0.0), config.score.sd.unwrap_or(1.0));
        let [low, high] = config.score.range.unwrap_or([mean - 4.0 * sd, mean + 4.0 * sd]);
        let family = match config.head {
            HeadKind::Gaussian | HeadKind::Mog => Family::Gaussian,
            HeadKind::Mol => Family::Logistic,
            HeadKind::Score => unreachable!("the score head is no mixture"),
        };
        if config.head == HeadKind::Gaussian {
            return Self {
                family,
                components: 1,
                has_logits: false,
                first_mean: mean,
                mean_step: 0.0,
                mean_unit: sd,
                scale_unit: sd,
                bins: None,
            };
        }
        let step = (high - low) / config.components as f32;
        Self {
            family,
            components: config.components,
            has_logits: true,
            first_mean: low + 0.5 * step,
            mean_step: step,
            mean_unit: sd,
            scale_unit: step,
            bins: config.bins.map(|count| Bins { low, high, count }),
        }
    }

    /// Memory for the rows of a batch, one row out of `row_stride`.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn workspace(
        &self,
        gpu: &Gpu,
        batch: usize,
        dimensions: usize,
        row_stride: usize,
    ) -> Result<ScoreWorkspace, GpuError> {
        let mut tensors = allocate(gpu, &self.plan(gpu, batch, dimensions, row_stride))?;
        let mut next = || tensors.next().expect("the plan has four tensors");
        let (rows, result, loss, scratch) = (next(), next(), next(), next());
        Ok(ScoreWorkspace { batch, dimensions, row_stride, rows, result, loss, scratch })
    }

    /// What [`MixtureHead::workspace`] allocates: rows, result, loss and the losses of the workgroups.
    pub fn plan(&self, gpu: &Gpu, batch: usize, dimensions: usize, row_stride: usize) -> [Planned; 4] {
        let n_rows = (batch * dimensions).div_ceil(row_stride);
        let tiles = n_rows.div_ceil(THREADS);
        let fill = if gpu.adapter().software { 16 } else { 1024 };
        let bounded = (tiles as u64 * (3 * self.components as u64 + 1)).div_ceil(ITERATIONS) as usize;
        [
            Planned::new("rows", &[n_rows, 4]),
            Planned::new("result", &[n_rows, 4]),
            Planned::new("loss", &[4]),
            Planned::new("mixture_losses", &[tiles.min(fill).max(bounded), 4]),
        ]
    }

    /// Scores, slopes and log densities (of binned values, log probabilities) of `workspace.rows` into
    /// `workspace.result`, from contexts (B, D K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        context: &Tensor,
        workspace: &ScoreWorkspace,
    ) -> Result<(), GpuError> {
        let [bin_low, bin_high, bin_width] = self.bin_numbers();
        recorder.run(&MixtureForward {
            family: self.family as u32,
            n_rows: workspace.n_rows(),
            batch: workspace.batch as u32,
            dimensions: workspace.dimensions as u32,
            context_width: self.context() as u32,
            components: self.components as u32,
            n_logits: self.n_logits(),
            first_mean: self.first_mean,
            mean_step: self.mean_step,
            mean_unit: self.mean_unit,
            scale_unit: self.scale_unit,
            bin_low,
            bin_high,
            bin_width,
            context,
            rows: &workspace.rows,
            result: &workspace.result,
        })
    }

    /// Loss of `workspace.rows` and its gradient: `workspace.loss`, `dcontext` (B, D K). The loss is averaged over the
    /// batch and summed over dimensions.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn loss_and_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        objective: Objective,
        bounds: [f32; 2],
        context: &Tensor,
        dcontext: &Tensor,
        workspace: &ScoreWorkspace,
    ) -> Result<(), GpuError> {
        // Rows that are not drawn have no gradient.
        recorder.clear(dcontext);
        let [bin_low, bin_high, bin_width] = self.bin_numbers();
        recorder.run(&MixtureTrain {
            family: self.family as u32,
            objective: objective as u32,
            n_rows: workspace.n_rows(),
            batch: workspace.batch as u32,
            dimensions: workspace.dimensions as u32,
            context_width: self.context() as u32,
            row_stride: workspace.row_stride as u32,
            n_groups: workspace.n_groups(),
            components: self.components as u32,
            n_logits: self.n_logits(),
            first_mean: self.first_mean,
            mean_step: self.mean_step,
            mean_unit: self.mean_unit,
            scale_unit: self.scale_unit,
            bin_low,
            bin_high,
            bin_width,
            low: bounds[0],
            high: bounds[1],
            context,
            rows: &workspace.rows,
            dcontext,
            partials: &workspace.scratch,
        })?;
        recorder.run(&SumPartials {
            n_groups: workspace.n_groups(),
            words: 4,
            offset: 0,
            n_sums: 4,
            partials: &workspace.scratch,
            sums: &workspace.loss,
        })
    }

    /// K
    pub fn context(&self) -> usize {
        self.n_logits() as usize + 2 * self.components
    }

    /// Logits in a context.
    pub(crate) fn n_logits(&self) -> u32 {
        if self.has_logits { self.components as u32 } else { 0 }
    }

    /// Lowest and highest level and the width of a bin, as the kernels take them: zeros for densities.
    pub(crate) fn bin_numbers(&self) -> [f32; 3] {
        self.bins.map_or([0.0; 3], |bins| [bins.low, bins.high, bins.width()])
    }
}
