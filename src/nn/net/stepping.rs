//! The network one dimension at a time, for the samplers: what `shared/image_step.wgsl` needs to know.

use super::{Convolution, ImageNet, Layer, NodeId};
use crate::codes::Mask;
use crate::gpu::{Needs, Variant, pitch};
use crate::nn::ParamTable;
use crate::nn::net::Scale;

/// Words of a layer in the table.
const LAYER_WORDS: usize = 26;

/// A value's place in a sample's state.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// First word.
    at: usize,
    /// Words from one column to the next; 0 where only the position at work is kept.
    column: usize,
    /// Words from one row to the next; 0 where only the row at work is kept.
    row: usize,
}

impl Place {
    /// In the order of the table.
    fn words(self) -> [usize; 3] {
        [self.at, self.column, self.row]
    }
}

impl ImageNet {
    /// Number of layers.
    pub(crate) fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// [`Activation`](crate::codes::Activation)s of the layers, and of the first half of the gates.
    pub(crate) fn activations(&self) -> [u32; 2] {
        [self.activation as u32, self.gate as u32]
    }

    /// Words of a sample's state in a sampler: x, the same padded to vec4s, then every value that later positions read at
    /// all positions, those that run ahead for a row, and every other one at one position.
    pub(crate) fn state_words(&self) -> usize {
        self.places().1
    }

    fn places(&self) -> (Vec<Place>, usize) {
        let ahead = self.columns_ahead();
        let [height, width, channels] = self.size;
        let mut at = pitch(self.dimensions());
        let mut places = vec![Place { at, column: pitch(channels), row: width * pitch(channels) }];
        at += height * width * pitch(channels);
        for node in (1..self.nodes.len()).map(NodeId) {
            let (width, [rows, columns]) = (pitch(self.nodes[node.0].channels), self.grid(self.nodes[node.0].level));
            let (column, row, words) = match (self.is_read_elsewhere(node), ahead[node.0]) {
                (true, _) => (width, columns * width, rows * columns * width),
                (false, 0) => (0, 0, width),
                (false, _) => (width, 0, columns * width),
            };
            places.push(Place { at, column, row });
            at += words;
        }
        (places, at)
    }

    /// For every value, how many columns to the right of the position at work it must be there: convolutions of values
    /// that see the rows above only look to the right, too. The pixels, which do not run ahead, are asked in rows above.
    fn columns_ahead(&self) -> Vec<usize> {
        let mut ahead = vec![0; self.nodes.len()];
        for layer in self.layers.iter().rev() {
            let of_output = ahead[layer.output().0];
            let needed = match layer {
                Layer::Convolve(Convolution { taps, .. }) => match taps.scale {
                    Scale::Same => of_output + taps.reach(),
                    Scale::Halve => 2 * of_output + taps.reach(),
                    Scale::Double => (of_output + taps.reach()).div_ceil(2),
                },
                _ => of_output,
            };
            for input in layer.inputs().into_iter().flatten() {
                ahead[input.0] = ahead[input.0].max(needed);
            }
        }
        ahead
    }

    /// Whether a convolution reads the value at other positions than that at work.
    fn is_read_elsewhere(&self, node: NodeId) -> bool {
        let reads = |conv: &Convolution| conv.taps.kernel.n_taps > 1 || conv.taps.scale != Scale::Same;
        self.convolutions().any(|conv| conv.input == node && reads(conv))
    }

    /// Whether the value's channels belong to colour groups: what a mask made, and what follows from it. Others are known
    /// whole before the first colour of their position.
    fn is_grouped(&self, node: NodeId) -> bool {
        self.layers.iter().filter(|layer| layer.output() == node).any(|layer| match layer {
            Layer::Convolve(conv) => conv.taps.mask != Mask::None,
            Layer::Activate { input, .. } => self.is_grouped(*input),
            Layer::Gate { halves, .. } => self.is_grouped(*halves),
        })
    }

    /// Image size, place of the pixels and layer table for `image_step.wgsl`, appended to `tables`; gives their place.
    pub(crate) fn append_tables(&self, table: &ParamTable, tables: &mut Vec<u32>) -> u32 {
        let start = tables.len() as u32;
        let ((places, _), ahead) = (self.places(), self.columns_ahead());
        tables.extend([self.size[1] as u32, self.size[2] as u32, places[0].at as u32]);
        for layer in &self.layers {
            let output = layer.output();
            let [input, second] = layer.inputs();
            let input = input.expect("every layer reads something");
            let (from, to) = (places[input.0], places[output.0]);
            let [in_height, in_width] = self.grid(self.nodes[input.0].level);
            let [_, out_width] = self.grid(self.nodes[output.0].level);
            let (n_in, n_out) = (self.nodes[input.0].channels, self.nodes[output.0].channels);
            let mut row = [0; LAYER_WORDS];
            row[1] = self.nodes[output.0].level;
            row[2] = usize::from(self.is_grouped(output));
            (row[3], row[4]) = (n_in, n_out);
            row[5..8].copy_from_slice(&from.words());
            row[8..11].copy_from_slice(&to.words());
            row[11] = ahead[output.0];
            (row[12], row[13], row[14]) = (in_height, in_width, out_width);
            row[15] = n_out;
            match layer {
                Layer::Convolve(conv) => {
                    let quad = |slot| table.slot(slot).offset / 4;
                    let taps = &conv.taps;
                    row[15] = conv.half_width;
                    (row[16], row[17]) = (quad(conv.weight), quad(conv.bias));
                    (row[18], row[19]) = (taps.kernel.n_taps, taps.kernel.columns);
                    (row[20], row[21]) = (taps.above, taps.left);
                    row[22] = usize::from(taps.scale == Scale::Halve) + 1;
                    row[23] = usize::from(taps.scale == Scale::Double);
                    (row[24], row[25]) = (taps.mask as usize, usize::from(conv.accumulate));
                }
                Layer::Activate { .. } => row[0] = 1,
                Layer::Gate { .. } => {
                    row[0] = 2;
                    row[16..19].copy_from_slice(&places[second.expect("a gate has a skip").0].words());
                }
            }
            tables.extend(row.map(|word| word as u32));
        }
        start
    }

    /// Loop iterations of one thread for one dimension of `n_samples` samples of a sampler's workgroup, at most.
    pub(crate) fn step_iterations(&self, n_samples: u64, tile: &StepTile) -> u64 {
        let ahead = self.columns_ahead();
        let of_layer = |layer: &Layer| {
            let output = layer.output();
            let [_, width] = self.grid(self.nodes[output.0].level);
            let columns = width.min(ahead[output.0] + 1) as u64;
            let groups = if self.is_grouped(output) { self.size[2] } else { 1 };
            let units = self.nodes[output.0].channels.div_ceil(groups) as u64 + 2;
            match layer {
                Layer::Convolve(conv) => {
                    let quads = self.nodes[conv.input.0].channels.div_ceil(4) as u64;
                    tile.of_convolution(n_samples, columns, units, conv.taps.kernel.n_taps as u64, quads)
                }
                _ => tile.of_items(n_samples * columns * units),
            }
        };
        self.layers.iter().map(of_layer).sum::<u64>() + tile.of_items(n_samples)
    }
}

/// How a sampler's workgroup shares the work on a dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepTile {
    threads: u64,
    lanes: u64,
    units: u64,
    samples: u64,
    /// Whether threads share the sum of a unit.
    shares_sums: bool,
}

impl StepTile {
    /// Of a sampler's variant, whose threads compute a unit for `samples` samples at a time.
    pub(crate) fn new(variant: &Variant, samples: u64) -> Self {
        Self {
            threads: variant.workgroup.iter().copied().map(u64::from).product(),
            lanes: u64::from(variant.lanes()),
            units: u64::from(variant.tile[1].div_ceil(8)),
            samples,
            shares_sums: variant.needs == Needs::Workgroup,
        }
    }

    /// Iterations of a thread's loop over `items`, a thread each.
    pub(crate) fn of_items(&self, items: u64) -> u64 {
        items.div_ceil(self.threads) + 1
    }

    /// Iterations of a thread for dense layers that make `units` of each of `n_samples` samples from `quads` vec4s: by blocks of as
    /// many samples and units as threads share their loads, or by sums that at least eight threads share.
    pub(crate) fn of_units(&self, n_samples: u64, units: u64, quads: u64) -> u64 {
        if self.shares_sums {
            let n_parts = (self.threads / units.next_power_of_two().max(1)).max(8);
            let rounds = (n_samples * units).div_ceil(self.threads / n_parts) + 1;
            return rounds * (quads.div_ceil(n_parts) + n_parts + 2) + 4;
        }
        let blocks = n_samples.div_ceil(self.lanes) * units.div_ceil(self.lanes);
        (blocks.div_ceil(self.threads / self.lanes) + 1) * (quads + 2)
    }

    /// Iterations of a thread for convolutions that make `units` of each of `n_samples` samples from `n_taps` vectors of
    /// `quads` vec4s; eight threads work on a block together.
    pub(crate) fn of_convolution(&self, n_samples: u64, columns: u64, units: u64, n_taps: u64, quads: u64) -> u64 {
        let blocks = n_samples.div_ceil(self.samples) * columns * units.div_ceil(8 * self.units);
        blocks.div_ceil(self.threads / 8) * (n_taps * (quads + quads.div_ceil(self.lanes) + 1) + 1) + 1
    }
}
