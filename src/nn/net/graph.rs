//! A network of convolutions in the making: values, and the layers between them, described one after another.

use std::collections::HashMap;

use super::taps::{Scale, Taps};
use super::{Convolution, Layer, Node, NodeId};
use crate::nn::ParamTable;

/// A network in the making. Its last value holds the contexts, channel by channel.
pub(crate) struct Graph<'t> {
    pub(super) table: &'t mut ParamTable,
    pub(super) size: [usize; 3],
    dropout: bool,
    pub(super) nodes: Vec<Node>,
    pub(super) layers: Vec<Layer>,
    /// Values whose activation is there already.
    activated: HashMap<NodeId, NodeId>,
    /// Places in the dropout's sequence of random numbers that are taken.
    drop_places: u32,
}

impl<'t> Graph<'t> {
    /// Nothing but the pixels of images of [rows, columns, channels]; parameters go to the table, which must be empty.
    pub(crate) fn new(size: [usize; 3], dropout: bool, table: &'t mut ParamTable) -> Self {
        let pixels = Node { label: "pixels".into(), level: 0, channels: size[2] };
        Self {
            table,
            size,
            dropout,
            nodes: vec![pixels],
            layers: Vec::new(),
            activated: HashMap::new(),
            drop_places: 0,
        }
    }

    /// The image itself.
    pub(crate) fn pixels(&self) -> NodeId {
        NodeId(0)
    }

    fn node(&mut self, label: &str, level: usize, channels: usize) -> NodeId {
        self.nodes.push(Node { label: label.into(), level, channels });
        NodeId(self.nodes.len() - 1)
    }

    /// A new value with `n_out` channels, a convolution of another.
    pub(crate) fn convolve(&mut self, name: &str, input: NodeId, taps: Taps, n_out: usize) -> NodeId {
        let output = self.node(name, self.level_after(input, taps), n_out);
        self.push_convolution(name, input, output, taps, n_out, false);
        output
    }

    /// Two halves of `filters` outputs, for a gate.
    pub(crate) fn convolve_halves(&mut self, name: &str, input: NodeId, taps: Taps, filters: usize) -> NodeId {
        let output = self.node(name, self.level_after(input, taps), 2 * filters);
        self.push_convolution(name, input, output, taps, filters, false);
        output
    }

    /// Adds to a value that is there.
    pub(crate) fn convolve_onto(&mut self, output: NodeId, name: &str, input: NodeId, taps: Taps) {
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
        let taps = taps.simplified(self.size[2]);
        let visible = taps.visible(n_in, n_out, half_width, self.size[2]);
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

    /// phi of a value; made once, however often it is asked for.
    pub(crate) fn activate(&mut self, input: NodeId) -> NodeId {
        if let Some(&output) = self.activated.get(&input) {
            return output;
        }
        let output = self.push_activation(input, None);
        self.activated.insert(input, output);
        output
    }

    /// With dropout, where the settings ask for it.
    pub(crate) fn activate_and_drop(&mut self, input: NodeId) -> NodeId {
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

    /// skip + gate(first half) sigmoid(second half).
    pub(crate) fn gate(&mut self, halves: NodeId, skip: NodeId) -> NodeId {
        let Node { label, level, .. } = self.nodes[halves.0].clone();
        let output = self.node(&format!("{label}, gated"), level, self.nodes[skip.0].channels);
        self.layers.push(Layer::Gate { halves, skip, output });
        output
    }
}
