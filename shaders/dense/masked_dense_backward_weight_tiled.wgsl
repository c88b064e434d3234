// dweight[o, i] = sum over b of dy[b, o] x[b, i] where i < visible[o]; elsewhere it is 0 before and after
//
// A workgroup owns a tile of outputs x inputs. Tiles above the staircase have nothing to sum and nothing to write.

struct Params {
    batch: u32,
    n_in: u32,
    n_out: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (batch, n_in)
@group(0) @binding(3) var<storage, read> visible: array<u32>; // (n_out)
@group(0) @binding(4) var<storage, read_write> dweight: array<vec4<f32>>; // (n_out, n_in)

//#include tile_product
const LEFT_ALONG = false;
const RIGHT_ALONG = false;

// Four outputs: their quad in a row of dy.
struct Line {
    quad: u32,
}

// Four inputs: their quad in a row of x.
struct Column {
    quad: u32,
}

fn line_of(output: u32) -> Line {
    return Line(min(output / 4u, out_quads() - 1u));
}

fn column_of(input: u32) -> Column {
    return Column(min(input / 4u, in_quads() - 1u));
}

fn left_quad(line: Line, sample: u32) -> vec4<f32> {
    let value = dy[min(sample, params.batch - 1u) * out_quads() + line.quad];
    return select(vec4(0.0), value, sample < params.batch);
}

fn right_quad(column: Column, sample: u32) -> vec4<f32> {
    return x[min(sample, params.batch - 1u) * in_quads() + column.quad];
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

fn out_quads() -> u32 {
    return (params.n_out + 3u) / 4u;
}

@compute @workgroup_size(GROUP_COLUMNS, GROUP_ROWS, SLICES)
fn masked_dense_backward_weight_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let first_output = group.x * TILE_LINES;
    let first_input = group.y * TILE_COLUMNS;
    let last_output = min(first_output + TILE_LINES, params.n_out) - 1u;
    let is_seen = first_input < visible[last_output];
    sum_products(local, first_output, first_input, 0u, select(0u, params.batch, is_seen));
    if local.z == 0u && is_seen {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        store(first_output + own_line(local, {r}u), first_input + own_column(local, {q}u), sum{r}_{q});
        //#end
        //#end
    }
}

fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < params.n_out && column < params.n_in {
        let columns = vec4(column, column + 1u, column + 2u, column + 3u);
        dweight[row * in_quads() + column / 4u] = select(vec4(0.0), value, columns < vec4(visible[row]));
    }
}
