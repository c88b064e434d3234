// The fused score network: value, tangent, loss and the whole backward pass, second-order terms included.
//
// For every row r = (sample b, dimension d, x~, sigma, eps):  s and s' = ds/dx~ by score_net, the loss of OBJECTIVE,
//   z = W h + b, t = W h', h = phi(z), h' = phi'(z) t                  forward, layer by layer
//   dz = dh phi'(z) + dh' phi''(z) t,  dt = dh' phi'(z)                backward
//   dW += dz h_in^T + dt h'_in^T,  dh_in = W^T dz,  dh'_in = W^T dt,  db += dz
// from ds = (dJ/ds) and ds' = (dJ/ds'), J averaged over the batch. Writes dJ/dcontext of the row, and per workgroup the
// weight gradient and loss of its rows (sum_partials adds the workgroups up in order).
//
// A workgroup of 8 x 64 / ROWS threads owns tiles of 64 lines (score_net) and strides over the rows. dz and dt overwrite z and t
// in place; their padding is zero because that of the weights is. Its part of scratch: [activations | gradient, laid out as net | loss].

struct Params {
    n_rows: u32,
    batch: u32,
    dimensions: u32,
    context_width: u32,
    row_stride: u32,
    n_layers: u32,
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

// dJ/df of each line of the tile, and the loss of each row.
var<workgroup> seeds: array<f32, 64>;
var<workgroup> losses: array<f32, 64>;

//#include broadcast
//#include activation
//#include parametrisation
//#include score_net
//#include score_rows
// (loss, dloss/ds, dloss/ds') of one row.
fn objective(score: f32, slope: f32, row: vec4<u32>) -> vec3<f32> {
    let x = bitcast<f32>(row.y);
    let sigma = bitcast<f32>(row.z);
    switch OBJECTIVE {
        case 0u: {
            let lambda = sigma * sigma;
            return lambda * vec3(0.5 * score * score + slope, score, 1.0);
        }
        case 1u: {
            let residual = sigma * score + bitcast<f32>(row.w);
            return vec3(0.5 * residual * residual, sigma * residual, 0.0);
        }
        case 2u: {
            return vec3(0.5 * score * score + slope, score, 1.0);
        }
        default: {
            // h = distance to the nearer end of the support, so that the boundary terms vanish.
            let centre = 0.5 * (params.low + params.high);
            let h = 0.5 * (params.high - params.low) - abs(x - centre);
            let h_slope = -sign(x - centre);
            return vec3(h * (0.5 * score * score + slope) + h_slope * score, h * score + h_slope, h);
        }
    }
}

// Rows of a group of row_stride share one that was chosen, which stands for all of them.
fn row_weight(index: u32) -> f32 {
    let n_all = params.batch * params.dimensions;
    return f32(min(params.row_stride, n_all - index * params.row_stride)) / f32(params.batch);
}

// Loss of each row, and the seeds dJ/df, dJ/df' of its lines; lines past the end get zero.
fn write_seeds(base: u32, first: u32, n_rows: u32, thread: u32) {
    for (var line = thread; line < TILE_LINES; line += THREADS) {
        losses[line] = 0.0;
        seeds[line] = 0.0;
    }
    workgroupBarrier();
    for (var index = thread; index < n_rows; index += THREADS) {
        let row = rows[first + index];
        let value = score_and_slope(base, first, index);
        let terms = row_weight(first + index) * objective(value.x, value.y, row);
        let gain = score_gain(bitcast<f32>(row.z), params.sd);
        losses[index] = terms.x;
        seeds[VIRTUAL * index] = terms.y * gain;
        if TANGENT == 1u {
            seeds[2u * index + 1u] = terms.z * gain;
        }
    }
    workgroupBarrier();
}

// dW, db of the output layer, summed over the tile in order, and the loss.
fn output_gradient(base: u32, layer: Layer, thread: u32) {
    let n_quads = quads(layer.n_in);
    let gradient = base + params.gradient_at / 4u;
    for (var k = thread; k < n_quads; k += THREADS) {
        var sum = scratch[gradient + layer.weight + k];
        for (var line = 0u; line < TILE_LINES; line++) {
            sum += seeds[line] * scratch[base + layer.input + line * n_quads + k];
        }
        scratch[gradient + layer.weight + k] = sum;
    }
    if thread == 0u {
        var bias = 0.0;
        var loss = 0.0;
        for (var line = 0u; line < TILE_LINES; line++) {
            loss += losses[line];
            if line % VIRTUAL == 0u {
                bias += seeds[line];
            }
        }
        scratch[gradient + layer.bias].x += bias;
        scratch[gradient + params.n_net / 4u].x += loss;
    }
}

// Turns dh, dh' of a pair of lines into dz, dt, in place of z, t.
fn through_activation(at: u32, out_quads: u32, dh_even: vec4<f32>, dh_odd: vec4<f32>) {
    let even = scratch[at];
    let odd = scratch[at + out_quads];
    let first = phi_first_4(ACTIVATION, even);
    if TANGENT == 1u {
        scratch[at] = dh_even * first + dh_odd * phi_second_4(ACTIVATION, even) * odd;
        scratch[at + out_quads] = dh_odd * first;
    } else {
        scratch[at] = dh_even * first;
        scratch[at + out_quads] = dh_odd * phi_first_4(ACTIVATION, odd);
    }
}

// dz, dt of the last hidden layer from the seeds.
fn last_hidden_backward(base: u32, output: Layer, hidden: Layer, thread: u32) {
    let n_quads = quads(output.n_in);
    for (var item = thread; item < TILE_LINES / 2u * n_quads; item += THREADS) {
        let line = item / n_quads * 2u;
        let w = net[output.weight + item % n_quads];
        through_activation(base + hidden.z + line * n_quads + item % n_quads, n_quads, seeds[line] * w, seeds[line + 1u] * w);
    }
}

// dW += dz^T h_in over the tile's lines, for the ROWS outputs from local.y * ROWS on of every 64, and inputs
// local.x * 4 .. + 4 of every 32.
fn weight_gradient(base: u32, layer: Layer, local: vec2<u32>, n_lines: u32) {
    let in_quads = quads(layer.n_in);
    let out_quads = quads(layer.n_out);
    let gradient = base + params.gradient_at / 4u + layer.weight;
    for (var row = local.y * ROWS; row < layer.n_out; row += 64u) {
        //#for q in 0..ROWS/4
        let row{q} = base + layer.z + min(row / 4u + {q}u, out_quads - 1u);
        //#end
        for (var tile = 0u; tile < in_quads; tile += TILE_COLUMNS / 4u) {
            let quad = tile + local.x;
            //#for h in 0..16/ROWS
            let quad{h} = base + layer.input + min(quad + {h}u * 8u, in_quads - 1u);
            //#for r in 0..ROWS
            var acc{r}_{h} = vec4(0.0);
            //#end
            //#end
            for (var first = 0u; first < n_lines; first += LANES) {
                let own = min(first + local.x % LANES, n_lines - 1u) * out_quads;
                //#for q in 0..ROWS/4
                let own{q} = scratch[row{q} + own];
                //#end
                for (var line = first; line < min(first + LANES, n_lines); line++) {
                    //#for h in 0..16/ROWS
                    let h{h} = scratch[quad{h} + line * in_quads];
                    //#end
                    //#for q in 0..ROWS/4
                    let dz{q} = broadcast(own{q}, line - first);
                    //#end
                    //#for r in 0..ROWS
                    //#for h in 0..16/ROWS
                    acc{r}_{h} += dz{r/4}[{r%4}] * h{h};
                    //#end
                    //#end
                }
            }
            //#for h in 0..16/ROWS
            if quad + {h}u * 8u < in_quads {
                //#for r in 0..ROWS
                if row + {r}u < layer.n_out {
                    scratch[gradient + (row + {r}u) * in_quads + quad + {h}u * 8u] += acc{r}_{h};
                }
                //#end
            }
            //#end
        }
    }
}

// db += sum of dz over the value lines.
fn bias_gradient(base: u32, layer: Layer, thread: u32, n_lines: u32) {
    let out_quads = quads(layer.n_out);
    let gradient = base + params.gradient_at / 4u + layer.bias;
    for (var k = thread; k < out_quads; k += THREADS) {
        var sum = scratch[gradient + k];
        for (var line = 0u; line < n_lines; line += VIRTUAL) {
            sum += scratch[base + layer.z + line * out_quads + k];
        }
        scratch[gradient + k] = sum;
    }
}

// dh_in = W^T dz on both lines of each pair; for hidden inputs straight through the activation below, for the network's
// input into dcontext.
fn input_gradient(base: u32, index: u32, local: vec2<u32>, first_row: u32, n_rows: u32) {
    let layer = score_layer(index);
    let in_quads = quads(layer.n_in);
    let out_quads = quads(layer.n_out);
    let line = local.y * ROWS;
    if line >= VIRTUAL * n_rows {
        return;
    }
    let dz = base + layer.z + line * out_quads;
    for (var tile = 0u; tile < in_quads; tile += TILE_COLUMNS / 4u) {
        let column = tile + local.x;
        //#for h in 0..16/ROWS
        let column{h} = min(column + {h}u * 8u, in_quads - 1u);
        //#for r in 0..ROWS
        var acc{r}_{h} = vec4(0.0);
        //#end
        //#end
        for (var first = 0u; first < out_quads; first += LANES) {
            let own = dz + min(first + local.x % LANES, out_quads - 1u);
            //#for r in 0..ROWS
            let own{r} = scratch[own + {r}u * out_quads];
            //#end
            for (var k = first; k < min(first + LANES, out_quads); k++) {
                //#for r in 0..ROWS
                let a{r} = broadcast(own{r}, k - first);
                //#end
                //#for h in 0..16/ROWS
                //#for j in 0..4
                let w{h}_{j} = net[layer.weight + min(4u * k + {j}u, layer.n_out - 1u) * in_quads + column{h}];
                //#end
                //#for r in 0..ROWS
                acc{r}_{h} += a{r}.x * w{h}_0 + a{r}.y * w{h}_1 + a{r}.z * w{h}_2 + a{r}.w * w{h}_3;
                //#end
                //#end
            }
        }
        //#for h in 0..16/ROWS
        //#for p in 0..ROWS/2
        pass_down(base, index, line + {2p}u, column + {h}u * 8u, in_quads, first_row, n_rows, acc{2p}_{h}, acc{2p+1}_{h});
        //#end
        //#end
    }
}

fn pass_down(
    base: u32, index: u32, line: u32, column: u32, in_quads: u32, first: u32, n_rows: u32, even: vec4<f32>, odd: vec4<f32>,
) {
    if column >= in_quads {
        return;
    }
    if index > 0u {
        let below = score_layer(index - 1u);
        through_activation(base + below.z + line * in_quads + column, in_quads, even, odd);
        return;
    }
    write_dcontext(line, column, first, n_rows, even);
    if TANGENT == 0u {
        write_dcontext(line + 1u, column, first, n_rows, odd);
    }
}

fn write_dcontext(line: u32, quad: u32, first: u32, n_rows: u32, gradient: vec4<f32>) {
    let row = line / VIRTUAL;
    if row >= n_rows {
        return;
    }
    let at = context_at(rows[first + row].x);
    //#for j in 0..4
    if 4u * quad + {j}u < params.context_width {
        dcontext[at + 4u * quad + {j}u] = gradient[{j}];
    }
    //#end
}

@compute @workgroup_size(8, 64u / ROWS)
fn score_train(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let thread = local.y * 8u + local.x;
    let base = group.x * (params.scratch_words / 4u);
    // Activations too: lines past the last row must be finite, their seeds are zero.
    for (var k = thread; k < params.scratch_words / 4u; k += THREADS) {
        scratch[base + k] = vec4(0.0);
    }
    storageBarrier();
    workgroupBarrier();
    let output = score_layer(params.n_layers - 1u);
    for (var first = group.x * ROWS_PER_TILE; first < params.n_rows; first += params.n_groups * ROWS_PER_TILE) {
        let n_rows = min(ROWS_PER_TILE, params.n_rows - first);
        write_inputs(base, first, n_rows, thread);
        storageBarrier();
        workgroupBarrier();
        score_hidden_layers(base, params.n_layers, local.xy, VIRTUAL * n_rows);
        write_seeds(base, first, n_rows, thread);
        output_gradient(base, output, thread);
        last_hidden_backward(base, output, score_layer(params.n_layers - 2u), thread);
        storageBarrier();
        workgroupBarrier();
        for (var above = params.n_layers - 1u; above > 0u; above--) {
            let layer = score_layer(above - 1u);
            weight_gradient(base, layer, local.xy, VIRTUAL * n_rows);
            bias_gradient(base, layer, thread, VIRTUAL * n_rows);
            input_gradient(base, above - 1u, local.xy, first, n_rows);
            storageBarrier();
            workgroupBarrier();
        }
    }
}
