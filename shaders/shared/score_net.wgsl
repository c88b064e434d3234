// The shared score network on a tile of 64 lines, one workgroup, its activations in that workgroup's
// part of `scratch` (small enough to stay in cache, and of any width or depth).
//
// With TANGENT the 64 lines are 32 pairs: an even line holds values h, the odd line below it the tangents h' = dh/dx~.
// Both go through the same products, since z = W h + b and t = W h' share W; only the activation couples them:
// h = phi(z), h' = phi'(z) t. Without TANGENT all 64 lines are values.
//
// The includer declares: net (weights), tables (layer table), scratch, and constants TANGENT, ACTIVATION; it includes
// activation and broadcast.
// Layer table, 8 words a layer: n_in, n_out, weight, bias (offsets in `net`, vec4s), input, z, h (offsets in the
// workgroup's scratch, vec4s), unused. The last layer has one output and no z, h.

const TILE_LINES = 64u;
// A thread holds 64 sums in registers: ROWS lines times 16 / ROWS quads of columns, 32 columns apart.
const THREADS = 512u / ROWS;
const TILE_COLUMNS = 512u / ROWS;

struct Layer {
    n_in: u32,
    n_out: u32,
    weight: u32,
    bias: u32,
    input: u32,
    z: u32,
    h: u32,
}

fn score_layer(index: u32) -> Layer {
    let t = 8u * index;
    return Layer(tables[t], tables[t + 1u], tables[t + 2u], tables[t + 3u], tables[t + 4u], tables[t + 5u], tables[t + 6u]);
}

fn quads(n: u32) -> u32 {
    return (n + 3u) / 4u;
}

// Zero beyond the last column, so that padding stays zero.
fn keep_columns(v: vec4<f32>, first: u32, n: u32) -> vec4<f32> {
    return select(vec4(0.0), v, vec4(first, first + 1u, first + 2u, first + 3u) < vec4(n));
}

// z = W h_in + b and h = phi(z), for the ROWS lines from local.y * ROWS on, and columns local.x * 4 .. + 4 of every 32.
fn hidden_forward(base: u32, layer: Layer, local: vec2<u32>, n_lines: u32) {
    let line = local.y * ROWS;
    if line >= n_lines {
        return;
    }
    let n_quads = quads(layer.n_in);
    let out_quads = quads(layer.n_out);
    let input = base + layer.input + line * n_quads;
    for (var tile = 0u; tile < layer.n_out; tile += TILE_COLUMNS) {
        let column = tile + local.x * 4u;
        //#for h in 0..16/ROWS
        //#for j in 0..4
        let weight{h}_{j} = layer.weight + min(column + {h}u * 32u + {j}u, layer.n_out - 1u) * n_quads;
        //#end
        let bias{h} = net[layer.bias + min(column / 4u + {h}u * 8u, out_quads - 1u)];
        //#for p in 0..ROWS/2
        var even{p}_{h} = bias{h};
        var odd{p}_{h} = select(bias{h}, vec4(0.0), TANGENT == 1u);
        //#end
        //#end
        for (var first = 0u; first < n_quads; first += LANES) {
            let own = input + min(first + local.x % LANES, n_quads - 1u);
            //#for r in 0..ROWS
            let own{r} = scratch[own + {r}u * n_quads];
            //#end
            for (var k = first; k < min(first + LANES, n_quads); k++) {
                //#for r in 0..ROWS
                let a{r} = broadcast(own{r}, k - first);
                //#end
                //#for h in 0..16/ROWS
                //#for j in 0..4
                let w{h}_{j} = net[weight{h}_{j} + k];
                //#end
                //#for p in 0..ROWS/2
                even{p}_{h} += vec4(dot(a{2p}, w{h}_0), dot(a{2p}, w{h}_1), dot(a{2p}, w{h}_2), dot(a{2p}, w{h}_3));
                odd{p}_{h} += vec4(dot(a{2p+1}, w{h}_0), dot(a{2p+1}, w{h}_1), dot(a{2p+1}, w{h}_2), dot(a{2p+1}, w{h}_3));
                //#end
                //#end
            }
        }
        //#for h in 0..16/ROWS
        //#for p in 0..ROWS/2
        store_activation(base, layer, line + {2p}u, column + {h}u * 32u, even{p}_{h}, odd{p}_{h});
        //#end
        //#end
    }
}

fn store_activation(base: u32, layer: Layer, line: u32, column: u32, even: vec4<f32>, odd: vec4<f32>) {
    if column >= layer.n_out {
        return;
    }
    let out_quads = quads(layer.n_out);
    let at = base + line * out_quads + column / 4u;
    scratch[at + layer.z] = even;
    scratch[at + layer.z + out_quads] = odd;
    scratch[at + layer.h] = keep_columns(phi_4(ACTIVATION, even), column, layer.n_out);
    let odd_h = select(phi_4(ACTIVATION, odd), phi_first_4(ACTIVATION, even) * odd, TANGENT == 1u);
    scratch[at + layer.h + out_quads] = keep_columns(odd_h, column, layer.n_out);
}

// All hidden layers; the input tile must have been written and a barrier passed. Ends with a barrier.
fn score_hidden_layers(base: u32, n_layers: u32, local: vec2<u32>, n_lines: u32) {
    for (var index = 0u; index + 1u < n_layers; index++) {
        hidden_forward(base, score_layer(index), local, n_lines);
        storageBarrier();
        workgroupBarrier();
    }
}

// f (or its tangent f') of one line of the tile.
fn score_output(base: u32, n_layers: u32, line: u32, is_value: bool) -> f32 {
    let layer = score_layer(n_layers - 1u);
    let n_quads = quads(layer.n_in);
    var sum = select(0.0, net[layer.bias].x, is_value);
    for (var k = 0u; k < n_quads; k++) {
        sum += dot(net[layer.weight + k], scratch[base + layer.input + line * n_quads + k]);
    }
    return sum;
}
