// y[(b, i, j), o] = bias[o] + sum over taps t and visible channels n of weight[(o, t), n] x[(b, i', j'), n]   (+ y)
//
// (i', j') is what tap t of position (i, j) looks at; see shared/conv_taps. An implicit matrix product: lines are the
// positions of all images, columns the outputs, and terms are (tap, channel) with the channels of a tap filled up to quads; no
// patch is ever written to storage. A workgroup owns a tile of positions x outputs.

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
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (n_out)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch * out_height * out_width, n_out)

//#include conv_taps
//#include conv_inputs
//#loads x
//#include tile_product
const LEFT_ALONG = true;
const RIGHT_ALONG = true;

// A position.
alias Line = Place;

// An output: its first quad of the weight, and how many channels it sees at the last tap.
struct Column {
    base: u32,
    visible: i32,
}

fn line_of(row: u32) -> Line {
    return place_of(min(row, n_rows() - 1u));
}

fn column_of(output: u32) -> Column {
    let known = min(output, params.n_out - 1u);
    return Column(known * params.n_taps * in_quads(), i32(visible_at_last_tap(known)));
}

fn left_quad(line: Line, term: u32) -> vec4<f32> {
    let tap = quotient(term / 4u, in_quads());
    return input_quad(line, tap_step(tap), term / 4u - tap * in_quads(), in_quads());
}

fn right_quad(column: Column, term: u32) -> vec4<f32> {
    // Negative before the last tap, where every channel is visible; past the last tap none is.
    let channel = i32(term) - i32(4u * (params.n_taps - 1u) * in_quads());
    let channels = vec4(channel, channel + 1, channel + 2, channel + 3);
    let value = weight[column.base + min(term / 4u, params.n_taps * in_quads() - 1u)];
    return select(vec4(0.0), value, channels < vec4(column.visible));
}

fn n_rows() -> u32 {
    return params.batch * params.out_height * params.out_width;
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_conv_forward_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first_row = group.x * TILE_LINES;
    let first_output = group.y * TILE_COLUMNS;
    sum_products(local, first_row, first_output, 0u, 4u * params.n_taps * in_quads());
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        store(first_row + own_line(local, {r}u), first_output + own_column(local, {q}u), sum{r}_{q});
        //#end
        //#end
    }
}

// Columns past the end are padding and stay zero.
fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < n_rows() && column < params.n_out {
        let at = row * ((params.n_out + 3u) / 4u) + column / 4u;
        var sum = bias[column / 4u] + value;
        if params.accumulate == 1u {
            sum += y[at];
        }
        y[at] = select(vec4(0.0), sum, vec4(column, column + 1u, column + 2u, column + 3u) < vec4(params.n_out));
    }
}
