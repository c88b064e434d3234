//! The masked convolutional context networks: x (B, D) -> contexts (B, D, K), where c_d depends on x_<d alone.
//!
//! D = height width channels, channel fastest, which makes x itself (B height width, channels). Both networks are tapes
//! of a few operations, recorded when they are built, run in order forward and in reverse backward.
//!
//! ```text
//! gated (LAYOUT.md)   h = first(x)    h += tanh(a) sigmoid(b), (a, b) = blk.n(act(h))    contexts = out(act(h))
//! two streams         u sees the rows above, v those through u and its own row up to itself:
//!   a block of u      m = down_in(act(u)) (+ down_point(act(shortcut u)))
//!                     u += a sigmoid(b), (a, b) = down_out(act(m))
//!   a block of v      m = right_in(act(v)) + right_point(act(u)) (+ right_shortcut(act(shortcut v)))
//!                     v += a sigmoid(b), (a, b) = right_out(act(m))
//!   encoder 0 -> shrink.1 -> encoder 1 -> ... -> grow.0 -> decoder 0, whose block i has shortcuts from the encoder's
//!   block blocks-1-i of the same resolution; contexts = out(act(v))
//! ```

use crate::codes::Activation;
use crate::models::ar_csm::ConvConfig;

use super::conv::{
    ConvShape, Mask, Taps, masked_conv_backward_input, masked_conv_backward_weight, masked_conv_forward,
};
use super::dense::{Layer, add, column_sum};
use super::dropout::{Dropout, dropout_backward, dropout_forward};
use super::gate::{gate_backward, gate_forward};

/// A network of masked convolutions.
#[derive(Debug, Clone)]
pub struct ImageNet {
    /// Height, width, channels.
    pub image: [usize; 3],
    /// K
    pub context: usize,
    /// Activation before every convolution that does not read the image or change the resolution.
    pub activation: Activation,
    /// Dropout on what the gated convolutions read; the layers' quads follow one another in the order in which they run,
    /// from `first_quad` on. None outside of training.
    pub dropout: Option<Dropout>,
    /// Name (`ctx.blk.0`) and shape of every convolution, in the order in which they run.
    pub convolutions: Vec<(String, ConvShape)>,
    /// Weight (n_out n_taps, n_in) and bias of each.
    pub layers: Vec<Layer>,
    filters: usize,
    gate: Activation,
    tape: Vec<Node>,
}

/// One operation, with the height, width and channels of its result. Nodes are named by their place on the tape.
#[derive(Debug, Clone, Copy)]
struct Node {
    operation: Operation,
    extent: [usize; 3],
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Image,
    Convolve {
        layer: usize,
        from: usize,
    },
    Add(usize, usize),
    /// With the place of the layer's first quad if it has dropout.
    Activate {
        from: usize,
        first_quad: Option<usize>,
    },
    Gate {
        skip: usize,
        halves: usize,
    },
}

/// A forward pass with what backward needs.
#[derive(Debug, Clone)]
pub struct ImagePass {
    /// The result of every operation, (B height width, channels).
    results: Vec<Vec<f64>>,
}

impl ImagePass {
    /// (B, D, K)
    pub fn contexts(&self) -> &[f64] {
        self.results.last().expect("the tape begins with the image")
    }
}

impl ImageNet {
    const IMAGE: usize = 0;

    /// The `gated` network, with all weights zero. `image`: height, width, channels.
    pub fn gated(config: &ConvConfig, image: [usize; 3], context: usize, activation: Activation) -> Self {
        let mut net = Self::empty(config, image, context, activation, Activation::Tanh);
        let mut h = net.convolve("first", Taps::square(config.first_kernel, Mask::A), Self::IMAGE);
        for n in 0..config.blocks {
            h = net.gate(&format!("blk.{n}"), Taps::square(config.kernel, Mask::B), h, h);
        }
        net.end(h)
    }

    /// The `pixelcnn` network, with all weights zero. `image`: height, width, channels; height and width must be
    /// multiples of 2^downsamplings.
    pub fn two_stream(config: &ConvConfig, image: [usize; 3], context: usize, activation: Activation) -> Self {
        let mut net = Self::empty(config, image, context, activation, Activation::Identity);
        let mut streams = [
            net.convolve("first_down", Taps::first_down(), Self::IMAGE),
            net.convolve("first_right", Taps::square(3, Mask::A), Self::IMAGE),
        ];
        let mut encoder: Vec<Vec<[usize; 2]>> = Vec::new();
        for level in 0..=config.downsamplings {
            if level > 0 {
                streams = net.resample(&format!("shrink.{level}"), Taps::halving, streams);
            }
            let mut blocks = Vec::new();
            for n in 0..config.blocks {
                streams = net.block(&format!("enc.{level}.{n}"), streams, None);
                blocks.push(streams);
            }
            encoder.push(blocks);
        }
        for (level, blocks) in encoder.into_iter().enumerate().rev().skip(1) {
            streams = net.resample(&format!("grow.{level}"), Taps::doubling, streams);
            for (n, shortcuts) in blocks.into_iter().rev().enumerate() {
                streams = net.block(&format!("dec.{level}.{n}"), streams, Some(shortcuts));
            }
        }
        net.end(streams[1])
    }

    /// x (B, D) -> contexts (B, D, K), with the stash of [`ImageNet::backward`].
    pub fn forward(&self, x: &[f64]) -> ImagePass {
        let mut results: Vec<Vec<f64>> = Vec::with_capacity(self.tape.len());
        for node in &self.tape {
            let result = match node.operation {
                Operation::Image => x.to_vec(),
                Operation::Convolve { layer, from } => {
                    let Layer { weight, bias } = &self.layers[layer];
                    masked_conv_forward(&self.convolutions[layer].1, &results[from], weight, bias).value
                }
                Operation::Add(a, b) => results[a].iter().zip(&results[b]).map(|(a, b)| a + b).collect(),
                Operation::Activate { from, first_quad } => {
                    let scales = self.scales(node, first_quad, results[from].len());
                    dropout_forward(self.activation, &results[from], &scales)
                }
                Operation::Gate { skip, halves } => {
                    gate_forward(self.gate, &results[skip], &results[halves], self.filters)
                }
            };
            results.push(result);
        }
        ImagePass { results }
    }

    /// Gradients by every layer's weight and bias, from the adjoint of the contexts, dcontexts (B, D, K).
    pub fn backward(&self, pass: &ImagePass, dcontexts: &[f64]) -> Vec<Layer> {
        let mut gradients: Vec<Layer> = self.layers.iter().map(Layer::zeros_like).collect();
        let mut adjoints: Vec<Vec<f64>> = pass.results.iter().map(|result| vec![0.0; result.len()]).collect();
        add(adjoints.last_mut().expect("the tape begins with the image"), dcontexts);
        for (place, node) in self.tape.iter().enumerate().rev() {
            let adjoint = std::mem::take(&mut adjoints[place]);
            match node.operation {
                Operation::Image => {}
                Operation::Convolve { layer, from } => {
                    let shape = &self.convolutions[layer].1;
                    let weight = masked_conv_backward_weight(shape, &adjoint, &pass.results[from]).value;
                    gradients[layer] = Layer { weight, bias: column_sum(&adjoint, shape.n_out).value };
                    let dinput = masked_conv_backward_input(shape, &adjoint, &self.layers[layer].weight).value;
                    add(&mut adjoints[from], &dinput);
                }
                Operation::Add(a, b) => {
                    add(&mut adjoints[a], &adjoint);
                    add(&mut adjoints[b], &adjoint);
                }
                Operation::Activate { from, first_quad } => {
                    let scales = self.scales(node, first_quad, adjoint.len());
                    let dh = dropout_backward(self.activation, &pass.results[from], &scales, &adjoint);
                    add(&mut adjoints[from], &dh);
                }
                Operation::Gate { skip, halves } => {
                    let dhalves = gate_backward(self.gate, &pass.results[halves], &adjoint, self.filters);
                    add(&mut adjoints[halves], &dhalves);
                    add(&mut adjoints[skip], &adjoint);
                }
            }
        }
        gradients
    }

    /// What dropout does to the units of an activation.
    fn scales(&self, node: &Node, first_quad: Option<usize>, units: usize) -> Vec<f64> {
        let (Some(dropout), Some(first_quad)) = (self.dropout, first_quad) else { return vec![1.0; units] };
        let [height, width, channels] = node.extent;
        let of_layer = Dropout { first_quad: dropout.first_quad + first_quad as u32, ..dropout };
        of_layer.scales(units / (height * width * channels), height * width, channels)
    }

    // ---- recording --------------------------------------------------------------------------------------------

    fn empty(config: &ConvConfig, image: [usize; 3], context: usize, activation: Activation, gate: Activation) -> Self {
        Self {
            image,
            context,
            activation,
            dropout: None,
            convolutions: Vec::new(),
            layers: Vec::new(),
            filters: config.filters,
            gate,
            tape: vec![Node { operation: Operation::Image, extent: image }],
        }
    }

    fn record(&mut self, operation: Operation, extent: [usize; 3]) -> usize {
        self.tape.push(Node { operation, extent });
        self.tape.len() - 1
    }

    /// A convolution to `n_out` channels whose groups spread over `half` of them.
    fn convolve_to(&mut self, name: &str, taps: Taps, from: usize, n_out: usize, half: usize) -> usize {
        let ([in_height, in_width, n_in], groups) = (self.tape[from].extent, self.image[2]);
        let shape = ConvShape { taps, n_in, n_out, half, groups, in_height, in_width };
        let layer = self.layers.len();
        self.layers.push(Layer::zeros(n_out, taps.count * n_in));
        self.convolutions.push((format!("ctx.{name}"), shape));
        self.record(Operation::Convolve { layer, from }, [shape.out_height(), shape.out_width(), n_out])
    }

    fn convolve(&mut self, name: &str, taps: Taps, from: usize) -> usize {
        self.convolve_to(name, taps, from, self.filters, self.filters)
    }

    fn activate(&mut self, from: usize, first_quad: Option<usize>) -> usize {
        self.record(Operation::Activate { from, first_quad }, self.tape[from].extent)
    }

    /// sum + convolution of the activations of `from`.
    fn add_convolution(&mut self, sum: usize, name: &str, taps: Taps, from: usize) -> usize {
        let term = self.activate(from, None);
        let term = self.convolve(name, taps, term);
        self.record(Operation::Add(sum, term), self.tape[sum].extent)
    }

    /// skip + phi(a) sigmoid(b), where a and b are convolutions of the activations of `from`, with dropout.
    fn gate(&mut self, name: &str, taps: Taps, from: usize, skip: usize) -> usize {
        let first_quad = self.dropout_quads();
        let activated = self.activate(from, Some(first_quad));
        let halves = self.convolve_to(name, taps, activated, 2 * self.filters, self.filters);
        self.record(Operation::Gate { skip, halves }, self.tape[skip].extent)
    }

    /// Quads of the layers with dropout so far.
    fn dropout_quads(&self) -> usize {
        let with_dropout = |node: &&Node| matches!(node.operation, Operation::Activate { first_quad: Some(_), .. });
        let quads = |&Node { extent: [height, width, channels], .. }: &Node| height * width * channels.div_ceil(4);
        self.tape.iter().filter(with_dropout).map(quads).sum()
    }

    fn block(&mut self, name: &str, [u, v]: [usize; 2], shortcuts: Option<[usize; 2]>) -> [usize; 2] {
        let named = |part: &str| format!("{name}.{part}");
        let activated = self.activate(u, None);
        let mut m = self.convolve(&named("down_in"), Taps::down(), activated);
        if let Some([shortcut, _]) = shortcuts {
            m = self.add_convolution(m, &named("down_point"), Taps::point(Mask::None), shortcut);
        }
        let u = self.gate(&named("down_out"), Taps::down(), m, u);

        let activated = self.activate(v, None);
        let mut m = self.convolve(&named("right_in"), Taps::right(), activated);
        m = self.add_convolution(m, &named("right_point"), Taps::point(Mask::None), u);
        if let Some([_, shortcut]) = shortcuts {
            m = self.add_convolution(m, &named("right_shortcut"), Taps::point(Mask::B), shortcut);
        }
        [u, self.gate(&named("right_out"), Taps::right(), m, v)]
    }

    fn resample(&mut self, name: &str, to: fn(Taps) -> Taps, [u, v]: [usize; 2]) -> [usize; 2] {
        let u = self.convolve(&format!("{name}.down"), to(Taps::down()), u);
        [u, self.convolve(&format!("{name}.right"), to(Taps::right()), v)]
    }

    fn end(mut self, h: usize) -> Self {
        let (activated, n_out) = (self.activate(h, None), self.image[2] * self.context);
        self.convolve_to("out", Taps::point(Mask::B), activated, n_out, n_out);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draws, assert_close, dot, gradient_by_layers};
    use super::*;

    fn config(filters: usize, blocks: usize, downsamplings: usize) -> ConvConfig {
        ConvConfig { filters, blocks, downsamplings, first_kernel: 5, kernel: 3, dropout: 0.0 }
    }

    fn names(net: &ImageNet) -> Vec<&str> {
        net.convolutions.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Calls `check(j, d, unchanged)`: whether the contexts of dimension d are as they were, after a change of x_j.
    fn for_all_pairs(net: &ImageNet, mut check: impl FnMut(usize, usize, bool)) {
        let (dimensions, k) = (net.image.iter().product(), net.context);
        let x = Draws::new(61).normals(dimensions);
        let before = net.forward(&x);
        for j in 0..dimensions {
            let mut moved = x.clone();
            moved[j] += 0.5;
            let after = net.forward(&moved);
            for d in 0..dimensions {
                check(j, d, before.contexts()[d * k..][..k] == after.contexts()[d * k..][..k]);
            }
        }
    }

    #[test]
    fn a_context_of_two_streams_depends_on_every_earlier_dimension_and_on_no_other() {
        // So many blocks reach over the whole image; 5 filters are not a multiple of 3 channels.
        for (blocks, downsamplings) in [(3, 0), (2, 1)] {
            let net = ImageNet::two_stream(&config(5, blocks, downsamplings), [6, 4, 3], 2, Activation::Silu);
            for_all_pairs(&Draws::new(62).image_net(net), |j, d, unchanged| {
                assert_eq!(
                    unchanged,
                    d <= j,
                    "context of dimension {d} after a change of x_{j} ({downsamplings} halvings)"
                );
            });
        }
    }

    #[test]
    fn a_gated_context_depends_on_earlier_dimensions_only() {
        let net = ImageNet::gated(&config(5, 2, 0), [6, 4, 3], 2, Activation::Elu);
        for_all_pairs(&Draws::new(63).image_net(net), |j, d, unchanged| {
            let near = j / 12 + 2 >= d / 12 && (j / 3 % 4).abs_diff(d / 3 % 4) <= 2;
            assert!(!unchanged || d <= j || !near, "context of dimension {d} does not see x_{j}");
            assert!(unchanged || d > j, "context of dimension {d} sees x_{j}");
        });
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let dropout = Dropout { rate: 0.25, seed: 5, step: 2, first_sample: 7, first_quad: 0 };
        let config = |blocks, downsamplings| ConvConfig { first_kernel: 3, ..config(3, blocks, downsamplings) };
        for net in [
            ImageNet::gated(&config(2, 0), [3, 2, 2], 2, Activation::Tanh),
            ImageNet::two_stream(&config(2, 0), [3, 2, 2], 2, Activation::Softplus),
            ImageNet::two_stream(&config(1, 1), [2, 4, 2], 1, Activation::Silu),
        ] {
            let mut draws = Draws::new(64);
            let net = ImageNet { dropout: Some(dropout), ..draws.image_net(net) };
            let values = 2 * net.image.iter().product::<usize>();
            let (x, dcontexts) = (draws.normals(values), draws.normals(values * net.context));
            let got = net.backward(&net.forward(&x), &dcontexts);
            let want = gradient_by_layers(&net.layers, |layers| {
                dot(ImageNet { layers: layers.to_vec(), ..net.clone() }.forward(&x).contexts(), &dcontexts)
            });
            for ((name, (got, want)), layer) in names(&net).iter().zip(got.iter().zip(&want)).zip(&net.layers) {
                assert_eq!(got.weight.len(), layer.weight.len(), "{name}");
                assert!(got.weight.iter().any(|&g| g != 0.0), "{name} has no gradient");
                assert_close(&format!("{name}.weight"), &got.weight, &want.weight, 1e-9);
                assert_close(&format!("{name}.bias"), &got.bias, &want.bias, 1e-9);
            }
        }
    }

    #[test]
    fn names_and_shapes_of_two_streams() {
        let net = ImageNet::two_stream(&config(5, 1, 1), [6, 4, 3], 2, Activation::Relu);
        let want = [
            "ctx.first_down",
            "ctx.first_right",
            "ctx.enc.0.0.down_in",
            "ctx.enc.0.0.down_out",
            "ctx.enc.0.0.right_in",
            "ctx.enc.0.0.right_point",
            "ctx.enc.0.0.right_out",
            "ctx.shrink.1.down",
            "ctx.shrink.1.right",
            "ctx.enc.1.0.down_in",
            "ctx.enc.1.0.down_out",
            "ctx.enc.1.0.right_in",
            "ctx.enc.1.0.right_point",
            "ctx.enc.1.0.right_out",
            "ctx.grow.0.down",
            "ctx.grow.0.right",
            "ctx.dec.0.0.down_in",
            "ctx.dec.0.0.down_point",
            "ctx.dec.0.0.down_out",
            "ctx.dec.0.0.right_in",
            "ctx.dec.0.0.right_point",
            "ctx.dec.0.0.right_shortcut",
            "ctx.dec.0.0.right_out",
            "ctx.out",
        ];
        assert_eq!(names(&net), want);
        let grid = |layer: usize| [net.convolutions[layer].1.in_height, net.convolutions[layer].1.in_width];
        assert_eq!([2, 7, 9, 14, 16, 23].map(grid), [[6, 4], [6, 4], [3, 2], [3, 2], [6, 4], [6, 4]]);
    }

    #[test]
    fn decoder_blocks_take_the_encoder_s_in_reverse() {
        let net = ImageNet::two_stream(&config(1, 2, 1), [2, 2, 1], 1, Activation::Identity);
        let place = |name: &str| names(&net).iter().position(|known| *known == name).expect("a known name");
        let from = |layer: usize| {
            let reads = |node: &Node| match node.operation {
                Operation::Convolve { layer: l, from } if l == layer => Some(from),
                _ => None,
            };
            net.tape.iter().find_map(reads).expect("every layer is read")
        };
        for (decoder, encoder) in [(0, 1), (1, 0)] {
            for (point, out) in [("down_point", "down_out"), ("right_shortcut", "right_out")] {
                let activated = from(place(&format!("ctx.dec.0.{decoder}.{point}")));
                let Operation::Activate { from: gate, .. } = net.tape[activated].operation else { panic!("{point}") };
                let Operation::Gate { halves, .. } = net.tape[gate].operation else { panic!("{point}") };
                let Operation::Convolve { layer, .. } = net.tape[halves].operation else { panic!("{point}") };
                assert_eq!(net.convolutions[layer].0, format!("ctx.enc.0.{encoder}.{out}"));
            }
        }
    }

    #[test]
    fn dropout_takes_the_quads_of_its_layers_one_after_another() {
        let net = ImageNet::two_stream(&config(5, 1, 1), [4, 2, 3], 1, Activation::Silu);
        let first_quads = net.tape.iter().filter_map(|node| match node.operation {
            Operation::Activate { first_quad, .. } => first_quad,
            _ => None,
        });
        // 5 channels are 2 quads, of 8 positions and of 2.
        assert_eq!(first_quads.collect::<Vec<_>>(), [0, 16, 32, 36, 40, 56]);
    }
}
