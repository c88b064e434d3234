// sums[k, c] = sum over the rows r of chunk k of values[r, c], rows in order
//
// A thread owns four columns of one chunk. Gives the bias gradient of a layer; several chunks are added up by sum_partials.

struct Params {
    rows: u32,
    columns: u32,
    chunk_rows: u32,
    n_chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>; // (rows, columns)
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>; // (n_chunks, columns)

//#loads values
@compute @workgroup_size(64)
fn column_sum(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_quads = (params.columns + 3u) / 4u;
    if id.x >= n_quads {
        return;
    }
    var sum = vec4(0.0);
    let start = id.y * params.chunk_rows;
    for (var row = start; row < min(start + params.chunk_rows, params.rows); row++) {
        sum += values_at(row * n_quads + id.x);
    }
    sums[id.y * n_quads + id.x] = sum;
}
