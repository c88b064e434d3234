// dense_backward by workgroups that share tiles of both factors: one owns a tile of samples x inputs; the tiles with the longest
// sums are the first. Layers have few inputs and may have many outputs, hence few tiles and long sums: tiles are small, so that
// there are more of them, and their workgroups of many slices. The includer declares store and finish, as for dense_backward.

//#include dense_backward_operands
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
    let seen = select(0u, visible[known / 4u][known % 4u], output < params.n_out);
    return select(vec4(0.0), weight[known * in_quads() + column.quad], column.inputs < vec4(seen));
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

fn out_quads() -> u32 {
    return (params.n_out + 3u) / 4u;
}

fn backward_tile(group: vec3<u32>, local: vec3<u32>) {
    let first_sample = group.x * TILE_LINES;
    let first_input = group.y * TILE_COLUMNS;
    sum_products(local, first_sample, first_input, first_output[first_input] / 4u * 4u, params.n_out);
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        let row{r}_{q} = first_sample + own_line(local, {r}u);
        let column{r}_{q} = first_input + own_column(local, {q}u);
        store(row{r}_{q}, column{r}_{q}, sum{r}_{q});
        finish(row{r}_{q}, column{r}_{q});
        //#end
        //#end
    }
}
