//! The score network shared by all dimensions: (c_d, x~_d, sigma) -> s_d, with ds_d/dx~_d by a forward tangent.

use crate::codes::{Activation, Objective, Parametrisation};
use crate::gpu::{Gpu, GpuError, Recorder, Tensor, pitch};
use crate::kernels::{PerturbRows, ScoreConstants, ScoreForward, ScoreTrain, SumPartials};
use crate::models::ar_csm::ScoreConfig;
use crate::nn::memory::{Planned, allocate};
use crate::nn::{Noise, ParamBuffer, ParamTable, SlotId};

/// Lines of a tile in the kernels: values, or values and tangents in turn.
const TILE_LINES: usize = 64;
/// vec4s of weights that fit WebGPU's default limit of a uniform buffer, 64 KiB.
const UNIFORM_QUADS: usize = 4096;
/// vec4s of a layer that a thread's private memory is planned for.
const PRIVATE_QUADS: u64 = 16;
/// vec4s of a layer's inputs that a thread holds in registers at most, for two lines: a quarter of what a GPU's thread has.
const MAX_QUADS: u64 = 8;

/// An MLP on [c_d, u, log(sigma)/2] (without the last for `plain`), made a score by its parametrisation.
#[derive(Debug)]
pub struct ScoreNet {
    context: usize,
    activation: Activation,
    parametrisation: Parametrisation,
    mean: f32,
    sd: f32,
    layers: Vec<Dense>,
    range: std::ops::Range<usize>,
    tables: Tensor,
    stash_words: usize,
}

#[derive(Debug)]
struct Dense {
    n_in: usize,
    n_out: usize,
    weight: SlotId,
    bias: SlotId,
}

/// Rows and scratch for one batch size.
#[derive(Debug)]
pub struct ScoreWorkspace {
    pub(super) batch: usize,
    pub(super) dimensions: usize,
    pub(super) row_stride: usize,
    /// (rows, 4) words: (sample * D + position, x~, sigma, eps), the last three as bits.
    pub rows: Tensor,
    /// (rows, 4): score, slope, and of mixture heads the log density.
    pub result: Tensor,
    /// (4): the loss in the first word.
    pub loss: Tensor,
    pub(super) scratch: Tensor,
}

impl ScoreNet {
    /// Lays the network out and adds its parameters, `net.lin.N.weight` and `.bias`, to the table.
    /// `mean` and `sd` are those of the settings, or 0 and 1.
    ///
    /// # Errors
    /// No memory for the layer table.
    pub fn new(gpu: &Gpu, config: &ScoreConfig, context: usize, table: &mut ParamTable) -> Result<Self, GpuError> {
        let start = table.words();
        let input = context + if config.parametrisation == Parametrisation::Plain { 1 } else { 2 };
        let widths: Vec<usize> = std::iter::once(input).chain(config.hidden.iter().copied()).chain([1]).collect();
        let layers: Vec<Dense> = widths
            .windows(2)
            .enumerate()
            .map(|(l, pair)| Dense {
                n_in: pair[0],
                n_out: pair[1],
                weight: table.add(format!("net.lin.{l}.weight"), &[pair[1], pair[0]], None),
                bias: table.add(format!("net.lin.{l}.bias"), &[pair[1]], None),
            })
            .collect();
        let (words, stash_words) = layer_table(&layers, table, start);
        Ok(Self {
            context,
            activation: config.activation,
            parametrisation: config.parametrisation,
            mean: config.mean.unwrap_or(0.0),
            sd: config.sd.unwrap_or(1.0),
            tables: gpu.upload("score_layers", &[words.len()], &words)?,
            layers,
            range: start..table.words(),
            stash_words,
        })
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

    /// What [`ScoreNet::workspace`] allocates: rows, result, loss and scratch.
    pub fn plan(&self, gpu: &Gpu, batch: usize, dimensions: usize, row_stride: usize) -> [Planned; 4] {
        let n_rows = (batch * dimensions).div_ceil(row_stride);
        let tiles = n_rows.div_ceil(TILE_LINES / 2);
        // Enough workgroups to fill the adapter, and so many that none loops for too long.
        let fill = if gpu.adapter().software { 16 } else { 512 };
        let n_groups = tiles.min(fill).max((tiles as u64 * self.training_iterations()).div_ceil(40_000) as usize);
        [
            Planned::new("rows", &[n_rows, 4]),
            Planned::new("result", &[n_rows, 4]),
            Planned::new("loss", &[4]),
            Planned::new("score_scratch", &[n_groups, self.scratch_words()]),
        ]
    }

    /// Scores and slopes of `workspace.rows` into `workspace.result`, from contexts (B, D K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        context: &Tensor,
        workspace: &ScoreWorkspace,
    ) -> Result<(), GpuError> {
        let constants = self.constants();
        recorder.run(&ScoreForward {
            activation: self.activation as u32,
            parametrisation: self.parametrisation as u32,
            score: constants,
            row_iterations: self.rows_iterations(),
            n_rows: workspace.n_rows(),
            batch: workspace.batch as u32,
            dimensions: workspace.dimensions as u32,
            context_width: self.context as u32,
            n_net: self.range.len() as u32,
            n_tables: self.tables.words() as u32,
            n_groups: workspace.n_groups(),
            scratch_words: self.scratch_words() as u32,
            mean: self.mean,
            sd: self.sd,
            context,
            rows: &workspace.rows,
            net: &self.window(weights),
            tables: &self.tables,
            scratch: &workspace.scratch,
            result: &workspace.result,
        })
    }

    /// Loss of `workspace.rows` and its gradients: `workspace.loss`, `dcontext` (B, D K), and this network's part of
    /// `gradient`. The loss is averaged over the batch and summed over dimensions.
    ///
    /// # Errors
    /// Shapes that do not fit.
    #[allow(clippy::too_many_arguments, reason = "the mathematics has this many quantities")]
    pub fn loss_and_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        objective: Objective,
        bounds: [f32; 2],
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        context: &Tensor,
        dcontext: &Tensor,
        workspace: &ScoreWorkspace,
    ) -> Result<(), GpuError> {
        // Rows that are not drawn have no gradient.
        recorder.clear(dcontext);
        let constants = self.constants();
        recorder.run(&ScoreTrain {
            activation: self.activation as u32,
            parametrisation: self.parametrisation as u32,
            objective: objective as u32,
            tangent: u32::from(objective != Objective::Dsm),
            score: constants,
            row_iterations: self.training_iterations(),
            n_rows: workspace.n_rows(),
            batch: workspace.batch as u32,
            dimensions: workspace.dimensions as u32,
            context_width: self.context as u32,
            row_stride: workspace.row_stride as u32,
            n_net: self.range.len() as u32,
            n_tables: self.tables.words() as u32,
            n_groups: workspace.n_groups(),
            scratch_words: self.scratch_words() as u32,
            gradient_at: self.stash_words as u32,
            mean: self.mean,
            sd: self.sd,
            low: bounds[0],
            high: bounds[1],
            context,
            rows: &workspace.rows,
            net: &self.window(weights),
            tables: &self.tables,
            scratch: &workspace.scratch,
            dcontext,
        })?;
        let mut sum = |offset: usize, sums: &Tensor| {
            recorder.run(&SumPartials {
                n_groups: workspace.n_groups(),
                words: self.scratch_words() as u32,
                offset: offset as u32,
                n_sums: sums.words() as u32,
                partials: &workspace.scratch,
                sums,
            })
        };
        sum(self.stash_words, &self.window(gradient))?;
        sum(self.stash_words + self.range.len(), &workspace.loss)
    }

    /// Centre of the data as the network sees it.
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// Standard deviation of the data as the network sees it.
    pub fn sd(&self) -> f32 {
        self.sd
    }

    /// Activation of the hidden layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// How the output becomes a score.
    pub fn parametrisation(&self) -> Parametrisation {
        self.parametrisation
    }

    /// Multiply-adds of one evaluation of the score.
    pub fn multiply_adds(&self) -> u64 {
        self.layers.iter().map(|layer| (layer.n_in * layer.n_out) as u64).sum()
    }

    /// All its weights as one flat vector.
    pub(crate) fn window(&self, weights: &ParamBuffer) -> Tensor {
        weights.range("net", self.range.clone())
    }

    /// The layer table, as the samplers append theirs to it.
    pub(crate) fn table_words(&self, table: &ParamTable) -> Vec<u32> {
        layer_table(&self.layers, table, self.range.start).0
    }

    /// Words of scratch that a tile of activations takes.
    pub(crate) fn stash_words(&self) -> usize {
        self.stash_words
    }

    /// Activations, then a gradient laid out as the weights, then the loss.
    fn scratch_words(&self) -> usize {
        self.stash_words + self.range.len() + 4
    }

    /// Whether it fits threads' own memory.
    pub(crate) fn is_small(&self) -> bool {
        self.constants().net_quads > 0
    }

    pub(crate) fn constants(&self) -> ScoreConstants {
        let (_, hidden) = self.layers.split_last().expect("there is an output layer");
        let widest = hidden.iter().map(|layer| quads(layer.n_out)).max().expect("there is a hidden layer");
        let first_quads = quads(self.layers[0].n_in);
        let net_quads = self.range.len().div_ceil(4);
        let most_quads = first_quads.max(widest);
        let is_small =
            net_quads <= UNIFORM_QUADS && most_quads <= PRIVATE_QUADS && hidden.len() <= ScoreConstants::MAX_HIDDEN;
        let mut widths = [0; ScoreConstants::MAX_HIDDEN + 1];
        widths[0] = first_quads as u32;
        for (width, layer) in widths[1..].iter_mut().zip(hidden) {
            *width = quads(layer.n_out).next_multiple_of(2) as u32;
        }
        ScoreConstants {
            hidden: hidden.len() as u32,
            first_quads: first_quads.min(MAX_QUADS) as u32,
            hidden_quads: widest.next_multiple_of(2).min(MAX_QUADS) as u32,
            wide: u32::from(most_quads > MAX_QUADS),
            net_quads: if is_small { net_quads as u32 } else { 0 },
            widths,
        }
    }

    /// Loop iterations of one thread for the forward pass of one tile, at most, in either form of the network.
    pub(crate) fn forward_iterations(&self) -> u64 {
        let [shared, private] = self.forward_loops();
        // By a whole workgroup: four blocks of lines at most, layer by layer, after the context's columns.
        let by_group = quads(self.layers[0].n_in) + 4 * (self.layers.len() as u64 - 1);
        shared.max(private).max(by_group)
    }

    /// The same for 32 rows, which are one tile in shared memory and four in private memory.
    pub(crate) fn rows_iterations(&self) -> u64 {
        let [shared, private] = self.forward_loops();
        shared.max(4 * private)
    }

    /// Loop iterations of one thread for the whole training of 32 rows, at most.
    pub(crate) fn training_iterations(&self) -> u64 {
        let (output, hidden) = self.layers.split_last().expect("there is an output layer");
        let [shared_forward, private_forward] = self.forward_loops();
        let backward = |layer: &Dense| {
            let weight = layer.n_in.div_ceil(64) * (layer.n_out.div_ceil(64) * (TILE_LINES / 8 * 10 + 1) + 1);
            weight as u64 + layer.n_in.div_ceil(8) as u64 * (chunks(layer.n_out) + 1) + 1
        };
        let last = quads(output.n_in) + quads(output.n_in).div_ceil(32) * (TILE_LINES as u64 + 1) + TILE_LINES as u64;
        let shared = shared_forward + last + hidden.iter().map(backward).sum::<u64>() + 3;
        let input_gradients: u64 = hidden.iter().map(|layer| layer.n_out.div_ceil(8) as u64 + 1).sum();
        shared.max(4 * (private_forward + input_gradients + 1))
    }

    /// Of one tile's forward pass in score_net.wgsl, whose loops run over outputs, and in score_net_private.wgsl, over inputs.
    fn forward_loops(&self) -> [u64; 2] {
        let (_, hidden) = self.layers.split_last().expect("there is an output layer");
        let by_outputs = |layer: &Dense| chunks(layer.n_in) * (layer.n_out.div_ceil(8) as u64 + 1) + 1;
        let by_inputs = |layer: &Dense| quads(layer.n_in) + 1;
        let inputs = quads(self.layers[0].n_in) + 1;
        [inputs + hidden.iter().map(by_outputs).sum::<u64>(), inputs + hidden.iter().map(by_inputs).sum::<u64>()]
    }
}

/// vec4s of a row.
fn quads(width: usize) -> u64 {
    width.div_ceil(4) as u64
}

/// How often a thread fills its registers with parts of a layer's inputs.
fn chunks(width: usize) -> u64 {
    quads(width).div_ceil(MAX_QUADS)
}

impl ScoreWorkspace {
    /// Draws noisy rows of x (B, D) into `rows`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn perturb(&self, recorder: &mut Recorder<'_>, x: &Tensor, noise: &Noise) -> Result<(), GpuError> {
        recorder.run(&PerturbRows {
            n_rows: self.n_rows(),
            batch: self.batch as u32,
            dimensions: self.dimensions as u32,
            row_stride: self.row_stride as u32,
            seed_low: noise.seed as u32,
            seed_high: (noise.seed >> 32) as u32,
            first_sample: noise.first_sample,
            step: noise.step,
            log_sigma_min: noise.sigma_min.ln(),
            log_sigma_range: (noise.sigma_max / noise.sigma_min).ln(),
            noise: f32::from(u8::from(noise.enabled)),
            x,
            rows: &self.rows,
        })
    }

    pub(super) fn n_rows(&self) -> u32 {
        self.rows.shape()[0] as u32
    }

    pub(super) fn n_groups(&self) -> u32 {
        self.scratch.shape()[0] as u32
    }
}

/// The table that `shared/score_net.wgsl` reads, and the words of scratch a tile takes: first the input, then z and h of
/// each hidden layer. The output layer's z and h are never written.
fn layer_table(layers: &[Dense], table: &ParamTable, start: usize) -> (Vec<u32>, usize) {
    let tile_quads = |width: usize| TILE_LINES * pitch(width) / 4;
    let quad = |slot: SlotId| (table.slot(slot).offset - start) / 4;
    let mut words = Vec::new();
    let (mut input, mut end) = (0, tile_quads(layers[0].n_in));
    for layer in layers {
        let (z, h) = (end, end + tile_quads(layer.n_out));
        let row = [layer.n_in, layer.n_out, quad(layer.weight), quad(layer.bias), input, z, h, 0];
        words.extend(row.map(|value| value as u32));
        (input, end) = (h, h + tile_quads(layer.n_out));
    }
    let output_quads = 2 * layers.last().map_or(0, |layer| tile_quads(layer.n_out));
    (words, (end - output_quads) * 4)
}
