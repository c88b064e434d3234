// dx[(b, i', j'), n] = sum over taps t and outputs o that see n of weight[(o, t), n] dy[(b, i, j), o]   (+ dx)
//
// (i, j) are the positions whose tap t looks at (i', j'): one, none where the stride jumps over it, four where up repeats
// it. Lines are input positions, columns input channels, and terms are (tap, repetition, output) with the outputs filled up
// to quads. A workgroup owns a tile of positions x channels.

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

//#include conv_taps
//#include conv_outputs
//#loads dy
//#include tile_product
const LEFT_ALONG = true;
const RIGHT_ALONG = false;

// A position.
alias Line = Place;

// Four channels, and their quad in a row of the weight.
struct Column {
    channels: vec4<u32>,
    quad: u32,
}

// Tap, repetition and first output of a quad of terms.
struct Turn {
    tap: u32,
    repetition: u32,
    output: u32,
}

fn turn_of(quad: u32) -> Turn {
    let turn = quotient(quad, out_quads());
    let tap = turn >> (2u * params.up);
    return Turn(tap, turn - (tap << (2u * params.up)), 4u * (quad - turn * out_quads()));
}

fn line_of(row: u32) -> Line {
    return place_of(min(row, n_rows() - 1u));
}

fn column_of(channel: u32) -> Column {
    return Column(vec4(channel, channel + 1u, channel + 2u, channel + 3u), min(channel / 4u, in_quads() - 1u));
}

fn left_quad(line: Line, term: u32) -> vec4<f32> {
    let turn = turn_of(term / 4u);
    let step = tap_step(turn.tap) - vec2(i32(turn.repetition / 2u), i32(turn.repetition % 2u));
    return output_quad(line, step, turn.output / 4u, out_quads());
}

fn right_quad(column: Column, term: u32) -> vec4<f32> {
    let turn = turn_of(term / 4u);
    let output = min(turn.output + term % 4u, params.n_out - 1u);
    let tap = min(turn.tap, params.n_taps - 1u);
    // Past the last tap nothing is visible.
    let at_tap = select(params.n_in, visible_at_last_tap(output), tap + 1u == params.n_taps);
    let visible = select(0u, at_tap, turn.tap < params.n_taps);
    let value = weight[(output * params.n_taps + tap) * in_quads() + column.quad];
    return select(vec4(0.0), value, column.channels < vec4(visible));
}

fn n_rows() -> u32 {
    return params.batch * params.in_height * params.in_width;
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

fn out_quads() -> u32 {
    return (params.n_out + 3u) / 4u;
}

@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_conv_backward_input_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first_row = group.x * TILE_LINES;
    let first_channel = group.y * TILE_COLUMNS;
    let n_turns = params.n_taps << (2u * params.up);
    sum_products(local, first_row, first_channel, 0u, 4u * n_turns * out_quads());
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        store(first_row + own_line(local, {r}u), first_channel + own_column(local, {q}u), sum{r}_{q});
        //#end
        //#end
    }
}

fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < n_rows() && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        let at = row * in_quads() + column / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += dx[at];
        }
        dx[at] = select(vec4(0.0), sum, columns < vec4(params.n_in));
    }
}
