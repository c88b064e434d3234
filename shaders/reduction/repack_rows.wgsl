// The same numbers in the same order, in rows of another length
//
// Rows are padded to whole vec4s, so (B, H W C) and (B H W, C) differ in memory. A thread owns four columns of one
// destination row; columns past its end are padding and become zero.

struct Params {
    source_rows: u32,
    source_columns: u32,
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>; // (source_rows, source_columns)
@group(0) @binding(2) var<storage, read_write> destination: array<vec4<f32>>; // (rows, columns)

@compute @workgroup_size(64)
fn repack_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.columns + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.rows * n_quads {
        return;
    }
    let row = index / n_quads;
    let column = 4u * (index - row * n_quads);
    let source_pitch = (params.source_columns + 3u) / 4u * 4u;
    var value = vec4(0.0);
    //#for j in 0..4
    if column + {j}u < params.columns {
        let element = row * params.columns + column + {j}u;
        value[{j}] = source[element / params.source_columns * source_pitch + element % params.source_columns];
    }
    //#end
    destination[index] = value;
}
