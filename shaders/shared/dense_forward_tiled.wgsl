// dense_forward by workgroups that share tiles of both factors: one owns a tile of samples x outputs; the tiles with the longest
// sums are the first. The includer declares store and finish, as for dense_forward.

//#include dense_operands
//#include tile_product
//#loads x weight
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
    return x_at(line.base + min(input / 4u, in_quads() - 1u));
}

fn right_quad(column: Column, input: u32) -> vec4<f32> {
    let inputs = vec4(input, input + 1u, input + 2u, input + 3u);
    return select(vec4(0.0), weight_at(column.base + min(input / 4u, in_quads() - 1u)), inputs < vec4(column.seen));
}

fn in_quads() -> u32 {
    return (params.n_in + 3u) / 4u;
}

fn forward_tile(group: vec3<u32>, local: vec3<u32>) {
    let n_tiles = (params.n_out + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let first_sample = group.x * TILE_LINES;
    let first_output = (n_tiles - 1u - group.y) * TILE_COLUMNS;
    let last_output = min(first_output + TILE_COLUMNS, params.n_out) - 1u;
    sum_products(local, first_sample, first_output, 0u, visible[last_output]);
    if local.z == 0u {
        //#for r in 0..ROWS
        //#for q in 0..QUADS
        let row{r}_{q} = first_sample + own_line(local, {r}u);
        let column{r}_{q} = first_output + own_column(local, {q}u);
        store(row{r}_{q}, column{r}_{q}, bias[min(column{r}_{q}, params.n_out - 1u) / 4u] + sum{r}_{q});
        finish(row{r}_{q}, column{r}_{q});
        //#end
        //#end
    }
}
