//! The network one dimension at a time, for the samplers: what `shared/image_step.wgsl` needs to know.

use super::{Convolution, ImageNet, Layer, NodeId};
use crate::gpu::pitch;
use crate::nn::{Mask, ParamTable, Scale};

/// Words of a layer in the table.
const LAYER_WORDS: usize = 24;
/// Threads of the sampler variant that has the fewest.
const THREADS: u64 = 32;

/// A value's place in a sample's state.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// First word.
    at: u32,
    /// Words from one position to the next; 0 where only the position at work is kept.
    pitch: u32,
}

impl ImageNet {
    /// Number of layers.
    pub(crate) fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// [`Activation`](crate::config::Activation)s of the layers, and of the first half of the gates.
    pub(crate) fn activations(&self) -> [u32; 2] {
        [self.activation as u32, self.gate as u32]
    }

    /// Words of a sample's state in a sampler: x, then every value that later positions read at all positions, and
    /// every other one at one.
    pub(crate) fn state_words(&self) -> usize {
        self.places().1
    }

    fn places(&self) -> (Vec<Place>, usize) {
        let mut at = pitch(self.dimensions());
        let mut places = vec![Place { at: 0, pitch: self.size[2] as u32 }];
        for node in (1..self.nodes.len()).map(NodeId) {
            let width = pitch(self.nodes[node.0].channels);
            let kept = self.is_read_elsewhere(node);
            places.push(Place { at: at as u32, pitch: if kept { width as u32 } else { 0 } });
            at += width * if kept { self.positions(node) } else { 1 };
        }
        (places, at)
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

    /// Image size and layer table for `image_step.wgsl`, appended to `tables`; gives their place.
    pub(crate) fn append_tables(&self, table: &ParamTable, tables: &mut Vec<u32>) -> u32 {
        let start = tables.len() as u32;
        let (places, _) = self.places();
        tables.extend([self.size[1] as u32, self.size[2] as u32]);
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
            (row[5], row[6]) = (from.at as usize, from.pitch as usize);
            (row[7], row[8]) = (to.at as usize, to.pitch as usize);
            (row[9], row[10], row[11]) = (in_height, in_width, out_width);
            row[12] = n_out;
            match layer {
                Layer::Convolve(conv) => {
                    let quad = |slot| table.slot(slot).offset / 4;
                    let taps = &conv.taps;
                    row[12] = conv.half_width;
                    (row[13], row[14]) = (quad(conv.weight), quad(conv.bias));
                    (row[15], row[16]) = (taps.kernel.n_taps, taps.kernel.columns);
                    (row[17], row[18]) = (taps.above, taps.left);
                    row[19] = usize::from(taps.scale == Scale::Halve) + 1;
                    row[20] = usize::from(taps.scale == Scale::Double);
                    (row[21], row[22]) = (taps.mask as usize, usize::from(conv.accumulate));
                }
                Layer::Activate { .. } => row[0] = 1,
                Layer::Gate { .. } => {
                    let skip = places[second.expect("a gate has a skip").0];
                    row[0] = 2;
                    (row[13], row[14]) = (skip.at as usize, skip.pitch as usize);
                }
            }
            tables.extend(row.map(|word| word as u32));
        }
        start
    }

    /// Loop iterations of one thread for one dimension of `n_samples` samples in a sampler, at most.
    pub(crate) fn step_iterations(&self, n_samples: u64) -> u64 {
        let of_layer = |layer: &Layer| {
            let output = layer.output();
            let groups = if self.is_grouped(output) { self.size[2] } else { 1 };
            let units = self.nodes[output.0].channels.div_ceil(groups) + 2;
            let of_unit = match layer {
                Layer::Convolve(conv) => conv.taps.kernel.n_taps * (self.nodes[conv.input.0].channels.div_ceil(4) + 1),
                _ => 0,
            };
            (n_samples * units as u64).div_ceil(THREADS) * (of_unit as u64 + 1) + 1
        };
        self.layers.iter().map(of_layer).sum()
    }
}
