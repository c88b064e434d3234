// partials[c, (o, t), n] = sum over the positions (b, i, j) of chunk c of dy[(b, i, j), o] x[(b, i', j'), n]
//
// (i', j') is what tap t of position (i, j) looks at; weights that the mask removes get 0. Chunks are chunk_rows positions
// long, in order; sum_partials adds them up in order, so the same inputs give the same bits.
// A workgroup owns 8 ROWS outputs x 8 QUADS quads of (tap, channel), a thread ROWS outputs x QUADS quads. Four positions
// are added at a time, so that a sum stays in its register for four products.

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
//#loads dy x
// A position: the first row of its image in x, and the place that its taps count from.
struct Place {
    image: u32,
    i: u32,
    j: u32,
}

fn next(place: Place) -> Place {
    if place.j + 1u < params.out_width {
        return Place(place.image, place.i, place.j + 1u);
    }
    if place.i + 1u < params.out_height {
        return Place(place.image, place.i + 1u, 0u);
    }
    // Past the last position the products are zero, but what they read has to exist.
    let positions = params.in_height * params.in_width;
    let image = place.image + positions;
    return Place(select(image, 0u, image == params.batch * positions), 0u, 0u);
}

// Quad of x that a tap sees from a position; zero outside the image.
fn input_quad(place: Place, step: vec2<i32>, quad: u32, n_quads: u32) -> vec4<f32> {
    let at = vec2(i32(place.i * params.stride), i32(place.j * params.stride)) + step;
    let extent = vec2(i32(params.in_height << params.up), i32(params.in_width << params.up));
    if any(at < vec2(0)) || any(at >= extent) {
        return vec4(0.0);
    }
    let row = place.image + u32(at.x >> params.up) * params.in_width + u32(at.y >> params.up);
    return x_at(row * n_quads + quad);
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
    let column = group.y * 8u * QUADS + local.x;
    let corner = vec2(i32(params.above), i32(params.left));
    //#for q in 0..QUADS
    let column{q} = min(column + {q}u * 8u, n_columns - 1u);
    let tap{q} = quotient(column{q}, in_quads);
    let quad{q} = column{q} - tap{q} * in_quads;
    let step{q} = tap_step(tap{q}) - corner;
    //#for r in 0..ROWS
    var acc{r}_{q} = vec4(0.0);
    //#end
    //#end
    //#for o in 0..ROWS/4
    let output{o} = min(output / 4u + {o}u, out_quads - 1u);
    //#end
    let start = group.z * params.chunk_rows;
    let end = min(start + params.chunk_rows, n_rows);
    let start_row = start / params.out_width;
    let start_image = start_row / params.out_height * params.in_height * params.in_width;
    var place = Place(start_image, start_row % params.out_height, start % params.out_width);
    for (var first = start; first < end; first += 4u * LANES) {
        //#for s in 0..4
        let own{s} = first + 4u * (local.x % LANES) + {s}u;
        //#for o in 0..ROWS/4
        let own{o}_{s} = select(vec4(0.0), dy_at(min(own{s}, n_rows - 1u) * out_quads + output{o}), own{s} < end);
        //#end
        //#end
        for (var lane = 0u; lane < LANES && first + 4u * lane < end; lane++) {
            //#for s in 0..4
            //#for q in 0..QUADS
            let x{s}_{q} = input_quad(place, step{q}, quad{q}, in_quads);
            //#end
            place = next(place);
            //#end
            //#for o in 0..ROWS/4
            //#for s in 0..4
            let dy{o}_{s} = broadcast(own{o}_{s}, lane);
            //#end
            //#end
            //#for r in 0..ROWS
            //#for q in 0..QUADS
            acc{r}_{q} += dy{r/4}_0[{r%4}] * x0_{q} + dy{r/4}_1[{r%4}] * x1_{q} + dy{r/4}_2[{r%4}] * x2_{q} + dy{r/4}_3[{r%4}] * x3_{q};
            //#end
            //#end
        }
    }
    //#for r in 0..ROWS
    //#for q in 0..QUADS
    store(group.z, output + {r}u, column + {q}u * 8u, tap{q}, 4u * quad{q}, acc{r}_{q});
    //#end
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
