// dz[b, o] = dh[b, o] phi'(z[b, o])
//
// A thread owns four columns of one row. Padding stays zero because dh is zero there.

struct Params {
    batch: u32,
    n_out: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(2) var<storage, read> dh: array<vec4<f32>>; // (batch, n_out)
@group(0) @binding(3) var<storage, read_write> dz: array<vec4<f32>>; // (batch, n_out)

//#include activation
@compute @workgroup_size(64)
fn activation_backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_quads = (params.n_out + 3u) / 4u;
    if id.x < n_quads {
        let at = id.y * n_quads + id.x;
        dz[at] = dh[at] * phi_first_4(ACTIVATION, z[at]);
    }
}
