// dgain[c] = sum over the rows r of dy[r, c] x[r, c], rows in order
//
// A thread owns four columns.

struct Params {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (rows, columns)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (rows, columns)
@group(0) @binding(3) var<storage, read_write> dgain: array<vec4<f32>>; // (columns)

@compute @workgroup_size(64)
fn diagonal_backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_quads = (params.columns + 3u) / 4u;
    if id.x >= n_quads {
        return;
    }
    var sum = vec4(0.0);
    for (var row = 0u; row < params.rows; row++) {
        sum += dy[row * n_quads + id.x] * x[row * n_quads + id.x];
    }
    dgain[id.x] = sum;
}
