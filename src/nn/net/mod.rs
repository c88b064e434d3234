//! Context networks of masked convolutions: x (B, H W C) to contexts (B, H W C, K), c_d from x_<d, dimensions in raster
//! order with the channels of a pixel side by side.
//!
//! A network is a list of layers between values, which `graph` puts together; all else is written once for
//! any list: the forward and the backward pass, memory, counts of work, and the samplers' tables (`stepping`).
//! Values are (B h w, channels), a row a position.

mod degrees;
mod graph;
mod stepping;
mod taps;

pub use degrees::Degrees;
pub(crate) use graph::Graph;
pub(crate) use stepping::StepTile;
pub use taps::{Scale, Taps};

use std::ops::Range;

use crate::codes::Activation;
use crate::gpu::{Gpu, GpuError, Recorder, Tensor, pitch};
use crate::kernels::{
    ActivationBackward, ActivationForward, ColumnSum, Dropout, GateBackward, GateForward, MaskedConvBackwardInput,
    MaskedConvBackwardWeight, MaskedConvForward, RepackRows, SumPartials,
};
use crate::nn::memory::{Lifetime, Planned, allocate, share};
use crate::nn::{Noise, ParamBuffer, SlotId};

/// Positions whose parts of a weight gradient one workgroup adds up, at most and at least.
const CHUNK_ROWS: Range<usize> = 256..16_384;
/// Memory for parts of one weight gradient, at most (unless a single part takes more).
const PARTIAL_BYTES: usize = 16 << 20;

/// A network of masked convolutions.
#[derive(Debug)]
pub struct ImageNet {
    /// Rows, columns and channels of an image.
    size: [usize; 3],
    context: usize,
    activation: Activation,
    gate: Activation,
    dropout: f32,
    nodes: Vec<Node>,
    layers: Vec<Layer>,
    /// Words of its weights.
    words: usize,
    /// Workgroups that keep the adapter busy.
    workgroups: usize,
}

/// Number of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(usize);

/// A value: `channels` numbers at every position of a grid whose sides are those of the image over 2^level.
#[derive(Debug, Clone)]
struct Node {
    label: String,
    level: usize,
    channels: usize,
}

/// What makes one value from others.
#[derive(Debug)]
enum Layer {
    Convolve(Convolution),
    /// phi(input), with dropout from this place of the random numbers on.
    Activate {
        input: NodeId,
        output: NodeId,
        first_drop_place: Option<u32>,
    },
    /// skip + gate(first half) sigmoid(second half)
    Gate {
        halves: NodeId,
        skip: NodeId,
        output: NodeId,
    },
}

#[derive(Debug)]
struct Convolution {
    input: NodeId,
    output: NodeId,
    taps: Taps,
    half_width: usize,
    /// Adds to the output's value instead of making it.
    accumulate: bool,
    weight: SlotId,
    bias: SlotId,
    /// Weights that the mask leaves.
    weights_of_position: u64,
}

/// Values and their gradients for one batch size.
#[derive(Debug)]
pub struct ImageWorkspace {
    batch: usize,
    /// Of every node; without training, nodes may share memory.
    values: Vec<Tensor>,
    /// Of every node but the pixels, in training; nodes may share memory.
    gradients: Vec<Option<Tensor>>,
    /// Parts of the weight gradient at work.
    partials: Option<Tensor>,
    /// (B, D K)
    pub context: Tensor,
    /// (B, D K)
    pub dcontext: Tensor,
}

/// Fills in the geometry that the three convolution kernels share.
macro_rules! conv_kernel {
    ($Kernel:ident, $net:expr, $conv:expr, $batch:expr, { $($field:ident: $value:expr),* $(,)? }) => {{
        let (conv, net): (&Convolution, &ImageNet) = ($conv, $net);
        let (input, output) = (&net.nodes[conv.input.0], &net.nodes[conv.output.0]);
        let ([in_height, in_width], [out_height, out_width]) = (net.grid(input.level), net.grid(output.level));
        $Kernel {
            batch: $batch as u32,
            n_in: input.channels as u32,
            n_out: output.channels as u32,
            in_height: in_height as u32,
            in_width: in_width as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            n_taps: conv.taps.kernel.n_taps as u32,
            tap_width: conv.taps.kernel.columns as u32,
            above: conv.taps.above as u32,
            left: conv.taps.left as u32,
            stride: if conv.taps.scale == Scale::Halve { 2 } else { 1 },
            up: u32::from(conv.taps.scale == Scale::Double),
            mask: conv.taps.mask as u32,
            groups: net.size[2] as u32,
            half_width: conv.half_width as u32,
            $($field: $value),*
        }
    }};
}

impl ImageNet {
    /// The network that was described, with contexts of this width, its activation and that of the first half of its gates,
    /// and the share of hidden units that dropout sets to zero.
    pub(crate) fn new(
        gpu: &Gpu,
        graph: Graph<'_>,
        context: usize,
        [activation, gate]: [Activation; 2],
        dropout: f32,
    ) -> Self {
        Self {
            size: graph.size,
            context,
            activation,
            gate,
            dropout,
            words: graph.table.words(),
            nodes: graph.nodes,
            layers: graph.layers,
            workgroups: if gpu.adapter().software { 8 } else { 512 },
        }
    }

    /// D
    pub fn dimensions(&self) -> usize {
        self.size.iter().product()
    }

    /// K
    pub fn context(&self) -> usize {
        self.context
    }

    /// Multiply-adds of one image that the masks leave, in one pass.
    pub fn multiply_adds(&self) -> u64 {
        self.convolutions().map(|conv| self.positions(conv.output) as u64 * conv.weights_of_position).sum()
    }

    /// Those of the layers that read the image itself: no gradient is taken through them.
    pub fn first_multiply_adds(&self) -> u64 {
        let first = self.convolutions().filter(|conv| conv.input == NodeId(0));
        first.map(|conv| self.positions(conv.output) as u64 * conv.weights_of_position).sum()
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        self.layers.iter().filter_map(|layer| match layer {
            Layer::Convolve(conv) => Some(conv),
            _ => None,
        })
    }

    /// All its weights as one flat vector, for the samplers.
    pub(crate) fn window(&self, weights: &ParamBuffer) -> Tensor {
        weights.range("ctx", 0..self.words)
    }

    fn grid(&self, level: usize) -> [usize; 2] {
        [self.size[0] >> level, self.size[1] >> level]
    }

    fn positions(&self, node: NodeId) -> usize {
        self.grid(self.nodes[node.0].level).iter().product()
    }

    fn output(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// Whether (positions, channels K) and (1, D K) lie in memory alike.
    fn context_is_packed(&self) -> bool {
        (self.size[2] * self.context).is_multiple_of(4)
    }

    // ---- memory -----------------------------------------------------------------------------------------------

    /// What a workspace for a batch takes; with `training`, for gradients too.
    pub fn plan(&self, batch: usize, training: bool) -> Vec<Planned> {
        self.layout(batch, training).plan
    }

    fn layout(&self, batch: usize, training: bool) -> Layout {
        let shape = |(positions, channels): (usize, usize)| [batch * positions, channels];
        let kind = |node: usize| (self.positions(NodeId(node)), self.nodes[node].channels);
        let mut plan = Vec::new();
        let values = match training {
            true => {
                let each = self.nodes.iter().enumerate();
                plan.extend(each.map(|(node, Node { label, .. })| Planned::new(label.clone(), &shape(kind(node)))));
                (0..self.nodes.len()).collect()
            }
            false => {
                let (assigned, buffers) = share(&self.value_lifetimes());
                let each = buffers.iter().enumerate();
                plan.extend(each.map(|(n, &kind)| Planned::new(format!("value {n}"), &shape(kind))));
                assigned
            }
        };
        let mut gradients = vec![None; self.nodes.len()];
        if training {
            let (assigned, buffers) = share(&self.gradient_lifetimes());
            let first = plan.len();
            let each = buffers.iter().enumerate();
            plan.extend(each.map(|(n, &kind)| Planned::new(format!("gradient {n}"), &shape(kind))));
            // The pixels have none.
            gradients[1..].iter_mut().zip(assigned).for_each(|(place, buffer)| *place = Some(first + buffer));
        }
        let mut add = |label: &str, shape: &[usize]| {
            plan.push(Planned::new(label, shape));
            plan.len() - 1
        };
        let width = self.dimensions() * self.context;
        let context = (!self.context_is_packed()).then(|| add("context", &[batch, width]));
        let dcontext = context.map(|context| if training { add("dcontext", &[batch, width]) } else { context });
        let partials = training.then(|| {
            let words = self.convolutions().map(|conv| self.partial_words(conv, batch)).max().unwrap_or(4);
            add("partial gradients", &[words])
        });
        Layout { plan, values, gradients, context, dcontext, partials }
    }

    /// From the layer that makes a value to the last one that reads it.
    fn value_lifetimes(&self) -> Vec<Lifetime> {
        let of_node = |node: usize| {
            let uses = |layer: &Layer| layer.inputs().contains(&Some(NodeId(node))) || layer.output() == NodeId(node);
            let first = self.layers.iter().position(uses).unwrap_or(0);
            let last = self.layers.iter().rposition(uses).unwrap_or(0);
            let end = if NodeId(node) == self.output() { self.layers.len() } else { last };
            // The pixels are there before the first layer; a value may be written where another is read for the last time.
            let kind = (self.positions(NodeId(node)), self.nodes[node].channels);
            Lifetime { kind, steps: if node == 0 { 0 } else { first }..=end }
        };
        (0..self.nodes.len()).map(of_node).collect()
    }

    /// The same for gradients on the way back, of all nodes but the pixels.
    fn gradient_lifetimes(&self) -> Vec<Lifetime> {
        let last = self.layers.len();
        let of_node = |(node, value): (usize, Lifetime)| {
            let first = if NodeId(node) == self.output() { 0 } else { last - value.steps.end() };
            Lifetime { kind: value.kind, steps: first..=last - value.steps.start() }
        };
        self.value_lifetimes().into_iter().enumerate().skip(1).map(of_node).collect()
    }

    /// Rows and number of the chunks of a weight gradient.
    fn chunks(&self, conv: &Convolution, batch: usize) -> (usize, usize) {
        let rows = batch * self.positions(conv.output);
        let (n_in, n_out) = (self.nodes[conv.input.0].channels, self.nodes[conv.output.0].channels);
        let weight_words = n_out * conv.taps.kernel.n_taps * pitch(n_in);
        let tiles = n_out.div_ceil(128) * (conv.taps.kernel.n_taps * pitch(n_in)).div_ceil(64);
        let wanted = self.workgroups.div_ceil(tiles).min(PARTIAL_BYTES.div_ceil(4 * weight_words));
        let chunk_rows = rows.div_ceil(wanted).clamp(CHUNK_ROWS.start, CHUNK_ROWS.end);
        (chunk_rows, rows.div_ceil(chunk_rows))
    }

    fn partial_words(&self, conv: &Convolution, batch: usize) -> usize {
        let (n_in, n_out) = (self.nodes[conv.input.0].channels, self.nodes[conv.output.0].channels);
        let (_, n_chunks) = self.chunks(conv, batch);
        n_chunks * n_out * (conv.taps.kernel.n_taps * pitch(n_in)).max(4)
    }

    /// Memory for a batch; with `training`, for gradients too.
    ///
    /// # Errors
    /// Sizes over the adapter's limits, with the numbers; no memory.
    pub fn workspace(&self, gpu: &Gpu, batch: usize, training: bool) -> Result<ImageWorkspace, GpuError> {
        let layout = self.layout(batch, training);
        let tensors: Vec<Tensor> = allocate(gpu, &layout.plan)?.collect();
        // Nodes that share a buffer have one shape.
        let values: Vec<Tensor> = layout.values.iter().map(|&buffer| tensors[buffer].clone()).collect();
        let gradients: Vec<Option<Tensor>> =
            layout.gradients.iter().map(|buffer| buffer.map(|buffer| tensors[buffer].clone())).collect();
        let width = [batch, self.dimensions() * self.context];
        let (output, doutput) = (&values[self.output().0], gradients[self.output().0].as_ref());
        let unpacked = |own: Option<usize>, node: &Tensor| match own {
            Some(own) => tensors[own].clone(),
            None => node.reshaped(&width),
        };
        let context = unpacked(layout.context, output);
        let dcontext = unpacked(layout.dcontext, doutput.unwrap_or(output));
        let partials = layout.partials.map(|partials| tensors[partials].clone());
        Ok(ImageWorkspace { batch, context, dcontext, values, gradients, partials })
    }

    // ---- passes -----------------------------------------------------------------------------------------------

    /// Contexts of x (B, D), into `workspace.context` (B, D K); `training` names the noise that dropout belongs to.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        x: &Tensor,
        workspace: &ImageWorkspace,
        training: Option<&Noise>,
    ) -> Result<(), GpuError> {
        let value = |node: &NodeId| workspace.value(*node);
        repack(recorder, x, value(&NodeId(0)))?;
        for layer in &self.layers {
            match layer {
                Layer::Convolve(conv) => self.convolve(recorder, conv, weights, workspace)?,
                Layer::Activate { input, output, first_drop_place } => {
                    let [rows, width] = [0, 1].map(|axis| value(input).shape()[axis] as u32);
                    recorder.run(&ActivationForward {
                        activation: self.activation as u32,
                        batch: rows,
                        n_in: width,
                        n_out: width,
                        residual: 0,
                        z: value(input),
                        x: value(input),
                        h: value(output),
                    })?;
                    self.drop_out(recorder, *first_drop_place, training, *output, value(output))?;
                }
                Layer::Gate { halves, skip, output } => recorder.run(&GateForward {
                    activation: self.gate as u32,
                    rows: value(output).shape()[0] as u32,
                    width: value(output).shape()[1] as u32,
                    halves: value(halves),
                    skip: value(skip),
                    h: value(output),
                })?,
            }
        }
        match self.context_is_packed() {
            true => Ok(()),
            false => repack(recorder, value(&self.output()), &workspace.context),
        }
    }

    fn drop_out(
        &self,
        recorder: &mut Recorder<'_>,
        first_place: Option<u32>,
        training: Option<&Noise>,
        node: NodeId,
        values: &Tensor,
    ) -> Result<(), GpuError> {
        let (Some(first_place), Some(noise)) = (first_place, training) else { return Ok(()) };
        recorder.run(&Dropout {
            rows: values.shape()[0] as u32,
            width: values.shape()[1] as u32,
            positions: self.positions(node) as u32,
            first_sample: noise.first_sample,
            first_place,
            seed_low: noise.seed as u32,
            seed_high: (noise.seed >> 32) as u32,
            step: noise.step,
            rate: self.dropout,
            values,
        })
    }

    /// Weight gradients from `workspace.dcontext`, after [`ImageNet::forward`] on the same x. Overwrites `gradient`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn backward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        workspace: &ImageWorkspace,
        training: Option<&Noise>,
    ) -> Result<(), GpuError> {
        let (value, adjoint) = (|node: &NodeId| workspace.value(*node), |node: &NodeId| workspace.adjoint(*node));
        if !self.context_is_packed() {
            repack(recorder, &workspace.dcontext, adjoint(&self.output()))?;
        }
        // A value that several layers read gets its gradient from each: the first overwrites, the others add.
        let mut written = vec![false; self.nodes.len()];
        let mut accumulate = |node: &NodeId| u32::from(std::mem::replace(&mut written[node.0], true));
        for layer in self.layers.iter().rev() {
            match layer {
                Layer::Convolve(conv) => {
                    self.weight_gradient(recorder, conv, gradient, workspace)?;
                    if conv.input != NodeId(0) {
                        self.input_gradient(recorder, conv, weights, workspace, accumulate(&conv.input))?;
                    }
                }
                Layer::Activate { input, output, first_drop_place } => {
                    let dh = adjoint(output);
                    self.drop_out(recorder, *first_drop_place, training, *output, dh)?;
                    recorder.run(&ActivationBackward {
                        activation: self.activation as u32,
                        batch: dh.shape()[0] as u32,
                        n_out: dh.shape()[1] as u32,
                        accumulate: accumulate(input),
                        z: value(input),
                        dh,
                        dz: adjoint(input),
                    })?;
                }
                Layer::Gate { halves, skip, output } => recorder.run(&GateBackward {
                    activation: self.gate as u32,
                    rows: value(output).shape()[0] as u32,
                    width: value(output).shape()[1] as u32,
                    accumulate: accumulate(skip),
                    halves: value(halves),
                    dh: adjoint(output),
                    dhalves: adjoint(halves),
                    dskip: adjoint(skip),
                })?,
            }
        }
        Ok(())
    }

    fn convolve(
        &self,
        recorder: &mut Recorder<'_>,
        conv: &Convolution,
        weights: &ParamBuffer,
        workspace: &ImageWorkspace,
    ) -> Result<(), GpuError> {
        let (weight, bias) = (weights.tensor(conv.weight), weights.tensor(conv.bias));
        recorder.run(&conv_kernel!(MaskedConvForward, self, conv, workspace.batch, {
            accumulate: u32::from(conv.accumulate),
            x: workspace.value(conv.input),
            weight: &weight,
            bias: &bias,
            y: workspace.value(conv.output),
        }))
    }

    fn input_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        conv: &Convolution,
        weights: &ParamBuffer,
        workspace: &ImageWorkspace,
        accumulate: u32,
    ) -> Result<(), GpuError> {
        let weight = weights.tensor(conv.weight);
        recorder.run(&conv_kernel!(MaskedConvBackwardInput, self, conv, workspace.batch, {
            accumulate: accumulate,
            dy: workspace.adjoint(conv.output),
            weight: &weight,
            dx: workspace.adjoint(conv.input),
        }))
    }

    /// Gradients by a convolution's weight and bias: parts over chunks of positions, added up in order.
    fn weight_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        conv: &Convolution,
        gradient: &ParamBuffer,
        workspace: &ImageWorkspace,
    ) -> Result<(), GpuError> {
        let (dy, x) = (workspace.adjoint(conv.output), workspace.value(conv.input));
        let partials = workspace.partials.as_ref().expect("training workspaces have room for parts");
        let (chunk_rows, n_chunks) = self.chunks(conv, workspace.batch);
        let weight = gradient.tensor(conv.weight);
        let (n_rows, n_in) = (weight.shape()[0], weight.shape()[1]);
        let weight_parts = match n_chunks {
            1 => weight.clone(),
            _ => partials.window("weight parts", 0, &[n_chunks * n_rows, n_in]),
        };
        recorder.run(&conv_kernel!(MaskedConvBackwardWeight, self, conv, workspace.batch, {
            chunk_rows: chunk_rows as u32,
            n_chunks: n_chunks as u32,
            dy: dy,
            x: x,
            partials: &weight_parts,
        }))?;
        self.add_parts(recorder, &weight_parts, n_chunks, &gradient.words(conv.weight))?;
        let bias = gradient.tensor(conv.bias);
        let n_out = bias.elements();
        let bias_parts = match n_chunks {
            1 => bias.reshaped(&[1, n_out]),
            _ => partials.window("bias parts", 0, &[n_chunks, n_out]),
        };
        recorder.run(&ColumnSum {
            rows: dy.shape()[0] as u32,
            columns: n_out as u32,
            chunk_rows: chunk_rows as u32,
            n_chunks: n_chunks as u32,
            values: dy,
            sums: &bias_parts,
        })?;
        self.add_parts(recorder, &bias_parts, n_chunks, &gradient.words(conv.bias))
    }

    fn add_parts(
        &self,
        recorder: &mut Recorder<'_>,
        parts: &Tensor,
        n_chunks: usize,
        sums: &Tensor,
    ) -> Result<(), GpuError> {
        if n_chunks == 1 {
            return Ok(());
        }
        let words = sums.elements();
        recorder.run(&SumPartials {
            n_groups: n_chunks as u32,
            words: words as u32,
            offset: 0,
            n_sums: words as u32,
            partials: &parts.reshaped(&[n_chunks, words]),
            sums,
        })
    }
}

impl ImageWorkspace {
    fn value(&self, node: NodeId) -> &Tensor {
        &self.values[node.0]
    }

    fn adjoint(&self, node: NodeId) -> &Tensor {
        self.gradients[node.0].as_ref().expect("training workspaces have gradients")
    }
}

/// One of the three computations of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvPass {
    /// y from x.
    Forward,
    /// dx from dy.
    BackwardInput,
    /// Gradients by weight and bias from dy and x.
    BackwardWeight,
}

/// Size of a convolution, for benchmarks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvSizes {
    /// Its number among the network's convolutions.
    pub index: usize,
    /// Positions, channels and taps in words.
    pub sizes: String,
    /// Multiply-adds that the mask leaves, for one image.
    pub multiply_adds: u64,
    /// Weights that the mask leaves.
    pub weights: u64,
    /// Inputs and outputs of one sample.
    pub values: u64,
    /// Whether it reads the image, through which no gradient is taken.
    pub reads_image: bool,
}

/// Single convolutions, for benchmarks.
impl ImageNet {
    /// One convolution of each size.
    pub fn convolution_sizes(&self) -> Vec<ConvSizes> {
        let mut seen = Vec::<ConvSizes>::new();
        for (index, conv) in self.convolutions().enumerate() {
            let [height, width] = self.grid(self.nodes[conv.output.0].level);
            let (n_in, n_out) = (self.nodes[conv.input.0].channels, self.nodes[conv.output.0].channels);
            let scale = match conv.taps.scale {
                Scale::Same => "",
                Scale::Halve => " halved to",
                Scale::Double => " doubled to",
            };
            let sizes = format!("{n_in} -> {n_out}, {} taps,{scale} {height}x{width}", conv.taps.kernel.n_taps);
            if seen.iter().all(|other| other.sizes != sizes) {
                seen.push(ConvSizes {
                    index,
                    sizes,
                    multiply_adds: (height * width) as u64 * conv.weights_of_position,
                    weights: conv.weights_of_position,
                    values: (self.positions(conv.input) * n_in + height * width * n_out) as u64,
                    reads_image: conv.input == NodeId(0),
                });
            }
        }
        seen
    }

    /// One pass of one convolution on whatever the workspace holds.
    ///
    /// # Errors
    /// A dispatch over the limits.
    ///
    /// # Panics
    /// When there is no such convolution, or the workspace is not one for training: broken invariants of the caller.
    pub fn record_convolution(
        &self,
        recorder: &mut Recorder<'_>,
        index: usize,
        pass: ConvPass,
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        workspace: &ImageWorkspace,
    ) -> Result<(), GpuError> {
        let conv = self.convolutions().nth(index).expect("a convolution of this network");
        match pass {
            ConvPass::Forward => self.convolve(recorder, conv, weights, workspace),
            ConvPass::BackwardInput => self.input_gradient(recorder, conv, weights, workspace, 0),
            ConvPass::BackwardWeight => self.weight_gradient(recorder, conv, gradient, workspace),
        }
    }
}

/// Where in a plan the parts of a workspace are.
struct Layout {
    plan: Vec<Planned>,
    values: Vec<usize>,
    gradients: Vec<Option<usize>>,
    context: Option<usize>,
    dcontext: Option<usize>,
    partials: Option<usize>,
}

impl Layer {
    fn inputs(&self) -> [Option<NodeId>; 2] {
        match self {
            Self::Convolve(conv) => [Some(conv.input), None],
            Self::Activate { input, .. } => [Some(*input), None],
            Self::Gate { halves, skip, .. } => [Some(*halves), Some(*skip)],
        }
    }

    fn output(&self) -> NodeId {
        match self {
            Self::Convolve(conv) => conv.output,
            Self::Activate { output, .. } | Self::Gate { output, .. } => *output,
        }
    }
}

/// The same numbers in rows of another length.
fn repack(recorder: &mut Recorder<'_>, source: &Tensor, destination: &Tensor) -> Result<(), GpuError> {
    recorder.run(&RepackRows {
        source_rows: source.shape()[0] as u32,
        source_columns: source.shape()[1] as u32,
        rows: destination.shape()[0] as u32,
        columns: destination.shape()[1] as u32,
        source,
        destination,
    })
}
