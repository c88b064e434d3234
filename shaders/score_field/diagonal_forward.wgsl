// y[r, c] += gain[c] x[r, c]: a diagonal matrix beside dense layers
//
// A thread owns four columns of one row. Padding stays zero because x is zero there.

struct Params {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>; // (columns)
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>; // (rows, columns)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (rows, columns)

@compute @workgroup_size(64)
fn diagonal_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    let n_quads = (params.columns + 3u) / 4u;
    if index < params.rows * n_quads {
        y[index] += gain[index % n_quads] * x[index];
    }
}
