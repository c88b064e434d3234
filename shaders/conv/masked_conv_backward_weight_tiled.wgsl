// partials[c, (o, t), n] = sum over the positions (b, i, j) of chunk c of dy[(b, i, j), o] x[(b, i', j'), n]
//
// (i', j') is what tap t of position (i, j) looks at; weights that the mask removes get 0. Chunks are chunk_rows positions
// long, in order; sum_partials adds them up in order, so the same inputs give the same bits.
// Lines are outputs, columns are (tap, channel) with the channels of a tap filled up to quads, and terms are positions. A
// workgroup owns a tile of outputs x (tap, channel) for one chunk.

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

//#include conv_taps
//#include conv_inputs
//#loads x
//#include tile_product
const LEFT_ALONG = false;
const RIGHT_ALONG = false;

// Four outputs: their quad in a row of dy.
struct Line {
    quad: u32,
}

// Four channels at a tap: how far it lies from the corner, and their quad in a row of x.
struct Column {
    step: vec2<i32>,
    quad: u32,
}

// Where the chunk ends.
var<private> end: u32;

fn line_of(output: u32) -> Line {
    return Line(min(output / 4u, out_quads() - 1u));
}

fn column_of(column: u32) -> Column {
    let quad = min(column / 4u, n_columns() - 1u);
    let tap = quotient(quad, in_quads());
    return Column(tap_step(tap), quad - tap * in_quads());
}

fn left_quad(line: Line, row: u32) -> vec4<f32> {
    return select(vec4(0.0), dy[min(row, end - 1u) * out_quads() + line.quad], row < end);
}

fn right_quad(column: Column, row: u32) -> vec4<f32> {
    return input_quad(place_of(min(row, end - 1u)), column.step, column.quad, in_quads());
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

fn out_quads() -> u32 {
    return (params.n_out + 3u) / 4u;
}

// Quads of (tap, channel).
fn n_columns() -> u32 {
    return params.n_taps * in_quads();
}

@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_conv_backward_weight_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first_output = group.x * TILE_LINES;
    let first_column = group.y * TILE_COLUMNS;
    let start = group.z * params.chunk_rows;
    end = min(start + params.chunk_rows, params.batch * params.out_height * params.out_width);
    sum_products(local, first_output, first_column, start, end);
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        store(group.z, first_output + own_line(local, {r}u), (first_column + own_column(local, {q}u)) / 4u, sum{r}_{q});
        //#end
        //#end
    }
}

fn store(chunk: u32, output: u32, column: u32, value: vec4<f32>) {
    if output < params.n_out && column < n_columns() {
        let tap = quotient(column, in_quads());
        let channel = 4u * (column - tap * in_quads());
        let channels = vec4(channel, channel + 1u, channel + 2u, channel + 3u);
        let visible = select(params.n_in, visible_at_last_tap(output), tap + 1u == params.n_taps);
        partials[(chunk * params.n_out + output) * n_columns() + column] = select(vec4(0.0), value, channels < vec4(visible));
    }
}
