// The fused score network: value, tangent, loss and the whole backward pass, second-order terms included.
//
// For every row r = (sample b, dimension d, x~, sigma, eps):  s and s' = ds/dx~ by score_net, the loss of OBJECTIVE,
//   z = W h + b, t = W h', h = phi(z), h' = phi'(z) t                  forward, layer by layer
//   dz = dh phi'(z) + dh' phi''(z) t,  dt = dh' phi'(z)                backward
//   dW += dz h_in^T + dt h'_in^T,  dh_in = W^T dz,  dh'_in = W^T dt,  db += dz
// from ds = (dJ/ds) and ds' = (dJ/ds'), J averaged over the batch. Writes dJ/dcontext of the row, and per workgroup the
// weight gradient and loss of its rows (sum_partials adds the workgroups up in order).
//
// A workgroup of 8 x 4 threads owns tiles of 64 lines, two a thread (score_net), and strides over the rows. Layer by layer a
// thread carries its own lines back, and all of them together sum the weight gradient over the tile's lines. dz and dt
// overwrite z and t in place; their padding is zero because that of the weights is. Its part of scratch:
// [activations | gradient, laid out as net | loss].

const KEEP = 1u;

//#include score_training

// dJ/df of each line of the tile, and the loss of each thread's rows.
var<workgroup> seeds: array<f32, TILE_LINES>;
var<workgroup> losses: array<f32, THREADS>;

//#include broadcast
//#include activation_quad
//#include parametrisation
//#include score_net
//#include score_rows
//#include score_inputs
//#include score_loss
// dW, db of the output layer, summed over the tile in order, and the loss.
fn output_gradient(base: u32, layer: Layer, thread: u32) {
    let gradient = base + params.gradient_at / 4u;
    for (var k = thread; k < quads(layer.n_in); k += THREADS) {
        var sum = scratch[gradient + layer.weight + k];
        for (var line = 0u; line < TILE_LINES; line++) {
            sum += seeds[line] * scratch[tile_at(base, layer.input, k, line)];
        }
        scratch[gradient + layer.weight + k] = sum;
    }
    if thread == 0u {
        var bias = 0.0;
        var loss = 0.0;
        for (var line = 0u; line < TILE_LINES; line++) {
            if line % VIRTUAL == 0u {
                bias += seeds[line];
            }
            if line < THREADS {
                loss += losses[line];
            }
        }
        scratch[gradient + layer.bias].x += bias;
        scratch[gradient + params.n_net / 4u].x += loss;
    }
}

// dW += dz^T h_in and db += dz over the tile's lines: for the 16 inputs from 16 local.y on of every 64, and the output
// quads local.x and local.x + 8 of every 16. Lane l of LANES neighbours loads the inputs of line l for all of them.
fn weight_gradient(base: u32, layer: Layer, local: vec2<u32>) {
    let in_quads = quads(layer.n_in);
    let out_quads = quads(layer.n_out);
    for (var block = 4u * local.y; block < in_quads; block += 16u) {
        //#for q in 0..4
        let input{q} = min(block + {q}u, in_quads - 1u);
        //#end
        for (var tile = 0u; tile < out_quads; tile += 16u) {
            //#for h in 0..2
            let quad{h} = tile + local.x + {h}u * 8u;
            let dz_at{h} = tile_at(base, layer.z, min(quad{h}, out_quads - 1u), 0u);
            var bias{h} = vec4(0.0);
            //#for r in 0..16
            var acc{r}_{h} = vec4(0.0);
            //#end
            //#end
            for (var first = 0u; first < TILE_LINES; first += 8u) {
                //#for q in 0..4
                let own{q} = scratch[tile_at(base, layer.input, input{q}, first + local.x)];
                //#end
                for (var line = first; line < first + 8u; line++) {
                    //#for q in 0..4
                    let x{q} = shared_input(own{q}, line - first, tile_at(base, layer.input, input{q}, line));
                    //#end
                    //#for h in 0..2
                    let dz{h} = scratch[dz_at{h} + line];
                    bias{h} += select(vec4(0.0), dz{h}, vec4(line % VIRTUAL == 0u));
                    //#for r in 0..16
                    acc{r}_{h} += x{r/4}[{r%4}] * dz{h};
                    //#end
                    //#end
                }
            }
            //#for h in 0..2
            if quad{h} < out_quads {
                //#for q in 0..4
                if block + {q}u < in_quads {
                    add_gradient(base, layer, quad{h}, block + {q}u, acc{4q}_{h}, acc{4q+1}_{h}, acc{4q+2}_{h}, acc{4q+3}_{h});
                }
                //#end
                if block == 0u {
                    scratch[base + params.gradient_at / 4u + layer.bias + quad{h}] += bias{h};
                }
            }
            //#end
        }
    }
}

// An input quad of a line: lane l of LANES neighbours has it as its own, or nobody has.
fn shared_input(own: vec4<f32>, l: u32, at: u32) -> vec4<f32> {
    if LANES > 1u {
        return broadcast(own, l);
    }
    return scratch[at];
}

// Four outputs by four inputs; `by_input` holds the outputs of each input.
fn add_gradient(
    base: u32, layer: Layer, out_quad: u32, in_quad: u32, by_0: vec4<f32>, by_1: vec4<f32>, by_2: vec4<f32>, by_3: vec4<f32>,
) {
    let in_quads = quads(layer.n_in);
    let at = base + params.gradient_at / 4u + layer.weight + 4u * out_quad * in_quads + in_quad;
    //#for j in 0..4
    if 4u * out_quad + {j}u < layer.n_out {
        scratch[at + {j}u * in_quads] += vec4(by_0[{j}], by_1[{j}], by_2[{j}], by_3[{j}]);
    }
    //#end
}

// Turns dh, dh' of a thread's lines into dz, dt, in place of z, t.
fn through_activation(base: u32, z: u32, quad: u32, line: u32, dh: Pair) {
    let at = load_pair(base, z, quad, line);
    let first = phi_first_quad(at.even);
    if TANGENT == 1u {
        let even = dh.even * first + dh.odd * phi_second_quad(at.even) * at.odd;
        store_pair(base, z, quad, line, Pair(even, dh.odd * first));
    } else {
        store_pair(base, z, quad, line, Pair(dh.even * first, dh.odd * phi_first_quad(at.odd)));
    }
}

// dz, dt of the last hidden layer from the seeds.
fn last_hidden_backward(base: u32, output: Layer, hidden: Layer, line: u32, seed: vec2<f32>) {
    for (var quad = 0u; quad < quads(output.n_in); quad++) {
        let w = net_at(output.weight + quad);
        through_activation(base, hidden.z, quad, line, Pair(seed.x * w, seed.y * w));
    }
}

// dh_in = W^T dz on a thread's lines, eight inputs at a time; for hidden inputs straight through the activation below, for
// the network's input into dcontext.
fn input_gradient(base: u32, index: u32, lane: u32, line: u32, first_row: u32, n_rows: u32) {
    let layer = layers[index];
    let in_quads = quads(layer.n_in);
    let out_quads = quads(layer.n_out);
    let needed_quads = select(in_quads, quads(params.context_width), index == 0u);
    //#for k in 0..QUADS_1
    var dz{k} = load_inside(base, layer.z, {k}u, out_quads, line);
    //#end
    for (var quad = 0u; quad < needed_quads; quad += 2u) {
        let quad1 = min(quad + 1u, in_quads - 1u);
        //#for h in 0..2
        var even{h} = vec4(0.0);
        var odd{h} = vec4(0.0);
        //#end
        for (var chunk = 0u; chunk < out_quads; chunk += QUADS_1) {
            //#for w in 0..WIDE
            //#for k in 0..QUADS_1
            dz{k} = load_inside(base, layer.z, chunk + {k}u, out_quads, line);
            //#end
            //#end
            let first = 4u * chunk;
            //#for m in 0..QUADS_1/2
            let own_row{m} = layer.weight + min(first + {m}u * 8u + lane, layer.n_out - 1u) * in_quads;
            let own{m}_0 = net_at(own_row{m} + quad);
            let own{m}_1 = net_at(own_row{m} + quad1);
            //#for j in 0..4
            let row{m}_{j} = layer.weight + min(first + {m}u * 8u + {j}u, layer.n_out - 1u) * in_quads;
            let low{m}_{j}_0 = shared_weight(own{m}_0, {j}u, row{m}_{j} + quad);
            even0 += low{m}_{j}_0 * dz{2m}.even[{j}];
            odd0 += low{m}_{j}_0 * dz{2m}.odd[{j}];
            let low{m}_{j}_1 = shared_weight(own{m}_1, {j}u, row{m}_{j} + quad1);
            even1 += low{m}_{j}_1 * dz{2m}.even[{j}];
            odd1 += low{m}_{j}_1 * dz{2m}.odd[{j}];
            //#end
            //#for j in 0..4
            let next_row{m}_{j} = layer.weight + min(first + {m}u * 8u + 4u + {j}u, layer.n_out - 1u) * in_quads;
            let high{m}_{j}_0 = shared_weight(own{m}_0, 4u + {j}u, next_row{m}_{j} + quad);
            even0 += high{m}_{j}_0 * dz{2m+1}.even[{j}];
            odd0 += high{m}_{j}_0 * dz{2m+1}.odd[{j}];
            let high{m}_{j}_1 = shared_weight(own{m}_1, 4u + {j}u, next_row{m}_{j} + quad1);
            even1 += high{m}_{j}_1 * dz{2m+1}.even[{j}];
            odd1 += high{m}_{j}_1 * dz{2m+1}.odd[{j}];
            //#end
            //#end
        }
        pass_down(base, index, quad, line, first_row, n_rows, Pair(even0, odd0));
        if quad + 1u < needed_quads {
            pass_down(base, index, quad + 1u, line, first_row, n_rows, Pair(even1, odd1));
        }
    }
}

fn pass_down(base: u32, index: u32, quad: u32, line: u32, first: u32, n_rows: u32, dh: Pair) {
    if index > 0u {
        through_activation(base, layers[index - 1u].z, quad, line, dh);
        return;
    }
    write_dcontext(line / VIRTUAL, quad, first, n_rows, dh.even);
    if TANGENT == 0u {
        write_dcontext(line + 1u, quad, first, n_rows, dh.odd);
    }
}

@compute @workgroup_size(8, GROUP_ROWS)
fn score_train(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    load_layers();
    let thread = local.y * 8u + local.x;
    let line = 2u * thread;
    let base = group.x * (params.scratch_words / 4u);
    for (var k = thread; k < params.scratch_words / 4u; k += THREADS) {
        scratch[base + k] = vec4(0.0);
    }
    storageBarrier();
    workgroupBarrier();
    let output = layers[LAYERS - 1u];
    for (var first = group.x * ROWS_PER_TILE; first < params.n_rows; first += params.n_groups * ROWS_PER_TILE) {
        let n_rows = min(ROWS_PER_TILE, params.n_rows - first);
        write_inputs(base, first, n_rows, line);
        let f = score_output(base, 0u, true, local.x, line);
        let terms = loss_and_seeds(first, n_rows, thread, f);
        losses[thread] = terms.x;
        seeds[line] = terms.y;
        seeds[line + 1u] = terms.z;
        last_hidden_backward(base, output, layers[LAYERS - 2u], line, terms.yz);
        storageBarrier();
        workgroupBarrier();
        output_gradient(base, output, thread);
        for (var above = LAYERS - 1u; above > 0u; above--) {
            weight_gradient(base, layers[above - 1u], local.xy);
            input_gradient(base, above - 1u, local.x, line, first, n_rows);
            storageBarrier();
            workgroupBarrier();
        }
    }
}
