// y[(b, i, j), o] = bias[o] + sum over taps t and visible channels n of weight[(o, t), n] x[(b, i', j'), n]   (+ y)
//
// (i', j') is what tap t of position (i, j) looks at; see shared/conv_taps. An implicit matrix product: rows are the
// positions of all images, columns the outputs, and the sum runs over (tap, channel); no patch is ever written to memory.
// A workgroup owns 8 ROWS positions x 32 QUADS outputs; a thread ROWS positions x QUADS times 4 outputs in registers.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    n_taps: u32,
    tap_width: u32,
    above: u32,
    left: u32,
    stride: u32,
    up: u32,
    mask: u32,
    groups: u32,
    half_width: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch * in_height * in_width, n_in)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (n_out * n_taps, n_in)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // (n_out)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch * out_height * out_width, n_out)

//#include broadcast
//#include conv_taps
//#include conv_inputs
//#loads x weight
@compute @workgroup_size(8, 8)
fn masked_conv_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_rows = params.batch * params.out_height * params.out_width;
    let n_quads = (params.n_in + 3u) / 4u;
    let end = params.n_taps * n_quads;
    let last_tap = end - n_quads;
    let row = (group.x * 8u + local.y) * ROWS;
    if row >= n_rows {
        return;
    }
    let column = group.y * 32u * QUADS + local.x * 4u;
    //#for q in 0..QUADS
    //#for j in 0..4
    let column{q}_{j} = min(column + {q}u * 32u + {j}u, params.n_out - 1u);
    let visible{q}_{j} = i32(visible_at_last_tap(column{q}_{j}));
    let weight{q}_{j} = column{q}_{j} * end;
    //#end
    let bias{q} = vec4(bias[column{q}_0], bias[column{q}_1], bias[column{q}_2], bias[column{q}_3]);
    //#end
    //#for r in 0..ROWS
    let place{r} = place_of(min(row + {r}u, n_rows - 1u));
    //#for q in 0..QUADS
    var acc{r}_{q} = bias{q};
    //#end
    //#end
    for (var first = 0u; first < end; first += LANES) {
        let own = min(first + local.x % LANES, end - 1u);
        let tap = quotient(own, n_quads);
        let step = tap_step(tap);
        let quad = own - tap * n_quads;
        //#for r in 0..ROWS
        let own{r} = input_quad(place{r}, step, quad, n_quads);
        //#end
        for (var k = first; k < min(first + LANES, end); k++) {
            // Negative before the last tap, where every channel is visible.
            let channel = 4 * (i32(k) - i32(last_tap));
            let channels = vec4(channel, channel + 1, channel + 2, channel + 3);
            //#for q in 0..QUADS
            //#for j in 0..4
            let w{q}_{j} = select(vec4(0.0), weight_at(weight{q}_{j} + k), channels < vec4(visible{q}_{j}));
            //#end
            //#end
            //#for r in 0..ROWS
            let a{r} = broadcast(own{r}, k - first);
            //#for q in 0..QUADS
            acc{r}_{q} += vec4(dot(a{r}, w{q}_0), dot(a{r}, w{q}_1), dot(a{r}, w{q}_2), dot(a{r}, w{q}_3));
            //#end
            //#end
        }
    }
    //#for r in 0..ROWS
    //#for q in 0..QUADS
    store(row + {r}u, n_rows, column + {q}u * 32u, acc{r}_{q});
    //#end
    //#end
}

// Columns past the end are padding and stay zero.
fn store(row: u32, n_rows: u32, column: u32, value: vec4<f32>) {
    if row < n_rows && column < params.n_out {
        let at = row * ((params.n_out + 3u) / 4u) + column / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += y[at];
        }
        y[at] = select(vec4(0.0), sum, vec4(column, column + 1u, column + 2u, column + 3u) < vec4(params.n_out));
    }
}
