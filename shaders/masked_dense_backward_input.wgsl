// dx[b, i] = sum over o with i < visible[o] of dy[b, o] weight[o, i]   (+ dx[b, i] when accumulate is 1)
//
// visible never falls, so the outputs that see input i are those from first_output[i] on: a tile of inputs starts its
// sum where its first input starts. A workgroup owns 8 ROWS samples x 64 inputs, a thread ROWS samples x (4 + 4) inputs.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (n_out, n_in)
@group(0) @binding(3) var<storage, read> visible: array<vec4<u32>>; // (n_out)
@group(0) @binding(4) var<storage, read> first_output: array<u32>; // (n_in)
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>; // (batch, n_in)

//#include broadcast
//#include paired
//#loads dy weight
@compute @workgroup_size(8, GROUP_ROWS)
fn masked_dense_backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let in_quads = (params.n_in + 3u) / 4u;
    let out_quads = (params.n_out + 3u) / 4u;
    let row = (group.x * GROUP_ROWS + local.y) * ROWS;
    if row >= params.batch {
        return;
    }
    let tile = paired(group.y, (params.n_in + 63u) / 64u);
    let column = tile * 64u + local.x * 4u;
    let columns_0 = vec4(column, column + 1u, column + 2u, column + 3u);
    let columns_1 = columns_0 + vec4(32u);
    let quad_0 = min(column / 4u, in_quads - 1u);
    let quad_1 = min(column / 4u + 8u, in_quads - 1u);
    //#for r in 0..ROWS
    let dy{r} = min(row + {r}u, params.batch - 1u) * out_quads;
    var acc{r}_0 = vec4(0.0);
    var acc{r}_1 = vec4(0.0);
    //#end
    for (var first = first_output[tile * 64u] / 4u; first < out_quads; first += LANES) {
        let own = min(first + local.x % LANES, out_quads - 1u);
        let own_seen = visible[own];
        //#for r in 0..ROWS
        let own{r} = dy_at(dy{r} + own);
        //#end
        for (var k = first; k < min(first + LANES, out_quads); k++) {
            let seen = broadcast_words(own_seen, k - first);
            //#for j in 0..4
            let weight{j} = min(4u * k + {j}u, params.n_out - 1u) * in_quads;
            let w{j}_0 = select(vec4(0.0), weight_at(weight{j} + quad_0), columns_0 < vec4(seen[{j}]));
            let w{j}_1 = select(vec4(0.0), weight_at(weight{j} + quad_1), columns_1 < vec4(seen[{j}]));
            //#end
            //#for r in 0..ROWS
            let a{r} = broadcast(own{r}, k - first);
            acc{r}_0 += a{r}.x * w0_0 + a{r}.y * w1_0 + a{r}.z * w2_0 + a{r}.w * w3_0;
            acc{r}_1 += a{r}.x * w0_1 + a{r}.y * w1_1 + a{r}.z * w2_1 + a{r}.w * w3_1;
            //#end
        }
    }
    //#for r in 0..ROWS
    store(row + {r}u, columns_0, acc{r}_0);
    store(row + {r}u, columns_1, acc{r}_1);
    //#end
}

fn store(row: u32, columns: vec4<u32>, value: vec4<f32>) {
    if row < params.batch && columns.x < params.n_in {
        let at = row * ((params.n_in + 3u) / 4u) + columns.x / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += dx[at];
        }
        dx[at] = select(vec4(0.0), sum, columns < vec4(params.n_in));
    }
}
