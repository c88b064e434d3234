// score_train for adapters where memory is slow and a thread's own arrays are not: see score_net_private.
//
// A workgroup is eight threads that share their loads and strides over tiles of 16 lines, two a thread. Weight gradients
// stay in private memory until the last tile is done: thread l owns the rows 8 m + l of every weight matrix. It takes dz of
// its rows on all lines by a transposition among the eight, and the inputs of every line from the thread that has them. What
// is summed by lines alone, the output layer's gradient and the loss, each thread sums for its own, and the eight are
// added up at the end.
//
// The mathematics is that of score_train. A workgroup's part of scratch: [unused | gradient, laid out as net | loss].

const KEEP = 1u;

//#include score_training

// Of hidden layer n: [row block][input vec4], then the biases, whose four numbers are to be added up.
//#for i in 0..HIDDEN
var<private> gradient_{i+1}: array<array<vec4<f32>, WIDTH_{i} + 1u>, WIDTH_{i+1} / 2u>;
//#end
// Of the output layer and from this thread's lines only; then (bias, loss).
var<private> gradient_output: array<vec4<f32>, WIDTH_{HIDDEN} + 1u>;
// dz and dt of the layer at hand.
//#for i in 0..HIDDEN
var<private> dz_{i+1}: array<vec4<f32>, WIDTH_{i+1}>;
var<private> dt_{i+1}: array<vec4<f32>, WIDTH_{i+1}>;
//#end

//#include broadcast
//#include activation_quad
//#include parametrisation
//#include score_net
//#include score_rows
//#include score_inputs
//#include score_loss
// Eight numbers of a thread.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Of two threads whose numbers differ in `bit`, the one without it gives its b for the other's a.
fn exchange(a: vec4<f32>, b: vec4<f32>, lane: u32, bit: u32) -> Eight {
    let has_bit = vec4((lane & bit) != 0u);
    let got = subgroupShuffleXor(select(b, a, has_bit), bit);
    return Eight(select(a, got, has_bit), select(got, b, has_bit));
}

// Thread l's number j becomes thread j's number l, among eight.
fn transpose(own: Eight, lane: u32) -> Eight {
    let fours = exchange(own.low, own.high, lane, 4u);
    let twos = exchange(vec4(fours.low.xy, fours.high.xy), vec4(fours.low.zw, fours.high.zw), lane, 2u);
    let t = Eight(vec4(twos.low.xy, twos.high.xy), vec4(twos.low.zw, twos.high.zw));
    let ones = exchange(vec4(t.low.xz, t.high.xz), vec4(t.low.yw, t.high.yw), lane, 1u);
    return Eight(
        vec4(ones.low.x, ones.high.x, ones.low.y, ones.high.y), vec4(ones.low.z, ones.high.z, ones.low.w, ones.high.w),
    );
}

// The sum over eight threads, in the same order in each.
fn sum_of_lanes(own: vec4<f32>) -> vec4<f32> {
    let twos = own + subgroupShuffleXor(own, 1u);
    let fours = twos + subgroupShuffleXor(twos, 2u);
    return fours + subgroupShuffleXor(fours, 4u);
}

//#for i in 0..HIDDEN
// dW += dz^T h_in and db += dz of layer {i+1} over the tile's lines, in this thread's rows.
fn weight_gradient_{i}(lane: u32) {
    //#for m in 0..WIDTH_{i+1}/2
    let dz{m} = transpose(Eight(dz_{i+1}[{2m}], dz_{i+1}[{2m+1}]), lane);
    let dt{m} = transpose(Eight(dt_{i+1}[{2m}], dt_{i+1}[{2m+1}]), lane);
    gradient_{i+1}[{m}][WIDTH_{i}] += dz{m}.low + dz{m}.high + select(dt{m}.low + dt{m}.high, vec4(0.0), TANGENT == 1u);
    //#end
    //#for q in 0..WIDTH_{i}
    //#for l in 0..8
    let h{q}_{l} = broadcast(h_even_{i}[{q}], {l}u);
    let t{q}_{l} = broadcast(h_odd_{i}[{q}], {l}u);
    //#end
    //#for m in 0..WIDTH_{i+1}/2
    gradient_{i+1}[{m}][{q}] += dz{m}.low.x * h{q}_0 + dz{m}.low.y * h{q}_1 + dz{m}.low.z * h{q}_2 + dz{m}.low.w * h{q}_3
        + dz{m}.high.x * h{q}_4 + dz{m}.high.y * h{q}_5 + dz{m}.high.z * h{q}_6 + dz{m}.high.w * h{q}_7
        + dt{m}.low.x * t{q}_0 + dt{m}.low.y * t{q}_1 + dt{m}.low.z * t{q}_2 + dt{m}.low.w * t{q}_3
        + dt{m}.high.x * t{q}_4 + dt{m}.high.y * t{q}_5 + dt{m}.high.z * t{q}_6 + dt{m}.high.w * t{q}_7;
    //#end
    //#end
}

// dh_in = W^T dz, dh'_in = W^T dt of layer {i+1}, on to the layer before it.
fn input_gradient_{i}(lane: u32, first_row: u32, n_rows: u32) {
    let layer = layers[{i}];
    let in_quads = quads(layer.n_in);
    //#for q in 0..WIDTH_{i}
    var dh{q} = vec4(0.0);
    var dp{q} = vec4(0.0);
    let column{q} = min({q}u, in_quads - 1u);
    //#end
    for (var first = 0u; first < layer.n_out; first += 8u) {
        var dz_low = dz_{i+1}[0];
        var dz_high = dz_{i+1}[1];
        var dt_low = dt_{i+1}[0];
        var dt_high = dt_{i+1}[1];
        //#for b in 1..WIDTH_{i+1}/2
        let is_{b} = vec4(first == {8b}u);
        dz_low = select(dz_low, dz_{i+1}[{2b}], is_{b});
        dz_high = select(dz_high, dz_{i+1}[{2b+1}], is_{b});
        dt_low = select(dt_low, dt_{i+1}[{2b}], is_{b});
        dt_high = select(dt_high, dt_{i+1}[{2b+1}], is_{b});
        //#end
        let row = layer.weight + min(first + lane, layer.n_out - 1u) * in_quads;
        //#for q in 0..WIDTH_{i}
        let own{q} = net_at(row + column{q});
        //#for j in 0..4
        let low{q}_{j} = broadcast(own{q}, {j}u);
        let high{q}_{j} = broadcast(own{q}, {j+4}u);
        //#end
        dh{q} += low{q}_0 * dz_low.x + low{q}_1 * dz_low.y + low{q}_2 * dz_low.z + low{q}_3 * dz_low.w
            + high{q}_0 * dz_high.x + high{q}_1 * dz_high.y + high{q}_2 * dz_high.z + high{q}_3 * dz_high.w;
        dp{q} += low{q}_0 * dt_low.x + low{q}_1 * dt_low.y + low{q}_2 * dt_low.z + low{q}_3 * dt_low.w
            + high{q}_0 * dt_high.x + high{q}_1 * dt_high.y + high{q}_2 * dt_high.z + high{q}_3 * dt_high.w;
        //#end
    }
    //#for q in 0..WIDTH_{i}
    arrive_{i}({q}u, lane, first_row, n_rows, Pair(dh{q}, dp{q}));
    //#end
}

// Back through layer {i+1} and all before it.
fn backward_{i+1}(lane: u32, first_row: u32, n_rows: u32) {
    weight_gradient_{i}(lane);
    input_gradient_{i}(lane, first_row, n_rows);
    backward_{i}(lane, first_row, n_rows);
}

// dh, dh' of hidden layer {i+1} to dz, dt.
fn arrive_{i+1}(quad: u32, lane: u32, first_row: u32, n_rows: u32, dh: Pair) {
    let z = Pair(z_even_{i+1}[quad], z_odd_{i+1}[quad]);
    let first = phi_first_quad(z.even);
    var dz = dh.even * first;
    var dt = dh.odd * phi_first_quad(z.odd);
    if TANGENT == 1u {
        dz += dh.odd * phi_second_quad(z.even) * z.odd;
        dt = dh.odd * first;
    }
    // Vec4s past the last one were made from repeated weights.
    dz_{i+1}[quad] = keep_columns(dz, 4u * quad, layers[{i}].n_out);
    dt_{i+1}[quad] = keep_columns(dt, 4u * quad, layers[{i}].n_out);
}
//#end

// The network's input is where it ends; its context columns belong to the context network.
fn backward_0(lane: u32, first_row: u32, n_rows: u32) {}

fn arrive_0(quad: u32, lane: u32, first_row: u32, n_rows: u32, dh: Pair) {
    if 4u * quad >= params.context_width {
        return;
    }
    let line = 2u * lane;
    write_dcontext(line / VIRTUAL, quad, first_row, n_rows, dh.even);
    if TANGENT == 0u {
        write_dcontext(line + 1u, quad, first_row, n_rows, dh.odd);
    }
}

// dW, db of the output layer and the loss, over this thread's lines, and dz, dt of the last hidden layer.
fn output_backward(lane: u32, first_row: u32, n_rows: u32, terms: vec3<f32>) {
    let output = layers[HIDDEN];
    //#for o in 0..WIDTH_{HIDDEN}
    gradient_output[{o}] += terms.y * h_even_{HIDDEN}[{o}] + terms.z * h_odd_{HIDDEN}[{o}];
    let w{o} = net_at(output.weight + min({o}u, quads(output.n_in) - 1u));
    arrive_{HIDDEN}({o}u, lane, first_row, n_rows, Pair(terms.y * w{o}, terms.z * w{o}));
    //#end
    gradient_output[WIDTH_{HIDDEN}] += vec4(terms.y + select(terms.z, 0.0, TANGENT == 1u), terms.x, 0.0, 0.0);
}

//#for i in 0..HIDDEN
// This thread's rows of the gradient of layer {i+1}, which starts at `at`.
fn write_gradient_{i}(at: u32, lane: u32) {
    let layer = layers[{i}];
    let in_quads = quads(layer.n_in);
    //#for m in 0..WIDTH_{i+1}/2
    let row{m} = {8m}u + lane;
    if row{m} < layer.n_out {
        //#for q in 0..WIDTH_{i}
        if {q}u < in_quads {
            scratch[at + layer.weight + row{m} * in_quads + {q}u] = gradient_{i+1}[{m}][{q}];
        }
        //#end
        scratch[at + layer.bias + row{m} / 4u][row{m} % 4u] = dot(gradient_{i+1}[{m}][WIDTH_{i}], vec4(1.0));
    }
    //#end
}
//#end

fn write_output_gradient(at: u32, lane: u32) {
    let output = layers[HIDDEN];
    //#for o in 0..WIDTH_{HIDDEN}
    let sum{o} = sum_of_lanes(gradient_output[{o}]);
    if lane == 0u && {o}u < quads(output.n_in) {
        scratch[at + output.weight + {o}u] = sum{o};
    }
    //#end
    let sum = sum_of_lanes(gradient_output[WIDTH_{HIDDEN}]);
    if lane == 0u {
        scratch[at + output.bias].x = sum.x;
        scratch[at + params.n_net / 4u].x = sum.y;
    }
}

@compute @workgroup_size(8)
fn score_train_private(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let at = (group.x * params.scratch_words + params.gradient_at) / 4u;
    for (var k = local.x; k < params.n_net / 4u + 1u; k += 8u) {
        scratch[at + k] = vec4(0.0);
    }
    for (var first = group.x * ROWS_PER_TILE; first < params.n_rows; first += params.n_groups * ROWS_PER_TILE) {
        let n_rows = min(ROWS_PER_TILE, params.n_rows - first);
        write_inputs(0u, first, n_rows, 2u * local.x);
        let f = score_output(0u, 0u, true, local.x, 2u * local.x);
        output_backward(local.x, first, n_rows, loss_and_seeds(first, n_rows, local.x, f));
        backward_{HIDDEN}(local.x, first, n_rows);
    }
    storageBarrier();
    //#for i in 0..HIDDEN
    write_gradient_{i}(at, local.x);
    //#end
    write_output_gradient(at, local.x);
}
