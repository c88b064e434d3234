//! One network for the score of a whole vector, with everything that the losses of score matching differentiate.
//!
//! ```text
//! s(x) = f(x) + gain * x                       f dense with twice differentiable activations, gain (D) a diagonal
//! h_0 = x,  z_l = W_l h_(l-1) + b_l,  h_l = phi(z_l)                     values,   f = z of the last layer
//! h'_0 = v, t_l = W_l h'_(l-1),       h'_l = phi'(z_l) t_l               tangents, s' = (ds/dx) v along a direction v
//! ```
//!
//! The diagonal lets a network of any width learn the score of independent noise, which has full rank. A loss seeds ds and
//! ds', and both are taken backward:
//!
//! ```text
//! dt_l = dh'_l phi'(z_l)                       dh'_(l-1) = W_l^T dt_l               needs no value's adjoint,
//! dz_l = dh_l phi'(z_l) + sum over v of dh'_l phi''(z_l) t_l                        so the tangents go first,
//! dh_(l-1) = W_l^T dz_l                                                             in as many parts as memory asks for,
//! dW_l = dz_l h_(l-1)^T + sum over v of dt_l h'_(l-1)^T,  db_l = dz_l               and the values last
//! dgain = ds x + sum over v of ds' v
//! ```
//!
//! Values and tangents are rows of one tensor, values first, so that one matrix product gives the gradient of both.

pub mod losses;

use crate::codes::Probes;
use std::sync::Arc;

use crate::codes::Activation;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuError, Recorder, Tensor, WINDOW_ALIGNMENT_WORDS};
use crate::kernels::{
    ActivationBackward, ActivationForward, ColumnSum, CorruptContext, DiagonalBackward, DiagonalForward,
    MaskedDenseBackwardInput, MaskedDenseBackwardWeight, MaskedDenseForward, ProbeDirections, ResidualLoss, SlicedLoss,
    TangentBackward, TangentForward,
};
use crate::models::score_field::losses::{Residual, ScoreMatching, Slices};
use crate::nn::{ParamBuffer, ParamTable, SlotId, add_scaled};

/// s: R^D -> R^D.
#[derive(Debug)]
pub struct ScoreField {
    dimensions: usize,
    activation: Activation,
    layers: Vec<Dense>,
    gain: SlotId,
    /// Names, shapes and places of all parameters.
    pub table: Arc<ParamTable>,
}

/// A dense layer: the masked one, where every output sees every input.
#[derive(Debug)]
struct Dense {
    n_in: u32,
    n_out: u32,
    weight: SlotId,
    bias: SlotId,
    visible: Tensor,
    first_output: Tensor,
    /// Tangents have no bias.
    no_bias: Tensor,
}

/// Activations and their gradients: of `batch` values in the first rows, then of `directions` tangents each.
#[derive(Debug)]
pub struct FieldWorkspace {
    batch: usize,
    directions: usize,
    /// (B, D): the samples.
    pub clean: Tensor,
    /// (B, 4): the loss of each sample in the first column.
    pub losses: Tensor,
    /// x, and v.
    x: Tensor,
    /// Of each hidden layer: z and t, h and h', and their gradients.
    z: Vec<Tensor>,
    h: Vec<Tensor>,
    dz: Vec<Tensor>,
    dh: Vec<Tensor>,
    /// s, and s'.
    s: Tensor,
    ds: Tensor,
    /// Gradient of one part of the directions, where they do not fit at once.
    part: Option<ParamBuffer>,
}

/// Which rows of the stacked tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Values,
    Tangents,
    Both,
}

impl ScoreField {
    /// A network with these hidden layers; its parameters are `layers.N.weight`, `layers.N.bias` and `gain`.
    ///
    /// # Errors
    /// An activation that is not twice differentiable; no memory.
    pub fn new(gpu: &Gpu, dimensions: usize, hidden: &[usize], activation: Activation) -> Result<Self> {
        if matches!(activation, Activation::Relu | Activation::Identity) {
            let problem = format!("{activation:?} has no second derivative to learn slopes by");
            return Err(Error::input("the activation", problem, "Use silu, softplus, tanh or elu"));
        }
        let mut table = ParamTable::default();
        let widths = [&[dimensions], hidden, &[dimensions]].concat();
        let layers = widths.windows(2).enumerate().map(|(l, pair)| Dense::new(gpu, l, [pair[0], pair[1]], &mut table));
        let layers = layers.collect::<Result<Vec<_>, GpuError>>()?;
        let gain = table.add("gain".into(), &[dimensions], None);
        Ok(Self { dimensions, activation, layers, gain, table: Arc::new(table) })
    }

    /// D
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Memory for a batch, with at most `most_directions` tangents of every sample at a time.
    ///
    /// # Errors
    /// A batch that is no multiple of 16 (tangents start at the alignment of bindings); sizes over the adapter's limits,
    /// with the numbers; no memory.
    pub fn workspace(
        &self,
        gpu: &Gpu,
        batch: usize,
        loss: ScoreMatching,
        most_directions: usize,
    ) -> Result<FieldWorkspace> {
        let alignment = WINDOW_ALIGNMENT_WORDS / 4;
        if batch == 0 || !batch.is_multiple_of(alignment) {
            let problem = format!("is {batch}, no multiple of {alignment}");
            return Err(Error::input(
                "the batch",
                problem,
                format!("Give {}", batch.next_multiple_of(alignment).max(16)),
            ));
        }
        let wanted = loss.directions(self.dimensions);
        let directions = wanted.min(most_directions.max(1));
        let rows = batch * (1 + directions);
        let hidden = |label: &str| -> Result<Vec<Tensor>, GpuError> {
            let inner = &self.layers[..self.layers.len() - 1];
            let each = inner.iter().enumerate();
            each.map(|(l, layer)| gpu.tensor(&format!("{label}{l}"), &[rows, layer.n_out as usize])).collect()
        };
        let stacked = |label| gpu.tensor(label, &[rows, self.dimensions]);
        let part = (directions < wanted).then(|| ParamBuffer::zeros(gpu, "part", &self.table)).transpose()?;
        Ok(FieldWorkspace {
            batch,
            directions,
            clean: gpu.tensor("clean", &[batch, self.dimensions])?,
            losses: gpu.tensor("losses", &[batch, 4])?,
            x: stacked("x")?,
            z: hidden("z")?,
            h: hidden("h")?,
            dz: hidden("dz")?,
            dh: hidden("dh")?,
            s: stacked("s")?,
            ds: stacked("ds")?,
            part,
        })
    }

    /// Loss of each sample in `workspace.clean`, into `workspace.losses`, and the gradient of their mean by every
    /// parameter. Noise and directions belong to (seed, step).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn loss_and_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        loss: ScoreMatching,
        [seed, step]: [u64; 2],
        weights: &ParamBuffer,
        gradient: &ParamBuffer,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        let terms = loss.terms();
        self.place_points(recorder, loss.sigma(), [seed, step], workspace)?;
        self.forward(recorder, weights, workspace)?;
        if let Some(residual) = terms.residual {
            self.residual_loss(recorder, residual, workspace)?;
        }
        let Some(slices) = terms.slices else {
            self.backward(recorder, weights, workspace, false)?;
            self.weight_gradient(recorder, gradient, workspace, Rows::Values)?;
            return self.bias_gradient(recorder, gradient, workspace);
        };
        let probes = if loss == ScoreMatching::Exact { Probes::Units } else { Probes::Signs };
        let parts = loss.directions(self.dimensions).div_ceil(workspace.directions);
        for part in 0..parts {
            let (first, last) = (part == 0, part + 1 == parts);
            self.place_directions(recorder, probes, part * workspace.directions, [seed, step], workspace)?;
            self.push(recorder, weights, workspace)?;
            self.sliced_loss(recorder, slices, !first || terms.residual.is_some(), workspace)?;
            self.pull(recorder, weights, workspace, !first)?;
            if last {
                self.backward(recorder, weights, workspace, true)?;
            }
            let target = if first { gradient } else { workspace.part.as_ref().unwrap_or(gradient) };
            self.weight_gradient(recorder, target, workspace, if last { Rows::Both } else { Rows::Tangents })?;
            if !first {
                for id in self.layers.iter().map(|layer| layer.weight).chain([self.gain]) {
                    add_scaled(recorder, &target.words(id), 1, false, &gradient.words(id))?;
                }
            }
        }
        self.bias_gradient(recorder, gradient, workspace)
    }

    /// Scores at `workspace.clean` (B, D), into [`FieldWorkspace::scores`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn evaluate(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        recorder.copy(&workspace.clean, &workspace.points());
        self.forward(recorder, weights, workspace)
    }

    /// y = x + sigma eps into the values of `x`.
    fn place_points(
        &self,
        recorder: &mut Recorder<'_>,
        sigma: f32,
        [seed, step]: [u64; 2],
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        let points = workspace.values(&workspace.x);
        if sigma == 0.0 {
            recorder.copy(&workspace.clean, &points);
            return Ok(());
        }
        recorder.run(&CorruptContext {
            batch: workspace.batch as u32,
            dimensions: self.dimensions as u32,
            seed_low: seed as u32,
            seed_high: (seed >> 32) as u32,
            step: step as u32,
            first_sample: 0,
            noise: sigma,
            dropout: 0.0,
            x: &workspace.clean,
            y: &points,
        })
    }

    /// Directions into the tangents of `x`.
    fn place_directions(
        &self,
        recorder: &mut Recorder<'_>,
        probes: Probes,
        first_direction: usize,
        [seed, step]: [u64; 2],
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        recorder.run(&ProbeDirections {
            probes: probes as u32,
            batch: workspace.batch as u32,
            dimensions: self.dimensions as u32,
            n_directions: workspace.directions as u32,
            first_direction: first_direction as u32,
            seed_low: seed as u32,
            seed_high: (seed >> 32) as u32,
            step: step as u32,
            v: &workspace.tangents(&workspace.x),
        })
    }

    /// Values: z, h and s.
    fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        let batch = workspace.batch as u32;
        for (l, layer) in self.layers.iter().enumerate() {
            let input = workspace.values(workspace.input(l));
            let output = workspace.values(workspace.output(l));
            layer.product(recorder, weights, &input, &weights.tensor(layer.bias), &output)?;
            if let Some(h) = workspace.h.get(l) {
                recorder.run(&ActivationForward {
                    activation: self.activation as u32,
                    batch,
                    n_in: layer.n_in,
                    n_out: layer.n_out,
                    residual: 0,
                    z: &output,
                    x: &input,
                    h: &workspace.values(h),
                })?;
            }
        }
        self.add_diagonal(recorder, weights, workspace, Rows::Values)
    }

    /// Tangents along the directions in `x`: t, h' and s', after the values.
    fn push(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        for (l, layer) in self.layers.iter().enumerate() {
            let input = workspace.tangents(workspace.input(l));
            let output = workspace.tangents(workspace.output(l));
            layer.product(recorder, weights, &input, &layer.no_bias, &output)?;
            if let Some(h) = workspace.h.get(l) {
                recorder.run(&TangentForward {
                    activation: self.activation as u32,
                    batch: workspace.batch as u32,
                    n_out: layer.n_out,
                    n_directions: workspace.directions as u32,
                    z: &workspace.values(&workspace.z[l]),
                    t: &output,
                    h_tangent: &workspace.tangents(h),
                })?;
            }
        }
        self.add_diagonal(recorder, weights, workspace, Rows::Tangents)
    }

    /// From ds': dt of every layer, and what slopes add to dz (to what earlier directions added, where there were any).
    fn pull(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &FieldWorkspace,
        accumulate: bool,
    ) -> Result<(), GpuError> {
        for (l, layer) in self.layers.iter().enumerate().skip(1).rev() {
            let below = l - 1;
            let dt = workspace.tangents(workspace.doutput(l));
            let dh = workspace.tangents(&workspace.dh[below]);
            layer.transposed_product(recorder, weights, &dt, &dh)?;
            recorder.run(&TangentBackward {
                activation: self.activation as u32,
                batch: workspace.batch as u32,
                n_out: layer.n_in,
                n_directions: workspace.directions as u32,
                accumulate: u32::from(accumulate),
                z: &workspace.values(&workspace.z[below]),
                t: &workspace.tangents(&workspace.z[below]),
                dh_tangent: &dh,
                dt: &workspace.tangents(&workspace.dz[below]),
                dz: &workspace.values(&workspace.dz[below]),
            })?;
        }
        Ok(())
    }

    /// From ds: dz of every layer, added to what slopes made of it where there were any.
    fn backward(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &FieldWorkspace,
        accumulate: bool,
    ) -> Result<(), GpuError> {
        for (l, layer) in self.layers.iter().enumerate().skip(1).rev() {
            let below = l - 1;
            let dh = workspace.values(&workspace.dh[below]);
            layer.transposed_product(recorder, weights, &workspace.values(workspace.doutput(l)), &dh)?;
            recorder.run(&ActivationBackward {
                activation: self.activation as u32,
                batch: workspace.batch as u32,
                n_out: layer.n_in,
                accumulate: u32::from(accumulate),
                z: &workspace.values(&workspace.z[below]),
                dh: &dh,
                dz: &workspace.values(&workspace.dz[below]),
            })?;
        }
        Ok(())
    }

    /// Of every weight and the gain, from some rows; overwrites.
    fn weight_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        gradient: &ParamBuffer,
        workspace: &FieldWorkspace,
        rows: Rows,
    ) -> Result<(), GpuError> {
        for (l, layer) in self.layers.iter().enumerate() {
            let dy = workspace.select(workspace.doutput(l), rows);
            recorder.run(&MaskedDenseBackwardWeight {
                batch: dy.shape()[0] as u32,
                n_in: layer.n_in,
                n_out: layer.n_out,
                dy: &dy,
                x: &workspace.select(workspace.input(l), rows),
                visible: &layer.visible,
                dweight: &gradient.tensor(layer.weight),
            })?;
        }
        let dy = workspace.select(&workspace.ds, rows);
        recorder.run(&DiagonalBackward {
            rows: dy.shape()[0] as u32,
            columns: self.dimensions as u32,
            dy: &dy,
            x: &workspace.select(&workspace.x, rows),
            dgain: &gradient.tensor(self.gain),
        })
    }

    /// Of every bias, after the values' backward pass; overwrites.
    fn bias_gradient(
        &self,
        recorder: &mut Recorder<'_>,
        gradient: &ParamBuffer,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        for (l, layer) in self.layers.iter().enumerate() {
            recorder.run(&ColumnSum {
                rows: workspace.batch as u32,
                columns: layer.n_out,
                chunk_rows: workspace.batch as u32,
                n_chunks: 1,
                values: &workspace.values(workspace.doutput(l)),
                sums: &gradient.tensor(layer.bias).reshaped(&[1, layer.n_out as usize]),
            })?;
        }
        Ok(())
    }

    /// s += gain x
    fn add_diagonal(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        workspace: &FieldWorkspace,
        rows: Rows,
    ) -> Result<(), GpuError> {
        let y = workspace.select(&workspace.s, rows);
        recorder.run(&DiagonalForward {
            rows: y.shape()[0] as u32,
            columns: self.dimensions as u32,
            gain: &weights.tensor(self.gain),
            x: &workspace.select(&workspace.x, rows),
            y: &y,
        })
    }

    fn residual_loss(
        &self,
        recorder: &mut Recorder<'_>,
        residual: Residual,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        recorder.run(&ResidualLoss {
            batch: workspace.batch as u32,
            dimensions: self.dimensions as u32,
            scale: residual.scale,
            shift: residual.shift,
            score: &workspace.values(&workspace.s),
            clean: &workspace.clean,
            noisy: &workspace.values(&workspace.x),
            losses: &workspace.losses,
            dscore: &workspace.values(&workspace.ds),
        })
    }

    fn sliced_loss(
        &self,
        recorder: &mut Recorder<'_>,
        slices: Slices,
        accumulate: bool,
        workspace: &FieldWorkspace,
    ) -> Result<(), GpuError> {
        recorder.run(&SlicedLoss {
            batch: workspace.batch as u32,
            dimensions: self.dimensions as u32,
            n_directions: workspace.directions as u32,
            weight: slices.weight,
            project: u32::from(slices.project),
            accumulate: u32::from(accumulate),
            v: &workspace.tangents(&workspace.x),
            score: &workspace.values(&workspace.s),
            slope: &workspace.tangents(&workspace.s),
            losses: &workspace.losses,
            dscore: &workspace.values(&workspace.ds),
            dslope: &workspace.tangents(&workspace.ds),
        })
    }
}

impl Dense {
    fn new(gpu: &Gpu, index: usize, [n_in, n_out]: [usize; 2], table: &mut ParamTable) -> Result<Self, GpuError> {
        let name = format!("layers.{index}");
        Ok(Self {
            n_in: n_in as u32,
            n_out: n_out as u32,
            weight: table.add(format!("{name}.weight"), &[n_out, n_in], None),
            bias: table.add(format!("{name}.bias"), &[n_out], None),
            visible: gpu.upload(&format!("{name}.visible"), &[n_out], &vec![n_in as u32; n_out])?,
            first_output: gpu.upload(&format!("{name}.first_output"), &[n_in], &vec![0u32; n_in])?,
            no_bias: gpu.upload(&format!("{name}.no_bias"), &[n_out], &vec![0f32; n_out])?,
        })
    }

    /// y = W x + bias for every row.
    fn product(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        x: &Tensor,
        bias: &Tensor,
        y: &Tensor,
    ) -> Result<(), GpuError> {
        recorder.run(&MaskedDenseForward {
            batch: x.shape()[0] as u32,
            n_in: self.n_in,
            n_out: self.n_out,
            x,
            weight: &weights.tensor(self.weight),
            bias,
            visible: &self.visible,
            y,
        })
    }

    /// dx = W^T dy for every row.
    fn transposed_product(
        &self,
        recorder: &mut Recorder<'_>,
        weights: &ParamBuffer,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<(), GpuError> {
        recorder.run(&MaskedDenseBackwardInput {
            batch: dy.shape()[0] as u32,
            n_in: self.n_in,
            n_out: self.n_out,
            accumulate: 0,
            dy,
            weight: &weights.tensor(self.weight),
            visible: &self.visible,
            first_output: &self.first_output,
            dx,
        })
    }
}

impl FieldWorkspace {
    /// Where the last loss took the score, (B, D): the samples, or with their noise.
    pub fn points(&self) -> Tensor {
        self.values(&self.x)
    }

    /// The score there, (B, D).
    pub fn scores(&self) -> Tensor {
        self.values(&self.s)
    }

    /// Submissions that one loss should be cut into, so that none lasts too long.
    pub fn pieces(&self, loss: ScoreMatching, dimensions: usize) -> usize {
        loss.directions(dimensions).div_ceil(self.directions.max(1)).max(1)
    }

    fn select(&self, stacked: &Tensor, rows: Rows) -> Tensor {
        match rows {
            Rows::Values => stacked.rows(0, self.batch),
            Rows::Tangents => stacked.rows(self.batch, self.batch * self.directions),
            Rows::Both => stacked.clone(),
        }
    }

    fn values(&self, stacked: &Tensor) -> Tensor {
        self.select(stacked, Rows::Values)
    }

    fn tangents(&self, stacked: &Tensor) -> Tensor {
        self.select(stacked, Rows::Tangents)
    }

    /// What layer `l` reads.
    fn input(&self, l: usize) -> &Tensor {
        if l == 0 { &self.x } else { &self.h[l - 1] }
    }

    /// Its sums.
    fn output(&self, l: usize) -> &Tensor {
        self.z.get(l).unwrap_or(&self.s)
    }

    /// Their gradient.
    fn doutput(&self, l: usize) -> &Tensor {
        self.dz.get(l).unwrap_or(&self.ds)
    }
}
