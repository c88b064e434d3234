// destination[r, c] = source[r, origin[c / block] block + c % block]: blocks of columns in another order
//
// A thread owns four columns of one row; columns past its end are padding and become zero. An origin beyond the last block
// counts as the last.

struct Params {
    rows: u32,
    columns: u32,
    block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>; // (rows, columns)
@group(0) @binding(2) var<storage, read> origin: array<u32>; // (columns / block)
@group(0) @binding(3) var<storage, read_write> destination: array<vec4<f32>>; // (rows, columns)

@compute @workgroup_size(64)
fn permute_columns(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.columns + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.rows * n_quads {
        return;
    }
    let row = index / n_quads;
    let column = 4u * (index - row * n_quads);
    let last = params.columns / params.block - 1u;
    var value = vec4(0.0);
    //#for j in 0..4
    if column + {j}u < params.columns {
        let block = (column + {j}u) / params.block;
        let place = min(origin[block], last) * params.block + (column + {j}u - block * params.block);
        value[{j}] = source[row * 4u * n_quads + place];
    }
    //#end
    destination[index] = value;
}
