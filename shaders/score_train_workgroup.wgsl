// score_train on hardware adapters, for networks of one or two hidden layers of at most 64 units. The mathematics are those of
// score_train.wgsl; the work is divided otherwise: a workgroup takes tiles of 16 lines (8 rows with their tangents, or 16
// without), thread u has unit u of every hidden layer. It keeps its row of the second layer's weights in registers from the
// first tile to the last, and the gradients of all the weights that lead to its units. Lines pass through the workgroup's
// memory, and nothing but gradients at the end goes to `scratch`.

const KEEP = 0u;

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    row_stride: u32,
    n_net: u32,
    n_tables: u32,
    n_groups: u32,
    scratch_words: u32,
    gradient_at: u32,
    mean: f32,
    sd: f32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> context: array<f32>; // (batch, dimensions * context_width)
@group(0) @binding(2) var<storage, read> rows: array<vec4<u32>>; // (n_rows, 4)
@group(0) @binding(3) var<storage, read> net: array<vec4<f32>>; // (n_net)
@group(0) @binding(4) var<storage, read> tables: array<u32>; // (n_tables)
@group(0) @binding(5) var<storage, read_write> scratch: array<vec4<f32>>; // (n_groups, scratch_words)
@group(0) @binding(6) var<storage, read_write> dcontext: array<f32>; // (batch, dimensions * context_width)

const PAIRS = TILE_LINES / 2u;
const UNITS_AT_MOST = 64u;
// vec4s of a line: the units, and one that spreads the lines over memory banks.
const LINE_QUADS = 17u;
// Threads that share the output of a pair of lines, and the units that each of them adds up.
const PARTS = THREADS / PAIRS;
const PART_QUADS = UNITS_AT_MOST / 4u / PARTS;

//#include activation_quad
//#include parametrisation
//#include score_layers
//#include score_rows
//#include score_loss
// Of every line: the network's input; h of the first hidden layer, then its dz; z of the last hidden layer, then its dz.
var<workgroup> inputs: array<vec4<f32>, TILE_LINES * WIDTH_0>;
var<workgroup> below: array<vec4<f32>, TILE_LINES * LINE_QUADS>;
var<workgroup> last: array<vec4<f32>, TILE_LINES * LINE_QUADS>;
// What each part of the units adds to the output on a pair of lines; then dJ/df of the pair.
var<workgroup> outputs: array<vec2<f32>, THREADS>;
var<workgroup> seeds: array<vec2<f32>, PAIRS>;
// At the end, of every pair: the loss, and the output bias's gradient.
var<workgroup> totals: array<vec2<f32>, PAIRS>;

// A thread's weights and gradients. HIDDEN - 1 is the last hidden layer.
var<private> first_gradient: array<vec4<f32>, WIDTH_0>;
//#for i in 1..HIDDEN
var<private> weights: array<vec4<f32>, WIDTH_1>;
var<private> gradient: array<vec4<f32>, WIDTH_1>;
//#end
var<private> output_weight: f32;
var<private> output_gradient: f32;
// Of the bias of the first hidden layer and of the last one.
var<private> first_bias_gradient: f32;
var<private> bias_gradient: f32;

fn net_word(quad: u32, word: u32) -> f32 {
    return net_at(quad + word / 4u)[word % 4u];
}

// Where a unit's row of weights starts; that of the last unit for threads that have none.
fn row_of(layer: Layer, unit: u32) -> u32 {
    return layer.weight + min(unit, layer.n_out - 1u) * quads(layer.n_in);
}

fn load_weights(unit: u32) {
    //#for i in 1..HIDDEN
    let in_quads = quads(layers[1].n_in);
    let row = row_of(layers[1], unit);
    //#for k in 0..WIDTH_1
    weights[{k}] = select(vec4(0.0), net_at(row + min({k}u, in_quads - 1u)), vec4({k}u < in_quads));
    //#end
    //#end
    output_weight = select(0.0, net_word(layers[HIDDEN].weight, min(unit, layers[HIDDEN].n_in - 1u)), unit < layers[HIDDEN].n_in);
}

// h and h' (or another h) of one unit on a pair of lines, from its z and t; zero where a thread has no unit.
fn activate_unit(z: vec2<f32>, is_unit: bool) -> vec2<f32> {
    var h = vec2(phi_{ACTIVATION}(z.x), 0.0);
    if TANGENT == 1u {
        h.y = phi_first_{ACTIVATION}(z.x) * z.y;
    } else {
        h.y = phi_{ACTIVATION}(z.y);
    }
    return select(vec2(0.0), h, vec2(is_unit));
}

// (dz, dt) of one unit, or (dz, dz), from (dh, dh').
fn unit_backward(z: vec2<f32>, dh: vec2<f32>, is_unit: bool) -> vec2<f32> {
    var dz = dh * phi_first_{ACTIVATION}(z.x);
    if TANGENT == 1u {
        dz.x += dh.y * phi_second_{ACTIVATION}(z.x) * z.y;
    } else {
        dz.y = dh.y * phi_first_{ACTIVATION}(z.y);
    }
    return select(vec2(0.0), dz, vec2(is_unit));
}

// What a bias adds to z on a pair of lines, and what the pair adds to the bias's gradient.
fn of_bias(bias: f32) -> vec2<f32> {
    return vec2(bias, select(bias, 0.0, TANGENT == 1u));
}

fn to_bias(dz: vec2<f32>) -> f32 {
    return dz.x + select(dz.y, 0.0, TANGENT == 1u);
}

// z of a unit of the first layer on a pair of lines.
fn first_sums(unit: u32, pair: u32) -> vec2<f32> {
    let layer = layers[0];
    let row = row_of(layer, unit);
    var z = of_bias(net_word(layer.bias, min(unit, layer.n_out - 1u)));
    for (var k = 0u; k < quads(layer.n_in); k++) {
        let w = net_at(row + k);
        z += vec2(dot(w, inputs[2u * pair * WIDTH_0 + k]), dot(w, inputs[(2u * pair + 1u) * WIDTH_0 + k]));
    }
    return z;
}

fn word_at(line: u32, unit: u32) -> u32 {
    return line * LINE_QUADS + unit / 4u;
}

fn first_forward(unit: u32) {
    for (var pair = 0u; pair < PAIRS; pair++) {
        let z = first_sums(unit, pair);
        let at = vec2(word_at(2u * pair, unit), word_at(2u * pair + 1u, unit));
        if HIDDEN == 1u {
            last[at.x][unit % 4u] = z.x;
            last[at.y][unit % 4u] = z.y;
        } else {
            let h = activate_unit(z, unit < layers[0].n_out);
            below[at.x][unit % 4u] = h.x;
            below[at.y][unit % 4u] = h.y;
        }
    }
}

//#for i in 1..HIDDEN
fn second_forward(unit: u32) {
    let bias = of_bias(net_word(layers[1].bias, min(unit, layers[1].n_out - 1u)));
    for (var line = 0u; line < TILE_LINES; line += 4u) {
        //#for l in 0..4
        var sum{l} = vec4(bias[{l}u % 2u], 0.0, 0.0, 0.0);
        //#end
        //#for k in 0..WIDTH_1
        //#for l in 0..4
        sum{l} += weights[{k}] * below[(line + {l}u) * LINE_QUADS + {k}u];
        //#end
        //#end
        //#for l in 0..4
        last[word_at(line + {l}u, unit)][unit % 4u] = dot(sum{l}, vec4(1.0));
        //#end
    }
}

//#end
// What the units of a part of the last hidden layer add to the output on a pair of lines.
fn part_of_output(pair: u32, part: u32) -> vec2<f32> {
    let output = layers[HIDDEN];
    var sum = vec2(0.0);
    for (var quad = part * PART_QUADS; quad < min((part + 1u) * PART_QUADS, quads(output.n_in)); quad++) {
        let w = net_at(output.weight + quad);
        let even = last[2u * pair * LINE_QUADS + quad];
        let odd = last[(2u * pair + 1u) * LINE_QUADS + quad];
        let h = activate(Pair(even, odd), 4u * quad, output.n_in);
        sum += vec2(dot(w, h.even), dot(w, h.odd));
    }
    return sum;
}

// The seeds of a thread's pair, whose loss and share of the output bias's gradient it gives.
fn seed_pair(pair: u32, first: u32, n_rows: u32) -> vec2<f32> {
    var f = of_bias(net_at(layers[HIDDEN].bias).x);
    for (var part = 0u; part < PARTS; part++) {
        f += outputs[part * PAIRS + pair];
    }
    let terms = loss_and_seeds(first, n_rows, pair, f);
    seeds[pair] = terms.yz;
    return vec2(terms.x, to_bias(terms.yz));
}

// z of the last hidden layer to its dz, in place; a thread's own unit.
fn last_backward(unit: u32) {
    let is_unit = unit < layers[HIDDEN].n_in;
    for (var pair = 0u; pair < PAIRS; pair++) {
        let at = vec2(word_at(2u * pair, unit), word_at(2u * pair + 1u, unit));
        let z = vec2(last[at.x][unit % 4u], last[at.y][unit % 4u]);
        let h = activate_unit(z, is_unit);
        output_gradient += dot(seeds[pair], h);
        let dz = unit_backward(z, seeds[pair] * output_weight, is_unit);
        bias_gradient += to_bias(dz);
        last[at.x][unit % 4u] = dz.x;
        last[at.y][unit % 4u] = dz.y;
    }
}

//#for i in 1..HIDDEN
// dW of a thread's row of the second layer.
fn second_gradient(unit: u32) {
    for (var line = 0u; line < TILE_LINES; line++) {
        let dz = last[word_at(line, unit)][unit % 4u];
        //#for k in 0..WIDTH_1
        gradient[{k}] += dz * below[line * LINE_QUADS + {k}u];
        //#end
    }
}

// dz of the first layer from that of the second: a thread's unit is an input of it.
fn second_backward(unit: u32) {
    let layer = layers[1];
    let in_quads = quads(layer.n_in);
    let column = layer.weight + min(unit, layer.n_in - 1u) / 4u;
    for (var line = 0u; line < TILE_LINES; line += 8u) {
        //#for l in 0..8
        var dh{l} = 0.0;
        //#end
        for (var quad = 0u; quad < quads(layer.n_out); quad++) {
            //#for j in 0..4
            let w{j} = net_at(column + min(4u * quad + {j}u, layer.n_out - 1u) * in_quads)[unit % 4u];
            //#end
            let w = vec4(w0, w1, w2, w3);
            //#for l in 0..8
            dh{l} += dot(w, last[(line + {l}u) * LINE_QUADS + quad]);
            //#end
        }
        //#for p in 0..4
        first_backward(unit, line / 2u + {p}u, vec2(dh{2p}, dh{2p+1}));
        //#end
    }
}

// dz of a unit of the first layer on a pair of lines, in the place of its h.
fn first_backward(unit: u32, pair: u32, dh: vec2<f32>) {
    let dz = unit_backward(first_sums(unit, pair), dh, unit < layers[0].n_out);
    below[word_at(2u * pair, unit)][unit % 4u] = dz.x;
    below[word_at(2u * pair + 1u, unit)][unit % 4u] = dz.y;
}

//#end
// dz of the first layer.
fn first_dz(line: u32, quad: u32) -> vec4<f32> {
    if HIDDEN == 1u {
        return last[line * LINE_QUADS + quad];
    }
    return below[line * LINE_QUADS + quad];
}

// dW of a thread's row of the first layer.
fn sum_first_gradient(unit: u32) {
    for (var line = 0u; line < TILE_LINES; line++) {
        let dz = first_dz(line, unit / 4u)[unit % 4u];
        //#for k in 0..WIDTH_0
        first_gradient[{k}] += dz * inputs[line * WIDTH_0 + {k}u];
        //#end
        first_bias_gradient += select(0.0, dz, line % VIRTUAL == 0u);
    }
}

// dJ/dcontext = W^T dz of the first layer, a thread for four columns of a row.
fn context_gradient(thread: u32, first: u32, n_rows: u32) {
    let layer = layers[0];
    let in_quads = quads(layer.n_in);
    for (var item = thread; item < ROWS_PER_TILE * quads(params.context_width); item += THREADS) {
        let row = item % ROWS_PER_TILE;
        let column = item / ROWS_PER_TILE;
        var sum = vec4(0.0);
        for (var quad = 0u; quad < quads(layer.n_out); quad++) {
            let dz = first_dz(row * VIRTUAL, quad);
            //#for j in 0..4
            sum += dz[{j}] * net_at(layer.weight + min(4u * quad + {j}u, layer.n_out - 1u) * in_quads + column);
            //#end
        }
        write_dcontext(row, column, first, n_rows, sum);
    }
}

// A thread's gradients, to their places in the workgroup's part of scratch, which is laid out as net; what no thread has is
// zero.
fn write_gradients(start: u32, unit: u32) {
    for (var k = unit; k < params.n_net / 4u + 1u; k += THREADS) {
        scratch[start + k] = vec4(0.0);
    }
    storageBarrier();
    workgroupBarrier();
    let first_quads = quads(layers[0].n_in);
    if unit < layers[0].n_out {
        //#for k in 0..WIDTH_0
        if {k}u < first_quads {
            scratch[start + layers[0].weight + unit * first_quads + {k}u] = first_gradient[{k}];
        }
        //#end
        scratch[start + layers[0].bias + unit / 4u][unit % 4u] = first_bias_gradient;
    }
    //#for i in 1..HIDDEN
    let in_quads = quads(layers[1].n_in);
    if unit < layers[1].n_out {
        //#for k in 0..WIDTH_1
        if {k}u < in_quads {
            scratch[start + layers[1].weight + unit * in_quads + {k}u] = gradient[{k}];
        }
        //#end
        scratch[start + layers[1].bias + unit / 4u][unit % 4u] = bias_gradient;
    }
    //#end
    let output = layers[HIDDEN];
    if unit < output.n_in {
        scratch[start + output.weight + unit / 4u][unit % 4u] = output_gradient;
    }
    if unit == 0u {
        var total = vec2(0.0);
        for (var pair = 0u; pair < PAIRS; pair++) {
            total += totals[pair];
        }
        scratch[start + output.bias].x = total.y;
        scratch[start + params.n_net / 4u].x = total.x;
    }
}

@compute @workgroup_size(8, GROUP_ROWS)
fn score_train_workgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let thread = local.y * 8u + local.x;
    load_weights(thread);
    var total = vec2(0.0);
    for (var first = group.x * ROWS_PER_TILE; first < params.n_rows; first += params.n_groups * ROWS_PER_TILE) {
        let n_rows = min(ROWS_PER_TILE, params.n_rows - first);
        for (var item = thread; item < PAIRS * WIDTH_0; item += THREADS) {
            let line = item % PAIRS * 2u;
            let pair = input_pair(first, n_rows, line, item / PAIRS);
            inputs[line * WIDTH_0 + item / PAIRS] = pair.even;
            inputs[(line + 1u) * WIDTH_0 + item / PAIRS] = pair.odd;
        }
        workgroupBarrier();
        first_forward(thread);
        workgroupBarrier();
        //#for i in 1..HIDDEN
        second_forward(thread);
        workgroupBarrier();
        //#end
        outputs[thread] = part_of_output(thread % PAIRS, thread / PAIRS);
        workgroupBarrier();
        if thread < PAIRS {
            total += seed_pair(thread, first, n_rows);
        }
        workgroupBarrier();
        last_backward(thread);
        workgroupBarrier();
        //#for i in 1..HIDDEN
        second_gradient(thread);
        workgroupBarrier();
        second_backward(thread);
        workgroupBarrier();
        //#end
        sum_first_gradient(thread);
        context_gradient(thread, first, n_rows);
        workgroupBarrier();
    }
    if thread < PAIRS {
        totals[thread] = total;
    }
    workgroupBarrier();
    write_gradients(group.x * (params.scratch_words / 4u) + params.gradient_at / 4u, thread);
}
