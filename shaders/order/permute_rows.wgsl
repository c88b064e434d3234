// destination[r, c] = source[origin[r / block] block + r % block, c]: blocks of rows in another order
//
// A thread owns four columns of one row, padding included. An origin beyond the last block counts as the last.

struct Params {
    rows: u32,
    columns: u32,
    block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>; // (rows, columns)
@group(0) @binding(2) var<storage, read> origin: array<u32>; // (rows / block)
@group(0) @binding(3) var<storage, read_write> destination: array<vec4<f32>>; // (rows, columns)

@compute @workgroup_size(64)
fn permute_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.columns + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.rows * n_quads {
        return;
    }
    let row = index / n_quads;
    let block = row / params.block;
    let place = min(origin[block], params.rows / params.block - 1u) * params.block + (row - block * params.block);
    destination[index] = source[place * n_quads + (index - row * n_quads)];
}
