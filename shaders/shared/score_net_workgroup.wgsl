// score_net on hardware adapters: all threads of a workgroup evaluate a tile of TILE_LINES lines together, thread u unit u of
// every hidden layer, of which there are at most 64. The rows of weights that a thread needs stay in its registers from the
// first evaluation of a dispatch to the last; activations are passed on through the workgroup's memory. Values only, of one
// sample a workgroup, so that its context enters the first layer's sums once a dimension.
//
// The includer declares what score_net asks for, the constants WIDTH_n (vec4s of the input, and of each
// hidden layer), and params with context_width, context_at and state_words; BLOCK lines are computed at a time.

//#include score_layers
// vec4s of a line: 64 units, and one that spreads the lines over memory banks.
const LINE_QUADS = 17u;

// The input u(y) of every line.
var<workgroup> line_inputs: array<f32, TILE_LINES>;
// h of a hidden layer, of the one before in the other half; at last each unit's share of the output.
var<workgroup> hidden: array<vec4<f32>, 2u * TILE_LINES * LINE_QUADS>;
var<workgroup> shares: array<vec4<f32>, TILE_LINES * LINE_QUADS>;

// A thread's rows of weights: of the first layer what belongs to u(y) and to the level, with the sum over the context.
var<private> context_sum: f32;
var<private> input_weight: f32;
var<private> level_weight: f32;
//#for i in 1..HIDDEN
var<private> weights_{i}: array<vec4<f32>, WIDTH_{i}>;
var<private> bias_{i}: f32;
//#end
var<private> output_weight: f32;

fn net_word(quad: u32, word: u32) -> f32 {
    return net_at(quad + word / 4u)[word % 4u];
}

fn load_net(thread: u32) {
    load_layers();
    let first = layers[0];
    let first_row = first.weight + min(thread, first.n_out - 1u) * quads(first.n_in);
    input_weight = net_word(first_row, params.context_width);
    level_weight = 0.0;
    if params.context_width + 1u < first.n_in {
        level_weight = net_word(first_row, params.context_width + 1u);
    }
    //#for i in 1..HIDDEN
    let unit{i} = min(thread, layers[{i}].n_out - 1u);
    let in_quads{i} = quads(layers[{i}].n_in);
    let row{i} = layers[{i}].weight + unit{i} * in_quads{i};
    //#for k in 0..WIDTH_{i}
    weights_{i}[{k}] = select(vec4(0.0), net_at(row{i} + min({k}u, in_quads{i} - 1u)), vec4({k}u < in_quads{i}));
    //#end
    bias_{i} = net_word(layers[{i}].bias, unit{i});
    //#end
    output_weight = net_word(layers[HIDDEN].weight, min(thread, layers[HIDDEN].n_in - 1u));
}

// What a sample's context and the bias add to the first layer.
fn take_context(sample: u32, thread: u32) {
    let layer = layers[0];
    let unit = min(thread, layer.n_out - 1u);
    let row = layer.weight + unit * quads(layer.n_in);
    let context = (sample * params.state_words + params.context_at) / 4u;
    context_sum = net_word(layer.bias, unit);
    for (var k = 0u; k < quads(params.context_width); k++) {
        context_sum += dot(net_at(row + k), keep_columns(state[context + k], 4u * k, params.context_width));
    }
}

// Keeps h = phi(z) of a thread's unit for the next layer, or its share of the output where there is none.
fn keep_unit(layer: u32, line: u32, thread: u32, z: f32) {
    let h = select(0.0, phi_{ACTIVATION}(z), thread < layers[layer].n_out);
    let at = line * LINE_QUADS + thread / 4u;
    if layer + 1u == HIDDEN {
        shares[at][thread % 4u] = output_weight * h;
    } else {
        hidden[layer % 2u * TILE_LINES * LINE_QUADS + at][thread % 4u] = h;
    }
}

//#for i in 1..HIDDEN
fn hidden_forward_{i}(n_lines: u32, thread: u32) {
    for (var first = 0u; first < n_lines; first += BLOCK) {
        let at = ({i+1}u % 2u * TILE_LINES + first) * LINE_QUADS;
        //#for l in 0..BLOCK
        var sum{l} = vec4(bias_{i}, 0.0, 0.0, 0.0);
        //#end
        //#for k in 0..WIDTH_{i}
        //#for l in 0..BLOCK
        sum{l} += weights_{i}[{k}] * hidden[at + {l}u * LINE_QUADS + {k}u];
        //#end
        //#end
        //#for l in 0..BLOCK
        keep_unit({i}u, first + {l}u, thread, dot(sum{l}, vec4(1.0)));
        //#end
    }
}

//#end
// Evaluates the first n_lines lines (a multiple of BLOCK), whose inputs were written by any threads. All threads must call it.
fn evaluate_lines(n_lines: u32, level: f32, thread: u32) {
    workgroupBarrier();
    let fixed = context_sum + level_weight * level;
    for (var first = 0u; first < n_lines; first += BLOCK) {
        //#for l in 0..BLOCK
        keep_unit(0u, first + {l}u, thread, fixed + input_weight * line_inputs[first + {l}u]);
        //#end
    }
    workgroupBarrier();
    //#for i in 1..HIDDEN
    hidden_forward_{i}(n_lines, thread);
    workgroupBarrier();
    //#end
}

// The output of a line, of those that were evaluated last.
fn line_output(line: u32) -> f32 {
    var sum = vec4(0.0);
    //#for k in 0..WIDTH_{HIDDEN}
    sum += shares[line * LINE_QUADS + {k}u];
    //#end
    return net_at(layers[HIDDEN].bias).x + dot(sum, vec4(1.0));
}
