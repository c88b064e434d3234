// The shared score network on a tile of TILE_LINES lines, two neighbouring lines a thread: a line's activations are in registers
// while a layer is computed, eight outputs at a time, and in that workgroup's part of `scratch` between layers.
//
// With TANGENT the two lines of a thread are a pair: the even line holds values h, the odd one the tangents h' = dh/dx~.
// Both go through the same products, since z = W h + b and t = W h' share W; only the activation couples them:
// h = phi(z), h' = phi'(z) t. Without TANGENT both are values. With KEEP every z and h stays in scratch for the backward
// pass; without, the last hidden layer goes straight into the output.
//
// The includer declares: net (weights), tables (layer table), scratch, and constants TANGENT, KEEP, ACTIVATION, LAYERS,
// QUADS_0 and QUADS_1 (inputs that a thread holds at a time, in vec4s: of the first layer and of later ones) and WIDE (1
// where some layer has more inputs than that); TILE_LINES comes with the variant, at most 64. It includes activation and
// broadcast.

//#include score_layers
// Where a vec4 of a line is: neighbouring lines lie side by side.
fn tile_at(base: u32, values: u32, quad: u32, line: u32) -> u32 {
    return base + values + quad * TILE_LINES + line;
}

fn load_pair(base: u32, values: u32, quad: u32, line: u32) -> Pair {
    let at = tile_at(base, values, quad, line);
    return Pair(scratch[at], scratch[at + 1u]);
}

fn store_pair(base: u32, values: u32, quad: u32, line: u32, pair: Pair) {
    let at = tile_at(base, values, quad, line);
    scratch[at] = pair.even;
    scratch[at + 1u] = pair.odd;
}

// Columns 4 quad .. + 4 of the network's input.
fn set_input(base: u32, quad: u32, line: u32, pair: Pair) {
    store_pair(base, layers[0].input, quad, line, pair);
}

// Zero beyond the last quad.
fn load_inside(base: u32, values: u32, quad: u32, n_quads: u32, line: u32) -> Pair {
    let pair = load_pair(base, values, min(quad, n_quads - 1u), line);
    let is_inside = vec4(quad < n_quads);
    return Pair(select(vec4(0.0), pair.even, is_inside), select(vec4(0.0), pair.odd, is_inside));
}

// A vec4 of weights at `at`: lane u of LANES neighbours has it as its own, or nobody has.
fn shared_weight(own: vec4<f32>, u: u32, at: u32) -> vec4<f32> {
    if LANES > 1u {
        return broadcast(own, u);
    }
    return net_at(at);
}

//#for s in 0..2
// z = W h_in + b and h = phi(z) on lines `line` and `line + 1`; with `is_last`, gives what h adds to the output.
fn hidden_forward_{s}(base: u32, layer: Layer, output: Layer, is_last: bool, lane: u32, line: u32) -> vec2<f32> {
    let in_quads = quads(layer.n_in);
    let out_quads = quads(layer.n_out);
    var f = vec2(0.0);
    for (var chunk = 0u; chunk < in_quads; chunk += QUADS_{s}) {
        //#for k in 0..QUADS_{s}
        let h{k} = load_inside(base, layer.input, chunk + {k}u, in_quads, line);
        //#end
        for (var first = 0u; first < layer.n_out; first += 8u) {
            let own_row = layer.weight + min(first + lane, layer.n_out - 1u) * in_quads + chunk;
            //#for u in 0..8
            let row{u} = layer.weight + min(first + {u}u, layer.n_out - 1u) * in_quads + chunk;
            var even{u} = 0.0;
            var odd{u} = 0.0;
            //#end
            //#for k in 0..QUADS_{s}
            let own{k} = net_at(own_row + {k}u);
            //#for u in 0..8
            let w{k}_{u} = shared_weight(own{k}, {u}u, row{u} + {k}u);
            even{u} += dot(h{k}.even, w{k}_{u});
            odd{u} += dot(h{k}.odd, w{k}_{u});
            //#end
            //#end
            let quad = first / 4u;
            let sum0 = Pair(vec4(even0, even1, even2, even3), vec4(odd0, odd1, odd2, odd3));
            let sum1 = Pair(vec4(even4, even5, even6, even7), vec4(odd4, odd5, odd6, odd7));
            let is_done = chunk + QUADS_{s} >= in_quads;
            f += finish_quad(base, layer, output, chunk == 0u, is_done, is_last, quad, line, sum0);
            if quad + 1u < out_quads {
                f += finish_quad(base, layer, output, chunk == 0u, is_done, is_last, quad + 1u, line, sum1);
            }
        }
    }
    return f;
}
//#end

// Four outputs from their sums over a chunk of the inputs, the first and the last chunk being marked.
fn finish_quad(
    base: u32, layer: Layer, output: Layer, is_first: bool, is_done: bool, is_last: bool, quad: u32, line: u32, sum: Pair,
) -> vec2<f32> {
    let bias = net_at(layer.bias + quad);
    var z = Pair(bias + sum.even, select(bias, vec4(0.0), TANGENT == 1u) + sum.odd);
    if WIDE == 1u && !is_first {
        let before = load_pair(base, layer.z, quad, line);
        z = Pair(before.even + sum.even, before.odd + sum.odd);
    }
    if KEEP == 1u || WIDE == 1u {
        store_pair(base, layer.z, quad, line, z);
    }
    let h = activate(z, 4u * quad, layer.n_out);
    if KEEP == 1u || !is_last {
        store_pair(base, layer.h, quad, line, h);
    }
    if is_last && is_done {
        let w = net_at(output.weight + quad);
        return vec2(dot(w, h.even), dot(w, h.odd));
    }
    return vec2(0.0);
}

// The network's output f on lines `line` and `line + 1` (f and its tangent f' with TANGENT), whose inputs this thread wrote:
// all of them if all is new, else those after the first n_fixed vec4s. Lanes side by side must call it together.
fn score_output(base: u32, n_fixed: u32, is_new: bool, lane: u32, line: u32) -> vec2<f32> {
    let output = layers[LAYERS - 1u];
    var f = hidden_forward_0(base, layers[0], output, LAYERS == 2u, lane, line);
    for (var index = 1u; index + 2u < LAYERS; index++) {
        hidden_forward_1(base, layers[index], output, false, lane, line);
    }
    if LAYERS > 2u {
        f = hidden_forward_1(base, layers[LAYERS - 2u], output, true, lane, line);
    }
    let bias = net_at(output.bias).x;
    return f + vec2(bias, select(bias, 0.0, TANGENT == 1u));
}
