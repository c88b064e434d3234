// With a, b the two halves of a row and dh the adjoint of h = skip + phi(a) sigmoid(b):
// dhalves = (dh phi'(a) sigmoid(b), dh phi(a) sigmoid(b) (1 - sigmoid(b))), dskip = dh   (+ dskip)
//
// A thread owns four columns of one row, in both halves.

struct Params {
    rows: u32,
    width: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> halves: array<f32>; // (rows, 2 * width)
@group(0) @binding(2) var<storage, read> dh: array<vec4<f32>>; // (rows, width)
@group(0) @binding(3) var<storage, read_write> dhalves: array<f32>; // (rows, 2 * width)
@group(0) @binding(4) var<storage, read_write> dskip: array<vec4<f32>>; // (rows, width)

//#include activation
@compute @workgroup_size(64)
fn gate_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let n_quads = (params.width + 3u) / 4u;
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.rows * n_quads {
        return;
    }
    let row = index / n_quads;
    let column = 4u * (index - row * n_quads);
    let pitch = (2u * params.width + 3u) / 4u * 4u;
    let at = row * pitch + column;
    let adjoint = dh[index];
    //#for j in 0..4
    if column + {j}u < params.width {
        let a{j} = halves[at + {j}u];
        let b{j} = halves[at + params.width + {j}u];
        let open{j} = sigmoid(b{j});
        dhalves[at + {j}u] = adjoint[{j}] * phi_first(ACTIVATION, a{j}) * open{j};
        dhalves[at + params.width + {j}u] = adjoint[{j}] * phi(ACTIVATION, a{j}) * open{j} * sigmoid(-b{j});
    }
    //#end
    // The thread of the last columns keeps the padding behind both halves zero.
    if column + 4u >= params.width {
        for (var end = 2u * params.width; end < pitch; end++) {
            dhalves[row * pitch + end] = 0.0;
        }
    }
    if params.accumulate == 1u {
        dskip[index] += adjoint;
    } else {
        dskip[index] = adjoint;
    }
}
