// sum over o with i < visible[o] of dy[b, o] weight[o, i]: a masked dense layer on the way back. The includer declares what becomes
// of it: store(row, column, value), called for vec4s of inputs that may lie past the ends, and finish(row, column), called after it.
//
// visible never falls, so the outputs that see input i are those from first_output[i] on: a tile of inputs starts its
// sum where its first input starts. A workgroup owns 8 ROWS samples x 64 inputs, a thread ROWS samples x (4 + 4) inputs.

//#include dense_backward_operands
//#include broadcast
//#include paired
//#loads dy weight
fn backward_tile(group: vec3<u32>, local: vec3<u32>) {
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
    store(row + {r}u, column, acc{r}_0);
    store(row + {r}u, column + 32u, acc{r}_1);
    //#end
    // Written out, activations would be most of the code.
    for (var r = row; r < row + ROWS; r++) {
        finish(r, column);
        finish(r, column + 32u);
    }
}
