// dz[b, o] = dh[b, o] phi'(z[b, o])   (+ dz[b, o] when accumulate is 1)
//
// A thread owns four columns of one row. Padding stays zero because dh is zero there.

struct Params {
    batch: u32,
    n_out: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> dh: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(3) var<storage, read_write> dz: array<vec4<f32>>; // (batch, n_out)

//#include activation_quad
@compute @workgroup_size(64)
fn activation_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let index = (group.y * 1024u + group.x) * 64u + local.x;
    if index >= params.batch * ((params.n_out + 3u) / 4u) {
        return;
    }
    var value = dh[index] * phi_first_quad(z[index]);
    if params.accumulate == 1u {
        value += dz[index];
    }
    dz[index] = value;
}
