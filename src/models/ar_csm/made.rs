//! The context network: a masked autoencoder (Germain et al. 2015) from x (B, D) to contexts (B, D, K), c_d from x_<d.

use crate::codes::Activation;
use crate::gpu::{Gpu, GpuError, Recorder, Tensor};
use crate::kernels::{
    ColumnSum, MaskedDenseBackwardWeight, MaskedDenseForward, MaskedHiddenBackward, MaskedHiddenForward,
};
use crate::models::ar_csm::ModelConfig;
use crate::nn::memory::{Planned, allocate};
use crate::nn::net::{Degrees, StepTile};
use crate::nn::{ParamBuffer, ParamTable, SlotId};

/// h_0 = x, h_l = phi(W_l h_(l-1) + b_l) (+ h_(l-1) where widths agree and residual is on), context = W h_L + b.
#[derive(Debug)]
pub struct MadeNet {
    dimensions: usize,
    context: usize,
    residual: bool,
    activation: Activation,
    degrees: Vec<Degrees>,
    layers: Vec<MaskedDense>,
    words: usize,
}

/// One masked dense layer.
#[derive(Debug)]
struct MaskedDense {
    n_in: u32,
    n_out: u32,
    weight: SlotId,
    bias: SlotId,
    visible: Tensor,
    first_output: Tensor,
}

/// Activations and their gradients for one batch size.
#[derive(Debug)]
pub struct MadeWorkspace {
    batch: usize,
    /// Before and after the activation, of every hidden layer.
    z: Vec<Tensor>,
    h: Vec<Tensor>,
    dz: Vec<Tensor>,
    dh: Vec<Tensor>,
    /// (B, D K)
    pub context: Tensor,
    /// (B, D K)
    pub dcontext: Tensor,
}

/// What depends on the order in a masked dense network: its first and its last layer.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) first_weight: SlotId,
    pub(crate) first_bias: SlotId,
    pub(crate) last_weight: SlotId,
    pub(crate) last_bias: SlotId,
    /// Leading inputs that each unit of the first layer sees, on the host and on the adapter.
    pub(crate) first_visible: Vec<u32>,
    pub(crate) visible: Tensor,
}

impl MadeNet {
    /// Lays the network out and adds its parameters, `ctx.layers.N.weight` and `.bias`, to the table.
    ///
    /// # Errors
    /// No memory for the mask vectors.
    pub fn new(gpu: &Gpu, config: &ModelConfig, dimensions: usize, table: &mut ParamTable) -> Result<Self, GpuError> {
        let mut degrees = vec![Degrees::inputs(dimensions)];
        degrees.extend(config.hidden.iter().map(|&width| Degrees::hidden(width, dimensions)));
        degrees.push(Degrees::outputs(dimensions, config.context));
        let mut layers = Vec::new();
        for (index, pair) in degrees.windows(2).enumerate() {
            let (n_in, n_out) = (pair[0].len(), pair[1].len());
            let name = format!("ctx.layers.{index}");
            let visible = pair[1].visible(&pair[0]);
            let first_output = pair[0].first_output(&pair[1]);
            layers.push(MaskedDense {
                n_in: n_in as u32,
                n_out: n_out as u32,
                visible: gpu.upload(&format!("{name}.visible"), &[n_out], &visible)?,
                first_output: gpu.upload(&format!("{name}.first_output"), &[n_in], &first_output)?,
                weight: table.add(format!("{name}.weight"), &[n_out, n_in], Some(visible)),
                bias: table.add(format!("{name}.bias"), &[n_out], None),
            });
        }
        Ok(Self {
            dimensions,
            context: config.context,
            residual: config.residual,
            activation: config.activation,
            degrees,
            layers,
            words: table.words(),
        })
    }

    /// Memory for a batch; with `training`, for gradients too.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn workspace(&self, gpu: &Gpu, batch: usize, training: bool) -> Result<MadeWorkspace, GpuError> {
        let mut tensors = allocate(gpu, &self.plan(batch, training))?;
        let n_hidden = self.layers.len() - 1;
        let mut hidden = |wanted: bool| tensors.by_ref().take(if wanted { n_hidden } else { 0 }).collect();
        let (z, h, dz, dh) = (hidden(true), hidden(true), hidden(training), hidden(training));
        let context = tensors.next().expect("the plan has a context");
        let dcontext = tensors.next().unwrap_or_else(|| context.clone());
        Ok(MadeWorkspace { batch, z, h, dz, dh, context, dcontext })
    }

    /// What [`MadeNet::workspace`] allocates: z, h, dz, dh of every hidden layer, context and dcontext.
    pub fn plan(&self, batch: usize, training: bool) -> Vec<Planned> {
        let hidden_layers = &self.layers[..self.layers.len() - 1];
        let hidden = |label: &'static str| {
            let each = hidden_layers.iter().enumerate();
            each.map(move |(l, layer)| Planned::new(format!("{label}{l}"), &[batch, layer.n_out as usize]))
        };
        let context = |label| Planned::new(label, &[batch, self.dimensions * self.context]);
        let values = hidden("z").chain(hidden("h"));
        match training {
            true => {
                values.chain(hidden("dz")).chain(hidden("dh")).chain(["context", "dcontext"].map(context)).collect()
            }
            false => values.chain([context("context")]).collect(),
        }
    }

    /// Contexts of x (B, D), into `workspace.context` (B, D K).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        x: &Tensor,
        workspace: &MadeWorkspace,
    ) -> Result<(), GpuError> {
        let batch = workspace.batch as u32;
        for (l, layer) in self.layers.iter().enumerate() {
            let input = if l == 0 { x } else { &workspace.h[l - 1] };
            let (n_in, n_out, visible) = (layer.n_in, layer.n_out, &layer.visible);
            let (weight, bias) = (&weights.tensor(layer.weight), &weights.tensor(layer.bias));
            match workspace.z.get(l) {
                None => {
                    let y = &workspace.context;
                    recorder.run(&MaskedDenseForward { batch, n_in, n_out, x: input, weight, bias, visible, y })?;
                }
                Some(z) => recorder.run(&MaskedHiddenForward {
                    activation: self.activation as u32,
                    residual: u32::from(self.has_skip(l)),
                    batch,
                    n_in,
                    n_out,
                    x: input,
                    weight,
                    bias,
                    visible,
                    z,
                    h: &workspace.h[l],
                })?,
            }
        }
        Ok(())
    }

    /// Weight gradients from `workspace.dcontext`, after [`MadeNet::forward`] on the same x. Overwrites `gradient`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn backward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        x: &Tensor,
        workspace: &MadeWorkspace,
    ) -> Result<(), GpuError> {
        let batch = workspace.batch as u32;
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let dy = workspace.dz.get(l).unwrap_or(&workspace.dcontext);
            let input = if l == 0 { x } else { &workspace.h[l - 1] };
            recorder.run(&MaskedDenseBackwardWeight {
                batch,
                n_in: layer.n_in,
                n_out: layer.n_out,
                dy,
                x: input,
                visible: &layer.visible,
                dweight: &gradient.tensor(layer.weight),
            })?;
            // Between the two that write the gradient, which wait for each other: it runs beside the first one.
            if l > 0 {
                if self.has_skip(l) {
                    recorder.copy(&workspace.dh[l], &workspace.dh[l - 1]);
                }
                recorder.run(&MaskedHiddenBackward {
                    activation: self.activation as u32,
                    batch,
                    n_in: layer.n_in,
                    n_out: layer.n_out,
                    accumulate: u32::from(self.has_skip(l)),
                    dy,
                    weight: &weights.tensor(layer.weight),
                    visible: &layer.visible,
                    first_output: &layer.first_output,
                    z: &workspace.z[l - 1],
                    dx: &workspace.dh[l - 1],
                    dz: &workspace.dz[l - 1],
                })?;
            }
            recorder.run(&ColumnSum {
                rows: batch,
                columns: layer.n_out,
                chunk_rows: batch,
                n_chunks: 1,
                values: dy,
                sums: &gradient.tensor(layer.bias).reshaped(&[1, layer.n_out as usize]),
            })?;
        }
        Ok(())
    }

    /// Whether hidden layer `l` adds its input to its output.
    fn has_skip(&self, l: usize) -> bool {
        let layer = &self.layers[l];
        self.residual && l > 0 && l + 1 < self.layers.len() && layer.n_in == layer.n_out
    }

    /// D
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// K
    pub fn context(&self) -> usize {
        self.context
    }

    /// Whether hidden layers of equal width are residual.
    pub fn is_residual(&self) -> bool {
        self.residual
    }

    /// Activation of the hidden layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Multiply-adds of one sample that the masks leave, in a pass that computes every unit once.
    pub fn multiply_adds(&self) -> u64 {
        let visible = self.degrees.windows(2).flat_map(|pair| pair[1].visible(&pair[0]));
        visible.map(u64::from).sum()
    }

    /// Those of the first layer: no gradient is taken through it.
    pub fn first_multiply_adds(&self) -> u64 {
        self.degrees[1].visible(&self.degrees[0]).into_iter().map(u64::from).sum()
    }

    /// First and last layer, which depend on the order of the dimensions.
    pub(crate) fn ends(&self) -> Ends {
        let (first, last) = (&self.layers[0], &self.layers[self.layers.len() - 1]);
        Ends {
            first_weight: first.weight,
            first_bias: first.bias,
            last_weight: last.weight,
            last_bias: last.bias,
            first_visible: self.degrees[1].visible(&self.degrees[0]),
            visible: first.visible.clone(),
        }
    }

    /// All its weights as one flat vector, for the samplers.
    pub(crate) fn window(&self, weights: &ParamBuffer) -> Tensor {
        weights.range("ctx", 0..self.words)
    }

    /// Words of a sample's state in a sampler: x, then the hidden layers, each padded to vec4s.
    pub(crate) fn state_words(&self) -> usize {
        self.degrees[..self.degrees.len() - 1].iter().map(|degrees| crate::gpu::pitch(degrees.len())).sum()
    }

    /// Number of layers, the output layer included.
    pub(crate) fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Layer table and unit starts for `made_step.wgsl`, appended to `tables`; gives the table's place.
    pub(crate) fn append_tables(&self, table: &ParamTable, tables: &mut Vec<u32>) -> u32 {
        let mut starts = Vec::new();
        for degrees in &self.degrees {
            starts.push(tables.len() as u32);
            tables.extend(degrees.starts(self.dimensions));
        }
        let at = tables.len() as u32;
        let mut input = 0;
        for (l, layer) in self.layers.iter().enumerate() {
            let output = input + crate::gpu::pitch(layer.n_in as usize) as u32;
            let quad = |slot: SlotId| table.slot(slot).offset as u32 / 4;
            let (weight, bias) = (quad(layer.weight), quad(layer.bias));
            tables.extend([layer.n_in, layer.n_out, weight, bias, input, output, starts[l], starts[l + 1]]);
            input = output;
        }
        at
    }

    /// Loop iterations of one thread for one dimension of `n_samples` samples of a sampler's workgroup, at most.
    pub(crate) fn step_iterations(&self, n_samples: u64, tile: &StepTile) -> u64 {
        let layer_bound = |(l, layer): (usize, &MaskedDense)| {
            let starts = self.degrees[l + 1].starts(self.dimensions);
            let units = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            tile.of_units(n_samples, u64::from(units), u64::from(layer.n_in).div_ceil(4))
        };
        self.layers.iter().enumerate().map(layer_bound).sum()
    }
}
