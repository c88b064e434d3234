//! The two context networks for images, described: values, and the layers between them.

use std::collections::HashMap;

use super::taps::{Mask, Scale, Taps};
use super::{Convolution, Layer, Node, NodeId};
use crate::config::{Activation, ConvConfig, ModelConfig, Network};
use crate::nn::ParamTable;

/// A network in the making.
pub(super) struct Graph<'t> {
    table: &'t mut ParamTable,
    groups: usize,
    dropout: bool,
    pub(super) nodes: Vec<Node>,
    pub(super) layers: Vec<Layer>,
    /// Values whose activation is there already.
    activated: HashMap<NodeId, NodeId>,
    /// Places in the dropout's sequence of random numbers that are taken.
    drop_places: u32,
    size: [usize; 2],
}

/// Values of the two streams of a PixelCNN++.
#[derive(Debug, Clone, Copy)]
struct Streams {
    /// Sees the rows above.
    down: NodeId,
    /// Sees what is to its left, and through `down` the rows above.
    right: NodeId,
}

impl<'t> Graph<'t> {
    /// The whole network for images of `height` x `width` x `channels`; the last node holds the contexts, channel by
    /// channel. Returns the activation of the first half of its gates, too.
    pub(super) fn of(
        config: &ModelConfig,
        [height, width, channels]: [usize; 3],
        table: &'t mut ParamTable,
    ) -> (Self, Activation) {
        let mut graph = Self {
            table,
            groups: channels,
            dropout: config.conv.dropout > 0.0,
            nodes: vec![Node { label: "pixels".into(), level: 0, channels }],
            layers: Vec::new(),
            activated: HashMap::new(),
            drop_places: 0,
            size: [height, width],
        };
        let x = NodeId(0);
        let (features, gate) = match config.network {
            Network::PixelCnn => (graph.pixel_cnn(&config.conv, x), Activation::Identity),
            Network::Gated | Network::Made => (graph.gated(&config.conv, x), Activation::Tanh),
        };
        let features = graph.activate(features);
        graph.convolve("ctx.out", features, Taps::point(Mask::B), channels * config.context);
        (graph, gate)
    }

    /// Masked convolutions with gated residual blocks (van den Oord et al., "Conditional Image Generation with PixelCNN
    /// Decoders", 2016), as in `assets/golden/LAYOUT.md`.
    fn gated(&mut self, conv: &ConvConfig, x: NodeId) -> NodeId {
        let mut h = self.convolve("ctx.first", x, Taps::square(conv.first_kernel, Mask::A), conv.filters);
        for n in 0..conv.blocks {
            let active = self.activate_and_drop(h);
            let taps = Taps::square(conv.kernel, Mask::B);
            let halves = self.convolve_halves(&format!("ctx.blk.{n}"), active, taps, conv.filters);
            h = self.gate(halves, h);
        }
        h
    }

    /// Two streams of shifted convolutions (Salimans et al., "PixelCNN++", 2017), with SiLU or the like for its
    /// concatenated ELU, and colour groups in the right stream.
    fn pixel_cnn(&mut self, conv: &ConvConfig, x: NodeId) -> NodeId {
        let mut streams = Streams {
            down: self.convolve("ctx.first_down", x, Taps::first_down(), conv.filters),
            right: self.convolve("ctx.first_right", x, Taps::square(3, Mask::A), conv.filters),
        };
        // What the encoder's blocks gave, level by level, for the decoder.
        let mut shortcuts = Vec::new();
        for level in 0..=conv.downsamplings {
            if level > 0 {
                streams = self.rescale(&format!("ctx.shrink.{level}"), streams, Scale::Halve, conv.filters);
            }
            let mut of_level = Vec::new();
            for n in 0..conv.blocks {
                streams = self.block(&format!("ctx.enc.{level}.{n}"), streams, None, conv.filters);
                of_level.push(streams);
            }
            shortcuts.push(of_level);
        }
        for level in (0..conv.downsamplings).rev() {
            streams = self.rescale(&format!("ctx.grow.{level}"), streams, Scale::Double, conv.filters);
            for n in 0..conv.blocks {
                let shortcut = shortcuts[level][conv.blocks - 1 - n];
                streams = self.block(&format!("ctx.dec.{level}.{n}"), streams, Some(shortcut), conv.filters);
            }
        }
        streams.right
    }

    fn rescale(&mut self, name: &str, streams: Streams, scale: Scale, filters: usize) -> Streams {
        Streams {
            down: self.convolve(&format!("{name}.down"), streams.down, Taps::down().scaled(scale), filters),
            right: self.convolve(&format!("{name}.right"), streams.right, Taps::right().scaled(scale), filters),
        }
    }

    /// A gated residual block in each stream; the right one sees the down one's new values at its own position.
    fn block(&mut self, name: &str, streams: Streams, shortcut: Option<Streams>, filters: usize) -> Streams {
        let active = self.activate(streams.down);
        let mixed = self.convolve(&format!("{name}.down_in"), active, Taps::down(), filters);
        if let Some(shortcut) = shortcut {
            let active = self.activate(shortcut.down);
            self.convolve_onto(mixed, &format!("{name}.down_point"), active, Taps::point(Mask::None));
        }
        let active = self.activate_and_drop(mixed);
        let halves = self.convolve_halves(&format!("{name}.down_out"), active, Taps::down(), filters);
        let down = self.gate(halves, streams.down);

        let active = self.activate(streams.right);
        let mixed = self.convolve(&format!("{name}.right_in"), active, Taps::right(), filters);
        let active = self.activate(down);
        self.convolve_onto(mixed, &format!("{name}.right_point"), active, Taps::point(Mask::None));
        if let Some(shortcut) = shortcut {
            let active = self.activate(shortcut.right);
            self.convolve_onto(mixed, &format!("{name}.right_shortcut"), active, Taps::point(Mask::B));
        }
        let active = self.activate_and_drop(mixed);
        let halves = self.convolve_halves(&format!("{name}.right_out"), active, Taps::right(), filters);
        Streams { down, right: self.gate(halves, streams.right) }
    }

    // ---- layers -----------------------------------------------------------------------------------------------

    fn node(&mut self, label: &str, level: usize, channels: usize) -> NodeId {
        self.nodes.push(Node { label: label.into(), level, channels });
        NodeId(self.nodes.len() - 1)
    }

    fn convolve(&mut self, name: &str, input: NodeId, taps: Taps, n_out: usize) -> NodeId {
        let output = self.node(name, self.level_after(input, taps), n_out);
        self.push_convolution(name, input, output, taps, n_out, false);
        output
    }

    /// Two halves of `filters` outputs, for a gate.
    fn convolve_halves(&mut self, name: &str, input: NodeId, taps: Taps, filters: usize) -> NodeId {
        let output = self.node(name, self.level_after(input, taps), 2 * filters);
        self.push_convolution(name, input, output, taps, filters, false);
        output
    }

    /// Adds to a value that is there.
    fn convolve_onto(&mut self, output: NodeId, name: &str, input: NodeId, taps: Taps) {
        self.push_convolution(name, input, output, taps, self.nodes[output.0].channels, true);
    }

    fn level_after(&self, input: NodeId, taps: Taps) -> usize {
        let level = self.nodes[input.0].level;
        match taps.scale {
            Scale::Same => level,
            Scale::Halve => level + 1,
            Scale::Double => level - 1,
        }
    }

    fn push_convolution(
        &mut self,
        name: &str,
        input: NodeId,
        output: NodeId,
        taps: Taps,
        half_width: usize,
        accumulate: bool,
    ) {
        let (n_in, n_out) = (self.nodes[input.0].channels, self.nodes[output.0].channels);
        let taps = taps.simplified(self.groups);
        let visible = taps.visible(n_in, n_out, half_width, self.groups);
        let weights_of_position = visible.iter().map(|&n| u64::from(n)).sum();
        let weight = self.table.add_kernel(format!("{name}.weight"), n_in, taps.kernel, visible);
        let bias = self.table.add(format!("{name}.bias"), &[n_out], None);
        self.layers.push(Layer::Convolve(Convolution {
            input,
            output,
            taps,
            half_width,
            accumulate,
            weight,
            bias,
            weights_of_position,
        }));
    }

    fn activate(&mut self, input: NodeId) -> NodeId {
        if let Some(&output) = self.activated.get(&input) {
            return output;
        }
        let output = self.push_activation(input, None);
        self.activated.insert(input, output);
        output
    }

    /// With dropout, where the settings ask for it.
    fn activate_and_drop(&mut self, input: NodeId) -> NodeId {
        if !self.dropout {
            return self.activate(input);
        }
        let node = &self.nodes[input.0];
        let positions = (self.size[0] >> node.level) * (self.size[1] >> node.level);
        let places = (positions * node.channels.div_ceil(4)) as u32;
        let first_place = self.drop_places;
        self.drop_places += places;
        self.push_activation(input, Some(first_place))
    }

    fn push_activation(&mut self, input: NodeId, first_drop_place: Option<u32>) -> NodeId {
        let Node { label, level, channels } = self.nodes[input.0].clone();
        let output = self.node(&format!("{label}, activated"), level, channels);
        self.layers.push(Layer::Activate { input, output, first_drop_place });
        output
    }

    fn gate(&mut self, halves: NodeId, skip: NodeId) -> NodeId {
        let Node { label, level, .. } = self.nodes[halves.0].clone();
        let output = self.node(&format!("{label}, gated"), level, self.nodes[skip.0].channels);
        self.layers.push(Layer::Gate { halves, skip, output });
        output
    }
}
