// dx[(b, i', j'), n] = sum over taps t and outputs o that see n of weight[(o, t), n] dy[(b, i, j), o]   (+ dx)
//
// (i, j) are the positions whose tap t looks at (i', j'): one, none where the stride jumps over it, four where up repeats
// it. Rows are input positions, columns input channels; the sum runs over (tap, repetition, output).
// A workgroup owns 8 ROWS positions x 32 QUADS channels; a thread ROWS positions x QUADS times 4 channels in registers.

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
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch * out_height * out_width, n_out)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (n_out * n_taps, n_in)
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>; // (batch * in_height * in_width, n_in)

//#include broadcast
//#include conv_taps
//#include conv_outputs
//#loads dy weight
@compute @workgroup_size(8, 8)
fn masked_conv_backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_rows = params.batch * params.in_height * params.in_width;
    let in_quads = (params.n_in + 3u) / 4u;
    let out_quads = (params.n_out + 3u) / 4u;
    let repetitions = 1u << (2u * params.up);
    let end = params.n_taps * repetitions * out_quads;
    let row = (group.x * 8u + local.y) * ROWS;
    if row >= n_rows {
        return;
    }
    let column = group.y * 32u * QUADS + local.x * 4u;
    //#for q in 0..QUADS
    let columns{q} = vec4(column, column + 1u, column + 2u, column + 3u) + vec4({q}u * 32u);
    let quad{q} = min(column / 4u + {q}u * 8u, in_quads - 1u);
    //#end
    //#for r in 0..ROWS
    let place{r} = place_of(min(row + {r}u, n_rows - 1u));
    //#for q in 0..QUADS
    var acc{r}_{q} = vec4(0.0);
    //#end
    //#end
    for (var first = 0u; first < end; first += LANES) {
        let own = min(first + local.x % LANES, end - 1u);
        let own_turn = quotient(own, out_quads);
        let repetition = own_turn % repetitions;
        let step = tap_step(own_turn / repetitions) - vec2(i32(repetition / 2u), i32(repetition % 2u));
        let quad = own - own_turn * out_quads;
        //#for r in 0..ROWS
        let own{r} = output_quad(place{r}, step, quad, out_quads);
        //#end
        for (var k = first; k < min(first + LANES, end); k++) {
            let turn = quotient(k, out_quads);
            let tap = turn / repetitions;
            let o = 4u * (k - turn * out_quads);
            let is_last = tap + 1u == params.n_taps;
            //#for j in 0..4
            let o{j} = min(o + {j}u, params.n_out - 1u);
            let visible{j} = select(params.n_in, visible_at_last_tap(o{j}), is_last);
            let weight{j} = (o{j} * params.n_taps + tap) * in_quads;
            //#for q in 0..QUADS
            let w{j}_{q} = select(vec4(0.0), weight_at(weight{j} + quad{q}), columns{q} < vec4(visible{j}));
            //#end
            //#end
            //#for r in 0..ROWS
            let a{r} = broadcast(own{r}, k - first);
            //#for q in 0..QUADS
            acc{r}_{q} += a{r}.x * w0_{q} + a{r}.y * w1_{q} + a{r}.z * w2_{q} + a{r}.w * w3_{q};
            //#end
            //#end
        }
    }
    //#for r in 0..ROWS
    //#for q in 0..QUADS
    store(row + {r}u, n_rows, columns{q}, acc{r}_{q});
    //#end
    //#end
}

fn store(row: u32, n_rows: u32, columns: vec4<u32>, value: vec4<f32>) {
    if row < n_rows && columns.x < params.n_in {
        let at = row * ((params.n_in + 3u) / 4u) + columns.x / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += dx[at];
        }
        dx[at] = select(vec4(0.0), sum, columns < vec4(params.n_in));
    }
}
