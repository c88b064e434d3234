// destination[r, destination_at + c] = source[r, source_at + c] for c < columns
//
// A thread owns one element. Rows may be wider than what is copied.

struct Params {
    rows: u32,
    columns: u32,
    source_columns: u32,
    source_at: u32,
    destination_columns: u32,
    destination_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>; // (rows, source_columns)
@group(0) @binding(2) var<storage, read_write> destination: array<f32>; // (rows, destination_columns)

@compute @workgroup_size(64)
fn copy_columns(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.columns {
        return;
    }
    let source_pitch = (params.source_columns + 3u) / 4u * 4u;
    let destination_pitch = (params.destination_columns + 3u) / 4u * 4u;
    let value = source[id.y * source_pitch + params.source_at + id.x];
    destination[id.y * destination_pitch + params.destination_at + id.x] = value;
}
