// y[b, o] = bias[o] + sum over i < visible[o] of weight[o, i] x[b, i]
//
// Units are sorted by degree, so the inputs that an output may see are its first visible[o] ones and visible never
// falls: the mask is a staircase, and a tile of outputs ends its sum where its last output ends. A workgroup owns a tile of
// samples x outputs; the tiles with the longest sums are the first.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (n_out, n_in)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (n_out)
@group(0) @binding(4) var<storage, read> visible: array<u32>; // (n_out)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>; // (batch, n_out)

//#include tile_product
const LEFT_ALONG = true;
const RIGHT_ALONG = true;

// A sample: its first quad of x.
struct Line {
    base: u32,
}

// An output: its first quad of the weight, and how many inputs it sees.
struct Column {
    base: u32,
    seen: u32,
}

fn line_of(sample: u32) -> Line {
    return Line(min(sample, params.batch - 1u) * in_quads());
}

fn column_of(output: u32) -> Column {
    let known = min(output, params.n_out - 1u);
    return Column(known * in_quads(), visible[known]);
}

fn left_quad(line: Line, input: u32) -> vec4<f32> {
    return x[line.base + min(input / 4u, in_quads() - 1u)];
}

fn right_quad(column: Column, input: u32) -> vec4<f32> {
    let inputs = vec4(input, input + 1u, input + 2u, input + 3u);
    return select(vec4(0.0), weight[column.base + min(input / 4u, in_quads() - 1u)], inputs < vec4(column.seen));
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_dense_forward_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_tiles = (params.n_out + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let first_sample = group.x * TILE_LINES;
    let first_output = (n_tiles - 1u - group.y) * TILE_COLUMNS;
    let last_output = min(first_output + TILE_COLUMNS, params.n_out) - 1u;
    sum_products(local, first_sample, first_output, 0u, visible[last_output]);
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        store(first_sample + own_line(local, {r}u), first_output + own_column(local, {q}u), sum{r}_{q});
        //#end
        //#end
    }
}

// Columns past the end are padding and stay zero.
fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.batch && column < params.n_out {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        let at = row * ((params.n_out + 3u) / 4u) + column / 4u;
        y[at] = select(vec4(0.0), bias[column / 4u] + value, columns < vec4(params.n_out));
    }
}
