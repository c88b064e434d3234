// score_train on hardware adapters, for networks of one or two hidden layers of at most 64 units. The mathematics are those of
// score_train.wgsl; the work is divided otherwise: a workgroup takes tiles of 16 lines (8 rows with their tangents, or 16
// without), and two threads share each unit of the hidden layers. Of the second layer each has half of the unit's row of weights
// in registers from the first tile to the last, with its gradient; of everything else each has half of the lines. Lines pass
// through the workgroup's memory, and nothing but gradients at the end goes to `scratch`.

const KEEP = 0u;

//#include score_training

const PAIRS = TILE_LINES / 2u;
const UNITS_AT_MOST = 64u;
// Threads that share a unit.
const SHARES = THREADS / UNITS_AT_MOST;
const OWN_PAIRS = PAIRS / SHARES;
// vec4s of a line: the units, and one that spreads the lines over memory banks.
const LINE_QUADS = 17u;
const BUFFER_QUADS = TILE_LINES * LINE_QUADS;
// Threads that share a sum over a vec4 of units of each.
const PARTS = UNITS_AT_MOST / 4u;
// Threads that share a row's dJ/dcontext, and vec4s of it that are summed at a time.
const CONTEXT_SHARES = THREADS / ROWS_PER_TILE;
const CONTEXT_QUADS = BUFFER_QUADS / THREADS;

//#include activation_quad
//#include parametrisation
//#include score_layers
//#include score_rows
//#include score_loss
// Of every line: the network's input; h of the first hidden layer, then its dz; z of the last hidden layer as two terms, then
// its dz in the place of the first.
var<workgroup> inputs: array<vec4<f32>, TILE_LINES * WIDTH_0>;
var<workgroup> below: array<vec4<f32>, BUFFER_QUADS>;
var<workgroup> last: array<vec4<f32>, SHARES * BUFFER_QUADS>;
// What each vec4 of units adds to the output on a pair of lines; then dJ/df of the pair.
var<workgroup> outputs: array<vec2<f32>, PARTS * PAIRS>;
var<workgroup> seeds: array<vec2<f32>, PAIRS>;
// At the end, of every pair: the loss, and the output bias's gradient.
var<workgroup> totals: array<vec2<f32>, PAIRS>;

// A thread's unit and share of it.
var<private> unit: u32;
var<private> share: u32;
// Its weights and gradients.
var<private> first_gradient: array<vec4<f32>, WIDTH_0>;
//#for i in 1..HIDDEN
var<private> weights: array<vec4<f32>, WIDTH_1/2>;
var<private> gradient: array<vec4<f32>, WIDTH_1/2>;
//#end
//#for i in 1..HIDDEN
// Half of a column of the second layer, whose input the unit is.
var<private> column: array<vec4<f32>, WIDTH_2/2>;
//#end
var<private> output_weight: f32;
var<private> output_gradient: f32;
// Of the bias of the first hidden layer and of the last one.
var<private> first_bias_gradient: f32;
var<private> bias_gradient: f32;

fn net_word(quad: u32, word: u32) -> f32 {
    return net_at(quad + word / 4u)[word % 4u];
}

// Where the row of weights of a thread's unit starts; that of the last unit for threads that have none.
fn row_of(layer: Layer) -> u32 {
    return layer.weight + min(unit, layer.n_out - 1u) * quads(layer.n_in);
}

fn bias_of(layer: Layer) -> f32 {
    return net_word(layer.bias, min(unit, layer.n_out - 1u));
}

fn load_weights() {
    //#for i in 1..HIDDEN
    let in_quads = quads(layers[1].n_in);
    let row = row_of(layers[1]);
    let first = share * {WIDTH_1/2}u;
    //#for k in 0..WIDTH_1/2
    weights[{k}] = select(vec4(0.0), net_at(row + min(first + {k}u, in_quads - 1u)), vec4(first + {k}u < in_quads));
    //#end
    let quad = layers[1].weight + min(unit, layers[1].n_in - 1u) / 4u;
    //#for q in 0..WIDTH_2/2
    //#for j in 0..4
    let output{q}_{j} = 4u * (share * {WIDTH_2/2}u + {q}u) + {j}u;
    let w{q}_{j} = net_at(quad + min(output{q}_{j}, layers[1].n_out - 1u) * in_quads)[unit % 4u];
    column[{q}][{j}] = select(0.0, w{q}_{j}, output{q}_{j} < layers[1].n_out);
    //#end
    //#end
    //#end
    let output = layers[HIDDEN];
    output_weight = select(0.0, net_word(output.weight, min(unit, output.n_in - 1u)), unit < output.n_in);
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

fn word_at(line: u32) -> u32 {
    return line * LINE_QUADS + unit / 4u;
}

// z of a thread's unit of the first layer on its pairs.
fn first_sums() -> array<vec2<f32>, OWN_PAIRS> {
    let layer = layers[0];
    let row = row_of(layer);
    let in_quads = quads(layer.n_in);
    let bias = of_bias(bias_of(layer));
    //#for k in 0..WIDTH_0
    let w{k} = select(vec4(0.0), net_at(row + min({k}u, in_quads - 1u)), vec4({k}u < in_quads));
    //#end
    var sums: array<vec2<f32>, OWN_PAIRS>;
    //#for p in 0..4
    let at{p} = 2u * (share * OWN_PAIRS + {p}u) * WIDTH_0;
    var z{p} = bias;
    //#for k in 0..WIDTH_0
    z{p} += vec2(dot(w{k}, inputs[at{p} + {k}u]), dot(w{k}, inputs[at{p} + WIDTH_0 + {k}u]));
    //#end
    sums[{p}] = z{p};
    //#end
    return sums;
}

// Gives z, which the way back needs again.
fn first_forward() -> array<vec2<f32>, OWN_PAIRS> {
    let z = first_sums();
    //#for p in 0..4
    let line{p} = 2u * (share * OWN_PAIRS + {p}u);
    let even{p} = word_at(line{p});
    let odd{p} = word_at(line{p} + 1u);
    if HIDDEN == 1u {
        last[even{p}][unit % 4u] = z[{p}].x;
        last[odd{p}][unit % 4u] = z[{p}].y;
        last[BUFFER_QUADS + even{p}][unit % 4u] = 0.0;
        last[BUFFER_QUADS + odd{p}][unit % 4u] = 0.0;
    } else {
        let h{p} = activate_unit(z[{p}], unit < layers[0].n_out);
        below[even{p}][unit % 4u] = h{p}.x;
        below[odd{p}][unit % 4u] = h{p}.y;
    }
    //#end
    return z;
}

//#for i in 1..HIDDEN
// A thread's term of z of the second layer, on all lines.
fn second_forward() {
    let bias = of_bias(select(0.0, bias_of(layers[1]), share == 0u));
    for (var line = 0u; line < TILE_LINES; line += 4u) {
        //#for l in 0..4
        var sum{l} = vec4(bias[{l}u % 2u], 0.0, 0.0, 0.0);
        let at{l} = (line + {l}u) * LINE_QUADS + share * {WIDTH_1/2}u;
        //#end
        //#for k in 0..WIDTH_1/2
        //#for l in 0..4
        sum{l} += weights[{k}] * below[at{l} + {k}u];
        //#end
        //#end
        //#for l in 0..4
        last[share * BUFFER_QUADS + word_at(line + {l}u)][unit % 4u] = dot(sum{l}, vec4(1.0));
        //#end
    }
}

//#end
// What a vec4 of units of the last hidden layer adds to the output on a pair of lines.
fn part_of_output(pair: u32, quad: u32) -> vec2<f32> {
    let output = layers[HIDDEN];
    if quad >= quads(output.n_in) {
        return vec2(0.0);
    }
    let w = net_at(output.weight + quad);
    let at = 2u * pair * LINE_QUADS + quad;
    let even = last[at] + last[BUFFER_QUADS + at];
    let odd = last[at + LINE_QUADS] + last[BUFFER_QUADS + at + LINE_QUADS];
    let h = activate(Pair(even, odd), 4u * quad, output.n_in);
    return vec2(dot(w, h.even), dot(w, h.odd));
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

// z of the last hidden layer to its dz, in place: a thread's unit on its pairs.
fn last_backward() {
    let is_unit = unit < layers[HIDDEN].n_in;
    //#for p in 0..4
    let pair{p} = share * OWN_PAIRS + {p}u;
    let even{p} = word_at(2u * pair{p});
    let odd{p} = word_at(2u * pair{p} + 1u);
    let z{p} = vec2(
        last[even{p}][unit % 4u] + last[BUFFER_QUADS + even{p}][unit % 4u],
        last[odd{p}][unit % 4u] + last[BUFFER_QUADS + odd{p}][unit % 4u],
    );
    output_gradient += dot(seeds[pair{p}], activate_unit(z{p}, is_unit));
    let dz{p} = unit_backward(z{p}, seeds[pair{p}] * output_weight, is_unit);
    bias_gradient += to_bias(dz{p});
    last[even{p}][unit % 4u] = dz{p}.x;
    last[odd{p}][unit % 4u] = dz{p}.y;
    //#end
}

//#for i in 1..HIDDEN
// dW of a thread's half of a row of the second layer, over all lines.
fn second_gradient() {
    for (var line = 0u; line < TILE_LINES; line += 4u) {
        //#for l in 0..4
        let dz{l} = last[word_at(line + {l}u)][unit % 4u];
        let at{l} = (line + {l}u) * LINE_QUADS + share * {WIDTH_1/2}u;
        //#end
        //#for k in 0..WIDTH_1/2
        //#for l in 0..4
        gradient[{k}] += dz{l} * below[at{l} + {k}u];
        //#end
        //#end
    }
}

// Terms of dh of the first layer on 2 OWN_PAIRS lines, from half of the units of the second.
fn column_terms(line: u32) -> array<f32, 2u * OWN_PAIRS> {
    //#for l in 0..8
    var dh{l} = 0.0;
    let at{l} = (line + {l}u) * LINE_QUADS + share * {WIDTH_2/2}u;
    //#end
    //#for q in 0..WIDTH_2/2
    //#for l in 0..8
    dh{l} += dot(column[{q}], last[at{l} + {q}u]);
    //#end
    //#end
    return array(dh0, dh1, dh2, dh3, dh4, dh5, dh6, dh7);
}

// A thread's terms on its own lines; those on the other thread's lines go to the second half of `last`, from which nobody reads
// any more.
fn second_backward() -> array<f32, 2u * OWN_PAIRS> {
    let other_line = 2u * OWN_PAIRS * (1u - share);
    let others = column_terms(other_line);
    //#for l in 0..8
    last[BUFFER_QUADS + word_at(other_line + {l}u)][unit % 4u] = others[{l}];
    //#end
    return column_terms(2u * OWN_PAIRS * share);
}

// dz of the first layer on a thread's lines, in the place of h, from its own terms of dh and those of the other thread.
fn first_backward(z: array<vec2<f32>, OWN_PAIRS>, own: array<f32, 2u * OWN_PAIRS>) {
    //#for p in 0..4
    let even{p} = word_at(2u * (share * OWN_PAIRS + {p}u));
    let odd{p} = word_at(2u * (share * OWN_PAIRS + {p}u) + 1u);
    let others{p} = vec2(last[BUFFER_QUADS + even{p}][unit % 4u], last[BUFFER_QUADS + odd{p}][unit % 4u]);
    let dz{p} = unit_backward(z[{p}], vec2(own[{2p}], own[{2p+1}]) + others{p}, unit < layers[0].n_out);
    below[even{p}][unit % 4u] = dz{p}.x;
    below[odd{p}][unit % 4u] = dz{p}.y;
    //#end
}

//#end
// dz of the first layer.
fn first_dz(line: u32, quad: u32) -> vec4<f32> {
    if HIDDEN == 1u {
        return last[line * LINE_QUADS + quad];
    }
    return below[line * LINE_QUADS + quad];
}

// dW of a thread's row of the first layer, over its lines.
fn sum_first_gradient() {
    for (var pair = share * OWN_PAIRS; pair < (share + 1u) * OWN_PAIRS; pair++) {
        let dz = vec2(first_dz(2u * pair, unit / 4u)[unit % 4u], first_dz(2u * pair + 1u, unit / 4u)[unit % 4u]);
        //#for k in 0..WIDTH_0
        first_gradient[{k}] += dz.x * inputs[2u * pair * WIDTH_0 + {k}u] + dz.y * inputs[(2u * pair + 1u) * WIDTH_0 + {k}u];
        //#end
        first_bias_gradient += to_bias(dz);
    }
}

// Terms of dJ/dcontext = W^T dz of the first layer, for CONTEXT_QUADS vec4s of a row: what every CONTEXT_SHARES-th vec4 of units
// adds, to the second half of `last`, from which nobody reads any more.
fn context_terms(thread: u32, first_quad: u32) {
    let layer = layers[0];
    let in_quads = quads(layer.n_in);
    let line = thread % ROWS_PER_TILE * VIRTUAL;
    var sums: array<vec4<f32>, CONTEXT_QUADS>;
    for (var part = thread / ROWS_PER_TILE; part < PARTS; part += CONTEXT_SHARES) {
        let dz = first_dz(line, part);
        //#for j in 0..4
        let row{j} = layer.weight + min(4u * part + {j}u, layer.n_out - 1u) * in_quads;
        for (var q = 0u; q < CONTEXT_QUADS; q++) {
            sums[q] += dz[{j}] * net_at(row{j} + min(first_quad + q, in_quads - 1u));
        }
        //#end
    }
    for (var q = 0u; q < CONTEXT_QUADS; q++) {
        last[BUFFER_QUADS + q * THREADS + thread] = sums[q];
    }
}

fn sum_context_terms(thread: u32, first_quad: u32, first: u32, n_rows: u32) {
    let q = thread / ROWS_PER_TILE;
    if q < CONTEXT_QUADS && first_quad + q < quads(params.context_width) {
        let row = thread % ROWS_PER_TILE;
        var sum = vec4(0.0);
        for (var part = 0u; part < CONTEXT_SHARES; part++) {
            sum += last[BUFFER_QUADS + q * THREADS + part * ROWS_PER_TILE + row];
        }
        write_dcontext(row, first_quad + q, first, n_rows, sum);
    }
}

// The vec4 of the network's input on a pair of lines that a thread brings for the tile from row `first` on.
fn own_inputs(thread: u32, first: u32) -> Pair {
    if first >= params.n_rows || thread >= PAIRS * WIDTH_0 {
        return Pair(vec4(0.0), vec4(0.0));
    }
    return input_pair(first, min(ROWS_PER_TILE, params.n_rows - first), thread % PAIRS * 2u, thread / PAIRS);
}

fn stage_inputs(thread: u32, pair: Pair) {
    if thread < PAIRS * WIDTH_0 {
        let at = thread % PAIRS * 2u * WIDTH_0 + thread / PAIRS;
        inputs[at] = pair.even;
        inputs[at + WIDTH_0] = pair.odd;
    }
}

// All threads' gradients, to their places in the workgroup's part of scratch, which is laid out as net; what no thread has is
// zero. Threads that share a unit come one after the other.
fn write_gradients(start: u32, thread: u32) {
    for (var k = thread; k < params.n_net / 4u + 1u; k += THREADS) {
        scratch[start + k] = vec4(0.0);
    }
    storageBarrier();
    workgroupBarrier();
    for (var turn = 0u; turn < SHARES; turn++) {
        if turn == share {
            add_shared_gradients(start);
        }
        storageBarrier();
        workgroupBarrier();
    }
    //#for i in 1..HIDDEN
    let in_quads = quads(layers[1].n_in);
    if unit < layers[1].n_out {
        //#for k in 0..WIDTH_1/2
        if share * {WIDTH_1/2}u + {k}u < in_quads {
            scratch[start + layers[1].weight + unit * in_quads + share * {WIDTH_1/2}u + {k}u] = gradient[{k}];
        }
        //#end
    }
    //#end
    if thread == 0u {
        var total = vec2(0.0);
        for (var pair = 0u; pair < PAIRS; pair++) {
            total += totals[pair];
        }
        scratch[start + layers[HIDDEN].bias].x = total.y;
        scratch[start + params.n_net / 4u].x = total.x;
    }
}

// What was summed over a thread's lines.
fn add_shared_gradients(start: u32) {
    let first_quads = quads(layers[0].n_in);
    if unit < layers[0].n_out {
        //#for k in 0..WIDTH_0
        if {k}u < first_quads {
            scratch[start + layers[0].weight + unit * first_quads + {k}u] += first_gradient[{k}];
        }
        //#end
        scratch[start + layers[0].bias + unit / 4u][unit % 4u] += first_bias_gradient;
    }
    //#for i in 1..HIDDEN
    if unit < layers[1].n_out {
        scratch[start + layers[1].bias + unit / 4u][unit % 4u] += bias_gradient;
    }
    //#end
    if unit < layers[HIDDEN].n_in {
        scratch[start + layers[HIDDEN].weight + unit / 4u][unit % 4u] += output_gradient;
    }
}

@compute @workgroup_size(8, GROUP_ROWS)
fn score_train_workgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let thread = local.y * 8u + local.x;
    unit = thread % UNITS_AT_MOST;
    share = thread / UNITS_AT_MOST;
    load_weights();
    var total = vec2(0.0);
    let step = params.n_groups * ROWS_PER_TILE;
    var ahead = own_inputs(thread, group.x * ROWS_PER_TILE);
    for (var first = group.x * ROWS_PER_TILE; first < params.n_rows; first += step) {
        let n_rows = min(ROWS_PER_TILE, params.n_rows - first);
        stage_inputs(thread, ahead);
        workgroupBarrier();
        // Far away: asked for now, they are there when the tile is done.
        ahead = own_inputs(thread, first + step);
        let z = first_forward();
        workgroupBarrier();
        //#for i in 1..HIDDEN
        second_forward();
        workgroupBarrier();
        //#end
        outputs[thread] = part_of_output(thread % PAIRS, thread / PAIRS);
        workgroupBarrier();
        if thread < PAIRS {
            total += seed_pair(thread, first, n_rows);
        }
        workgroupBarrier();
        last_backward();
        workgroupBarrier();
        //#for i in 1..HIDDEN
        second_gradient();
        let own = second_backward();
        workgroupBarrier();
        first_backward(z, own);
        workgroupBarrier();
        //#end
        sum_first_gradient();
        for (var quad = 0u; quad < quads(params.context_width); quad += CONTEXT_QUADS) {
            if quad > 0u {
                workgroupBarrier();
            }
            context_terms(thread, quad);
            workgroupBarrier();
            sum_context_terms(thread, quad, first, n_rows);
        }
    }
    if thread < PAIRS {
        totals[thread] = total;
    }
    workgroupBarrier();
    write_gradients(group.x * (params.scratch_words / 4u) + params.gradient_at / 4u, thread);
}
