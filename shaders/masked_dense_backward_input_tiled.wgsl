// dx[b, i] = sum over o with i < visible[o] of dy[b, o] weight[o, i]   (+ dx[b, i] when accumulate is 1)
//
// visible never falls, so the outputs that see input i are those from first_output[i] on: a tile of inputs starts its
// sum where its first input starts. A workgroup owns a tile of samples x inputs; the tiles with the longest sums are the
// first. Layers have few inputs and may have many outputs, hence few tiles and long sums: tiles are small, so that there are
// more of them, and their workgroups of many slices.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (n_out, n_in)
@group(0) @binding(3) var<storage, read> visible: array<u32>; // (n_out)
@group(0) @binding(4) var<storage, read> first_output: array<u32>; // (n_in)
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>; // (batch, n_in)

//#include tile_product
const LEFT_ALONG = true;
const RIGHT_ALONG = false;

// A sample: its first quad of dy.
struct Line {
    base: u32,
}

// Four inputs, and their quad in a row of the weight.
struct Column {
    inputs: vec4<u32>,
    quad: u32,
}

fn line_of(sample: u32) -> Line {
    return Line(min(sample, params.batch - 1u) * out_quads());
}

fn column_of(input: u32) -> Column {
    return Column(vec4(input, input + 1u, input + 2u, input + 3u), min(input / 4u, in_quads() - 1u));
}

fn left_quad(line: Line, output: u32) -> vec4<f32> {
    return dy[line.base + min(output / 4u, out_quads() - 1u)];
}

fn right_quad(column: Column, output: u32) -> vec4<f32> {
    let known = min(output, params.n_out - 1u);
    let seen = select(0u, visible[known], output < params.n_out);
    return select(vec4(0.0), weight[known * in_quads() + column.quad], column.inputs < vec4(seen));
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

fn out_quads() -> u32 {
    return (params.n_out + 3u) / 4u;
}

@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_dense_backward_input_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first_sample = group.x * TILE_LINES;
    let first_input = group.y * TILE_COLUMNS;
    sum_products(local, first_sample, first_input, first_output[first_input] / 4u * 4u, params.n_out);
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        store(first_sample + own_line(local, {r}u), first_input + own_column(local, {q}u), sum{r}_{q});
        //#end
        //#end
    }
}

fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.batch && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        let at = row * in_quads() + column / 4u;
        var sum = value;
        if params.accumulate == 1u {
            sum += dx[at];
        }
        dx[at] = select(vec4(0.0), sum, columns < vec4(params.n_in));
    }
}
