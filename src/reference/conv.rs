//! Masked convolutions over pixel rows: only causal taps exist, and at the last one an output sees a *leading* part of
//! the inputs, so that the channels of one pixel are ordered too.
//!
//! Activations are (B h w, C), row-major: row (b h + i) w + j is position (i, j) of sample b. Weights are stored
//! (n_out n_taps, n_in), row `o n_taps + t`; files have them as (n_out, n_in, rows, columns), with zeros where no tap is.
//!
//! ```text
//! y[(b, i, j), o] = bias[o] + sum over taps t and n < visible of weight[o, t, n] x[(b, ii >> up, jj >> up), n]
//! ii = i stride + t / tap_width - above      jj = j stride + t % tap_width - left      zero outside of the grid
//! ```
//!
//! Kernels in one piece with masks of types A and B: van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel recurrent neural
//! networks", ICML 2016. Shifted ones: Salimans, Karpathy, Chen, Kingma, "PixelCNN++", ICLR 2017.

use super::dense::Approx;

/// What outputs see at the last tap, where inputs and outputs fall into equally many groups, one for each image channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mask {
    /// All inputs.
    None = 0,
    /// Inputs of the groups before the output's own.
    A = 1,
    /// Inputs of the groups up to the output's own.
    B = 2,
}

/// Where an output position looks: at `count` taps in raster order, `width` in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taps {
    /// How many.
    pub count: usize,
    /// Columns of their rectangle.
    pub width: usize,
    /// Rows of their rectangle in files; what comes after the last tap does not exist.
    pub rows: usize,
    /// Rows of the first tap above the position.
    pub above: usize,
    /// Columns of the first tap left of the position.
    pub left: usize,
    /// Rows and columns from one output position to the next: 1 or 2.
    pub stride: usize,
    /// 1 if the input is read as if every position were repeated 2x2, otherwise 0.
    pub up: usize,
    /// Mask of the last tap.
    pub mask: Mask,
}

impl Taps {
    /// k x k around the position, up to the position itself; k odd.
    pub fn square(k: usize, mask: Mask) -> Self {
        let half = k / 2;
        Self { count: k * half + half + 1, width: k, rows: k, above: half, left: half, stride: 1, up: 0, mask }
    }

    /// One tap, at the position.
    pub fn point(mask: Mask) -> Self {
        Self::square(1, mask)
    }

    /// 2 rows of 3, ending in the position's row: of the stream that has only seen the rows above.
    pub fn down() -> Self {
        Self { count: 6, width: 3, rows: 2, above: 1, left: 1, stride: 1, up: 0, mask: Mask::None }
    }

    /// As [`Taps::down`], one row higher, for the image itself: no pixel of the position's own row.
    pub fn first_down() -> Self {
        Self { above: 2, ..Self::down() }
    }

    /// 2 rows of 2, ending in the position: of the stream that sees its own row up to itself.
    pub fn right() -> Self {
        Self { count: 4, width: 2, rows: 2, above: 1, left: 1, stride: 1, up: 0, mask: Mask::B }
    }

    /// The same to half the resolution.
    pub fn halving(self) -> Self {
        Self { stride: 2, ..self }
    }

    /// The same to double the resolution.
    pub fn doubling(self) -> Self {
        Self { up: 1, ..self }
    }
}

/// Everything that decides what a convolution computes, except batch size and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Where outputs look.
    pub taps: Taps,
    /// Channels of the input.
    pub n_in: usize,
    /// Channels of the output.
    pub n_out: usize,
    /// Outputs over which the groups spread; `n_out`, or half of it where they repeat in both halves.
    pub half: usize,
    /// Groups of channels for the mask.
    pub groups: usize,
    /// Rows of the input; even where the stride is 2.
    pub in_height: usize,
    /// Columns of the input; even where the stride is 2.
    pub in_width: usize,
}

impl ConvShape {
    /// Rows of the output.
    pub fn out_height(&self) -> usize {
        (self.in_height << self.taps.up) / self.taps.stride
    }

    /// Columns of the output.
    pub fn out_width(&self) -> usize {
        (self.in_width << self.taps.up) / self.taps.stride
    }

    /// How many leading inputs output `o` sees at the last tap; at every other one it sees all.
    pub fn visible(&self, o: usize) -> usize {
        let group = o % self.half * self.groups / self.half;
        match self.taps.mask {
            Mask::None => self.n_in,
            Mask::A => (group * self.n_in).div_ceil(self.groups),
            Mask::B => ((group + 1) * self.n_in).div_ceil(self.groups),
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.n_out * self.taps.count * self.n_in
    }

    /// Weights as files have them, (n_out, n_in, rows, columns), to (n_out n_taps, n_in).
    pub fn from_file_layout(&self, weight: &[f64]) -> Vec<f64> {
        let mut stored = vec![0.0; self.weights()];
        self.each_weight(|at, in_file| stored[at] = weight[in_file]);
        stored
    }

    /// Weights (n_out n_taps, n_in) as files have them, (n_out, n_in, rows, columns).
    pub fn to_file_layout(&self, weight: &[f64]) -> Vec<f64> {
        let mut file = vec![0.0; self.n_out * self.n_in * self.taps.rows * self.taps.width];
        self.each_weight(|at, in_file| file[in_file] = weight[at]);
        file
    }

    /// Calls `visit(stored, in file)` with the indices of each weight.
    fn each_weight(&self, mut visit: impl FnMut(usize, usize)) {
        let cells = self.taps.rows * self.taps.width;
        for o in 0..self.n_out {
            for t in 0..self.taps.count {
                for n in 0..self.n_in {
                    visit((o * self.taps.count + t) * self.n_in + n, (o * self.n_in + n) * cells + t);
                }
            }
        }
    }

    /// Calls `visit(y, weight, x)` with the indices of each term of a convolution of `batch` samples.
    fn each_term(&self, batch: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let (taps, positions) = (&self.taps, self.out_height() * self.out_width());
        let visible: Vec<usize> = (0..self.n_out).map(|o| self.visible(o)).collect();
        for row in 0..batch * positions {
            let (b, position) = (row / positions, row % positions);
            for t in 0..taps.count {
                let Some(input) = self.looks_at(position, t) else { continue };
                let x = (b * self.in_height * self.in_width + input) * self.n_in;
                for (o, &visible) in visible.iter().enumerate() {
                    let seen = if t + 1 == taps.count { visible } else { self.n_in };
                    for n in 0..seen {
                        visit(row * self.n_out + o, (o * taps.count + t) * self.n_in + n, x + n);
                    }
                }
            }
        }
    }

    /// The input position under tap `t` of an output position, unless it is off the grid.
    fn looks_at(&self, position: usize, t: usize) -> Option<usize> {
        let (taps, width) = (&self.taps, self.out_width());
        let i = (position / width * taps.stride + t / taps.width).checked_sub(taps.above)? >> taps.up;
        let j = (position % width * taps.stride + t % taps.width).checked_sub(taps.left)? >> taps.up;
        (i < self.in_height && j < self.in_width).then_some(i * self.in_width + j)
    }
}

/// x (B in_height in_width, n_in), weight (n_out n_taps, n_in), bias (n_out) -> (B out_height out_width, n_out).
pub fn masked_conv_forward(shape: &ConvShape, x: &[f64], weight: &[f64], bias: &[f64]) -> Approx {
    let batch = x.len() / (shape.in_height * shape.in_width * shape.n_in);
    let mut y = Approx::zeros(batch * shape.out_height() * shape.out_width() * shape.n_out);
    for at in 0..y.value.len() {
        y.add(at, bias[at % shape.n_out]);
    }
    shape.each_term(batch, |y_at, w_at, x_at| y.add(y_at, weight[w_at] * x[x_at]));
    y
}

/// dy (B out_height out_width, n_out), weight (n_out n_taps, n_in) -> (B in_height in_width, n_in).
pub fn masked_conv_backward_input(shape: &ConvShape, dy: &[f64], weight: &[f64]) -> Approx {
    let batch = dy.len() / (shape.out_height() * shape.out_width() * shape.n_out);
    let mut dx = Approx::zeros(batch * shape.in_height * shape.in_width * shape.n_in);
    shape.each_term(batch, |y_at, w_at, x_at| dx.add(x_at, weight[w_at] * dy[y_at]));
    dx
}

/// dy (B out_height out_width, n_out), x (B in_height in_width, n_in) -> (n_out n_taps, n_in), exactly 0 where the mask
/// hides the input.
pub fn masked_conv_backward_weight(shape: &ConvShape, dy: &[f64], x: &[f64]) -> Approx {
    let batch = x.len() / (shape.in_height * shape.in_width * shape.n_in);
    let mut dweight = Approx::zeros(shape.weights());
    shape.each_term(batch, |y_at, w_at, x_at| dweight.add(w_at, dy[y_at] * x[x_at]));
    dweight
}

#[cfg(test)]
mod tests {
    use super::super::dense::column_sum;
    use super::super::testing::{Draws, GOLDEN_CONV, Golden, assert_close, dot, gradient};
    use super::*;

    const BATCH: usize = 2;

    fn one_channel(taps: Taps, in_height: usize, in_width: usize) -> ConvShape {
        ConvShape { taps, n_in: 1, n_out: 1, half: 1, groups: 1, in_height, in_width }
    }

    /// Every kernel and resampling with every mask, with 3 groups that divide neither inputs nor outputs, spread over
    /// all outputs and over both halves.
    fn every_shape() -> Vec<ConvShape> {
        let masks = [Mask::None, Mask::A, Mask::B];
        let kernels = [Taps::square(5, Mask::A), Taps::point(Mask::A), Taps::down(), Taps::first_down(), Taps::right()];
        let masked = kernels.into_iter().flat_map(|taps| masks.map(|mask| Taps { mask, ..taps }));
        let resampled = masked.flat_map(|taps| [taps, taps.halving(), taps.doubling()]);
        let of_taps = |taps| ConvShape { taps, n_in: 5, n_out: 8, half: 8, groups: 3, in_height: 2, in_width: 4 };
        resampled.map(of_taps).flat_map(|shape| [shape, ConvShape { half: 4, ..shape }]).collect()
    }

    #[test]
    fn forward_by_hand() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let weight = [1.0, 10.0, 100.0, 1000.0, 10_000.0];
        let forward = |taps: Taps, height, width| {
            masked_conv_forward(&one_channel(taps, height, width), &x, &weight[..taps.count], &[0.5]).value
        };
        assert_eq!(forward(Taps::square(3, Mask::A), 2, 2), [0.5, 1000.5, 210.5, 3021.5]);
        assert_eq!(forward(Taps::square(3, Mask::B), 2, 2), [10_000.5, 21_000.5, 30_210.5, 43_021.5]);
        assert_eq!(forward(Taps::right(), 4, 1), [1000.5, 2010.5, 3020.5, 4030.5]);
        assert_eq!(forward(Taps::right().halving(), 2, 2), [1000.5]);
        assert_eq!(forward(Taps::point(Mask::B).doubling(), 1, 4), [1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 4.5, 4.5].repeat(2));
        // Position (1, 1) of the doubled grid has (0, 0) (0, 1) (1, 0) (1, 1) under its taps: all are input (0, 0).
        let doubled = forward(Taps::right().doubling(), 2, 2);
        assert_eq!(doubled[..8], [1000.5, 1100.5, 2100.5, 2200.5, 1010.5, 1111.5, 2121.5, 2222.5]);
        let taps = Taps::first_down();
        let six = [weight.as_slice(), &[1e5]].concat();
        let y = masked_conv_forward(&one_channel(taps, 4, 1), &[1.0, 2.0, 3.0, 4.0], &six, &[0.0]);
        assert_eq!(y.value, [0.0, 10_000.0, 20_010.0, 30_020.0]);
        assert_eq!(masked_conv_forward(&one_channel(taps, 4, 1), &[-1.0; 4], &six, &[-3.0]).magnitude[2], 10_013.0);
    }

    #[test]
    fn what_outputs_see_by_hand() {
        let seen = |mask, half| {
            let taps = Taps::point(mask);
            let shape = ConvShape { taps, n_in: 5, n_out: 8, half, groups: 3, in_height: 1, in_width: 1 };
            [0, 1, 2, 3, 4, 5, 6, 7].map(|o| shape.visible(o))
        };
        assert_eq!(seen(Mask::A, 8), [0, 0, 0, 2, 2, 2, 4, 4]);
        assert_eq!(seen(Mask::B, 8), [2, 2, 2, 4, 4, 4, 5, 5]);
        assert_eq!(seen(Mask::A, 4), [0, 0, 2, 4, 0, 0, 2, 4]);
        assert_eq!(seen(Mask::B, 4), [2, 2, 4, 5, 2, 2, 4, 5]);
        assert_eq!(seen(Mask::None, 4), [5; 8]);
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let mut draws = Draws::new(51);
        for shape in every_shape() {
            let x = draws.normals(BATCH * shape.in_height * shape.in_width * shape.n_in);
            let (weight, bias) = (draws.normals(shape.weights()), draws.normals(shape.n_out));
            let dy = draws.normals(BATCH * shape.out_height() * shape.out_width() * shape.n_out);
            let functional = |x: &[f64], w: &[f64], b: &[f64]| dot(&masked_conv_forward(&shape, x, w, b).value, &dy);

            let dx = gradient(&x, |x| functional(x, &weight, &bias));
            let got = masked_conv_backward_input(&shape, &dy, &weight).value;
            assert_close(&format!("dx of {shape:?}"), &got, &dx, 1e-9);
            let dweight = gradient(&weight, |w| functional(&x, w, &bias));
            let got = masked_conv_backward_weight(&shape, &dy, &x).value;
            assert_close(&format!("dweight of {shape:?}"), &got, &dweight, 1e-9);
            let dbias = gradient(&bias, |b| functional(&x, &weight, b));
            assert_close(&format!("dbias of {shape:?}"), &column_sum(&dy, shape.n_out).value, &dbias, 1e-9);

            for (row, got) in got.chunks(shape.n_in).enumerate() {
                let (o, t) = (row / shape.taps.count, row % shape.taps.count);
                let seen = if t + 1 == shape.taps.count { shape.visible(o) } else { shape.n_in };
                assert!(got[seen..].iter().all(|&g| g == 0.0), "{shape:?}: hidden weights of {o}, {t} have gradient");
            }
        }
    }

    #[test]
    fn magnitudes_are_the_sums_over_absolute_values() {
        let mut draws = Draws::new(52);
        let shape = every_shape()[3];
        let (x, weight) = (draws.normals(BATCH * 8 * shape.n_in), draws.normals(shape.weights()));
        let dy = draws.normals(BATCH * shape.out_height() * shape.out_width() * shape.n_out);
        let absolute = |v: &[f64]| v.iter().map(|v| v.abs()).collect::<Vec<_>>();
        let (ax, aweight, ady) = (absolute(&x), absolute(&weight), absolute(&dy));
        for (got, want) in [
            (masked_conv_forward(&shape, &x, &weight, &x[..8]), masked_conv_forward(&shape, &ax, &aweight, &ax[..8])),
            (masked_conv_backward_input(&shape, &dy, &weight), masked_conv_backward_input(&shape, &ady, &aweight)),
            (masked_conv_backward_weight(&shape, &dy, &x), masked_conv_backward_weight(&shape, &ady, &ax)),
        ] {
            assert_eq!(got.magnitude, want.value);
            assert_ne!(got.value, want.value);
        }
    }

    #[test]
    fn golden_masks() {
        let golden = Golden::load(GOLDEN_CONV);
        let masked =
            |taps, n_in, n_out, half| ConvShape { taps, n_in, n_out, half, groups: 1, in_height: 5, in_width: 5 };
        for (name, shape) in [
            ("first", masked(Taps::square(5, Mask::A), 1, 6, 6)),
            ("blk.0", masked(Taps::square(3, Mask::B), 6, 12, 6)),
            ("blk.1", masked(Taps::square(3, Mask::B), 6, 12, 6)),
            ("out", masked(Taps::point(Mask::B), 6, 3, 3)),
        ] {
            // A weight has a gradient exactly where it counts.
            let ones = |channels: usize| vec![1.0; 25 * channels];
            let gradient = masked_conv_backward_weight(&shape, &ones(shape.n_out), &ones(shape.n_in)).value;
            let counts: Vec<f64> = gradient.iter().map(|&g| f64::from(g != 0.0)).collect();
            let want = golden.tensor(&format!("mask.ctx.{name}.mask"));
            assert_eq!(shape.to_file_layout(&counts), want, "{name}");
            assert_eq!(shape.from_file_layout(want), counts, "{name}");
        }
    }
}
