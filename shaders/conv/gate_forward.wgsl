// h[r, f] = skip[r, f] + phi(halves[r, f]) sigmoid(halves[r, width + f])
//
// The gated residual unit of van den Oord et al. 2016 (phi = tanh) and of PixelCNN++ (phi = identity). A thread owns four
// columns of one row.

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> halves: array<f32>; // (rows, 2 * width)
@group(0) @binding(2) var<storage, read> skip: array<vec4<f32>>; // (rows, width)
@group(0) @binding(3) var<storage, read_write> h: array<vec4<f32>>; // (rows, width)

//#include activation
@compute @workgroup_size(64)
fn gate_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.width + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.rows * n_quads {
        return;
    }
    let row = index / n_quads;
    let column = 4u * (index - row * n_quads);
    let pitch = (2u * params.width + 3u) / 4u * 4u;
    let at = row * pitch + column;
    var value = skip[index];
    //#for j in 0..4
    if column + {j}u < params.width {
        value[{j}] += phi(ACTIVATION, halves[at + {j}u]) * sigmoid(halves[at + params.width + {j}u]);
    }
    //#end
    h[index] = value;
}
