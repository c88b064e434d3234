// bias[o] + sum over i < visible[o] of weight[o, i] x[b, i]: a masked dense layer. The includer declares what becomes of it:
// store(row, column, value), called for vec4s of outputs that may lie past the ends, and finish(row, column), called after it.
//
// Units are sorted by degree, so the inputs that an output may see are its first visible[o] ones and visible never
// falls: the mask is a staircase, and a tile of outputs ends its sum where its last output ends.
// A workgroup owns 8 ROWS samples x 64 outputs; a thread ROWS samples x (4 + 4) outputs in registers.

//#include dense_operands
//#include broadcast
//#include paired
//#loads x weight
fn forward_tile(group: vec3<u32>, local: vec3<u32>) {
    let n_quads = (params.n_in + 3u) / 4u;
    let row = (group.x * GROUP_ROWS + local.y) * ROWS;
    if row >= params.batch {
        return;
    }
    let tile = paired(group.y, (params.n_out + 63u) / 64u);
    let column = tile * 64u + local.x * 4u;
    //#for j in 0..8
    let column{j} = min(column + {j}u / 4u * 32u + {j}u % 4u, params.n_out - 1u);
    let visible{j} = visible[column{j}];
    let weight{j} = column{j} * n_quads;
    //#end
    //#for r in 0..ROWS
    let x{r} = min(row + {r}u, params.batch - 1u) * n_quads;
    var acc{r}_0 = bias[column0 / 4u];
    var acc{r}_1 = bias[column4 / 4u];
    //#end
    let last = min(tile * 64u + 63u, params.n_out - 1u);
    let end = (visible[last] + 3u) / 4u;
    for (var first = 0u; first < end; first += LANES) {
        let own = min(first + local.x % LANES, n_quads - 1u);
        //#for r in 0..ROWS
        let own{r} = x_at(x{r} + own);
        //#end
        for (var k = first; k < min(first + LANES, end); k++) {
            let inputs = vec4(4u * k, 4u * k + 1u, 4u * k + 2u, 4u * k + 3u);
            //#for j in 0..8
            let w{j} = select(vec4(0.0), weight_at(weight{j} + k), inputs < vec4(visible{j}));
            //#end
            //#for r in 0..ROWS
            let a{r} = broadcast(own{r}, k - first);
            acc{r}_0 += vec4(dot(a{r}, w0), dot(a{r}, w1), dot(a{r}, w2), dot(a{r}, w3));
            acc{r}_1 += vec4(dot(a{r}, w4), dot(a{r}, w5), dot(a{r}, w6), dot(a{r}, w7));
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
