// destination[r, c] = source[origin[r], c]
//
// A thread owns one element, of the padding too. An origin beyond the last row counts as the last.

struct Params {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>; // (rows, columns)
@group(0) @binding(2) var<storage, read> origin: array<u32>; // (rows)
@group(0) @binding(3) var<storage, read_write> destination: array<f32>; // (rows, columns)

@compute @workgroup_size(64)
fn gather_rows(@builtin(global_invocation_id) id: vec3<u32>) {
    let pitch = (params.columns + 3u) / 4u * 4u;
    if id.x >= pitch {
        return;
    }
    destination[id.y * pitch + id.x] = source[min(origin[id.y], params.rows - 1u) * pitch + id.x];
}
