//! The two context networks for images, described.

use crate::codes::{Activation, Mask};
use crate::gpu::Gpu;
use crate::models::ar_csm::{ConvConfig, ModelConfig, Network};
use crate::nn::ParamTable;
use crate::nn::net::{Graph, ImageNet, NodeId, Scale, Taps};

/// Values of the two streams of a PixelCNN++.
#[derive(Debug, Clone, Copy)]
struct Streams {
    /// Sees the rows above.
    down: NodeId,
    /// Sees what is to its left, and through `down` the rows above.
    right: NodeId,
}

/// Lays the network that the settings ask for out, for images of [rows, columns, channels], and adds its parameters to the
/// table, which must be empty.
pub(super) fn image_net(gpu: &Gpu, config: &ModelConfig, size: [usize; 3], table: &mut ParamTable) -> ImageNet {
    let conv = &config.conv;
    let mut graph = Graph::new(size, conv.dropout > 0.0, table);
    let x = graph.pixels();
    let (features, gate) = match config.network {
        Network::PixelCnn => (pixel_cnn(&mut graph, conv, x), Activation::Identity),
        Network::Gated | Network::Made => (gated(&mut graph, conv, x), Activation::Tanh),
    };
    let features = graph.activate(features);
    graph.convolve("ctx.out", features, Taps::point(Mask::B), size[2] * config.context);
    ImageNet::new(gpu, graph, config.context, [config.activation, gate], conv.dropout)
}

/// Masked convolutions with gated residual blocks (van den Oord et al., "Conditional Image Generation with PixelCNN
/// Decoders", 2016), as in `assets/golden/LAYOUT.md`.
fn gated(graph: &mut Graph<'_>, conv: &ConvConfig, x: NodeId) -> NodeId {
    let mut h = graph.convolve("ctx.first", x, Taps::square(conv.first_kernel, Mask::A), conv.filters);
    for n in 0..conv.blocks {
        let active = graph.activate_and_drop(h);
        let taps = Taps::square(conv.kernel, Mask::B);
        let halves = graph.convolve_halves(&format!("ctx.blk.{n}"), active, taps, conv.filters);
        h = graph.gate(halves, h);
    }
    h
}

/// Two streams of shifted convolutions (Salimans et al., "PixelCNN++", 2017), with SiLU or the like for its
/// concatenated ELU, and colour groups in the right stream.
fn pixel_cnn(graph: &mut Graph<'_>, conv: &ConvConfig, x: NodeId) -> NodeId {
    let mut streams = Streams {
        down: graph.convolve("ctx.first_down", x, Taps::first_down(), conv.filters),
        right: graph.convolve("ctx.first_right", x, Taps::square(3, Mask::A), conv.filters),
    };
    // What the encoder's blocks gave, level by level, for the decoder.
    let mut shortcuts = Vec::new();
    for level in 0..=conv.downsamplings {
        if level > 0 {
            streams = rescale(graph, &format!("ctx.shrink.{level}"), streams, Scale::Halve, conv.filters);
        }
        let mut of_level = Vec::new();
        for n in 0..conv.blocks {
            streams = block(graph, &format!("ctx.enc.{level}.{n}"), streams, None, conv.filters);
            of_level.push(streams);
        }
        shortcuts.push(of_level);
    }
    for level in (0..conv.downsamplings).rev() {
        streams = rescale(graph, &format!("ctx.grow.{level}"), streams, Scale::Double, conv.filters);
        for n in 0..conv.blocks {
            let shortcut = shortcuts[level][conv.blocks - 1 - n];
            streams = block(graph, &format!("ctx.dec.{level}.{n}"), streams, Some(shortcut), conv.filters);
        }
    }
    streams.right
}

fn rescale(graph: &mut Graph<'_>, name: &str, streams: Streams, scale: Scale, filters: usize) -> Streams {
    Streams {
        down: graph.convolve(&format!("{name}.down"), streams.down, Taps::down().scaled(scale), filters),
        right: graph.convolve(&format!("{name}.right"), streams.right, Taps::right().scaled(scale), filters),
    }
}

/// A gated residual block in each stream; the right one sees the down one's new values at its own position.
fn block(graph: &mut Graph<'_>, name: &str, streams: Streams, shortcut: Option<Streams>, filters: usize) -> Streams {
    let active = graph.activate(streams.down);
    let mixed = graph.convolve(&format!("{name}.down_in"), active, Taps::down(), filters);
    if let Some(shortcut) = shortcut {
        let active = graph.activate(shortcut.down);
        graph.convolve_onto(mixed, &format!("{name}.down_point"), active, Taps::point(Mask::None));
    }
    let active = graph.activate_and_drop(mixed);
    let halves = graph.convolve_halves(&format!("{name}.down_out"), active, Taps::down(), filters);
    let down = graph.gate(halves, streams.down);

    let active = graph.activate(streams.right);
    let mixed = graph.convolve(&format!("{name}.right_in"), active, Taps::right(), filters);
    let active = graph.activate(down);
    graph.convolve_onto(mixed, &format!("{name}.right_point"), active, Taps::point(Mask::None));
    if let Some(shortcut) = shortcut {
        let active = graph.activate(shortcut.right);
        graph.convolve_onto(mixed, &format!("{name}.right_shortcut"), active, Taps::point(Mask::B));
    }
    let active = graph.activate_and_drop(mixed);
    let halves = graph.convolve_halves(&format!("{name}.right_out"), active, Taps::right(), filters);
    Streams { down, right: graph.gate(halves, streams.right) }
}
