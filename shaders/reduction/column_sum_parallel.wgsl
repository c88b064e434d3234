// sums[k, c] = sum over the rows r of chunk k of values[r, c], as in column_sum
//
// For adapters that wait long for what they load. A workgroup owns 32 columns of one chunk; each of GROUP_ROWS threads adds up
// some rows of four columns, in order, and these sums are added pairwise.

struct Params {
    rows: u32,
    columns: u32,
    chunk_rows: u32,
    n_chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>; // (rows, columns)
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>; // (n_chunks, columns)

//#include add_lines
@compute @workgroup_size(8, GROUP_ROWS)
fn column_sum_parallel(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.columns + 3u) / 4u;
    let k = group.x * 8u + local.x;
    let is_inside = k < n_quads;
    let start = group.y * params.chunk_rows;
    let end = min(start + params.chunk_rows, params.rows);
    var sum = vec4(0.0);
    if is_inside {
        for (var row = start + local.y; row < end; row += GROUP_ROWS) {
            sum += values[row * n_quads + k];
        }
    }
    sum = add_lines(sum, local);
    if is_inside && local.y == 0u {
        sums[group.y * n_quads + k] = sum;
    }
}
