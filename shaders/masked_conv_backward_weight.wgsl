// partials[c, (o, t), n] = sum over the positions (b, i, j) of chunk c of dy[(b, i, j), o] x[(b, i', j'), n]
//
// (i', j') is what tap t of position (i, j) looks at; weights that the mask removes get 0. Chunks are chunk_rows positions
// long, in order; sum_partials adds them up in order, so the same inputs give the same bits.
// A workgroup owns 8 ROWS outputs x 16 quads of (tap, channel), a thread ROWS outputs x 2 quads.

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
    chunk_rows: u32,
    n_chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch * out_height * out_width, n_out)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (batch * in_height * in_width, n_in)
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<f32>>; // (n_chunks * n_out * n_taps, n_in)

//#include broadcast
//#include conv_taps
// Quad of x that a tap sees from a position; zero outside the image.
fn input_quad(image: u32, at: vec2<i32>, quad: u32, n_quads: u32) -> vec4<f32> {
    let extent = vec2(i32(params.in_height << params.up), i32(params.in_width << params.up));
    if any(at < vec2(0)) || any(at >= extent) {
        return vec4(0.0);
    }
    let row = image + u32(at.x >> params.up) * params.in_width + u32(at.y >> params.up);
    return x[row * n_quads + quad];
}

@compute @workgroup_size(8, 8)
fn masked_conv_backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_rows = params.batch * params.out_height * params.out_width;
    let in_quads = (params.n_in + 3u) / 4u;
    let out_quads = (params.n_out + 3u) / 4u;
    let n_columns = params.n_taps * in_quads;
    let output = (group.x * 8u + local.y) * ROWS;
    if output >= params.n_out {
        return;
    }
    let column = group.y * 16u + local.x;
    let column_0 = min(column, n_columns - 1u);
    let column_1 = min(column + 8u, n_columns - 1u);
    let tap_0 = quotient(column_0, in_quads);
    let tap_1 = quotient(column_1, in_quads);
    let quad_0 = column_0 - tap_0 * in_quads;
    let quad_1 = column_1 - tap_1 * in_quads;
    let corner = vec2(i32(params.above), i32(params.left));
    let step_0 = tap_step(tap_0) - corner;
    let step_1 = tap_step(tap_1) - corner;
    //#for r in 0..ROWS
    var acc{r}_0 = vec4(0.0);
    var acc{r}_1 = vec4(0.0);
    //#end
    //#for q in 0..ROWS/4
    let output{q} = min(output / 4u + {q}u, out_quads - 1u);
    //#end
    let start = group.z * params.chunk_rows;
    let end = min(start + params.chunk_rows, n_rows);
    // Position (i, j) of the row, kept up to date row by row.
    var j = start % params.out_width;
    var i = start / params.out_width % params.out_height;
    var image = start / (params.out_width * params.out_height) * params.in_height * params.in_width;
    for (var first = start; first < end; first += LANES) {
        let own = min(first + local.x % LANES, n_rows - 1u) * out_quads;
        //#for q in 0..ROWS/4
        let own{q} = dy[own + output{q}];
        //#end
        for (var row = first; row < min(first + LANES, end); row++) {
            let at = vec2(i32(i * params.stride), i32(j * params.stride));
            let x_0 = input_quad(image, at + step_0, quad_0, in_quads);
            let x_1 = input_quad(image, at + step_1, quad_1, in_quads);
            //#for r in 0..ROWS
            let dy{r} = broadcast(own{r/4}, row - first)[{r%4}];
            acc{r}_0 += dy{r} * x_0;
            acc{r}_1 += dy{r} * x_1;
            //#end
            j += 1u;
            if j == params.out_width {
                j = 0u;
                i += 1u;
            }
            if i == params.out_height {
                i = 0u;
                image += params.in_height * params.in_width;
            }
        }
    }
    //#for r in 0..ROWS
    store(group.z, output + {r}u, column, tap_0, 4u * quad_0, acc{r}_0);
    store(group.z, output + {r}u, column + 8u, tap_1, 4u * quad_1, acc{r}_1);
    //#end
}

fn store(chunk: u32, output: u32, column: u32, tap: u32, channel: u32, value: vec4<f32>) {
    let n_columns = params.n_taps * ((params.n_in + 3u) / 4u);
    if output < params.n_out && column < n_columns {
        let visible = select(params.n_in, visible_at_last_tap(output), tap + 1u == params.n_taps);
        let channels = vec4(channel, channel + 1u, channel + 2u, channel + 3u);
        let at = (chunk * params.n_out + output) * n_columns + column;
        partials[at] = select(vec4(0.0), value, channels < vec4(visible));
    }
}
